// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sheetbend/sheetbend/collector/config"
	"github.com/sheetbend/sheetbend/collector/notable"
	"github.com/sheetbend/sheetbend/collector/record"
	rt "github.com/sheetbend/sheetbend/collector/recordtest"
	"github.com/sheetbend/sheetbend/collector/span"
	"github.com/sheetbend/sheetbend/exporters/otlp"
)

// accounted are the keys of the account of a call, an agent or a sandbox.
var accounted = func() map[string]bool {
	keys := map[string]bool{}
	for _, key := range []string{
		span.KeyCallSummary, span.KeySessionSummary, span.KeyPrograms, span.KeyProgramsFailed, span.KeyFilesRead, span.KeyFilesRefused,
		span.KeySecrets, span.KeySecretNames, span.KeyOutsideCount, span.KeyOutsideNames, span.KeyHosts, span.KeyHostNames, span.KeyHostBytes,
		span.KeySumSent, span.KeySumReceived, span.KeySumCPU, span.KeySumMemory, span.KeyNotables, span.KeyNotableCounts, span.KeyNotableLines,
		span.KeyCalls, span.KeyCallsFailed, span.KeyCallsDenied,
	} {
		keys[key] = true
	}
	return keys
}()

// sumOf adds up what a query over spans finds, by the keys of the account.
func sumOf(spans []*span.Span) map[string]int64 {
	sum, hosts := map[string]int64{}, map[string]bool{}
	for _, s := range spans {
		a := span.Attrs(s.Attrs)
		count, ok := a.Int(span.KeyCount)
		if !ok {
			count = 1
		}
		add := func(key string, n int64, when bool) {
			if when && n > 0 {
				sum[key] += n
			}
		}
		outcome, file := span.Outcome(a.Text(span.KeyOutcome)), s.Kind == span.Open || s.Kind == span.Change
		program := s.Kind == span.Exec || s.Kind == span.Exit
		add(span.KeyPrograms, 1, s.Kind == span.Start || s.Kind == span.Exec && !s.StandIn && !a.Is(span.KeyNoticed))
		add(span.KeyProgramsFailed, 1, program && s.Failed && !a.Is(span.KeyWorker))
		add(span.KeyFilesRead, count, s.Kind == span.Open && outcome == span.OK && a.Text(span.KeyFileAccess) == "read")
		add(span.KeyFilesRefused, count, file && outcome == span.Refused)
		add(span.KeySecrets, count, file && a.Is(span.KeySensitive) && (outcome == span.OK || outcome == span.Refused) &&
			!notable.TouchesNone(a.Text(span.KeyKnown), a.Text(span.KeyFileAccess), a.Text(span.KeyFileOperation), a.Text(span.KeyFilePath)))
		add(span.KeyOutsideCount, count, file && a.Is(span.KeyOutside))
		if name := a.Text(span.KeyServerAddress); (s.Kind == span.Connect || s.Kind == span.ConnectStart) && name != "" {
			port, _ := a.Int(span.KeyServerPort)
			hosts[fmt.Sprint(name, " ", port)] = true
		}
		for _, n := range []struct {
			key, of string
			when    bool
		}{
			{span.KeySumSent, span.KeyBytesSent, s.Kind == span.Close},
			{span.KeySumReceived, span.KeyBytesReceived, s.Kind == span.Close},
			{span.KeySumCPU, span.KeyCPUTime, program}, {span.KeyLost, span.KeyLost, s.Kind == span.Loss},
		} {
			v, _ := a.Int(n.of)
			add(n.key, v, n.when)
		}
		if peak, _ := a.Int(span.KeyPeakMemory); program && peak > sum[span.KeySumMemory] {
			sum[span.KeySumMemory] = peak
		}
		_, is := notable.Of(s)
		add(span.KeyNotables, 1, is)
		ended := s.Kind == span.SessionCall && !a.Is(span.KeyPartial)
		add(span.KeyCalls, 1, ended)
		add(span.KeyCallsFailed, 1, ended && s.Failed)
		add(span.KeyCallsDenied, 1, ended && a.Text(span.KeyApproval) == "denied")
	}
	if len(hosts) > 0 {
		sum[span.KeyHosts] = int64(len(hosts))
	}
	return sum
}

// A nesting says in what agents were started, as their session spans tell.
type nesting struct {
	outer   map[string]*span.Span // by instance: the session.call, or the session
	claimed map[string]bool       // calls in which processes have marked others
}

