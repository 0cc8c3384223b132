// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"golang.org/x/sys/unix"

	"github.com/sheetbend/sheetbend/bpf/workload"
	"github.com/sheetbend/sheetbend/bpf/workload/workloadtest"
	"github.com/sheetbend/sheetbend/cmd/sheetbend/sensortest"
)

// mountBPFFS mounts a bpf file system of the test's own, and gives a directory for pins in it.
func mountBPFFS(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("bpf", dir, "bpf", 0, "mode=0700"); err != nil {
		t.Fatalf("mount a bpf file system: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Errorf("unmount the bpf file system: %v", err)
		}
	})
	return filepath.Join(dir, "pins")
}

// pinnedSensor is a sensor that leaves its hooks in the kernel.
func pinnedSensor(t *testing.T, conf string) *sensortest.Sensor {
	t.Helper()
	cmd := sheetbend(t, "sensor", "--config", conf)
	cmd.Args = slices.DeleteFunc(cmd.Args, func(a string) bool { return a == "--no-pin" })
	return sensortest.Start(t, cmd)
}

func TestWhatHappensWhileNoSensorRunsIsToldByTheNext(t *testing.T) {
	t.Parallel()
	m, cg := sensortest.Cgroup(t)
	if err := m.Create(cg + "/a"); err != nil {
		t.Fatal(err)
	}
	pins := mountBPFFS(t)
	spans := filepath.Join(t.TempDir(), "spans.jsonl")
	journal := filepath.Join(t.TempDir(), "journal")
	conf := configFile(t, fmt.Sprintf("sandboxes: [{cgroup: %s/a}]\nexporters: {file: {path: %s}}\npin_path: %s\njournal: %s\nsocket: ''\nhold: 300ms\n", cg, spans, pins, journal))
	for i, signal := range []unix.Signal{unix.SIGKILL, unix.SIGTERM, unix.SIGTERM} {
		log := pinnedSensor(t, conf)
		said := log.Hear("msg=watching")
		if resumed := strings.Contains(said, "resuming the hooks of the sensor"); resumed != (i > 0) {
			t.Errorf("start %d resumed: %t: %s", i, resumed, said)
		}
		log.End(signal)
		if i < 2 {
			_ = sensortest.Inside(t, m, cg+"/a", "sh", "-c", fmt.Sprint("exit ", 40+i)).Run()
		}
	}
	text, err := os.ReadFile(spans)
	if err != nil {
		t.Fatal(err)
	}
	codes := map[string]int{}
	for _, s := range parseSpans(t, text) {
		if attribute(s, "sheetbend.event") == "process.exec" {
			codes[attribute(s, "process.exit.code")]++
		}
	}
	if codes["40"] != 1 || codes["41"] != 1 {
		t.Errorf("exit codes %v, want 40 and 41 once each\n%s", codes, text)
	}
	r := sheetbendRun(t, "doctor", "--config", conf)
	if !strings.Contains(r.stdout, "of a sensor that does not run") {
		t.Errorf("doctor does not tell of the pins: %s", describeResult(r))
	}
	if r := sheetbendRun(t, "unpin", "--config", conf); r.code != 0 || r.stdout != "unpinned\n" {
		t.Error(describeResult(r))
	}
	if r := sheetbendRun(t, "unpin", "--config", conf); r.code != 0 || r.stdout != "nothing was pinned\n" {
		t.Error(describeResult(r))
	}
	for _, name := range []string{pins, journal} {
		if _, err := os.Stat(name); !os.IsNotExist(err) {
			t.Errorf("%s is left: %v", name, err)
		}
	}
}

func TestWithoutPinsNothingIsLeft(t *testing.T) {
	t.Parallel()
	_, cg := sensortest.Cgroup(t)
	pins := mountBPFFS(t)
	sensor := sheetbend(t, "sensor", "--config", configFile(t, fmt.Sprintf("sandboxes: [{cgroup: %s/a}]\nexporters: {file: {path: /dev/null}}\npin_path: %s\nsocket: ''\n", cg, pins)))
	log := sensortest.Start(t, sensor)
	log.Hear("msg=watching")
	if _, err := os.Stat(pins); !os.IsNotExist(err) {
		t.Errorf("pinned while it runs: %v", err)
	}
	log.End(unix.SIGKILL)
	if _, err := os.Stat(pins); !os.IsNotExist(err) {
		t.Errorf("left: %v", err)
	}
}

