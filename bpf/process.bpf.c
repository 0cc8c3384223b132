//go:build ignore
// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
// Processes coming and going: fork, exit, and those that were there before.

SEC("tp_btf/sched_process_fork")
int BPF_PROG(process_fork, struct task_struct *parent, struct task_struct *child)
{
	__u64 cgroup, child_cgroup = 0, start = 0;
	struct record_fork *r;
	struct header h;
	__u32 tgid = 0, flags = 0;
	bool watched_cgroup = false, watched_parent = current_watched(), thread;

	/* A thread may have namespaces of its own all the same. */
	thread = BPF_CORE_READ(child, tgid) == BPF_CORE_READ(parent, tgid);
	cgroup = bpf_get_current_cgroup_id();
	if (!thread) {
		/* Not the current cgroup: that is the parent's, and clone3() can place the child elsewhere. */
		child_cgroup = task_cgroup(child);
		flags = cgroup_flags(child_cgroup);
		watched_cgroup = flags & WATCH_TASKS;
	}
	if (!watched_cgroup && !watched_parent)
		return 0;
	if (!thread) {
		start = BPF_CORE_READ(child, start_boottime);
		tgid = BPF_CORE_READ(child, tgid);
		if (bpf_map_update_elem(&watched, &tgid, &child_cgroup, BPF_ANY))
			lose(child_cgroup, RECORD_CGROUP_ATTACH, LOSS_MAP_FULL);
		/* Where the parent is in the same directory, and not followed, the word on it is about both. */
		if (!watched_cgroup || (flags & WATCH_PROVISIONAL && watched_parent &&
					(child_cgroup != cgroup || is_followed(bpf_get_current_pid_tgid() >> 32))))
			follow(tgid, start, child_cgroup, RECORD_FORK);
	}
	if (watched_parent)
		report_clone(parent, child, cgroup);
	if (thread)
		return 0;
	/* What is lost is the child's. */
	fill_header(&h, RECORD_FORK, parent, child_cgroup);
	r = reserve(struct record_fork, &h);
	if (!r)
		return 0;
	r->h.cgroup = cgroup;
	r->child_start = start;
	r->child_cgroup = child_cgroup;
	r->child_tgid = tgid;
	r->child_vpid = vpid(child);
	submit(r);
	return 0;
}

SEC("tp_btf/sched_process_exit")
int BPF_PROG(process_exit, struct task_struct *task)
{
	struct signal_struct *signal = BPF_CORE_READ(task, signal);
	struct task_struct *leader;
	struct record_exit *r;
	struct header h;
	__u32 tgid;
	bool watched_now;

	forget_change(BPF_CORE_READ(task, pid));
	/* do_exit() counts itself out before this hook. Of threads that leave at the same time
	 * more than one can see zero: the collector takes the first record of a process.
	 */
	if (BPF_CORE_READ(signal, live.counter) > 0)
		return 0;
	watched_now = current_watched();
	tgid = BPF_CORE_READ(task, tgid);
	/* Also where the cgroup is watched no more: the tgid will be another's. */
	bpf_map_delete_elem(&watched, &tgid);
	unfollow(tgid);
	if (!watched_now)
		return 0;

	fill_header(&h, RECORD_EXIT, task, bpf_get_current_cgroup_id());
	r = reserve(struct record_exit, &h);
	if (!r)
		return 0;
	leader = BPF_CORE_READ(task, group_leader);
	/* signal->… holds the threads that were already released; the last one and a leader
	 * that left before it are not among them.
	 */
	r->cpu_ns = BPF_CORE_READ(signal, sum_sched_runtime) + BPF_CORE_READ(task, se.sum_exec_runtime);
	r->user_ns = BPF_CORE_READ(signal, utime) + BPF_CORE_READ(task, utime);
	r->system_ns = BPF_CORE_READ(signal, stime) + BPF_CORE_READ(task, stime);
	if (leader != task) {
		r->cpu_ns += BPF_CORE_READ(leader, se.sum_exec_runtime);
		r->user_ns += BPF_CORE_READ(leader, utime);
		r->system_ns += BPF_CORE_READ(leader, stime);
	}
	r->peak_rss = BPF_CORE_READ(signal, maxrss);
	/* As wait_task_zombie() reports it (kernel/exit.c). */
	r->status = BPF_CORE_READ(signal, flags) & SIGNAL_GROUP_EXIT ? BPF_CORE_READ(signal, group_exit_code) :
								       BPF_CORE_READ(leader, exit_code);
	submit(r);
	return 0;
}

enum { PROCESS_LIMIT = 2 * (PATH_BYTES + PATH_SLACK) + sizeof(struct record_process) };
struct process_scratch {
	__u8 bytes[(PROCESS_LIMIT + PATH_SLACK + 7) & ~7];
	struct walk walk;
	__u32 flags; /* enum exec_flags */
	__u32 pad;
};

/* One buffer: the iterator is read by the sensor alone, one process after the other. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct process_scratch);
} process_scratch SEC(".maps");

DEFINE_WALK(process, PROCESS_LIMIT)

/* exec flags for what a walk says of the path of an executable, and of a working directory. */
static __always_inline __u32 exe_path_flags(__u32 path_flags)
{
	__u32 flags = 0;

	if (path_flags & PATH_TRUNCATED)
		flags |= EXEC_EXE_TRUNCATED;
	if (path_flags & PATH_OUTSIDE)
		flags |= EXEC_EXE_OUTSIDE;
	if (path_flags & PATH_PSEUDO)
		flags |= EXEC_MEMFD;
	if (path_flags & PATH_UNLINKED)
		flags |= EXEC_UNLINKED;
	return flags;
}

