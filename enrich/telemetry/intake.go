// SPDX-License-Identifier: Apache-2.0

// Package telemetry receives the OTLP that agents send about themselves (gRPC and HTTP, protobuf and JSON; traces,
// logs, metrics), reads facts about tool calls from it, and forwards it: JSON as protobuf, all else unchanged. A
// request that could pass for the sensor's own spans, and one that a tool call sends, is refused and not forwarded.
//
// Whoever reaches the intake can send anything. The facts are hints and are marked as unproven; the limits make
// sure that a sender who sends too much is refused before the host suffers.
package telemetry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sheetbend/sheetbend/collector/record"
	"github.com/sheetbend/sheetbend/enrich/agents"
)

const (
	// DefaultMaxMessage is twice what gRPC servers take by default: OpenCode was seen to send 400 kB at once.
	DefaultMaxMessage = 8 << 20

	headerWithin = 5 * time.Second
	// requestWithin is how long a request's bytes may take, also those of an HTTP/2 stream.
	requestWithin = 15 * time.Second
	answerWithin  = 15 * time.Second
	idleWithin    = 2 * time.Minute
	maxHeader     = 16 << 10
	// Unread bytes of HTTP/2 peers; with maxConns they bound what connections alone can take.
	h2ConnBuffer   = 128 << 10
	h2StreamBuffer = 64 << 10
	h2Streams      = 32
)

// Options configure an Intake. One of Listen and Unix is needed, and Said.
type Options struct {
	// Listen is HOST:PORT for TCP: a loopback address unless Expose is set. Port 0 takes a free one.
	Listen string
	Expose bool
	// Unix is the path of a socket, which any user of the host may connect to.
	Unix string

	MaxMessage int // bytes of one request, compressed or not; DefaultMaxMessage if 0
	Dialects   []agents.Dialect
	// Said receives the facts. It is called from many goroutines, before the request is answered, and must not block.
	Said func(record.Said, Sender)
	// May reports whether a process of this host may send. What a tool call runs may not: it would speak for its agent.
	// It is called once for each connection and process, and may take some 100 ms. After an error, which means that the
	// answer did not come in time, the sender is told to try again. nil: everybody may.
	May func(context.Context, Sender) (bool, error)
	// Find finds the senders over TCP. It is called for at most 1024 sockets, one call after the other. nil: no
	// sender is known.
	Find Find
	// Forward takes the export requests that were accepted, uncompressed in protobuf; their bytes are its own from then
	// on. It is called from many goroutines, before the request is answered, and must not block. nil: nothing is
	// forwarded.
	Forward func(Signal, []byte)
	Log     *slog.Logger // discards if nil

	now func() time.Time
}

// Stats count what an Intake did.
type Stats struct {
	Requests  uint64 // accepted
	Bytes     uint64 // of them, as they were on the wire
	Facts     uint64 // given to Said
	FactsLost uint64 // beyond the rate or count that a peer may have

	// Requests that were refused.
	TooLarge  uint64 // larger than MaxMessage, compressed or not
	Malformed uint64
	Busy      uint64 // beyond the rate or memory that a peer or all may have
	Forged    uint64 // with the scope, attributes or trace ids of the sensor's own spans
	Inside    uint64 // from a process inside of a tool call, or one of this host that hides
	Foreign   uint64 // not OTLP: another path, method, content type or compression, or from a web page

	ConnsRefused   uint64 // connections beyond the limits
	ConnsDisplaced uint64 // ended, because others needed their place
}

// Intake is a running listener. Its methods are safe for concurrent use.
type Intake struct {
	o       Options
	reading reading
	nesting nesting
	peers   *peers
	search  searches
	server  *http.Server
	serving sync.WaitGroup

	tcp *net.TCPAddr

	transcoding sync.Mutex // one at a time: see maxObjects

	mu       sync.Mutex
	closed   bool
	handlers sync.WaitGroup

	requests, bytes, facts, factsLost, noConnect atomic.Uint64
	refused                                      [causes]atomic.Uint64
}

