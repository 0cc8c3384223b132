// SPDX-License-Identifier: Apache-2.0

package story_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/sheetbend/sheetbend/collector/span"
	"github.com/sheetbend/sheetbend/exporters/story"
)

const (
	begin = uint64(1_796_000_000_000_000_000)
	sec   = uint64(time.Second)
	msec  = uint64(time.Millisecond)
	work  = "/home/ada/shop"
)

func text(k, v string) span.Attr         { return span.Attr{Key: k, Kind: span.StringAttr, Str: v} }
func number(k string, v int64) span.Attr { return span.Attr{Key: k, Kind: span.IntAttr, Int: v} }
func yes(k string) span.Attr             { return span.Attr{Key: k, Kind: span.BoolAttr, Int: 1} }
func list(k string, v ...string) span.Attr {
	return span.Attr{Key: k, Kind: span.StringsAttr, List: v}
}

func ok() span.Attr          { return text(span.KeyOutcome, string(span.OK)) }
func exit(n int64) span.Attr { return number(span.KeyCallExitCode, n) }

// made is a span of an agent of sandbox sb-1.
func made(kind span.Kind, instance string, id byte, from, to uint64, attrs ...span.Attr) *span.Span {
	return &span.Span{
		Kind: kind, ID: span.ID{id, 7: byte(kind)}, Start: begin + from, End: begin + to, Session: "0192f0c1", Instance: instance,
		Attrs: append([]span.Attr{text(span.KeySandboxID, "sb-1"), text(span.KeyAgentName, "codex")}, attrs...),
	}
}

func call(id byte, from, to uint64, title string, attrs ...span.Attr) *span.Span {
	s := made(span.SessionCall, "agent-1", id, from, to, append(attrs, text(span.KeyCallTitle, title))...)
	code, _ := span.Attrs(attrs).Int(span.KeyCallExitCode)
	s.Failed = code != 0 || span.Attrs(attrs).Is(span.KeyApprovalViolated)
	return s
}

