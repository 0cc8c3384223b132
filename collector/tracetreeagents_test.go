// SPDX-License-Identifier: Apache-2.0

package collector_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/sheetbend/sheetbend/collector"
	"github.com/sheetbend/sheetbend/enrich/agents"
)

// Every recorded session is whole traces.
func TestRecordedSessionsAreWholeTraces(t *testing.T) {
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
			if n := len(collector.CheckTraces(t, replayAgent(t, name, user...).spans)); n < 4 {
				t.Errorf("%d traces", n)
			}
		})
	}
}
