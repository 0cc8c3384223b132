// SPDX-License-Identifier: Apache-2.0

package agentstest

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sheetbend/sheetbend/collector/span"
	"github.com/sheetbend/sheetbend/enrich/agents/modeltest"
)

const standInScript = "../../../testdata/agents/stand-ins/agent.js"

// A standIn is an agent that is not to be had from a registry without an account: agent.js plays it.
type standIn struct {
	name            string
	program, script string // below the home: the paths that it is known by
	session         string // variable
	config          string // of a user who has it, if it is none of the built-in ones
}

var (
	myHarness = standIn{"my-harness", "bin/node", "my-harness/main.js", "MY_HARNESS_SESSION", "../../../testdata/agents/my-harness.yaml"}
	standIns  = []standIn{
		{"goose", "bin/goose", "agent.js", "AGENT_SESSION_ID", ""},
		{"cursor-agent", "bin/node", ".local/share/cursor-agent/versions/1/index.js", "CURSOR_CONVERSATION_ID", ""},
		myHarness,
	}
)

// flags are those of its user. The sensor runs elsewhere.
func (a *standIn) flags() []string {
	if a.config == "" {
		return nil
	}
	config, err := filepath.Abs(a.config)
	if err != nil {
		panic(err)
	}
	return []string{"--config", config}
}

// commandLine installs it at the desk, to do the script "steps" without the denied call.
func (a *standIn) commandLine(d *desk) []string {
	d.t.Helper()
	var turns [][]string
	for i, turn := range steps(d, a.session).Turns {
		if i == 3 {
			continue
		}
		var commands []string
		for _, call := range turn {
			commands = append(commands, call.Command)
		}
		turns = append(turns, commands)
	}
	input, err := json.Marshal(turns)
	if err != nil {
		d.t.Fatal(err)
	}
	node, err := exec.LookPath("node")
	if err != nil {
		d.t.Fatal(err)
	}
	at := func(name string) string { return filepath.Join(d.home, name) }
	for from, to := range map[string]string{node: at(a.program), standInScript: at(a.script)} {
		text, err := os.ReadFile(from)
		if err := errors.Join(err, os.MkdirAll(filepath.Dir(to), 0o755), os.WriteFile(to, text, 0o755)); err != nil {
			d.t.Fatal(err)
		}
	}
	if err := os.WriteFile(at("turns"), input, 0o644); err != nil {
		d.t.Fatal(err)
	}
	return []string{"sh", "-c", `exec "$0" "$@" <` + at("turns"), at(a.program), at(a.script), a.name, strings.TrimPrefix(d.model.URL(), "http://")}
}

func TestAHarnessOfTheUsersThatSetsTRACEPARENTHasTheKernelsSpansUnderItsOwn(t *testing.T) {
	t.Parallel()
	d := newDesk(t, needAgents(t), "", func(*desk) []modeltest.Script { return nil })
	s := d.tell(myHarness.flags(), myHarness.commandLine(d))
	session := d.session()
	for i, name := range []string{"single", "left", "right", "failing", "after"} {
		open := s.opens(name)[0]
		for p := s.parent(open); p != nil; p = s.parent(p) {
			open = p
		}
		want := fmt.Sprintf("0123456789abcdef0123456789abcdef %016d", i+1)
		if got := fmt.Sprintf("%x %x", open.TraceId, open.ParentSpanId); got != want {
			t.Errorf("%s was opened under the span %s, want %s", name, got, want)
		}
		by, in, agent := attr(open, span.KeyAttribution), attr(open, span.KeySessionID), attr(open, span.KeyAgentName)
		if by != "trace_context" || in != session || agent != myHarness.name {
			t.Errorf("%s: by %s in session %q of %q, want trace_context in %q", name, by, in, agent, session)
		}
	}
	helper := 0
	for _, sp := range s.spans {
		if attr(sp, span.KeyExecutableName) == "git" && attr(sp, span.KeyEvent) == "process.exec" {
			helper++
			if by := attr(sp, span.KeyAttribution); by != "session" {
				t.Errorf("what the harness runs for itself is attributed by %s", by)
			}
		}
	}
	if helper != 1 {
		t.Errorf("%d helpers, want 1", helper)
	}
}
