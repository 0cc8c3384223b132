// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/sheetbend/sheetbend/collector/config"
	"github.com/sheetbend/sheetbend/collector/record"

	rt "github.com/sheetbend/sheetbend/collector/recordtest"
	"github.com/sheetbend/sheetbend/collector/span"
)

// command starts the first process of a call of codex.
func (w *world) command(agent, pid uint32, id string, args ...string) {
	w.t.Helper()
	w.fork(agent, pid)
	w.execWith(pid, record.ExecSessionLeader, record.Exec{
		Exe: rt.Path("/bin/" + args[0]), Args: rt.Args(args...), Argc: uint32(len(args)), UID: 1000, EUID: 1000,
		Env: rt.Args("CODEX_SESSION_ID=sess", "CODEX_TOOL_CALL_ID="+id),
	})
}

// told gives the session.call of a call.
func (w *world) told(id string) span.Span {
	w.t.Helper()
	for _, s := range w.of(span.SessionCall) {
		if get(s, span.KeyCallID) == id {
			return s
		}
	}
	w.t.Fatalf("no session.call of %s in %s", id, show(w.spans))
	return span.Span{}
}

func lasted(s span.Span) time.Duration { return time.Duration(s.End - s.Start) }

func TestAStoryHasARowForEachCall(t *testing.T) {
	w := newWorld(t)
	w.begin(10, two)
	w.execWith(10, 0, record.Exec{Exe: rt.Path("/usr/bin/codex"), Args: rt.Args("codex", "exec", "-c", "api_key=sk-s3cr3t0123456789abcdef", "-s", "danger-full-access"), Argc: 6, UID: 1000})
	w.command(10, 11, "call_1", "bash", "-lc", "make test | tail")
	w.fork(11, 12)
	w.start(12, "/usr/bin/make", false)
	w.tick(5 * time.Second)
	w.exit(12, 2<<8)
	w.exit(11, 2<<8)
	w.command(10, 21, "call_2", "bash", "-lc", "server &")
	w.fork(21, 22)
	w.start(22, "/bin/server", false)
	w.exit(21, 0)
	w.command(10, 31, "call_3", "bash", "-lc", "yes")
	w.exit(31, 9)
	w.tick(3 * time.Second)
	instance := span.AgentInstance(boot, image1(10, 1))
	story := span.StoryFor(instance, 0)
	session := w.only(span.Session)
	if session.ID != span.SessionSpan(instance, 0) || session.Trace != story || session.Parent != (span.ID{}) || len(session.Links) != 0 {
		t.Errorf("%s", show([]span.Span{session}))
	}
	wants(t, session, map[string]any{
		span.KeyPartial: true, span.KeyAgentName: "codex", span.KeyPID: 10, span.KeyInstance: instance, span.KeyArgsMasked: true,
		span.KeyCommandLine: "codex exec -c 'api_key=****' -s danger-full-access", span.KeyCallID: nil, span.KeySessionID: "sess",
	})
	if get(session, span.KeyCreationTime) == nil {
		t.Error("no creation time")
	}
	for _, c := range []struct {
		id   string
		want map[string]any
	}{
		{"call_1", map[string]any{span.KeyCallTitle: "make test | tail", span.KeyOutcome: "failed", span.KeyCallExitCode: 2, span.KeyCallLeft: nil, span.KeyPartial: nil, span.KeyApproval: "unknown"}},
		{"call_2", map[string]any{span.KeyCallTitle: "server &", span.KeyOutcome: "ok", span.KeyCallExitCode: 0, span.KeyCallLeft: 1, span.KeyPartial: nil}},
		{"call_3", map[string]any{span.KeyCallTitle: "yes", span.KeyOutcome: "failed", span.KeyCallExitCode: nil, span.KeyCallExitSignal: "SIGKILL"}},
	} {
		s := w.told(c.id)
		wants(t, s, c.want)
		if s.ID != span.CallSpan(instance, w.nameOf(instance, c.id)) || s.Trace != story || s.Parent != session.ID || s.Failed != (c.id != "call_2") {
			t.Errorf("%s", show([]span.Span{s}))
		}
		detail := w.topOf(instance, c.id)
		if len(s.Links) != 1 || s.Links[0] != (span.Ref{Link: detail, Rel: span.ToDetail}) {
			t.Errorf("%s leads to %v", c.id, s.Links)
		}
	}
	if d := lasted(w.told("call_1")); d < 5*time.Second || d > 5100*time.Millisecond {
		t.Errorf("call_1 lasted %v", d)
	}
	if len(w.of(span.SessionEnd)) != 0 {
		t.Error("the agent is not over")
	}
	w.exit(22, 0)
	w.exit(10, 0)
	w.tick(3 * time.Second)
	end := w.only(span.SessionEnd)
	if end.ID != span.SessionEndSpan(instance) || end.Trace != story || end.Parent != session.ID || end.Start != session.Start || lasted(end) < 8*time.Second {
		t.Errorf("%s", show([]span.Span{end}))
	}
	if n := len(w.of(span.SessionCall)); n != 3 {
		t.Errorf("%d calls", n)
	}
	for _, s := range w.of(span.SessionCall) {
		tool := w.tool(get(s, span.KeyCallID).(string))
		back := span.Ref{Link: span.Link{Trace: s.Trace, Span: s.ID}, Rel: span.ToStory}
		if s.Links[0].Span != tool.ID || !slices.Contains(tool.Links, back) || get(tool, span.KeyCallTitle) != get(s, span.KeyCallTitle) {
			t.Errorf("%s %v", show([]span.Span{tool}), tool.Links)
		}
	}
	if notice := w.of(span.ToolStart); len(notice) != 2 || get(notice[0], span.KeyCallTitle) != "make test | tail" {
		t.Errorf("%s", show(notice))
	}
}

