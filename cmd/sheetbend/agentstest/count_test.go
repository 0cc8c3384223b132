// SPDX-License-Identifier: Apache-2.0

package agentstest

import (
	"testing"

	"github.com/sheetbend/sheetbend/collector/span"
	"github.com/sheetbend/sheetbend/enrich/agents/modeltest"
)

// The counting is held by itself: a table that counts wrongly would show any sensor to be right.
func TestMarksAreCountedByWhatTellsTheirCall(t *testing.T) {
	t.Parallel()
	const a, b = "call_plan_0_0", "call_plan_1_0"
	open := func(file string, pairs ...string) told {
		s := told{span.KeyEvent: "file.open", span.KeyFilePath: file, span.KeyExecutableName: "cat"}
		for i := 0; i+1 < len(pairs); i += 2 {
			s[pairs[i]] = pairs[i+1]
		}
		return s
	}
	exec := func(id string) told { return told{span.KeyEvent: "process.exec", span.KeyCallID: id} }
	const id, at, by = span.KeyCallID, span.KeyCallContext, span.KeyAttribution
	for _, c := range []struct {
		name     string
		spans    []told
		commands counts
		own      counts
		calls    int
		phantom  int
	}{
		{"the model's ids", []told{open("1", id, a), open("2", id, a), open("3", id, b)}, counts{id: 3}, counts{none: 1}, 0, 0},
		{"computed ids", []told{open("1", id, "inferred-1"), open("2", id, "inferred-1"), open("3", id, "inferred-2")}, counts{inferred: 3}, counts{none: 1}, 0, 0},
		{"a computed id of two calls", []told{open("1", id, "inferred-1"), open("2", id, "inferred-1"), open("3", id, "inferred-1")}, counts{inferred: 2, wrong: 1}, counts{none: 1}, 0, 0},
		{"ids of the agent's own", []told{open("1", id, "exec-1"), open("2", id, "exec-2"), open("3", at, "c-3")}, counts{other: 3}, counts{none: 1}, 0, 0},
		{"the model's id comes later", []told{open("1", at, "c-1"), open("2", at, "c-1"), open("3", at, "c-3"), {at: "c-1", id: a}, {at: "c-3", id: b}}, counts{late: 3}, counts{none: 1}, 0, 0},
		{"another call's id comes later", []told{open("1", at, "c-1"), open("2", id, a), open("3", id, b), {at: "c-1", id: b}}, counts{id: 2, wrong: 1}, counts{none: 1}, 0, 0},
		{"another call's id", []told{open("1", id, b), open("2", id, a), open("3", id, b)}, counts{id: 2, wrong: 1}, counts{none: 1}, 0, 0},
		{"an id that a command made up", []told{open("1", id, "forged"), open("2", id, a), open("3", id, b)}, counts{id: 2, wrong: 1}, counts{none: 1}, 0, 0},
		{"not told, not in a call, of several", []told{open("2", by, "session"), open("3", by, "ambiguous")}, counts{none: 2, unclear: 1}, counts{none: 1}, 0, 0},
		{"the agent reads what it sees", []told{open("1", id, a), open("1", span.KeyExecutableName, "agent"), open("2", id, a), open("3", id, b)}, counts{id: 3}, counts{none: 1}, 0, 0},
		{"the agent's own write", []told{open("own", id, b, span.KeyFileWrite, "true", by, "declared")}, counts{none: 3}, counts{declared: 1}, 0, 0},
		{"and of another call", []told{open("own", id, a, span.KeyFileWrite, "true")}, counts{none: 3}, counts{wrong: 1}, 0, 0},
		{"a hook in a call", []told{open("1", id, a), open("2", id, a), open("3", id, b), open("hook", id, a)}, counts{id: 3, wrong: 1}, counts{none: 1}, 0, 0},
		{"a hook as a call", []told{exec(a), exec(a), exec("inferred-9"), open("1", id, a), open("2", id, a), open("3", id, b), open("hook", id, "inferred-9")},
			counts{id: 3}, counts{none: 1}, 2, 1},
		{"a call by its context, and its id", []told{{span.KeyEvent: "execute_tool", at: "c-1"}, {span.KeyEvent: "session.call", at: "c-1", id: a}}, counts{none: 3}, counts{none: 1}, 1, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := &plan{
				scripts: []modeltest.Script{{Name: "plan", Turns: [][]modeltest.Call{{{}}, {{}}}}},
				marks: []mark{
					{file: "1", call: a, by: cats}, {file: "2", call: a, by: cats}, {file: "3", call: b, by: cats},
					{file: "own", call: b, writes: true, own: true}, {file: "hook", by: cats},
				},
			}
			got := p.measure(c.spans)
			if got.commands != c.commands || got.own != c.own || got.calls != c.calls || got.phantom != c.phantom {
				t.Errorf("%+v", got)
			}
		})
	}
}
