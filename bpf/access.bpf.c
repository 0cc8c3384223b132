//go:build ignore
// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
/*
 * One process reaching into another: ptrace, process_vm_readv and _writev, pidfd_getfd. Two forms as for
 * opens.
 *
 * Trampoline: fexit on __ptrace_may_access, which decides about all of them and about the files of
 * /proc/PID that show memory. It has the target, and the decision.
 *
 * Tracepoint: the exit tracepoints of the system calls. The target is looked up by the number
 * that was passed. One that is over by then, or whose descriptor is another's by then, is not known:
 * an access that succeeded is told without it.
 */

struct hlist_node___any { void *next; } CORE;
struct hlist_head___any { struct hlist_node___any *first; } CORE;
struct pid___tasks { struct hlist_head___any tasks[4]; } CORE;
struct task_struct___pid { struct hlist_node___any pid_links[4]; } CORE;
struct xa_node {
	unsigned char shift;
	void *slots[64];
} CORE;
struct xarray { void *xa_head; } CORE;
struct idr { struct xarray idr_rt; } CORE;
struct pid_namespace { struct idr idr; } CORE;

enum { PTRACE_MODE_ATTACH = 2, PTRACE_MODE_FSCREDS = 8 }; /* include/linux/ptrace.h */
enum { PTRACE_ATTACH = 16, PTRACE_SEIZE = 0x4206 };
enum { PID_FS_MAGIC = 0x50494446, ANON_INODE_FS_MAGIC = 0x09041934 };
#if defined(__TARGET_ARCH_x86)
enum { NR_PTRACE = 101, NR_PROCESS_VM_READV = 310, NR_PROCESS_VM_WRITEV = 311, NR_PIDFD_GETFD = 438 };
#else
enum { NR_PTRACE = 117, NR_PROCESS_VM_READV = 270, NR_PROCESS_VM_WRITEV = 271, NR_PIDFD_GETFD = 438 };
#endif

enum { ACCESS_LIMIT = sizeof(struct record_access) + PATH_BYTES + PATH_SLACK };
struct access_scratch {
	__u8 bytes[(ACCESS_LIMIT + PATH_SLACK + 7) & ~7];
	struct walk walk;
};

/* As open_scratch. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct access_scratch);
} access_scratch SEC(".maps");

DEFINE_WALK(access, ACCESS_LIMIT)

/* Another one: a signal may be sent by who preempts a program here. */
struct signal_scratch {
	__u8 bytes[sizeof(((struct access_scratch *)0)->bytes)];
	struct walk walk;
};
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct signal_scratch);
} signal_scratch SEC(".maps");

DEFINE_WALK(signal, ACCESS_LIMIT)

