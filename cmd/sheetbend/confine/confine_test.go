// SPDX-License-Identifier: Apache-2.0

package confine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sheetbend/sheetbend/bpf"
	"github.com/sheetbend/sheetbend/collector/cgroup"
)

// asConfined makes the test binary a process that confines itself and then tries things: what is given up cannot be
// taken back.
const asConfined = "SHEETBEND_TEST_AS_CONFINED"

// An order is what that process is told.
type order struct {
	Needs   Needs
	Allowed string // a directory with a file and a directory
	Refused string // the same
	Ports   [2]int // that one may be connected to, and one that may not
	Other   int    // a process of another
	Proc    string // a file that only who may trace a process can read
}

// A reply is what it saw.
type reply struct {
	Report Report
	Status []string          // of each thread, what is of interest
	Tried  map[string]string // "" or the error
}

const (
	shmExec         = 0o100000  // SHM_EXEC
	readImpliesExec = 0x0400000 // READ_IMPLIES_EXEC of personality(2)
	fioSetOwn       = 0x8901    // FIOSETOWN of asm-generic/sockios.h
	setFlags        = 0x40086602
)

// Numbers that are the same on every architecture, newer than the package unix.
const (
	sysFchmodat2     = 452
	sysSetxattrat    = 463
	sysRemovexattrat = 466
	sysFileSetattr   = 469
)

// asLoader makes it one that loads and attaches all programs with some capabilities in effect.
const asLoader = "SHEETBEND_TEST_AS_LOADER"

