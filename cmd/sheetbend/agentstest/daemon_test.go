// SPDX-License-Identifier: Apache-2.0

package agentstest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/sheetbend/sheetbend/cmd/sheetbend/sensortest"
	"github.com/sheetbend/sheetbend/collector/cgroup"
	"github.com/sheetbend/sheetbend/collector/span"
	"github.com/sheetbend/sheetbend/enrich/agents/modeltest"
)

// watch runs the daemon with these sandboxes while the agent works at the desk, and gives what the daemon sent.
func (d *desk) watch(sandboxes string, agent *exec.Cmd) *story {
	d.t.Helper()
	b := startBackend(d.t)
	config := filepath.Join(d.tmp, "sheetbend.yaml")
	text := fmt.Sprintf("sandboxes: [%s]\nsocket: %s\nexporters: {otlp: {endpoint: '%s'}}\nspool: {path: none}\n", sandboxes, filepath.Join(d.tmp, "socket"), b.url)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		d.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(d.t.Context(), patience)
	defer cancel()
	sensor := exec.CommandContext(ctx, os.Getenv(binEnv), "sensor", "--no-pin", "--config", config)
	sensor.Env = d.environment()
	log := sensortest.Start(d.t, sensor)
	log.Hear("watching")
	out, err := agent.CombinedOutput()
	if err != nil || len(d.model.Errors()) > 0 {
		d.t.Errorf("the agent: %v, the model: %q: %s", err, d.model.Errors(), out)
	}
	log.Stop()
	return d.gather(b)
}

func TestTheDaemonNamesTheCallsOfAnAgentThatItDidNotStart(t *testing.T) {
	t.Parallel()
	dir := needAgents(t)
	m, err := cgroup.Find()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		inside bool // of a cgroup
	}{{"wherever it is started", false}, {"in a cgroup that a pattern selects", true}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			d := newDesk(t, dir, "", func(d *desk) []modeltest.Script { return one(steps(d, codex.session)) })
			d.settle(codex)
			line := codex.commandLine("steps", false)
			agent := exec.CommandContext(t.Context(), filepath.Join(d.bin(), line[0]), line[1:]...)
			agent.Env, agent.Dir = d.environment(codex), d.dir
			sandboxes := `{agents: ["*"]}`
			if c.inside {
				parent := fmt.Sprintf("/sheetbend-agents-%d", os.Getpid())
				sandboxes = "{cgroup: '" + parent + "/[a-z]*'}"
				within := parent + "/one"
				if err := m.Create(within); err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() {
					ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
					defer cancel()
					_ = m.Kill(ctx, parent)
					if err := m.Remove(ctx, parent); err != nil {
						t.Error(err)
					}
				})
				to, err := m.Open(within)
				if err != nil {
					t.Fatal(err)
				}
				defer to.Close()
				agent.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(to.Fd())}
			}
			s := d.watch(sandboxes, agent)
			session := d.session()
			for name, id := range calls() {
				s.belongs(name, id, session)
				if by := attr(s.opens(name)[0], span.KeyAttribution); by != "call_id" {
					t.Errorf("%s: attribution %q", name, by)
				}
			}
			d.absent("denied")
			s.apart(d.model.URL())
		})
	}
}
