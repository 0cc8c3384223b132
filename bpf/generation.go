// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// LossNotRead is the cause of records that lay in a ring of a sensor before, and that this one cannot read: beyond enum
// loss_cause, as user space is to blame.
const LossNotRead uint16 = 260

// A generation is an older kernel side, of other content, that is still attached. Ours is attached beside it, so that
// there is no gap. What its ring holds of until one instant, when ours sees all that it sees, is read first; then all
// that is in our ring. So what happened between our first hook and that instant is there twice, and nothing is missing.
type generation struct {
	dir      *os.File
	readable bool // its records have our layout
	ring     *ring
	maps     map[string]*ebpf.Map
	ledger   *ledger
	from     uint64 // stateFrom of its ledger
}

// overlap is for how long two kernel sides see the same before the older one is not needed any more: longer than a
// thread is between the hooks of the one and of the other, which read the clock for themselves.
const overlap = 20 * time.Millisecond

// openGeneration opens what of a kernel side there is. m is nil if it has no manifest that can be read: what there is
// can be counted all the same.
func openGeneration(
	spec *ebpf.CollectionSpec, dir *os.File, m *manifest, layout int,
) (_ *generation, err error) {
	g := &generation{dir: dir, readable: m != nil && m.Records == strconv.Itoa(layout), maps: map[string]*ebpf.Map{}}
	for _, name := range []string{
		"ring", "losses", "losses_unkeyed", "process_losses", ledgerName, "watched", "followed",
	} {
		one, oneErr := loadMap(dir, m, name, spec.Maps[name])
		if err = errors.Join(err, oneErr); oneErr == nil {
			g.maps[name] = one
		}
	}
	var ringErr, ledgerErr error
	if r := g.maps["ring"]; r != nil && r.MaxEntries() <= maxRing {
		g.ring, ringErr = openRing(r)
	}
	g.ledger, ledgerErr = openLedger(g.maps[ledgerName])
	g.from = g.ledger.state(stateFrom)
	return g, errors.Join(err, ringErr, ledgerErr)
}

func (g *generation) close() {
	_ = g.ring.close()
	for _, m := range g.maps {
		_ = m.Close()
	}
	_ = g.dir.Close()
}

// order puts the kernel sides that are replaced into the order in which they were attached. One that was killed
// before it took over has nothing that the one before it has not.
func (s *Sensor) order() (err error) {
	s.old = slices.DeleteFunc(s.old, func(g *generation) bool {
		if g.from == notYet {
			err = errors.Join(err, remove(s.store, g.dir))
			g.close()
		}
		return g.from == notYet
	})
	slices.SortStableFunc(s.old, func(a, b *generation) int { return cmp.Compare(a.from, b.from) })
	return err
}

// manyFollowed stands for "some" in followed_count: programs add to and take from it meanwhile, so it cannot be set
// to what it is.
const manyFollowed = uint64(1) << 32

// adopt has our kernel side know whom the others follow: who is followed by lineage, nobody else can tell. To be called
// with every hook attached, so that whoever is forked meanwhile is followed by one of them.
func (s *Sensor) adopt() error {
	for _, g := range s.old {
		for _, name := range []string{"watched", "followed"} {
			if g.maps[name] == nil {
				continue
			}
			var tgid uint32
			var value uint64
			if name == "followed" && g.maps[name].NextKey(nil, &tgid) == nil {
				if err := s.kernel.collection.Variables["followed_count"].Set(manyFollowed); err != nil {
					return err
				}
			}
			entries := g.maps[name].Iterate()
			for entries.Next(&tgid, &value) {
				if unix.Kill(int(tgid), 0) == unix.ESRCH {
					continue // it ended before our hooks were there to notice
				}
				err := s.kernel.table(name).Update(tgid, value, ebpf.UpdateNoExist)
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

// begin is called before the first record is read: a process that is killed earlier took nothing from the next. By then
// our hooks see all that the older ones see, so these are detached.
func (s *Sensor) begin() error {
	s.reads = true
	if err := s.ledger.setState(stateStarts, s.pins.Starts); err != nil {
		return err
	}
	if s.ledger.state(stateFrom) == notYet {
		time.Sleep(overlap)
		now, err := Boottime()
		if err = errors.Join(err, s.ledger.setState(stateFrom, now)); err != nil {
			return err
		}
	}
	s.from = s.ledger.state(stateFrom)
	for _, g := range s.old {
		if err := unlink(g.dir, linkPrefix); err != nil {
			return fmt.Errorf("detach the sensor before: %w", err)
		}
	}
	return nil
}

// readOld reads the next record of the kernel sides that are replaced, and takes these away one by one;
// os.ErrDeadlineExceeded when none is left.
func (s *Sensor) readOld() error {
	for ; len(s.old) > 0; s.old = s.old[1:] {
		g, until := s.old[0], s.from
		if len(s.old) > 1 {
			until = s.old[1].from
		}
		for g.ring != nil {
			g.ring.SetDeadline(time.Unix(1, 0))
			err := g.ring.next(&s.record)
			if errors.Is(err, os.ErrDeadlineExceeded) {
				break
			}
			if err != nil {
				return fmt.Errorf("read the ring of the sensor before: %w", err)
			}
			switch raw := s.record.RawSample; {
			case timeOf(raw) > until:
			case g.readable:
				s.countRepeat(g.from)
				return nil
			default:
				lost := lossID{Kind: binary.LittleEndian.Uint16(raw), Cause: LossNotRead}
				if err := s.ledger.add(lost, math.MaxUint64); err != nil { // one less was reported
					return err
				}
			}
		}
		if err := s.carryOver(g); err != nil {
			return err
		}
		if err := remove(s.store, g.dir); err != nil {
			return err
		}
		g.close()
	}
	if s.unpin {
		// What is in it that is none of ours keeps it.
		if err := os.Remove(s.store.Name()); err != nil && !errors.Is(err, unix.ENOTEMPTY) {
			return fmt.Errorf("remove the directory of the pins: %w", err)
		}
	}
	return os.ErrDeadlineExceeded
}

// carryOver puts what a kernel side has lost and nobody told of into our ledger, before its own is gone: by sandbox, as
// a counter of a process would have to be taken away once that has ended.
func (s *Sensor) carryOver(g *generation) error {
	lost, err := counters(g.maps)
	if err != nil {
		return err
	}
	if g.ring != nil {
		lost = append(lost, g.ring.lost...)
	}
	for _, l := range g.ledger.unreported(lost) {
		if err := s.ledger.add(lossID{Cgroup: l.Cgroup, Kind: l.Kind, Cause: l.Cause}, -l.Count); err != nil {
			return err
		}
	}
	return nil
}

// countRepeat counts the record at hand if the kernel side before may have had it, too.
func (s *Sensor) countRepeat(from uint64) {
	if timeOf(s.record.RawSample) <= from {
		s.repeats.Add(1)
	}
}

// Repeats counts records that another kernel side, which this one replaced, may have had, too. It may be called from
// any goroutine.
func (s *Sensor) Repeats() uint64 { return s.repeats.Load() }
