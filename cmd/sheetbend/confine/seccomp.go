// SPDX-License-Identifier: Apache-2.0

package confine

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// never are the system calls that the sensor has no use for once it has started. A list of what is refused, and not of
// what is allowed: which calls Go's runtime makes changes from release to release, and a call that is refused by mistake
// should be an error, not the end.
var never = append([]uint32{
	// programs
	unix.SYS_EXECVE, unix.SYS_EXECVEAT,
	// other processes
	unix.SYS_PTRACE, unix.SYS_PROCESS_VM_READV, unix.SYS_PROCESS_VM_WRITEV, unix.SYS_PROCESS_MADVISE, unix.SYS_PIDFD_GETFD, unix.SYS_KCMP,
	unix.SYS_PIDFD_SEND_SIGNAL, unix.SYS_RT_SIGQUEUEINFO, unix.SYS_RT_TGSIGQUEUEINFO, unix.SYS_TKILL,
	// memory with code: SHM_EXEC, READ_IMPLIES_EXEC. mmap(2) and mprotect(2) are below.
	unix.SYS_SHMAT, unix.SYS_PERSONALITY,
	// What listens does so by then. Landlock refuses bind(2), and without it listen(2) takes any port.
	unix.SYS_LISTEN,
	// modes, owners, times and attributes of files, which Landlock does not govern: set-user-id on a file of root's is root
	// for everybody. What the sensor makes has its mode from the start.
	unix.SYS_FCHMOD, unix.SYS_FCHMODAT, sysFchmodat2, unix.SYS_FCHOWN, unix.SYS_FCHOWNAT, unix.SYS_UTIMENSAT,
	unix.SYS_SETXATTR, unix.SYS_LSETXATTR, unix.SYS_FSETXATTR, unix.SYS_REMOVEXATTR, unix.SYS_LREMOVEXATTR, unix.SYS_FREMOVEXATTR,
	sysSetxattrat, sysRemovexattrat, sysFileSetattr,
	// memory and messages of others, by System V and POSIX
	unix.SYS_SHMGET, unix.SYS_SHMCTL, unix.SYS_SEMGET, unix.SYS_SEMCTL, unix.SYS_SEMTIMEDOP, unix.SYS_MSGGET, unix.SYS_MSGCTL, unix.SYS_MSGSND,
	unix.SYS_MSGRCV, unix.SYS_MQ_OPEN, unix.SYS_MQ_UNLINK,
	// mounts and namespaces
	unix.SYS_MOUNT, unix.SYS_UMOUNT2, unix.SYS_PIVOT_ROOT, unix.SYS_CHROOT, unix.SYS_FSOPEN, unix.SYS_FSCONFIG, unix.SYS_FSMOUNT, unix.SYS_FSPICK,
	unix.SYS_MOVE_MOUNT, unix.SYS_OPEN_TREE, unix.SYS_MOUNT_SETATTR, unix.SYS_UNSHARE, unix.SYS_SETNS, unix.SYS_MKNODAT,
	// the kernel and the machine
	unix.SYS_INIT_MODULE, unix.SYS_FINIT_MODULE, unix.SYS_DELETE_MODULE, unix.SYS_KEXEC_LOAD, unix.SYS_KEXEC_FILE_LOAD, unix.SYS_REBOOT,
	unix.SYS_SWAPON, unix.SYS_SWAPOFF, unix.SYS_SYSLOG, unix.SYS_ACCT, unix.SYS_QUOTACTL, unix.SYS_SETTIMEOFDAY, unix.SYS_CLOCK_SETTIME,
	unix.SYS_CLOCK_ADJTIME, unix.SYS_ADJTIMEX, unix.SYS_SETHOSTNAME, unix.SYS_SETDOMAINNAME,
	// what is large in the kernel
	unix.SYS_PERF_EVENT_OPEN, unix.SYS_IO_URING_SETUP, unix.SYS_IO_URING_REGISTER, unix.SYS_USERFAULTFD, unix.SYS_KEYCTL, unix.SYS_ADD_KEY, unix.SYS_REQUEST_KEY,
	unix.SYS_FANOTIFY_INIT, unix.SYS_VMSPLICE, unix.SYS_REMAP_FILE_PAGES,
}, neverHere...)

// Of enum bpf_cmd: to read and write the maps that are loaded, to list processes by the iterator that is loaded, and to
// ask how often a program was skipped. No program and no map can be loaded any more, none of others can be opened.
var bpfCommands = []uint32{
	unix.BPF_MAP_LOOKUP_ELEM, unix.BPF_MAP_UPDATE_ELEM, unix.BPF_MAP_DELETE_ELEM, unix.BPF_MAP_GET_NEXT_KEY,
	unix.BPF_MAP_LOOKUP_BATCH, unix.BPF_MAP_UPDATE_BATCH, unix.BPF_MAP_DELETE_BATCH,
	unix.BPF_OBJ_GET_INFO_BY_FD, unix.BPF_LINK_CREATE, unix.BPF_ITER_CREATE, unix.BPF_LINK_DETACH,
}

