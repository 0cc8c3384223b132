// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"maps"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sheetbend/sheetbend/bpf"
	"github.com/sheetbend/sheetbend/collector/span"
)

// maxRan bounds the different programs that are looked at.
const maxRan = 4096

// ranPrograms is a span.Sink that keeps the files of the programs that ran.
type ranPrograms map[string]bool

// Span implements span.Sink.
func (p ranPrograms) Span(s *span.Span) {
	if s.Kind == span.Exec && len(p) < maxRan {
		p[span.Attrs(s.Attrs).Text(span.KeyExecutablePath)] = true
	}
}

// Flush implements span.Sink.
func (ranPrograms) Flush() {}

// unseen says which 32-bit programs ran, if any, where the hook for what those open is not attached. One whose file is
// gone is not found. No span may come any more.
func (p ranPrograms) unseen(hooks []bpf.Hook) string {
	const hook = "compat_call" // only in the tracepoint form
	if !slices.ContainsFunc(hooks, func(h bpf.Hook) bool { return h.Name == hook && !h.Attached }) {
		return ""
	}
	found := make(chan []string, 1)
	go func() {
		found <- slices.DeleteFunc(slices.Sorted(maps.Keys(p)), func(f string) bool { return !is32(f) })
	}()
	select {
	case list := <-found:
		if len(list) > 0 {
			return "32-bit programs ran, and what they opened, changed and connected to may not be seen (compat_calls: true " +
				"in the configuration changes that): " + listed(list)
		}
	case <-time.After(lookedWithin): // a file system of the sandbox's own may never answer
	}
	return ""
}

// is32 says whether a file is a 32-bit program.
func is32(file string) bool {
	fd, err := unix.Open(file, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK|unix.O_NOFOLLOW|unix.O_NOCTTY, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return false
	}
	start := make([]byte, 5) // e_ident: the magic number and ELFCLASS32
	n, err := unix.Pread(fd, start, 0)
	return err == nil && n == len(start) && bytes.Equal(start, []byte("\x7fELF\x01"))
}
