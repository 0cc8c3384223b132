// SPDX-License-Identifier: Apache-2.0

package agentstest

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sheetbend/sheetbend/collector/span"
	"github.com/sheetbend/sheetbend/enrich/agents/modeltest"
)

// session is what the agent told its first command.
func (d *desk) session() string {
	d.t.Helper()
	text, err := os.ReadFile(filepath.Join(d.dir, "session"))
	id := strings.TrimSpace(string(text))
	if err != nil || id == "" {
		d.t.Fatalf("the agent told its command no session: %q, %v", text, err)
	}
	return id
}

func (d *desk) absent(name string) {
	d.t.Helper()
	if _, err := os.Stat(filepath.Join(d.dir, name)); err == nil {
		d.t.Errorf("%s is there: the denied call was run", name)
	}
}

func one(s modeltest.Script) []modeltest.Script { return []modeltest.Script{s} }

// calls gives the file that each call of "steps" opens, of those that are run.
func calls() map[string]string {
	return map[string]string{
		"single": modeltest.ID("steps", 0, 0), "left": modeltest.ID("steps", 1, 0), "right": modeltest.ID("steps", 1, 1),
		"failing": modeltest.ID("steps", 2, 0), "after": modeltest.ID("steps", 4, 0),
	}
}

// checkSteps holds the spans of the script "steps" against the model's ids.
func checkSteps(t *testing.T, d *desk, s *story) {
	t.Helper()
	session := d.session()
	for name, call := range calls() {
		s.belongs(name, call, session)
	}
	if codes := s.exits(modeltest.ID("steps", 2, 0)); !slices.Contains(codes, "7") {
		t.Errorf("exit codes %q in the failing call, want a 7", codes)
	}
	d.absent("denied")
	for _, sp := range s.spans {
		if attr(sp, span.KeyEvent) == "process.exec" && s.call(sp) == modeltest.ID("steps", 3, 0) {
			t.Errorf("%s ran in the denied call", nameOf(sp))
		}
	}
	s.apart(d.model.URL())
}

func TestCodexNamesEveryCallOfItsCommands(t *testing.T) {
	t.Parallel()
	d := newDesk(t, needAgents(t), "", func(d *desk) []modeltest.Script { return one(steps(d, codex.session)) })
	d.settle(codex)
	s := d.tell(nil, codex.commandLine("steps", false), codex)
	checkSteps(t, d, s)
	want := map[string]int{}
	for _, c := range [][2]int{{0, 0}, {1, 0}, {1, 1}, {2, 0}, {4, 0}} {
		want[modeltest.ID("steps", c[0], c[1])] = 1
	}
	if got := s.tools(); !maps.Equal(got, want) {
		t.Errorf("execute_tool spans %v, want %v", got, want)
	}
	if a := attr(s.opens("single")[0], span.KeyAttribution); a != "call_id" {
		t.Errorf("attribution %q", a)
	}
}

func TestCodexCallsThatOverlapStayApart(t *testing.T) {
	t.Parallel()
	d := newDesk(t, needAgents(t), "", func(d *desk) []modeltest.Script { return one(overlap(d)) })
	d.settle(codex)
	s := d.tell(nil, codex.commandLine("overlap", false), codex)
	for i, name := range []string{"here", "there"} {
		for _, file := range []string{name, name + "-later"} {
			if call, _ := s.owner(file); call != modeltest.ID("overlap", 0, i) {
				t.Errorf("%s was opened in call %q", file, call)
			}
		}
	}
	s.apart(d.model.URL())
}

func TestWhatACallLeavesBehindStaysItsOwn(t *testing.T) {
	t.Parallel()
	dir := needAgents(t)
	for _, a := range []realAgent{codex, claude} {
		t.Run(a.name, func(t *testing.T) {
			t.Parallel()
			d := newDesk(t, dir, "", func(d *desk) []modeltest.Script { return one(server(d)) })
			d.settle(a)
			s := d.tell(nil, a.commandLine("server", true), a)
			start, session := s.owner("start")
			s.belongs("late", start, session)
			if next, _ := s.owner("next"); next == start || next == "" || start == "" {
				t.Errorf("the two calls are %q and %q", start, next)
			}
			if a.name == codex.name && start != modeltest.ID("server", 0, 0) {
				t.Errorf("the first call is %q", start)
			}
			s.apart(d.model.URL())
		})
	}
}

