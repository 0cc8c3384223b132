// SPDX-License-Identifier: Apache-2.0

package agentstest

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/sheetbend/sheetbend/collector/span"
	"github.com/sheetbend/sheetbend/enrich/agents/modeltest"
	"github.com/sheetbend/sheetbend/exporters/otlp/jaegertest"
)

// traces gives the sensor's spans in an OTLP file, by trace.
func traces(t *testing.T, file string) map[pcommon.TraceID][]ptrace.Span {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	found := map[pcommon.TraceID][]ptrace.Span{}
	var d ptrace.JSONUnmarshaler
	for line := range bytes.Lines(text) {
		all, err := d.UnmarshalTraces(line)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range all.ResourceSpans().All() {
			for _, scope := range r.ScopeSpans().All() {
				for _, s := range scope.Spans().All() {
					found[s.TraceID()] = append(found[s.TraceID()], s)
				}
			}
		}
	}
	return found
}

// A backend of users, not a stub of ours: the kernel's spans stand under the agent's own span of the call, or are
// linked to it where that came too late, and Jaeger has nothing to say against any of ours.
func TestJaegerShowsTheKernelsSpansWithTheAgentsOwn(t *testing.T) {
	t.Parallel()
	dir := needAgents(t)
	j := jaegertest.Start(t)
	for _, c := range []struct {
		realAgent
		span, id string // the agent's span of a call, and its attribute for the id
		linked   bool
	}{{claude, "claude_code.tool.execution", "tool_use_id", false}, {codex, "unified_exec.exec_command", "call_id", true}} {
		t.Run(c.name, func(t *testing.T) {
			d := newDesk(t, dir, "", func(d *desk) []modeltest.Script { return one(steps(d, c.session)) })
			d.settle(c.realAgent)
			sent := filepath.Join(d.tmp, "sent.jsonl")
			d.run([]string{"--agent-telemetry", "--otlp-endpoint", "http://" + j.OTLP, "--output", sent}, c.commandLine("steps", false), c.realAgent)

			// The sensor's, and those of the agent that these point to.
			own := traces(t, sent)
			shown := map[string]*jaegertest.Span{}
			fetch := func(trace pcommon.TraceID, enough func(ptrace.Traces) bool) {
				for _, s := range j.TraceWhen(t, trace, enough) {
					shown[s.SpanID] = &s
				}
			}
			count := func(got ptrace.Traces, is func(ptrace.Span) bool) (n int) {
				for _, r := range got.ResourceSpans().All() {
					for _, scope := range r.ScopeSpans().All() {
						for _, s := range scope.Spans().All() {
							if is(s) {
								n++
							}
						}
					}
				}
				return n
			}
			ours := func(s ptrace.Span) bool {
				_, ok := s.Attributes().Get(span.KeySandboxID)
				return ok
			}
			agents := func(s ptrace.Span) bool { return s.Name() == c.span }
			elsewhere := map[pcommon.TraceID]bool{}
			for trace, spans := range own {
				fetch(trace, func(got ptrace.Traces) bool {
					n := count(got, ours)
					return n == len(spans) && (n == got.SpanCount() || count(got, agents) >= len(calls()))
				})
				for _, s := range spans {
					for _, l := range s.Links().All() {
						elsewhere[l.TraceID()] = own[l.TraceID()] == nil
					}
				}
			}
			if c.linked {
				for trace, is := range elsewhere {
					if is && trace != pcommon.TraceID(span.TraceFor(d.session(), "", 0)) {
						fetch(trace, func(got ptrace.Traces) bool { return count(got, agents) >= len(calls()) })
					}
				}
			}

			found := map[string]string{} // call of the agent's span -> that of ours
			for _, s := range shown {
				// The agent's own, too: in a joined trace both are of one host.
				if len(s.Warnings) > 0 {
					t.Errorf("%s has the warnings %q", s.OperationName, s.Warnings)
				}
				if s.Tag(span.KeySandboxID) == "" {
					continue
				}
				if c.linked && s.Tag(span.KeyOperationName) == "execute_tool" {
					for _, r := range s.References {
						if to := shown[r.SpanID]; to != nil && to.OperationName == c.span && r.RefType == "FOLLOWS_FROM" {
							found[to.Tag(c.id)] = s.Tag(span.KeyCallID)
						}
					}
				}
				if file := filepath.Base(s.Tag(span.KeyFilePath)); !c.linked && calls()[file] != "" && s.Tag(span.KeyExecutableName) == "cat" {
					above := s
					for above != nil && above.OperationName != c.span {
						above = shown[above.Parent()]
					}
					if above == nil {
						t.Errorf("%s was opened under no %s", file, c.span)
						continue
					}
					found[above.Tag(c.id)] = calls()[file]
				}
			}
			for name, id := range calls() {
				if found[id] != id {
					t.Errorf("with the agent's span of call %s, whose file is %s, stand ours of %q", id, name, found[id])
				}
			}
			if len(found) != len(calls()) {
				t.Errorf("ours stand with %v", found)
			}
		})
	}
}
