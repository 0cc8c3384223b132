// SPDX-License-Identifier: Apache-2.0

package telemetry

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
)

const small = 256 << 10 // a MaxMessage

// bomb is small and becomes large.
func bomb(t *testing.T) []byte { t.Helper(); return zipped(t, make([]byte, 8<<20)) }

func TestHTTPRequestsThatAreNotFineAreRefusedAndCounted(t *testing.T) {
	i, h := intake(t, Options{MaxMessage: small})
	good := asProtobuf(t, logsOf("claude-code", "tool_result", "tool_use_id", "c"))
	isProtobuf := map[string]string{"Content-Type": typeProtobuf}
	with := func(pairs ...string) map[string]string {
		m := map[string]string{"Content-Type": typeProtobuf}
		for i := 0; i < len(pairs); i += 2 {
			m[pairs[i]] = pairs[i+1]
		}
		return m
	}
	for _, c := range []struct {
		name   string
		path   string
		header map[string]string
		body   []byte
		code   int
		counts func(Stats) uint64
	}{
		{"a compressed bomb", "/v1/logs", with("Content-Encoding", "gzip"), bomb(t), 413, func(s Stats) uint64 { return s.TooLarge }},
		{"a large request", "/v1/logs", isProtobuf, make([]byte, small+1), 413, func(s Stats) uint64 { return s.TooLarge }},
		{"no gzip in it", "/v1/logs", with("Content-Encoding", "gzip"), good, 400, func(s Stats) uint64 { return s.Malformed }},
		{"half of a gzip", "/v1/logs", with("Content-Encoding", "gzip"), zipped(t, good)[:20], 400, func(s Stats) uint64 { return s.Malformed }},
		{"noise", "/v1/logs", isProtobuf, []byte("noise"), 400, func(s Stats) uint64 { return s.Malformed }},
		{"noise as JSON", "/v1/logs", map[string]string{"Content-Type": typeJSON}, []byte("noise"), 400, func(s Stats) uint64 { return s.Malformed }},
		{"another compression", "/v1/logs", with("Content-Encoding", "zstd"), good, 415, func(s Stats) uint64 { return s.Foreign }},
		{"another type", "/v1/logs", map[string]string{"Content-Type": "text/plain"}, good, 415, func(s Stats) uint64 { return s.Foreign }},
		{"gRPC's type without HTTP/2", "/v1/logs", map[string]string{"Content-Type": typeGRPC}, good, 415, func(s Stats) uint64 { return s.Foreign }},
		{"another path", "/v1/profiles", isProtobuf, good, 404, func(s Stats) uint64 { return s.Foreign }},
		{"gRPC's path", Logs.Method(), isProtobuf, good, 404, func(s Stats) uint64 { return s.Foreign }},
		{"a web page", "/v1/logs", with("Origin", "https://example.com"), good, 403, func(s Stats) uint64 { return s.Foreign }},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := c.counts(i.Stats())
			code, answer := post(t, "http://"+i.Addr().String()+c.path, c.header, c.body)
			if code != c.code || answer == "" {
				t.Errorf("answer %d %q, want %d", code, answer, c.code)
			}
			if c.counts(i.Stats()) != before+1 {
				t.Errorf("not counted: %+v", i.Stats())
			}
		})
	}
	resp, err := http.Get(i.url(Logs))
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("GET is answered %s", resp.Status)
	}
	if len(h.all()) != 0 || i.Stats().Requests != 0 {
		t.Errorf("facts of refused requests: %+v", h.all())
	}
	if p := i.peers.Take(fmt.Sprintf("uid %d", os.Geteuid()), time.Now(), nil).Account(); i.peers.memory != 0 || p.memory != 0 {
		t.Errorf("%d bytes stay accounted for", i.peers.memory)
	}
}

func TestGRPCRequestsThatAreNotFineGetTheirStatus(t *testing.T) {
	i, _ := intake(t, Options{MaxMessage: small})
	cc, err := grpc.NewClient(i.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultCallOptions(grpc.ForceCodecV2(rawCodec{})))
	if err != nil {
		t.Fatal(err)
	}
	defer cc.Close()
	for _, c := range []struct {
		name, method string
		body         []byte
		compress     bool
		code         codes.Code
	}{
		{"a compressed bomb", Logs.Method(), make([]byte, 8<<20), true, codes.ResourceExhausted},
		{"a large request", Logs.Method(), make([]byte, small+1), false, codes.ResourceExhausted},
		{"noise", Logs.Method(), []byte("noise"), false, codes.InvalidArgument},
		{"another service", "/grpc.health.v1.Health/Check", nil, false, codes.Unimplemented},
		{"nothing", Traces.Method(), nil, false, codes.OK},
	} {
		t.Run(c.name, func(t *testing.T) {
			var o []grpc.CallOption
			if c.compress {
				o = append(o, grpc.UseCompressor("gzip"))
			}
			err := cc.Invoke(t.Context(), c.method, c.body, new([]byte), o...)
			if status.Code(err) != c.code || err != nil && status.Convert(err).Message() == "" {
				t.Errorf("%v, want %s", err, c.code)
			}
		})
	}
}

