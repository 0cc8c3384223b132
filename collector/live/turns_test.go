// SPDX-License-Identifier: Apache-2.0

package live

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sheetbend/sheetbend/bpf"
	"github.com/sheetbend/sheetbend/collector"
	"github.com/sheetbend/sheetbend/collector/record"
	"github.com/sheetbend/sheetbend/collector/recordtest"
	"github.com/sheetbend/sheetbend/collector/span"
)

// turns notes how much is done between two reads of the ring.
type turns struct {
	*host
	done func() int // so far
	last int
	most int
}

func (s *turns) Read(buf []byte) ([]byte, error) {
	now := s.done()
	s.most, s.last = max(s.most, now-s.last), now
	return s.host.Read(buf)
}

// What an agent is decides the first record of it, or of its child: with the arguments, however many processes there
// are.
func TestAgentsThatAreThereAreKnownBeforeTheirFirstRecord(t *testing.T) {
	const first, processes = 100, 300
	h, agents := newHost(), agentsOf{}
	c, err := collector.New(collector.Config{
		BootID: "boot", Sandboxes: []collector.Selector{{Cgroup: "/a"}},
	}, agents)
	if err != nil {
		t.Fatal(err)
	}
	h.dirs["/a"] = 2
	f := h.feed(t, c, "/a")
	head := record.Header{Time: 1001 * ms, Cgroup: 2, Start: 500 * ms, ExecID: 1}
	for head.Tgid = first; head.Tgid < first+processes; head.Tgid++ {
		head.Tid = head.Tgid
		h.existing = append(h.existing, recordtest.Record(head, record.Process{Exe: recordtest.Path("/usr/bin/node")}))
		h.reads(recordtest.Record(head, record.Open{Path: recordtest.Path("/repo/x")}))
		dir := filepath.Join(f.o.Proc, fmt.Sprint(head.Tgid))
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		stat := "1 (a) S " + strings.Repeat("0 ", 18) + "50 0 0\n"
		for name, text := range map[string]string{"cmdline": "node\x00/usr/bin/claude\x00", "stat": stat} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	for range 40 {
		h.quiet(100 * ms)
	}
	if err := h.run(t, f); err != nil {
		t.Fatal(err)
	}
	c.Close()
	for pid := int64(first); pid < first+processes; pid++ {
		if agents[pid] != "claude-code" {
			t.Fatalf("what process %d reads is of the agent %q", pid, agents[pid])
		}
	}
}

// agentsOf notes the agent of what a process read, by its pid.
type agentsOf map[int64]string

func (a agentsOf) Flush() {}

func (a agentsOf) Span(s *span.Span) {
	var pid int64
	agent, read := "", false
	for _, attr := range s.Attrs {
		switch attr.Key {
		case span.KeyPID:
			pid = attr.Int
		case span.KeyAgentName:
			agent = attr.Str
		case span.KeyFilePath:
			read = true
		}
	}
	if read {
		a[pid] = agent
	}
}

func TestManyCgroupsAreWalkedThroughBetweenReadsOfTheRing(t *testing.T) {
	const dirs = 3 * dirsPerTurn
	h, s := newHost(), &stream{}
	h.dirs["/a"] = 2
	f := h.feed(t, s, "/a", "/a/*", "/a/*/*")
	h.quiet(uint64(lossEvery))
	h.does(func() {
		for n := range uint64(dirs) {
			h.dirs[fmt.Sprintf("/a/%04d", n)] = 1000 + n
		}
		h.dirs["/a/0500"], h.dirs["/a/0500/below"] = 5000, 5001
		h.losses = []bpf.Loss{{Cgroup: 2, Kind: uint16(record.TypeCgroupMkdir), Cause: 1, Count: 1}}
	})
	// Made anew, with what is in it, when the first turn is over and it is not entered yet.
	h.does(func() { h.dirs["/a/0500"], h.dirs["/a/0500/below"] = 6000, 6001 })
	for range 5 {
		h.quiet(0)
	}
	listed := func() (n int) {
		for _, l := range h.log {
			if strings.HasPrefix(l, "list /a/") {
				n++
			}
		}
		return n
	}
	source := &turns{host: h, done: listed}
	f.o.Source = source
	if err := h.run(t, f); err != nil {
		t.Fatal(err)
	}
	if source.last != dirs+1 || source.most > dirsPerTurn || source.most < dirsPerTurn-3 {
		t.Errorf("%d directories before the end, up to %d in one turn; want %d and about %d", source.last, source.most, dirs+1, dirsPerTurn)
	}
	words := strings.Join(s.words, "\n")
	if !strings.Contains(words, "cgroup 6001 below 6000 is /a/0500/below") || strings.Contains(words, "5000") || h.watches[1767] == 0 {
		t.Errorf("%d watched:\n%s", len(h.watches), words)
	}
}

// fills makes directories for more than two turns, of which the kernel side could not report all.
func (h *host) fills(root string) {
	for n := range uint64(2*dirsPerTurn + 88) {
		h.dirs[fmt.Sprintf("%s/%04d", root, n)] = 1000 + n
	}
	h.losses = []bpf.Loss{{Cgroup: 2, Kind: uint16(record.TypeCgroupMkdir), Cause: 1, Count: 1}}
}

// watchedOtherwise counts the directories from root on that are not watched with these flags.
func (h *host) watchedOtherwise(root string, flags bpf.WatchFlags) (n int) {
	for cg, id := range h.dirs {
		if strings.HasPrefix(cg, root) && h.watches[id] != flags {
			n++
		}
	}
	return n
}

// What decides on a container comes when not all of its directories are entered yet.
func TestAContainerThatIsWalkedThroughInTurnsIsDecidedAsAWhole(t *testing.T) {
	for id, want := range map[string]bpf.WatchFlags{wanted: bpf.WatchChildren | bpf.WatchTasks, unwanted: 0} {
		h := newHost()
		root := "/docker/" + id
		h.dirs["/docker"], h.dirs[root] = 2, 3
		f := h.feed(t, &stream{})
		f.o.Containers = true
		f.o.Chosen = func(c *record.Container) bool { return c.ID == wanted }
		f.o.Seen = func(at uint64, cg string) {
			if cg == root {
				f.Inject(record.AppendContainer(nil, at, record.Container{ID: id}))
			}
		}
		h.quiet(uint64(lossEvery))
		h.does(func() { h.fills(root) })
		for range 10 {
			h.quiet(50 * ms)
		}
		if err := h.run(t, f); err != nil {
			t.Fatal(err)
		}
		if wrong := h.watchedOtherwise(root, want); wrong > 0 || len(f.undecided) != 0 {
			t.Errorf("%d directories of %.3s are not watched with %v, %d containers undecided",
				wrong, id, want, len(f.undecided))
		}
	}
}

// A container that becomes a sandbox while it is walked through is watched from its beginning, too.
func TestAContainerThatIsDeclinedAndChosenDuringAWalkIsWatchedAsAWhole(t *testing.T) {
	h := newHost()
	root := "/docker/" + wanted
	h.dirs["/docker"], h.dirs[root] = 2, 3
	f := h.feed(t, &stream{})
	f.o.Containers = true
	f.o.Chosen = func(c *record.Container) bool { return len(c.Labels) > 0 }
	var labels []record.Pair
	f.o.Seen = func(at uint64, cg string) {
		if cg == root {
			f.Inject(record.AppendContainer(nil, at, record.Container{ID: wanted, Labels: labels}))
		}
	}
	h.quiet(uint64(lossEvery))
	h.does(func() { h.fills(root) })
	h.quiet(0) // declined, and the second turn
	h.does(func() {
		labels = []record.Pair{{Key: "agent", Value: "yes"}}
		f.o.Seen(f.tick, root)
	})
	for range 20 {
		h.quiet(50 * ms)
	}
	if err := h.run(t, f); err != nil {
		t.Fatal(err)
	}
	wrong := h.watchedOtherwise(root, bpf.WatchChildren|bpf.WatchTasks)
	if wrong > 0 || len(f.undecided) != 0 {
		t.Errorf("%d directories are not watched, %d containers undecided", wrong, len(f.undecided))
	}
}

// A directory that is made anew between two turns is not taken for a child of the one that was there before.
func TestADirectoryBelowOneThatWasMadeAnewIsNoChildOfTheOld(t *testing.T) {
	h, s := newHost(), &stream{}
	h.dirs["/a"], h.dirs["/a/b"] = 2, 3
	f := h.feed(t, s, "/a", "/a/*")
	w := newWalk("/a")
	if err := w.step(f, 1); err != nil {
		t.Fatal(err)
	}
	h.dirs["/a"], h.dirs["/a/b"] = 4, 5
	if err := w.step(f, 1); err != nil {
		t.Fatal(err)
	}
	same(t, "stream", s.words, []string{"cgroup 2 below 0 is /a"})
}
