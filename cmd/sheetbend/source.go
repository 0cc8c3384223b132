// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/sheetbend/sheetbend/collector"
	"github.com/sheetbend/sheetbend/collector/capture"
	"github.com/sheetbend/sheetbend/collector/span"
	"github.com/sheetbend/sheetbend/enrich/marker/client"
	"github.com/sheetbend/sheetbend/exporters/otlp"
	"github.com/sheetbend/sheetbend/exporters/recorder"
)

// A source is what a command shows spans of: a recorded session or a file.
type source struct {
	ctx    context.Context
	socket string // of one sensor; "": all that are found
	name   string // of a file, the id of a session or the beginning of one, "-" for standard input, "": my last session
	who    identity
}

// spans hands a sink all spans. What came before an error is good. sink may keep nothing of them.
func (s source) spans(sink span.Sink) error {
	if s.isFile() {
		return s.readFile(sink, nil)
	}
	d := &otlp.Decoder{}
	sink = &once{Sink: sink, seen: make(map[span.Link]struct{})}
	return s.readSession(func(traces []byte) error { return d.Decode(traces, sink) })
}

// messages hands over all spans as TracesData messages that can be decoded, each valid until the next.
func (s source) messages(to func(traces []byte) error) error {
	take := func(traces []byte) error {
		if err := otlp.Check(traces); err != nil {
			return err
		}
		return to(traces)
	}
	if s.isFile() {
		return s.readFile(nil, take)
	}
	return s.readSession(take)
}

// fileSuffixes are those of captures, recordings and span files.
var fileSuffixes = []string{".capture", ".cap", ".json", ".jsonl", ".gz", ".zst"}

// isFile says whether the name is that of a file. A bare name is a session's, whatever lies in the working directory:
// an agent may have written there.
func (s source) isFile() bool {
	return s.name == "-" || strings.Contains(s.name, "/") || slices.Contains(fileSuffixes, filepath.Ext(s.name))
}

// readFile reads a capture, a recording, or a file of OTLP JSON lines, to a sink or else as messages.
func (s source) readFile(sink span.Sink, take func(traces []byte) error) error {
	var in io.Reader = os.Stdin
	if s.name != "-" {
		f, err := s.who.open(s.name)
		if err != nil {
			return fmt.Errorf("read spans: %w", err)
		}
		defer f.Close()
		in = f
	}
	r := bufio.NewReader(in)
	head, _ := r.Peek(4)
	if take == nil {
		d := &otlp.Decoder{}
		again := &once{Sink: sink, seen: make(map[span.Link]struct{})}
		take = func(traces []byte) error { return d.Decode(traces, again) }
	}
	var err error
	switch {
	case recorder.Begins(head):
		err = recorder.Read(r, func(_ *recorder.Summary, traces []byte) error { return take(traces) })
	case len(head) > 0 && head[0] == '{':
		err = readLines(r, take)
	default:
		err = readCapture(r, sink, take)
	}
	if errors.Is(err, capture.ErrFormat) {
		err = errors.New("it is no capture, no recording and no file of spans (OTLP JSON lines)")
	}
	if err != nil {
		return fmt.Errorf("%s: %w", s.name, err)
	}
	return nil
}

// readCapture makes the spans of a capture.
func readCapture(in io.Reader, sink span.Sink, take func(traces []byte) error) error {
	r, err := capture.NewReader(in)
	if err != nil {
		return err
	}
	var failure error
	if sink == nil {
		sink = otlp.NewEncoder(r.Header().Sensor, otlp.Limits{}, func(b otlp.Batch) {
			if failure == nil {
				failure = take(b.AppendRequest(nil))
			}
		})
	}
	coll, err := collector.New(r.Header().Config, sink)
	if err != nil {
		return err
	}
	err = feedCapture(coll, r, nil)
	coll.Close()
	return errors.Join(err, failure)
}

// readLines reads OTLP JSON, an ExportTraceServiceRequest a line. A last line without an end was not written whole.
func readLines(in io.Reader, take func(traces []byte) error) error {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, otlp.MaxLine)
	var decode ptrace.JSONUnmarshaler
	var encode ptrace.ProtoMarshaler
	n := 1
	for ; lines.Scan(); n++ {
		if len(strings.TrimSpace(lines.Text())) == 0 {
			continue
		}
		if err := otlp.CheckJSON(lines.Bytes()); err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
		traces, err := decode.UnmarshalTraces(lines.Bytes())
		if err != nil {
			return fmt.Errorf("line %d is no OTLP JSON of spans: %w", n, err)
		}
		message, err := encode.MarshalTraces(traces)
		if err == nil {
			err = take(message)
		}
		if err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
	}
	if errors.Is(lines.Err(), bufio.ErrTooLong) {
		return fmt.Errorf("line %d is longer than %d MiB: have who wrote it send fewer spans at a time", n, otlp.MaxLine>>20)
	}
	return lines.Err()
}

// readSession reads the recordings of a session from its sensor.
func (s source) readSession(take func(traces []byte) error) error {
	found, err := s.recordings()
	if err != nil {
		return err
	}
	for _, rec := range found {
		if err := rec.read(s.ctx, take); err != nil {
			return fmt.Errorf("session %s: %w", rec.Session, err)
		}
	}
	return nil
}

// A recorded session is one that a sensor has on disk.
type recorded struct {
	client.Recording
	at sensor
}

