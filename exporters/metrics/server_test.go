// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

func get(t *testing.T, s *Server, path string) (int, string) {
	t.Helper()
	r, err := http.Get("http://" + s.Addr().String() + path)
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

func TestWhatIsServed(t *testing.T) {
	lost := prometheus.NewCounter(prometheus.CounterOpts{Name: "spans_lost_total"})
	lost.Add(3)
	var sick error
	start := func(pprof bool) *Server {
		s, err := Listen(Options{
			Listen: "127.0.0.1:0", Pprof: pprof, Collectors: []prometheus.Collector{lost},
			Healthy: func() error { return sick }, Ready: func() error { return errors.New("not yet") },
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
		return s
	}
	plain := start(false)
	expect := func(s *Server, path string, code int, says string) {
		t.Helper()
		if got, body := get(t, s, path); got != code || !strings.Contains(body, says) {
			t.Errorf("%s: %d %q, want %d and %q", path, got, body, code, says)
		}
	}
	expect(plain, "/metrics", 200, "spans_lost_total 3")
	expect(plain, "/metrics", 200, "process_resident_memory_bytes")
	expect(plain, "/healthz", 200, "ok")
	expect(plain, "/readyz", 503, "not yet")
	expect(plain, "/debug/pprof/", 404, "")
	expect(plain, "/", 404, "")
	expect(start(true), "/debug/pprof/", 200, "goroutine")
	sick = errors.New("the ring is not read")
	expect(plain, "/healthz", 503, "the ring is not read")
}

func TestOnlyLoopbackUnlessItIsMeant(t *testing.T) {
	for addr, says := range map[string]string{
		"0.0.0.0:0": "metrics.expose", ":0": "metrics.expose", "192.0.2.1:1": "metrics.expose", "localhost:0": "not an IP address", "9464": "no address",
	} {
		if _, err := Listen(Options{Listen: addr}); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, want %q", addr, err, says)
		}
	}
	s, err := Listen(Options{Listen: "0.0.0.0:0", Expose: true})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := Listen(Options{Listen: s.Addr().String(), Expose: true}); err == nil || !strings.Contains(err.Error(), "is in use") {
		t.Errorf("error is %v", err)
	}
}
