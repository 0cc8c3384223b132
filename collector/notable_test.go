// SPDX-License-Identifier: Apache-2.0

package collector_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sheetbend/sheetbend/collector/notable"
)

// The recorded sessions run five or six ordinary commands each. What of them is notable can be read at a glance.
func TestOrdinarySessionsHaveFewNotableSpans(t *testing.T) {
	t.Parallel()
	names, err := filepath.Glob(filepath.Join("..", "testdata", "agents", "*.capture.gz"))
	if err != nil || len(names) == 0 {
		t.Fatal(names, err)
	}
	for _, name := range names {
		name := strings.TrimSuffix(filepath.Base(name), ".capture.gz")
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := replayAgent(t, name)
			var lines []string
			for _, s := range r.spans {
				if e, ok := notable.Of(s); ok {
					lines = append(lines, fmt.Sprintf("%-5s %s: %s", e.Severity, e.Name, e.Sentence))
				}
			}
			text := strings.Join(lines[:min(len(lines), 40)], "\n")
			t.Logf("%d of %d spans:\n%s", len(lines), len(r.spans), text)
			if len(lines) > 20 {
				t.Errorf("%d notable spans of %d:\n%s", len(lines), len(r.spans), text)
			}
		})
	}
}
