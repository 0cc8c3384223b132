// SPDX-License-Identifier: Apache-2.0

package chaostest

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sheetbend/sheetbend/bpf/workload/workloadtest"
	"github.com/sheetbend/sheetbend/collector/cgroup"
)

// patience bounds every wait. Machines are shared; nothing depends on the time it takes.
const patience = 3 * time.Minute

// length is how long each case goes on: $SHEETBEND_CHAOS, or a few seconds.
func length(t *testing.T) time.Duration {
	t.Helper()
	text := os.Getenv("SHEETBEND_CHAOS")
	if text == "" {
		return 4 * time.Second
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// await polls: what is waited for happens in other processes.
func await(t *testing.T, what string, done func() bool) {
	t.Helper()
	ticks := time.NewTicker(50 * time.Millisecond)
	defer ticks.Stop()
	end := time.After(patience)
	for !done() {
		select {
		case <-ticks.C:
		case <-end:
			t.Fatalf("in vain: %s", what)
		}
	}
}

// tree makes a cgroup for sandboxes, and removes it with all that is in it.
func tree(t *testing.T) (cgroup.Mount, string) {
	t.Helper()
	workloadtest.Root(t)
	m, err := cgroup.Find()
	if err != nil {
		t.Fatal(err)
	}
	cg := fmt.Sprintf("/sheetbend-chaos-%d-%d", os.Getpid(), time.Now().UnixNano())
	if err := m.Create(cg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		_ = m.Kill(ctx, cg)
		if err := m.Remove(ctx, cg); err != nil {
			t.Error(err)
		}
	})
	return m, cg
}

// bpffs mounts a bpf file system of the test's own, with which goes what is pinned in it, and gives a directory there.
func bpffs(t *testing.T) string {
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

// A sensor is a running `sheetbend sensor`.
type sensor struct {
	t       *testing.T
	cmd     *exec.Cmd
	metrics string // URL
	ended   chan struct{}

	mu  sync.Mutex
	log strings.Builder
}

func binary(t *testing.T) string {
	t.Helper()
	bin := os.Getenv("SHEETBEND_BIN")
	if bin == "" {
		if os.Getenv("CI") != "" {
			t.Fatal("needs the binary in SHEETBEND_BIN, and in CI nothing is skipped")
		}
		t.Skip("needs the binary in SHEETBEND_BIN: make test-chaos")
	}
	bin, err := filepath.Abs(bin)
	if err != nil {
		t.Fatal(err)
	}
	return bin
}

// start starts a sensor with a configuration, and waits until it watches.
func start(t *testing.T, config string) *sensor {
	t.Helper()
	file := filepath.Join(t.TempDir(), "sheetbend.yaml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	s := &sensor{t: t, ended: make(chan struct{})}
	s.cmd = exec.Command(binary(t), "sensor", "--config", file)
	for _, pair := range os.Environ() {
		if !strings.HasPrefix(pair, "OTEL_") {
			s.cmd.Env = append(s.cmd.Env, pair)
		}
	}
	stderr, err := s.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(s.ended)
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			s.mu.Lock()
			s.log.WriteString(lines.Text() + "\n")
			s.mu.Unlock()
		}
	}()
	t.Cleanup(func() {
		if s.cmd.ProcessState == nil {
			s.kill()
		}
		if t.Failed() {
			t.Logf("log of the sensor:\n%s", s.said())
		}
	})
	served := regexp.MustCompile(`msg="serving metrics" listen=(\S+)`)
	await(t, "the sensor watches", func() bool {
		select {
		case <-s.ended:
			t.Fatalf("the sensor ended:\n%s", s.said())
		default:
		}
		said := s.said()
		if at := served.FindStringSubmatch(said); at != nil {
			s.metrics = "http://" + at[1] + "/metrics"
		}
		return s.metrics != "" && strings.Contains(said, "msg=watching")
	})
	return s
}

func (s *sensor) said() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.String()
}

// stop ends the sensor as an administrator does; then its log is complete.
func (s *sensor) stop() {
	s.t.Helper()
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		s.t.Error(err)
	}
	select {
	case <-s.ended:
	case <-time.After(patience):
		s.t.Fatal("SIGTERM does not end the sensor")
	}
	if err := s.cmd.Wait(); err != nil {
		s.t.Errorf("sensor: %v\n%s", err, s.said())
	}
}

func (s *sensor) kill() {
	_ = s.cmd.Process.Kill()
	<-s.ended
	_ = s.cmd.Wait()
}

// scrape gives the metrics by their names with labels.
func (s *sensor) scrape() (map[string]float64, error) {
	resp, err := (&http.Client{Timeout: patience}).Get(s.metrics)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	all := map[string]float64{}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSuffix(line, "\n")
		at := strings.LastIndexByte(line, ' ')
		if at < 0 || line[0] == '#' {
			continue
		}
		v, err := strconv.ParseFloat(line[at+1:], 64)
		if err != nil {
			return nil, fmt.Errorf("metrics: %q: %w", line, err)
		}
		all[line[:at]] = v
	}
	return all, nil
}

// sum adds the metrics of a name whose labels contain each of the texts.
func sum(all map[string]float64, name string, labels ...string) (total float64) {
next:
	for key, v := range all {
		if base, _, _ := strings.Cut(key, "{"); base != name {
			continue
		}
		for _, l := range labels {
			if !strings.Contains(key, l) {
				continue next
			}
		}
		total += v
	}
	return total
}

// dropped are the spans that the sensor says it lost on the way to the backend, but those that the backend rejected.
func dropped(all map[string]float64) int {
	n := 0.0
	for _, outcome := range []string{"refused", "memory_full", "disk_fails", "spool_full", "too_old", "damaged", "shutdown", "earlier_run"} {
		n += sum(all, "sheetbend_export_spans_total", `outcome="`+outcome+`"`)
	}
	return int(n)
}
