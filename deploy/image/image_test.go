// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"bytes"
	"crypto/x509"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

// program builds a small static program for an architecture.
func program(t *testing.T, arch string) string {
	t.Helper()
	dir := t.TempDir()
	src := filepath.Join(dir, "main.go")
	if err := os.WriteFile(src, []byte("package main\n\nfunc main() {}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	bin := filepath.Join(dir, "program")
	build := exec.Command("go", "build", "-trimpath", "-o", bin, src)
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch, "GOFLAGS=")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v: %s", err, out)
	}
	return bin
}

var described = options{name: "registry.example/sheetbend:1", version: "1", revision: "abc", created: time.Unix(1_700_000_000, 0).UTC()}

// unpack reads the archive back as other programs do.
func unpack(t *testing.T, path string) v1.ImageIndex {
	t.Helper()
	dir := t.TempDir()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	files(t, f, func(h *tar.Header, content []byte) {
		to := filepath.Join(dir, filepath.FromSlash(h.Name))
		if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, content, 0o600); err != nil {
			t.Fatal(err)
		}
	})
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	return index
}

func files(t *testing.T, r io.Reader, each func(*tar.Header, []byte)) {
	t.Helper()
	for in := tar.NewReader(r); ; {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(in)
		if err != nil {
			t.Fatal(err)
		}
		each(h, content)
	}
}

func TestTheArchiveHoldsOneImageForEachArchitecture(t *testing.T) {
	binaries := map[string]string{"amd64": program(t, "amd64"), "arm64": program(t, "arm64")}
	out := filepath.Join(t.TempDir(), "image.tar")
	digest, err := write(out, described, []string{binaries["amd64"], binaries["arm64"]})
	if err != nil {
		t.Fatal(err)
	}
	outer, err := unpack(t, out).IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	if len(outer.Manifests) != 1 || outer.Manifests[0].Digest != digest || outer.Manifests[0].Annotations["io.containerd.image.name"] != described.name ||
		outer.Manifests[0].Annotations["org.opencontainers.image.ref.name"] != described.name {
		t.Fatalf("%+v, want %s", outer.Manifests, digest)
	}
	index, err := unpack(t, out).ImageIndex(digest)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Index(index); err != nil {
		t.Error(err)
	}
	inner, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range inner.Manifests {
		arch := d.Platform.Architecture
		want, err := os.ReadFile(binaries[arch])
		if err != nil {
			t.Fatal(err)
		}
		delete(binaries, arch)
		img, err := index.Image(d.Digest)
		if err != nil {
			t.Fatal(err)
		}
		c, err := img.ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		if c.Architecture != arch || c.OS != "linux" || c.Config.Labels["org.opencontainers.image.version"] != "1" || c.Config.Labels["org.opencontainers.image.revision"] != "abc" {
			t.Errorf("%+v", c)
		}
		content := mutate.Extract(img)
		var names []string
		files(t, content, func(h *tar.Header, content []byte) {
			if h.Uid != 0 || h.Gid != 0 || h.Mode&0o022 != 0 && h.Mode != 0o1777 || !h.ModTime.Equal(described.created) {
				t.Errorf("%s: of %d:%d, mode %o, of %s", h.Name, h.Uid, h.Gid, h.Mode, h.ModTime)
			}
			switch {
			case h.Typeflag == tar.TypeDir:
				return
			case strings.HasSuffix(h.Name, "usr/bin/sheetbend"):
				if !bytes.Equal(content, want) || h.Mode&0o111 != 0o111 {
					t.Errorf("%s: another program, or mode %o", arch, h.Mode)
				}
			case strings.HasSuffix(h.Name, "ca-certificates.crt"):
				if !x509.NewCertPool().AppendCertsFromPEM(content) {
					t.Error("no certificates")
				}
			}
			names = append(names, strings.TrimPrefix(h.Name, "/"))
		})
		if err := content.Close(); err != nil {
			t.Error(err)
		}
		slices.Sort(names)
		if want := []string{"etc/ssl/certs/ca-certificates.crt", "usr/bin/sheetbend"}; !slices.Equal(names, want) {
			t.Errorf("%s has the files %v, want %v", arch, names, want)
		}
	}
	if len(binaries) != 0 {
		t.Errorf("not there: %v", binaries)
	}
}

func TestTheSameBinariesMakeTheSameArchive(t *testing.T) {
	binary := program(t, "amd64")
	var archives [][]byte
	for range 2 {
		out := filepath.Join(t.TempDir(), "image.tar")
		if _, err := write(out, described, []string{binary}); err != nil {
			t.Fatal(err)
		}
		content, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		archives = append(archives, content)
	}
	if !bytes.Equal(archives[0], archives[1]) {
		t.Error("they differ")
	}
}

func TestWhatCannotRunAloneIsRefused(t *testing.T) {
	static := program(t, "amd64")
	text := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(text, []byte("#!/bin/sh\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, binaries := range map[string][]string{
		"a script": {text}, "a shared library's user": {"/bin/sh"}, "two for one architecture": {static, static}, "for another architecture": {program(t, "386")}, "none": {text + "none"},
	} {
		out := filepath.Join(t.TempDir(), "image.tar")
		if _, err := write(out, described, binaries); err == nil {
			t.Errorf("%s is taken", name)
		}
		if left, _ := os.ReadDir(filepath.Dir(out)); len(left) != 0 {
			t.Errorf("%s: left behind: %v", name, left)
		}
	}
}
