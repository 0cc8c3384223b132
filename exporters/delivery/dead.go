// SPDX-License-Identifier: Apache-2.0

package delivery

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sheetbend/sheetbend/exporters/otlp"
)

// DeadLetter is a batch that a backend refused for good, in a file of its own so that it can be looked at while the
// sensor runs.
type DeadLetter struct {
	ID      string // the file's name
	To      string // the destination
	Reason  string // that it gave
	Created time.Time
	Spans   int
	Size    int64 // of the file, in bytes
	Retry   bool  // waits to be sent again
	Batch   otlp.Batch
}

const (
	deadSuffix = ".letter"
	// retriesAtOnce is how many dead letters are sent again in one go.
	retriesAtOnce = 64
	// maxDeadLetters bounds the files of dead letters.
	maxDeadLetters = 4096
)

// deadLetters are the files of what backends refused for good.
type deadLetters struct {
	dir      string // of the spool
	maxBytes int64  // of all files together
	as       func(func() error) error
	log      *slog.Logger
	mu       sync.Mutex    // one change at a time
	dropped  atomic.Uint64 // spans for which there was no more room
}

// add makes a dead letter of e, and room for it.
func (l *deadLetters) add(e entry) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.as(func() error { return l.write(e) })
}

func (l *deadLetters) write(e entry) error {
	dir := filepath.Join(l.dir, deadName)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("set a batch aside: %w", err)
	}
	data := e.encode(nil)
	files, err := regular(dir, 2*maxDeadLetters)
	if err != nil {
		return fmt.Errorf("list the dead letters: %w", err)
	}
	var total int64
	for _, f := range files {
		total += f.Size()
	}
	for len(files) > 0 && (total+int64(len(data)) > l.maxBytes || len(files) >= maxDeadLetters) {
		name := filepath.Join(dir, files[0].Name())
		spans := uint64(0)
		if old, err := readDead(name); err == nil {
			spans = uint64(old.Spans)
		}
		if err := os.Remove(name); err != nil {
			return fmt.Errorf("make room for a dead letter: %w", err)
		}
		l.dropped.Add(spans)
		l.log.Warn("the oldest dead letter is dropped: there is no more room (spool.dead_letters)", "spans", spans)
		total -= files[0].Size()
		files = files[1:]
	}
	return writeWhole(filepath.Join(dir, fmt.Sprintf("%020d", time.Now().UnixNano())+deadEnd(e.to)), data)
}

// deadEnd is how the names of the dead letters of a destination end: it must be known without reading them.
func deadEnd(to string) string { return fmt.Sprintf("-%016x%s", hashed(to), deadSuffix) }

// writeWhole leaves either all of the file, and that for good, or nothing.
func writeWhole(name string, data []byte) (err error) {
	f, err := os.OpenFile(name+".part", os.O_WRONLY|os.O_CREATE|os.O_TRUNC|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(name+".part", name)
	}
	if err != nil {
		_ = os.Remove(name + ".part")
	}
	return err
}

// as calls f with the rights to files under the spool's directory.
func as[T any](q *Queue, f func() (T, error)) (v T, err error) {
	err = q.cfg.As(func() (err error) {
		v, err = f()
		return err
	})
	return v, err
}

