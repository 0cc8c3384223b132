// SPDX-License-Identifier: Apache-2.0

package agentstest

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	logspb "go.opentelemetry.io/proto/otlp/logs/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"

	"github.com/sheetbend/sheetbend/collector/span"
)

// A story is what the backend got of one run.
type story struct {
	t     *testing.T
	dir   string
	spans []*tracepb.Span
	byID  map[string]*tracepb.Span
	logs  []*logspb.LogRecord
	said  string // by sheetbend run; "" if it was not asked for
}

// tell runs an agent under sheetbend and gives the spans that arrived.
func (d *desk) tell(flags []string, commandLine []string, agents ...realAgent) *story {
	d.t.Helper()
	b := startBackend(d.t)
	said := d.run(slices.Concat([]string{"--otlp-endpoint", b.url}, flags), commandLine, agents...)
	s := d.gather(b)
	s.said = said
	return s
}

// gather gives what has arrived.
func (d *desk) gather(b *backend) *story {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := &story{t: d.t, dir: d.dir, spans: slices.Clone(b.spans), logs: slices.Clone(b.logs), byID: map[string]*tracepb.Span{}}
	for _, sp := range s.spans {
		s.byID[string(sp.TraceId)+string(sp.SpanId)] = sp
	}
	return s
}

func attr(s *tracepb.Span, key string) string { return attrOf(s.Attributes, key) }

// attrOf is the text of an attribute, "" if it is not there.
func attrOf(attrs []*commonpb.KeyValue, key string) string {
	for _, a := range attrs {
		if a.Key != key {
			continue
		}
		switch v := a.Value.Value.(type) {
		case *commonpb.AnyValue_StringValue:
			return v.StringValue
		case *commonpb.AnyValue_IntValue:
			return strconv.FormatInt(v.IntValue, 10)
		case *commonpb.AnyValue_BoolValue:
			return strconv.FormatBool(v.BoolValue)
		default:
			return fmt.Sprint(v)
		}
	}
	return ""
}

// ours says whether the sensor made the span, not an agent.
func ours(s *tracepb.Span) bool { return attr(s, span.KeySandboxID) != "" }

func (s *story) parent(sp *tracepb.Span) *tracepb.Span {
	return s.byID[string(sp.TraceId)+string(sp.ParentSpanId)]
}

// opens gives the spans of opening a file of the working directory by a command. Some agents read the
// files, too, that they see in a command line: that is their own doing, and in no call.
func (s *story) opens(name string) (found []*tracepb.Span) {
	s.t.Helper()
	for _, sp := range s.spans {
		if attr(sp, span.KeyEvent) != "file.open" || attr(sp, span.KeyFilePath) != s.dir+"/"+name || attr(sp, span.KeyFileAccess) != "read" {
			continue
		}
		switch by := attr(sp, span.KeyExecutableName); {
		case by == "cat":
			found = append(found, sp)
		case by != "sh" && attr(sp, span.KeyCallID) != "" && attr(sp, span.KeyParentCall) == "":
			s.t.Errorf("%s read %s in call %q", by, name, attr(sp, span.KeyCallID))
		}
	}
	return found
}

// owner is the call and the session of the one span that opens the file.
func (s *story) owner(name string) (call, session string) {
	s.t.Helper()
	spans := s.opens(name)
	if len(spans) != 1 {
		s.t.Fatalf("%d spans of opening %s, want 1", len(spans), name)
	}
	return s.call(spans[0]), attr(spans[0], span.KeySessionID)
}

// call is the call that one of the sensor's spans belongs to, as those alone tell it: the id is on the span. Where
// the agent's trace context was there before the id, it is on another one of the sensor's that stands under the same
// span of the agent's, or is linked to it.
func (s *story) call(sp *tracepb.Span) string {
	if id := attr(sp, span.KeyCallID); id != "" || attr(sp, span.KeyAttribution) != "trace_context" {
		return id
	}
	for p := s.parent(sp); p != nil && ours(p); p = s.parent(p) {
		sp = p
	}
	id := attr(sp, span.KeyCallID)
	for _, other := range s.spans {
		about := bytes.Equal(other.ParentSpanId, sp.ParentSpanId) && bytes.Equal(other.TraceId, sp.TraceId)
		for _, l := range other.Links {
			about = about || bytes.Equal(l.SpanId, sp.ParentSpanId) && bytes.Equal(l.TraceId, sp.TraceId)
		}
		said := attr(other, span.KeyCallID)
		if !about || !ours(other) || said == "" || said == id {
			continue
		}
		if id != "" {
			s.t.Errorf("%s is said to be of the calls %q and %q", nameOf(sp), id, said)
		}
		id = said
	}
	return id
}

// belongs fails unless the file was opened in this call.
func (s *story) belongs(name, call, session string) {
	s.t.Helper()
	gotCall, gotSession := s.owner(name)
	if gotCall != call || gotSession != session {
		s.t.Errorf("%s was opened in call %q of session %q, want %q of %q", name, gotCall, gotSession, call, session)
	}
}

// apart fails if anything of one call stands under another one of the same session, or the agent's own
// activity in any.
func (s *story) apart(model string) {
	s.t.Helper()
	port := model[strings.LastIndexByte(model, ':')+1:]
	asked := 0
	for _, sp := range s.spans {
		call, session := attr(sp, span.KeyCallID), attr(sp, span.KeySessionID)
		if attr(sp, span.KeyEvent) == "net.connect" && attr(sp, span.KeyPeerPort) == port {
			asked++
			if call != "" && attr(sp, span.KeyParentCall) == "" {
				s.t.Errorf("the agent's own connection to its model stands in call %q", call)
			}
		}
		for p := s.parent(sp); p != nil && call != ""; p = s.parent(p) {
			above := attr(p, span.KeyCallID)
			if above != "" && above != call && attr(p, span.KeySessionID) == session {
				s.t.Errorf("%s of call %q stands under %s of call %q", nameOf(sp), call, nameOf(p), above)
			}
		}
	}
	if asked == 0 {
		s.t.Error("no connection to the model was seen")
	}
}

func nameOf(sp *tracepb.Span) string {
	return fmt.Sprintf("%s [%s]", sp.Name, attr(sp, span.KeyExecutableName)+" "+attr(sp, span.KeyFilePath))
}

// tools gives the calls for which an execute_tool span came, with their number.
func (s *story) tools() map[string]int {
	calls := map[string]int{}
	for _, sp := range s.spans {
		if attr(sp, span.KeyEvent) == "execute_tool" {
			calls[attr(sp, span.KeyCallID)]++
		}
	}
	return calls
}

// exits gives the exit codes of the programs of a call.
func (s *story) exits(call string) (codes []string) {
	for _, sp := range s.spans {
		if code := attr(sp, span.KeyExitCode); code != "" && s.call(sp) == call {
			codes = append(codes, code)
		}
	}
	return codes
}

// approval is what came of the call's decision, and who made it.
func (s *story) approval(call string) (decision, source string) {
	for _, sp := range s.spans {
		if attr(sp, span.KeyCallID) == call && attr(sp, span.KeyApproval) != "" {
			decision, source = attr(sp, span.KeyApproval), attr(sp, span.KeyApprovalSource)
		}
	}
	return decision, source
}
