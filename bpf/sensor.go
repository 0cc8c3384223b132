// SPDX-License-Identifier: Apache-2.0

// Package bpf is the kernel side: the programs, the record layout, and the Sensor that
// loads, attaches and reads them. It knows nothing of sandboxes beyond the cgroup ids it
// is told to watch and the names of the programs it is told to follow, and nothing of spans.
package bpf

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"
	"github.com/cilium/ebpf/rlimit"
	"golang.org/x/sys/unix"
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
	kernel   kernelSide
	reader   *ringbuf.Reader
	record   ringbuf.Record
	finds    bool // programs by name
	reported reportedLosses

	unpin    bool // nothing is to be left in the store
	pins     Pins
	store    *pinStore     // nil: nothing is pinned
	position *ringPosition // the same
	handover handover
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
		kernel:   kernelSide{programs: map[string]*ebpf.Program{}},
		finds:    len(o.Programs) > 0,
		reported: reportedLosses{before: map[lossID]uint64{}, told: map[lossID]uint64{}},
	}
	defer func() {
		if err != nil {
			err = errors.Join(explain(err), s.Close())
		}
	}()
	var content, records string
	if o.Pin != "" {
		records = formatOf(spec)
		if content, err = o.contentOf(spec); err != nil {
			return s, err
		}
		resumed, err := s.takeUp(spec, &o, content, records)
		if err != nil {
			return s, err
		}
		if resumed {
			return s, nil
		}
	}
	if err := s.attachAll(spec, &o); err != nil {
		return s, err
	}
	if err := s.handover.adoptTables(&s.kernel); err != nil {
		return s, err
	}
	if s.store != nil && !o.Unpin {
		if err := s.keep(content, records); err != nil {
			return s, err
		}
	}
	return s, nil
}

// takeUp looks at what is pinned. It says whether that is all that is needed. That pins cannot be used is no error:
// Pins tells.
func (s *Sensor) takeUp(spec *ebpf.CollectionSpec, o *Options, content, records string) (resumed bool, err error) {
	if s.store, err = openPins(o.Pin, !o.Unpin); err != nil {
		if s.store = nil; !o.Unpin || !errors.Is(err, os.ErrNotExist) {
			s.pins.Err = err
		}
		return false, nil
	}
	s.unpin = o.Unpin
	if err = errNoPins; !o.Unpin {
		err = s.resume(spec, o, content)
	}
	if resumed = err == nil; !resumed && !errors.Is(err, errNoPins) {
		s.pins.Err = fmt.Errorf("pins of the sensor before are not gone on with: %w", err)
	}
	ours := content
	if !resumed {
		// Whatever lies under our name has to make room.
		ours = ""
		if err := s.store.putAside(content[:32]); err != nil {
			return false, err
		}
	}
	if s.handover.old, err = s.store.others(ours, records); err != nil {
		s.pins.Err = errors.Join(s.pins.Err, err)
	}
	s.pins.Replaced = len(s.handover.old)
	if err := s.handover.order(s.store); err != nil {
		return false, err
	}
	if !resumed {
		return false, nil
	}
	if err := s.kernel.collection.Variables["existing_again"].Set(false); err != nil {
		return false, err
	}
	if s.reader, err = ringbuf.NewReader(s.kernel.table("ring")); err != nil {
		return false, fmt.Errorf("open the ring buffer: %w", err)
	}
	if s.position, err = newRingPosition(s.kernel.table("ring")); err != nil {
		return false, err
	}
	s.pins.Dir, s.pins.Resumed, s.pins.Backlog = o.Pin, true, s.reader.AvailableBytes()
	if err := s.reported.resume(); err != nil {
		return false, err
	}
	s.pins.Starts = s.reported.starts
	now, err := boottime()
	if last := s.reported.last; last > 0 && last < now {
		s.pins.Gap = time.Duration(now - last)
	}
	return true, err
}

