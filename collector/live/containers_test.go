// SPDX-License-Identifier: Apache-2.0

package live

import (
	"fmt"
	"strings"
	"testing"

	"github.com/sheetbend/sheetbend/bpf"
	"github.com/sheetbend/sheetbend/collector/config"
	"github.com/sheetbend/sheetbend/collector/record"
)

var (
	wanted   = strings.Repeat("a", 64)
	unwanted = strings.Repeat("b", 64)
	own      = strings.Repeat("c", 64)
)

func TestContainersAreWatchedUntilTheyAreKnownToBeNoSandbox(t *testing.T) {
	h, s := newHost(), &stream{}
	h.dirs["/docker"], h.dirs["/docker/"+wanted], h.dirs["/docker/"+own], h.dirs["/user"] = 2, 3, 4, 5
	f := h.feed(t, s)
	f.o.Containers = true
	f.o.Chosen = func(c *record.Container) bool { return c.ID == wanted }
	f.o.Except = "/docker/" + own
	var seen []string
	f.o.Seen = func(_ uint64, cg string) { seen = append(seen, cg) }

	h.reads(directory(record.TypeCgroupMkdir, 1001*ms, 10, "/docker/"+unwanted))
	h.reads(directory(record.TypeCgroupMkdir, 1002*ms, 11, "/docker/"+unwanted+"/init"))
	h.reads(directory(record.TypeCgroupMkdir, 1002*ms, 12, "/docker/"+wanted+"/init"))
	h.reads(directory(record.TypeCgroupMkdir, 1003*ms, 13, "/user/session"))
	h.does(func() {
		if flags := h.watches[3]; flags != bpf.WatchChildren|bpf.WatchTasks|bpf.WatchProvisional {
			t.Errorf("a container is watched with %v", flags)
		}
		for _, id := range []string{wanted, unwanted} {
			f.Inject(record.AppendContainer(nil, 1001*ms, record.Container{ID: id}))
		}
	})
	h.reads(directory(record.TypeCgroupRmdir, 1004*ms, 3, "/docker/"+wanted))
	h.quiet(0)
	if err := h.run(t, f); err != nil {
		t.Fatal(err)
	}
	if flags := h.watches[3]; flags != 0 {
		t.Errorf("a removed directory is watched: %v", flags)
	}
	if flags := h.watches[4]; flags != bpf.WatchChildren {
		t.Errorf("the sensor's own container: %v", flags)
	}
	if flags := h.watches[13]; flags != bpf.WatchChildren {
		t.Errorf("no container: %v", flags)
	}
	if flags := h.watches[12]; flags != bpf.WatchChildren|bpf.WatchTasks {
		t.Errorf("a part of the chosen container: %v", flags)
	}
	log := strings.Join(h.log, "\n")
	for _, line := range []string{"unwatch 10", "unwatch 11"} {
		if !strings.Contains(log, line) {
			t.Errorf("no %q in\n%s", line, log)
		}
	}
	if strings.Contains(log, "unwatch 12") {
		t.Error("a part of the chosen container is not watched any more")
	}
	same(t, "seen", seen, []string{"/docker/" + wanted, "/docker/" + unwanted, "/docker/" + unwanted + "/init", "/docker/" + wanted + "/init"})
	if len(f.undecided) != 0 {
		t.Errorf("kept: %v", f.undecided)
	}
}

// A walk leaves what a user had watched as it is, also below a directory that leads to containers.
func TestAWalkGoesOnWithWhatAUserHadWatched(t *testing.T) {
	h, s := newHost(), &stream{}
	h.dirs["/user"], h.dirs["/user/watched"], h.dirs["/user/watched/below"], h.dirs["/user/other"] = 2, 3, 4, 5
	f := h.feed(t, s)
	f.o.Containers = true
	f.o.Asked = func(cg string) bool { return strings.HasPrefix(cg, "/user/watched") }
	h.quiet(0)
	if err := h.run(t, f); err != nil {
		t.Fatal(err)
	}
	for id, want := range map[uint64]bpf.WatchFlags{
		2: bpf.WatchChildren, 3: bpf.WatchChildren | bpf.WatchTasks, 4: bpf.WatchChildren | bpf.WatchTasks, 5: bpf.WatchChildren,
	} {
		if flags := h.watches[id]; flags != want {
			t.Errorf("%d is watched with %v, not %v", id, flags, want)
		}
	}
	if len(h.within) != 0 {
		t.Errorf("budgets: %v", h.within)
	}
}

