// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"time"

	"github.com/sheetbend/sheetbend/bpf"
	"github.com/sheetbend/sheetbend/cmd/sheetbend/config"
	"github.com/sheetbend/sheetbend/collector/live"
	"github.com/sheetbend/sheetbend/collector/record"
	"github.com/sheetbend/sheetbend/enrich/agents"
	"github.com/sheetbend/sheetbend/enrich/telemetry"
	"github.com/sheetbend/sheetbend/exporters/otlp"
)

// intakeEndsWithin is how long requests that are under way may take at the end.
const intakeEndsWithin = 2 * time.Second

// An intake takes in agents' own telemetry, for the collector and the backend. nil does nothing.
type intake struct {
	in      *telemetry.Intake
	senders *bpf.Holders         // nil: TCP is not listened on
	forward *telemetry.Forwarder // nil: nothing is forwarded
	to      string               // where it is forwarded, for people
}

// openIntake listens as c.Intake says, until w ends. Facts go into its stream.
func openIntake(
	c *config.Config, dialects []agents.Dialect, w *watch, by identity, getenv func(string) string, log *slog.Logger,
) (_ *intake, err error) {
	i := &intake{}
	var undo cleanups
	defer undo.onError(&err)
	undo.add("agent telemetry", func() error { return i.close(context.Background()) })
	if c.Intake.Forward.Enabled {
		b, to, err := forwardTo(c, by, getenv)
		if err != nil {
			return nil, err
		}
		if to != "" {
			b.Log = log
			if w.dialer != nil {
				b.Dial = w.dialer.dial
			}
			if i.forward, err = telemetry.NewForwarder(b); err != nil {
				return nil, err
			}
			i.to = to
		}
	}
	var may func(context.Context, telemetry.Sender) (bool, error)
	if w.pipeline.Collector != nil { // otherwise nobody knows what a call is: the records go to a file only
		may = mayForward(w.pipeline.Feed, w.inside)
	}
	var find telemetry.Find
	if c.Intake.Listen != "" {
		if i.senders, err = bpf.LoadHolders(); err != nil {
			return nil, err
		}
		find = i.senders.Find
	}
	i.in, err = telemetry.Listen(telemetry.Options{
		Listen: c.Intake.Listen, Unix: c.Intake.Unix, Expose: c.Intake.Expose, Find: find,
		MaxMessage: int(c.Intake.MaxMessage),
		Dialects:   dialects,
		Said:       tell(w.pipeline.Feed, w.inside, log),
		May:        may,
		Forward:    i.forward,
		Log:        log,
	})
	if err != nil {
		return nil, err
	}
	w.inputs.add("agent telemetry", i.end)
	return i, nil
}

// tell adds facts to the record stream, at the time that they arrive.
func tell(feed *live.Feed, inside func(pid int) bool, log *slog.Logger) func(record.Said, telemetry.Sender) {
	return func(s record.Said, from telemetry.Sender) {
		boot, _, err := live.SystemClock()
		if err != nil {
			log.Error("an event of an agent's telemetry is dropped", "err", err)
			return
		}
		s.Outside, s.UID = from.PID != 0 && !inside(int(from.PID)), from.UID
		feed.Inject(record.AppendSaid(nil, boot, from.PID, from.Start, s))
	}
}

// verdictWithin is how long a request waits for the collector, whose stream is about 0.1 s behind unless it is flooded.
const verdictWithin = 2 * time.Second

// mayForward asks the collector, when it has read what was done before, whether the sender is outside of all calls.
func mayForward(feed *live.Feed, inside func(pid int) bool) func(context.Context, telemetry.Sender) (bool, error) {
	return func(ctx context.Context, from telemetry.Sender) (bool, error) {
		boot, _, err := live.SystemClock()
		if err != nil {
			return false, err
		}
		s := record.Said{Kind: record.SaidRequest, Outside: !inside(int(from.PID)), UID: from.UID}
		verdict := make(chan bool, 1)
		request := record.AppendSaid(nil, boot, from.PID, from.Start, s)
		if !feed.InjectAnd(request, func(taken bool) { verdict <- taken }) {
			return false, errors.New("the stream of records is full or has ended")
		}
		select {
		case may := <-verdict:
			return may, nil
		case <-ctx.Done():
			return false, ctx.Err()
		case <-time.After(verdictWithin):
			return false, errors.New("the stream of records is behind")
		}
	}
}

