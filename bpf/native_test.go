// SPDX-License-Identifier: Apache-2.0

//go:build !guest

package bpf_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sheetbend/sheetbend/bpf"
	"github.com/sheetbend/sheetbend/bpf/workload/workloadtest"
	"github.com/sheetbend/sheetbend/collector/record"
	"github.com/sheetbend/sheetbend/collector/span"
)

// Tests of overload and of pins that show what does not depend on the kernel: an emulated guest, where to load the sensor takes
// seconds, runs the others.

func TestOneSandboxDoesNotBlindAnother(t *testing.T) {
	for range 4 {
		if oneSandboxAndAnother(t) {
			return
		}
	}
	t.Error("what was read before is never taken for a repeat")
}

// oneSandboxAndAnother says no if it has to be done again: in about one of fifty runs a read takes the place of another one's
// fingerprint, which then counts as not read yet (bpf/open.bpf.c).
func oneSandboxAndAnother(t *testing.T) bool {
	const ring = 128 << 10 // so that what the quiet one does fits the last eighth but for 1/32
	o := newOverload(t, bpf.Options{RingBytes: ring})
	noisy, quiet := o.sandbox("noisy"), o.sandbox("quiet")
	both := []*crowd{noisy, quiet}
	noisy.do("again", 1)
	quiet.do("again", 1)
	o.read(both...)

	// Reads: the noisy one's are left out while half of the ring is free, in the same order.
	noisy.do("read", manyFiles)
	repeats := lost{record.TypeOpen, record.CauseBudgetRepeat}
	reads := lost{record.TypeOpen, record.CauseBudgetRead}
	if got := noisy.lost(); got[reads] == 0 || len(got) != 1 {
		t.Errorf("%d reads, of which a budget of half of %d bytes held all: lost %v", manyFiles, ring, got)
	}
	if used, size := o.sensor.RingFill(); used > size/2 {
		t.Errorf("the reads of one sandbox take %d of the ring's %d bytes", used, size)
	}
	before, quietBefore := noisy.lost(), quiet.lost()
	noisy.do("again", 2)
	if noisy.lost()[reads] == before[reads]+2 {
		t.Log("the first read is forgotten")
		noisy.Finish(t)
		quiet.Finish(t)
		return false
	}
	noisy.do("noise", 3)
	noisy.demand("the budget is spent by reads", before, map[lost]int{repeats: 2, {record.TypeOpen, record.CauseBudgetNoise}: 3})
	const n = 2
	for _, verb := range []string{"again", "noise", "read"} {
		quiet.do(verb, n)
	}
	quiet.facts(n)
	quiet.demand("another one reads a lot", quietBefore, nil)

	// Facts: the noisy one's are left out for its budget, when others need the last eighth.
	spent := lost{record.TypeOpen, record.CauseBudgetFact}
	for noisy.lost()[spent] == 0 {
		if noisy.lost()[lost{record.TypeOpen, record.CauseRingFull}] > 0 {
			t.Fatal("one sandbox took all of the ring")
		}
		noisy.do("create", 10)
	}
	// More important ones are left for longer.
	before = noisy.lost()
	noisy.do("rename-missing", n)
	noisy.do("fork", n)
	noisy.demand("its facts are left out", before, nil)
	for noisy.lost()[lost{record.TypeChange, record.CauseBudgetFact}] == 0 {
		noisy.do("rename-missing", 1)
	}
	before = noisy.lost()
	noisy.do("fork", n)
	noisy.demand("its changes are left out", before, nil)
	for noisy.lost()[lost{record.TypeFork, record.CauseBudgetFact}] == 0 {
		noisy.do("fork", 1)
	}
	before, quietBefore = noisy.lost(), quiet.lost()
	for _, verb := range []string{"write", "create", "refuse", "connect", "fork"} {
		noisy.do(verb, n)
	}
	noisy.demand("the ring is nearly full", before, map[lost]int{
		spent: 3 * n, {record.TypeConnect, record.CauseBudgetFact}: n, {record.TypeFork, record.CauseBudgetFact}: n, {record.TypeExit, record.CauseBudgetFact}: n,
	})
	// Apart: of a program with threads two may tell of the end.
	noisy.do("exec", n)
	if got := noisy.lost()[lost{record.TypeExec, record.CauseBudgetFact}]; got != n {
		t.Errorf("%d execs are counted as lost, want %d", got, n)
	}
	quiet.facts(n)
	quiet.demand("another one fills the ring", quietBefore, nil)
	o.read(both...)
	for _, c := range both {
		c.account(map[bool]string{true: "the noisy one", false: "the quiet one"}[c == noisy])
		c.Finish(t)
	}
	return true
}

