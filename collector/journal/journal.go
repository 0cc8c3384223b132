// SPDX-License-Identifier: Apache-2.0

// Package journal keeps the record stream in a file that outlives the process, on a tmpfs: what was read from the
// kernel and has not become spans on disk yet, and of what is older the records that say which processes, sessions and
// calls there are. The collector is deterministic, so reading it again makes the same state, and the same spans.
package journal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"

	"golang.org/x/sys/unix"
)

// Kind is the kind of an entry.
type Kind uint8

// The kinds.
const (
	// Record is a record of the stream.
	Record Kind = 1
	// Slice says that the record before it began another slice of a trace.
	Slice Kind = 2
	// Count says how far a trace has come, and Reads what a process has read: records that were left out had that. A
	// Reads also stands before the record of its process's end or next program, whose span reports it.
	Count Kind = 5
	Reads Kind = 6
	// Began says that the record before it began to hold a span. One that did not was counted in one that was held
	// already.
	Began Kind = 7
	// Whole says that from here on all spans come again as they came: what was left out before it does not matter any
	// more.
	Whole Kind = 8
	// Sliced is a Slice of which the record that began it is left out.
	Sliced Kind = 9
	// Claimed says which agent has had which session since the record before it.
	Claimed Kind = 10
	// End says that everything held was sent: the sensor ended cleanly.
	End Kind = 4
)

// Entry is one entry. Data is the caller's until the next one is read.
type Entry struct {
	Kind Kind
	Seq  uint64 // spans made before it
	Ring uint64 // position in the kernel's ring up to which all is in the journal
	Data []byte
}

// Config says where, and how much.
type Config struct {
	// Path is the file; Path+".new" is used, too.
	Path string
	// Content: a journal of another one is not read. The host's boot and the layouts of records belong into it.
	Content string
	// Starts counts the processes that read the kernel side, or one that it replaced. A journal that the one before
	// did not write is not read: what happened since is not in it. 1: this is the first.
	Starts uint64
	// MaxBytes is how large the file may become: 64 MiB.
	MaxBytes int64
	// Window is how much of it is mapped at a time: 256 KiB.
	Window int
}

const (
	magic    = "sheetbend journal 2\n"
	headSize = 128
	// Then Config.Starts, and the number of the last span of which all up to it are where a kill does not reach them.
	textSize, atStarts, atSettled = headSize - 16, headSize - 16, headSize - 8
	// An entry: length u32, checksum u32, position u64, seq u56 and kind u8.
	entryHead = 24
	// maxEntry is more than any record has: 64 KiB of arguments or paths, and what is around them.
	maxEntry   = 128 << 10
	skip       = ^uint32(0) // the rest of this window is empty
	firstLimit = 8 << 20
)

var table = crc32.MakeTable(crc32.Castagnoli)

// Journal is for one goroutine.
type Journal struct {
	cfg     Config
	f       *os.File
	base    int64 // of the mapped window
	window  []byte
	at      int   // in the window
	limit   int64 // of the file, at which it is compacted
	settled uint64
	stats   Stats

	compaction *compaction // nil: none is under way
}

// ErrTooLarge says that an entry cannot be written, for its size.
var ErrTooLarge = errors.New("larger than an entry may be")

// Stats count what a journal did.
type Stats struct {
	Bytes     int64  // of the file now
	Entries   uint64 // written by this process
	Resumed   uint64 // entries read at the start
	Torn      uint64 // bytes at the end that were no whole entry
	Compacted uint64
	Overflows uint64 // times that more had to be left out than what is not needed
}

// Open opens the journal, or begins one. What an earlier process left is read by Replay, which has to be called first.
func Open(cfg Config) (_ *Journal, err error) {
	if cfg.MaxBytes <= 0 {
		cfg.MaxBytes = 64 << 20
	}
	if cfg.Window <= 0 {
		cfg.Window = 256 << 10
	}
	j := &Journal{cfg: cfg, limit: min(firstLimit, cfg.MaxBytes)}
	if j.f, err = openFile(cfg.Path, os.O_RDWR|os.O_CREATE); err != nil {
		return nil, err
	}
	if err := unix.Flock(int(j.f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("lock the journal %s: %w", cfg.Path, err), j.f.Close())
	}
	_ = os.Remove(cfg.Path + ".new") // half a compaction. Without the lock it might be under way
	return j, nil
}

// openFile opens a regular file that belongs to this user alone.
func openFile(name string, flags int) (*os.File, error) {
	f, err := os.OpenFile(name, flags|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the journal: %w", err)
	}
	var st unix.Stat_t
	if err = unix.Fstat(int(f.Fd()), &st); err == nil && (int(st.Uid) != os.Geteuid() ||
		st.Mode&unix.S_IFMT != unix.S_IFREG || st.Mode&0o077 != 0 || st.Nlink != 1) {
		err = fmt.Errorf("owner %d and mode %o, should be a file of %d with 600", st.Uid, st.Mode, os.Geteuid())
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open the journal %s: %w", name, err), f.Close())
	}
	return f, nil
}

func (c *Config) head(settled uint64) []byte {
	head := make([]byte, headSize)
	copy(head[copy(head, magic):textSize], c.Content)
	binary.LittleEndian.PutUint64(head[atStarts:], c.Starts)
	binary.LittleEndian.PutUint64(head[atSettled:], settled)
	return head
}

