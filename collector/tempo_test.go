// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sheetbend/sheetbend/collector/config"
	"github.com/sheetbend/sheetbend/collector/record"
	rt "github.com/sheetbend/sheetbend/collector/recordtest"
	"github.com/sheetbend/sheetbend/collector/span"
	"github.com/sheetbend/sheetbend/exporters/otlp"
)

// tempo keeps of each trace what comes first, up to 5 MB, and drops the rest without a word, as Tempo does by default
// (max_bytes_per_trace). It is between a collector and the spans that a test looks at.
type tempo struct {
	to    *world
	size  map[span.TraceID]int
	most  int
	drops int
}

const tempoLimit = 5_000_000

func (k *tempo) Span(s *span.Span) {
	size := 0
	e := otlp.NewEncoder("", otlp.Limits{}, func(b otlp.Batch) { size = b.Size() })
	e.Span(s)
	e.Flush()
	k.size[s.Trace] += size
	k.most = max(k.most, k.size[s.Trace])
	if k.size[s.Trace] > tempoLimit {
		k.drops++
		return
	}
	k.to.Span(s)
}

func (k *tempo) Flush() {}

// newTempoWorld is a world behind tempo, which keeps of the spans only those that matter.
func newTempoWorld(t *testing.T, change ...func(*config.Config)) (*world, *tempo) {
	w := newWorld(t, change...)
	k := &tempo{to: w, size: map[span.TraceID]int{}}
	c, err := New(*w.c.config, k)
	if err != nil {
		t.Fatal(err)
	}
	w.c = c
	for _, raw := range w.records {
		_ = c.Record(raw)
	}
	w.records = nil
	return w, k
}

