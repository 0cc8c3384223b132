// SPDX-License-Identifier: Apache-2.0

package attribution

import (
	"container/list"
	"strings"

	"github.com/sheetbend/sheetbend/collector/record"
	"github.com/sheetbend/sheetbend/collector/span"
)

// waitingEvents waits for calls: what was said about those that lineage does not know yet.
type waitingEvents struct {
	ByCall map[callKey][]*list.Element // by the agent's own session id
	Of     map[source]int
	order  list.List // of *waitingEvent, oldest first
}

type waitingEvent struct {
	key   callKey
	by    source
	at    uint64 // boottime
	event record.Said
}

// Bounds of what is reported one call.
const (
	maxWaiting    = 16 // that wait for it
	MaxReports    = 64 // tool.telemetry spans
	MaxUnverified = 8  // of these, of what nobody knows who said it
)

// maxSaid: of all that can wait one source may have half.
const maxSaid = 2

// Event takes a fact from an agent's telemetry. It only annotates: it never moves an event.
func (c *Telemetry) Event(h *record.Header, s *record.Said) {
	for _, t := range []*string{&s.Session, &s.Call, &s.Tool, &s.Decision, &s.Source, &s.Detail} {
		*t = strings.ToValidUTF8(*t, "\uFFFD")
	}
	s.Tool = span.Clip(s.Tool, MaxTool)
	if len(s.Session) > MaxName || len(s.Call) > MaxName {
		c.stats.RefusedFacts++
		return
	}
	sender := c.attribution.Tree.Sender(h)
	by := source{}
	if s.Outside && sender == nil {
		by = source{outside: true, uid: s.UID}
	}
	if s.Kind == record.SaidRequest && sender == nil && !s.Outside {
		c.attribution.refuse(&c.stats.RefusedSenders) // of a sandbox, and not known: its fork was lost
		return
	}
	if sender != nil {
		c.attribution.NotHook(sender)
		w := sender.Owner()
		if sender.helper != nil {
			w = Owner{Agent: sender.Agent} // an MCP server speaks of itself in a call and outside of it
		}
		inside := w.Call != nil && w.Call.Inside == nil || w.Ambiguous || sender.Role == RoleUnclear
		switch {
		case s.Kind == record.SaidRequest && (inside || w.startedInCall() && !w.Agent.pinned()):
			c.attribution.refuse(&c.stats.RefusedSenders)
			return
		case inside:
			c.stats.RefusedFacts++ // a tool that speaks for the agent
			return
		}
		if w.Agent != nil && (w.Agent.dialect == nil || sender.speaksFor() != MarkedBySelf) {
			by.agent = w.Agent
			w.Agent.Told.Reports = true
		}
	}
	if s.Kind == record.SaidRequest {
		return
	}
	if s.Kind == record.SaidSession {
		// Those of subagents are told alike.
		if sender != nil && sender.Role == RoleAgent && sender.Agent.OwnID == "" && !sender.Agent.several {
			c.attribution.learn(sender.Agent, s.Session)
		}
		return
	}
	if k := c.sameCall(c.callOf(s, by), s, by); k != nil {
		c.annotate(k, h.Time, s, by)
		return
	}
	if s.Call == "" && s.More.Get(record.MoreOrigin) != "" {
		return // the user has asked, and typed no command
	}
	if s.Session == "" || s.Call == "" || by == (source{}) {
		c.stats.RefusedFacts++
		return
	}
	c.Waiting.wait(c, h.Time, s, by)
}

// A source is who said a fact: an agent or its hook, or somebody outside of every sandbox. Zero: nobody knows, so it
// could be a command that speaks for its agent.
type source struct {
	agent   *agent
	outside bool
	uid     uint32 // only with outside
}

// mayReport says whether the speaker's word about an agent's calls is taken as that agent's. Outside, as with marks, it
// is who may do as the agent does.
func (by source) mayReport(a *agent) bool {
	return by.outside && (by.uid == 0 || by.uid == a.uid) || by.agent == a && a != nil
}

