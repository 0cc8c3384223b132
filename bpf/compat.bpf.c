//go:build ignore
// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
/*
 * 32-bit system calls, for the tracepoint form: any 64-bit program can make them (int 0x80), and the
 * tracepoints of the single calls leave them out (arch_trace_is_compat_syscall()). So this
 * one program is at the exit of every system call, and returns at once from a 64-bit one. On x86 only.
 */

#if defined(__TARGET_ARCH_x86)

enum { TS_COMPAT = 2 }; /* arch/x86/include/asm/thread_info.h; cleared behind this hook */

/* arch/x86/entry/syscalls/syscall_32.tbl */
enum {
	COMPAT_OPEN = 5,
	COMPAT_CREAT = 8,
	COMPAT_EXECVE = 11,
	COMPAT_SOCKETCALL = 102,
	COMPAT_OPENAT = 295,
	COMPAT_OPEN_BY_HANDLE_AT = 342,
	COMPAT_EXECVEAT = 358,
	COMPAT_CONNECT = 362,
	COMPAT_OPENAT2 = 437,
};
enum { SOCKETCALL_CONNECT = 3 }; /* include/uapi/linux/net.h */

SEC("tp_btf/sys_exit")
int BPF_PROG(compat_call, struct pt_regs *regs, long ret)
{
	/* Pointers and descriptors come in 32 bits. */
	__u32 first, second, third, status, args[3] = {};
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
	switch ((__u32)BPF_CORE_READ(regs, orig_ax)) {
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
	case COMPAT_EXECVE:
		return ret < 0 ? report_refused(false, ret, AT_FDCWD, (void *)(__u64)first) : 0;
	case COMPAT_EXECVEAT:
		return ret < 0 ? report_refused(true, ret, first, (void *)(__u64)second) : 0;
	default:
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
