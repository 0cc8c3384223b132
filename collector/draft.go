// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"cmp"
	"strings"
	"unicode/utf8"

	"github.com/sheetbend/sheetbend/collector/span"
)

// A draft is the one span in the making; its memory is used again for the next.
type draft struct {
	span     span.Span
	links    [6]span.Link // of one span; more are allocated
	list     []string     // of the one attribute that is a list
	repaired bool
	agent    string // whose resource it has
	box      *aBox  // and of which container; nil: of none
}

// seqAt is where sheetbend.seq stands among a span's attributes. Its value is known when the span is sent.
const seqAt = 1

// place counts a span into its call or session.
func (c *spans) place(sb *aSandbox, w whose) span.TraceID {
	t := &sb.ownerOf(w).traces
	if w.call != nil {
		t = &w.call.traces
	}
	return c.slicer.placeIn(t)
}

// start begins a span of a sandbox in a trace. Times are boottime. The parent is the span's
// parent if it is in the same trace; otherwise the span is a root that links to it.
func (c *spans) start(kind span.Kind, sb *aSandbox, w whose, id span.ID, trace span.TraceID, from, to uint64, parent span.Link) *draft {
	owner := sb.ownerOf(w)
	d := &c.draft
	s := &d.span
	*s = span.Span{
		Trace: trace, ID: id, Kind: kind, Name: kind.String(),
		Start: from + c.clock.offset, End: max(to, from+1000) + c.clock.offset,
		Attrs: s.Attrs[:0], Session: owner.session,
	}
	d.repaired, d.agent, d.box = false, sb.agent, sb.box
	if w.agent != nil {
		d.agent, d.box = w.agent.name, w.agent.box
	}
	links := d.links[:0]
	switch {
	case parent.Span == (span.ID{}):
	case parent.Trace == trace:
		s.Parent = parent.Span
	default:
		links = append(links, parent)
	}
	if w.call != nil && s.Parent == (span.ID{}) && kind != span.Tool {
		if top := w.call.top; top.Trace == trace {
			s.Parent = top.Span
		} else if top != parent {
			links = append(links, top)
		}
	}
	// Within its own trace a root needs no link to the session, and Jaeger would take one for a parent
	// that is missing.
	if s.Parent == (span.ID{}) && owner.link.Trace != trace {
		links = append(links, owner.link)
	}
	s.Remote = w.call != nil && w.call.joined && s.Parent == w.call.top.Span && s.Trace == w.call.top.Trace
	s.Links = links
	d.ours(span.KeyContract, span.Contract)
	d.int(span.KeySeq, 0)
	d.ours(span.KeySandboxID, sb.id)
	d.ours(span.KeySessionID, owner.session)
	if d.agent != "" {
		d.ours(span.KeyAgentName, d.agent)
	}
	d.attribution(sb, w)
	return d
}

// attribution says how the span was tied to whom, and to which call.
func (d *draft) attribution(sb *aSandbox, w whose) {
	by := bySession
	k := w.call
	switch {
	case k != nil:
		by = k.basis
		if k.id != "" {
			d.text(span.KeyCallID, k.id)
		}
		if k.contextual {
			d.ours(span.KeyCallContext, k.call)
		}
		if k.tool != "" {
			d.text(span.KeyToolName, k.tool)
		}
		if k.markedBy != "" {
			d.ours(span.KeyMarkedBy, string(k.markedBy))
		}
	case w.ambiguous:
		by = ambiguous
	case w.agent == nil && !sb.fixed:
		by = byCgroup
	}
	d.ours(span.KeyAttribution, string(by))
	if outer := w.within(); outer.agent != nil {
		d.ours(span.KeyParentSession, sb.ownerOf(outer).session)
		if outer.call != nil && outer.call.id != "" {
			d.text(span.KeyParentCall, outer.call.id)
		}
		root := w.outermost()
		d.ours(span.KeyRootSession, sb.ownerOf(root).session)
		if root.call != nil {
			d.text(span.KeyRootCall, cmp.Or(root.call.id, root.call.call))
		}
	}
}

// process adds what every span of a process carries.
func (d *draft) process(tgid uint32, i *image, g *group) {
	d.box = g.aGroup.box
	d.int(span.KeyPID, int64(tgid))
	if i.shown != "" {
		d.text(span.KeyExecutablePath, i.shown)
		d.text(span.KeyExecutableName, i.name)
	}
	if i.parent != "" {
		d.text(span.KeyParentExecutable, i.parent)
	}
	if g.path != "" {
		d.text(span.KeyCgroup, g.path)
	}
	if i.unknown {
		d.flag(span.KeyUnknownProcess)
	}
}

// ours adds a string that is known to be UTF-8: not from a sandbox.
func (d *draft) ours(key, s string) {
	d.span.Attrs = append(d.span.Attrs, span.Attr{Key: key, Kind: span.StringAttr, Str: s})
}

// text adds a string that may be anything.
func (d *draft) text(key, s string) {
	d.span.Attrs = append(d.span.Attrs, span.Attr{Key: key, Kind: span.StringAttr, Str: d.valid(s)})
}

func (d *draft) int(key string, n int64) {
	d.span.Attrs = append(d.span.Attrs, span.Attr{Key: key, Kind: span.IntAttr, Int: n})
}

func (d *draft) flag(key string) {
	d.span.Attrs = append(d.span.Attrs, span.Attr{Key: key, Kind: span.BoolAttr, Int: 1})
}

func (d *draft) flagIf(set bool, key string) {
	if set {
		d.flag(key)
	}
}

// valid makes text that OTLP takes and remembers that it had to.
func (d *draft) valid(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	d.repaired = true
	return strings.ToValidUTF8(s, "\uFFFD")
}

// rename gives the span a name for people, if that is what the user wants.
func (c *spans) rename(verb, what string) {
	if c.config.ReadableNames && what != "" {
		const maxName = 128
		what = c.draft.valid(what)
		if len(what) > maxName {
			what = strings.ToValidUTF8(what[:maxName], "") + "…"
		}
		c.draft.span.Name = verb + " " + what
	}
}

func (d *draft) fail(why string) {
	d.span.Failed = true
	d.span.Status = why
}

// send hands the draft to the sink, or lets it wait for its container.
func (c *spans) send() {
	d := &c.draft
	if d.repaired {
		d.flag(span.KeyUTF8Repaired)
	}
	if d.box != nil && d.box.state == boxWaiting {
		c.await(&d.span, d.agent, d.box)
		return
	}
	c.emit(&d.span, d.agent, d.box)
}
