// SPDX-License-Identifier: Apache-2.0

package telemetry

import (
	"slices"
	"sync"
	"time"
)

// Sender is the process that sends: the one that connected to the unix socket, or the one that has the other end of
// a TCP connection from this host open.
type Sender struct {
	PID uint32
	// Start is the process's start in ns of CLOCK_BOOTTIME; of a unix socket's sender it is rounded down to proc.Tick.
	Start uint64
	UID   uint32 // who connected
}

// Known is false when the sender could not be found: it is on another host or in another network namespace, or
// behind a proxy, or several processes have its end open, or that end is closed by now. Such a sender may be
// anybody.
func (s Sender) Known() bool { return s.PID != 0 }

// Bounds on the time of searches: each is a walk over all open files of the host.
const (
	maxHolders     = 16                    // of one socket: with more of them the sender is unknown
	searchWait     = 10 * time.Second      // for the end of a walk: after it the sender is told to try again
	searchedAtOnce = 1024                  // sockets that one walk looks for
	searchPause    = 50 * time.Millisecond // between walks, and at least
	searchShare    = 4                     // times as long as the last one took
)

// A Find yields the processes that have sockets open: of each the number of the socket's inode, its tgid and its
// start in ns of CLOCK_BOOTTIME; one process may come more than once.
type Find func(inodes []uint32, yield func(inode, tgid uint32, start uint64)) error

// searches are made one at a time; one walk serves all who wait for one when it begins.
type searches struct {
	find Find

	mu    sync.Mutex
	going sync.WaitGroup // walks
	ended chan struct{}  // closed: no walk begins

	next *walk // that has not begun; nil: nobody waits for one

	turn sync.Mutex // of the one walk that goes on, and of free
	free time.Time  // before then none begins
}

// A walk has its result when done is closed.
type walk struct {
	inodes []uint32
	done   chan struct{}
	found  map[uint32][]Sender // by inode; without users
	err    error
}

// holders finds the processes that have the end open: none if it is closed by now.
func (s *searches) holders(e end) ([]Sender, error) {
	if s.find == nil {
		return nil, nil
	}
	s.mu.Lock()
	w := s.next
	first := w == nil
	switch {
	case first:
		w = &walk{done: make(chan struct{})}
		s.next = w
	case len(w.inodes) >= searchedAtOnce:
		s.mu.Unlock()
		return nil, errBusy
	}
	w.inodes = append(w.inodes, e.inode)
	s.mu.Unlock()
	if first {
		s.going.Go(func() { s.walk(w) })
	}
	select {
	case <-w.done:
	case <-time.After(searchWait):
		return nil, errBusy
	}
	found := slices.Clone(w.found[e.inode])
	for i := range found {
		found[i].UID = e.uid
	}
	return found, w.err
}

func (s *searches) walk(w *walk) {
	s.turn.Lock()
	defer s.turn.Unlock()
	defer close(w.done)
	if pause := time.Until(s.free); pause > 0 {
		select {
		case <-time.After(pause):
		case <-s.ended:
			w.err = errEnding
			return
		}
	}
	s.mu.Lock()
	s.next = nil
	s.mu.Unlock()
	began := time.Now()
	w.found = map[uint32][]Sender{}
	w.err = s.find(w.inodes, func(inode, tgid uint32, start uint64) {
		h := Sender{PID: tgid, Start: start}
		if len(w.found[inode]) <= maxHolders && !slices.Contains(w.found[inode], h) {
			w.found[inode] = append(w.found[inode], h)
		}
	})
	s.free = time.Now().Add(max(searchPause, searchShare*time.Since(began)))
}
