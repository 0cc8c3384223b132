// SPDX-License-Identifier: Apache-2.0

package effect

import "github.com/cespare/xxhash/v2"

// Seen remembers of paths whether something was there when they were opened last. It is of a fixed size: a path may take
// the place of another one.
type Seen [1 << 15]uint64

// Set says that a path was opened, or that nothing was there. Paths of another place are others.
func (s *Seen) Set(place uint64, path []byte, there bool) {
	h := hash(place, path)
	e := &s[h%uint64(len(s))]
	switch {
	case there:
		*e = h
	case *e == h:
		*e = 0
	}
}

// Is says whether something is known to have been there.
func (s *Seen) Is(place uint64, path []byte) bool {
	h := hash(place, path)
	return s[h%uint64(len(s))] == h
}

func hash(place uint64, path []byte) uint64 {
	return xxhash.Sum64(path) ^ place*0x9e3779b97f4a7c15 | 1<<63
}
