// SPDX-License-Identifier: Apache-2.0

package spans

import (
	"github.com/sheetbend/sheetbend/collector/attribution"
	"github.com/sheetbend/sheetbend/collector/record"
	"github.com/sheetbend/sheetbend/collector/span"
)

// A callSpan is an execute_tool span that waits.
type callSpan struct {
	held held
	call *attribution.Call
}

// runOut sends the execute_tool span. It waits the whole hold even if the call ends
// before: what the agent's telemetry says comes after.
func (s *callSpan) runOut(c *Spans) {
	k := s.call
	k.Waiting = false
	if k.Joined {
		return // the agent's own span is there
	}
	to := k.Ended
	if !k.Over {
		k.Partial = true
		to = c.clock.Tick
	}
	d := c.out.start(span.Tool, k.Agent.Sandbox, attribution.Owner{Agent: k.Agent, Call: k}, k.Top.Span, k.Top.Trace, k.Began, to, span.Link{})
	if k.Outer != nil {
		d.span.Links = append(d.span.Links, k.Outer.Top)
	}
	if k.Extra != (span.Link{}) {
		d.span.Links = append(d.span.Links, k.Extra)
	}
	c.describeCall(d, k)
	d.flagIf(k.Partial, span.KeyPartial)
	c.out.send()
}

// SendToolEnd tells the end of a call whose execute_tool went out before.
func (c *Spans) SendToolEnd(k *attribution.Call) {
	d := c.out.start(span.ToolEnd, k.Agent.Sandbox, attribution.Owner{Agent: k.Agent, Call: k}, span.ToolEndSpan(k.SessionName, k.CallName), c.slicer.PlaceIn(&k.Traces),
		k.Began, k.Ended, k.Top)
	c.describeCall(d, k)
	c.out.send()
}

// describeCall adds what is known of the call as a whole.
func (c *Spans) describeCall(d *builder, k *attribution.Call) {
	if d.span.Kind == span.Tool {
		if k.Tool != "" {
			d.span.Name += " " + d.valid(k.Tool)
			d.text(span.KeyGenAIToolName, k.Tool)
		}
		d.text(span.KeyOperationName, "execute_tool")
		conversation := k.Agent.OwnID
		if conversation == "" {
			conversation = k.SessionName
		}
		d.text(span.KeyConversationID, conversation)
		d.text(span.KeyGenAIAgentName, k.Agent.Name)
	}
	approval := k.Approval
	if approval == "" {
		approval = "unknown"
	}
	d.text(span.KeyApproval, approval)
	if k.ApprovalSource != "" {
		d.text(span.KeyApprovalSource, k.ApprovalSource)
	}
	switch k.Result {
	case record.SuccessOK:
		d.text(span.KeyToolResult, "ok")
	case record.SuccessFailed:
		d.text(span.KeyToolResult, "failed")
		d.fail("the tool failed")
	}
	if k.Approval == record.Denied && k.Ran {
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

func (c *Spans) SendTelemetry(k *attribution.Call, at uint64, s *record.Said, unverified bool) {
	if k.Reports >= attribution.MaxReports {
		c.attribution.Telemetry.Dropped()
		return
	}
	k.Reports++
	if k.Joined && k.Over {
		at = min(at, k.Ended) // within the agent's span: Jaeger takes what is outside for another host's
	}
	at = max(at, k.Began)
	id := span.TelemetrySpan(k.SessionName, k.CallName, k.Reports)
	d := c.out.start(span.Telemetry, k.Agent.Sandbox, attribution.Owner{Agent: k.Agent, Call: k}, id, c.slicer.PlaceIn(&k.Traces), at, at, k.Top)
	if link := (span.Link{Trace: s.Trace, Span: s.Span}); s.Trace != (span.TraceID{}) && s.Span != (span.ID{}) && link != k.Top {
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
	c.out.send()
}