func TestAnAgentThatEndsWithinTheHoldIsOneSession(t *testing.T) {
	w := newWorld(t)
	w.codex(10)
	w.exit(10, 0)
	w.begin(50, one)
	w.exec(50, "/bin/true", "true")
	w.tick(3 * time.Second)
	w.c.Close()
	s := w.only(span.Session)
	wants(t, s, map[string]any{span.KeyPartial: nil, span.KeyPID: 10})
	if lasted(s) != time.Millisecond || len(w.of(span.SessionEnd)) != 0 {
		t.Errorf("%s", show(w.spans))
	}
}

func TestAStoryGoesOnInParts(t *testing.T) {
	for _, c := range []struct {
		name, id string
		most     int // bytes of a trace
		least    int // parts
	}{
		{"by calls", "", 0, 6},
		{"with long ids", strings.Repeat("x", 250), 0, 6},
		{"by bytes", strings.Repeat("x", 250), 1 << 18, 20},
	} {
		t.Run(c.name, func(t *testing.T) {
			const total = 1001
			w := newWorld(t, func(config *config.Config) { config.MaxTraceBytes = c.most })
			w.existing(40, 1, "/bin/sh")
			for n := range total {
				m := record.Mark{Op: record.MarkBegin, Call: fmt.Sprint(n, c.id), TargetTgid: 40, TargetStart: start(40), PeerCgroup: outside}
				w.mark(harness, m)
				m.Op = record.MarkEnd
				w.mark(harness, m)
				w.tick(100 * time.Millisecond)
			}
			w.tick(3 * time.Second)
			w.c.Close()
			instance := w.of(span.SessionCall)[0].Instance
			ids, calls, bytes := map[span.ID]bool{}, map[span.TraceID]int{}, map[span.TraceID]int{}
			roots := map[span.TraceID]span.ID{}
			for _, s := range w.spans {
				if !s.Kind.Story() {
					continue
				}
				if ids[s.ID] {
					t.Fatalf("id twice: %s", show([]span.Span{s}))
				}
				ids[s.ID] = true
				for _, a := range s.Attrs {
					bytes[s.Trace] += len(a.Key) + len(a.Str) + 16
				}
				if s.Kind == span.SessionCall {
					calls[s.Trace]++
				}
			}
			sessions := w.of(span.Session) // the first one waits for its hold, and the others for nothing
			slices.SortFunc(sessions, func(a, b span.Span) int { return cmp.Compare(a.Start, b.Start) })
			first := span.Ref{Link: span.Link{Trace: span.StoryFor(instance, 0), Span: span.SessionSpan(instance, 0)}, Rel: span.ToStory}
			for n, s := range sessions {
				part := uint64(n)
				var links []span.Ref
				if n > 0 {
					links = []span.Ref{first}
				}
				if s.Trace != span.StoryFor(instance, part) || s.ID != span.SessionSpan(instance, part) || s.Parent != (span.ID{}) ||
					!slices.Equal(s.Links, links) || (n > 0) != (get(s, span.KeyStandIn) == true) {
					t.Errorf("part %d: %s %v", n, show([]span.Span{s}), s.Links)
				}
				roots[s.Trace] = s.ID
			}
			for _, s := range w.of(span.SessionCall) {
				if roots[s.Trace] != s.Parent {
					t.Fatalf("no root: %s", show([]span.Span{s}))
				}
			}
			if len(roots) != len(calls) || len(roots) < c.least || len(w.of(span.SessionCall)) != total {
				t.Errorf("%d parts, %v", len(roots), calls)
			}
			for trace, n := range calls {
				if n > 200 || bytes[trace] > 2<<20 || c.most > 0 && bytes[trace] > c.most {
					t.Errorf("%d calls and %d bytes", n, bytes[trace])
				}
			}
		})
	}
}

