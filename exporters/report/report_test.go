// SPDX-License-Identifier: Apache-2.0

package report

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/sheetbend/sheetbend/collector/span"
)

const second = uint64(1e9)

// at is when the spans of tests begin.
const at = 1_796_000_000 * second

func text(key, value string) span.Attr {
	return span.Attr{Key: key, Kind: span.StringAttr, Str: value}
}

func integer(key string, n int64) span.Attr { return span.Attr{Key: key, Kind: span.IntAttr, Int: n} }

func set(key string) span.Attr { return span.Attr{Key: key, Kind: span.BoolAttr, Int: 1} }

func texts(key string, list ...string) span.Attr {
	return span.Attr{Key: key, Kind: span.StringsAttr, List: list}
}

// made is a span of an agent, of a call where there is one.
func made(kind span.Kind, id uint64, above uint64, call string, attrs ...span.Attr) *span.Span {
	s := &span.Span{
		Kind: kind, ID: number(id), Above: number(above), Instance: "agent-1", Session: "s-1",
		Start: at + id*second/1000, End: at + id*second/1000 + second/100, Attrs: attrs,
	}
	s.Attrs = append(s.Attrs, text(span.KeyAgentName, "codex"), text(span.KeySandboxID, "sb-1"))
	if call != "" {
		s.Attrs = append(s.Attrs, text(span.KeyCallID, call))
	}
	return s
}

func number(n uint64) (id span.ID) {
	for i := range id {
		id[i] = byte(n >> (8 * (7 - i)))
	}
	return id
}

// told is the session.call of a call with this detail.
func told(id, detail uint64, call, title string, attrs ...span.Attr) *span.Span {
	s := made(span.SessionCall, id, 0, call, append(attrs, text(span.KeyCallTitle, title), integer(span.KeyCallBegan, int64(id)))...)
	s.Links = []span.Ref{{Link: span.Link{Span: number(detail)}, Rel: span.ToDetail}}
	return s
}

// written is the page of spans.
func written(t *testing.T, spans ...*span.Span) (page, string) {
	t.Helper()
	r := New("test")
	for _, s := range spans {
		r.Span(s)
	}
	var b bytes.Buffer
	if err := r.Write(&b); err != nil {
		t.Fatal(err)
	}
	return parsed(t, b.String()), b.String()
}

func parsed(t *testing.T, html string) (p page) {
	t.Helper()
	_, rest, _ := strings.Cut(html, `id="data">`)
	text, _, found := strings.Cut(rest, "</script>")
	if !found {
		t.Fatal("the page has no data")
	}
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		t.Fatal(err)
	}
	return p
}

// TestWhatIsInACallIsUnderThatCall has calls that are known by id, by the context alone, and only by lineage, as
// those in an agent's own trace are before their id is known.
func TestWhatIsInACallIsUnderThatCall(t *testing.T) {
	p, _ := written(t,
		made(span.Session, 1, 0, "", text(span.KeyCommandLine, "codex exec"), set(span.KeyPartial)),
		made(span.Exec, 10, 0, "", text(span.KeyCommandLine, "codex")),
		made(span.Exec, 20, 900, "call-a", text(span.KeyCommandLine, "make")),
		made(span.Open, 21, 20, "call-a", text(span.KeyFilePath, "/a")),
		made(span.Exec, 30, 901, "", text(span.KeyCommandLine, "by lineage"), text(span.KeyCallContext, "t-s")),
		made(span.Open, 31, 30, "", text(span.KeyFilePath, "/b")),
		made(span.Exec, 40, 30, "", text(span.KeyCommandLine, "below")),
		made(span.Open, 41, 40, "", text(span.KeyFilePath, "/c")),
		told(50, 900, "call-a", "make"),
		told(60, 901, "call-b", "other", text(span.KeyCallContext, "t-s")),
		made(span.SessionEnd, 70, 1, "", integer(span.KeyCalls, 2)),
	)
	type row struct {
		Text string
		Call int
	}
	var got []row
	for _, n := range p.Nodes {
		got = append(got, row{n[3].(string), int(n[1].(float64))})
	}
	for _, l := range p.Lines {
		got = append(got, row{l[4].(string), int(l[1].(float64))})
	}
	want := []row{{"codex", -1}, {"make", 0}, {"by lineage", 1}, {"below", 1}, {"/a", 0}, {"/b", 1}, {"/c", 1}}
	if !slices.Equal(want, got) {
		t.Errorf("%v, not %v", got, want)
	}
	if s := p.Stories[0]; !s.Over || s.Facts["session.calls"] != 2.0 || s.Facts["process.command_line"] != "codex exec" || s.Facts["partial"] != nil {
		t.Errorf("the story is %+v", s)
	}
}

