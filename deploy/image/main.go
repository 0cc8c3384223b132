// SPDX-License-Identifier: Apache-2.0

// image makes the sensor's container image, for all architectures at once, as an archive of an OCI layout: `make image`.
// It needs no daemon and no base image, and gives the same bytes for the same binaries.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
)

func main() {
	o := options{}
	flag.StringVar(&o.name, "name", "ghcr.io/sheetbend/sheetbend:latest", "registry, repository and tag of the image")
	flag.StringVar(&o.version, "version", "devel", "version of the sensor")
	flag.StringVar(&o.revision, "revision", "", "commit that it was built from")
	out := flag.String("out", "sheetbend-image.tar", "archive to write")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: image [flags] BINARY..., one static binary for each architecture")
		flag.PrintDefaults()
	}
	flag.Parse()
	if flag.NArg() == 0 {
		flag.Usage()
		os.Exit(2)
	}
	// https://reproducible-builds.org/specs/source-date-epoch/
	if s, err := strconv.ParseInt(os.Getenv("SOURCE_DATE_EPOCH"), 10, 64); err == nil {
		o.created = time.Unix(s, 0).UTC()
	}
	digest, err := write(*out, o, flag.Args())
	if err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
	fmt.Println(*out, o.name, digest)
}

// write makes the archive and gives the digest of the image index in it.
func write(out string, o options, binaries []string) (v1.Hash, error) {
	index, err := build(o, binaries)
	if err != nil {
		return v1.Hash{}, err
	}
	dir, err := os.MkdirTemp(filepath.Dir(out), ".image-")
	if err != nil {
		return v1.Hash{}, err
	}
	defer os.RemoveAll(dir)
	l, err := layout.Write(dir, empty.Index)
	if err != nil {
		return v1.Hash{}, fmt.Errorf("write the layout: %w", err)
	}
	// containerd reads the one, Podman and skopeo the other.
	names := map[string]string{"io.containerd.image.name": o.name, "org.opencontainers.image.ref.name": o.name}
	if err := l.AppendIndex(index, layout.WithAnnotations(names)); err != nil {
		return v1.Hash{}, fmt.Errorf("write the layout: %w", err)
	}
	if err := archive(out, dir, o.created); err != nil {
		return v1.Hash{}, fmt.Errorf("write the archive: %w", err)
	}
	return index.Digest()
}