// keep pins what was attached, beside what it replaces. That it cannot be pinned is no error: Pins tells.
func (s *Sensor) keep(content, records string) error {
	l, err := newLedger()
	if err != nil {
		return err
	}
	s.reported.ledger = l
	if err := s.handover.expect(l); err != nil {
		return err
	}
	if err := s.kernel.pin(s.store, l, content, records); err != nil {
		s.pins.Err = errors.Join(s.pins.Err, err)
		s.reported.ledger = nil
		return l.Close()
	}
	s.pins.Dir = s.store.dir
	if s.position, err = newRingPosition(s.kernel.table("ring")); err != nil {
		return err
	}
	_, s.reported.starts, err = l.start()
	s.pins.Starts = s.reported.starts
	return err
}

// Pins tells what of this sensor outlives the process, and what it found.
func (s *Sensor) Pins() Pins { return s.pins }

// attachAll loads and attaches everything anew.
func (s *Sensor) attachAll(spec *ebpf.CollectionSpec, o *Options) (err error) {
	if err := s.kernel.loadCommon(spec, o); err != nil {
		return err
	}
	// Before any hook is attached, so that what the first one sends is counted if nobody reads.
	s.reader, err = ringbuf.NewReader(s.kernel.table("ring"))
	if err != nil {
		return fmt.Errorf("open the ring buffer: %w", err)
	}
	if err := s.handover.expectFollowed(&s.kernel); err != nil {
		return err
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
// The kernel wakes the reader only when the ring fills: set a deadline of some milliseconds to poll.
func (s *Sensor) Read(buf []byte) ([]byte, error) {
	s.record.RawSample = buf[:0]
	if err := s.reported.begin(); err != nil {
		return nil, err
	}
	if len(s.handover.old) > 0 {
		err := s.readOld()
		if err == nil {
			return s.record.RawSample, nil
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return nil, err
		}
	}
	for {
		if raw, ok := s.handover.next(s.record.RawSample); ok {
			return raw, nil
		}
		err := s.reader.ReadInto(&s.record)
		switch {
		case err == nil && s.handover.takesNew(s.record.RawSample):
			return s.record.RawSample, nil
		case err == nil:
			continue
		}
		// The ring was empty, and that after the cutover.
		if s.handover.endCutover(); len(s.handover.found) == 0 {
			return nil, err
		}
	}
}

// readOld reads the next record of the kernel sides that are replaced, and takes these away one by one;
// os.ErrDeadlineExceeded when none is left.
func (s *Sensor) readOld() error {
	if !s.handover.begun() {
		if err := s.handover.begin(s.store, s.reported.ledger, s.kernel.hooks); err != nil {
			return err
		}
	}
	err := s.handover.read(&s.record, s.store, &s.reported)
	if s.unpin && errors.Is(err, os.ErrDeadlineExceeded) {
		// What is in it that is none of ours keeps it.
		if err := os.Remove(s.store.dir); err != nil && !errors.Is(err, unix.ENOTEMPTY) {
			return fmt.Errorf("remove the directory of the pins: %w", err)
		}
	}
	return err
}

// SetDeadline bounds the Reads to come; the zero time means none.
func (s *Sensor) SetDeadline(t time.Time) { s.reader.SetDeadline(t) }

// Flush makes the reader return ringbuf.ErrFlushed once the ring is empty.
func (s *Sensor) Flush() error { return s.reader.Flush() }

// RingFill is how full the ring is, in bytes of its size.
func (s *Sensor) RingFill() (used, size int) {
	return s.reader.AvailableBytes(), s.reader.BufferSize()
}

// Hooks tells what is attached, in a fixed order.
func (s *Sensor) Hooks() []Hook { return append([]Hook(nil), s.kernel.hooks...) }

// Close detaches and unloads everything but what is pinned.
func (s *Sensor) Close() error {
	errs := []error{s.kernel.detach()}
	if s.reader != nil {
		errs = append(errs, s.reader.Close())
	}
	errs = append(errs, s.kernel.unload())
	s.handover.close()
	return errors.Join(append(errs, s.position.close(), s.reported.ledger.Close(), s.store.close())...)
}
