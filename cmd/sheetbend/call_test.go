// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/sheetbend/sheetbend/collector/span"
	"github.com/sheetbend/sheetbend/enrich/marker/client"
)

func TestAMarkThatIsNotAllowedIsAnErrorAndIsCounted(t *testing.T) {
	t.Parallel()
	needRoot(t)
	// From inside, sheetbend call is a process of its own: it may not speak for its parent.
	r := sheetbendRun(t, "run", "--", "sh", "-c", asCommand+`=1 /proc/$PPID/exe call begin --session s --call c --pid $$; echo "code $?"`)
	if r.code != 0 || !strings.Contains(r.stdout, "code 1\n") || !strings.Contains(r.stderr, "the mark has no effect") || !strings.Contains(r.stderr, "had no effect: 1 mark of tool calls") {
		t.Error(describeResult(r))
	}
	// Of itself it may.
	r = sheetbendRun(t, "run", "--", "sh", "-c", asCommand+`=1 /proc/$PPID/exe call begin --session s --call c; echo "code $?"`)
	if r.code != 0 || !strings.Contains(r.stdout, "code 0\n") || strings.Contains(r.stderr, "no effect") {
		t.Error(describeResult(r))
	}
}

func TestAPersistentShellServesTheCallsThatAHarnessNames(t *testing.T) {
	t.Parallel()
	needRoot(t)
	dir := t.TempDir()
	file := func(name string) string {
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, []byte(name+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	spans := filepath.Join(dir, "spans.jsonl")
	cmd := sheetbend(t, "run", "--quiet", "--output", spans, "--", "sh", "-c", `echo "at $SHEETBEND_SOCKET $$."; while read line; do eval "$line"; echo "done $line."; done; exit 0`)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	out := listen(t, stdout)
	_, rest, _ := strings.Cut(out.hear(".\n"), "at ")
	socket, number, _ := strings.Cut(strings.TrimSuffix(rest, ".\n"), " ")
	pid, err := strconv.Atoi(number)
	if err != nil {
		t.Fatal(err)
	}
	shell := func(line string) {
		t.Helper()
		if _, err := io.WriteString(in, line+"\n"); err != nil {
			t.Fatal(err)
		}
		out.hear("done " + line + ".")
	}
	c := client.New(socket)
	mark := func(send func(m client.Mark) error, call string) {
		t.Helper()
		if err := send(client.Mark{Session: "harness-1", Call: call, Tool: "bash", Agent: "harness", PID: pid}); err != nil {
			t.Fatal(err)
		}
	}
	begin := func(m client.Mark) error { return c.Begin(t.Context(), m) }
	end := func(m client.Mark) error { return c.End(t.Context(), m) }

	want := map[string]string{}
	for _, call := range []string{"call_1", "call_2"} {
		mark(begin, call)
		started, builtin := file(call+"-started"), file(call+"-builtin")
		want[started], want[builtin] = call, call
		shell("cat " + started)
		shell("read x < " + builtin)
		mark(end, call)
	}
	between := file("between")
	want[between] = ""
	shell("cat " + between)
	_ = in.Close()
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}

	text, err := os.ReadFile(spans)
	if err != nil {
		t.Fatal(err)
	}
	found, tools := map[string]string{}, ""
	for _, s := range parseSpans(t, text) {
		get := func(key string) string {
			if v, ok := s.Attributes().Get(key); ok {
				return v.AsString()
			}
			return ""
		}
		if attribute(s, span.KeyEvent) == span.Open.String() {
			if path := get(span.KeyFilePath); strings.HasPrefix(path, dir) {
				found[path] = get(span.KeyCallID)
				if found[path] != "" && get(span.KeyAttribution) != "marker" {
					t.Errorf("%s: attribution %q", path, get(span.KeyAttribution))
				}
			}
		}
		if attribute(s, span.KeyEvent) == span.Tool.String() {
			tools += fmt.Sprint(" ", get(span.KeyCallID), " ", get(span.KeyToolName), " ", get(span.KeySessionID))
		}
	}
	for path, call := range want {
		if got, ok := found[path]; !ok || got != call {
			t.Errorf("%s is of call %q (seen: %v), want %q", filepath.Base(path), got, ok, call)
		}
	}
	if tools != " call_1 bash harness-1 call_2 bash harness-1" {
		t.Errorf("tool spans:%s", tools)
	}
}