// Numbers that are the same on every architecture, newer than the package unix.
const (
	sysFchmodat2     = 452
	sysSetxattrat    = 463
	sysRemovexattrat = 466
	sysFileSetattr   = 469
)

// Of ioctl(2), the same as chattr(1): FS_IOC_SETFLAGS, FS_IOC32_SETFLAGS and FS_IOC_FSSETXATTR.
var setAttributes = []uint32{0x40086602, 0x40046602, 0x401c5820}

const (
	// Of struct seccomp_data: the number, the architecture, and the low half of the first three arguments.
	offNumber, offArch            = 0, 4
	offFirst, offSecond, offThird = 16, 24, 32

	fioSetOwn = 0x8901 // FIOSETOWN of asm-generic/sockios.h, which both architectures have

	refuse = unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)
	allow  = unix.SECCOMP_RET_ALLOW
)

// program is the filter of a process that makes sockets of these families. What it refuses is answered with EPERM.
func program(pid int, families []uint32) []bpf.Instruction {
	p := []bpf.Instruction{
		bpf.LoadAbsolute{Off: offArch, Size: 4},
		// By the 32-bit table numbers mean other calls.
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: auditArch, SkipTrue: 1},
		bpf.RetConstant{Val: refuse},
		bpf.LoadAbsolute{Off: offNumber, Size: 4},
		// x32 on amd64; there are no such numbers elsewhere.
		bpf.JumpIf{Cond: bpf.JumpLessThan, Val: 0x40000000, SkipTrue: 1},
		bpf.RetConstant{Val: refuse},
	}
	when := func(number uint32, then ...bpf.Instruction) {
		p = append(p, bpf.JumpIf{Cond: bpf.JumpEqual, Val: number, SkipFalse: uint8(len(then))})
		p = append(p, then...)
	}
	for _, number := range never {
		when(number, bpf.RetConstant{Val: refuse})
	}
	// only lets a call through whose argument is one of these.
	only := func(number, argument uint32, values ...uint32) {
		then := []bpf.Instruction{bpf.LoadAbsolute{Off: argument, Size: 4}}
		for _, v := range values {
			then = append(then, bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: v, SkipTrue: 1}, bpf.RetConstant{Val: allow})
		}
		when(number, append(then, bpf.RetConstant{Val: refuse})...)
	}
	// but lets no call through whose argument is one of these.
	but := func(number, argument uint32, values ...uint32) {
		then := []bpf.Instruction{bpf.LoadAbsolute{Off: argument, Size: 4}}
		for _, v := range values {
			then = append(then, bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: v, SkipTrue: 1}, bpf.RetConstant{Val: refuse})
		}
		when(number, append(then, bpf.RetConstant{Val: allow})...)
	}
	only(unix.SYS_BPF, offFirst, bpfCommands...)
	only(unix.SYS_SOCKET, offFirst, families...)
	only(unix.SYS_SOCKETPAIR, offFirst, unix.AF_UNIX)
	only(unix.SYS_KILL, offFirst, uint32(pid))
	only(unix.SYS_TGKILL, offFirst, uint32(pid))
	// The kernel signals whom a file is given to; TIOCSTI types for who reads from the terminal next.
	but(unix.SYS_FCNTL, offSecond, unix.F_SETOWN, unix.F_SETOWN_EX, unix.F_SETSIG)
	but(unix.SYS_IOCTL, offSecond, append([]uint32{fioSetOwn, unix.SIOCSPGRP, unix.TIOCSTI, unix.TIOCLINUX}, setAttributes...)...)
	// Threads, no processes. What clone3 is asked for lies in memory, where a filter cannot look: who gets ENOSYS takes clone.
	when(unix.SYS_CLONE3, bpf.RetConstant{Val: unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)})
	bits := func(number, argument, mask uint32, set, clear uint32) {
		when(number,
			bpf.LoadAbsolute{Off: argument, Size: 4},
			bpf.JumpIf{Cond: bpf.JumpBitsSet, Val: mask, SkipFalse: 1},
			bpf.RetConstant{Val: set},
			bpf.RetConstant{Val: clear})
	}
	bits(unix.SYS_CLONE, offFirst, unix.CLONE_THREAD, allow, refuse)
	// No memory becomes code.
	for _, number := range []uint32{unix.SYS_MMAP, unix.SYS_MPROTECT, unix.SYS_PKEY_MPROTECT} {
		bits(number, offThird, unix.PROT_EXEC, refuse, allow)
	}
	return append(p, bpf.RetConstant{Val: allow})
}

// filter sets the filter for all threads.
func filter(s Sockets) error {
	raw, err := bpf.Assemble(program(os.Getpid(), s.families()))
	if err != nil {
		return fmt.Errorf("assemble the filter: %w", err)
	}
	code := make([]unix.SockFilter, len(raw))
	for i, r := range raw {
		code[i] = unix.SockFilter{Code: r.Op, Jt: r.Jt, Jf: r.Jf, K: r.K}
	}
	prog := unix.SockFprog{Len: uint16(len(code)), Filter: &code[0]}
	thread, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&prog)))
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
