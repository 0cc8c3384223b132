// SPDX-License-Identifier: Apache-2.0

package live

import (
	"fmt"
	"math"
	"time"

	"github.com/sheetbend/sheetbend/collector/record"
)

const (
	// scanEvery is how soon the processes in the sandboxes are listed again, at the earliest.
	scanEvery = time.Second
	// maxScanDelay is how long a scan is put off while records wait in the ring, which say more of whom it would find.
	// A flood must not put it off for ever.
	maxScanDelay = 30 * time.Second
	// maxScanned bounds the processes of a scan whose arguments are looked up.
	maxScanned = 65536
)

// scans is when the processes in the sandboxes are listed. Times are ns of CLOCK_BOOTTIME.
type scans struct {
	due     bool   // somebody came from outside since
	adopted bool   // a container became a sandbox since, with all that runs in it
	last    uint64 // time of the last scan
	delayed uint64 // since when a scan is due that records in the ring delay; 0: none is
}

// scanWhenDue lists the processes again, when that is due. empty: the ring was, just now, and has been read up to t.
func (f *Feed) scanWhenDue(t uint64, empty bool) error {
	s := &f.scans
	if !s.due || t < s.last+uint64(scanEvery) {
		return nil
	}
	if s.delayed == 0 {
		s.delayed = t
	}
	if !empty && t < s.delayed+uint64(maxScanDelay) {
		return nil
	}
	read := t
	if empty {
		read = math.MaxUint64
	}
	// In a backlog there may be some that a scan does not report.
	s.due, s.adopted, s.last, s.delayed = !empty, s.adopted && !empty, t, 0
	return f.scan(read)
}

// scan reports the processes that run in the watched cgroups. The ring is not read meanwhile, so that a process's exit
// cannot come before the record of its being there. read is up to when the ring has been read, in ns of
// CLOCK_BOOTTIME: of who is younger it has the fork still, and before that perhaps the end of another one with this
// pid. Nor is it read before all arguments are reported: the first record of a process, or of its child, decides with
// them what the process is.
func (f *Feed) scan(read uint64) error {
	var found []record.Header
	err := f.o.Source.Existing(func(raw []byte) error {
		if err := f.event.Decode(raw); err != nil {
			f.emit(raw)
			return nil
		}
		h := f.event.Header
		if h.Start > read {
			return nil
		}
		if h.Time > read { // else what waits would come after it
			h.Time = read
			record.SetTime(raw, read)
		}
		if f.suspect(h) {
			// They decide what it is: reported before it.
			f.locate(h)
			f.arguments(h)
		} else if len(found) < maxScanned {
			found = append(found, h)
		}
		f.emit(raw)
		f.follow(h, f.event.Process.ParentTgid, f.event.Process.ParentStart)
		return nil
	})
	if err != nil {
		return fmt.Errorf("list the processes in the sandboxes: %w", err)
	}
	for _, h := range found {
		f.arguments(h)
	}
	return nil
}

// arguments reports the argv of a process that is older than the sensor.
func (f *Feed) arguments(h record.Header) {
	args, argc, err := cmdline(f.o.Proc, h.Tgid, h.Start)
	if err != nil { // most often it has ended
		f.o.Log.Debug("arguments of a process are not known", "pid", h.Tgid, "err", err)
		return
	}
	f.out = record.AppendCmdline(f.out[:0], h, argc, args)
	f.emit(f.out)
}

// locate reports in which cgroup a process is that was found outside of all sandboxes: the kernel side knows only its
// id.
func (f *Feed) locate(h record.Header) {
	path, err := f.o.Hierarchy.Path(h.Cgroup)
	if err != nil {
		// Without the right to ask so: where it is now, if that is the same.
		if path, err = f.o.Hierarchy.Of(int(h.Tgid)); err != nil {
			return // it has ended
		}
		if id, err := f.o.Hierarchy.ID(path); err != nil || id != h.Cgroup {
			return // it was moved meanwhile
		}
	}
	f.out = record.AppendCgroup(f.out[:0], h.Time, h.Cgroup, 0, path)
	f.emit(f.out)
}
