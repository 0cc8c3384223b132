// SPDX-License-Identifier: Apache-2.0

package delivery

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/sheetbend/sheetbend/exporters/otlp"
)

const (
	// maxLoadAttempts is how often a batch is tried that the backend refuses as too much without saying when to come
	// back: it may as well be too large.
	maxLoadAttempts = 8
	// hangs is how long a commit takes before batches are sent from memory.
	hangs = 2 * time.Second
	// window is how many requests of a lane are under way at a time: each takes a round trip.
	window = 4
	// maxAhead is how many batches a lane may be done with, besides those that are under way then, while an older one
	// waits for another attempt. They are sent again if the process is killed.
	maxAhead = 16
	// offFor is how long a lane is off whose backend does not take the signal.
	offFor = 10 * time.Minute
)

// lane delivers one kind to one backend, the oldest batches first. What stands below stats is guarded by Queue.mu.
type lane struct {
	q        *Queue
	kind     kind
	endpoint string // Destination.Name
	hash     uint64 // of the key
	log      *slog.Logger
	backend  otlp.Backend
	unused   bool // the kind is not for this backend

	stats    LaneStats
	changed  *sync.Cond // of Queue.mu
	started  bool
	position uint64             // it is done with all batches up to this one
	ahead    map[uint64]uint64  // batches after it that it is done with → their spans
	flights  map[uint64]outcome // batches that are being sent → why they were dropped meanwhile, or none
	tries    map[uint64]int     // attempts that were too much, of batches after the position
	retries  []string           // files of dead letters to send again
	kept     item               // the batch that was refused last: an outage does not read it over and over

	// While the last attempt failed, only one request is under way, and not before.
	failing   bool
	recovered time.Time // when it last ceased to
	notBefore time.Time
	pauses    *backoff.ExponentialBackOff
	leaving   bool      // the backend takes nothing and the end is near
	off       time.Time // until then nothing is sent, as the backend does not take the signal
	told      bool      // that it does not

	logged   uint64 // losses that are in the log
	loggedAt time.Time
}

func newLane(q *Queue, k kind, d Destination) *lane {
	l := &lane{
		q: q, kind: k, endpoint: d.Name, log: q.log.With("endpoint", d.Name), backend: d.Backend,
		stats:   LaneStats{Endpoint: d.Name, Signal: k.signal(), PassedOn: k.origin() == passedOn},
		changed: sync.NewCond(&q.mu), pauses: otlp.NewPauses(q.cfg.RetryWait),
		unused: !d.gets(k), ahead: map[uint64]uint64{}, flights: map[uint64]outcome{}, tries: map[uint64]int{},
	}
	l.hash = hashed(l.key())
	return l
}

// key is the lane's name in the store. That of the sensor's spans is as it was before there were others.
func (l *lane) key() string {
	if l.kind == spans {
		return l.endpoint
	}
	return l.endpoint + "\x00" + string('1'+rune(l.kind))
}

// queue counts a batch that waits for l.
func (l *lane) queue(h head) {
	l.stats.Queued += uint64(h.spans)
	l.stats.QueuedBytes += int64(h.size)
	l.start()
}

// start begins to send, when there is something for the first time.
func (l *lane) start() {
	if !l.started {
		l.started = true
		for range window {
			l.q.senders.Go(l.run)
		}
	}
}

// resolve counts what became of a batch that waited for l.
func (l *lane) resolve(h head, o outcome) {
	l.stats.Queued -= uint64(h.spans)
	l.stats.QueuedBytes -= int64(h.size)
	*l.stats.counter(o) += uint64(h.spans)
}

func (l *lane) run() {
	for {
		it, dead, ok := l.next()
		switch {
		case !ok:
			return
		case dead != "":
			l.retry(dead)
		default:
			l.deliver(it)
		}
	}
}

// next waits for a batch, or for a dead letter to send again. It reports false at the end.
func (l *lane) next() (it item, dead string, ok bool) {
	l.q.mu.Lock()
	defer l.q.mu.Unlock()
	for {
		if l.q.sending.Err() != nil || l.leaving {
			return it, "", false
		}
		if len(l.retries) > 0 && !l.q.closed {
			dead, l.retries = l.retries[0], l.retries[1:]
			return it, dead, true
		}
		if it, ok = l.candidate(); ok {
			l.flights[it.seq] = none
			return it, "", true
		}
		if l.q.closed && l.stats.Queued == 0 {
			return it, "", false
		}
		l.changed.Wait()
	}
}

// candidate is the oldest batch that can be sent now.
func (l *lane) candidate() (item, bool) {
	if l.failing && (len(l.flights) > 0 || time.Now().Before(l.notBefore)) {
		return item{}, false
	}
	line := &l.q.lines[l.kind]
	it, ok := l.oldest(line.stored, true)
	if !ok && (!l.q.onDisk(l.kind) || l.q.diskHangs()) {
		it, ok = l.oldest(line.pending, true)
	}
	if ok && len(l.ahead) >= maxAhead {
		first, _ := l.first()
		ok = it.seq == first.seq
	}
	return it, ok
}

