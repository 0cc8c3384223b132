// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"github.com/sheetbend/sheetbend/collector/span"
)

// accounted are the keys of the account of a call, an agent or a sandbox.
var accounted = func() map[string]bool {
	keys := map[string]bool{}
	for _, key := range []string{
		span.KeyCallSummary, span.KeySessionSummary, span.KeyPrograms, span.KeyProgramsFailed, span.KeyFilesRead, span.KeyFilesRefused,
		span.KeySecrets, span.KeySecretNames, span.KeyOutsideCount, span.KeyOutsideNames, span.KeyHosts, span.KeyHostNames,
		span.KeySumSent, span.KeySumReceived, span.KeySumCPU, span.KeySumMemory, span.KeyNotables, span.KeyNotableLines,
		span.KeyCalls, span.KeyCallsFailed, span.KeyCallsDenied,
	} {
		keys[key] = true
	}
	return keys
}()