/* target: NULL when it is not known. signal: 0, a constant, for what is none. */
static __always_inline int report_access(struct task_struct *target, __u16 op, int error, __u32 signal)
{
	__u64 off = sizeof(struct record_access), cgroup = bpf_get_current_cgroup_id();
	__u32 zero = 0, flags = 0, tgid = 0;
	struct access_scratch *s;
	struct record_access *r;
	struct file *exe;

	if (target) {
		tgid = BPF_CORE_READ(target, tgid);
		if (!tgid || tgid == bpf_get_current_pid_tgid() >> 32)
			return 0;
	}
	if (op == ACCESS_SIGNAL)
		s = bpf_map_lookup_elem(&signal_scratch, &zero);
	else
		s = bpf_map_lookup_elem(&access_scratch, &zero);
	if (!s) {
		lose(cgroup, RECORD_ACCESS, LOSS_SCRATCH);
		return 0;
	}
	r = (void *)s;
	__builtin_memset(r, 0, sizeof(*r));
	fill_header_current(&r->h, RECORD_ACCESS, cgroup);
	r->op = op;
	r->error = error;
	r->signal = signal;
	if (!target) {
		r->h.flags = ACCESS_TARGET_UNKNOWN;
		send(r, off);
		return 0;
	}
	r->target_tgid = tgid;
	r->target_start = BPF_CORE_READ(target, group_leader, start_boottime);
	r->target_cgroup = task_cgroup(target);
	if (!(cgroup_flags(r->target_cgroup) & WATCH_TASKS) && !is_followed(tgid)) {
		flags |= ACCESS_OUTSIDE;
		exe = BPF_CORE_READ(target, mm, exe_file);
		if (exe) {
			struct vfsmount *mnt = BPF_CORE_READ(exe, f_path.mnt);
			struct dentry *dentry = BPF_CORE_READ(exe, f_path.dentry);

			if (op == ACCESS_SIGNAL)
				off = walk_signal((void *)s, mnt, dentry, target, off);
			else
				off = walk_access(s, mnt, dentry, target, off);
			if (s->walk.flags & PATH_TRUNCATED)
				flags |= ACCESS_EXE_TRUNCATED;
			if (s->walk.flags & PATH_OUTSIDE)
				flags |= ACCESS_EXE_OUTSIDE;
			if (s->walk.flags & PATH_PSEUDO)
				flags |= ACCESS_EXE_PSEUDO;
			if (s->walk.flags & PATH_UNLINKED)
				flags |= ACCESS_EXE_UNLINKED;
		}
	}
	r->exe_len = off - sizeof(*r);
	r->h.flags = flags;
	if (off > sizeof(s->bytes))
		off = sizeof(s->bytes);
	send(r, off);
	return 0;
}

static __always_inline __u16 ptrace_op(__u64 request)
{
	switch (request) {
	case PTRACE_ATTACH:
		return ACCESS_ATTACH;
	case PTRACE_SEIZE:
		return ACCESS_SEIZE;
	}
	return ACCESS_OTHER;
}

SEC("fexit/__ptrace_may_access")
int BPF_PROG(access_check, struct task_struct *task, unsigned int mode, int ret)
{
	__u16 op = ACCESS_OTHER;

	if (!current_watched())
		return 0;
	if (!(mode & PTRACE_MODE_ATTACH))
		return 0; /* a look, as ps does it */
	if (mode & PTRACE_MODE_FSCREDS) {
		op = ACCESS_PROC;
	} else {
		switch (call_number()) {
		case NR_PTRACE:
			op = ptrace_op(call_args().first);
			break;
		case NR_PROCESS_VM_READV:
			op = ACCESS_READ;
			break;
		case NR_PROCESS_VM_WRITEV:
			op = ACCESS_WRITE;
			break;
		case NR_PIDFD_GETFD:
			op = ACCESS_GETFD;
			break;
		}
	}
	return report_access(task, op, -ret, 0);
}

static __always_inline struct task_struct *pid_task(struct pid *pid)
{
	struct hlist_node___any *first = BPF_CORE_READ((struct pid___tasks *)pid, tasks[0].first);

	return first ? (void *)first - bpf_core_field_offset(struct task_struct___pid, pid_links) : NULL;
}

/* The task of this number in a pid namespace: find_pid_ns(), a walk down a radix tree of 64 slots
 * a node (lib/xarray.c), whose inner nodes are marked by the lowest two bits.
 */
static __always_inline struct task_struct *task_by_number(struct pid_namespace *ns, __u32 nr)
{
	enum { LEVELS = 4 }; /* 24 bits; pids have at most 22 */
	__u64 entry;

	entry = (__u64)BPF_CORE_READ(ns, idr.idr_rt.xa_head);
	for (int i = 0; i < LEVELS && (entry & 3) == 2; i++) {
		struct xa_node *node = (void *)(entry - 2);
		__u32 shift = BPF_CORE_READ(node, shift);
		void *next = NULL;

		if (i == 0 && nr >> (shift & 31) >= 64)
			return NULL; /* beyond the greatest number in use */
		bpf_core_read(&next, sizeof(next), &node->slots[nr >> (shift & 31) & 63]);
		entry = (__u64)next;
	}
	if (!entry || entry & 3)
		return NULL;
	return pid_task((void *)entry);
}

