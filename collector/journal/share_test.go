// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sheetbend/sheetbend/collector/paths"
	"github.com/sheetbend/sheetbend/collector/record"
	"github.com/sheetbend/sheetbend/collector/recordtest"
)

// writer writes records of processes in sandboxes, which are cgroups.
type writer struct {
	t   *testing.T
	j   *Journal
	now uint64
}

func (w *writer) add(h record.Header, body any) {
	w.t.Helper()
	w.now++
	h.Time, h.Start, h.Tid = w.now, uint64(h.Tgid), h.Tgid
	w.raw(recordtest.Record(h, body))
}

func (w *writer) raw(raw []byte) {
	w.t.Helper()
	if err := w.j.Append(&Entry{Kind: Record, Data: raw}); err != nil {
		w.t.Fatal(err)
	}
}

func (w *writer) fork(parent, child uint32, cgroup uint64) {
	w.add(record.Header{Tgid: parent, Cgroup: cgroup}, record.Fork{ChildTgid: child, ChildStart: uint64(child), ChildCgroup: cgroup})
}

func (w *writer) exec(who uint32, cgroup uint64, name string, args int) {
	if args > 0 {
		w.add(record.Header{Tgid: who, Cgroup: cgroup}, record.ExecArgs{Args: bytes.Repeat([]byte{'x'}, args)})
	}
	w.add(record.Header{Tgid: who, Cgroup: cgroup}, record.Exec{Exe: recordtest.Path("/" + name)})
}

// kept are the records in the journal, as text.
func (w *writer) kept() (got []string) {
	var ev record.Event
	w.j.each(func(e *Entry) {
		if ev.Decode(e.Data) != nil {
			w.t.Fatal("malformed")
		}
		text := fmt.Sprint(ev.Header.Type, " ", ev.Header.Tgid)
		if ev.Header.Type == record.TypeExec {
			text += " " + string(paths.AppendResolved(nil, ev.Exec.Exe, paths.Marks{}))
		}
		got = append(got, text)
	})
	return got
}

func newWriter(t *testing.T, most int64) *writer {
	j := open(t, Config{Path: filepath.Join(t.TempDir(), "j"), MaxBytes: most})
	replay(t, j)
	return &writer{t: t, j: j}
}

const hostile, quiet = 11, 12

