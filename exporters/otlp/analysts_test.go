// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/sheetbend/sheetbend/collector/span"
	"github.com/sheetbend/sheetbend/enrich/marker/client"
	"github.com/sheetbend/sheetbend/exporters/otlp/jaegertest"
)

// A search is one of docs/analysts.md.
type search struct {
	question string
	tags     map[string]string
	longer   string // than so
}

// searches are those that the page has for Jaeger.
func searches(t *testing.T) (all []search) {
	t.Helper()
	page, err := os.ReadFile("../../docs/analysts.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, section := range strings.Split(string(page), "\n## ")[1:] {
		question, _, _ := strings.Cut(section, "\n")
		for _, block := range regexp.MustCompile("(?s)\n```jaeger\n(.*?)```").FindAllStringSubmatch(section, -1) {
			s := search{question: question, tags: map[string]string{}}
			for line := range strings.Lines(block[1]) {
				line = strings.TrimSpace(line)
				if longer, ok := strings.CutPrefix(line, "min duration: "); ok {
					s.longer = longer
					continue
				}
				for _, tag := range strings.Fields(line) {
					key, value, ok := strings.Cut(tag, "=")
					if !ok {
						t.Errorf("%s: %q is no tag", question, tag)
					}
					s.tags[key] = value
				}
			}
			all = append(all, s)
		}
	}
	return all
}

// A sentSpan is a span as it was sent.
type sentSpan struct {
	service, trace string
	tags           map[string]string
	lasts          time.Duration
}

func sentIn(t *testing.T, files ...string) (sent []sentSpan) {
	t.Helper()
	var d ptrace.JSONUnmarshaler
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for line := range bytes.Lines(content) {
			traces, err := d.UnmarshalTraces(line)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range traces.ResourceSpans().All() {
				service, _ := r.Resource().Attributes().Get(span.KeyServiceName)
				for _, scope := range r.ScopeSpans().All() {
					for _, s := range scope.Spans().All() {
						one := sentSpan{
							service: service.Str(), trace: s.TraceID().String(), tags: map[string]string{},
							lasts: s.EndTimestamp().AsTime().Sub(s.StartTimestamp().AsTime()),
						}
						for key, value := range s.Attributes().All() {
							one.tags[key] = value.AsString()
						}
						sent = append(sent, one)
					}
				}
			}
		}
	}
	return sent
}

// matches says whether the search is for it.
func (s *sentSpan) matches(t *testing.T, q search) bool {
	t.Helper()
	if q.longer != "" {
		longer, err := time.ParseDuration(q.longer)
		if err != nil {
			t.Fatal(err)
		}
		if s.lasts < longer {
			return false
		}
	}
	for key, value := range q.tags {
		if s.tags[key] != value {
			return false
		}
	}
	return true
}

// Each question of docs/analysts.md that has a search in Jaeger is answered by it: with the traces of all spans that were
// sent and are meant, and no others.
func TestJaegerAnswersTheQuestionsOfAnalysts(t *testing.T) {
	bin := os.Getenv("SHEETBEND_BIN")
	if bin == "" || os.Geteuid() != 0 {
		if os.Getenv("CI") != "" {
			t.Fatal("needs root, and the sheetbend binary in SHEETBEND_BIN (`make test-jaeger` builds it)")
		}
		t.Skip("needs root, and the sheetbend binary in SHEETBEND_BIN (`make test-jaeger` builds it)")
	}
	j := jaegertest.Start(t)
	dir := t.TempDir()
	to := []string{"--otlp-endpoint", "http://" + j.OTLP, "--output"}

	// A recorded agent, of whose calls one fails.
	capture := filepath.Join(dir, "codex.capture")
	unzip(t, filepath.Join("..", "..", "testdata", "agents", "codex.capture.gz"), capture)
	replayed := filepath.Join(dir, "replayed.jsonl")
	command(t, dir, bin, slices.Concat([]string{"replay"}, to, []string{replayed, capture})...)

	// A shell whose calls the test marks.
	if err := os.WriteFile(filepath.Join(dir, ".netrc"), []byte("machine x"), 0o600); err != nil {
		t.Fatal(err)
	}
	run := filepath.Join(dir, "run.jsonl")
	shellWithCalls(t, dir, exec.Command(bin, slices.Concat([]string{"run", "--session", "analyst"}, to, []string{run})...), []string{
		"cat .netrc; echo x >made; rm made; echo y >stays; (exec 3<>/dev/tcp/127.0.0.1/9); :",
		"sleep 5.3",
		"(sleep 1; cat stays) >/dev/null 2>&1 &",
	})

	// What no ordinary session has.
	rare := filepath.Join(dir, "rare.jsonl")
	sendRare(t, j, rare)

	sent := sentIn(t, replayed, run, rare)
	services := map[string]bool{}
	for _, s := range sent {
		services[s.service] = true
	}
	all := searches(t)
	if len(all) < 12 {
		t.Errorf("%d searches", len(all))
	}
	for _, q := range all {
		for key, value := range q.tags {
			switch value {
			case "C":
				q.tags[key] = "c1"
			case "S":
				q.tags[key] = "analyst"
			}
		}
		found := 0
		for _, service := range slices.Sorted(maps.Keys(services)) {
			meant := map[string]bool{}
			for _, s := range sent {
				if s.service == service && s.matches(t, q) {
					meant[s.trace] = true
				}
			}
			want := slices.Sorted(maps.Keys(meant))
			found += len(want)
			var got []string
			// What was sent last may not be there yet.
			for late, again := time.After(20*time.Second), time.Tick(50*time.Millisecond); ; {
				got = j.Search(t, service, q.tags, q.longer)
				if slices.Equal(got, want) {
					break
				}
				select {
				case <-again:
					continue
				case <-late:
				}
				break
			}
			if !slices.Equal(got, want) {
				t.Errorf("%s (%v %s) of %s: got the traces %q, want %q", q.question, q.tags, q.longer, service, got, want)
			}
		}
		if found == 0 {
			t.Errorf("%s (%v %s): nothing was sent that it is about", q.question, q.tags, q.longer)
		}
	}
}

