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
	"log/slog"
	"os"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/sheetbend/sheetbend/collector"
)

// Kind is the kind of an entry.
type Kind uint8

// The kinds.
const (
	// Record is a record of the stream.
	Record Kind = 1
	// Slice says that a trace goes on in another slice from here on. It always stands between two records.
	Slice Kind = 2
	// Claimed says which agent has had which session since the record before it.
	Claimed Kind = 3
	// End says that everything held was sent: the sensor ended cleanly. Data is its time.
	End Kind = 4
	// Reached says who has reached into a process or an agent, by the record before it.
	Reached Kind = 5
)

// Entry is one entry. Data is the caller's until the next one is read.
type Entry struct {
	Kind Kind
	Data []byte
}

// The texts of facts. What comes before the last word says which trace, and what comes after the third one all but
// whose claim it is.
const (
	sliceText = "%q %q %t %t %d"
	claimText = "%d %d %d %d %t %q %q %q"
	reachText = "%d %d %d %t %d %q"
)

// EncodeSlice gives the Data of a Slice entry.
func EncodeSlice(s collector.Slice) []byte {
	return fmt.Appendf(nil, sliceText, s.Instance, s.Call, s.Story, s.Joined, s.Number)
}

// DecodeSlice decodes it.
func DecodeSlice(b []byte) (s collector.Slice, ok bool) {
	_, err := fmt.Sscanf(string(b), sliceText, &s.Instance, &s.Call, &s.Story, &s.Joined, &s.Number)
	return s, err == nil
}

// EncodeClaim gives the Data of a Claimed entry.
func EncodeClaim(k collector.Claim) []byte {
	return fmt.Appendf(nil, claimText, k.Agent.Tgid, k.Agent.Start, k.Agent.ExecID, k.UID, k.Nested, k.Place, k.Dialect,
		k.Session)
}

// DecodeClaim decodes it.
func DecodeClaim(b []byte) (k collector.Claim, ok bool) {
	_, err := fmt.Sscanf(string(b), claimText, &k.Agent.Tgid, &k.Agent.Start, &k.Agent.ExecID, &k.UID, &k.Nested, &k.Place,
		&k.Dialect, &k.Session)
	return k, err == nil
}

// EncodeReach gives the Data of a Reached entry.
func EncodeReach(r collector.Reach) []byte {
	return fmt.Appendf(nil, reachText, r.Of.Tgid, r.Of.Start, r.Of.ExecID, r.Agent, r.By.Tgid, r.By.Call)
}

// DecodeReach decodes it.
func DecodeReach(b []byte) (r collector.Reach, ok bool) {
	_, err := fmt.Sscanf(string(b), reachText, &r.Of.Tgid, &r.Of.Start, &r.Of.ExecID, &r.Agent, &r.By.Tgid, &r.By.Call)
	return r, err == nil
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
	// MaxBytes is how large the file may become, but for what is appended while it is compacted: 64 MiB.
	MaxBytes int64
	// First is at which size it is compacted first: 8 MiB.
	First int64
	Log   *slog.Logger // discards if nil
}

const (
	magic    = "sheetbend journal 3\n"
	headSize = 128
	// Then Config.Starts, and what Settle was given.
	textSize, atStarts, atSettled = headSize - 16, headSize - 16, headSize - 8
	// An entry: length u32, checksum u32, kind u8.
	entryHead = 9
	// maxEntry is more than any record has: 64 KiB of arguments or paths, and what is around them.
	maxEntry = 128 << 10
	growBy   = 256 << 10
)

var table = crc32.MakeTable(crc32.Castagnoli)

// Journal is for one goroutine, but for Overflows.
type Journal struct {
	cfg        Config
	f          *os.File
	mapped     []byte // with room for all that it may become
	size       int    // of the file: up to there mapped may be touched
	at         int    // of the next entry
	limit      int64  // size at which it is compacted
	overflows  atomic.Uint64
	compaction *compaction // nil: none is under way
}

