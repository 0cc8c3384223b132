//go:build ignore
// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
/*
 * A successful exec, at sched_process_exec: the old image is gone and no thread but
 * this one is left, so argv and the environment lie in memory that nothing of the
 * sandbox has run in yet. What is read here is what the program will see, whatever
 * the caller does to its own copy.
 */

enum {
	ARGS_INLINE = 8192,        /* argv up to this size goes with the exec record */
	ARGS_PIECE = 4096,
	ARGS_PIECES = 65,          /* 64 whole pages and a partial one: argv up to 256 KiB */
	ENV_KEPT = 8192,           /* listed variables in all */
	ENV_STRING = 4096,         /* of one variable */
	ENV_STRINGS = 32768,       /* searched with bpf_loop: 128 KiB hold no more than that of use */
	ENV_STRINGS_BOUNDED = 2048, /* before 5.17: every turn is verified */
	ENV_NAME = 32,
};

/* State of the search; in the scratch buffer for the reason given at struct walk. */
struct env_search {
	__u64 addr;
	__u64 end;
	__u32 off;
	__u32 keep_end;  /* offset behind which nothing more is kept */
	__u32 in_middle; /* of a string: the next bytes are no name */
	__u32 truncated;
};

enum { EXEC_SCRATCH = (32 << 10) - 128, EXEC_LIMIT = EXEC_SCRATCH - 4096 - PATH_SLACK };
struct exec_scratch {
	__u8 bytes[EXEC_SCRATCH];
	struct walk walk;
	struct env_search env;
	__u32 flags;     /* enum exec_flags */
	__u32 args_done; /* bytes of argv read so far */
	__u64 args_start;
	__u64 args_size;
};

/* Per CPU, and used by one program only: a program never runs within itself on a CPU
 * (before 5.12 because tracepoints disable preemption, since then also because the kernel
 * refuses and counts it). 32 KiB is the most that a per-CPU value can be.
 */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct exec_scratch);
} exec_scratch SEC(".maps");

struct env_name { __u64 words[ENV_NAME / 8]; };

/* Names of the variables that are reported, zero-padded. Set by the loader, which refuses a list that does not fit. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 256);
	__type(key, struct env_name);
	__type(value, __u8);
} env_names SEC(".maps");

DEFINE_WALK(exec, EXEC_LIMIT)

/* Fills key with the bytes before the first '=' and tells whether there is one within
 * ENV_NAME bytes and within the string. Eight bytes at a time.
 */
static __always_inline bool env_key(const __u8 *string, struct env_name *key)
{
	const __u64 ones = 0x0101010101010101ULL, highs = 0x8080808080808080ULL;
	const __u64 *words = (const __u64 *)string;
	bool found = false;

#pragma unroll
	for (int i = 0; i < ENV_NAME / 8; i++) {
		__u64 word = words[i], x = word ^ ('=' * ones), equals, ends;

		if (found)
			continue;
		equals = (x - ones) & ~x & highs;
		ends = (word - ones) & ~word & highs;
		equals &= -equals;
		ends &= -ends;
		if (ends && (!equals || ends < equals))
			return false;
		if (equals) {
			word &= (equals >> 7) - 1;
			found = true;
		}
		key->words[i] = word;
	}
	return found;
}

/* One string of the environment; 1 at the end. Global functions for the reason given at DEFINE_WALK. */
__noinline int env_step(void)
{
	__u32 zero = 0;
	struct exec_scratch *s = bpf_map_lookup_elem(&exec_scratch, &zero);
	struct env_search *e;
	__u64 off;
	__u8 *to;
	long len;

	if (!s)
		return 1;
	e = &s->env;
	off = e->off;
	if (e->addr >= e->end)
		return 1;
	if (off > EXEC_LIMIT || off >= e->keep_end) {
		e->truncated = 1;
		return 1;
	}
	to = s->bytes + off;
	/* Read to where it would stay if it is wanted. */
	len = bpf_probe_read_user_str(to, ENV_STRING, (void *)e->addr);
	if (len <= 0) {
		/* This page is not resident: go on behind it. */
		e->truncated = 1;
		e->in_middle = 1;
		e->addr = (e->addr | 4095) + 1;
		return 0;
	}
	if (!e->in_middle) {
		struct env_name key = {};

		if (env_key(to, &key) && bpf_map_lookup_elem(&env_names, &key))
			e->off = off + (len & (2 * ENV_STRING - 1));
	}
	if (len >= ENV_STRING) {
		/* No end yet (the last byte is a NUL of the helper). */
		e->in_middle = 1;
		e->addr += ENV_STRING - 1;
	} else {
		e->in_middle = 0;
		e->addr += len;
	}
	return 0;
}

