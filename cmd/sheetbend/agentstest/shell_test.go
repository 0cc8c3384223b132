// SPDX-License-Identifier: Apache-2.0

package agentstest

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/sheetbend/sheetbend/collector/span"
	"github.com/sheetbend/sheetbend/enrich/agents/modeltest"
)

// A harness that keeps one bash for all calls: the environment of that was made before any of them, and only
// marks from outside say where each begins and ends.
func TestAPersistentBashServesThreeCallsThatAreMarkedFromOutside(t *testing.T) {
	t.Parallel()
	bin := needSheetbend(t)
	d := newDesk(t, "", "", func(*desk) []modeltest.Script { return nil })
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	b := startBackend(t)
	// The shell says where the sensor's socket is, and its own pid; after that it takes a line at a time.
	run := exec.CommandContext(ctx, bin, "run", "--leftovers", "wait", "--otlp-endpoint", b.url, "--config", d.unfolded(nil)[1], "--",
		"bash", "-c", `echo "$SHEETBEND_SOCKET $$"; while read -r line; do eval "$line" >/dev/null; echo done; done`)
	run.Env, run.Dir = d.environment(), d.dir
	in, err := run.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := run.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := run.Start(); err != nil {
		t.Fatal(err)
	}
	var socket, pid, done string
	if _, err := fmt.Fscan(out, &socket, &pid); err != nil {
		t.Fatal(err)
	}
	shell := func(line string) {
		t.Helper()
		if _, err := io.WriteString(in, line+"\n"); err != nil {
			t.Fatal(err)
		}
		if _, err := fmt.Fscan(out, &done); err != nil {
			t.Fatal(err)
		}
	}
	mark := func(op, call string) {
		t.Helper()
		cmd := exec.CommandContext(ctx, bin, "call", op, "--socket", socket, "--session", "s-1", "--call", call, "--tool", "bash", "--pid", pid)
		cmd.Env = d.environment()
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s %s: %v: %s", op, call, err, out)
		}
	}
	wait := func(file string) string {
		return "until [ -e " + filepath.Join(d.dir, file) + " ]; do sleep 0.05; done; "
	}

	for i, line := range []string{
		d.read("first") + " | cat; export LEFT=behind; ({ " + wait("go") + d.read("late") + "; echo >" + filepath.Join(d.dir, "gone") + "; } >/dev/null 2>&1 &)",
		"test \"$LEFT\" = behind && " + d.read("second") + "; echo >" + filepath.Join(d.dir, "go") + "; " + wait("gone"),
		"sh -c '" + d.read("third") + "; exit 9'",
	} {
		call := fmt.Sprint("call_", i+1)
		mark("begin", call)
		shell(line)
		mark("end", call)
		shell(d.read(fmt.Sprint("between-", i+1)))
	}
	_ = in.Close()
	if err := run.Wait(); err != nil {
		t.Fatal(err)
	}

	s := d.gather(b)
	for file, want := range map[string]string{
		"first": "call_1", "late": "call_1", "second": "call_2", "third": "call_3", "between-1": "", "between-2": "", "between-3": "",
	} {
		spans := s.opens(file)
		if len(spans) != 1 {
			t.Errorf("%d spans of opening %s, want 1", len(spans), file)
			continue
		}
		right := "marker"
		if file == "late" { // by what the first call has left running
			right = "started_by"
		}
		call, session, by := attr(spans[0], span.KeyCallID), attr(spans[0], span.KeySessionID), attr(spans[0], span.KeyAttribution)
		if call != want || want != "" && (by != right || session != "s-1") || want == "" && by == "marker" {
			t.Errorf("%s was opened in call %q of session %q by %s, want call %q", file, call, session, by, want)
		}
	}
	if codes := s.exits("call_3"); !slices.Contains(codes, "9") {
		t.Errorf("exit codes %q in the third call, want a 9", codes)
	}
	if tools := s.tools(); len(tools) != 3 {
		t.Errorf("execute_tool spans of %v, want those of three calls", tools)
	}
}

// needSheetbend gives the sheetbend to be tested.
func needSheetbend(t *testing.T) string {
	t.Helper()
	bin := os.Getenv(binEnv)
	if bin == "" || os.Geteuid() != 0 {
		const missing = "needs root, and sheetbend in " + binEnv + ": `make test-agents` sees to that"
		if os.Getenv("CI") != "" {
			t.Fatal(missing)
		}
		t.Skip(missing)
	}
	return bin
}
