// SPDX-License-Identifier: Apache-2.0

package bpf_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sheetbend/sheetbend/bpf"
	"github.com/sheetbend/sheetbend/bpf/workload"
	"github.com/sheetbend/sheetbend/bpf/workload/workloadtest"
	"github.com/sheetbend/sheetbend/collector/cgroup"
	"github.com/sheetbend/sheetbend/collector/record"
)

// bpffs mounts a bpf file system of the test's own.
func bpffs(t *testing.T) string {
	t.Helper()
	needRoot(t)
	dir := t.TempDir()
	if err := unix.Mount("bpf", dir, "bpf", 0, "mode=0700"); err != nil {
		t.Fatalf("mount a bpf file system: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Errorf("unmount the bpf file system: %v", err)
		}
	})
	return dir
}

// pinned is a kernel side that is loaded again and again over the same pins, and what all of them read.
type pinned struct {
	t      *testing.T
	o      bpf.Options
	cgroup uint64
	attr   *syscall.SysProcAttr
	reads  int // records that each sensor reads during a flood; 0 for the n-th to read 100 n

	opens, forks uint64 // of the flood
	repeats      uint64 // records that two kernel sides may have seen
	lost         map[record.Type]uint64
	missed       map[record.Type]uint64 // of lost: the kernel skipped a program, of whichever process
	sensor       *bpf.Sensor
	buf          []byte
}

func newPinned(t *testing.T, o bpf.Options) *pinned {
	t.Helper()
	mount, err := cgroup.Find()
	if err != nil {
		t.Fatal(err)
	}
	o.CgroupRoot, o.Pin = mount.Dir, filepath.Join(bpffs(t), "pins")
	path, err := os.MkdirTemp(mount.Dir, "sheetbend-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.Remove(path); err != nil {
			t.Error(err)
		}
	})
	dir, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dir.Close() })
	p := &pinned{t: t, o: o, lost: map[record.Type]uint64{}, missed: map[record.Type]uint64{}, attr: &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd())}}
	if p.cgroup, err = mount.ID("/" + filepath.Base(path)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.close()
		if _, err := bpf.Unpin(o.Pin); err != nil {
			t.Error(err)
		}
	})
	return p
}

func (p *pinned) load() bpf.Pins {
	p.t.Helper()
	began := time.Now()
	s, err := bpf.Load(p.o)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Logf("loaded in %v: %+v", time.Since(began), s.Pins())
	p.sensor = s
	if err := s.Watch(p.cgroup, bpf.WatchTasks); err != nil {
		p.t.Fatal(err)
	}
	return s.Pins()
}

// close ends a sensor as a kill does: whatever it has not read stays where it is.
func (p *pinned) close() {
	if p.sensor != nil {
		p.repeats += p.sensor.Repeats()
		if err := p.sensor.Close(); err != nil {
			p.t.Error(err)
		}
		p.sensor = nil
	}
}

// read takes some records, or all; then it tells of losses as live.Feed does.
func (p *pinned) read(most int) {
	p.t.Helper()
	p.sensor.SetDeadline(time.Now())
	for range most {
		raw, err := p.sensor.Read(p.buf)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			break
		}
		if err != nil {
			p.t.Fatal(err)
		}
		p.buf = raw[:cap(raw)]
		var e record.Event
		if err := e.Decode(raw); err != nil {
			p.t.Fatal(err)
		}
		switch {
		case e.Header.Type == record.TypeOpen && bytes.Contains(e.Open.Path, []byte(workload.FloodName)):
			p.opens++
		case e.Header.Type == record.TypeFork:
			p.forks++
		}
	}
	losses, err := p.sensor.Losses()
	if err != nil {
		p.t.Fatal(err)
	}
	if err := p.sensor.Told(losses, 1); err != nil {
		p.t.Fatal(err)
	}
	for _, l := range losses {
		if l.Count == 0 { // a counter that is to be forgotten
			continue
		}
		p.lost[record.Type(l.Kind)] += l.Count
		if record.Cause(l.Cause) == record.CauseMissed {
			p.missed[record.Type(l.Kind)] += l.Count
		}
	}
}

// account wants what was done to be read or lost. What the kernel missed may have been another's.
func (p *pinned) account(of record.Type, read, done uint64) {
	p.t.Helper()
	if lost, missed := p.lost[of], p.missed[of]; read > done || read+lost < done || read+lost-missed > done {
		p.t.Errorf("of %d %ss %d were read and %d lost, of which the kernel missed %d", done, of, read, lost, missed)
	}
}

const everything = 1 << 30

// flood loads, reads a little and closes, over and over, while a flood runs; afterwards it reads all. options
// changes them for the n-th time.
func (p *pinned) flood(scenario string, count int, options func(n int)) {
	p.t.Helper()
	program := workloadtest.Build(p.t)
	options(0)
	p.load()
	p.read(everything)
	p.opens, p.forks, p.missed, p.lost = 0, 0, map[record.Type]uint64{}, map[record.Type]uint64{}
	p.close()
	running := exec.Command(program.Path(), scenario, strconv.Itoa(count))
	running.SysProcAttr = p.attr
	if err := running.Start(); err != nil {
		p.t.Fatal(err)
	}
	over := make(chan error, 1)
	go func() { over <- running.Wait() }()
	n := 1
	for ended := false; !ended; n++ {
		select {
		case err := <-over:
			if ended = true; err != nil {
				p.t.Errorf("the flood: %v", err)
			}
		default:
		}
		options(n)
		p.load()
		if p.reads > 0 {
			p.read(p.reads)
		} else {
			p.read(100 * n)
		}
		p.close()
	}
	p.load()
	p.read(everything)
	p.read(0) // losses of those that were replaced
	p.t.Logf("%d starts; %d opens and %d forks read, lost %v", n, p.opens, p.forks, p.lost)
}

func TestWhatNobodyReadsIsReadByTheNextSensor(t *testing.T) {
	for _, form := range forms(t) {
		t.Run(string(form), func(t *testing.T) {
			p := newPinned(t, bpf.Options{Form: form, RingBytes: 16 << 20}) // all of the flood, within the budget of its sandbox
			count := uint64(floodSize(t, 20000))
			p.flood("flood-files", int(count), func(int) {})
			if err := p.sensor.Pins().Err; err != nil && form == bpf.FormTracepoint && strings.Contains(err.Error(), "needs Linux 5.15") {
				return // nothing is pinned there, and the sensor says so
			}
			if pins := p.sensor.Pins(); !pins.Resumed || pins.Err != nil || pins.Replaced != 0 {
				t.Errorf("the last sensor did not go on with the pins: %+v", pins)
			}
			p.account(record.TypeOpen, p.opens, count)
			if p.lost[record.TypeOpen] > p.missed[record.TypeOpen] {
				t.Errorf("the ring had room, %d were lost, of which the kernel missed %d", p.lost[record.TypeOpen], p.missed[record.TypeOpen])
			}
		})
	}
}