func TestSessionCallWaitsForWhatAgentsReport(t *testing.T) {
	silent := newWorld(t)
	silent.codex(10)
	silent.command(10, 11, "call_1", "bash", "-c", "x")
	silent.exit(11, 0)
	silent.tick(2 * time.Second)
	if len(silent.of(span.SessionCall)) != 1 {
		t.Error("it waits longer than the hold for nothing")
	}

	w := newWorld(t)
	w.codex(10)
	w.command(10, 11, "call_1", "bash", "-c", "x")
	w.say(decided("call_1", "approved", "user"))
	w.exit(11, 0)
	w.tick(9 * time.Second)
	if _, waits := w.c.Restart().Since(); !waits || len(w.of(span.SessionCall)) != 0 {
		t.Error("it does not wait, or a restart would forget it")
	}
	w.say(record.Said{Kind: record.SaidResult, Session: "sess", Call: "call_1", Tool: "shell", Success: record.SuccessFailed})
	w.tick(time.Second)
	wants(t, w.told("call_1"), map[string]any{
		span.KeyOutcome: "failed", span.KeyApproval: "approved", span.KeyApprovalSource: "user", span.KeyCallExitCode: 0, span.KeyToolName: "exec_command",
	})
	w.say(decided("call_1", "denied", "user"))
	w.exit(10, 0)
	w.tick(10 * time.Second)
	wants(t, w.only(span.SessionEnd), map[string]any{span.KeyLateReports: 1})
	if _, waits := w.c.Restart().Since(); waits {
		t.Error("nothing waits any more")
	}
}

