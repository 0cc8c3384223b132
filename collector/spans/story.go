// SPDX-License-Identifier: Apache-2.0

package spans

import (
	"container/list"
	"strconv"
	"strings"

	"github.com/sheetbend/sheetbend/collector/attribution"
	"github.com/sheetbend/sheetbend/collector/lineage"
	"github.com/sheetbend/sheetbend/collector/mask"
	"github.com/sheetbend/sheetbend/collector/notable"
	"github.com/sheetbend/sheetbend/collector/record"
	"github.com/sheetbend/sheetbend/collector/span"
)

// reportsWithin is how long agents take to report a call, in ns: they send in batches, every 5 s.
const reportsWithin = 10_000_000_000

// An agentStory is what is kept of an agent for its story: it waits to go out as session, and at the end as session.end.
type agentStory struct {
	held  held
	owner attribution.Owner
	live  *list.Element // in Spans.agents
	began uint64        // boottime
	ended uint64        // with over
	over  bool
	sent  bool // session has gone out
	told  bool // and its account with it, or with session.end: nothing is added any more
	end   spot // of session.end

	commandLine   string
	masked, short bool

	first                 *lineage.Program // nil: not known, or there is none
	top                   span.Link        // what stood for it last, where it is of somebody else
	workspace             workspace
	net                   net
	account               account
	calls, failed, denied int64 // that have ended
}

func storyOf(w attribution.Owner) *agentStory {
	s, _ := w.Agent.Told.Pending.(*agentStory)
	return s
}

// A callStory is a session.call that waits: for the end of the call, then for what is said of it.
type callStory struct {
	held    held
	call    *attribution.Call
	spot    spot
	open    *list.Element // in Spans.open; nil: the call has ended
	wrapper *lineage.Program
	ended   uint64 // boottime
	over    bool
	oom     bool // a process of it was killed to free memory
	net     net
	account account
}

// AgentBegan begins a story.
func (c calls) AgentBegan(w attribution.Owner) {
	s := &agentStory{owner: w, began: c.spans.clock.Now}
	w.Agent.Told.Pending, s.live = s, c.spans.agents.PushBack(s)
	c.spans.slicer.Place(&w.Agent.Story, baseWeight+MaxCommandLine+effectWeight+scopeNameBytes+accountWeight)
	if p := c.spans.lineage.Processes[w.Agent.First.Tgid]; p != nil && p.Program.ID == w.Agent.First {
		s.began = p.Program.Start
		if x := p.Program.Exec; x != nil {
			c.spans.describeAgent(s, x)
		} else {
			s.workspace = workspaceAt(p.Program.Cwd)
		}
	}
	q := &c.spans.queue
	q.hold(&q.brief, &s.held, s, len(s.commandLine), c.spans.clock.Now+uint64(c.spans.config.Hold))
}

// describeAgent keeps how an agent was started.
func (c *Spans) describeAgent(s *agentStory, x *lineage.ExecStart) {
	s.workspace = workspaceAt(x.Cwd)
	args := appendArgs(nil, x.Args)
	s.short = x.Truncated || uint64(len(args)) < uint64(x.Argc)
	if !c.config.ShowCredentials {
		var cut bool
		s.masked, cut = mask.Args(args)
		s.short = s.short || cut
	}
	line := string(appendCommandLine(nil, args))
	s.commandLine = strings.ToValidUTF8(line, "\uFFFD")
}

// agentStarts is told of each program that starts.
func (c *Spans) agentStarts(x *lineage.ExecStart) {
	if p := x.Process; p.Role == attribution.RoleAgent && p.Agent.First == x.Program.ID {
		if s := storyOf(p.Owner()); s != nil && s.owner.Agent == p.Agent && s.held.in != nil {
			before := len(s.commandLine)
			c.describeAgent(s, x)
			c.queue.grow(&s.held, len(s.commandLine)-before)
		}
	}
}

