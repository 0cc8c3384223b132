// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"container/list"
	"strings"

	"github.com/sheetbend/sheetbend/collector/record"
	"github.com/sheetbend/sheetbend/collector/span"
)

// facts waits for calls: what was said about those that lineage does not know yet.
type facts struct {
	byCall map[callKey][]*list.Element // by the agent's own session id
	of     map[speaker]int
	order  list.List // of *fact, oldest first
}

type fact struct {
	key  callKey
	by   speaker
	at   uint64 // boottime
	said record.Said
}

// Bounds of what is told of one call.
const (
	maxFacts      = 16 // that wait for it
	maxTold       = 64 // tool.telemetry spans
	maxUnverified = 8  // of these, of what nobody knows who said it
)

// maxSaid: of all that can wait one speaker may have half.
const maxSaid = 2

// said takes a fact from an agent's telemetry. It only annotates: it never moves an event.
func (c *telemetry) said(h *record.Header, s *record.Said) {
	for _, t := range []*string{&s.Session, &s.Call, &s.Tool, &s.Decision, &s.Source, &s.Detail} {
		*t = strings.ToValidUTF8(*t, "\uFFFD")
	}
	sender := c.attribution.tree.peer(h)
	by := speaker{}
	if s.Outside && sender == nil {
		by = speaker{outside: true, uid: s.UID}
	}
	if s.Kind == record.SaidRequest && sender == nil && !s.Outside {
		c.attribution.refuse(&c.stats.RefusedSenders) // of a sandbox, and not known: its fork was lost
		return
	}
	if sender != nil {
		c.attribution.notHook(sender)
		w := sender.whose()
		inside := w.call != nil || w.ambiguous || sender.role == roleUnclear
		switch {
		case s.Kind == record.SaidRequest && (inside || w.startedInCall() && !w.agent.pinned()):
			c.attribution.refuse(&c.stats.RefusedSenders)
			return
		case inside:
			c.stats.RefusedFacts++ // a tool that speaks for the agent
			return
		}
		if w.agent != nil && (w.agent.dialect == nil || sender.speaksFor() != markedBySelf) {
			by.agent = w.agent
		}
	}
	if s.Kind == record.SaidRequest {
		return
	}
	if s.Kind == record.SaidSession {
		if sender != nil && sender.role == roleAgent {
			c.attribution.learn(sender.agent, s.Session)
		}
		return
	}
	if k := c.callSaid(s, by); k != nil {
		c.annotate(k, h.Time, s, by)
		return
	}
	if s.Session == "" || s.Call == "" || by == (speaker{}) {
		c.stats.RefusedFacts++
		return
	}
	c.facts.wait(c, h.Time, s, by)
}

// A speaker is who said a fact: an agent or its hook, or somebody outside of every sandbox. Zero: nobody knows, so it
// could be a command that speaks for its agent.
type speaker struct {
	agent   *agent
	outside bool
	uid     uint32 // only with outside
}

// mayTell says whether the speaker's word about an agent's calls is taken as that agent's. Outside, as with marks, it is
// who may do as the agent does.
func (by speaker) mayTell(a *agent) bool {
	return by.outside && (by.uid == 0 || by.uid == a.uid) || by.agent == a && a != nil
}

// callSaid finds the call that a fact is about: by the agent's session and the call's id, or by the agent's span that
// its first process was given.
func (c *telemetry) callSaid(s *record.Said, by speaker) *call {
	var other *call // of an agent that the speaker tells nothing of
	if s.Call != "" {
		for _, a := range c.attribution.agents[s.Session] {
			if k := c.attribution.calls[callKey{a.owner.session, s.Call}]; k != nil && k.agent == a {
				if by.mayTell(a) {
					return k
				}
				other = k
			}
		}
		// The agent may be over: its calls are kept under its session for a while.
		for _, name := range []string{s.Session, c.attribution.owners.nameFor(s.Session, by.uid)} {
			if k := c.attribution.calls[callKey{name, s.Call}]; k != nil && k.agent.session == s.Session && c.attribution.agentOf(s.Session, k.agent.uid) == nil {
				if by.mayTell(k.agent) {
					return k
				}
				other = k
			}
		}
	}
	if by.agent != nil && by.agent.session == s.Session {
		other = nil // it tells of its own, which may not be known yet
	}
	if other != nil {
		return other
	}
	if s.Kind != record.SaidContext || s.Span == (span.ID{}) {
		return nil
	}
	k := c.attribution.contexts[span.Link{Trace: s.Trace, Span: s.Span}]
	if k == nil || s.Session != "" && k.agent.session != "" && k.agent.session != s.Session {
		return nil
	}
	if s.Call != "" && (k.id == "" || k.computed) && by.mayTell(k.agent) {
		if key := (callKey{k.session, s.Call}); c.attribution.calls[key] == nil {
			c.attribution.calls[key] = k
			k.id, k.computed = s.Call, false
			if k.basis == inferred {
				k.basis = byTelemetry
			}
			c.recall(k)
		}
	}
	return k
}

