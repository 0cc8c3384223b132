// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"time"

	"github.com/sheetbend/sheetbend/bpf"
	"github.com/sheetbend/sheetbend/cmd/sheetbend/config"
	"github.com/sheetbend/sheetbend/collector/live"
	"github.com/sheetbend/sheetbend/collector/record"
	"github.com/sheetbend/sheetbend/enrich/agents"
	"github.com/sheetbend/sheetbend/enrich/telemetry"
)

// intakeEndsWithin is how long requests that are under way may take at the end.
const intakeEndsWithin = 2 * time.Second

// An intake takes in agents' own telemetry, for the collector and the backends. nil does nothing.
type intake struct {
	in      *telemetry.Intake
	senders *bpf.Holders // nil: TCP is not listened on
	alone   *backends    // where it is passed on if there are no spans; else nil
	to      string       // where it is passed on, for people
}

// openIntake listens as c.Intake says, until w ends. Facts go into its stream. What agents send is passed on to the
// backends of out, and if there is no out, to those that the configuration names.
func openIntake(
	c *config.Config, dialects []agents.Dialect, w *watch, out *outputs, by identity, getenv func(string) string,
	log *slog.Logger,
) (_ *intake, err error) {
	i := &intake{}
	var undo cleanups
	defer undo.onError(&err)
	undo.add("agent telemetry", func() error { return i.close(context.Background()) })
	var forward func(telemetry.Signal, []byte)
	if c.Intake.Forward {
		to, err := i.passesOn(c, w, out, by, getenv, log)
		if err != nil {
			return nil, err
		}
		if to != nil {
			forward, i.to = to.passOn, strings.Join(to.names, ", ")
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
		Forward:    forward,
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

// passesOn gives the backends that agents' telemetry goes to; nil if there are none.
func (i *intake) passesOn(
	c *config.Config, w *watch, out *outputs, by identity, getenv func(string) string, log *slog.Logger,
) (*backends, error) {
	if out != nil {
		return out.backends, nil
	}
	endpoints, err := findEndpoints(c, getenv)
	if err != nil || len(endpoints) == 0 {
		return nil, err
	}
	inMemory := *c
	inMemory.Spool.Path = config.NoSpool
	i.alone, err = openBackends(&inMemory, endpoints, by, by, w.dialer, log)
	return i.alone, err
}

// url is the base address for OTLP over HTTP, and over gRPC.
func (i *intake) url() string { return "http://" + i.in.Addr().String() }

// end takes no more in; what was taken is in the stream when it returns, so the feed has to end after it.
func (i *intake) end() error {
	ctx, cancel := context.WithTimeout(context.Background(), intakeEndsWithin)
	defer cancel()
	return i.in.Close(ctx)
}

// close sends what waits, until ctx ends. To be called after end.
func (i *intake) close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, shutdownWithin)
	defer cancel()
	i.alone.close(ctx)
	return i.senders.Close()
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
	return append(lines, i.alone.dropped()...)
}
