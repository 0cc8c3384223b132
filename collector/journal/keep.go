// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sheetbend/sheetbend/collector/record"
	"github.com/sheetbend/sheetbend/collector/span"
)

// survivors decide what of a journal is kept: see all of it, decide, then ask keeps for each entry in the same order.
// If a sandbox has to give way then, decide and ask again.
type survivors struct {
	cut   *Cut
	event record.Event

	processes   map[processKey]*processState
	born        []*processState     // of them
	connects    map[uint64]connect  // without an outcome before the time, by cookie
	connections map[uint64]connect  // whose end was not seen before the time, by cookie
	gone        map[uint64]bool     // cgroups removed before the time
	open        map[string][]string // calls that are marked, by the sandbox of who marked them
	seen        map[fact]int        // before the time
	young       int                 // bytes of what is kept in any case
	out         map[string]bool     // sandboxes that give way

	// What decide makes.
	used     map[uint64]bool  // cgroups of what is kept
	calls    map[string]bool  // that are needed
	followed map[program]bool // what comes later is of them
	at       map[fact]int     // copied or left out so far
	shares   map[string]int   // bytes that are copied, by sandbox
	ticks    int              // entries, since the last tick that was kept
	tail     bool             // what comes is younger
}

type processKey struct {
	tgid  uint32
	start uint64 // ns of CLOCK_BOOTTIME
}

type processState struct {
	key      processKey
	parent   processKey
	forkedAt program // of its parent
	cgroup   uint64
	calls    [2][]string // that were marked when it was forked: in its sandbox, and from outside
	over     bool        // ended before the time
	needed   bool
	sandbox  string // with needed
}

// A program is the nth of a process, from 1.
type program struct {
	of processKey
	n  int
}

// A fact is of what there may be many entries: the first and the last are kept, so that a process that runs one program
// after another, or is looked at again and again, fills nothing.
type fact struct {
	kind record.Type // 0: a claim
	of   processKey
	text string
}

// A connect is one, or an accept.
type connect struct {
	by    program
	time  uint64
	ended uint64 // when its outcome was known; 0: not yet, or an accept
	tcp   bool
	over  bool // its end was seen, but not before the time
}

const (
	firstPrograms = 8   // of a process, that are kept besides the last and those that were followed by a fork
	maxOpen       = 64  // open calls of a sandbox that a process is kept for
	sparse        = 256 // entries that are kept between two ticks
)

func newSurvivors(c *Cut) *survivors {
	return &survivors{
		cut: c, processes: map[processKey]*processState{}, connects: map[uint64]connect{}, connections: map[uint64]connect{},
		gone: map[uint64]bool{},
		open: map[string][]string{}, seen: map[fact]int{}, out: map[string]bool{},
	}
}

func keyOf(h *record.Header) processKey { return processKey{h.Tgid, h.Start} }

// see reads an entry before anything is decided.
func (k *survivors) see(e *Entry) {
	ev := &k.event
	h := &ev.Header
	isRecord := e.Kind == Record && ev.Decode(e.Data) == nil
	if k.tail = k.tail || isRecord && h.Time >= k.cut.Before; k.tail {
		k.young += entryHead + len(e.Data)
	} else if e.Kind == Claimed {
		k.seen[fact{text: string(e.Data)}]++
	}
	if !isRecord || h.Time >= k.cut.Before {
		if c, ok := k.connections[ev.Close.Cookie]; ok && isRecord && h.Type == record.TypeClose {
			c.over = true
			k.connections[ev.Close.Cookie] = c
		}
		return
	}
	switch h.Type {
	case record.TypeFork:
		child := processKey{ev.Fork.ChildTgid, ev.Fork.ChildStart}
		k.found(&processState{key: child, parent: keyOf(h), cgroup: ev.Fork.ChildCgroup, forkedAt: k.programOf(h)})
	case record.TypeExec:
		parent := processKey{ev.Exec.ParentTgid, ev.Exec.ParentStart}
		k.found(&processState{key: keyOf(h), parent: parent, cgroup: h.Cgroup})
	case record.TypeProcess:
		parent := processKey{ev.Process.ParentTgid, ev.Process.ParentStart}
		k.found(&processState{key: keyOf(h), parent: parent, cgroup: h.Cgroup})
	case record.TypeExit:
		if l := k.processes[keyOf(h)]; l != nil {
			l.over = true
		}
	case record.TypeConnect:
		if ev.Connect.Op != record.ConnectSendmsg {
			k.connects[ev.Connect.Cookie] = connect{by: k.programOf(h), time: h.Time, tcp: ev.Connect.Protocol == unix.IPPROTO_TCP}
		}
	case record.TypeConnectEnd:
		cookie, n := ev.ConnectEnd.Cookie, unix.Errno(ev.ConnectEnd.Error)
		if h.Flags&record.ConnectEndDatagram != 0 || n == unix.EINPROGRESS || n == unix.EALREADY {
			break
		}
		if c := k.connects[cookie]; n == 0 && c.tcp {
			c.ended = h.Time
			k.connections[cookie] = c
		}
		delete(k.connects, cookie)
	case record.TypeAccept:
		k.connections[ev.Accept.Cookie] = connect{by: k.programOf(h), time: h.Time}
	case record.TypeClose:
		delete(k.connects, ev.Close.Cookie)
		delete(k.connections, ev.Close.Cookie)
	case record.TypeCgroupRmdir:
		k.gone[ev.Cgroup.ID] = true
	case record.TypeMark:
		k.marked(h, &ev.Mark)
	}
	if f, _ := k.factOf(h); f.kind != 0 {
		k.seen[f]++
	}
}

