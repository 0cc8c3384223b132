// SPDX-License-Identifier: Apache-2.0

package chaostest

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sheetbend/sheetbend/cmd/sheetbend/sensortest"
)

const patience = sensortest.Patience

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
	*sensortest.Sensor
	cmd     *exec.Cmd
	metrics string // URL
}

func binary(t *testing.T) string {
	t.Helper()
	return binaryOf(t, "SHEETBEND_BIN", "make test-chaos")
}

// binaryOf gives the path in an environment variable that a target of make sets.
func binaryOf(t *testing.T, variable, target string) string {
	t.Helper()
	bin := os.Getenv(variable)
	if bin == "" {
		if os.Getenv("CI") != "" {
			t.Fatalf("needs the binary in %s, and in CI nothing is skipped", variable)
		}
		t.Skipf("needs the binary in %s: %s", variable, target)
	}
	bin, err := filepath.Abs(bin)
	if err != nil {
		t.Fatal(err)
	}
	return bin
}

// command is a sensor with a configuration, of the binary at a path.
func command(t *testing.T, path, config string) *exec.Cmd {
	t.Helper()
	file := filepath.Join(t.TempDir(), "sheetbend.yaml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, "sensor", "--config", file)
	for _, pair := range os.Environ() {
		if !strings.HasPrefix(pair, "OTEL_") {
			cmd.Env = append(cmd.Env, pair)
		}
	}
	return cmd
}

// start starts a sensor, and waits until it watches.
func start(t *testing.T, path, config string) *sensor {
	t.Helper()
	cmd := command(t, path, config)
	s := &sensor{Sensor: sensortest.Start(t, cmd), cmd: cmd}
	s.Hear(`msg="serving metrics"`)
	log := s.Hear("msg=watching")
	at := regexp.MustCompile(`msg="serving metrics" listen=(\S+)`).FindStringSubmatch(log)
	if at == nil {
		t.Fatalf("metrics are not served:\n%s", log)
	}
	s.metrics = "http://" + at[1] + "/metrics"
	return s
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
