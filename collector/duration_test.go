// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"encoding/hex"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sheetbend/sheetbend/collector/config"
	"github.com/sheetbend/sheetbend/collector/record"
	"github.com/sheetbend/sheetbend/collector/span"
	"github.com/sheetbend/sheetbend/collector/spans"
)

// wallText is a time (boottime) as on spans.
func wallText(at uint64) string {
	return time.Unix(0, int64(wallStart+at-bootStart)).UTC().Format("2006-01-02T15:04:05.000000000Z")
}

// noticeOf is the process.start of a pid.
func (w *world) noticeOf(pid uint32) span.Span {
	w.t.Helper()
	for _, s := range w.of(span.Start) {
		if get(s, span.KeyPID) == int64(pid) {
			return s
		}
	}
	w.t.Fatalf("no process.start of %d in %s", pid, show(w.spans))
	return span.Span{}
}

// noticed gives the spans of a kind, and checks that the notice said of each what is known from its begin.
func (w *world) noticed(notice, kind span.Kind, ends ...string) span.Span {
	w.t.Helper()
	n, s := w.only(notice), w.only(kind)
	if get(n, span.KeyNoticeOf) != hex.EncodeToString(s.ID[:]) || n.ID != span.NoticeSpan(s.ID) || n.Subject() != s.ID {
		w.t.Errorf("the notice is of another span: %s", show([]span.Span{n, s}))
	}
	if n.Start != s.Start || n.End != n.Start+1000 || n.Trace != s.Trace {
		w.t.Errorf("the notice is elsewhere: %s", show([]span.Span{n, s}))
	}
	wants(w.t, s, map[string]any{span.KeyNoticed: true, span.KeyPartial: nil})
	known := func(s span.Span) (list []span.Attr) {
		for _, a := range s.Attrs {
			if !slices.Contains(append(ends, span.KeySeq, span.KeyEvent, span.KeyOutcome, span.KeyNoticeOf, span.KeyNoticed), a.Key) {
				list = append(list, a)
			}
		}
		return list
	}
	if a, b := known(n), known(s); !reflect.DeepEqual(a, b) {
		w.t.Errorf("the notice does not say what the span does: %s", show([]span.Span{n, s}))
	}
	return s
}

func (w *world) lasts(s span.Span, from, to uint64) {
	w.t.Helper()
	if s.Start != wallStart+from-bootStart || s.End != wallStart+to-bootStart {
		w.t.Errorf("lasts %d ms, want %d: %s", (s.End-s.Start)/ms, (to-from)/ms, show([]span.Span{s}))
	}
}

func TestWhatOutlivesTheHoldHasANoticeWithinItAndItsTrueLength(t *testing.T) {
	t.Run("a program", func(t *testing.T) {
		w := newWorld(t)
		w.begin(10, one)
		w.exec(10, "/bin/sh", "sh", "-c", "sleep 5")
		w.fork(10, 11)
		w.exec(11, "/bin/sleep", "sleep", "5")
		from := w.now
		w.exit(10, 0)
		w.tick(2100 * time.Millisecond)
		if n := w.only(span.Start); n.Parent != w.execOf(10).ID {
			t.Errorf("not beside its span: %s", show(w.spans))
		}
		w.spans = w.of(span.Start)
		w.tick(3 * time.Second)
		w.exit(11, 1<<8)
		ends := []string{span.KeyExitCode, span.KeyCPUTime, span.KeyUserTime, span.KeySystemTime, span.KeyPeakMemory}
		s := w.noticed(span.Start, span.Exec, ends...)
		w.lasts(s, from, w.now)
		if wants(t, s, map[string]any{span.KeyExitCode: 1}); !s.Failed || len(w.of(span.Exit)) > 0 {
			t.Errorf("%s", show(w.spans))
		}
	})
	t.Run("a root, below which the notice is: a trace has one", func(t *testing.T) {
		w := newWorld(t)
		w.begin(10, one)
		w.exec(10, "/bin/sh", "sh")
		w.tick(3 * time.Second)
		w.c.Close()
		if n, s := w.only(span.Start), w.only(span.Exec); s.Parent != (span.ID{}) || n.Parent != s.ID {
			t.Errorf("%s", show(w.spans))
		}
	})
	t.Run("a call, whose telemetry comes a little after its end", func(t *testing.T) {
		w := newWorld(t)
		w.codex(10)
		w.call(10, 11, "call_1")
		from := w.now
		w.tick(34 * time.Second)
		w.exit(11, 0)
		to := w.now
		w.tick(time.Second)
		w.say(record.Said{Kind: record.SaidResult, Session: "sess", Call: "call_1", Success: record.SuccessFailed})
		if len(w.of(span.Tool)) > 0 {
			t.Fatalf("%s", show(w.spans))
		}
		w.tick(1100 * time.Millisecond)
		s := w.noticed(span.ToolStart, span.Tool, span.KeyToolResult, span.KeyOperationName)
		w.lasts(s, from, to)
		wants(t, s, map[string]any{span.KeyToolResult: "failed"})
		if w.only(span.ToolStart).Parent != s.ID || len(w.of(span.ToolEnd))+len(w.of(span.Telemetry)) > 0 {
			t.Errorf("%s", show(w.spans))
		}
	})
	t.Run("a connect", func(t *testing.T) {
		w := newWorld(t)
		w.begin(10, one)
		w.exec(10, "/bin/curl", "curl")
		w.connect(10, to("10.1.2.3:443", unix.IPPROTO_TCP))
		from := w.now
		w.tick(130 * time.Second)
		w.connectEnd(10, 0)
		w.lasts(w.noticed(span.ConnectStart, span.Connect, span.KeyNotableEvent, span.KeyNotableSeverity), from, w.now) // it is told of once
	})
}

