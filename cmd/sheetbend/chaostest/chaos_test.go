// SPDX-License-Identifier: Apache-2.0

package chaostest

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sheetbend/sheetbend/cmd/sheetbend/sensortest"
)

// A scene is a sensor with a load and a backend.
type scene struct {
	t       *testing.T
	b       *backend
	l       *load
	s       *sensor
	config  string
	spool   string
	pins    string
	journal string
	untold  map[string]bool
	lost    map[string]int // as the metrics had it when all was settled
}

func newScene(t *testing.T, more string) *scene {
	t.Helper()
	binary(t)
	m, cg := sensortest.Cgroup(t)
	dir := t.TempDir()
	c := &scene{t: t, b: newBackend(), l: newLoad(t, m, cg), spool: filepath.Join(dir, "spool"), pins: bpffs(t), journal: filepath.Join(dir, "journal")}
	c.b.serve(t)() // takes an address, and is away
	c.config = fmt.Sprintf("sandboxes: [{cgroup: %s/*}]\nexporters: {otlp: {endpoint: 'http://%s', timeout: 1s}}\nspool: {path: %s}\npin_path: %s\njournal: %s\nmetrics: {listen: '127.0.0.1:0'}\nsocket: ''\nhold: 200ms\n%s\n",
		cg, c.b.addr, c.spool, c.pins, c.journal, more)
	return c
}

func (c *scene) start() { c.s = start(c.t, binary(c.t), c.config) }

// settle waits until received + reported lost = generated, and checks it once more after the sensor's end.
func (c *scene) settle() {
	c.t.Helper()
	var last ledger
	var why error
	ticks := time.NewTicker(100 * time.Millisecond)
	defer ticks.Stop()
	end := time.After(patience)
	for done := false; !done; {
		all, err := c.s.scrape()
		if err != nil {
			c.t.Fatal(err)
		}
		last = c.b.ledger(c.l.generated())
		last.anyKind, last.untold = dropped(all), c.untold
		for kind := range kinds {
			last.lost[kind] += int(sum(all, "sheetbend_records_lost_total", `kind="`+kind+`"`))
		}
		if why = last.balance(); why == nil && sum(all, "sheetbend_export_queued_spans") == 0 && sum(all, "sheetbend_spans_held") == 0 {
			break
		}
		select {
		case <-ticks.C:
		case <-end:
			done = true
		}
	}
	c.lost = last.lost
	c.s.Stop()
	if why != nil {
		c.t.Fatal(why)
	}
	c.b.mu.Lock()
	defer c.b.mu.Unlock()
	if len(c.b.differ) > 0 {
		c.t.Errorf("%d spans came twice and were not the same; the first:\n%s", len(c.b.differ), c.b.differ[0])
	}
	c.t.Logf("%s; %d spans in all, %d copies, %d rejected", last, len(c.b.order), c.b.twice, len(c.b.rejected))
}

// made compares the numbers of the spans that one sensor made with those that arrived: what is missing was reported,
// exactly.
func (c *scene) made(all map[string]float64) {
	c.t.Helper()
	c.b.mu.Lock()
	defer c.b.mu.Unlock()
	got := map[int]bool{}
	for _, s := range c.b.order {
		got[number(s, "sheetbend.seq")] = true
	}
	for _, s := range c.b.rejected {
		got[number(s, "sheetbend.seq")] = true
	}
	if made := int(sum(all, "sheetbend_spans_total")); made == 0 || made != len(got)+dropped(all) {
		c.t.Errorf("%d spans were made, %d arrived, %d were reported lost", made, len(got), dropped(all))
	}
}

func (c *scene) scrape() map[string]float64 {
	c.t.Helper()
	all, err := c.s.scrape()
	if err != nil {
		c.t.Fatal(err)
	}
	return all
}

func TestABackendThatIsAwayForTheWholeRunCostsNothing(t *testing.T) {
	c := newScene(t, "")
	c.start()
	c.l.run(t, length(t))
	c.b.serve(t)
	c.settle()
}