// Open opens the journal, or begins one. What an earlier process left is read by Replay, which has to be called first.
func Open(cfg Config) (j *Journal, err error) {
	if cfg.MaxBytes <= 0 {
		cfg.MaxBytes = 64 << 20
	}
	if cfg.First <= 0 {
		cfg.First = 8 << 20
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	for {
		if j, err = openAt(cfg, os.O_CREATE); err != nil || j.inPlace() {
			break
		}
		_ = j.Close() // whoever had it has compacted it meanwhile
	}
	if err == nil {
		_ = os.Remove(cfg.Path + ".new") // half a compaction. Without the lock it might be under way
	}
	return j, err
}

func openAt(cfg Config, flags int) (*Journal, error) {
	f, err := openFile(cfg.Path, flags|os.O_RDWR)
	if err != nil {
		return nil, err
	}
	j := &Journal{cfg: cfg, f: f, limit: min(cfg.First, cfg.MaxBytes)}
	if err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err == nil {
		j.mapped, err = unix.Mmap(int(f.Fd()), 0, int(2*cfg.MaxBytes), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock and map the journal %s: %w", cfg.Path, err), f.Close())
	}
	return j, nil
}

// inPlace says whether the file is still the one at its path.
func (j *Journal) inPlace() bool {
	mine, err := j.f.Stat()
	there, thereErr := os.Lstat(j.cfg.Path)
	return err == nil && thereErr == nil && os.SameFile(mine, there)
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

func (c *Config) head() []byte {
	head := make([]byte, headSize)
	copy(head[copy(head, magic):textSize], c.Content)
	binary.LittleEndian.PutUint64(head[atStarts:], c.Starts)
	return head
}

// Replay gives the entries that an earlier process left, up to the first that is not whole. Afterwards the journal
// goes on behind them. dropped is the size of one that cannot be used: of another version, boot or process. Settled is
// known from the first entry on.
func (j *Journal) Replay(yield func(*Entry)) (dropped int64, err error) {
	st, err := j.f.Stat()
	if err != nil {
		return 0, err
	}
	head := j.cfg.head()
	if !j.mine(head, st.Size()) {
		return st.Size(), j.reset()
	}
	copy(j.mapped, head[:atSettled])
	at := headSize
	for e, next, ok := j.entry(at, int(st.Size())); ok; e, next, ok = j.entry(at, int(st.Size())) {
		at = next
		yield(&e)
	}
	return 0, j.goOn(at)
}

// mine says whether a file of this size can be used by who writes this head.
func (j *Journal) mine(head []byte, size int64) bool {
	if size < headSize || size > int64(len(j.mapped)) || !bytes.Equal(j.mapped[:textSize], head[:textSize]) ||
		len(j.cfg.Content) > textSize-len(magic) {
		return false
	}
	before, now := binary.LittleEndian.Uint64(j.mapped[atStarts:]), j.cfg.Starts
	// The same number: that process was killed before it read anything.
	return now == 0 || now > 1 && (before+1 == now || before == now)
}

// entry decodes the entry at a place. Whatever is no whole entry is the end.
func (j *Journal) entry(at, end int) (e Entry, next int, ok bool) {
	if end-at < entryHead {
		return e, at, false
	}
	n := int(binary.LittleEndian.Uint32(j.mapped[at:]))
	if n < entryHead || n > maxEntry || n > end-at {
		return e, at, false
	}
	b := j.mapped[at : at+n]
	e = Entry{Kind: Kind(b[8]), Data: b[entryHead:]}
	return e, at + n, crc32.Checksum(b[8:], table) == binary.LittleEndian.Uint32(b[4:])
}

// goOn has the next entry written at a place in the file; what is behind it is given up.
func (j *Journal) goOn(at int) error {
	j.at, j.size = at, at
	if err := j.f.Truncate(int64(at)); err != nil {
		return err
	}
	return j.grow()
}

// grow makes room for any entry. It is reserved first: a page that the tmpfs has no room for would be a signal, not an
// error.
func (j *Journal) grow() error {
	if j.size+growBy > len(j.mapped) {
		return errors.New("the journal is full")
	}
	if err := unix.Fallocate(int(j.f.Fd()), 0, int64(j.size), growBy); err != nil {
		return fmt.Errorf("make room in the journal: %w", err)
	}
	// What was written is the file's, and need not count as this process's memory.
	_ = unix.Madvise(j.mapped[:j.size&^(os.Getpagesize()-1)], unix.MADV_DONTNEED)
	j.size += growBy
	return nil
}

func (j *Journal) reset() error {
	if err := j.goOn(headSize); err != nil {
		return err
	}
	copy(j.mapped, j.cfg.head())
	return nil
}

// Append writes an entry. A kill afterwards does not lose it. One that is larger than any may be is left out, and
// counted as an overflow: a later process lacks that one, which is less than all.
func (j *Journal) Append(e *Entry) error {
	n := entryHead + len(e.Data)
	if n > maxEntry {
		j.overflows.Add(1)
		j.cfg.Log.Error("a record is too large for the journal", "bytes", n)
		return nil
	}
	if j.at+n > j.size {
		if err := j.grow(); err != nil {
			return err
		}
	}
	b := j.mapped[j.at : j.at+n]
	b[8] = byte(e.Kind)
	copy(b[entryHead:], e.Data)
	binary.LittleEndian.PutUint32(b[4:], crc32.Checksum(b[8:], table))
	binary.LittleEndian.PutUint32(b, uint32(n)) // with that it is there
	j.at += n
	if j.compaction != nil {
		j.compaction.owed += compactPerByte * n
	}
	return nil
}

// Settle says that the spans of all records up to the Tick or End of a time (boottime, not 0) are where a kill does not
// reach them. A kill afterwards does not lose it.
func (j *Journal) Settle(time uint64) { binary.LittleEndian.PutUint64(j.mapped[atSettled:], time) }

// Settled is what Settle was given last, by an earlier process, too; 0: nothing.
func (j *Journal) Settled() uint64 { return binary.LittleEndian.Uint64(j.mapped[atSettled:]) }

// Path is where it lies.
func (j *Journal) Path() string { return j.cfg.Path }

// Full says that the journal should be compacted.
func (j *Journal) Full() bool { return int64(j.at) >= j.limit }

// Over says that it has to be: it is as large as it may become.
func (j *Journal) Over() bool { return int64(j.at) >= j.cfg.MaxBytes }

// Overflows is how often something was left out that a later process could need. Safe for concurrent use.
func (j *Journal) Overflows() uint64 { return j.overflows.Load() }

// Close leaves the file for the next process.
func (j *Journal) Close() error {
	if j == nil {
		return nil
	}
	j.abandon()
	return j.close()
}

func (j *Journal) close() error {
	mapped := j.mapped
	j.mapped, j.size = nil, 0
	return errors.Join(unix.Munmap(mapped), j.f.Close())
}

// Remove deletes it.
func (j *Journal) Remove() error { return errors.Join(os.Remove(j.cfg.Path), j.Close()) }
