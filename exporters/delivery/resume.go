// SPDX-License-Identifier: Apache-2.0

package delivery

import (
	"fmt"
	"time"
)

// acquire makes the directory and keeps other processes out of it.
func (q *Queue) acquire() error {
	return q.cfg.As(func() (err error) {
		if err = prepareDir(q.cfg.Dir); err == nil {
			q.lock, err = lockDir(q.cfg.Dir)
		}
		return err
	})
}

// resume opens the store, if the directory is not unusable just now, and counts what an earlier process lost.
func (q *Queue) resume() error {
	err := q.acquire()
	if err != nil && !passing(err) {
		return err
	}
	var left snapshot
	found := false
	if q.cfg.CrashCounters != "" {
		var err error
		if q.crash, left, found, err = openCrashCounters(q.cfg.CrashCounters); err != nil {
			q.log.Warn("a kill of the sensor will not be counted as loss", "error", err)
		}
	}
	var in contents
	damaged := false
	if err == nil {
		q.store, in, damaged, err = q.openStore()
	}
	switch {
	case err != nil && !passing(err):
		return fmt.Errorf("open the spool: %w", err)
	case err != nil:
		q.fails(err)
	}
	known := found && (damaged || q.store != nil && left.store == q.store.id)
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, h := range in.heads {
		if known && !damaged && h.seq < left.first {
			q.garbage = append(q.garbage, h)
			continue
		}
		q.addStored(h)
		q.seq = max(q.seq, h.seq)
	}
	before := map[uint64]laneCounters{}
	if known {
		for _, c := range left.lanes[:left.n] {
			before[c.lane] = c
		}
	}
	q.eachLane(func(l *lane) {
		was := before[l.hash]
		l.position = max(in.positions[l.key()], was.position)
		q.seq = max(q.seq, l.position)
		if l.unused { // it may have been before, with other signals configured
			l.position = q.seq
			return
		}
		for _, it := range q.lines[l.kind].stored {
			if it.seq > l.position {
				l.queue(it.head)
			}
		}
		l.stats.Resumed = l.stats.Queued
		if all := was.resumed + was.offered; all > was.resolved+l.stats.Queued {
			l.stats.Lost = all - was.resolved - l.stats.Queued
			why := "the sensor was killed before they were on disk"
			if damaged {
				why = "the spool was damaged"
			}
			said := " of an earlier run were lost: "
			if l.kind == spans && !damaged {
				said = " of an earlier run were lost, but for those that the sensor's journal gives again: "
			}
			l.log.Warn(l.kind.String()+said+why, l.kind.unit(), l.stats.Lost)
		}
		if l.stats.Queued > 0 {
			l.log.Info("resuming what an earlier run left in the spool: "+l.kind.String(),
				l.kind.unit(), l.stats.Queued)
		}
	})
	q.release()
	q.publish()
	return nil
}

func (q *Queue) eachLane(do func(*lane)) {
	for d := range q.cfg.Destinations {
		for k := range kinds {
			do(q.lanes[k][d])
		}
	}
}

// damagedText is logged with the new name of the file.
const damagedText = "the spool is damaged: it is set aside and a new one begun; what was in it is not sent"

// openStore sets a damaged file aside and begins a new one.
func (q *Queue) openStore() (st *store, in contents, damaged bool, err error) {
	err = q.cfg.As(func() (err error) {
		st, in, damaged, err = q.openOrReplace()
		return err
	})
	return st, in, damaged, err
}

func (q *Queue) openOrReplace() (st *store, in contents, damaged bool, err error) {
	st, in, err = openStore(q.path, q.cfg.MaxBytes, q.cfg.Sync)
	if err == nil || !isDamage(err) {
		return st, in, false, err
	}
	name, renameErr := setDamagedAside(q.path, time.Now())
	if renameErr != nil {
		return nil, in, true, renameErr
	}
	q.mu.Lock()
	q.damaged++
	q.mu.Unlock()
	q.log.Error(damagedText, "file", name, "error", err)
	st, in, err = openStore(q.path, q.cfg.MaxBytes, q.cfg.Sync)
	return st, in, true, err
}
