// SPDX-License-Identifier: Apache-2.0

package terminal

import (
	"cmp"
	"strconv"
	"strings"

	"github.com/sheetbend/sheetbend/collector/span"
)

// maxTold bounds the calls that are remembered; the oldest are forgotten.
const maxTold = 4096

// callKey is a call of an agent.
type callKey struct {
	instance, id string
	began        int64 // 0: of whichever has the id now
}

// calls knows which calls have had their line, and how their first programs ended.
type calls struct {
	told  map[callKey]first
	order []callKey // of their coming
}

// first is the first process of a call.
type first struct {
	pid    int64
	joined bool   // the call is in the agent's own trace
	ending string // "" until it has ended
}

func keyOf(s *span.Span, a span.Attrs) callKey {
	id := span.Clip(cmp.Or(a.Text(span.KeyCallContext), a.Text(span.KeyCallID)), maxPath)
	began, _ := a.Int(span.KeyCallBegan)
	return callKey{span.Clip(s.Instance, maxWord), id, began}
}

func (c *calls) keep(k callKey, f first) {
	if c.told == nil {
		c.told = make(map[callKey]first)
	}
	if _, is := c.told[k]; !is {
		if len(c.order) == maxTold {
			delete(c.told, c.order[0])
			c.order = c.order[1:]
		}
		c.order = append(c.order, k)
	}
	c.told[k] = f
}

// joined is callKey.began of a call whose end its first program has told: in the agent's own trace there is no
// execute_tool, and session.call may wait for what the agent reports.
const joined = -1

// isFirst says whether no span has told of a call's end before.
func (c *calls) isFirst(s *span.Span, a span.Attrs) bool {
	k := keyOf(s, a)
	_, told := c.told[k]
	c.keep(k, first{})
	k.began = joined
	if _, is := c.told[k]; is {
		delete(c.told, k)
		return false
	}
	return !told
}

// ended notes how the first program of a call ended, and says whether nothing else tells of that in time.
func (c *calls) ended(s *span.Span, a span.Attrs) bool {
	k := keyOf(s, a)
	if k.id == "" {
		return false
	}
	k.began = 0
	f, known := c.told[k]
	pid, _ := a.Int(span.KeyPID)
	switch {
	case a.Is(span.KeyCallRoot):
		f = first{pid: pid, joined: s.Remote}
	case !known || f.pid != pid || f.ending != "": // not what the first program became by another exec
		return false
	}
	if a.Is(span.KeyPartial) || a.Is(span.KeyReplaced) {
		c.keep(k, f)
		return false
	}
	f.ending = ending(a)
	c.keep(k, f)
	if f.joined {
		k.began = joined
		c.keep(k, first{})
	}
	return f.joined
}

// ending is how a call ended: by its own span, or by its first program.
func (c *calls) ending(s *span.Span, a span.Attrs) string {
	if code, ok := a.Int(span.KeyCallExitCode); ok {
		return "exit " + strconv.FormatInt(code, 10)
	}
	if signal := short(a, span.KeyCallExitSignal); signal != "" {
		return signal
	}
	k := keyOf(s, a)
	k.began = 0
	defer delete(c.told, k) // the id may be another call's next
	return c.told[k].ending
}

// callTitle is what a call is, for people.
func callTitle(a span.Attrs) string {
	if title := a.Text(span.KeyCallTitle); title != "" {
		return Escape(span.Clip(title, maxCommand))
	}
	// Of a first program: what a shell is given with -c.
	if args := a.List(span.KeyCommandArgs); len(args) > 2 && strings.HasPrefix(args[len(args)-2], "-") && strings.HasSuffix(args[len(args)-2], "c") {
		return Escape(span.Clip(args[len(args)-1], maxCommand))
	} else if len(args) > 0 {
		name, rest := command(a)
		return strings.TrimSpace(name + " " + rest)
	}
	return callName(a)
}

// done is the row of the end of a call.
func (d *drawing) done(s *span.Span, a span.Attrs, how string) row {
	r := row{
		head: Pad("done", verbCells), headStyle: d.p.Cyan, text: callTitle(a), duration: Duration(s.End - s.Start), outcome: how,
		outcomeStyle: d.p.Dim, done: true,
	}
	switch outcome := span.Outcome(a.Text(span.KeyOutcome)); {
	case a.Is(span.KeyApprovalViolated):
		r.outcome = "DENIED, RAN"
	case outcome == span.Refused:
		r.outcome = "denied"
	case how == "" && outcome != "":
		r.outcome = string(outcome)
	}
	if s.Failed {
		r.outcomeStyle = d.p.Alarm
		r.outcome = cmp.Or(r.outcome, "failed")
	}
	return r
}
