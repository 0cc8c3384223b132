//go:build ignore
// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
/*
 * Namespaces as a process leaves or joins them: unshare and setns when they return, in two forms as
 * for opens, and clone by what a new task has and its parent has not.
 */

struct nsproxy {
	void *uts_ns;
	void *ipc_ns;
	void *mnt_ns;
	void *pid_ns_for_children;
	void *net_ns;
	void *time_ns_for_children;
	void *cgroup_ns;
} CORE;
struct cred___namespaces { void *user_ns; } CORE;
struct task_struct___namespaces {
	struct nsproxy *nsproxy;
	const struct cred___namespaces *cred;
} CORE;

/* The type of a namespace moved from its operations into itself with 6.18. */
struct proc_ns_operations { int type; } CORE;
struct ns_common { const struct proc_ns_operations *ops; } CORE;
struct ns_common___6_18 { __u32 ns_type; } CORE;
struct inode___private { void *i_private; } CORE;

/* What each type has of its ns_common is where that lies in it. */
struct uts_namespace___common { struct ns_common ns; } CORE;
struct ipc_namespace___common { struct ns_common ns; } CORE;
struct mnt_namespace___common { struct ns_common ns; } CORE;
struct pid_namespace___common { struct ns_common ns; } CORE;
struct net___common { struct ns_common ns; } CORE;
struct time_namespace___common { struct ns_common ns; } CORE;
struct cgroup_namespace___common { struct ns_common ns; } CORE;
struct user_namespace___common { struct ns_common ns; } CORE;

enum { /* include/uapi/linux/sched.h */
	CLONE_NEWTIME = 0x80,
	CLONE_NEWNS = 0x20000,
	CLONE_NEWCGROUP = 0x2000000,
	CLONE_NEWUTS = 0x4000000,
	CLONE_NEWIPC = 0x8000000,
	CLONE_NEWUSER = 0x10000000,
	CLONE_NEWPID = 0x20000000,
	CLONE_NEWNET = 0x40000000,
	CLONE_NEWANY = CLONE_NEWTIME | CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER |
		       CLONE_NEWPID | CLONE_NEWNET,
};
enum { NSFS_MAGIC = 0x6e736673 }; /* include/uapi/linux/magic.h */

static __always_inline void report_namespace(__u64 cgroup, __u16 op, __u32 types, int error)
{
	struct record_namespace *r;
	struct header h;

	fill_header_current(&h, RECORD_NAMESPACE, cgroup);
	r = reserve(struct record_namespace, &h);
	if (!r)
		return;
	r->op = op;
	r->types = types;
	r->error = error;
	submit(r);
}

/* Called by the hook on fork, for a watched parent. Namespaces for children count: what the parent
 * made by an earlier unshare is no news.
 */
static __always_inline void report_clone(struct task_struct *parent, struct task_struct *child, __u64 cgroup)
{
	struct task_struct___namespaces *p = (void *)parent, *c = (void *)child;
	struct nsproxy *before = BPF_CORE_READ(p, nsproxy), *after = BPF_CORE_READ(c, nsproxy);
	__u32 types = 0;

	if (before != after && before && after) {
		if (BPF_CORE_READ(before, uts_ns) != BPF_CORE_READ(after, uts_ns))
			types |= CLONE_NEWUTS;
		if (BPF_CORE_READ(before, ipc_ns) != BPF_CORE_READ(after, ipc_ns))
			types |= CLONE_NEWIPC;
		if (BPF_CORE_READ(before, mnt_ns) != BPF_CORE_READ(after, mnt_ns))
			types |= CLONE_NEWNS;
		if (BPF_CORE_READ(before, pid_ns_for_children) != BPF_CORE_READ(after, pid_ns_for_children))
			types |= CLONE_NEWPID;
		if (BPF_CORE_READ(before, net_ns) != BPF_CORE_READ(after, net_ns))
			types |= CLONE_NEWNET;
		if (BPF_CORE_READ(before, time_ns_for_children) != BPF_CORE_READ(after, time_ns_for_children))
			types |= CLONE_NEWTIME;
		if (BPF_CORE_READ(before, cgroup_ns) != BPF_CORE_READ(after, cgroup_ns))
			types |= CLONE_NEWCGROUP;
	}
	if (BPF_CORE_READ(p, cred, user_ns) != BPF_CORE_READ(c, cred, user_ns))
		types |= CLONE_NEWUSER;
	if (types)
		report_namespace(cgroup, NAMESPACE_CLONE, types, 0);
}