// TestADirectoryIsToldWhenNothingElseHasRoom: of one that is not told nobody knows whose its records are.
func TestADirectoryIsToldWhenNothingElseHasRoom(t *testing.T) {
	const ring = 512 << 10 // the last 1/32 has room for long paths, too
	o := newOverload(t, bpf.Options{RingBytes: ring, BudgetBytes: ring})
	c := o.sandbox("a")
	full := lost{record.TypeOpen, record.CauseRingFull}
	for c.lost()[full] == 0 {
		c.fill(14)
		c.do("refuse", 1) // the smallest of the records
	}
	const n = 10
	for i := range n {
		cg := o.base + "/a/" + strconv.Itoa(i)
		if err := o.mount.Create(cg); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(filepath.Join(o.mount.Dir, cg)); err != nil {
			t.Fatal(err)
		}
	}
	losses, err := o.sensor.Losses()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range losses {
		if kind := record.Type(l.Kind); kind == record.TypeCgroupMkdir || kind == record.TypeCgroupRmdir {
			t.Errorf("lost: %+v", l)
		}
	}
	o.read(c)
	if c.seen["mkdir"] != n || c.seen["rmdir"] != n {
		t.Errorf("%d made and %d removed, want %d", c.seen["mkdir"], c.seen["rmdir"], n)
	}
	c.Finish(t)
}

func TestABudgetIsWholeAgainWhenItsRecordsWereRead(t *testing.T) {
	const ring = 128 << 10
	o := newOverload(t, bpf.Options{RingBytes: ring})
	c := o.sandbox("a")
	for range 3 {
		// Half of what the budget has for reads.
		c.do("read", manyFiles/4)
		c.demand("all before is read", nil, nil)
		o.read(c)
	}
	c.account("the sandbox")
	c.Finish(t)
}

func TestWhatAFullRingLosesBetweenSensorsIsToldOnce(t *testing.T) {
	p := newPinned(t, bpf.Options{RingBytes: 64 << 10})
	const count = 5000
	p.reads = 10 // or on a machine that forks slowly the ring is never full
	p.flood("flood-forks", count, func(int) {})
	if p.lost[record.TypeFork] == 0 {
		t.Error("a ring of 64 KiB held everything")
	}
	// And the one that put the flood itself into the cgroup.
	p.account(record.TypeFork, p.forks, count+1)
	p.close()
	p.lost = map[record.Type]uint64{}
	p.load()
	p.read(everything)
	if len(p.lost) != 0 {
		t.Errorf("told again: %v", p.lost)
	}
}

// TestTheLossesOfAProcessAreToldOnce: they are counted by process, whose counter goes when it has ended and its losses were told.
func TestTheLossesOfAProcessAreToldOnce(t *testing.T) {
	for name, options := range map[string]func(p *pinned, n int){
		"by the next sensor":        func(*pinned, int) {},
		"by one of another content": func(p *pinned, n int) { p.o.Scope = strconv.Itoa(n) },
	} {
		t.Run(name, func(t *testing.T) {
			p := newPinned(t, bpf.Options{Form: bpf.FormTracepoint, RingBytes: 64 << 10})
			p.reads = 10 // each time: what comes between is more than the ring holds, however fast the sensors are
			const count = 5000
			p.flood("flood-files", count, func(n int) { options(p, n) })
			// While two kernel sides see the same, and nobody reads, both lose it.
			if got := p.opens + p.lost[record.TypeOpen]; p.lost[record.TypeOpen] == 0 || got < count {
				t.Errorf("%d opens read and %d lost, of %d", p.opens, p.lost[record.TypeOpen], count)
			}
			losses, err := p.sensor.Losses()
			if err != nil {
				t.Fatal(err)
			}
			byProcess := 0
			for _, l := range losses {
				if l.Tgid != 0 {
					byProcess++
				}
				if l.Count > 0 && name == "by the next sensor" {
					t.Errorf("not told by then: %+v", l)
				}
				if err := p.sensor.Forget(l); err != nil {
					t.Fatal(err)
				}
			}
			if byProcess == 0 && name == "by the next sensor" { // what is taken over is by sandbox
				t.Errorf("nothing is counted by process: %v", losses)
			}
			p.close()
			p.lost = map[record.Type]uint64{}
			p.load()
			p.read(everything)
			if len(p.lost) != 0 {
				t.Errorf("told again: %v", p.lost)
			}
			if n, err := p.sensor.Entries("process_losses"); err != nil || n != 0 {
				t.Errorf("%d counters of a process that is over, %v", n, err)
			}
		})
	}
}

