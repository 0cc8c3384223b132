// SPDX-License-Identifier: Apache-2.0

package terminal

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/sheetbend/sheetbend/collector/span"
)

// notice is the one of a span, as the collector sends it before.
func notice(kind span.Kind, of span.Span) span.Span {
	n := of
	n.Kind, n.Name, n.ID, n.End, n.Failed = kind, kind.String(), span.NoticeSpan(of.ID), of.Start+1000, false
	n.Attrs = []span.Attr{text(span.KeyNoticeOf, hex.EncodeToString(of.ID[:]))}
	for _, a := range of.Attrs {
		switch a.Key {
		case span.KeyNoticed, span.KeyExitCode, span.KeyErrorType:
		default:
			n.Attrs = append(n.Attrs, a)
		}
	}
	if of.Parent == (span.ID{}) {
		n.Parent = of.ID
	}
	return n
}

// slow is what takes longer than the hold: spans, each after its notice.
func slow() (notices, spans []span.Span) {
	sh := exec(1, 0, 10, 0, 5000*ms, "/bin/sh", argv("sh", "-c", "sleep 5; true"), exit(0), yes(span.KeyNoticed))
	call := made(span.Tool, 2, 1, 0, 10*ms, 4900*ms, text(span.KeyCallID, "call_7"), text(span.KeyToolName, "Bash"), yes(span.KeyNoticed))
	sleep := failed(exec(3, 1, 11, 20*ms, 4800*ms, "/bin/sleep", argv("sleep", "5"), exit(1), yes(span.KeyNoticed)))
	dial := failed(connect(4, 1, 10, 30*ms, 3100*ms, "tcp", "192.0.2.1", 80, errno("ETIMEDOUT"), yes(span.KeyNoticed)))
	notices = []span.Span{
		notice(span.Start, sh), notice(span.ToolStart, call), notice(span.Start, sleep), notice(span.ConnectStart, dial),
	}
	return notices, []span.Span{dial, sleep, call, sh}
}

func TestWhatTakesLongHasALineWhenItsNoticeComesAndOneForItsEnd(t *testing.T) {
	notices, spans := slow()
	var out bytes.Buffer
	f := NewFollow(&out, Options{Width: 100})
	lines := func(list []span.Span) string {
		out.Reset()
		for i := range list {
			f.Span(&list[i])
		}
		f.Flush()
		return strings.Join(strings.Fields(strings.ReplaceAll(out.String(), "\n", " ; ")), " ")
	}
	want := "+0.000 10 sh exec sh -c 'sleep 5; true' still running ; +0.010 call call_7 Bash ; " +
		"+0.020 11 sleep exec sleep 5 still running ; +0.030 10 connect tcp 192.0.2.1:80 no answer ;"
	if got := lines(notices); got != want {
		t.Errorf("begins: %s", got)
	}
	want = "+3.100 10 connect tcp 192.0.2.1:80 3.07 s ETIMEDOUT ; +4.800 11 sleep exit sleep 4.78 s exit 1 ; " +
		"+4.900 done call_7 Bash 4.89 s ; +5.000 10 sh exit sh 5.00 s exit 0 ;"
	if got := lines(spans); got != want {
		t.Errorf("ends: %s", got)
	}
	partial := exec(5, 0, 12, 0, 60_000*ms, "/bin/server", yes(span.KeyNoticed), yes(span.KeyPartial))
	if got := lines([]span.Span{partial}); got != "" {
		t.Errorf("a minute later: %s", got)
	}
}

func TestANoticeAndItsSpanAreOneRow(t *testing.T) {
	draw := func(list []span.Span) string {
		var out bytes.Buffer
		tree := NewTree(Options{Width: 100})
		for i := range list {
			tree.Span(&list[i])
		}
		if err := tree.Render(&out); err != nil {
			t.Fatal(err)
		}
		return out.String()
	}
	notices, spans := slow()
	meanwhile := draw(notices)
	for _, row := range []string{"sh -c 'sleep 5; true'", "call call_7 Bash", "sleep 5  ", "connect  tcp 192.0.2.1:80"} {
		if strings.Count(meanwhile, row) != 1 {
			t.Errorf("%q is not there once: %s", row, meanwhile)
		}
	}
	if strings.Count(meanwhile, "still running") != 3 || strings.Count(meanwhile, "no answer") != 1 { // 2 rows and the sum
		t.Error(meanwhile)
	}
	if got, want := draw(append(notices, spans...)), draw(spans); got != want {
		t.Errorf("with notices:\n%s\nwithout:\n%s", got, want)
	}
}
