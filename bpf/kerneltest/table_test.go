// SPDX-License-Identifier: Apache-2.0

package main

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// console is what a guest prints whose kernel has both forms of hook.
const console = `TOKEN booted
TOKEN begin bpf
=== RUN   TestSpans
    --- PASS: TestSpans/by_trampoline (0.10s)
        --- PASS: TestSpans/by_trampoline/a_file,_that_is_read (0.00s)
    --- PASS: TestSpans/by_tracepoint (0.10s)
        --- PASS: TestSpans/by_tracepoint/a_file,_that_is_read (0.00s)
--- PASS: TestSpans (0.20s)
=== ATTR  TestLimit verifier/open_file 1590 instructions, 120 states, 114 at once
    --- PASS: TestLimit/a_detail (0.00s)
--- PASS: TestLimit (0.20s)
TOKEN end bpf 0
TOKEN begin collector/live
--- PASS: TestStream (0.20s)
TOKEN end collector/live 0
TOKEN done
`

func columnOf(t *testing.T, k kernel, console string) *column {
	t.Helper()
	o := options{out: io.Discard}
	return o.listen(strings.NewReader(console), "TOKEN", newColumn(k, "6.12.1-cloud"), func() {}).column
}

func TestTheTableSaysWhatPassedByWhichForm(t *testing.T) {
	k := kernel{arch: "amd64", series: "6.12"}
	one := columnOf(t, k, console)
	file := filepath.Join(t.TempDir(), "kernels.md")
	if err := os.WriteFile(file, []byte("before\n"+tableBegin+tableEnd+"after\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	written, err := readTable(file)
	if err != nil {
		t.Fatal(err)
	}
	written.replace(one)
	if err := written.write(file); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	const want = "before\n" + tableBegin + `| test | 6.12 amd64 |
|---|---|
| release | 6.12.1-cloud |
| ` + "`./collector/live`" + ` | yes |
| ` + "`TestLimit`" + ` | yes |
| ` + "`TestSpans`" + ` | both forms |
| · a file, that is read | both forms |

| program | 6.12 amd64 | at most |
|---|---|---|
| ` + "`open_file`" + ` | 1590 (114) | 0.2 % |
` + tableEnd + "after\n"
	if string(text) != want {
		t.Errorf("got:\n%s\nwant:\n%s", text, want)
	}

	read, err := readTable(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := read.differences(one); err != nil {
		t.Errorf("what was written differs from what was run: %v", err)
	}
	// One more kernel leaves the column of the first.
	read.replace(columnOf(t, kernel{arch: "arm64", series: "6.1"}, console))
	if len(read.columns) != 2 || read.columns[0].release != "6.12.1-cloud" || read.columns[1].kernel != "6.1 arm64" {
		t.Errorf("columns %+v", read.columns)
	}
}

func TestATableThatNamesOtherTestsOrProgramsIsOutOfDate(t *testing.T) {
	k := kernel{arch: "amd64", series: "6.12"}
	for name, c := range map[string]struct{ old, new, want string }{
		"nothing but a figure changed": {"1590 instructions, 120 states, 114", "1700 instructions, 120 states, 115", ""},
		"a test has another name":      {"TestLimit (", "TestBound (", `TestBound: "yes" here, "" in the table`},
		"what it shows has another":    {"a_file,_that_is_read", "a_file", `TestSpans/a file: "both forms" here`},
		"a form is gone":               {"by_trampoline", "by_tracepoint", `TestSpans: "tracepoint" here, "both forms" in the table`},
		"a program is new":             {"verifier/open_file", "verifier/open_two", "program open_two: here true, in the table false"},
		"a package is gone":            {"collector/live", "collector/dead", `./collector/live: "" here`},
	} {
		t.Run(name, func(t *testing.T) {
			committed := &table{columns: []*column{columnOf(t, k, console)}}
			err := committed.differences(columnOf(t, k, strings.ReplaceAll(console, c.old, c.new)))
			switch {
			case c.want == "" && err != nil:
				t.Error(err)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
				t.Errorf("got %v, want an error with %s", err, c.want)
			}
		})
	}
}

// nowhere says of programs which kernels have nothing that they could be attached to.
var nowhere = map[string]string{
	"compat_call":  "arm64",      // no 32-bit calls of 64-bit programs
	"access_check": "5.10 arm64", // no function of its target's name
}

// TestTheCommittedTableHasEveryKernel needs no guest; CI compares some of the columns with what guests do, so the others must
// name the same.
func TestTheCommittedTableHasEveryKernel(t *testing.T) {
	committed, err := readTable(filepath.Join("..", "..", tableFile))
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range kernels() {
		c := committed.column(newColumn(k, "").kernel)
		for _, name := range names(committed.columns, func(c *column) map[string]string { return c.tests }) {
			if c.tests[name] == "" {
				t.Errorf("%s does not say how %s went on %s: run make kernels-table", tableFile, name, c.kernel)
			}
		}
		for _, name := range names(committed.columns, func(c *column) map[string]figures { return c.programs }) {
			if none := nowhere[name]; none != "" && strings.HasSuffix(c.kernel, none) {
				continue
			}
			if c.programs[name].instructions == "" {
				t.Errorf("%s has no figures of %s on %s: run make kernels-table", tableFile, name, c.kernel)
			}
		}
	}
	if want := len(kernels()); len(committed.columns) != want {
		t.Errorf("%d kernels in %s, want %d", len(committed.columns), tableFile, want)
	}
}