static __always_inline int report_unshare(__u64 flags, int error)
{
	/* unshare() of files or the working directory alone is no matter of namespaces. */
	if (flags & CLONE_NEWANY)
		report_namespace(bpf_get_current_cgroup_id(), NAMESPACE_UNSHARE, flags & CLONE_NEWANY, error);
	return 0;
}

SEC("fexit/ksys_unshare")
int BPF_PROG(unshare, unsigned long flags, int ret)
{
	if (!current_watched())
		return 0;
	return report_unshare(flags, -ret);
}

SEC("tracepoint/syscalls/sys_exit_unshare")
int unshare_call(struct syscall_exit *ctx)
{
	if (!current_watched())
		return 0;
	return report_unshare(call_args().first, -ctx->ret);
}

/* A kernel without a type of namespaces has not its struct either. */
#define IS_NAMESPACE(type_name, common, whole)                                          \
	(bpf_core_field_exists(((struct type_name *)0)->ns) &&                          \
	 (common) - bpf_core_field_offset(struct type_name, ns) == (whole))

/* Whether the current task is in a namespace of this type; of pid and time: whether its children will be. ns: its ns_common. */
static __always_inline bool current_is_in(__u32 type, void *ns)
{
	struct task_struct___namespaces *task = (void *)bpf_get_current_task();
	struct nsproxy *all = BPF_CORE_READ(task, nsproxy);

	switch (type) {
	case CLONE_NEWUTS:
		return IS_NAMESPACE(uts_namespace___common, ns, BPF_CORE_READ(all, uts_ns));
	case CLONE_NEWIPC:
		return IS_NAMESPACE(ipc_namespace___common, ns, BPF_CORE_READ(all, ipc_ns));
	case CLONE_NEWNS:
		return IS_NAMESPACE(mnt_namespace___common, ns, BPF_CORE_READ(all, mnt_ns));
	case CLONE_NEWPID:
		return IS_NAMESPACE(pid_namespace___common, ns, BPF_CORE_READ(all, pid_ns_for_children));
	case CLONE_NEWNET:
		return IS_NAMESPACE(net___common, ns, BPF_CORE_READ(all, net_ns));
	case CLONE_NEWTIME:
		return IS_NAMESPACE(time_namespace___common, ns, BPF_CORE_READ(all, time_ns_for_children));
	case CLONE_NEWCGROUP:
		return IS_NAMESPACE(cgroup_namespace___common, ns, BPF_CORE_READ(all, cgroup_ns));
	case CLONE_NEWUSER:
		return IS_NAMESPACE(user_namespace___common, ns, BPF_CORE_READ(task, cred, user_ns));
	}
	return false;
}

/* The type of the namespace that a descriptor stands for; 0 when it stands for none. joined: one that the task is not in
 * now is no answer either, for another thread can have put it behind the number while the call ran.
 */
static __always_inline __u32 namespace_type(struct file *file, bool joined)
{
	struct inode *inode = BPF_CORE_READ(file, f_inode);
	__u32 type;
	void *ns;

	if (!file || BPF_CORE_READ(inode, i_sb, s_magic) != NSFS_MAGIC)
		return 0;
	ns = BPF_CORE_READ((struct inode___private *)inode, i_private);
	if (bpf_core_field_exists(((struct ns_common___6_18 *)0)->ns_type))
		type = BPF_CORE_READ((struct ns_common___6_18 *)ns, ns_type);
	else
		type = BPF_CORE_READ((struct ns_common *)ns, ops, type);
	return joined && !current_is_in(type, ns) ? 0 : type;
}

static __always_inline int report_setns(long ret)
{
	struct call_args args = call_args();
	__u32 types = (__u32)args.second & CLONE_NEWANY;

	/* 0 lets the descriptor decide; the descriptor of a process needs types. */
	if (!types)
		types = namespace_type(current_file(args.first), !ret);
	report_namespace(bpf_get_current_cgroup_id(), NAMESPACE_SETNS, types, -ret);
	return 0;
}

/* Attached to the system call's own function: what it calls is static, and inlined in places. */
SEC("fexit/__x64_sys_setns")
int BPF_PROG(setns, void *regs, long ret)
{
	if (!current_watched())
		return 0;
	return report_setns(ret);
}

SEC("tracepoint/syscalls/sys_exit_setns")
int setns_call(struct syscall_exit *ctx)
{
	if (!current_watched())
		return 0;
	return report_setns(ctx->ret);
}
