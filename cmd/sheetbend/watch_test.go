// SPDX-License-Identifier: Apache-2.0

package main

import (
	"log/slog"
	"testing"
	"time"

	"github.com/sheetbend/sheetbend/cmd/sheetbend/config"
)

func TestTheCollectorKeepsCallsForAsLongAsTheConfigurationSays(t *testing.T) {
	c := config.Default()
	c.CallRetention = config.Duration(3 * time.Minute)
	cc, err := collectorConfig(c, func(string) string { return "" }, false, slog.New(slog.DiscardHandler))
	if err != nil || cc.CallRetention != 3*time.Minute {
		t.Errorf("%v, %v", cc.CallRetention, err)
	}
}
