// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sheetbend/sheetbend/collector/mask"
	"github.com/sheetbend/sheetbend/collector/record"
	"github.com/sheetbend/sheetbend/collector/span"
)

// An execSpan is a process.exec span that waits for its end.
type execSpan struct {
	held held
	exec *execStart
}

func (x *execSpan) runOut(c *spans) {
	c.sendExec(x.exec, c.clock.tick, nil)
}

func (c *spans) holdExec(x *execStart) {
	s := &execSpan{exec: x}
	x.span = s
	c.hold(&s.held, s, len(x.args)+len(x.filename))
}

func (c *spans) dropExec(x *execStart) { c.held.remove(&x.span.(*execSpan).held) }

// replaceProgram sends what there is of a program that an exec replaces.
func (c *spans) replaceProgram(p *process, at uint64) {
	c.endProgram(p, at, ending{replaced: true})
	if p.pending != nil {
		pendingOf(p).filesRead = 0
	}
}

// endProgram sends what there is of a program that ends, where it is the process's own.
func (c *spans) endProgram(p *process, at uint64, how ending) {
	c.flush(p)
	i := p.image
	if !p.owns(i) {
		return
	}
	i.ended = true
	switch {
	case i.exec != nil:
		c.dropExec(i.exec)
		c.sendExec(i.exec, at, &how)
	case i.span != span.ID{}:
		c.sendExit(p, at, how)
	}
}

// sendExec sends the span; how is nil when the end is not known yet.
func (c *spans) sendExec(x *execStart, at uint64, how *ending) {
	c.lineage.findParent(x)
	p, i := x.process, x.image
	c.lineage.settle(&p.aProcess)
	if p.hook != nil && p.image == i && how == nil {
		c.attribution.hookOver(&p.aProcess) // it has run no hook for as long as the span was held
	}
	i.exec = nil
	d := c.start(span.Exec, &p.sandbox.aSandbox, i.whose, i.span, i.trace, i.start, at, span.Link{Trace: x.parentTrace, Span: x.parent})
	d.process(p.tgid, i, x.group)
	c.rename("exec", i.name)

	d.list = appendArgs(d.list[:0], x.args)
	args := d.list
	short := x.truncated || uint64(len(args)) < uint64(x.argc)
	hidden := false
	if !c.config.ShowCredentials {
		var cut bool
		hidden, cut = mask.Args(args)
		short = short || cut
	}
	for n := range args {
		args[n] = d.valid(args[n])
	}
	args, cut := fitArgs(args)
	short = short || cut
	if len(args) > 0 {
		d.span.Attrs = append(d.span.Attrs, span.Attr{Key: span.KeyCommandArgs, Kind: span.StringsAttr, List: args})
		c.text = appendCommandLine(c.text[:0], args)
		d.ours(span.KeyCommandLine, string(c.text))
	}
	if x.argc > 0 || !x.preexisting {
		d.int(span.KeyArgsCount, int64(x.argc))
	}
	d.flagIf(x.callRoot, span.KeyCallRoot)
	d.flagIf(short, span.KeyArgsTruncated)
	d.flagIf(hidden, span.KeyArgsMasked)
	d.text(span.KeyWorkingDirectory, x.cwd)
	d.int(span.KeyParentPID, int64(x.ppid))
	d.int(span.KeyVPID, int64(x.vpid))
	d.ours(span.KeyCreationTime, c.creationTime(p.start))
	if x.credentials {
		d.int(span.KeyUserID, int64(x.euid))
		d.int(span.KeyGroupID, int64(x.egid))
	}
	d.int(span.KeyRealUserID, int64(x.uid))
	if x.filename != "" && x.filename != i.shown {
		d.text(span.KeyRequestedExecutable, x.filename)
		d.flagScript(x)
	}
	d.flagIf(x.flags&(record.ExecUnlinked|record.ExecMemfd) != 0, span.KeyFileless)
	d.flagIf(x.flags&record.ExecSecure != 0, span.KeyPrivilegedExec)
	d.flagIf(x.preexisting, span.KeyPreexisting)
	d.contradicted(x.denied)
	d.noise(i)
	if how == nil {
		d.flag(span.KeyPartial)
	} else {
		c.ended(d, i, how)
	}
	c.send()
}

