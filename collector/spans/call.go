// SPDX-License-Identifier: Apache-2.0

package spans

import (
	"cmp"

	"github.com/sheetbend/sheetbend/collector/attribution"
	"github.com/sheetbend/sheetbend/collector/lineage"
	"github.com/sheetbend/sheetbend/collector/record"
	"github.com/sheetbend/sheetbend/collector/span"
)

// calls makes the spans of calls, as attribution asks for them.
type calls struct{ spans *Spans }

// A callSpan is an execute_tool span that waits.
type callSpan struct {
	held    held
	call    *attribution.Call
	noticed bool
}

// holdOver is called a hold after the begin of a call, even if that has ended before: what the agent's telemetry says
// comes after. Of one that goes on it is called again, a hold after its end.
func (s *callSpan) holdOver(c *Spans, at uint64) {
	k := s.call
	until := k.Life.Began + uint64(c.config.MaxLength)
	if k.Links.Joined || k.Life.Over || at >= until {
		s.runOut(c, at)
		return
	}
	k.Sent.Waiting = false
	if !s.noticed {
		s.noticed, k.Sent.Noticed = true, true
		w := attribution.Owner{Agent: k.Agent, Call: k}
		at := c.place(k.Agent.Sandbox, w, nil, nil, maxTitleBytes)
		d := c.out.startNotice(span.ToolStart, k.Agent.Sandbox, w, k.Links.Top.Span, at, k.Life.Began)
		calls{c}.describeCall(d, k)
		c.out.send()
	}
	c.queue.holdOn(&c.queue.long, &s.held, until)
}

// runOut sends the execute_tool span.
func (s *callSpan) runOut(c *Spans, at uint64) {
	k := s.call
	k.Sent.Held, k.Sent.Waiting = nil, false
	if k.Links.Joined && !s.noticed {
		return // the agent's own span is there
	}
	to := k.Life.Ended
	if !k.Life.Over {
		k.Sent.Partial = true
		to = at
	}
	own := k.Own()
	d := c.out.start(span.Tool, k.Agent.Sandbox, attribution.Owner{Agent: k.Agent, Call: k}, own.Span, spot{trace: own.Trace}, k.Life.Began, to)
	if k.Outer != nil {
		d.span.Links = append(d.span.Links, topOf(k.Outer))
	}
	if k.Links.Joined {
		d.link(k.Links.Top, span.ToAgent)
	}
	if k.Links.Extra != (span.Link{}) {
		d.span.Links = append(d.span.Links, span.Ref{Link: k.Links.Extra, Rel: span.ToAgent})
	}
	calls{c}.describeCall(d, k)
	d.flagIf(s.noticed, span.KeyNoticed)
	d.flagIf(k.Sent.Partial, span.KeyPartial)
	c.out.send()
}

// CallEnded has execute_tool go out when what telemetry says of the end is known, or tells the end where it went out
// before.
func (c calls) CallEnded(k *attribution.Call) {
	c.spans.endCall(k, k.Life.Ended) // where its first process has not ended it
	q := &c.spans.queue
	if s, ok := k.Sent.Held.(*callSpan); ok && s.held.in == &q.long {
		k.Sent.Waiting = true
		q.holdOn(&q.brief, &s.held, k.Life.Ended+uint64(c.spans.config.Hold))
	}
	if !k.Sent.Partial {
		return
	}
	k.Sent.Partial = false
	w := attribution.Owner{Agent: k.Agent, Call: k}
	d := c.spans.out.start(span.ToolEnd, k.Agent.Sandbox, w, span.ToolEndSpan(k.Traces.Instance(), k.Traces.Call()),
		c.spans.place(k.Agent.Sandbox, w, nil, nil, maxTitleBytes), k.Life.Began, k.Life.Ended)
	c.describeCall(d, k)
	c.spans.out.send()
}

