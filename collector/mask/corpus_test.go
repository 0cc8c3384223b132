// SPDX-License-Identifier: Apache-2.0

package mask

import (
	"bufio"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// most is how many of a list's commands may leak a secret, and how many of those without one may be masked, in per cent.
const most = 2.0

// documented is a command as the documentation of its tool has it.
type documented struct {
	Tool    string
	Args    []string
	Secrets []string
	Keep    []string
}

func readCorpus(tb testing.TB, file string) (list []documented) {
	tb.Helper()
	f, err := os.Open(file)
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var d documented
		if err := json.Unmarshal(lines.Bytes(), &d); err != nil {
			tb.Fatalf("%s: %q: %v", file, lines.Text(), err)
		}
		list = append(list, d)
	}
	if err := lines.Err(); err != nil {
		tb.Fatal(err)
	}
	return list
}

func TestDocumentedCommandsLeakNothingAndLoseNothing(t *testing.T) {
	files, err := filepath.Glob("testdata/*.jsonl")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	if more := os.Getenv("MASK_CORPUS"); more != "" {
		files = append(files, strings.Fields(more)...)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			leaks, secrets, lost, tools := 0, 0, 0, map[string]bool{}
			list := readCorpus(t, file)
			for _, d := range list {
				tools[d.Tool] = true
				got := slices.Clone(d.Args)
				Args(got)
				leaking, losing := false, false
				for _, arg := range got {
					leaking = leaking || slices.ContainsFunc(d.Secrets, func(s string) bool { return strings.Contains(arg, s) })
				}
				for _, keep := range d.Keep {
					losing = losing || !slices.ContainsFunc(got, func(arg string) bool { return strings.Contains(arg, keep) })
				}
				if len(d.Secrets) > 0 {
					secrets++
				} else {
					losing = losing || !slices.Equal(got, d.Args)
				}
				if leaking {
					leaks++
					t.Logf("leaks %q: %.300q", d.Secrets, got)
				}
				if losing {
					lost++
					t.Logf("loses, of %.400q: %.400q", d.Args, got)
				}
			}
			leak, false_ := 100*float64(leaks)/float64(secrets), 100*float64(lost)/float64(len(list))
			t.Logf("%d commands of %d tools: %d of %d with secrets leak (%.1f %%), %d lose what is none (%.1f %%)",
				len(list), len(tools), leaks, secrets, leak, lost, false_)
			if leak > most || false_ > most {
				t.Errorf("more than %.0f %%", most)
			}
		})
	}
}