func TestMain(m *testing.M) {
	if os.Getenv(asLoader) != "" {
		out, err := load()
		if err == nil {
			err = json.NewEncoder(os.Stdout).Encode(out)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if text := os.Getenv(asConfined); text != "" {
		var o order
		err := json.Unmarshal([]byte(text), &o)
		var r reply
		if err == nil {
			r, err = o.follow()
		}
		if err == nil {
			err = json.NewEncoder(os.Stdout).Encode(r)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func (o order) follow() (r reply, err error) {
	// Threads that are there before, one of them in a system call, and threads that come later.
	var wait sync.WaitGroup
	end := make(chan struct{})
	thread := func() {
		started := make(chan struct{})
		wait.Go(func() {
			runtime.LockOSThread()
			close(started)
			<-end
		})
		<-started
	}
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		return r, err
	}
	wait.Go(func() { _, _ = unix.Read(pipe[0], make([]byte, 1)) })
	for range 4 {
		thread()
	}
	segment, err := unix.SysvShmGet(unix.IPC_PRIVATE, os.Getpagesize(), unix.IPC_CREAT|0o700)
	if err != nil {
		return r, err
	}
	if _, err := unix.SysvShmCtl(segment, unix.IPC_RMID, nil); err != nil {
		return r, err
	}
	if r.Report, err = Apply(o.Needs); err != nil {
		return r, err
	}
	for range 4 {
		thread()
	}
	r.Tried = map[string]string{}
	try := func(what string, err error) {
		r.Tried[what] = ""
		if err != nil {
			r.Tried[what] = err.Error()
			if number, ok := errors.AsType[unix.Errno](err); ok {
				r.Tried[what] = unix.ErrnoName(number)
			}
		}
	}
	number := func(errno unix.Errno) error {
		if errno == 0 {
			return nil
		}
		return errno
	}
	call := func(nr uintptr, args ...uintptr) error {
		var a [6]uintptr
		copy(a[:], args)
		_, _, errno := unix.Syscall6(nr, a[0], a[1], a[2], a[3], a[4], a[5])
		return number(errno)
	}
	tasks, err := filepath.Glob("/proc/self/task/*/status")
	if err != nil {
		return r, err
	}
	for _, task := range tasks {
		text, err := os.ReadFile(task)
		if err != nil {
			return r, err
		}
		var of []string
		for line := range strings.Lines(string(text)) {
			for _, key := range []string{"CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:", "NoNewPrivs:", "Seccomp:"} {
				if value, ok := strings.CutPrefix(line, key); ok {
					of = append(of, key+strings.TrimSpace(value))
				}
			}
		}
		r.Status = append(r.Status, strings.Join(of, " "))
	}

	try("exec", unix.Exec("/bin/true", []string{"true"}, nil))
	try("fork", exec.Command("/bin/true").Run())
	pid, _, errno := unix.RawSyscall6(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
	if pid == 0 && errno == 0 {
		unix.Exit(0) // the process that should not be
	}
	try("a process by clone", number(errno))
	try("clone3", call(unix.SYS_CLONE3))
	try("ptrace", call(unix.SYS_PTRACE, unix.PTRACE_SEIZE, uintptr(o.Other)))
	try("process_vm_readv", call(unix.SYS_PROCESS_VM_READV, uintptr(o.Other)))
	try("mount", unix.Mount("none", o.Allowed, "tmpfs", 0, ""))
	try("unshare", unix.Unshare(unix.CLONE_NEWNS))
	try("load a program", call(unix.SYS_BPF, unix.BPF_PROG_LOAD))
	try("make a map", call(unix.SYS_BPF, unix.BPF_MAP_CREATE))
	// EFAULT or the like: let through to the kernel.
	try("look into a map", call(unix.SYS_BPF, unix.BPF_MAP_LOOKUP_ELEM))
	try("perf_event_open", call(unix.SYS_PERF_EVENT_OPEN))
	try("io_uring_setup", call(unix.SYS_IO_URING_SETUP))
	_, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW, 0)
	try("a packet socket", err)
	_, err = unix.Socket(unix.AF_VSOCK, unix.SOCK_STREAM, 0)
	try("a vsock socket", err)
	try("signal another", unix.Kill(o.Other, unix.SIGWINCH))
	try("signal itself", unix.Tgkill(os.Getpid(), unix.Gettid(), unix.SIGWINCH))
	_, err = unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM, 0) // one of which could send to any other
	try("a pair of sockets", err)
	var pair [2]int
	if err := unix.Pipe2(pair[:], unix.O_CLOEXEC); err != nil {
		return reply{}, err
	}
	_, err = unix.FcntlInt(uintptr(pair[0]), unix.F_GETFL, 0)
	try("ask for flags", err)
	_, err = unix.FcntlInt(uintptr(pair[0]), unix.F_SETOWN, o.Other)
	try("give a file to another", err)
	owner := struct{ kind, id int32 }{1, int32(o.Other)} // F_OWNER_PID
	try("give a file to another by F_SETOWN_EX", call(unix.SYS_FCNTL, uintptr(pair[0]), unix.F_SETOWN_EX, uintptr(unsafe.Pointer(&owner))))
	_, err = unix.FcntlInt(uintptr(pair[0]), unix.F_SETSIG, int(unix.SIGKILL))
	try("choose a file's signal", err)
	try("give a socket to another", unix.IoctlSetPointerInt(pair[0], fioSetOwn, o.Other))
	try("give a socket to another by SIOCSPGRP", unix.IoctlSetPointerInt(pair[0], unix.SIOCSPGRP, o.Other))
	_, err = unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	try("a unix socket", err)
	_, err = unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_ROUTE)
	try("a netlink socket", err)
	file := filepath.Join(o.Allowed, "other")
	opened, err := os.Open(file)
	if err != nil {
		return r, err
	}
	defer opened.Close()
	fd := int(opened.Fd())
	now := []unix.Timespec{{Sec: 1}, {Sec: 1}}
	try("chmod", unix.Chmod(file, 0o4755))
	try("fchmod", unix.Fchmod(fd, 0o4755))
	try("chown", unix.Chown(file, 1, 1))
	try("fchown", unix.Fchown(fd, 1, 1))
	try("lchown", unix.Lchown(file, 1, 1))
	try("utimensat", unix.UtimesNanoAt(unix.AT_FDCWD, file, now, 0))
	try("setxattr", unix.Setxattr(file, "user.x", []byte("x"), 0))
	try("fsetxattr", unix.Fsetxattr(fd, "user.x", []byte("x"), 0))
	try("removexattr", unix.Removexattr(file, "user.x"))
	try("chattr", unix.IoctlSetPointerInt(fd, setFlags, 0x10))
	for name, number := range map[string]uintptr{"fchmodat2": sysFchmodat2, "setxattrat": sysSetxattrat, "removexattrat": sysRemovexattrat, "file_setattr": sysFileSetattr} {
		try(name, call(number))
	}
	key := byte('x')
	try("type", call(unix.SYS_IOCTL, uintptr(pair[0]), unix.TIOCSTI, uintptr(unsafe.Pointer(&key))))
	listener, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	try("a socket", err)
	try("listen", unix.Listen(listener, 1))
	_, err = unix.Mmap(-1, 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_EXEC, unix.MAP_PRIVATE|unix.MAP_ANON)
	try("memory with code", err)
	page, err := unix.Mmap(-1, 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	try("memory", err)
	try("memory becomes code", unix.Mprotect(page, unix.PROT_READ|unix.PROT_EXEC))
	try("attach a segment with code", call(unix.SYS_SHMAT, uintptr(segment), 0, shmExec))
	try("let all that is read be code", call(unix.SYS_PERSONALITY, readImpliesExec))
	try("set the clock", unix.ClockSettime(unix.CLOCK_REALTIME, &unix.Timespec{Sec: 1}))

	for what, dir := range map[string]string{"": o.Allowed, " elsewhere": o.Refused} {
		_, err := os.ReadFile(filepath.Join(dir, "file"))
		try("read"+what, err)
		try("write"+what, os.WriteFile(filepath.Join(dir, "new"), []byte("x"), 0o600))
		try("truncate"+what, os.Truncate(filepath.Join(dir, "file"), 0))
		try("rename"+what, os.Rename(filepath.Join(dir, "file"), filepath.Join(dir, "dir", "file")))
		try("remove"+what, os.Remove(filepath.Join(dir, "other")))
		try("make a directory"+what, os.Mkdir(filepath.Join(dir, "made"), 0o700))
	}
	_, err = os.ReadFile(filepath.Join(o.Refused, "alone"))
	try("read a file alone", err)
	try("write a file alone", os.WriteFile(filepath.Join(o.Refused, "alone"), nil, 0o600))
	for i, what := range []string{"connect", "connect to another port"} {
		conn, err := net.Dial("tcp", "127.0.0.1:"+strconv.Itoa(o.Ports[i]))
		try(what, err)
		if err == nil {
			_ = conn.Close()
		}
	}
	if o.Proc != "" {
		_, err := os.Readlink(o.Proc)
		try("look into another process", err)
	}
	_, err = os.ReadFile("/proc/" + strconv.Itoa(o.Other) + "/stat")
	try("look at another process", err)

	close(end)
	if _, err := unix.Write(pipe[1], []byte{0}); err != nil {
		return r, err
	}
	wait.Wait()
	return r, nil
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("needs root")
		}
		t.Skip("needs root: there is nothing to give up otherwise")
	}
}

// give makes what the order is about, and has it followed.
func give(t *testing.T, o order) reply {
	t.Helper()
	for _, dir := range []*string{&o.Allowed, &o.Refused} {
		*dir = t.TempDir()
		for _, name := range []string{"file", "other", "alone"} {
			if err := os.WriteFile(filepath.Join(*dir, name), []byte("x"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Mkdir(filepath.Join(*dir, "dir"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for i := range o.Ports {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
		go func() {
			for c, err := l.Accept(); err == nil; c, err = l.Accept() {
				_ = c.Close()
			}
		}()
		o.Ports[i] = l.Addr().(*net.TCPAddr).Port
	}
	other := exec.Command("sleep", "600")
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = other.Process.Kill()
		_ = other.Wait()
	})
	o.Other, o.Proc = other.Process.Pid, fmt.Sprintf("/proc/%d/cwd", other.Process.Pid)
	o.Needs.Files = Files{Read: []string{"/proc", "/no/such/file", "/etc/passwd/below", filepath.Join(o.Refused, "alone")}, Write: []string{o.Allowed}, Ports: []uint16{uint16(o.Ports[0])}}

	text, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/proc/self/exe")
	cmd.Env = append(os.Environ(), asConfined+"="+string(text))
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var r reply
	if err := json.Unmarshal(out, &r); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return r
}

func TestAConfinedProcessKeepsOnlyWhatItNeedsInEveryThread(t *testing.T) {
	needRoot(t)
	r := give(t, order{Needs: Needs{Capabilities: Of(unix.CAP_DAC_READ_SEARCH), Sockets: Sockets{IP: true}}})
	if len(r.Status) < 9 {
		t.Errorf("only %d threads", len(r.Status))
	}
	const want = "CapInh:0000000000000000 CapPrm:0000000000000004 CapEff:0000000000000004 CapBnd:0000000000000000 CapAmb:0000000000000000 NoNewPrivs:1 Seccomp:2"
	for _, s := range r.Status {
		if s != want {
			t.Errorf("a thread has %s", s)
		}
	}
	if r.Report.Capabilities != Of(unix.CAP_DAC_READ_SEARCH) || !r.Report.Bounding || !r.Report.NoNewPrivs || !r.Report.Seccomp {
		t.Errorf("%+v", r.Report)
	}

	refused := map[string]string{
		"exec": "EPERM", "a process by clone": "EPERM", "clone3": "ENOSYS", "ptrace": "EPERM", "process_vm_readv": "EPERM", "mount": "EPERM", "unshare": "EPERM",
		"load a program": "EPERM", "make a map": "EPERM", "perf_event_open": "EPERM", "io_uring_setup": "EPERM", "a packet socket": "EPERM", "a vsock socket": "EPERM",
		"signal another": "EPERM", "memory with code": "EPERM", "memory becomes code": "EPERM", "set the clock": "EPERM",
		"attach a segment with code": "EPERM", "let all that is read be code": "EPERM", "a pair of sockets": "EPERM", "listen": "EPERM",
		"give a file to another": "EPERM", "give a file to another by F_SETOWN_EX": "EPERM", "choose a file's signal": "EPERM",
		"give a socket to another": "EPERM", "give a socket to another by SIOCSPGRP": "EPERM", "type": "EPERM",
		"a unix socket": "EPERM", "a netlink socket": "EPERM",
		"chmod": "EPERM", "fchmod": "EPERM", "fchmodat2": "EPERM", "chown": "EPERM", "fchown": "EPERM", "lchown": "EPERM", "utimensat": "EPERM",
		"setxattr": "EPERM", "fsetxattr": "EPERM", "setxattrat": "EPERM", "removexattr": "EPERM", "removexattrat": "EPERM", "file_setattr": "EPERM", "chattr": "EPERM",
	}
	allowed := []string{"memory", "signal itself", "ask for flags", "a socket", "read", "write", "truncate", "remove", "make a directory", "rename", "read a file alone", "connect", "look at another process"}
	version, err := LandlockVersion()
	t.Logf("Landlock: version %d, %v", version, err)
	if err != nil || version == 1 {
		if r.Report.Landlock != 0 || len(r.Report.Lacks) == 0 {
			t.Errorf("%+v", r.Report)
		}
	} else {
		if r.Report.Landlock != min(version, landlockVersion) || len(r.Report.Lacks) != 0 {
			t.Errorf("%+v", r.Report)
		}
		for _, what := range []string{"read", "write", "remove", "make a directory", "rename"} {
			refused[what+" elsewhere"] = "EACCES"
		}
		refused["write a file alone"] = "EACCES"
		if version >= 3 {
			refused["truncate elsewhere"] = "EACCES"
		}
		if version >= 4 {
			refused["connect to another port"] = "EACCES"
		}
	}
	for what, want := range refused {
		if got := r.Tried[what]; got != want {
			t.Errorf("%s: %q, want %s", what, got, want)
		}
	}
	for _, what := range allowed {
		if got, ok := r.Tried[what]; !ok || got != "" {
			t.Errorf("%s: %q", what, got)
		}
	}
	if got := r.Tried["fork"]; got == "" {
		t.Error("a process could be started")
	}
	if got := r.Tried["look into a map"]; got == "EPERM" && unprivileged(t) {
		t.Errorf("look into a map: %s", got)
	}
}

// unprivileged says whether bpf(2) on maps asks for no capability here: since 5.19.
func unprivileged(t *testing.T) bool {
	t.Helper()
	err := With(0, func() error {
		_, _, errno := unix.Syscall(unix.SYS_BPF, unix.BPF_MAP_LOOKUP_ELEM, 0, 0)
		return errno
	})
	return !errors.Is(err, unix.EPERM)
}

// The rule of the kernel that makes the sensor do without Landlock where /proc is mounted with hidepid.
func TestLandlockHidesProcessesAndWithoutItTheCapabilityShowsThem(t *testing.T) {
	needRoot(t)
	if version, err := LandlockVersion(); err != nil || version == 1 {
		t.Logf("no Landlock that is used here: version %d, %v", version, err)
		return
	}
	trace := Of(unix.CAP_SYS_PTRACE)
	if got := give(t, order{Needs: Needs{Capabilities: trace}}).Tried["look into another process"]; got == "" {
		t.Error("with Landlock another process can be looked into: the reason for which a /proc with hidepid does without is gone")
	}
	r := give(t, order{Needs: Needs{Capabilities: trace, NoLandlock: "the test says so"}})
	if got := r.Tried["look into another process"]; got != "" {
		t.Errorf("without Landlock, with CAP_SYS_PTRACE: %s", got)
	}
	if r.Report.Landlock != 0 || fmt.Sprint(r.Report.Lacks) != "[landlock (the test says so)]" {
		t.Errorf("%+v", r.Report)
	}
}

func TestCapabilitiesThatArePutAsideComeBack(t *testing.T) {
	needRoot(t)
	before, err := Current()
	if err != nil {
		t.Fatal(err)
	}
	broken := errors.New("broken")
	err = With(Of(unix.CAP_BPF), func() error {
		if now, err := Current(); err != nil || now != Of(unix.CAP_BPF)&before {
			t.Errorf("with %s, %v", now, err)
		}
		return broken
	})
	if !errors.Is(err, broken) {
		t.Error(err)
	}
	if now, err := Current(); err != nil || now != before {
		t.Errorf("%s came back, of %s: %v", now, before, err)
	}
}

func TestSetsAreNamed(t *testing.T) {
	for set, want := range map[Set]string{0: "none", Of(unix.CAP_BPF, unix.CAP_SYS_PTRACE): "CAP_SYS_PTRACE,CAP_BPF", Of(unix.CAP_CHOWN): "capability 0"} {
		if got := set.String(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// loads are what loading needs, by security.md; the last before Linux 5.11 only.
var loads = []int{unix.CAP_BPF, unix.CAP_PERFMON, unix.CAP_NET_ADMIN, unix.CAP_SYS_RESOURCE}

const paranoidFile = "/proc/sys/kernel/perf_event_paranoid"

func paranoid() int {
	text, _ := os.ReadFile(paranoidFile)
	n, _ := strconv.Atoi(strings.TrimSpace(string(text)))
	return n
}

// load says how it goes with all of loads, and without each.
func load() (map[string]string, error) {
	runtime.LockOSThread()
	const dir = "/sys/kernel/tracing"
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil || st.Type != unix.TRACEFS_MAGIC {
		// In a mount namespace of its own.
		if err := errors.Join(unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""), unix.Mount("none", dir, "tracefs", 0, "")); err != nil {
			return nil, err
		}
	}
	m, err := cgroup.Find()
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	try := func(name string, s Set, form bpf.Form) error {
		// The default of a kernel. Who raises it once has it.
		limit := unix.Rlimit{Cur: 64 << 10, Max: 64 << 10}
		if err := unix.Setrlimit(unix.RLIMIT_MEMLOCK, &limit); err != nil {
			return err
		}
		var sensor *bpf.Sensor
		err := With(s, func() (err error) {
			sensor, err = bpf.Load(bpf.Options{CgroupRoot: m.Dir, Form: form})
			return err
		})
		if out[name] = ""; err != nil {
			out[name] = err.Error()
			return nil
		}
		return sensor.Close()
	}
	all := Of(loads...)
	if err := try("with CAP_SYS_ADMIN, "+string(bpf.FormTracepoint), all|Of(unix.CAP_SYS_ADMIN), bpf.FormTracepoint); err != nil {
		return nil, err
	}
	if paranoid() > 2 && os.Getenv("SHEETBEND_GUEST") != "" { // nobody else's machine is changed
		was := strconv.Itoa(paranoid())
		if err := os.WriteFile(paranoidFile, []byte("2"), 0); err != nil {
			return nil, err
		}
		if err := try("with kernel.perf_event_paranoid=2, "+string(bpf.FormTracepoint), all, bpf.FormTracepoint); err != nil {
			return nil, err
		}
		if err := os.WriteFile(paranoidFile, []byte(was), 0); err != nil {
			return nil, err
		}
	}
	for _, form := range []bpf.Form{bpf.FormAuto, bpf.FormTracepoint} {
		if err := try("all, "+string(form), all, form); err != nil {
			return nil, err
		}
	}
	for _, n := range loads {
		if err := try("without "+Of(n).String(), all&^Of(n), bpf.FormAuto); err != nil {
			return nil, err
		}
	}
	return out, work(m, out)
}

// work says what a loaded sensor can do once it is confined: all that it does.
func work(m cgroup.Mount, out map[string]string) error {
	sensor, err := bpf.Load(bpf.Options{CgroupRoot: m.Dir, Programs: []bpf.ProgramName{{Name: "no-such-agent"}}})
	if err != nil {
		return err
	}
	var keep Set
	if err := With(0, func() error { _, err := sensor.Losses(); return err }); errors.Is(err, unix.EPERM) {
		keep = Of(unix.CAP_BPF)
	}
	out["keeps "+keep.String()] = ""
	if _, err := Apply(Needs{Capabilities: keep, Files: Files{Read: []string{"/proc", "/sys/devices/system/cpu", m.Dir}}}); err != nil {
		return err
	}
	const cgroup = 1 << 40 // no directory has this id
	_, lossErr := sensor.Losses()
	sensor.SetDeadline(time.Now())
	_, readErr := sensor.Read(nil)
	if errors.Is(readErr, os.ErrDeadlineExceeded) {
		readErr = nil
	}
	_, followErr := sensor.Follow(1<<30, 1)
	for what, err := range map[string]error{
		"read losses": lossErr, "watch": sensor.Watch(cgroup, bpf.WatchTasks), "unwatch": sensor.Unwatch(cgroup), "follow": followErr,
		"list processes": sensor.Existing(func([]byte) error { return nil }), "read": readErr, "detach": sensor.Close(),
	} {
		if out["confined, "+what] = ""; err != nil {
			out["confined, "+what] = err.Error()
		}
	}
	return nil
}

func TestLoadingNeedsExactlyTheCapabilitiesThatAreDocumented(t *testing.T) {
	needRoot(t)
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), asLoader+"=1")
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS}
	text, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	var got map[string]string
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		t.Fatal(err)
	}
	// Since 5.11 what maps take is accounted for by cgroup.
	locks := strings.HasPrefix(unix.ByteSliceToString(uts.Release[:]), "5.10.")
	for name, err := range got {
		t.Logf("%s: %.200s", name, err)
		if name == "all, tracepoint" && paranoid() > 2 && strings.Contains(err, "kernel.perf_event_paranoid") {
			continue // a kernel of Debian; with CAP_SYS_ADMIN, or at 2, it works
		}
		works := strings.HasPrefix(name, "all, ") || strings.HasPrefix(name, "with ") || strings.HasPrefix(name, "confined, ") || strings.HasPrefix(name, "keeps ") || strings.Contains(name, "CAP_SYS_RESOURCE") && !locks
		if works != (err == "") {
			t.Errorf("%s: %q", name, err)
		}
	}
	if len(got) < 15 {
		t.Errorf("%d were tried", len(got))
	}
}
