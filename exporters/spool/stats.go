// SPDX-License-Identifier: Apache-2.0

package spool

import "time"

// Stats is a snapshot.
type Stats struct {
	Destinations []DestinationStats

	StoredBytes  int64 // on disk, in whole pages
	MemoryBytes  int   // waiting for the disk
	Failing      bool  // the disk does not take what is written
	DamagedFiles int   // files set aside since the start
	DeadDropped  uint64
}

// DestinationStats counts spans: Resumed + Offered is the sum of Sent, Rejected, SetAside, Failed, Dropped and Queued.
type DestinationStats struct {
	Name    string
	Resumed uint64 // waited in the spool at the start
	Offered uint64 // since then

	Sent     uint64 // accepted by the backend
	Rejected uint64 // the backend took their batch but not them (partial success)
	SetAside uint64 // refused for good: now dead letters
	Failed   uint64 // refused for good, and could not be set aside
	Dropped  Dropped
	Queued   uint64 // in the spool and in memory

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
	Memory   uint64 // faster than they could be written
	Disk     uint64 // the disk took nothing, and memory was full
	Size     uint64 // the spool was full
	Age      uint64 // older than allowed
	Damage   uint64 // in a file, or a part of one, that cannot be read any more
	Shutdown uint64 // neither delivered nor written when the sensor ended
}

// Sum is that of all causes.
func (d Dropped) Sum() uint64 {
	return d.Memory + d.Disk + d.Size + d.Age + d.Damage + d.Shutdown
}

// resolved is what waits no more.
func (s DestinationStats) resolved() uint64 {
	return s.Sent + s.Rejected + s.SetAside + s.Failed + s.Dropped.Sum()
}

// outcome is what becomes of a batch for one destination.
type outcome int

const (
	none outcome = iota // it waits
	sent
	quarantined // as a dead letter
	failed
	memoryFull // this and what follows: dropped
	diskFails
	spoolFull
	tooOld
	damaged
	atShutdown
)

// counter is where the spans of an outcome are counted.
func (s *DestinationStats) counter(o outcome) *uint64 {
	return [...]*uint64{
		sent: &s.Sent, quarantined: &s.SetAside, failed: &s.Failed,
		memoryFull: &s.Dropped.Memory, diskFails: &s.Dropped.Disk, spoolFull: &s.Dropped.Size,
		tooOld: &s.Dropped.Age, damaged: &s.Dropped.Damage, atShutdown: &s.Dropped.Shutdown,
	}[o]
}

// gone is what a destination did not get, and never will from here.
func (s DestinationStats) gone() uint64 { return s.Rejected + s.Failed + s.Dropped.Sum() }

// logEvery is how often losses that go on are logged.
const logEvery = time.Minute

// logLosses logs what was lost since it did so last, unless that was just now.
func (s *Spool) logLosses(every time.Duration) {
	for _, d := range s.destinations {
		s.mu.Lock()
		st, lost := d.stats, d.stats.gone()-d.logged
		due := lost > 0 && time.Since(d.loggedAt) >= every
		if due {
			d.logged, d.loggedAt = d.stats.gone(), time.Now()
		}
		s.mu.Unlock()
		if due { // the log may hang: not under mu
			d.log.With("spans", lost).Warn("spans were lost on the way to the backend", st.causes()...)
		}
	}
}

// causes are the spans lost since the start by cause, for the log.
func (s DestinationStats) causes() (attrs []any) {
	for _, c := range []struct {
		cause string
		n     uint64
	}{
		{"rejected", s.Rejected}, {"refused", s.Failed},
		{"memory_full", s.Dropped.Memory}, {"disk_fails", s.Dropped.Disk}, {"spool_full", s.Dropped.Size},
		{"too_old", s.Dropped.Age}, {"damaged", s.Dropped.Damage}, {"shutdown", s.Dropped.Shutdown},
	} {
		if c.n > 0 {
			attrs = append(attrs, "all_"+c.cause, c.n)
		}
	}
	return attrs
}

// Stats is for logs and metrics.
func (s *Spool) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := Stats{
		StoredBytes: s.stored.bytes, MemoryBytes: s.pending.bytes, Failing: s.failing,
		DamagedFiles: s.damaged, DeadDropped: s.dead.dropped.Load(),
	}
	for _, d := range s.destinations {
		ds := d.stats
		ds.Name = d.name
		it, ok := after(s.stored.items, d.position)
		if !ok {
			it, ok = after(s.pending.items, d.position)
		}
		if ok {
			ds.Oldest = time.Unix(0, it.created)
		}
		st.Destinations = append(st.Destinations, ds)
	}
	return st
}
