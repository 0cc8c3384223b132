// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sheetbend/sheetbend/bpf"
	"github.com/sheetbend/sheetbend/collector/live"
	"github.com/sheetbend/sheetbend/collector/record"
	"github.com/sheetbend/sheetbend/collector/span"
	"github.com/sheetbend/sheetbend/enrich/container"
	"github.com/sheetbend/sheetbend/enrich/marker"
	"github.com/sheetbend/sheetbend/exporters/watching"
)

const (
	// maxWatches bounds the commands of all users that are watched at the same time.
	maxWatches = 256
	// acceptWithin bounds the wait until the collector has made the sandbox.
	acceptWithin = 2 * time.Second
	// emptyEvery is how often a cgroup is looked at whose command is over while something else still runs there.
	emptyEvery = time.Second
)

var errNoRoom = errors.New("the sensor watches as many cgroups as it may: raise limits.cgroups in its configuration")

// watches are the commands that users have this sensor watch, each in a cgroup of its own below the one that the user
// was in, or the nearest of root's above it: the limits that root has set go on to hold. docs/design/watches.md says why it is done so.
type watches struct {
	watch *watch
	hub   *watching.Hub
	asked *askedCgroups
	boot  string
	most  int // of a user
	log   *slog.Logger

	ctx  context.Context // ends with the sensor
	end  func()
	wait sync.WaitGroup

	mu     sync.Mutex
	byUser map[uint32]*userWatches
	all    int
	counts watchCounts
}

// userWatches are those of one user.
type userWatches struct {
	n      int
	budget uint64 // cgroup whose part of the ring they share
}

type watchCounts struct{ opened, refused uint64 }

// openWatches takes over what a sensor before has made: it is removed when it is empty. close has to follow.
func openWatches(
	w *watch, hub *watching.Hub, asked *askedCgroups, boot string, most int, log *slog.Logger,
) *watches {
	ws := &watches{
		watch: w, hub: hub, asked: asked, boot: boot, most: most, log: log, byUser: make(map[uint32]*userWatches),
	}
	ws.ctx, ws.end = context.WithCancel(context.Background())
	for _, cg := range asked.list() {
		uid, _ := watchOf(cg)
		ws.take(uid)
		if err := ws.goOn(cg, uid); err != nil {
			log.Warn("a user's command is no longer watched", "cgroup", cg, "err", err)
		}
		ws.wait.Go(func() { ws.removeWhenEmpty(cg, uid) })
	}
	return ws
}

// goOn watches a cgroup that a sensor before has made. Where its hooks are there still, they do; without its journal, what
// the user has called it is not known any more.
func (ws *watches) goOn(cg string, uid uint32) error {
	id, err := ws.watch.mount.ID(cg)
	if err != nil {
		return err
	}
	if err := ws.watch.sensor.Watch(id, bpf.WatchTasks|bpf.WatchChildren); err != nil {
		return err
	}
	if err := ws.watch.sensor.Within(id, ws.budget(uid, id)); err != nil {
		return err
	}
	c := &userCommand{of: ws}
	if !c.tell(record.Watch{Op: record.WatchBegin, UID: uid, Cgroup: id, Path: cg}, nil) {
		return errors.New("the sensor is busy")
	}
	return nil
}

// close leaves the cgroups in which something runs to the next sensor, and the place for those of the root cgroup where it
// may not remove it.
func (ws *watches) close() error {
	ws.end()
	ws.wait.Wait()
	_ = unix.Rmdir(filepath.Join(ws.watch.mount.Dir, rootWatches))
	return nil
}

// take takes one of the user's places. ws.mu is held, or nobody else knows ws yet.
func (ws *watches) take(uid uint32) {
	u := ws.byUser[uid]
	if u == nil {
		u = &userWatches{}
		ws.byUser[uid] = u
	}
	u.n++
	ws.all++
}

// give gives a place free, and forgets its cgroup.
func (ws *watches) give(uid uint32, cg string) {
	ws.asked.remove(cg)
	ws.mu.Lock()
	defer ws.mu.Unlock()
	ws.all--
	if u := ws.byUser[uid]; u.n == 1 {
		delete(ws.byUser, uid)
	} else {
		u.n--
	}
}