func TestAMarkSaysWhenItsCallEnds(t *testing.T) {
	w := newWorld(t)
	w.existing(40, 1, "/bin/sh")
	m := record.Mark{Op: record.MarkBegin, Call: "h", Session: "swe", Tool: "run\ntests", TargetTgid: 40, TargetStart: start(40), PeerCgroup: outside}
	w.mark(harness, m)
	for n := range uint32(2) {
		w.fork(40, 41+n)
		w.exec(41+n, "/bin/make", "make", fmt.Sprint(n))
		w.tick(time.Second)
		w.exit(41+n, n<<8)
	}
	m.Op = record.MarkEnd
	w.mark(harness, m)
	m = record.Mark{Op: record.MarkBegin, Call: "tool", Session: "swe", Tool: "Edit\x1b[2J", TargetTgid: 40, TargetStart: start(40), PeerCgroup: outside}
	w.mark(harness, m)
	w.tick(3 * time.Second)
	w.c.Close()
	s := w.told("h")
	if d := lasted(s); d < 2*time.Second || d > 2100*time.Millisecond {
		t.Errorf("it lasted %v", d)
	}
	wants(t, s, map[string]any{span.KeyCallTitle: "make 0", span.KeyOutcome: "ok", span.KeyMarkedBy: "outside"})
	wants(t, w.told("tool"), map[string]any{span.KeyCallTitle: "Edit\uFFFD[2J", span.KeyOutcome: nil, span.KeyPartial: true})
	session := w.only(span.Session)
	wants(t, session, map[string]any{span.KeyPID: nil, span.KeyCommandLine: nil})
	if s.Parent != session.ID {
		t.Errorf("%s", show(w.spans))
	}
}

func TestAJoinedCallIsInTheStory(t *testing.T) {
	const trace, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	w := newWorld(t)
	w.claude(10)
	w.fork(10, 11)
	w.execWith(11, record.ExecSessionLeader, record.Exec{Exe: rt.Path("/bin/bash"), Args: rt.Args("bash", "-c", "source s && eval 'ls -l' < /dev/null"), Argc: 3, Env: rt.Args("TRACEPARENT=00-" + trace + "-" + parent + "-01")})
	w.exit(11, 0)
	w.tick(3 * time.Second)
	s, root := w.only(span.SessionCall), w.execOf(11)
	wants(t, s, map[string]any{span.KeyCallTitle: "ls -l", span.KeyOutcome: "ok"})
	if len(w.of(span.Tool)) != 0 || len(s.Links) != 1 || fmt.Sprintf("%x-%x", s.Links[0].Trace, s.Links[0].Span) != trace+"-"+parent || s.Links[0].Rel != span.ToAgent {
		t.Errorf("%v", s.Links)
	}
	if !slices.Contains(root.Links, span.Ref{Link: span.Link{Trace: s.Trace, Span: s.ID}, Rel: span.ToStory}) {
		t.Errorf("%v", root.Links)
	}
}

func TestANestedAgentsStoryLeadsToItsCall(t *testing.T) {
	w := newWorld(t)
	w.codex(10)
	w.command(10, 11, "call_1", "bash", "-c", "claude -p x")
	w.fork(11, 12)
	w.start(12, "/usr/bin/claude", false)
	w.exit(12, 0)
	w.exit(11, 0)
	w.tick(3 * time.Second)
	for _, s := range w.of(span.Session) {
		if get(s, span.KeyAgentName) == "claude-code" {
			call := w.told("call_1")
			if want := (span.Ref{Link: span.Link{Trace: call.Trace, Span: call.ID}, Rel: span.ToParent}); s.Links[0] != want {
				t.Errorf("%v", s.Links)
			}
			return
		}
	}
	t.Error("no session")
}

func TestWhatGoesOnWithAnotherProcessIsToldAtItsEnd(t *testing.T) {
	w := newWorld(t)
	w.codex(10)
	w.command(10, 11, "call_1", "bash", "-c", "sleep 60")
	w.command(10, 12, "call_2", "bash", "-c", "true")
	w.exit(12, 0)
	w.c.Restart().Drain()
	if w.told("call_2"); len(w.of(span.SessionCall)) != 1 {
		t.Errorf("%s", show(w.of(span.SessionCall)))
	}
	w.exit(11, 0)
	w.command(10, 13, "call_3", "bash", "-c", "sleep 61")
	w.tick(3 * time.Second)
	wants(t, w.told("call_1"), map[string]any{span.KeyPartial: nil, span.KeyOutcome: "ok"})
	w.c.Close()
	wants(t, w.told("call_3"), map[string]any{span.KeyPartial: true, span.KeyCallLeft: 1, span.KeyOutcome: nil})
	if n := len(w.of(span.SessionCall)); n != 3 || w.c.spans.Stats().Held != 0 {
		t.Errorf("%d calls", n)
	}
}

