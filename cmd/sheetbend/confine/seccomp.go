// SPDX-License-Identifier: Apache-2.0

package confine

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"unsafe"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// calls are system calls by name.
type calls map[string]uint32

// open are those that stay, whatever their arguments are: what Go's runtime and library, the spool, the journal and
// connections take. docs/security.md has the same list.
var open = calls{
	// threads, time and memory
	"brk": unix.SYS_BRK, "clock_gettime": unix.SYS_CLOCK_GETTIME, "clock_nanosleep": unix.SYS_CLOCK_NANOSLEEP,
	"exit": unix.SYS_EXIT, "exit_group": unix.SYS_EXIT_GROUP, "futex": unix.SYS_FUTEX, "getcpu": unix.SYS_GETCPU,
	"getrandom": unix.SYS_GETRANDOM, "gettimeofday": unix.SYS_GETTIMEOFDAY, "madvise": unix.SYS_MADVISE,
	"mincore": unix.SYS_MINCORE, "mremap": unix.SYS_MREMAP, "msync": unix.SYS_MSYNC, "munmap": unix.SYS_MUNMAP,
	"nanosleep": unix.SYS_NANOSLEEP, "restart_syscall": unix.SYS_RESTART_SYSCALL, "rseq": unix.SYS_RSEQ,
	"rt_sigaction": unix.SYS_RT_SIGACTION, "rt_sigprocmask": unix.SYS_RT_SIGPROCMASK,
	"rt_sigreturn": unix.SYS_RT_SIGRETURN, "sched_yield": unix.SYS_SCHED_YIELD,
	"set_robust_list": unix.SYS_SET_ROBUST_LIST, "sigaltstack": unix.SYS_SIGALTSTACK,
	// who and where it is
	"getcwd": unix.SYS_GETCWD, "getegid": unix.SYS_GETEGID, "geteuid": unix.SYS_GETEUID, "getgid": unix.SYS_GETGID,
	"getpid": unix.SYS_GETPID, "getppid": unix.SYS_GETPPID, "getrusage": unix.SYS_GETRUSAGE,
	"gettid": unix.SYS_GETTID, "getuid": unix.SYS_GETUID, "sched_getaffinity": unix.SYS_SCHED_GETAFFINITY,
	"sysinfo": unix.SYS_SYSINFO, "uname": unix.SYS_UNAME,
	// descriptors
	"close": unix.SYS_CLOSE, "close_range": unix.SYS_CLOSE_RANGE, "copy_file_range": unix.SYS_COPY_FILE_RANGE,
	"dup": unix.SYS_DUP, "dup3": unix.SYS_DUP3, "epoll_create1": unix.SYS_EPOLL_CREATE1,
	"epoll_ctl": unix.SYS_EPOLL_CTL, "epoll_pwait": unix.SYS_EPOLL_PWAIT, "epoll_pwait2": unix.SYS_EPOLL_PWAIT2,
	"eventfd2": unix.SYS_EVENTFD2, "fadvise64": unix.SYS_FADVISE64, "fallocate": unix.SYS_FALLOCATE,
	"fdatasync": unix.SYS_FDATASYNC, "flock": unix.SYS_FLOCK, "fstat": unix.SYS_FSTAT, "fstatfs": unix.SYS_FSTATFS,
	"fsync": unix.SYS_FSYNC, "ftruncate": unix.SYS_FTRUNCATE, "getdents64": unix.SYS_GETDENTS64,
	"lseek": unix.SYS_LSEEK, "pidfd_open": unix.SYS_PIDFD_OPEN, "pipe2": unix.SYS_PIPE2, "ppoll": unix.SYS_PPOLL,
	"pread64": unix.SYS_PREAD64, "pwrite64": unix.SYS_PWRITE64, "read": unix.SYS_READ, "sendfile": unix.SYS_SENDFILE,
	"splice": unix.SYS_SPLICE, "write": unix.SYS_WRITE, "writev": unix.SYS_WRITEV,
	// files, as far as Landlock lets
	"faccessat": unix.SYS_FACCESSAT, "faccessat2": unix.SYS_FACCESSAT2, "mkdirat": unix.SYS_MKDIRAT,
	"name_to_handle_at": unix.SYS_NAME_TO_HANDLE_AT, "newfstatat": sysNewfstatat,
	"open_by_handle_at": unix.SYS_OPEN_BY_HANDLE_AT, "openat": unix.SYS_OPENAT, "openat2": unix.SYS_OPENAT2,
	"readlinkat": unix.SYS_READLINKAT, "renameat": unix.SYS_RENAMEAT, "renameat2": unix.SYS_RENAMEAT2,
	"statfs": unix.SYS_STATFS, "statx": unix.SYS_STATX, "truncate": unix.SYS_TRUNCATE, "unlinkat": unix.SYS_UNLINKAT,
	// sockets, as far as socket(2) gives any
	"accept4": unix.SYS_ACCEPT4, "connect": unix.SYS_CONNECT, "getpeername": unix.SYS_GETPEERNAME,
	"getsockname": unix.SYS_GETSOCKNAME, "getsockopt": unix.SYS_GETSOCKOPT, "recvfrom": unix.SYS_RECVFROM,
	"recvmsg": unix.SYS_RECVMSG, "sendmmsg": unix.SYS_SENDMMSG, "sendmsg": unix.SYS_SENDMSG,
	"sendto": unix.SYS_SENDTO, "setsockopt": unix.SYS_SETSOCKOPT, "shutdown": unix.SYS_SHUTDOWN,
}

