// SPDX-License-Identifier: Apache-2.0

package spans

import (
	"cmp"
	"encoding/hex"
	"strings"
	"unicode/utf8"

	"github.com/sheetbend/sheetbend/collector/attribution"
	"github.com/sheetbend/sheetbend/collector/config"
	"github.com/sheetbend/sheetbend/collector/lineage"
	"github.com/sheetbend/sheetbend/collector/span"
)

// A builder is the one span in the making; its memory is used again for the next.
type builder struct {
	span      span.Span
	links     [6]span.Ref // of one span; more are allocated
	list      []string    // of the one attribute that is a list
	repaired  bool
	each      bool // what all agents around it are told, too
	owner     attribution.Owner
	sandbox   *attribution.Sandbox
	agent     string                 // whose resource it has
	container *attribution.Container // and of which container; nil: of none
	cwd       string                 // the working directory of the program at its exec; "": not known
}

// seqAt is where sheetbend.seq stands among a span's attributes. Its value is known when the span is sent.
const seqAt = 1

// start begins a span of a sandbox at a spot. Times are boottime. The parent is the span's parent if it is in the same
// trace; otherwise the span links to it, and stands under its call's first span. Without that it is a root.
func (c *out) start(kind span.Kind, sb *attribution.Sandbox, w attribution.Owner, id span.ID, at spot, from, to uint64) *builder {
	owner := sb.SessionOf(w)
	d := &c.builder
	s := &d.span
	*s = span.Span{
		Trace: at.trace, ID: id, Kind: kind, Name: kind.String(),
		Start: from + c.spans.clock.Offset, End: max(to, from+1000) + c.spans.clock.Offset,
		Attrs: s.Attrs[:0], Session: owner.SessionName, Instance: sb.TracesOf(w).Instance(),
	}
	d.repaired, d.each, d.owner, d.sandbox, d.agent, d.container, d.cwd = false, false, w, sb, sb.Agent, sb.Container, ""
	if w.Agent != nil {
		d.agent, d.container = w.Agent.Name, w.Agent.Container
	}
	links := d.links[:0]
	switch {
	case at.parent.Span == (span.ID{}):
	case at.parent.Trace == at.trace:
		s.Parent = at.parent.Span
	default:
		links = append(links, span.Ref{Link: at.parent, Rel: span.ToParent})
	}
	s.Above = at.above
	if s.Parent == (span.ID{}) && at.top != (span.ID{}) {
		if s.Parent = at.top; w.Call != nil {
			s.Above = w.Call.Links.Top.Span
		} else {
			s.Above = storyOf(w).first.Span
		}
	}
	if s.Parent == (span.ID{}) && w.Agent != nil {
		story := firstSession(w.Agent.Traces.Instance())
		if w.Call != nil {
			story = w.Call.Links.Story
		}
		if story.Span != id {
			links = append(links, span.Ref{Link: story, Rel: span.ToStory})
		}
	}
	s.Remote = w.Call != nil && w.Call.Links.Joined && s.Parent == w.Call.Links.Top.Span && s.Trace == w.Call.Links.Top.Trace
	s.Links = links
	d.trusted(span.KeyContract, span.Contract)
	d.int(span.KeySeq, 0)
	d.trusted(span.KeyEvent, kind.String())
	d.trusted(span.KeyRun, c.spans.config.Run)
	d.trusted(span.KeySandboxID, sb.ID)
	d.trusted(span.KeyInstance, sb.TracesOf(w).Instance())
	d.trusted(span.KeySessionID, owner.SessionName)
	if d.agent != "" {
		d.trusted(span.KeyAgentName, d.agent)
	}
	d.attribution(sb, w)
	return d
}

// topOf is the link to what the first spans of a call stand under.
func topOf(k *attribution.Call) span.Ref {
	if k.Links.Joined {
		return span.Ref{Link: k.Links.Top, Rel: span.ToAgent}
	}
	return span.Ref{Link: k.Links.Top, Rel: span.ToCall}
}

// startNotice begins the notice of a span that began at a time (boottime) and has the id of.
func (c *out) startNotice(
	kind span.Kind, sb *attribution.Sandbox, w attribution.Owner, of span.ID, at spot, from uint64,
) *builder {
	d := c.start(kind, sb, w, span.NoticeSpan(of), at, from, from)
	d.trusted(span.KeyNoticeOf, hex.EncodeToString(of[:]))
	return d
}