static __noinline long env_loop(__u32 i, void *ctx)
{
	return stop_if(env_step());
}

static __always_inline void env_find(struct exec_scratch *s)
{
	if (have_bpf_loop)
		bpf_loop(ENV_STRINGS, env_loop, NULL, 0);
	else
		for (int i = 0; i < ENV_STRINGS_BOUNDED; i++)
			if (env_step())
				break;
	if (s->env.addr < s->env.end)
		s->env.truncated = 1;
}

/* Reads the next bytes of argv, at most up to the end of their page: a page that is not resident
 * loses only itself (the helper leaves zeros). Returns their number, 0 at the end.
 */
static __always_inline __u64 read_args(struct exec_scratch *s, __u8 *to)
{
	__u64 addr = s->args_start + s->args_done, left = s->args_size - s->args_done;
	__u64 len = ARGS_PIECE - (addr & (ARGS_PIECE - 1));

	if (left < len)
		len = left;
	barrier_var(len);
	if (!len || len > ARGS_PIECE)
		return 0;
	if (bpf_probe_read_user(to, len, (void *)addr))
		s->flags |= EXEC_ARGS_MISSING;
	s->args_done += len;
	return len;
}

/* Sends the next piece of argv; 1 at the end. */
__noinline int send_args_step(void)
{
	__u32 zero = 0;
	struct exec_scratch *s = bpf_map_lookup_elem(&exec_scratch, &zero);
	struct record_exec_args *r = (void *)s;
	__u64 len;

	if (!s)
		return 1;
	r->offset = s->args_done;
	len = read_args(s, s->bytes + sizeof(*r));
	r->len = len;
	if (!len || len > ARGS_PIECE)
		return 1;
	send(r, sizeof(*r) + len);
	return 0;
}

static __noinline long send_args_loop(__u32 i, void *ctx)
{
	return stop_if(send_args_step());
}

/* Sends argv in pieces ahead of the exec record. */
static __always_inline void send_args(struct exec_scratch *s, struct task_struct *task, __u64 cgroup)
{
	fill_header((struct header *)s, RECORD_EXEC_ARGS, task, cgroup);
	if (have_bpf_loop)
		bpf_loop(ARGS_PIECES, send_args_loop, NULL, 0);
	else
		for (int i = 0; i < ARGS_PIECES; i++)
			if (send_args_step())
				break;
}