// describeCall adds what is known of the call as a whole.
func (c calls) describeCall(d *builder, k *attribution.Call) {
	if d.span.Kind != span.Telemetry {
		d.text(span.KeyGenAIToolName, cmp.Or(k.Tool, "unknown"))
	}
	if d.span.Kind == span.Tool || d.span.Kind == span.ToolStart {
		if k.Tool != "" {
			d.span.Name += " " + d.valid(k.Tool)
		}
		if d.span.Kind == span.Tool { // what reads only this counts one
			d.text(span.KeyOperationName, "execute_tool")
		}
		conversation := k.Agent.OwnID
		if k.Thread != nil {
			conversation = k.Thread.ID
		}
		if conversation == "" {
			conversation = k.SessionName
		}
		d.text(span.KeyConversationID, conversation)
		d.text(span.KeyGenAIAgentName, k.Agent.Name)
	}
	if d.span.Kind != span.Telemetry {
		d.int(span.KeyCallBegan, int64(k.Life.Began))
		d.trusted(span.KeyCallTitle, titleOf(k))
	}
	if said := k.Declared(); said == attribution.Undeclared || k.Life.Began >= c.spans.resumed {
		d.declared(said)
	}
	approval := k.Approval.Decision
	if approval == "" {
		approval = "unknown"
	}
	d.text(span.KeyApproval, approval)
	if k.Approval.Source != "" {
		d.text(span.KeyApprovalSource, k.Approval.Source)
	}
	d.outcome(outcomeOfCall(k))
	switch k.Result {
	case record.SuccessOK:
		d.text(span.KeyToolResult, "ok")
	case record.SuccessFailed:
		d.text(span.KeyToolResult, "failed")
		d.fail("the tool failed")
	}
	if k.Approval.Decision == record.Denied && k.Life.Ran {
		d.flag(span.KeyApprovalViolated)
		d.fail("denied, but it ran")
	}
}

// kindSaid names the kinds on spans.
func kindSaid(k record.SaidKind) string {
	switch k {
	case record.SaidContext:
		return "context"
	case record.SaidDecision:
		return "decision"
	case record.SaidResult:
		return "result"
	case record.SaidSandbox:
		return "sandbox"
	case record.SaidNetwork:
		return "network"
	}
	return "other"
}

func (c calls) SendTelemetry(k *attribution.Call, at uint64, s *record.Said, unverified bool) {
	if k.Sent.Reports >= attribution.MaxReports {
		c.spans.attribution.Telemetry.Dropped()
		return
	}
	k.Sent.Reports++
	if k.Links.Joined && k.Life.Over {
		at = min(at, k.Life.Ended) // within the agent's span: Jaeger takes what is outside for another host's
	}
	at = max(at, k.Life.Began)
	id := span.TelemetrySpan(k.Traces.Instance(), k.Traces.Call(), k.Sent.Reports)
	w := attribution.Owner{Agent: k.Agent, Call: k, Taint: k.Agent.Tainted()}
	weight := weightOf(s.Decision) + weightOf(s.Source) + weightOf(s.Detail)
	d := c.spans.out.start(span.Telemetry, k.Agent.Sandbox, w, id, c.spans.place(k.Agent.Sandbox, w, nil, nil, weight+maxTitleBytes), at, at)
	if link := (span.Link{Trace: s.Trace, Span: s.Span}); s.Trace != (span.TraceID{}) && s.Span != (span.ID{}) && link != k.Links.Top {
		d.span.Links = append(d.span.Links, span.Ref{Link: link, Rel: span.ToAgent})
	}
	d.text(span.KeyTelemetryKind, kindSaid(s.Kind))
	d.flagIf(unverified, span.KeyTelemetryUnverified)
	for _, t := range []struct{ key, value string }{
		{span.KeyTelemetryWord, s.Decision}, {span.KeyTelemetrySource, s.Source}, {span.KeyTelemetryDetail, s.Detail},
	} {
		if t.value != "" {
			d.text(t.key, t.value)
		}
	}
	c.describeCall(d, k)
	c.spans.out.send()
}

func (c calls) CallBegan(k *attribution.Call) {
	c.spans.beginCall(k)
	s := &callSpan{call: k}
	q := &c.spans.queue
	q.hold(&q.brief, &s.held, s, len(k.ID), k.Life.Began+uint64(c.spans.config.Hold))
	k.Sent.Held, k.Sent.Waiting = s, true
}

