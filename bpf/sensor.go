// SPDX-License-Identifier: Apache-2.0

// Package bpf is the kernel side: the programs, the record layout, and the Sensor that
// loads, attaches and reads them. It knows nothing of sandboxes beyond the cgroup ids it
// is told to watch and the names of the programs it is told to follow, and nothing of spans.
package bpf

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"sync"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
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
	collection *ebpf.Collection
	formed     []*ebpf.Collection
	attached   []attachment
	programs   map[string]*ebpf.Program
	reopened   []*ebpf.Program // of the pins
	reader     *ringbuf.Reader
	record     ringbuf.Record
	hooks      []Hook
	finds      bool // programs by name

	unpin    bool // nothing is to be left in the store
	pins     Pins
	store    *pinStore         // nil: nothing is pinned
	ledger   *ledger           // the same
	began    bool              // it says that this process reads
	position *ringPosition     // the same
	last     uint64            // Last
	told     map[lossID]uint64 // what is in the ledger
	// before is what processes before reported of the losses of this kernel side, less what is carried over of those
	// that it replaced: it wraps.
	before   map[lossID]uint64
	beforeMu sync.Mutex

	old     []*generation // to be read first
	cutover *cutover      // from the one that was read last; nil: there is none, or that is over
	found   [][]byte      // to be read next
}

type attachment struct {
	program string
	link    link.Link // nil: it has none, and cannot be pinned
	close   func() error
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
		return nil, fmt.Errorf("raise the limit on locked memory (needs root or CAP_SYS_RESOURCE on kernels before 5.11): %w", err)
	}
	spec, err := o.spec()
	if err != nil {
		return nil, err
	}
	s := &Sensor{programs: map[string]*ebpf.Program{}, before: map[lossID]uint64{}, told: map[lossID]uint64{}, finds: len(o.Programs) > 0}
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
	if err := s.adoptTables(s.old); err != nil {
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
	if s.old, err = s.findOld(ours, records); err != nil {
		s.pins.Err = errors.Join(s.pins.Err, err)
	}
	s.pins.Replaced = len(s.old)
	if err := s.order(); err != nil {
		return false, err
	}
	if !resumed {
		return false, nil
	}
	if err := s.collection.Variables["existing_again"].Set(false); err != nil {
		return false, err
	}
	if s.reader, err = ringbuf.NewReader(s.collection.Maps["ring"]); err != nil {
		return false, fmt.Errorf("open the ring buffer: %w", err)
	}
	if s.position, err = newRingPosition(s.collection.Maps["ring"]); err != nil {
		return false, err
	}
	if s.before, err = s.ledger.read(); err != nil {
		return false, err
	}
	s.told = maps.Clone(s.before)
	s.pins.Dir, s.pins.Resumed, s.pins.Backlog = o.Pin, true, s.reader.AvailableBytes()
	if s.last, s.pins.Starts, err = s.ledger.start(); err != nil {
		return false, err
	}
	now, err := boottime()
	if s.last > 0 && s.last < now {
		s.pins.Gap = time.Duration(now - s.last)
	}
	return true, err
}

// keep pins what was attached, beside what it replaces. That it cannot be pinned is no error: Pins tells.
func (s *Sensor) keep(content, records string) error {
	var err error
	if s.ledger, err = newLedger(); err != nil {
		return err
	}
	if len(s.old) > 0 {
		// Those who read it go on from those who read what it replaces.
		var starts uint64
		for _, p := range s.old {
			n, err := p.ledger.get(stateStarts)
			if err != nil {
				return err
			}
			starts = max(starts, n)
		}
		if err := errors.Join(s.ledger.set(stateFrom, notYet), s.ledger.set(stateStarts, starts)); err != nil {
			return err
		}
	}
	if err := s.pinAll(content, records); err != nil {
		s.pins.Err = errors.Join(s.pins.Err, err)
		err = s.ledger.Close()
		s.ledger = nil
		return err
	}
	s.pins.Dir = s.store.dir
	if s.position, err = newRingPosition(s.collection.Maps["ring"]); err != nil {
		return err
	}
	_, s.pins.Starts, err = s.ledger.start()
	return err
}

// Pins tells what of this sensor outlives the process, and what it found.
func (s *Sensor) Pins() Pins { return s.pins }

