// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"
	"golang.org/x/sys/unix"
)

// LossNotRead is the cause of records that lay in a ring of a sensor that was replaced, and that this one cannot
// read: beyond enum loss_cause, as user space is to blame.
const LossNotRead uint16 = 260

// A generation is an older kernel side, of other content, that is still attached. Ours is attached beside it, so that
// there is no gap; what was before one instant, the cutover, is taken from its ring, and what was after from ours.
type generation struct {
	dir      *pinDir
	readable bool // its records have our layout
	ring     *ringbuf.Reader
	position *ringPosition
	losses   *ebpf.Map
	unkeyed  *ebpf.Map
	process  *ebpf.Map // losses by process
	ledger   *ledger   // nil: not known what was told
	tables   map[string]*ebpf.Map
	unread   map[uint16]uint64 // by kind: could not be read
	from     uint64            // of its ledger, as both
	both     uint64
	until    *cutover // nil: not known yet
}

// generation opens what is pinned under a name. It may give both: what there is, and what was wrong with it.
func (s *pinStore) generation(name, records string) (_ *generation, err error) {
	d, err := s.sub(name)
	if err != nil {
		return nil, err // nobody's pins: left alone
	}
	p := &generation{dir: d, tables: map[string]*ebpf.Map{}, unread: map[uint16]uint64{}}
	m, err := d.manifest()
	of := &m
	if err != nil {
		of = nil // what there is can be counted all the same
	}
	p.readable = err == nil && m.Records == records
	open := func(name string, t ebpf.MapType, key, value uint32) *ebpf.Map {
		one, oneErr := d.loadMap(of, name)
		if oneErr == nil && (one.Type() != t || one.KeySize() != key || one.ValueSize() != value) {
			_ = one.Close()
			one, oneErr = nil, fmt.Errorf("the pinned map %s is another", name)
		}
		err = errors.Join(err, oneErr)
		return one
	}
	if ring := open("ring", ebpf.RingBuf, 0, 0); ring != nil {
		var ringErr error
		if ring.MaxEntries() > maxRing {
			ringErr = fmt.Errorf("a ring of %d bytes", ring.MaxEntries())
		} else {
			p.ring, ringErr = ringbuf.NewReader(ring)
		}
		if ringErr == nil {
			p.position, ringErr = newRingPosition(ring)
		}
		err = errors.Join(err, ringErr)
		_ = ring.Close()
	}
	p.losses = open("losses", ebpf.Hash, lossKeyBytes, 8)
	p.unkeyed = open("losses_unkeyed", ebpf.Array, 4, 8)
	p.process = open("process_losses", ebpf.Hash, lossKeyBytes, 8)
	for _, name := range []string{"watched", "followed"} {
		if t := open(name, ebpf.Hash, 4, 8); t != nil {
			p.tables[name] = t
		}
	}
	var ledgerErr error
	p.ledger, ledgerErr = loadLedger(d, of)
	return p, errors.Join(err, ledgerErr)
}

func (p *generation) close() {
	if p.ring != nil {
		_ = p.ring.Close()
	}
	for _, m := range p.tables {
		_ = m.Close()
	}
	for _, m := range []*ebpf.Map{p.losses, p.unkeyed, p.process} {
		if m != nil {
			_ = m.Close()
		}
	}
	_ = p.position.close()
	_ = p.ledger.Close()
	p.dir.f.Close()
}

// adoptTables has this kernel side know whom the others follow: who is followed by lineage, nobody else can tell. To
// be called with every hook attached, so that whoever is forked meanwhile is followed by one of them.
func (s *Sensor) adoptTables(from []*generation) error {
	for _, p := range from {
		for name, table := range p.tables {
			var tgid uint32
			var value uint64
			entries := table.Iterate()
			for entries.Next(&tgid, &value) {
				if unix.Kill(int(tgid), 0) == unix.ESRCH {
					continue // it ended before our hooks were there to notice
				}
				err := s.collection.Maps[name].Update(tgid, value, ebpf.UpdateNoExist)
				if err != nil && !errors.Is(err, ebpf.ErrKeyExist) {
					return fmt.Errorf("take over the table %s: %w", name, err)
				}
			}
			if err := entries.Err(); err != nil && !errors.Is(err, ebpf.ErrIterationAborted) {
				return fmt.Errorf("read the table %s of the sensor before: %w", name, err)
			}
		}
	}
	return nil
}

// manyFollowed stands for "some" in followed_count: programs add to and take from it meanwhile, so it cannot be set
// to what it is.
const manyFollowed = uint64(1) << 32

func (s *Sensor) expectFollowed(from []*generation) error {
	for _, p := range from {
		var tgid uint32
		if t := p.tables["followed"]; t != nil && t.NextKey(nil, &tgid) == nil {
			return s.collection.Variables["followed_count"].Set(manyFollowed)
		}
	}
	return nil
}

