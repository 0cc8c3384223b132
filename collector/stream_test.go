// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"encoding/binary"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"math/rand/v2"
	"os"
	"reflect"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/sheetbend/sheetbend/collector/config"
	"github.com/sheetbend/sheetbend/collector/lineage"
	"github.com/sheetbend/sheetbend/collector/record"
	"github.com/sheetbend/sheetbend/collector/spans"

	rt "github.com/sheetbend/sheetbend/collector/recordtest"
	"github.com/sheetbend/sheetbend/collector/span"
)

// busy makes a world in which everything happens that the contract knows of.
func busy(t testing.TB, change ...func(*config.Config)) *world {
	w := newWorld(t, append([]func(*config.Config){func(c *config.Config) {
		c.Fold.Files, c.Containers, c.MaxSpansPerTrace, c.Names = 5, true, 200, true
	}}, change...)...)
	w.raw(rt.Record(w.header(20), record.Process{ParentTgid: 1, Vpid: 2, Exe: rt.Path("/bin/agent"), Cwd: rt.Path("/srv")}))
	w.raw(record.AppendCmdline(nil, w.header(20), 1, rt.Args("agent")))
	w.begin(10, one)
	w.exec(10, "/bin/sh", "sh", "-c", "x"+strings.Repeat(" ", 5000))
	for n := uint32(11); n < 40; n++ {
		if n == 20 {
			continue
		}
		w.fork(10, n)
		w.execWith(n, record.ExecMemfd|record.ExecUnlinked|record.ExecSecure|record.ExecArgsMissing, record.Exec{
			Exe: rt.Path("memfd:\xff"), Filename: []byte("./x.sh"), Args: rt.Args("i", "./x.sh", "--token=abc"), Argc: 3, UID: 1, EUID: 2, EGID: 3, ParentTgid: 10,
		})
		for f := range 10 {
			w.open(n, fmt.Sprintf("/src/%d/f%d", n, f))
		}
		w.open(n, "/dev/null")
		if n == 11 {
			w.exec(n, "/usr/bin/ps", "ps")
			w.execIDs[n]--
		}
		w.openWith(n, record.OpenBase|record.OpenNameFromUser|record.OpenNameTruncated|record.OpenOutside, record.Open{Error: int32(unix.EACCES), Path: rt.Path("/etc"), Name: []byte("shadow")})
		w.openWith(n, record.OpenNameMissing, record.Open{Error: int32(unix.EACCES)})
		w.openWith(n, record.OpenUnlinked|record.OpenTruncated, record.Open{Path: rt.Path("/root/.ssh/id")})
		w.openWith(n, record.OpenOutside, record.Open{Path: rt.Path("/x")})
		w.resolve(n, "x\xff.com.", "x\xff.com. A 10.0.0.9")
		w.connected(n, "10.0.0.9:443", []byte("GET / HTTP/1.0\r\nHost: other.com\r\n\r\n"))
		w.closed(n, 5, record.Close{Sent: 7})
		w.ask(n, 2, "y.com.")
		w.packet(n, record.PacketForeign, resolver, record.Packet{What: record.PacketDNS, Bytes: dns(t, 2, true, 1, "y.com.")})
		w.connect(n, to("10.0.0.1:443", unix.IPPROTO_TCP))
		w.connectEnd(n, unix.ECONNREFUSED)
		w.connect(n, to("10.0.0.1:444", unix.IPPROTO_TCP))
		h := w.header(n)
		h.Flags = record.ConnectSourceRoute
		w.raw(rt.Record(h, to("10.0.0.1:445", unix.IPPROTO_UDP)))
		h = w.header(n)
		w.raw(rt.Record(h, record.Unix{Path: rt.Path("/run/docker.sock"), Name: []byte("/link")}))
		w.openWith(n, record.OpenSubmitted, record.Open{Name: []byte("/by/ring")})
		h.Flags = record.UnixNameFromUser | record.UnixSubmitted
		h.Time++
		w.raw(rt.Record(h, record.Unix{Name: []byte("/none"), Error: int32(unix.ENOENT)}))
		w.act(n, record.Socket{Op: record.SocketMake, Family: unix.AF_PACKET, Type: unix.SOCK_RAW, Protocol: 0x300})
		w.act(n, record.Socket{Op: record.SocketConnect, Family: unix.AF_VSOCK, Type: unix.SOCK_STREAM, CID: 2, Port: 5, Error: int32(unix.ECONNRESET)})
		w.listen(n, "::", 80, 0)
		w.accept(n, "10.0.0.9", 80, uint16(n))
		w.closed(n, uint64(n), record.Close{PeerPort: uint16(n), Port: 80, Reason: record.ClosePeer, Incoming: true, Sent: 7, Received: 2000})
		w.act(n, record.Namespace{Op: record.NamespaceUnshare, Types: unix.CLONE_NEWNET | unix.CLONE_NEWUSER, Error: int32(unix.EPERM)})
		h.Flags = record.ChangeDirectory
		h.Time++
		w.raw(rt.Record(h, record.Change{
			Op: record.ChangeRename, Error: int32(unix.EPERM), Replaced: 5,
			Old: record.ChangedName{Name: []byte("/a\xff")}, New: record.ChangedName{Name: []byte("/b")},
		}))
		for _, r := range []record.Change{
			{Op: record.ChangeMknod, Mode: unix.S_IFCHR | 0o600, After: 5, Nlink: 1},
			{Op: record.ChangeChmod, Before: 0o100644, After: 0o600},
			{Op: record.ChangeChown, Before: 1 | 2<<32, After: 3 | 4<<32},
			{Op: record.ChangeTruncate, Before: 1, After: 2},
			{Op: record.ChangeSymlink, Old: record.ChangedName{Name: []byte("../a")}},
			{Op: record.ChangeSetxattr, Text: []byte("user.x")},
			{Op: record.ChangeMount, Old: record.ChangedName{Name: []byte("none")}, Text: []byte("tmpfs"), Flags: unix.MS_RDONLY},
		} {
			r.New.Name = []byte("/c")
			h.Flags = record.ChangeOpenFile | record.ChangeNotSure
			h.Time++
			w.raw(rt.Record(h, r))
		}
		w.act(n, record.Access{Op: record.AccessAttach, TargetTgid: 10, TargetStart: start(10), TargetCgroup: one})
		w.reach(n, record.AccessOutside, record.Access{Op: record.AccessRead, TargetTgid: 1, TargetStart: 1, TargetCgroup: outside, Exe: rt.Path("/sbin/init\xff")})
		w.reach(n, record.AccessOutside, record.Access{Op: record.AccessSignal, Signal: 15, TargetTgid: 1, TargetStart: 1, TargetCgroup: outside})
		w.refused(n, record.OpenNameTruncated, record.ExecFailed{Error: int32(unix.EACCES), Name: []byte("/x\xff")})
		w.refused(n, 0, record.ExecFailed{Error: int32(unix.ENOENT), Name: []byte("/x")})
		w.refused(n, 0, record.ExecFailed{Error: int32(unix.EACCES), Name: []byte("/y/x")})
		w.fork(n, n+1000)
		w.exit(n+1000, 9)
		if n%3 == 0 {
			w.attach(n, outside, "/user", true)
			w.tick(3 * time.Second)
		}
		if n%4 == 0 {
			w.exec(n, "/bin/other", "other")
		}
		if n%5 == 0 {
			w.exit(n, 11|0x80)
		} else {
			w.exit(n, 0)
		}
	}
	w.open(77, "/repo/x")
	w.busyNoise()
	w.fork(10, 78)
	w.exec(78, "/bin/changes", "changes")
	w.busyChanges(78)
	w.exit(78, 0)
	w.busyAgents()
	w.busyContainers()
	h := w.header(1)
	h.Type = record.TypeCgroupRmdir
	w.raw(rt.Record(h, record.Cgroup{ID: one}))
	w.raw(record.AppendLimit(nil, w.now, two, record.Limit{Which: record.LimitCPU, Count: 3}))
	w.raw(record.AppendLoss(nil, record.Header{Cgroup: two}, record.Loss{Kind: record.TypeOpen, Cause: record.CauseRingFull, Count: 2, From: w.now, To: w.now}))
	w.c.Close()
	return w
}