// shop is a session with an account of all that an account can have.
func shop() []*span.Span {
	secret, cron := "head read /home/ada/.aws/credentials", "sh created /etc/cron.d/shop"
	nested := made(span.Session, "agent-2", 2, 11*sec, 11*sec, text(span.KeyCommandLine, "claude -p review"), yes(span.KeyPartial))
	nested.Session, nested.Attrs[1] = "94103c89", text(span.KeyAgentName, "claude-code")
	nested.Links = []span.Ref{{Link: span.Link{Span: span.ID{19, 7: byte(span.SessionCall)}}, Rel: span.ToParent}}
	inner := made(span.SessionCall, "agent-2", 31, 11*sec+200*msec, 11*sec+230*msec, text(span.KeyCallTitle, "git diff"), ok(), exit(0))
	inner.Session = "94103c89"
	sub := call(20, 13*sec, 13*sec+100*msec, "grep -rn TODO .", ok(), exit(0), text(span.KeyParentSession, "0192f0c1"))
	sub.Session = "0192f0c1-sub"
	return []*span.Span{
		made(span.Exec, "agent-1", 1, 0, sec, text(span.KeyWorkingDirectory, work)),
		made(span.Session, "agent-1", 1, 0, 2*sec, text(span.KeyCommandLine, "codex exec -s danger-full-access"), yes(span.KeyPartial)),
		call(10, sec, sec+100*msec, "git clone -q file:///srv/origin.git .", ok(), exit(0), number(span.KeyPrograms, 11),
			number(span.KeyFilesCreated, 79), list(span.KeyFilesCreatedNames, work+"/cart/", work+"/README.md")),
		call(11, 2*sec, 4*sec+500*msec, "npm install --no-audit --no-fund", ok(), exit(0), number(span.KeyFilesCreated, 861),
			list(span.KeyFilesCreatedNames, work+"/node_modules/"), number(span.KeyHosts, 1), list(span.KeyHostNames, "packages.example:443"),
			number(span.KeySumReceived, 1_234_567), number(span.KeySumSent, 30_000), number(span.KeyNotables, 1),
			list(span.KeyNotableLines, "node connected to packages.example:443")),
		call(12, 5*sec, 5*sec+645*msec, "go test ./...", text(span.KeyOutcome, string(span.Failed)), exit(1)),
		call(13, 6*sec, 6*sec+24*msec, "sed -i 's/TODO: taxes//' cart/cart.go && git commit -qam taxes", ok(), exit(0), number(span.KeyFilesModified, 1),
			list(span.KeyFilesModifiedNames, work+"/cart/cart.go")),
		call(14, 7*sec, 7*sec+31*msec, "find old/legacy -delete && mv CHANGES CHANGELOG.md", ok(), exit(0), number(span.KeyFilesDeleted, 46),
			list(span.KeyFilesDeletedNames, work+"/old/legacy/"), number(span.KeyFilesRenamed, 1), list(span.KeyFilesRenamedNames, work+"/CHANGELOG.md"),
			list(span.KeyFilesRenamedFrom, work+"/CHANGES")),
		call(15, 8*sec, 8*sec+8*msec, "head -2 ~/.aws/credentials", ok(), exit(0), number(span.KeySecrets, 1),
			list(span.KeySecretNames, "/home/ada/.aws/credentials"), number(span.KeyNotables, 1), list(span.KeyNotableLines, secret)),
		call(16, 9*sec, 9*sec+5*msec, "echo '* * * * * root x' > /etc/cron.d/shop", ok(), exit(0), number(span.KeyFilesCreated, 1),
			list(span.KeyFilesCreatedNames, "/etc/cron.d/shop"), number(span.KeyNotables, 1), list(span.KeyNotableLines, cron)),
		call(17, 10*sec, 10*sec, "rm -rf /", text(span.KeyOutcome, string(span.Refused)), text(span.KeyApproval, "denied")),
		call(18, 10*sec+500*msec, 10*sec+800*msec, "npm publish", yes(span.KeyApprovalViolated), exit(0), number(span.KeyFilesRefused, 2)),
		call(19, 11*sec, 12*sec, "claude -p review", ok(), exit(0)),
		nested, inner, sub,
		call(21, 14*sec, 14*sec+734*msec, "(nohup ./shop &); sleep 0.7", text(span.KeyOutcome, string(span.Failed)),
			text(span.KeyCallExitSignal, "SIGKILL"), number(span.KeyCallLeft, 2), list(span.KeyLeftPrograms, "shop"), list(span.KeyLeftListens, "127.0.0.1:28090")),
		made(span.SessionEnd, "agent-1", 1, 0, 20*sec, text(span.KeyWorkspace, work), number(span.KeyCalls, 12), number(span.KeyCallsFailed, 3),
			number(span.KeyCallsDenied, 2), number(span.KeyPrograms, 58), number(span.KeyProgramsFailed, 4), number(span.KeyFilesRead, 811),
			number(span.KeyFilesRefused, 2), number(span.KeyFilesCreated, 941), list(span.KeyFilesCreatedNames, "/etc/cron.d/shop", work+"/node_modules/"),
			number(span.KeyFilesModified, 1), list(span.KeyFilesModifiedNames, work+"/cart/cart.go"), number(span.KeyHosts, 9),
			list(span.KeyHostNames, "packages.example:443", "127.0.0.1:9"), list(span.KeyHostBytes, "1234567 30000", "0 0"), number(span.KeySumReceived, 1_300_000), number(span.KeySumSent, 40_000),
			number(span.KeySumCPU, int64(3*sec)), number(span.KeySumMemory, 120_000_000), number(span.KeyNotables, 4),
			list(span.KeyNotableLines, "node connected to packages.example:443", secret, cron, "codex made namespaces (user)")),
	}
}

func drawn(t *testing.T, o story.Options, spans ...*span.Span) []byte {
	t.Helper()
	s := story.New(o)
	for _, x := range spans {
		s.Span(x)
	}
	if o.Zone == nil {
		t.Fatal("no time zone")
	}
	var b, again bytes.Buffer
	if err := s.Render(&b); err != nil {
		t.Fatal(err)
	}
	if err := s.Render(&again); err != nil || !bytes.Equal(b.Bytes(), again.Bytes()) {
		t.Errorf("drawn again (%v):\n%s", err, again.String())
	}
	return b.Bytes()
}

func TestTheStoryOfASessionWithItsAccount(t *testing.T) {
	t.Parallel()
	o := story.Options{Zone: time.UTC, Home: "/home/ada"}
	lines := bytes.Count(drawn(t, o, shop()...), []byte("\n"))
	if lines > 50 {
		t.Errorf("%d lines are no screen", lines)
	}
	golden(t, "account", drawn(t, o, shop()...))
	o.Width, o.ASCII = 60, true
	golden(t, "account-60-ascii", drawn(t, o, shop()...))
}

