// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"encoding/hex"
	"slices"
	"strings"
	"testing"

	"github.com/sheetbend/sheetbend/collector/span"
)

// CheckTraces holds what is sent in the end to what a backend needs of it: each id is there once, each parent is in its
// trace, or the agent's own span, each link into a trace of Sheetbend's leads to a span, and a trace of a story, a call or an
// agent has one root. What no agent does has a root for each process that came from outside of its sandbox, and for each
// loss. It gives the traces.
func CheckTraces(t testing.TB, spans []*span.Span) map[span.TraceID][]*span.Span {
	t.Helper()
	traces, ids := map[span.TraceID][]*span.Span{}, map[span.ID]bool{}
	at := map[span.Link]*span.Span{}
	for _, s := range spans {
		if ids[s.ID] {
			t.Errorf("twice: %s", show([]span.Span{*s}))
		}
		ids[s.ID], at[span.Link{Trace: s.Trace, Span: s.ID}] = true, s
		traces[s.Trace] = append(traces[s.Trace], s)
	}
	for trace, list := range traces {
		roots := 0
		for _, s := range list {
			if s.Parent == (span.ID{}) {
				roots++
			} else if at[span.Link{Trace: trace, Span: s.Parent}] == nil && !s.Remote {
				t.Errorf("no parent: %s", show([]span.Span{*s}))
			}
			for _, l := range s.Links {
				if l.Trace.Own() && at[l.Link] == nil {
					t.Errorf("a link (%s) to nothing in %x: %s", l.Rel, l.Trace[:6], show([]span.Span{*s}))
				}
			}
			a := span.Attrs(s.Attrs)
			if of := a.Text(span.KeyNoticeOf); of != "" && s.Kind != span.ToolStart {
				var id span.ID
				if _, err := hex.Decode(id[:], []byte(of)); err != nil || at[span.Link{Trace: trace, Span: id}] == nil {
					t.Errorf("a notice of nothing: %s", show([]span.Span{*s}))
				}
			}
		}
		sandboxes := slices.ContainsFunc(list, func(s *span.Span) bool {
			return s.Instance == span.Attrs(s.Attrs).Text(span.KeySandboxID) || strings.HasPrefix(s.Instance, "harness-")
		})
		if !trace.Own() && roots > 0 || trace.Own() && roots != 1 && !sandboxes {
			var of []span.Span
			for _, s := range list {
				if s.Parent == (span.ID{}) {
					of = append(of, *s)
				}
			}
			t.Errorf("%d roots in the trace %x: %s", roots, trace[:6], show(of))
		}
	}
	return traces
}
