// SPDX-License-Identifier: Apache-2.0

// Package bpf is the kernel side: the programs, the record layout, and the Sensor that
// loads, attaches and reads them. It knows nothing of sandboxes beyond the cgroup ids it
// is told to watch and the names of the programs it is told to follow, and nothing of spans.
package bpf

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/features"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/ringbuf"
	"github.com/cilium/ebpf/rlimit"
)

// WatchFlags tell what is done with a cgroup.
type WatchFlags uint32

const (
	// WatchTasks: what tasks in the cgroup do is recorded. Directories made below it inherit it.
	WatchTasks WatchFlags = 1
	// WatchChildren: directories made in it are watched from their first instant, provisionally:
	// the caller learns of each by a RECORD_CGROUP_MKDIR and takes back what it did not want.
	WatchChildren WatchFlags = 2
	// WatchProvisional: the watch may be taken back. Processes that come from elsewhere in a sandbox are followed then.
	WatchProvisional WatchFlags = 4
)

// Limits on what one record can be; longer ones never come from the kernel.
const (
	// MaxRecord is the largest record in bytes.
	MaxRecord = 32 << 10
	// MaxEnvName is the longest name of an environment variable that can be asked for, in bytes.
	MaxEnvName = 31
	// MaxEnvNames is how many can be.
	MaxEnvNames = 256
	// MaxProgramName is the longest base name of a program that can be looked for, in bytes; longer ones never match.
	MaxProgramName = 63
	// MaxProgramNames is how many can be.
	MaxProgramNames = 512
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
	// Noise are patterns of paths that every program reads, as docs/spans.md has them. Such reads are left out before others when
	// the ring fills. Patterns that the kernel side cannot take mean nothing to it.
	Noise []string
	// Form of the hooks that come in two; FormAuto by default.
	Form Form
	// CompatCalls makes the tracepoint form also see opens, and connects of unix and vsock sockets, by 32-bit system
	// calls; other 32-bit calls it does not see. It costs every system call of the host some 100 ns more.
	CompatCalls bool
	// EnvNames are the environment variables whose values an exec record carries.
	EnvNames []string
	// Programs are looked for everywhere on the host, and followed with all that they start: what their exec is flagged
	// with (EXEC_FOUND) is a suspicion, which Unfollow takes back. In sandboxes it is flagged, too.
	Programs []ProgramName
	// MaxCgroups and MaxProcesses bound the kernel's tables; 16384 and 65536 by default.
	MaxCgroups   int
	MaxProcesses int

	// Pin is a directory on a bpf file system where hooks, tables and ring are kept for the next process; it is made if it is not
	// there. "": they end with this one.
	Pin string
	// Unpin: what is found there is taken over, and nothing is left there.
	Unpin bool
	// Scope stands for what else decides about what is watched: pins of another scope are not gone on with.
	Scope string

	// entries are the sizes of tables, where a test wants other ones.
	entries map[string]uint32
	// kernel are the kernel's types: read once, for that takes some 30 ms. nil: it has none that could be read.
	kernel *btf.Spec

	// noop attaches programs that return at once, as the baseline of the benchmark.
	noop bool
}

// ProgramName is the base name of an executable.
type ProgramName struct {
	Name string
	// Stem: the names of versions, too, in which a digit, a dot or a dash follows (python3.11); Name has at most 15 bytes then.
	Stem bool
}

// Sensor is the loaded and attached kernel side. Read is for one goroutine; the other methods
// may be called from any.
type Sensor struct {
	collection *ebpf.Collection
	formed     []*ebpf.Collection
	attached   []attachment
	programs   map[string]*ebpf.Program
	reopened   []*ebpf.Program // of the pins
	reader     *ringbuf.Reader
	record     ringbuf.Record
	hooks      []Hook
	finds      bool // programs by name

	unpin   bool // nothing is to be left in the store
	pins    Pins
	store   *pinStore         // nil: nothing is pinned
	account *account          // the same
	began   bool              // it says that this process reads
	place   *place            // the same
	last    uint64            // Last
	told    map[lossID]uint64 // what is in the account
	// before is what processes before told of the losses of this kernel side, less what is owed of those that it replaced: it wraps.
	before   map[lossID]uint64
	beforeMu sync.Mutex

	previous []*previous // to be read first
	cut      *cut        // from the one that was read last; nil: there is none, or that is over
	found    [][]byte    // to be read next
}

// existingProgram is the one that is attached for each walk only.
const existingProgram = "process_existing"

type attachment struct {
	program string
	link    link.Link // nil: it has none, and cannot be pinned
	close   func() error
}

