// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// archive is one Debian suite for one architecture, seen through apt with a state of its own.
type archive struct {
	dir  string
	args []string
}

func newArchive(ctx context.Context, suite, architecture, dir string) (*archive, error) {
	if _, err := exec.LookPath("apt-get"); err != nil {
		return nil, errors.New("kernels come as Debian packages and apt-get is not here: run this on Debian or Ubuntu, or fill the cache by hand")
	}
	apt := filepath.Join(dir, "apt")
	for _, d := range []string{"lists/partial", "archives/partial"} {
		if err := os.MkdirAll(filepath.Join(apt, d), 0o755); err != nil {
			return nil, fmt.Errorf("make apt state: %w", err)
		}
	}
	mirror, err := mirror(ctx)
	if err != nil {
		return nil, err
	}
	source := "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] " + mirror + " " + suite + " main\n"
	list := filepath.Join(apt, "sources.list")
	if err := os.WriteFile(list, []byte(source), 0o644); err != nil {
		return nil, fmt.Errorf("write apt source: %w", err)
	}
	a := &archive{dir: apt}
	for _, o := range []string{
		"Dir::Etc::SourceList=" + list,
		"Dir::Etc::SourceParts=/dev/null",
		"Dir::State::Lists=" + filepath.Join(apt, "lists"),
		"Dir::Cache=" + apt,
		"Dir::Cache::Archives=" + filepath.Join(apt, "archives"),
		"APT::Architecture=" + architecture,
		"APT::Architectures=" + architecture,
		"APT::Sandbox::User=", // root would drop to a user who cannot enter the cache
		"Acquire::Languages=none",
		"Acquire::Retries=3",
		"Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false",
	} {
		a.args = append(a.args, "-o", o)
	}
	if err := command(ctx, "apt-get", append(a.args, "update", "-q")...).Run(); err != nil {
		return nil, fmt.Errorf("read the package list of %s: %w", suite, err)
	}
	return a, nil
}

// mirror is where this machine's own apt gets Debian from, or what KERNELTEST_DEBIAN_MIRROR says.
func mirror(ctx context.Context) (string, error) {
	if m := os.Getenv("KERNELTEST_DEBIAN_MIRROR"); m != "" {
		return m, nil
	}
	cmd := command(ctx, "apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages", "Origin: Debian", "Label: Debian")
	cmd.Stdout = nil
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("ask apt for its Debian mirror: %w", err)
	}
	first, _, _ := strings.Cut(string(out), "\n")
	if first == "" {
		return "", errors.New("apt knows no Debian mirror: run apt-get update, or set KERNELTEST_DEBIAN_MIRROR to one")
	}
	return first, nil
}

// newest returns the highest version among the packages whose whole name matches.
func (a *archive) newest(ctx context.Context, pattern string) (string, error) {
	cmd := command(ctx, "apt-cache", append(a.args, "search", "--names-only", "^"+pattern+"$")...)
	cmd.Stdout = nil
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("search the package list: %w", err)
	}
	whole, err := regexp.Compile("^" + pattern + "$")
	if err != nil {
		return "", fmt.Errorf("read package pattern: %w", err)
	}
	var best string
	lines := bufio.NewScanner(bytes.NewReader(out))
	for lines.Scan() {
		name, _, _ := strings.Cut(lines.Text(), " ")
		if whole.MatchString(name) && (best == "" || newer(name, best)) {
			best = name
		}
	}
	if best == "" {
		return "", fmt.Errorf("no package matches %s", pattern)
	}
	return best, nil
}

// newer compares the runs of digits in two package names as numbers.
func newer(a, b string) bool {
	digits := regexp.MustCompile(`[0-9]+`)
	x, y := digits.FindAllString(a, -1), digits.FindAllString(b, -1)
	for i := range min(len(x), len(y)) {
		if x[i] == y[i] {
			continue
		}
		if len(x[i]) != len(y[i]) {
			return len(x[i]) > len(y[i])
		}
		return x[i] > y[i]
	}
	return len(x) > len(y)
}

func (a *archive) unpack(ctx context.Context, name, root string) error {
	cmd := command(ctx, "apt-get", append(a.args, "download", "-q", name)...)
	cmd.Dir = a.dir
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("download %s: %w", name, err)
	}
	debs, err := filepath.Glob(filepath.Join(a.dir, name+"_*.deb"))
	if err != nil || len(debs) != 1 {
		return fmt.Errorf("download %s: apt left %d files", name, len(debs))
	}
	if err := command(ctx, "dpkg-deb", "--extract", debs[0], root).Run(); err != nil {
		return fmt.Errorf("unpack %s: %w", name, err)
	}
	return nil
}

// command shows what a tool says on stderr only: stdout is for results.
func command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdout = os.Stderr
	cmd.Stderr = os.Stderr
	return cmd
}