func (c calls) Flush(p *attribution.Process) { c.spans.Flush(c.spans.lineage.Processes[p.Tgid]) }

// CallIsAnother drops what waits of a call.
func (c calls) CallIsAnother(k *attribution.Call) {
	if s, ok := k.Sent.Held.(*callSpan); ok {
		c.spans.queue.drop(&s.held)
	}
	k.Sent.Held, k.Sent.Waiting = nil, false
	c.spans.dropCall(k)
}

func (c calls) MayName(agent string) bool {
	return len(c.spans.out.resources) < maxResources || c.spans.out.resources[agent] != nil
}

// FlushMarked sends what is counted, so that those of two calls do not become one.
func (c calls) FlushMarked(m *attribution.Mark) {
	switch {
	case m.Process != nil:
		c.spans.Flush(c.spans.lineage.Processes[m.Process.Tgid])
	case m.Group != nil:
		for _, p := range c.spans.lineage.Inside(c.spans.lineage.Cgroups[m.Group.ID]) {
			c.spans.Flush(p)
		}
	}
}

// Reassign gives what is not sent yet of processes, and of their program, to whom they belong. The program stays where it
// is if something under it has gone out, or waits and does not move.
func (c calls) Reassign(members []*attribution.Process) {
	var all []*lineage.Process
	for _, a := range members {
		all = append(all, c.spans.lineage.Processes[a.Tgid])
	}
	if i := all[0].Program; i.Exec != nil {
		for _, p := range all {
			i.Below -= c.waiting(p, i)
		}
	}
	for n, p := range all {
		c.reassign(p, n == 0)
	}
}

// waiting says how many spans wait of a process, below a program, that can be moved.
func (c calls) waiting(p *lineage.Process, i *lineage.Program) (n int) {
	pending := pendingOf(p)
	for s := pending.opens.first; s != nil; s = s.next {
		if s.program == i {
			n++
		}
	}
	for e := pending.lookups.Front(); e != nil; e = e.Next() {
		if e.Value.(*lookup).span.program == i {
			n++
		}
	}
	for _, s := range pending.counted {
		if s.program == i {
			n++
		}
	}
	for _, s := range pending.changes {
		if s.program == i {
			n += len(s.first)
		}
	}
	return n
}

func (c calls) reassign(p *lineage.Process, first bool) {
	w := p.Owner()
	if i := p.Program; p.Owns(i) && i.Owner != w && !i.Ended {
		if x := i.Exec; x != nil {
			i.Owner = w
			x.CallRoot = first && w.Call != nil
			c.spans.PlaceProgram(x, nil)
		}
	}
	for s := pendingOf(p).opens.first; s != nil; s = s.next {
		if s.program == p.Program {
			s.owner, s.spot = w, c.spans.place(&p.Sandbox.Sandbox, w, s.program, s.cgroup, weightOf(s.key.path)+weightOf(s.requested))
		}
	}
	for e := pendingOf(p).lookups.Front(); e != nil; e = e.Next() {
		if s := e.Value.(*lookup).span; s.program == p.Program {
			a := &s.key.event
			s.owner, a.dns.owner = w, w
			s.spot = c.spans.place(&p.Sandbox.Sandbox, w, s.program, s.cgroup, weightOf(a.dns.name)+answersWeight(a.kind))
		}
	}
	for _, s := range pendingOf(p).counted {
		if a := &s.key.event; s.program == p.Program {
			weight := weightOf(a.executable) + weightOf(a.path) + weightOf(a.dns.name) + answersWeight(a.kind)
			s.owner, s.spot = w, c.spans.place(&p.Sandbox.Sandbox, w, s.program, s.cgroup, weight)
		}
	}
	for _, s := range pendingOf(p).changes {
		if s.program == p.Program {
			s.owner = w
			for i := range s.first {
				c.spans.placeChange(p, w, &s.first[i])
			}
		}
	}
}
