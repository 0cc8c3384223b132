// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// Pins tell what outlives this process in the kernel.
type Pins struct {
	Dir     string // "": nothing is pinned
	Resumed bool   // the hooks were attached by an earlier process and are gone on with
	Backlog int    // bytes of records that waited in the ring then
	// Gap is for how long nobody had read it, give or take a second.
	Gap time.Duration
	// Starts counts the processes that have read this kernel side, this one included.
	Starts uint64
	// Replaced are the kernel sides of other programs or options that were found: their records are read first.
	Replaced int
	// Err is why nothing is pinned, or what was wrong with what was found.
	Err error
}

const (
	usualBPFFS = "/sys/fs/bpf"

	manifestName   = "manifest"
	manifestFormat = 1
	// maxManifest is more than ten times what is written, and less than the kernel allows the value of a map.
	maxManifest = 64 << 10
	mapPrefix   = "map_"
	linkPrefix  = "link_"
	maxPins     = 64 // kernel sides that are looked at
)

// A manifest says what was pinned. It is the value of a frozen map that is pinned last: without it the rest is not
// whole.
type manifest struct {
	Format  int
	Content string // what it was made of: contentOf
	Records string // formatOf the records in the ring
	Maps    map[string]uint32
	Links   []pinnedLink
	Hooks   []pinnedHook
}

type pinnedLink struct {
	Name    string
	ID      uint32
	Program uint32
	Tag     string
}

type pinnedHook struct {
	Name, Target, Form, Note, Err string
	Attached                      bool
}

// contentOf names the kernel side: the same name means that this process would load and attach the same.
func (o *Options) contentOf(spec *ebpf.CollectionSpec) (string, error) {
	h := sha256.New()
	add := func(format string, args ...any) { fmt.Fprintf(h, format+"\x00", args...) }
	add("sheetbend pins %d", manifestFormat)
	h.Write(_ObjectBytes)
	for _, name := range slices.Sorted(maps.Keys(spec.Maps)) {
		m := spec.Maps[name]
		add("map %s %d %d %d %d %d", name, m.Type, m.KeySize, m.ValueSize, m.MaxEntries, m.Flags)
	}
	// What was set in it, and so what the programs were made for.
	for _, name := range slices.Sorted(maps.Keys(spec.Variables)) {
		if v := spec.Variables[name]; v.Constant() {
			value := make([]byte, v.Size())
			if err := v.Get(value); err != nil {
				return "", fmt.Errorf("read %s: %w", name, err)
			}
			add("constant %s %x", name, value)
		}
	}
	var kernel unix.Utsname
	if err := unix.Uname(&kernel); err != nil {
		return "", err
	}
	var root unix.Stat_t
	if err := unix.Stat(o.CgroupRoot, &root); err != nil {
		return "", err
	}
	add("kernel %s %s", kernel.Release[:], kernel.Version[:])
	add("cgroups %d %d", root.Dev, root.Ino)
	add("form %s %t %t", o.Form, o.CompatCalls, o.noop)
	add("names %q %q %q", o.EnvNames, o.Programs, o.Noise)
	add("scope %q", o.Scope)
	return hex.EncodeToString(h.Sum(nil)), nil
}

// formatOf names the format of the ring: two objects with the same one can read each other's records. A kind that is
// only added changes it, too, unlike record.Layout.
func formatOf(spec *ebpf.CollectionSpec) string {
	h := sha256.New()
	for t, err := range spec.Types.All() {
		if err != nil {
			continue
		}
		s, ok := t.(*btf.Struct)
		if !ok || s.Name != "header" && s.Name != "loss_key" && !strings.HasPrefix(s.Name, "record_") {
			continue
		}
		fmt.Fprintf(h, "%s %d\x00", s.Name, s.Size)
		for _, m := range s.Members {
			size, _ := btf.Sizeof(m.Type)
			fmt.Fprintf(h, "%s %d %d\x00", m.Name, m.Offset, size)
		}
	}
	return hex.EncodeToString(h.Sum(nil))
}

// pinned says which maps outlive the process. Constants belong to their programs.
func pinned(name string) bool { return !strings.HasPrefix(name, ".rodata") }

