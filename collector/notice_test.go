// SPDX-License-Identifier: Apache-2.0

package collector_test

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"testing"
	"time"

	"github.com/sheetbend/sheetbend/collector"
	"github.com/sheetbend/sheetbend/collector/record"
	"github.com/sheetbend/sheetbend/collector/span"
)

// firsts notes when the first of a notice and its span comes, and that no id comes twice.
type firsts struct {
	t      *testing.T
	ids    map[span.ID]span.Kind
	first  map[span.ID]uint64 // when it came, by the span's id
	now    uint64             // boottime of the record at hand, as wall time
	offset uint64
	late   time.Duration // the longest wait
	count  map[span.Kind]int
}

var noticed = map[span.Kind]bool{span.Exec: true, span.Tool: true, span.Connect: true}

func (f *firsts) Flush() {}

func (f *firsts) Span(s *span.Span) {
	a := span.Attrs(s.Attrs)
	if kind, ok := f.ids[s.ID]; ok {
		f.t.Errorf("%x comes twice: %s, %s", s.ID, kind, s.Kind)
	}
	f.ids[s.ID] = s.Kind
	f.count[s.Kind]++
	_, isSecond := f.first[s.Subject()]
	switch {
	case s.Subject() != s.ID: // a notice
		if isSecond {
			f.t.Errorf("a notice after the span: %s", s.Kind)
		}
	case !noticed[s.Kind] || a.Is(span.KeyStandIn):
		return
	case isSecond != a.Is(span.KeyNoticed):
		f.t.Errorf("%s %x: a notice came: %v, and it says %v", s.Kind, s.ID, isSecond, !isSecond)
	}
	if isSecond {
		return
	}
	f.first[s.Subject()] = f.now
	if !a.Is(span.KeyPreexisting) {
		f.late = max(f.late, time.Duration(f.now+f.offset-s.Start))
	}
}

// In all captures: within the hold, and what is between two ticks, comes either a notice or the span. No id comes twice.
func TestOneOfNoticeAndSpanComesWithinTheHold(t *testing.T) {
	t.Parallel()
	sum := map[span.Kind]int{}
	for _, pattern := range []string{"../testdata/agents/*.capture.gz", "capture/testdata/*.capture.gz"} {
		names, err := filepath.Glob(pattern)
		if err != nil || len(names) == 0 {
			t.Fatal(names, err)
		}
		for _, name := range names {
			for _, spansPerTrace := range []int{50, 4000} {
				t.Run(fmt.Sprint(filepath.Base(name), " ", spansPerTrace), func(t *testing.T) {
					in := openCapture(t, name)
					config := in.Header().Config
					config.MaxSpansPerTrace = spansPerTrace
					f := &firsts{t: t, ids: map[span.ID]span.Kind{}, first: map[span.ID]uint64{}, count: sum}
					c, err := collector.New(config, f)
					if err != nil {
						t.Fatal(err)
					}
					var e record.Event
					between, tick := time.Duration(0), uint64(0)
					for {
						raw, err := in.Next()
						if errors.Is(err, io.EOF) {
							break
						}
						if err != nil {
							t.Fatal(err)
						}
						if e.Decode(raw) == nil {
							f.now = max(f.now, e.Header.Time)
							switch e.Header.Type {
							case record.TypeClock:
								f.offset = uint64(e.Clock.Wall) - e.Header.Time
							case record.TypeTick:
								if tick > 0 {
									between = max(between, time.Duration(e.Header.Time-tick))
								}
								tick = e.Header.Time
							}
						}
						if err := c.Record(raw); err != nil && !errors.Is(err, collector.ErrRefused) {
							t.Fatal(err)
						}
					}
					c.Close()
					if hold := config.WithDefaults().Hold; f.late > hold+between {
						t.Errorf("nothing came for %v; ticks are %v apart", f.late, between)
					}
					for id, kind := range f.ids {
						if notice := kind == span.Start || kind == span.ToolStart || kind == span.ConnectStart; notice {
							continue
						}
						delete(f.first, id)
					}
					for id := range f.first {
						t.Errorf("of %x only the notice came", id)
					}
				})
			}
		}
	}
	for _, kind := range []span.Kind{span.Start, span.ToolStart, span.Exec, span.Tool} {
		if sum[kind] == 0 {
			t.Errorf("no %s", kind)
		}
	}
}