// callOf finds the call that a fact is about: by the agent's session and the call's id, or by the agent's span that
// its first process was given.
func (c *Telemetry) callOf(s *record.Said, by source) *Call {
	var other *Call // of an agent that the speaker tells nothing of
	if s.Call != "" {
		var found []*Call
		for _, a := range c.attribution.Agents[s.Session] {
			found = append(found, c.attribution.agentsCall(a, s.Call))
		}
		for _, t := range c.attribution.threads[s.Session] {
			if k := c.attribution.Calls[callKey{t.Session.SessionName, s.Call}]; k != nil && k.Agent == t.agent {
				found = append(found, k)
			}
		}
		if len(found) == 0 && by.agent != nil && !by.agent.has(s.Session) {
			found = append(found, c.attribution.agentsCall(by.agent, s.Call)) // of a subagent that its commands do not name
		}
		for _, k := range found {
			if k != nil {
				if by.mayReport(k.Agent) {
					return k
				}
				other = k
			}
		}
		// The agent may be over: its calls are kept under its session for a while.
		for _, name := range []string{s.Session, c.attribution.Sessions.nameFor(s.Session, by.uid)} {
			if k := c.attribution.Calls[callKey{name, s.Call}]; k != nil && k.session() == s.Session && c.attribution.agentOf(s.Session, k.Agent.uid) == nil {
				if by.mayReport(k.Agent) {
					return k
				}
				other = k
			}
		}
	}
	if by.agent != nil && by.agent.has(s.Session) {
		other = nil // it tells of its own, which may not be known yet
	}
	if other != nil {
		return other
	}
	if s.Kind != record.SaidContext || s.Span == (span.ID{}) {
		return nil
	}
	k := c.attribution.contexts[span.Link{Trace: s.Trace, Span: s.Span}]
	if k == nil || !k.is(s.Session) {
		return nil
	}
	if s.Call != "" && (k.ID == "" || k.computed) && by.mayReport(k.Agent) {
		if key := (callKey{k.SessionName, s.Call}); c.attribution.Calls[key] == nil {
			c.attribution.Calls[key] = k
			k.ID, k.computed, k.Nested = s.Call, false, k.Agent.nested(s.Call)
			if k.Basis == inferred {
				k.Basis = byTelemetry
			}
			c.deliver(k)
		}
	}
	return k
}

// wait keeps a fact until its call is seen, within bounds of time and number.
func (f *waitingEvents) wait(c *Telemetry, at uint64, s *record.Said, by source) {
	key := callKey{s.Session, s.Call}
	if len(f.ByCall[key]) >= maxWaiting || f.Of[by] >= c.config.MaxCalls/maxSaid {
		c.stats.DroppedFacts++
		return
	}
	if f.order.Len() >= c.config.MaxCalls {
		c.drop(f.order.Front())
	}
	f.ByCall[key] = append(f.ByCall[key], f.order.PushBack(&waitingEvent{key: key, by: by, at: at, event: *s}))
	f.Of[by]++
}

func (f *waitingEvents) remove(e *list.Element) *waitingEvent {
	x := f.order.Remove(e).(*waitingEvent)
	if f.Of[x.by]--; f.Of[x.by] == 0 {
		delete(f.Of, x.by)
	}
	return x
}

func (c *Telemetry) drop(e *list.Element) {
	key := c.Waiting.remove(e).key
	c.stats.DroppedFacts++
	// Facts of one call are in the order of the list: the oldest is its first.
	if rest := c.Waiting.ByCall[key][1:]; len(rest) > 0 {
		c.Waiting.ByCall[key] = rest
	} else {
		delete(c.Waiting.ByCall, key)
	}
}

func (c *Telemetry) expire() {
	for e := c.Waiting.order.Front(); e != nil && e.Value.(*waitingEvent).at+uint64(c.config.CallRetention) <= c.clock.Tick; e = c.Waiting.order.Front() {
		c.drop(e)
	}
}