// attachAll loads and attaches everything anew.
func (s *Sensor) attachAll(spec *ebpf.CollectionSpec, o *Options) (err error) {
	common := spec.Copy()
	for _, group := range formGroups {
		for name := range group.programs() {
			delete(common.Programs, name)
		}
	}
	s.collection, err = ebpf.NewCollectionWithOptions(common, ebpf.CollectionOptions{Programs: ebpf.ProgramOptions{KernelTypes: o.kernel}})
	if err != nil {
		return fmt.Errorf("load the kernel programs: %w", err)
	}
	for name, program := range s.collection.Programs {
		s.programs[name] = program
	}
	for _, name := range o.EnvNames {
		var key [MaxEnvName + 1]byte
		copy(key[:], name)
		if err := s.collection.Maps["env_names"].Put(key, uint8(1)); err != nil {
			return fmt.Errorf("list the environment variable %s: %w", name, err)
		}
	}
	for _, p := range o.Programs {
		var key [MaxProgramName + 1]byte
		copy(key[:], p.Name)
		match := uint8(1) // enum name_match
		if p.Stem {
			match = 3
		}
		if err := s.collection.Maps["agent_names"].Put(key, match); err != nil {
			return fmt.Errorf("look for programs named %s: %w", p.Name, err)
		}
	}
	for key, path := range noisePaths(o.Noise) {
		if err := s.collection.Maps["noise"].Put(key, path); err != nil {
			return fmt.Errorf("list the paths that every program reads: %w", err)
		}
	}
	// Before any hook is attached, so that what the first one sends is counted if nobody reads.
	s.reader, err = ringbuf.NewReader(s.collection.Maps["ring"])
	if err != nil {
		return fmt.Errorf("open the ring buffer: %w", err)
	}
	if err := s.expectFollowed(s.old); err != nil {
		return err
	}
	if err := s.attachCommon(o.CgroupRoot); err != nil {
		return err
	}
	return s.attachForms(spec, o)
}

// Read returns the next record, in the order in which the kernel reserved them. It reuses buf's
// memory when it is large enough; the result is the caller's until the next Read. It blocks until
// a record comes or the deadline passes (os.ErrDeadlineExceeded), a Flush was asked for and everything
// before it was read (ringbuf.ErrFlushed), or the sensor is closed (os.ErrClosed).
//
// The kernel wakes the reader only when the ring fills: set a deadline of some milliseconds to poll.
func (s *Sensor) Read(buf []byte) ([]byte, error) {
	s.record.RawSample = buf[:0]
	if err := s.begin(); err != nil {
		return nil, err
	}
	if len(s.old) > 0 {
		err := s.handOver()
		if err == nil {
			return s.record.RawSample, nil
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return nil, err
		}
	}
	for {
		if len(s.found) > 0 {
			raw := append(s.record.RawSample[:0], s.found[0]...)
			s.found = s.found[1:]
			return raw, nil
		}
		err := s.reader.ReadInto(&s.record)
		switch {
		case s.cutover == nil && err == nil, err == nil && s.cutover.takesNew(s.record.RawSample):
			return s.record.RawSample, nil
		case err == nil:
			continue
		}
		// The ring was empty, and that after the cutover.
		if s.endCutover(); len(s.found) == 0 {
			return nil, err
		}
	}
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
func (s *Sensor) Hooks() []Hook { return append([]Hook(nil), s.hooks...) }

// Detach detaches every hook; what is in the ring can still be read. All at once, because the kernel
// waits some 20 ms for each until nobody runs it any more. Hooks that are pinned stay.
func (s *Sensor) Detach() error {
	errs := make([]error, len(s.attached))
	var all sync.WaitGroup
	for i, a := range s.attached {
		all.Go(func() { errs[i] = a.close() })
	}
	all.Wait()
	s.attached = nil
	return errors.Join(errs...)
}

// Close detaches and unloads everything but what is pinned.
func (s *Sensor) Close() error {
	errs := []error{s.Detach()}
	if s.reader != nil {
		errs = append(errs, s.reader.Close())
	}
	for _, c := range s.formed {
		c.Close()
	}
	for _, p := range s.reopened {
		errs = append(errs, p.Close())
	}
	if s.collection != nil {
		s.collection.Close()
	}
	for _, p := range s.old {
		p.close()
	}
	return errors.Join(append(errs, s.position.close(), s.ledger.Close(), s.store.close())...)
}