func TestAConnectWaitsForItsOutcome(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(w *world)
		want map[string]any
	}{
		{"beyond the end of its process, whose sockets are closed after it", func(w *world) {
			w.exit(10, 0)
			w.connectEnd(10, unix.ECANCELED)
		}, map[string]any{span.KeyErrorType: "ECANCELED", span.KeyPartial: nil}},
		{"but for no longer than the hold then", func(w *world) {
			w.exit(10, 0)
			w.tick(1900 * time.Millisecond)
			if n := len(w.of(span.Connect)); n > 0 {
				w.t.Errorf("%d connects", n)
			}
			w.tick(200 * time.Millisecond)
			w.connectEnd(10, 0)
		}, map[string]any{span.KeyPartial: true, span.KeyErrorType: nil}},
		{"over an exec", func(w *world) {
			w.exec(10, "/bin/other", "other")
			w.tick(3 * time.Second)
			w.connectEnd(10, 0)
		}, map[string]any{span.KeyPartial: nil, span.KeyExecutableName: "curl"}},
		{"until its socket is used again", func(w *world) {
			w.connect(10, to("10.0.0.9:1", unix.IPPROTO_TCP))
		}, map[string]any{span.KeyPartial: true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			w.begin(10, one)
			w.exec(10, "/bin/curl", "curl")
			w.connect(10, to("10.0.0.1:1", unix.IPPROTO_TCP))
			w.tick(70 * time.Second)
			c.do(w)
			c.want[span.KeyNoticed] = true
			wants(t, w.only(span.Connect), c.want)
		})
	}
	t.Run("in bounded number", func(t *testing.T) {
		w := newWorld(t, func(c *config.Config) { c.MaxPending = 16 })
		w.begin(10, one)
		w.exec(10, "/bin/curl", "curl")
		for n := range 40 {
			r := to("10.0.0.1:1", unix.IPPROTO_TCP)
			r.Cookie = uint64(100 + n)
			w.connect(10, r)
			w.tick(3 * time.Second)
		}
		if s := w.c.Stats(); s.Held != 16 || s.EarlySpans == 0 || uint64(len(w.of(span.Connect))) != s.EarlySpans {
			t.Errorf("%+v", s)
		}
		w.exit(10, 0)
		w.c.Close()
		if n, s := len(w.of(span.Connect)), w.c.Stats(); n != 40 || s.Held != 0 || s.Connects != 0 {
			t.Errorf("%d connects, %+v", n, s)
		}
	})
}

// Programs that sleep keep their arguments for a minute: within the bound on all of them.
func TestArgumentsOfRunningProgramsAreBounded(t *testing.T) {
	w := newWorld(t)
	w.begin(10, one)
	w.exec(10, "/bin/sh", "sh")
	for pid := uint32(100); pid < 900; pid++ {
		w.fork(10, pid)
		w.exec(pid, "/bin/sleep", "sleep", strings.Repeat("x", 60<<10))
		w.tick(50 * time.Millisecond)
		if n := w.c.Stats().HeldBytes; n > spans.MaxHeldBytes {
			t.Fatalf("%d bytes", n)
		}
	}
	early := w.c.Stats().EarlySpans
	if early == 0 {
		t.Error("nothing gave way")
	}
	for pid := uint32(100); pid < 900; pid++ {
		w.exit(pid, 0)
	}
	w.exit(10, 0)
	programs := slices.DeleteFunc(w.of(span.Exec), func(s span.Span) bool { return get(s, span.KeyStandIn) == true })
	if n := uint64(len(w.of(span.Exit))); n != early || len(programs) != 801 {
		t.Errorf("%d ends of %d, %d programs", n, early, len(programs))
	}
}
