// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/sheetbend/sheetbend/collector/span"
	"github.com/sheetbend/sheetbend/exporters/otlp/jaegertest"
)

func TestJaegerShowsTheTreeWithoutWarnings(t *testing.T) {
	j := jaegertest.Start(t)

	const boot = "4d1b2c3e-0000-4000-8000-000000000001"
	trace := span.TraceFor("jaeger-test", "", 0)
	shell := span.ExecSpan(boot, span.Image{Tgid: 100, Start: 1, ExecID: 1})
	curl := span.ExecSpan(boot, span.Image{Tgid: 101, Start: 2, ExecID: 2})
	// In a later slice: a link of a root into its own trace is a parent to Jaeger (ParentSpanID of
	// jaeger-idl's model), and one that is not there, so it would warn.
	sessionLink := span.Ref{Link: span.Link{Trace: trace, Span: span.SessionSpan("jaeger-test", 0)}, Rel: span.ToStory}
	trace = span.TraceFor("jaeger-test", "", 1)
	resource := &span.Resource{Attrs: []span.Attr{str(span.KeyServiceName, "sheetbend-jaeger-test"), str("host.name", "test")}}
	begin := uint64(time.Now().Add(-time.Minute).UnixNano())
	at := func(s span.Span, from, to uint64) span.Span {
		s.Trace, s.Name, s.Resource = trace, s.Kind.String(), resource
		s.Start, s.End = begin+from, begin+to
		return s
	}
	spans := []span.Span{
		at(span.Span{ID: shell, Kind: span.Exec, Links: []span.Ref{sessionLink}, Attrs: []span.Attr{list(span.KeyCommandArgs, "sh", "-c", "curl"), num(span.KeyPID, 100)}}, 0, 5_000_000),
		at(span.Span{ID: curl, Parent: shell, Kind: span.Exec, Failed: true, Status: "exit code 7", Attrs: []span.Attr{num(span.KeyExitCode, 7)}}, 1_000_000, 4_000_000),
		at(span.Span{ID: span.ID{1}, Parent: curl, Kind: span.Open, Attrs: []span.Attr{str(span.KeyFilePath, "/tmp/\x1b[31m\u202e")}}, 2_000_000, 2_001_000),
		at(span.Span{ID: span.ID{2}, Parent: curl, Kind: span.Connect, Failed: true, Attrs: []span.Attr{flag(span.KeyPartial, true)}}, 3_000_000, 3_001_000),
		at(span.Span{ID: span.ID{3}, Parent: shell, Kind: span.Exit}, 0, 9_000_000_000), // ends after its parent
	}
	c := startSender(t, SenderConfig{Endpoint: plain(j.OTLP)})
	defer c.Close()
	e := NewEncoder("test", Limits{Spans: 2}, func(b Batch) {
		if r, err := c.Send(t.Context(), b); err != nil || r.Rejected > 0 {
			t.Errorf("%+v, %v", r, err)
		}
	})
	// The children come first, and are looked at before their parent is there.
	for i := range spans[1:] {
		e.Span(&spans[1+i])
	}
	e.Flush()
	j.Wait(t, trace, func(got ptrace.Traces) bool { return got.SpanCount() == len(spans)-1 })
	e.Span(&spans[0])
	e.Flush()

	shown := j.Trace(t, trace, len(spans))
	byID := make(map[string]jaegertest.Span)
	for _, s := range shown {
		byID[s.SpanID] = s
	}
	for _, want := range spans {
		got, ok := byID[hex.EncodeToString(want.ID[:])]
		if !ok {
			t.Errorf("%s %x is not there", want.Name, want.ID)
			continue
		}
		if len(got.Warnings) > 0 {
			t.Errorf("%s has the warnings %q", want.Name, got.Warnings)
		}
		if got.OperationName != want.Name || got.Duration != (want.End-want.Start)/1000 {
			t.Errorf("got %s of %d µs, want %s of %d ns", got.OperationName, got.Duration, want.Name, want.End-want.Start)
		}
		parent := ""
		for _, r := range got.References {
			if r.RefType == "CHILD_OF" {
				parent = r.SpanID
			}
		}
		wantParent := ""
		if want.Parent != (span.ID{}) {
			wantParent = hex.EncodeToString(want.Parent[:])
		}
		if parent != wantParent {
			t.Errorf("%s has the parent %q, want %q", want.Name, parent, wantParent)
		}
		isError := false
		for _, tag := range got.Tags {
			isError = isError || tag.Key == "error" && tag.Value == true
		}
		if isError != want.Failed {
			t.Errorf("%s: error is %t, want %t", want.Name, isError, want.Failed)
		}
	}
}

