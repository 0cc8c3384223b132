// SPDX-License-Identifier: Apache-2.0

package chaostest

import (
	"cmp"
	bigendian "encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"go.etcd.io/bbolt"
	"golang.org/x/sys/unix"

	"github.com/sheetbend/sheetbend/cmd/sheetbend/sensortest"
)

// earlier is the binary of the version from which an upgrade is tested.
func earlier(t *testing.T) string {
	t.Helper()
	return binaryOf(t, "SHEETBEND_EARLIER", "make test-upgrade")
}

// objects are what is in the kernel, by name.
type objects map[string]struct {
	link    link.ID
	program ebpf.ProgramID
	table   ebpf.MapID
}

// pinned gives what is pinned below a directory.
func pinned(t *testing.T, dir string) objects {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*", "*"))
	if err != nil {
		t.Fatal(err)
	}
	found := objects{}
	for _, name := range names {
		o := found[name]
		if m, err := ebpf.LoadPinnedMap(name, nil); err == nil {
			info, err := m.Info()
			if err != nil {
				t.Fatal(err)
			}
			o.table, _ = info.ID()
			_ = m.Close()
		} else {
			l, err := link.LoadPinnedLink(name, nil)
			if err != nil {
				t.Fatalf("%s is neither a map nor a link: %v", name, err)
			}
			info, err := l.Info()
			if err != nil {
				t.Fatal(err)
			}
			o.link, o.program = info.ID, info.Program
			_ = l.Close()
		}
		found[name] = o
	}
	return found
}

// alive names those of them that are in the kernel now.
func (o objects) alive() (left []string) {
	is := func(c io.Closer, err error) bool {
		if err == nil {
			_ = c.Close()
		}
		return !errors.Is(err, os.ErrNotExist)
	}
	for name, one := range o {
		if one.table != 0 {
			if m, err := ebpf.NewMapFromID(one.table); is(m, err) {
				left = append(left, name)
			}
			continue
		}
		l, linkErr := link.NewFromID(one.link)
		p, err := ebpf.NewProgramFromID(one.program)
		if is(l, linkErr) || is(p, err) {
			left = append(left, name)
		}
	}
	return left
}

// times says how often each thing that the generator did arrived. A program that a sensor found by a look when it
// started is told of, too.
func (b *backend) times() map[string]int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := map[string]int{}
	for _, s := range b.order {
		for kind, name := range kinds {
			if cmp.Or(attr(s, "sheetbend.event"), s.Name) == name && (kind == "exec" || ofGenerator(s)) {
				n[event(kind, number(s, "process.pid"))]++
			}
		}
	}
	return n
}

// arrived says of the things that the generator did in a session how many arrived, and how many of them twice. More
// often is an error.
func (c *scene) arrived(session string) (done, once, twice map[string]int) {
	c.t.Helper()
	done, once, twice = map[string]int{}, map[string]int{}, map[string]int{}
	times := c.b.times()
	c.l.mu.Lock()
	defer c.l.mu.Unlock()
	for what, of := range c.l.did {
		if of != session {
			continue
		}
		kind, _, _ := strings.Cut(what, " ")
		done[kind]++
		switch n := times[what]; n {
		case 0:
		case 1:
			once[kind]++
		case 2:
			twice[kind]++
		default:
			c.t.Errorf("%s came %d times", what, n)
		}
	}
	if len(done) != len(kinds) {
		c.t.Fatalf("session %s: %v was done", session, done)
	}
	return done, once, twice
}

// quiet waits until nothing is held, and all is on disk, or sent if that is asked for. It gives what is on disk.
func (c *scene) quiet(sent bool) (queued int) {
	c.t.Helper()
	sensortest.Until(c.t, "nothing is held", func() bool {
		all := c.scrape()
		queued = int(sum(all, "sheetbend_export_queued_spans"))
		return sum(all, "sheetbend_spans_held") == 0 && sum(all, "sheetbend_spool_memory_bytes") == 0 &&
			sum(all, "sheetbend_ring_used_bytes") == 0 && (!sent || queued == 0)
	})
	return queued
}

// waiter starts a shell that ends with a code when the function is called.
func (c *scene) waiter(code int) (end func()) {
	c.t.Helper()
	cg := filepath.Join(c.l.cgroup, "waiter")
	if err := c.l.mount.Create(cg); err != nil {
		c.t.Fatal(err)
	}
	shell := sensortest.Inside(c.t, c.l.mount, cg, "sh", "-c", fmt.Sprint("read line; exit ", code))
	stdin, err := shell.StdinPipe()
	if err == nil {
		err = shell.Start()
	}
	if err != nil {
		c.t.Fatal(err)
	}
	return func() {
		_ = stdin.Close()
		_ = shell.Wait()
	}
}

