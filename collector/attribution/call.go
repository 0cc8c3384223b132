// SPDX-License-Identifier: Apache-2.0

package attribution

import (
	"cmp"
	"container/list"
	"slices"
	"strconv"

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
	declared    basis = "declared"
	inferred    basis = "inferred"
	unannounced basis = "unannounced"
	claimed     basis = "claimed"
	StartedBy   basis = "started_by"
	Ambiguous   basis = "ambiguous"
	BySession   basis = "session"
	ByCgroup    basis = "cgroup"
)

// A Call is one tool call of an agent. Its processes point at it for life; the table by id
// keeps it for a while after its end.
type Call struct {
	SessionName, CallName string // by which it is found
	Traces                Traces

	Agent      *agent
	Session    *Session // the agent's session when it began, or the thread's
	Thread     *Thread  // nil: of the agent's own session
	ID         string   // as given in gen_ai.tool.call.id; "" while only its trace context is known
	computed   bool     // the id is ours
	unnamed    bool     // spans may have gone out without its id
	Contextual bool     // its ids are made of its trace context
	Nested     bool     // the id is the agent's own, of what a call of the model has called
	Above      string   // with Nested: the id of that call, by the agent's telemetry; "": not known
	Tool       string
	ByUser     bool // the user has typed the command, by the agent's word
	Basis      basis
	Outer      *Call // it was begun by a process in this one
	root       *Call // the outermost of these

	Links    callLinks
	Life     callLife
	Marking  callMarking
	Sent     callSent
	Approval callApproval
	Taint    *Taint
	Result   record.Success
	Exit     callExit
	First    span.Image // its first process, without an exec id; zero: not known
	Title    string     // "": not known
	Inside   *Inside    // it works in its agent's own process or an MCP server; nil: it runs commands, or is not known to
	Pending  any        // what package spans keeps of it until its session.call is sent
	Files    any        // what package spans keeps of the files that it reads; nil: nothing
}

// callExit is how the first process of a call ended.
type callExit struct {
	Known  bool
	Status uint32 // as wait(2) gives it
}

// callLinks are the traces and spans that a call is in, or belongs to.
type callLinks struct {
	Top     span.Link // what its first spans stand under: its execute_tool, or the agent's own span
	Joined  bool      // Top is the agent's own
	context span.Link // given to its first process
	Extra   span.Link // the agent's span, known too late or not sampled
	Story   span.Link // its session.call
}

// Claimed says whether the call is one that a process has begun by a mark about itself.
func (k *Call) Claimed() bool { return k.Basis == claimed }

// Marked says whether a mark keeps the call open.
func (k *Call) Marked() bool { return k.Marking.mark != nil }

// callLife is when a call was, and what is left of it.
type callLife struct {
	Began, Ended uint64        // boottime
	Processes    int           // that belong to it
	commands     int           // of these, that the agent itself has started, and that run
	Left         bool          // for the agent it is over: what still runs is left over
	Ran          bool          // there was one
	Over         bool          //
	kept         *list.Element // in Table.endedCalls
}

// callMarking says who opened a call by a mark.
type callMarking struct {
	MarkedBy  MarkedBy
	marked    bool // it was opened so at least once
	by        authority
	Annotated bool   // by a pod's annotation
	mark      *Mark  // while it is open
	command   string // the hash of what it is to run, as it was told; "" if it was not
	files     bool   // it was told on which files it is to work
}

// callSent is what has gone out of a call. Package spans keeps it, but for unverified.
type callSent struct {
	Held       any    // its execute_tool, while it is held
	Waiting    bool   // it is held, and what is reported of the call now needs no span of its own
	Noticed    bool   // its tool.start
	Partial    bool   // its execute_tool went out before the end
	Reports    uint64 // tool.telemetry spans
	unverified int    // of these, by nobody knows whom
}

// callApproval is what was decided about a call, and by whom; "": not known.
type callApproval struct{ Decision, Source string }

