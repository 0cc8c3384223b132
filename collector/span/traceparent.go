// SPDX-License-Identifier: Apache-2.0

package span

import (
	"encoding/hex"
	"strings"
)

// ParseTraceparent reads a W3C traceparent (https://www.w3.org/TR/trace-context/#traceparent-header): version,
// trace id, parent id, flags, in lower-case hex digits. Ids of zeros are not valid. Later versions than 00 may be
// longer.
func ParseTraceparent(s string) (l Link, sampled, ok bool) {
	const length = 2 + 1 + 32 + 1 + 16 + 1 + 2
	if len(s) < length || len(s) > length && (s[length] != '-' || s[:2] == "00") || s[:2] == "ff" ||
		s[2] != '-' || s[35] != '-' || s[52] != '-' || strings.ToLower(s[:length]) != s[:length] {
		return Link{}, false, false
	}
	var flags, version [1]byte
	for _, part := range []struct {
		to   []byte
		from string
	}{{version[:], s[:2]}, {l.Trace[:], s[3:35]}, {l.Span[:], s[36:52]}, {flags[:], s[53:55]}} {
		if _, err := hex.Decode(part.to, []byte(part.from)); err != nil {
			return Link{}, false, false
		}
	}
	if l.Trace == (TraceID{}) || l.Span == (ID{}) {
		return Link{}, false, false
	}
	return l, flags[0]&1 != 0, true
}
