// SPDX-License-Identifier: Apache-2.0

package record_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sheetbend/sheetbend/collector/record"
)

func TestEveryKindIsInTheDocs(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "spans.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, row, found := strings.Cut(string(text), "\n| `sheetbend.lost.kind` |")
	row, _, _ = strings.Cut(row, "\n")
	for _, kind := range record.Types() {
		if !found || !strings.Contains(row, "`"+kind.String()+"`") {
			t.Errorf("%s is not in the row sheetbend.lost.kind of docs/spans.md", kind)
		}
	}
}