// AgentOver ends a story: nothing of the agent runs any more.
func (c calls) AgentOver(w attribution.Owner) {
	s := storyOf(w)
	if s == nil {
		return
	}
	c.spans.agents.Remove(s.live)
	switch {
	case w.Agent.Void():
		s.told = true
		s.net.drop()
		s.account.drop()
		if s.held.in != nil {
			c.spans.queue.drop(&s.held)
		}
	case s.sent:
		s.over, s.ended = true, c.spans.clock.Now
		s.end = c.spans.placeStory(w, effectWeight+scopeNameBytes+accountWeight)
		c.spans.holdStory(w, &s.held, s, 0)
	default: // its session waits, from now on for what its calls wait for: it has the account
		s.over, s.ended = true, c.spans.clock.Now
		c.spans.queue.drop(&s.held)
		c.spans.holdStory(w, &s.held, s, s.held.bytes)
	}
}

// placeStory finds the spot of a span in a story; bytes are those of its own texts.
func (c *Spans) placeStory(w attribution.Owner, bytes int) spot {
	a := w.Agent
	t := &a.Story
	bytes += baseWeight + maxTitleBytes + weightOfOwner(a.Sandbox, w) + attribution.MaxName + attribution.MaxTool
	at := spot{trace: c.slicer.Place(t, bytes)}
	at.parent = span.Link{Trace: at.trace, Span: span.SessionSpan(t.Instance(), t.Number)}
	if s := storyOf(w); t.Number > 0 && !t.Rooted && s != nil {
		t.Rooted = true
		c.slicer.Place(t, baseWeight+len(s.commandLine)+maxWorkspace)
		d := c.out.start(span.Session, a.Sandbox, w, at.parent.Span, spot{trace: at.trace}, s.began, s.began)
		c.tellAgent(d, s)
		d.flag(span.KeyStandIn)
		d.span.StandIn = true
		c.out.send()
	}
	return at
}

// holdStory has a span of a story wait for what its agent reports.
func (c *Spans) holdStory(w attribution.Owner, h *held, s waiting, bytes int) {
	q, wait := &c.queue.rows, uint64(c.config.Hold)
	if w.Agent.Told.Reports {
		q, wait = &c.queue.stories, max(wait, reportsWithin)
	}
	c.queue.hold(q, h, s, bytes, c.clock.Now+wait)
}

// Since is the time (boottime) of the oldest record that what waits longer than the hold is made of.
func (c *Spans) Since() (at uint64, ok bool) {
	if h := c.queue.stories.oldest; h != nil {
		return h.deadline - max(uint64(c.config.Hold), reportsWithin), true
	}
	return 0, false
}

// runOut sends session or, where that has gone out, session.end.
func (s *agentStory) runOut(c *Spans, at uint64) {
	w, a := s.owner, s.owner.Agent
	instance := a.Story.Instance()
	if s.sent {
		w.Taint = a.Tainted()
		d := c.out.start(span.SessionEnd, a.Sandbox, w, span.SessionEndSpan(instance), s.end, s.began, s.ended)
		c.tellAgent(d, s)
		if a.Told.Late > 0 {
			d.int(span.KeyLateReports, int64(a.Told.Late))
		}
		c.tellSession(d, s)
		d.flagIf(!s.over, span.KeyPartial)
		c.out.send()
		return
	}
	s.sent = true
	to := at
	if s.over {
		to = s.ended
	}
	d := c.out.start(span.Session, a.Sandbox, w, span.SessionSpan(instance, 0), spot{trace: span.StoryFor(instance, 0)}, s.began, to)
	c.tellAgent(d, s)
	d.flagIf(!s.over, span.KeyPartial)
	if s.over {
		c.tellSession(d, s)
	}
	c.out.send()
}