// order puts the kernel sides that are replaced into the order in which they were attached. One that was killed
// before it took over has nothing that the one before it has not.
func (s *Sensor) order() (err error) {
	var ordered []*generation
	for _, p := range s.old {
		if p.from, err = p.ledger.get(stateFrom); err != nil {
			return err
		}
		if p.both, err = p.ledger.get(stateBoth); err != nil {
			return err
		}
		if p.from == notYet {
			if err := s.drop(p); err != nil {
				return err
			}
			continue
		}
		ordered = append(ordered, p)
	}
	slices.SortStableFunc(ordered, func(a, b *generation) int { return cmp.Compare(a.from, b.from) })
	s.old = ordered
	return nil
}

func boottime() (uint64, error) {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
		return 0, fmt.Errorf("read CLOCK_BOOTTIME: %w", err)
	}
	return uint64(now.Nano()), nil
}

// makeCutover says until when each is read. It is called when ours sees all that they see.
func (s *Sensor) makeCutover() error {
	from, err := s.ledger.get(stateFrom)
	if err != nil {
		return err
	}
	both, err := s.ledger.get(stateBoth)
	if err != nil {
		return err
	}
	if from == 0 || from == notYet {
		if both, err = boottime(); err != nil {
			return err
		}
		time.Sleep(cutoverMargin)
		if from, err = boottime(); err != nil {
			return err
		}
		if err := s.ledger.set(stateBoth, both); err != nil {
			return err
		}
		if err := s.ledger.set(stateFrom, from); err != nil {
			return err
		}
	}
	if first := s.old[0]; first.from > 0 {
		s.cutover = newCutover(first.from, notYet, s.hooks) // the one before it is read already
	}
	for i, p := range s.old {
		p.until = newCutover(from, both, s.hooks)
		if i+1 < len(s.old) {
			p.until = newCutover(s.old[i+1].from, s.old[i+1].both, s.hooks)
		}
		if err := s.store.remove(p.dir, linkPrefix); err != nil {
			return fmt.Errorf("detach the sensor before: %w", err)
		}
	}
	return nil
}

// handOver gives the next record of the kernel sides that are replaced; os.ErrDeadlineExceeded when there is none any
// more.
func (s *Sensor) handOver() error {
	if s.old[0].until == nil {
		if err := s.makeCutover(); err != nil {
			return err
		}
	}
	for len(s.old) > 0 {
		p := s.old[0]
		for p.ring != nil {
			p.ring.SetDeadline(time.Unix(1, 0))
			err := p.ring.ReadInto(&s.record)
			if errors.Is(err, os.ErrDeadlineExceeded) {
				break
			}
			if err != nil {
				return fmt.Errorf("read the ring of the sensor before: %w", err)
			}
			raw := s.record.RawSample
			if s.cutover != nil && !s.cutover.takesNew(raw) || !p.until.takesOld(raw) {
				continue
			}
			if p.readable {
				return nil
			}
			p.unread[binary.LittleEndian.Uint16(raw)]++
		}
		s.endCutover()
		if err := s.retire(p); err != nil {
			return err
		}
		s.cutover = p.until
		s.old = s.old[1:]
	}
	if s.unpin {
		// What is in it that is none of ours keeps it.
		if err := os.Remove(s.store.dir); err != nil && !errors.Is(err, unix.ENOTEMPTY) {
			return fmt.Errorf("remove the directory of the pins: %w", err)
		}
	}
	return os.ErrDeadlineExceeded
}

func (s *Sensor) endCutover() {
	if s.cutover != nil {
		s.found = append(s.found, s.cutover.end()...)
		s.cutover = nil
	}
}

// retire carries what was not reported yet of the losses of a kernel side that is replaced over into our ledger, and
// removes it.
func (s *Sensor) retire(p *generation) error {
	lost := map[lossID]uint64{}
	// By sandbox: a counter of a process would have to be taken away once that has ended.
	if p.losses != nil && p.unkeyed != nil && p.process != nil {
		all, err := counters(p.unkeyed, p.losses, p.process)
		if err != nil {
			return err
		}
		for _, l := range all {
			lost[l.id().ofSandbox()] += l.Count
		}
	}
	if p.ledger != nil {
		told, err := p.ledger.read()
		if err != nil {
			return err
		}
		for id, n := range told {
			lost[id.ofSandbox()] -= n // wraps
		}
	}
	for kind, n := range p.unread {
		lost[lossID{kind: kind, cause: LossNotRead}] += n
	}
	maps.DeleteFunc(lost, func(_ lossID, n uint64) bool { return n == 0 })
	if err := s.carryOver(lost); err != nil {
		return err
	}
	return s.drop(p)
}

// drop removes a kernel side that is replaced.
func (s *Sensor) drop(p *generation) error {
	err := s.store.remove(p.dir, "")
	p.close()
	if err != nil {
		return fmt.Errorf("remove the pins of the sensor before: %w", err)
	}
	return nil
}
