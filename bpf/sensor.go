// SPDX-License-Identifier: Apache-2.0

// Package bpf is the kernel side: the programs, the record layout, and the Sensor that
// loads, attaches and reads them. It knows nothing of sandboxes beyond the cgroup ids it
// is told to watch and the names of the programs it is told to follow, and nothing of spans.
package bpf

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"
	"github.com/cilium/ebpf/rlimit"
)

// Limits on what one record can be; longer ones never come from the kernel.
const (
	// MaxRecord is the largest record in bytes.
	MaxRecord = 32 << 10
	// MaxEnvName is the longest name of an environment variable that can be asked for, in bytes.
	MaxEnvName = 31
	// MaxEnvNames is how many can be.
	MaxEnvNames = 256
	// MaxProgramName is the longest base name of a program that can be looked for, in bytes; longer ones never match.
	MaxProgramName = 63
	// MaxProgramNames is how many can be.
	MaxProgramNames = 512
)

// Sensor is the loaded and attached kernel side. Read is for one goroutine; the other methods
// may be called from any.
type Sensor struct {
	kernel kernelSide
	ring   *ring
	record ringbuf.Record
	finds  bool // programs by name
	ledger *ledger
	last   uint64 // Last

	unpin   bool // nothing is to be left in the store
	pins    Pins
	store   *os.File      // nil: nothing is pinned
	old     []*generation // to be read first
	from    uint64        // stateFrom of our ledger
	reads   bool          // begin was called
	repeats atomic.Uint64
}

// Load loads the programs and attaches them. On error nothing stays attached. It needs BTF of the kernel, and
// CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN, for each of which to bpf(2) CAP_SYS_ADMIN stands, too. The tracepoint form
// reads files of tracefs that are root's: somebody else needs CAP_DAC_READ_SEARCH; and where tracefs is not mounted,
// CAP_SYS_ADMIN.
func Load(o Options) (_ *Sensor, err error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	if err := rlimit.RemoveMemlock(); err != nil {
		return nil, fmt.Errorf("raise the limit on locked memory "+
			"(needs root or CAP_SYS_RESOURCE on kernels before 5.11): %w", err)
	}
	spec, err := o.spec()
	if err != nil {
		return nil, err
	}
	s := &Sensor{
		kernel: kernelSide{programs: map[string]*ebpf.Program{}, closeEvents: o.CloseEvents},
		finds:  len(o.Programs) > 0,
	}
	defer func() {
		if err != nil {
			err = errors.Join(explain(err), s.Close())
		}
	}()
	var content string
	if o.Pin != "" {
		if content, err = s.takeUp(spec, &o); err != nil || s.pins.Resumed {
			return s, err
		}
	}
	if err := s.attachAll(spec, &o); err != nil {
		return s, err
	}
	if err := s.adopt(); err != nil {
		return s, err
	}
	if s.store != nil && !o.Unpin {
		s.keep(content, o.Layout)
	}
	return s, nil
}

// takeUp looks at what is pinned, and goes on with it if it is what would be loaded.
func (s *Sensor) takeUp(spec *ebpf.CollectionSpec, o *Options) (content string, err error) {
	if content, err = o.contentOf(spec); err != nil {
		return "", err
	}
	if s.store, err = openPins(o.Pin, !o.Unpin); err != nil {
		if s.store = nil; !o.Unpin || !errors.Is(err, os.ErrNotExist) {
			s.pins.Err = err
		}
		return content, nil
	}
	s.unpin = o.Unpin
	if err := s.find(spec, o, content); err != nil || !s.pins.Resumed {
		return content, err
	}
	s.pins.Dir, s.pins.Backlog = o.Pin, s.ring.AvailableBytes()
	s.last, s.pins.Starts = s.ledger.state(stateLast), s.ledger.state(stateStarts)+1
	now, err := Boottime()
	if s.last > 0 && s.last < now {
		s.pins.Gap = time.Duration(now - s.last)
	}
	return content, err
}

// keep pins what was attached, beside what it replaces. That it cannot be pinned is no error: Pins tells.
func (s *Sensor) keep(content string, layout int) {
	if err := s.kernel.pin(s.store, content, layout); err != nil {
		s.pins.Err = errors.Join(s.pins.Err, err)
		return
	}
	s.pins.Dir, s.pins.Starts = s.store.Name(), 1
	for _, g := range s.old {
		s.pins.Starts = max(s.pins.Starts, g.ledger.state(stateStarts)+1)
	}
}

// Pins tells what of this sensor outlives the process, and what it found.
func (s *Sensor) Pins() Pins { return s.pins }

// attachAll loads and attaches everything anew.
func (s *Sensor) attachAll(spec *ebpf.CollectionSpec, o *Options) (err error) {
	if err := s.kernel.loadCommon(spec, o); err != nil {
		return err
	}
	// Before any hook is attached, so that what the first one sends is counted if nobody reads.
	if s.ring, err = openRing(s.kernel.table("ring")); err != nil {
		return err
	}
	if s.ledger, err = openLedger(s.kernel.table(ledgerName)); err != nil {
		return err
	}
	if len(s.old) > 0 {
		if err := s.ledger.setState(stateFrom, notYet); err != nil {
			return err
		}
	}
	if err := s.kernel.attachCommon(o.CgroupRoot); err != nil {
		return err
	}
	return s.kernel.attachForms(spec, o)
}

// Read returns the next record, in the order in which the kernel reserved them. It reuses buf's
// memory when it is large enough; the result is the caller's until the next Read. It blocks until
// a record comes or the deadline passes (os.ErrDeadlineExceeded), a Flush was asked for and everything
// before it was read (ringbuf.ErrFlushed), or the sensor is closed (os.ErrClosed).
//
// Whoever reads the next record has handled this one: if the process is killed before, the next one that goes on with
// the pins is given it again.
//
// The kernel wakes the reader only when the ring fills: set a deadline of some milliseconds to poll.
func (s *Sensor) Read(buf []byte) ([]byte, error) {
	s.record.RawSample = buf[:0]
	if !s.reads {
		if err := s.begin(); err != nil {
			return nil, err
		}
	}
	if len(s.old) > 0 {
		if err := s.readOld(); err == nil || !errors.Is(err, os.ErrDeadlineExceeded) {
			return s.record.RawSample, err
		}
	}
	if err := s.ring.next(&s.record); err != nil {
		return nil, err
	}
	s.countRepeat(s.from)
	return s.record.RawSample, nil
}

// SetDeadline bounds the Reads to come; the zero time means none.
func (s *Sensor) SetDeadline(t time.Time) { s.ring.SetDeadline(t) }

// Flush makes the reader return ringbuf.ErrFlushed once the ring is empty.
func (s *Sensor) Flush() error { return s.ring.Flush() }

// RingFill is how full the ring is, in bytes of its size.
func (s *Sensor) RingFill() (used, size int) {
	return s.ring.AvailableBytes(), s.ring.BufferSize()
}

// Hooks tells what is attached, in a fixed order.
func (s *Sensor) Hooks() []Hook { return append([]Hook(nil), s.kernel.hooks...) }

// Close detaches and unloads everything but what is pinned.
func (s *Sensor) Close() error {
	errs := []error{s.kernel.detach()}
	errs = append(errs, s.ring.close())
	errs = append(errs, s.kernel.unload())
	for _, p := range s.old {
		p.close()
	}
	if s.store != nil {
		errs = append(errs, s.store.Close())
	}
	return errors.Join(errs...)
}
