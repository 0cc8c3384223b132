// SPDX-License-Identifier: Apache-2.0

package containerstest

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/sheetbend/sheetbend/bpf/workload/workloadtest"
	"github.com/sheetbend/sheetbend/cmd/sheetbend/sensortest"
)

const patience = sensortest.Patience

// programs ends the test when one of them is missing: with a skip, or where CI is set with a failure.
func programs(t *testing.T, names ...string) {
	t.Helper()
	workloadtest.Root(t)
	t.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin") // runc is there, and a user's path has neither
	if os.Getenv("SHEETBEND_BIN") == "" {
		names = append(names, "the sheetbend binary in SHEETBEND_BIN (make test-containers)")
	}
	for _, name := range names {
		if _, err := exec.LookPath(name); err != nil {
			if os.Getenv("CI") != "" {
				t.Fatalf("needs %s, and in CI nothing is skipped", name)
			}
			t.Skipf("needs %s", name)
		}
	}
}

// removeAll removes a runtime's directory: what cleans up after the last container may still be at work in it.
func removeAll(t *testing.T, dir string) {
	t.Helper()
	sensortest.Succeeds(t, "remove "+dir, func() error { return os.RemoveAll(dir) })
}

// A sensor is a running `sheetbend sensor`.
type sensor struct {
	*sensortest.Sensor
	sensorFile
}

// A sensorFile is what a sensor writes.
type sensorFile struct {
	t     *testing.T
	spans string
}

// watch starts the sensor on the containers in a cgroup, and waits until it watches.
func watch(t *testing.T, sandboxes, containers string) *sensor {
	t.Helper()
	dir := t.TempDir()
	spans := filepath.Join(dir, "spans.jsonl")
	conf := filepath.Join(dir, "sheetbend.yaml")
	text := fmt.Sprintf("sandboxes: %s\ncontainers: %s\nexporters: {file: {path: %s}}\nsocket: ''\n",
		sandboxes, containers, spans)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	bin, err := filepath.Abs(os.Getenv("SHEETBEND_BIN"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(bin, "sensor", "--no-pin", "--config", conf, "--log-level", "debug")
	s := &sensor{sensortest.Start(t, cmd), sensorFile{t, spans}}
	t.Cleanup(s.Stop)
	s.Hear("msg=watching")
	return s
}

// A seen span, with its resource.
type seen struct {
	attrs, resource   pcommon.Map
	trace, id, parent string // in hexadecimal; a root has no parent
}

func (s seen) attr(key string) string     { return text(s.attrs, key) }
func (s seen) resourceOf(k string) string { return text(s.resource, k) }

func text(m pcommon.Map, key string) string {
	if v, ok := m.Get(key); ok {
		return v.AsString()
	}
	return ""
}

// read gives the spans that have come out so far.
func (s *sensorFile) read() []seen {
	s.t.Helper()
	content, err := os.ReadFile(s.spans)
	if err != nil && !os.IsNotExist(err) {
		s.t.Fatal(err)
	}
	content = content[:bytes.LastIndexByte(content, '\n')+1]
	var out []seen
	for line := range bytes.Lines(content) {
		td, err := (&ptrace.JSONUnmarshaler{}).UnmarshalTraces(line)
		if err != nil {
			s.t.Fatal(err)
		}
		for _, rs := range td.ResourceSpans().All() {
			for _, ss := range rs.ScopeSpans().All() {
				for _, sp := range ss.Spans().All() {
					out = append(out, seen{
						sp.Attributes(), rs.Resource().Attributes(),
						sp.TraceID().String(), sp.SpanID().String(), sp.ParentSpanID().String(),
					})
				}
			}
		}
	}
	return out
}

// execs waits for the spans of programs with this word in their command line.
func (s *sensorFile) execs(t *testing.T, word string, want int) []seen {
	t.Helper()
	return s.find(t, word, want, func(sp seen) bool { return strings.Contains(sp.attr("process.command_line"), word) })
}

// find waits for the spans of programs that are wanted, or their notices.
func (s *sensorFile) find(t *testing.T, what string, want int, wanted func(seen) bool) []seen {
	t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		var found []seen
		for _, sp := range s.read() {
			if (sp.attr("sheetbend.event") == "process.start" || sp.attr("sheetbend.event") == "process.exec" && sp.attr("sheetbend.noticed") == "") && wanted(sp) {
				found = append(found, sp)
			}
		}
		if len(found) >= want {
			return found
		}
		if time.Now().After(end) {
			t.Fatalf("%d of %d spans: %s", len(found), want, what)
		}
	}
}

// says holds a span's resource against what is known of its container.
func says(t *testing.T, sp seen, want map[string]string) {
	t.Helper()
	for key, value := range want {
		if got := sp.resourceOf(key); got != value {
			t.Errorf("%s: %s is %q, want %q", sp.attr("process.command_line"), key, got, value)
		}
	}
	if id := sp.resourceOf("container.id"); id == "" || !strings.Contains(sp.attr("process.linux.cgroup"), id) {
		t.Errorf("%s: container.id %q in cgroup %s", sp.attr("process.command_line"), id, sp.attr("process.linux.cgroup"))
	}
	if sp.attr("sheetbend.container.unresolved") != "" {
		t.Errorf("%s is unresolved", sp.attr("process.command_line"))
	}
}