func (r recorded) read(ctx context.Context, take func(traces []byte) error) error {
	in, err := with(r.at.as, func() (io.ReadCloser, error) { return r.at.Recording(ctx, r.Name) })
	if err != nil {
		return err
	}
	defer in.Close()
	// The sensor does not wait for who reads slowly, as a pager may.
	f, err := os.CreateTemp("", "sheetbend-*")
	if err != nil {
		return err
	}
	defer f.Close()
	if err := os.Remove(f.Name()); err != nil {
		return err
	}
	if _, err := io.Copy(f, in); err != nil {
		return err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	return recorder.Read(f, func(_ *recorder.Summary, traces []byte) error { return take(traces) })
}

// listRecordings asks every sensor, or that of the socket, the recording with the newest span last. An error of one is
// reported when no other answers.
func listRecordings(ctx context.Context, socket string) (all []recorded, err error) {
	answered, records := false, false
	for _, c := range sensors(socket) {
		list, askErr := with(c.as, func() ([]client.Recording, error) { return c.Recordings(ctx) })
		switch {
		case askErr == nil:
			answered, records = true, records || list != nil
			for _, r := range list {
				all = append(all, recorded{r, c})
			}
		case !errors.Is(askErr, client.ErrAbsent):
			err = errors.Join(err, askErr)
		}
	}
	switch {
	case !answered:
		return nil, cmp.Or(err, noSensor(socket))
	case !records:
		return nil, errRecordsNothing
	}
	slices.SortStableFunc(all, func(a, b recorded) int { return a.Last.Compare(b.Last) })
	return all, nil
}

// errRecordsNothing says that the sensors that run have no recorder.
var errRecordsNothing = errors.New(
	"no sensor of this host records sessions: recorder.path in its configuration says where")

// errNoSession is wrapped when there is no recording of a session.
var errNoSession = errors.New("no recorded session")

// recordings are those of the session, in the order in which they began: an agent that goes on with a session has
// another one.
func (s source) recordings() ([]recorded, error) {
	all, err := listRecordings(s.ctx, s.socket)
	if err != nil {
		return nil, err
	}
	var found []recorded
	if s.name == "" {
		if len(all) == 0 {
			return nil, fmt.Errorf("%w yet: start an agent that the sensor watches", errNoSession)
		}
		found = ofSession(all, myLast(all, s.who.uid()).Session)
	} else if found, err = named(all, s.name); err != nil {
		return nil, err
	}
	slices.SortStableFunc(found, func(a, b recorded) int { return a.Start.Compare(b.Start) })
	return found, nil
}

// uid is the user that stands behind the command.
func (i identity) uid() uint32 {
	if i.credential != nil {
		return i.credential.Uid
	}
	return uint32(os.Geteuid())
}

// myLast is the newest session of a user, one of an agent if there is one; of anybody's, if none is the user's.
func myLast(all []recorded, uid uint32) recorded {
	best, rank := all[len(all)-1], 0
	for _, r := range all {
		n := 0
		if r.User != nil && *r.User == uid {
			n = 2
		}
		if r.Agent != "" {
			n++
		}
		if n >= rank {
			best, rank = r, n
		}
	}
	return best
}

// ofSession are the recordings of one session.
func ofSession(all []recorded, id string) (found []recorded) {
	for _, r := range all {
		if r.Session == id || r.Instance == id {
			found = append(found, r)
		}
	}
	return found
}

// named finds the recordings of a session by its id, that of an agent instance or of another session in it, or by the
// beginning of one that only one session has.
func named(all []recorded, id string) ([]recorded, error) {
	if found := ofSession(all, id); len(found) > 0 {
		return found, nil
	}
	var found []recorded
	sessions := map[string]bool{}
	for _, r := range all {
		if r.Is(id) {
			found = append(found, r)
			sessions[r.Session] = true
		}
	}
	if len(found) > 0 {
		return found, nil
	}
	for _, r := range all {
		if slices.ContainsFunc(append([]string{r.Session, r.Instance}, r.Sessions...), func(s string) bool {
			return strings.HasPrefix(s, id)
		}) {
			found = append(found, r)
			sessions[r.Session] = true
		}
	}
	switch len(sessions) {
	case 0:
		return nil, fmt.Errorf("%w is %s: sheetbend sessions lists them; a file of that name is ./%[2]s", errNoSession, id)
	case 1:
		return found, nil
	}
	return nil, fmt.Errorf("%d recorded sessions begin with %s: give more of it", len(sessions), id)
}

// once leaves out what comes a second time, as after a kill of the sensor.
type once struct {
	span.Sink
	seen map[span.Link]struct{}
}

// maxSeen bounds what is remembered for that.
const maxSeen = 4 << 20

// Span implements span.Sink.
func (o *once) Span(s *span.Span) {
	at := span.Link{Trace: s.Trace, Span: s.ID}
	if _, again := o.seen[at]; again {
		return
	}
	if len(o.seen) < maxSeen {
		o.seen[at] = struct{}{}
	}
	o.Sink.Span(s)
}

// feedCapture hands a collector the records of a capture; after each it calls wait, if there is one. Before an error all
// that came before it was handed on.
func feedCapture(coll *collector.Collector, r *capture.Reader, wait func()) error {
	for {
		raw, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		_ = coll.Record(raw) // as live: skipped, counted and told as a span
		if wait != nil {
			wait()
		}
	}
}
