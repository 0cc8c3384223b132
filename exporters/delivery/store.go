// SPDX-License-Identifier: Apache-2.0

package delivery

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime/debug"
	"slices"
	"sync"
	"syscall"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// Sync says when what was written is made to survive a crash of the machine. It survives a crash of the process anyway.
type Sync string

// The values of Sync.
const (
	SyncBatch    Sync = "batch"    // before a batch counts as stored
	SyncInterval Sync = "interval" // once a second. A crash of the machine may damage the whole file
	SyncNone     Sync = "none"     // when the kernel likes. The same
)

var (
	batchesBucket   = []byte("batches")   // sequence number → entry, of the sensor's spans
	othersBucket    = []byte("others")    // the same of all other kinds, which versions before did not know
	positionsBucket = []byte("positions") // lane → it is done with all batches up to this sequence number
	metaBucket      = []byte("meta")
	idKey           = []byte("id")
	formatKey       = []byte("format")
)

// storeFormat is the number of the format of the file. Who changes it so that this version would misread it raises the
// number: this version then refuses the file. A file without one is of format 1.
const storeFormat = 2

// errNewer is wrapped by errors of a file that a newer version wrote. It is left as it is.
var errNewer = errors.New("a newer version of sheetbend wrote it: start that one, or set another spool.path")

// errDamaged is wrapped by errors that only a new file ends.
var errDamaged = errors.New("the file is damaged")

// store is the file on disk. Its methods are called by one goroutine at a time, except read, which any may call.
type store struct {
	db   *bolt.DB
	path string
	id   uint64 // of this file, to tell it from a successor

	file  *os.File // that of db
	metas int64    // how large the meta pages are, with which the file begins

	mu     sync.Mutex // held while a transaction begins
	broken bool       // bbolt may have left locks locked: nothing may be asked of it any more
}

// contents is what was in a store when it was opened.
type contents struct {
	id        uint64 // 0: it had none
	heads     []head
	positions map[string]uint64
}

// number reads a key or a value of eight bytes.
func number(b []byte) (uint64, error) {
	if len(b) != 8 {
		return 0, fmt.Errorf("%w: a number in it has %d bytes, not 8", errDamaged, len(b))
	}
	return binary.BigEndian.Uint64(b), nil
}

func bigEndian(number uint64) []byte { return binary.BigEndian.AppendUint64(nil, number) }

// spare is what of the file's limit only commits may use that remove something, in bytes.
const spare = 8 << 20

// emptyFile is how large a file without batches may be that is used on.
const emptyFile = 16 << 20

// openStore opens or creates the file at path, which grows to maxBytes at most.
func openStore(path string, maxBytes int64, policy Sync) (*store, contents, error) {
	s := &store{path: path}
	var in contents
	err := guard(func() error {
		if info, err := os.Stat(path); err == nil && info.Size() > 0 {
			// Read only first: to open it for writing, bbolt walks the file in a goroutine of its own, whose panic
			// nobody could stop.
			if in, err = inspect(path); err != nil {
				return err
			}
			if len(in.heads) == 0 && info.Size() > emptyFile {
				// Files of bbolt do not shrink: this one is as large as the longest outage was.
				if err := os.Remove(path); err != nil {
					return err
				}
			}
		}
		var err error
		s.db, err = bolt.Open(path, 0o600, &bolt.Options{
			Timeout: time.Second, NoSync: policy != SyncBatch, NoGrowSync: policy != SyncBatch,
			// The list of free pages of a spool that was large once would be written with each batch.
			NoFreelistSync: true, FreelistType: bolt.FreelistMapType, MaxSize: int(maxBytes) - spare,
			NoStatistics: true,
			OpenFile: func(name string, flag int, mode os.FileMode) (f *os.File, err error) {
				s.file, err = os.OpenFile(name, flag, mode)
				return s.file, err
			},
		})
		if err != nil {
			return err
		}
		s.metas = 2 * int64(s.db.Info().PageSize)
		s.db.AllocSize = 1 << 20 // bytes; the default of 16 MiB would leave small spools no room
		return s.update(func(tx *bolt.Tx) error {
			for _, name := range [][]byte{batchesBucket, othersBucket, positionsBucket, metaBucket} {
				if _, err := tx.CreateBucketIfNotExists(name); err != nil {
					return err
				}
			}
			if s.id = in.id; s.id == 0 {
				var id [8]byte
				_, _ = rand.Read(id[:]) // never fails, by its documentation
				s.id = binary.BigEndian.Uint64(id[:])
			}
			meta := tx.Bucket(metaBucket)
			return errors.Join(meta.Put(idKey, bigEndian(s.id)), meta.Put(formatKey, bigEndian(storeFormat)))
		})
	})
	if err != nil {
		s.abandon()
		return nil, contents{}, openError(err)
	}
	return s, in, nil
}