// tellSession adds what an agent did, with all its calls, and forgets it.
func (c *Spans) tellSession(d *builder, s *agentStory) {
	for _, n := range []struct {
		key   string
		count int64
	}{{span.KeyCalls, s.calls}, {span.KeyCallsFailed, s.failed}, {span.KeyCallsDenied, s.denied}} {
		if n.count > 0 {
			d.int(n.key, n.count)
		}
	}
	sum := c.addNet(d, &s.net, scopeNameBytes, s.workspace.path)
	c.addAccount(d, &s.account, accountLists)
	d.trusted(span.KeySessionSummary, summaryOf(&s.account, &sum, s.workspace.path, tail{calls: s.calls, failed: s.failed, denied: s.denied}))
	s.told = true
	s.account.drop()
	d.flagIf(s.began < c.resumed, span.KeyCountPartial)
}

// tellAgent adds what is known of an agent as a whole.
func (c *Spans) tellAgent(d *builder, s *agentStory) {
	a := s.owner.Agent
	if a.First.Tgid != 0 {
		d.int(span.KeyPID, int64(a.First.Tgid))
		d.trusted(span.KeyCreationTime, c.wallTime(a.First.Start))
		d.int(span.KeyUserID, int64(a.User()))
	}
	if s.commandLine != "" {
		d.trusted(span.KeyCommandLine, s.commandLine)
		d.flagIf(s.masked, span.KeyArgsMasked)
		d.flagIf(s.short, span.KeyArgsTruncated)
	}
	d.textIf(span.KeyWorkspace, span.Clip(s.workspace.path, maxWorkspace))
	if d.span.Kind != span.Session {
		return
	}
	switch outer := s.owner.Within(); {
	case outer.Call != nil:
		d.link(outer.Call.Links.Story, span.ToParent)
	case outer.Agent != nil:
		d.link(firstSession(outer.Agent.Story.Instance()), span.ToParent)
	}
}

// link adds a link and says what it leads to.
func (d *builder) link(to span.Link, rel span.Rel) {
	if to.Span != (span.ID{}) {
		d.span.Links = append(d.span.Links, span.Ref{Link: to, Rel: rel})
	}
}

// firstSession is the span that the first part of a story begins with.
func firstSession(instance string) span.Link {
	return span.Link{Trace: span.StoryFor(instance, 0), Span: span.SessionSpan(instance, 0)}
}

// beginCall gives a call its place in the story.
func (c *Spans) beginCall(k *attribution.Call) {
	s := &callStory{call: k, spot: c.placeStory(attribution.Owner{Agent: k.Agent}, maxCallBytes-baseWeight)}
	k.Links.Story = span.Link{Trace: s.spot.trace, Span: span.CallSpan(k.Traces.Instance(), k.Traces.Call())}
	k.Pending, s.open = s, c.open.PushBack(s)
}

// endCall ends a call, if that has not been told.
func (c *Spans) endCall(k *attribution.Call, at uint64) {
	if s, waits := k.Pending.(*callStory); waits && s.open != nil {
		c.open.Remove(s.open)
		s.open, s.over, s.ended = nil, true, at
		c.holdStory(attribution.Owner{Agent: k.Agent}, &s.held, s, len(k.ID)+len(k.Title))
	}
}

// dropCall takes a call out of the story.
func (c *Spans) dropCall(k *attribution.Call) {
	s, waits := k.Pending.(*callStory)
	switch {
	case !waits:
		return
	case s.open != nil:
		c.open.Remove(s.open)
	case s.held.in != nil:
		c.queue.drop(&s.held)
	}
	s.net.drop()
	s.account.drop()
	k.Pending = nil
}

// endCommand is told of each end of a process: that of a call's first one is the end of the call as its agent sees it,
// unless a mark says when that is.
func (c *Spans) endCommand(p *lineage.Process, at uint64, how *lineage.Ending) {
	k := p.Call
	if k == nil {
		return
	}
	s, waits := k.Pending.(*callStory)
	if !waits {
		return
	}
	s.oom = s.oom || how.KilledForMemory()
	if k.First != (span.Image{Tgid: p.Tgid, Start: p.Start}) {
		return
	}
	if r := how.Exit; r != nil {
		k.Exit.Known, k.Exit.Status = true, r.Status
	}
	if !k.Marked() {
		c.endCall(k, at)
	}
}