// A rule lets a call through by one of its arguments, of which it sees the low half.
type rule struct {
	call     string
	number   uint32
	argument uint32   // from 0
	values   []uint32 // that it may be
	// bits: values are bits, one of which has to be set, or with not none.
	bits, not bool
}

// ruled are the calls that an argument decides about. What a pointer leads to a filter cannot see.
func ruled(pid int, s Sockets) []rule {
	noCode := func(call string, number uint32) rule {
		return rule{call: call, number: number, argument: 2, values: []uint32{unix.PROT_EXEC}, bits: true, not: true}
	}
	return []rule{
		// The maps and the iterators that are loaded, and how often a program was skipped. No program and no map can
		// be loaded any more, none of others can be opened.
		{call: "bpf", number: unix.SYS_BPF, values: []uint32{
			unix.BPF_MAP_LOOKUP_ELEM, unix.BPF_MAP_UPDATE_ELEM, unix.BPF_MAP_DELETE_ELEM, unix.BPF_MAP_GET_NEXT_KEY,
			unix.BPF_MAP_LOOKUP_BATCH, unix.BPF_MAP_UPDATE_BATCH, unix.BPF_MAP_DELETE_BATCH,
			unix.BPF_OBJ_GET_INFO_BY_FD, unix.BPF_LINK_CREATE, unix.BPF_ITER_CREATE, unix.BPF_LINK_DETACH,
		}},
		// Threads, no processes.
		{call: "clone", number: unix.SYS_CLONE, values: []uint32{unix.CLONE_THREAD}, bits: true},
		// No memory becomes code.
		noCode("mmap", unix.SYS_MMAP),
		noCode("mprotect", unix.SYS_MPROTECT),
		// Not F_SETOWN and its like: the kernel signals whom a file is given to.
		{call: "fcntl", number: unix.SYS_FCNTL, argument: 1, values: []uint32{
			unix.F_DUPFD, unix.F_GETFD, unix.F_SETFD, unix.F_GETFL, unix.F_SETFL, unix.F_GETLK, unix.F_SETLK,
			unix.F_SETLKW, unix.F_OFD_GETLK, unix.F_OFD_SETLK, unix.F_OFD_SETLKW, unix.F_DUPFD_CLOEXEC,
		}},
		{call: "ioctl", number: unix.SYS_IOCTL, argument: 1, values: []uint32{
			unix.TCGETS, unix.TIOCGWINSZ, unix.PERF_EVENT_IOC_ENABLE, unix.PERF_EVENT_IOC_DISABLE,
		}},
		{call: "prctl", number: unix.SYS_PRCTL, values: []uint32{unix.PR_SET_NAME, unix.PR_GET_NAME, unix.PR_SET_VMA}},
		// Of no other process.
		{call: "kill", number: unix.SYS_KILL, values: []uint32{uint32(pid)}},
		{call: "tgkill", number: unix.SYS_TGKILL, values: []uint32{uint32(pid)}},
		{call: "prlimit64", number: unix.SYS_PRLIMIT64, values: []uint32{0, uint32(pid)}},
		{call: "socket", number: unix.SYS_SOCKET, values: s.families()},
	}
}

