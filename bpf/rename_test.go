// SPDX-License-Identifier: Apache-2.0

package bpf_test

import (
	"fmt"
	"os"
	"path"
	"strconv"
	"syscall"
	"testing"

	"github.com/sheetbend/sheetbend/bpf"
	"github.com/sheetbend/sheetbend/bpf/workload"
	"github.com/sheetbend/sheetbend/bpf/workload/workloadtest"
	"github.com/sheetbend/sheetbend/collector/record"
	rt "github.com/sheetbend/sheetbend/collector/recordtest"
)

// The table of changes that the file system is at. The kernel may skip the program that takes an entry out of it.
const renames = "found_scratch"

// renamer is a watched process that renames when it is told to.
type renamer struct {
	*workloadtest.Running
	t      *testing.T
	sensor *bpf.Sensor
	header record.Header // of its exec
}

func newRenamer(t *testing.T, form bpf.Form) *renamer {
	t.Helper()
	s, dir := load(t, bpf.Options{Form: form})
	attr := &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd())}
	r := &renamer{Running: workloadtest.Build(t).Start(t, attr, workload.Driven), t: t, sensor: s}
	for _, raw := range drain(t, s) {
		var e record.Event
		if err := e.Decode(raw); err == nil && e.Header.Type == record.TypeExec && int(e.Header.Tgid) == r.Pid() {
			r.header = e.Header
		}
	}
	if r.header.Tgid == 0 {
		t.Fatal("no exec record")
	}
	return r
}

// left gives the table an entry, as if the kernel had skipped the program at the return of a rename by this thread.
func (r *renamer) left(tid uint32) {
	r.t.Helper()
	h := r.header
	h.Tid, h.Flags = tid, record.ChangeBase|record.ChangeBase<<record.ChangeNewShift
	name := func(s string) record.ChangedName {
		return record.ChangedName{Dir: rt.Path("/earlier"), Name: []byte(s)}
	}
	raw := rt.Record(h, record.Change{Op: record.ChangeRename, Old: name("old"), New: name("new")})
	if err := r.sensor.Put(renames, tid, raw); err != nil {
		r.t.Fatal(err)
	}
}

// only is the one rename that is in the ring.
func (r *renamer) only() (old, name string, e record.Event) {
	r.t.Helper()
	n := 0
	for _, raw := range drain(r.t, r.sensor) {
		var one record.Event
		if err := one.Decode(raw); err == nil && one.Header.Type == record.TypeChange {
			n, e = n+1, one
		}
	}
	if n != 1 {
		r.t.Fatalf("%d renames, want one", n)
	}
	return string(e.Change.Old.Name), string(e.Change.New.Name), e
}

func TestWhatAnEarlierRenameHasLeftIsNotReported(t *testing.T) {
	for _, form := range allForms(t) {
		t.Run("by "+string(form), func(t *testing.T) {
			r := newRenamer(t, form)
			threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", r.Pid()))
			if err != nil {
				t.Fatal(err)
			}
			for _, thread := range threads {
				tid, err := strconv.ParseUint(thread.Name(), 10, 32)
				if err != nil {
					t.Fatal(err)
				}
				r.left(uint32(tid))
			}
			r.Do(t, "rename-missing", 1)
			old, name, e := r.only()
			if path.Base(old) != "missing" || path.Base(name) != "missing-to" || e.Change.Error != int32(syscall.ENOENT) {
				t.Errorf("%q to %q, error %d", old, name, e.Change.Error)
			}
			r.Finish(t)
			if n, err := r.sensor.Entries(renames); n != 0 || err != nil {
				t.Errorf("%d entries outlive their threads, %v", n, err)
			}
		})
	}
}

func TestARenameWithoutRoomInTheTableIsCounted(t *testing.T) {
	for _, form := range allForms(t) {
		t.Run("by "+string(form), func(t *testing.T) {
			r := newRenamer(t, form)
			const noThread = 1 << 23 // above the kernel's limit on pids
			for i := range r.sensor.Room(renames) {
				r.left(noThread + uint32(i))
			}
			r.Do(t, "rename", 1)
			told, lost := 0, 0
			for _, raw := range drain(t, r.sensor) {
				var e record.Event
				if err := e.Decode(raw); err == nil && e.Header.Type == record.TypeChange {
					told++
				}
			}
			losses, err := r.sensor.Losses()
			if err != nil {
				t.Fatal(err)
			}
			for _, l := range losses {
				if record.Type(l.Kind) == record.TypeChange {
					lost += int(l.Count)
				}
			}
			r.Finish(t)
			if byCall := form == bpf.FormTracepoint; told+lost != 1 || byCall != (told == 1) {
				t.Errorf("%d told, %d counted", told, lost)
			}
		})
	}
}