// forwardTo is where agents' telemetry goes on to; "" is nowhere.
func forwardTo(c *config.Config, by identity, getenv func(string) string) (b telemetry.Backend, to string, err error) {
	b = telemetry.Backend{
		HTTP:       c.Intake.Forward.HTTP,
		Timeout:    time.Duration(c.Exporters.OTLP[0].Timeout),
		QueueBytes: int(c.Intake.Forward.QueueBytes),
		UserAgent:  "sheetbend/" + build(),
		Headers:    c.Exporters.OTLP[0].Headers,
	}
	o := c.Exporters.OTLP[0]
	endpoint, found, err := otlp.FindEndpoint(o.Endpoint, otlp.Protocol(o.Protocol), getenv)
	if err != nil {
		return b, "", err
	}
	if found && endpoint.Protocol == otlp.HTTP {
		found = false
		if base, ok := strings.CutSuffix(endpoint.String(), otlp.Traces.Path()); ok {
			b.HTTP = cmp.Or(b.HTTP, base)
		}
	}
	if found {
		b.GRPC, to = endpoint.Target, endpoint.String()
		if by.other() && strings.HasPrefix(b.GRPC, "unix:") { // it would be opened as root
			return b, "", fmt.Errorf("agents' telemetry is not forwarded to a socket (%s) for user %s: name an address",
				to, by.name)
		}
	}
	if b.HTTP != "" {
		to = b.HTTP
	}
	if len(b.Headers) == 0 {
		b.Headers = headers(otlpVariable(getenv, "HEADERS"))
	}
	if found && !endpoint.Insecure || strings.HasPrefix(b.HTTP, "https:") {
		b.TLS, err = tlsFiles(c.Exporters.OTLP[0], by.rights).Config(getenv)
	}
	if found && endpoint.Insecure && b.TLS != nil {
		return b, "", errors.New("intake.forward.http is https and the OTLP endpoint of the spans is not: " +
			"use TLS for both or for none")
	}
	return b, to, err
}

// otlpVariable reads a standard variable of the OTLP exporter, that of traces first, as the exporter of spans does.
func otlpVariable(getenv func(string) string, suffix string) string {
	if v := strings.TrimSpace(getenv("OTEL_EXPORTER_OTLP_TRACES_" + suffix)); v != "" {
		return v
	}
	return strings.TrimSpace(getenv("OTEL_EXPORTER_OTLP_" + suffix))
}

// headers reads "key=value,key=value" with percent-encoded values, as the OTLP exporter specification has it.
func headers(text string) map[string]string {
	m := map[string]string{}
	for pair := range strings.SplitSeq(text, ",") {
		k, v, ok := strings.Cut(pair, "=")
		if k = strings.TrimSpace(k); !ok || k == "" {
			continue
		}
		if decoded, err := url.PathUnescape(strings.TrimSpace(v)); err == nil {
			m[k] = decoded
		}
	}
	return m
}

// url is the base address for OTLP over HTTP, and over gRPC.
func (i *intake) url() string { return "http://" + i.in.Addr().String() }

// end takes no more in; what was taken is in the stream when it returns, so the feed has to end after it.
func (i *intake) end() error {
	ctx, cancel := context.WithTimeout(context.Background(), intakeEndsWithin)
	defer cancel()
	return i.in.Close(ctx)
}

// close forwards what waits, until ctx ends. To be called after end.
func (i *intake) close(ctx context.Context) error {
	err := i.senders.Close()
	if i.forward == nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, shutdownWithin)
	defer cancel()
	return errors.Join(err, i.forward.Shutdown(ctx))
}

// dropped says in words what was not read or forwarded. To be called after close.
func (i *intake) dropped() (lines []string) {
	if i == nil {
		return nil
	}
	add := func(n uint64, noun, what string) {
		if n > 0 {
			lines = append(lines, count(n, noun)+" "+what)
		}
	}
	s := i.in.Stats()
	add(s.TooLarge+s.Malformed+s.Busy, "request", "of agent telemetry refused (too large, malformed or too many)")
	add(s.Inside, "request", "of agent telemetry refused: sent from inside of a tool call")
	add(s.Forged, "request",
		"of agent telemetry refused: with the scope, attributes or trace ids of Sheetbend's own spans")
	add(s.ConnsRefused+s.ConnsDisplaced, "connection", "of agent telemetry closed: too many")
	add(s.FactsLost, "event", "of agent telemetry not read: too many at once")
	if i.forward != nil {
		add(i.forward.Stats().Dropped(), "message", "of agent telemetry not delivered to "+i.to)
	}
	return lines
}
