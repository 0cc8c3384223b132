// SPDX-License-Identifier: Apache-2.0

package collector_test

import (
	"cmp"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sheetbend/sheetbend/collector/span"
	"github.com/sheetbend/sheetbend/enrich/agents"
)

// Every recorded session is a story that a person can read: what the agent ran, in order, and how that came out.
func TestStoriesOfRecordedAgents(t *testing.T) {
	t.Parallel()
	names, err := filepath.Glob(filepath.Join("..", "testdata", "agents", "*.capture.gz"))
	if err != nil || len(names) == 0 {
		t.Fatal(names, err)
	}
	for _, name := range names {
		name := strings.TrimSuffix(filepath.Base(name), ".capture.gz")
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var user []agents.Dialect
			if name == "my-harness" {
				user = append(user, harness)
			}
			r := replayAgent(t, name, user...)
			var rows []*span.Span
			for _, s := range r.spans {
				if s.Kind == span.SessionCall {
					rows = append(rows, s)
				} else if s.Kind == span.Session && r.text(s, span.KeyCommandLine) == "" {
					t.Errorf("a session without a command line: %v", s.Attrs)
				}
			}
			slices.SortFunc(rows, func(a, b *span.Span) int { return cmp.Compare(a.Start, b.Start) })
			var got []string
			calls := map[string]bool{}
			for _, s := range rows {
				title := strings.ReplaceAll(r.text(s, span.KeyCallTitle), "/tmp/sheetbend-agents/"+name+"/work/", "")
				if title, cut := strings.CutSuffix(title, "…"); cut {
					title, _, _ = strings.Cut(title, ";")
					got = append(got, title+"; … "+r.text(s, span.KeyOutcome))
				} else {
					got = append(got, title+" "+r.text(s, span.KeyOutcome))
				}
				calls[fmt.Sprint(s.Links)] = true
				if r.byID[span.Link{Trace: s.Trace, Span: s.Parent}] == nil {
					t.Errorf("%s has no session", title)
				}
				if c := s.Links[0]; c.Trace.Own() && r.byID[c.Link] == nil {
					t.Errorf("%s leads nowhere: %v", title, s.Links)
				}
			}
			t.Logf("%s", strings.Join(got, "\n"))
			// What single asks for its session fails where that has none. Two calls are at the same time.
			want := []string{"cat after ok", "cat failing; exit 7 failed", "cat left ok", "cat right ok"}
			for _, line := range got {
				if title, _ := strings.CutSuffix(line, " failed"); strings.HasPrefix(title, "cat single;") || line == "touch denied ok" ||
					name == "cline" && line == "cat earlier ok" {
					want = append(want, line)
				}
			}
			slices.Sort(got)
			slices.Sort(want)
			if !slices.Equal(got, want) || len(calls) != len(rows) || len(got) < 5 {
				t.Errorf("%q\nwant %q", got, want)
			}
		})
	}
}
