// SPDX-License-Identifier: Apache-2.0

package agentstest

import (
	"os"
	"os/exec"
	"testing"

	"github.com/sheetbend/sheetbend/collector/span"
	"github.com/sheetbend/sheetbend/enrich/agents/modeltest"
)

// What a hook marks is on the sensor's own spans: nothing of the agent's is needed to find it.
func TestInstalledHooksMarkTheCallsOfAnAgent(t *testing.T) {
	t.Parallel()
	dir := needAgents(t)
	for _, a := range []realAgent{codex, claude} {
		t.Run(a.name, func(t *testing.T) {
			t.Parallel()
			d := newDesk(t, dir, "", func(d *desk) []modeltest.Script { return one(steps(d, a.session)) })
			d.settle(a)
			d.installHooks(a)
			line := a.commandLine("steps", false)
			if a.name == codex.name {
				// In place of the user who trusts the hook once.
				line = append(line[:len(line)-1], "--dangerously-bypass-hook-trust", line[len(line)-1])
			}
			s := d.tell(nil, line, a)
			session := d.session()
			for name, id := range calls() {
				open := s.opens(name)[0]
				call, in, by := attr(open, span.KeyCallID), attr(open, span.KeySessionID), attr(open, span.KeyAttribution)
				// Claude Code may begin both calls of the pair before it starts a command: then it is not known which
				// is whose.
				unknown := a.name == claude.name && (name == "left" || name == "right") && by == "ambiguous" && call == ""
				if in != session || !unknown && (by != "marker" || call != id) {
					t.Errorf("%s was opened in call %q of session %q by %s, want %q of %q", name, call, in, by, id, session)
				}
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
