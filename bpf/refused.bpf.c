//go:build ignore
// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
/*
 * Execs that were refused, when the call returns, in two forms as for opens. No function behind both calls is kept out
 * of line by every kernel, and what opens the file lies before bprm_execve() in some: so the trampolines are at the
 * calls' own functions. In both forms the name is the caller's word, and nothing is read of a call that succeeded.
 */

enum { REFUSED_LIMIT = sizeof(struct record_exec_failed) + PATH_BYTES + PATH_SLACK };
struct refused_scratch {
	__u8 bytes[(REFUSED_LIMIT + PATH_BYTES + PATH_SLACK + 7) & ~7];
	struct walk walk;
};
struct refused_at_scratch {
	__u8 bytes[sizeof(((struct refused_scratch *)0)->bytes)];
	struct walk walk;
};

/* As open_scratch; two, for trampoline programs can be preempted by each other. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct refused_scratch);
} refused_scratch SEC(".maps");
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct refused_at_scratch);
} refused_at_scratch SEC(".maps");

DEFINE_WALK(refused, REFUSED_LIMIT)
DEFINE_WALK(refused_at, REFUSED_LIMIT)

/* at: for execveat, a constant. */
static __always_inline int report_refused(bool at, long ret, int dfd, const char *name)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	__u64 off = sizeof(struct record_exec_failed), cgroup = bpf_get_current_cgroup_id();
	__u32 zero = 0, flags = OPEN_NAME_FROM_USER, class = CLASS_FACT;
	struct vfsmount *mnt = NULL;
	struct dentry *dentry = NULL;
	struct record_exec_failed *r;
	struct refused_scratch *s;
	struct file *file;
	char first = 0;
	long len;

	if (at)
		s = bpf_map_lookup_elem(&refused_at_scratch, &zero);
	else
		s = bpf_map_lookup_elem(&refused_scratch, &zero);
	if (!s) {
		lose(cgroup, RECORD_EXEC_FAILED, LOSS_SCRATCH);
		return 0;
	}
	r = (void *)s;
	__builtin_memset(r, 0, sizeof(*r));
	fill_header_current(&r->h, RECORD_EXEC_FAILED, cgroup);
	r->error = -ret;
	if (at && !bpf_probe_read_user(&first, 1, name) && !first) {
		/* AT_EMPTY_PATH: the file behind the descriptor. */
		file = current_file(dfd);
		mnt = BPF_CORE_READ(file, f_path.mnt);
		dentry = BPF_CORE_READ(file, f_path.dentry);
	} else {
		starts_at(task, dfd, name, true, &mnt, &dentry);
	}
	if (dentry) {
		flags |= OPEN_BASE;
		if (at)
			off = walk_refused_at((void *)s, mnt, dentry, task, off);
		else
			off = walk_refused(s, mnt, dentry, task, off);
		flags |= open_path_flags(s->walk.flags);
	}
	r->path_len = off - sizeof(*r);
	if (off <= REFUSED_LIMIT + PATH_SLACK) {
		len = bpf_probe_read_user_str(s->bytes + off, PATH_BYTES, name);
		if (len <= 0) {
			flags |= OPEN_NAME_MISSING;
		} else {
			if (len == PATH_BYTES)
				flags |= OPEN_NAME_TRUNCATED;
			len = (len - 1) & (PATH_BYTES - 1);
			r->name_len = len;
			off += len;
		}
	}
	r->h.flags = flags;
	if (off > sizeof(s->bytes))
		off = sizeof(s->bytes);
	/* Who looks for a program in one directory after the other makes many of these, which are only counted. */
	if (r->error == ENOENT)
		class = CLASS_NOISE;
	send_as(class, r, off);
	return 0;
}

SEC("fexit/__x64_sys_execve")
int BPF_PROG(exec_refused, void *regs, long ret)
{
	if (ret >= 0 || !current_watched())
		return 0;
	return report_refused(false, ret, AT_FDCWD, (void *)call_args().first);
}

SEC("fexit/__x64_sys_execveat")
int BPF_PROG(exec_refused_at, void *regs, long ret)
{
	struct call_args args;

	if (ret >= 0 || !current_watched())
		return 0;
	args = call_args();
	return report_refused(true, ret, args.first, (void *)args.second);
}

SEC("tracepoint/syscalls/sys_exit_execve")
int exec_refused_call(struct syscall_exit *ctx)
{
	if (ctx->ret >= 0 || !current_watched())
		return 0;
	return report_refused(false, ctx->ret, AT_FDCWD, (void *)call_args().first);
}

SEC("tracepoint/syscalls/sys_exit_execveat")
int exec_refused_call_at(struct syscall_exit *ctx)
{
	struct call_args args;

	if (ctx->ret >= 0 || !current_watched())
		return 0;
	args = call_args();
	return report_refused(true, ctx->ret, args.first, (void *)args.second);
}
