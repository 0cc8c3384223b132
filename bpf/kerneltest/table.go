// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
)

// table is the part of docs/kernels.md that is generated. What stands there is read back, so that a run on some kernels
// replaces their columns and leaves the others.
type table struct {
	before, after string // the prose around it
	columns       []*column
}

const (
	tableFile  = "docs/kernels.md"
	tableBegin = "<!-- make kernels-table writes from here … -->\n"
	tableEnd   = "<!-- … to here -->\n"

	testsHead    = "test"
	programsHead = "program"
	releaseRow   = "release"
	mostColumn   = "at most"
	// verifierLimit: bpf.verifierLimit, in instructions.
	verifierLimit = 1_000_000
)

func readTable(file string) (*table, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read the table of results: %w", err)
	}
	before, rest, began := strings.Cut(string(text), tableBegin)
	body, after, ended := strings.Cut(rest, tableEnd)
	if !began || !ended {
		return nil, fmt.Errorf("%s has not the two lines between which the tables are", file)
	}
	t := &table{before: before, after: after}
	t.parse(body)
	return t, nil
}

// parse understands what render writes; anything else it leaves out, and then the comparison tells.
func (t *table) parse(body string) {
	var head []string
	parent := ""
	for line := range strings.Lines(body) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		switch {
		case len(cells) < 2 || strings.HasPrefix(cells[0], "---"):
			continue
		case cells[0] == testsHead || cells[0] == programsHead:
			head = cells
			continue
		case len(cells) != len(head):
			continue
		}
		name := strings.Trim(cells[0], "`")
		if sentence, ok := strings.CutPrefix(cells[0], "· "); ok {
			name = parent + "/" + sentence
		} else {
			parent = name
		}
		for i, cell := range cells[1:] {
			c := t.column(head[i+1])
			switch {
			case cell == "" || head[i+1] == mostColumn:
			case head[0] == programsHead:
				instructions, states, _ := strings.Cut(strings.TrimSuffix(cell, ")"), " (")
				c.programs[name] = figures{instructions, states}
			case name == releaseRow:
				c.release = cell
			default:
				c.tests[name] = cell
			}
		}
	}
	t.columns = slices.DeleteFunc(t.columns, func(c *column) bool { return c.kernel == mostColumn })
}

// column finds or makes the column of a kernel.
func (t *table) column(kernel string) *column {
	for _, c := range t.columns {
		if c.kernel == kernel {
			return c
		}
	}
	c := &column{kernel: kernel, tests: map[string]string{}, programs: map[string]figures{}}
	t.columns = append(t.columns, c)
	return c
}

// replace puts a new column in the place of an older one, in the order of the table of kernels. Columns of kernels that
// are not tested any more go.
func (t *table) replace(ran *column) {
	var ordered []*column
	for _, k := range kernels() {
		name := newColumn(k, "").kernel
		for _, c := range append([]*column{ran}, t.columns...) {
			if c.kernel == name {
				ordered = append(ordered, c)
				break
			}
		}
	}
	t.columns = ordered
}

func (t *table) write(file string) error {
	if err := os.WriteFile(file, []byte(t.before+tableBegin+t.render()+tableEnd+t.after), 0o644); err != nil {
		return fmt.Errorf("write the table of results: %w", err)
	}
	return nil
}

func (t *table) render() string {
	var out bytes.Buffer
	row := func(cells ...string) { fmt.Fprintf(&out, "| %s |\n", strings.Join(cells, " | ")) }
	head := func(first string, last ...string) {
		cells := []string{first}
		for _, c := range t.columns {
			cells = append(cells, c.kernel)
		}
		cells = append(cells, last...)
		row(cells...)
		fmt.Fprintf(&out, "|%s\n", strings.Repeat("---|", len(cells)))
	}

	head(testsHead)
	cells := []string{releaseRow}
	for _, c := range t.columns {
		cells = append(cells, c.release)
	}
	row(cells...)
	for _, name := range names(t.columns, func(c *column) map[string]string { return c.tests }) {
		label := "`" + name + "`"
		if _, sentence, ok := strings.Cut(name, "/"); ok && !strings.HasPrefix(name, "./") {
			label = "· " + sentence
		}
		cells := []string{label}
		for _, c := range t.columns {
			cells = append(cells, c.tests[name])
		}
		row(cells...)
	}

	fmt.Fprintln(&out)
	head(programsHead, mostColumn)
	for _, name := range names(t.columns, func(c *column) map[string]figures { return c.programs }) {
		cells, most := []string{"`" + name + "`"}, 0
		for _, c := range t.columns {
			f, ok := c.programs[name]
			if !ok {
				cells = append(cells, "")
				continue
			}
			cells = append(cells, f.instructions+" ("+f.states+")")
			if n, err := strconv.Atoi(f.instructions); err == nil {
				most = max(most, n)
			}
		}
		row(append(cells, fmt.Sprintf("%.1f %%", 100*float64(most)/verifierLimit))...)
	}
	return out.String()
}

// names are the rows that any column has, sorted.
func names[V any](columns []*column, rows func(*column) map[string]V) []string {
	all := map[string]bool{}
	for _, c := range columns {
		for name := range rows(c) {
			all[name] = true
		}
	}
	return slices.Sorted(maps.Keys(all))
}

// differences compares what does not depend on the release of a kernel: which tests passed, with which forms of the
// hooks, and which programs there are. Releases and the verifier's figures change with every update.
func (t *table) differences(ran *column) error {
	var errs []error
	committed := t.column(ran.kernel)
	both := []*column{ran, committed}
	for _, name := range names(both, func(c *column) map[string]string { return c.tests }) {
		if got, want := ran.tests[name], committed.tests[name]; got != want {
			errs = append(errs, fmt.Errorf("kernel %s, %s: %q here, %q in the table", ran.kernel, name, got, want))
		}
	}
	for _, name := range names(both, func(c *column) map[string]figures { return c.programs }) {
		_, got := ran.programs[name]
		_, want := committed.programs[name]
		if got != want {
			errs = append(errs, fmt.Errorf("kernel %s, program %s: here %t, in the table %t", ran.kernel, name, got, want))
		}
	}
	if errs == nil {
		return nil
	}
	return fmt.Errorf("%s is out of date: run make kernels-table and commit the result:\n%w", tableFile, errors.Join(errs...))
}