func TestInputToARunningProcessLeavesItInTheCallThatStartedIt(t *testing.T) {
	t.Parallel()
	d := newDesk(t, needAgents(t), "", func(d *desk) []modeltest.Script { return one(feed(d)) })
	d.settle(codex)
	s := d.tell(nil, codex.commandLine("feed", false), codex)
	first := modeltest.ID("feed", 0, 0)
	_, session := s.owner("asks")
	s.belongs("asks", first, session)
	s.belongs("answered", first, session)
}

func TestAnAgentWithinACallIsASessionOfItsOwn(t *testing.T) {
	t.Parallel()
	dir := needAgents(t)
	for _, c := range []struct {
		outer, inner realAgent
	}{{codex, claude}, {claude, codex}, {codex, codex}} {
		t.Run(c.inner.name+" in "+c.outer.name, func(t *testing.T) {
			t.Parallel()
			d := newDesk(t, dir, "", func(d *desk) []modeltest.Script {
				line := c.inner.commandLine("inner", true)
				line[0] = filepath.Join(d.bin(), line[0]) // a login shell has another PATH
				if c.inner.name == claude.name {
					// Codex hands no variable on whose name says that it is a key.
					line = append([]string{"env", "ANTHROPIC_API_KEY=none"}, line...)
				}
				return nested(d, line)
			})
			d.settle(codex, claude)
			s := d.tell(nil, c.outer.commandLine("outer", true), codex, claude)
			outerCall, outerSession := s.owner("before")
			innerCall, innerSession := s.owner("within")
			if c.outer.name == codex.name && outerCall != modeltest.ID("outer", 0, 0) {
				t.Errorf("the outer call is %q", outerCall)
			}
			if c.inner.name == codex.name && innerCall != modeltest.ID("inner", 0, 0) {
				t.Errorf("the inner call is %q", innerCall)
			}
			if outerCall == "" || innerCall == "" || innerCall == outerCall || innerSession == outerSession {
				t.Errorf("call %q of session %q within call %q of session %q", innerCall, innerSession, outerCall, outerSession)
			}
			within := s.opens("within")[0]
			if call, session := attr(within, span.KeyParentCall), attr(within, span.KeyParentSession); call != outerCall || session != outerSession {
				t.Errorf("the inner agent's parent is call %q of session %q, want %q of %q", call, session, outerCall, outerSession)
			}
			if call, session := s.owner("afterwards"); call == outerCall || call == innerCall || call == "" || session != outerSession {
				t.Errorf("what came afterwards is in call %q of session %q", call, session)
			}
			s.apart(d.model.URL())
		})
	}
}

func TestClaudeCodeCallsAreInferredWithoutItsTelemetry(t *testing.T) {
	t.Parallel()
	d := newDesk(t, needAgents(t), "", func(d *desk) []modeltest.Script { return one(steps(d, claude.session)) })
	d.settle(claude)
	s := d.tell(nil, claude.commandLine("steps", false), claude)
	session := d.session()
	found := map[string]string{}
	for name := range calls() {
		call, in := s.owner(name)
		if in != session || !strings.HasPrefix(call, "inferred-") || found[call] != "" {
			t.Errorf("%s was opened in call %q (also of %q) of session %q", name, call, found[call], in)
		}
		if a := attr(s.opens(name)[0], span.KeyAttribution); a != "inferred" {
			t.Errorf("%s: attribution %q", name, a)
		}
		found[call] = name
	}
	if len(s.tools()) != len(found) {
		t.Errorf("execute_tool spans %v for the calls %v", s.tools(), found)
	}
	d.absent("denied")
	s.apart(d.model.URL())
}

