// SPDX-License-Identifier: Apache-2.0

package spans

import (
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sheetbend/sheetbend/collector/attribution"
	"github.com/sheetbend/sheetbend/collector/lineage"
	"github.com/sheetbend/sheetbend/collector/mask"
	"github.com/sheetbend/sheetbend/collector/record"
	"github.com/sheetbend/sheetbend/collector/span"
)

// An execSpan is a process.exec span that waits for its end.
type execSpan struct {
	held held
	exec *lineage.ExecStart
}

func (x *execSpan) runOut(c *Spans, at uint64) { c.sendExec(x.exec, at, nil) }

func (x *execSpan) holdOver(c *Spans, at uint64) {
	c.noticeExec(x.exec)
	c.queue.holdOn(&c.queue.long, &x.held, at-uint64(c.config.Hold)+uint64(c.config.MaxLength))
}

// HoldExec has the span of a program wait for its end.
func (c *Spans) HoldExec(x *lineage.ExecStart, at uint64) {
	s := &execSpan{exec: x}
	x.Span = s
	c.agentStarts(x)
	c.queue.hold(&c.queue.brief, &s.held, s, len(x.Args)+len(x.Filename), at+uint64(c.config.Hold))
}

// DropExec forgets a span that waits. One that a notice has told of goes out.
func (c *Spans) DropExec(x *lineage.ExecStart) {
	c.queue.drop(&x.Span.(*execSpan).held)
	if x.Noticed {
		c.sendExec(x, c.clock.Now, nil)
	}
}

// ReplaceProgram sends what there is of a program that an exec replaces.
func (c *Spans) ReplaceProgram(p *lineage.Process, at uint64, by *lineage.Program) {
	p.Child = 0
	if p.Pending != nil && by.Exec != nil {
		pendingOf(p).search.found(by.Exec.Filename)
	}
	c.EndProgram(p, at, lineage.Ending{Replaced: true})
	if p.Pending != nil {
		pending := pendingOf(p)
		pending.folded.files = 0
		clear(pending.missing)
	}
}

// EndProgram sends what there is of a program that ends, where it is the process's own.
func (c *Spans) EndProgram(p *lineage.Process, at uint64, how lineage.Ending) {
	if !how.Replaced {
		c.endCommand(p, at, &how)
		c.passCode(p, &how)
	}
	c.Flush(p)
	if !how.Replaced {
		c.endConnects(p, at)
	}
	i := p.Program
	if !p.Owns(i) {
		if told := c.endWorker(p, at, &how); !told && !how.Replaced {
			c.passCode(p, &lineage.Ending{}) // the failure is that of what the parent runs
		}
		return
	}
	i.Ended = true
	switch {
	case i.Exec != nil:
		c.queue.drop(&i.Exec.Span.(*execSpan).held)
		c.sendExec(i.Exec, at, &how)
	case i.Span != span.ID{}:
		c.sendExit(p, at, how)
	}
}

// passCode has the parent of a process that ends know how, and says of the process whether a child has ended so before.
func (c *Spans) passCode(p *lineage.Process, how *lineage.Ending) {
	code := uint32(0)
	if r := how.Exit; r != nil && r.Status&0x7f == 0 {
		code = r.Status
	}
	how.Child = code != 0 && code == p.Child
	if parent := c.lineage.Processes[p.ParentTgid]; parent != nil && parent.Start == p.ParentStart {
		parent.Child = code
	}
}

// settleExec finds out where the span of a program stands. goesOn says that the program has not ended.
func (c *Spans) settleExec(x *lineage.ExecStart, goesOn bool) {
	p := x.Process
	c.lineage.Resolve(&p.Process)
	c.lineage.FindParent(x)
	if p.Hook != nil && p.Program == x.Program && goesOn {
		c.attribution.HookOver(&p.Process) // it has run no hook for as long as the span was held
	}
}

// noticeExec sends a process.start span. It stands beside the process.exec, but below it where that is a root: then a
// trace has one.
func (c *Spans) noticeExec(x *lineage.ExecStart) {
	c.settleExec(x, true)
	x.Noticed = true
	i, sb := x.Program, &x.Process.Sandbox.Sandbox
	at := spot{i.Trace, x.Parent, x.Top, x.Above}
	if x.Top == (span.ID{}) && x.Parent.Trace != i.Trace {
		at = spot{trace: i.Trace, parent: span.Link{Trace: i.Trace, Span: i.Span}, above: i.Span}
	}
	d := c.out.startNotice(span.Start, sb, i.Owner, i.Span, at, i.Start)
	c.describeExec(d, x)
	c.out.send()
}