// wait keeps a fact until its call is seen, within bounds of time and number.
func (f *facts) wait(c *telemetry, at uint64, s *record.Said, by speaker) {
	key := callKey{s.Session, s.Call}
	if len(f.byCall[key]) >= maxFacts || f.of[by] >= c.config.MaxCalls/maxSaid {
		c.stats.DroppedFacts++
		return
	}
	if f.order.Len() >= c.config.MaxCalls {
		c.dropFact(f.order.Front())
	}
	f.byCall[key] = append(f.byCall[key], f.order.PushBack(&fact{key: key, by: by, at: at, said: *s}))
	f.of[by]++
}

func (f *facts) remove(e *list.Element) *fact {
	x := f.order.Remove(e).(*fact)
	if f.of[x.by]--; f.of[x.by] == 0 {
		delete(f.of, x.by)
	}
	return x
}

func (c *telemetry) dropFact(e *list.Element) {
	key := c.facts.remove(e).key
	c.stats.DroppedFacts++
	// Facts of one call are in the order of the list: the oldest is its first.
	if rest := c.facts.byCall[key][1:]; len(rest) > 0 {
		c.facts.byCall[key] = rest
	} else {
		delete(c.facts.byCall, key)
	}
}

func (c *telemetry) expireFacts() {
	for e := c.facts.order.Front(); e != nil && e.Value.(*fact).at+uint64(c.config.CallRetention) <= c.clock.tick; e = c.facts.order.Front() {
		c.dropFact(e)
	}
}

// recall gives a call the facts that came before it.
func (c *telemetry) recall(k *call) {
	key := callKey{k.agent.session, k.id}
	if key.session == "" || k.id == "" {
		return
	}
	waiting := c.facts.byCall[key]
	delete(c.facts.byCall, key)
	for _, e := range waiting {
		if by := e.Value.(*fact).by.agent; by != nil && by != k.agent && by.session == key.session {
			c.facts.byCall[key] = append(c.facts.byCall[key], e) // of a call of its own
			continue
		}
		f := c.facts.remove(e)
		c.annotate(k, f.at, &f.said, f.by)
	}
}

// annotate adds a fact to a call: on its execute_tool while that is held, later as a span of its own.
func (c *telemetry) annotate(k *call, at uint64, s *record.Said, by speaker) {
	if !by.mayTell(k.agent) {
		// Told, and marked; it changes nothing.
		if k.unverified++; k.unverified > maxUnverified {
			c.stats.RefusedFacts++
			return
		}
		c.attribution.above.sendTelemetry(k, at, s, true)
		return
	}
	if k.tool == "" {
		k.tool = s.Tool
	}
	link := span.Link{Trace: s.Trace, Span: s.Span}
	change := true
	named := k.unnamed && k.id != ""
	k.unnamed = k.unnamed && !named
	switch s.Kind {
	case record.SaidContext:
		if link.Span == (span.ID{}) || link.Trace == (span.TraceID{}) || link == k.top || link == k.extra || k.context == link && k.joined {
			change = false
		} else {
			c.attribution.join(k, link, s.TraceFlags&1 != 0)
			change = !k.joined || k.top != link
		}
		change = change || named && k.spans > 0 // spans have gone out without the id
	case record.SaidDecision:
		change = k.decide(s.Decision, s.Source)
		if k.mark != nil && !k.ran && s.Decision == record.Denied {
			c.attribution.closeMark(k) // no end follows
		}
	case record.SaidResult:
		change = s.Success != record.SuccessUnknown && k.result != s.Success
		if change {
			k.result = s.Success
		}
	}
	own := s.Kind == record.SaidSandbox || s.Kind == record.SaidNetwork
	if own || change && (!k.waiting || k.joined) {
		c.attribution.above.sendTelemetry(k, at, s, false)
	}
}

// decide takes a decision. It says whether that was news.
func (k *call) decide(decision, source string) bool {
	switch {
	case decision == "" || decision == k.approval && (source == k.approvalSource || source == ""):
		return false
	case k.approval == "" || k.approval == decision:
		k.approval, k.approvalSource = decision, source
	default:
		k.approval, k.approvalSource = "conflict", ""
	}
	return true
}
