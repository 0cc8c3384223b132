// SPDX-License-Identifier: Apache-2.0

package spans

import (
	"golang.org/x/sys/unix"

	"github.com/sheetbend/sheetbend/collector/record"
	"github.com/sheetbend/sheetbend/collector/span"
)

// Namespace takes a change of namespaces.
func (c *Spans) Namespace(h *record.Header, r *record.Namespace) {
	if p := c.lineage.Actor(h); p != nil {
		c.count(h, p, countedEvent{kind: span.Namespace, op: r.Op, errno: r.Error, types: r.Types})
	}
}

func (c *Spans) tellNamespace(d *builder, a *countedEvent) {
	d.list = appendNamespaces(d.list[:0], a.types)
	d.trusted(span.KeyNamespaceOp, namespaceOp(a.op))
	if len(d.list) > 0 {
		d.span.Attrs = append(d.span.Attrs, span.Attr{Key: span.KeyNamespaceTypes, Kind: span.StringsAttr, List: d.list})
	}
}

func namespaceOp(op uint16) string {
	switch op {
	case record.NamespaceUnshare:
		return "unshare"
	case record.NamespaceSetns:
		return "setns"
	case record.NamespaceClone:
		return "clone"
	}
	return "unknown"
}

// appendNamespaces names CLONE_NEW* flags as /proc/PID/ns does, sorted.
func appendNamespaces(list []string, types uint32) []string {
	for _, ns := range [...]struct {
		flag uint32
		name string
	}{
		{unix.CLONE_NEWCGROUP, "cgroup"},
		{unix.CLONE_NEWIPC, "ipc"},
		{unix.CLONE_NEWNS, "mnt"},
		{unix.CLONE_NEWNET, "net"},
		{unix.CLONE_NEWPID, "pid"},
		{unix.CLONE_NEWTIME, "time"},
		{unix.CLONE_NEWUSER, "user"},
		{unix.CLONE_NEWUTS, "uts"},
	} {
		if types&ns.flag != 0 {
			list = append(list, ns.name)
		}
	}
	return list
}
