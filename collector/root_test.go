// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sheetbend/sheetbend/collector/record"
	rt "github.com/sheetbend/sheetbend/collector/recordtest"
	"github.com/sheetbend/sheetbend/collector/span"
)

// The first program of a call, in agents whose commands lead a kernel session and begin with a shell: everything else
// that such an agent starts is its own.
func TestWhichChildOfAnAgentIsACall(t *testing.T) {
	const (
		session  = "CLAUDE_CODE_SESSION_ID=cs"
		carrier  = "TRACEPARENT=00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
		project  = "CLAUDE_PROJECT_DIR=/repo"
		execPath = "CLAUDE_CODE_EXECPATH=/usr/bin/claude"
	)
	claude, qwen, opencode, copilot, kimi := "/usr/bin/claude", "/usr/bin/qwen", "/usr/bin/opencode", "/usr/bin/copilot", "/usr/bin/kimi"
	sh := func(args ...string) []string { return args }
	for _, c := range []struct {
		name  string
		agent string
		own   []string // the agent's own environment
		child []string
		env   []string
		want  string // attribution; session: it is a helper
	}{
		{"bash -c", claude, nil, sh("/bin/bash", "-c", "make"), nil, "inferred"},
		{"sh -c", claude, nil, sh("/bin/sh", "-c", "make"), nil, "inferred"},
		{"a login shell that is given a command", claude, nil, sh("/bin/bash", "-lc", "make"), nil, "inferred"},
		{"with options before -c", copilot, nil, sh("/bin/bash", "--norc", "--noprofile", "-c", "make"), nil, "inferred"},
		{"with options behind -c", claude, nil, sh("/bin/zsh", "-c", "-l", "make"), nil, "inferred"},
		{"a command in a sandbox of the agent's", claude, nil, sh("/usr/bin/bwrap", "--unshare-net", "--", "/bin/bash", "-c", "make"), nil, "inferred"},
		{"a shell without a command", claude, nil, sh("/bin/bash", "-l", "-i"), nil, "session"},
		{"a shell's script", claude, nil, sh("/bin/bash", "/opt/mcp/server.sh"), nil, "session"},
		{"another program by a shell's name", claude, nil, sh("/opt/mcp/bash2", "-c", "make"), nil, "session"},
		{"git", opencode, nil, sh("/usr/bin/git", "-c", "core.quotepath=false", "rev-parse"), nil, "session"},
		{"an MCP server", opencode, nil, sh("/usr/bin/node", "/opt/mcp/server.js"), nil, "session"},
		{"git with a trace context", claude, nil, sh("/usr/bin/git", "status"), []string{carrier}, "session"},
		{"a hook", claude, nil, sh("/bin/sh", "-c", "/opt/hook"), []string{session, project}, "session"},
		{"a hook with the trace context of the prompt", claude, nil, sh("/bin/sh", "-c", "/opt/hook"), []string{session, project, carrier}, "session"},
		{"a hook of Qwen", qwen, nil, sh("/bin/bash", "-c", "/opt/hook"), []string{"QWEN_CODE_SESSION_ID=qs", "QWEN_PROJECT_DIR=/repo"}, "session"},
		{"a hook's variable that the agent passes on", claude, []string{project}, sh("/bin/bash", "-c", "make"), []string{project, session, execPath}, "inferred"},
		{"a hook of an agent that a hook started", claude, []string{project}, sh("/bin/sh", "-c", "/opt/hook"), []string{project, session}, "session"},
		{"one of Qwen's that a hook of Claude's started", qwen, []string{project}, sh("/bin/bash", "-c", "/opt/hook"), []string{project, "QWEN_PROJECT_DIR=/repo"}, "session"},
		{"a hook of Kimi's", kimi, nil, sh("/bin/sh", "-c", "/opt/hook"), nil, "session"},
		{"one that looks a bit like a command", kimi, nil, sh("/bin/sh", "-c", "cd /opt && ./hook"), nil, "session"},
		{"a command of Kimi's", kimi, nil, sh("/bin/bash", "-c", "cd '/repo' && make"), nil, "inferred"},
		{"what asks for the environment", claude, nil, sh("/bin/bash", "-c", "env"), []string{"CLAUDECODE=1"}, "session"},
		{"what takes a snapshot of the shell", claude, nil, sh("/bin/zsh", "-c", "-l", "SNAPSHOT_FILE=/x\nsource ~/.zshrc"), []string{"CLAUDECODE=1"}, "session"},
		{"a login shell of Copilot's own", copilot, nil, sh("/bin/bash", "-l", "-c", "printf %s '__copilot_login_env_snapshot_2e95__'; env -0"), nil, "session"},
		{"a command that looks like that", copilot, nil, sh("/bin/bash", "--norc", "--noprofile", "-c", "printf %s '__copilot_login_env_snapshot_2e95__'"), nil, "inferred"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			w.begin(10, two)
			if strings.HasSuffix(c.agent, "qwen") || strings.HasSuffix(c.agent, "copilot") || c.agent == kimi {
				w.run(10, 0, []string{"/usr/bin/node", c.agent}, c.own...)
			} else {
				w.start(10, c.agent, false, c.own...)
			}
			w.fork(10, 11)
			w.run(11, record.ExecSessionLeader, c.child, c.env...)
			w.openWith(11, 0, record.Open{Path: rt.Path("/a/x"), Flags: unix.O_WRONLY}) // reads of an agent's sandbox fold
			w.c.Close()
			wants(t, w.opened("/a/x"), map[string]any{span.KeyAttribution: c.want})
		})
	}
}

