// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// A kernelSide is what is loaded and attached: tables, programs and hooks.
type kernelSide struct {
	collection *ebpf.Collection
	formed     []*ebpf.Collection // those of the hooks that come in two forms
	programs   map[string]*ebpf.Program
	reopened   []*ebpf.Program // of the pins
	attached   []attachment
	hooks      []Hook

	closeEvents func([]*os.File) // Options.CloseEvents
}

type attachment struct {
	name  string    // the program, or with its call behind a hyphen, as one program may have many
	link  link.Link // nil: it has none, and cannot be pinned
	close func() error
	event *os.File // what it is attached to, to be closed after it; nil: nothing, or closed with it
}

// table is one of the maps that all programs share.
func (k *kernelSide) table(name string) *ebpf.Map { return k.collection.Maps[name] }

// loadCommon loads the tables, and the programs that have one form only; it fills in what the options list.
func (k *kernelSide) loadCommon(spec *ebpf.CollectionSpec, o *Options) (err error) {
	common := *spec
	common.Programs = maps.Clone(spec.Programs)
	for _, group := range formGroups {
		for name := range group.programs() {
			delete(common.Programs, name)
		}
	}
	if o.NoNames {
		delete(common.Programs, packetOut)
		delete(common.Programs, packetIn)
	}
	k.collection, err = ebpf.NewCollectionWithOptions(&common, ebpf.CollectionOptions{
		Programs: ebpf.ProgramOptions{KernelTypes: o.kernel}, Cache: o.types,
	})
	if err != nil {
		return fmt.Errorf("load the kernel programs: %w", err)
	}
	for name, program := range k.collection.Programs {
		k.programs[name] = program
	}
	for _, name := range o.EnvNames {
		var key [MaxEnvName + 1]byte
		copy(key[:], name)
		if err := k.table("env_names").Put(key, uint8(1)); err != nil {
			return fmt.Errorf("list the environment variable %s: %w", name, err)
		}
	}
	for _, p := range o.Programs {
		var key [MaxProgramName + 1]byte
		copy(key[:], p.Name)
		match := uint8(1) // enum name_match
		if p.Stem {
			match = 3
		}
		if err := k.table("agent_names").Put(key, match); err != nil {
			return fmt.Errorf("look for programs named %s: %w", p.Name, err)
		}
	}
	for key, path := range noisePaths(o.Noise) {
		if err := k.table("noise").Put(key, path); err != nil {
			return fmt.Errorf("list the paths that every program reads: %w", err)
		}
	}
	return nil
}

func (k *kernelSide) attachCommon(cgroupRoot string) error {
	for _, h := range commonHooks {
		program := k.programs[h.program]
		if program == nil { // not asked for
			continue
		}
		var l link.Link
		var err error
		form := "btf tracepoint"
		if program.Type() == ebpf.Tracing {
			l, err = link.AttachTracing(link.TracingOptions{Program: program})
		} else {
			form = "cgroup"
			l, err = link.AttachCgroup(link.CgroupOptions{Path: cgroupRoot, Attach: h.cgroup, Program: program})
		}
		k.hooks = append(k.hooks, hookOf(h.program, h.target, form, err))
		if err != nil {
			return fmt.Errorf("attach %s to %s: %w", h.program, h.target, err)
		}
		k.attached = append(k.attached, attachment{name: h.program, link: l, close: l.Close})
	}
	k.hooks = append(k.hooks, Hook{Name: existingProgram, Target: "task", Form: "iterator", Attached: true})
	return nil
}

// attachForms loads and attaches the groups side by side: most of the time goes into the kernel's checks.
func (k *kernelSide) attachForms(spec *ebpf.CollectionSpec, o *Options) error {
	parts, errs := make([]kernelSide, len(formGroups)), make([]error, len(formGroups))
	var all sync.WaitGroup
	for i := range formGroups {
		parts[i] = kernelSide{collection: k.collection, programs: map[string]*ebpf.Program{}}
		all.Go(func() { errs[i] = parts[i].attachForm(spec, &formGroups[i], o) })
	}
	all.Wait()
	for i := range parts { // of those that failed, too: to be closed
		k.formed = append(k.formed, parts[i].formed...)
		maps.Copy(k.programs, parts[i].programs)
		k.attached = append(k.attached, parts[i].attached...)
		k.hooks = append(k.hooks, parts[i].hooks...)
	}
	return cmp.Or(errs...)
}

func (k *kernelSide) attachForm(spec *ebpf.CollectionSpec, g *formGroup, o *Options) error {
	var trampolineErr error
	if o.Form != FormTracepoint {
		if trampolineErr = k.attachTrampolines(spec, g, o); trampolineErr == nil {
			for _, h := range g.besideTrampoline {
				k.attachBeside(spec, h, o, string(FormTrampoline))
			}
			return nil
		}
		if o.Form == FormTrampoline && !g.orTracepoints {
			return fmt.Errorf("attach the %s hook as a trampoline (try the form %q): %w",
				g.name, FormTracepoint, trampolineErr)
		}
	}
	if err := k.attachTracepoints(spec, g, o); err != nil {
		return errors.Join(fmt.Errorf("attach the %s hook to tracepoints: %w", g.name, err), trampolineErr)
	}
	return nil
}

// load loads programs on top of maps that are there.
func load(
	spec *ebpf.CollectionSpec, o *Options, all map[string]*ebpf.Map, programs map[string]*ebpf.ProgramSpec,
) (*ebpf.Collection, error) {
	shared := map[string]*ebpf.Map{}
	for name, m := range all {
		if spec.Maps[name] != nil {
			shared[name] = m
		}
	}
	part := *spec // to load changes nothing in it
	part.Programs = programs
	return ebpf.NewCollectionWithOptions(&part, ebpf.CollectionOptions{
		MapReplacements: shared, Programs: ebpf.ProgramOptions{KernelTypes: o.kernel}, Cache: o.types,
	})
}

