// SPDX-License-Identifier: Apache-2.0

package spool

import (
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A tally is a page of memory that outlives the process: who kills the sensor (an administrator, or the kernel when
// memory is short) takes with it what was not on disk yet, and the next start tells how much that was. It also knows which
// batches had arrived, so that few are sent twice. It lies on a tmpfs, not beside the store: to write to it must not wait
// for a disk, and it has nothing to say after the machine was started anew.
type tally struct {
	page []byte
	gen  uint64
}

// Words of 8 bytes: magic, generation, and two snapshots of which the one with the parity of the generation holds.
const (
	tallySize  = 4096
	tallyMagic = 0x5368_6265_6e64_0001
	maxTallied = 16 // destinations
	slotWords  = 3 + maxTallied*destinationWords

	destinationWords = 5
)

// snapshot is what a tally holds.
type snapshot struct {
	store        uint64 // id of the store; 0: there was none
	first        uint64 // batches before it are settled, whether or not the store has them still
	destinations []tallied
}

type tallied struct {
	name     uint64 // hashed
	position uint64 // last batch that it is done with
	resumed  uint64 // spans that waited for it at the start
	offered  uint64 // spans since
	settled  uint64 // of both: sent, rejected, set aside or dropped
}

func hashed(name string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(name))
	return h.Sum64()
}

// openTally gives also what the process before left in it.
func openTally(path string) (t *tally, left snapshot, found bool, err error) {
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CREAT|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, left, false, fmt.Errorf("open %s: %w", path, err)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, left, false, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || int(st.Uid) != os.Geteuid() {
		return nil, left, false, errors.New(path + " is not a file of this user")
	}
	if st.Size != tallySize {
		// Written, not only truncated: a fault on a page that there is no room for would end the process.
		if _, err := unix.Pwrite(fd, make([]byte, tallySize), 0); err != nil {
			return nil, left, false, fmt.Errorf("write %s: %w", path, err)
		}
	}
	page, err := unix.Mmap(fd, 0, tallySize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, left, false, fmt.Errorf("map %s: %w", path, err)
	}
	t = &tally{page: page}
	w := t.words()
	if w[0] == tallyMagic {
		t.gen = atomic.LoadUint64(&w[1])
		left, found = t.load(), true
	}
	w[0] = tallyMagic
	return t, left, found, nil
}

func (t *tally) words() []uint64 {
	return unsafe.Slice((*uint64)(unsafe.Pointer(&t.page[0])), tallySize/8)
}

func (t *tally) slot(gen uint64) []uint64 {
	start := 2 + int(gen%2)*slotWords
	return t.words()[start : start+slotWords]
}

func (t *tally) load() snapshot {
	w := t.slot(t.gen)
	s := snapshot{store: w[0], first: w[1]}
	for i := range min(w[2], maxTallied) {
		d := w[3+i*destinationWords:]
		s.destinations = append(s.destinations, tallied{d[0], d[1], d[2], d[3], d[4]})
	}
	return s
}

// save replaces what the tally holds at one instant. A nil tally does nothing.
func (t *tally) save(s snapshot) {
	if t == nil {
		return
	}
	w := t.slot(t.gen + 1)
	n := min(len(s.destinations), maxTallied)
	w[0], w[1], w[2] = s.store, s.first, uint64(n)
	for i, d := range s.destinations[:n] {
		at := w[3+i*destinationWords:]
		at[0], at[1], at[2], at[3], at[4] = d.name, d.position, d.resumed, d.offered, d.settled
	}
	t.gen++
	atomic.StoreUint64(&t.words()[1], t.gen)
}

// close keeps what is in it: what waits on disk may be damaged before the next start.
func (t *tally) close() {
	if t == nil {
		return
	}
	_ = unix.Munmap(t.page)
	t.page = nil
}