func TestFramesOfGRPCAreChecked(t *testing.T) {
	for name, body := range map[string][]byte{
		"empty": nil, "cut head": {0, 0, 0, 0}, "another flag": {2, 0, 0, 0, 0}, "too short": {0, 0, 0, 0, 2, 1}, "too long": {0, 0, 0, 0, 1, 1, 2},
		"a huge length": {0, 255, 255, 255, 255, 1},
	} {
		if _, _, ok := unframe(body); ok {
			t.Errorf("%s: accepted", name)
		}
	}
	if compressed, m, ok := unframe([]byte{1, 0, 0, 0, 1, 7}); !ok || !compressed || !bytes.Equal(m, []byte{7}) {
		t.Error("a good frame is refused")
	}
}

// The times are those of net/http's server: in a bubble they pass at once.
func TestASenderThatIsSlowIsCutOff(t *testing.T) {
	for name, part := range map[string]string{
		"in the head": "POST /v1/logs HTTP/1.1\r\nHost: x\r\n",
		"in the body": "POST /v1/logs HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-protobuf\r\nContent-Length: 1000\r\n\r\nab",
		"in silence":  "",
		"after a preface of HTTP/2": "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" +
			"\x00\x00\x00\x04\x00\x00\x00\x00\x00",
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := &piped{conns: make(chan net.Conn, 1), done: make(chan struct{})}
				i := serve(Options{}, l)
				ours, theirs := net.Pipe()
				l.conns <- theirs
				go func() { _, _ = io.WriteString(ours, part) }()
				begun := time.Now()
				_, _ = io.Copy(io.Discard, ours) // ends when the server closes
				if took := time.Since(begun); took > idleWithin+requestWithin+time.Minute {
					t.Errorf("held for %s", took)
				}
				_ = ours.Close()
				if err := i.Close(t.Context()); err != nil {
					t.Error(err)
				}
				if taken, _ := i.peers.Count(); taken != 0 {
					t.Errorf("%d connections stay accounted for", taken)
				}
			})
		})
	}
}

func TestAStreamOfHTTP2ThatIsSlowIsCutOffAndItsMemoryFreed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &piped{conns: make(chan net.Conn, 1), done: make(chan struct{})}
		i := serve(Options{}, l)
		protocols := new(http.Protocols)
		protocols.SetUnencryptedHTTP2(true)
		transport := &http.Transport{Protocols: protocols, DialContext: func(context.Context, string, string) (net.Conn, error) {
			ours, theirs := net.Pipe()
			l.conns <- theirs
			return ours, nil
		}}
		body, sender := io.Pipe()
		go func() { _, _ = sender.Write([]byte{0, 0, 0}) }()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://x"+Logs.Method(), body)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", typeGRPC)
		begun := time.Now()
		resp, err := transport.RoundTrip(r)
		if err == nil {
			if got := resp.Header.Get("Grpc-Status"); got != fmt.Sprint(int(codes.DeadlineExceeded)) && got != fmt.Sprint(int(codes.InvalidArgument)) {
				t.Errorf("status %q", got)
			}
			_ = resp.Body.Close()
		}
		if took := time.Since(begun); took > 2*requestWithin {
			t.Errorf("held for %s", took)
		}
		_ = sender.Close()
		transport.CloseIdleConnections()
		synctest.Wait()
		if i.peers.memory != 0 {
			t.Errorf("%d bytes stay accounted for", i.peers.memory)
		}
		if err := i.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// piped is a listener of connections in memory.
type piped struct {
	conns chan net.Conn
	done  chan struct{}
}

func (p *piped) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *piped) Close() error {
	select {
	case <-p.done:
	default:
		close(p.done)
	}
	return nil
}

func (p *piped) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "unix"} }

