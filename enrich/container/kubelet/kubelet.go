// SPDX-License-Identifier: Apache-2.0

// Package kubelet reads what the kubelet writes of a pod's labels and annotations. A runtime gets them once, when
// the pod is made; the files of a downward API volume change with the pod. They are the kubelet's own: a container
// has them mounted read-only.
package kubelet

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sheetbend/sheetbend/enrich/container"
)

const (
	// Volume is the name of the pod's volume that is read, and these two the files in it, both optional.
	Volume      = "sheetbend"
	labels      = "labels"
	annotations = "annotations"

	// data is the link that the kubelet replaces when it has written the files anew.
	data = "..data"

	// maxFile bounds a file. The API allows 256 KiB of annotations; quoting makes at most ten bytes of one.
	maxFile  = 4 << 20
	maxPairs = 4096
)

// Reader is a container.Pods.
type Reader struct{ pods *os.Root }

// New reads below the kubelet's directory, most often /var/lib/kubelet. It opens the pods' directory at once: later
// the sensor has not the right to pass through another process's root any more, and what is mounted below is seen
// all the same. An error that is fs.ErrNotExist means that there is no kubelet.
func New(dir string) (*Reader, error) {
	pods, err := os.OpenRoot(Pods(dir))
	if err != nil {
		return nil, fmt.Errorf("open the kubelet's directory: %w", err)
	}
	return &Reader{pods}, nil
}

// Pods is the directory in the kubelet's that is read.
func Pods(dir string) string { return filepath.Join(dir, "pods") }

// Close ends it.
func (r *Reader) Close() error { return r.pods.Close() }

// Read implements container.Pods.
func (r *Reader) Read(uid string) (container.PodNow, error) {
	root, err := r.volume(uid)
	if err != nil {
		return container.PodNow{}, err
	}
	defer func() { _ = root.Close() }()
	// First: what is written meanwhile has another version, and is read again.
	now := container.PodNow{}
	if now.Version, err = root.Readlink(data); err != nil {
		return now, fmt.Errorf("pod %s: %w", uid, err)
	}
	for name, into := range map[string]*map[string]string{labels: &now.Labels, annotations: &now.Annotations} {
		text, err := read(root, name)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err == nil {
			*into, err = parse(text)
		}
		if err != nil {
			return container.PodNow{}, fmt.Errorf("%s of pod %s: %w", name, uid, err)
		}
	}
	return now, nil
}

// Version implements container.Pods.
func (r *Reader) Version(uid string) (string, error) {
	root, err := r.volume(uid)
	if err != nil {
		return "", err
	}
	defer func() { _ = root.Close() }()
	return root.Readlink(data)
}

// volume opens the directory. No link leads out of it.
func (r *Reader) volume(uid string) (*os.Root, error) {
	if !container.IsPodUID(uid) {
		return nil, fmt.Errorf("%.64q is no pod's id", uid)
	}
	return r.pods.OpenRoot(filepath.Join(uid, "volumes", "kubernetes.io~downward-api", Volume))
}

func read(root *os.Root, name string) (string, error) {
	f, err := root.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0) // nobody's pipe is waited for
	if err != nil {
		return "", err
	}
	defer f.Close()
	if s, err := f.Stat(); err != nil || !s.Mode().IsRegular() {
		return "", errors.Join(errors.New("is no file"), err)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if len(text) > maxFile {
		return "", errors.New("is too large")
	}
	return string(text), err
}

// parse reads lines of key="value", quoted as in Go.
func parse(text string) (map[string]string, error) {
	pairs := map[string]string{}
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if line == "" {
			continue
		}
		key, quoted, ok := strings.Cut(line, "=")
		value, err := strconv.Unquote(quoted)
		if !ok || key == "" || err != nil || !strings.HasPrefix(quoted, `"`) {
			return nil, fmt.Errorf("%.64q is not key=\"value\"", line)
		}
		if len(pairs) >= maxPairs {
			return nil, fmt.Errorf("more than %d", maxPairs)
		}
		pairs[key] = value
	}
	return pairs, nil
}