// retryDead finds dead letters that are to be sent again. One whose destination is gone goes to the first that gets
// spans.
func (q *Queue) retryDead() {
	dir := filepath.Join(q.cfg.Dir, retryName)
	files, err := as(q, func() ([]fs.FileInfo, error) { return regular(dir, maxDeadLetters) })
	if err != nil || len(files) == 0 {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed { // Close may wait for the senders already: none may begin now
		return
	}
	lanes := q.lanes[spans]
	for _, l := range lanes {
		if len(l.retries) > 0 {
			return // those of the tick before
		}
	}
	for _, f := range files[:min(len(files), retriesAtOnce)] {
		to := lanes[max(0, slices.IndexFunc(lanes, func(l *lane) bool { return !l.unused }))]
		for _, l := range lanes {
			if strings.HasSuffix(f.Name(), deadEnd(l.endpoint)) {
				to = l
			}
		}
		to.retries = append(to.retries, filepath.Join(dir, f.Name()))
		to.start()
		to.changed.Broadcast()
	}
}

// retry sends a dead letter once: refused for good it is dead again, otherwise a later tick finds it.
func (l *lane) retry(name string) {
	letter, err := as(l.q, func() (DeadLetter, error) { return readDead(name) })
	if err != nil {
		return // dropped meanwhile
	}
	_, refusal, ended := l.attempt(letter.Batch)
	switch {
	case ended:
	case refusal == nil:
		_ = l.q.cfg.As(func() error { return os.Remove(name) })
		l.q.mu.Lock()
		l.stats.Recovered += uint64(letter.Spans)
		l.q.mu.Unlock()
		l.log.Info("a dead letter was delivered", "letter", letter.ID, "spans", letter.Spans)
	case refusal.Kind == otlp.Permanent || refusal.Kind == otlp.TooMuch:
		move := func() error { return moveDead(l.q.cfg.Dir, letter.ID, retryName, deadName) }
		if l.q.cfg.As(move) == nil {
			l.log.Warn("the OTLP backend refuses a dead letter again", "letter", letter.ID, "reason", refusal.Error())
		}
	default: // the others would do no better now, and hold up the batches
		l.q.mu.Lock()
		l.retries = nil
		l.q.mu.Unlock()
	}
}

func readDead(name string) (DeadLetter, error) {
	data, err := readBounded(name)
	if err != nil {
		return DeadLetter{}, fmt.Errorf("read the dead letter: %w", err)
	}
	e, err := decodeEntry(data)
	if err != nil {
		return DeadLetter{}, fmt.Errorf("read the dead letter %s: %w", name, err)
	}
	return DeadLetter{
		ID: strings.TrimSuffix(filepath.Base(name), deadSuffix), To: e.to, Reason: e.reason,
		Created: time.Unix(0, e.created), Spans: e.batch.Spans, Size: int64(len(data)), Batch: e.batch,
	}, nil
}

func readBounded(name string) ([]byte, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxEntry {
		return nil, errors.New("it is not a dead letter")
	}
	return io.ReadAll(io.LimitReader(f, maxEntry))
}

// DeadLetters lists the dead letters of a spool, which may be in use, the oldest first. The error names the files that
// cannot be read as dead letters; the others are listed all the same.
func DeadLetters(dir string) (found []DeadLetter, err error) {
	// One that moves while it is read is looked for again, a few times: the sensor tries them one after the other.
	for range 8 {
		var moved bool
		if found, moved, err = listDead(dir); !moved {
			break
		}
	}
	return found, err
}

func listDead(dir string) (letters []DeadLetter, moved bool, err error) {
	found := map[string]bool{}
	for _, sub := range []string{deadName, retryName} {
		files, listErr := regular(filepath.Join(dir, sub), 2*maxDeadLetters)
		if listErr != nil {
			return letters, false, fmt.Errorf("list the dead letters: %w", listErr)
		}
		for _, f := range files {
			if !strings.HasSuffix(f.Name(), deadSuffix) {
				continue
			}
			l, readErr := readDead(filepath.Join(dir, sub, f.Name()))
			if errors.Is(readErr, fs.ErrNotExist) || found[f.Name()] {
				moved = true // to the other directory, or it is gone
				continue
			}
			if readErr != nil {
				err = errors.Join(err, readErr)
				continue
			}
			l.Retry = sub == retryName
			letters, found[f.Name()] = append(letters, l), true
		}
	}
	return letters, moved, err
}

// Retry lets the sensor that has the spool, or the next that does, send a dead letter again.
func Retry(dir, id string) error { return moveDead(dir, id, deadName, retryName) }

// Drop deletes a dead letter.
func Drop(dir, id string) error {
	err := os.Remove(deadFile(dir, deadName, id))
	if errors.Is(err, fs.ErrNotExist) {
		err = os.Remove(deadFile(dir, retryName, id))
	}
	if err != nil {
		return fmt.Errorf("drop the dead letter %s: %w", id, err)
	}
	return nil
}

func moveDead(dir, id, from, to string) error {
	err := os.MkdirAll(filepath.Join(dir, to), 0o700)
	if err == nil {
		err = os.Rename(deadFile(dir, from, id), deadFile(dir, to, id))
	}
	if err != nil {
		return fmt.Errorf("move the dead letter %s: %w", id, err)
	}
	return nil
}

// deadFile stays within the directory whatever the id is.
func deadFile(dir, sub, id string) string {
	return filepath.Join(dir, sub, filepath.Base("/"+id)+deadSuffix)
}