func TestWhatFollowsAFloodIsWhereTempoKeepsIt(t *testing.T) {
	const shell = 11
	command := func(w *world) {
		w.codex(10)
		w.call(10, shell, "call_1")
	}
	joined := func(w *world) {
		w.claude(10)
		w.fork(10, shell)
		w.start(shell, "/bin/bash", true, "CLAUDECODE=1", "TRACEPARENT=00-"+strings.Repeat("a", 32)+"-"+strings.Repeat("b", 16)+"-01")
	}
	noAgent := func(w *world) {
		w.begin(shell, one)
		w.exec(shell, "/bin/bash", "bash")
	}
	junk := func(n int) string { return fmt.Sprintf("/%s/%d", strings.Repeat("\xff/", 1300), n) }
	floods := []struct {
		name string
		do   func(*world)
	}{
		{"of opens with long names that are no UTF-8", func(w *world) {
			for n := range 5000 {
				w.openWith(shell, record.OpenNameFromUser, record.Open{
					Error: int32(unix.EACCES), Path: rt.Path(junk(n)), Name: []byte(junk(n) + "x"), Flags: unix.O_WRONLY,
				})
			}
		}},
		{"of programs with 60 kB of arguments", func(w *world) {
			long := strings.Repeat("'", 60_000)
			for n := range uint32(700) {
				w.fork(shell, 1000+n)
				w.exec(1000+n, "/bin/echo", "echo", long, fmt.Sprint(n))
				w.exit(1000+n, 0)
			}
		}},
		{"of thousands of empty arguments", func(w *world) {
			empty := make([]string, 10_000)
			for n := range uint32(700) {
				w.fork(shell, 1000+n)
				w.exec(1000+n, "/bin/echo", empty...)
				w.exit(1000+n, 0)
			}
		}},
		{"of programs with arguments that grow in quotes", func(w *world) {
			quotes := slices.Repeat([]string{"'"}, 455)
			for n := range uint32(1500) {
				w.fork(shell, 1000+n)
				w.exec(1000+n, "/bin/echo", quotes...)
			}
			w.tick(3e9) // notices
		}},
		{"in a cgroup whose name is as long as can be", func(w *world) {
			w.raw(record.AppendCgroup(nil, w.now, 500, one, ("/agents/one" + strings.Repeat("/"+strings.Repeat("d", 250), 16))[:4000]))
			w.attach(shell, 500, "", true)
			for n := range 3000 {
				w.openWith(shell, 0, record.Open{Path: rt.Path(fmt.Sprintf("/a/%d", n)), Flags: unix.O_WRONLY})
			}
		}},
		{"in a call whose tool gets a long name while they wait", func(w *world) {
			for n := range 3000 {
				w.openWith(shell, 0, record.Open{Path: rt.Path(fmt.Sprintf("/a/%d", n)), Flags: unix.O_WRONLY})
			}
			w.sayAs(10, record.Said{Kind: record.SaidResult, Session: "sess", Call: "call_1", Tool: strings.Repeat("t", 1000)})
		}},
		{"of reads in thousands of directories", func(w *world) {
			for n := range 20_000 {
				w.open(shell, fmt.Sprintf("/d/%s%d/f", strings.Repeat("x", 200), n))
				if n%1000 == 0 {
					w.tick(2e9)
				}
			}
		}},
		{"of processes that stay", func(w *world) {
			for n := range uint32(1500) {
				w.fork(shell, 1000+n)
				w.exec(1000+n, "/bin/sleep", "sleep", strings.Repeat("9", 3000))
			}
			w.tick(3e9)                   // notices
			for n := range uint32(1500) { // each needs what stands for it in the next slice
				w.open(1000+n, junk(int(n)))
			}
		}},
	}
	for n, in := range []struct {
		name  string
		begin func(*world)
	}{{"in a call", command}, {"in the agent's own trace", joined}, {"without an agent", noAgent}} {
		for m, flood := range floods {
			if n > 0 && m > 1 {
				continue
			}
			t.Run(flood.name+", "+in.name, func(t *testing.T) {
				w, k := newTempoWorld(t)
				in.begin(w)
				flood.do(w)
				w.secrets(shell)
				w.c.Close()
				w.checkSecrets(1)
				if k.drops > 0 {
					t.Errorf("%d spans are dropped; the largest trace has %d bytes", k.drops, k.most)
				}
				t.Logf("%d traces, the largest with %d bytes", len(k.size), k.most)
			})
		}
	}
	t.Run("of calls in the agent's own trace", func(t *testing.T) {
		w, k := newTempoWorld(t)
		w.claude(10)
		for n := range uint32(6000) {
			w.fork(10, 1000+n)
			w.start(1000+n, "/bin/bash", true, "CLAUDECODE=1", fmt.Sprintf("TRACEPARENT=00-%s-%016x-01", strings.Repeat("a", 32), n+1))
			w.open(1000+n, junk(int(n)))
		}
		w.secrets(1000)
		w.secrets(1000 + 5999)
		w.c.Close()
		w.checkSecrets(2)
		if k.drops > 0 {
			t.Errorf("%d spans are dropped; the largest trace has %d bytes", k.drops, k.most)
		}
	})
	t.Run("of losses", func(t *testing.T) {
		w, k := newTempoWorld(t)
		command(w)
		for n := range uint64(20_000) {
			w.raw(record.AppendLoss(nil, record.Header{Cgroup: one, Tgid: shell, Start: start(shell)},
				record.Loss{Kind: record.TypeOpen, Cause: record.CauseRingFull, Count: 1, From: w.now + n, To: w.now + n}))
		}
		w.secrets(shell)
		w.c.Close()
		w.checkSecrets(1)
		if k.drops > 0 {
			t.Errorf("%d spans are dropped", k.drops)
		}
	})
}

// secrets is what nobody may hide behind a flood.
func (w *world) secrets(pid uint32) {
	w.open(pid, "/etc/shadow")
	w.connect(pid, to("192.0.2.1:443", unix.IPPROTO_TCP))
	w.connectEnd(pid, 0)
	w.raw(record.AppendLoss(nil, record.Header{Cgroup: one, Tgid: pid, Start: start(pid)},
		record.Loss{Kind: record.TypeOpen, Cause: record.CauseRingFull, Count: 77, From: w.now, To: w.now}))
}

func (w *world) checkSecrets(times int) {
	w.t.Helper()
	kept := map[string]int{}
	for _, s := range w.spans {
		switch {
		case get(s, span.KeyFilePath) == "/etc/shadow" && get(s, span.KeySensitive) == true:
			kept["read"]++
		case get(s, span.KeyPeerAddress) == "192.0.2.1" && s.Kind == span.Connect:
			kept["connect"]++
		case get(s, span.KeyLost) == int64(77):
			kept["loss"]++
		}
	}
	for _, what := range []string{"read", "connect", "loss"} {
		if kept[what] < times {
			w.t.Errorf("%d of %d: %s", kept[what], times, what)
		}
	}
}