// factOf gives the fact of the record at hand, if it is one, and how many of it are kept besides the last.
func (k *survivors) factOf(h *record.Header) (f fact, first int) {
	switch h.Type {
	case record.TypeExec:
		return fact{kind: h.Type, of: keyOf(h)}, firstPrograms
	case record.TypeProcess, record.TypeCmdline, record.TypeCgroupAttach:
		return fact{kind: h.Type, of: keyOf(h)}, 1
	case record.TypeContainer:
		return fact{kind: h.Type, text: k.event.Container.ID}, 1
	case record.TypeClock:
		return fact{kind: h.Type}, 1
	}
	return fact{}, 0
}

// programOf is what the process of a record runs so far.
func (k *survivors) programOf(h *record.Header) program {
	return program{keyOf(h), k.seen[fact{kind: record.TypeExec, of: keyOf(h)}]}
}

func (k *survivors) found(l *processState) {
	if k.processes[l.key] == nil {
		l.calls = [2][]string{k.open[k.sandbox(l.key, l.cgroup)], k.open[""]}
		k.processes[l.key], k.born = l, append(k.born, l)
	}
}

func callOf(m *record.Mark) string { return m.Session + "\x00" + m.Call }

func (k *survivors) marked(h *record.Header, m *record.Mark) {
	name := k.sandbox(keyOf(h), m.PeerCgroup)
	open := slices.Clone(k.open[name]) // what processes have is another
	if i := slices.Index(open, callOf(m)); i >= 0 {
		open = slices.Delete(open, i, i+1)
	}
	if m.Op == record.MarkBegin {
		open = append(open, callOf(m))
	}
	k.open[name] = open[max(0, len(open)-maxOpen):]
}

func (k *survivors) sandbox(p processKey, cgroup uint64) string {
	if k.cut.Sandbox == nil {
		return ""
	}
	return k.cut.Sandbox(p.tgid, p.start, cgroup)
}

// decide marks who lives, and whom they come from, and says whether turn let it.
func (k *survivors) decide(turn func(int) bool) bool {
	k.used, k.calls, k.followed = map[uint64]bool{}, map[string]bool{}, map[program]bool{}
	k.at, k.shares, k.ticks, k.tail = map[fact]int{}, map[string]int{}, 0, false
	for _, open := range k.open {
		k.needCalls(open)
	}
	for _, l := range k.born {
		l.needed = false
	}
	connected, n := map[processKey]bool{}, 0
	for cookie, c := range k.connections {
		if !c.over && k.cut.Connected != nil && !k.cut.Connected[cookie] {
			delete(k.connections, cookie) // the collector does not know it any more
			continue
		}
		k.followed[c.by], connected[c.by.of] = true, true
		if n++; n%64 == 0 && !turn(64*entryHead) {
			return false
		}
	}
	for n, l := range k.born {
		if n%64 == 0 && !turn(64*entryHead) { // about what it costs
			return false
		}
		name := k.sandbox(l.key, l.cgroup)
		lives := !l.over || connected[l.key] || k.cut.Untold[span.Image{Tgid: l.key.tgid, Start: l.key.start}]
		for who := l; lives && !k.out[name] && who != nil && !who.needed; who = k.processes[who.parent] {
			who.needed, who.sandbox, k.used[who.cgroup], k.followed[who.forkedAt] = true, name, true, true
			k.needCalls(who.calls[0])
			k.needCalls(who.calls[1])
		}
	}
	return true
}

func (k *survivors) needCalls(calls []string) {
	for _, call := range calls {
		k.calls[call] = true
	}
}

// giveWay leaves out the sandbox that has the most, if what was copied of all is more than it may be.
func (k *survivors) giveWay(most int) (name string, ok bool) {
	total := 0
	for of, n := range k.shares {
		if total += n; !k.out[of] && (!ok || n > k.shares[name] || n == k.shares[name] && of < name) {
			name, ok = of, true
		}
	}
	if ok = ok && total > most; ok {
		k.out[name] = true
	}
	return name, ok
}