// Load loads the programs and attaches them. On error nothing stays attached. It needs BTF of the kernel, and CAP_BPF, CAP_PERFMON and
// CAP_NET_ADMIN, for each of which to bpf(2) CAP_SYS_ADMIN stands, too. The tracepoint form reads files of tracefs that
// are root's: somebody else needs CAP_DAC_READ_SEARCH; and where tracefs is not mounted, CAP_SYS_ADMIN.
func Load(o Options) (_ *Sensor, err error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	if err := rlimit.RemoveMemlock(); err != nil {
		return nil, fmt.Errorf("raise the limit on locked memory (needs root or CAP_SYS_RESOURCE on kernels before 5.11): %w", err)
	}
	spec, err := o.spec()
	if err != nil {
		return nil, err
	}
	s := &Sensor{programs: map[string]*ebpf.Program{}, before: map[lossID]uint64{}, told: map[lossID]uint64{}, finds: len(o.Programs) > 0}
	defer func() {
		if err != nil {
			err = errors.Join(explain(err), s.Close())
		}
	}()
	var content, records string
	if o.Pin != "" {
		records = formatOf(spec)
		if content, err = o.contentOf(spec); err != nil {
			return s, err
		}
		resumed, err := s.takeUp(spec, &o, content, records)
		if err != nil {
			return s, err
		}
		if resumed {
			return s, nil
		}
	}
	if err := s.attachAll(spec, &o); err != nil {
		return s, err
	}
	if err := s.adoptTables(s.previous); err != nil {
		return s, err
	}
	if s.store != nil && !o.Unpin {
		if err := s.keep(content, records); err != nil {
			return s, err
		}
	}
	return s, nil
}

// takeUp looks at what is pinned. It says whether that is all that is needed. That pins cannot be used is no error: Pins tells.
func (s *Sensor) takeUp(spec *ebpf.CollectionSpec, o *Options, content, records string) (resumed bool, err error) {
	if s.store, err = openPins(o.Pin, !o.Unpin); err != nil {
		if s.store = nil; !o.Unpin || !errors.Is(err, os.ErrNotExist) {
			s.pins.Err = err
		}
		return false, nil
	}
	s.unpin = o.Unpin
	if err = errNoPins; !o.Unpin {
		err = s.resume(spec, o, content)
	}
	if resumed = err == nil; !resumed && !errors.Is(err, errNoPins) {
		s.pins.Err = fmt.Errorf("pins of the sensor before are not gone on with: %w", err)
	}
	ours := content
	if !resumed {
		// Whatever lies under our name has to make room.
		ours = ""
		if err := s.store.putAside(content[:32]); err != nil {
			return false, err
		}
	}
	if s.previous, err = s.findPrevious(ours, records); err != nil {
		s.pins.Err = errors.Join(s.pins.Err, err)
	}
	s.pins.Replaced = len(s.previous)
	if err := s.order(); err != nil {
		return false, err
	}
	if !resumed {
		return false, nil
	}
	if err := s.collection.Variables["existing_again"].Set(false); err != nil {
		return false, err
	}
	if s.reader, err = ringbuf.NewReader(s.collection.Maps["ring"]); err != nil {
		return false, fmt.Errorf("open the ring buffer: %w", err)
	}
	if s.place, err = newPlace(s.collection.Maps["ring"]); err != nil {
		return false, err
	}
	if s.before, err = s.account.read(); err != nil {
		return false, err
	}
	s.told = maps.Clone(s.before)
	s.pins.Dir, s.pins.Resumed, s.pins.Backlog = o.Pin, true, s.reader.AvailableBytes()
	if s.last, s.pins.Starts, err = s.account.start(); err != nil {
		return false, err
	}
	now, err := boottime()
	if s.last > 0 && s.last < now {
		s.pins.Gap = time.Duration(now - s.last)
	}
	return true, err
}

// keep pins what was attached, beside what it replaces. That it cannot be pinned is no error: Pins tells.
func (s *Sensor) keep(content, records string) error {
	var err error
	if s.account, err = newAccount(); err != nil {
		return err
	}
	if len(s.previous) > 0 {
		// Those who read it go on from those who read what it replaces.
		var starts uint64
		for _, p := range s.previous {
			n, err := p.account.get(stateStarts)
			if err != nil {
				return err
			}
			starts = max(starts, n)
		}
		if err := errors.Join(s.account.set(stateFrom, notYet), s.account.set(stateStarts, starts)); err != nil {
			return err
		}
	}
	if err := s.pinAll(content, records); err != nil {
		s.pins.Err = errors.Join(s.pins.Err, err)
		err = s.account.Close()
		s.account = nil
		return err
	}
	s.pins.Dir = s.store.dir
	if s.place, err = newPlace(s.collection.Maps["ring"]); err != nil {
		return err
	}
	_, s.pins.Starts, err = s.account.start()
	return err
}

