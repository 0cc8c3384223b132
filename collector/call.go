// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"container/list"

	"github.com/sheetbend/sheetbend/collector/record"
	"github.com/sheetbend/sheetbend/collector/span"
)

// basis says how a span was tied to its owner.
type basis string

// The values, from strong to weak.
const (
	byMarker    basis = "marker"
	byContext   basis = "trace_context"
	byCallID    basis = "call_id"
	byTelemetry basis = "telemetry"
	inferred    basis = "inferred"
	unannounced basis = "unannounced"
	claimed     basis = "claimed"
	ambiguous   basis = "ambiguous"
	bySession   basis = "session"
	byCgroup    basis = "cgroup"
)

// A call is one tool call of an agent. Its processes point at it for life; the table by id
// keeps it for a while after its end.
type call struct {
	traces // session and call are what its ids are made of

	agent      *agent
	owner      *owner // the agent's session when it began
	id         string // as told in gen_ai.tool.call.id; "" while only its trace context is known
	computed   bool   // the id is ours
	unnamed    bool   // spans may have gone out without its id
	contextual bool   // its ids are made of its trace context
	tool       string
	basis      basis
	outer      *call // it was begun by a process in this one
	root       *call // the outermost of these
	markedBy   markedBy

	first   span.TraceID // the first of its own traces
	top     span.Link    // what its first spans stand under: its execute_tool, or the agent's own span
	joined  bool         // top is the agent's own
	context span.Link    // given to its first process
	extra   span.Link    // the agent's span, known too late or not sampled

	began, ended uint64 // boottime
	processes    int    // that belong to it
	ran          bool   // there was one
	marked       bool   // was opened by a marker at least once
	annotated    bool   // … by a pod's annotation
	mark         *mark  // while open by a marker
	over         bool
	kept         *list.Element // in calls.ended

	waiting bool // its execute_tool is held
	partial bool // … went out before the end

	approval, approvalSource string

	result record.Success
	told   uint64 // tool.telemetry spans

	unverified int // of what nobody knows who said it
}

// callKey names a call: the id of its session on spans, and its own.
type callKey struct{ session, call string }

// callOf gives the call of this id, which is made if there is none.
func (c *attribution) callOf(a *agent, id string, by basis) *call {
	name := id
	k := c.calls[callKey{a.owner.session, name}]
	if k != nil && k.agent != a {
		// Two agents under one session (--session) count their calls alike.
		name = id + " " + span.NestedSession(c.config.BootID, a.first)
		k = c.calls[callKey{a.owner.session, name}]
	}
	if k == nil {
		k = c.newCall(a, id, name, by)
	}
	return k
}

// newCall makes a call; name goes into its ids.
func (c *attribution) newCall(a *agent, id, name string, by basis) *call {
	k := &call{
		traces: newTraces(a.owner.session, name),
		agent:  a, owner: a.owner, id: id, basis: by, began: c.clock.now,
	}
	k.first = k.trace
	k.top = span.Link{Trace: k.trace, Span: span.ToolSpan(k.session, k.call)}
	k.unnamed = id == ""
	c.stats.Calls++
	c.calls[callKey{k.session, k.call}] = k
	c.above.callBegan(k)
	c.telemetry.recall(k)
	return k
}

// join puts the call's spans under the agent's own span, if none has gone elsewhere yet. Where
// that is not sampled, or goes elsewhere, a backend may not have it. An agent within a call is trusted for no trace but its own, and
// none in a trace of the sensor's own, whose ids anyone can compute.
func (c *attribution) join(k *call, l span.Link, sampled bool) {
	if l == k.top {
		return
	}
	if k.agent.outer.agent != nil || l.Trace.Own() {
		sampled = false
	}
	if k.spans > 0 || k.joined || !sampled || c.config.OwnTraces {
		if k.extra == (span.Link{}) {
			k.extra = l
		}
		return
	}
	k.joined, k.foreign = true, true
	k.top, k.trace = l, l.Trace
}

// enter counts a process in. A call may be entered again after its end, when the agent tries it again.
func (k *call) enter() {
	k.processes++
	k.ran = true
	if !k.marked {
		k.over = false
	}
}

// leave counts a process out.
func (c *attribution) leave(k *call) {
	k.processes--
	c.endIfDone(k)
}

// endIfDone ends a call whose last process or marker is gone. A marker's end is the end, whatever the call left running.
func (c *attribution) endIfDone(k *call) {
	if k.over || k.mark != nil || k.processes > 0 && !k.marked {
		return
	}
	k.over, k.ended = true, c.clock.now
	if k.partial {
		k.partial = false
		c.above.sendToolEnd(k)
	}
	if k.kept == nil {
		k.kept = c.endedCalls.PushBack(k)
		k.agent.sandbox.ended++
	} else {
		c.endedCalls.MoveToBack(k.kept)
	}
	for c.endedCalls.Len() > c.config.MaxCalls {
		c.forgetCall(c.oldestEnded(k.agent.sandbox))
	}
}

// oldestEnded gives the ended call to forget for a new one of a sandbox: one of its own if it has more than its share, so that
// many calls of one cost the others none.
func (c *attribution) oldestEnded(sb *aSandbox) *list.Element {
	if sb.ended > c.config.MaxCalls/max(1, c.tree.sandboxCount()) {
		for e := c.endedCalls.Front(); e != nil; e = e.Next() {
			if e.Value.(*call).agent.sandbox == sb {
				return e
			}
		}
	}
	return c.endedCalls.Front()
}

// forgetCall drops an ended call from the tables.
func (c *attribution) forgetCall(e *list.Element) {
	k := c.endedCalls.Remove(e).(*call)
	k.kept = nil
	k.agent.sandbox.ended--
	if !k.over {
		return // entered again; it is kept once more at its next end
	}
	for _, name := range []string{k.call, k.id} {
		if key := (callKey{k.session, name}); c.calls[key] == k {
			delete(c.calls, key)
		}
	}
	if c.contexts[k.context] == k {
		delete(c.contexts, k.context)
	}
}

// expireCalls forgets what ended long ago.
func (c *attribution) expireCalls() {
	for e := c.endedCalls.Front(); e != nil; e = c.endedCalls.Front() {
		if k := e.Value.(*call); k.over && c.clock.tick < k.ended+uint64(c.config.CallRetention) {
			return
		}
		c.forgetCall(e)
	}
}
