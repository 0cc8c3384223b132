// SPDX-License-Identifier: Apache-2.0

package delivery

import (
	"time"

	"github.com/sheetbend/sheetbend/exporters/otlp"
)

// Stats is a snapshot.
type Stats struct {
	// Lanes are, by endpoint, that of the sensor's spans and those that ever had something.
	Lanes []LaneStats

	StoredBytes  int64 // on disk, in whole pages
	MemoryBytes  int   // waiting for the disk, or for backends if there is none
	Failing      bool  // the disk does not take what is written
	DamagedFiles int   // files set aside since the start
	DeadDropped  uint64
}

// LaneStats counts spans, log records, or the requests of agents that were passed on. Resumed + Offered is the sum of
// Sent, Rejected, SetAside, Failed, Unsupported, Dropped and Queued.
type LaneStats struct {
	Endpoint string // Destination.Name
	Signal   otlp.Signal
	PassedOn bool

	Resumed uint64 // waited in the spool at the start
	Offered uint64 // since then

	Sent     uint64 // accepted by the backend
	Rejected uint64 // the backend took their batch but not them (partial success)
	SetAside uint64 // refused for good: now dead letters
	Failed   uint64 // refused for good, and not set aside
	// Unsupported: the backend does not take the signal at all.
	Unsupported uint64
	Dropped     Dropped
	Queued      uint64 // in the spool and in memory

	// Lost were accepted by the process before this one and are gone: it was killed, or the file was damaged since.
	// They are in no other number here.
	Lost      uint64
	Recovered uint64 // dead letters that were sent later

	QueuedBytes int64
	Oldest      time.Time // when the batch that waits longest was made; zero when none does
	Attempts    uint64
	Errors      uint64        // attempts that failed
	Took        time.Duration // of all attempts that succeeded together
	LastError   string        // of the last attempt, if it failed
}

// Dropped counts spans by cause.
type Dropped struct {
	Memory   uint64 // faster than they could be written or, without a disk, sent
	Disk     uint64 // the disk took nothing, and memory was full
	Size     uint64 // the spool was full
	Age      uint64 // older than allowed
	Damage   uint64 // in a file, or a part of one, that cannot be read any more
	TooLarge uint64 // a batch or request of more bytes or parts than are taken
	Shutdown uint64 // neither delivered nor written when the sensor ended
}

// Sum is that of all causes.
func (d Dropped) Sum() uint64 {
	return d.Memory + d.Disk + d.Size + d.Age + d.Damage + d.TooLarge + d.Shutdown
}

// resolved is what waits no more.
func (s LaneStats) resolved() uint64 {
	return s.Sent + s.Rejected + s.SetAside + s.Failed + s.Unsupported + s.Dropped.Sum()
}

// outcome is what becomes of a batch for one lane.
type outcome int

const (
	none outcome = iota // it waits
	sent
	quarantined // as a dead letter
	failed      // up to here the backend answered
	unsupported // this and what follows: what becomes of a batch that was dropped while it was sent
	memoryFull
	diskFails
	spoolFull
	tooOld
	damaged
	atShutdown
)

// counter is where the spans of an outcome are counted.
func (s *LaneStats) counter(o outcome) *uint64 {
	return [...]*uint64{
		sent: &s.Sent, quarantined: &s.SetAside, failed: &s.Failed,
		unsupported: &s.Unsupported,
		memoryFull:  &s.Dropped.Memory, diskFails: &s.Dropped.Disk, spoolFull: &s.Dropped.Size,
		tooOld: &s.Dropped.Age, damaged: &s.Dropped.Damage, atShutdown: &s.Dropped.Shutdown,
	}[o]
}

// gone is what a backend did not get though it should have, and never will from here.
func (s LaneStats) gone() uint64 { return s.Rejected + s.Failed + s.Dropped.Sum() }

// logEvery is how often losses that go on are logged.
const logEvery = time.Minute

// logLosses logs what was lost since it did so last, unless that was just now.
func (q *Queue) logLosses(every time.Duration) {
	q.mu.Lock()
	defer q.unlockAndTell()
	q.eachLane(func(l *lane) {
		st, lost := l.stats, l.stats.gone()-l.logged
		if lost == 0 || time.Since(l.loggedAt) < every {
			return
		}
		l.logged, l.loggedAt = l.stats.gone(), time.Now()
		q.tell = append(q.tell, func() {
			l.log.With(l.kind.unit(), lost).Warn(l.kind.String()+" were lost on the way to the backend", st.causes()...)
		})
	})
}

// causes are what was lost since the start by cause, for the log.
func (s LaneStats) causes() (attrs []any) {
	for _, c := range []struct {
		cause string
		n     uint64
	}{
		{"rejected", s.Rejected}, {"refused", s.Failed},
		{"memory_full", s.Dropped.Memory}, {"disk_fails", s.Dropped.Disk}, {"spool_full", s.Dropped.Size},
		{"too_old", s.Dropped.Age}, {"damaged", s.Dropped.Damage}, {"too_large", s.Dropped.TooLarge},
		{"shutdown", s.Dropped.Shutdown},
	} {
		if c.n > 0 {
			attrs = append(attrs, "all_"+c.cause, c.n)
		}
	}
	return attrs
}

// Stats is for logs and metrics.
func (q *Queue) Stats() Stats {
	q.mu.Lock()
	defer q.mu.Unlock()
	st := Stats{
		StoredBytes: q.disk[own] + q.disk[passedOn], MemoryBytes: q.memory[own] + q.memory[passedOn],
		Failing: q.failing, DamagedFiles: q.damaged, DeadDropped: q.dead.dropped.Load(),
	}
	q.eachLane(func(l *lane) {
		if l.unused || l.kind != spans && l.stats.Resumed+l.stats.Offered+l.stats.Lost == 0 {
			return
		}
		now := l.stats
		if it, ok := l.first(); ok {
			now.Oldest = time.Unix(0, it.created)
		}
		st.Lanes = append(st.Lanes, now)
	})
	return st
}
