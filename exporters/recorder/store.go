// SPDX-License-Identifier: Apache-2.0

package recorder

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sheetbend/sheetbend/enrich/marker/client"
)

const (
	suffix   = ".otlp.zst"
	newFile  = ".new" // one that is being written anew
	lockName = "lock"

	// A recording counts for so much of a share at least, and there are so many at most: each is known in memory.
	leastBytes     = 64 << 10
	mostRecordings = 16384
	// maxEvicted bounds the instances of which is known what there was no room for.
	maxEvicted = 1024
	// maxSameName bounds the recordings of one instance: the ones before cannot be gone on with.
	maxSameName = 100
)

// A recording is a file in the directory.
type recording struct {
	name    string
	sum     Summary
	size    int64  // bytes
	counted int64  // of a share
	first   uint64 // Until of its first block
	broken  error  // it cannot be read to its end, or not gone on with
}

// openDir makes or checks the directory, and keeps other processes out until the lock is closed.
func openDir(path string) (*os.Root, *os.File, error) {
	if !filepath.IsAbs(path) {
		return nil, nil, fmt.Errorf("recorder.path %q is not an absolute path: set one that begins with /", path)
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, nil, fmt.Errorf("make the recorder's directory: %w", err)
	}
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return nil, nil, fmt.Errorf("check the recorder's directory %s: %w", path, err)
	}
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFDIR:
		return nil, nil, fmt.Errorf("recorder.path %s is not a directory: remove it, or set another one", path)
	case int(st.Uid) != os.Geteuid():
		return nil, nil, fmt.Errorf("recorder.path %s belongs to the user with id %d, not to the one that runs sheetbend: "+
			"give the recorder a directory of its own", path, st.Uid)
	case st.Mode&0o077 != 0:
		return nil, nil, fmt.Errorf("recorder.path %s is open to other users (mode %04o): chmod 0700 it, "+
			"or give the recorder a directory of its own", path, st.Mode&0o7777)
	}
	dir, err := os.OpenRoot(path)
	if err != nil {
		return nil, nil, fmt.Errorf("open the recorder's directory: %w", err)
	}
	lock, err := dir.OpenFile(lockName, os.O_RDWR|os.O_CREATE, 0o600)
	if err == nil {
		if err = unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
			_ = lock.Close()
		}
	}
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = fmt.Errorf("recorder.path %s is in use by another sheetbend: stop that one, or set another path "+
			"(none: nothing is recorded)", path)
	} else if err != nil {
		err = fmt.Errorf("lock the recorder's directory %s: %w", path, err)
	}
	if err != nil {
		return nil, nil, errors.Join(err, dir.Close())
	}
	return dir, lock, nil
}

// load reads what is in the directory. The error is one of the directory; what is wrong with a file is in the log.
func (r *Recorder) load() error {
	entries, err := fs.ReadDir(r.dir.FS(), ".")
	if err != nil {
		return fmt.Errorf("list the recordings: %w", err)
	}
	for _, e := range entries {
		switch name := e.Name(); {
		case strings.HasSuffix(name, newFile):
			_ = r.dir.Remove(name) // the one that it was to replace is there
		case strings.HasSuffix(name, suffix) && e.Type().IsRegular():
			if err := r.loadFile(name); err != nil {
				r.o.Log.Warn("a recording cannot be used: move it away or remove it", "file", filepath.Join(r.o.Path, name),
					"error", err)
			}
		}
	}
	r.o.Log.Debug("recordings found", "recordings", len(r.all), "bytes", r.bytes)
	r.removeOld()
	r.shrink()
	return nil
}