func TestABackendThatMisbehavesCostsNothingButWhatItRejects(t *testing.T) {
	c := newScene(t, "")
	c.b.serve(t)
	c.start()
	for name := range moods {
		c.b.set(name)
		before := c.b.asked()
		c.l.run(t, length(t)/time.Duration(len(moods)))
		sensortest.Until(t, "a backend that "+name+" is asked", func() bool { return c.b.asked() > before+1 })
	}
	c.b.set("takes")
	sensortest.Until(t, "all is sent", func() bool {
		all := c.scrape()
		return sum(all, "sheetbend_export_queued_spans") == 0 && sum(all, "sheetbend_spans_held") == 0
	})
	c.made(c.scrape())
	if told, said := int(sum(c.scrape(), "sheetbend_export_spans_total", `outcome="rejected"`)), len(c.b.rejected); told != said || said == 0 {
		t.Errorf("%d spans are counted as rejected, the backend rejected %d", told, said)
	}
	c.settle()
}

func TestAFullDiskCostsNothingWhileThereIsMemory(t *testing.T) {
	c := newScene(t, "")
	if err := os.Mkdir(c.spool, 0o700); err != nil {
		t.Fatal(err)
	}
	// All that is made has to fit, once the ballast is gone: some 0.5 MiB a second of load, and what bbolt takes.
	size := fmt.Sprintf("size=%dm,mode=0700", 4+4*int(length(t).Seconds()))
	if err := unix.Mount("sheetbend-chaos", c.spool, "tmpfs", 0, size); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(c.spool, unix.MNT_DETACH) })
	c.start()
	t.Cleanup(func() { // before the unmount
		if c.s.cmd.ProcessState == nil {
			c.s.Kill()
		}
	})
	ballast := filepath.Join(c.spool, "ballast")
	fill := func() {
		f, err := os.Create(ballast)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		block := make([]byte, 64<<10)
		for err == nil {
			_, err = f.Write(block)
		}
		if !strings.Contains(err.Error(), "no space left") {
			t.Fatal(err)
		}
	}
	for range 2 {
		fill()
		c.l.run(t, length(t)/4)
		// The load goes on until the disk has refused something.
		for i := 0; sum(c.scrape(), "sheetbend_spool_failing") == 0; i++ {
			c.l.round(t, fmt.Sprintf("more%d", i), 30)
			if i > 200 {
				t.Fatal("the disk does not become full")
			}
		}
		if err := os.Remove(ballast); err != nil {
			t.Fatal(err)
		}
		sensortest.Until(t, "the disk is used again", func() bool { return sum(c.scrape(), "sheetbend_spool_failing") == 0 })
		c.l.run(t, length(t)/4)
	}
	c.b.serve(t)
	sensortest.Until(t, "all is sent", func() bool {
		all := c.scrape()
		return sum(all, "sheetbend_export_queued_spans") == 0 && sum(all, "sheetbend_spans_held") == 0
	})
	c.made(c.scrape())
	c.settle()
}