// tolerant reads spans of a file in which kills have left half lines, each span as text by its id.
func tolerant(t *testing.T, text []byte) (spans map[string]ptrace.Span, otherwise int) {
	t.Helper()
	spans = map[string]ptrace.Span{}
	said := map[string]string{}
	for line := range bytes.Lines(text) {
		d, err := (&ptrace.JSONUnmarshaler{}).UnmarshalTraces(line)
		if err != nil {
			continue
		}
		for _, s := range spansOf(d) {
			id := s.TraceID().String() + s.SpanID().String()
			attrs := s.Attributes().AsRaw()
			delete(attrs, "sheetbend.seq") // of a copy that comes after a kill these are others
			delete(attrs, "sheetbend.run")
			delete(attrs, "sheetbend.noise.opens")
			delete(attrs, "sheetbend.count.partial")
			as := fmt.Sprint(s.Name(), s.ParentSpanID(), s.StartTimestamp(), s.EndTimestamp(), attrs)
			if said[id] != "" && said[id] != as {
				if otherwise++; otherwise <= 2 {
					t.Errorf("one span, told in two ways:\n%.600s\n%.600s", said[id], as)
				}
			}
			said[id], spans[id] = as, s
		}
	}
	return spans, otherwise
}

func spansOf(d ptrace.Traces) (all []ptrace.Span) {
	for i := range d.ResourceSpans().Len() {
		rs := d.ResourceSpans().At(i)
		for j := range rs.ScopeSpans().Len() {
			for k := range rs.ScopeSpans().At(j).Spans().Len() {
				all = append(all, rs.ScopeSpans().At(j).Spans().At(k))
			}
		}
	}
	return all
}