func startedIn(spans []*span.Span) nesting {
	n := nesting{map[string]*span.Span{}, map[string]bool{}}
	at := map[span.Link]*span.Span{}
	for _, s := range spans {
		at[span.Link{Trace: s.Trace, Span: s.ID}] = s
		switch a := span.Attrs(s.Attrs); a.Text(span.KeyAttribution) {
		case "claimed", "marker":
			n.claimed[a.Text(span.KeyParentCall)] = true
		}
	}
	for _, s := range spans {
		for _, l := range s.Links {
			if s.Kind == span.Session && !s.StandIn && l.Rel == span.ToParent {
				n.outer[s.Instance] = at[l.Link]
			}
		}
	}
	return n
}

// within says whether an agent was started in another one, or in a call of it; up to three levels count.
func (n nesting) within(instance, in string, call span.ID) bool {
	for range 3 {
		s := n.outer[instance]
		if s == nil {
			return false
		}
		if instance = s.Instance; instance == in {
			return call == (span.ID{}) || s.ID == call
		}
	}
	return false
}

// everybodys says whether a span is of a loss that each agent of a sandbox is told, those around it, too.
func everybodys(s *span.Span) bool {
	a := span.Attrs(s.Attrs)
	return s.Kind == span.Loss && a.Find(span.KeyExecutablePath) == nil && !a.Is(span.KeyUnknownProcess)
}

// CheckAccounts holds every account among spans, which are in their order, against the sums of the spans before it. Of
// a call these are its own; in a call that is in the agent's own trace they are there, too. It says how many calls and
// others it has looked at.
func CheckAccounts(t testing.TB, spans []*span.Span) (calls, others int) {
	t.Helper()
	keys := []string{
		span.KeyPrograms, span.KeyProgramsFailed, span.KeyFilesRead, span.KeyFilesRefused, span.KeySecrets, span.KeyOutsideCount,
		span.KeyHosts, span.KeySumSent, span.KeySumReceived, span.KeySumCPU, span.KeySumMemory, span.KeyNotables, span.KeyLost,
		span.KeyCalls, span.KeyCallsFailed, span.KeyCallsDenied,
	}
	in := startedIn(spans)
	for at, s := range spans {
		a := span.Attrs(s.Attrs)
		var of []*span.Span
		switch {
		case s.Kind == span.SessionCall:
			calls++
			if in.claimed[a.Text(span.KeyCallID)] {
				continue
			}
			for _, other := range spans[:at+1] {
				b := span.Attrs(other.Attrs)
				same := func(key string) bool { return a.Text(key) != "" && a.Text(key) == b.Text(key) }
				if other.Instance == s.Instance && (same(span.KeyCallID) || same(span.KeyCallContext)) &&
					b.Text(span.KeyAttribution) != "started_by" && (other == s || other.Kind != span.SessionCall) {
					of = append(of, other)
				} else if in.within(other.Instance, s.Instance, s.ID) && other.Start <= s.End && other != s && !everybodys(other) {
					of = append(of, other)
				}
			}
		case s.Kind == span.SandboxEnd, s.Kind == span.SessionEnd, s.Kind == span.Session && !a.Is(span.KeyPartial) && !s.StandIn:
			others++
			for _, other := range spans[:at] {
				if other.Instance == s.Instance || in.within(other.Instance, s.Instance, span.ID{}) && !other.Kind.Story() && !everybodys(other) {
					of = append(of, other)
				}
			}
		default:
			continue
		}
		want, got := sumOf(of), map[string]int64{}
		if s.Kind == span.SessionCall {
			for _, key := range []string{span.KeyCalls, span.KeyCallsFailed, span.KeyCallsDenied} {
				delete(want, key)
			}
		}
		for _, key := range keys {
			if n, ok := a.Int(key); ok {
				got[key] = n
			}
		}
		summary := a.Text(span.KeyCallSummary) + a.Text(span.KeySessionSummary)
		if lost := got[span.KeyLost]; lost > 0 != strings.Contains(summary, fmt.Sprint(" · ", lost, " records lost")) && !strings.HasPrefix(summary, fmt.Sprint(lost, " records lost")) {
			t.Errorf("%d records lost, and %q", lost, summary)
		}
		if !maps.Equal(got, want) || summary == "" || len(summary) > 300 {
			t.Errorf("%s %s (%s):\n%v\nwant\n%v", s.Kind, a.Text(span.KeyCallTitle), summary, got, want)
		}
		for _, l := range []struct{ count, names string }{
			{span.KeySecrets, span.KeySecretNames}, {span.KeyOutsideCount, span.KeyOutsideNames}, {span.KeyHosts, span.KeyHostNames},
		} {
			if n, names := got[l.count], a.List(l.names); int64(len(names)) > n || n > 0 && len(names) == 0 {
				t.Errorf("%d of %s, with the names %q", n, l.count, names)
			}
		}
	}
	return calls, others
}