// What is no call takes neither an open mark nor a trace context, and is no alarm.
func TestAHelperTakesNothingFromACall(t *testing.T) {
	const (
		session = "CLAUDE_CODE_SESSION_ID=cs"
		carrier = "TRACEPARENT=00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
		project = "CLAUDE_PROJECT_DIR=/repo"
	)
	status := func(w *world, pid uint32, env ...string) {
		w.fork(10, pid)
		w.run(pid, record.ExecSessionLeader, []string{"/bin/sh", "-c", "/opt/status"}, append(env, session, project)...)
	}
	t.Run("an open mark", func(t *testing.T) {
		w := newWorld(t, withSelf)
		w.claude(10)
		w.mark(10, record.Mark{Op: record.MarkBegin, Call: "t1"})
		status(w, 11)
		w.open(11, "/a/status")
		w.fork(10, 12)
		w.start(12, "/bin/bash", true, session)
		w.open(12, "/a/command")
		w.mark(10, record.Mark{Op: record.MarkEnd, Call: "t1"})
		status(w, 13)
		w.open(13, "/a/idle")
		w.c.Close()
		w.owned("/a/status", "", "session")
		w.owned("/a/command", "t1", "marker")
		w.owned("/a/idle", "", "session")
	})
	t.Run("a trace context", func(t *testing.T) {
		w := newWorld(t)
		w.claude(10)
		status(w, 11, carrier)
		w.open(11, "/a/status")
		w.fork(10, 12)
		w.start(12, "/bin/bash", true, session, carrier)
		w.open(12, "/a/command")
		w.c.Close()
		w.owned("/a/status", "", "session")
		w.owned("/a/command", "", "trace_context")
	})
	t.Run("once commands are known by a variable, whatever has none", func(t *testing.T) {
		w := newWorld(t)
		w.claude(10)
		w.fork(10, 11)
		w.start(11, "/bin/bash", true, session, "CLAUDE_CODE_EXECPATH=/usr/bin/claude")
		w.open(11, "/a/command")
		w.fork(10, 12)
		w.start(12, "/bin/bash", true, session)
		w.open(12, "/a/helper")
		w.c.Close()
		wants(t, w.opened("/a/command"), map[string]any{span.KeyAttribution: "inferred"})
		w.owned("/a/helper", "", "session")
	})
	t.Run("of an agent older than the sensor, once a command without its variable was seen", func(t *testing.T) {
		w := newWorld(t)
		w.existing(10, 1, "/usr/bin/claude")
		for pid := uint32(11); pid < 14; pid++ {
			w.fork(10, pid)
			env := []string{session}
			if pid != 12 {
				env = append(env, project)
			}
			w.start(pid, "/bin/bash", true, env...)
			w.open(pid, "/a/"+string(rune('a'+pid-11)))
		}
		w.c.Close()
		wants(t, w.opened("/a/b"), map[string]any{span.KeyAttribution: "inferred"})
		w.owned("/a/c", "", "session")
	})
}