// A look finds the agent, and the records of how it began come behind.
func TestAnAgentThatALookHasFoundHasOneStory(t *testing.T) {
	for name, exe := range map[string]string{"at its program": "/usr/bin/codex", "before": "/bin/sh"} {
		w := newWorld(t)
		w.cgroup[10], w.cgroup[1] = two, two
		w.sees(10, 1, 1, exe)
		w.execIDs[10] = 1
		w.open(10, "/a/early") // it is asked what it is
		w.execIDs[10] = 0
		w.codex(10)
		w.command(10, 11, "call_1", "bash", "-c", "true")
		w.exit(11, 0)
		w.exit(10, 0)
		w.tick(5 * time.Second)
		w.c.Close()
		if s := w.of(span.Session); len(s) != 1 || s[0].ID != w.told("call_1").Parent {
			t.Errorf("%s: %s", name, show(s))
		}
	}
}

func TestTitlesOfHostileCommandsAreShortLinesOfText(t *testing.T) {
	long := strings.Repeat("ä", 300)
	commands := [][]string{
		{"bash", "-c", "echo a\n\n  echo b\t\r\n"}, {"bash", "-c", "\x1b]0;x\x07\x00y"}, {"bash", "-c", "\xff\xfe ls"}, {"bash", "-c", "a\u202egnp.exe\u200b\u2028b"},
		{"bash", "-c", long}, {"bash", "-c", "curl -u user:s3cr3tpassw0rd https://x"}, {"curl", "-H", "Authorization: Bearer s3cr3tpassw0rd0123456789"},
		{"bash", "-c", strings.Repeat(" ", 60<<10) + "x"}, {"bash", "-c", strings.Repeat("x", 60<<10)}, {"bash", "-c", ""}, {""}, {"codex-linux-sandbox", "--"},
		slices.Repeat([]string{"bwrap", "--"}, 6000),
	}
	w := newWorld(t, func(c *config.Config) { c.MaxArgsBytes = 1 << 20 })
	w.codex(10)
	want := []string{"echo a ↵ echo b", "\uFFFD]0;x\uFFFD", "\uFFFD\uFFFD ls", "a\uFFFDgnp.exe\uFFFD b", strings.Repeat("ä", 69) + "…", "curl -u user:**** https://x", "curl -H 'Authorization: Bearer ****'"}
	for n, args := range commands {
		w.command(10, uint32(11+n), fmt.Sprint("call_", n), args...)
		w.exit(uint32(11+n), 0)
	}
	w.tick(3 * time.Second)
	w.c.Close()
	for n := range commands {
		title, _ := get(w.told(fmt.Sprint("call_", n)), span.KeyCallTitle).(string)
		if n < len(want) && title != want[n] {
			t.Errorf("%d: %q, want %q", n, title, want[n])
		}
		if runes := utf8.RuneCountInString(title); title == "" || runes > 70 || !utf8.ValidString(title) || strings.ContainsFunc(title, func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("%d: %q", n, title)
		}
	}
}

