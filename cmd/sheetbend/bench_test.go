// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/sheetbend/sheetbend/collector/cgroup"
)

// BenchmarkResidentMemory reports what the daemon has resident, in MiB, while 10,000 processes
// live in one sandbox, and the most it had.
func BenchmarkResidentMemory(b *testing.B) {
	if os.Geteuid() != 0 {
		b.Skip("needs root: loads BPF programs and makes cgroups")
	}
	m, err := cgroup.Find()
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		resident, peak := residentWithProcesses(b, m, 10_000)
		b.ReportMetric(resident, "resident-MiB")
		b.ReportMetric(peak, "peak-MiB")
	}
	b.ReportMetric(0, "ns/op") // the time is the shell's
}

func residentWithProcesses(t testing.TB, m cgroup.Mount, processes int) (resident, peak float64) {
	t.Helper()
	cg := fmt.Sprintf("/sheetbend-bench-%d", os.Getpid())
	if err := m.Create(cg); err != nil {
		t.Fatal(err)
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		_ = m.Kill(ctx, cg)
		if err := m.Remove(ctx, cg); err != nil {
			t.Error(err)
		}
	}()
	dir, err := m.Open(cg)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	conf := filepath.Join(t.TempDir(), "sheetbend.yaml")
	text := fmt.Sprintf("sandboxes: [{cgroup: %s}]\nexporters: {file: {path: %s}}\nsocket: %s\npin_path: %s\njournal: %s\nrecorder: {path: %s}\n",
		cg, filepath.Join(t.TempDir(), "spans.jsonl"), filepath.Join(t.TempDir(), "s"), mountBPFFS(t), filepath.Join(t.TempDir(), "journal"), filepath.Join(t.TempDir(), "recordings"))
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}

	sensor := exec.Command("/proc/self/exe", "sensor", "--config", conf)
	sensor.Env = append(os.Environ(), asCommand+"=1")
	log, err := sensor.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := sensor.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sensor.Wait() }()
	defer func() { _ = sensor.Process.Signal(syscall.SIGTERM) }()
	for said := bufio.NewReader(log); ; {
		line, err := said.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(line, "watching") {
			break
		}
	}

	script := fmt.Sprintf("i=0; while [ $i -lt %d ]; do sleep 1000 & i=$((i+1)); done; echo all; wait", processes)
	load := exec.Command("sh", "-c", script)
	load.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd())}
	out, err := load.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := load.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = load.Wait() }()
	defer func() { _ = m.Kill(t.Context(), cg) }()
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", sensor.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("anonymous %.1f MiB, of files %.1f", mebibytes(t, status, "RssAnon"), mebibytes(t, status, "RssFile"))
	return mebibytes(t, status, "VmRSS"), mebibytes(t, status, "VmHWM")
}

func mebibytes(t testing.TB, status []byte, key string) float64 {
	t.Helper()
	found := regexp.MustCompile(key + `:\s+(\d+) kB`).FindSubmatch(status)
	if found == nil {
		t.Fatalf("no %s in /proc/PID/status", key)
	}
	kib, err := strconv.Atoi(string(found[1]))
	if err != nil {
		t.Fatal(err)
	}
	return float64(kib) / 1024
}