// Claude Code's telemetry comes with hooks where sheetbend starts it itself: then the id is on every span of a call.
func TestAgentTelemetryPutsTheKernelsSpansUnderTheAgentsOwn(t *testing.T) {
	t.Parallel()
	dir := needAgents(t)
	for _, c := range []struct {
		name   string
		before []string // what starts it
		by     string
	}{{"with hooks", nil, "marker"}, {"started by a script", []string{"sh", "-c", `"$@"; exit $?`, "sh"}, "trace_context"}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			d := newDesk(t, dir, "", func(d *desk) []modeltest.Script { return one(steps(d, claude.session)) })
			d.settle(claude)
			b := startBackend(t)
			line := slices.Concat(c.before, claude.commandLine("steps", false))
			said := d.run([]string{"--otlp-endpoint", b.url, "--agent-telemetry", "--agent", claude.name}, line, claude)
			for _, fault := range []string{"had no effect", "not all is shown"} {
				if strings.Contains(said, fault) {
					t.Errorf("it says %q: %s", fault, said)
				}
			}
			if hooks := strings.Contains(said, "with hooks (--settings)"); hooks != (c.before == nil) {
				t.Errorf("with hooks: %v, said %s", hooks, said)
			}
			s := d.gather(b)
			checkSteps(t, d, s)
			for name, id := range calls() {
				open := s.opens(name)[0]
				above := open
				for above != nil && above.Name != "claude_code.tool.execution" {
					above = s.parent(above)
				}
				if above == nil {
					t.Errorf("%s does not stand under claude_code.tool.execution in trace %x", name, open.TraceId)
				}
				if by := attr(open, span.KeyAttribution); by != c.by || by == "marker" && attr(open, span.KeyCallID) != id {
					t.Errorf("%s: attribution %q, call %q", name, by, attr(open, span.KeyCallID))
				}
				call, _ := s.owner(name)
				if approval, source := s.approval(call); approval != "approved" || source != "config" {
					t.Errorf("%s: %q by %q", call, approval, source)
				}
			}
			told := map[string]int{}
			for _, sp := range s.spans {
				if attr(sp, span.KeyEvent) == "session.call" {
					told[attr(sp, span.KeyCallID)]++
				}
			}
			for id, n := range told {
				if n != 1 || id == "" {
					t.Errorf("%d session.call of %q", n, id)
				}
			}
		})
	}
}

func TestAgentTelemetryThatComesLateIsLinked(t *testing.T) {
	t.Parallel()
	d := newDesk(t, needAgents(t), "", func(d *desk) []modeltest.Script { return one(steps(d, codex.session)) })
	d.settle(codex)
	// Codex sends all of it when it ends.
	s := d.tell([]string{"--agent-telemetry"}, codex.commandLine("steps", false), codex)
	checkSteps(t, d, s)
	for name := range calls() {
		call, _ := s.owner(name)
		if approval, source := s.approval(call); approval != "approved" || !strings.EqualFold(source, "config") {
			t.Errorf("%s: %q by %q", call, approval, source)
		}
		// To Codex a command that ended has succeeded, whatever its exit code.
		for _, sp := range s.spans {
			if result := attr(sp, span.KeyToolResult); attr(sp, span.KeyCallID) == call && result != "" && result != "ok" {
				t.Errorf("%s: result %q", call, result)
			}
		}
		linked := false
		for _, sp := range s.spans {
			if attr(sp, span.KeyCallID) != call || attr(sp, span.KeySandboxID) == "" {
				continue
			}
			for _, l := range sp.Links {
				to := s.byID[string(l.TraceId)+string(l.SpanId)]
				linked = linked || to != nil && to.Name == "unified_exec.exec_command" && attr(to, "call_id") == call
			}
		}
		if !linked {
			t.Errorf("nothing of %s is linked to the agent's own span of it", call)
		}
	}
}

// programs has a call of the model that runs two commands.
func programs(d *desk) modeltest.Script {
	return modeltest.Script{Name: "programs", Turns: [][]modeltest.Call{
		{modeltest.Shell(d.read("single") + "; printenv " + codex.session + " > " + d.dir + "/session")},
		{{Commands: []string{d.read("left"), d.read("right")}}},
		{modeltest.Shell(d.read("after"))},
	}}
}