func TestARecordIsReadAgainThatAKilledProcessDidNotHandle(t *testing.T) {
	p := newPinned(t, bpf.Options{RingBytes: 64 << 10})
	p.load()
	p.read(everything)
	files := func(count int) {
		running := workloadtest.Build(t).Start(t, p.attr, "flood-files", strconv.Itoa(count))
		running.Go()
		running.Finish(t)
	}
	first := func() (raw []byte) {
		p.sensor.SetDeadline(time.Now())
		raw, err := p.sensor.Read(nil)
		if err != nil {
			t.Fatal(err)
		}
		return bytes.Clone(raw)
	}
	kill := func() {
		if err := p.sensor.Kill(); err != nil {
			t.Fatal(err)
		}
		p.load()
	}
	files(1)
	before := first()
	kill()
	if again := first(); !bytes.Equal(again, before) {
		t.Errorf("read % x, and after a kill % x", before, again)
	}
	if next := first(); bytes.Equal(next, before) {
		t.Error("what was handled is read again")
	}
	p.read(everything)

	// Where a program may be writing over it already it is counted.
	files(5000)
	before = first()
	kill()
	if again := first(); bytes.Equal(again, before) {
		t.Error("the ring was full, and a record is read again")
	}
	p.lost = map[record.Type]uint64{}
	p.read(0)
	if n := p.lost[0]; n != 1 {
		t.Errorf("%d records are counted that were not read, want 1: %v", n, p.lost)
	}
}

func TestDamagedPinsAreReplacedAndWhatTheyHeldIsCounted(t *testing.T) {
	damage := map[string]func(t *testing.T, dir string){
		"without a manifest": func(t *testing.T, dir string) { remove(t, filepath.Join(dir, "manifest")) },
		"without a link":     func(t *testing.T, dir string) { remove(t, filepath.Join(dir, "link_process_exec")) },
		"another map": func(t *testing.T, dir string) {
			remove(t, filepath.Join(dir, "map_cgroups"))
			if err := os.Rename(filepath.Join(dir, "map_watched"), filepath.Join(dir, "map_cgroups")); err != nil {
				t.Fatal(err)
			}
		},
	}
	for name, do := range damage {
		t.Run(name, func(t *testing.T) {
			p := newPinned(t, bpf.Options{})
			p.load()
			p.read(everything)
			p.opens, p.lost = 0, map[record.Type]uint64{}
			p.close()
			const count = 50
			running := workloadtest.Build(t).Start(t, p.attr, "flood-files", strconv.Itoa(count))
			running.Go()
			running.Finish(t)
			names, _, err := bpf.PinsAt(p.o.Pin)
			if err != nil || len(names) != 1 {
				t.Fatalf("pinned: %v, %v", names, err)
			}
			do(t, filepath.Join(p.o.Pin, names[0]))
			pins := p.load()
			if pins.Resumed || pins.Err == nil || pins.Replaced != 1 {
				t.Errorf("damaged pins gave %+v", pins)
			}
			p.read(everything)
			p.read(0)
			if got := p.opens + p.lost[record.TypeOpen]; got < count {
				t.Errorf("%d opens read and %d counted, of %d", p.opens, p.lost[record.TypeOpen], count)
			}
			p.close()
			if pins := p.load(); !pins.Resumed || pins.Err != nil {
				t.Errorf("the pins that replaced them gave %+v", pins)
			}
		})
	}
}

func remove(t *testing.T, name string) {
	t.Helper()
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
}

func TestASecondSensorDoesWithoutPins(t *testing.T) {
	p := newPinned(t, bpf.Options{})
	p.load()
	second, err := bpf.Load(p.o)
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	if pins := second.Pins(); pins.Dir != "" || !errors.Is(pins.Err, bpf.ErrPinsInUse) {
		t.Errorf("the second has %+v", pins)
	}
	if _, err := bpf.Unpin(p.o.Pin); !errors.Is(err, bpf.ErrPinsInUse) {
		t.Errorf("unpinned below a sensor that runs: %v", err)
	}
}