// runOut sends session.call.
func (s *callStory) runOut(c *Spans, at uint64) {
	k := s.call
	k.Pending = nil
	to := at
	if s.over {
		to = s.ended
	}
	w := attribution.Owner{Agent: k.Agent, Call: k}
	d := c.out.start(span.SessionCall, k.Agent.Sandbox, w, k.Links.Story.Span, s.spot, k.Life.Began, to)
	if k.Links.Joined {
		d.link(k.Links.Top, span.ToAgent)
	} else {
		d.link(k.Links.Top, span.ToDetail)
	}
	if k.Exit.Known {
		tellExit(d, k.Exit.Status)
	}
	calls{c}.describeCall(d, k)
	d.flagIf(s.oom, span.KeyCallOOM)
	d.flagIf(!s.over, span.KeyPartial)
	d.flagIf(k.Life.Began < c.resumed, span.KeyCountPartial)
	c.tellCall(d, s)
	if a := storyOf(w); a != nil && s.over {
		a.calls++
		if d.span.Failed {
			a.failed++
		}
		if k.Approval.Decision == record.Denied {
			a.denied++
		}
	}
	c.out.send()
}

// Bounds of the lists on a session.call, in bytes: of what it has left running, and of the names that were changed.
const (
	leftBytes     = 512
	callNameBytes = 2 << 10
)

// tellCall adds what a call did, and forgets it. What there is no room for in maxCallBytes is left out of the lists.
func (c *Spans) tellCall(d *builder, s *callStory) {
	k, a := s.call, &s.account
	t := tail{oom: s.oom}
	if k.Life.Processes > 0 {
		t.left = int64(k.Life.Processes)
		t.programs, t.listens = c.leftOf(k, a)
		d.int(span.KeyCallLeft, t.left)
		n := d.listWithin(span.KeyLeftPrograms, t.programs, leftBytes/2)
		d.listWithin(span.KeyLeftListens, t.listens, leftBytes-n)
	}
	if event, is := notable.Of(&d.span); is { // of the call as a whole
		a.notes.add(event)
	}
	workspace := ""
	if w := storyOf(attribution.Owner{Agent: k.Agent}); w != nil {
		workspace = w.workspace.path
	}
	sum := c.addNet(d, &s.net, callNameBytes, workspace)
	d.trusted(span.KeyCallSummary, summaryOf(a, &sum, workspace, t))
	c.addAccount(d, a, maxCallBytes-accountCost-encodedSize(&d.span))
	a.drop()
}

func tellExit(d *builder, status uint32) {
	if signal := status & 0x7f; signal != 0 {
		name := signalName(signal)
		d.trusted(span.KeyCallExitSignal, name)
		d.fail("killed by " + name)
		return
	}
	code := int64(status >> 8 & 0xff)
	d.int(span.KeyCallExitCode, code)
	if code != 0 {
		d.fail("exit code " + strconv.FormatInt(code, 10))
	}
}

// SendOpenCalls sends session.call of all calls that have not ended. None is told of them any more.
func (c *Spans) SendOpenCalls() {
	for e := c.open.Front(); e != nil; e = c.open.Front() {
		c.open.Remove(e).(*callStory).runOut(c, c.clock.Now)
	}
}

// SendOpenAgents sends session.end of all agents that have not ended. None is told of them any more.
func (c *Spans) SendOpenAgents() {
	for e := c.agents.Front(); e != nil; e = e.Next() {
		if s := e.Value.(*agentStory); s.sent {
			s.ended = c.clock.Now
			s.end = c.placeStory(s.owner, effectWeight+scopeNameBytes+accountWeight)
			s.runOut(c, c.clock.Now)
		}
	}
}
