// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/sheetbend/sheetbend/cmd/sheetbend/config"
	"github.com/sheetbend/sheetbend/collector/pipeline"
	"github.com/sheetbend/sheetbend/exporters/file"
	"github.com/sheetbend/sheetbend/exporters/otlp"
	"github.com/sheetbend/sheetbend/exporters/recorder"
	"github.com/sheetbend/sheetbend/exporters/terminal"
)

// shutdownWithin is how long the backend has to take what waits for it at the end.
const shutdownWithin = 5 * time.Second

// outputs are all places that spans go to.
type outputs struct {
	pipeline.Sinks
	encoder  *otlp.Encoder // nil where no spans go
	events   *otlp.Encoder // of security events; nil where none go
	file     *file.Exporter
	path     string
	backends *backends
	spans    bool // go to the backends
	ending   *ending
	recorder *recorder.Recorder
	follow   *terminal.Follow

	shutdownWithin time.Duration
}

// show says what is drawn on a terminal.
type show struct {
	story, tree, all, follow bool // all: the whole tree, nothing folded; it is drawn without being asked for where no agent is
	to                       *os.File
	home                     string // of who looks
	display
}

// openOutputs opens a file with the rights of who, what is needed to send with those of sends, and the spool with
// those of spools. version is that of the sensor that made the records.
func openOutputs(
	c *config.Config, version string, who, sends, spools identity, d *dialer, mode outputMode, s show,
	getenv func(string) string, log *slog.Logger,
) (_ *outputs, err error) {
	o := &outputs{path: c.Exporters.File.Path, shutdownWithin: shutdownWithin}
	var undo cleanups
	defer undo.onError(&err)
	undo.add("spans", func() error { return o.close(context.Background()) })
	var consumers []func(otlp.Batch)
	endpoints, err := findEndpoints(c, getenv)
	if err != nil {
		return nil, err
	}
	if o.path != "" {
		if o.path == "-" {
			o.file = file.New("standard output", os.Stdout, log)
		} else {
			f, err := who.openOutput(o.path, mode)
			if err != nil {
				return nil, fmt.Errorf("open the span file: %w", err)
			}
			o.file = file.Follow(f, func() (*os.File, error) { return who.openOutput(o.path, again) }, log)
		}
		consumers = append(consumers, o.file.Write)
	}
	if len(endpoints) > 0 {
		if o.backends, err = openBackends(c, endpoints, sends, spools, d, log); err != nil {
			return nil, err
		}
		var spans, events bool
		for _, e := range endpoints {
			what := "spans go"
			switch {
			case !e.gets(otlp.Traces):
				what = "security events go"
			case e.gets(otlp.Logs):
				what = "spans and security events go"
			}
			log.Info(what+" over OTLP", "endpoint", e.String(), "protocol", e.Protocol, "because", e.Why)
			spans, events = spans || e.gets(otlp.Traces), events || e.gets(otlp.Logs)
		}
		if events {
			o.events = otlp.NewEventEncoder(version, otlp.Limits{}, o.backends.Offer)
			o.Sinks = append(o.Sinks, o.events)
			// No span is delivered before the event that it is: what the sensor's journal gives again is not more.
			consumers = append(consumers, func(otlp.Batch) { o.events.Flush() })
		}
		if o.spans = spans; spans {
			consumers = append(consumers, o.backends.Offer)
		}
	}
	if o.recorder, err = openRecorder(c, spools, c.Recorder.Path == config.DefaultRecorder, log); err != nil {
		return nil, err
	}
	if o.spans || o.file != nil || o.recorder != nil {
		o.encoder = otlp.NewEncoder(version, otlp.Limits{}, consumers...)
		o.Sinks = append(o.Sinks, o.encoder)
		if o.recorder != nil {
			o.encoder.Tap(o.recorder)
		}
	}
	if s.story || s.follow {
		draw := s.display.terminal(s.to, getenv)
		if s.story {
			draw.Fold = !s.all
			o.ending = newEnding(s.display.story(s.to, getenv, s.home), draw, s.tree || s.all)
			o.Sinks = append(o.Sinks, o.ending)
		}
		if s.follow {
			o.follow = terminal.NewFollow(s.to, draw)
			o.Sinks = append(o.Sinks, o.follow)
		}
	}
	return o, nil
}

// close writes and sends what waits, until ctx ends at the latest: all outputs at the same time. Lost spans are no
// error: dropped counts them.
func (o *outputs) close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, o.shutdownWithin)
	defer cancel()
	var toFile, toRecorder error
	var all sync.WaitGroup // none waits for another that is slow
	if o.recorder != nil {
		all.Go(func() { toRecorder = o.recorder.Close(ctx) })
	}
	if o.file != nil {
		all.Go(func() { toFile = o.file.Close(ctx) })
	}
	o.backends.close(ctx)
	all.Wait()
	return errors.Join(toRecorder, toFile)
}

// delivered says how many of the first n spans a kill of this process does not reach.
func (o *outputs) delivered(n uint64) uint64 {
	if o.backends != nil && o.backends.dir != "" {
		if o.spans {
			n = min(n, o.backends.Durable(otlp.Traces, o.encoder.Offered()))
		}
		if o.events != nil {
			n = min(n, o.backends.Durable(otlp.Logs, o.events.Offered()))
		}
	}
	if o.file != nil {
		s := o.file.Stats()
		n = min(n, s.Written+s.Dropped+s.Full)
	}
	if o.recorder != nil {
		n = o.recorder.Done(n)
	}
	return n
}

// waitsFor names the backends that have to take spans before the end; "" if there is none.
func (o *outputs) waitsFor() string {
	if o == nil || o.backends == nil || o.backends.dir != "" {
		return ""
	}
	return strings.Join(o.backends.names, ", ")
}

// backPressure waits while the backend is behind. A live stream cannot wait, a replay can.
func (o *outputs) backPressure() {
	for o.backends != nil && o.backends.Behind() {
		time.Sleep(time.Millisecond)
	}
}

// dropped lists, for people, what did not arrive.
func (o *outputs) dropped() (lines []string) {
	add := func(n uint64, format string, args ...any) {
		if n > 0 {
			lines = append(lines, count(n, "span")+" "+fmt.Sprintf(format, args...))
		}
	}
	add(o.tooLarge(), "too large to be encoded")
	lines = append(lines, o.backends.dropped()...)
	if o.file != nil {
		s := o.file.Stats()
		add(s.Dropped, "not written to %s", o.path)
		add(s.Full, "dropped because %s took them too slowly", o.path)
	}
	recordingsLost(o.recorder, add)
	return lines
}

// tooLarge counts spans and security events that were dropped for that.
func (o *outputs) tooLarge() (n uint64) {
	for _, e := range []*otlp.Encoder{o.encoder, o.events} {
		if e != nil {
			n += e.TooLarge()
		}
	}
	return n
}

func count(n uint64, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// render draws the story and the tree, if there are to be any.
func (o *outputs) render(w io.Writer) error {
	if o.ending == nil {
		return nil
	}
	return o.ending.render(w)
}
