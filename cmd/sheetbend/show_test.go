// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"compress/gzip"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/sheetbend/sheetbend/collector/span"
	"github.com/sheetbend/sheetbend/exporters/recorder"
)

// unzipped gives a capture of testdata as a file.
func unzipped(t *testing.T, name string) string {
	t.Helper()
	in, err := os.Open(filepath.Join("..", "..", "testdata", "agents", name+".capture.gz"))
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	z, err := gzip.NewReader(in)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), name+".capture")
	if err := os.WriteFile(out, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestACaptureItsSpansAndStandardInputShowTheSame(t *testing.T) {
	capture := unzipped(t, "codex")
	want := sheetbendRun(t, "tree", capture).stdout
	exported := sheetbendRun(t, "export", capture)
	spans := parseSpans(t, []byte(exported.stdout))
	file := filepath.Join(t.TempDir(), "spans.jsonl")
	if err := os.WriteFile(file, []byte(exported.stdout), 0o600); err != nil {
		t.Fatal(err)
	}
	fromInput := sheetbend(t, "tree", "-")
	fromInput.Stdin = strings.NewReader(exported.stdout)
	for what, r := range map[string]result{
		"capture": sheetbendRun(t, "tree", capture), "spans": sheetbendRun(t, "tree", file), "standard input": finish(t, fromInput),
	} {
		if r.code != 0 || r.stdout != want || want == "" {
			t.Errorf("%s: %s\nwant\n%s", what, describeResult(r), want)
		}
	}
	if again := sheetbendRun(t, "export", file); again.stdout != exported.stdout {
		t.Error("what was exported is exported differently")
	}
	// One call, by its id and by its number.
	first, at := "", ^uint64(0)
	for _, s := range spans {
		if attribute(s, span.KeyEvent) == span.SessionCall.String() && uint64(s.StartTimestamp()) < at {
			first, at = attribute(s, span.KeyCallID), uint64(s.StartTimestamp())
		}
	}
	byID, byNumber := sheetbendRun(t, "tree", file, first), sheetbendRun(t, "tree", file, "1")
	if byID.code != 0 || byID.stdout != byNumber.stdout || !strings.Contains(byID.stdout, "1 call") || len(byID.stdout) >= len(want) {
		t.Errorf("%s\n%s", describeResult(byID), describeResult(byNumber))
	}
	for says, args := range map[string][]string{
		"there is no call":         {"tree", file, "no-such-call"},
		"no capture, no recording": {"tree", "/etc/hostname"},
		"line 1":                   {"story", capture + ".x"},
	} {
		if says == "line 1" {
			if err := os.WriteFile(capture+".x", []byte("{\"resourceSpans\":7}\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if r := sheetbendRun(t, args...); r.code != exitFailed || !strings.Contains(r.stderr, says) || r.stdout != "" {
			t.Errorf("%q: %s", says, describeResult(r))
		}
	}
	if torn := sheetbendRun(t, "export", cutShort(t, capture)); torn.code != exitFailed || !regexp.MustCompile(`capture ends within a record`).MatchString(torn.stderr) || torn.stdout == "" {
		t.Errorf("what came before the damage is to be shown: %d bytes, %s", len(torn.stdout), torn.stderr)
	}
}

// cutShort is a file without its last bytes.
func cutShort(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "torn")
	if err := os.WriteFile(out, text[:len(text)-3], 0o600); err != nil {
		t.Fatal(err)
	}
	return out
}

// A bare name is a session's: what an agent left in the working directory is not shown for one.
func TestAFileIsNotTakenForASession(t *testing.T) {
	for name, file := range map[string]bool{
		"": false, "01a0f5c2": false, "rec-1": false, "sb-1.2": false, "-": true, "./01a0f5c2": true, "a/b": true,
		"agent.capture": true, "session.cap": true, "spans.jsonl": true, "spans.json": true, "codex.capture.gz": true, "a.otlp.zst": true,
	} {
		if got := (source{name: name}).isFile(); got != file {
			t.Errorf("%q is a file: %t", name, got)
		}
	}
	cmd := sheetbend(t, "tree", "01a0f5c2", "--socket", "/nonexistent.sock")
	cmd.Dir = t.TempDir()
	spans := sheetbendRun(t, "export", unzipped(t, "codex")).stdout
	if err := os.WriteFile(filepath.Join(cmd.Dir, "01a0f5c2"), []byte(spans), 0o644); err != nil {
		t.Fatal(err)
	}
	if r := finish(t, cmd); r.code == 0 || r.stdout != "" {
		t.Error(describeResult(r))
	}
	dir := cmd.Dir
	cmd = sheetbend(t, "tree", "./01a0f5c2")
	cmd.Dir = dir
	if r := finish(t, cmd); r.code != 0 || !strings.Contains(r.stdout, "codex") {
		t.Error(describeResult(r))
	}
}

// A file that somebody made up takes no memory, and is told what is wrong with it.
func TestAFileThatWouldTakeMuchMemoryIsRefused(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ text, says string }{
		"a line too long":       {`{"a":"` + strings.Repeat("x", 17<<20) + `"}`, "line 1 is longer than 16 MiB"},
		"many spans in a line":  {`{"resourceSpans":[{"scopeSpans":[{"spans":[` + strings.Repeat("{},", 4<<20) + "{}]}]}]}", "fewer spans at a time"},
		"many spans, recorded":  {string(recordingOf(t, protowire.AppendBytes([]byte{0x12}, bytes.Repeat([]byte{0x12, 0}, 4<<20)))), "fewer spans at a time"},
		"values within another": {`{"a":` + strings.Repeat("[", 1000), "too deep"},
	} {
		file := filepath.Join(t.TempDir(), "spans")
		if err := os.WriteFile(file, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, command := range []string{"tree", "export"} {
			cmd := sheetbend(t, command, file)
			r := finish(t, cmd)
			if r.code == 0 || !strings.Contains(r.stderr, c.says) {
				t.Errorf("%s, %s: %s", name, command, describeResult(r))
			}
			if kib := cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss; kib > 250<<10 {
				t.Errorf("%s, %s: %d MiB", name, command, kib>>10)
			}
		}
	}
}

// recordingOf is a recording with the content of one ResourceSpans message.
func recordingOf(t *testing.T, spans []byte) []byte {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "recordings")
	r, err := recorder.Open(recorder.Options{
		Path: dir, MaxBytes: 1 << 30, MaxAge: time.Hour,
		Encode: func(b []byte, _ *span.Resource, encoded []byte) []byte {
			if len(encoded) == 0 {
				return b
			}
			return append(b, protowire.AppendBytes([]byte{0x0a}, spans)...)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	r.Span(&span.Span{Instance: "a", End: uint64(time.Now().UnixNano())}, []byte{1})
	if err := r.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	files, _ := filepath.Glob(filepath.Join(dir, "*.zst"))
	if len(files) != 1 {
		t.Fatal(files)
	}
	out, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	return out
}