// sendRare sends spans that are made here, and writes them to a file.
func sendRare(t *testing.T, j *jaegertest.Jaeger, file string) {
	t.Helper()
	c := startSender(t, SenderConfig{Endpoint: plain(j.OTLP)})
	defer c.Close()
	var lines []byte
	e := NewEncoder("test", Limits{}, func(b Batch) {
		if r, err := c.Send(t.Context(), b); err != nil || r.Rejected > 0 {
			t.Errorf("%+v, %v", r, err)
		}
		traces, err := (&ptrace.ProtoUnmarshaler{}).UnmarshalTraces(b.AppendRequest(nil))
		if err != nil {
			t.Fatal(err)
		}
		line, err := (&ptrace.JSONMarshaler{}).MarshalTraces(traces)
		if err != nil {
			t.Fatal(err)
		}
		lines = append(append(lines, line...), '\n')
	})
	resource := &span.Resource{Attrs: []span.Attr{str(span.KeyServiceName, "rare")}}
	for i, s := range []span.Span{
		{Kind: span.SessionCall, Attrs: []span.Attr{flag(span.KeyApprovalViolated, true)}},
		{Kind: span.SessionCall, Attrs: []span.Attr{str(span.KeyApproval, "denied")}},
		{Kind: span.Open, Attrs: []span.Attr{flag(span.KeyOutside, true), str(span.KeyFilePath, "/etc/cron.d/x")}},
		{Kind: span.Connect, Attrs: []span.Attr{flag(span.KeyNewDestination, true)}},
		{Kind: span.Connect},
		{Kind: span.Loss, Attrs: []span.Attr{num(span.KeyLost, 3)}},
	} {
		s.Trace, s.ID = span.TraceFor(fmt.Sprint("rare ", i), "", 0), span.ID{byte(i + 1)}
		s.Name, s.Resource = s.Kind.String(), resource
		s.Start = uint64(time.Now().UnixNano())
		s.End = s.Start + 1000
		s.Attrs = append(s.Attrs, str(span.KeyEvent, s.Kind.String()))
		e.Span(&s)
	}
	e.Flush()
	if err := os.WriteFile(file, lines, 0o600); err != nil {
		t.Fatal(err)
	}
}

// shellWithCalls runs a shell below cmd, which has each line as a call of its own: c1, c2 and so on.
func shellWithCalls(t *testing.T, dir string, cmd *exec.Cmd, lines []string) {
	t.Helper()
	cmd.Args = append(cmd.Args, "--", "bash", "-c", `echo "$SHEETBEND_SOCKET $$"; while read -r line; do eval "$line"; echo "done"; done; wait; :`)
	cmd.Dir = dir
	var failed bytes.Buffer
	cmd.Stderr = &failed
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
	out := bufio.NewScanner(stdout)
	hear := func(end string) string {
		for out.Scan() {
			if strings.HasSuffix(out.Text(), end) {
				return out.Text()
			}
		}
		t.Fatalf("the shell says no %q: %s", end, &failed)
		return ""
	}
	socket, number, _ := strings.Cut(hear(""), " ")
	pid, err := strconv.Atoi(number)
	if err != nil {
		t.Fatal(err)
	}
	c := client.New(socket)
	for i, line := range lines {
		m := client.Mark{Session: "analyst", Call: fmt.Sprint("c", i+1), Tool: "bash", PID: pid}
		if err := c.Begin(t.Context(), m); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(in, line+"\n"); err != nil {
			t.Fatal(err)
		}
		hear("done")
		if err := c.End(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
	_ = in.Close()
	for out.Scan() { // the tree
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v\n%s", err, &failed)
	}
}

func command(t *testing.T, dir, bin string, args ...string) {
	t.Helper()
	cmd := exec.Command(bin, args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

func unzip(t *testing.T, from, to string) {
	t.Helper()
	f, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	content, err := io.ReadAll(z)
	if err == nil {
		err = os.WriteFile(to, content, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}