// pin pins all of it, and the ledger with it.
func (k *kernelSide) pin(store *pinStore, l *ledger, content, records string) (err error) {
	name := content[:32]
	if err := unix.Mkdirat(int(store.f.Fd()), name, 0o700); err != nil {
		return fmt.Errorf("make a directory for the pins: %w", err)
	}
	d, err := store.sub(name)
	if err != nil {
		return err
	}
	defer d.f.Close()
	defer func() {
		if err != nil {
			err = errors.Join(err, store.remove(d, ""))
		}
	}()
	m := manifest{Format: manifestFormat, Content: content, Records: records, Maps: map[string]uint32{}}
	all := maps.Clone(k.collection.Maps)
	maps.Copy(all, l.maps())
	for name, one := range all {
		if !pinned(name) {
			continue
		}
		info, err := one.Info()
		if err != nil {
			return fmt.Errorf("look at map %s: %w", name, err)
		}
		id, _ := info.ID()
		m.Maps[name] = uint32(id)
		if err := one.Pin(d.path(mapPrefix + name)); err != nil {
			return fmt.Errorf("pin map %s: %w", name, err)
		}
	}
	for _, a := range k.attached {
		if a.link == nil {
			return fmt.Errorf("pin %s: %w", a.program, errNoLink)
		}
		described, err := describe(a.program, a.link)
		if err != nil {
			return err
		}
		m.Links = append(m.Links, described)
		if err := a.link.Pin(d.path(linkPrefix + a.program)); err != nil {
			return fmt.Errorf("pin the link of %s: %w", a.program, err)
		}
	}
	for _, h := range k.hooks {
		p := pinnedHook{Name: h.Name, Target: h.Target, Form: h.Form, Note: h.Note, Attached: h.Attached}
		if h.Err != nil {
			p.Err = h.Err.Error()
		}
		m.Hooks = append(m.Hooks, p)
	}
	return m.pin(d)
}

// errNoLink: a program on a perf event could not be pinned before there were links for these.
var errNoLink = errors.New("needs Linux 5.15 where hooks are tracepoints")

func describe(program string, l link.Link) (pinnedLink, error) {
	info, err := l.Info()
	if err != nil {
		return pinnedLink{}, fmt.Errorf("look at the link of %s: %w", program, err)
	}
	if c := info.Cgroup(); c != nil && c.CgroupId == 0 {
		return pinnedLink{}, fmt.Errorf("the link of %s is detached", program)
	}
	p, err := ebpf.NewProgramFromID(info.Program)
	if err != nil {
		return pinnedLink{}, fmt.Errorf("open the program %s: %w", program, err)
	}
	defer func() { _ = p.Close() }()
	pi, err := p.Info()
	if err != nil {
		return pinnedLink{}, fmt.Errorf("look at the program %s: %w", program, err)
	}
	return pinnedLink{Name: program, ID: uint32(info.ID), Program: uint32(info.Program), Tag: pi.Tag}, nil
}

func (m *manifest) pin(d *pinDir) error {
	text, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if len(text) > maxManifest {
		return fmt.Errorf("a manifest of %d bytes", len(text))
	}
	one, err := ebpf.NewMap(&ebpf.MapSpec{
		Name: "sheetbend_pins", Type: ebpf.Array, KeySize: 4, ValueSize: uint32(len(text)), MaxEntries: 1,
		Contents: []ebpf.MapKV{{Key: uint32(0), Value: text}},
	})
	if err != nil {
		return fmt.Errorf("make the manifest of the pins: %w", err)
	}
	defer func() { _ = one.Close() }()
	if err := one.Freeze(); err != nil {
		return fmt.Errorf("freeze the manifest of the pins: %w", err)
	}
	if err := one.Pin(d.path(manifestName)); err != nil {
		return fmt.Errorf("pin the manifest: %w", err)
	}
	return nil
}

func (d *pinDir) manifest() (m manifest, err error) {
	one, err := ebpf.LoadPinnedMap(d.path(manifestName), nil)
	if err != nil {
		return m, fmt.Errorf("open the manifest: %w", err)
	}
	defer func() { _ = one.Close() }()
	if one.Type() != ebpf.Array || one.KeySize() != 4 || one.MaxEntries() != 1 || one.ValueSize() > maxManifest {
		return m, errors.New("the manifest is another map")
	}
	text, err := one.LookupBytes(uint32(0))
	if err != nil {
		return m, fmt.Errorf("read the manifest: %w", err)
	}
	return parseManifest(text)
}

func parseManifest(text []byte) (m manifest, err error) {
	if err := json.Unmarshal(text, &m); err != nil {
		return manifest{}, fmt.Errorf("read the manifest: %w", err)
	}
	if m.Format != manifestFormat {
		return manifest{}, fmt.Errorf("manifest of format %d", m.Format)
	}
	return m, nil
}

