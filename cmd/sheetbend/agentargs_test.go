// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sheetbend/sheetbend/enrich/agents"
)

func TestAnAgentIsKeptFromLeavingItsCommandsToADaemonAndTheUserIsTold(t *testing.T) {
	dir := agentFiles(t)
	// A version that knows the argument, and one that does not.
	for name, text := range map[string]string{
		"lib/codex":     "#!/usr/bin/python3\nimport sys\nsys.exit(sys.argv[1:] != ['--no-daemon', '--version'])\n",
		"lib/old/codex": "#!/usr/bin/python3\nimport sys\nsys.exit(2)\n", "lib/shim/codex": "#!/bin/sh\nkill -9 $PPID\n",
	} {
		file := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(text), 0o755)); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name, agent string // --agent
		program     string
		args        []string
		env         []string
		unwanted    bool // --no-agent-args
		wantArgs    []string
		wantEnv     []string
		kept        bool
		says        string
	}{
		{"codex", "", "lib/codex", []string{"codex", "exec", "x"}, nil, false, []string{"codex", "--no-daemon", "exec", "x"}, nil, true, "codex is started with --no-daemon (--no-agent-args: without): else its app-server"},
		{"a wrapper of codex", "codex", "bin/wrapper", []string{"wrapper"}, nil, false, []string{"wrapper"}, nil, false, "wrapper is not codex itself: have it start that with --no-daemon, else"},
		{"who has decided", "", "lib/codex", []string{"codex", "--no-daemon"}, nil, false, []string{"codex", "--no-daemon"}, nil, false, ""},
		{"in another way", "", "lib/codex", []string{"codex", "--remote=unix://"}, nil, false, []string{"codex", "--remote=unix://"}, nil, false, ""},
		{"one that does not know it", "", "lib/old/codex", []string{"codex", "x"}, nil, false, []string{"codex", "x"}, nil, false, "codex is started as it is: it did not take --no-daemon --version"},
		{"a script of a shell that is called so", "", "lib/shim/codex", []string{"codex", "x"}, nil, false, []string{"codex", "x"}, nil, false, "codex is not codex itself"},
		{"a prompt that begins like an option", "", "lib/codex", []string{"codex", "remote-control fails"}, nil, false, []string{"codex", "--no-daemon", "remote-control fails"}, nil, true, "codex is started with"},
		{"who asks for nothing", "", "lib/codex", []string{"codex"}, nil, true, []string{"codex"}, nil, false, "codex is started as it is (--no-agent-args): its app-server"},
		{"cline", "", "lib/cline", []string{"cline", "x"}, []string{"A=b"}, false, []string{"cline", "x"}, []string{"A=b", "CLINE_SESSION_BACKEND_MODE=local"}, true, "cline is started with CLINE_SESSION_BACKEND_MODE (--no-agent-args: without): else its hub"},
		{"a wrapper of cline", "cline", "bin/wrapper", []string{"wrapper"}, nil, false, []string{"wrapper"}, []string{"CLINE_SESSION_BACKEND_MODE=local"}, true, "cline is started with"},
		{"who has decided for it", "", "lib/cline", []string{"cline"}, []string{"CLINE_SESSION_BACKEND_MODE=hub"}, false, []string{"cline"}, []string{"CLINE_SESSION_BACKEND_MODE=hub"}, false, ""},
		{"an agent without a daemon", "", "lib/goose", []string{"goose"}, nil, false, []string{"goose"}, nil, false, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := launch{filepath.Join(dir, c.program), c.args, c.env}
			before := slices.Clone(l.args)
			d, at := dialectOf(agents.NewTable(agents.Builtin()), c.agent, l)
			if d == nil {
				t.Fatal("not known")
			}
			got, line, kept := keepInside(d, at, l, identity{}, !c.unwanted)
			if !slices.Equal(got.args, c.wantArgs) || !slices.Equal(got.env, c.wantEnv) || kept != c.kept {
				t.Errorf("arguments %q, environment %q, kept %v; want %q, %q, %v", got.args, got.env, kept, c.wantArgs, c.wantEnv, c.kept)
			}
			if (line == "") != (c.says == "") || !strings.Contains(line, c.says) {
				t.Errorf("said %q, want %q", line, c.says)
			}
			if !slices.Equal(l.args, before) {
				t.Error("the command itself was changed")
			}
		})
	}
}