// checkAccounts is CheckAccounts of all that was sent.
func (w *world) checkAccounts() {
	w.t.Helper()
	var all []*span.Span
	for i := range w.spans {
		all = append(all, &w.spans[i])
	}
	CheckAccounts(w.t, all)
}

func TestTheAccountOfACall(t *testing.T) {
	w := newWorld(t)
	w.codex(10)
	w.command(10, 11, "call_1", "bash", "-c", "make")
	w.fork(11, 12)
	w.exec(12, "/usr/bin/make", "make")
	w.open(12, "/repo/a")
	w.open(12, "/repo/a")
	w.open(12, "/home/u/.aws/credentials")
	w.openWith(12, 0, record.Open{Error: int32(unix.EACCES), Name: []byte("/srv/x"), Flags: unix.O_WRONLY})
	for n, file := range []string{"/repo/out.o", "/etc/cron.d/job", "/tmp/x", "/home/u/.codex/log"} {
		w.write(12, file, uint64(n+1), true)
	}
	w.change(12, 0, "/repo/out.o", "/opt/out.o", record.Change{Op: record.ChangeRename, Inode: 1})
	w.connected(12, "192.0.2.1:443")
	w.closed(12, 5, record.Close{Sent: 700, Received: 1_234_567})
	w.connected(12, "192.0.2.1:443")
	w.raw(record.AppendLoss(nil, record.Header{Cgroup: two, Tgid: 12, Start: start(12)},
		record.Loss{Kind: record.TypeOpen, Cause: record.CauseRingFull, Count: 5, From: w.now, To: w.now}))
	w.fork(12, 13)
	w.exec(13, "/bin/server", "server")
	w.listen(13, "127.0.0.1", 8080, 0)
	w.exit(12, 2<<8)
	w.exit(11, 2<<8)
	w.tick(3 * time.Second)
	s := w.told("call_1")
	wants(t, s, map[string]any{
		span.KeyPrograms: 3, span.KeyProgramsFailed: 1, span.KeyFilesRead: 3, span.KeyFilesRefused: 1,
		span.KeySecrets: 1, span.KeySecretNames: []string{"/home/u/.aws/credentials"},
		span.KeyOutsideCount: 2, span.KeyOutsideNames: []string{"/opt/out.o", "/etc/cron.d/job"},
		span.KeyHosts: 1, span.KeyHostNames: []string{"192.0.2.1:443"}, span.KeySumSent: 700, span.KeySumReceived: 1_234_567,
		span.KeyLost: 5, span.KeyCallLeft: 1, span.KeyLeftPrograms: []string{"server"}, span.KeyLeftListens: []string{"127.0.0.1:8080"},
	})
	const want = "3 programs (1 failed) · 5 records lost · 4 created · → 192.0.2.1:443 (1.23 MB in, 700 B out) · read secret ~/.aws/credentials" +
		" · outside: /opt/out.o +1 · 1 refused · left running: server at 127.0.0.1:8080"
	if got := get(s, span.KeyCallSummary); got != want {
		t.Errorf("%q\nwant %q", got, want)
	}
	var fresh []any
	for _, s := range w.of(span.Connect) {
		fresh = append(fresh, get(s, span.KeyNewDestination))
	}
	if fmt.Sprint(fresh) != "[true <nil>]" {
		t.Errorf("new: %v", fresh)
	}
	for file, outside := range map[string]any{"/repo/out.o": nil, "/etc/cron.d/job": true, "/tmp/x": nil, "/home/u/.codex/log": nil, "/home/u/.aws/credentials": nil} {
		if s := w.opened(file); get(s, span.KeyOutside) != outside {
			t.Errorf("%s: outside %v", file, get(s, span.KeyOutside))
		}
	}
	// What comes later is the agent's only.
	w.closed(12, 5, record.Close{Sent: 1, Received: 2})
	w.exit(13, 0)
	w.exit(10, 0)
	w.tick(3 * time.Second)
	wants(t, w.only(span.SessionEnd), map[string]any{
		span.KeyPrograms: 4, span.KeySumSent: 701, span.KeySumReceived: 1_234_569, span.KeyLost: 5, span.KeyWorkspace: "/repo",
		span.KeyCalls: 1, span.KeyCallsFailed: 1, span.KeyCallsDenied: nil,
	})
	w.checkAccounts()
}

