// SPDX-License-Identifier: Apache-2.0

// packages makes what a release consists of, of static binaries: an archive, a deb and an rpm of each, their bills of
// materials, and checksums of all that: `make release`. The same binaries give the same bytes. It is a module of its own,
// for the library that writes packages is no part of the sensor.
package main

import (
	"crypto/sha256"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"time"
)

func main() {
	described := flag.String("version", "devel", "what git describe says of the commit")
	out := flag.String("out", "release", "directory to write, which is made anew")
	top := flag.String("top", "../..", "directory of the repository")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: packages [flags] DIRECTORY..., each with a static binary sheetbend and its sbom.json")
		flag.PrintDefaults()
	}
	flag.Parse()
	if flag.NArg() == 0 {
		flag.Usage()
		os.Exit(2)
	}
	// https://reproducible-builds.org/specs/source-date-epoch/
	var at time.Time
	if s, err := strconv.ParseInt(os.Getenv("SOURCE_DATE_EPOCH"), 10, 64); err == nil {
		at = time.Unix(s, 0).UTC()
	}
	r := release{version: versionOf(*described, at), at: at, top: *top, out: *out}
	if err := r.write(flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "packages:", err)
		os.Exit(1)
	}
}

// A release is what is made of one commit.
type release struct {
	version  string
	at       time.Time // of all files
	top, out string    // directories: the repository, and what is written
}

func (r *release) write(builds []string) error {
	if err := os.RemoveAll(r.out); err != nil {
		return err
	}
	if err := os.MkdirAll(r.out, 0o755); err != nil {
		return err
	}
	var binaries []binary
	for _, dir := range builds {
		b, err := openBinary(dir)
		if err != nil {
			return fmt.Errorf("%s: %w", dir, err)
		}
		binaries = append(binaries, b)
	}
	runs := slices.IndexFunc(binaries, func(b binary) bool { return b.arch == runtime.GOARCH })
	if runs < 0 {
		return fmt.Errorf("no binary is for %s, which runs here: its manual and completions are asked of it", runtime.GOARCH)
	}
	common, err := r.documents(binaries[runs].path)
	if err != nil {
		return err
	}
	for _, b := range binaries {
		files, err := r.files(b, common)
		if err != nil {
			return err
		}
		if err := r.packages(b, files); err != nil {
			return fmt.Errorf("%s: %w", b.arch, err)
		}
	}
	return r.checksums()
}

// checksums writes SHA256SUMS, for sha256sum --check.
func (r *release) checksums() error {
	entries, err := os.ReadDir(r.out) // sorted
	if err != nil {
		return err
	}
	var sums []byte
	for _, e := range entries {
		content, err := os.ReadFile(filepath.Join(r.out, e.Name()))
		if err != nil {
			return err
		}
		sums = fmt.Appendf(sums, "%x  %s\n", sha256.Sum256(content), e.Name())
	}
	return os.WriteFile(filepath.Join(r.out, "SHA256SUMS"), sums, 0o644)
}
