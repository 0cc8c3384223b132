// SPDX-License-Identifier: Apache-2.0

// Package file writes spans in the format of the OpenTelemetry "OTLP File Exporter"
// specification: one ExportTraceServiceRequest as OTLP/JSON a line.
package file

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/sheetbend/sheetbend/exporters/otlp"
)

// What may wait for the disk or for the reader of a pipe. A sensor must not stand still for a write, and must not drop
// what it could write a moment later.
const (
	waitingBatches = 4096
	waitingBytes   = 32 << 20
)

// stopWithin is how long a write that was interrupted may take to return.
const stopWithin = 100 * time.Millisecond

// Exporter writes batches in a goroutine of its own.
type Exporter struct {
	name    string
	log     *slog.Logger
	batches chan otlp.Batch
	done    chan struct{}

	// Of the goroutine that calls Write.
	patient bool
	behind  bool // it is in the log that there is no room

	// Of the writing goroutine only.
	w       io.Writer
	file    *os.File // the same, if it is the Exporter's; swap is held to change it, and to read it elsewhere
	buf     []byte
	decode  ptrace.ProtoUnmarshaler
	encode  ptrace.JSONMarshaler
	torn    bool                     // what was written last is not the end of a line
	failing bool                     // the last batch was not written
	failure error                    // the first one
	open    func() (*os.File, error) // the file of this name anew; nil: it stays
	looked  time.Time                // when the name was looked at last
	astray  bool                     // it is in the log that the name is another file's, or nobody's

	swap                          sync.Mutex
	queued                        atomic.Int64  // bytes
	taken, full, written, dropped atomic.Uint64 // spans
	stop                          atomic.Bool   // Close waits no longer
	reopen                        atomic.Bool   // the name is to be looked at, whenever that was last
}

// Stats counts spans.
type Stats struct {
	Written uint64
	Dropped uint64 // not written because of a write error, or not before the end
	Full    uint64 // no room: the disk or the reader of the pipe is slower than the spans come
}

// Attach returns an Exporter that writes to f, on a new line if a crash left half a one, and closes it in
// the end. log may be nil.
func Attach(f *os.File, log *slog.Logger) *Exporter {
	e := prepare(f.Name(), f, log)
	e.file = f
	e.torn = endsWithinLine(f)
	go e.run()
	return e
}

// Follow returns an Exporter that writes to f, and to what open opens in its place once the file of that name is another
// one, or none: as after a rotation of logs. It looks at most once a second, and before the next batch after Reopen.
func Follow(f *os.File, open func() (*os.File, error), log *slog.Logger) *Exporter {
	e := prepare(f.Name(), f, log)
	e.file, e.open = f, open
	e.torn = endsWithinLine(f)
	go e.run()
	return e
}

// Reopen has the file of the name be looked for before the next batch. Safe for concurrent use.
func (e *Exporter) Reopen() { e.reopen.Store(true) }

// lookAround opens the file of the name anew if the one that is open has lost it. What cannot be opened is told once,
// and tried again; until then spans go on to the file that was.
func (e *Exporter) lookAround() {
	if e.open == nil || !e.reopen.Swap(false) && time.Since(e.looked) < time.Second {
		return
	}
	e.looked = time.Now()
	was, err := e.file.Stat()
	if err != nil || !was.Mode().IsRegular() {
		return
	}
	if is, err := os.Stat(e.name); err == nil && os.SameFile(was, is) {
		e.astray = false
		return
	}
	f, err := e.open()
	if err != nil {
		if !e.astray {
			e.log.Error("the span file was moved or removed, and cannot be opened anew: spans go on to the one that was",
				"file", e.name, "error", err)
		}
		e.astray = true
		return
	}
	if err := e.file.Close(); err != nil {
		e.log.Error("close the span file that was moved or removed", "file", e.name, "error", err)
	}
	e.w, e.torn, e.astray = f, endsWithinLine(f), false
	e.swap.Lock()
	e.file = f
	e.swap.Unlock()
	e.log.Info("the span file was moved or removed: spans go to a new one", "file", e.name)
}

// New returns an Exporter to w, called name in messages. log may be nil.
func New(name string, w io.Writer, log *slog.Logger) *Exporter {
	e := prepare(name, w, log)
	go e.run()
	return e
}

func prepare(name string, w io.Writer, log *slog.Logger) *Exporter {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Exporter{
		name:    name,
		log:     log,
		batches: make(chan otlp.Batch, waitingBatches),
		done:    make(chan struct{}),
		w:       w,
	}
}

// endsWithinLine opens f once more, by its descriptor, because f may be writable only.
func endsWithinLine(f *os.File) bool {
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() || info.Size() == 0 {
		return false
	}
	again, err := os.Open("/proc/self/fd/" + strconv.Itoa(int(f.Fd())))
	if err != nil {
		return false
	}
	defer again.Close()
	var last [1]byte
	_, err = again.ReadAt(last[:], info.Size()-1)
	return err == nil && last[0] != '\n'
}

// Patient makes Write wait where there is no room. For a source that can wait, as a capture can and the kernel
// cannot. To be called before Write.
func (e *Exporter) Patient() { e.patient = true }

