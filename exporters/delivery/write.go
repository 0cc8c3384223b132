// SPDX-License-Identifier: Apache-2.0

package delivery

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

// write is the goroutine that owns the store, if there is one: what waits while one commit runs goes into the next.
func (q *Queue) write() {
	defer close(q.written)
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
		case <-q.wake:
		case <-ticks.C:
			ticked = true
		case <-q.stopWriting:
			ending = true
		}
		if ticked {
			q.expire()
			if q.cfg.Dir != "" {
				q.retryDead()
			}
			q.logLosses(logEvery)
		}
		for more := true; more && (ending || !time.Now().Before(notBefore)); {
			var err error
			if more, err = q.commit(ticked || ending); err != nil {
				notBefore = time.Now().Add(wait.NextBackOff())
				q.fails(err)
				more = more && !ending // after ErrMaxSizeReached there is room now
				if more {
					notBefore = time.Time{}
				}
			} else {
				wait.Reset()
				q.works()
			}
		}
		if ticked && q.cfg.Sync == SyncInterval && q.store != nil {
			if err := q.store.sync(); err != nil {
				q.fails(err)
			}
		}
		if ending {
			q.logLosses(0)
			return
		}
	}
}

// commit writes a group of batches, and whatever else there is to write; positions alone only if all is set. It
// reports whether there is more to do now.
func (q *Queue) commit(all bool) (more bool, err error) {
	if q.cfg.Dir == "" {
		return false, nil
	}
	if q.store == nil {
		if ready, err := q.reopen(); !ready {
			return false, err
		}
	}
	c, group := q.nextCommit(all)
	if c == nil {
		return false, nil
	}
	for _, it := range group {
		e := entry{created: it.created, batch: it.batch}
		c.put = append(c.put, record{it.head, e.encode(make([]byte, 0, it.size))})
	}
	look := time.AfterFunc(hangs+tick/10, q.wakeAll)
	err = q.store.commit(*c)
	look.Stop()

	q.mu.Lock()
	defer q.unlockAndTell()
	defer q.publish()
	q.ungroup()
	if err != nil {
		q.garbage, q.moved = append(c.remove, q.garbage...), true
		if isDamage(err) {
			q.loseStore(err)
			return true, nil
		}
		if n := q.countStored(); errors.Is(err, bolterrors.ErrMaxSizeReached) && n > 0 {
			// The file is full of holes too small for a batch. What is dropped makes room for the commit after the one
			// that removes it, so that one adds nothing.
			for range max(1, n/8) {
				if !q.dropStored(spoolFull, passedOn) {
					q.dropStored(spoolFull, own)
				}
			}
			q.tight = true
			return true, nil
		}
		return false, err
	}
	more, q.tight = len(group) > 0 || q.tight, false
	for _, it := range group {
		q.addStored(q.take(it.kind, 0).head)
	}
	q.release()
	q.notifyAll()
	return more, nil
}

// wakeAll lets all lanes look again.
func (q *Queue) wakeAll() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.notifyAll()
}

func (q *Queue) countStored() (n int) {
	for k := range q.lines {
		n += len(q.lines[k].stored)
	}
	return n
}

// nextCommit gives the batches for one commit, and the rest of what it changes; nil if there is nothing to write.
func (q *Queue) nextCommit(all bool) (*change, []item) {
	q.mu.Lock()
	defer q.mu.Unlock()
	defer q.publish()
	q.release()
	var group []item
	var size [2]int64
	if !q.tight {
		// Half of memory at most: what is being written cannot be dropped to make room.
		group, size = q.group(q.onDisk, min(groupBytes, q.cfg.MemoryBytes/2), q.cfg.MemorySpans/2,
			q.budget()/passedOnShare)
		q.makeRoomOnDisk(&group, &size)
	}
	q.writing, q.since = len(group) > 0, time.Now()
	moved := q.moved || len(q.garbage) > 0
	if len(group) == 0 && (!moved || !all && !q.tight) {
		return nil, nil
	}
	c := &change{remove: q.garbage, positions: map[string]uint64{}}
	q.eachLane(func(l *lane) {
		if l.position > 0 {
			c.positions[l.key()] = l.position
		}
	})
	q.garbage, q.moved = nil, false
	return c, group
}

