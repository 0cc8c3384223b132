// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"path"

	"github.com/sheetbend/sheetbend/collector/record"
	"github.com/sheetbend/sheetbend/collector/span"
)

// access handles one process reaching into another.
func (c *spans) access(h *record.Header, r *record.Access) {
	p := c.lineage.actor(h)
	if p == nil {
		return
	}
	a := act{kind: span.Access, op: r.Op, errno: r.Error, target: r.TargetTgid, start: r.TargetStart}
	target := c.lineage.processes[r.TargetTgid]
	if target != nil && target.start != r.TargetStart {
		target = nil
	}
	// The kernel knows who is watched; only here it is known in which sandbox.
	switch {
	case h.Flags&record.AccessTargetUnknown != 0:
	case target != nil:
		a.executable, a.program = target.image.shown, target.image.name
		a.outside = target.sandbox != p.sandbox
	case h.Flags&record.AccessOutside != 0:
		a.outside = true
		if len(r.Exe) > 0 {
			c.lineage.path = appendResolved(c.lineage.path[:0], r.Exe, marks{
				truncated: h.Flags&record.AccessExeTruncated != 0,
				outside:   h.Flags&record.AccessExeOutside != 0,
				pseudo:    h.Flags&record.AccessExePseudo != 0,
				unlinked:  h.Flags&record.AccessExeUnlinked != 0,
			})
			a.executable = c.lineage.names.intern(c.lineage.path)
			a.program = path.Base(plain(a.executable, h.Flags&record.AccessExeUnlinked != 0))
		}
	default:
		g := c.lineage.groups[r.TargetCgroup]
		a.outside = g != nil && g.sandbox != p.sandbox
	}
	c.act(h, p, a)
}

func (c *spans) tellAccess(d *draft, a *act) {
	verb := accessOp(a.op)
	if a.executable != "" {
		c.rename(verb, a.program)
	}
	d.ours(span.KeyAccessOp, verb)
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
	}
	return "other"
}
