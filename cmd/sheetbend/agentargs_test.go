// SPDX-License-Identifier: Apache-2.0

package main

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sheetbend/sheetbend/enrich/agents"
)

func TestAnAgentIsKeptFromLeavingItsCommandsToADaemonAndTheUserIsTold(t *testing.T) {
	dir := agentFiles(t)
	const off = "features.daemon_auto_start=false"
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
		{"codex", "", "lib/codex", []string{"codex", "exec", "x"}, nil, false, []string{"codex", "-c", off, "exec", "x"}, nil, true, "codex is started with -c " + off + " (--no-agent-args: without): else its app-server"},
		{"a wrapper of codex", "codex", "bin/wrapper", []string{"wrapper"}, nil, false, []string{"wrapper"}, nil, false, "wrapper is not codex itself: have it start that with -c " + off},
		{"who has decided", "", "lib/codex", []string{"codex", "-c", "features.daemon_auto_start=true"}, nil, false, []string{"codex", "-c", "features.daemon_auto_start=true"}, nil, true, ""},
		{"in another way", "", "lib/codex", []string{"codex", "--disable", "daemon_auto_start"}, nil, false, []string{"codex", "--disable", "daemon_auto_start"}, nil, true, ""},
		{"who asks for nothing", "", "lib/codex", []string{"codex"}, nil, true, []string{"codex"}, nil, false, "codex is started as it is (--no-agent-args): its app-server"},
		{"cline", "", "lib/cline", []string{"cline", "x"}, []string{"A=b"}, false, []string{"cline", "x"}, []string{"A=b", "CLINE_SESSION_BACKEND_MODE=local"}, true, "cline is started with CLINE_SESSION_BACKEND_MODE (--no-agent-args: without): else its hub"},
		{"a wrapper of cline", "cline", "bin/wrapper", []string{"wrapper"}, nil, false, []string{"wrapper"}, []string{"CLINE_SESSION_BACKEND_MODE=local"}, true, "cline is started with"},
		{"who has decided for it", "", "lib/cline", []string{"cline"}, []string{"CLINE_SESSION_BACKEND_MODE=hub"}, false, []string{"cline"}, []string{"CLINE_SESSION_BACKEND_MODE=hub"}, true, ""},
		{"an agent without a daemon", "", "lib/goose", []string{"goose"}, nil, false, []string{"goose"}, nil, false, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := launch{filepath.Join(dir, c.program), c.args, c.env}
			before := slices.Clone(l.args)
			d, at := dialectOf(agents.NewTable(agents.Builtin()), c.agent, l)
			if d == nil {
				t.Fatal("not known")
			}
			got, line, kept := keepInside(d, at, l, !c.unwanted)
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
