// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"debug/buildinfo"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

var licenceFile = regexp.MustCompile(`(?i)^(licen[cs]e|copying|notice|patents|GPL-2.0-only.txt)`)

// licences are the licence texts of all that is in a binary, each once, below the names of what is under it.
func (r *release) licences(program string) ([]byte, error) {
	info, err := buildinfo.ReadFile(program)
	if err != nil {
		return nil, err
	}
	args := []string{"list", "-m", "-f", "{{.Path}} {{.Version}}\t{{.Dir}}"}
	for _, m := range info.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		args = append(args, m.Path+"@"+m.Version)
	}
	list, err := r.goTool(args...)
	if err != nil {
		return nil, err
	}
	goroot, err := r.goTool("env", "GOROOT")
	if err != nil {
		return nil, err
	}
	whose := []string{
		"github.com/sheetbend/sheetbend\t" + r.top, "the BPF programs of sheetbend\t" + filepath.Join(r.top, "LICENSES"),
		"the standard library of " + info.GoVersion + "\t" + strings.TrimSpace(goroot),
	}
	names := map[string][]string{} // by text
	var texts []string
	for _, line := range append(whose, strings.Split(strings.TrimSpace(list), "\n")...) {
		name, dir, _ := strings.Cut(line, "\t")
		found, err := textsIn(dir)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		for _, text := range found {
			if names[text] == nil {
				texts = append(texts, text)
			}
			names[text] = append(names[text], name)
		}
	}
	var out bytes.Buffer
	out.WriteString("Sheetbend is under Apache-2.0, its BPF programs under GPL-2.0-only OR Apache-2.0. In its binary are these, under these\n" +
		"licences. The source of each is at the Go module proxy by its name and version.\n")
	for _, text := range texts {
		fmt.Fprintf(&out, "\n%s\n%s\n\n%s\n", strings.Repeat("=", 80), strings.Join(names[text], "\n"), text)
	}
	return out.Bytes(), nil
}

// textsIn are the licence texts in a directory.
func textsIn(dir string) (texts []string, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if !e.Type().IsRegular() || !licenceFile.MatchString(e.Name()) {
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, err
		}
		texts = append(texts, strings.TrimSpace(string(text)))
	}
	if len(texts) == 0 {
		return nil, errors.New("no licence in " + dir)
	}
	return slices.Compact(texts), nil
}

func (r *release) goTool(args ...string) (string, error) {
	cmd := exec.Command("go", args...)
	cmd.Dir, cmd.Stderr = r.top, os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("go %s: %w", args[0], err)
	}
	return string(out), nil
}
