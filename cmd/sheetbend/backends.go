// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"hash/fnv"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/sheetbend/sheetbend/cmd/sheetbend/config"
	"github.com/sheetbend/sheetbend/exporters/otlp"
	"github.com/sheetbend/sheetbend/exporters/spool"
)

// tallyDirs are for what must outlive the process but not the machine's run: the first that is a tmpfs, because
// writing there waits for no disk. In a container /run is often none.
var tallyDirs = []string{"/run/sheetbend", "/dev/shm"}

// backends are the OTLP endpoints that spans go to, over a spool or from memory. nil does nothing.
type backends struct {
	log     *slog.Logger
	spool   *spool.Spool  // nil: from memory
	dir     string        // of the spool
	clients []*fromMemory // without a spool
}

// fromMemory is one backend, or several of which one is used.
type fromMemory struct {
	*otlp.Client
	name   string
	target string    // its address for gRPC
	cause  *causeLog // why it could not deliver
	queue  config.Queue
}

// findEndpoints are those of the configuration, or the one of the environment; none if neither has any.
func findEndpoints(c *config.Config, getenv func(string) string) (found []otlp.Endpoint, err error) {
	for i, o := range c.Exporters.OTLP {
		e, ok, err := otlp.FindEndpoint(o.Endpoint, otlp.Protocol(o.Protocol), getenv)
		if err != nil && len(c.Exporters.OTLP) > 1 {
			return nil, fmt.Errorf("exporters.otlp[%d]: %w", i, err)
		}
		if err != nil {
			return nil, err
		}
		if ok {
			found = append(found, e)
		}
	}
	seen := map[string]bool{}
	for _, e := range found {
		if seen[e.String()] {
			return nil, fmt.Errorf("exporters.otlp has %s twice", e)
		}
		seen[e.String()] = true
	}
	return found, nil
}

func tlsFiles(o config.OTLP, as rights) otlp.TLS {
	return otlp.TLS{As: as, CA: o.TLS.CA, Cert: o.TLS.Cert, Key: o.TLS.Key, ServerName: o.TLS.ServerName}
}

// openBackends begins to deliver to the endpoints, which are those of c.Exporters.OTLP in their order. What the
// configuration and the environment name is opened with the rights of sends, the spool with those of spools, at the
// start and later.
func openBackends(
	c *config.Config, endpoints []otlp.Endpoint, sends, spools identity, d *dialer, log *slog.Logger,
) (_ *backends, err error) {
	b := &backends{log: log, dir: c.Spool.Dir()}
	var senders []*otlp.Sender
	var causes []*causeLog
	var undo cleanups
	defer undo.onError(&err)
	for i, e := range endpoints {
		o := c.Exporters.OTLP[i]
		cause := &causeLog{Handler: log.Handler(), last: &atomic.Value{}}
		cfg := otlp.SenderConfig{
			Endpoint: e, HeadersFile: o.HeadersFile, TLS: tlsFiles(o, sends.rights), Timeout: time.Duration(o.Timeout),
			Compression: o.Compression, UserAgent: "sheetbend/" + build(), Log: slog.New(cause),
		}
		if d != nil {
			cfg.Dial = d.dial
		}
		if len(o.Headers) > 0 {
			cfg.Headers = o.Headers
		}
		if len(endpoints) > 1 && cfg.Headers == nil {
			// Which of several endpoints the secrets of the environment are for, nobody said.
			cfg.Headers = map[string]string{}
		}
		s, err := otlp.NewSender(cfg)
		if err != nil {
			return nil, err
		}
		undo.add(s.String(), s.Close)
		senders, causes = append(senders, s), append(causes, cause)
	}
	destinations, queues, err := destinationsOf(c, senders, log)
	if err != nil {
		return nil, err
	}
	if b.dir == "" {
		for i, d := range destinations {
			b.clients = append(b.clients, &fromMemory{
				Client: otlp.New(otlp.Config{
					Backend: d.Backend, QueueBytes: int(queues[i].Bytes), QueueSpans: queues[i].Spans,
					Log: slog.New(causes[i]),
				}),
				name: d.Backend.String(), target: endpoints[i].Target, cause: causes[i], queue: queues[i],
			})
		}
		return b, nil
	}
	b.spool, err = spool.Open(spool.Config{
		Dir: b.dir, MaxBytes: int64(c.Spool.MaxBytes), MaxAge: time.Duration(c.Spool.MaxAge),
		Sync: spool.Sync(c.Spool.Sync), DeadBytes: int64(c.Spool.DeadLetters),
		MemoryBytes: int(queues[0].Bytes), MemorySpans: queues[0].Spans,
		As: spools.rights, CrashCounters: tallyOf(b.dir, log), Log: log, Destinations: destinations,
	})
	return b, err
}

// destinationsOf has each sender for itself, or all as one, with what may wait in memory for each.
func destinationsOf(
	c *config.Config, senders []*otlp.Sender, log *slog.Logger,
) (ds []spool.Destination, queues []config.Queue, err error) {
	if len(senders) > 1 && c.Exporters.OTLPMode == config.ModeFailOver {
		f, err := otlp.NewFailOver(senders, log)
		// One name whatever the endpoints are: what waits is for any of them, also after the list was changed.
		ds = append(ds, spool.Destination{Name: config.ModeFailOver, Backend: f})
		return ds, append(queues, c.Exporters.OTLP[0].Queue), err
	}
	for i, s := range senders {
		ds = append(ds, spool.Destination{Name: s.String(), Backend: s})
		queues = append(queues, c.Exporters.OTLP[i].Queue)
	}
	return ds, queues, nil
}

