// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"github.com/sheetbend/sheetbend/collector/record"
	"github.com/sheetbend/sheetbend/collector/span"
)

// A callSpan is an execute_tool span that waits.
type callSpan struct {
	held held
	call *call
}

// runOut sends the execute_tool span. It waits the whole hold even if the call ends
// before: what the agent's telemetry says comes after.
func (s *callSpan) runOut(c *spans) {
	k := s.call
	k.waiting = false
	if k.joined {
		return // the agent's own span is there
	}
	to := k.ended
	if !k.over {
		k.partial = true
		to = c.clock.tick
	}
	d := c.start(span.Tool, k.agent.sandbox, whose{agent: k.agent, call: k}, k.top.Span, k.top.Trace, k.began, to, span.Link{})
	if k.outer != nil {
		d.span.Links = append(d.span.Links, k.outer.top)
	}
	if k.extra != (span.Link{}) {
		d.span.Links = append(d.span.Links, k.extra)
	}
	c.describeCall(d, k)
	d.flagIf(k.partial, span.KeyPartial)
	c.send()
}

// sendToolEnd tells the end of a call whose execute_tool went out before.
func (c *spans) sendToolEnd(k *call) {
	d := c.start(span.ToolEnd, k.agent.sandbox, whose{agent: k.agent, call: k}, span.ToolEndSpan(k.session, k.call), c.slicer.placeIn(&k.traces),
		k.began, k.ended, k.top)
	c.describeCall(d, k)
	c.send()
}

// describeCall adds what is known of the call as a whole.
func (c *spans) describeCall(d *draft, k *call) {
	if d.span.Kind == span.Tool {
		if k.tool != "" {
			d.span.Name += " " + d.valid(k.tool)
			d.text(span.KeyGenAIToolName, k.tool)
		}
		d.text(span.KeyOperationName, "execute_tool")
		conversation := k.agent.session
		if conversation == "" {
			conversation = k.session
		}
		d.text(span.KeyConversationID, conversation)
		d.text(span.KeyGenAIAgentName, k.agent.name)
	}
	approval := k.approval
	if approval == "" {
		approval = "unknown"
	}
	d.text(span.KeyApproval, approval)
	if k.approvalSource != "" {
		d.text(span.KeyApprovalSource, k.approvalSource)
	}
	switch k.result {
	case record.SuccessOK:
		d.text(span.KeyToolResult, "ok")
	case record.SuccessFailed:
		d.text(span.KeyToolResult, "failed")
		d.fail("the tool failed")
	}
	if k.approval == record.Denied && k.ran {
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

func (c *spans) sendTelemetry(k *call, at uint64, s *record.Said, unverified bool) {
	if k.told >= maxTold {
		c.attribution.stats.DroppedFacts++
		return
	}
	k.told++
	if k.joined && k.over {
		at = min(at, k.ended) // within the agent's span: Jaeger takes what is outside for another host's
	}
	at = max(at, k.began)
	id := span.TelemetrySpan(k.session, k.call, k.told)
	d := c.start(span.Telemetry, k.agent.sandbox, whose{agent: k.agent, call: k}, id, c.slicer.placeIn(&k.traces), at, at, k.top)
	if link := (span.Link{Trace: s.Trace, Span: s.Span}); s.Trace != (span.TraceID{}) && s.Span != (span.ID{}) && link != k.top {
		d.span.Links = append(d.span.Links, link)
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
	c.send()
}
