// SPDX-License-Identifier: Apache-2.0

package telemetry

import (
	"fmt"
	"slices"
	"testing"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"

	"github.com/sheetbend/sheetbend/collector/record"
	"github.com/sheetbend/sheetbend/enrich/agents"
)

// treeSpan is a span of Codex's: its number in one trace, that of its parent, and the call that it names.
type treeSpan struct {
	id, parent uint16
	name, call string
	execution  string
}

func spanNumber(n uint16) pcommon.SpanID { return pcommon.SpanID{7: byte(n), 6: byte(n >> 8)} }

func requestOf(list ...treeSpan) ptraceotlp.ExportRequest {
	td := ptrace.NewTraces()
	rs := td.ResourceSpans().AppendEmpty()
	rs.Resource().Attributes().PutStr(keyService, "codex_exec")
	spans := rs.ScopeSpans().AppendEmpty().Spans()
	for _, s := range list {
		sp := spans.AppendEmpty()
		sp.SetTraceID(traceA)
		sp.SetSpanID(spanNumber(s.id))
		sp.SetName(s.name)
		if s.parent != 0 {
			sp.SetParentSpanID(spanNumber(s.parent))
		}
		if s.call != "" {
			sp.Attributes().PutStr("call_id", s.call)
		}
		if s.execution != "" {
			sp.Attributes().PutStr("execution.id", s.execution)
		}
	}
	return ptraceotlp.NewExportRequestFromTraces(td)
}

// aboveOf sends requests and gives, of each fact, the call and the one above it, and how many were lost.
func aboveOf(t *testing.T, n *nesting, from nestingKey, requests ...ptraceotlp.ExportRequest) (list []string, lost int) {
	t.Helper()
	r := newReading(agents.Builtin())
	for _, one := range requests {
		f := facts{reading: &r}
		if err := walkProtobuf(Traces, asProtobuf(t, one), &f); err != nil {
			t.Fatal(err)
		}
		lost += n.join(from, &f) + f.lost
		for i := range f.found {
			s := &f.found[i].said
			list = append(list, s.Call+" in "+s.More.Get(record.MoreParent))
		}
	}
	return list, lost
}

// In code mode Codex calls tools from a program, which is the call of the model. These are spans as it was seen to send
// them: of the nested call first, which ends first.
func TestTheModelsCallAboveANestedOneIsFound(t *testing.T) {
	nested := treeSpan{4, 3, "exec_command", "exec-1", ""}
	between, outer := treeSpan{3, 2, "handle", "", ""}, treeSpan{2, 1, "exec", "call_0", ""}
	callback, execute := treeSpan{3, 0, "code_mode.grpc.callback", "", "x"}, treeSpan{12, 11, "code_mode.grpc.execute", "call_0", "x"}
	for _, c := range []struct {
		name string
		do   []ptraceotlp.ExportRequest
		want []string
	}{
		{"in one request", []ptraceotlp.ExportRequest{requestOf(nested, between, outer)}, []string{"exec-1 in call_0"}},
		{"in one request, the other way around", []ptraceotlp.ExportRequest{requestOf(outer, between, nested)}, []string{"exec-1 in call_0"}},
		{"in a later one, it is told again", []ptraceotlp.ExportRequest{requestOf(nested), requestOf(between), requestOf(outer)}, []string{"exec-1 in ", "exec-1 in call_0"}},
		{"several in one", []ptraceotlp.ExportRequest{requestOf(nested, treeSpan{5, 3, "exec_command", "exec-2", ""}), requestOf(between, outer)},
			[]string{"exec-1 in ", "exec-2 in ", "exec-1 in call_0", "exec-2 in call_0"}},
		{"a call of the model is in none", []ptraceotlp.ExportRequest{requestOf(treeSpan{4, 3, "exec_command", "call_1", ""}, between, outer)}, []string{"call_1 in "}},
		{"below no call", []ptraceotlp.ExportRequest{requestOf(nested, between, treeSpan{2, 0, "turn", "", ""})}, []string{"exec-1 in "}},
		{"of one execution, before it ends", []ptraceotlp.ExportRequest{requestOf(nested, callback), requestOf(execute)}, []string{"exec-1 in ", "exec-1 in call_0"}},
		{"of one execution, after it", []ptraceotlp.ExportRequest{requestOf(execute), requestOf(callback, nested)}, []string{"exec-1 in call_0"}},
		{"of another execution", []ptraceotlp.ExportRequest{requestOf(nested, callback, treeSpan{12, 11, "code_mode.grpc.execute", "call_0", "y"})}, []string{"exec-1 in "}},
		{"spans in a circle", []ptraceotlp.ExportRequest{requestOf(nested, treeSpan{3, 4, "handle", "", ""})}, []string{"exec-1 in "}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got, _ := aboveOf(t, &nesting{}, nestingKey{}, c.do...); !slices.Equal(got, c.want) {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
	t.Run("of another sender, it is not", func(t *testing.T) {
		n := &nesting{}
		agent, other := nestingKey{sender: Sender{PID: 1, Start: 1}}, nestingKey{sender: Sender{PID: 2, Start: 1}}
		aboveOf(t, n, other, requestOf(between, outer))
		aboveOf(t, n, agent, requestOf(nested))
		if got, _ := aboveOf(t, n, other, requestOf(between, outer)); len(got) != 0 {
			t.Errorf("%q", got)
		}
		if got, _ := aboveOf(t, n, agent, requestOf(between, treeSpan{2, 1, "exec", "call_1", ""})); !slices.Equal(got, []string{"exec-1 in call_1"}) {
			t.Errorf("%q", got)
		}
	})
}

func TestWhatIsKeptForNestedCallsIsBounded(t *testing.T) {
	const each, requests = 1000, 5
	n := &nesting{}
	lost := 0
	for sender := range uint32(3 * maxTrees) {
		for at := range uint16(requests) {
			var list []treeSpan
			for i := range uint16(each) {
				id := 1 + at*each + i
				list = append(list, treeSpan{id, 30000 + id, "exec_command", fmt.Sprint("exec-", id), ""})
			}
			_, l := aboveOf(t, n, nestingKey{sender: Sender{PID: 1 + sender}}, requestOf(list...))
			lost += l
		}
	}
	if len(n.trees) != maxTrees || n.order.Len() != maxTrees {
		t.Errorf("%d senders", len(n.trees))
	}
	for _, e := range n.trees {
		s := e.Value.(*spanTree)
		if len(s.spans) != maxTreeSpans || s.order.Len() != maxTreeSpans || len(s.waiting) != maxWaiting || s.waits.Len() != maxWaiting {
			t.Errorf("%d, %d spans, %d, %d wait", len(s.spans), s.order.Len(), len(s.waiting), s.waits.Len())
		}
	}
	// One span that is sent again and again, each time with another execution.
	last := nestingKey{sender: Sender{PID: 3 * maxTrees}}
	for at := range uint16(requests) {
		var list []treeSpan
		for i := range uint16(each) {
			list = append(list, treeSpan{1, 0, "exec", "call", fmt.Sprint("execution-", at*each+i)})
		}
		aboveOf(t, n, last, requestOf(list...))
	}
	if s := n.trees[last].Value.(*spanTree); len(s.executions) != 1 {
		t.Errorf("%d executions of one span", len(s.executions))
	}
	if want := 3*maxTrees*requests*each - maxTrees*maxWaiting; lost != want {
		t.Errorf("%d lost, want %d", lost, want)
	}
}
