// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// program32 writes a program that opens nothing and exits with 4, by 32-bit system calls.
func program32(t *testing.T) string {
	t.Helper()
	const at = 0x08048000
	code := []byte{0xb8, 1, 0, 0, 0, 0xbb, 4, 0, 0, 0, 0xcd, 0x80} // exit(4)
	image := []byte("\x7fELF\x01\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00")
	for _, v := range []any{
		uint16(2), uint16(3), uint32(1), uint32(at + 84), uint32(52), uint32(0), uint32(0), // ET_EXEC, EM_386, entry, headers
		uint16(52), uint16(32), uint16(1), uint16(0), uint16(0), uint16(0),
		uint32(1), uint32(0), uint32(at), uint32(at), uint32(84 + len(code)), uint32(84 + len(code)), uint32(5), uint32(0x1000),
	} {
		image, _ = binary.Append(image, binary.LittleEndian, v)
	}
	file := filepath.Join(t.TempDir(), "old")
	if err := os.WriteFile(file, append(image, code...), 0o755); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestA32BitProgramIsToldWhereItsOpensAreNotSeen(t *testing.T) {
	t.Parallel()
	needRoot(t)
	if runtime.GOARCH != "amd64" {
		t.Skip("a program for amd64")
	}
	file := program32(t)
	config := filepath.Join(t.TempDir(), "sheetbend.yaml")
	if err := os.WriteFile(config, []byte("open_hook: tracepoint\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	const told = "32-bit programs ran"
	r := sheetbendRun(t, "run", "--quiet", "--config", config, "--", file)
	if r.code != 4 || strings.Count(r.stderr, told) != 1 || !strings.Contains(r.stderr, file) {
		t.Error(describeResult(r))
	}
	if r := sheetbendRun(t, "run", "--quiet", "--config", config, "--", "true"); r.stderr != "" {
		t.Error(describeResult(r))
	}
	if err := os.WriteFile(config, []byte("open_hook: tracepoint\ncompat_calls: true\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if r := sheetbendRun(t, "run", "--quiet", "--config", config, "--", file); r.code != 4 || r.stderr != "" {
		t.Error(describeResult(r))
	}
}