// The model that Codex takes by itself calls programs, which call tools: each of those is a call with an id of Codex's.
func TestCodexsOwnIDsOfNestedCallsAreToldAsSuch(t *testing.T) {
	t.Parallel()
	dir := needAgents(t)
	above := map[string]string{
		"single": modeltest.ID("programs", 0, 0), "left": modeltest.ID("programs", 1, 0), "right": modeltest.ID("programs", 1, 0),
		"after": modeltest.ID("programs", 2, 0),
	}
	for _, mode := range []string{"plain", "telemetry", "hook"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			d := newDesk(t, dir, "", func(d *desk) []modeltest.Script { return one(programs(d)) })
			d.settle(codexCode)
			line, by := codexCode.commandLine("programs", false), "call_id"
			var flags []string
			switch mode {
			case "telemetry":
				flags = []string{"--agent-telemetry"}
			case "hook":
				d.installHooks(codexCode)
				line, by = slices.Insert(line, len(line)-1, "--dangerously-bypass-hook-trust"), "marker"
			}
			s := d.tell(flags, line, codexCode)
			session, seen := d.session(), map[string]bool{}
			for name, outer := range above {
				open := s.opens(name)[0]
				call := attr(open, span.KeyCallID)
				if !strings.HasPrefix(call, "exec-") || seen[call] || attr(open, span.KeyCallIDLevel) != "nested" ||
					attr(open, span.KeySessionID) != session || attr(open, span.KeyAttribution) != by {
					t.Errorf("%s was opened in call %q (%s) of session %q by %s", name, call, attr(open, span.KeyCallIDLevel),
						attr(open, span.KeySessionID), attr(open, span.KeyAttribution))
				}
				seen[call] = true
				told := ""
				for _, sp := range s.spans {
					if attr(sp, span.KeyCallID) == call && ours(sp) && attr(sp, span.KeyParentCall) != "" {
						told = attr(sp, span.KeyParentCall)
					}
				}
				if want := map[bool]string{true: outer}[mode == "telemetry"]; told != want {
					t.Errorf("%s: call %q is in %q, want %q", name, call, told, want)
				}
				if mode != "telemetry" {
					continue
				}
				if approval, source := s.approval(call); approval != "approved" || source != "config" {
					t.Errorf("%s: %q by %q", call, approval, source)
				}
			}
			s.apart(d.model.URL())
		})
	}
}

// delegates has the agent give work to a subagent, and go on itself.
func delegates(d *desk) []modeltest.Script {
	return []modeltest.Script{
		{Name: "lead", Turns: [][]modeltest.Call{
			{modeltest.Shell(d.read("before") + "; printenv " + codex.session + " > " + d.dir + "/session")},
			{{Tool: "spawn_agent", Input: func(map[string]string) map[string]any {
				return map[string]any{"message": modeltest.Prompt("sub"), "task_name": "helper", "fork_turns": "none"}
			}}},
			{{Tool: "wait_agent", Input: func(map[string]string) map[string]any { return map[string]any{"timeout_ms": 60000} }}},
			{modeltest.Shell(d.read("afterwards"))},
		}},
		{Name: "sub", Turns: [][]modeltest.Call{
			{modeltest.Shell(d.read("within") + "; printenv CODEX_THREAD_ID > " + d.dir + "/thread")},
			{modeltest.Shell(d.read("again"))},
		}},
	}
}

func TestASubagentOfCodexIsASessionWithAParent(t *testing.T) {
	t.Parallel()
	dir := needAgents(t)
	for _, flags := range [][]string{nil, {"--agent-telemetry"}} {
		t.Run(strings.Join(append([]string{"run"}, flags...), " "), func(t *testing.T) {
			t.Parallel()
			d := newDesk(t, dir, "", delegates)
			d.settle(codexCode)
			s := d.tell(flags, codexCode.commandLine("lead", false), codexCode)
			session := d.session()
			text, err := os.ReadFile(filepath.Join(d.dir, "thread"))
			thread := strings.TrimSpace(string(text))
			if err != nil || thread == "" || thread == session {
				t.Fatalf("thread %q of session %q, %v", thread, session, err)
			}
			for name, want := range map[string]string{"before": session, "within": thread, "again": thread, "afterwards": session} {
				open := s.opens(name)[0]
				parent := map[bool]string{true: session}[want == thread]
				if in, above := attr(open, span.KeySessionID), attr(open, span.KeyParentSession); in != want || above != parent {
					t.Errorf("%s was opened in session %q below %q, want %q below %q", name, in, above, want, parent)
				}
				if approval, source := s.approval(attr(open, span.KeyCallID)); flags != nil && (approval != "approved" || source != "config") {
					t.Errorf("%s: %q by %q", name, approval, source)
				}
			}
			for _, sp := range s.spans {
				if ours(sp) && attr(sp, span.KeyCallID) == "" && attr(sp, span.KeySessionID) == thread {
					t.Errorf("%s, of the agent itself, is told in the subagent's session", nameOf(sp))
				}
			}
		})
	}
}