// sendExec sends the span; how is nil when the end is not known yet.
func (c *Spans) sendExec(x *lineage.ExecStart, at uint64, how *lineage.Ending) {
	c.settleExec(x, how == nil)
	p, i := x.Process, x.Program
	i.Exec = nil
	d := c.out.start(span.Exec, &p.Sandbox.Sandbox, i.Owner, i.Span, spot{i.Trace, x.Parent, x.Top, x.Above}, i.Start, at)
	if k := i.Owner.Call; x.CallRoot && k != nil && k.Links.Joined { // there is no execute_tool to do it
		d.link(k.Links.Story, span.ToStory)
	}
	c.describeExec(d, x)
	d.flagIf(x.Noticed, span.KeyNoticed)
	c.noise(d, i)
	if how == nil {
		d.flag(span.KeyPartial)
	} else {
		c.ended(d, how, i.PeakBefore)
		c.addProgramNet(d, i)
	}
	c.out.send()
}

// describeExec adds what is known of a program from its start.
func (c *Spans) describeExec(d *builder, x *lineage.ExecStart) {
	p, i := x.Process, x.Program
	c.out.process(p, i, x.Cgroup)

	d.list = appendArgs(d.list[:0], x.Args)
	args := d.list
	short := x.Truncated || uint64(len(args)) < uint64(x.Argc)
	hidden := false
	if !c.config.ShowCredentials {
		var cut bool
		hidden, cut = mask.Args(args)
		short = short || cut
	}
	for n := range args {
		args[n] = d.valid(args[n])
	}
	c.text = appendCommandLine(c.text[:0], args)
	if !argsFit(args) {
		d.int(span.KeyArgsBytes, int64(x.ArgsBytes))
		if !short {
			d.trusted(span.KeyArgsHash, hashArgs(args))
		}
		args, short = cutArgs(args), true
	}
	if len(args) > 0 {
		d.span.Attrs = append(d.span.Attrs, span.Attr{Key: span.KeyCommandArgs, Kind: span.StringsAttr, List: args})
		d.trusted(span.KeyCommandLine, string(c.text))
	}
	if x.Argc > 0 || !x.Preexisting {
		d.int(span.KeyArgsCount, int64(x.Argc))
	}
	d.flagIf(x.CallRoot, span.KeyCallRoot)
	d.flagIf(short, span.KeyArgsTruncated)
	d.flagIf(hidden, span.KeyArgsMasked)
	d.text(span.KeyWorkingDirectory, x.Cwd)
	d.int(span.KeyParentPID, int64(x.Ppid))
	d.int(span.KeyVPID, int64(x.Vpid))
	if x.Credentials {
		d.int(span.KeyUserID, int64(x.Euid))
		d.int(span.KeyGroupID, int64(x.Egid))
	}
	d.int(span.KeyRealUserID, int64(x.Uid))
	if x.Filename != "" && x.Filename != i.Shown {
		d.text(span.KeyRequestedExecutable, x.Filename)
		d.flagScript(x)
	}
	d.flagIf(x.Flags&(record.ExecUnlinked|record.ExecMemfd) != 0, span.KeyFileless)
	d.flagIf(x.Flags&record.ExecSecure != 0, span.KeyPrivilegedExec)
	d.flagIf(x.Preexisting, span.KeyPreexisting)
	d.contradicted(x.Denied)
}

// sendExit sends a process.exit span: the end of an image whose process.exec is gone already.
func (c *Spans) sendExit(p *lineage.Process, at uint64, how lineage.Ending) {
	i := p.Program
	sb := &p.Sandbox.Sandbox
	spot := c.place(sb, i.Owner, i, p.Cgroup, weightOfNet(i))
	d := c.out.start(span.Exit, sb, i.Owner, span.ExitSpan(c.config.BootID, i.ID), spot, i.Start, at)
	c.out.process(p, i, p.Cgroup)
	c.noise(d, i)
	c.ended(d, &how, i.PeakBefore)
	c.addProgramNet(d, i)
	c.out.send()
}

// maxWorkersTold is how many processes that have never called exec, and ended badly, are told of for each program in a
// window of config.Fold. All are counted.
const maxWorkersTold = 32

// endWorker counts a process that ends in the program that forked it, and sends a process.exit span when that was no good
// end. Of one that was to run a program, and exits because it cannot, the refused exec tells. It says whether an Error tells
// of the end.
func (c *Spans) endWorker(p *lineage.Process, at uint64, how *lineage.Ending) (told bool) {
	if how.Replaced {
		return false
	}
	i, w := p.Program, p.Owner()
	i.Workers.Ended++
	if how.Exit == nil || how.Exit.Status == 0 {
		return false
	}
	i.Workers.Failed++
	if p.Refused && how.Exit.Status&0x7f == 0 {
		return p.Told
	}
	if window := at / uint64(c.config.Fold.Window); window != i.Workers.Window {
		i.Workers.Window, i.Workers.Told = window, 0
	}
	if i.Workers.Told >= maxWorkersTold {
		return how.Child // what it ran has told of it
	}
	i.Workers.Told++
	id := span.ExitSpan(c.config.BootID, span.Image{Tgid: p.Tgid, Start: p.Start, ExecID: i.ID.ExecID})
	sb := &p.Sandbox.Sandbox
	d := c.out.start(span.Exit, sb, w, id, c.place(sb, w, i, p.Cgroup, 0), p.Start, at)
	c.out.process(p, i, p.Cgroup)
	d.flag(span.KeyWorker)
	c.ended(d, how, 0)
	c.out.send()
	return true
}