// However late the next tick is, and whatever is drained: what a call did in its time is on its session.call.
func TestAnAccountHasWhatWasHeld(t *testing.T) {
	for _, end := range []func(*world){
		func(w *world) { w.tick(time.Minute) },
		func(w *world) { w.c.Close() },
		func(w *world) { w.c.Restart().Drain() },
	} {
		for _, reports := range []bool{false, true} {
			w := newWorld(t, func(c *config.Config) { c.Names = true })
			w.codex(10)
			w.command(10, 11, "call_1", "bash", "-c", "x")
			if reports {
				w.say(decided("call_1", "approved", "user"))
			}
			w.fork(11, 12)
			w.exec(12, "/bin/server", "server")
			w.exit(11, 0)
			w.open(12, "/repo/left")
			w.connected(12, "192.0.2.1:443")
			w.exit(10, 0)
			end(w)
			wants(t, w.told("call_1"), map[string]any{span.KeyPrograms: 2, span.KeyFilesRead: nil, span.KeyHosts: nil})
			w.c.Close()
			w.checkAccounts()
		}
	}
}

func TestTheAccountOfAnAgentInACall(t *testing.T) {
	w := newWorld(t)
	w.codex(10)
	w.command(10, 11, "call_1", "bash", "-c", "claude -p x")
	w.fork(11, 12)
	w.start(12, "/usr/bin/claude", false)
	w.open(12, "/etc/shadow")
	w.connected(12, "192.0.2.1:443")
	w.exit(12, 0)
	w.connected(11, "192.0.2.1:443")
	w.exit(11, 0)
	w.connected(10, "192.0.2.1:80")
	w.exit(10, 0)
	w.tick(3 * time.Second)
	want := map[string]any{span.KeyPrograms: 2, span.KeySecrets: 1, span.KeyHosts: 1, span.KeyNotables: 2}
	wants(t, w.told("call_1"), want)
	sessions := map[any]span.Span{}
	for _, s := range w.of(span.Session) {
		sessions[get(s, span.KeyAgentName)] = s
	}
	want[span.KeyPrograms] = 1
	wants(t, sessions["claude-code"], want)
	want[span.KeyPrograms], want[span.KeyHosts], want[span.KeyNotables], want[span.KeyCalls] = 3, 2, 3, 1
	wants(t, sessions["codex"], want)
	var fresh []any
	for _, s := range w.of(span.Connect) {
		fresh = append(fresh, get(s, span.KeyNewDestination))
	}
	if fmt.Sprint(fresh) != "[true <nil> true]" { // what codex has started has connected there before
		t.Errorf("new: %v", fresh)
	}
}

func TestTheAccountOfWhatIsNoAgents(t *testing.T) {
	w := newWorld(t)
	w.begin(10, one)
	w.exec(10, "/bin/sh", "sh")
	w.open(10, "/etc/shadow")
	w.connected(10, "192.0.2.1:443")
	w.exit(10, 0)
	w.closed(10, 5, record.Close{Sent: 1})
	w.raw(rt.Record(record.Header{Time: w.now, Type: record.TypeCgroupRmdir}, record.Cgroup{ID: one, Path: []byte("/agents/one")}))
	w.tick(3 * time.Second)
	s := w.only(span.SandboxEnd)
	wants(t, s, map[string]any{
		span.KeyPrograms: 1, span.KeySecrets: 1, span.KeyHosts: 1, span.KeySumSent: 1, span.KeyPartial: nil,
		span.KeySessionSummary: "1 program · → 192.0.2.1:443 (1 B out) · read secret /etc/shadow",
	})
	if s.Start != w.execOf(10).Start || s.Parent != w.execOf(10).ID {
		t.Errorf("%s", show([]span.Span{s}))
	}
	w.checkAccounts()
	w.c.Close()
	w.only(span.SandboxEnd)
}