func TestUnpinningLeavesNothing(t *testing.T) {
	for name, unpin := range map[string]func(p *pinned){
		"by command": func(p *pinned) {
			if n, err := bpf.Unpin(p.o.Pin); n != 1 || err != nil {
				t.Errorf("unpinned %d: %v", n, err)
			}
		},
		"by a sensor without pins": func(p *pinned) {
			p.o.Unpin = true
			if pins := p.load(); pins.Replaced != 1 || pins.Dir != "" || pins.Err != nil {
				t.Errorf("found %+v", pins)
			}
			p.read(everything)
			p.close()
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPinned(t, bpf.Options{})
			p.load()
			p.close()
			unpin(p)
			if _, err := os.Stat(p.o.Pin); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("left: %v", err)
			}
		})
	}
}

func TestPinsOfADirectoryThatOthersCanWriteToAreNotUsed(t *testing.T) {
	p := newPinned(t, bpf.Options{})
	if err := os.Mkdir(p.o.Pin, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(p.o.Pin, 0o777); err != nil {
		t.Fatal(err)
	}
	if pins := p.load(); pins.Dir != "" || pins.Err == nil || !strings.Contains(pins.Err.Error(), "mode 777") {
		t.Errorf("pinned: %+v", pins)
	}
	p.close()
	if err := os.Chmod(p.o.Pin, 0o700); err != nil {
		t.Fatal(err)
	}
}

// TestTheKernelKnowsNoise reads files while the ring has room for other reads, but not for noise: what is lost is noise.
func TestTheKernelKnowsNoise(t *testing.T) {
	const ring = 128 << 10
	files, err := os.MkdirTemp("", "sb-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(files)
	if files, err = filepath.EvalSymlinks(files); err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("l", 100)
	noisy := map[string]bool{
		"file": true, "file2": false, "xfile": false, "fil": false, "sub/file": false,
		"dir/x": true, "dir/deep/er/x": true, "dirx/x": false, "d": false, "dir/" + long: true,
		"lib/x.so": true, "lib/x.so.6": true, "lib/sub/libx-1.2.so": true, "lib/x.sox": false, "lib/x.s": false, "lib/so": false,
		"lib/" + long: false, "lib/locale/C": true, "half/x.so": false, "other/x": false,
	}
	for name := range noisy {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(files, name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(files, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	o := newOverload(t, bpf.Options{RingBytes: ring, BudgetBytes: ring, Noise: []string{
		files + "/file", files + "/dir/**", files + "/lib/**.so", files + "/lib/**.so.*", files + "/lib/locale/**", files + "/half/**.so",
		files + "/other/*", "/proc/self/**", "/proc/filesystems",
	}})
	c := o.sandbox("a")
	expect := map[string]bool{"/proc/self/status": true, "/proc/self/environ": false, "/proc/filesystems": true, "/proc/version": false, "/proc/1/status": false}
	for name, is := range noisy {
		expect[filepath.Join(files, name)] = is
	}
	// Of another owner it may be anybody's file.
	foreign := filepath.Join(files, "dir/x2")
	if err := errors.Join(os.WriteFile(foreign, nil, 0o600), os.Chown(foreign, 1, 1)); err != nil {
		t.Fatal(err)
	}
	expect[foreign] = false
	c.fill(10)
	noise := lost{record.TypeOpen, record.CauseShedNoise}
	for name, is := range expect {
		before := c.lost()
		c.Read(t, name)
		var want map[lost]int
		if is {
			want = map[lost]int{noise: 1}
		}
		c.demand(name, before, want)
	}
	c.Finish(t)
}

func TestAnotherContentTakesOverWithoutAGapAndWhatComesTwiceIsCounted(t *testing.T) {
	for _, form := range forms(t) {
		t.Run(string(form), func(t *testing.T) {
			p := newPinned(t, bpf.Options{Form: form})
			count := uint64(floodSize(t, 40000))
			// Read to the end, or the ring of one would be left to the next but one.
			p.flood("flood-files", int(count), func(n int) { p.o.Scope = strconv.Itoa(n) })
			if pins := p.sensor.Pins(); !pins.Resumed {
				t.Errorf("the last one has the content of the one before: %+v", pins)
			}
			p.close() // counts what came twice
			if p.opens+p.lost[record.TypeOpen] < count || p.opens > count+p.repeats {
				t.Errorf("of %d opens %d were read and %d lost; %d records may have come twice", count, p.opens, p.lost[record.TypeOpen], p.repeats)
			}
			names, _, err := bpf.PinsAt(p.o.Pin)
			if err != nil || len(names) != 1 {
				t.Errorf("pinned at the end: %v, %v", names, err)
			}
		})
	}
}

// TestTheLossesOfAProcessStandBelowIt lets nobody read a small ring while a process makes files.
func TestTheLossesOfAProcessStandBelowIt(t *testing.T) {
	program := workloadtest.Build(t)
	r := newRig(t, bpf.Options{RingBytes: 64 << 10})
	r.start()
	const files = 1000
	result := program.Run(t, r.sandbox("files"), "flood-files", fmt.Sprint(files))
	r.stop()
	var process *seen
	opens, lost, below := 0, 0, 0
	for _, s := range r.spans.spans {
		switch {
		case s.Kind == span.Exec && s.pid() == result.Pid:
			process = s
		case s.Kind == span.Open && strings.Contains(s.text(span.KeyFilePath), "flooded"):
			opens += max(1, s.number(span.KeyCount))
		}
	}
	if process == nil {
		t.Fatal("the process is not told of")
	}
	for _, s := range r.spans.spans {
		if s.Kind != span.Loss || s.text(span.KeyLostKind) != "open" {
			continue
		}
		lost += s.number(span.KeyLost)
		switch {
		case s.pid() == 0 && s.Parent == (span.ID{}):
			// Where the kernel refuses the process a counter, the sandbox's has it.
		case s.pid() != result.Pid || s.Parent != process.ID || s.Trace != process.Trace:
			t.Errorf("not below process %d: %v", result.Pid, s)
		default:
			below += s.number(span.KeyLost)
		}
	}
	if below == 0 || opens+lost < files {
		t.Errorf("%d files made, %d told of, %d lost, %d of these below the process", files, opens, lost, below)
	}
}

// After a million files the kernel lets go, with nothing if there was nothing to tell of.
func TestASearchForWhoHasASocketGoesOnAfterAMillionFiles(t *testing.T) {
	h := loadHolders(t)
	socket := tcpSocket(t)
	inode := inodeOf(t, int(socket.Fd()))
	openMany(t, 110)
	pid, _ := heir(t, socket) // after them, unless pids have begun anew
	_ = socket.Close()
	began := time.Now()
	if got := holdersOf(t, h, inode); len(got) != 1 || got[pid] == 0 {
		t.Errorf("%v, want process %d", got, pid)
	}
	t.Logf("1.1 million descriptors: %s", time.Since(began))
}

// TestRefusedConnectsLeaveNothing: also where another socket connects than the program holds, of which no end is told.
func TestRefusedConnectsLeaveNothing(t *testing.T) {
	workloadtest.Root(t)
	program := workloadtest.Build(t)
	for _, form := range allForms(t) {
		t.Run("by "+string(form), func(t *testing.T) {
			r := newRig(t, bpf.Options{Form: form})
			r.start()
			r.read()
			program.Run(t, r.sandbox("refused"), "evade-connect-mptcp-refused")
			for _, table := range []string{"talks", "pending"} {
				if n, err := r.sensor.Entries(table); n != 0 || err != nil {
					t.Errorf("%s: %d entries are left, %v", table, n, err)
				}
			}
			r.stop()
		})
	}
}

// TestOneSandboxDoesNotFillATableForAnother: of what a process can hold for long, its sandbox has a part.
func TestOneSandboxDoesNotFillATableForAnother(t *testing.T) {
	workloadtest.Root(t)
	program := workloadtest.Build(t)
	r := newRig(t, bpf.Options{}.WithEntries(map[string]uint32{"pending": 16, "talks": 16}))
	r.start()
	r.read()
	greedy := program.Start(t, r.sandbox("greedy"), "flood-connects", "40")
	program.Run(t, r.sandbox("modest"), "connect-tcp-non-blocking")
	lost := map[string]int{}
	losses, err := r.sensor.Losses()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"greedy", "modest"} {
		id, err := r.mount.ID(r.base + "/" + name)
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range losses {
			if l.Cgroup == id {
				lost[name] += int(l.Count)
			}
		}
	}
	if lost["greedy"] == 0 || lost["modest"] > 0 {
		t.Errorf("lost by sandbox: %v", lost)
	}
	greedy.Finish(t)
	r.stop()
}
