// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cilium/ebpf"
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

// ErrNewerPins says that a newer version of sheetbend left pins: they are not touched.
var ErrNewerPins = errors.New("a newer version of sheetbend left them: start that one, or take them away with " +
	"sheetbend unpin")

const (
	manifestName   = "manifest"
	manifestFormat = 2
	// maxManifest is more than ten times what is written, and less than the kernel allows the value of a map.
	maxManifest = 64 << 10
	mapPrefix   = "map_"
	linkPrefix  = "link_"
)

// A manifest says what was pinned. It is the value of a frozen map that is pinned last: without it the rest is not
// whole.
type manifest struct {
	Format  int
	Content string // what it was made of: contentOf
	Records string // Options.Layout of the records in the ring
	Maps    map[string]ebpf.MapID
	Links   []pinnedLink
	Hooks   []Hook
}

type pinnedLink struct {
	Name    string
	ID      link.ID // one that the kernel had once it has no more, as long as it runs
	Program ebpf.ProgramID
}

// contentOf names the kernel side: the same name means that this process would load and attach the same.
func (o *Options) contentOf(spec *ebpf.CollectionSpec) (string, error) {
	var kernel unix.Utsname
	var root unix.Stat_t
	if err := errors.Join(unix.Uname(&kernel), unix.Stat(o.CgroupRoot, &root)); err != nil {
		return "", err
	}
	h := sha256.New()
	h.Write(_ObjectBytes)
	add := func(args ...any) { fmt.Fprintf(h, "%#v\x00", args) }
	add(manifestFormat, o.Layout, kernel.Release[:], kernel.Version[:], root.Dev, root.Ino)
	add(o.Form, o.CompatCalls, o.noop, o.EnvNames, o.Programs, o.Noise, o.Scope)
	for _, name := range slices.Sorted(maps.Keys(spec.Maps)) {
		m := spec.Maps[name]
		add(name, m.Type, m.KeySize, m.ValueSize, m.MaxEntries, m.Flags)
	}
	// What was set in it, and so what the programs were made for.
	for _, name := range slices.Sorted(maps.Keys(spec.Variables)) {
		if v := spec.Variables[name]; v.Constant() {
			add(name, v.Value)
		}
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// pinned says which maps outlive the process. Constants belong to their programs.
func pinned(name string) bool { return !strings.HasPrefix(name, ".rodata") }

// pin pins all of it in a directory of this name, or a like one: pins may lie there that are not gone on with.
func (k *kernelSide) pin(store *os.File, content string, layout int) (err error) {
	name := content[:32]
	for err = unix.EEXIST; errors.Is(err, unix.EEXIST) && len(name) < 64; name += "+" {
		if err = unix.Mkdirat(int(store.Fd()), name, 0o700); err == nil {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("make a directory for the pins: %w", err)
	}
	dir, err := openDir(int(store.Fd()), name)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, remove(store, dir))
		}
		_ = dir.Close()
	}()
	m := manifest{
		Format: manifestFormat, Content: content, Records: strconv.Itoa(layout), Maps: map[string]ebpf.MapID{}, Hooks: k.hooks,
	}
	for name, one := range k.collection.Maps {
		if !pinned(name) {
			continue
		}
		if m.Maps[name], err = mapID(one); err != nil {
			return err
		}
		if err := one.Pin(pinPath(dir, mapPrefix+name)); err != nil {
			return fmt.Errorf("pin map %s: %w", name, err)
		}
	}
	for _, a := range k.attached {
		if a.link == nil {
			return fmt.Errorf("pin %s: %w", a.name, errNoLink)
		}
		described, err := describe(a.name, a.link)
		if err != nil {
			return err
		}
		m.Links = append(m.Links, described)
		if err := a.link.Pin(pinPath(dir, linkPrefix+a.name)); err != nil {
			return fmt.Errorf("pin the link of %s: %w", a.name, err)
		}
	}
	return m.pin(dir)
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
	return pinnedLink{Name: program, ID: info.ID, Program: info.Program}, nil
}

func (m *manifest) pin(dir *os.File) error {
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
	if err := one.Pin(pinPath(dir, manifestName)); err != nil {
		return fmt.Errorf("pin the manifest: %w", err)
	}
	return nil
}

func readManifest(dir *os.File) (*manifest, error) {
	one, err := ebpf.LoadPinnedMap(pinPath(dir, manifestName), nil)
	if err != nil {
		return nil, fmt.Errorf("open the manifest: %w", err)
	}
	defer func() { _ = one.Close() }()
	if one.Type() != ebpf.Array || one.KeySize() != 4 || one.MaxEntries() != 1 || one.ValueSize() > maxManifest {
		return nil, errors.New("the manifest is another map")
	}
	text, err := one.LookupBytes(uint32(0))
	if err != nil {
		return nil, fmt.Errorf("read the manifest: %w", err)
	}
	return parseManifest(text)
}