SEC("tp_btf/sched_process_exec")
int BPF_PROG(process_exec, struct task_struct *task, pid_t old_pid, struct linux_binprm *bprm)
{
	struct task_struct *parent;
	struct exec_scratch *s;
	struct record_exec *r;
	struct mm_struct *mm;
	struct inode *inode;
	struct file *exe;
	__u64 cgroup, arg_size, sent_size, env_size;
	__u64 off, from;
	__u32 zero = 0, tgid, flags, found = 0;
	bool watched_before;
	long len;

	forget_change(old_pid); /* of a thread that takes the leader's number: its own ends without an exit */
	cgroup = bpf_get_current_cgroup_id();
	tgid = BPF_CORE_READ(task, tgid);
	flags = cgroup_flags(cgroup);
	watched_before = flags & WATCH_TASKS || is_followed(tgid);
	/* Also where it is watched already: as the child of a suspect that is none, or in a directory that is none of ours. */
	if (find_agents && maybe_agent(task))
		found = EXEC_FOUND;
	if (!watched_before && !found)
		return 0;
	if (found && (!watched_before || flags & WATCH_PROVISIONAL) &&
	    !follow(tgid, BPF_CORE_READ(task, group_leader, start_boottime), cgroup, RECORD_EXEC) && !watched_before)
		return 0;
	/* In case the fork found the map full. */
	bpf_map_update_elem(&watched, &tgid, &cgroup, BPF_NOEXIST);
	s = bpf_map_lookup_elem(&exec_scratch, &zero);
	if (!s) {
		lose(cgroup, RECORD_EXEC, LOSS_SCRATCH);
		return 0;
	}
	s->flags = found;
	s->args_done = 0;

	mm = BPF_CORE_READ(task, mm);
	s->args_start = BPF_CORE_READ(mm, arg_start);
	arg_size = BPF_CORE_READ(mm, arg_end) - s->args_start;
	env_size = BPF_CORE_READ(mm, env_end) - BPF_CORE_READ(mm, env_start);
	/* The kernel allows 6 MiB (three quarters of the stack limit's maximum for exec). */
	if (arg_size > (64 << 20))
		arg_size = 64 << 20;
	if (env_size > (64 << 20))
		env_size = 64 << 20;
	/* Anybody can start programs of these names: not at the cost of the sandboxes' room in the ring. */
	sent_size = arg_size;
	if (!watched_before && sent_size > ARGS_INLINE)
		sent_size = ARGS_INLINE;
	s->args_size = sent_size;
	if (sent_size > ARGS_INLINE)
		send_args(s, task, cgroup);

	r = (void *)s;
	__builtin_memset(r, 0, sizeof(*r));
	fill_header(&r->h, RECORD_EXEC, task, cgroup);
	parent = BPF_CORE_READ(task, real_parent, group_leader);
	r->parent_tgid = BPF_CORE_READ(parent, tgid);
	r->parent_start = BPF_CORE_READ(parent, start_boottime);
	r->uid = BPF_CORE_READ(task, cred, uid.val);
	r->euid = BPF_CORE_READ(task, cred, euid.val);
	r->egid = BPF_CORE_READ(task, cred, egid.val);
	r->vpid = vpid(task);
	r->argc = BPF_CORE_READ(bprm, argc);
	r->args_size = arg_size;
	if (BPF_CORE_READ_BITFIELD_PROBED(bprm, secureexec))
		s->flags |= EXEC_SECURE;

	if (BPF_CORE_READ(task, signal, leader))
		s->flags |= EXEC_SESSION_LEADER;
	s->flags |= foreign_flags(task);
	/* exec_mmap() has put the old image's peak here, which posix_spawn and vfork children share with their parent. */
	r->peak_rss = BPF_CORE_READ(task, signal, maxrss);

	exe = BPF_CORE_READ(mm, exe_file);
	inode = BPF_CORE_READ(exe, f_inode);
	r->inode = BPF_CORE_READ(inode, i_ino);
	r->dev = BPF_CORE_READ(inode, i_sb, s_dev);
	r->exe_uid = BPF_CORE_READ(inode, i_uid.val);
	if (!BPF_CORE_READ(inode, i_nlink))
		s->flags |= EXEC_UNLINKED;

	off = sizeof(*r);
	off = walk_exec(s, BPF_CORE_READ(exe, f_path.mnt), BPF_CORE_READ(exe, f_path.dentry), task, off);
	r->exe_len = off - sizeof(*r);
	s->flags |= exe_path_flags(s->walk.flags);

	from = off;
	off = walk_exec(s, BPF_CORE_READ(task, fs, pwd.mnt), BPF_CORE_READ(task, fs, pwd.dentry), task, off);
	r->cwd_len = off - from;
	s->flags |= cwd_path_flags(s->walk.flags);

	if (off <= EXEC_LIMIT) {
		len = bpf_probe_read_kernel_str(s->bytes + off, PATH_BYTES, BPF_CORE_READ(bprm, filename));
		if (len > 0) {
			r->filename_len = len - 1;
			off += (len - 1) & (PATH_BYTES - 1);
		}
	}

	s->env.addr = BPF_CORE_READ(mm, env_start);
	s->env.end = s->env.addr + env_size;
	s->env.off = off;
	s->env.keep_end = off + ENV_KEPT - ENV_STRING;
	s->env.in_middle = 0;
	s->env.truncated = 0;
	env_find(s);
	r->env_len = s->env.off - off;
	off = s->env.off;
	if (s->env.truncated)
		s->flags |= EXEC_ENV_TRUNCATED;

	if (sent_size <= ARGS_INLINE) {
		from = off;
		for (int i = 0; i < ARGS_INLINE / ARGS_PIECE + 1; i++) {
			if (off > EXEC_LIMIT)
				break;
			read_args(s, s->bytes + off);
			off = from + s->args_done;
		}
		r->args_len = s->args_done;
	}
	r->h.flags = s->flags;
	if (off > sizeof(s->bytes))
		off = sizeof(s->bytes);
	send(r, off);
	return 0;
}