func TestWorkspaces(t *testing.T) {
	for _, c := range []struct {
		at, file string
		outside  any
	}{
		{"/repo", "/repo", nil}, {"/repo", "/repo/a", nil}, {"/repo", "/repo2", true}, {"/repo", "/etc/passwd", true},
		{"/repo", "/var/tmp/x", nil}, {"/repo", "/dev/shm/x", nil}, {"/repo", "/dev/null", nil},
		{"/repo", "/root/.cache/pip/x", nil}, {"/repo", "/root/go/pkg/mod/x", nil}, {"/repo", "/root/.cargo/config.toml", true},
		{"/repo", "/home/u/.codex/x", nil}, {"/repo", "/home/u/.claude/settings.json", true},
		{"/", "/app/x", nil}, {"/", "/etc/cron.d/x", true}, {"/", "/root/.bashrc", true}, {"/", "/tmp/x", nil},
		{"/home/u", "/home/u/x", nil}, {"/home/u", "/home/u/.bashrc", true}, {"/home/u", "/home/u/.config/a/b", true},
		{"/home/u", "/home/u/.cache/x", nil}, {"/home/u", "/home/v/x", true}, {"/root", "/root/x/.env", nil},
	} {
		for _, agent := range []string{"/usr/bin/codex", "/bin/sh"} {
			w := newWorld(t)
			w.begin(10, two)
			w.execWith(10, 0, record.Exec{Exe: rt.Path(agent), Args: rt.Args(agent), Cwd: append(record.Components{}, rt.Path(c.at)...)})
			w.fork(10, 11)
			w.execWith(11, 0, record.Exec{Exe: rt.Path("/bin/touch"), Args: rt.Args("touch"), Cwd: rt.Path("/elsewhere")})
			w.write(11, c.file, 7, true)
			w.c.Close()
			want := c.outside
			if agent == "/bin/sh" && strings.Contains(c.file, "/.codex/") {
				want = true
			}
			if got := get(w.opened(c.file), span.KeyOutside); got != want {
				t.Errorf("%s, %s in %s: outside %v", agent, c.file, c.at, got)
			}
		}
	}
}

// A session.call is small, whatever its call does.
func TestASessionCallIsBounded(t *testing.T) {
	w := newWorld(t)
	w.codex(10)
	w.command(10, 11, "call_"+strings.Repeat("x", 240), "bash", "-c", strings.Repeat("\u4e16", 100))
	long := strings.Repeat("\u4e16", 80)
	for n := range 3000 {
		w.write(11, fmt.Sprintf("/etc/%d%s/%s", n, long, long), uint64(n+1), true)
		w.open(11, fmt.Sprintf("/home/%d/.ssh/%s/%s", n, long, long))
		w.connect(11, to(fmt.Sprintf("10.0.%d.%d:443", n/250, n%250), unix.IPPROTO_TCP))
		w.connectEnd(11, 0)
	}
	for n := range uint32(20) {
		w.fork(11, 100+n)
		w.exec(100+n, fmt.Sprintf("/bin/%d%s", n, long), "x")
		w.listen(100+n, "127.0.0.1", uint16(n+1), 0)
	}
	w.exit(11, 0)
	w.tick(3 * time.Second)
	s := w.only(span.SessionCall)
	size := 0
	e := otlp.NewEncoder("", otlp.Limits{}, func(b otlp.Batch) { size = b.Size() })
	e.Span(&s)
	e.Flush()
	if size > 8<<10 || size < 4<<10 {
		t.Errorf("%d bytes", size)
	}
	wants(t, s, map[string]any{span.KeyHosts: 1024, span.KeySecrets: 3000, span.KeyOutsideCount: 3000, span.KeyCallLeft: 20})
	for _, key := range []string{span.KeySecretNames, span.KeyOutsideNames, span.KeyNotableLines, span.KeyHostNames, span.KeyLeftListens, span.KeyFilesCreatedNames} {
		if get(s, key) == nil {
			t.Errorf("no %s", key)
		}
	}
	t.Log(size, get(s, span.KeyCallSummary))
}