// admit takes a place, or says in words that there is none.
func (ws *watches) admit(uid uint32) error {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	switch u := ws.byUser[uid]; {
	case u != nil && u.n >= ws.most:
		return fmt.Errorf("%d commands of user %d are watched already, and more may not be at the same time: "+
			"end one, with all that it has left running", u.n, uid)
	case ws.all >= maxWatches:
		return fmt.Errorf("%d commands of users are watched already, and more may not be at the same time: "+
			"try again when one has ended", ws.all)
	}
	ws.take(uid)
	return nil
}

func (ws *watches) stats() watchCounts {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	return ws.counts
}

// Open implements marker.Watches.
func (ws *watches) Open(a marker.Asked) (_ marker.Watch, err error) {
	defer func() {
		ws.mu.Lock()
		defer ws.mu.Unlock()
		if ws.counts.opened++; err != nil {
			ws.counts.opened--
			ws.counts.refused++
		}
	}()
	if err := sameUserNamespace(a.PID); err != nil {
		return nil, err
	}
	from, err := ws.watch.mount.Of(a.PID)
	if err != nil {
		return nil, err
	}
	if ws.watch.sandboxOf(a.PID, a.UID, from) != "" {
		return nil, nil // it has come into a sandbox since it connected
	}
	if _, is := container.FromCgroup(from); is {
		return nil, errors.New("a command in a container is watched by a selector of the sensor only: " +
			"see sandboxes in docs/configuration.md")
	}
	var random [6]byte
	if _, err := rand.Read(random[:]); err != nil {
		return nil, err
	}
	c := &userCommand{of: ws, uid: a.UID}
	c.cgroup = path.Join(ws.above(from), fmt.Sprintf("%s%d-%s", watchPrefix, a.UID, hex.EncodeToString(random[:])))
	if len(c.cgroup) > record.MaxText {
		return nil, fmt.Errorf("the path of the cgroup that the command runs in is longer than %d bytes", record.MaxText)
	}
	if err := ws.admit(a.UID); err != nil {
		return nil, err
	}
	var undo cleanups
	defer undo.onError(&err)
	made := false
	undo.add("cgroup", func() error {
		if !made {
			ws.give(a.UID, c.cgroup)
			return nil
		}
		return ws.abandon(c.cgroup, from, a.UID)
	})
	ws.asked.add(c.cgroup) // first: the reader of the stream hears of the directory at once
	if err := ws.watch.mount.Make(c.cgroup); err != nil {
		return nil, fmt.Errorf("the command cannot have a cgroup of its own: %w: run it from another terminal or unit",
			err)
	}
	made = true
	// While it lives nobody else has its pid.
	if err := a.Alive(); err != nil {
		return nil, err
	}
	if err := errors.Join(ws.watch.mount.Move(a.PID, c.cgroup), a.Alive()); err != nil {
		return nil, err
	}
	if c.id, err = ws.watch.mount.ID(c.cgroup); err != nil {
		return nil, err
	}
	if err := ws.watch.sensor.Watch(c.id, bpf.WatchTasks|bpf.WatchChildren); errors.Is(err, unix.E2BIG) {
		return nil, errNoRoom
	} else if err != nil {
		return nil, err
	}
	undo.add("watch", func() error { return ws.watch.sensor.Unwatch(c.id) })
	if err := ws.watch.sensor.Within(c.id, ws.budget(a.UID, c.id)); err != nil {
		return nil, err
	}
	c.Stream = ws.hub.Open(span.SandboxID(ws.boot, c.id), a.UID)
	session := a.Session
	if session != "" { // as collector/attribution has the sessions of others' agents: nobody is in another user's
		session = span.Clip(session, record.MaxText-len("… of uid 4294967295")) + " of uid " + strconv.FormatUint(uint64(a.UID), 10)
	}
	undo.add("stream", func() error { c.Close(); return nil })
	accepted := make(chan bool, 1)
	if !c.tell(record.Watch{
		Op: record.WatchBegin, UID: a.UID, Cgroup: c.id, Path: c.cgroup, Session: session, Agent: a.Agent,
	}, func(yes bool) { accepted <- yes }) {
		return nil, errors.New("the sensor is busy or ending: try again")
	}
	undo.add("sandbox", func() error {
		c.tell(record.Watch{Op: record.WatchEnd, Cgroup: c.id, Path: c.cgroup}, nil)
		return nil
	})
	select {
	case yes := <-accepted:
		if !yes {
			return nil, errNoRoom
		}
	case <-time.After(acceptWithin):
		return nil, errors.New("the sensor is busy: try again")
	}
	ws.log.Debug("watching a command of a user", "uid", a.UID, "pid", a.PID, "cgroup", c.cgroup)
	return c, nil
}

