// SPDX-License-Identifier: Apache-2.0

package agents

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

// CommandHash is by what a command that a hook was told of is found again among those that run, without its text: 16
// hex digits. Blanks at both ends do not count.
func CommandHash(command string) string {
	sum := sha256.Sum256([]byte(strings.TrimSpace(command)))
	return hex.EncodeToString(sum[:8])
}
