// SPDX-License-Identifier: Apache-2.0

package delivery

import (
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// crashCounters are a page of memory that outlives the process: who kills the sensor (an administrator, or the kernel
// when memory is short) takes with it what was not on disk yet, and the next start reports how much that was. They
// also know which batches had arrived, so that few are sent twice. They lie on a tmpfs, not beside the store: a write
// must not wait for a disk, and they are worth nothing after the machine was started anew.
type crashCounters struct {
	page       *crashPage
	generation uint64
}

// crashPage is how they lie in memory. The snapshot with the parity of the generation holds.
type crashPage struct {
	magic, generation uint64
	snapshots         [2]snapshot
}

const (
	crashPageSize   = 8192
	crashMagic      = 0x5368_6265_6e64_0002
	maxDestinations = 16 // bounds Config.Destinations
)

// snapshot is what is counted at one instant.
type snapshot struct {
	store uint64 // id of the store; 0: there was none
	first uint64 // batches before it are resolved, whether or not the store has them still
	n     uint64 // of lanes
	lanes [maxDestinations * int(kinds)]laneCounters
}

type laneCounters struct {
	lane     uint64 // its key, hashed
	position uint64 // it is done with all batches up to this one
	resumed  uint64 // spans that waited for it at the start
	offered  uint64 // spans since
	resolved uint64 // of both, up to the position: sent, rejected, set aside or dropped
}

func hashed(name string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(name))
	return h.Sum64()
}

// openCrashCounters also gives what the process before left in them.
func openCrashCounters(path string) (c *crashCounters, left snapshot, found bool, err error) {
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CREAT|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, left, false, fmt.Errorf("open %s: %w", path, err)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, left, false, fmt.Errorf("stat %s: %w", path, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || int(st.Uid) != os.Geteuid() {
		return nil, left, false, errors.New(path + " is not a file of this user: remove it")
	}
	if st.Size != crashPageSize {
		// Written, not only truncated: a fault on a page that there is no room for would end the process.
		if _, err := unix.Pwrite(fd, make([]byte, crashPageSize), 0); err != nil {
			return nil, left, false, fmt.Errorf("write %s: %w", path, err)
		}
	}
	page, err := unix.MmapPtr(fd, 0, nil, crashPageSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, left, false, fmt.Errorf("map %s: %w", path, err)
	}
	c = &crashCounters{page: (*crashPage)(page)}
	if c.page.magic == crashMagic {
		c.generation = atomic.LoadUint64(&c.page.generation)
		left, found = c.load(), true
	}
	c.page.magic = crashMagic
	return c, left, found, nil
}

func (c *crashCounters) load() snapshot {
	s := c.page.snapshots[c.generation%2]
	s.n = min(s.n, uint64(len(s.lanes)))
	return s
}

// next is to be filled with what is counted now; it holds when save is called.
func (c *crashCounters) next() *snapshot { return &c.page.snapshots[(c.generation+1)%2] }

func (c *crashCounters) save() {
	c.generation++
	atomic.StoreUint64(&c.page.generation, c.generation)
}

// close keeps what is in them: what waits on disk may be damaged before the next start.
func (c *crashCounters) close() {
	_ = unix.MunmapPtr(unsafe.Pointer(c.page), crashPageSize)
	c.page = nil
}
