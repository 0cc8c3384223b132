// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"
	"golang.org/x/sys/unix"
)

// A handover is from the kernel sides that ours replaces: they are read first, one after the other.
type handover struct {
	old     []*generation // to be read first
	cutover *cutover      // from the one that was read last; nil: there is none, or that is over
	found   [][]byte      // to be read next
}

// adoptTables has this kernel side know whom the others follow: who is followed by lineage, nobody else can tell. To
// be called with every hook attached, so that whoever is forked meanwhile is followed by one of them.
func (h *handover) adoptTables(k *kernelSide) error {
	for _, p := range h.old {
		for name, table := range p.tables {
			var tgid uint32
			var value uint64
			entries := table.Iterate()
			for entries.Next(&tgid, &value) {
				if unix.Kill(int(tgid), 0) == unix.ESRCH {
					continue // it ended before our hooks were there to notice
				}
				err := k.table(name).Update(tgid, value, ebpf.UpdateNoExist)
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

func (h *handover) expectFollowed(k *kernelSide) error {
	for _, p := range h.old {
		var tgid uint32
		if t := p.tables["followed"]; t != nil && t.NextKey(nil, &tgid) == nil {
			return k.collection.Variables["followed_count"].Set(manyFollowed)
		}
	}
	return nil
}

// order puts the kernel sides that are replaced into the order in which they were attached. One that was killed
// before it took over has nothing that the one before it has not.
func (h *handover) order(store *pinStore) (err error) {
	var ordered []*generation
	for _, p := range h.old {
		if p.from, err = p.ledger.get(stateFrom); err != nil {
			return err
		}
		if p.both, err = p.ledger.get(stateBoth); err != nil {
			return err
		}
		if p.from == notYet {
			if err := store.drop(p); err != nil {
				return err
			}
			continue
		}
		ordered = append(ordered, p)
	}
	slices.SortStableFunc(ordered, func(a, b *generation) int { return cmp.Compare(a.from, b.from) })
	h.old = ordered
	return nil
}

func boottime() (uint64, error) {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
		return 0, fmt.Errorf("read CLOCK_BOOTTIME: %w", err)
	}
	return uint64(now.Nano()), nil
}

// expect has the ledger of ours say that the kernel sides that it replaces are read first: those who read it go on
// from those who read them.
func (h *handover) expect(l *ledger) error {
	if len(h.old) == 0 {
		return nil
	}
	var starts uint64
	for _, p := range h.old {
		n, err := p.ledger.get(stateStarts)
		if err != nil {
			return err
		}
		starts = max(starts, n)
	}
	return errors.Join(l.set(stateFrom, notYet), l.set(stateStarts, starts))
}

// begun says whether it is known until when the first is read.
func (h *handover) begun() bool { return h.old[0].until != nil }

// begin makes the cutovers: it says until when each is read. It is called when ours sees all that they see.
func (h *handover) begin(store *pinStore, l *ledger, hooks []Hook) error {
	from, err := l.get(stateFrom)
	if err != nil {
		return err
	}
	both, err := l.get(stateBoth)
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
		if err := l.set(stateBoth, both); err != nil {
			return err
		}
		if err := l.set(stateFrom, from); err != nil {
			return err
		}
	}
	if first := h.old[0]; first.from > 0 {
		h.cutover = newCutover(first.from, notYet, hooks) // the one before it is read already
	}
	for i, p := range h.old {
		p.until = newCutover(from, both, hooks)
		if i+1 < len(h.old) {
			p.until = newCutover(h.old[i+1].from, h.old[i+1].both, hooks)
		}
		if err := store.remove(p.dir, linkPrefix); err != nil {
			return fmt.Errorf("detach the sensor before: %w", err)
		}
	}
	return nil
}

// read gives the next record of the kernel sides that are replaced; os.ErrDeadlineExceeded when there is none any
// more.
func (h *handover) read(record *ringbuf.Record, store *pinStore, losses *reportedLosses) error {
	for len(h.old) > 0 {
		p := h.old[0]
		for p.ring != nil {
			p.ring.SetDeadline(time.Unix(1, 0))
			err := p.ring.ReadInto(record)
			if errors.Is(err, os.ErrDeadlineExceeded) {
				break
			}
			if err != nil {
				return fmt.Errorf("read the ring of the sensor before: %w", err)
			}
			raw := record.RawSample
			if !h.takesNew(raw) || !p.until.takesOld(raw) {
				continue
			}
			if p.readable {
				return nil
			}
			p.unread[binary.LittleEndian.Uint16(raw)]++
		}
		h.endCutover()
		// Into our ledger, before the one of p is removed.
		lost, err := p.unreported()
		if err != nil {
			return err
		}
		if err := losses.carryOver(lost); err != nil {
			return err
		}
		if err := store.drop(p); err != nil {
			return err
		}
		h.cutover = p.until
		h.old = h.old[1:]
	}
	return os.ErrDeadlineExceeded
}

// takesNew says whether to take a record of the kernel side after the cutover.
func (h *handover) takesNew(raw []byte) bool { return h.cutover == nil || h.cutover.takesNew(raw) }

// next gives a record that the cutover found, in buf if it fits.
func (h *handover) next(buf []byte) (raw []byte, ok bool) {
	if len(h.found) == 0 {
		return nil, false
	}
	raw = append(buf[:0], h.found[0]...)
	h.found = h.found[1:]
	return raw, true
}

// endCutover is called when no record of before the cutover comes any more.
func (h *handover) endCutover() {
	if h.cutover != nil {
		h.found = append(h.found, h.cutover.end()...)
		h.cutover = nil
	}
}

// position is up to where the ring that is read now has been read; ours is that of our kernel side.
func (h *handover) position(ours *ringPosition) *ringPosition {
	if len(h.old) > 0 && h.old[0].position != nil {
		return h.old[0].position
	}
	return ours
}

func (h *handover) close() {
	for _, p := range h.old {
		p.close()
	}
}