// deliver gives a call the facts that came before it.
func (c *Telemetry) deliver(k *Call) {
	if k.Thread != nil {
		c.deliverIn(k, k.Thread.ID)
	}
	c.deliverIn(k, k.Agent.OwnID)
}

// deliverIn does so with those that name a session.
func (c *Telemetry) deliverIn(k *Call, session string) {
	key := callKey{session, k.ID}
	if key.session == "" || k.ID == "" {
		return
	}
	waiting := c.Waiting.ByCall[key]
	delete(c.Waiting.ByCall, key)
	for _, e := range waiting {
		if by := e.Value.(*waitingEvent).by.agent; by != nil && by != k.Agent && by.has(key.session) {
			c.Waiting.ByCall[key] = append(c.Waiting.ByCall[key], e) // of a call of its own
			continue
		}
		f := c.Waiting.remove(e)
		c.annotate(k, f.at, &f.event, f.by)
	}
}

// annotate adds a fact to a call: on its execute_tool while that is held, later as a span of its own.
func (c *Telemetry) annotate(k *Call, at uint64, s *record.Said, by source) {
	if !by.mayReport(k.Agent) {
		// Told, and marked; it changes nothing.
		if k.Sent.unverified++; k.Sent.unverified > MaxUnverified {
			c.stats.RefusedFacts++
			return
		}
		c.attribution.Above.SendTelemetry(k, at, s, true)
		return
	}
	k.Agent.Told.Reports = true
	if k.Pending == nil {
		k.Agent.Told.Late++
	}
	if k.Tool == "" {
		k.Tool = s.Tool
	}
	link := span.Link{Trace: s.Trace, Span: s.Span}
	change := true
	named := k.unnamed && k.ID != ""
	k.unnamed = k.unnamed && !named
	switch s.Kind {
	case record.SaidContext:
		if link.Span == (span.ID{}) || link.Trace == (span.TraceID{}) || link == k.Links.Top || link == k.Links.Extra || k.Links.context == link && k.Links.Joined {
			change = false
		} else {
			c.attribution.join(k, link, s.TraceFlags&1 != 0)
			change = !k.Links.Joined || k.Links.Top != link
		}
		change = change || named && k.Traces.Used() // spans have gone out without the id
		if s.More.Get(record.MoreOrigin) == record.OriginUser && k.ID == "" && !k.Marking.marked && !k.ByUser {
			k.ByUser, change = true, k.Traces.Used()
		}
	case record.SaidDecision:
		change = k.decide(s.Decision, s.Source)
		if k.Marking.mark != nil && !k.Life.Ran && s.Decision == record.Denied {
			c.attribution.Marks.CloseMark(k) // no end follows
		}
	case record.SaidResult:
		change = s.Success != record.SuccessUnknown && k.Result != s.Success
		if change {
			k.Result = s.Success
		}
		if k.Inside != nil && k.Marking.mark != nil {
			c.attribution.Marks.CloseMark(k) // an end that its hooks have not told
		}
	}
	if above := strings.ToValidUTF8(s.More.Get(record.MoreParent), "\uFFFD"); k.Nested && k.Above == "" && above != "" && len(above) <= MaxName {
		k.Above = above
		change = change || k.Traces.Used()
	}
	own := s.Kind == record.SaidSandbox || s.Kind == record.SaidNetwork
	if own || change && (!k.Sent.Waiting || k.Links.Joined) {
		c.attribution.Above.SendTelemetry(k, at, s, false)
	}
}

// decide takes a decision. It says whether that was news.
func (k *Call) decide(decision, source string) bool {
	switch {
	case decision == "" || decision == k.Approval.Decision && (source == k.Approval.Source || source == ""):
		return false
	case k.Approval.Decision == "" || k.Approval.Decision == decision:
		k.Approval.Decision, k.Approval.Source = decision, source
	default:
		k.Approval.Decision, k.Approval.Source = "conflict", ""
	}
	return true
}

// Dropped counts an event that was dropped where its span would have been made.
func (c *Telemetry) Dropped() { c.stats.DroppedFacts++ }
