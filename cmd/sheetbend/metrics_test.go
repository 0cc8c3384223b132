// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/sheetbend/sheetbend/cmd/sheetbend/sensortest"
	"github.com/sheetbend/sheetbend/collector/span"
	"github.com/sheetbend/sheetbend/enrich/host"
)

func TestTheSensorServesWhatItCounts(t *testing.T) {
	t.Parallel()
	m, cg := sensortest.Cgroup(t)
	if err := m.Create(cg + "/a"); err != nil {
		t.Fatal(err)
	}
	id, err := m.ID(cg + "/a")
	if err != nil {
		t.Fatal(err)
	}
	bootID, err := host.BootID()
	if err != nil {
		t.Fatal(err)
	}
	works, away := serve(t), nobody(t)
	log, stop := startSensor(t, configFile(t, fmt.Sprintf(`
sandboxes: [{cgroup: %s/a, session: s}]
socket: ""
hold: 200ms
limits: {cgroups: 16}
metrics: {listen: "127.0.0.1:0", pprof: true}
spool: {path: %s}
recorder: {path: %s}
exporters:
  otlp:
  - {endpoint: "http://%s", signals: [traces, logs]}
  - endpoint: http://%s
`, cg, spoolFor(t), filepath.Join(t.TempDir(), "recordings"), works.addr, away)))
	at := regexp.MustCompile(`serving metrics" listen=(\S+)`).FindStringSubmatch(log.Hear("serving metrics"))
	if at == nil {
		t.Fatal("no address")
	}
	get := func(path string) (int, string) {
		t.Helper()
		r, err := http.Get("http://" + at[1] + path)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Fatal(err)
		}
		return r.StatusCode, string(body)
	}
	live := sensortest.Inside(t, m, cg+"/a", "sh", "-c", "cat /etc/hostname /etc/shadow >/dev/null; exec sleep 1000")
	if err := live.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = live.Process.Kill(); _ = live.Wait() }()
	// More than it has room for.
	for n := range 30 {
		if err := m.Create(fmt.Sprintf("%s/a/%d", cg, n)); err != nil {
			t.Fatal(err)
		}
	}
	want := []*regexp.Regexp{
		regexp.MustCompile(`(?m)^sheetbend_records_lost_total\{cause="table_full",kind="cgroup"\} [1-9]`),
		regexp.MustCompile(`(?m)^sheetbend_records_lost_total\{cause="map_full",kind="cgroup_mkdir"\} [1-9]`),
		regexp.MustCompile(`(?m)^sheetbend_sandbox_records_lost_total\{sandbox="` + span.SandboxID(bootID, id) + `"\} [1-9]`),
		regexp.MustCompile(`(?m)^sheetbend_records_not_injected_total 0$`),
		regexp.MustCompile(`(?m)^sheetbend_kernel_memory_bytes [1-9]\.?\d*e\+0[78]`),
		regexp.MustCompile(`(?m)^sheetbend_records_total\{kind="exec"\} [1-9]`),
		regexp.MustCompile(`(?m)^sheetbend_records_total\{kind="open"\} [1-9]`),
		regexp.MustCompile(`(?m)^sheetbend_ring_size_bytes [1-9]`),
		regexp.MustCompile(`(?m)^sheetbend_ring_used_bytes \d`),
		regexp.MustCompile(`(?m)^sheetbend_sandboxes 1$`),
		regexp.MustCompile(`(?m)^sheetbend_sessions 1$`),
		regexp.MustCompile(`(?m)^sheetbend_processes [1-9]`),
		regexp.MustCompile(`(?m)^sheetbend_export_spans_total\{endpoint="http://` + works.addr + `",outcome="sent"\} [1-9]`),
		regexp.MustCompile(`(?m)^sheetbend_export_queued_spans\{endpoint="http://` + works.addr + `"\} 0$`),
		regexp.MustCompile(`(?m)^sheetbend_export_queued_spans\{endpoint="http://` + away + `"\} [1-9]`),
		regexp.MustCompile(`(?m)^sheetbend_export_oldest_seconds\{endpoint="http://` + away + `"\} \d`),
		regexp.MustCompile(`(?m)^sheetbend_export_errors_total\{endpoint="http://` + away + `"\} [1-9]`),
		regexp.MustCompile(`(?m)^sheetbend_export_events_total\{endpoint="http://` + works.addr + `",outcome="sent"\} [1-9]`),
		regexp.MustCompile(`(?m)^sheetbend_export_queued_events\{endpoint="http://` + works.addr + `"\} 0$`),
		regexp.MustCompile(`(?m)^sheetbend_spool_stored_bytes [1-9]`),
		regexp.MustCompile(`(?m)^sheetbend_recorder_spans_total\{outcome="written"\} [1-9]`),
		regexp.MustCompile(`(?m)^sheetbend_recorder_bytes [1-9]`),
		regexp.MustCompile(`(?m)^process_resident_memory_bytes [1-9]`),
	}
	sensortest.Succeeds(t, "metrics", func() error {
		code, body := get("/metrics")
		var missing []string
		for _, w := range want {
			if !w.MatchString(body) {
				missing = append(missing, w.String())
			}
		}
		if code != 200 || len(missing) > 0 {
			return fmt.Errorf("%d, missing %q in\n%s", code, missing, body)
		}
		return nil
	})
	for _, path := range []string{"/healthz", "/readyz", "/debug/pprof/"} {
		if code, body := get(path); code != 200 {
			t.Errorf("%s: %d %s", path, code, body)
		}
	}
	if code, said := stop(); code != 0 || !strings.Contains(said, "not delivered yet to http://"+away) {
		t.Errorf("exit code %d: %s", code, said)
	}
}