// sendExit sends a process.exit span: the end of an image whose process.exec is gone already.
func (c *spans) sendExit(p *process, at uint64, how ending) {
	i := p.image
	d := c.start(span.Exit, &p.sandbox.aSandbox, i.whose, span.ExitSpan(c.config.BootID, i.id), c.place(&p.sandbox.aSandbox, i.whose), i.start, at,
		span.Link{Trace: i.trace, Span: i.span})
	d.process(p.tgid, i, p.group)
	c.rename("exit", i.name)
	d.noise(i)
	c.ended(d, i, &how)
	c.send()
}

func (d *draft) contradicted(s *claims) {
	if s == nil {
		return
	}
	d.flag(span.KeyClaimContradicted)
	for _, t := range []struct{ key, value string }{
		{span.KeyClaimSession, s.session}, {span.KeyClaimCall, s.call}, {span.KeyClaimTraceparent, s.traceparent},
	} {
		if t.value != "" {
			d.text(t.key, t.value)
		}
	}
}

func (d *draft) noise(i *image) {
	if i.noise > 0 {
		d.int(span.KeyNoiseOpens, int64(i.noise))
		i.noise = 0
	}
}

// flagScript tells a script from a program under another name: for a script the kernel puts the
// file that was asked for after the interpreter and its one option, if there is one.
func (d *draft) flagScript(x *execStart) {
	_, rest, _ := strings.Cut(x.args, "\x00")
	for range 2 {
		arg, after, _ := strings.Cut(rest, "\x00")
		if arg == x.filename {
			d.text(span.KeyScript, x.filename)
			return
		}
		rest = after
	}
}

// ended adds what is known of an image's end, and fails the span when it was not a good one.
func (c *spans) ended(d *draft, i *image, how *ending) {
	d.flagIf(how.replaced, span.KeyReplaced)
	d.flagIf(how.unknown, span.KeyExitUnknown)
	r := how.exit
	if r == nil {
		return
	}
	if signal := r.Status & 0x7f; signal != 0 {
		name := unix.SignalName(unix.Signal(signal))
		if name == "" {
			name = "SIG" + strconv.Itoa(int(signal))
		}
		d.ours(span.KeyExitSignal, name)
		d.flagIf(r.Status&0x80 != 0, span.KeyCoreDumped)
		d.fail("killed by " + name)
	} else {
		code := int64(r.Status >> 8 & 0xff)
		d.int(span.KeyExitCode, code)
		if code != 0 {
			d.fail("exit code " + strconv.FormatInt(code, 10))
		}
	}
	d.int(span.KeyCPUTime, int64(r.CPU))
	d.int(span.KeyUserTime, int64(r.User))
	d.int(span.KeySystemTime, int64(r.System))
	if r.PeakRSS > uint64(i.peakBefore) {
		d.int(span.KeyPeakMemory, int64(r.PeakRSS)*int64(c.config.PageBytes))
	}
}

// creationTime is ISO 8601 in UTC, with nanoseconds.
func (c *spans) creationTime(start uint64) string {
	c.text = time.Unix(0, int64(start+c.clock.offset)).UTC().AppendFormat(c.text[:0], "2006-01-02T15:04:05.000000000Z")
	return string(c.text)
}

// reassign gives what is not sent yet of a process, and of its program, to whom the process belongs.
func (c *spans) reassign(a *aProcess, first bool) {
	p := c.lineage.processes[a.tgid]
	w := p.whose()
	if i := p.image; p.owns(i) && i.whose != w && !i.ended {
		if x := i.exec; x != nil {
			i.whose, i.trace = w, c.place(&p.sandbox.aSandbox, w)
			x.callRoot = first && w.call != nil
		}
	}
	for s := pendingOf(p).opens.first; s != nil; s = s.next {
		if s.image == p.image {
			s.whose = w
		}
	}
	for _, s := range pendingOf(p).acts {
		if s.image == p.image {
			s.whose = w
		}
	}
}