func (d *builder) contradicted(s *attribution.Claims) {
	if s == nil {
		return
	}
	d.flag(span.KeyClaimContradicted)
	for _, t := range []struct{ key, value string }{
		{span.KeyClaimSession, s.Session}, {span.KeyClaimCall, s.Call}, {span.KeyClaimTraceparent, s.Traceparent},
	} {
		if t.value != "" {
			d.text(t.key, t.value)
		}
	}
}

// noise adds what is only counted, and has not been told yet.
func (c *Spans) noise(d *builder, i *lineage.Program) {
	for _, n := range []struct {
		key   string
		count *uint64
	}{
		{span.KeyNoiseOpens, &i.Noise}, {span.KeyMissingOpens, &i.Missing},
		{span.KeyNoiseConnects, &i.NoConnects}, {span.KeyExecsMissing, &i.ExecsMissing},
		{span.KeyWorkers, &i.Workers.Ended}, {span.KeyWorkersFailed, &i.Workers.Failed},
	} {
		if *n.count > 0 {
			d.int(n.key, int64(*n.count))
			*n.count = 0
		}
	}
	d.flagIf(i.Start < c.resumed, span.KeyCountPartial)
}

// Resumed says that what was counted until now, and not sent, may be more than is known: a sensor before counted it.
func (c *Spans) Resumed() { c.resumed = c.clock.Now }

// flagScript tells a script from a program under another name: for a script the kernel puts the
// file that was asked for after the interpreter and its one option, if there is one.
func (d *builder) flagScript(x *lineage.ExecStart) {
	_, rest, _ := strings.Cut(x.Args, "\x00")
	for range 2 {
		arg, after, _ := strings.Cut(rest, "\x00")
		if arg == x.Filename {
			d.text(span.KeyScript, x.Filename)
			return
		}
		rest = after
	}
}

// ended adds what is known of an image's end, and fails the span when it was not a good one, of its own: of what a child
// has ended with, that tells. peakBefore: pages, of what
// the process ran before.
func (c *Spans) ended(d *builder, how *lineage.Ending, peakBefore uint32) {
	d.flagIf(how.Replaced, span.KeyReplaced)
	d.flagIf(how.Unknown, span.KeyExitUnknown)
	r := how.Exit
	if r == nil {
		return
	}
	d.outcome(outcomeOfExit(r.Status))
	if signal := r.Status & 0x7f; signal != 0 {
		name := signalName(signal)
		d.trusted(span.KeyExitSignal, name)
		d.flagIf(r.Status&0x80 != 0, span.KeyCoreDumped)
		d.flagIf(how.KilledForMemory(), span.KeyOOMKilled)
		d.fail("killed by " + name)
	} else {
		code := int64(r.Status >> 8 & 0xff)
		d.int(span.KeyExitCode, code)
		d.flagIf(how.Child, span.KeyExitInherited)
		if code != 0 && !how.Child {
			d.fail("exit code " + strconv.FormatInt(code, 10))
		}
	}
	d.int(span.KeyCPUTime, int64(r.CPU))
	d.int(span.KeyUserTime, int64(r.User))
	d.int(span.KeySystemTime, int64(r.System))
	if r.PeakRSS > uint64(peakBefore) {
		d.int(span.KeyPeakMemory, int64(r.PeakRSS)*int64(c.config.PageBytes))
	}
}

func signalName(n uint32) string {
	if name := unix.SignalName(unix.Signal(n)); name != "" {
		return name
	}
	return "SIG" + strconv.Itoa(int(n))
}

// wallTime is a boottime in ISO 8601 (RFC 3339), in UTC, with nanoseconds.
func (c *Spans) wallTime(at uint64) string {
	t := time.Unix(0, int64(at+c.clock.Offset)).UTC()
	c.text = t.AppendFormat(c.text[:0], time.RFC3339) // which is the fast one
	point := len(c.text) - len("Z")
	c.text = strconv.AppendInt(c.text[:point], 1e9+int64(t.Nanosecond()), 10)
	c.text[point] = '.' // for the 1
	return string(append(c.text, 'Z'))
}
