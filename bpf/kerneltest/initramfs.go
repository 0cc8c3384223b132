// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"compress/gzip"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

//go:embed init.sh
var initScript string

// writeInitramfs writes the guest's root file system. The source tree's layout is
// kept below /src, testdata included, so tests find their files by the usual relative paths.
func writeInitramfs(name string, s suite, k kernel, img image, timeout time.Duration) (err error) {
	f, err := os.Create(name)
	if err != nil {
		return fmt.Errorf("write initramfs: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	zip, err := gzip.NewWriterLevel(f, gzip.BestSpeed)
	if err != nil {
		return fmt.Errorf("write initramfs: %w", err)
	}
	c := newCpio(zip)

	for _, d := range []string{"proc", "sys", "dev", "tmp", "root", "run", "mnt", "var/tmp"} {
		c.dir(d)
	}
	for _, to := range slices.Sorted(maps.Keys(s.userland)) {
		c.copyFile(to, s.userland[to])
	}
	c.link("bin/sh", "busybox")
	c.link("usr/bin", "../bin")
	c.link("sbin", "bin")
	c.file("init", 0o755, []byte(initScript))
	c.file("etc/passwd", 0o644, []byte("root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n"))
	c.file("etc/group", 0o644, []byte("root:x:0:\nnogroup:x:65534:\n"))
	c.file("etc/hosts", 0o644, []byte("127.0.0.1 localhost\n::1 localhost\n"))
	c.file("etc/machine-id", 0o444, []byte("5ee7be4d00000000000000000000d0c5\n"))

	var modules, env, packages strings.Builder
	for _, m := range img.modules {
		c.copyFile("lib/"+filepath.Base(m), m)
		fmt.Fprintf(&modules, "/lib/%s\n", filepath.Base(m))
	}
	for _, p := range s.programs {
		c.copyFile("bin/"+p.name, p.binary)
		fmt.Fprintf(&env, "export %s=/bin/%s\n", p.env, p.name)
	}
	fmt.Fprintf(&env, "export SHEETBEND_FORMS='%s'\n", strings.Join(k.forms, " "))
	fmt.Fprintf(&env, "TEST_TIMEOUT=%s\n", timeout)
	fmt.Fprintf(&env, "TEST_RUN='%s'\n", strings.ReplaceAll(s.run, "'", `'\''`))
	for _, p := range s.packages {
		c.copyFile(path.Join("src", p.name, "package.test"), p.binary)
		c.tree(path.Join("src", p.name, "testdata"), filepath.Join(s.module, p.name, "testdata"))
		fmt.Fprintf(&packages, "%s\n", p.name)
	}
	c.tree("src/testdata", filepath.Join(s.module, "testdata"))
	c.file("etc/kerneltest/modules", 0o644, []byte(modules.String()))
	c.file("etc/kerneltest/env", 0o644, []byte(env.String()))
	c.file("etc/kerneltest/packages", 0o644, []byte(packages.String()))
	c.end()
	if c.err != nil {
		return fmt.Errorf("write initramfs: %w", c.err)
	}
	if err := zip.Close(); err != nil {
		return fmt.Errorf("write initramfs: %w", err)
	}
	return nil
}

// cpio writes the kernel's "newc" format (Documentation/driver-api/early-userspace/buffer-format.rst).
// After the first error it does nothing; the error stays in err.
type cpio struct {
	w    *bufio.Writer
	pos  int
	ino  int
	made map[string]bool
	err  error
}

func newCpio(w io.Writer) *cpio {
	return &cpio{w: bufio.NewWriterSize(w, 1<<20), made: map[string]bool{".": true}}
}

func (c *cpio) write(b []byte) {
	if c.err != nil {
		return
	}
	n, err := c.w.Write(b)
	c.pos += n
	c.err = err
}

func (c *cpio) entry(name string, mode uint32, body []byte) {
	c.ino++
	c.write(fmt.Appendf(nil, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x",
		c.ino, mode, 0, 0, 1, 0, len(body), 0, 0, 0, 0, len(name)+1, 0))
	c.write(append([]byte(name), 0))
	c.align()
	c.write(body)
	c.align()
}

func (c *cpio) align() {
	for c.err == nil && c.pos%4 != 0 {
		c.write([]byte{0})
	}
}

func (c *cpio) dir(name string) {
	name = path.Clean(name)
	if c.made[name] {
		return
	}
	c.dir(path.Dir(name))
	c.made[name] = true
	c.entry(name, 0o040755, nil)
}

func (c *cpio) file(name string, perm uint32, body []byte) {
	c.dir(path.Dir(name))
	c.entry(name, 0o100000|perm, body)
}

func (c *cpio) link(name, target string) {
	c.dir(path.Dir(name))
	c.entry(name, 0o120777, []byte(target))
}

func (c *cpio) copyFile(name, from string) {
	if c.err != nil {
		return
	}
	body, err := os.ReadFile(from)
	if err != nil {
		c.err = err
		return
	}
	info, err := os.Stat(from)
	if err != nil {
		c.err = err
		return
	}
	c.file(name, uint32(info.Mode().Perm()), body)
}

// tree copies the regular files below a directory, if it is there.
func (c *cpio) tree(name, from string) {
	err := filepath.WalkDir(from, func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		rel, err := filepath.Rel(from, p)
		if err != nil {
			return err
		}
		c.copyFile(path.Join(name, rel), p)
		return c.err
	})
	if c.err == nil && !errors.Is(err, fs.ErrNotExist) {
		c.err = err
	}
}

func (c *cpio) end() {
	c.entry("TRAILER!!!", 0, nil)
	if c.err == nil {
		c.err = c.w.Flush()
	}
}
