// SPDX-License-Identifier: Apache-2.0

package spans

import (
	"path"
	"strconv"
	"strings"

	"github.com/sheetbend/sheetbend/collector/lineage"
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
	c.reached(h, r, p, target)
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

// A memoryCheck is that the kernel let a thread get at the memory of another process, by a file of that one's.
type memoryCheck struct {
	tid, target uint32
	start       uint64 // of the target
}

// reached tells attribution of an access that can change what the target does. To read from it, to take a descriptor
// and to send a signal cannot.
func (c *Spans) reached(h *record.Header, r *record.Access, p, target *lineage.Process) {
	pending := pendingOf(p)
	pending.memory = memoryCheck{}
	if target == nil || target == p || r.Error != 0 {
		return
	}
	switch r.Op {
	case record.AccessAttach, record.AccessSeize, record.AccessWrite, record.AccessOther:
		c.reach(p, target)
	case record.AccessProc:
		pending.memory = memoryCheck{h.Tid, target.Tgid, target.Start} // the open says whether it is for writing
	}
}

// memoryOpened is told of a /proc/PID/mem that was opened for writing. Where the kernel side does not say whose it is,
// the name does, if it is one of the host's /proc.
func (c *Spans) memoryOpened(h *record.Header, p *lineage.Process, name []byte) {
	pending := pendingOf(p)
	of := pending.memory
	pending.memory = memoryCheck{}
	target := c.lineage.Processes[of.target]
	if of.tid != h.Tid || target != nil && target.Start != of.start {
		pid, _, _ := strings.Cut(strings.TrimPrefix(string(name), "/proc/"), "/")
		n, err := strconv.ParseUint(pid, 10, 32)
		if err != nil || h.Flags&record.OpenForeign != 0 {
			return
		}
		target = c.lineage.Processes[uint32(n)]
	}
	if target != nil && target != p {
		c.reach(p, target)
	}
}

func (c *Spans) reach(p, target *lineage.Process) {
	c.lineage.Resolve(&target.Process)
	c.attribution.Reached(&p.Process, &target.Process)
}

func (c *Spans) tellAccess(d *builder, a *countedEvent) {
	d.trusted(span.KeyAccessOp, accessOp(a.op))
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