func TestWhatDoesNotFitIntoTheRingIsReportedByKind(t *testing.T) {
	c := newScene(t, "limits: {ring_bytes: 262144}")
	c.untold = map[string]bool{"open": true} // Go's runtime reads files, too
	c.b.serve(t)
	began := time.Now()
	c.start()
	for i := 0; i < 5 || sum(c.scrape(), "sheetbend_records_lost_total", `kind="exec"`) == 0; i++ {
		if err := c.s.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		c.l.round(t, fmt.Sprintf("o%d", i), 500)
		if err := c.s.cmd.Process.Signal(syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
		if i > 20 {
			t.Fatal("the ring does not overrun")
		}
	}
	c.l.run(t, length(t)/2)
	c.settle()
	// What a sandbox does again and again is not told again and again.
	if lines := strings.Count(c.s.Log(), "records were lost"); lines > 12+int(time.Since(began)/(6*time.Second)) {
		t.Errorf("%d lines of the log are about it", lines)
	}
	told := c.b.told()
	for kind := range kinds {
		// More, where whose they were is not known: those are told in every session.
		if lost := c.lost[kind]; lost == 0 || told[kind] < lost {
			t.Errorf("%s: %d were lost, the trace tells of %d; want some, and all of them told", kind, lost, told[kind])
		}
	}
}

func TestASensorThatIsKilledAgainAndAgainLosesNothing(t *testing.T) {
	c := newScene(t, "limits: {ring_bytes: 128MiB, sandbox_ring_bytes: 128MiB}") // starting anew takes long on a busy machine, and nothing is to be left out
	c.b.serve(t)
	c.start()
	stop := make(chan struct{})
	loaded := make(chan struct{})
	var pause sync.Mutex
	go func() {
		defer close(loaded)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
				pause.Lock()
				c.l.round(t, fmt.Sprintf("k%d", i), 30)
				pause.Unlock()
			}
		}
	}()
	kills := 0
	for end := time.Now().Add(2 * length(t)); kills < 2 || time.Now().Before(end); kills++ {
		if kills%2 == 1 {
			// One that is killed at once each time never gets through what waits, with the race detector at least:
			// the ring fills.
			pause.Lock()
			sensortest.Until(t, "the backlog is read", func() bool { return sum(c.scrape(), "sheetbend_ring_used_bytes") < 1<<20 })
			pause.Unlock()
		}
		before := c.b.asked()
		sensortest.Until(t, "spans arrive between two kills", func() bool { return c.b.asked() > before })
		c.s.Kill()
		c.start()
	}
	close(stop)
	<-loaded
	c.settle()
	// What the sensors that were killed had counted is in no metric any more.
	for kind, n := range c.b.told() {
		if kinds[kind] != "" {
			t.Errorf("%s: the trace tells of %d lost", kind, n)
		}
	}
	if l := c.b.ledger(c.l.generated()); !maps.Equal(l.received, l.generated) {
		t.Error(l)
	}
	c.b.mu.Lock()
	defer c.b.mu.Unlock()
	t.Logf("%d kills, %d copies, %d of them with another number", kills, c.b.twice, c.b.again)
	// A batch that is under way, and what was sent since it was noted last.
	if most := kills * copiesOfAKill; c.b.twice > most {
		t.Errorf("%d copies, at most %d are expected", c.b.twice, most)
	}
}

// copiesOfAKill bounds how many spans may come again after a kill: batches that were sent and not noted, and what the
// records since the last note became.
const copiesOfAKill = 4096

func TestASecondSignalEndsTheDeliveryAtOnceAndCostsNothing(t *testing.T) {
	c := newScene(t, "")
	c.config = strings.Replace(c.config, "timeout: 1s", "timeout: 10m", 1)
	c.b.serve(t)
	c.b.set("stalls")
	took := map[int]time.Duration{}
	for _, signals := range []int{1, 2} {
		before := c.b.asked()
		c.start()
		c.l.session = fmt.Sprintf("signals%d-", signals)
		c.l.run(t, length(t)/4)
		sensortest.Until(t, "a batch is under way", func() bool { return c.b.asked() > before })
		begin := time.Now()
		if signals == 2 {
			if err := c.s.cmd.Process.Signal(syscall.SIGINT); err != nil {
				t.Fatal(err)
			}
			sensortest.Until(t, "the first signal is taken", func() bool { _, err := c.s.scrape(); return err != nil })
		}
		c.s.Stop()
		took[signals] = time.Since(begin)
		if said := c.s.Log(); !strings.Contains(said, "for the next start") {
			t.Errorf("what waits is not told:\n%s", said)
		}
	}
	// The first waits five seconds for the backend.
	if took[2] >= took[1] {
		t.Errorf("ended in %s, by two signals in %s", took[1], took[2])
	}
	c.b.set("takes")
	c.start()
	c.settle()
}
