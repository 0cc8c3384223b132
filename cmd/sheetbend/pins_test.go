// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// bpffs mounts a bpf file system of the test's own, and gives a directory for pins in it.
func bpffs(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("bpf", dir, "bpf", 0, "mode=0700"); err != nil {
		t.Fatalf("mount a bpf file system: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Errorf("unmount the bpf file system: %v", err)
		}
	})
	return filepath.Join(dir, "pins")
}

// pinnedSensor is a sensor that leaves its hooks in the kernel.
func pinnedSensor(t *testing.T, conf string) (*exec.Cmd, *listener) {
	t.Helper()
	cmd := sheetbend(t, "sensor", "--config", conf)
	cmd.Args = slices.DeleteFunc(cmd.Args, func(a string) bool { return a == "--no-pin" })
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd, listen(t, stderr)
}

func TestWhatHappensWhileNoSensorRunsIsToldByTheNext(t *testing.T) {
	t.Parallel()
	m, cg := hierarchy(t)
	if err := m.Create(cg + "/a"); err != nil {
		t.Fatal(err)
	}
	pins := bpffs(t)
	spans := filepath.Join(t.TempDir(), "spans.jsonl")
	conf := configFile(t, fmt.Sprintf("sandboxes: [{cgroup: %s/a}]\nexporters: {file: {path: %s}}\npin_path: %s\nsocket: ''\nhold: 300ms\n", cg, spans, pins))
	for i, signal := range []unix.Signal{unix.SIGKILL, unix.SIGTERM, unix.SIGTERM} {
		sensor, log := pinnedSensor(t, conf)
		said := log.hear("msg=watching")
		if resumed := strings.Contains(said, "going on with the hooks"); resumed != (i > 0) {
			t.Errorf("start %d resumed: %t: %s", i, resumed, said)
		}
		if err := sensor.Process.Signal(signal); err != nil {
			t.Fatal(err)
		}
		log.rest()
		_ = sensor.Wait()
		if i < 2 {
			_ = inside(t, m, cg+"/a", "sh", "-c", fmt.Sprint("exit ", 40+i)).Run()
		}
	}
	text, err := os.ReadFile(spans)
	if err != nil {
		t.Fatal(err)
	}
	codes := map[string]int{}
	for _, s := range parseSpans(t, text) {
		if s.Name() == "process.exec" {
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
	if _, err := os.Stat(pins); !os.IsNotExist(err) {
		t.Errorf("left: %v", err)
	}
}

func TestWithoutPinsNothingIsLeft(t *testing.T) {
	t.Parallel()
	_, cg := hierarchy(t)
	pins := bpffs(t)
	sensor := sheetbend(t, "sensor", "--config", configFile(t, fmt.Sprintf("sandboxes: [{cgroup: %s/a}]\nexporters: {file: {path: /dev/null}}\npin_path: %s\nsocket: ''\n", cg, pins)))
	stderr, err := sensor.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := sensor.Start(); err != nil {
		t.Fatal(err)
	}
	log := listen(t, stderr)
	log.hear("msg=watching")
	if _, err := os.Stat(pins); !os.IsNotExist(err) {
		t.Errorf("pinned while it runs: %v", err)
	}
	if err := sensor.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	log.rest()
	_ = sensor.Wait()
	if _, err := os.Stat(pins); !os.IsNotExist(err) {
		t.Errorf("left: %v", err)
	}
}
