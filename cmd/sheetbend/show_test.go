// SPDX-License-Identifier: Apache-2.0

package main

import (
	"compress/gzip"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/sheetbend/sheetbend/collector/span"
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