/* The same in the current task's pid namespace. */
static __always_inline struct task_struct *task_by_vpid(__u32 nr)
{
	struct pid *own = BPF_CORE_READ((struct task_struct *)bpf_get_current_task(), thread_pid);
	unsigned int level = BPF_CORE_READ(own, level);
	struct pid_namespace *ns = NULL;

	bpf_core_read(&ns, sizeof(ns), &own->numbers[level].ns);
	return task_by_number(ns, nr);
}

/* happened: whether what the call returned is proof that it reached somebody. */
static __always_inline int report_access_call(long ret, bool happened, __u32 nr, __u16 op)
{
	struct task_struct *target = task_by_vpid(nr);

	/* Who asks for nothing to be transferred needs no permission. */
	if (!happened && (ret >= 0 || (!target && ret != -EPERM)))
		return 0;
	return report_access(target, op, ret < 0 ? -ret : 0, 0);
}

SEC("tracepoint/syscalls/sys_exit_ptrace")
int access_ptrace(struct syscall_exit *ctx)
{
	struct call_args args;
	__u16 op;

	if (!current_watched())
		return 0;
	args = call_args();
	/* The other requests are for a process that is attached to already. */
	op = ptrace_op(args.first);
	if (op == ACCESS_OTHER)
		return 0;
	return report_access_call(ctx->ret, !ctx->ret, args.second, op);
}

/* Nothing to transfer is no access, and no process is looked for: 0. */
SEC("tracepoint/syscalls/sys_exit_process_vm_readv")
int access_readv(struct syscall_exit *ctx)
{
	if (!current_watched())
		return 0;
	return report_access_call(ctx->ret, ctx->ret > 0, call_args().first, ACCESS_READ);
}

SEC("tracepoint/syscalls/sys_exit_process_vm_writev")
int access_writev(struct syscall_exit *ctx)
{
	if (!current_watched())
		return 0;
	return report_access_call(ctx->ret, ctx->ret > 0, call_args().first, ACCESS_WRITE);
}

/* The process that a descriptor of one stands for; NULL when it stands for none. */
static __always_inline struct task_struct *pidfd_task(struct file *file)
{
	struct inode *inode;
	unsigned long magic;
	char name[8];

	if (!file)
		return NULL;
	inode = BPF_CORE_READ(file, f_inode);
	magic = BPF_CORE_READ(inode, i_sb, s_magic);
	if (magic == PID_FS_MAGIC) /* since 6.9 */
		return pid_task(BPF_CORE_READ((struct inode___private *)inode, i_private));
	if (magic != ANON_INODE_FS_MAGIC)
		return NULL;
	/* Nobody but the kernel names what lies there. */
	if (bpf_probe_read_kernel_str(name, sizeof(name), BPF_CORE_READ(file, f_path.dentry, d_name.name)) != sizeof(name) ||
	    __builtin_memcmp(name, "[pidfd]", sizeof(name)))
		return NULL;
	return pid_task(BPF_CORE_READ(file, private_data));
}

SEC("tracepoint/syscalls/sys_exit_pidfd_getfd")
int access_getfd(struct syscall_exit *ctx)
{
	struct task_struct *target;
	struct call_args args;
	struct file *taken;

	if (!current_watched())
		return 0;
	/* Another error may come of a descriptor that is no process's. */
	if (ctx->ret < 0 && ctx->ret != -EPERM)
		return 0;
	args = call_args();
	target = pidfd_task(current_file(args.first));
	/* Another thread can have put another process's behind the number since: what was taken is the target's still, or
	 * nothing says whose it was.
	 */
	if (target && ctx->ret >= 0) {
		taken = current_file(ctx->ret);
		if (!taken || taken != task_file(target, args.second))
			target = NULL;
	}
	return report_access(target, ACCESS_GETFD, ctx->ret < 0 ? -ctx->ret : 0, 0);
}
