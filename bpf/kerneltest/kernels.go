// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// kernel is one line of the table of kernels to test: the newest of its series
// in a Debian suite. Debian's cloud flavour has BTF, virtio and a serial console built in.
type kernel struct {
	arch   string
	series string
	suite  string
	// packages to unpack, as regular expressions of whole names. The first holds
	// vmlinuz; the modules are in it or in the second.
	packages []string
	// forms of the hooks that it can attach (bpf.Form); a guest's tests demand them.
	forms []string
}

// name is short and unique.
func (k kernel) name() string { return k.series + "-" + k.arch }

func kernels() []kernel {
	both := []string{"trampoline", "tracepoint"}
	return []kernel{
		{"amd64", "5.10", "bullseye", []string{`linux-image-5\.10\.[0-9-]+-cloud-amd64-unsigned`}, both},
		{"amd64", "6.1", "bookworm", []string{`linux-image-6\.1\.[0-9-]+-cloud-amd64-unsigned`}, both},
		{"amd64", "6.12", "trixie", []string{`linux-image-6\.12\.[0-9.]+\+deb13-cloud-amd64-unsigned`}, both},
		// Debian split the image package in 2026; the newest 7.x keeps this line valid as backports move on.
		{"amd64", "7", "trixie-backports", []string{
			`linux-binary-7\.[0-9.]+\+deb13-cloud-amd64`, `linux-modules-7\.[0-9.]+\+deb13-cloud-amd64`,
		}, both},
		// Trampolines came to arm64 with 6.4 ("arm64: ftrace: Add direct call support"): before, the programs load and do not attach.
		{"arm64", "5.10", "bullseye", []string{`linux-image-5\.10\.[0-9-]+-cloud-arm64-unsigned`}, []string{"tracepoint"}},
		{"arm64", "6.1", "bookworm", []string{`linux-image-6\.1\.[0-9-]+-cloud-arm64-unsigned`}, []string{"tracepoint"}},
		{"arm64", "6.12", "trixie", []string{`linux-image-6\.12\.[0-9.]+\+deb13-cloud-arm64-unsigned`}, both},
		{"arm64", "7", "trixie-backports", []string{
			`linux-binary-7\.[0-9.]+\+deb13-cloud-arm64`, `linux-modules-7\.[0-9.]+\+deb13-cloud-arm64`,
		}, both},
	}
}

func kernelsOf(arch string) []kernel {
	return slices.DeleteFunc(kernels(), func(k kernel) bool { return k.arch != arch })
}

func seriesNames(arch string) []string {
	var names []string
	for _, k := range kernelsOf(arch) {
		names = append(names, k.series)
	}
	return names
}

// image is a kernel on disk, ready to boot.
type image struct {
	release string // as uname -r
	vmlinuz string
	modules []string // uncompressed, in the order to load them
}

// guestModules are what the tests need beyond what is built in.
func guestModules() []string { return []string{"overlay"} }

// fetch returns the image of k from the cache, filling the cache from Debian's
// archive with apt when needed. apt checks the archive's signatures; its state
// is kept in the cache too, so the host's own lists stay as they are.
func fetch(ctx context.Context, k kernel, cache string) (image, error) {
	dir := filepath.Join(cache, k.name())
	if img, err := openImage(dir); err == nil {
		return img, nil
	}
	tmp := dir + ".partial"
	if err := os.RemoveAll(tmp); err != nil {
		return image{}, fmt.Errorf("clear a broken fetch of kernel %s: %w", k.name(), err)
	}
	a, err := newArchive(ctx, k.suite, k.arch, tmp)
	if err != nil {
		return image{}, fmt.Errorf("fetch kernel %s: %w", k.name(), err)
	}
	for _, p := range k.packages {
		name, err := a.newest(ctx, p)
		if err != nil {
			return image{}, fmt.Errorf("fetch kernel %s: %w", k.name(), err)
		}
		if err := a.unpack(ctx, name, filepath.Join(tmp, "root")); err != nil {
			return image{}, fmt.Errorf("fetch kernel %s: %w", k.name(), err)
		}
	}
	if err := arrange(ctx, tmp); err != nil {
		return image{}, fmt.Errorf("arrange kernel %s: %w", k.name(), err)
	}
	if err := os.RemoveAll(dir); err != nil {
		return image{}, fmt.Errorf("replace kernel %s: %w", k.name(), err)
	}
	if err := os.Rename(tmp, dir); err != nil {
		return image{}, fmt.Errorf("keep kernel %s: %w", k.name(), err)
	}
	return openImage(dir)
}

// openImage reads a finished cache entry: release, vmlinuz, NAME.ko.
func openImage(dir string) (image, error) {
	release, err := os.ReadFile(filepath.Join(dir, "release"))
	if err != nil {
		return image{}, fmt.Errorf("open cached kernel: %w", err)
	}
	img := image{release: strings.TrimSpace(string(release)), vmlinuz: filepath.Join(dir, "vmlinuz")}
	files := []string{img.vmlinuz}
	for _, m := range guestModules() {
		img.modules = append(img.modules, filepath.Join(dir, m+".ko"))
	}
	for _, f := range append(files, img.modules...) {
		if _, err := os.Stat(f); err != nil {
			return image{}, fmt.Errorf("open cached kernel: %w", err)
		}
	}
	return img, nil
}

// arrange turns the unpacked packages in dir/root into a cache entry in dir.
func arrange(ctx context.Context, dir string) error {
	root := filepath.Join(dir, "root")
	vmlinuz, err := onlyMatch(root, "boot/vmlinuz-*", "usr/lib/modules/*/vmlinuz")
	if err != nil {
		return err
	}
	modules, err := onlyMatch(root, "lib/modules/*", "usr/lib/modules/*")
	if err != nil {
		return err
	}
	for _, m := range guestModules() {
		var found string
		err := filepath.WalkDir(modules, func(path string, _ os.DirEntry, err error) error {
			if base := filepath.Base(path); base == m+".ko" || base == m+".ko.xz" {
				found = path
			}
			return err
		})
		if err != nil {
			return fmt.Errorf("look for module %s: %w", m, err)
		}
		if found == "" {
			return fmt.Errorf("module %s is not in the package", m)
		}
		if strings.HasSuffix(found, ".xz") {
			if err := command(ctx, "xz", "--decompress", found).Run(); err != nil {
				return fmt.Errorf("decompress module %s: %w", m, err)
			}
			found = strings.TrimSuffix(found, ".xz")
		}
		if err := os.Rename(found, filepath.Join(dir, m+".ko")); err != nil {
			return fmt.Errorf("keep module %s: %w", m, err)
		}
	}
	if err := os.Rename(vmlinuz, filepath.Join(dir, "vmlinuz")); err != nil {
		return fmt.Errorf("keep vmlinuz: %w", err)
	}
	for _, rest := range []string{"root", "apt"} {
		if err := os.RemoveAll(filepath.Join(dir, rest)); err != nil {
			return fmt.Errorf("clean up: %w", err)
		}
	}
	return os.WriteFile(filepath.Join(dir, "release"), []byte(filepath.Base(modules)+"\n"), 0o644)
}

func onlyMatch(root string, patterns ...string) (string, error) {
	for _, p := range patterns {
		found, err := filepath.Glob(filepath.Join(root, p))
		if err != nil {
			return "", err
		}
		if len(found) > 1 {
			return "", fmt.Errorf("more than one %s in the package", p)
		}
		if len(found) == 1 {
			return found[0], nil
		}
	}
	return "", fmt.Errorf("no %s in the package", strings.Join(patterns, " or "))
}
