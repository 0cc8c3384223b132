// SPDX-License-Identifier: Apache-2.0

package collector_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/sheetbend/sheetbend/collector"
	"github.com/sheetbend/sheetbend/collector/span"
	"github.com/sheetbend/sheetbend/enrich/agents"
)

// What a call, an agent and a sandbox are said to have done is what their spans say, in every recorded session.
func TestAccountsAreTheSumsOfTheirSpans(t *testing.T) {
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
			if calls, others := collector.CheckAccounts(t, r.spans); calls < 5 || others == 0 {
				t.Errorf("%d calls, and %d agents and sandboxes", calls, others)
			}
			for _, s := range r.spans {
				if s.Kind.Story() {
					t.Log(s.Kind, r.text(s, span.KeyCallTitle), "⟶", r.text(s, span.KeyCallSummary)+r.text(s, span.KeySessionSummary))
				}
			}
		})
	}
}
