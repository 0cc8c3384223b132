// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"fmt"
	"hash/fnv"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sheetbend/sheetbend/cmd/sheetbend/config"
	"github.com/sheetbend/sheetbend/exporters/delivery"
	"github.com/sheetbend/sheetbend/exporters/otlp"
)

// tallyDirs are for what must outlive the process but not the machine's run: the first that is a tmpfs, because
// writing there waits for no disk. In a container /run is often none.
var tallyDirs = []string{"/run/sheetbend", "/dev/shm"}

// backends are the OTLP endpoints that spans go to, over a spool or from memory. nil does nothing.
type backends struct {
	*delivery.Queue
	names []string // of the destinations
	dir   string   // of the spool; "": from memory
	log   *slog.Logger
}

// endpoint is one of those that a configuration or the environment names.
type endpoint struct {
	otlp.Endpoint
	of      config.OTLP
	signals []otlp.Signal
}

func (e *endpoint) gets(s otlp.Signal) bool { return slices.Contains(e.signals, s) }

func (e *endpoint) tls(as rights) otlp.TLS {
	t := e.of.TLS
	return otlp.TLS{As: as, CA: t.CA, Cert: t.Cert, Key: t.Key, ServerName: t.ServerName}
}

// findEndpoints are those of the configuration, or of the environment, which may have another one for logs; none if
// neither has any.
func findEndpoints(c *config.Config, getenv func(string) string) (found []endpoint, err error) {
	for i, o := range c.Exporters.OTLP {
		some, err := endpointsOf(o, getenv)
		if err != nil && len(c.Exporters.OTLP) > 1 {
			return nil, fmt.Errorf("exporters.otlp[%d]: %w", i, err)
		}
		if err != nil {
			return nil, err
		}
		found = append(found, some...)
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

func endpointsOf(o config.OTLP, getenv func(string) string) (found []endpoint, err error) {
	main := endpoint{of: o}
	var apart []endpoint
	for _, name := range o.Signals {
		s := map[string]otlp.Signal{config.SignalTraces: otlp.Traces, config.SignalLogs: otlp.Logs}[name]
		if s == otlp.Logs && o.Endpoint == "" {
			logs, ok, err := otlp.FindLogsEndpoint(otlp.Protocol(o.Protocol), getenv)
			if err != nil {
				return nil, err
			}
			if ok {
				apart = append(apart, endpoint{Endpoint: logs, of: o, signals: []otlp.Signal{s}})
				continue
			}
		}
		main.signals = append(main.signals, s)
	}
	if len(main.signals) == 0 {
		return apart, nil
	}
	var ok bool
	if main.Endpoint, ok, err = otlp.FindEndpoint(o.Endpoint, otlp.Protocol(o.Protocol), getenv); ok {
		found = append(found, main)
	}
	return append(found, apart...), err
}

// withoutUnusable drops what nobody has asked for, only the environment names a backend for it, if that cannot be used:
// it is meant for the agent.
func withoutUnusable(c *config.Config, by identity, log *slog.Logger) {
	all := c.Exporters.OTLP
	if slices.ContainsFunc(all, func(o config.OTLP) bool { return o.Endpoint != "" }) {
		return
	}
	for i := range all {
		o := &all[i]
		o.Signals = slices.DeleteFunc(slices.Clone(o.Signals), func(signal string) bool {
			one := *o
			one.Signals = []string{signal}
			endpoints, err := endpointsOf(one, os.Getenv)
			for _, e := range endpoints {
				s, openErr := e.open(len(all) > 1, by, nil, log)
				if err = openErr; err != nil {
					break
				}
				_ = s.Close()
			}
			if err != nil {
				complain("no %s are sent over OTLP: the environment names a backend that cannot be used: %v", signal, err)
			}
			return err != nil
		})
	}
	c.Exporters.OTLP = slices.DeleteFunc(all, func(o config.OTLP) bool { return len(o.Signals) == 0 })
	if _, err := findEndpoints(c, os.Getenv); err != nil { // of both together
		complain("nothing is sent over OTLP: the environment names backends that cannot be used: %v", err)
		c.Exporters.OTLP = nil
	}
}

// openBackends begins to deliver to the endpoints. What the configuration and the environment name is opened with the
// rights of sends, the spool with those of spools, at the start and later.
func openBackends(
	c *config.Config, endpoints []endpoint, sends, spools identity, d *dialer, log *slog.Logger,
) (_ *backends, err error) {
	var senders []otlp.Backend
	var undo cleanups
	defer undo.onError(&err)
	for _, e := range endpoints {
		s, err := e.open(len(c.Exporters.OTLP) > 1, sends, d, log)
		if err != nil {
			return nil, err
		}
		undo.add(s.String(), s.Close)
		senders = append(senders, s)
	}
	b := &backends{dir: c.Spool.Dir(), log: log}
	to, err := destinationsOf(c, endpoints, senders, log)
	if err != nil {
		return nil, err
	}
	cfg := delivery.Config{
		Dir: b.dir, MaxBytes: int64(c.Spool.MaxBytes), MaxAge: time.Duration(c.Spool.MaxAge),
		Sync: delivery.Sync(c.Spool.Sync), DeadBytes: int64(c.Spool.DeadLetters),
		PassedOnInMemory: c.Spool.PassedOn == config.PassedOnMemory, As: spools.rights, Log: log, Destinations: to,
	}
	for _, e := range endpoints { // all wait in one queue: the endpoint with the most room says how much it has
		cfg.MemoryBytes = max(cfg.MemoryBytes, int(e.of.Queue.Bytes))
		cfg.MemorySpans = max(cfg.MemorySpans, e.of.Queue.Spans)
	}
	if b.dir != "" {
		cfg.CrashCounters = tallyOf(b.dir, log)
	}
	for _, d := range to {
		b.names = append(b.names, d.Name)
	}
	if b.Queue, err = delivery.Open(cfg); err != nil {
		return nil, err
	}
	return b, nil
}

// open makes what sends to an endpoint, which is one of several or the only one.
func (e *endpoint) open(several bool, sends identity, d *dialer, log *slog.Logger) (*otlp.Sender, error) {
	cfg := otlp.SenderConfig{
		Endpoint: e.Endpoint, HeadersFile: e.of.HeadersFile, TLS: e.tls(sends.rights), Timeout: time.Duration(e.of.Timeout),
		Compression: e.of.Compression, UserAgent: "sheetbend/" + build(), Log: log,
	}
	if d != nil {
		cfg.Dial = d.dial
	}
	if len(e.of.Headers) > 0 {
		cfg.Headers = e.of.Headers
	}
	if several && cfg.Headers == nil {
		// Which of several endpoints the secrets of the environment are for, nobody said.
		cfg.Headers = map[string]string{}
	}
	return otlp.NewSender(cfg)
}

// destinationsOf has each sender for itself, or all as one. The senders are those of the endpoints.
func destinationsOf(
	c *config.Config, endpoints []endpoint, senders []otlp.Backend, log *slog.Logger,
) (to []delivery.Destination, err error) {
	if len(c.Exporters.OTLP) > 1 && len(senders) > 1 && c.Exporters.OTLPMode == config.ModeFailOver {
		f, err := otlp.NewFailOver(senders, log)
		// One name whatever the endpoints are: what waits is for any of them, also after the list was changed.
		return []delivery.Destination{{Name: config.ModeFailOver, Backend: f, Signals: endpoints[0].signals}}, err
	}
	for i, s := range senders {
		to = append(to, delivery.Destination{Name: s.String(), Backend: s, Signals: endpoints[i].signals})
	}
	return to, nil
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

// passOn takes an export request of an agent.
func (b *backends) passOn(s otlp.Signal, request []byte) {
	if err := b.PassOn(s, request); err != nil {
		b.log.Error("agent telemetry dropped", "error", err)
	}
}

// close sends what waits, until ctx ends. Lost spans are no error: dropped tells of them.
func (b *backends) close(ctx context.Context) {
	if b == nil {
		return
	}
	if err := b.Close(ctx); err != nil && b.dir != "" {
		b.log.Error(err.Error())
	}
}

// dropped says in words what did not arrive. To be called after close.
func (b *backends) dropped() (lines []string) {
	if b == nil {
		return nil
	}
	st := b.Stats()
	for _, l := range st.Lanes {
		what := map[otlp.Signal]string{otlp.Traces: "span", otlp.Logs: "log record", otlp.Metrics: "metric"}[l.Signal]
		if l.PassedOn {
			what = "request with agents' " + l.Signal.String()
		}
		add := func(n uint64, format string, args ...any) {
			if n > 0 {
				lines = append(lines, count(n, what)+" "+fmt.Sprintf(format, args...))
			}
		}
		cause := cmp.Or(l.LastError, "no answer")
		add(l.Dropped.Memory, "dropped for %s: they came faster than they could be sent or written", l.Endpoint)
		add(l.Dropped.Disk, "dropped for %s: the spool could not be written, and memory was full", l.Endpoint)
		add(l.Dropped.Size, "dropped for %s: the spool was full (spool.max_bytes)", l.Endpoint)
		add(l.Dropped.Age, "dropped for %s: older than spool.max_age", l.Endpoint)
		add(l.Dropped.Damage, "dropped for %s: the spool was damaged", l.Endpoint)
		add(l.Dropped.TooLarge, "dropped for %s: too large, or of too many parts", l.Endpoint)
		add(l.Dropped.Shutdown, "not delivered to %s before the end, nor kept (%s)", l.Endpoint, cause)
		add(l.Lost, "lost for %s when an earlier sensor was killed, or its spool damaged", l.Endpoint)
		add(l.Rejected, "rejected by the backend %s", l.Endpoint)
		add(l.SetAside, "refused for good by the backend %s: see sheetbend spool list", l.Endpoint)
		add(l.Failed, "refused for good by the backend %s", l.Endpoint)
		add(l.Queued, "not delivered yet to %s (%s): they wait in %s for the next start", l.Endpoint, cause, b.dir)
	}
	if n := st.DeadDropped; n > 0 {
		lines = append(lines, count(n, "span")+
			" of dead letters dropped: there was no more room (spool.dead_letters)")
	}
	return lines
}