func TestJaegerShowsWhatRunSendsAsOneTreeWithoutWarnings(t *testing.T) {
	bin := os.Getenv("SHEETBEND_BIN")
	if bin == "" || os.Geteuid() != 0 {
		if os.Getenv("CI") != "" {
			t.Fatal("needs root, and the sheetbend binary in SHEETBEND_BIN (`make test-jaeger` builds it)")
		}
		t.Skip("needs root, and the sheetbend binary in SHEETBEND_BIN (`make test-jaeger` builds it)")
	}
	j := jaegertest.Start(t)
	session := fmt.Sprintf("jaeger-run-%d", os.Getpid())
	dir := t.TempDir()
	config := filepath.Join(dir, "sheetbend.yaml")
	if err := os.WriteFile(config, []byte("hold: 200ms\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	// sleep outlives the hold, and with it bash: there are notices of both.
	script := "echo x >f; cat f /nonexistent; sh -c 'cat f | wc -l'; (exec 3<>/dev/tcp/127.0.0.1/9); sleep 2; cat f; :"
	run := exec.Command(bin, "run", "--config", config, "--session", session, "--otlp-endpoint", "http://"+j.OTLP, "--output", "sent.jsonl", "--", "bash", "-c", script)
	run.Dir = dir
	if out, err := run.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	trace, sent := spansIn(t, filepath.Join(dir, "sent.jsonl"))
	shown := j.Trace(t, trace, len(sent))
	ids := map[string]bool{}
	count := map[string]int{}
	connects := 0 // to the discard port: bash asks nscd, too, who it is, in an environment without SHELL
	for _, s := range shown {
		ids[s.SpanID] = true
		count[s.Tag(span.KeyEvent)]++
		if s.Tag(span.KeyEvent) == "net.connect" && s.Tag(span.KeyPeerPort) == "9" {
			connects++
		}
	}
	for _, id := range sent {
		if !ids[id] {
			t.Errorf("span %s was sent and is not there", id)
		}
	}
	exits := map[string]int{} // by the process.exec that they end
	for _, s := range shown {
		if len(s.Warnings) > 0 {
			t.Errorf("%s has the warnings %q", s.OperationName, s.Warnings)
		}
		for _, r := range s.References {
			if r.RefType == "CHILD_OF" && !ids[r.SpanID] {
				t.Errorf("%s has a parent that is not in the trace", s.OperationName)
			}
			if s.Tag(span.KeyEvent) == "process.exit" && s.Tag(span.KeyWorker) == "" {
				exits[r.SpanID]++
			}
		}
	}
	for _, s := range shown {
		want := 0
		for _, tag := range s.Tags {
			if s.Tag(span.KeyEvent) == "process.exec" && tag.Key == span.KeyPartial {
				want = 1
			}
		}
		if exits[s.SpanID] != want {
			t.Errorf("%s %s has %d process.exit, want %d", s.OperationName, s.SpanID, exits[s.SpanID], want)
		}
	}
	// The one process.exit is of the subshell that fails to connect: a fork without a program of its own.
	const processes = 7 // bash, cat, sh, cat, wc, sleep, and cat after the notice of bash was sent
	if len(shown) != len(sent) || count["process.exec"] != processes || count["process.start"] < 2 || count["process.exit"] != 1 || connects != 1 || count["file.open"] == 0 {
		t.Errorf("%d spans were sent, shown are %v", len(sent), count)
	}
}

// spansIn gives the trace and the ids of the spans in an OTLP file, which are all of one.
func spansIn(t *testing.T, path string) (trace [16]byte, ids []string) {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var d ptrace.JSONUnmarshaler
	for line := range bytes.Lines(content) {
		traces, err := d.UnmarshalTraces(line)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range traces.ResourceSpans().All() {
			for _, scope := range r.ScopeSpans().All() {
				for _, s := range scope.Spans().All() {
					trace, ids = s.TraceID(), append(ids, s.SpanID().String())
				}
			}
		}
	}
	return trace, ids
}
