// SPDX-License-Identifier: Apache-2.0

package spans

import (
	"path"

	"github.com/sheetbend/sheetbend/collector/paths"
	"github.com/sheetbend/sheetbend/collector/record"
	"github.com/sheetbend/sheetbend/collector/span"
)

// Access handles one process reaching into another.
func (c *Spans) Access(h *record.Header, r *record.Access) {
	p := c.lineage.Actor(h)
	if p == nil {
		return
	}
	a := countedEvent{kind: span.Access, op: r.Op, errno: r.Error, target: r.TargetTgid, start: r.TargetStart}
	target := c.lineage.Processes[r.TargetTgid]
	if target != nil && target.Start != r.TargetStart {
		target = nil
	}
	// The kernel knows who is watched; only here it is known in which sandbox.
	switch {
	case h.Flags&record.AccessTargetUnknown != 0:
	case target != nil:
		a.executable, a.program = target.Program.Shown, target.Program.Name
		a.outside = target.Sandbox != p.Sandbox
	case h.Flags&record.AccessOutside != 0:
		a.outside = true
		if len(r.Exe) > 0 {
			c.lineage.Path = paths.AppendResolved(c.lineage.Path[:0], r.Exe, paths.Marks{
				Truncated: h.Flags&record.AccessExeTruncated != 0,
				Outside:   h.Flags&record.AccessExeOutside != 0,
				Pseudo:    h.Flags&record.AccessExePseudo != 0,
				Unlinked:  h.Flags&record.AccessExeUnlinked != 0,
			})
			a.executable = c.lineage.Names.Intern(c.lineage.Path)
			a.program = path.Base(paths.Plain(a.executable, h.Flags&record.AccessExeUnlinked != 0))
		}
	default:
		g := c.lineage.Cgroups[r.TargetCgroup]
		a.outside = g != nil && g.Sandbox != p.Sandbox
	}
	if r.Op == record.AccessSignal {
		if a.signal = r.Signal; !a.outside {
			return // the kernel side tells of some within the sandbox, too
		}
	}
	c.count(h, p, a)
}

func (c *Spans) tellAccess(d *builder, a *countedEvent) {
	verb := accessOp(a.op)
	if a.executable != "" {
		c.out.displayName(verb, a.program)
	}
	d.trusted(span.KeyAccessOp, verb)
	if a.signal != 0 {
		d.trusted(span.KeyAccessSignal, signalName(a.signal))
	}
	if a.target != 0 {
		d.int(span.KeyAccessPID, int64(a.target))
	}
	if a.executable != "" {
		d.text(span.KeyAccessExe, a.executable)
	}
	d.flagIf(a.outside, span.KeyAccessOutside)
}

func accessOp(op uint16) string {
	switch op {
	case record.AccessAttach:
		return "ptrace_attach"
	case record.AccessSeize:
		return "ptrace_seize"
	case record.AccessRead:
		return "process_vm_readv"
	case record.AccessWrite:
		return "process_vm_writev"
	case record.AccessGetfd:
		return "pidfd_getfd"
	case record.AccessProc:
		return "proc"
	case record.AccessSignal:
		return "signal"
	}
	return "other"
}
