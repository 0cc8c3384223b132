// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
)

// userland is what a guest has besides the tests: file names below its root, by where they lie here.
type userland map[string]string

const userlandSuite = "trixie"

// userlandPackages: the shell and its tools, and what makes containers, with the libraries that it is linked to.
func userlandPackages() []string { return []string{"busybox-static", "runc", "libseccomp2", "libc6"} }

// fetchUserland returns the programs of a guest from the cache, which it fills from Debian's archive.
func fetchUserland(ctx context.Context, a arch, cache string) (userland, error) {
	dir := filepath.Join(cache, "userland-"+a.name)
	if u, err := openUserland(a, dir); err == nil {
		return u, nil
	}
	tmp := dir + ".partial"
	if err := os.RemoveAll(tmp); err != nil {
		return nil, fmt.Errorf("clear a broken fetch of the guest's programs: %w", err)
	}
	debian, err := newArchive(ctx, userlandSuite, a.name, tmp)
	if err != nil {
		return nil, fmt.Errorf("fetch the guest's programs: %w", err)
	}
	for _, p := range userlandPackages() {
		if err := debian.unpack(ctx, p, filepath.Join(tmp, "root")); err != nil {
			return nil, fmt.Errorf("fetch the guest's programs: %w", err)
		}
	}
	if err := os.RemoveAll(dir); err != nil {
		return nil, fmt.Errorf("replace the guest's programs: %w", err)
	}
	if err := os.Rename(filepath.Join(tmp, "root"), dir); err != nil {
		return nil, fmt.Errorf("keep the guest's programs: %w", err)
	}
	if err := os.RemoveAll(tmp); err != nil {
		return nil, fmt.Errorf("clean up: %w", err)
	}
	return openUserland(a, dir)
}

func openUserland(a arch, dir string) (userland, error) {
	u := userland{}
	for name, patterns := range map[string][]string{
		"bin/busybox":         {"usr/bin/busybox", "bin/busybox"},
		"bin/runc":            {"usr/sbin/runc", "usr/bin/runc"},
		"lib/libseccomp.so.2": {"usr/lib/*-linux-gnu/libseccomp.so.2"},
		"lib/libc.so.6":       {"usr/lib/*-linux-gnu/libc.so.6", "lib/*-linux-gnu/libc.so.6"},
		a.loader:              {"usr/" + a.loader, a.loader, "usr/lib/*-linux-gnu/" + filepath.Base(a.loader)},
	} {
		found, err := onlyMatch(dir, patterns...)
		if err != nil {
			return nil, fmt.Errorf("look for %s: %w", name, err)
		}
		u[name] = found
	}
	return u, nil
}