// Write hands b over to be written as one line; it is a consumer for otlp.NewEncoder. It never waits, unless the
// Exporter is patient: where there is no room b is counted, and so is a batch that cannot be written. The next one is
// tried; the log has when that begins and when it ends. Not to be called after Close.
func (e *Exporter) Write(b otlp.Batch) {
	e.taken.Add(uint64(b.Spans))
	size := int64(b.Size())
	if e.patient {
		e.queued.Add(size)
		e.batches <- b
		return
	}
	room := e.queued.Load()+size <= waitingBytes
	if room {
		e.queued.Add(size)
		select {
		case e.batches <- b:
		default:
			room = false
			e.queued.Add(-size)
		}
	}
	if !room {
		e.full.Add(uint64(b.Spans))
	}
	switch {
	case !room && !e.behind:
		e.log.Warn("spans come faster than they can be written and are dropped: is the pipe read, is the disk slow?",
			"file", e.name)
		e.behind = true
	// Not at every batch that finds room: half of it has to be free.
	case room && e.behind && e.queued.Load() <= waitingBytes/2 && len(e.batches) <= waitingBatches/2:
		e.log.Warn("spans are written again", "file", e.name, "dropped", e.full.Load())
		e.behind = false
	}
}

func (e *Exporter) run() {
	defer close(e.done)
	for b := range e.batches {
		e.queued.Add(-int64(b.Size()))
		if e.stop.Load() {
			continue // Stats knows what was taken and not written
		}
		e.lookAround()
		err := e.line(b)
		if err == nil {
			e.written.Add(uint64(b.Spans))
		} else {
			e.dropped.Add(uint64(b.Spans))
		}
		if !e.stop.Load() {
			e.report(err)
		}
	}
}

// report says once that writing fails and once that it works again.
func (e *Exporter) report(err error) {
	if err != nil && e.failure == nil {
		e.failure = fmt.Errorf("write spans to %s: %w", e.name, err)
	}
	switch {
	case err != nil && !e.failing:
		e.log.Error("spans cannot be written to the file and are dropped", "file", e.name, "error", err)
	case err == nil && e.failing:
		e.log.Warn("spans are written to the file again", "file", e.name, "dropped", e.dropped.Load())
	}
	e.failing = err != nil
}

func (e *Exporter) line(b otlp.Batch) error {
	e.buf = b.AppendRequest(e.buf[:0])
	text, err := e.text(b.Signal)
	if err != nil {
		return fmt.Errorf("encode batch %d as JSON: %w", b.Seq, err)
	}
	e.buf = e.buf[:0]
	if e.torn {
		e.buf = append(e.buf, '\n')
	}
	e.buf = append(append(e.buf, text...), '\n')
	// One write a line, and none kept back: who follows the file sees batches in time.
	n, err := e.w.Write(e.buf)
	switch {
	case err == nil:
		e.torn = false
	case n > 0 && !e.takeBack(int64(n)):
		// What could not be taken back ends with the next line.
		e.torn = n != 1 || !e.torn
	}
	return err
}

// text is the request in buf as JSON.
func (e *Exporter) text(s otlp.Signal) ([]byte, error) {
	if s == otlp.Logs {
		logs, err := (&plog.ProtoUnmarshaler{}).UnmarshalLogs(e.buf)
		if err != nil {
			return nil, err
		}
		return (&plog.JSONMarshaler{}).MarshalLogs(logs)
	}
	traces, err := e.decode.UnmarshalTraces(e.buf)
	if err != nil {
		return nil, err
	}
	return e.encode.MarshalTraces(traces)
}

// takeBack removes the n bytes written last, so that the file ends with a whole line (or as it began).
func (e *Exporter) takeBack(n int64) bool {
	if e.file == nil {
		return false
	}
	info, err := e.file.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return false
	}
	end, err := e.file.Seek(0, io.SeekCurrent)
	if err != nil || end != info.Size() {
		return false // somebody else writes there, too
	}
	if e.file.Truncate(end-n) != nil {
		return false
	}
	_, err = e.file.Seek(end-n, io.SeekStart)
	return err == nil
}

// Stats is a snapshot. Safe for concurrent use.
func (e *Exporter) Stats() Stats {
	s := Stats{Written: e.written.Load(), Dropped: e.dropped.Load(), Full: e.full.Load()}
	if e.stop.Load() {
		s.Dropped = e.taken.Load() - s.Full - s.Written
	}
	return s
}

// Close waits until all batches are written, but not after ctx has ended: what is left then counts as dropped. It
// closes the file of Attach, and returns the first error there was. It may be called once.
func (e *Exporter) Close(ctx context.Context) error {
	close(e.batches)
	select {
	case <-e.done:
	case <-ctx.Done():
		if late := e.interrupt(); late != nil {
			return late
		}
	}
	var err error
	if e.file != nil {
		err = e.file.Close()
	}
	if e.failure != nil {
		return e.failure
	}
	if err != nil {
		return fmt.Errorf("close %s: %w", e.name, err)
	}
	return nil
}

// interrupt ends the writing. A write that cannot be interrupted (to what is no pipe of its own) is left alone, and
// so is the file.
func (e *Exporter) interrupt() error {
	select {
	case <-e.done:
		return nil
	case <-time.After(stopWithin): // the writing may be about to end by itself
	}
	e.stop.Store(true)
	e.swap.Lock()
	if e.file != nil {
		_ = e.file.SetWriteDeadline(time.Now()) // only of what the runtime polls, as pipes are
	}
	e.swap.Unlock()
	select {
	case <-e.done:
		return nil
	case <-time.After(stopWithin):
		return fmt.Errorf("write spans to %s: the last write does not end", e.name)
	}
}