// tallyOf names the tally of a spool; "" if there is no place for one.
func tallyOf(dir string, log *slog.Logger) string {
	h := fnv.New64a()
	_, _ = h.Write([]byte(filepath.Clean(dir)))
	name := fmt.Sprintf("sheetbend-spool-%016x.tally", h.Sum64())
	if d := tmpfs(); d != "" {
		return filepath.Join(d, name)
	}
	log.Warn("a kill of the sensor will not be counted as loss: no tmpfs at " + strings.Join(tallyDirs, " or "))
	return ""
}

func (b *backends) offer(batch otlp.Batch) {
	if b.spool != nil {
		b.spool.Offer(batch)
		return
	}
	for _, c := range b.clients {
		c.Offer(batch)
	}
}

// behind says that a producer that can wait should.
func (b *backends) behind() bool {
	if b == nil {
		return false
	}
	for _, c := range b.clients {
		if s := c.Stats(); s.Queued > uint64(c.queue.Spans)/2 || s.QueuedBytes > uint64(c.queue.Bytes)/2 {
			return true
		}
	}
	return false
}

// close sends what waits, until ctx ends. Lost spans are no error: dropped tells of them.
func (b *backends) close(ctx context.Context) {
	if b == nil {
		return
	}
	if b.spool != nil {
		if err := b.spool.Close(ctx); err != nil {
			b.log.Error(err.Error())
		}
		return
	}
	ended := make(chan struct{})
	for _, c := range b.clients { // at the same time: they share the time that there is
		go func() {
			defer func() { ended <- struct{}{} }()
			if err := c.Shutdown(ctx); err != nil {
				c.cause.probe(c.target)
			}
		}()
	}
	for range b.clients {
		<-ended
	}
}

// dropped says in words what did not arrive. To be called after close.
func (b *backends) dropped() (lines []string) {
	if b == nil {
		return nil
	}
	add := func(n uint64, format string, args ...any) {
		if n > 0 {
			lines = append(lines, count(n, "span")+" "+fmt.Sprintf(format, args...))
		}
	}
	for _, c := range b.clients {
		s := c.Stats()
		which := ""
		if len(b.clients) > 1 {
			which = " " + c.name
		}
		add(s.QueueFull, "dropped because the backend%s was too slow", which)
		add(s.Rejected, "rejected by the backend%s", which)
		add(s.Failed, "refused by the backend%s, or not delivered in time", which)
		add(s.Shutdown, "not delivered: the backend %s did not take them before the end (%s)", c.name, c.cause)
	}
	if b.spool == nil {
		return lines
	}
	st := b.spool.Stats()
	for _, d := range st.Destinations {
		add(d.Dropped.Memory, "dropped for %s: they came faster than the spool could be written", d.Name)
		add(d.Dropped.Disk, "dropped for %s: the spool could not be written, and memory was full", d.Name)
		add(d.Dropped.Size, "dropped for %s: the spool was full (spool.max_bytes)", d.Name)
		add(d.Dropped.Age, "dropped for %s: older than spool.max_age", d.Name)
		add(d.Dropped.Damage, "dropped for %s: the spool was damaged", d.Name)
		add(d.Dropped.Shutdown, "dropped for %s: neither delivered nor written to the spool before the end", d.Name)
		add(d.Lost, "lost for %s when an earlier sensor was killed, or its spool damaged", d.Name)
		add(d.Rejected, "rejected by the backend %s", d.Name)
		add(d.SetAside, "refused for good by the backend %s: see sheetbend spool list", d.Name)
		add(d.Failed, "refused for good by the backend %s, and not kept as dead letters", d.Name)
		cause := d.LastError
		if cause == "" {
			cause = "no answer yet"
		}
		add(d.Queued, "not delivered yet to %s (%s): they wait in %s for the next start", d.Name, cause, b.dir)
	}
	add(st.DeadDropped, "of dead letters dropped: there was no more room (spool.dead_letters)")
	return lines
}

// causeLog remembers the last error that the client told of.
type causeLog struct {
	slog.Handler
	last *atomic.Value // string
}

func (c *causeLog) Enabled(context.Context, slog.Level) bool { return true }

func (c *causeLog) Handle(ctx context.Context, r slog.Record) error {
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == "error" {
			c.last.Store(a.Value.String())
		}
		return true
	})
	if !c.Handler.Enabled(ctx, r.Level) {
		return nil
	}
	return c.Handler.Handle(ctx, r)
}

// probe finds the cause if no attempt has ended by itself: gRPC waits for a connection without telling why
// there is none.
func (c *causeLog) probe(target string) {
	if _, _, err := net.SplitHostPort(target); err != nil || c.last.Load() != nil {
		return
	}
	conn, err := net.DialTimeout("tcp", target, probeWithin)
	if err != nil {
		c.last.Store(err.Error())
		return
	}
	_ = conn.Close()
}

func (c *causeLog) String() string {
	if text, ok := c.last.Load().(string); ok {
		return text
	}
	return "no answer"
}
