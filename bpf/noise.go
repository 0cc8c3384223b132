// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"encoding/binary"
	"os"
	"strconv"
	"strings"
)

// The values of enum noise_kind, and the size of a key (records.h).
const (
	noiseFile      = 1
	noiseBelow     = 2
	noiseLibraries = 3
	noiseBytes     = 64
	maxNoise       = 1024
)

// hostMounts is the number of the host's mount namespace, in which alone reads can be noise: that of process 1, or,
// where that may not be looked at, that of the sensor itself. 0: neither can, and nothing is noise.
func hostMounts() uint32 {
	for _, process := range []string{"1", "self"} {
		if name, err := os.Readlink("/proc/" + process + "/ns/mnt"); err == nil {
			number, _ := strings.CutPrefix(name, "mnt:[")
			if n, err := strconv.ParseUint(strings.TrimSuffix(number, "]"), 10, 32); err == nil {
				return uint32(n)
			}
		}
	}
	return 0
}

// noisePaths are the patterns that the kernel side can tell by one look-up: a file, all below a directory, and the
// shared objects below one (NAME.so and NAME.so.* as a pair). The others it takes for ordinary paths, which are left
// out later.
func noisePaths(patterns []string) map[objectNoiseKey]objectNoisePath {
	const plain, versions = 1, 2
	libraries := map[string]int{}
	paths := map[objectNoiseKey]objectNoisePath{}
	add := func(path string, kind uint8) {
		bits, reversed, ok := reverse(path, kind != noiseFile)
		if !ok || len(paths) >= maxNoise {
			return
		}
		key := objectNoiseKey{Bits: bits}
		for i := range key.Words {
			// As the kernel side reads memory: little-endian on every machine that it runs on.
			key.Words[i] = binary.LittleEndian.Uint32(reversed[4*i:])
		}
		// One of a directory's own patterns is enough.
		if paths[key].Kind != noiseBelow {
			paths[key] = objectNoisePath{Kind: kind, Len: uint8(bits / 8)}
		}
	}
	for _, p := range patterns {
		if dir, ok := strings.CutSuffix(p, "/**.so"); ok {
			libraries[dir] |= plain
		} else if dir, ok := strings.CutSuffix(p, "/**.so.*"); ok {
			libraries[dir] |= versions
		} else if dir, ok := strings.CutSuffix(p, "/**"); ok {
			add(dir, noiseBelow)
		} else {
			add(p, noiseFile)
		}
	}
	for dir, both := range libraries {
		if both == plain|versions {
			add(dir, noiseLibraries)
		}
	}
	return paths
}

// reverse writes a path as the end of its components reads backwards: each component after a NUL, backwards. Of a
// directory the NUL of what is below it follows. bits are those of the path; a pattern, or a path that is too long,
// is none.
func reverse(path string, directory bool) (bits uint32, reversed [noiseBytes]byte, ok bool) {
	if !strings.HasPrefix(path, "/") || strings.ContainsAny(path, "*?\x00") {
		return 0, reversed, false
	}
	n := 0
	for _, component := range strings.Split(path[1:], "/") {
		if component == "" || component == "." || component == ".." || n+len(component)+2 > noiseBytes {
			return 0, reversed, false
		}
		n++ // the NUL behind it, which comes first
		for i := len(component) - 1; i >= 0; i-- {
			reversed[n] = component[i]
			n++
		}
	}
	if directory {
		n++
	}
	return uint32(8 * n), reversed, true
}