// openError wraps errDamaged unless the error is of the system, or of another process that has the file.
func openError(err error) error {
	var number syscall.Errno
	switch {
	case errors.Is(err, errDamaged), errors.Is(err, errNewer):
		return err
	case errors.Is(err, bolterrors.ErrTimeout):
		return fmt.Errorf("another process has the file open: stop that one: %w", err)
	case errors.As(err, &number), errors.Is(err, bolterrors.ErrMaxSizeReached):
		return err
	}
	return fmt.Errorf("%w: %w", errDamaged, err)
}

// refuseNewer gives errNewer for a file that a newer version wrote.
func refuseNewer(tx *bolt.Tx, path string) error {
	meta := tx.Bucket(metaBucket)
	if meta == nil {
		return nil
	}
	if format, _ := number(meta.Get(formatKey)); format > storeFormat {
		return fmt.Errorf("%s has format %d, and this version reads up to %d: %w", path, format, storeFormat, errNewer)
	}
	return nil
}

// inspect reads the whole structure of the file, but not the batches themselves.
func inspect(path string) (in contents, err error) {
	in.positions = map[string]uint64{}
	db, err := bolt.Open(path, 0o600, &bolt.Options{Timeout: time.Second, ReadOnly: true})
	if err != nil {
		return in, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	info, err := os.Stat(path)
	if err != nil {
		return in, err
	}
	err = db.View(func(tx *bolt.Tx) (err error) {
		if tx.Size() > info.Size() {
			return fmt.Errorf("%w: it has %d bytes, not %d", errDamaged, info.Size(), tx.Size())
		}
		if err := refuseNewer(tx, path); err != nil {
			return err
		}
		// All of them, also those that nobody asks for: bbolt walks them when it opens the file for writing.
		return tx.ForEach(func(name []byte, b *bolt.Bucket) error {
			switch string(name) {
			case string(metaBucket):
				in.id, _ = number(b.Get(idKey))
				return b.ForEach(func(_, _ []byte) error { return nil })
			case string(positionsBucket):
				return b.ForEach(func(k, v []byte) (err error) {
					in.positions[string(k)], err = number(v)
					return err
				})
			case string(batchesBucket), string(othersBucket):
				return b.ForEach(func(k, v []byte) error {
					h, err := decodeHead(v)
					if err != nil {
						return fmt.Errorf("%w: a batch in it is %w", errDamaged, err)
					}
					h.seq, err = number(k)
					in.heads = append(in.heads, h)
					return err
				})
			}
			return fmt.Errorf("%w: the bucket %q in it is unknown", errDamaged, name)
		})
	})
	return in, err
}

// change is what one commit does, all or nothing.
type change struct {
	put       []record
	remove    []head
	positions map[string]uint64 // of all lanes; the others are forgotten
}

type record struct {
	head
	data []byte
}

func bucketOf(tx *bolt.Tx, k kind) *bolt.Bucket {
	if k == spans {
		return tx.Bucket(batchesBucket)
	}
	return tx.Bucket(othersBucket)
}

func (s *store) commit(c change) error {
	if len(c.put) == 0 {
		// To remove takes some pages, too. In a full file that has to be possible all the same.
		defer func(limit int) { s.db.MaxSize = limit }(s.db.MaxSize)
		s.db.MaxSize += spare
	}
	err := s.update(func(tx *bolt.Tx) error {
		for _, h := range c.remove {
			if err := bucketOf(tx, h.kind).Delete(bigEndian(h.seq)); err != nil {
				return err
			}
		}
		for _, r := range c.put {
			b := bucketOf(tx, r.kind)
			b.FillPercent = 0.9 // keys only grow
			if err := b.Put(bigEndian(r.seq), r.data); err != nil {
				return err
			}
		}
		at := tx.Bucket(positionsBucket)
		var gone [][]byte
		_ = at.ForEach(func(k, _ []byte) error {
			if _, ok := c.positions[string(k)]; !ok {
				gone = append(gone, slices.Clone(k))
			}
			return nil
		})
		for _, k := range gone {
			if err := at.Delete(k); err != nil {
				return err
			}
		}
		for name, seq := range c.positions {
			if err := at.Put([]byte(name), bigEndian(seq)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("write %s: %w", s.path, err)
	}
	return nil
}

var errMissing = errors.New("no such batch in the spool")

// read gives a copy of an entry.
func (s *store) read(h head) (data []byte, err error) {
	err = guard(func() error {
		tx, err := s.begin(false)
		if err != nil {
			return err
		}
		defer func() { _ = tx.Rollback() }() // which only ends it
		v := bucketOf(tx, h.kind).Get(bigEndian(h.seq))
		if v == nil {
			return errMissing
		}
		data = slices.Clone(v)
		return nil
	})
	return data, err
}

// update makes one transaction of what do changes, or changes nothing. Unlike that of bbolt it reads no page to end
// one that failed.
func (s *store) update(do func(*bolt.Tx) error) error {
	return guard(func() error {
		tx, err := s.begin(true)
		if err != nil {
			return err
		}
		defer func() { _ = tx.Rollback() }() // does nothing after Commit
		if err := do(tx); err != nil {
			return err
		}
		return tx.Commit()
	})
}

// begin is called in guard. To begin, bbolt locks what it needs to begin, write and close, reads the meta pages, and
// stays locked if they fault.
func (s *store) begin(writable bool) (*bolt.Tx, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken {
		return nil, fmt.Errorf("%w: it failed before", errDamaged)
	}
	// Before bbolt has any lock that others wait for.
	if info, err := s.file.Stat(); err == nil && info.Size() < s.metas {
		return nil, fmt.Errorf("%w: it has only %d bytes", errDamaged, info.Size())
	}
	s.broken = true // stays if Begin panics
	tx, err := s.db.Begin(writable)
	s.broken = false
	return tx, err
}

// sync is for SyncInterval.
func (s *store) sync() error { return guard(s.db.Sync) }

// close leaves a broken file to the end of the process, but for its descriptor.
func (s *store) close() error {
	s.mu.Lock()
	broken := s.broken
	s.mu.Unlock()
	if broken {
		return errors.Join(errDamaged, s.file.Close())
	}
	return guard(s.db.Close)
}

// abandon leaves a file that may be damaged. Closing it could wait for a reader, or for a lock that a panic left locked.
func (s *store) abandon() {
	if s.db != nil {
		go func() { _ = s.close() }()
	}
}

// guard turns the panics of bbolt on a damaged file, and the faults of its memory map, into errors.
func guard(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %v", errDamaged, p)
		}
	}()
	return f()
}

// maxAside bounds the damaged files that are kept for somebody to look at.
const maxAside = 3

// setDamagedAside renames a damaged file and gives its new name. It removes the oldest of those beyond maxAside.
func setDamagedAside(path string, now time.Time) (string, error) {
	name := path + ".damaged-" + now.UTC().Format("20060102T150405.000000000")
	if err := os.Rename(path, name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("set the damaged spool aside: %w", err)
	}
	old := damagedFiles(path)
	for len(old) > maxAside {
		_ = os.Remove(old[0])
		old = old[1:]
	}
	return name, nil
}
