// SPDX-License-Identifier: Apache-2.0

package effect

// Total bounds scopes together: those of a sandbox, or all.
type Total struct {
	Names, Bytes int    // at most; where a name is sensitive, an eighth more
	Within       *Total // what this one is a part of; nil: nothing
	names, bytes int
}

// Kept is how many names there are.
func (t *Total) Kept() int { return t.names }

// room says whether there is some for a name, or what has none, of so many bytes.
func (t *Total) room(size int, sensitive bool) bool {
	for ; t != nil; t = t.Within {
		names, bytes := t.Names, t.Bytes
		if sensitive {
			names, bytes = names+names/8, bytes+bytes/8
		}
		if t.names >= names || t.bytes+size > bytes {
			return false
		}
	}
	return true
}

func (s *Scope) take(names, size int) {
	s.names, s.bytes = s.names+names, s.bytes+size
	for t := s.total; t != nil; t = t.Within {
		t.names, t.bytes = t.names+names, t.bytes+size
	}
}
