// SPDX-License-Identifier: Apache-2.0

package spool

import (
	"errors"
	"time"

	"github.com/cenkalti/backoff/v5"
	bolterrors "go.etcd.io/bbolt/errors"
)

const (
	// tick is how often positions are written that nothing else is written with, ages are looked at, and the file is
	// synchronized with SyncInterval.
	tick = time.Second
	// A commit takes so much at most.
	groupBytes   = 4 << 20
	groupBatches = 256
)

func isDamage(err error) bool { return errors.Is(err, errDamaged) }

// write is the goroutine that owns the store: what waits while one commit runs goes into the next.
func (s *Spool) write() {
	defer close(s.written)
	ticks := time.NewTicker(tick)
	defer ticks.Stop()
	var notBefore time.Time // after a failure
	wait := backoff.ExponentialBackOff{
		InitialInterval: 100 * time.Millisecond, Multiplier: 2, MaxInterval: 5 * time.Second,
	}
	wait.Reset()
	for {
		ending, ticked := false, false
		select {
		case <-s.wake:
		case <-ticks.C:
			ticked = true
		case <-s.stopWriting:
			ending = true
		}
		if ticked {
			s.expire()
			s.retryDead()
			s.logLosses(logEvery)
		}
		for more := true; more && (ending || !time.Now().Before(notBefore)); {
			var err error
			if more, err = s.commit(ticked || ending); err != nil {
				notBefore = time.Now().Add(wait.NextBackOff())
				s.fails(err)
				more = more && !ending // after ErrMaxSizeReached there is room now
				if more {
					notBefore = time.Time{}
				}
			} else {
				wait.Reset()
				s.works()
			}
		}
		if ticked && s.cfg.Sync == SyncInterval && s.store != nil {
			if err := s.store.sync(); err != nil {
				s.fails(err)
			}
		}
		if ending {
			s.logLosses(0)
			return
		}
	}
}

// commit writes a group of batches, and whatever else there is to write; positions alone only if all is set. It
// reports whether there is more to do now.
func (s *Spool) commit(all bool) (more bool, err error) {
	if s.store == nil {
		if ready, err := s.reopen(); !ready {
			return false, err
		}
	}
	c, group := s.group(all)
	if c == nil {
		return false, nil
	}
	for _, it := range group {
		e := entry{created: it.created, batch: it.batch}
		c.put = append(c.put, record{it.seq, e.encode(make([]byte, 0, it.size+len(it.batch.Resources)*8))})
	}
	err = s.store.commit(*c)

	var report func() // not under mu: the log may hang as well as the disk
	s.mu.Lock()
	defer func() {
		s.publish()
		s.mu.Unlock()
		if report != nil {
			report()
		}
	}()
	if err != nil {
		s.pending.writing = 0
		s.stored.garbage, s.moved = append(c.remove, s.stored.garbage...), true
		if isDamage(err) {
			report = s.loseStore(err)
			return true, nil
		}
		if errors.Is(err, bolterrors.ErrMaxSizeReached) && len(s.stored.items) > 0 {
			// The file is full of holes too small for a batch. What is dropped makes room for the commit after the one
			// that removes it, so that one adds nothing.
			for n := max(1, len(s.stored.items)/8); n > 0; n-- {
				s.dropStored(spoolFull)
			}
			s.tight = true
			return true, nil
		}
		return false, err
	}
	s.tight = false
	for range group {
		h := s.pending.shift().head
		h.size = len(c.put[0].data)
		c.put = c.put[1:]
		s.stored.add(h)
	}
	s.pending.writing = 0
	s.release()
	s.notifyAll()
	return len(s.pending.items) > 0, nil
}

// group gives the batches at the head of pending for one commit, and the rest of what it changes; nil if there is
// nothing to write.
func (s *Spool) group(all bool) (*change, []item) {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.publish()
	s.release()
	size := 0
	if !s.tight {
		// Half of memory at most: what is being written cannot be dropped to make room.
		size = s.pending.group(min(groupBytes, s.cfg.MemoryBytes/2), s.cfg.MemorySpans/2)
	}
	s.pending.writingSince = time.Now()
	for len(s.stored.items) > 0 && s.stored.bytes+int64(size) > s.budget() {
		s.dropStored(spoolFull)
	}
	moved := s.moved || len(s.stored.garbage) > 0
	if s.pending.writing == 0 && (!moved || !all && !s.tight) {
		return nil, nil
	}
	c := &change{remove: s.stored.garbage, positions: map[string]uint64{}}
	for _, d := range s.destinations {
		c.positions[d.name] = d.position
	}
	s.stored.garbage, s.moved = nil, false
	return c, s.pending.grouped()
}

// budget leaves room for what one commit writes anew before it frees the old, and for holes.
func (s *Spool) budget() int64 { return (s.cfg.MaxBytes - spare) / 4 * 3 }

// reopen opens the store if it could not be before.
func (s *Spool) reopen() (ready bool, err error) {
	if s.blocked {
		return false, nil
	}
	if s.lock == nil {
		if err := s.acquire(); err != nil {
			return false, err
		}
	}
	st, in, _, err := s.openStore()
	if err != nil {
		return false, err
	}
	if len(in.heads) > 0 {
		// Their numbers are before those of this run, so the positions say that they are sent.
		s.blocked = true
		s.log.Error("the disk works again and has spans of an earlier run; those of this run wait in memory: "+
			"restart the sensor to send both", "path", s.path, "batches", len(in.heads))
		return false, st.close()
	}
	s.mu.Lock()
	s.store = st
	s.mu.Unlock()
	return true, nil
}

// loseStore sets a store aside that turned out to be damaged, with all that is in it. What is in memory is not lost. It
// returns what logs that. mu is held.
func (s *Spool) loseStore(why error) (report func()) {
	name, err := setDamagedAside(s.path, time.Now())
	if err != nil {
		name = "not renamed: " + err.Error()
	}
	before := s.lostByDamage()
	for len(s.stored.items) > 0 {
		s.dropStored(damaged)
	}
	lost := s.lostByDamage() - before
	s.damaged++
	s.store.abandon()
	s.store, s.stored.garbage = nil, nil
	notify(s.wake)
	return func() { s.log.Error(damagedText, "file", name, "spans", lost, "error", why) }
}

func (s *Spool) lostByDamage() (spans uint64) {
	for _, d := range s.destinations {
		spans += d.stats.Dropped.Damage
	}
	return spans
}

// expire drops what is too old.
func (s *Spool) expire() {
	limit := time.Now().Add(-s.cfg.MaxAge).UnixNano()
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.stored.items) > 0 && s.stored.items[0].created < limit {
		s.dropStored(tooOld)
	}
	p := &s.pending
	for len(s.stored.items) == 0 && p.writing == 0 && len(p.items) > 0 && p.items[0].created < limit {
		s.dropPending(tooOld)
	}
	s.publish()
}

// fails reports once that the disk takes nothing.
func (s *Spool) fails(err error) {
	s.mu.Lock()
	was := s.failing
	s.failing = true
	s.notifyAll()
	s.mu.Unlock()
	if !was {
		s.log.Error("the spool cannot be written: spans wait in memory",
			"path", s.path, "error", err, "memory_bytes", s.cfg.MemoryBytes)
	}
}

// works reports once that it does again.
func (s *Spool) works() {
	s.mu.Lock()
	was := s.failing && s.store != nil
	s.failing = s.failing && !was
	s.mu.Unlock()
	if was {
		s.log.Warn("the spool is written again", "path", s.path)
	}
}