// loadMap opens a pinned map and checks that it is the one of the manifest.
func (d *pinDir) loadMap(m *manifest, name string) (*ebpf.Map, error) {
	one, err := ebpf.LoadPinnedMap(d.path(mapPrefix+name), nil)
	if err != nil {
		return nil, fmt.Errorf("open the pinned map %s: %w", name, err)
	}
	info, err := one.Info()
	if err != nil {
		_ = one.Close()
		return nil, fmt.Errorf("look at the pinned map %s: %w", name, err)
	}
	if id, _ := info.ID(); m != nil && uint32(id) != m.Maps[name] {
		_ = one.Close()
		return nil, fmt.Errorf("the pinned map %s is another", name)
	}
	return one, nil
}

// errNoPins: there are none of this content.
var errNoPins = errors.New("none")

// resume goes on with pins of the same content. On error s is as it was before.
func (s *Sensor) resume(spec *ebpf.CollectionSpec, o *Options, content string) (err error) {
	d, err := s.store.sub(content[:32])
	if errors.Is(err, os.ErrNotExist) {
		return errNoPins
	}
	if err != nil {
		return err
	}
	defer d.f.Close()
	m, err := d.manifest()
	if err != nil {
		return err
	}
	if m.Content != content {
		return errors.New("the manifest is of other pins")
	}
	var closers []io.Closer
	defer func() {
		if err != nil {
			for _, c := range closers {
				_ = c.Close()
			}
		}
	}()
	replace := map[string]*ebpf.Map{}
	for name := range spec.Maps {
		if pinned(name) {
			one, err := d.loadMap(&m, name)
			if err != nil {
				return err
			}
			defer func() { _ = one.Close() }() // the collection has its own
			replace[name] = one
		}
	}
	ledger, err := loadLedger(d, &m)
	if err != nil {
		return err
	}
	closers = append(closers, ledger)

	// The iterator is attached for each walk, so it is loaded anew, over these maps.
	part := spec.Copy()
	part.Programs = map[string]*ebpf.ProgramSpec{existingProgram: part.Programs[existingProgram]}
	c, err := ebpf.NewCollectionWithOptions(part, ebpf.CollectionOptions{
		MapReplacements: replace, Programs: ebpf.ProgramOptions{KernelTypes: o.kernel},
	})
	if err != nil {
		return fmt.Errorf("use the pinned maps: %w", err)
	}
	closers = append(closers, closerFunc(c.Close))
	programs := map[string]*ebpf.Program{existingProgram: c.Programs[existingProgram]}
	side := kernelSide{collection: c, programs: programs}
	for _, want := range m.Links {
		if spec.Programs[want.Name] == nil || programs[want.Name] != nil {
			return fmt.Errorf("the manifest has a link of %q", want.Name)
		}
		l, err := link.LoadPinnedLink(d.path(linkPrefix+want.Name), nil)
		if err != nil {
			return fmt.Errorf("open the pinned link of %s: %w", want.Name, err)
		}
		closers = append(closers, l)
		is, err := describe(want.Name, l)
		if err != nil {
			return err
		}
		if is != want {
			return fmt.Errorf("the pinned link of %s is another", want.Name)
		}
		p, err := ebpf.NewProgramFromID(ebpf.ProgramID(want.Program))
		if err != nil {
			return fmt.Errorf("open the program %s: %w", want.Name, err)
		}
		closers = append(closers, p)
		programs[want.Name] = p
		side.reopened = append(side.reopened, p)
		side.attached = append(side.attached, attachment{program: want.Name, link: l, close: l.Close})
	}
	for _, h := range commonHooks {
		if programs[h.program] == nil {
			return fmt.Errorf("the manifest has no link of %s", h.program)
		}
	}
	for _, p := range m.Hooks {
		h := Hook{Name: p.Name, Target: p.Target, Form: p.Form, Note: p.Note, Attached: p.Attached}
		if p.Err != "" {
			h.Err = errors.New(p.Err)
		}
		side.hooks = append(side.hooks, h)
	}
	s.kernel, s.reported.ledger = side, ledger
	return nil
}

type closerFunc func()

func (f closerFunc) Close() error { f(); return nil }

// others opens the kernel sides of other content that are pinned. Of what cannot be read, the error says why.
func (s *pinStore) others(content, records string) (found []*generation, err error) {
	if _, err := s.f.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	names, err := s.f.Readdirnames(maxPins)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("list the pins in %s: %w", s.dir, err)
	}
	slices.Sort(names)
	var errs []error
	for _, name := range names {
		if content != "" && name == content[:32] {
			continue
		}
		p, err := s.generation(name, records)
		if err != nil {
			errs = append(errs, fmt.Errorf("pins %s: %w", filepath.Join(s.dir, name), err))
		}
		if p != nil {
			found = append(found, p)
		}
	}
	return found, errors.Join(errs...)
}
