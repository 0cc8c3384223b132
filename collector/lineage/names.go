// SPDX-License-Identifier: Apache-2.0

package lineage

// names keeps one copy of strings that come again and again: executables, working directories.
type names struct {
	known map[string]string
}

// maxNames bounds the table; it starts anew when full, which costs copies, not facts.
const maxNames = 8192

// maxNameBytes keeps long paths, which seldom repeat, out of the table.
const maxNameBytes = 256

func (n *names) Intern(b []byte) string {
	if s, ok := n.known[string(b)]; ok {
		return s
	}
	s := string(b)
	if len(b) > maxNameBytes {
		return s
	}
	if len(n.known) >= maxNames {
		clear(n.known)
	}
	n.known[s] = s
	return s
}