// TestNoticesAndStandInsAreNoSecondLine holds that what has two spans is told once, by the later one.
func TestNoticesAndStandInsAreNoSecondLine(t *testing.T) {
	notice := func(kind span.Kind, id, of, above uint64, attrs ...span.Attr) *span.Span {
		return made(kind, id, above, "c", append(attrs, text(span.KeyNoticeOf, fmt.Sprintf("%016x", of)))...)
	}
	standIn := made(span.Exec, 99, 0, "c", text(span.KeyCommandLine, "make"))
	standIn.StandIn = true
	peer := []span.Attr{text(span.KeyPeerAddress, "192.0.2.1"), integer(span.KeyPeerPort, 443)}
	p, _ := written(t,
		notice(span.Start, 2, 10, 1, text(span.KeyCommandLine, "make")),
		notice(span.ConnectStart, 3, 11, 10, peer...),
		made(span.Exec, 10, 1, "c", text(span.KeyCommandLine, "make"), integer(span.KeyExitCode, 2)),
		made(span.Connect, 11, 10, "c", append(peer, set(span.KeyNoticed), text(span.KeyErrorType, "ECONNREFUSED"))...),
		made(span.Open, 12, 10, "c", text(span.KeyFilePath, "/a"), integer(span.KeyCount, 3)),
		made(span.Open, 13, 10, "c", text(span.KeyFilePath, "/a")),
		notice(span.ToolStart, 5, 1, 1, text(span.KeyCallTitle, "make"), integer(span.KeyCallBegan, 7)),
		made(span.Tool, 1, 0, "c", text(span.KeyCallTitle, "make"), integer(span.KeyCallBegan, 7)),
		standIn,
	)
	if len(p.Calls) != 1 || len(p.Nodes) != 1 || len(p.Lines) != 2 {
		t.Fatalf("%d calls, %d programs and %d lines", len(p.Calls), len(p.Nodes), len(p.Lines))
	}
	if n := p.Nodes[0]; n[10] != "exit 2" {
		t.Errorf("the program ended with %v", n[10])
	}
	if l := p.Lines[0]; l[5] != "ECONNREFUSED" || int(l[11].(float64))&int(isPending) != 0 {
		t.Errorf("the connection is %v", l)
	}
	if l := p.Lines[1]; l[10] != 4.0 {
		t.Errorf("the file was opened %v times", l[10])
	}
}

// TestHostileTextStaysText puts what would end a script, a comment or a line, turn text around or hide into every place
// that takes text.
func TestHostileTextStaysText(t *testing.T) {
	bad := "</script><script>alert(1)</script><!--\"'&\x00\x1b[2J\u202etxt.exe\u2066\u200b\U000e0041\u2028\n "
	shown := "</script><script>alert(1)</script><!--\"'&␀␛[2J⟨U+202E⟩txt.exe⟨U+2066⟩⟨U+200B⟩⟨U+E0041⟩⟨U+2028⟩↵␠"
	end := made(span.SessionEnd, 30, 0, "")
	end.Session = bad
	p, html := written(t,
		made(span.Session, 1, 0, "", text(span.KeyCommandLine, bad)),
		made(span.Exec, 10, 1, bad, text(span.KeyCommandLine, bad), text(span.KeyExecutablePath, bad), text(span.KeyWorkingDirectory, bad)),
		made(span.Open, 11, 10, bad, text(span.KeyFilePath, bad), text(span.KeyErrorType, bad), text(bad, bad)),
		told(20, 1, bad, bad, texts(span.KeyHostNames, bad)), end,
	)
	if strings.Count(html, "<script") != 2 || strings.Count(html, "</script") != 2 || strings.Contains(html, "\u202e") {
		t.Error("what a name holds is in the page as it is")
	}
	if title := regexp.MustCompile("<title>.*</title>").FindString(html); title == "" || strings.Contains(title, "script>") {
		t.Error("it is in the title", title)
	}
	for what, got := range map[string]any{
		"title": p.Calls[0].Facts["call.title"], "id": p.Calls[0].ID, "command": p.Nodes[0][3], "path": p.Lines[0][4],
		"host": p.Calls[0].Facts["hosts.names"].([]any)[0], "of the session": p.Stories[0].Facts["process.command_line"],
	} {
		if got != shown {
			t.Errorf("%s: %q", what, got)
		}
	}
}

// TestAReportIsBounded floods it with lines, texts, calls and agents, and holds that what is notable has still a line.
func TestAReportIsBounded(t *testing.T) {
	r := New("test")
	long := strings.Repeat("x", 60<<10)
	for i := range uint64(maxLines + 5_000) {
		r.Span(made(span.Open, i+1, 0, "", text(span.KeyFilePath, fmt.Sprint(i))))
	}
	r.Span(made(span.Exec, 1<<40, 0, "", text(span.KeyCommandLine, long), text("other", long)))
	r.Span(made(span.Open, 1<<41, 0, "", text(span.KeyFilePath, "/home/a/.ssh/id_rsa"), set(span.KeySensitive),
		text(span.KeyOutcome, "ok"), text(span.KeyFileAccess, "read")))
	for i := range uint64(maxCalls + 7) {
		r.Span(told(i+1, 0, fmt.Sprint(i), long))
	}
	for i := range maxStories + 3 {
		s := made(span.Open, 1, 0, "")
		s.Instance = fmt.Sprint(i)
		r.Span(s)
	}
	var b bytes.Buffer
	if err := r.Write(&b); err != nil {
		t.Fatal(err)
	}
	p := parsed(t, b.String())
	if p.Left.Calls != 7 || p.Left.Stories != 4 || p.Left.Notable != 0 || p.Left.Lines != 5_000+1+maxStories-1 {
		t.Errorf("left out: %+v", p.Left)
	}
	if n := len(p.Lines) + len(p.Nodes); n != maxLines+1 || len(p.Calls) != maxCalls {
		t.Errorf("it has %d lines and %d calls", n, len(p.Calls))
	}
	if b.Len() > 64<<20 {
		t.Errorf("the file has %d bytes", b.Len())
	}
}

// TestProgramsInARingAreShown holds that ids that collide hide nothing, and loop nowhere.
func TestProgramsInARingAreShown(t *testing.T) {
	p, _ := written(t, made(span.Exec, 1, 2, ""), made(span.Exec, 2, 1, ""), made(span.Open, 3, 2, ""))
	roots := 0
	for _, n := range p.Nodes {
		if n[2] == -1.0 {
			roots++
		}
	}
	if len(p.Nodes) != 2 || roots != 1 {
		t.Errorf("%d programs, %d at the top", len(p.Nodes), roots)
	}
}