// Listen opens the sockets and serves until Close. The error is for the user and names what to change.
func Listen(o Options) (*Intake, error) {
	var listeners []net.Listener
	if o.Listen != "" {
		l, err := listenTCP(o.Listen, o.Expose)
		if err != nil {
			return nil, err
		}
		listeners = append(listeners, l)
	}
	if o.Unix != "" {
		l, err := listenUnix(o.Unix)
		if err != nil {
			for _, l := range listeners {
				err = errors.Join(err, l.Close())
			}
			return nil, err
		}
		listeners = append(listeners, l)
	}
	if len(listeners) == 0 {
		return nil, errors.New("agent telemetry: neither an address nor a socket to listen on")
	}
	return serve(o, listeners...), nil
}

// serve owns the listeners from here on.
func serve(o Options, listeners ...net.Listener) *Intake {
	if o.MaxMessage <= 0 {
		o.MaxMessage = DefaultMaxMessage
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.now == nil {
		o.now = time.Now
	}
	i := &Intake{o: o, reading: newReading(o.Dialects), peers: newPeers(o.now)}
	i.search.find, i.search.ended = o.Find, make(chan struct{})
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true) // gRPC
	i.server = &http.Server{
		Handler:           i,
		Protocols:         protocols,
		ReadHeaderTimeout: headerWithin, ReadTimeout: requestWithin,
		WriteTimeout: requestWithin + answerWithin, IdleTimeout: idleWithin,
		MaxHeaderBytes: maxHeader,
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams:          h2Streams,
			MaxReceiveBufferPerConnection: h2ConnBuffer, MaxReceiveBufferPerStream: h2StreamBuffer,
			SendPingTimeout: 30 * time.Second, PingTimeout: 15 * time.Second, WriteByteTimeout: answerWithin,
		},
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			if c, ok := c.(*conn); ok {
				ctx = context.WithValue(ctx, peerKey{}, c)
			}
			return ctx
		},
		ErrorLog: slog.NewLogLogger(o.Log.Handler(), slog.LevelDebug),
	}
	for _, l := range listeners {
		if a, ok := l.Addr().(*net.TCPAddr); ok {
			i.tcp = a
		}
		i.serving.Go(func() {
			if err := i.server.Serve(&limited{l, i}); err != nil && !errors.Is(err, http.ErrServerClosed) {
				o.Log.Error("agent telemetry is no longer received", "address", l.Addr().String(), "err", err)
			}
		})
	}
	return i
}

// Addr is the TCP address, with the port that the kernel chose for port 0; nil without Listen.
func (i *Intake) Addr() *net.TCPAddr { return i.tcp }

// Stats is a snapshot.
func (i *Intake) Stats() Stats {
	_, displaced := i.peers.Count()
	return Stats{
		Requests: i.requests.Load(), Bytes: i.bytes.Load(), Facts: i.facts.Load(), FactsLost: i.factsLost.Load(),
		TooLarge: i.refused[causeTooLarge].Load(), Malformed: i.refused[causeMalformed].Load(),
		Busy: i.refused[causeBusy].Load(), Forged: i.refused[causeForged].Load(),
		Inside: i.refused[causeInside].Load(), Foreign: i.refused[causeForeign].Load(),
		ConnsRefused: i.noConnect.Load(), ConnsDisplaced: displaced,
	}
}

// Close takes no new requests, and waits until ctx ends for those that are under way; when it returns, Said and
// Forward are not called any more. It may be called once.
func (i *Intake) Close(ctx context.Context) error {
	err := i.server.Shutdown(ctx)
	if err != nil {
		err = fmt.Errorf("end the intake of agent telemetry: requests were cut off: %w", err)
		err = errors.Join(err, i.server.Close())
	}
	i.serving.Wait()
	i.mu.Lock()
	i.closed = true
	i.mu.Unlock()
	close(i.search.ended)
	i.handlers.Wait()
	i.search.going.Wait()
	return err
}

// enter reports false once the intake is closed.
func (i *Intake) enter() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	if !i.closed {
		i.handlers.Add(1)
	}
	return !i.closed
}