// attribution says how the span was tied to whom, and to which call.
func (d *builder) attribution(sb *attribution.Sandbox, w attribution.Owner) {
	by := attribution.BySession
	k := w.Call
	switch {
	case k != nil:
		if by = k.Basis; w.Left {
			by = attribution.StartedBy
			d.text(span.KeyStartedBy, k.Name())
		}
		if k.ID != "" {
			d.text(span.KeyCallID, k.ID)
		}
		if k.Contextual {
			d.trusted(span.KeyCallContext, k.CallName)
		}
		if k.ByUser {
			d.trusted(span.KeyCallOrigin, "user")
		}
		if k.Tool != "" {
			d.text(span.KeyToolName, k.Tool)
		}
		if k.Inside != nil && k.Inside.Server != "" {
			d.text(span.KeyMCPServer, k.Inside.Server)
		}
		if k.Marking.MarkedBy != "" {
			d.trusted(span.KeyMarkedBy, string(k.Marking.MarkedBy))
		}
	case w.Ambiguous, w.Agent != nil && w.Agent.Several():
		by = attribution.Ambiguous
	case w.Agent == nil && !sb.Fixed:
		by = attribution.ByCgroup
	}
	d.trusted(span.KeyAttribution, string(by))
	taint := w.Taint
	if taint == nil && k != nil {
		taint = k.Taint
	}
	if taint != nil {
		d.flag(span.KeyTainted)
		d.textIf(span.KeyTaintedCall, taint.Call)
		d.int(span.KeyTaintedPID, int64(taint.Tgid))
	}
	outer := w.Within()
	session, call := "", ""
	if outer.Agent != nil {
		session = sb.SessionOf(outer).SessionName
	}
	if outer.Call != nil {
		call = outer.Call.ID
	}
	if k != nil && k.Thread != nil && k.Thread.Parent != "" {
		session, call = k.Thread.Parent, k.Thread.Call
	}
	if k != nil && k.Nested {
		d.trusted(span.KeyCallIDLevel, "nested")
		call = cmp.Or(k.Above, call)
	}
	if session != "" {
		d.text(span.KeyParentSession, session)
	}
	if call != "" {
		d.text(span.KeyParentCall, call)
	}
	switch root := w.Outermost(); {
	case outer.Agent != nil:
		d.trusted(span.KeyRootSession, sb.SessionOf(root).SessionName)
		if root.Call != nil {
			d.text(span.KeyRootCall, cmp.Or(root.Call.ID, root.Call.CallName))
		}
	case session != "":
		d.text(span.KeyRootSession, session)
	}
}

// declared adds what comparing with what was declared has said, if there is anything.
func (d *builder) declared(said attribution.Declared) {
	if said != attribution.DeclaredNothing {
		d.trusted(span.KeyDeclared, said.String())
	}
}

// process adds what every span of a process carries.
func (c *out) process(p *lineage.Process, i *lineage.Program, g *lineage.Cgroup) {
	pending := pendingOf(p)
	if pending.created == "" {
		pending.created = c.spans.wallTime(p.Start)
	}
	c.builder.process(p.Tgid, pending.created, i, g)
}

func (d *builder) process(tgid uint32, created string, i *lineage.Program, g *lineage.Cgroup) {
	d.cwd = i.Cwd
	d.span.OfProgram, d.span.User = true, i.User
	d.int(span.KeyPID, int64(tgid))
	d.trusted(span.KeyCreationTime, created)
	text := d.text
	if weightOfProgram(i) == len(i.Shown)+len(i.Name)+len(i.Parent) { // all of them are UTF-8
		text = d.trusted
	}
	if i.Shown != "" {
		text(span.KeyExecutablePath, i.Shown)
		text(span.KeyExecutableName, i.Name)
	}
	if i.Parent != "" {
		text(span.KeyParentExecutable, i.Parent)
	}
	if i.Known != "" {
		d.trusted(span.KeyKnown, i.Known)
	}
	if g != nil {
		d.container = g.Cgroup.Container
		if g.Path != "" {
			d.text(span.KeyCgroup, g.Path)
		}
	}
	if i.Unknown {
		d.flag(span.KeyUnknownProcess)
	}
}

// trusted adds a string that is known to be UTF-8: not from a sandbox.
func (d *builder) trusted(key, s string) {
	d.span.Attrs = append(d.span.Attrs, span.Attr{Key: key, Kind: span.StringAttr, Str: s})
}

// text adds a string that may be anything.
func (d *builder) text(key, s string) {
	d.span.Attrs = append(d.span.Attrs, span.Attr{Key: key, Kind: span.StringAttr, Str: d.valid(s)})
}

func (d *builder) int(key string, n int64) {
	d.span.Attrs = append(d.span.Attrs, span.Attr{Key: key, Kind: span.IntAttr, Int: n})
}

func (d *builder) flag(key string) {
	d.span.Attrs = append(d.span.Attrs, span.Attr{Key: key, Kind: span.BoolAttr, Int: 1})
}

func (d *builder) flagIf(set bool, key string) {
	if set {
		d.flag(key)
	}
}

// textIf adds a string that may be anything, if it is not empty.
func (d *builder) textIf(key, s string) {
	if s != "" {
		d.text(key, s)
	}
}

// strings adds a list that may be anything, if it is not empty: one for each span.
func (d *builder) strings(key string, list []string) {
	d.list = d.list[:0]
	for _, s := range list {
		d.list = append(d.list, d.valid(s))
	}
	if len(d.list) > 0 {
		d.span.Attrs = append(d.span.Attrs, span.Attr{Key: key, Kind: span.StringsAttr, List: d.list})
	}
}

// folded says that the span's path is a directory, and what the first files of it are called.
func (d *builder) folded(names []string) {
	d.flag(span.KeyFolded)
	d.strings(span.KeyFoldedNames, names)
}

// valid makes text that OTLP takes and remembers that it had to.
func (d *builder) valid(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	d.repaired = true
	return strings.ToValidUTF8(s, "\uFFFD")
}

func (d *builder) fail(why string) {
	d.span.Failed = true
	d.span.Status = why
}

// send counts the span and hands it to the sink, or lets it wait for its container.
func (c *out) send() {
	d := &c.builder
	if d.repaired {
		d.flag(span.KeyUTF8Repaired)
	}
	c.count()
	switch c.spans.config.SpanNames {
	case config.NamesVerbs:
		d.span.Name = verb(&d.span)
	case config.NamesReadable:
		d.span.Name = readable(&d.span, d.cwd)
	}
	if d.container != nil && d.container.State == attribution.ContainerWaiting {
		c.await(&d.span, d.agent, d.container)
		return
	}
	c.emit(&d.span, d.agent, d.container)
}