// Pins tells what of this sensor outlives the process, and what it found.
func (s *Sensor) Pins() Pins { return s.pins }

// attachAll loads and attaches everything anew.
func (s *Sensor) attachAll(spec *ebpf.CollectionSpec, o *Options) (err error) {
	common := spec.Copy()
	for _, group := range formGroups {
		for name := range group.programs() {
			delete(common.Programs, name)
		}
	}
	s.collection, err = ebpf.NewCollectionWithOptions(common, ebpf.CollectionOptions{Programs: ebpf.ProgramOptions{KernelTypes: o.kernel}})
	if err != nil {
		return fmt.Errorf("load the kernel programs: %w", err)
	}
	for name, program := range s.collection.Programs {
		s.programs[name] = program
	}
	for _, name := range o.EnvNames {
		var key [MaxEnvName + 1]byte
		copy(key[:], name)
		if err := s.collection.Maps["env_names"].Put(key, uint8(1)); err != nil {
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
		if err := s.collection.Maps["agent_names"].Put(key, match); err != nil {
			return fmt.Errorf("look for programs named %s: %w", p.Name, err)
		}
	}
	for key, path := range noisePaths(o.Noise) {
		if err := s.collection.Maps["noise"].Put(key, path); err != nil {
			return fmt.Errorf("list the paths that every program reads: %w", err)
		}
	}
	// Before any hook is attached, so that what the first one sends is counted if nobody reads.
	s.reader, err = ringbuf.NewReader(s.collection.Maps["ring"])
	if err != nil {
		return fmt.Errorf("open the ring buffer: %w", err)
	}
	if err := s.expectFollowed(s.previous); err != nil {
		return err
	}
	if err := s.attachCommon(o.CgroupRoot); err != nil {
		return err
	}
	return s.attachForms(spec, o)
}

func (o *Options) complete() error {
	o.kernel, _ = btf.LoadKernelSpec() // without it loading fails, and says why
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
		return fmt.Errorf("budget of a sandbox %d: must be from %d bytes to the size of the ring", o.BudgetBytes, minRing/8)
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
	for name, value := range map[string]any{
		"uring_request":        uint32(request),
		"root_is_one_argument": o.rootIsOneArgument(),
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

// Watch sets what is done with a cgroup, by its v2 id.
func (s *Sensor) Watch(cgroup uint64, flags WatchFlags) error {
	if err := s.collection.Maps["cgroups"].Put(cgroup, uint32(flags)); err != nil {
		return fmt.Errorf("watch cgroup %d: %w", cgroup, err)
	}
	return nil
}

// Watches says whether what tasks in a cgroup do is recorded.
func (s *Sensor) Watches(cgroup uint64) bool {
	var flags uint32
	return s.collection.Maps["cgroups"].Lookup(cgroup, &flags) == nil && WatchFlags(flags)&WatchTasks != 0
}

// Within says in which sandbox, by the id of its topmost cgroup, a watched cgroup lies: they share one budget. Until that is said
// a cgroup has one of its own; directories made below it later share it.
func (s *Sensor) Within(cgroup, sandbox uint64) error {
	if err := s.collection.Maps["sandboxes"].Put(cgroup, sandbox); err != nil {
		return fmt.Errorf("say in which sandbox cgroup %d lies: %w", cgroup, err)
	}
	return nil
}

// Unwatch forgets a cgroup; one that is not watched is no error.
func (s *Sensor) Unwatch(cgroup uint64) error {
	for _, table := range []string{"cgroups", "sandboxes"} {
		err := s.collection.Maps[table].Delete(cgroup)
		if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("unwatch cgroup %d: %w", cgroup, err)
		}
	}
	return nil
}

// Read returns the next record, in the order in which the kernel reserved them. It reuses buf's
// memory when it is large enough; the result is the caller's until the next Read. It blocks until
// a record comes or the deadline passes (os.ErrDeadlineExceeded), a Flush was asked for and everything
// before it was read (ringbuf.ErrFlushed), or the sensor is closed (os.ErrClosed).
//
// The kernel wakes the reader only when the ring fills: set a deadline of some milliseconds to poll.
func (s *Sensor) Read(buf []byte) ([]byte, error) {
	s.record.RawSample = buf[:0]
	if err := s.begin(); err != nil {
		return nil, err
	}
	if len(s.previous) > 0 {
		err := s.handOver()
		if err == nil {
			return s.record.RawSample, nil
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return nil, err
		}
	}
	for {
		if len(s.found) > 0 {
			raw := append(s.record.RawSample[:0], s.found[0]...)
			s.found = s.found[1:]
			return raw, nil
		}
		err := s.reader.ReadInto(&s.record)
		switch {
		case s.cut == nil && err == nil, err == nil && s.cut.new(s.record.RawSample):
			return s.record.RawSample, nil
		case err == nil:
			continue
		}
		// The ring was empty, and that after the cut.
		if s.endCut(); len(s.found) == 0 {
			return nil, err
		}
	}
}

// SetDeadline bounds the Reads to come; the zero time means none.
func (s *Sensor) SetDeadline(t time.Time) { s.reader.SetDeadline(t) }

// Flush makes the reader return ringbuf.ErrFlushed once the ring is empty.
func (s *Sensor) Flush() error { return s.reader.Flush() }

// RingFill is how full the ring is, in bytes of its size.
func (s *Sensor) RingFill() (used, size int) {
	return s.reader.AvailableBytes(), s.reader.BufferSize()
}

// Follows says whether a process is watched by lineage, wherever it is.
func (s *Sensor) Follows(tgid uint32) bool {
	var start uint64
	return s.collection.Maps["followed"].Lookup(tgid, &start) == nil && start != 0
}

// Unfollow ends the watching of a process by lineage, not that of its children; one that is not followed is no error.
func (s *Sensor) Unfollow(tgid uint32) error {
	// The kernel side counts the entries: it alone removes them, when the process ends.
	err := s.collection.Maps["followed"].Update(tgid, uint64(0), ebpf.UpdateExist)
	if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("unfollow process %d: %w", tgid, err)
	}
	return nil
}

// Follow takes an Unfollow back. It says whether there was one.
func (s *Sensor) Follow(tgid uint32, start uint64) (bool, error) {
	followed := s.collection.Maps["followed"]
	var was uint64
	err := followed.Lookup(tgid, &was)
	if err == nil && was == 0 {
		if err = followed.Update(tgid, start, ebpf.UpdateExist); err == nil {
			return true, nil
		}
	}
	if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return false, fmt.Errorf("follow process %d: %w", tgid, err)
	}
	return false, nil
}

