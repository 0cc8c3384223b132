// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"errors"
	"fmt"
	"maps"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"
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

// unreported is what was not reported yet of its losses, by sandbox.
func (p *generation) unreported() (map[lossID]uint64, error) {
	lost := map[lossID]uint64{}
	// By sandbox: a counter of a process would have to be taken away once that has ended.
	if p.losses != nil && p.unkeyed != nil && p.process != nil {
		all, err := counters(p.unkeyed, p.losses, p.process)
		if err != nil {
			return nil, err
		}
		for _, l := range all {
			lost[l.id().ofSandbox()] += l.Count
		}
	}
	if p.ledger != nil {
		told, err := p.ledger.read()
		if err != nil {
			return nil, err
		}
		for id, n := range told {
			lost[id.ofSandbox()] -= n // wraps
		}
	}
	for kind, n := range p.unread {
		lost[lossID{kind: kind, cause: LossNotRead}] += n
	}
	maps.DeleteFunc(lost, func(_ lossID, n uint64) bool { return n == 0 })
	return lost, nil
}

// drop removes a kernel side that is replaced.
func (s *pinStore) drop(p *generation) error {
	err := s.remove(p.dir, "")
	p.close()
	if err != nil {
		return fmt.Errorf("remove the pins of the sensor before: %w", err)
	}
	return nil
}