static __always_inline __u32 cwd_path_flags(__u32 path_flags)
{
	__u32 flags = 0;

	if (path_flags & PATH_TRUNCATED)
		flags |= EXEC_CWD_TRUNCATED;
	if (path_flags & PATH_OUTSIDE)
		flags |= EXEC_CWD_OUTSIDE;
	if (path_flags & PATH_UNLINKED)
		flags |= EXEC_CWD_DELETED;
	return flags;
}

/* exec flags for whose word the paths of a process are. */
static __always_inline __u32 foreign_flags(struct task_struct *task)
{
	__u32 flags = 0;

	if (foreign_mounts(task))
		flags |= EXEC_FOREIGN_MOUNTS;
	if (!own_root((__u64)BPF_CORE_READ(task, group_leader)))
		flags |= EXEC_FOREIGN_ROOT;
	return flags;
}

/* Set by user space for further passes: parents can have higher pids than their children, so that one pass may not
 * find all that is below an agent.
 */
bool existing_again;

/* Whether a process is to be told of. found: outside of every sandbox, because of its name. */
static __always_inline bool existing_wanted(struct task_struct *task, __u64 cgroup, __u32 tgid, bool *found)
{
	__u32 parent;

	if (cgroup_flags(cgroup) & WATCH_TASKS)
		return !existing_again;
	/* The sensor itself, which iterates: it may have been started below an agent. */
	if (tgid == bpf_get_current_pid_tgid() >> 32)
		return false;
	if (!find_agents || (existing_again && bpf_map_lookup_elem(&watched, &tgid)))
		return false;
	*found = maybe_agent(task);
	parent = BPF_CORE_READ(task, real_parent, tgid);
	if (!*found && !is_followed(parent))
		return false;
	return follow(tgid, BPF_CORE_READ(task, start_boottime), cgroup, RECORD_PROCESS);
}

/* Whether nothing of a process runs any more, though nobody has waited for it: its exit was told of, if it was to be. */
static __always_inline bool is_over(struct task_struct *task)
{
	return BPF_CORE_READ(task, signal, live.counter) <= 0;
}

SEC("iter/task")
int process_existing(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task, *parent;
	struct seq_file *seq = ctx->meta->seq;
	struct process_scratch *s;
	struct record_process *r;
	struct dentry *cwd;
	struct file *exe;
	__u64 cgroup, off;
	__u32 zero = 0, tgid;
	bool found = false;

	if (!task || BPF_CORE_READ(task, group_leader) != task || is_over(task))
		return 0;
	cgroup = task_cgroup(task);
	tgid = BPF_CORE_READ(task, tgid);
	if (!existing_wanted(task, cgroup, tgid, &found))
		return 0;
	if (bpf_map_update_elem(&watched, &tgid, &cgroup, BPF_ANY))
		lose(cgroup, RECORD_CGROUP_ATTACH, LOSS_MAP_FULL);
	/* Its end may have come before the entries that it takes away. */
	if (is_over(task)) {
		bpf_map_delete_elem(&watched, &tgid);
		unfollow(tgid);
		return 0;
	}

	s = bpf_map_lookup_elem(&process_scratch, &zero);
	if (!s)
		return 0;
	s->flags = found ? EXEC_FOUND : 0;
	r = (void *)s;
	__builtin_memset(r, 0, sizeof(*r));
	fill_header(&r->h, RECORD_PROCESS, task, cgroup);
	parent = BPF_CORE_READ(task, real_parent, group_leader);
	r->parent_tgid = BPF_CORE_READ(parent, tgid);
	r->parent_start = BPF_CORE_READ(parent, start_boottime);
	r->uid = BPF_CORE_READ(task, cred, uid.val);
	r->vpid = vpid(task);
	s->flags |= foreign_flags(task);

	off = sizeof(*r);
	exe = BPF_CORE_READ(task, mm, exe_file);
	if (exe) {
		struct inode *inode = BPF_CORE_READ(exe, f_inode);

		r->inode = BPF_CORE_READ(inode, i_ino);
		r->dev = BPF_CORE_READ(inode, i_sb, s_dev);
		r->exe_uid = BPF_CORE_READ(inode, i_uid.val);
		/* Who has the capability in a user namespace of his own can name any file that he can open. (One who shares the memory
		 * can do that for a process that is in none.)
		 */
		if (!(BPF_CORE_READ(exe, f_flags) & FMODE_EXEC) ||
		    BPF_CORE_READ((struct task_struct___mounts *)task, cred, user_ns, level) > 0)
			s->flags |= EXEC_EXE_SET;
		off = walk_process(s, BPF_CORE_READ(exe, f_path.mnt), BPF_CORE_READ(exe, f_path.dentry), task, off);
		s->flags |= exe_path_flags(s->walk.flags);
	}
	r->exe_len = off - sizeof(*r);
	cwd = BPF_CORE_READ(task, fs, pwd.dentry);
	if (cwd && off <= PROCESS_LIMIT) {
		__u64 from = off;

		off = walk_process(s, BPF_CORE_READ(task, fs, pwd.mnt), cwd, task, off);
		r->cwd_len = off - from;
		s->flags |= cwd_path_flags(s->walk.flags);
	}
	r->h.flags = s->flags;
	if (off > sizeof(s->bytes))
		off = sizeof(s->bytes);
	r->h.size = off;
	bpf_seq_write(seq, s, off);
	return 0;
}