// loadFile reads the summaries of a file, and cuts off what was half written.
func (r *Recorder) loadFile(name string) error {
	f, err := r.dir.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	rec := &recording{name: name}
	b, last, there := newBlocks(f), int64(0), uint64(0)
	for {
		at := b.at
		sum, nextErr := b.next(nil)
		if nextErr != nil {
			if !errors.Is(nextErr, io.EOF) {
				rec.broken = nextErr
			}
			break
		}
		if at == 0 {
			rec.first = sum.Until
		}
		last, rec.sum = at, sum
		there += sum.Count
	}
	rec.size = b.at
	rec.sum.Cut = rec.sum.Spans - min(rec.sum.Spans, there) // which the last block is older than, perhaps
	_, isDamaged := errors.AsType[*damaged](rec.broken)
	switch {
	case errors.Is(rec.broken, errNewer):
		r.stats.NewerFiles++
		return rec.broken
	case isDamaged && !endsInZeros(f, info.Size()):
		r.stats.DamagedFiles++
		r.o.Log.Warn("a recording is damaged, what comes before that can be read: sheetbend sessions rm removes it",
			"file", filepath.Join(r.o.Path, name), "error", rec.broken)
		if rec.size = info.Size(); rec.sum.Instance == "" {
			return rec.broken
		}
	case rec.broken != nil && !isDamaged && !errors.Is(rec.broken, errTorn):
		return rec.broken // it cannot be read now
	default:
		rec.broken = nil
		if !r.sound(f, last, rec.size) { // as after a crash of the machine
			rec.size = last
		}
		if torn := info.Size() - rec.size; torn > 0 {
			r.stats.TornBytes += uint64(torn)
			r.o.Log.Warn("cut off what was half written of a recording", "file", filepath.Join(r.o.Path, name), "bytes", torn)
			if rec.size == 0 {
				return r.dir.Remove(name)
			}
			if err := f.Truncate(rec.size); err != nil {
				return err
			}
			if rec.size == last { // the summary is that of the block before
				return r.loadFile(name)
			}
		}
	}
	r.all[name] = rec
	r.resize(rec, rec.size)
	if before := r.current[rec.sum.Instance]; rec.broken == nil && (before == nil || before.sum.Last < rec.sum.Last) {
		r.current[rec.sum.Instance] = rec
	}
	return nil
}

// sound says whether the block between from and to can be decompressed.
func (r *Recorder) sound(f *os.File, from, to int64) bool {
	if from == to {
		return true // there is none
	}
	ok := false
	err := Read(io.NewSectionReader(f, from, to-from), func(*Summary, []byte) error { ok = true; return nil })
	return ok && err == nil
}

// endsInZeros says whether a file has zeros at its end, as a crash of the machine leaves it.
func endsInZeros(f *os.File, size int64) bool {
	end := make([]byte, 8)
	_, err := f.ReadAt(end, size-int64(len(end)))
	return err == nil && !slices.ContainsFunc(end, func(b byte) bool { return b != 0 })
}