func TestSameRecordsMakeTheSameSpans(t *testing.T) {
	first := busy(t)
	for range 3 {
		again := newWorld(t, func(c *config.Config) { c.Fold.Files = 5 })
		again.spans = nil
		c, err := New(*first.c.config, again)
		if err != nil {
			t.Fatal(err)
		}
		for _, raw := range first.records {
			if err := c.Record(raw); err != nil && !errors.Is(err, ErrRefused) {
				t.Fatal(err)
			}
		}
		c.Close()
		if !reflect.DeepEqual(first.spans, again.spans) {
			t.Fatal("the spans differ")
		}
	}
}

func TestSpansAreWellFormed(t *testing.T) {
	w := busy(t)
	ids := map[span.ID]bool{}
	kinds := map[span.Kind]int{}
	for n, s := range w.spans {
		kinds[s.Kind]++
		if ids[s.ID] {
			t.Errorf("id twice: %s", show([]span.Span{s}))
		}
		ids[s.ID] = true
		if s.ID == (span.ID{}) || s.Trace == (span.TraceID{}) || s.End < s.Start+1000 || !strings.HasPrefix(s.Name, s.Kind.String()) || s.Resource == nil {
			t.Errorf("span %s", show([]span.Span{s}))
		}
		if get(s, span.KeySeq) != int64(n+1) {
			t.Errorf("seq %v at %d", get(s, span.KeySeq), n+1)
		}
		if firstTrace := s.Trace == span.TraceFor(s.Instance, "", 0); (s.Parent == span.ID{}) && !firstTrace && len(s.Links) == 0 && s.Kind != span.Session && s.Instance != get(s, span.KeySandboxID) {
			t.Errorf("a root of a later trace without links: %s", show([]span.Span{s}))
		}
		keys := map[string]bool{}
		for _, a := range s.Attrs {
			if keys[a.Key] {
				t.Errorf("%s twice on %s", a.Key, s.Name)
			}
			keys[a.Key] = true
			if !utf8.ValidString(a.Str) {
				t.Errorf("%s is no UTF-8", a.Key)
			}
		}
	}
	for _, k := range span.Kinds() {
		if kinds[k] == 0 {
			t.Errorf("no %s", k)
		}
	}
	// Every parent is there, but for the agent's own span.
	ids[span.ID{0xb7, 0xad, 0x6b, 0x71, 0x69, 0x20, 0x33, 0x31}] = true
	for _, s := range w.spans {
		if s.Parent != (span.ID{}) && !ids[s.Parent] {
			t.Errorf("parent %x is missing: %s", s.Parent, show([]span.Span{s}))
		}
	}
}