func TestAKilledSensorLosesNothingAndKeepsWhatItKnows(t *testing.T) {
	t.Parallel()
	m, cg := sensortest.Cgroup(t)
	program := workloadtest.Build(t)
	if err := m.Create(cg + "/a"); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	out := filepath.Join(dir, "spans.jsonl")
	socket := filepath.Join(dir, "s")
	conf := configFile(t, fmt.Sprintf(`
sandboxes: [{cgroup: %s/a}]
exporters: {file: {path: %s}}
pin_path: %s
journal: %s
socket: %s
hold: 300ms
noise: []
fold: {files: 1000000}
limits: {ring_bytes: 64MiB}
`, cg, out, mountBPFFS(t), filepath.Join(dir, "journal"), socket))
	defer func() {
		if r := sheetbendRun(t, "unpin", "--config", conf); r.code != 0 {
			t.Error(describeResult(r))
		}
	}()
	log := pinnedSensor(t, conf)
	log.Hear("msg=watching")

	// A shell in a call, which outlives every sensor.
	shell := sensortest.Inside(t, m, cg+"/a", "sh", "-c", "read line; cat /etc/hostname; exit 7")
	stdin, err := shell.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := shell.Start(); err != nil {
		t.Fatal(err)
	}
	if r := sheetbendRun(t, "call", "begin", "--socket", socket, "--pid", fmt.Sprint(shell.Process.Pid), "--session", "s-9", "--call", "call-9"); r.code != 0 {
		t.Fatal(describeResult(r))
	}
	const count = 30000
	flood := sensortest.Inside(t, m, cg+"/a", program.Path(), "flood-files", fmt.Sprint(count))
	if err := flood.Start(); err != nil {
		t.Fatal(err)
	}
	over := make(chan error, 1)
	go func() { over <- flood.Wait() }()

	grown := func(than int64) int64 {
		for deadline := time.Now().Add(patience); ; {
			if st, err := os.Stat(out); err == nil && st.Size() > than {
				return st.Size()
			}
			if time.Now().After(deadline) {
				t.Fatal("no spans come")
			}
			select {
			case err := <-over:
				over <- err
				return than
			case <-time.After(5 * time.Millisecond):
			}
		}
	}
	size, kills := int64(0), 0
	for ended := false; !ended || kills < 3; kills++ {
		size = grown(size)
		log.End(unix.SIGKILL)
		select {
		case err := <-over:
			if err != nil {
				t.Errorf("the flood: %v", err)
			}
			ended = true
			over <- nil
		default:
		}
		log = pinnedSensor(t, conf)
		if said := log.Hear("msg=watching"); !strings.Contains(said, "resuming the hooks of the sensor") {
			t.Errorf("not gone on: %s", said)
		}
	}
	if _, err := fmt.Fprintln(stdin, "go"); err != nil {
		t.Fatal(err)
	}
	_ = shell.Wait()
	// What is not read at its end stays in the ring, for a next sensor that does not come.
	sensortest.Until(t, "the shell's end comes", func() bool {
		text, err := os.ReadFile(out)
		return err == nil && bytes.Contains(text, []byte(`"process.exit.code","value":{"intValue":"7"}`))
	})
	said := log.End(unix.SIGTERM)

	text, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	spans, otherwise := tolerant(t, text)
	if otherwise > 0 {
		t.Errorf("%d spans were told in two ways", otherwise)
	}
	opens, lost := 0, 0
	var sh, cat, exit []ptrace.Span
	shells := map[pcommon.SpanID]bool{}
	for _, s := range spans {
		switch {
		case attribute(s, "sheetbend.event") == "file.open" && (strings.Contains(attribute(s, "file.path"), strings.ToValidUTF8(workload.FloodName, "\uFFFD")) ||
			attribute(s, "sheetbend.file.access") == "create" && attribute(s, "sheetbend.folded") != ""):
			n, _ := strconv.Atoi(attribute(s, "sheetbend.count"))
			opens += n
		case attribute(s, "sheetbend.event") == "sensor.loss" && attribute(s, "sheetbend.lost.kind") == "open":
			n, _ := strconv.Atoi(attribute(s, "sheetbend.lost"))
			lost += n
		case attribute(s, "sheetbend.event") == "process.exec" && attribute(s, "process.pid") == fmt.Sprint(shell.Process.Pid):
			shells[s.SpanID()] = true
			if attribute(s, "sheetbend.stand_in") == "" { // for it in the slices after the kills
				if sh = append(sh, s); attribute(s, "process.exit.code") != "" {
					exit = append(exit, s)
				}
			}
		case attribute(s, "sheetbend.event") == "process.exit" && attribute(s, "process.pid") == fmt.Sprint(shell.Process.Pid):
			exit = append(exit, s)
		case attribute(s, "sheetbend.event") == "process.exec" && strings.HasPrefix(attribute(s, "process.command_line"), "cat "):
			cat = append(cat, s)
		}
	}
	t.Logf("%d kills, %d spans, %d opens and %d lost of %d", kills, len(spans), opens, lost, count)
	// While nobody reads, what others do in new directories beside the sandboxes lies in the same ring, and may be
	// lost, too.
	if opens > count || opens+lost < count || lost == 0 && opens != count {
		t.Errorf("%d opens told and %d lost, of %d", opens, lost, count)
	}
	if lost > 0 {
		t.Fatal("a ring of 64 MiB was too small")
	}
	if len(sh) != 1 || len(cat) != 1 || len(exit) != 1 {
		t.Fatalf("%d spans of the shell, %d of cat, %d ends of the shell: %s", len(sh), len(cat), len(exit), said)
	}
	if !shells[cat[0].ParentSpanID()] && !linksTo(cat[0], sh[0]) || attribute(exit[0], "process.exit.code") != "7" {
		t.Errorf("cat does not stand below its shell, or the shell's end is wrong: %v", exit[0].Attributes().AsRaw())
	}
	if got := attribute(cat[0], "gen_ai.tool.call.id"); got != "call-9" {
		t.Errorf("cat is of call %q", got)
	}
}

func linksTo(s, to ptrace.Span) bool {
	for i := range s.Links().Len() {
		if s.Links().At(i).SpanID() == to.SpanID() {
			return true
		}
	}
	return false
}
