// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"debug/elf"
	"embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/goreleaser/nfpm/v2"
	"github.com/goreleaser/nfpm/v2/deb"
	packed "github.com/goreleaser/nfpm/v2/files"
	"github.com/goreleaser/nfpm/v2/rpm"
)

//go:embed files
var files embed.FS

// A file is one of a release: in the archive by the name, in packages at a path; "" is not there.
type file struct {
	name, path string
	rpm        string // path in an rpm, where it is another
	executable bool
	config     bool // a change of the user's stays
	content    []byte
}

// A binary is the sensor for one architecture.
type binary struct {
	path, arch    string
	content, sbom []byte
}

func openBinary(dir string) (binary, error) {
	b := binary{path: filepath.Join(dir, "sheetbend")}
	var err error
	if b.content, err = os.ReadFile(b.path); err != nil {
		return b, err
	}
	f, err := elf.NewFile(bytes.NewReader(b.content))
	if err != nil {
		return b, err
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return b, errors.New("is linked dynamically: build it with CGO_ENABLED=0")
		}
	}
	arch, ok := map[elf.Machine]string{elf.EM_X86_64: "amd64", elf.EM_AARCH64: "arm64"}[f.Machine]
	if !ok {
		return b, fmt.Errorf("is for %s, which the sensor does not support", f.Machine)
	}
	b.arch = arch
	b.sbom, err = os.ReadFile(filepath.Join(dir, "sbom.json"))
	return b, err
}

// documents are the files that all architectures have. program runs here.
func (r *release) documents(program string) (out []file, err error) {
	add := func(f file) { out = append(out, f) }
	for _, name := range []string{"CHANGELOG.md", "docs/install.md"} {
		content, err := os.ReadFile(filepath.Join(r.top, name))
		if err != nil {
			return nil, err
		}
		base := path.Base(name)
		add(file{name: base, path: "/usr/share/doc/sheetbend/" + base, content: content})
	}
	for name, to := range map[string]string{
		"sheetbend.service": "/usr/lib/systemd/system/", "sheetbend.yaml": "/etc/sheetbend/",
	} {
		content, err := files.ReadFile("files/" + name)
		if err != nil {
			return nil, err
		}
		add(file{name: name, path: to + name, config: name == "sheetbend.yaml", content: content})
	}
	for shell, to := range map[string]file{
		"bash": {path: "/usr/share/bash-completion/completions/sheetbend"},
		"fish": {path: "/usr/share/fish/vendor_completions.d/sheetbend.fish"},
		"zsh":  {path: "/usr/share/zsh/vendor-completions/_sheetbend", rpm: "/usr/share/zsh/site-functions/_sheetbend"},
	} {
		to.name = "completions/" + shell + "/" + path.Base(to.path)
		if to.content, err = said(program, "completion", shell); err != nil {
			return nil, err
		}
		add(to)
	}
	pages, err := r.manual(func(words ...string) ([]byte, error) { return said(program, append(words, "--help")...) })
	if err != nil {
		return nil, fmt.Errorf("write the manual: %w", err)
	}
	for name, page := range pages {
		packed, err := zipped(page)
		if err != nil {
			return nil, err
		}
		add(file{name: "man/" + name + ".gz", path: "/usr/share/man/man1/" + name + ".gz", content: packed})
	}
	return out, nil
}

// said is what sheetbend prints.
func said(program string, args ...string) ([]byte, error) {
	cmd := exec.Command(program, args...)
	cmd.Env = []string{"HOME=/root", "PATH=/usr/bin:/bin"} // nothing of this machine
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("ask %s %s: %w", program, strings.Join(args, " "), err)
	}
	return out, nil
}

// files are all of one architecture, in the order of their names.
func (r *release) files(b binary, common []file) ([]file, error) {
	licences, err := r.licences(b.path)
	if err != nil {
		return nil, fmt.Errorf("collect the licences of what is in %s: %w", b.path, err)
	}
	all := append([]file{
		{name: "sheetbend", path: "/usr/bin/sheetbend", executable: true, content: b.content},
		{name: "LICENCES", path: "/usr/share/doc/sheetbend/copyright", content: licences},
	}, common...)
	slices.SortFunc(all, func(a, b file) int { return strings.Compare(a.name, b.name) })
	return all, nil
}

