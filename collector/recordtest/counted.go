// SPDX-License-Identifier: Apache-2.0

package recordtest

import (
	"slices"
	"strings"

	"github.com/sheetbend/sheetbend/collector/span"
)

// counted are the keys of what a sensor counts from its own start on: after a kill it is less, and flagged.
var counted = []string{
	span.KeyNoiseOpens, span.KeyCountPartial, span.KeyCallSummary, span.KeySessionSummary, span.KeyPrograms, span.KeyProgramsFailed,
	span.KeyHosts, span.KeyHostNames, span.KeyHostBytes, span.KeySumSent, span.KeySumReceived, span.KeySumCPU, span.KeySumMemory, span.KeyNotables,
	span.KeyNotableCounts, span.KeyNotableLines, span.KeyCalls, span.KeyCallsFailed, span.KeyCallsDenied, span.KeyNewDestination,
}

// Counted says whether a key is that of what a sensor counts from its own start on.
func Counted(key string) bool {
	return strings.HasPrefix(key, "sheetbend.files.") || slices.Contains(counted, key)
}
