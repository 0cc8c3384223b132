// SPDX-License-Identifier: Apache-2.0

package telemetry

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"
	"google.golang.org/grpc"
)

// Backend is where telemetry goes on to. One of GRPC and HTTP is needed. What came over HTTP goes out over HTTP if
// there is such a backend, protobuf byte for byte, and what came over gRPC the same way; if there is only the other
// one, the message goes there in the same protobuf bytes. JSON is written anew as protobuf.
type Backend struct {
	GRPC    string            // as gRPC dials it: host:port or unix:path
	HTTP    string            // base URL, to which /v1/traces and so on are added
	TLS     *tls.Config       // of GRPC: nil for plain text; of HTTP with https: nil for the system's
	Headers map[string]string // sent with each request. Those of the agent are not passed on
	Timeout time.Duration     // of one attempt; 10 s if 0
	// RetryFor bounds all attempts of one message: 1 min if 0.
	RetryFor time.Duration
	// QueueBytes (32 MiB if 0) and queueMessages bound what waits; then the oldest is dropped.
	QueueBytes int
	UserAgent  string
	// Dial connects to the unix socket that GRPC names; it is given unix://PATH. nil: as usual.
	Dial func(ctx context.Context, path string) (net.Conn, error)
	Log  *slog.Logger // discards if nil

	retryWait time.Duration // before the second attempt, doubled up to 10 s
}

const (
	queueMessages = 8192
	senders       = 4
)

// ForwardStats count messages, as they came from agents. What was offered is the sum of all fields.
type ForwardStats struct {
	Sent      uint64 // accepted by the backend
	QueueFull uint64 // dropped: waited longest when there was no more room
	Failed    uint64 // dropped: refused for good, or RetryFor ran out
	// Unsupported: dropped, as the backend does not accept the signal at all: Jaeger, for example, accepts traces only.
	Unsupported uint64
	Shutdown    uint64 // dropped: not delivered when Shutdown's context ended, or offered after it
	Waiting     uint64 // queued or being sent
}

// Dropped is what the backend should have got: the sum of all causes but Unsupported.
func (s ForwardStats) Dropped() uint64 { return s.QueueFull + s.Failed + s.Shutdown }

// Forwarder sends telemetry on. Its methods are safe for concurrent use.
type Forwarder struct {
	b    Backend
	grpc *grpc.ClientConn // nil without
	http *http.Client     // nil without
	base string

	ctx    context.Context
	cancel context.CancelFunc
	done   sync.WaitGroup

	mu      sync.Mutex
	ready   *sync.Cond
	queue   []*message
	bytes   int
	closed  bool
	failing [Metrics + 1]bool // by signal: it was reported

	sent, queueFull, failed, unsupported, shutdown, sending atomic.Uint64
}

// NewForwarder starts the senders. It waits for no connection.
func NewForwarder(b Backend) (*Forwarder, error) {
	if b.Timeout <= 0 {
		b.Timeout = 10 * time.Second
	}
	if b.RetryFor <= 0 {
		b.RetryFor = time.Minute
	}
	if b.QueueBytes <= 0 {
		b.QueueBytes = 32 << 20
	}
	if b.retryWait <= 0 {
		b.retryWait = 250 * time.Millisecond
	}
	if b.Log == nil {
		b.Log = slog.New(slog.DiscardHandler)
	}
	f := &Forwarder{b: b}
	f.ready = sync.NewCond(&f.mu)
	if b.GRPC == "" && b.HTTP == "" {
		return nil, errors.New("forward agent telemetry: no backend")
	}
	if b.HTTP != "" {
		u, err := url.Parse(b.HTTP)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" ||
			u.User != nil || u.RawQuery != "" || u.Fragment != "" {
			return nil, errors.New("forward agent telemetry: the HTTP backend is not a URL like " +
				"http://127.0.0.1:4318 (credentials go into the headers)")
		}
		f.base = strings.TrimSuffix(u.String(), "/")
		f.http = httpClient(b)
	}
	if b.GRPC != "" {
		var err error
		if f.grpc, err = dial(b); err != nil {
			return nil, fmt.Errorf("forward agent telemetry to %s: %w", b.GRPC, err)
		}
	}
	f.ctx, f.cancel = context.WithCancel(context.Background())
	for range senders {
		f.done.Go(f.run)
	}
	return f, nil
}

// Stats is a snapshot.
func (f *Forwarder) Stats() ForwardStats {
	f.mu.Lock()
	defer f.mu.Unlock()
	return ForwardStats{
		Sent: f.sent.Load(), QueueFull: f.queueFull.Load(), Failed: f.failed.Load(),
		Unsupported: f.unsupported.Load(), Shutdown: f.shutdown.Load(),
		Waiting: uint64(len(f.queue)) + f.sending.Load(),
	}
}

