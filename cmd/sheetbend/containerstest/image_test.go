// SPDX-License-Identifier: Apache-2.0

package containerstest

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

// The images are made here: no registry is asked.
const (
	boxImage   = "sheetbend.test/box:1.2"
	pauseImage = "sheetbend.test/pause:1"

	busybox = "/bin/busybox"
)

// sensorImage is the archive that `make image` made, and the name in it.
func sensorImage(t *testing.T) (path, name string) {
	t.Helper()
	path = os.Getenv("SHEETBEND_IMAGE")
	if path == "" {
		if os.Getenv("CI") != "" {
			t.Fatal("needs the image in SHEETBEND_IMAGE, and in CI nothing is skipped")
		}
		t.Skip("needs the image in SHEETBEND_IMAGE (make test-containers)")
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var index struct {
		Manifests []struct{ Annotations map[string]string }
	}
	for r := tar.NewReader(f); len(index.Manifests) == 0; {
		h, err := r.Next()
		if err != nil {
			t.Fatalf("%s has no index: %v", path, err)
		}
		if h.Name != "index.json" {
			continue
		}
		if err := json.NewDecoder(r).Decode(&index); err != nil {
			t.Fatal(err)
		}
	}
	return path, index.Manifests[0].Annotations["io.containerd.image.name"]
}

// archive writes an image of busybox, or of another program of this machine, as an OCI layout that runtimes import, and
// gives its path.
func archive(t *testing.T, name, program string, command ...string) string {
	t.Helper()
	content, err := os.ReadFile(program)
	if err != nil {
		t.Fatalf("%v (apt install busybox-static)", err)
	}
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	add := func(h tar.Header, content []byte) {
		h.Size = int64(len(content))
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(content); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{"bin/", "etc/", "proc/", "sys/", "dev/", "tmp/"} {
		add(tar.Header{Typeflag: tar.TypeDir, Name: dir, Mode: 0o755}, nil)
	}
	add(tar.Header{Typeflag: tar.TypeReg, Name: "bin/" + filepath.Base(program), Mode: 0o755}, content)
	for _, applet := range []string{"sh", "true", "sleep", "cat", "echo"} {
		add(tar.Header{Typeflag: tar.TypeSymlink, Name: "bin/" + applet, Linkname: "busybox", Mode: 0o777}, nil)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}

	out := filepath.Join(t.TempDir(), "image.tar")
	f, err := os.Create(out)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w = tar.NewWriter(f)
	type descriptor struct {
		MediaType   string            `json:"mediaType"`
		Digest      string            `json:"digest"`
		Size        int               `json:"size"`
		Annotations map[string]string `json:"annotations,omitempty"`
	}
	blob := func(mediaType string, content []byte) descriptor {
		sum := sha256.Sum256(content)
		digest := hex.EncodeToString(sum[:])
		add(tar.Header{Typeflag: tar.TypeReg, Name: "blobs/sha256/" + digest, Mode: 0o644}, content)
		return descriptor{MediaType: "application/vnd.oci.image." + mediaType, Digest: "sha256:" + digest, Size: len(content)}
	}
	text := func(v any) []byte {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	l := blob("layer.v1.tar", layer.Bytes())
	config := blob("config.v1+json", text(map[string]any{
		"architecture": runtime.GOARCH, "os": "linux",
		"config": map[string]any{"Entrypoint": command, "Env": []string{"PATH=/bin"}},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{l.Digest}},
	}))
	manifest := blob("manifest.v1+json", text(map[string]any{"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": config, "layers": []descriptor{l}}))
	manifest.Annotations = map[string]string{"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name}
	add(tar.Header{Typeflag: tar.TypeReg, Name: "index.json", Mode: 0o644}, text(map[string]any{"schemaVersion": 2, "manifests": []descriptor{manifest}}))
	add(tar.Header{Typeflag: tar.TypeReg, Name: "oci-layout", Mode: 0o644}, []byte(`{"imageLayoutVersion":"1.0.0"}`))
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out
}
