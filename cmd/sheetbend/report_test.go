// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"compress/gzip"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// ofAgent is a recorded session of testdata/agents as a file of its own.
func ofAgent(t *testing.T, name string) string {
	t.Helper()
	packed, err := os.ReadFile(filepath.Join("..", "..", "testdata", "agents", name+".capture.gz"))
	if err != nil {
		t.Fatal(err)
	}
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	raw, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), name+".capture")
	if err := os.WriteFile(file, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestAReportReplacesNoFileUnlessItIsToldTo(t *testing.T) {
	from := ofAgent(t, "my-harness")
	to := filepath.Join(t.TempDir(), "report.html")
	write := func(force bool) (string, error) {
		var said strings.Builder
		err := writeReport(&said, source{ctx: t.Context(), name: from}, to, force)
		return said.String(), err
	}
	said, err := write(false)
	if err != nil || said != "The report is in "+to+"\n" {
		t.Fatalf("%q, %v", said, err)
	}
	first, err := os.ReadFile(to)
	if err != nil || !bytes.HasPrefix(first, []byte("<!doctype html>")) || !bytes.HasSuffix(first, []byte("</html>\n")) {
		t.Fatalf("%d bytes, %v: no page", len(first), err)
	}
	if info, err := os.Stat(to); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v: what an agent did is private", info, err)
	}
	if err := os.WriteFile(to, []byte("kept"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := write(false); err == nil || !strings.Contains(err.Error(), "--force") {
		t.Errorf("error %v, want one that names --force", err)
	}
	if _, err := (identity{}).openOutput(to, createNew); !os.IsExist(err) {
		t.Errorf("error %v: what has come since is replaced", err)
	}
	if text, err := os.ReadFile(to); err != nil || string(text) != "kept" {
		t.Errorf("%d bytes, %v: the file is another", len(text), err)
	}
	if _, err := write(true); err != nil {
		t.Error(err)
	}
	if again, err := os.ReadFile(to); err != nil || !bytes.Equal(again, first) {
		t.Errorf("%d bytes, not the same %d again, %v", len(again), len(first), err)
	}
}

func TestNamesOfReports(t *testing.T) {
	for from, want := range map[string]string{
		"/x/agent.capture": "agent.html", "a.jsonl.zst": "a.html", "b.capture.gz": "b.html", "01a2-b3": "01a2-b3.html",
		"v1.2": "v1.2.html", "": "report.html", "-": "report.html", ".capture": ".capture.html",
	} {
		if got := reportName(from); got != want {
			t.Errorf("%s: %s, not %s", from, got, want)
		}
	}
}

// TestAReportOfASpanFileIsThatOfTheCapture holds that nothing is lost on the way through OTLP, and that of a file that
// is cut short there is a report of what came before.
func TestAReportOfASpanFileIsThatOfTheCapture(t *testing.T) {
	dir := t.TempDir()
	from, lines := ofAgent(t, "codex"), filepath.Join(dir, "spans.jsonl")
	if code := execute(t.Context(), []string{"replay", "--output", lines, from}); code != 0 {
		t.Fatalf("replay exits with %d", code)
	}
	pages := make(map[string][]byte)
	for name, file := range map[string]string{"capture": from, "spans": lines} {
		var page bytes.Buffer
		if err := writeReport(&page, source{ctx: t.Context(), name: file}, "-", false); err != nil {
			t.Fatal(err)
		}
		pages[name] = page.Bytes()
	}
	if !bytes.Equal(pages["capture"], pages["spans"]) {
		t.Errorf("a page of %d bytes, and of %d from spans", len(pages["capture"]), len(pages["spans"]))
	}
	whole, err := os.ReadFile(lines)
	if err != nil {
		t.Fatal(err)
	}
	first, _, _ := bytes.Cut(whole, []byte("\n"))
	if err := os.WriteFile(lines, append(first, "\n{"...), 0o600); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(dir, "cut.html")
	var said strings.Builder
	if err := writeReport(&said, source{ctx: t.Context(), name: lines}, out, false); err == nil || said.String() == "" {
		t.Errorf("%q, %v: want a report and an error", said.String(), err)
	}
	if info, err := os.Stat(out); err != nil || info.Size() < 30_000 {
		t.Errorf("%v, %v: no report", info, err)
	}
}