// Shutdown delivers what waits, until ctx ends; the rest is counted as dropped. It may be called once.
func (f *Forwarder) Shutdown(ctx context.Context) error {
	f.mu.Lock()
	f.closed = true
	f.ready.Broadcast()
	f.mu.Unlock()
	stop := context.AfterFunc(ctx, f.cancel)
	defer stop()
	f.done.Wait()
	f.cancel()
	if f.http != nil {
		f.http.CloseIdleConnections()
	}
	if f.grpc != nil {
		if err := f.grpc.Close(); err != nil {
			return fmt.Errorf("close the connection to %s: %w", f.b.GRPC, err)
		}
	}
	return nil
}

// offer owns the message's bytes from here on, and never blocks.
func (f *Forwarder) offer(m *message) {
	q := *m
	if f.overHTTP(m) && !m.grpc {
		q.plain = nil
	} else {
		q.body = nil
	}
	q.body, q.plain = shrink(q.body), shrink(q.plain)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		f.shutdown.Add(1)
		return
	}
	for len(f.queue) > 0 && (len(f.queue) >= queueMessages || f.bytes+q.size() > f.b.QueueBytes) {
		f.shift()
		f.queueFull.Add(1)
	}
	f.queue = append(f.queue, &q)
	f.bytes += q.size()
	f.ready.Signal()
}

// shrink keeps no room that reading left behind a message.
func shrink(b []byte) []byte {
	if cap(b) > len(b)+len(b)/4 {
		return bytes.Clone(b)
	}
	return b
}

func (m *message) size() int { return cap(m.body) + cap(m.plain) + 128 }

func (f *Forwarder) shift() *message {
	m := f.queue[0]
	f.queue[0] = nil
	f.queue = f.queue[1:]
	f.bytes -= m.size()
	return m
}

// next waits for a message; it is nil once the queue is closed and empty.
func (f *Forwarder) next() *message {
	f.mu.Lock()
	defer f.mu.Unlock()
	for len(f.queue) == 0 && !f.closed {
		f.ready.Wait()
	}
	if len(f.queue) == 0 {
		return nil
	}
	f.sending.Add(1)
	return f.shift()
}

func (f *Forwarder) overHTTP(m *message) bool {
	return f.http != nil && (!m.grpc || f.grpc == nil)
}

func (f *Forwarder) run() {
	for m := f.next(); m != nil; m = f.next() {
		err := f.deliver(m)
		f.sending.Add(^uint64(0))
		switch {
		case err == nil:
			f.sent.Add(1)
		case f.ctx.Err() != nil:
			f.shutdown.Add(1)
		case errors.Is(err, errUnsupported):
			f.unsupported.Add(1)
		default:
			f.failed.Add(1)
		}
	}
}

// deliver tries until the message is accepted, refused for good, or too old. The pauses are random in part: the
// senders should not all come back at once.
func (f *Forwarder) deliver(m *message) error {
	ctx, cancel := context.WithTimeout(f.ctx, f.b.RetryFor)
	defer cancel()
	pauses := backoff.ExponentialBackOff{
		InitialInterval: f.b.retryWait, RandomizationFactor: 0.5, Multiplier: 2, MaxInterval: 10 * time.Second,
	}
	_, err := backoff.Retry(ctx, func() (struct{}, error) {
		again, err := f.attempt(ctx, m)
		if ctx.Err() == nil {
			f.report(m.signal, again, err)
		}
		if err != nil && !again {
			err = backoff.Permanent(err)
		}
		return struct{}{}, err
	}, backoff.WithBackOff(&pauses), backoff.WithMaxElapsedTime(0))
	return err
}

func (f *Forwarder) attempt(ctx context.Context, m *message) (again bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, f.b.Timeout)
	defer cancel()
	if f.overHTTP(m) {
		return f.post(ctx, m)
	}
	return f.call(ctx, m)
}

// errUnsupported is wrapped by the error of a backend that does not know the signal.
var errUnsupported = errors.New("the backend does not accept this kind of telemetry")

// report logs once for each signal that forwarding fails, and once that it works again.
func (f *Forwarder) report(s Signal, again bool, err error) {
	f.mu.Lock()
	was := f.failing[s]
	f.failing[s] = err != nil
	f.mu.Unlock()
	switch {
	case err == nil && was:
		f.b.Log.Info("agent telemetry is forwarded again", "signal", s.String())
	case err == nil || was:
	case errors.Is(err, errUnsupported):
		f.b.Log.Info("agent telemetry is not forwarded", "signal", s.String(), "err", err)
	case again:
		f.b.Log.Warn("agent telemetry cannot be forwarded; it waits in memory", "signal", s.String(), "err", err)
	default:
		f.b.Log.Warn("agent telemetry dropped: the backend refuses it", "signal", s.String(), "err", err)
	}
}
