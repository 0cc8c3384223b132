// SPDX-License-Identifier: Apache-2.0

package lineage

import "sync"

// alive are the known processes, for other goroutines.
type alive struct {
	mu     sync.RWMutex
	starts map[uint32]uint64 // by pid
}

func (a *alive) add(tgid uint32, start uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.starts == nil {
		a.starts = make(map[uint32]uint64)
	}
	a.starts[tgid] = start
}

func (a *alive) remove(tgid uint32) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.starts, tgid)
}

// Started gives the start (ns of CLOCK_BOOTTIME) of the process of a sandbox that has this pid, wherever it is by now.
// ok is false if there is none. Other than the rest of the collector it may be called from any goroutine.
func (c *Tree) Started(tgid uint32) (start uint64, ok bool) {
	c.alive.mu.RLock()
	defer c.alive.mu.RUnlock()
	start, ok = c.alive.starts[tgid]
	return start, ok
}
