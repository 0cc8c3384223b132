// SPDX-License-Identifier: Apache-2.0

package collector_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sheetbend/sheetbend/collector"
	"github.com/sheetbend/sheetbend/collector/span"
	"github.com/sheetbend/sheetbend/enrich/agents"
)

// What a call, an agent and a sandbox are said to have done is what their spans say, in every recorded session, also where
// records of every kind are lost. Then the traces are whole, and what is said is no less than what was lost.
func TestAccountsAreTheSumsOfTheirSpans(t *testing.T) {
	t.Parallel()
	names, err := filepath.Glob(filepath.Join("..", "testdata", "agents", "*.capture.gz"))
	if err != nil || len(names) == 0 {
		t.Fatal(names, err)
	}
	for _, name := range names {
		name := strings.TrimSuffix(filepath.Base(name), ".capture.gz")
		for _, each := range []int{0, 101, 23, 7, 3} {
			t.Run(fmt.Sprintf("%s, one of %d lost", name, each), func(t *testing.T) {
				t.Parallel()
				var user []agents.Dialect
				if name == "my-harness" {
					user = append(user, harness)
				}
				r := replayLosing(t, name, each, user...)
				calls, others := collector.CheckAccounts(t, r.spans)
				if each == 0 && calls < 5 || others == 0 {
					t.Errorf("%d calls, and %d agents and sandboxes", calls, others)
				}
				collector.CheckTraces(t, r.spans)
				var lost, said int64
				for _, s := range r.spans {
					if s.Kind.Story() {
						t.Log(s.Kind, r.text(s, span.KeyCallTitle), "⟶", r.text(s, span.KeyCallSummary)+r.text(s, span.KeySessionSummary))
					}
					switch s.Kind {
					case span.Loss:
						lost += r.number(s, span.KeyLost)
					case span.Session, span.SessionEnd, span.SandboxEnd:
						said += r.number(s, span.KeyLost)
					}
				}
				if lost > said || each > 0 && lost == 0 {
					t.Errorf("%d lost, %d said", lost, said)
				}
			})
		}
	}
}
