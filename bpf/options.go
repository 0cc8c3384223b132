// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/features"
)

const (
	minRing = 64 << 10
	maxRing = 1 << 30
)

// Options say how to load. The zero value of each field but CgroupRoot means its default.
type Options struct {
	// CgroupRoot is where cgroup v2 is mounted; the connection hooks are attached there.
	CgroupRoot string
	// RingBytes is the size of the ring buffer, a power of two; 8 MiB by default.
	RingBytes int
	// BudgetBytes of the ring are what one sandbox may have in it before it loses what others may still send; half of
	// the ring by default, as much as it holds at most. See budget.h.
	BudgetBytes int
	// Noise are patterns of paths that every program reads, as docs/spans.md has them. Such reads are left out before
	// others when the ring fills. Patterns that the kernel side cannot take mean nothing to it.
	Noise []string
	// Form of the hooks that come in two; FormAuto by default.
	Form Form
	// CompatCalls makes the tracepoint form also see opens, execs that are refused, and connects of unix and vsock sockets, by
	// 32-bit system calls; other 32-bit calls it does not see. It costs every system call of the host some 100 ns more.
	CompatCalls bool
	// NoNames leaves out the hooks on packets: nothing is known of lookups and of the names of peers.
	NoNames bool
	// EnvNames are the environment variables whose values an exec record carries.
	EnvNames []string
	// Programs are looked for everywhere on the host, and followed with all that they start: what their exec is flagged
	// with (EXEC_FOUND) is a suspicion, which Unfollow takes back. In sandboxes it is flagged, too.
	Programs []ProgramName
	// MaxCgroups and MaxProcesses bound the kernel's tables; 16384 and 65536 by default.
	MaxCgroups   int
	MaxProcesses int

	// Pin is a directory on a bpf file system where hooks, tables and ring are kept for the next process; it is made
	// if it is not there. "": they end with this one.
	Pin string
	// Unpin: what is found there is taken over, and nothing is left there.
	Unpin bool
	// Layout is the number of the layout of the records: what lies in the rings of pins of another one cannot be read.
	Layout int
	// Scope stands for what else decides about what is watched: pins of another scope are not gone on with.
	Scope string

	// CloseEvents closes these files, once nothing is attached to them any more, in Close and when Load fails. Whoever
	// closes the last descriptor of one waits some 30 ms in the kernel, for one file after the other: a process that has
	// descriptors of its own can be that one. nil: they are just closed.
	CloseEvents func(events []*os.File)

	// entries are the sizes of tables, where a test wants other ones.
	entries map[string]uint32
	// types has the kernel's types: read once, for that takes some 30 ms. kernel is nil if it has none that could be read.
	types  *btf.Cache
	kernel *btf.Spec

	// noop attaches programs that return at once, as the baseline of the benchmark.
	noop bool
}

// ProgramName is the base name of an executable.
type ProgramName struct {
	Name string
	// Stem: the names of versions, too, in which a digit, a dot or a dash follows (python3.11); Name has at most 15
	// bytes then.
	Stem bool
}

func (o *Options) complete() error {
	o.types = btf.NewCache()
	o.kernel, _ = o.types.Kernel() // without it loading fails, and says why
	if o.CgroupRoot == "" {
		return errors.New("no cgroup v2 mount given")
	}
	if o.RingBytes == 0 {
		o.RingBytes = 8 << 20
	}
	if o.RingBytes < minRing || o.RingBytes > maxRing || o.RingBytes&(o.RingBytes-1) != 0 {
		return fmt.Errorf("ring size %d: must be a power of two from %d to %d bytes", o.RingBytes, minRing, maxRing)
	}
	if o.BudgetBytes == 0 {
		o.BudgetBytes = o.RingBytes / 2
	}
	if o.BudgetBytes < minRing/8 || o.BudgetBytes > o.RingBytes {
		return fmt.Errorf("budget of a sandbox %d: must be from %d bytes to the size of the ring",
			o.BudgetBytes, minRing/8)
	}
	switch o.Form {
	case "":
		o.Form = FormAuto
	case FormAuto, FormTrampoline, FormTracepoint:
	default:
		return fmt.Errorf("hook form %q: must be %s, %s or %s", o.Form, FormAuto, FormTrampoline, FormTracepoint)
	}
	if len(o.EnvNames) > MaxEnvNames {
		return fmt.Errorf("%d environment variables listed: at most %d can be", len(o.EnvNames), MaxEnvNames)
	}
	for _, name := range o.EnvNames {
		if name == "" || len(name) > MaxEnvName {
			return fmt.Errorf("environment variable %q: the name must have 1 to %d bytes", name, MaxEnvName)
		}
	}
	if len(o.Programs) > MaxProgramNames {
		return fmt.Errorf("%d programs to look for: at most %d can be", len(o.Programs), MaxProgramNames)
	}
	for _, p := range o.Programs {
		if limit := MaxProgramName; p.Name == "" || len(p.Name) > limit || p.Stem && len(p.Name) > 15 {
			return fmt.Errorf("program name %q: must have 1 to %d bytes, as a stem 15 at most", p.Name, limit)
		}
	}
	if o.MaxCgroups <= 0 {
		o.MaxCgroups = 16384
	}
	if o.MaxProcesses <= 0 {
		o.MaxProcesses = 65536
	}
	return nil
}