func TestSlowSendersKeepNobodyOut(t *testing.T) {
	i, _ := intake(t, Options{})
	dial := func() net.Conn {
		t.Helper()
		c, err := net.Dial("tcp", i.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	served := func(c net.Conn) bool {
		_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		r, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err == nil {
			_, _ = io.Copy(io.Discard, r.Body)
			_ = r.Body.Close()
		}
		return err == nil
	}
	agent := dial()
	for n := range 2 * maxPeerConns {
		if _, err := io.WriteString(dial(), "POST /v1/logs HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nab"); err != nil {
			t.Fatal(err)
		}
		// Those that the listener has not taken yet would come between two requests of the agent, more than it may have.
		until(t, "the slow one is connected", func() bool {
			taken, displaced := i.peers.Count()
			return taken+int(displaced) == n+2
		})
		if n%(maxPeerConns/2) == 0 && !served(agent) {
			t.Fatalf("the agent's connection is closed after %d slow ones", n)
		}
	}
	if !served(dial()) {
		t.Error("a new connection is not served")
	}
	if s := i.Stats(); s.ConnsRefused != 0 || s.ConnsDisplaced == 0 {
		t.Errorf("%+v", s)
	}
}

func TestAPeerHasARateOfBytesAndFactsThatFillsUpAgain(t *testing.T) {
	now := time.Unix(1e9, 0)
	ps := newPeers(func() time.Time { return now })
	a, b := ps.Take("a", now, nil), ps.Take("b", now, nil)
	p, q := a.Account(), b.Account()
	if !ps.spendBytes(p, peerBytesBurst) || ps.spendBytes(p, 1) || !ps.spendBytes(q, 1) {
		t.Error("bytes: the burst is not as stated")
	}
	for range peerFactsBurst {
		if !ps.spendFact(p) {
			t.Fatal("facts: less than the burst")
		}
	}
	if ps.spendFact(p) {
		t.Error("facts: more than the burst")
	}
	ps.Leave(a)
	if p = ps.Take("a", ps.now(), nil).Account(); ps.spendFact(p) {
		t.Error("a new connection has a new rate")
	}
	now = now.Add(time.Second)
	if !ps.spendBytes(p, peerBytes) || ps.spendBytes(p, 1) || !ps.spendFact(p) {
		t.Error("the rate does not come back")
	}
	now = now.Add(-time.Hour)
	if ps.spendBytes(p, 1) {
		t.Error("a clock that is set back gives a rate")
	}
}

func TestPeersAreBoundedAndForgottenOnlyWhenTheyAreQuiet(t *testing.T) {
	now := time.Unix(1e9, 0)
	ps := newPeers(func() time.Time { return now })
	for i := range maxPeers {
		s := ps.Take(fmt.Sprint(i), ps.now(), nil)
		ps.spendBytes(s.Account(), 1)
		ps.Leave(s)
	}
	if ps.Take("one more", ps.now(), nil) != nil {
		t.Error("a peer that used its rate was forgotten")
	}
	now = now.Add(time.Minute)
	if ps.Take("one more", ps.now(), nil) == nil {
		t.Error("a peer that is as good as new is not forgotten")
	}
	for i := range maxConns - 1 {
		if ps.Take(fmt.Sprint(i), ps.now(), nil) == nil {
			t.Fatalf("only %d connections", i)
		}
	}
	if ps.Take("0", ps.now(), nil) != nil {
		t.Error("more connections than all may have")
	}
}

func TestMemoryIsAccountedForBeforeItIsTaken(t *testing.T) {
	ps := newPeers(time.Now)
	greedy := &reservation{peers: ps, peer: ps.Take("greedy", ps.now(), nil).Account()}
	modest := &reservation{peers: ps, peer: ps.Take("modest", ps.now(), nil).Account()}
	if !greedy.grow(maxPeerMemory) || greedy.grow(1) {
		t.Error("a peer's share is not as stated")
	}
	if !modest.grow(maxMemory-maxPeerMemory) || modest.grow(1) {
		t.Error("the whole is not as stated")
	}
	if _, err := readAll(strings.NewReader("x"), 10, 1, modest); !errors.Is(err, errBusy) {
		t.Errorf("reading without memory: %v", err)
	}
	greedy.release()
	modest.release()
	if ps.memory != 0 {
		t.Errorf("%d bytes stay", ps.memory)
	}
	body, err := readAll(strings.NewReader(strings.Repeat("x", 3<<20)), 4<<20, 3<<20, modest)
	if err != nil || len(body) != 3<<20 || modest.bytes < cap(body) || modest.bytes > 4<<20+1 {
		t.Errorf("%d bytes read, %d accounted for: %v", len(body), modest.bytes, err)
	}
}

func TestFactsBeyondTheRateAreDroppedAndCountedButForwarded(t *testing.T) {
	b := newBehind()
	now := time.Unix(1e9, 0)
	i, h := intake(t, Options{Forward: b.take, now: func() time.Time { return now }})
	ld := logsOf("claude-code", "tool_result", "tool_use_id", "c")
	records := ld.Logs().ResourceLogs().At(0).ScopeLogs().At(0).LogRecords()
	for range maxFacts - 1 {
		records.At(0).CopyTo(records.AppendEmpty())
	}
	for range 3 {
		if code, _ := post(t, i.url(Logs), map[string]string{"Content-Type": typeProtobuf}, asProtobuf(t, ld)); code != 200 {
			t.Fatalf("answer %d", code)
		}
		b.next(t)
	}
	if s := i.Stats(); s.Facts != peerFactsBurst || s.FactsLost != 3*maxFacts-peerFactsBurst || len(h.all()) != peerFactsBurst {
		t.Errorf("%+v", s)
	}
}

func TestClosingDoesNotWaitForeverForASlowSender(t *testing.T) {
	i, err := Listen(Options{Listen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("tcp", i.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, "POST /v1/logs HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-protobuf\r\nContent-Length: 1000\r\n\r\nab"); err != nil {
		t.Fatal(err)
	}
	until(t, "the request", func() bool {
		i.peers.mu.Lock()
		defer i.peers.mu.Unlock()
		return i.peers.memory > 0
	})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := i.Close(ctx); err == nil {
		t.Error("no error although a request was cut off")
	}
}
