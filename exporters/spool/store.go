// SPDX-License-Identifier: Apache-2.0

package spool

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime/debug"
	"syscall"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// Sync says when what was written is made to survive a crash of the machine. A crash of the process costs nothing either way.
type Sync string

// The values of Sync.
const (
	SyncBatch    Sync = "batch"    // before a batch counts as stored
	SyncInterval Sync = "interval" // once a second. A crash of the machine may damage the whole file
	SyncNone     Sync = "none"     // when the kernel likes. The same
)

var (
	batchesBucket   = []byte("batches")   // sequence number → entry
	positionsBucket = []byte("positions") // destination → sequence number of the last batch it is done with
	metaBucket      = []byte("meta")
	idKey           = []byte("id")
)

// errDamaged is wrapped by what says that the file is no good any more.
var errDamaged = errors.New("the file is damaged")

// store is the file on disk. Its methods are called by one goroutine at a time but read, which any may call.
type store struct {
	db   *bolt.DB
	path string
	id   uint64 // of this file, to tell it from a successor
}

// contents is what was in a store when it was opened.
type contents struct {
	id        uint64
	heads     []head
	positions map[string]uint64
}

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
			// Read only first: opening to write lets bbolt walk the file in a goroutine of its own, whose panic nobody could stop.
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
			NoFreelistSync: true, FreelistType: bolt.FreelistMapType, MaxSize: int(maxBytes) - spare, NoStatistics: true,
		})
		if err != nil {
			return err
		}
		s.db.AllocSize = 1 << 20 // bytes; the default of 16 MiB would leave small spools no room
		return s.db.Update(func(tx *bolt.Tx) error {
			for _, name := range [][]byte{batchesBucket, positionsBucket, metaBucket} {
				if _, err := tx.CreateBucketIfNotExists(name); err != nil {
					return err
				}
			}
			meta := tx.Bucket(metaBucket)
			if v := meta.Get(idKey); len(v) == 8 {
				s.id = binary.BigEndian.Uint64(v)
				return nil
			}
			var id [8]byte
			_, _ = rand.Read(id[:]) // never fails, by its documentation
			if in.id != 0 {
				binary.BigEndian.PutUint64(id[:], in.id)
			}
			s.id = binary.BigEndian.Uint64(id[:])
			return meta.Put(idKey, id[:])
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
	case errors.Is(err, errDamaged):
		return err
	case errors.Is(err, bolterrors.ErrTimeout):
		return fmt.Errorf("another process has it open: %w", err)
	case errors.As(err, &number), errors.Is(err, bolterrors.ErrMaxSizeReached):
		return err
	}
	return fmt.Errorf("%w: %w", errDamaged, err)
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
	err = db.View(func(tx *bolt.Tx) error {
		if tx.Size() > info.Size() {
			return fmt.Errorf("%w: it has %d bytes of %d", errDamaged, info.Size(), tx.Size())
		}
		if b := tx.Bucket(batchesBucket); b != nil {
			err := b.ForEach(func(k, v []byte) error {
				h, err := decodeHead(v)
				if err != nil || len(k) != 8 {
					return fmt.Errorf("%w: there is a batch that is none", errDamaged)
				}
				h.seq = binary.BigEndian.Uint64(k)
				in.heads = append(in.heads, h)
				return nil
			})
			if err != nil {
				return err
			}
		}
		if b := tx.Bucket(metaBucket); b != nil {
			if v := b.Get(idKey); len(v) == 8 {
				in.id = binary.BigEndian.Uint64(v)
			}
		}
		if b := tx.Bucket(positionsBucket); b != nil {
			return b.ForEach(func(k, v []byte) error {
				if len(v) != 8 {
					return fmt.Errorf("%w: there is a position that is none", errDamaged)
				}
				in.positions[string(k)] = binary.BigEndian.Uint64(v)
				return nil
			})
		}
		return nil
	})
	return in, err
}

// change is what one commit does, all or nothing.
type change struct {
	put       []record
	remove    []uint64
	positions map[string]uint64 // all that there are
}

type record struct {
	seq  uint64
	data []byte
}

func (s *store) commit(c change) error {
	if len(c.put) == 0 {
		// To remove takes some pages, too. In a full file that has to be possible all the same.
		defer func(limit int) { s.db.MaxSize = limit }(s.db.MaxSize)
		s.db.MaxSize += spare
	}
	err := guard(func() error {
		return s.db.Update(func(tx *bolt.Tx) error {
			b := tx.Bucket(batchesBucket)
			b.FillPercent = 0.9 // keys only grow
			var key [8]byte
			for _, seq := range c.remove {
				binary.BigEndian.PutUint64(key[:], seq)
				if err := b.Delete(key[:]); err != nil {
					return err
				}
			}
			for _, r := range c.put {
				if err := b.Put(binary.BigEndian.AppendUint64(nil, r.seq), r.data); err != nil {
					return err
				}
			}
			at := tx.Bucket(positionsBucket)
			var gone [][]byte
			_ = at.ForEach(func(k, _ []byte) error {
				if _, ok := c.positions[string(k)]; !ok {
					gone = append(gone, append([]byte(nil), k...))
				}
				return nil
			})
			for _, k := range gone {
				if err := at.Delete(k); err != nil {
					return err
				}
			}
			for name, seq := range c.positions {
				if err := at.Put([]byte(name), binary.BigEndian.AppendUint64(nil, seq)); err != nil {
					return err
				}
			}
			return nil
		})
	})
	if err != nil {
		return fmt.Errorf("write %s: %w", s.path, err)
	}
	return nil
}

// errMissing says that there is no such batch.
var errMissing = errors.New("no such batch in the spool")

// read gives a copy of an entry.
func (s *store) read(seq uint64) (data []byte, err error) {
	err = guard(func() error {
		return s.db.View(func(tx *bolt.Tx) error {
			v := tx.Bucket(batchesBucket).Get(binary.BigEndian.AppendUint64(nil, seq))
			if v == nil {
				return errMissing
			}
			data = append([]byte(nil), v...)
			return nil
		})
	})
	return data, err
}

// sync is for SyncInterval.
func (s *store) sync() error { return guard(s.db.Sync) }

func (s *store) close() error { return guard(s.db.Close) }

// abandon leaves a file that may be damaged. Closing it could wait for a lock that a panic left locked.
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

// setDamagedAside renames a damaged file and gives its new name. Of earlier ones so many are kept that there are maxAside.
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

// maxAside bounds the damaged files that are kept for somebody to look at.
const maxAside = 3
