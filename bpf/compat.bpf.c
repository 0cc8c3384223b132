//go:build ignore
// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
/*
 * 32-bit system calls, for the tracepoint form: any 64-bit program can make them (int 0x80), and the
 * tracepoints of the single calls leave them out (arch_trace_is_compat_syscall()). So this
 * one program is at the exit of every system call, and returns at once from a 64-bit one. On x86 only.
 */

#if defined(__TARGET_ARCH_x86)

enum { TS_COMPAT = 2 }; /* arch/x86/include/asm/thread_info.h; cleared behind this hook */

/* What changes files, as the 64-bit call that takes the same arguments; 0: another one. */
static __always_inline int compat_change(__u32 number)
{
	switch (number) {
	case 9:
		return NR_LINK;
	case 10:
		return NR_UNLINK;
	case 14:
		return NR_MKNOD;
	case 15:
		return NR_CHMOD;
	case 16:
	case 182:
	case 198:
	case 212: /* lchown, chown; with ids of 16 bits, and of 32 */
		return NR_CHOWN;
	case 21:
		return NR_MOUNT;
	case 22:
	case 52:
		return NR_UMOUNT2;
	case 30:
		return NR_UTIME;
	case 38:
		return NR_RENAME;
	case 39:
		return NR_MKDIR;
	case 40:
		return NR_RMDIR;
	case 61:
		return NR_CHROOT;
	case 83:
		return NR_SYMLINK;
	case 92:
	case 193: /* the second: truncate64 */
		return NR_TRUNCATE;
	case 93:
	case 194:
		return NR_FTRUNCATE;
	case 94:
		return NR_FCHMOD;
	case 95:
	case 207:
		return NR_FCHOWN;
	case 217:
		return NR_PIVOT_ROOT;
	case 226:
		return NR_SETXATTR;
	case 227:
		return NR_LSETXATTR;
	case 228:
		return NR_FSETXATTR;
	case 235:
		return NR_REMOVEXATTR;
	case 236:
		return NR_LREMOVEXATTR;
	case 237:
		return NR_FREMOVEXATTR;
	case 271:
		return NR_UTIMES;
	case 296:
		return NR_MKDIRAT;
	case 297:
		return NR_MKNODAT;
	case 298:
		return NR_FCHOWNAT;
	case 299:
		return NR_FUTIMESAT;
	case 301:
		return NR_UNLINKAT;
	case 302:
		return NR_RENAMEAT;
	case 303:
		return NR_LINKAT;
	case 304:
		return NR_SYMLINKAT;
	case 306:
		return NR_FCHMODAT;
	case 320:
	case 412:
		return NR_UTIMENSAT;
	case 353:
		return NR_RENAMEAT2;
	case NR_MOVE_MOUNT:
	case NR_FCHMODAT2:
	case NR_SETXATTRAT:
	case NR_REMOVEXATTRAT:
		return number;
	}
	return 0;
}
enum {
	COMPAT_LCHOWN16 = 16,
	COMPAT_UMOUNT = 22,
	COMPAT_FCHOWN16 = 95,
	COMPAT_CHOWN16 = 182,
	COMPAT_TRUNCATE64 = 193,
	COMPAT_FTRUNCATE64 = 194,
};

/* An id of 16 bits, of which all ones stand for the same of 32. */
static __always_inline __u32 wide_id(__u32 id)
{
	return (__u16)id == 0xffff ? -1 : (__u16)id;
}

/* Pointers, descriptors and ids come in 32 bits. */
static __always_inline void report_compat_change(struct pt_regs *regs, __u32 number, struct call_args args, long ret)
{
	struct later_args later = { .fourth = (__u32)BPF_CORE_READ(regs, si), .fifth = (__u32)BPF_CORE_READ(regs, di) };
	int change = compat_change(number);

	if (!change)
		return;
	if (number == COMPAT_UMOUNT) {
		args.second = 0;
	} else if (number == COMPAT_TRUNCATE64 || number == COMPAT_FTRUNCATE64) {
		args.second |= args.third << 32;
	} else if (change == NR_TRUNCATE || change == NR_FTRUNCATE) {
		args.second = (int)args.second;
	} else if (number == COMPAT_LCHOWN16 || number == COMPAT_FCHOWN16 || number == COMPAT_CHOWN16) {
		args.second = wide_id(args.second);
		args.third = wide_id(args.third);
	}
	report_change_call(change, args, later, ret);
}

/* arch/x86/entry/syscalls/syscall_32.tbl */
enum {
	COMPAT_OPEN = 5,
	COMPAT_CREAT = 8,
	COMPAT_SOCKETCALL = 102,
	COMPAT_OPENAT = 295,
	COMPAT_OPEN_BY_HANDLE_AT = 342,
	COMPAT_CONNECT = 362,
	COMPAT_OPENAT2 = 437,
};
enum { SOCKETCALL_CONNECT = 3 }; /* include/uapi/linux/net.h */

SEC("tp_btf/sys_exit")
int BPF_PROG(compat_call, struct pt_regs *regs, long ret)
{
	/* Pointers and descriptors come in 32 bits. */
	__u32 first, second, third, status, number, args[3] = {};
	__u64 flags = 0, name = 0;
	struct sock *sk;
	__u16 family;
	int dfd = AT_FDCWD;

	if (have_task_btf)
		status = ((struct task_struct *)bpf_get_current_task_btf())->thread_info.status;
	else
		status = BPF_CORE_READ((struct task_struct *)bpf_get_current_task(), thread_info.status);
	if (!(status & TS_COMPAT) || !current_watched())
		return 0;
	first = BPF_CORE_READ(regs, bx);
	second = BPF_CORE_READ(regs, cx);
	third = BPF_CORE_READ(regs, dx);
	number = BPF_CORE_READ(regs, orig_ax);
	switch (number) {
	case COMPAT_OPEN:
		name = first;
		flags = second;
		break;
	case COMPAT_CREAT:
		name = first;
		flags = O_CREAT | O_WRONLY | O_TRUNC;
		break;
	case COMPAT_OPENAT:
		dfd = first;
		name = second;
		flags = third;
		break;
	case COMPAT_OPENAT2:
		dfd = first;
		name = second;
		bpf_probe_read_user(&flags, sizeof(flags), (void *)(__u64)third);
		break;
	case COMPAT_OPEN_BY_HANDLE_AT:
		flags = third;
		break;
	case COMPAT_SOCKETCALL:
		if (first != SOCKETCALL_CONNECT || bpf_probe_read_user(args, sizeof(args), (void *)(__u64)second))
			return 0;
		first = args[0];
		second = args[1];
		third = args[2];
		goto connect;
	case COMPAT_CONNECT:
		goto connect;
	default:
		report_compat_change(regs, number, (struct call_args){ first, second, third }, ret);
		return 0;
	}
	return report_open_call(ret, dfd, (void *)name, flags);
connect:
	/* A call of this kind leaves no cookie in `attempts`: the outcome is that of what is behind the number now. */
	sk = file_sock(current_file(first));
	family = sk ? BPF_CORE_READ(sk, __sk_common.skc_family) : 0;
	if (family == AF_INET || family == AF_INET6)
		end_connect_call(BPF_CORE_READ(sk, __sk_common.skc_cookie.counter), ret);
	return report_connect_number(first, ret, (void *)(__u64)second, third, false);
}

#endif
