// SPDX-License-Identifier: Apache-2.0

package agentstest

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/sheetbend/sheetbend/collector/span"
	"github.com/sheetbend/sheetbend/enrich/agents/modeltest"
)

// What somebody types on the agent's terminal (!COMMAND) is told to be his.
func TestWhatTheUserTypesIsTheUsers(t *testing.T) {
	t.Parallel()
	dir := needAgents(t)
	codexOnTerminal, claudeOnTerminal := codex, claude
	codexOnTerminal.args = []string{"--sandbox", "danger-full-access"}
	claudeOnTerminal.args = []string{"--dangerously-skip-permissions"}
	for _, c := range []struct {
		agent   realAgent
		program string
		flags   []string
		by      string
	}{{codexOnTerminal, "codex", nil, "inferred"}, {claudeOnTerminal, "claude.exe", []string{"--agent-telemetry"}, "trace_context"}} {
		t.Run(c.agent.name, func(t *testing.T) {
			t.Parallel()
			d := newDesk(t, dir, "", func(d *desk) []modeltest.Script {
				return one(modeltest.Script{Name: "asked", Turns: [][]modeltest.Call{{modeltest.Shell(d.read("models") + "; : >" + d.dir + "/models.done")}}})
			})
			typed := d.read("typed") + "; : >" + d.dir + "/typed.done"
			d.settle(c.agent)
			// It is asked neither whether the directory can be trusted, nor how it wants to look.
			for name, text := range map[string]string{
				".codex/config.toml": codex.files[".codex/config.toml"] + fmt.Sprintf("[projects.%q]\ntrust_level = \"trusted\"\n", d.dir),
				".claude.json": `{"hasCompletedOnboarding": true, "customApiKeyResponses": {"approved": ["none"]}, "bypassPermissionsModeAccepted": true, ` +
					fmt.Sprintf(`"projects": {%q: {"hasTrustDialogAccepted": true}}}`, d.dir),
			} {
				if err := os.MkdirAll(filepath.Dir(filepath.Join(d.home, name)), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(d.home, name), []byte(d.fill(text)), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			exists := func(name string) bool { _, err := os.Stat(filepath.Join(d.dir, name)); return err == nil }
			// A terminal does not say when the agent listens: a key is typed a second after the one before.
			keys, last := []string{"", "!", typed, "\r"}, time.Now()
			d.types = func() string {
				if len(keys) == 0 || !exists("models.done") || time.Since(last) < time.Second {
					return ""
				}
				key := keys[0]
				keys, last = keys[1:], time.Now()
				return key
			}
			var done time.Time
			over := func() bool {
				if done.IsZero() && exists("typed.done") {
					done = time.Now()
				}
				return !done.IsZero() && time.Since(done) > 2*time.Second // for what it reports of it
			}
			b := startBackend(t)
			line := c.agent.commandLine("asked", false)
			line[0] = filepath.Join(d.bin(), line[0])
			d.sitAt(over, c.program, slices.Concat([]string{os.Getenv(binEnv), "run", "--otlp-endpoint", b.url}, c.flags, d.unfolded(nil), []string{"--"}, line), c.agent)
			s := d.gather(b)
			if call, _ := s.owner("models"); call != modeltest.ID("asked", 0, 0) && c.agent.name == codex.name {
				t.Errorf("the model's call is %q", call)
			}
			for name, want := range map[string]string{"models": "", "typed": "user"} {
				open := s.opens(name)[0]
				n := 0
				for _, sp := range s.spans {
					if attr(sp, span.KeyEvent) == "session.call" && attr(sp, span.KeyCallID) == attr(open, span.KeyCallID) && attr(sp, span.KeyCallContext) == attr(open, span.KeyCallContext) {
						n++
						if origin := attr(sp, span.KeyCallOrigin); origin != want {
							t.Errorf("%s: origin %q, want %q", name, origin, want)
						}
					}
				}
				if by := attr(open, span.KeyAttribution); n != 1 || want != "" && by != c.by {
					t.Errorf("%s: %d session.call, attribution %q, want %q", name, n, by, c.by)
				}
			}
		})
	}
}