// first is the oldest that l is not done with.
func (l *lane) first() (item, bool) {
	it, ok := l.oldest(l.q.lines[l.kind].stored, false)
	if !ok {
		it, ok = l.oldest(l.q.lines[l.kind].pending, false)
	}
	return it, ok
}

// oldest is the first of a list that l is not done with, and with idle is not sending.
func (l *lane) oldest(list []item, idle bool) (item, bool) {
	for i := from(list, l.position); i < len(list); i++ {
		_, done := l.ahead[list[i].seq]
		_, flies := l.flights[list[i].seq]
		if !done && (!idle || !flies) {
			return list[i], true
		}
	}
	return item{}, false
}

// diskHangs is true when batches have to be sent from memory. Otherwise they are on disk before: a batch that was being
// sent when the sensor is killed is sent again, and not counted as lost though it may have arrived. mu is held.
func (q *Queue) diskHangs() bool {
	return q.failing || q.store == nil || q.writing && time.Since(q.since) > hangs
}

// deliver makes one attempt.
func (l *lane) deliver(it item) {
	b := it.batch
	if b.Resources == nil {
		var err error
		if b, err = l.load(it.head); err != nil {
			l.unreadable(it, err)
			return
		}
	}
	began := time.Now()
	receipt, refusal, ended := l.attempt(b)
	switch {
	case ended:
		l.again(it, began, nil)
	case refusal == nil:
		l.finish(it, sent, receipt.Rejected)
	// Where spans are not taken at all, the endpoint is the wrong one: they wait.
	case refusal.Kind == otlp.Unsupported && l.kind != spans:
		l.switchOff(it, refusal)
	case refusal.Kind == otlp.Permanent, refusal.Kind == otlp.TooMuch && l.tooMuch(it) >= maxLoadAttempts:
		l.finish(it, l.refused(it, b, refusal.Error()), 0)
	case time.Since(time.Unix(0, it.created)) > l.q.cfg.MaxAge:
		l.finish(it, tooOld, 0)
	default:
		l.q.mu.Lock()
		l.kept = item{head: it.head, batch: b}
		l.q.mu.Unlock()
		l.again(it, began, refusal)
	}
}

// load gives a batch that is on disk.
func (l *lane) load(h head) (otlp.Batch, error) {
	l.q.mu.Lock()
	kept := l.kept
	l.kept = item{}
	l.q.mu.Unlock()
	if kept.seq == h.seq {
		return kept.batch, nil
	}
	return l.q.load(h)
}

// tooMuch counts the attempts to send a batch that were too much.
func (l *lane) tooMuch(it item) int {
	l.q.mu.Lock()
	defer l.q.mu.Unlock()
	l.tries[it.seq]++
	return l.tries[it.seq]
}

// refused makes a dead letter of a batch that the backend refuses for good. What was passed on makes none: an agent
// could fill their room.
func (l *lane) refused(it item, b otlp.Batch, reason string) outcome {
	log := l.log.With("spans", it.spans)
	if l.q.cfg.Dir == "" || l.kind.origin() == passedOn {
		log.Warn(l.kind.String()+" dropped: the OTLP backend refuses them for good", "reason", reason)
		return failed
	}
	if err := l.q.dead.add(entry{created: it.created, to: l.endpoint, reason: reason, batch: b}); err != nil {
		log.Error(l.kind.String()+" dropped: the OTLP backend refuses them for good, and they cannot be set aside",
			"reason", reason, "error", err)
		return failed
	}
	log.Warn("the OTLP backend refuses "+l.kind.String()+
		" for good: they are dead letters now (see sheetbend spool list)", "reason", reason)
	return quarantined
}

// attempt is one. ended says that the end came before an answer.
func (l *lane) attempt(b otlp.Batch) (receipt otlp.Receipt, refusal *otlp.Refusal, ended bool) {
	began := time.Now()
	receipt, err := l.backend.Send(l.q.sending, b)
	took := time.Since(began)
	if err != nil && l.q.sending.Err() != nil {
		return receipt, nil, true
	}
	if err != nil && !errors.As(err, &refusal) {
		refusal = &otlp.Refusal{Message: err.Error(), Kind: otlp.Temporary}
		if errors.Is(err, context.Canceled) {
			refusal.Message = "canceled"
		}
	}
	l.q.mu.Lock()
	l.stats.Attempts++
	if err != nil {
		l.stats.Errors++
		l.stats.LastError = refusal.Error()
	} else {
		l.stats.Took, l.stats.LastError = l.stats.Took+took, ""
	}
	l.q.mu.Unlock()
	if err == nil && (receipt.Rejected > 0 || receipt.Message != "") {
		l.log.Warn("the OTLP backend rejected "+l.kind.String(), "spans", receipt.Rejected, "message", receipt.Message)
	}
	return receipt, refusal, false
}