// busyAgents adds agents and calls with everything that can be told of them.
func (w *world) busyAgents() {
	w.codex(200)
	w.say(decided("call_2", "denied", "user"))
	for n, pid := range []uint32{210, 220} {
		w.call(200, pid, fmt.Sprint("call_", n+1))
	}
	w.fork(210, 211)
	w.start(211, "/bin/evil", false, "TRACEPARENT=00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	w.fork(211, 212)
	w.start(212, "/bin/evil", false, "CODEX_SESSION_ID=x", "CODEX_TOOL_CALL_ID=y", "TRACEPARENT=00-1af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	w.say(record.Said{Kind: record.SaidResult, Session: "sess", Call: "call_1", Tool: "shell", Success: record.SuccessFailed})
	w.fork(220, 230)
	w.start(230, "/usr/bin/claude", false)
	w.fork(230, 233)
	w.start(233, "/bin/bash", true, "TRACEPARENT=00-3af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	w.mark(230, record.Mark{Op: record.MarkBegin, Call: "m1", Tool: "Bash"})
	w.fork(230, 231)
	w.start(231, "/bin/bash", true, "TRACEPARENT=00-2af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	w.mark(230, record.Mark{Op: record.MarkBegin, Call: "m2"})
	w.fork(230, 232)
	w.start(232, "/bin/bash", true)
	w.mark(230, record.Mark{Op: record.MarkEnd, Call: "m2"})
	w.existing(240, 1, "/bin/sh")
	w.mark(harness, record.Mark{Op: record.MarkBegin, Call: "h", Session: "swe", TargetTgid: 240, TargetStart: start(240), PeerCgroup: outside})
	w.open(240, "/repo/x")
	w.tick(3 * time.Second)
	s := decided("call_1", "approved", "policy")
	s.Kind, s.Detail = record.SaidSandbox, "none"
	w.say(s)
	w.sayAs(0, s)
	w.exit(233, 0)
	w.tick(time.Minute)
	for _, pid := range []uint32{211, 212, 210, 231, 232, 230, 220, 240} {
		w.exit(pid, 0)
	}
	w.call(200, 250, "call_3")
	w.call(200, 252, "exec-1")
	w.fork(200, 261)
	w.start(261, "/bin/bash", true, "CODEX_SESSION_ID=sess") // the user has typed it
	w.exit(252, 0)
	w.fork(250, 251)
	w.listen(251, "127.0.0.1", 8080, 0)
	w.act(250, record.OOM{})
	w.reach(250, 0, into(record.AccessAttach, 200))
	w.open(200, "/a/tainted")
	w.exit(250, 9)
	w.open(251, "/a/left")
	w.tick(10 * time.Second)
	w.say(decided("call_3", "approved", "user"))
	w.exit(251, 0)
	w.exit(200, 0)
	w.tick(10 * time.Second)
	w.claude(260)
	w.mcpServer(260, 261)
	w.announce(260, "e1", "Edit", "/repo/a")
	w.announce(260, "e2", "mcp__files__read", "/repo/b")
	w.open(261, "/repo/b")
	w.write(260, "/repo/a", 1, true)
	w.over(260, "e1")
	w.over(260, "e2")
	w.exit(261, 0)
	w.exit(260, 0)
	w.tick(10 * time.Second)
}

// busyContainers adds a container that its runtime tells of, and one that none does.
func (w *world) busyContainers() {
	w.container(20, "/agents/one/cri-containerd-"+web.ID+".scope")
	w.container(21, "/agents/two/docker-"+otherID+".scope")
	for n, cgroup := range []uint64{20, 21} {
		pid := uint32(300 + n)
		w.begin(pid, cgroup)
		w.exec(pid, "/bin/true", "true")
		w.exit(pid, 0)
	}
	w.raw(record.AppendContainer(nil, w.now, web))
	w.tick(3 * time.Second)
}

// busyNoise does what is only counted, and what the processes of a call have in common.
func (w *world) busyNoise() {
	w.codex(300)
	for n := uint32(301); n < 304; n++ {
		w.call(300, n, "many")
		for f := range 60 {
			w.open(n, fmt.Sprintf("/src/%d/f%d", f%2, f))
		}
		w.openWith(n, 0, record.Open{Name: []byte("/src/none"), Error: int32(unix.ENOENT)})
		w.raw(rt.Record(w.header(n), record.Unix{Name: []byte("/var/run/nscd/socket"), Error: int32(unix.EPERM)}))
	}
	for n := uint32(303); n >= 300; n-- {
		w.exit(n, 3<<8)
	}
}

// contractKeys are the attribute keys of the contract, version 2. A rule may be written against
// any of them: a change here is a change of span.Contract.
var contractKeys = []string{
	"sheetbend.process.oom_killed", "sheetbend.process.worker", "sheetbend.process.workers", "sheetbend.process.workers.failed",
	"sheetbend.process.execs.missing", "sheetbend.call.oom_killed", "sheetbend.limit",
	"container.id", "container.image.name", "container.image.tags", "container.name", "container.runtime.name",
	"error.type", "file.inode", "file.path",
	"gen_ai.agent.name", "gen_ai.conversation.id", "gen_ai.operation.name", "gen_ai.tool.call.id", "gen_ai.tool.name",
	"k8s.container.name", "k8s.namespace.name", "k8s.pod.name", "k8s.pod.uid",
	"network.local.address", "network.local.port", "network.peer.address", "network.peer.port", "network.transport", "network.type",
	"process.args_count", "process.command_args", "process.command_line", "process.creation.time",
	"process.executable.name", "process.executable.path", "process.exit.code", "process.linux.cgroup",
	"process.parent_pid", "process.pid", "process.real_user.id", "process.user.id", "process.vpid", "process.working_directory",
	"service.name", "session.id",
	"sheetbend.started_by", "sheetbend.tainted", "sheetbend.tainted.call", "sheetbend.tainted.pid",
	"sheetbend.access.operation", "sheetbend.access.signal", "sheetbend.access.target.executable", "sheetbend.access.target.outside", "sheetbend.access.target.pid",
	"sheetbend.agent.instance", "sheetbend.agent.name", "sheetbend.approval", "sheetbend.approval.source", "sheetbend.approval.violated", "sheetbend.args.bytes", "sheetbend.args.masked", "sheetbend.args.sha256", "sheetbend.args.truncated", "sheetbend.attribution",
	"sheetbend.call.began", "sheetbend.mcp.server", "sheetbend.declared", "sheetbend.call.context", "sheetbend.call.exit_code", "sheetbend.call.exit_signal", "sheetbend.call.id.level", "sheetbend.call.origin", "sheetbend.call.left", "sheetbend.call.root", "sheetbend.call.title",
	"sheetbend.claim.call", "sheetbend.claim.contradicted", "sheetbend.claim.session", "sheetbend.claim.traceparent",
	"sheetbend.cgroup.from", "sheetbend.cgroup.mover.pid", "sheetbend.cgroup.to", "sheetbend.container.unresolved", "sheetbend.contract", "sheetbend.count", "sheetbend.count.partial", "sheetbend.event",
	"sheetbend.file.access", "sheetbend.file.deleted", "sheetbend.file.directory", "sheetbend.file.operation", "sheetbend.file.path.old", "sheetbend.file.replaced.inode",
	"file.group.id", "file.mode", "file.owner.id", "file.size", "file.symbolic_link.target_path",
	"sheetbend.file.attribute", "sheetbend.file.by_descriptor", "sheetbend.file.device", "sheetbend.file.group.before", "sheetbend.file.links", "sheetbend.file.mode.before",
	"sheetbend.file.not_sure", "sheetbend.file.owner.before", "sheetbend.file.size.before", "sheetbend.file.type",
	"sheetbend.mount.flags", "sheetbend.mount.source", "sheetbend.mount.type",
	"sheetbend.file.path.outside_root", "sheetbend.file.path.truncated", "sheetbend.file.path.unresolved",
	"sheetbend.file.requested", "sheetbend.file.requested.from_user", "sheetbend.file.requested.missing", "sheetbend.file.requested.truncated", "sheetbend.file.submitted", "sheetbend.file.write",
	"sheetbend.files.attributes", "sheetbend.files.attributes.names", "sheetbend.files.by_name", "sheetbend.files.created", "sheetbend.files.created.names",
	"sheetbend.files.deleted", "sheetbend.files.deleted.names", "sheetbend.files.linked", "sheetbend.files.linked.names", "sheetbend.files.mode",
	"sheetbend.files.mode.names", "sheetbend.files.modified", "sheetbend.files.modified.names", "sheetbend.files.more", "sheetbend.files.opened_for_writing",
	"sheetbend.files.opened_for_writing.names", "sheetbend.files.owner", "sheetbend.files.owner.names", "sheetbend.files.renamed", "sheetbend.files.renamed.from",
	"sheetbend.files.renamed.names", "sheetbend.files.replaced", "sheetbend.files.replaced.names", "sheetbend.files.temporary", "sheetbend.files.unsure",
	"sheetbend.folded", "sheetbend.folded.names", "sheetbend.last", "sheetbend.link", "sheetbend.lost", "sheetbend.lost.cause", "sheetbend.lost.kind",
	"sheetbend.marked_by", "sheetbend.namespace.operation", "sheetbend.namespace.types", "sheetbend.network.operation",
	"sheetbend.network.bytes.received", "sheetbend.network.bytes.sent", "sheetbend.network.close.reason",
	"sheetbend.network.peer.from_user", "sheetbend.network.peer.requested", "sheetbend.network.source_route",
	"sheetbend.network.submitted", "sheetbend.noise.opens", "sheetbend.noise.connects", "sheetbend.exit.inherited", "sheetbend.missing.opens", "sheetbend.folded.programs", "sheetbend.notice.of", "sheetbend.noticed", "sheetbend.parent.call", "sheetbend.parent.session",
	"sheetbend.outcome", "sheetbend.partial",
	"sheetbend.process.cpu.system_ns", "sheetbend.process.cpu.user_ns", "sheetbend.process.cpu_ns",
	"sheetbend.process.exit.core_dumped", "sheetbend.process.exit.signal", "sheetbend.process.exit.unknown", "sheetbend.process.fileless",
	"sheetbend.process.group.id", "sheetbend.process.memory.peak_bytes", "sheetbend.process.parent.executable", "sheetbend.process.preexisting",
	"sheetbend.process.privileged_exec", "sheetbend.process.replaced", "sheetbend.process.requested", "sheetbend.process.script", "sheetbend.process.unknown",
	"sheetbend.root.call", "sheetbend.run", "sheetbend.stand_in", "sheetbend.root.session", "sheetbend.sandbox.id", "sheetbend.sensitive", "sheetbend.seq", "sheetbend.session.late", "sheetbend.socket.family", "sheetbend.socket.protocol", "sheetbend.socket.type",
	"sheetbend.telemetry.decision", "sheetbend.telemetry.detail", "sheetbend.telemetry.kind", "sheetbend.telemetry.source", "sheetbend.telemetry.unverified",
	"sheetbend.tool.name", "sheetbend.tool.result", "sheetbend.utf8.repaired",
	"server.address", "server.port", "service.peer.name", "peer.service", "sheetbend.server.name.source", "sheetbend.server.name.claimed",
	"sheetbend.server.name.disagrees", "dns.question.name", "dns.answers", "sheetbend.dns.question.type", "sheetbend.dns.response.code",
	"sheetbend.dns.claimed",
	"sheetbend.call.summary", "sheetbend.session.summary", "sheetbend.programs", "sheetbend.programs.failed", "sheetbend.files.read", "sheetbend.files.refused",
	"sheetbend.files.sensitive", "sheetbend.files.sensitive.names", "sheetbend.files.outside", "sheetbend.files.outside.names",
	"sheetbend.hosts", "sheetbend.hosts.names", "sheetbend.hosts.bytes", "sheetbend.bytes.out", "sheetbend.bytes.in", "sheetbend.cpu_ns", "sheetbend.memory.peak_bytes",
	"sheetbend.call.left.programs", "sheetbend.call.left.listens", "sheetbend.notable", "sheetbend.notable.counts", "sheetbend.notable.lines",
	"sheetbend.notable.event", "sheetbend.notable.severity", "sheetbend.process.known", "sheetbend.process.search",
	"sheetbend.workspace", "sheetbend.session.calls", "sheetbend.session.calls.failed", "sheetbend.session.calls.denied",
	"sheetbend.file.outside", "sheetbend.network.new",
}

func TestContractNames(t *testing.T) {
	w := busy(t)
	got := map[string]bool{span.KeyCountPartial: true} // after a restart: TestAReplayPlacesSpansAsTheyWere
	for _, s := range w.spans {
		for _, a := range s.Attrs {
			got[a.Key] = true
		}
		if len(s.Links) > 0 {
			got[span.KeyLink] = true
		}
		for _, a := range s.Resource.Attrs {
			got[a.Key] = true
		}
	}
	for _, key := range contractKeys {
		if !got[key] {
			t.Errorf("%s is in the contract, but no span of a busy sandbox has it", key)
		}
		delete(got, key)
	}
	for key := range got {
		t.Errorf("%s is on a span, but not in the contract", key)
	}
}

func TestContractIsDocumented(t *testing.T) {
	page, err := os.ReadFile("../docs/spans.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range contractKeys {
		if !strings.Contains(string(page), "`"+key+"`") {
			t.Errorf("docs/spans.md does not say what %s is", key)
		}
	}
	for _, k := range span.Kinds() {
		if !strings.Contains(string(page), "`"+k.String()+"`") {
			t.Errorf("docs/spans.md does not say what %s is", k)
		}
	}
	for _, list := range [][]string{
		config.DefaultNoise(), config.DefaultSensitive(), config.DefaultWorkspaceIgnore(), config.DefaultWorkspaceNever(),
	} {
		for _, p := range list {
			if !strings.Contains(string(page), p+"\n") {
				t.Errorf("docs/spans.md does not list the pattern %s", p)
			}
		}
	}
	// Every literal key in the source is in the list.
	file, err := parser.ParseFile(token.NewFileSet(), "span/keys.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(file, func(n ast.Node) bool {
		if l, ok := n.(*ast.BasicLit); ok && l.Kind == token.STRING {
			if key, err := strconv.Unquote(l.Value); err == nil && strings.HasPrefix(key, "sheetbend.") && !slices.Contains(contractKeys, key) {
				t.Errorf("%s is no key of the contract", key)
			}
		}
		return true
	})
}

func TestNamesOfSpans(t *testing.T) {
	act := func(w *world) {
		w.begin(10, one)
		w.exec(10, "/usr/bin/git", "git", "commit", "-qam", "taxes")
		w.open(10, "/repo/package.json")
		w.open(10, "/root/.aws/credentials")
		w.openWith(10, record.OpenCreated, record.Open{Path: rt.Path("/repo/new\nline"), Flags: unix.O_CREAT | unix.O_WRONLY})
		w.openWith(10, 0, record.Open{Path: rt.Path("/home/a/x"), Flags: unix.O_WRONLY})
		w.openWith(10, 0, record.Open{Name: []byte("/etc/shadow"), Error: int32(unix.EACCES)})
		w.openWith(10, 0, record.Open{Name: []byte("/root/.npmrc"), Error: int32(unix.ENOENT)})
		w.connect(10, to("[2001:db8::1]:443", unix.IPPROTO_TCP))
		w.connectEnd(10, unix.ECONNREFUSED)
		w.open(10, "/repo/deep/"+strings.Repeat("é", 120)+"\xff/file.go")
		w.attach(10, outside, "/user", true)
		w.act(10, record.Socket{Op: record.SocketMake, Family: unix.AF_PACKET, Type: unix.SOCK_RAW})
		w.act(10, record.Socket{Op: record.SocketConnect, Family: unix.AF_VSOCK, CID: 2, Port: 5})
		w.act(10, record.Namespace{Op: record.NamespaceSetns, Types: unix.CLONE_NEWNET | unix.CLONE_NEWNS})
		w.reach(10, record.AccessOutside, record.Access{Op: record.AccessWrite, TargetTgid: 1, TargetStart: 1, Exe: rt.Path("/sbin/init")})
		w.exit(10, 256)
	}
	for _, c := range []struct {
		names string
		want  []string
	}{
		{config.NamesReadable, []string{"exec git commit -qam taxes → exit 1", "read package.json", "[sensitive] read ~/.aws/credentials",
			"create new ↵ line", "[outside] write ~/x", "[sensitive] refused /etc/shadow EACCES", "[sensitive] missing ~/.npmrc ENOENT",
			"connect tcp [2001:db8::1]:443 ECONNREFUSED", "escape to /user", "socket packet raw", "connect vsock 2:5", "setns mnt,net",
			"process_vm_writev init", "read …" + strings.Repeat("é", 55) + "\uFFFD/file.go"}},
		{config.NamesVerbs, []string{"exec git", "read", "create", "write", "refused", "missing", "connect", "escape", "socket", "setns", "process_vm_writev"}},
		{config.NamesContract, []string{"process.exec", "file.open", "net.connect", "cgroup.escape", "net.socket", "process.namespace", "process.access"}},
	} {
		t.Run(c.names, func(t *testing.T) {
			w := newWorld(t, func(conf *config.Config) { conf.SpanNames = c.names })
			act(w)
			var names []string
			for _, s := range w.spans {
				if !slices.Contains(names, s.Name) {
					names = append(names, s.Name)
				}
				if get(s, span.KeyEvent) != s.Kind.String() {
					t.Errorf("%q: event %v", s.Name, get(s, span.KeyEvent))
				}
				if utf8.RuneCountInString(s.Name) > 70 || !utf8.ValidString(s.Name) {
					t.Errorf("name %q", s.Name)
				}
			}
			want := slices.Sorted(slices.Values(c.want))
			if slices.Sort(names); !slices.Equal(names, want) {
				t.Errorf("got\n%q\nwant\n%q", names, want)
			}
		})
	}
}

func TestWallClockFollowsTheClockRecords(t *testing.T) {
	w := newWorld(t)
	w.begin(10, one)
	w.exec(10, "/bin/x", "x")
	w.raw(record.AppendClock(nil, w.now, int64(wallStart)+int64(w.now-bootStart)+int64(time.Hour)))
	w.exit(10, 0)
	s := w.only(span.Exec)
	if s.Start < wallStart+uint64(time.Hour) || s.End-s.Start != ms {
		t.Errorf("span %s", show([]span.Span{s}))
	}
}

func TestAMillionShortProcessesLeaveNothing(t *testing.T) {
	count := 1_000_000
	if testing.Short() || underRace {
		count = 50_000
	}
	sink := &nullSink{}
	c, err := New(config.Config{BootID: boot, Sandboxes: []config.Selector{{Cgroup: "/agents/*"}}}, sink)
	if err != nil {
		t.Fatal(err)
	}
	begin(t, c)
	w := &workload{time: 1_000_000, pid: 2000}
	w.process(1, true)
	pid, now, tick := w.pid, w.time, []byte(nil)
	run := func(count int) {
		for n := range count {
			// The same process again under another pid, and later.
			pid++
			now += ms
			at := 0
			for _, size := range w.sizes {
				raw := w.raw[at : at+size]
				at += size
				age := uint64(at)
				binary.LittleEndian.PutUint64(raw[8:], now+age)
				switch record.Type(binary.LittleEndian.Uint16(raw)) {
				case record.TypeFork:
					binary.LittleEndian.PutUint64(raw[48:], now)
					binary.LittleEndian.PutUint32(raw[64:], pid)
				default:
					binary.LittleEndian.PutUint64(raw[24:], now)
					binary.LittleEndian.PutUint32(raw[40:], pid)
				}
				if err := c.Record(raw); err != nil && !errors.Is(err, ErrRefused) {
					t.Fatal(err)
				}
			}
			if n%100 == 99 {
				tick = record.AppendTick(tick[:0], now+ms)
				if err := c.Record(tick); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	run(count / 10)
	before := heap()
	run(count - count/10)
	after := heap()
	if s := c.Stats(); s.Processes != 1 || s.Held > 1 || c.Stats().Opens != 0 || c.Stats().Connects != 0 {
		t.Errorf("left over: %+v", s)
	}
	if after > before+1<<20 {
		t.Errorf("heap grew from %d to %d bytes", before, after)
	}
	if sink.spans < 5*count+1 || sink.spans > 5*count+1+10*count/1000 { // those that stand in in the next slices
		t.Errorf("%d spans of %d processes and one that was there before", sink.spans, count)
	}
	runtime.KeepAlive(c)
}

func TestChainOfExecsHoldsNoMemory(t *testing.T) {
	w := newWorld(t)
	w.begin(10, one)
	w.exec(10, "/bin/x", "x")
	w.exec(10, "/bin/x", "x")
	freed := make(chan struct{})
	runtime.AddCleanup(w.c.lineage.Processes[10].Program, func(ch chan struct{}) { close(ch) }, freed)
	for range 10 {
		w.exec(10, "/bin/x", "x")
	}
	for deadline := time.Now().Add(10 * time.Second); ; {
		runtime.GC()
		select {
		case <-freed:
			return
		default:
		}
		if time.Now().After(deadline) {
			t.Fatal("an image that was replaced is still held")
		}
		runtime.Gosched()
	}
}

func TestLimits(t *testing.T) {
	t.Run("the process idle for longest is forgotten, and told as lost", func(t *testing.T) {
		w := newWorld(t, func(c *config.Config) { c.MaxProcesses = 16 })
		w.begin(10, one)
		w.exec(10, "/bin/agent", "agent")
		for n := uint32(100); n < 120; n++ {
			w.fork(10, n)
			w.exec(n, "/bin/x", "x")
		}
		s := w.c.Stats()
		if s.Processes != 16 || s.EvictedProcesses != 5 || w.c.lineage.Processes[10] == nil || w.c.lineage.Processes[100] != nil {
			t.Errorf("%+v", s)
		}
		wants(t, w.execOf(100), map[string]any{span.KeyExitUnknown: true})
		w.tick(100 * time.Millisecond)
		wants(t, w.of(span.Loss)[0], map[string]any{span.KeyLost: 5, span.KeyLostCause: "table_full", span.KeyLostKind: "process"})
	})
	t.Run("a storm of forks in one sandbox forgets no process of another", func(t *testing.T) {
		w := newWorld(t, func(c *config.Config) { c.MaxProcesses = 16 })
		w.begin(10, two)
		w.exec(10, "/bin/agent", "agent")
		w.begin(20, one)
		w.exec(20, "/bin/storm", "storm")
		for n := uint32(100); n < 140; n++ {
			w.fork(20, n)
		}
		if w.c.lineage.Processes[10] == nil || w.c.lineage.Processes[20] == nil || w.c.Stats().Processes != 16 {
			t.Errorf("agent %v, storm %v, %d processes", w.c.lineage.Processes[10], w.c.lineage.Processes[20], w.c.Stats().Processes)
		}
		w.exit(10, 0)
		wants(t, w.execOf(10), map[string]any{span.KeyExitCode: 0, span.KeyExitUnknown: nil})
	})
	t.Run("the parent is not forgotten for its child when every sandbox has one process", func(t *testing.T) {
		w := newWorld(t, func(c *config.Config) { c.MaxProcesses, c.MaxCgroups = 16, 64 })
		for n := uint32(0); n < 16; n++ {
			id := uint64(200 + n)
			w.raw(record.AppendCgroup(nil, w.now, id, 1, fmt.Sprintf("/agents/n%d", n)))
			w.begin(10+n, id)
			w.exec(10+n, "/bin/x", "x")
		}
		for n := uint32(0); n < 16; n++ {
			if w.c.lineage.Processes[10+n] == nil {
				continue
			}
			w.fork(10+n, 100+n)
			if w.c.lineage.Processes[10+n] == nil || w.c.lineage.Processes[100+n] == nil {
				t.Fatalf("the parent %d is gone", 10+n)
			}
		}
	})
	t.Run("the span held for longest goes out early", func(t *testing.T) {
		w := newWorld(t, func(c *config.Config) { c.MaxPending = 16 })
		w.begin(10, one)
		w.exec(10, "/bin/x", "x")
		for n := range 100 {
			w.open(10, fmt.Sprintf("/repo/%d", n))
		}
		s := w.c.Stats()
		if s.Held != 16 || s.EarlySpans != 85 || w.c.Stats().Opens != 15 {
			t.Errorf("%+v", s)
		}
		w.exit(10, 0)
		if n := len(w.of(span.Open)); n != 100 {
			t.Errorf("%d opens", n)
		}
	})
	t.Run("the strings of held spans are bounded in all", func(t *testing.T) {
		w := newWorld(t)
		w.begin(10, one)
		w.exec(10, "/bin/x", "x")
		big := []byte(strings.Repeat("x", 60_000))
		for n := uint32(100); n < 1000; n++ {
			w.fork(10, n)
			w.execWith(n, 0, record.Exec{Exe: rt.Path("/bin/x"), Args: big, Argc: 1})
			w.records = nil
		}
		if w.c.Stats().HeldBytes > spans.MaxHeldBytes || w.c.Stats().EarlySpans == 0 {
			t.Errorf("%d bytes held", w.c.Stats().HeldBytes)
		}
		w.c.Close()
		if w.c.Stats().HeldBytes != 0 || w.c.Stats().Held != 0 {
			t.Errorf("%+v after close", w.c.Stats())
		}
	})
	t.Run("cgroups beyond the limit are told as lost", func(t *testing.T) {
		w := newWorld(t, func(c *config.Config) { c.MaxCgroups = 16 })
		for n := range uint64(30) {
			w.raw(record.AppendCgroup(nil, w.now, 1000+n, 1, fmt.Sprintf("/agents/n%d", n)))
		}
		s := w.c.Stats()
		if s.Cgroups != 16 || s.RefusedCgroups != 17 {
			t.Errorf("%+v", s)
		}
	})
	t.Run("pieces of argv without an exec are bounded", func(t *testing.T) {
		w := newWorld(t)
		piece := make([]byte, 60_000)
		for n := uint32(1); n < 2000; n++ {
			w.raw(rt.Record(w.header(n), record.ExecArgs{Args: piece}))
			w.records = nil
		}
		if a := &w.c.lineage.Arguments; a.Bytes > lineage.MaxArgPieceBytes || len(a.Open) > lineage.MaxArgPieces {
			t.Errorf("%d bytes in %d", a.Bytes, len(a.Open))
		}
	})
}

// FuzzRecord feeds a collector a stream cut and bent by the fuzzer: nothing may panic, and
// state stays bounded.
func FuzzRecord(f *testing.F) {
	// Small seeds: the fuzzer is slow with large ones. Each begins with the sandboxes.
	records := busy(f).records
	const setup, length = 4, 30
	for at := setup; at+length < len(records); at += length {
		var stream []byte
		for _, raw := range slices.Concat(records[:setup], records[at:at+length]) {
			stream = binary.LittleEndian.AppendUint16(stream, uint16(len(raw)))
			stream = append(stream, raw...)
		}
		f.Add(stream, uint64(at)%3)
	}
	f.Fuzz(func(t *testing.T, stream []byte, seed uint64) {
		sink := &checkingSink{t: t}
		c, err := New(config.Config{
			BootID: boot, Sandboxes: []config.Selector{{Cgroup: "/agents/*"}, {Container: &config.ContainerSelector{Kubernetes: true}}}, Containers: true,
			MaxProcesses: 16, MaxPending: 16, MaxCgroups: 16, MaxSpansPerTrace: 5, MaxCalls: 16, CallRetention: 5 * time.Second, Fold: config.Fold{Files: 2, Directories: 1},
		}, sink)
		if err != nil {
			t.Fatal(err)
		}
		random := rand.New(rand.NewPCG(seed, 1))
		for len(stream) >= 2 {
			n := int(binary.LittleEndian.Uint16(stream))
			stream = stream[2:]
			n = min(n, len(stream))
			raw := slices.Clone(stream[:n])
			if seed != 0 && len(raw) > 8 {
				// Leave type and size alone, so that the record gets past decoding.
				raw[8+random.IntN(len(raw)-8)] = byte(random.Uint32())
			}
			stream = stream[n:]
			// The error is the record's fault.
			_ = c.Record(raw)
			if s := c.Stats(); s.EndedCalls > 16 || s.WaitingFacts > 16 || c.Stats().OpenMarks > 16 || c.Stats().KnownCalls > 200 || c.Stats().KnownContexts > 200 || s.Processes > 16 || s.Held > 16 || s.Cgroups > 16 || s.WaitingSpans > 16 || s.Containers > 16 || c.Stats().Opens > 16 || c.Stats().Connects > 16 {
				t.Fatalf("unbounded: %+v", s)
			}
		}
		c.Close()
		if s := c.Stats(); s.Held != 0 || s.WaitingSpans != 0 || c.Stats().WaitingBytes != 0 || c.containers.Containers.Pending.Len() != 0 || c.Stats().UndecidedBytes != 0 || c.Stats().Undecided != 0 || c.Stats().Opens != 0 || c.Stats().Connects != 0 {
			t.Fatalf("held after close: %+v", s)
		}
		counted := 0
		for _, sb := range c.lineage.ByProcesses {
			of := 0
			for p := sb.Active.Oldest; p != nil; p = p.Newer {
				of++
			}
			if of != sb.Processes || of > c.lineage.ByProcesses[0].Processes {
				t.Fatalf("a sandbox has %d processes by activity, %d by count, the fullest %d", of, sb.Processes, c.lineage.ByProcesses[0].Processes)
			}
			counted += of
		}
		if counted != c.Stats().Processes {
			t.Fatalf("%d processes by activity, %d by pid", counted, c.Stats().Processes)
		}
		for len(c.lineage.ByProcesses) > 0 {
			c.lineage.End(c.lineage.ByProcesses[0].Active.Oldest, c.clock.Now, lineage.Ending{Unknown: true})
		}
		for _, g := range c.lineage.Cgroups {
			c.attribution.Marks.Unmark(&g.Marks)
		}
		harnesses := 0
		for e := c.lineage.Sandboxes.Front(); e != nil; e = e.Next() {
			harnesses += len(e.Value.(*lineage.Sandbox).MarkerAgents)
		}
		if s := c.Stats(); s.Agents != harnesses || c.Stats().OpenMarks != 0 {
			t.Fatalf("%d agents and %d marks without a process, %d harnesses", s.Agents, c.Stats().OpenMarks, harnesses)
		}
		for _, k := range c.attribution.Calls {
			if !k.Life.Over || k.Life.Processes != 0 {
				t.Fatalf("a call without processes goes on: %+v", k)
			}
		}
	})
}

type checkingSink struct{ t *testing.T }

func (s *checkingSink) Span(sp *span.Span) {
	if sp.ID == (span.ID{}) || sp.Trace == (span.TraceID{}) {
		s.t.Fatal("a zero id")
	}
	if !utf8.ValidString(sp.Name) || !utf8.ValidString(sp.Session) || !utf8.ValidString(sp.Status) {
		s.t.Fatalf("no UTF-8: %q %q %q", sp.Name, sp.Session, sp.Status)
	}
	for _, a := range sp.Attrs {
		if !utf8.ValidString(a.Str) {
			s.t.Fatalf("%s is no UTF-8: %q", a.Key, a.Str)
		}
		for _, v := range a.List {
			if !utf8.ValidString(v) {
				s.t.Fatalf("%s is no UTF-8: %q", a.Key, v)
			}
		}
	}
}

func (s *checkingSink) Flush() {}