func (r *release) packages(b binary, all []file) error {
	base := fmt.Sprintf("sheetbend_%s_linux_%s", r.version, b.arch)
	if err := os.WriteFile(filepath.Join(r.out, base+".cdx.json"), b.sbom, 0o644); err != nil {
		return err
	}
	archive, err := r.archive(base, all)
	if err == nil {
		err = os.WriteFile(filepath.Join(r.out, base+".tar.gz"), archive, 0o644)
	}
	if err != nil {
		return err
	}
	work, err := os.MkdirTemp("", "packages-") // the library reads files
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	for _, p := range []struct {
		nfpm.Packager
		rpm bool
	}{{deb.Default, false}, {rpm.DefaultRPM, true}} {
		info, err := r.info(b, all, work, p.rpm)
		if err != nil {
			return err
		}
		var out bytes.Buffer
		if err := p.Package(info, &out); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(r.out, p.ConventionalFileName(info)), out.Bytes(), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// info describes a package to the library.
func (r *release) info(b binary, all []file, work string, forRPM bool) (*nfpm.Info, error) {
	info := &nfpm.Info{
		Name: "sheetbend", Arch: b.arch, Platform: "linux", Version: r.version, VersionSchema: "none",
		Section: "admin", Priority: "optional", Maintainer: "Sheetbend <sheetbend@users.noreply.github.com>",
		Homepage: "https://github.com/sheetbend/sheetbend", License: "Apache-2.0", MTime: r.at, DisableGlobbing: true,
		Description: "records what AI agents do on this host, from the kernel\n" +
			"A sensor (eBPF) that tells call by call what each AI agent of this host did: its\n" +
			"programs, the files that it opened and changed, its connections. Recordings stay\n" +
			"on this host unless it is configured otherwise.",
	}
	if forRPM {
		info.Release, info.RPM.BuildHost, info.RPM.Group = "1", "localhost", "Applications/System"
	}
	stage := func(name string, content []byte) (string, error) {
		to := filepath.Join(work, strings.ReplaceAll(name, "/", "_"))
		return to, os.WriteFile(to, content, 0o644)
	}
	scripts := map[string]*string{
		"postinst": &info.Scripts.PostInstall, "prerm": &info.Scripts.PreRemove, "postrm": &info.Scripts.PostRemove,
	}
	for name, to := range scripts {
		content, err := files.ReadFile("files/" + name)
		if err == nil {
			*to, err = stage(name, content)
		}
		if err != nil {
			return nil, err
		}
	}
	for _, f := range all {
		source, err := stage(f.name, f.content)
		if err != nil {
			return nil, err
		}
		c := &packed.Content{Source: source, Destination: f.path, FileInfo: &packed.ContentFileInfo{Mode: 0o644, MTime: r.at, Owner: "root", Group: "root"}}
		if f.executable {
			c.FileInfo.Mode = 0o755
		}
		if f.config {
			c.Type = packed.TypeConfigNoReplace
		}
		if forRPM && f.rpm != "" {
			c.Destination = f.rpm
		}
		info.Contents = append(info.Contents, c)
	}
	return nfpm.WithDefaults(info), nil
}

// archive is all files below one directory, for who has neither deb nor rpm.
func (r *release) archive(base string, all []file) ([]byte, error) {
	var out bytes.Buffer
	tw := tar.NewWriter(&out)
	for _, f := range all {
		h := &tar.Header{Name: base + "/" + f.name, Mode: 0o644, Size: int64(len(f.content)), ModTime: r.at, Format: tar.FormatUSTAR}
		if f.executable {
			h.Mode = 0o755
		}
		if err := tw.WriteHeader(h); err != nil {
			return nil, err
		}
		if _, err := tw.Write(f.content); err != nil {
			return nil, err
		}
	}
	if err := tw.Close(); err != nil {
		return nil, err
	}
	return zipped(out.Bytes())
}

func zipped(content []byte) ([]byte, error) {
	var out bytes.Buffer
	zw := gzip.NewWriter(&out)
	if _, err := zw.Write(content); err != nil {
		return nil, err
	}
	if err := zw.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}