// ended says how many programs are told to have ended with a code.
func (b *backend) ended(code int) (n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range b.order {
		if number(s, "process.exit.code") == code {
			n++
		}
	}
	return n
}

// changeOver replaces a sensor that is stopped or killed by one of another binary, while the load runs, and waits until
// what the first left in the kernel is gone. The backend is away until the first has ended.
func (c *scene) changeOver(from, to string, signal unix.Signal) (took time.Duration) {
	t := c.t
	t.Helper()
	c.s = start(t, from, c.config)
	c.l.session = "before"
	c.l.run(t, length(t)/8)
	if c.quiet(false) == 0 {
		t.Fatal("nothing waits for the backend")
	}
	end := c.waiter(77)
	old := pinned(t, c.pins)
	if alive := old.alive(); len(alive) == 0 {
		t.Fatal("nothing is pinned")
	}
	c.s.End(signal)
	c.l.session = "without"
	c.l.round(t, "without", 30)
	c.b.serve(t)
	c.l.session = "meanwhile"
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
				c.l.round(t, fmt.Sprint("meanwhile", i), 10)
			}
		}
	}()
	began := time.Now()
	c.s = start(t, to, c.config)
	took = time.Since(began)
	sensortest.Succeeds(t, "the old hooks go", func() error {
		if left := old.alive(); len(left) > 0 {
			return fmt.Errorf("%d are left: %q", len(left), left)
		}
		return nil
	})
	close(stop)
	<-stopped
	c.l.session = "after"
	c.l.run(t, length(t)/8)
	end()
	c.quiet(true)
	return took
}

// accounts for what a sensor that took over has told by its end: it says so, what was made before it waited in the
// spool, what it sees it tells, and what only the old hooks saw is in records that it cannot read and counts.
// oncePrograms: it tells a program that a look has found and the record of its start as one.
func (c *scene) accounts(metrics map[string]float64, oncePrograms bool) {
	c.t.Helper()
	for _, text := range []string{"taking over from another version", "resuming what an earlier run left in the spool"} {
		if !strings.Contains(c.s.Log(), text) {
			c.t.Errorf("the log does not say %q", text)
		}
	}
	if n := dropped(metrics); n > 0 {
		c.t.Errorf("%d spans were lost on the way", n)
	}
	for _, session := range []string{"before", "after"} {
		done, once, twice := c.arrived(session)
		if !oncePrograms {
			once["exec"] += twice["exec"]
		}
		if !maps.Equal(done, once) {
			c.t.Errorf("%s: %v was done, %v arrived once, %v twice", session, done, once, twice)
		}
	}
	if n := c.b.ended(77); n != 1 {
		c.t.Errorf("the program that ran all the time ended %d times", n)
	}
	for kind := range kinds {
		lost := int(sum(metrics, "sheetbend_records_lost_total", `kind="`+kind+`"`))
		missing, copies := 0, 0
		for _, session := range []string{"without", "meanwhile"} {
			done, once, twice := c.arrived(session)
			missing += done[kind] - once[kind] - twice[kind]
			copies += twice[kind]
		}
		c.t.Logf("%s: %d did not arrive, %d arrived twice, %d are counted as lost", kind, missing, copies, lost)
		if missing > lost {
			c.t.Errorf("%s: %d have neither arrived nor been counted as lost", kind, missing-lost)
		}
	}
}

// counted gives the metrics once what nobody could read is among them.
func (c *scene) counted() (all map[string]float64) {
	c.t.Helper()
	sensortest.Until(c.t, "what was not read is counted", func() bool {
		all = c.scrape()
		return sum(all, "sheetbend_records_lost_total", `kind="open"`) > 0
	})
	return all
}

func TestAnUpgradeTakesOverWhatTheVersionBeforeLeft(t *testing.T) {
	for name, signal := range map[string]unix.Signal{"stopped": unix.SIGTERM, "killed": unix.SIGKILL} {
		t.Run(name, func(t *testing.T) {
			c := newScene(t, "")
			took := c.changeOver(earlier(t), binary(t), signal)
			all := c.counted()
			c.s.Stop()
			c.accounts(all, true)
			journal := int(sum(all, "sheetbend_journal_dropped_bytes"))
			if journal == 0 || !strings.Contains(c.s.Log(), "its journal is of another version") {
				t.Errorf("%d bytes of journal are counted as dropped, or the log does not tell", journal)
			}
			t.Logf("%s until the new one watched; %d bytes of journal dropped", took, journal)
		})
	}
}

