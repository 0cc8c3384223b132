// SPDX-License-Identifier: Apache-2.0

package attribution

import (
	"cmp"

	"github.com/sheetbend/sheetbend/collector/record"
	"github.com/sheetbend/sheetbend/collector/span"
)

// sameCall corrects the call that was found for a fact, which may be none: where the agent says that a trace context,
// which a command was given, is that of a call's id.
//
// A command that was started while several marks were open has a call of its own by its context; k, which one of the
// marks has begun, has no process: the two become one, that with the processes. And a command that was taken for the
// only mark's call, which has another id: the fact is not of that.
func (c *Telemetry) sameCall(k *Call, s *record.Said, by source) *Call {
	if k == nil || s.Kind != record.SaidContext || s.Call == "" {
		return k
	}
	given := c.attribution.contexts[span.Link{Trace: s.Trace, Span: s.Span}]
	switch {
	case given == nil || !by.mayReport(k.Agent):
	case given == k && k.ID != "" && k.ID != s.Call:
		return nil
	case given.Agent == k.Agent && given.ID == "" && k.ID == s.Call && k.Marking.marked && !k.Life.Ran:
		c.attribution.merge(k, given)
		return given
	}
	return k
}

// merge has a call that no process is of become another one of the same agent, which has no id.
func (c *Table) merge(k, into *Call) {
	c.Marks.runs(k)
	into.ID, into.Marking, into.Taint = k.ID, k.Marking, cmp.Or(into.Taint, k.Taint)
	into.Life.Left = into.Marking.mark == nil // the mark may have ended before
	if into.Tool == "" {
		into.Tool = k.Tool
	}
	if into.Approval.Decision == "" {
		into.Approval = k.Approval
	}
	if into.Result == record.SuccessUnknown {
		into.Result = k.Result
	}
	if k.Thread != nil && into.Thread == nil {
		c.enter(into, k.Thread)
	}
	for _, name := range []string{k.CallName, k.ID} {
		if key := (callKey{k.SessionName, name}); c.Calls[key] == k {
			delete(c.Calls, key)
		}
	}
	c.Calls[callKey{into.SessionName, into.ID}] = into
	if k.Marking.mark != nil {
		list := c.Marks.listOf(k)
		for i := range *list {
			if (*list)[i] == k {
				(*list)[i] = into
			}
		}
		k.Marking.mark = nil
	}
	c.endIfDone(into) // the mark may have ended before
	if k.Traces.Used() {
		c.endIfDone(k) // something has gone out that stands below it
		return
	}
	c.Above.CallIsAnother(k)
	if k.Life.kept != nil {
		c.endedCalls.Remove(k.Life.kept)
		k.Life.kept = nil
		k.Agent.Sandbox.ended--
	}
	c.Slicer.close(&k.Traces)
}