// existingPasses bounds the search for processes below agents whose pids are lower than those of their parents.
const existingPasses = 8

// Existing yields a RECORD_PROCESS for every process that is in a watched cgroup now, that has one of Options.Programs' names, or
// that is below such a one, and makes the kernel side know them. The slice is valid during the call only.
func (s *Sensor) Existing(yield func(raw []byte) error) error {
	if !s.finds {
		return s.iterate(yield)
	}
	again := s.collection.Variables["existing_again"]
	defer func() { _ = again.Set(false) }()
	for range existingPasses {
		told := 0
		err := s.iterate(func(raw []byte) error {
			told++
			return yield(raw)
		})
		if err != nil || told == 0 {
			return err
		}
		if err := again.Set(true); err != nil {
			return fmt.Errorf("list processes once more: %w", err)
		}
	}
	return nil
}

func (s *Sensor) iterate(yield func(raw []byte) error) error {
	it, err := link.AttachIter(link.IterOptions{Program: s.programs[existingProgram]})
	if err != nil {
		return fmt.Errorf("attach the task iterator: %w", err)
	}
	defer it.Close()
	r, err := it.Open()
	if err != nil {
		return fmt.Errorf("open the task iterator: %w", err)
	}
	defer r.Close()
	return eachRecord(r, yield)
}

// Hooks tells what is attached, in a fixed order.
func (s *Sensor) Hooks() []Hook { return append([]Hook(nil), s.hooks...) }

// Detach detaches every hook; what is in the ring can still be read. All at once, because the kernel
// waits some 20 ms for each until nobody runs it any more. Hooks that are pinned stay.
func (s *Sensor) Detach() error {
	errs := make([]error, len(s.attached))
	var all sync.WaitGroup
	for i, a := range s.attached {
		all.Go(func() { errs[i] = a.close() })
	}
	all.Wait()
	s.attached = nil
	return errors.Join(errs...)
}

// Close detaches and unloads everything but what is pinned.
func (s *Sensor) Close() error {
	errs := []error{s.Detach()}
	if s.reader != nil {
		errs = append(errs, s.reader.Close())
	}
	for _, c := range s.formed {
		c.Close()
	}
	for _, p := range s.reopened {
		errs = append(errs, p.Close())
	}
	if s.collection != nil {
		s.collection.Close()
	}
	for _, p := range s.previous {
		p.close()
	}
	return errors.Join(append(errs, s.place.close(), s.account.Close(), s.store.close())...)
}
