// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/sheetbend/sheetbend/cmd/sheetbend/sensortest"
	"github.com/sheetbend/sheetbend/collector/record"
	"github.com/sheetbend/sheetbend/enrich/marker/client"
)

func TestALiveSessionIsListedAndDrawnAndItsSocketGoesWithIt(t *testing.T) {
	t.Parallel()
	needRoot(t)
	cmd := sheetbend(t, "run", "--quiet", "--session", "live-1", "--", "sh", "-c", "cat /etc/hostname >/dev/null; echo at $SHEETBEND_SOCKET.; read x")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(listen(t, out).hear(".sock.\n"), "at ")
	socket := strings.TrimSuffix(rest, ".\n")
	if filepath.Dir(socket) != filepath.Dir(client.DefaultSocket) {
		t.Errorf("socket %q", socket)
	}

	list := func(more ...string) result {
		return sheetbendRun(t, append([]string{"sessions", "--socket", socket}, more...)...)
	}
	var found []client.Session
	sensortest.Until(t, "a session is listed", func() bool {
		return json.Unmarshal([]byte(list("--json").stdout), &found) == nil && len(found) == 1
	})
	if found[0].ID != "live-1" || found[0].Agent != "sh" || found[0].Spans == 0 {
		t.Errorf("%+v", found[0])
	}
	if r := list(); r.code != 0 || !strings.HasPrefix(r.stdout, "live-1  sh  ") {
		t.Error(describeResult(r))
	}
	if r := sheetbendRun(t, "session", "live", "--socket", socket); r.code != 0 || !strings.Contains(r.stdout, "cat") || !strings.Contains(r.stdout, "session live-1") {
		t.Error(describeResult(r))
	}
	if r := sheetbendRun(t, "session", "other", "--socket", socket); r.code != exitFailed || !strings.Contains(r.stderr, "no session other") {
		t.Error(describeResult(r))
	}
	_ = in.Close()
	if err := cmd.Wait(); err == nil {
		t.Error("read at the end of its input should have failed")
	}
	if r := list(); r.code != exitFailed || !strings.Contains(r.stderr, "no sensor") {
		t.Errorf("after the end: %s", describeResult(r))
	}
}

func TestAnIdMakesNoColumnsInTheListOfSessions(t *testing.T) {
	now := time.Unix(0, 0)
	var out strings.Builder
	printSessions(&out, []client.Session{{
		ID: "s  codex  nothing runs\n", Agent: "a  b", Start: now, Last: now,
		Calls: []client.Call{
			{ID: "c  Bash", Tool: "t  u\x1b[2J", Attribution: "", Start: now, Last: now},
			{Context: "1-2  x", Start: now, Last: now},
		},
	}, {ID: "0199-plain", Start: now, Last: now}})
	for _, want := range []string{
		"$'s  codex  nothing runs\\n'  'a  b'  nothing runs  0 spans  ",
		"\n  'c  Bash'  $'t  u\\x1b[2J'  nothing runs  -  ",
		"\n  span '1-2  x'  -  nothing runs  -  ",
		"\n0199-plain  no agent known  nothing runs  0 spans  ",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in:\n%s", want, out.String())
		}
	}
}

func TestPrintedJSONMovesNoCursorAndSaysTheSame(t *testing.T) {
	odd := "a\n\x1b[31m\u009b31m\x7f\u202e\u2066\u200b\u2028\U000e0041é日🚀\\u202e\""
	var out strings.Builder
	if err := printJSON(&out, []client.Session{{ID: odd}}); err != nil {
		t.Fatal(err)
	}
	for _, r := range out.String() {
		if r != '\n' && !unicode.IsPrint(r) {
			t.Errorf("%U is printed", r)
		}
	}
	var list []client.Session
	if err := json.Unmarshal([]byte(out.String()), &list); err != nil || list[0].ID != odd {
		t.Errorf("%v, %q", err, out.String())
	}
}

func TestAProcessInASandboxIsShownNothing(t *testing.T) {
	t.Parallel()
	needRoot(t)
	r := sheetbendRun(t, "run", "--quiet", "--", "sh", "-c", asCommand+`=1 /proc/$PPID/exe sessions --socket "$SHEETBEND_SOCKET"`)
	if r.code != exitFailed || !strings.Contains(r.stderr, "not shown to processes in a sandbox") || r.stdout != "" {
		t.Error(describeResult(r))
	}
}

func TestCallBeginAndEndSendMarks(t *testing.T) {
	marks, socket := takeMarks(t)
	for _, op := range []string{"begin", "end"} {
		r := sheetbendRun(t, "call", op, "--socket", socket, "--session", "s", "--call", "c-1", "--tool", "bash", "--agent", "a", "--pid", "1")
		if r.code != 0 || r.stdout != "" || r.stderr != "" {
			t.Error(describeResult(r))
		}
	}
	got := marks()
	if len(got) != 2 || got[0].Mark.Op != record.MarkBegin || got[1].Mark.Op != record.MarkEnd {
		t.Fatalf("%d marks", len(got))
	}
	if m := got[0].Mark; m.Session != "s" || m.Call != "c-1" || m.Tool != "bash" || m.Agent != "a" || m.TargetTgid != 1 || m.Source != record.SourceAPI {
		t.Errorf("%+v", m)
	}
	for says, args := range map[string][]string{
		"--call ID is needed": {"call", "begin", "--socket", socket},
		"not both":            {"call", "end", "--call", "c", "--pid", "1", "--cgroup", "/x"},
		"no sensor serves":    {"call", "begin", "--call", "c", "--socket", "/nonexistent"},
		"the sensor refused":  {"call", "begin", "--call", "c", "--socket", socket, "--traceparent", "x"},
	} {
		if r := sheetbendRun(t, args...); r.code == 0 || !strings.Contains(r.stderr, says) {
			t.Errorf("%q: %s", says, describeResult(r))
		}
	}
}