// hasType looks for a type of the kernel.
func (o *Options) hasType(name string, to any) bool {
	return o.kernel != nil && o.kernel.TypeByName(name, to) == nil
}

// spec is the object with what depends on the options and the kernel set in it.
func (o *Options) spec() (*ebpf.CollectionSpec, error) {
	spec, err := loadObject()
	if err != nil {
		return nil, fmt.Errorf("read the embedded object: %w", err)
	}
	spec.Maps[ledgerName] = ledgerSpec.Copy()
	spec.Maps["ring"].MaxEntries = uint32(o.RingBytes)
	spec.Maps["cgroups"].MaxEntries = uint32(o.MaxCgroups)
	spec.Maps["sandboxes"].MaxEntries = uint32(o.MaxCgroups)
	spec.Maps["watched"].MaxEntries = uint32(o.MaxProcesses)
	spec.Maps["followed"].MaxEntries = uint32(o.MaxProcesses)
	for name, n := range o.entries {
		spec.Maps[name].MaxEntries = n
	}

	loop := features.HaveProgramHelper(ebpf.RawTracepoint, asm.FnLoop) == nil
	current := features.HaveProgramHelper(ebpf.RawTracepoint, asm.FnGetCurrentTaskBtf) == nil
	registers := features.HaveProgramHelper(ebpf.RawTracepoint, asm.FnTaskPtRegs) == nil
	// Where there is none, the program is not attached.
	_, request, _ := o.ringRequest()
	var most [4]uint32 // in the order of enum held_table
	for i, name := range [...]string{"found_scratch", "talks", "pending", "connections"} {
		most[i] = max(spec.Maps[name].MaxEntries/4, 1)
	}
	for name, value := range map[string]any{
		"held_most":            most,
		"uring_request":        uint32(request),
		"root_is_one_argument": o.rootIsOneArgument(),
		"victim_is_task":       o.victimIsTask(),
		"user_names":           o.userNames(),
		"ftruncate_by_number":  len(o.params("do_ftruncate")) == 0,
		"listen_has_backlog":   len(o.params("inet_csk_listen_start")) == 2,
		// At a full core's rate the reader is awake long before the ring is full.
		"wake_bytes":        uint64(o.RingBytes) / 16,
		"ring_bytes":        uint64(o.RingBytes),
		"budget_bytes":      uint64(o.BudgetBytes),
		"host_mounts":       hostMounts(),
		"noise_own_proc":    slices.Contains(o.Noise, "/proc/self/**"),
		"have_bpf_loop":     loop,
		"have_task_btf":     current,
		"have_task_pt_regs": registers,
		"stack_bytes":       stackBytes(),
		"find_agents":       len(o.Programs) > 0,
		"names":             !o.NoNames,
	} {
		if err := spec.Variables[name].Set(value); err != nil {
			return nil, fmt.Errorf("set %s: %w", name, err)
		}
	}
	if o.noop {
		for _, program := range spec.Programs {
			// 1 lets a connect go on; to a tracing program it means nothing.
			program.Instructions = asm.Instructions{asm.LoadImm(asm.R0, 1, asm.DWord), asm.Return()}
			if program.Type == ebpf.Tracing {
				program.Instructions[0] = asm.LoadImm(asm.R0, 0, asm.DWord)
			}
		}
		return spec, nil
	}
	if !loop {
		for _, program := range spec.Programs {
			program.Instructions = withoutCallbacks(program.Instructions)
		}
	}
	return spec, nil
}

// stackBytes is the size of a task's kernel stack: 16 KiB on amd64, on arm64 that or a page where pages are larger
// (THREAD_SIZE in arch/arm64/include/asm/memory.h).
func stackBytes() uint32 { return uint32(max(16<<10, os.Getpagesize())) }

// withoutCallbacks replaces the loads of callback addresses by loads of zero, and leaves out the
// callbacks. The calls that would use them are never reached (have_bpf_loop), but a kernel that
// has no callbacks refuses the load itself wherever it stands.
func withoutCallbacks(instructions asm.Instructions) asm.Instructions {
	callbacks := map[string]bool{}
	for i, ins := range instructions {
		if ins.IsLoadOfFunctionPointer() {
			callbacks[ins.Reference()] = true
			zero := asm.LoadImm(ins.Dst, 0, asm.DWord)
			zero.Metadata = ins.Metadata
			instructions[i] = zero.WithReference("")
		}
	}
	kept := instructions[:0]
	within := false
	for _, ins := range instructions {
		if name := ins.Symbol(); name != "" {
			within = callbacks[name]
		}
		if !within {
			kept = append(kept, ins)
		}
	}
	return kept
}