func parseManifest(text []byte) (*manifest, error) {
	var m manifest
	if err := json.Unmarshal(text, &m); err != nil {
		return nil, fmt.Errorf("read the manifest: %w", err)
	}
	if m.Format > manifestFormat {
		return nil, fmt.Errorf("format %d, and this version reads %d: %w", m.Format, manifestFormat, ErrNewerPins)
	}
	if m.Format != manifestFormat {
		return nil, fmt.Errorf("manifest of format %d", m.Format)
	}
	return &m, nil
}

// find goes on with pins of this content, if there are any that are whole, and opens all others: their hooks are there
// until ours are. That pins cannot be used is no error: Pins tells.
func (s *Sensor) find(spec *ebpf.CollectionSpec, o *Options, content string) error {
	names, err := list(s.store)
	if err != nil {
		return err
	}
	for _, name := range names {
		dir, err := openDir(int(s.store.Fd()), name)
		if err != nil { // nobody's pins: left alone
			s.pins.Err = errors.Join(s.pins.Err, err)
			continue
		}
		m, err := readManifest(dir)
		if errors.Is(err, ErrNewerPins) {
			_ = dir.Close()
			return fmt.Errorf("the pins %s have %w", filepath.Join(o.Pin, name), err)
		}
		if err == nil && m.Content == content && !o.Unpin && !s.pins.Resumed {
			if err = s.resume(spec, o, dir, m); err == nil {
				s.pins.Resumed = true
				_ = dir.Close()
				continue
			}
			err = fmt.Errorf("not gone on with: %w", err)
		}
		g, openErr := openGeneration(spec, dir, m, o.Layout)
		s.old = append(s.old, g)
		if err = errors.Join(err, openErr); err != nil {
			s.pins.Err = errors.Join(s.pins.Err, fmt.Errorf("pins of the sensor before, %s: %w", name, err))
		}
	}
	s.pins.Replaced = len(s.old)
	return s.order()
}

// resume goes on with these pins. On error s is as it was before.
func (s *Sensor) resume(spec *ebpf.CollectionSpec, o *Options, dir *os.File, m *manifest) (err error) {
	k := kernelSide{programs: map[string]*ebpf.Program{}, hooks: m.Hooks}
	shared := map[string]*ebpf.Map{}
	defer func() {
		for _, one := range shared {
			_ = one.Close() // the collection has its own
		}
		if err != nil {
			_ = k.detach()
			_ = k.unload()
		}
	}()
	for name, want := range spec.Maps {
		if pinned(name) {
			one, err := loadMap(dir, m, name, want)
			if err != nil {
				return err
			}
			shared[name] = one
		}
	}
	// The iterator is attached for each walk, so it is loaded anew, over these maps.
	only := map[string]*ebpf.ProgramSpec{existingProgram: spec.Programs[existingProgram]}
	if k.collection, err = load(spec, o, shared, only); err != nil {
		return fmt.Errorf("use the pinned maps: %w", err)
	}
	k.programs[existingProgram] = k.collection.Programs[existingProgram]
	for _, want := range m.Links {
		if err := k.reopen(dir, want); err != nil {
			return err
		}
	}
	if err := k.collection.Variables["existing_again"].Set(false); err != nil {
		return err
	}
	l, err := openLedger(k.table(ledgerName))
	if err != nil {
		return err
	}
	r, err := openRing(k.table("ring"))
	if err != nil {
		return err
	}
	s.kernel, s.ledger, s.ring = k, l, r
	for _, lost := range r.lost {
		err = l.add(lost.id(), -lost.Count)
	}
	r.release()
	return err
}

// reopen opens a pinned link and its program.
func (k *kernelSide) reopen(dir *os.File, want pinnedLink) error {
	l, err := link.LoadPinnedLink(pinPath(dir, linkPrefix+want.Name), nil)
	if err != nil {
		return fmt.Errorf("open the pinned link of %s: %w", want.Name, err)
	}
	k.attached = append(k.attached, attachment{name: want.Name, link: l, close: l.Close})
	is, err := describe(want.Name, l)
	if err != nil {
		return err
	}
	if is != want {
		return fmt.Errorf("the pinned link of %s is another", want.Name)
	}
	p, err := ebpf.NewProgramFromID(want.Program)
	if err != nil {
		return fmt.Errorf("open the program %s: %w", want.Name, err)
	}
	program, _, _ := strings.Cut(want.Name, "-")
	k.programs[program] = p // any of those with many calls
	k.reopened = append(k.reopened, p)
	return nil
}