// keeps says whether an entry is kept.
func (k *survivors) keeps(e *Entry) bool {
	h := &k.event.Header
	switch {
	case e.Kind == Claimed && !k.tail:
		return k.claim(e.Data)
	case e.Kind == Reached && !k.tail:
		r, ok := DecodeReach(e.Data)
		l := k.processes[processKey{r.Of.Tgid, r.Of.Start}]
		return ok && l != nil && l.needed // what came of that process has it from there
	case e.Kind == Slice && !k.tail && k.cut.RemembersSlice != nil:
		s, ok := DecodeSlice(e.Data)
		return ok && k.cut.RemembersSlice(s)
	case e.Kind != Record:
		return true
	case k.event.Decode(e.Data) != nil:
		return false
	case h.Time >= k.cut.Before:
		k.tail = true
		return true
	case h.Type == record.TypeTick:
		keep := k.ticks >= sparse
		if keep {
			k.ticks = 0
		}
		return keep
	}
	of, keep := k.record(h)
	if keep {
		k.ticks++
		k.shares[of] += entryHead + len(e.Data)
	}
	return keep
}

// claim says whether a claim is kept: of an agent that lives the last of each, of those that are over the first, as it
// is the same place's from then on.
func (k *survivors) claim(b []byte) bool {
	claim, ok := DecodeClaim(b)
	last := k.nth(fact{text: string(b)}, 0)
	if !ok || k.cut.Remembers != nil && !k.cut.Remembers(claim) {
		return false
	}
	if l := k.processes[processKey{claim.Agent.Tgid, claim.Agent.Start}]; l != nil && l.needed {
		return last
	}
	over := fact{kind: record.TypeExit, text: strings.SplitN(string(b), " ", 4)[3]}
	k.at[over]++
	return k.at[over] == 1
}

// nth counts an entry of a fact, and says whether it is one of the first or the last.
func (k *survivors) nth(f fact, first int) bool {
	k.at[f]++
	return k.at[f] <= first || k.at[f] >= k.seen[f]
}

// record says whether the record at hand is kept, and of which sandbox it is.
func (k *survivors) record(h *record.Header) (of string, keep bool) {
	ev := &k.event
	f, first := k.factOf(h)
	keep = f.kind != 0 && k.nth(f, first)
	who := keyOf(h)
	recent := h.Time >= k.cut.Before-min(k.cut.Before, k.cut.CallsFor)
	switch h.Type {
	case record.TypeContainer, record.TypeClock:
		return "", keep
	case record.TypeCgroup, record.TypeCgroupMkdir, record.TypeCgroupRmdir:
		of = k.sandbox(who, ev.Cgroup.ID)
		return of, (!k.gone[ev.Cgroup.ID] || k.used[ev.Cgroup.ID]) && !k.out[of]
	case record.TypeWatch:
		of = k.sandbox(who, ev.Watch.Cgroup)
		return of, ev.Watch.Op == record.WatchBegin && (!k.gone[ev.Watch.Cgroup] || k.used[ev.Watch.Cgroup]) && !k.out[of]
	case record.TypeMark:
		of = k.sandbox(who, ev.Mark.PeerCgroup)
		return of, (recent || k.calls[callOf(&ev.Mark)]) && !k.out[of]
	case record.TypeSaid:
		of = k.sandbox(who, 0)
		return of, (recent || ev.Said.Kind == record.SaidSession) && !k.out[of]
	case record.TypeFork:
		who, keep = processKey{ev.Fork.ChildTgid, ev.Fork.ChildStart}, true
	case record.TypeExit:
		keep = true
	case record.TypeExec:
		keep = keep || k.followed[program{who, k.at[f]}]
	case record.TypeExecArgs: // of the next program
		exec := fact{kind: record.TypeExec, of: who}
		n := k.at[exec] + 1
		keep = n <= firstPrograms || n >= k.seen[exec] || k.followed[program{who, n}]
	case record.TypeConnect:
		open, made := k.connects[ev.Connect.Cookie], k.connections[ev.Connect.Cookie]
		keep = open.by.of == who && open.time == h.Time || made.by.of == who && made.time == h.Time
	case record.TypeConnectEnd:
		made := k.connections[ev.ConnectEnd.Cookie]
		who, keep = made.by.of, made.ended != 0 && made.ended == h.Time
	case record.TypeAccept:
		made := k.connections[ev.Accept.Cookie]
		keep = made.by.of == who && made.time == h.Time
	}
	l := k.processes[who]
	if !keep || l == nil || !l.needed {
		return "", false
	}
	return l.sandbox, true
}
