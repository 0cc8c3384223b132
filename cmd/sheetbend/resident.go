// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sheetbend/sheetbend/bpf"
)

// dropCode unmaps the pages of the program's own file, of which the start touched most and the rest of a daemon's life
// needs half: its code, and the object with the BPF programs, which are in the kernel by then. They stay in the page
// cache, and whatever is needed comes back with its first use.
func dropCode() error {
	exe, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return fmt.Errorf("find the program's file: %w", err)
	}
	smaps, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		return fmt.Errorf("read the program's mappings: %w", err)
	}
	for _, m := range append(codeMappings(smaps, exe), pagesOf(bpf.Object())) {
		// Not unix.Madvise: the memory is not Go's.
		if _, _, errno := unix.Syscall(unix.SYS_MADVISE, m.start, m.end-m.start, unix.MADV_DONTNEED); errno != 0 {
			return fmt.Errorf("unmap the program's pages: %w", errno)
		}
	}
	return nil
}

type mapping struct{ start, end uintptr }

// pagesOf gives the pages that have nothing but a part of b.
func pagesOf(b []byte) mapping {
	page := uintptr(os.Getpagesize())
	at := uintptr(unsafe.Pointer(unsafe.SliceData(b)))
	m := mapping{(at + page - 1) &^ (page - 1), (at + uintptr(len(b))) &^ (page - 1)}
	m.end = max(m.start, m.end)
	return m
}

// codeMappings gives the mappings of a file that cannot be written and have no page of their own: what a
// relocation or a breakpoint has changed would be lost.
func codeMappings(smaps []byte, file string) []mapping {
	var found []mapping
	var at mapping
	ours := false
	for lines := bufio.NewScanner(bytes.NewReader(smaps)); lines.Scan(); {
		line := lines.Text()
		var m mapping
		var mode string
		if n, _ := fmt.Sscanf(line, "%x-%x %s", &m.start, &m.end, &mode); n == 3 {
			at, ours = m, strings.HasSuffix(line, " "+file) && (mode == "r-xp" || mode == "r--p")
		} else if kb, ok := strings.CutPrefix(line, "Anonymous:"); ok && ours && strings.Fields(kb)[0] == "0" {
			found = append(found, at)
		}
	}
	return found
}
