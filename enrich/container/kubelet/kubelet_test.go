// SPDX-License-Identifier: Apache-2.0

package kubelet

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

const uid = "1e597579-417e-482f-bf65-5fe170c3aebd"

// volume is a downward API volume as a kubelet makes it: links to files in a directory that is replaced as a whole.
type volume struct {
	t       *testing.T
	dir     string
	version int
}

func newVolume(t *testing.T, kubelet string) *volume {
	v := &volume{t: t, dir: filepath.Join(kubelet, "pods", uid, "volumes", "kubernetes.io~downward-api", Volume)}
	v.do(os.MkdirAll(v.dir, 0o755))
	return v
}

func (v *volume) do(err error) {
	v.t.Helper()
	if err != nil {
		v.t.Fatal(err)
	}
}

func (v *volume) write(files map[string]string) {
	v.t.Helper()
	v.version++
	stamp := "..2026_11_28_10_00_00." + strconv.Itoa(v.version)
	v.do(os.Mkdir(filepath.Join(v.dir, stamp), 0o755))
	for name, text := range files {
		v.do(os.WriteFile(filepath.Join(v.dir, stamp, name), []byte(text), 0o644))
		if _, err := os.Lstat(filepath.Join(v.dir, name)); err != nil {
			v.do(os.Symlink(filepath.Join("..data", name), filepath.Join(v.dir, name)))
		}
	}
	v.do(os.Symlink(stamp, filepath.Join(v.dir, "..data_tmp")))
	old, _ := os.Readlink(filepath.Join(v.dir, "..data"))
	v.do(os.Rename(filepath.Join(v.dir, "..data_tmp"), filepath.Join(v.dir, "..data")))
	if old != "" {
		v.do(os.RemoveAll(filepath.Join(v.dir, old)))
	}
}

func open(t *testing.T, dir string) *Reader {
	t.Helper()
	if err := os.MkdirAll(Pods(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	r, err := New(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

func TestWithoutAKubeletThereIsNothing(t *testing.T) {
	if _, err := New(t.TempDir()); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

func TestWhatTheKubeletWritesIsRead(t *testing.T) {
	dir := t.TempDir()
	r := open(t, dir)
	if _, err := r.Read(uid); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a pod that is not there: %v", err)
	}
	v := newVolume(t, dir)
	v.write(map[string]string{labels: "app=\"shop\"\npool=\"warm\"", annotations: `note="two\nlines, \"quoted\" = \u00e9"`})
	first, err := r.Read(uid)
	if err != nil || !maps.Equal(first.Labels, map[string]string{"app": "shop", "pool": "warm"}) || !maps.Equal(first.Annotations, map[string]string{"note": "two\nlines, \"quoted\" = \u00e9"}) {
		t.Fatalf("%+v, %v", first, err)
	}
	if version, err := r.Version(uid); err != nil || version != first.Version {
		t.Errorf("%s is not %s: %v", version, first.Version, err)
	}
	v.write(map[string]string{labels: ""})
	second, err := r.Read(uid)
	if err != nil || second.Labels == nil || len(second.Labels) != 0 || second.Annotations != nil || second.Version == first.Version {
		t.Errorf("%+v, %v", second, err)
	}
}

func TestNothingElseIsRead(t *testing.T) {
	dir := t.TempDir()
	r := open(t, dir)
	outside := filepath.Join(dir, "outside")
	if err := os.WriteFile(outside, []byte(`app="x"`), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, uid := range []string{"", ".", "..", "../../../x", "1e597579-417e-482f-bf65-5fe170c3aeb/", strings.Repeat("a", 31) + "/"} {
		if _, err := r.Read(uid); err == nil || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%q: %v", uid, err)
		}
	}
	for name, make := range map[string]func(path string) error{
		"a link that leads out": func(p string) error { return os.Symlink(outside, p) },
		"a relative link":       func(p string) error { return os.Symlink("../../../../../outside", p) },
		"a pipe":                func(p string) error { return unix.Mkfifo(p, 0o600) },
		"a directory":           func(p string) error { return os.Mkdir(p, 0o700) },
		"a file without end":    func(p string) error { return os.WriteFile(p, []byte(strings.Repeat("a=\"\"\n", maxFile/5+1)), 0o600) },
		"more pairs than allowed": func(p string) error {
			var b strings.Builder
			for n := range maxPairs + 1 {
				b.WriteString("k" + strconv.Itoa(n) + "=\"\"\n")
			}
			return os.WriteFile(p, []byte(b.String()), 0o600)
		},
		"no pair":          func(p string) error { return os.WriteFile(p, []byte("app"), 0o600) },
		"an open quote":    func(p string) error { return os.WriteFile(p, []byte(`app="x`), 0o600) },
		"other quotes":     func(p string) error { return os.WriteFile(p, []byte("app=`x`"), 0o600) },
		"one that ends in": func(p string) error { return os.WriteFile(p, []byte("a=\"b\"\nc=\"d"), 0o600) },
	} {
		dir := t.TempDir()
		v := newVolume(t, dir)
		v.write(map[string]string{annotations: ""})
		v.do(make(filepath.Join(v.dir, labels)))
		if now, err := open(t, dir).Read(uid); err == nil || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %+v, %v", name, now, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("app=\"shop\"\nnote=\"a\\nb\"")
	f.Add("=\n\"")
	f.Fuzz(func(t *testing.T, text string) {
		pairs, err := parse(text)
		if err != nil && pairs != nil || len(pairs) > maxPairs {
			t.Fatalf("%d pairs, %v", len(pairs), err)
		}
		var again strings.Builder
		for k, v := range pairs {
			again.WriteString(k + "=" + strconv.Quote(v) + "\n")
		}
		if got, err := parse(again.String()); err != nil || pairs != nil && !maps.Equal(got, pairs) {
			t.Fatalf("%v, not %v: %v", got, pairs, err)
		}
	})
}