// compact leaves out all but facts. A sandbox is a cgroup. It gives the log.
func (w *writer) compact() string {
	w.t.Helper()
	var log bytes.Buffer
	w.j.cfg.Log = slog.New(slog.NewTextHandler(&log, nil))
	err := w.j.Compact(Cut{
		Before: w.now + 1, Now: w.now + 1, CallsFor: w.now + 1,
		Sandbox: func(_ uint32, _, cgroup uint64) string { return fmt.Sprint(cgroup) },
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return log.String()
}

func TestAProcessThatRunsProgramAfterProgramFillsNothing(t *testing.T) {
	w := newWriter(t, 4<<20)
	w.fork(1, 20, quiet)
	w.exec(20, quiet, "quiet", 0)
	w.fork(1, 10, hostile)
	const execs, forks = 300, 250
	for n := range execs {
		w.exec(10, hostile, fmt.Sprint(n), 64<<10)
		if n == forks {
			w.fork(10, 30, hostile)
		}
		if w.j.Over() {
			if out := w.compact(); out != "" {
				t.Fatalf("after %d programs: %s", n, out)
			}
		}
	}
	out := w.compact()
	want := []string{"fork 1", "exec 20 /quiet", "fork 1"}
	for _, n := range []int{0, 1, 2, 3, 4, 5, 6, 7, forks, execs - 1} {
		want = append(want, "exec_args 10", fmt.Sprint("exec 10 /", n))
		if n == forks {
			want = append(want, "fork 10")
		}
	}
	if got := w.kept(); !slices.Equal(got, want) || out != "" || w.j.Overflows() > 0 {
		t.Errorf("%q\nwant\n%q; %s", got, want, out)
	}
	if w.j.at > 1<<20 {
		t.Errorf("%d bytes", w.j.at)
	}
}

func TestAProcessThatIsLookedAtAgainAndAgainFillsNothing(t *testing.T) {
	w := newWriter(t, 4<<20)
	for range 100 {
		w.raw(record.AppendCmdline(nil, record.Header{Time: 1, Tgid: 10, Tid: 10, Start: 10, Cgroup: quiet}, 1, []byte("a\x00")))
		w.add(record.Header{Tgid: 10, Cgroup: quiet}, record.Process{})
		w.add(record.Header{Tgid: 10, Cgroup: quiet}, record.Attach{})
	}
	w.compact()
	if got := w.kept(); len(got) > 7 {
		t.Errorf("%d are kept: %q", len(got), got)
	}
}

func TestTheSandboxWithTheMostGivesWayToTheOthers(t *testing.T) {
	for name, flood := range map[string]func(w *writer){
		"processes": func(w *writer) {
			for who := uint32(100); who < 140; who++ {
				w.fork(1, who, hostile)
				w.exec(who, hostile, "a", 64<<10)
			}
		},
		"a line of processes": func(w *writer) {
			for who := uint32(100); who < 140; who++ {
				w.fork(who-1, who, hostile)
				w.exec(who, hostile, "a", 64<<10)
				w.add(record.Header{Tgid: who - 1, Cgroup: hostile}, record.Exit{})
			}
		},
		"marks": func(w *writer) {
			for n := range 9000 {
				m := record.Mark{Op: record.MarkBegin, PeerCgroup: hostile, Session: "s", Call: fmt.Sprintf("%0100d", n)}
				w.raw(record.AppendMark(nil, w.now, 7, 7, m))
			}
		},
		"connects": func(w *writer) {
			w.fork(1, 99, hostile)
			for n := range uint64(20000) {
				w.add(record.Header{Tgid: 99, Cgroup: hostile}, record.Connect{Cookie: n})
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWriter(t, 4<<20)
			w.fork(1, 20, quiet)
			w.exec(20, quiet, "quiet", 0)
			w.raw(record.AppendMark(nil, w.now, 8, 8, record.Mark{Op: record.MarkBegin, PeerCgroup: quiet, Session: "q", Call: "q"}))
			flood(w)
			out := w.compact()
			want := []string{"fork 1", "exec 20 /quiet", "mark 8"}
			if got := w.kept(); !slices.Equal(got, want) {
				t.Errorf("%q, want %q", got[:min(9, len(got))], want)
			}
			if !strings.HasSuffix(out, fmt.Sprintf("sandbox=%d\n", hostile)) || w.j.Overflows() != 1 {
				t.Errorf("%d overflows: %s", w.j.Overflows(), out)
			}
		})
	}
}

func TestAConnectWithoutItsOutcomeIsKept(t *testing.T) {
	w := newWriter(t, 4<<20)
	w.fork(1, 20, quiet)
	for n := range uint64(4) {
		w.add(record.Header{Tgid: 20, Cgroup: quiet}, record.Connect{Cookie: n})
	}
	w.add(record.Header{Tgid: 20, Cgroup: quiet}, record.Connect{Cookie: 9, Op: record.ConnectSendmsg})
	w.add(record.Header{Tgid: 20, Cgroup: quiet}, record.ConnectEnd{Cookie: 1})
	w.add(record.Header{Tgid: 20, Cgroup: quiet}, record.ConnectEnd{Cookie: 2, Error: int32(unix.EINPROGRESS)})
	w.compact()
	if got, want := w.kept(), []string{"fork 1", "connect 20", "connect 20", "connect 20"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// A journal that was compacted between its opening and its lock is not the one that is there.
func TestTheJournalThatIsThereIsOpened(t *testing.T) {
	path := filepath.Join(t.TempDir(), "j")
	j := open(t, Config{Path: path})
	replay(t, j)
	if !j.inPlace() {
		t.Error("it is not at its place")
	}
	if err := os.Rename(path, path+"2"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if j.inPlace() {
		t.Error("another one is at its place")
	}
}

func TestHowMuchAJournalOfAnotherVersionHadIsSaid(t *testing.T) {
	path := filepath.Join(t.TempDir(), "j")
	text := append([]byte("sheetbend journal 2\n"), make([]byte, 1000)...)
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	j := open(t, Config{Path: path})
	dropped, err := j.Replay(func(*Entry) { t.Error("an entry") })
	if err != nil || dropped != int64(len(text)) {
		t.Errorf("%d bytes dropped, %v", dropped, err)
	}
}
