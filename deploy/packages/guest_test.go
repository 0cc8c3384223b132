// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// guestTakes bounds the guest. Emulated, on a machine that is shared, it takes some minutes.
const guestTakes = 20 * time.Minute

// TestOnADebianWithSystemd boots one in QEMU, where guest/test.sh installs, upgrades, removes and purges packages of two
// versions of this tree.
func TestOnADebianWithSystemd(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("a Debian is made as root: run this as root")
	}
	debian := debian(t)
	files := t.TempDir()
	put := func(name string, content []byte) {
		t.Helper()
		to := filepath.Join(files, name)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, content, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	before := read(t, releaseOf(t, "0.0.1", build(t, "v0.0.1"))[".deb"])
	after := read(t, releaseOf(t, "0.0.2", build(t, "v0.0.2"))[".deb"])
	put("test/old.deb", before)
	put("test/new.deb", after)
	put("test/broken.deb", after[:len(after)/3])
	put("test/test.sh", read(t, "guest/test.sh"))
	put("init", read(t, "guest/init"))
	put("etc/systemd/system/packages-test.service", read(t, "guest/packages-test.service"))
	initrd := filepath.Join(t.TempDir(), "initrd")
	join := exec.Command("sh", "-ec", `cp "$1" "$2"; find . | busybox cpio -o -H newc >>"$2"`, "sh", debian+"/root.cpio", initrd)
	join.Dir = files
	if out, err := join.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}

	var secret [8]byte
	_, _ = rand.Read(secret[:])
	token := hex.EncodeToString(secret[:])
	ctx, cancel := context.WithTimeout(t.Context(), guestTakes)
	defer cancel()
	// As bpf/kerneltest has it: in one thread.
	qemu := exec.CommandContext(ctx, "qemu-system-x86_64", "-accel", "tcg,thread=single", "-smp", "2", "-m", "3072",
		"-nodefaults", "-no-reboot", "-display", "none", "-serial", "stdio", "-kernel", debian+"/vmlinuz", "-initrd", initrd,
		"-append", "console=ttyS0 rdinit=/init panic=-1 loglevel=4 mitigations=off systemd.unit=packages-test.service "+
			"systemd.show_status=0 packages="+token)
	qemu.Stderr = os.Stderr
	console, err := qemu.StdoutPipe()
	if err == nil {
		err = qemu.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	passed := false
	lines := bufio.NewScanner(console)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := strings.TrimRight(lines.Text(), "\r")
		_, said, ours := strings.Cut(line, token+" ")
		passed = passed || ours && said == "passed"
		t.Logf("%q", line)
	}
	_, _ = io.Copy(io.Discard, console)
	if err := errors.Join(lines.Err(), qemu.Wait()); err != nil || !passed {
		t.Errorf("the guest's test has not passed: %v", err)
	}
}

// debian is a directory of the cache with a root file system and a kernel, which is made the first time.
func debian(t *testing.T) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(cache, "sheetbend", fmt.Sprintf("debian-%.6x", sha256.Sum256(read(t, "guest/root.sh"))))
	if _, err := os.Stat(dir + "/root.cpio"); err != nil {
		output(t, "guest/root.sh", dir)
	}
	return dir
}
