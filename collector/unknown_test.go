// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"testing"

	"github.com/sheetbend/sheetbend/collector/config"
	"github.com/sheetbend/sheetbend/collector/record"
	"github.com/sheetbend/sheetbend/collector/span"
)

// A program that a person has given becomes an agent with its first child that is a shell, runs a text and leads a kernel
// session; builders, test runners, terminals and scripts do not.
func TestAnAgentThatNobodyKnowsIsFoundByItsCommands(t *testing.T) {
	type args = []string
	node, sh := args{"/usr/bin/node", "/opt/agent/main.js"}, args{"/bin/sh", "-c", "make"}
	leads := uint16(record.ExecSessionLeader)
	for _, c := range []struct {
		name    string
		chain   []args // what was given, and each what the one before it starts
		flags   uint16
		command args // the child of the last
		want    string
	}{
		{"a script", []args{node}, leads, sh, "main.js"},
		{"a module", []args{{"/usr/bin/python3", "-u", "-m", "my_agent", "--yes"}}, leads, sh, "my_agent"},
		{"a program", []args{{"/opt/my-agent"}}, leads, sh, "my-agent"},
		{"below a shell", []args{{"/bin/sh", "run.sh"}, node}, leads, sh, "main.js"},
		{"by npx", []args{{"/usr/bin/node", "/usr/bin/npx", "agent"}, {"/bin/sh", "-c", "agent"}, node}, leads, sh, "main.js"},
		{"by npm exec", []args{{"/usr/bin/node", "/usr/lib/npm-cli.js", "exec", "agent"}, node}, leads, sh, "main.js"},
		{"by uv", []args{{"/usr/bin/uv", "run", "agent.py"}, {"/usr/bin/python3.13", "agent.py"}}, leads, sh, "agent.py"},
		{"its child leads no session", []args{node}, 0, sh, ""},
		{"its child runs a script", []args{node}, leads, args{"/bin/sh", "job.sh"}, ""},
		{"its child is no shell", []args{node}, leads, args{"/usr/bin/git", "status"}, ""},
		{"what a program has started that was given", []args{node, {"/usr/bin/node", "/opt/worker.js"}}, leads, sh, ""},
		{"a shell", []args{{"/bin/sh", "cron.sh"}}, leads, sh, ""},
		{"code in the arguments", []args{{"/usr/bin/python3", "-c", "code"}}, leads, sh, ""},
		{"make", []args{{"/usr/bin/make"}}, leads, sh, ""},
		{"npm test", []args{{"/usr/bin/node", "/usr/lib/npm-cli.js", "test"}, node}, leads, sh, ""},
		{"pytest", []args{{"/usr/bin/python3", "/usr/bin/pytest", "-n", "4"}}, leads, sh, ""},
		{"python -m pytest", []args{{"/usr/bin/python3", "-m", "pytest"}}, leads, sh, ""},
		{"tox", []args{{"/usr/bin/python3", "/usr/bin/tox"}}, leads, sh, ""},
		{"parallel", []args{{"/usr/bin/perl", "/usr/bin/parallel"}}, leads, sh, ""},
		{"tmux", []args{{"/usr/bin/tmux"}}, leads, sh, ""},
		{"an agent below it that is known", []args{{"/usr/bin/node", "/usr/bin/npx", "claude"}, {"/usr/bin/claude"}}, leads, sh, "claude-code"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, func(c *config.Config) { c.Sandboxes = []config.Selector{{Cgroup: "/agents/*", Unknown: true}} })
			w.begin(10, one)
			pid := uint32(10)
			for i, args := range c.chain {
				if i > 0 {
					w.fork(pid, pid+1)
					pid++
				}
				w.run(pid, 0, args)
			}
			w.fork(pid, 20)
			w.run(20, c.flags, c.command)
			w.open(20, "/a/x")
			w.exit(20, 0)
			w.c.Close()
			want := map[string]any{span.KeyAttribution: "cgroup"}
			if c.want != "" {
				want = map[string]any{span.KeyAttribution: "inferred", span.KeyAgentName: c.want}
			}
			wants(t, w.opened("/a/x"), want)
			if told := len(w.of(span.SessionCall)) == 1; told != (c.want != "") {
				t.Errorf("%d calls are told", len(w.of(span.SessionCall)))
			}
		})
	}
	t.Run("not where a sandbox is watched for all that is in it", func(t *testing.T) {
		w := newWorld(t)
		w.begin(10, two)
		w.run(10, 0, node)
		w.fork(10, 20)
		w.run(20, leads, sh)
		w.open(20, "/a/x")
		w.c.Close()
		wants(t, w.opened("/a/x"), map[string]any{span.KeyAttribution: "cgroup"})
	})
	t.Run("its own doings stay its own, and its agent's is the trace of what follows", func(t *testing.T) {
		w := newWorld(t, func(c *config.Config) { c.Sandboxes = []config.Selector{{Cgroup: "/agents/*", Unknown: true}} })
		w.begin(10, one)
		w.run(10, 0, node)
		w.open(10, "/a/before")
		for pid := uint32(20); pid < 23; pid++ {
			w.fork(10, pid)
			w.run(pid, leads, sh)
			w.exit(pid, 0)
		}
		w.open(10, "/a/after")
		w.c.Close()
		if n := len(w.of(span.Session)); n != 1 {
			t.Errorf("%d sessions, want one", n)
		}
		if n := len(w.of(span.SessionCall)); n != 3 {
			t.Errorf("%d calls, want 3", n)
		}
		wants(t, w.opened("/a/after"), map[string]any{span.KeyAttribution: "session", span.KeyAgentName: "main.js"})
		if before, after := w.opened("/a/before"), w.opened("/a/after"); before.Parent != span.ExecSpan(boot, image1(10, 1)) || before.Trace == after.Trace {
			t.Errorf("%s", show([]span.Span{before, after}))
		}
		CheckTraces(t, w.all())
		if hints := w.c.Stats().Hints; len(hints) != 1 {
			t.Errorf("hints: %q", hints)
		}
	})
}