// finish counts what became of a batch; if it was dropped meanwhile and did not arrive, that is why it is lost.
func (l *lane) finish(it item, o outcome, rejected uint64) {
	l.q.mu.Lock()
	defer l.q.unlockAndTell()
	if o <= failed { // the backend answers
		if l.failing || l.told {
			l.q.tell = append(l.q.tell, func() { l.log.Info("the OTLP backend takes " + l.kind.String() + " again") })
			l.recovered = time.Now()
		}
		l.failing, l.told, l.off = false, false, time.Time{}
		l.pauses.Reset()
	}
	l.land(it, o)
	l.stats.Sent -= rejected
	l.stats.Rejected += rejected
}

// land ends the flight of a batch with an outcome. mu is held.
func (l *lane) land(it item, o outcome) {
	if dropped := l.flights[it.seq]; o > failed && dropped != none {
		o = dropped
	}
	delete(l.flights, it.seq)
	l.resolve(it.head, o)
	if it.seq > l.position {
		l.ahead[it.seq] = uint64(it.spans)
	}
	l.advance()
	l.q.moved = true
	l.q.release()
	l.q.publish()
	l.changed.Broadcast()
}

// advance moves the position up to the oldest batch that l is not done with. mu is held.
func (l *lane) advance() {
	oldest := l.q.seq + 1
	if it, ok := l.first(); ok {
		oldest = it.seq
	}
	for seq := range l.ahead {
		if seq < oldest {
			l.position = max(l.position, seq)
			delete(l.ahead, seq)
		}
	}
	for seq := range l.tries {
		if seq <= l.position {
			delete(l.tries, seq)
		}
	}
}

// again lets a batch wait for another attempt, or for the next start, if it was not dropped meanwhile. The attempt that
// it was refused in began at began. Without a refusal the end came first.
func (l *lane) again(it item, began time.Time, refusal *otlp.Refusal) {
	l.q.mu.Lock()
	defer l.q.unlockAndTell()
	if dropped := l.flights[it.seq]; dropped != none {
		l.land(it, dropped)
	}
	delete(l.flights, it.seq)
	if refusal == nil {
		return
	}
	// What is on disk waits for the next start; what is in memory only is tried to the end, if that can help.
	l.leaving = l.leaving || l.q.closed && (it.batch.Resources == nil || refusal.Kind != otlp.Temporary)
	if began.Before(l.recovered) { // the news is of the outage before
		l.changed.Broadcast()
		return
	}
	now := time.Now()
	if !l.failing {
		where := " in the spool"
		if !l.q.onDisk(l.kind) {
			where = " in memory"
		}
		l.q.tell = append(l.q.tell, func() {
			l.log.Warn("the OTLP backend does not take "+l.kind.String()+"; they wait"+where, "error", refusal)
		})
	}
	// Several requests that were under way when it began to fail count as one.
	pause := refusal.After
	if !l.failing || now.After(l.notBefore) {
		pause = max(pause, l.pauses.NextBackOff())
	}
	l.failing = true
	if until := now.Add(pause); until.After(l.notBefore) {
		l.notBefore = until
		time.AfterFunc(pause, l.wake)
	}
	l.changed.Broadcast()
}

// wake lets l look again.
func (l *lane) wake() {
	l.q.mu.Lock()
	defer l.q.mu.Unlock()
	l.changed.Broadcast()
}

// switchOff drops what waits for a backend that does not take the signal, and what comes in the next minutes.
func (l *lane) switchOff(it item, refusal *otlp.Refusal) {
	l.q.mu.Lock()
	defer l.q.unlockAndTell()
	if !l.told {
		l.q.tell = append(l.q.tell, func() {
			l.log.Warn("the OTLP backend does not take "+l.kind.String()+": they are dropped for it, and counted; "+
				"it is asked again every "+offFor.String(), "error", refusal)
		})
	}
	l.told, l.off, l.failing = true, time.Now().Add(offFor), false
	line := &l.q.lines[l.kind]
	for _, list := range [][]item{line.stored, line.pending} {
		for _, other := range list[from(list, l.position):] {
			_, done := l.ahead[other.seq]
			_, flies := l.flights[other.seq]
			if !done && !flies {
				l.resolve(other.head, unsupported)
			}
		}
	}
	for seq, dropped := range l.flights {
		if dropped == none {
			l.flights[seq] = unsupported
		}
	}
	l.position = l.q.seq
	clear(l.ahead)
	l.land(it, unsupported)
}

// unreadable skips a batch that the disk does not give back. If the whole file or the disk is at fault, the writer
// finds out; until then the next batch may be read.
func (l *lane) unreadable(it item, err error) {
	l.q.mu.Lock()
	dropped := l.flights[it.seq]
	l.q.mu.Unlock()
	if dropped == none {
		l.log.Error("a batch of the spool cannot be read, and is dropped", "spans", it.spans, "error", err)
	}
	l.finish(it, damaged, 0)
}

// load reads a batch from the disk.
func (q *Queue) load(h head) (otlp.Batch, error) {
	q.mu.Lock()
	st := q.store
	q.mu.Unlock()
	if st == nil {
		return otlp.Batch{}, errMissing
	}
	data, err := st.read(h)
	if err != nil {
		return otlp.Batch{}, err
	}
	e, err := decodeEntry(data)
	return e.batch, err
}
