// SPDX-License-Identifier: Apache-2.0

package recordtest

import (
	"reflect"

	"github.com/sheetbend/sheetbend/collector/record"
)

// A Sample is one record and what is in it.
type Sample struct {
	Header record.Header
	Body   any // a struct of package record by value; nil for TypeTick
	Raw    []byte
}

// Samples gives one record of each kind. No two fields of the same size have the same value.
func Samples() []Sample {
	var (
		all  []Sample
		raws []byte
	)
	add := func(h record.Header, body any, written func(dst []byte) []byte) {
		from := len(raws)
		raws = written(raws)
		h.Size = uint32(len(raws) - from)
		all = append(all, Sample{h, body, raws[from:len(raws):len(raws)]})
	}
	kernel := func(t record.Type, body any) {
		h := record.Header{Type: t, Flags: 2, Time: 4, Cgroup: 105, Start: 106, ExecID: 107, Tgid: 108, Tid: 109}
		add(h, body, func(dst []byte) []byte { return Append(dst, h, body) })
	}
	kernel(record.TypeFork, record.Fork{ChildStart: 1, ChildCgroup: 2, ChildTgid: 3, ChildVpid: 4})
	kernel(record.TypeExec, record.Exec{
		ParentStart: 1, Inode: 2, ParentTgid: 3, UID: 5, EUID: 6, EGID: 8, Vpid: 9, Dev: 10, Argc: 11, ArgsSize: 12,
		ExeUID: 15, PeakRSS: 16,
		Exe: Path("/bin/cc"), Cwd: Path("/w"), Filename: []byte("./cc"), Env: []byte("A=b\x00"), Args: Args("cc", "-v"),
	})
	kernel(record.TypeExecArgs, record.ExecArgs{Offset: 1, Args: []byte("abc")})
	kernel(record.TypeExit, record.Exit{CPU: 1, User: 2, System: 3, PeakRSS: 4, Status: 5})
	kernel(record.TypeOpen, record.Open{
		Inode: 1, Error: 2, Flags: 3, Dev: 4, UID: 6,
		Path: Path("/a/b"), Name: []byte("b"),
	})
	kernel(record.TypeConnect, record.Connect{Cookie: 1, Addr: [16]byte{7, 15: 2}, Family: 3, Protocol: 4, Port: 5, Op: 6})
	kernel(record.TypeConnectEnd, record.ConnectEnd{Cookie: 1, Error: 2})
	kernel(record.TypeUnix, record.Unix{Error: 1, Path: Path("/sock"), Name: []byte("s")})
	kernel(record.TypeCgroupMkdir, record.Cgroup{ID: 1, Parent: 2, Path: []byte("/a")})
	kernel(record.TypeCgroupRmdir, record.Cgroup{ID: 3, Parent: 4, Path: []byte("/b")})
	kernel(record.TypeCgroupAttach, record.Attach{MoverTgid: 3, Vpid: 4, Watched: true, Path: []byte("/a")})
	kernel(record.TypeProcess, record.Process{
		ParentStart: 1, Inode: 2, ParentTgid: 3, UID: 4, Vpid: 5, Dev: 6, ExeUID: 7, Exe: Path("/exe"), Cwd: Path("/c"),
	})
	kernel(record.TypeSocket, record.Socket{Error: 1, Protocol: 2, Family: 3, Type: 4, Op: 5, CID: 6, Port: 7})
	kernel(record.TypeNamespace, record.Namespace{Types: 1, Error: 2, Op: 3})
	kernel(record.TypeAccess, record.Access{
		TargetStart: 1, TargetCgroup: 2, TargetTgid: 3, Error: 4, Op: 5, Signal: 6, Exe: Path("/e"),
	})
	kernel(record.TypeChange, record.Change{
		Inode: 1, Replaced: 2, Before: 3, After: 4, Error: 3, Flags: 4, Dev: 5, Nlink: 6, Op: 6, Mode: 7, Text: []byte("user.x"),
		Old: record.ChangedName{Dir: Path("/a"), Name: []byte("old")}, New: record.ChangedName{Dir: Path("/b/c"), Name: []byte("newer")},
	})

	kernel(record.TypeListen, record.Listen{
		Cookie: 1, Addr: [16]byte{7, 15: 2}, Family: 3, Protocol: 4, Port: 5, Error: 6, Path: Path("/s"), Name: []byte("./s"),
	})
	kernel(record.TypeAccept, record.Accept{
		Cookie: 1, Addr: [16]byte{7, 15: 2}, Peer: [16]byte{8, 15: 3}, Family: 3, Protocol: 4, Port: 5, PeerPort: 6,
	})
	kernel(record.TypeClose, record.Close{
		Cookie: 1, Since: 2, Sent: 3, Received: 4, Addr: [16]byte{7, 15: 2}, Peer: [16]byte{8, 15: 3}, Family: 5, Protocol: 6,
		Port: 7, PeerPort: 8, Error: 9, Reason: 10, Incoming: true,
	})
	kernel(record.TypePacket, record.Packet{
		Cookie: 1, Addr: [16]byte{7, 15: 2}, Peer: [16]byte{8, 15: 3}, Family: 3, Port: 4, PeerPort: 5, What: 6,
		Offset: 7, Size: 8, Bytes: []byte("abc"),
	})
	kernel(record.TypeExecFailed, record.ExecFailed{Error: 1, Path: Path("/w"), Name: []byte("./a.sh")})
	kernel(record.TypeOOM, record.OOM{LimitCgroup: 1, ByTgid: 2})

	const at, tgid, start = 204, 208, 206
	sent := record.Header{Time: at, Tgid: tgid, Tid: tgid, Start: start}
	user := func(t record.Type, h record.Header, body any, written func(dst []byte) []byte) {
		h.Type = t
		add(h, body, written)
	}
	user(record.TypeClock, record.Header{Time: at}, record.Clock{Wall: -6},
		func(dst []byte) []byte { return record.AppendClock(dst, at, -6) })
	user(record.TypeTick, record.Header{Time: at}, nil, func(dst []byte) []byte { return record.AppendTick(dst, at) })
	of := record.Header{Time: at, Cgroup: 105, Tgid: 108, Start: 106}
	loss := record.Loss{Kind: record.TypeOpen, Cause: record.CauseMissed, Count: 7, From: 8, To: at}
	user(record.TypeLoss, of, loss, func(dst []byte) []byte { return record.AppendLoss(dst, of, loss) })
	user(record.TypeCgroup, record.Header{Time: at}, record.Cgroup{ID: 6, Parent: 7, Path: []byte("/a/b")},
		func(dst []byte) []byte { return record.AppendCgroup(dst, at, 6, 7, "/a/b") })
	process := record.Header{Time: 4, Cgroup: 105, Start: 106, ExecID: 107, Tgid: 108, Tid: 109}
	user(record.TypeCmdline, process, record.Cmdline{Argc: 3, Args: Args("a", "b")},
		func(dst []byte) []byte { return record.AppendCmdline(dst, process, 3, Args("a", "b")) })
	mark := record.Mark{
		Op: record.MarkEnd, TargetTgid: 1, TargetStart: 2, Cgroup: 3, UID: 4, PeerCgroup: 5,
		Source: record.SourceHook, Agent: "claude-code", Session: "s", Call: "c", Tool: "Bash", Traceparent: "00-",
	}
	user(record.TypeMark, sent, mark, func(dst []byte) []byte { return record.AppendMark(dst, at, tgid, start, mark) })
	said := record.Said{
		Kind: record.SaidDecision, Outside: true, Trace: [16]byte{1, 15: 2}, Span: [8]byte{3, 7: 4}, TraceFlags: 1,
		Success: record.SuccessFailed, Agent: "codex", Session: "s", Call: "c", Tool: "shell",
		Decision: record.Denied, Source: "user", Detail: "d", UID: 1000,
	}
	outside := sent
	outside.Flags = 1
	user(record.TypeSaid, outside, said, func(dst []byte) []byte { return record.AppendSaid(dst, at, tgid, start, said) })
	limit := record.Limit{Which: record.LimitPids, Count: 7}
	user(record.TypeLimit, record.Header{Time: at, Cgroup: 105}, limit,
		func(dst []byte) []byte { return record.AppendLimit(dst, at, 105, limit) })
	container := record.Container{
		ID: "i", Runtime: "r", Name: "n", Image: "m", Tag: "t",
		Pod: "p", PodUID: "u", Namespace: "s", PodPart: "q", Handler: "h",
		Labels: []record.Pair{{Key: "a", Value: "b"}, {Key: "c"}}, Annotations: []record.Pair{{Value: "d"}},
	}
	user(record.TypeContainer, record.Header{Time: at}, container,
		func(dst []byte) []byte { return record.AppendContainer(dst, at, container) })
	watch := record.Watch{Op: record.WatchBegin, UID: 1000, Cgroup: 105, Path: "/a/w", Session: "s", Agent: "g"}
	user(record.TypeWatch, record.Header{Time: at}, watch,
		func(dst []byte) []byte { return record.AppendWatch(dst, at, watch) })
	return all
}

// Body gives the field of the event that has the type of a sample's body; nil for nil.
func Body(e *record.Event, like any) any {
	fields := reflect.ValueOf(*e)
	for i := range fields.NumField() {
		if f := fields.Field(i); like != nil && f.Type() == reflect.TypeOf(like) {
			return f.Interface()
		}
	}
	return nil
}
