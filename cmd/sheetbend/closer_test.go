// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
)

func TestARunLeavesNothingInTheKernel(t *testing.T) {
	t.Parallel()
	needRoot(t)
	// Which programs there are, from sheetbend's own descriptors; some may be closed meanwhile.
	r := sheetbendRun(t, "run", "-q", "--", "sh", "-c", `grep -hs ^prog_id: /proc/$PPID/fdinfo/*; true`)
	ids := strings.Fields(strings.ReplaceAll(r.stdout, "prog_id:", ""))
	if r.code != 0 || len(ids) == 0 {
		t.Fatalf("exit %d, programs %v: %s", r.code, ids, r.stderr)
	}
	exe, err := os.Readlink("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	left := func() (what []string) {
		for _, id := range ids {
			n, err := strconv.ParseUint(id, 10, 32)
			if err != nil {
				t.Fatal(err)
			}
			p, err := ebpf.NewProgramFromID(ebpf.ProgramID(n))
			if errors.Is(err, os.ErrNotExist) {
				continue
			}
			what = append(what, "program "+id)
			_ = p.Close()
		}
		dirs, _ := filepath.Glob("/proc/[0-9]*")
		for _, dir := range dirs {
			args, _ := os.ReadFile(dir + "/cmdline")
			if its, _ := os.Readlink(dir + "/exe"); its == exe && bytes.Contains(args, []byte(closerName)) {
				what = append(what, dir)
			}
		}
		return what
	}
	for end := time.Now().Add(patience); ; <-time.After(50 * time.Millisecond) {
		what := left()
		if len(what) == 0 {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("still there: %v", what)
		}
	}
}
