// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"compress/gzip"
	_ "embed"
	"errors"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"
)

//go:embed microvm.sh
var microVMInit string

// What the agent of the microVM does.
const microVMAgent = `cat /etc/shadow >/dev/null
echo made >made
sh -c 'sh -c ": the inner"; exit 3'
rm made
`

// spansOf reads a span file.
func spansOf(t *testing.T, name string) (spans []ptrace.Span) {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(text) {
		td, err := (&ptrace.JSONUnmarshaler{}).UnmarshalTraces(bytes.TrimSpace(line))
		if err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		for _, rs := range td.ResourceSpans().All() {
			for _, ss := range rs.ScopeSpans().All() {
				for _, sp := range ss.Spans().All() {
					spans = append(spans, sp)
				}
			}
		}
	}
	return spans
}

func attribute(m pcommon.Map, key string) string {
	if v, ok := m.Get(key); ok {
		return v.AsString()
	}
	return ""
}

// What an agent does in a virtual machine of its own the sensor inside sees, and the host gets it by a serial line. The
// machine is that of Kata Containers with QEMU; its processor is emulated here.
func TestASensorInAMicroVMTellsItsHost(t *testing.T) {
	machine, _ := archNamed("amd64")
	if _, err := exec.LookPath(machine.qemu); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("needs %s, and in CI nothing is skipped", machine.pkg)
		}
		t.Skipf("needs %s (make test-microvm)", machine.pkg)
	}
	ctx, work := t.Context(), t.TempDir()
	base, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	cache := filepath.Join(base, "sheetbend", "kernels")
	k := kernelsOf("amd64")[2]
	img, err := fetch(ctx, k, cache)
	if err != nil {
		t.Fatal(err)
	}
	programs, err := fetchUserland(ctx, machine, cache)
	if err != nil {
		t.Fatal(err)
	}
	sensor := filepath.Join(work, "sheetbend")
	if err := goStatic(ctx, "../..", "amd64", "build", "-o", sensor, "./cmd/sheetbend"); err != nil {
		t.Fatal(err)
	}
	const conf = "sandboxes: [{cgroup: /agents/*, session: microvm, agent: scripted}]\n" +
		"exporters: {file: {path: /dev/ttyS1}}\nrecorder: {path: none}\nsocket: ''\n"
	initrd, out := filepath.Join(work, "initramfs.gz"), filepath.Join(work, "spans.jsonl")
	if err := writeMicroVM(initrd, programs["bin/busybox"], sensor, conf); err != nil {
		t.Fatal(err)
	}
	o := &options{
		out: os.Stderr, accel: "tcg", timeout: 5 * time.Minute, verbose: testing.Verbose(),
		devices: []string{
			"-machine", "q35", "-chardev", "file,id=spans,path=" + out, "-device", "isa-serial,chardev=spans,index=1",
		},
	}
	r, err := o.boot(ctx, k, img, initrd)
	if err != nil {
		t.Fatal(err)
	}
	if r.status["sensor"] != 0 || !r.finished {
		t.Fatalf("the sensor ended with %d:\n%s", r.status["sensor"], strings.Join(r.tail, "\n"))
	}
	spans := spansOf(t, out)
	told, parents := map[string]bool{}, map[pcommon.SpanID]pcommon.TraceID{}
	for _, sp := range spans {
		parents[sp.SpanID()] = sp.TraceID()
	}
	for _, sp := range spans {
		a := sp.Attributes()
		if at, ok := parents[sp.ParentSpanID()]; !sp.ParentSpanID().IsEmpty() && (!ok || at != sp.TraceID()) {
			t.Errorf("%s has no parent in its trace", sp.Name())
		}
		if id := attribute(a, "session.id"); id != "microvm" {
			t.Errorf("%s is of the session %q", sp.Name(), id)
		}
		event := attribute(a, "sheetbend.event")
		told[strings.Join([]string{event, attribute(a, "sheetbend.file.operation"), attribute(a, "file.path")}, " ")] = true
		told[event+" "+attribute(a, "process.command_line")+" exit "+attribute(a, "process.exit.code")] = true
	}
	for _, want := range []string{
		"process.exec cat /etc/shadow exit 0", "process.exec sh -c ': the inner' exit 0", "file.open  /etc/shadow",
		"file.change unlink /tmp/work/made",
	} {
		if !told[want] {
			t.Errorf("no %q", want)
		}
	}
	if told["sensor.loss  "] {
		t.Error("something was lost")
	}
	if t.Failed() {
		t.Logf("told:\n%s", strings.Join(slices.Sorted(maps.Keys(told)), "\n"))
	}
}

// writeMicroVM writes the file system of a guest that has a shell, the sensor and what the agent runs.
func writeMicroVM(name, busybox, sensor, conf string) (err error) {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	zip, err := gzip.NewWriterLevel(f, gzip.BestSpeed)
	if err != nil {
		return err
	}
	c := newCpio(zip)
	for _, d := range []string{"proc", "sys", "dev", "tmp", "root", "run"} {
		c.dir(d)
	}
	c.copyFile("bin/busybox", busybox)
	c.copyFile("bin/sheetbend", sensor)
	c.link("bin/sh", "busybox")
	c.file("init", 0o755, []byte(microVMInit))
	c.file("etc/agent.sh", 0o644, []byte(microVMAgent))
	c.file("etc/sheetbend.yaml", 0o600, []byte(conf))
	c.file("etc/shadow", 0o600, []byte("root:*:1::::::\n"))
	c.file("etc/machine-id", 0o444, []byte("5ee7be4d00000000000000000000d0c5\n"))
	c.end()
	return errors.Join(c.err, zip.Close())
}