// Who makes many notable things, however grave, hides no secret that is read after them.
func TestAFloodHidesNoSecret(t *testing.T) {
	w := newWorld(t)
	w.codex(10)
	w.command(10, 11, "call_1", "bash", "-c", "flood")
	for n := range 300 {
		w.connect(11, to(fmt.Sprintf("10.0.%d.%d:443", n/250, n%250), unix.IPPROTO_TCP))
		w.connectEnd(11, 0)
		w.write(11, fmt.Sprintf("/opt/%d", n), uint64(n+1), true)
		w.reach(11, record.AccessOutside, record.Access{Op: record.AccessAttach, TargetTgid: uint32(1000 + n), TargetStart: 1})
	}
	w.open(11, "/home/u/.aws/credentials")
	w.exit(11, 0)
	w.exit(10, 0)
	w.tick(3 * time.Second)
	for _, s := range []span.Span{w.told("call_1"), w.only(span.Session)} {
		wants(t, s, map[string]any{
			span.KeyNotables: 901, span.KeyNotableCounts: []string{"access 300", "secret 1", "outside 300", "destination 300"},
		})
		lines, _ := get(s, span.KeyNotableLines).([]string)
		if len(lines) != 20 || !slices.Contains(lines, "bash read /home/u/.aws/credentials") {
			t.Errorf("%s: %q", s.Kind, lines)
		}
	}
	wants(t, w.opened("/home/u/.aws/credentials"), map[string]any{span.KeyNotableEvent: "secret", span.KeyNotableSeverity: "WARN"})
}

// Of each destination it is told how much went over; names are kept of those with the most, however many came first.
func TestBytesOfEachHost(t *testing.T) {
	w := newWorld(t)
	w.codex(10)
	w.command(10, 11, "call_1", "bash", "-c", "send")
	send := func(address string, sent, received uint64) {
		w.connected(11, address)
		w.closed(11, 5, record.Close{Sent: sent, Received: received})
	}
	for n := range 30 {
		send(fmt.Sprintf("10.0.0.%d:443", n), 1, 0)
	}
	send("192.0.2.1:443", 700, 50)
	send("192.0.2.2:443", 5, 9000)
	send("192.0.2.1:443", 300, 0)
	w.exit(11, 0)
	w.exit(10, 0)
	w.tick(3 * time.Second)
	for _, s := range []span.Span{w.told("call_1"), w.only(span.Session)} {
		names, _ := get(s, span.KeyHostNames).([]string)
		bytes, _ := get(s, span.KeyHostBytes).([]string)
		if len(names) != 10 || len(bytes) != 10 || fmt.Sprint(names[:3], bytes[:3]) != "[192.0.2.2:443 192.0.2.1:443 10.0.0.0:443] [9000 5 50 1000 0 1]" {
			t.Errorf("%s: %q %q", s.Kind, names, bytes)
		}
		wants(t, s, map[string]any{span.KeyHosts: 32, span.KeySumSent: 1035, span.KeySumReceived: 9050})
	}
	w.checkAccounts()
}

// Who has done nothing but what was refused, or of whom only a loss is known, has done something.
func TestWhatWasRefusedOrLostIsTold(t *testing.T) {
	for want, do := range map[string]func(w *world){
		"a process was refused to run /repo/x (EACCES)": func(w *world) {
			w.refused(10, 0, record.ExecFailed{Name: []byte("/repo/x"), Error: int32(unix.EACCES)})
		},
		"a process was refused namespaces (net) (EPERM)": func(w *world) {
			w.act(10, record.Namespace{Op: record.NamespaceUnshare, Types: unix.CLONE_NEWNET, Error: int32(unix.EPERM)})
		},
		"1 refused": func(w *world) {
			w.openWith(10, 0, record.Open{Error: int32(unix.EACCES), Name: []byte("/srv/x"), Flags: unix.O_WRONLY})
		},
		"5 records lost": func(w *world) {
			w.raw(record.AppendLoss(nil, record.Header{Cgroup: one, Tgid: 10, Start: start(10)},
				record.Loss{Kind: record.TypeOpen, Cause: record.CauseRingFull, Count: 5, From: w.now, To: w.now}))
		},
	} {
		w := newWorld(t)
		w.begin(10, one)
		w.tick(3 * time.Second)
		do(w)
		w.c.Close()
		s := w.only(span.SandboxEnd)
		if got := fmt.Sprint(get(s, span.KeySessionSummary)); !strings.Contains(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
