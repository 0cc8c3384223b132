// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"testing"

	"github.com/sheetbend/sheetbend/collector/record"
	rt "github.com/sheetbend/sheetbend/collector/recordtest"
)

func TestEveryKindOfRecordHasAHandler(t *testing.T) {
	for _, sample := range rt.Samples() {
		w := newWorld(t)
		w.raw(sample.Raw)
		kinds, _ := w.c.Lineage().Losses.LossCounts()
		for _, l := range kinds {
			if l.Cause == record.CauseMalformed.String() {
				t.Errorf("%s has none", l.Kind)
			}
		}
	}
}