// Bounds of names that somebody gives, in bytes. What is longer is refused, or cut.
const (
	MaxName = 256 // of a session or call
	MaxTool = 128
)

// callKey names a call: the id of its session on spans, and its own.
type callKey struct{ session, call string }

// callIn gives the call of this id in a thread of the agent (nil: in its own session), which is made if there is none: it
// begins at a time (boottime) then.
func (c *Table) callIn(a *agent, t *Thread, id string, by basis, at uint64) *Call {
	session := a.sessionIn(t).SessionName
	name := id
	k := c.Calls[callKey{session, name}]
	if k != nil && k.Agent != a {
		// Two agents under one session (--session) count their calls alike.
		name = id + " " + a.Traces.Instance()
		k = c.Calls[callKey{session, name}]
	}
	if k == nil && t != nil {
		// Whoever marked it may not know of threads.
		open := slices.Concat(a.open, a.inside)
		if i := slices.IndexFunc(open, func(k *Call) bool { return k.ID == id && k.Thread == nil }); i >= 0 {
			k = open[i]
			c.enter(k, t)
		}
	}
	if k == nil {
		k = c.newCallIn(a, t, id, name, by, at)
	}
	return k
}

func (a *agent) sessionIn(t *Thread) *Session {
	if t != nil {
		return t.Session
	}
	return a.Session
}

// newCallIn makes a call in a thread of the agent; nil: in its own session. Name and the time of the record that begins it
// (boottime) go into its ids: what an agent begins under the name of a call that is forgotten is another call.
func (c *Table) newCallIn(a *agent, t *Thread, id, name string, by basis, at uint64) *Call {
	session := a.sessionIn(t)
	k := &Call{
		SessionName: session.SessionName, CallName: name,
		Agent: a, Session: session, Thread: t, ID: id, Basis: by, Life: callLife{Began: at}, Taint: a.taint,
	}
	c.Slicer.open(&k.Traces, traceKey{instance: a.Traces.Instance(), call: name + " " + strconv.FormatUint(at, 10)})
	k.Links.Top = span.Link{Trace: k.Traces.trace, Span: span.ToolSpan(k.Traces.Instance(), k.Traces.Call(), 0)}
	k.unnamed, k.Nested = id == "", a.nested(id)
	c.stats.Calls++
	c.Calls[callKey{k.SessionName, k.CallName}] = k
	c.Above.CallBegan(k)
	c.Telemetry.deliver(k)
	return k
}

// nested says whether the id of a call is one that the agent made within a call of the model.
func (a *agent) nested(id string) bool { return a.dialect != nil && a.dialect.Env.IsNested(id) }

// join puts the call's spans under the agent's own span, if none has gone elsewhere yet. Where that is not sampled, or
// goes elsewhere, a backend may not have it. An agent within a call is trusted for no trace but its own, and none in a
// trace of the sensor's own, whose ids anyone can compute.
func (c *Table) join(k *Call, l span.Link, sampled bool) {
	if l == k.Links.Top {
		return
	}
	if k.Agent.Outer.Agent != nil || l.Trace.Own() {
		sampled = false
	}
	if k.Traces.Used() && !k.noticeOnly() || k.Links.Joined || !sampled || c.config.OwnTraces || !c.Slicer.join(&k.Traces, l.Trace) {
		if k.Links.Extra == (span.Link{}) {
			k.Links.Extra = l
		}
		return
	}
	k.Links.Joined, k.Links.Top = true, l
}

// noticeOnly says whether nothing but its notice can have gone out of a call: what a mark began, and has run nothing yet,
// as while the user is asked.
func (k *Call) noticeOnly() bool {
	return !k.Life.Ran && k.Sent.Noticed && k.Sent.Reports == 0 && k.Traces.Number == 0 && k.Traces.spans == 1
}

