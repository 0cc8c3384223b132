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
	"time"

	"golang.org/x/term"

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
	encoder  *otlp.Encoder
	file     *file.Exporter
	path     string
	backends *backends
	recorder *recorder.Recorder
	tree     *terminal.Tree
	follow   *terminal.Follow

	shutdownWithin time.Duration
}

// show says what is drawn on a terminal.
type show struct {
	tree, follow bool
	to           *os.File
	color        string // auto, always, never
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
			o.file = file.Attach(f, log)
		}
		consumers = append(consumers, o.file.Write)
	}
	if len(endpoints) > 0 {
		if o.backends, err = openBackends(c, endpoints, sends, spools, d, log); err != nil {
			return nil, err
		}
		for _, e := range endpoints {
			log.Info("spans go over OTLP", "endpoint", e.String(), "protocol", e.Protocol, "because", e.Why)
		}
		consumers = append(consumers, o.backends.Offer)
	}
	if o.recorder, err = openRecorder(c, spools, c.Recorder.Path == config.DefaultRecorder, log); err != nil {
		return nil, err
	}
	if len(consumers) > 0 || o.recorder != nil {
		o.encoder = otlp.NewEncoder(version, otlp.Limits{}, consumers...)
		o.Sinks = append(o.Sinks, o.encoder)
		if o.recorder != nil {
			o.encoder.Tap(o.recorder)
		}
	}
	if s.tree || s.follow {
		draw := terminal.Options{Width: width(s.to), Color: colored(s.to, s.color, getenv)}
		if s.tree {
			o.tree = terminal.NewTree(draw)
			o.Sinks = append(o.Sinks, o.tree)
		}
		if s.follow {
			o.follow = terminal.NewFollow(s.to, draw)
			o.Sinks = append(o.Sinks, o.follow)
		}
	}
	return o, nil
}

// close writes and sends what waits, until ctx ends at the latest. Lost spans are no error:
// dropped counts them.
func (o *outputs) close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, o.shutdownWithin)
	defer cancel()
	var err error
	if o.recorder != nil {
		err = o.recorder.Close(ctx) // it waits for nobody
	}
	o.backends.close(ctx)
	if o.file != nil {
		err = errors.Join(err, o.file.Close(ctx))
	}
	return err
}

// delivered says how many of the first n spans a kill of this process does not reach.
func (o *outputs) delivered(n uint64) uint64 {
	if o.backends != nil && o.backends.dir != "" {
		n = min(n, o.backends.Durable())
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
	if o.encoder != nil {
		add(o.encoder.TooLarge(), "too large to be encoded")
	}
	lines = append(lines, o.backends.dropped()...)
	if o.file != nil {
		s := o.file.Stats()
		add(s.Dropped, "not written to %s", o.path)
		add(s.Full, "dropped because %s took them too slowly", o.path)
	}
	recordingsLost(o.recorder, add)
	return lines
}

func count(n uint64, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// render draws the tree, if there is to be one.
func (o *outputs) render(w io.Writer) error {
	if o.tree == nil {
		return nil
	}
	return o.tree.Render(w)
}

// width is 0 for what is no terminal.
func width(f *os.File) int {
	w, _, err := term.GetSize(int(f.Fd()))
	if err != nil {
		return 0
	}
	return w
}

func colored(f *os.File, when string, getenv func(string) string) bool {
	switch when {
	case "always":
		return true
	case "never":
		return false
	}
	// https://no-color.org: any value that is not empty.
	return term.IsTerminal(int(f.Fd())) && getenv("NO_COLOR") == "" && getenv("TERM") != "dumb"
}