func TestAStoryWithoutAnEndOrWithLossesSaysSo(t *testing.T) {
	t.Parallel()
	all := shop()
	lost := made(span.Loss, "agent-1", 90, sec, sec, number(span.KeyLost, 12), text(span.KeyLostCause, "ring_full"))
	got := string(drawn(t, story.Options{Zone: time.UTC}, append(all[:len(all)-1:len(all)-1], lost)...))
	for _, want := range []string{"no end", "since 2026-", "LOST 12 records (ring full)", "12 calls", "shop", "127.0.0.1:28090"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
}

func TestWhatIsInNoAgentHasAnAccountOfItsOwn(t *testing.T) {
	t.Parallel()
	got := string(drawn(t, story.Options{Zone: time.UTC}, made(span.SandboxEnd, "sb-1", 1, 0, 3*sec, number(span.KeyPrograms, 7),
		number(span.KeyFilesCreated, 2), list(span.KeyFilesCreatedNames, "/srv/a", "/srv/b "), list(span.KeyNotableLines, "cc read /etc/shadow"))))
	for _, want := range []string{"7 programs", "created /srv/a, '/srv/b '", "[!] cc read /etc/shadow", "nothing lost"} {
		if !strings.Contains(got, want) || strings.Contains(got, "call") {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
}

// What starts an agent is no story of its own, unless it does more.
func TestWhatOnlyStartsAnAgentIsLeftOut(t *testing.T) {
	t.Parallel()
	o := story.Options{Zone: time.UTC}
	starts := made(span.SandboxEnd, "sb-1", 1, 0, 20*sec, number(span.KeyPrograms, 1), number(span.KeyFilesRead, 3))
	if got := string(drawn(t, o, append(shop(), starts)...)); strings.Contains(got, "in no agent") {
		t.Error(got)
	}
	more := made(span.SandboxEnd, "sb-1", 1, 0, 20*sec, number(span.KeyFilesDeleted, 1), list(span.KeyFilesDeletedNames, "/srv/x"))
	if got := string(drawn(t, o, append(shop(), more)...)); !strings.Contains(got, "codex (in no agent)") || !strings.Contains(got, "deleted /srv/x") {
		t.Error(got)
	}
}

// What a sandbox chooses reaches the terminal as text, in its columns, and within bounds.
func TestHostileTextStaysText(t *testing.T) {
	t.Parallel()
	for _, evil := range []string{"\x1b]0;owned\x07\r\n", "\u202egpj.exe", strings.Repeat("語", 80), "e" + strings.Repeat("\u0301", 500), strings.Repeat("x", 5000)} {
		for _, ascii := range []bool{false, true} {
			o := story.Options{Zone: time.UTC, Width: 80, ASCII: ascii, Home: "/home/ada"}
			end := made(span.SessionEnd, "agent-1", 1, 0, 20*sec, text(span.KeyWorkspace, "/"+evil), number(span.KeyFilesCreated, 3),
				list(span.KeyFilesCreatedNames, "/a"+evil, evil), number(span.KeyHosts, 1), list(span.KeyHostNames, evil), list(span.KeyNotableLines, evil))
			end.Session, end.Attrs[1] = evil, text(span.KeyAgentName, evil)
			got := string(drawn(t, o, call(1, 0, sec, evil, ok(), number(span.KeyCallLeft, 1), list(span.KeyLeftPrograms, evil),
				list(span.KeyLeftListens, evil), list(span.KeyNotableLines, evil, "a", "b", "c", evil)), end))
			for line := range strings.Lines(got) {
				columns := 0
				for _, r := range strings.TrimSuffix(line, "\n") {
					switch {
					case !unicode.IsPrint(r) || ascii && r > 0x7e:
						t.Fatalf("%q", line)
					case unicode.Is(unicode.Han, r):
						columns += 2
					case !unicode.Is(unicode.Mn, r):
						columns++
					}
				}
				if columns > 80 || len(line) > 2000 {
					t.Errorf("%d columns, %d bytes: %q", columns, len(line), line)
				}
			}
		}
	}
}

func TestManyCallsAreBoundedAndThoseThatFailedKeepALine(t *testing.T) {
	t.Parallel()
	s := story.New(story.Options{Zone: time.UTC})
	const n = 10_000
	names := make([]string, 10)
	for i := range names {
		names[i] = strings.Repeat("n", 400)
	}
	for i := range uint64(n) {
		s.Span(call(1, i*sec, i*sec+msec, fmt.Sprint("true ", i), ok(), list(span.KeyFilesCreatedNames, names...), number(span.KeyFilesCreated, 10)))
	}
	s.Span(call(2, n*sec, n*sec+msec, "the last one", exit(3)))
	var b bytes.Buffer
	if err := s.Render(&b); err != nil {
		t.Fatal(err)
	}
	if s.Calls() != n+1 || !strings.Contains(b.String(), "the last one") || !strings.Contains(b.String(), "10001 calls · 1 failed") ||
		!strings.Contains(b.String(), "more calls without a line") {
		t.Errorf("%d calls, and the end of the story is %s", s.Calls(), b.String()[b.Len()-1000:])
	}
	if b.Len() > 8<<20 {
		t.Errorf("%d bytes", b.Len())
	}
}
