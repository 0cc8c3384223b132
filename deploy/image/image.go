// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"bytes"
	"debug/elf"
	"encoding/pem"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/crypto/x509roots/fallback/bundle"
)

type options struct {
	name, version, revision string
	created                 time.Time // of all files, too; zero is 1970
}

// build makes the index of one image for each binary.
func build(o options, binaries []string) (v1.ImageIndex, error) {
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	seen := map[string]bool{}
	for _, path := range binaries {
		content, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		arch, err := static(content)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		if seen[arch] {
			return nil, fmt.Errorf("%s: a second binary for %s", path, arch)
		}
		seen[arch] = true
		img, err := one(o, arch, content)
		if err != nil {
			return nil, err
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: arch}}})
	}
	return index, nil
}

// static gives the architecture of a binary that needs no other file to run.
func static(content []byte) (string, error) {
	f, err := elf.NewFile(bytes.NewReader(content))
	if err != nil {
		return "", err
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return "", fmt.Errorf("is linked dynamically: build it with CGO_ENABLED=0")
		}
	}
	switch f.Machine {
	case elf.EM_X86_64:
		return "amd64", nil
	case elf.EM_AARCH64:
		return "arm64", nil
	}
	return "", fmt.Errorf("is for %s, which the sensor does not support", f.Machine)
}

func one(o options, arch string, binary []byte) (v1.Image, error) {
	files, err := root(o.created, binary)
	if err != nil {
		return nil, err
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(files)), nil }, tarball.WithMediaType(types.OCILayer))
	if err != nil {
		return nil, err
	}
	created := v1.Time{Time: o.created}
	img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	img, err = mutate.Append(img, mutate.Addendum{Layer: layer, History: v1.History{Created: created, CreatedBy: "deploy/image"}})
	if err != nil {
		return nil, err
	}
	c, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	c = c.DeepCopy()
	c.OS, c.Architecture, c.Created = "linux", arch, created
	c.Config = v1.Config{
		User:       "0:0", // loading BPF programs takes root
		Env:        []string{"PATH=/usr/bin"},
		Entrypoint: []string{"/usr/bin/sheetbend"},
		Cmd:        []string{"sensor", "--config", "/etc/sheetbend/sheetbend.yaml"},
		Labels: map[string]string{
			"org.opencontainers.image.title":       "sheetbend",
			"org.opencontainers.image.description": "An eBPF sensor for the sandboxes of AI agents",
			"org.opencontainers.image.source":      "https://github.com/sheetbend/sheetbend",
			"org.opencontainers.image.licenses":    "Apache-2.0",
			"org.opencontainers.image.version":     o.version,
		},
	}
	if o.revision != "" {
		c.Config.Labels["org.opencontainers.image.revision"] = o.revision
	}
	return mutate.ConfigFile(img, c)
}

// root is the file system: the sensor, the certificates of public authorities for its backends, and nothing to run besides.
func root(created time.Time, binary []byte) ([]byte, error) {
	var certificates bytes.Buffer
	for r := range bundle.Roots() {
		if r.Constraint != nil {
			continue // a bundle of certificates cannot say what they are good for
		}
		if err := pem.Encode(&certificates, &pem.Block{Type: "CERTIFICATE", Bytes: r.Certificate}); err != nil {
			return nil, err
		}
	}
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, f := range []struct {
		name    string
		mode    int64
		content []byte
	}{
		{"etc/", 0o755, nil},
		{"etc/sheetbend/", 0o755, nil},
		{"etc/ssl/", 0o755, nil},
		{"etc/ssl/certs/", 0o755, nil},
		{"etc/ssl/certs/ca-certificates.crt", 0o444, certificates.Bytes()},
		{"run/", 0o755, nil},
		{"tmp/", 0o1777, nil},
		{"usr/", 0o755, nil},
		{"usr/bin/", 0o755, nil},
		{"usr/bin/sheetbend", 0o555, binary},
		{"var/", 0o755, nil},
		{"var/lib/", 0o755, nil},
		{"var/lib/sheetbend/", 0o700, nil},
	} {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: f.name, Mode: f.mode, Size: int64(len(f.content)), ModTime: created, Format: tar.FormatPAX}
		if f.content == nil {
			h.Typeflag = tar.TypeDir
		}
		if err := w.WriteHeader(h); err != nil {
			return nil, err
		}
		if _, err := w.Write(f.content); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// archive packs a directory; the order of WalkDir is that of the names.
func archive(out, dir string, created time.Time) (err error) {
	f, err := os.CreateTemp(filepath.Dir(out), ".archive-")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = f.Close()
			_ = os.Remove(f.Name())
		}
	}()
	w := tar.NewWriter(f)
	err = fs.WalkDir(os.DirFS(dir), ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		content, err := fs.ReadFile(os.DirFS(dir), name)
		if err != nil {
			return err
		}
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(content)), ModTime: created}); err != nil {
			return err
		}
		_, err = w.Write(content)
		return err
	})
	if err != nil {
		return err
	}
	if err = w.Close(); err != nil {
		return err
	}
	if err = f.Chmod(0o644); err != nil {
		return err
	}
	if err = f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), out)
}