// Own is where its execute_tool stands, if that goes out: also where its spans stand below the agent's own.
func (k *Call) Own() span.Link {
	t := &k.Traces
	return span.Link{Trace: span.TraceFor(t.Instance(), t.Call(), 0), Span: span.ToolSpan(t.Instance(), t.Call(), 0)}
}

// enter counts a process in. A call may be entered again after its end, when the agent tries it again.
func (k *Call) enter() {
	k.Life.Processes++
	k.Life.Ran = true
	if !k.Marking.marked {
		k.Life.Over = false
	}
}

// commandOver is told that a command of the call has ended, which its agent itself has started. With the last one the
// agent has its answer, unless a mark says when that is.
func (k *Call) commandOver() {
	if k.Life.commands--; k.Life.commands == 0 && k.Marking.mark == nil {
		k.Life.Left = true
	}
}

// Name is how spans name the call where they are not its own.
func (k *Call) Name() string { return cmp.Or(k.ID, k.CallName) }

// leave counts a process out.
func (c *Table) leave(k *Call) {
	k.Life.Processes--
	c.endIfDone(k)
	if k.Life.Processes == 0 && k.Life.Over && k.Life.kept == nil {
		c.Slicer.close(&k.Traces)
	}
}

// endIfDone ends a call whose last process or marker is gone. A marker's end is the end, whatever the call left
// running.
func (c *Table) endIfDone(k *Call) {
	if k.Life.Over || k.Marking.mark != nil || k.Life.Processes > 0 && !k.Marking.marked {
		return
	}
	k.Life.Over, k.Life.Ended = true, c.clock.Now
	c.Above.CallEnded(k)
	if k.Life.kept == nil {
		k.Life.kept = c.endedCalls.PushBack(k)
		k.Agent.Sandbox.ended++
	} else {
		c.endedCalls.MoveToBack(k.Life.kept)
	}
	for c.endedCalls.Len() > c.config.MaxCalls {
		c.forgetCall(c.oldestEnded(k.Agent.Sandbox))
	}
}

// oldestEnded gives the ended call to forget for a new one of a sandbox: one of its own if it has more than its share,
// so that many calls of one cost the others none.
func (c *Table) oldestEnded(sb *Sandbox) *list.Element {
	if sb.ended > c.config.MaxCalls/max(1, c.Tree.SandboxCount()) {
		for e := c.endedCalls.Front(); e != nil; e = e.Next() {
			if e.Value.(*Call).Agent.Sandbox == sb {
				return e
			}
		}
	}
	return c.endedCalls.Front()
}

// forgetCall drops an ended call from the tables.
func (c *Table) forgetCall(e *list.Element) {
	k := c.endedCalls.Remove(e).(*Call)
	k.Life.kept = nil
	k.Agent.Sandbox.ended--
	if !k.Life.Over {
		return // entered again; it is kept once more at its next end
	}
	for _, name := range []string{k.CallName, k.ID} {
		if key := (callKey{k.SessionName, name}); c.Calls[key] == k {
			delete(c.Calls, key)
		}
	}
	if c.contexts[k.Links.context] == k {
		delete(c.contexts, k.Links.context)
	}
	if k.Life.Processes == 0 {
		c.Slicer.close(&k.Traces)
	}
}

// Untold says whether a process is the first of a call that is not over, or whose session.call has not been sent: what a
// later process needs to know of the call begins with it.
func (c *Table) Untold() map[span.Image]bool {
	first := make(map[span.Image]bool)
	for _, k := range c.Calls {
		if !k.Life.Over || k.Life.Processes > 0 || k.Pending != nil {
			first[k.First] = true
		}
	}
	return first
}

// expireCalls forgets what ended long ago.
func (c *Table) expireCalls() {
	for e := c.endedCalls.Front(); e != nil; e = c.endedCalls.Front() {
		if k := e.Value.(*Call); k.Life.Over && c.clock.Tick < k.Life.Ended+uint64(c.config.CallRetention) {
			return
		}
		c.forgetCall(e)
	}
}