// budget is the cgroup whose part of the ring a user's commands share.
func (ws *watches) budget(uid uint32, cg uint64) uint64 {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	u := ws.byUser[uid]
	if u.budget == 0 {
		u.budget = cg
	}
	return u.budget
}

// above is the nearest cgroup, of that or one that it is in, whose directory is the sensor's user's: systemd gives users
// some of their own, and to make one there would take the right over all files.
func (ws *watches) above(cg string) string {
	for ; cg != "/"; cg = path.Dir(cg) {
		if owner, err := ws.watch.mount.Owner(cg); err == nil && owner == uint32(os.Geteuid()) {
			return cg
		}
	}
	return rootWatches
}

// abandon takes a cgroup away whose watch did not come about. Who is in it is put back where the sensor may, else it is
// the first stage of a command that is not run.
func (ws *watches) abandon(cg, from string, uid uint32) error {
	if id, err := ws.watch.mount.ID(cg); err == nil {
		_ = ws.watch.sensor.Unwatch(id) // before they leave it, or they would be followed
	}
	pids, err := ws.watch.mount.Procs(cg)
	for _, pid := range pids {
		err = errors.Join(err, ws.watch.mount.Move(pid, from))
	}
	if !ws.tryRemove(cg, uid) {
		ws.wait.Go(func() { ws.removeWhenEmpty(cg, uid) })
	}
	return err
}

// removeWhenEmpty waits until nothing runs in a cgroup any more, or the sensor ends.
func (ws *watches) removeWhenEmpty(cg string, uid uint32) {
	again := time.NewTicker(emptyEvery)
	defer again.Stop()
	for {
		if populated, err := ws.watch.mount.Populated(cg); err == nil && !populated && ws.tryRemove(cg, uid) {
			return
		}
		select {
		case <-again.C:
		case <-ws.ctx.Done():
			return
		}
	}
}

// tryRemove removes a cgroup in which nothing runs, and gives its place free.
func (ws *watches) tryRemove(cg string, uid uint32) bool {
	ctx, cancel := context.WithTimeout(ws.ctx, endingWithin)
	defer cancel()
	if ws.watch.mount.Remove(ctx, cg) != nil {
		return false
	}
	ws.give(uid, cg)
	return true
}

// A userCommand is what one user has watched.
type userCommand struct {
	*watching.Stream
	of     *watches
	uid    uint32
	cgroup string
	id     uint64
	once   sync.Once
}

// Cgroup implements marker.Watch.
func (c *userCommand) Cgroup() string { return c.cgroup }

func (c *userCommand) tell(w record.Watch, reply func(bool)) bool {
	now, _, err := live.SystemClock()
	return err == nil && c.of.watch.pipeline.Feed.InjectAnd(record.AppendWatch(nil, now, w), reply)
}

// Ended implements marker.Watch.
func (c *userCommand) Ended() {
	c.once.Do(func() {
		ws := c.of
		ctx, cancel := context.WithTimeout(ws.ctx, endingWithin)
		defer cancel()
		left := ws.watch.mount.WaitEmpty(ctx, c.cgroup) != nil || !ws.tryRemove(c.cgroup, c.uid)
		if !c.tell(record.Watch{Op: record.WatchEnd, Cgroup: c.id, Path: c.cgroup}, func(bool) { c.Finish(left) }) {
			c.Close()
		}
		if left {
			ws.wait.Go(func() { ws.removeWhenEmpty(c.cgroup, c.uid) })
		}
	})
}

// sameUserNamespace refuses processes of another user namespace than the sensor's: what they call root is none.
func sameUserNamespace(pid int) error {
	own, err := os.ReadFile("/proc/self/uid_map")
	if err != nil {
		return err
	}
	theirs, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/uid_map")
	if err != nil {
		return err
	}
	if !bytes.Equal(own, theirs) {
		return errors.New("the command is in a user namespace of its own: run it outside of that")
	}
	return nil
}

var _ marker.Watches = (*watches)(nil)
