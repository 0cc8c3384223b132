// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// suite is what a guest runs: static test binaries and the programs that they use.
type suite struct {
	packages []testPackage
	programs []program
	module   string // root of the source tree, for testdata
	run      string // go test -run
	userland userland
}

type testPackage struct {
	name   string // path below the module, "." for its root
	binary string
}

// program is put in /bin of the guest and named to the tests by an environment variable.
type program struct {
	name, env, pkg string
	testedBy       string // the one package whose tests need it, empty for all
	binary         string
}

func programs() []program {
	return []program{
		{name: "sheetbend", env: "SHEETBEND_BIN", pkg: "./cmd/sheetbend", testedBy: "cmd/sheetbend"},
		{name: "sheetbend-workload", env: "SHEETBEND_WORKLOAD", pkg: "./bpf/workload/sheetbend-workload"},
	}
}

// buildSuite compiles everything without cgo, so that it runs in a guest that has no libc.
func buildSuite(ctx context.Context, work, arch string, patterns []string, run string) (suite, error) {
	s := suite{run: run}
	list := exec.CommandContext(ctx, "go", append([]string{"list", "-json=ImportPath,Dir,Module,TestGoFiles,XTestGoFiles"}, patterns...)...)
	list.Stderr = os.Stderr
	out, err := list.Output()
	if err != nil {
		return s, fmt.Errorf("list packages: %w", err)
	}
	dec := json.NewDecoder(strings.NewReader(string(out)))
	for dec.More() {
		var p struct {
			ImportPath, Dir           string
			Module                    struct{ Path, Dir string }
			TestGoFiles, XTestGoFiles []string
		}
		if err := dec.Decode(&p); err != nil {
			return s, fmt.Errorf("list packages: %w", err)
		}
		s.module = p.Module.Dir
		if len(p.TestGoFiles)+len(p.XTestGoFiles) == 0 {
			continue
		}
		name, err := filepath.Rel(p.Module.Dir, p.Dir)
		if err != nil {
			return s, fmt.Errorf("place package %s: %w", p.ImportPath, err)
		}
		s.packages = append(s.packages, testPackage{
			name:   name,
			binary: filepath.Join(work, strings.ReplaceAll(name, "/", "-")+".test"),
		})
	}
	if len(s.packages) == 0 {
		return s, fmt.Errorf("no tests in %s", strings.Join(patterns, " "))
	}
	for _, p := range s.packages {
		if err := goStatic(ctx, s.module, arch, "test", "-tags", "guest", "-c", "-o", p.binary, "./"+p.name); err != nil {
			return s, fmt.Errorf("compile the tests of %s: %w", p.name, err)
		}
	}
	for _, p := range programs() {
		if p.testedBy != "" && !slices.ContainsFunc(s.packages, func(t testPackage) bool { return t.name == p.testedBy }) {
			continue
		}
		p.binary = filepath.Join(work, p.name)
		if err := goStatic(ctx, s.module, arch, "build", "-o", p.binary, p.pkg); err != nil {
			return s, fmt.Errorf("compile %s: %w", p.name, err)
		}
		s.programs = append(s.programs, p)
	}
	return s, nil
}

func goStatic(ctx context.Context, dir, arch, verb string, args ...string) error {
	cmd := command(ctx, "go", append([]string{verb, "-trimpath", "-ldflags=-s -w"}, args...)...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOARCH="+arch, "GOOS=linux")
	return cmd.Run()
}