// What the journal leaves out of what is over changes no row of what is not, but for the account: with a restart that
// says that there may be more.
func TestAStoryDependsOnNothingThatIsOver(t *testing.T) {
	run := func(over bool) *world {
		w := newWorld(t)
		w.codex(10)
		w.command(10, 11, "call_1", "codex-linux-sandbox", "--", "bash", "-c", "make")
		at := w.now
		if over {
			w.command(10, 12, "call_2", "bash", "-c", "true")
			w.exit(12, 0)
			w.fork(11, 13)
			w.exec(13, "/bin/cc", "cc")
			w.exit(13, 0)
		}
		w.now = at + 10*ms
		w.tick(5 * time.Second)
		w.exit(11, 1<<8)
		w.command(10, 14, "call_3", "bash", "-c", "false")
		w.exit(14, 0)
		w.exit(10, 0)
		w.tick(3 * time.Second)
		return w
	}
	story := func(w *world) (rows []span.Span) {
		for _, s := range w.spans {
			if s.Kind.Story() && get(s, span.KeyCallID) != "call_2" {
				s.Attrs = slices.DeleteFunc(s.Attrs, func(a span.Attr) bool { return a.Key == span.KeySeq || accounted[a.Key] })
				rows = append(rows, s)
			}
		}
		return rows
	}
	if all, some := story(run(true)), story(run(false)); len(all) != 4 || !reflect.DeepEqual(all, some) {
		t.Errorf("%s\nand without what is over%s", show(all), show(some))
	}
}

// A later process that reads the records and the beginnings of parts makes the same story.
func TestPartsOfAStoryAreFactsOfTheJournal(t *testing.T) {
	w := newWorld(t)
	facts := factJournal{at: map[int][]Slice{}}
	facts.records = func() int { return len(w.records) }
	w.c.Restart().SetJournal(facts)
	w.existing(40, 1, "/bin/sh")
	for n := range 450 {
		m := record.Mark{Op: record.MarkBegin, Call: fmt.Sprint(n), TargetTgid: 40, TargetStart: start(40), PeerCgroup: outside}
		w.mark(harness, m)
		m.Op = record.MarkEnd
		w.mark(harness, m)
	}
	w.tick(3 * time.Second)
	later := newWorld(t)
	later.spans = nil
	c, err := New(*w.c.config, later)
	if err != nil {
		t.Fatal(err)
	}
	c.Restart().Resuming(true)
	for n, raw := range w.records {
		if err := c.Record(raw); err != nil {
			t.Fatal(err)
		}
		for _, s := range facts.at[n+1] {
			c.Restart().SetSlice(s)
		}
	}
	if len(facts.at) != 2 || !reflect.DeepEqual(w.spans, later.spans) {
		t.Errorf("%d parts begin, %d spans and %d", len(facts.at), len(w.spans), len(later.spans))
	}
}

// factJournal keeps which slices began behind how many records.
type factJournal struct {
	records func() int
	at      map[int][]Slice
}

func (j factJournal) Slice(s Slice) { j.at[j.records()] = append(j.at[j.records()], s) }
func (factJournal) Claimed(Claim)   {}
func (factJournal) Reached(Reach)   {}

func TestATitleMayBeKnownLater(t *testing.T) {
	w := newWorld(t, withSelf)
	w.codex(10)
	w.command(10, 11, "call_1", "bwrap", "--args", "9")
	w.fork(11, 12)
	w.exec(12, "/bin/codex-linux-sandbox", "codex-linux-sandbox", "--", "bash", "-c", "make")
	w.fork(12, 13)
	w.exec(13, "/bin/make", "make", "all")
	w.exit(13, 0)
	w.exit(12, 0)
	w.exit(11, 0)

	// A shell that may be about to run a hook, and is a call.
	w.agentAt(40, "/usr/bin/opencode")
	w.shellFor(40, 41, "/bin/bash", "/usr/bin/sheetbend hook x")
	w.open(41, "/home/u/.ssh/id_rsa")
	w.fork(41, 42)
	w.exec(42, "/bin/make", "make", "test")
	w.open(42, "/a/made")
	w.exit(42, 0)
	w.exit(41, 3<<8)
	w.tick(3 * time.Second)
	w.c.Close()
	wants(t, w.told("call_1"), map[string]any{span.KeyCallTitle: "make"})
	call, _ := get(w.opened("/a/made"), span.KeyCallID).(string)
	wants(t, w.told(call), map[string]any{span.KeyCallTitle: "/usr/bin/sheetbend hook x", span.KeyCallExitCode: 3})
}
