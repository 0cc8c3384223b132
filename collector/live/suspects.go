// SPDX-License-Identifier: Apache-2.0

package live

import "github.com/sheetbend/sheetbend/collector/record"

// suspect says whether this is of a program that may be an agent, and of a process that is not in a sandbox yet.
func (f *Feed) suspect(h record.Header) bool {
	return (h.Type == record.TypeExec || h.Type == record.TypeProcess) && h.Flags&record.ExecFound != 0 &&
		f.o.Knows != nil && !f.o.Knows(h.Tgid, h.Start)
}

// follow has the kernel side follow a process or leave it alone, as the collector has made an agent of it or not. One
// that turned out to be an agent may have been left alone already, as the child of a suspect that is none; what it
// started meanwhile is looked for.
func (f *Feed) follow(h record.Header, parent uint32, parentStart uint64) {
	flagged := h.Flags&record.ExecFound != 0
	if !flagged || f.o.Knows == nil || !f.o.Knows(h.Tgid, h.Start) {
		f.unfollow(h.Tgid, h.Start, flagged || f.dismissed.has(processID{parent, parentStart}))
		return
	}
	f.dismissed.drop(processID{h.Tgid, h.Start})
	again, err := f.o.Source.Follow(h.Tgid, h.Start)
	if err != nil {
		f.o.Log.Warn("cannot follow an agent: what it does in other cgroups is not seen", "pid", h.Tgid, "err", err)
	}
	f.scans.due = f.scans.due || again
}

// unfollow has the kernel side leave a process alone that it follows on suspicion, and that is no agent's: judged by
// its program now, or before. Of any other one that the collector does not know a record was lost, or the collector
// had no room for it: it may be an agent's, and what it starts may show by its parent.
func (f *Feed) unfollow(tgid uint32, start uint64, judged bool) {
	if f.o.Knows == nil || f.o.Knows(tgid, start) {
		return
	}
	if judged {
		f.dismissed.add(processID{tgid, start}, struct{}{})
	} else if !f.dismissed.has(processID{tgid, start}) {
		return
	}
	if err := f.o.Source.Unfollow(tgid); err != nil {
		f.o.Log.Warn("cannot leave a process alone that is no agent: it costs a little more", "pid", tgid, "err", err)
	}
}
