// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

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

// Idle, silent, in the middle of a head, and in the middle of a request.
func TestWhoHoldsAllConnectionsKeepsNoProbeOut(t *testing.T) {
	busy, end := make(chan struct{}, 2*maxConns), make(chan struct{})
	s, err := Listen(Options{
		Listen: "0.0.0.0:0", Expose: true,
		Healthy: func() error { return nil },
		Ready: func() error {
			busy <- struct{}{}
			<-end
			return nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		close(end)
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	_, port, err := net.SplitHostPort(s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	dial := func(from string) *bufio.ReadWriter {
		t.Helper()
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: time.Minute}
		c, err := d.Dial("tcp", "127.0.0.1:"+port)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		return bufio.NewReadWriter(bufio.NewReader(c), bufio.NewWriter(c))
	}
	send := func(c *bufio.ReadWriter, text string) error {
		_, err := c.WriteString(text)
		return errors.Join(err, c.Flush())
	}
	ask := func(c *bufio.ReadWriter) error {
		if err := send(c, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			return err
		}
		r, err := http.ReadResponse(c.Reader, nil)
		if err != nil {
			return err
		}
		text, err := io.ReadAll(r.Body)
		if err == nil && (r.StatusCode != 200 || string(text) != "ok\n") {
			err = fmt.Errorf("%d %q", r.StatusCode, text)
		}
		return errors.Join(err, r.Body.Close())
	}
	patient := dial("127.0.0.2") // who has one only keeps it
	if err := ask(patient); err != nil {
		t.Fatal(err)
	}
	for what, hold := range map[string]func(c *bufio.ReadWriter) error{
		"silent":      func(*bufio.ReadWriter) error { return nil },
		"idle":        ask,
		"half a head": func(c *bufio.ReadWriter) error { return send(c, "GET /healthz HTTP/1.1\r\nHost:") },
		"a request": func(c *bufio.ReadWriter) error {
			err := send(c, "GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n")
			if err == nil {
				<-busy
			}
			return err
		},
	} {
		closed := make(chan error, maxConns)
		for n := range maxConns {
			c := dial("127.0.0.1")
			if err := hold(c); err != nil {
				t.Fatalf("%s, connection %d: %v", what, n, err)
			}
			go func() {
				_, err := c.ReadByte()
				closed <- err
			}()
		}
		for range 3 {
			if err := ask(dial("127.0.0.1")); err != nil {
				t.Errorf("%s: a probe gets %v", what, err)
			}
		}
		// Which of them is the oldest depends on when the server notices that it has answered.
		if err := <-closed; err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: all of %d connections are open: %v", what, maxConns+4, err)
		}
	}
	if err := ask(patient); err != nil {
		t.Errorf("who had one connection lost it: %v", err)
	}
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
