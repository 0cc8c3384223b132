// SPDX-License-Identifier: Apache-2.0

package main

import (
	"regexp"
	"strings"
)

// outcomes are the words of the table for a test that passed: with which forms of the hooks, or
// without a choice of form.
const (
	byBoth  = "both forms"
	noForms = "yes"
)

var (
	outcomeLine = regexp.MustCompile(`^\s*--- (PASS|FAIL|SKIP): (\S+) \(`)
	// verifierLine is what bpf.TestEveryProgramStaysFarFromTheVerifiersLimit reports.
	verifierLine = regexp.MustCompile(`^=== ATTR  \S+ verifier/(\w+) (\d+) instructions, \d+ states, (\d+) at once$`)
)

// figures are the verifier's for one program.
type figures struct {
	instructions string // that it looked at
	states       string // that it kept at once, at most
}

// column is what one kernel did: a column of the table.
type column struct {
	kernel   string // "6.12 amd64"
	release  string
	tests    map[string]string // by row, "TestName" or "TestName/what it shows"
	programs map[string]figures
}

func newColumn(k kernel, release string) *column {
	return &column{
		kernel:   k.series + " " + k.arch,
		release:  release,
		tests:    map[string]string{},
		programs: map[string]figures{},
	}
}

// passed adds a test of the package. The tests of bpf have rows of their own, and so has what they show by each form of the
// hooks; of the other packages only the package has one.
func (c *column) passed(pkg, test string) {
	if pkg != "bpf" {
		c.tests["./"+pkg] = noForms
		return
	}
	name, rest, _ := strings.Cut(test, "/")
	if rest == "" {
		if _, ok := c.tests[name]; !ok {
			c.tests[name] = noForms
		}
		return
	}
	form, sentence, _ := strings.Cut(strings.TrimPrefix(rest, "by_"), "/")
	if form != "trampoline" && form != "tracepoint" {
		return
	}
	if sentence != "" {
		name += "/" + strings.ReplaceAll(sentence, "_", " ")
	}
	if before, ok := c.tests[name]; ok && before != form && before != noForms {
		form = byBoth
	}
	c.tests[name] = form
}

// verified adds the verifier's figures, if the line has some.
func (c *column) verified(line string) {
	if m := verifierLine.FindStringSubmatch(line); m != nil {
		c.programs[m[1]] = figures{instructions: m[2], states: m[3]}
	}
}