// A sensor in a container that was made while an earlier one's hooks were there: what its runtime did in it waits for no
// runtime's answer, and is nobody's loss.
func TestTheSensorsOwnContainerIsNoSandboxAndNobodyIsAsked(t *testing.T) {
	h, s := newHost(), &stream{}
	h.dirs["/docker"] = 2
	f := h.feed(t, s)
	f.o.Containers, f.o.Except = true, "/docker/"+own
	f.o.Seen = func(_ uint64, cg string) { t.Errorf("asked about %s", cg) }
	told := 0
	f.o.Chosen = func(c *record.Container) bool {
		told++
		for _, kubernetes := range []bool{true, false} {
			if all := (&config.ContainerSelector{Kubernetes: kubernetes}); c.ID != own || all.Chooses(c) {
				t.Errorf("%+v is a sandbox", c)
			}
		}
		return false
	}
	h.reads(directory(record.TypeCgroupMkdir, 1001*ms, 4, "/docker/"+own))
	h.quiet(0)
	if err := h.run(t, f); err != nil {
		t.Fatal(err)
	}
	if told != 1 {
		t.Errorf("told of %d times", told)
	}
}

// A pod's labels may choose it when it runs already.
func TestAContainerThatBecomesASandboxIsWatchedAgain(t *testing.T) {
	h, s := newHost(), &stream{}
	h.dirs["/docker"], h.dirs["/docker/"+wanted], h.dirs["/docker/"+wanted+"/init"] = 2, 3, 4
	f := h.feed(t, s)
	f.o.Containers = true
	f.o.Chosen = func(c *record.Container) bool { return len(c.Labels) > 0 }
	asked := 0
	f.o.Seen = func(uint64, string) { asked++ }
	word := func(at uint64, labels ...record.Pair) {
		h.does(func() { f.Inject(record.AppendContainer(nil, at, record.Container{ID: wanted, Labels: labels})) })
		h.quiet(2 * ms)
		h.quiet(0)
	}
	watched := func(want bpf.WatchFlags) {
		h.does(func() {
			for _, id := range []uint64{3, 4} {
				if h.watches[id] != want {
					t.Errorf("%d is watched with %v, want %v", id, h.watches[id], want)
				}
			}
		})
	}
	label := record.Pair{Key: "agent", Value: "yes"}
	word(1001 * ms)
	watched(0)
	word(1002 * ms)
	watched(0)
	word(1003*ms, label)
	watched(bpf.WatchChildren | bpf.WatchTasks | bpf.WatchProvisional)
	word(1004*ms, label) // the answer to Seen
	watched(bpf.WatchChildren | bpf.WatchTasks)
	word(1005*ms, label)
	if err := h.run(t, f); err != nil {
		t.Fatal(err)
	}
	if asked != 4 { // each directory at the start, and again
		t.Errorf("asked %d times", asked)
	}
	if f.declined.has(wanted) || len(f.undecided) != 0 {
		t.Error("kept")
	}
}

func TestDeclinedContainersAreBounded(t *testing.T) {
	d := recent[string, string]{most: maxDeclined}
	for i := range 3 * maxDeclined {
		d.add(fmt.Sprint(i), "/x")
	}
	if n := len(d.now) + len(d.before); n > 2*maxDeclined {
		t.Errorf("%d are kept", n)
	}
	if !d.has(fmt.Sprint(3*maxDeclined-1)) || d.has("0") {
		t.Error("not the newest are kept")
	}
}