// The version before knows nothing of this one, and cannot be taught. It does not refuse, it starts clean: it takes
// this one's hooks away, counts what they saw meanwhile, begins the journal anew, and sends what waits in the spool.
func TestADowngradeStartsClean(t *testing.T) {
	c := newScene(t, "")
	c.changeOver(binary(t), earlier(t), unix.SIGTERM)
	all := c.counted()
	c.s.Stop()
	c.accounts(all, false)
}

// newer changes the number of the format of one thing that a sensor left, and gives what changes it back.
var newer = map[string]func(t *testing.T, c *scene) (undo func()){
	"pins": func(t *testing.T, c *scene) func() {
		names, err := filepath.Glob(filepath.Join(c.pins, "*", "manifest"))
		if err != nil || len(names) != 1 {
			t.Fatal(names, err)
		}
		was, err := ebpf.LoadPinnedMap(names[0], nil)
		if err != nil {
			t.Fatal(err)
		}
		text, err := was.LookupBytes(uint32(0))
		if err != nil {
			t.Fatal(err)
		}
		now := numbered.ReplaceAll(text, []byte(`"Format":9`))
		m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: uint32(len(now)), MaxEntries: 1,
			Contents: []ebpf.MapKV{{Key: uint32(0), Value: now}}})
		if err != nil {
			t.Fatal(err)
		}
		replace := func(m *ebpf.Map) {
			if err := errors.Join(os.Remove(names[0]), m.Pin(names[0])); err != nil {
				t.Fatal(err)
			}
			_ = m.Close()
		}
		replace(m)
		again, err := was.Clone() // which is pinned nowhere
		if err != nil {
			t.Fatal(err)
		}
		_ = was.Close()
		return func() { replace(again) }
	},
	"journal": func(t *testing.T, c *scene) func() {
		return rewrite(t, c.journal, func(text []byte) []byte {
			return append([]byte("sheetbend journal 9"), text[len("sheetbend journal 9"):]...)
		})
	},
	"spool": func(t *testing.T, c *scene) func() {
		name := filepath.Join(c.spool, "spool.db")
		return rewrite(t, name, func([]byte) []byte {
			db, err := bbolt.Open(name, 0o600, nil)
			if err != nil {
				t.Fatal(err)
			}
			err = db.Update(func(tx *bbolt.Tx) error {
				return tx.Bucket([]byte("meta")).Put([]byte("format"), bigendian.BigEndian.AppendUint64(nil, 9))
			})
			if err := errors.Join(err, db.Close()); err != nil {
				t.Fatal(err)
			}
			return nil
		})
	},
}

var numbered = regexp.MustCompile(`"Format":\d`)

// rewrite changes a file, and gives what changes it back. With nil from change that has changed it.
func rewrite(t *testing.T, name string, change func([]byte) []byte) (undo func()) {
	t.Helper()
	was, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	write := func(text []byte) {
		if err := os.WriteFile(name, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if now := change(slices.Clone(was)); now != nil {
		write(now)
	}
	return func() { write(was) }
}

func TestWhatANewerVersionLeftIsRefusedAndKept(t *testing.T) {
	c := newScene(t, "")
	c.start()
	c.l.session = "before"
	c.l.run(t, length(t)/8)
	c.quiet(false)
	c.s.Stop()
	for what, change := range newer {
		t.Run(what, func(t *testing.T) {
			defer change(t, c)()
			left := pinned(t, c.pins)
			cmd := command(t, binary(t), c.config)
			s := sensortest.Start(t, cmd)
			if s.Hears("msg=watching") {
				t.Fatal("the sensor starts")
			}
			said := s.Wait()
			last := said[strings.LastIndexByte(strings.TrimSuffix(said, "\n"), '\n')+1:]
			if code := cmd.ProcessState.ExitCode(); code != 1 || !strings.Contains(last, "a newer version of sheetbend") ||
				!strings.Contains(last, "format 9") || !strings.Contains(last, "start that one, or") {
				t.Errorf("exit code %d: %s", code, last)
			}
			if n := pinned(t, c.pins); fmt.Sprint(n) != fmt.Sprint(left) {
				t.Errorf("other pins than before: %v, were %v", n, left)
			}
		})
	}
	// Nothing of it is lost.
	c.b.serve(t)
	c.start()
	c.quiet(true)
	c.s.Stop()
	if !strings.Contains(c.s.Log(), "resuming the hooks of the sensor before") {
		t.Error("the hooks are not gone on with")
	}
	if done, once, twice := c.arrived("before"); !maps.Equal(done, once) {
		t.Errorf("%v was done, %v arrived once, %v twice", done, once, twice)
	}
}
