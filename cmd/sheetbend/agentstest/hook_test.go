// SPDX-License-Identifier: Apache-2.0

package agentstest

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/sheetbend/sheetbend/collector/span"
	"github.com/sheetbend/sheetbend/enrich/agents/modeltest"
)

// hookSteps are the steps, and then an edit of a file by the agent's own tool.
func hookSteps(d *desk, a realAgent) modeltest.Script {
	s := steps(d, a.session)
	edit := modeltest.Call{Tool: "Write", Input: func(map[string]string) map[string]any {
		return map[string]any{"file_path": d.dir + "/written", "content": "by a tool\n"}
	}}
	if a.name == codex.name {
		edit = modeltest.Shell("apply_patch <<'E'\n*** Begin Patch\n*** Add File: written\n+by a tool\n*** End Patch\nE")
	}
	s.Turns = append(s.Turns, []modeltest.Call{edit})
	return s
}

// What a hook marks is on the sensor's own spans: nothing of the agent's is needed to find it.
func TestInstalledHooksMarkTheCallsOfAnAgent(t *testing.T) {
	t.Parallel()
	dir := needAgents(t)
	for _, a := range []realAgent{codex, claude} {
		t.Run(a.name, func(t *testing.T) {
			t.Parallel()
			d := newDesk(t, dir, "", func(d *desk) []modeltest.Script { return one(hookSteps(d, a)) })
			d.settle(a)
			d.installHooks(a)
			line := a.commandLine("steps", false)
			if a.name == codex.name {
				// In place of the user who trusts the hook once.
				line = append(line[:len(line)-1], "--dangerously-bypass-hook-trust", line[len(line)-1])
			}
			s := d.tell(nil, line, a)
			session, tool := d.session(), map[string]string{codex.name: "exec_command", claude.name: "Bash"}[a.name]
			for name, id := range calls() {
				open := s.opens(name)[0]
				call, in, by := attr(open, span.KeyCallID), attr(open, span.KeySessionID), attr(open, span.KeyAttribution)
				if in != session || by != "marker" || call != id || attr(open, span.KeyToolName) != tool {
					t.Errorf("%s was opened in call %q (%s) of session %q by %s, want %q (%s) of %q",
						name, call, attr(open, span.KeyToolName), in, by, id, tool, session)
				}
			}
			if n := s.tools()[modeltest.ID("steps", 5, 0)]; n != 1 {
				t.Errorf("%d spans of the call of the agent's own tool", n)
			}
			if strings.Contains(s.said, "no effect") {
				t.Errorf("reported as a fault: %s", s.said)
			}
			d.absent("denied")
			s.apart(d.model.URL())
		})
	}
}

// installHooks puts Sheetbend's hooks into the agent's settings.
func (d *desk) installHooks(a realAgent) {
	d.t.Helper()
	install := exec.CommandContext(d.t.Context(), os.Getenv(binEnv), "hook", "install", a.name, "--yes")
	install.Env = d.environment()
	if out, err := install.CombinedOutput(); err != nil {
		d.t.Fatalf("%v: %s", err, out)
	}
}