// attachTrampolines attaches all of a group, or none.
func (k *kernelSide) attachTrampolines(spec *ebpf.CollectionSpec, g *formGroup, o *Options) error {
	targets := map[string]string{}
	for _, h := range g.trampolines {
		target, err := o.kernelFunction(h.targets)
		if err != nil {
			return err
		}
		targets[h.program] = target
	}
	if err := k.attachTracing(spec, targets, o); err != nil {
		return withoutMemlockHint(err)
	}
	for _, h := range g.trampolines {
		k.hooks = append(k.hooks, Hook{
			Name: h.program, Target: targets[h.program], Form: string(FormTrampoline), Attached: true,
		})
	}
	return nil
}

// attachTracing loads programs for their targets and attaches them: some kernels load what they cannot attach. On error
// none stays attached.
func (k *kernelSide) attachTracing(spec *ebpf.CollectionSpec, targets map[string]string, o *Options) error {
	names := slices.Sorted(maps.Keys(targets))
	programs := map[string]*ebpf.ProgramSpec{}
	for _, name := range names {
		programs[name] = spec.Programs[name].Copy()
		programs[name].AttachTo = targets[name]
	}
	c, err := load(spec, o, k.collection.Maps, programs)
	if err != nil {
		return err
	}
	// All at once, because the kernel waits for some.
	links, errs := make([]link.Link, len(names)), make([]error, len(names))
	var all sync.WaitGroup
	for i, name := range names {
		all.Go(func() {
			l, err := link.AttachTracing(link.TracingOptions{Program: c.Programs[name]})
			if err != nil {
				errs[i] = fmt.Errorf("attach %s to %s: %w", name, targets[name], err)
				return
			}
			links[i] = l
		})
	}
	all.Wait()
	if err = errors.Join(errs...); err != nil {
		for _, l := range links {
			if l != nil {
				err = errors.Join(err, l.Close())
			}
		}
		c.Close()
		return err
	}
	k.formed = append(k.formed, c)
	for i, name := range names {
		k.programs[name] = c.Programs[name]
		k.attached = append(k.attached, attachment{name: name, link: links[i], close: links[i].Close})
	}
	return nil
}

func (k *kernelSide) attachTracepoints(spec *ebpf.CollectionSpec, g *formGroup, o *Options) error {
	fs, err := openTracefs()
	if err != nil {
		return err
	}
	defer fs.close()
	programs := map[string]*ebpf.ProgramSpec{}
	for _, h := range g.tracepoints {
		programs[h.program] = spec.Programs[h.program]
	}
	c, err := load(spec, o, k.collection.Maps, programs)
	if err != nil {
		return err
	}
	k.formed = append(k.formed, c)
	// All at once, because the kernel waits for each.
	attached, errs := make([]attachment, len(g.tracepoints)), make([]error, len(g.tracepoints))
	var all sync.WaitGroup
	for i, h := range g.tracepoints {
		all.Go(func() {
			attached[i], errs[i] = fs.attach("syscalls", "sys_exit_"+h.call, h.name(), c.Programs[h.program])
		})
	}
	all.Wait()
	for i, h := range g.tracepoints {
		target := "sys_exit_" + h.call
		hook := hookOf(h.program, target, string(FormTracepoint), errs[i])
		switch {
		case errs[i] == nil:
			k.programs[h.program] = c.Programs[h.program]
			k.attached = append(k.attached, attached[i])
		case h.optional && errors.Is(errs[i], os.ErrNotExist):
			hook.Note = "this kernel has no such system call"
		default:
			err = errors.Join(err, fmt.Errorf("attach %s to %s: %w", h.program, target, errs[i]))
		}
		k.hooks = append(k.hooks, hook)
	}
	if err != nil {
		return err
	}
	for _, h := range g.besideTracepoints {
		k.attachBeside(spec, h, o, "btf tracepoint")
	}
	return nil
}

func (k *kernelSide) attachBeside(spec *ebpf.CollectionSpec, h besideHook, o *Options, form string) {
	target, err := h.target(o)
	if err == nil {
		err = k.attachTracing(spec, map[string]string{h.program: target}, o)
	}
	hook := hookOf(h.program, target, form, err)
	if err != nil {
		hook.Note = h.note
	}
	k.hooks = append(k.hooks, hook)
}

func hookOf(program, target, form string, err error) Hook {
	h := Hook{Name: program, Target: target, Form: form, Attached: err == nil}
	if err != nil {
		h.Err = err.Error()
	}
	return h
}

// detach detaches every hook; what is in the ring can still be read. All at once, because the kernel
// waits some 20 ms for each until nobody runs it any more. Hooks that are pinned stay.
func (k *kernelSide) detach() error {
	var events []*os.File
	errs := make([]error, len(k.attached))
	var all sync.WaitGroup
	for i, a := range k.attached {
		all.Go(func() { errs[i] = a.close() })
		if a.event != nil {
			events = append(events, a.event)
		}
	}
	all.Wait()
	k.attached = nil
	switch {
	case len(events) == 0:
	case k.closeEvents != nil:
		k.closeEvents(events)
	default:
		for _, e := range events {
			errs = append(errs, e.Close())
		}
	}
	return errors.Join(errs...)
}

// unload is called when everything is detached.
func (k *kernelSide) unload() (err error) {
	for _, c := range k.formed {
		c.Close()
	}
	for _, p := range k.reopened {
		err = errors.Join(err, p.Close())
	}
	if k.collection != nil {
		k.collection.Close()
	}
	return err
}