var plainName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$`)

// create makes the file of an instance.
func (r *Recorder) create(instance string) (*os.File, string, error) {
	if !plainName.MatchString(instance) {
		sum := sha256.Sum256([]byte(instance))
		instance = "x-" + hex.EncodeToString(sum[:16])
	}
	name := instance + suffix
	for i := 2; ; i++ {
		f, err := r.dir.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL|os.O_APPEND, 0o600)
		if !errors.Is(err, fs.ErrExist) || i > maxSameName {
			return f, name, err
		}
		name = instance + "." + strconv.Itoa(i) + suffix // one that is damaged, or of a newer version
	}
}

// counts is what a file counts for.
func (r *Recorder) counts(size int64) int64 {
	if size == 0 {
		return 0
	}
	return max(size, leastBytes, r.o.MaxBytes/mostRecordings)
}

// resize notes the size of a recording.
func (r *Recorder) resize(rec *recording, size int64) {
	if rec.first == 0 {
		rec.first = rec.sum.Until
	}
	if r.all[rec.name] == rec && rec.sum.Instance != "" {
		r.bytes += r.counts(size) - rec.counted
	}
	rec.size, rec.counted = size, r.counts(size)
}

// ownerOf is the user whose share a sandbox takes: whose program was seen in it first. Other users in it, which its
// root can make up, take nothing of anybody's.
func (r *Recorder) ownerOf(sandbox string) *uint32 {
	for _, rec := range r.all {
		if rec.sum.Sandbox == sandbox && rec.sum.Owner != nil {
			return rec.sum.Owner
		}
	}
	return nil
}

// shrink removes the oldest recordings of the user and the sandbox with most, until all is within bounds. files is held.
func (r *Recorder) shrink() {
	for {
		if r.bytes <= r.o.MaxBytes {
			return
		}
		rec := r.victim()
		if rec.size > r.o.MaxBytes/8 && rec.broken == nil {
			half := rec.size / 2
			if r.cut(rec, &r.stats.EvictedSize, func(at int64, _ *Summary) bool { return at < half }) == nil {
				continue
			}
		}
		if r.forget(rec, &r.stats.EvictedSize) != nil {
			return // report tells of a disk that does not take what is written
		}
	}
}

// victim is the oldest recording of the user who has most, of that user's sandboxes one that has no less than half of
// an equal share of that: so nobody's flood evicts what another has within it, and of many small ones the oldest go.
func (r *Recorder) victim() *recording {
	user := func(rec *recording) int64 {
		if rec.sum.Owner == nil {
			return -1
		}
		return int64(*rec.sum.Owner)
	}
	byUser, bySandbox := map[int64]int64{}, map[string]int64{}
	for _, rec := range r.all {
		byUser[user(rec)] += rec.counted
	}
	most, bytes := int64(-1), int64(-1)
	for u, n := range byUser {
		if n > bytes || n == bytes && u < most {
			most, bytes = u, n
		}
	}
	for _, rec := range r.all {
		if user(rec) == most {
			bySandbox[rec.sum.Sandbox] += rec.counted
		}
	}
	var oldest *recording
	for _, rec := range r.all {
		if user(rec) == most && bySandbox[rec.sum.Sandbox] >= bytes/int64(2*len(bySandbox)) &&
			(oldest == nil || older(rec, oldest) < 0) {
			oldest = rec
		}
	}
	return oldest
}

func older(a, b *recording) int {
	return cmp.Or(cmp.Compare(a.sum.Last, b.sum.Last), strings.Compare(a.name, b.name))
}

// removeOld removes recordings, and what is at the beginning of those that go on, that are too old.
func (r *Recorder) removeOld() {
	before := func(age time.Duration) uint64 { return uint64(max(0, r.clock().Add(-age).UnixNano())) }
	limit := before(r.o.MaxAge)
	var over, cut []*recording
	for _, rec := range r.all {
		switch {
		case rec.sum.Last < limit:
			over = append(over, rec)
		case rec.first < before(r.o.MaxAge+r.o.MaxAge/8) && rec.broken == nil: // not a bit each time
			cut = append(cut, rec)
		}
	}
	for _, rec := range over {
		_ = r.forget(rec, &r.stats.EvictedAge)
	}
	for _, rec := range cut {
		_ = r.cut(rec, &r.stats.EvictedAge, func(_ int64, s *Summary) bool { return s.Until < limit })
	}
}

// forget removes a recording, and counts its spans; nil: somebody else has removed it. What was not to be removed, one
// that goes on says that it had. files is held.
func (r *Recorder) forget(rec *recording, counter *uint64) error {
	if err := r.dir.Remove(rec.name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	r.index.Lock()
	defer r.index.Unlock()
	delete(r.all, rec.name)
	r.bytes -= rec.counted
	if r.current[rec.sum.Instance] == rec {
		delete(r.current, rec.sum.Instance)
		if counter != nil && counter != &r.stats.Removed {
			r.evicted[rec.sum.Instance] = rec.sum
			if len(r.evicted) > maxEvicted { // the one that goes on least likely
				delete(r.evicted, slices.MinFunc(slices.Collect(maps.Keys(r.evicted)), func(a, b string) int {
					return cmp.Compare(r.evicted[a].Until, r.evicted[b].Until)
				}))
			}
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if counter != nil {
		*counter += rec.sum.Spans - min(rec.sum.Spans, rec.sum.Cut)
	}
	return nil
}

// cut takes blocks away at the beginning of a recording, as long as drop says so, and counts their spans. files is held.
func (r *Recorder) cut(rec *recording, counter *uint64, drop func(at int64, s *Summary) bool) error {
	f, err := r.dir.Open(rec.name)
	if err != nil {
		return err
	}
	defer f.Close()
	var gone, first uint64
	var from int64
	for b := newBlocks(io.NewSectionReader(f, 0, rec.size)); ; {
		at := b.at
		s, err := b.next(nil)
		if err != nil {
			return err // all of it would go: that is left to forget
		}
		if !drop(at, &s) {
			from, first = at, s.Until
			break
		}
		gone += s.Count
	}
	if from == 0 {
		return nil
	}
	name := rec.name + newFile
	out, err := r.dir.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, io.NewSectionReader(f, from, rec.size-from))
	if err = errors.Join(err, out.Close()); err != nil {
		_ = r.dir.Remove(name)
		return err
	}
	r.index.Lock() // who opens it sees both the file and its size of before, or of now
	defer r.index.Unlock()
	if err := r.dir.Rename(name, rec.name); err != nil {
		_ = r.dir.Remove(name)
		return err
	}
	r.mu.Lock()
	*counter += gone
	r.mu.Unlock()
	rec.sum.Cut += gone
	rec.first = first
	r.resize(rec, rec.size-from)
	return nil
}

// shows says whether a user may see a recording: root all, others those whose first program was theirs.
func (r *Recorder) shows(rec *recording, uid uint32) bool {
	return uid == 0 || uid == r.o.User || rec.sum.User != nil && *rec.sum.User == uid
}

// List gives the recordings that a user may see, the one with the newest span last.
func (r *Recorder) List(uid uint32) []client.Recording {
	type entry struct {
		*recording
		last uint64
	}
	var found []entry
	r.index.Lock()
	for _, rec := range r.all {
		if r.shows(rec, uid) {
			found = append(found, entry{rec, rec.sum.Last})
		}
	}
	r.index.Unlock() // sorting them may take long
	slices.SortFunc(found, func(a, b entry) int {
		return cmp.Or(cmp.Compare(a.last, b.last), strings.Compare(a.name, b.name))
	})
	found = found[max(0, len(found)-maxListed):]
	r.index.Lock()
	defer r.index.Unlock()
	out := make([]client.Recording, 0, len(found))
	for _, rec := range found {
		s := &rec.sum
		out = append(out, client.Recording{
			Name: rec.name, Session: s.Session, Sessions: slices.Clone(s.Sessions[max(0, len(s.Sessions)-maxListedIDs):]), Instance: s.Instance, Sandbox: s.Sandbox,
			Agent: s.Agent, User: s.User, Start: wall(s.Start), Last: wall(s.Last), Spans: s.Spans, Calls: s.Calls,
			Failed: s.Failed, Lost: s.Lost, Cut: s.Cut, Bytes: rec.size, Damaged: rec.broken != nil,
		})
	}
	return out
}

// Bounds of a list: of recordings, the newest, and of the ids of sessions of each.
const (
	maxListed    = 1000
	maxListedIDs = 4
)

func wall(ns uint64) time.Time { return time.Unix(0, int64(ns)).UTC() }

// OpenRecording opens one by its name, as it is now. It is nil if there is none, or the user may not see it.
func (r *Recorder) OpenRecording(uid uint32, name string) (io.ReadCloser, error) {
	r.index.Lock()
	defer r.index.Unlock()
	rec := r.all[name]
	if rec == nil || !r.shows(rec, uid) {
		return nil, nil
	}
	f, err := r.dir.Open(rec.name)
	if err != nil {
		return nil, fmt.Errorf("open the recording: %w", err)
	}
	return struct {
		io.Reader
		io.Closer
	}{io.LimitReader(f, rec.size), f}, nil
}

// Remove removes one by its name, and says whether there was one. What its agent does later begins a new one.
func (r *Recorder) Remove(name string) (bool, error) {
	r.files.Lock()
	defer r.files.Unlock()
	rec := r.all[name]
	if rec == nil {
		return false, nil
	}
	if err := r.forget(rec, &r.stats.Removed); err != nil {
		return false, fmt.Errorf("remove the recording: %w", err)
	}
	return true, nil
}
