// SPDX-License-Identifier: Apache-2.0

package span

import (
	"strings"
	"testing"
)

func TestTraceparent(t *testing.T) {
	const trace, parent = "0123456789abcdef0123456789abcdef", "fedcba9876543210"
	for _, s := range []string{
		"", "00-", "ff-" + trace + "-" + parent + "-01", "00-" + strings.ToUpper(trace) + "-" + parent + "-01",
		"00-" + trace + "-" + parent + "-01-x", "00-" + trace + "-" + parent + "-0g",
		"00-" + strings.Repeat("0", 32) + "-" + parent + "-01", "00-" + trace + "-" + strings.Repeat("0", 16) + "-01",
		"00_" + trace + "-" + parent + "-01", "0g-" + trace + "-" + parent + "-01",
	} {
		if _, _, ok := ParseTraceparent(s); ok {
			t.Errorf("%q was read", s)
		}
	}
	for s, want := range map[string]bool{
		"00-" + trace + "-" + parent + "-00":      false,
		"00-" + trace + "-" + parent + "-01":      true,
		"cc-" + trace + "-" + parent + "-03-more": true,
	} {
		l, sampled, ok := ParseTraceparent(s)
		if !ok || sampled != want || l.Trace[1] != 0x23 || l.Trace[15] != 0xef || l.Span[0] != 0xfe || l.Span[7] != 0x10 {
			t.Errorf("%q: %x %t %t", s, l, sampled, ok)
		}
	}
}