const (
	// Of struct seccomp_data: the number, the architecture, and the low half of the first argument; each argument has
	// 8 bytes.
	offNumber, offArch, offFirst = 0, 4, 16

	refuse = unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)
	allow  = unix.SECCOMP_RET_ALLOW
)

// program is the filter of a process that makes such sockets. What it refuses is answered with EPERM.
func program(pid int, s Sockets) []bpf.Instruction {
	p := []bpf.Instruction{
		bpf.LoadAbsolute{Off: offArch, Size: 4},
		// By the 32-bit table numbers mean other calls. Those of x32 are high, so in no list.
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: auditArch, SkipTrue: 1},
		bpf.RetConstant{Val: refuse},
		bpf.LoadAbsolute{Off: offNumber, Size: 4},
	}
	when := func(number uint32, then ...bpf.Instruction) {
		p = append(p, bpf.JumpIf{Cond: bpf.JumpEqual, Val: number, SkipFalse: uint8(len(then))})
		p = append(p, then...)
	}
	for _, all := range []calls{open, openHere} {
		var numbers []uint32
		for _, number := range all {
			numbers = append(numbers, number)
		}
		slices.Sort(numbers) // so that it is the same each time
		for _, number := range numbers {
			when(number, bpf.RetConstant{Val: allow})
		}
	}
	for _, r := range ruled(pid, s) {
		then := []bpf.Instruction{bpf.LoadAbsolute{Off: offFirst + 8*r.argument, Size: 4}}
		cond, match, other := bpf.JumpEqual, uint32(allow), refuse
		if r.bits {
			cond = bpf.JumpBitsSet
		}
		if r.not {
			match, other = other, match
		}
		for _, v := range r.values {
			then = append(then, bpf.JumpIf{Cond: cond, Val: v, SkipFalse: 1}, bpf.RetConstant{Val: match})
		}
		when(r.number, append(then, bpf.RetConstant{Val: other})...)
	}
	// What clone3 is asked for lies in memory, where a filter cannot look: who gets ENOSYS takes clone.
	when(unix.SYS_CLONE3, bpf.RetConstant{Val: unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)})
	return append(p, bpf.RetConstant{Val: refuse})
}

// Filter is the program of the filter that Apply sets in the process with this pid.
func Filter(pid int, s Sockets) ([]unix.SockFilter, error) { return assemble(program(pid, s)) }

func assemble(p []bpf.Instruction) ([]unix.SockFilter, error) {
	raw, err := bpf.Assemble(p)
	if err != nil {
		return nil, fmt.Errorf("assemble the filter: %w", err)
	}
	code := make([]unix.SockFilter, len(raw))
	for i, r := range raw {
		code[i] = unix.SockFilter{Code: r.Op, Jt: r.Jt, Jf: r.Jf, K: r.K}
	}
	return code, nil
}

// SetFilter sets a filter for the calling thread, or with unix.SECCOMP_FILTER_FLAG_TSYNC for all threads. It needs
// no_new_privs or CAP_SYS_ADMIN.
func SetFilter(p []bpf.Instruction, flags uintptr) error {
	code, err := assemble(p)
	if err != nil {
		return err
	}
	prog := unix.SockFprog{Len: uint16(len(code)), Filter: &code[0]}
	thread, _, errno := unix.Syscall(
		unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags, uintptr(unsafe.Pointer(&prog)))
	runtime.KeepAlive(code)
	switch {
	case errno != 0:
		return errno
	case thread != 0:
		return fmt.Errorf("thread %d has a filter of its own", thread)
	}
	return nil
}

// Seccomp says whether the kernel has filters.
func Seccomp() error {
	// With nothing to read it answers EFAULT.
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, 0)
	if errno == unix.EFAULT {
		return nil
	}
	return errors.Join(errors.New("no seccomp filters"), errno)
}
