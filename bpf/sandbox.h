/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
#ifndef SHEETBEND_SANDBOX_H
#define SHEETBEND_SANDBOX_H

/*
 * Who is watched. Every hook asks this first, so that it costs a process outside of
 * every sandbox one hash look-up.
 */

enum watch_flags {
	WATCH_TASKS = 1,    /* tasks in this cgroup are watched */
	WATCH_CHILDREN = 2, /* directories made in it are watched from their first instant */
	/* User space may still take it back: who comes from a sandbox is followed, or it would be lost then. */
	WATCH_PROVISIONAL = 4,
};

/* cgroup v2 id -> enum watch_flags. Written by user space for the selected directories and
 * by cgroup_mkdir for those made below them. Full: the new directory is counted as lost and
 * user space tells of it. Entries go with the directory.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, __u64);
	__type(value, __u32);
} cgroups SEC(".maps");

/* tgid -> cgroup v2 id: every watched process and where it was last seen, kept only to notice that
 * one leaves. Full: the process is watched by its cgroup all the same, and the lack is counted
 * (RECORD_CGROUP_ATTACH).
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__uint(map_flags, 1); /* BPF_F_NO_PREALLOC: most hosts hold few */
	__type(key, __u32);
	__type(value, __u64);
} watched SEC(".maps");

/* tgid -> start time: processes that are watched wherever they are, by lineage: those that left the watched
 * cgroups, agents found by name, and what these forked since. 0: user space wants it no more; the entry goes
 * with the process, as all do. Full: the process is lost from sight, and counted (RECORD_CGROUP_ATTACH, RECORD_FORK,
 * RECORD_EXEC or RECORD_PROCESS).
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__uint(map_flags, 1);
	__type(key, __u32);
	__type(value, __u64);
} followed SEC(".maps");

/* Number of entries in `followed`, so that the usual case (none) pays no second look-up. */
__u64 followed_count;

static __always_inline __u32 cgroup_flags(__u64 id)
{
	__u32 *flags = bpf_map_lookup_elem(&cgroups, &id);

	return flags ? *flags : 0;
}

static __always_inline bool is_followed(__u32 tgid)
{
	__u64 *start;

	if (!followed_count)
		return false;
	start = bpf_map_lookup_elem(&followed, &tgid);
	return start && *start;
}

/* kind: of the record that a full map loses. */
static __always_inline bool follow(__u32 tgid, __u64 start, __u64 cgroup, __u16 kind)
{
	__u64 *known = bpf_map_lookup_elem(&followed, &tgid);

	if (known) {
		*known = start;
		return true;
	}
	if (bpf_map_update_elem(&followed, &tgid, &start, BPF_ANY)) {
		lose(cgroup, kind, LOSS_MAP_FULL);
		return false;
	}
	__sync_fetch_and_add(&followed_count, 1);
	return true;
}

static __always_inline void unfollow(__u32 tgid)
{
	if (followed_count && !bpf_map_delete_elem(&followed, &tgid))
		__sync_fetch_and_add(&followed_count, -1);
}

static __always_inline __u64 task_cgroup(struct task_struct *task)
{
	return BPF_CORE_READ(task, cgroups, dfl_cgrp, kn, id);
}

/* Names of programs that may be agents, wherever they are started: the base name of the executable, zero-padded. What
 * it is, user space decides. Set by the loader, which refuses a list that does not fit; empty unless agents are looked for.
 */
enum { PROGRAM_NAME = 64, STEM = 16 };
enum name_match {
	NAME_WHOLE = 1,
	NAME_STEM = 2, /* what stands before the first digit, dot or dash: python3.11, node-22 */
};
struct program_name {
	union {
		__u8 bytes[PROGRAM_NAME];
		__u64 words[PROGRAM_NAME / 8];
	};
};
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 512);
	__type(key, struct program_name);
	__type(value, __u8);
} agent_names SEC(".maps");

/* Set by the loader. */
const volatile bool find_agents = false;