// Replay gives the entries that an earlier process left, up to the first that is not whole. Afterwards the journal
// goes on behind them. ok is false if there were none of this content; then it is empty.
func (j *Journal) Replay(yield func(*Entry)) (ok bool, err error) {
	st, err := j.f.Stat()
	if err != nil {
		return false, err
	}
	head := make([]byte, headSize)
	_, readErr := j.f.ReadAt(head, 0)
	if readErr != nil || !bytes.Equal(head[:textSize], j.cfg.head(0)[:textSize]) ||
		len(j.cfg.Content) > textSize-len(magic) || st.Size() > 2*j.cfg.MaxBytes {
		return false, j.reset()
	}
	// The same number: that process was killed before it read anything.
	before, now := binary.LittleEndian.Uint64(head[atStarts:]), j.cfg.Starts
	if now == 1 || now > 1 && before+1 != now && before != now {
		return false, j.reset()
	}
	j.settled = binary.LittleEndian.Uint64(head[atSettled:])
	if _, err := j.f.WriteAt(j.cfg.head(j.settled), 0); err != nil {
		return false, fmt.Errorf("go on with the journal: %w", err)
	}
	end := int64(headSize)
	err = j.each(func(e *Entry, next int64) error {
		end = next
		j.stats.Resumed++
		yield(e)
		return nil
	})
	if err != nil {
		return false, err
	}
	j.stats.Torn = j.tail(end, st.Size())
	return j.stats.Resumed > 0, j.goOn(end)
}

// tail counts the bytes behind the end that are not zero: an entry that was being written.
func (j *Journal) tail(from, size int64) (n uint64) {
	buf := make([]byte, min(entryHead, max(0, size-from)))
	if _, err := j.f.ReadAt(buf, from); err != nil {
		return 0
	}
	return uint64(len(buf) - bytes.Count(buf, []byte{0}))
}

// goOn has the next entry written at a place in the file; what is behind it is given up.
func (j *Journal) goOn(at int64) error {
	if err := errors.Join(j.unmap(), j.f.Truncate(at)); err != nil {
		return err
	}
	size := int64(j.cfg.Window)
	return j.mapWindow(at/size*size, int(at%size))
}

func (j *Journal) reset() error {
	if err := errors.Join(j.unmap(), j.f.Truncate(0)); err != nil {
		return err
	}
	if _, err := j.f.WriteAt(j.cfg.head(j.settled), 0); err != nil {
		return fmt.Errorf("begin the journal: %w", err)
	}
	return j.goOn(headSize)
}

func (j *Journal) mapWindow(base int64, at int) error {
	// Reserved first: a page that the tmpfs has no room for would be a signal, not an error.
	if err := unix.Fallocate(int(j.f.Fd()), 0, base, int64(j.cfg.Window)); err != nil {
		return fmt.Errorf("make room in the journal: %w", err)
	}
	w, err := unix.Mmap(int(j.f.Fd()), base, j.cfg.Window, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("map the journal: %w", err)
	}
	j.base, j.window, j.at = base, w, at
	j.stats.Bytes = base + int64(j.cfg.Window)
	return nil
}

func (j *Journal) unmap() error {
	if j.window == nil {
		return nil
	}
	w := j.window
	j.window = nil
	return unix.Munmap(w)
}

// Append writes an entry. A kill afterwards does not lose it.
func (j *Journal) Append(e *Entry) error {
	if j.window == nil {
		return errors.New("the journal is closed")
	}
	n := entryHead + len(e.Data)
	if n > maxEntry || n > j.cfg.Window-headSize {
		return fmt.Errorf("an entry of %d bytes: %w", n, ErrTooLarge)
	}
	if j.at+n > len(j.window) {
		if len(j.window)-j.at >= 4 {
			binary.LittleEndian.PutUint32(j.window[j.at:], skip)
		}
		next := j.base + int64(len(j.window))
		if err := j.unmap(); err != nil {
			return err
		}
		if err := j.mapWindow(next, 0); err != nil {
			return err
		}
	}
	b := j.window[j.at : j.at+n]
	encode(b, e)
	j.at += n
	j.stats.Entries++
	if j.compaction != nil {
		j.compaction.owed += compactPerByte * n
	}
	return nil
}

func encode(b []byte, e *Entry) {
	binary.LittleEndian.PutUint64(b[8:], e.Ring)
	binary.LittleEndian.PutUint64(b[16:], e.Seq&(1<<56-1)|uint64(e.Kind)<<56)
	copy(b[entryHead:], e.Data)
	binary.LittleEndian.PutUint32(b[4:], crc32.Checksum(b[8:], table))
	binary.LittleEndian.PutUint32(b, uint32(len(b)))
}

// Settle says that all spans up to a number are where a kill does not reach them. A kill afterwards does not lose it.
// Replay may be under way.
func (j *Journal) Settle(seq uint64) error {
	if seq == j.settled {
		return nil
	}
	if _, err := j.f.WriteAt(binary.LittleEndian.AppendUint64(nil, seq), atSettled); err != nil {
		return fmt.Errorf("write what is settled: %w", err)
	}
	j.settled = seq
	return nil
}

// Path is where it lies.
func (j *Journal) Path() string { return j.cfg.Path }

// Full says that the journal should be compacted.
func (j *Journal) Full() bool { return j.base+int64(j.at) >= j.limit }

// Over says that it has to be: it is as large as it may become.
func (j *Journal) Over() bool { return j.base+int64(j.at) >= j.cfg.MaxBytes }

// Stats gives the counters as they are now.
func (j *Journal) Stats() Stats { return j.stats }

// Close leaves the file for the next process.
func (j *Journal) Close() error {
	if j == nil {
		return nil
	}
	return errors.Join(j.abandon(), j.unmap(), j.f.Close())
}

// Remove deletes it.
func (j *Journal) Remove() error { return errors.Join(os.Remove(j.cfg.Path), j.Close()) }