// makeRoomOnDisk drops what has to go for a group, which may lose what was passed on.
func (q *Queue) makeRoomOnDisk(group *[]item, size *[2]int64) {
	for q.disk[passedOn]+size[passedOn] > q.budget()/passedOnShare && q.dropStored(spoolFull, passedOn) {
	}
	for q.disk[own]+q.disk[passedOn]+size[own]+size[passedOn] > q.budget() {
		last := len(*group) - 1
		switch {
		case q.dropStored(spoolFull, passedOn):
		case size[passedOn] > 0: // kinds that are passed on are the last of a group
			it := (*group)[last]
			*group = (*group)[:last]
			size[passedOn] -= pages(it.size)
			q.lines[it.kind].writing--
			q.drop(q.take(it.kind, q.lines[it.kind].writing), spoolFull)
		case !q.dropStored(spoolFull, own):
			return
		}
	}
}

// budget leaves room for what one commit writes anew before it frees the old, and for holes.
func (q *Queue) budget() int64 { return (q.cfg.MaxBytes - spare) / 4 * 3 }

// reopen opens the store if it could not be before.
func (q *Queue) reopen() (ready bool, err error) {
	if q.blocked {
		return false, nil
	}
	if q.lock == nil {
		if err := q.acquire(); err != nil {
			return false, err
		}
	}
	st, in, _, err := q.openStore()
	if err != nil {
		return false, err
	}
	if len(in.heads) > 0 {
		// Their numbers are before those of this run, so the positions say that they are sent.
		q.blocked = true
		q.log.Error("the disk works again and has spans of an earlier run; those of this run wait in memory: "+
			"restart the sensor to send both", "path", q.path, "batches", len(in.heads))
		return false, st.close()
	}
	q.mu.Lock()
	q.store = st
	q.mu.Unlock()
	return true, nil
}

// loseStore sets a store aside that turned out to be damaged, with all that is in it. What is in memory is not lost. mu
// is held.
func (q *Queue) loseStore(why error) {
	name, err := setDamagedAside(q.path, time.Now())
	if err != nil {
		name = "not renamed: " + err.Error()
	}
	before := q.lostByDamage()
	for q.dropStored(damaged, own) || q.dropStored(damaged, passedOn) {
	}
	lost := q.lostByDamage() - before
	q.damaged++
	q.store.abandon()
	q.store, q.garbage = nil, nil
	notify(q.wake)
	q.tell = append(q.tell, func() { q.log.Error(damagedText, "file", name, "spans", lost, "error", why) })
}

func (q *Queue) lostByDamage() (n uint64) {
	for _, l := range q.lanes[spans] {
		n += l.stats.Dropped.Damage
	}
	return n
}

// expire drops what is too old.
func (q *Queue) expire() {
	limit := time.Now().Add(-q.cfg.MaxAge).UnixNano()
	q.mu.Lock()
	defer q.mu.Unlock()
	for k := range kinds {
		line := &q.lines[k]
		for len(line.stored) > 0 && line.stored[0].created < limit {
			q.drop(q.shiftStored(k), tooOld)
		}
		for len(line.stored) == 0 && line.writing == 0 && len(line.pending) > 0 && line.pending[0].created < limit {
			q.drop(q.take(k, 0), tooOld)
		}
	}
	q.publish()
}

// fails reports once that the disk takes nothing.
func (q *Queue) fails(err error) {
	q.mu.Lock()
	was := q.failing
	q.failing = true
	q.notifyAll()
	q.mu.Unlock()
	if !was {
		q.log.Error("the spool cannot be written: spans wait in memory",
			"path", q.path, "error", err, "memory_bytes", q.cfg.MemoryBytes)
	}
}

// works reports once that it does again.
func (q *Queue) works() {
	q.mu.Lock()
	was := q.failing && q.store != nil
	q.failing = q.failing && !was
	q.mu.Unlock()
	if was {
		q.log.Warn("the spool is written again", "path", q.path)
	}
}