/* Whether the program that a task runs has one of the names. */
static __always_inline bool maybe_agent(struct task_struct *task)
{
	/* Kernels 5.8 to 6.1 without a fix write a NUL before the destination when the first byte faults. */
	struct { __u64 before; struct program_name name; } key = {};
	struct file *exe = BPF_CORE_READ(task, mm, exe_file);
	bool cut = false;
	struct dentry *file;
	__u8 *match;

	if (!exe)
		return false;
	file = BPF_CORE_READ(exe, f_path.dentry);
	if (bpf_probe_read_kernel_str(&key.name, sizeof(key.name), BPF_CORE_READ(file, d_name.name)) <= 0)
		return false;
	match = bpf_map_lookup_elem(&agent_names, &key.name);
	if (match && *match & NAME_WHOLE)
		return true;
	if (key.name.bytes[0] >= '0' && key.name.bytes[0] <= '9') {
		/* A version, as in …/claude/versions/2.0.64: the name is the directory's of all versions. */
		__builtin_memset(&key, 0, sizeof(key));
		if (bpf_probe_read_kernel_str(&key.name, sizeof(key.name), BPF_CORE_READ(file, d_parent, d_parent, d_name.name)) <= 0)
			return false;
		match = bpf_map_lookup_elem(&agent_names, &key.name);
		return match && *match & NAME_WHOLE;
	}
#pragma unroll
	for (int i = 0; i < STEM; i++) {
		__u8 c = key.name.bytes[i];

		cut |= c == '.' || c == '-' || (c >= '0' && c <= '9');
		if (cut)
			key.name.bytes[i] = 0;
	}
#pragma unroll
	for (int i = STEM / 8; i < PROGRAM_NAME / 8; i++)
		key.name.words[i] = 0;
	match = bpf_map_lookup_elem(&agent_names, &key.name);
	return match && *match & NAME_STEM;
}

/* For programs whose type has both helpers (all but cgroup/…). */
static __always_inline bool current_watched(void)
{
	if (cgroup_flags(bpf_get_current_cgroup_id()) & WATCH_TASKS)
		return true;
	return is_followed(bpf_get_current_pid_tgid() >> 32);
}

/* bpf_get_current_task_btf() came with 5.11; set by the loader. Fields behind it are read by plain
 * loads, each of which saves the call of a helper (some 15 ns).
 */
const volatile bool have_task_btf = true;

/* Fills all of the header but size. */
static __always_inline void fill_header(struct header *h, __u16 type, struct task_struct *task, __u64 cgroup)
{
	h->type = type;
	h->flags = 0;
	h->size = 0;
	h->time = bpf_ktime_get_boot_ns();
	h->cgroup = cgroup;
	h->start = BPF_CORE_READ(task, group_leader, start_boottime);
	h->exec_id = BPF_CORE_READ(task, self_exec_id);
	h->tgid = BPF_CORE_READ(task, tgid);
	h->tid = BPF_CORE_READ(task, pid);
}

/* The same for the current task. */
static __always_inline void fill_header_current(struct header *h, __u16 type, __u64 cgroup)
{
	struct task_struct *task;

	if (!have_task_btf) {
		fill_header(h, type, (void *)bpf_get_current_task(), cgroup);
		return;
	}
	task = (void *)bpf_get_current_task_btf();
	h->type = type;
	h->flags = 0;
	h->size = 0;
	h->time = bpf_ktime_get_boot_ns();
	h->cgroup = cgroup;
	h->start = task->group_leader->start_boottime;
	h->exec_id = task->self_exec_id;
	h->tgid = task->tgid;
	h->tid = task->pid;
}

/* The process id in the process's own (innermost) pid namespace. */
static __always_inline __u32 vpid(struct task_struct *task)
{
	struct pid *pid = BPF_CORE_READ(task, group_leader, thread_pid);
	unsigned int level = BPF_CORE_READ(pid, level);
	int nr = 0;

	/* numbers[level] would step by the size of the struct upid here, not the kernel's. */
	bpf_probe_read_kernel(&nr, sizeof(nr), (void *)pid + bpf_core_field_offset(struct pid, numbers) +
						       level * bpf_core_type_size(struct upid) +
						       bpf_core_field_offset(struct upid, nr));
	return nr;
}

#endif
