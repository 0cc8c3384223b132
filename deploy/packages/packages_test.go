// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// at is the time of the commit in these tests.
var at = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

// work is a directory for all tests.
var work string

func TestMain(m *testing.M) {
	var err error
	if work, err = os.MkdirTemp("", "packages-test-"); err != nil {
		panic(err)
	}
	code := m.Run()
	_ = os.RemoveAll(work)
	os.Exit(code)
}

// build gives a directory with the sensor of a version, as `make release` has one for each architecture.
func build(t *testing.T, version string) string {
	t.Helper()
	dir := filepath.Join(work, version)
	if _, err := os.Stat(dir); err == nil {
		return dir
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w -X main.version="+version, "-o", dir, "./cmd/sheetbend")
	cmd.Dir, cmd.Env = "../..", append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := os.WriteFile(filepath.Join(dir, "sbom.json"), []byte("{}"), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

// releaseOf makes a release of such a directory, and gives its files by the ends of their names.
func releaseOf(t *testing.T, version, dir string) map[string]string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "release")
	r := release{version: version, at: at, top: "../..", out: out}
	if err := r.write([]string{dir}); err != nil {
		t.Fatal(err)
	}
	found, err := filepath.Glob(out + "/*")
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for _, f := range found {
		files[filepath.Ext(f)] = f
	}
	return files
}

func read(t *testing.T, file string) []byte {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

func output(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

func TestAReleaseHasWhatAUserNeeds(t *testing.T) {
	dir := build(t, "v1.2.3")
	one := releaseOf(t, "1.2.3", dir)
	// The same commit gives the same bytes, in another directory and at another time.
	two := releaseOf(t, "1.2.3", dir)
	for ext, file := range one {
		if !bytes.Equal(read(t, file), read(t, two[ext])) {
			t.Errorf("%s: two releases of one commit differ", filepath.Base(file))
		}
	}
	for _, ext := range []string{".deb", ".rpm", ".gz", ".json"} {
		if one[ext] == "" {
			t.Errorf("no %s in %v", ext, one)
		}
	}
	sums := exec.Command("sha256sum", "--check", "--strict", "SHA256SUMS")
	sums.Dir = filepath.Dir(one[".deb"])
	if out, err := sums.CombinedOutput(); err != nil || strings.Count(string(out), ": OK") != 4 {
		t.Errorf("%v: %s", err, out)
	}

	listed := output(t, "dpkg-deb", "-c", one[".deb"])
	for _, want := range []string{
		"-rwxr-xr-x root/root", " ./usr/bin/sheetbend\n", " ./usr/lib/systemd/system/sheetbend.service\n", " ./etc/sheetbend/sheetbend.yaml\n",
		" ./usr/share/bash-completion/completions/sheetbend\n", " ./usr/share/zsh/vendor-completions/_sheetbend\n",
		" ./usr/share/fish/vendor_completions.d/sheetbend.fish\n", " ./usr/share/man/man1/sheetbend-run.1.gz\n",
		" ./usr/share/man/man1/sheetbend-spool-retry.1.gz\n", " ./usr/share/doc/sheetbend/copyright\n", "2026-03-04 05:06",
	} {
		if !strings.Contains(listed, want) {
			t.Errorf("no %q in\n%s", want, listed)
		}
	}
	root := t.TempDir()
	output(t, "dpkg-deb", "-x", one[".deb"], root)
	if got := output(t, root+"/usr/bin/sheetbend", "--version"); got != "sheetbend v1.2.3\n" {
		t.Errorf("%q", got)
	}
	// The default configuration is one, and the sensor reads it before it asks for rights.
	if out, err := exec.Command(root+"/usr/bin/sheetbend", "unpin", "--config", root+"/etc/sheetbend/sheetbend.yaml").CombinedOutput(); err != nil {
		t.Errorf("the default configuration: %v: %s", err, out)
	}
	control := output(t, "dpkg-deb", "-f", one[".deb"])
	if !strings.Contains(control, "Version: 1.2.3\n") || strings.Contains(control, "Depends") {
		t.Errorf("control:\n%s", control)
	}
	output(t, "dpkg-deb", "-e", one[".deb"], root+"/DEBIAN")
	if got := string(read(t, root+"/DEBIAN/conffiles")); strings.TrimSpace(got) != "/etc/sheetbend/sheetbend.yaml" {
		t.Errorf("conffiles: %q", got)
	}
	if copyright := string(read(t, root+"/usr/share/doc/sheetbend/copyright")); !strings.Contains(copyright, "github.com/cilium/ebpf v") ||
		!strings.Contains(copyright, "GNU GENERAL PUBLIC LICENSE") || !strings.Contains(copyright, "the standard library of go1.") {
		t.Error("licences are missing")
	}

	// The archive has the same files by other names, in one directory.
	zr, err := gzip.NewReader(bytes.NewReader(read(t, one[".gz"])))
	if err != nil {
		t.Fatal(err)
	}
	tr, base := tar.NewReader(zr), "sheetbend_1.2.3_linux_"+runtime.GOARCH+"/"
	var names []string
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		name, ok := strings.CutPrefix(h.Name, base)
		if !ok || h.Uid != 0 || !h.ModTime.Equal(at) {
			t.Errorf("%+v", h)
		}
		names = append(names, name)
	}
	if !slices.IsSorted(names) || !slices.Contains(names, "man/sheetbend.1.gz") || !slices.Contains(names, "completions/zsh/_sheetbend") {
		t.Errorf("%q", names)
	}
}

// A chroot has neither systemd nor /proc, as where images are built: a package installs, says that nothing runs, and goes
// again without a trace.
func TestInAChrootThePackageInstallsAndGoes(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("a chroot is entered as root: run this as root")
	}
	deb := releaseOf(t, "1.2.3", build(t, "v1.2.3"))[".deb"]
	// Above this machine's own files, which stay as they are.
	const script = `
mount --make-rprivate /
mount -t tmpfs tmpfs "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/root"
cp "$2" "$1/root/package.deb"
cd "$1/root"
rm -rf run/* usr/sbin/policy-rc.d etc/sheetbend var/lib/sheetbend
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
inside() { chroot . "$@"; }
inside dpkg --no-triggers -i /package.deb 2>&1
inside sheetbend --version
ls -l etc/systemd/system/multi-user.target.wants/sheetbend.service
mkdir -p var/lib/sheetbend/recordings
echo '# mine' >>etc/sheetbend/sheetbend.yaml
inside dpkg --no-triggers -r sheetbend 2>&1
grep mine etc/sheetbend/sheetbend.yaml
[ -d var/lib/sheetbend/recordings ]
inside dpkg --no-triggers -P sheetbend 2>&1
left=$(find etc usr var run -name '*sheetbend*' -newer package.deb -not -path 'var/lib/dpkg/*')
echo "left: $left."
`
	out := output(t, "unshare", "--mount", "sh", "-ec", script, "sh", t.TempDir(), deb)
	for _, want := range []string{
		"sheetbend: systemd does not run here, so nothing is started", "sheetbend v1.2.3\n", "-> /", "# mine\n",
		"sheetbend: removed. Recordings stay", "left: .\n",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	if strings.Contains(out, "rror") || strings.Contains(out, "arning") {
		t.Errorf("%s", out)
	}
}

func TestThePagesOfTheManualHaveAllThatHelpHas(t *testing.T) {
	r := release{version: "1.2.3", at: at}
	pages, err := r.manual(func(words ...string) ([]byte, error) {
		if len(words) == 0 {
			return []byte("Long text.\n\nUsage:\n  sheetbend [command]\n\nAvailable Commands:\n  help   Help\n  run    Run a thing\n\nFlags:\n  -h, --help   help\n\nUse \"x\"\n"), nil
		}
		return []byte("'quoted' and\n.dotted \\back.\n\n  a table\n\nUsage:\n  sheetbend run [flags] -- CMD\n\nExamples:\n  sheetbend run -- x\n\nFlags:\n      --all             print all\n  -o, --output FILE     write to FILE\n"), nil
	})
	if err != nil || len(pages) != 2 {
		t.Fatal(err, pages)
	}
	page := string(pages["sheetbend-run.1"])
	want := `.TH "SHEETBEND\-RUN" "1" "2026-03-04" "sheetbend 1.2.3" "Sheetbend"
.SH NAME
sheetbend\-run \- Run a thing
.SH SYNOPSIS
.B sheetbend run
[flags] \-\- CMD
.SH DESCRIPTION
\&'quoted' and
\&.dotted \eback.
.PP
.nf
  a table
.fi
.SH OPTIONS
.TP
.B \-\-all
print all
.TP
.B \-o, \-\-output FILE
write to FILE
.SH EXAMPLES
.PP
.nf
  sheetbend run \-\- x
.fi
.SH SEE ALSO
.BR sheetbend (1)
`
	if page != want {
		t.Errorf("got\n%s\nwant\n%s", page, want)
	}
	if !strings.Contains(string(pages["sheetbend.1"]), ".BR sheetbend\\-run (1)\n") {
		t.Errorf("%s", pages["sheetbend.1"])
	}
}

func TestVersionsAreOrderedAsTheirCommits(t *testing.T) {
	later := at.Add(time.Hour)
	order := []string{
		versionOf("abc1234", at), versionOf("abc1234-dirty", at), versionOf("0000000", later), versionOf("v1.0.0-rc1", at), versionOf("v1.0.0-rc1-3-gabc", at),
		versionOf("v1.0.0", at), versionOf("v1.0.0-2-gfff", at), versionOf("v1.0.0-12-gaaa", at), versionOf("v1.0.0-12-gaaa-dirty", at), versionOf("v1.0.1", at),
	}
	for n, version := range order[1:] {
		if err := exec.Command("dpkg", "--compare-versions", order[n], "lt", version).Run(); err != nil {
			t.Errorf("%s is not before %s: %v", order[n], version, err)
		}
	}
}
