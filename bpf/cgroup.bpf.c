//go:build ignore
// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
/*
 * Membership as it changes: a directory made below a watched one is watched before any
 * task can be in it, and a task that leaves is noticed.
 */

struct cgroup_scratch { __u8 bytes[sizeof(union { struct record_cgroup c; struct record_attach a; }) + PATH_BYTES]; };

/* As exec_scratch; one for each of the three programs. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 3);
	__type(key, __u32);
	__type(value, struct cgroup_scratch);
} cgroup_scratch SEC(".maps");

/* The tracepoints fire for every mounted v1 hierarchy too, whose ids mean nothing here. */
static __always_inline bool is_v2(struct cgroup *cgroup)
{
	struct task_struct *task = (void *)bpf_get_current_task();

	return BPF_CORE_READ(task, cgroups, dfl_cgrp, root) == BPF_CORE_READ(cgroup, root);
}

static __always_inline int report_cgroup(struct cgroup *cgroup, const char *path, __u16 type, __u32 index,
					 __u64 parent)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	struct cgroup_scratch *s = bpf_map_lookup_elem(&cgroup_scratch, &index);
	struct record_cgroup *r = (void *)s;
	__u64 id = BPF_CORE_READ(cgroup, kn, id);
	long len;

	if (!s) {
		lose(id, type, LOSS_SCRATCH);
		return 0;
	}
	__builtin_memset(r, 0, sizeof(*r));
	fill_header(&r->h, type, task, bpf_get_current_cgroup_id());
	r->id = id;
	r->parent = parent;
	len = bpf_probe_read_kernel_str(s->bytes + sizeof(*r), PATH_BYTES, path);
	len = len > 0 ? (len - 1) & (PATH_BYTES - 1) : 0;
	r->path_len = len;
	/* What a sandbox makes itself is no more than a fact: it must not fill what is left to directories. */
	send_as(cgroup_flags(r->h.cgroup) & WATCH_TASKS ? CLASS_FACT : CLASS_DIRECTORY, r, sizeof(*r) + len);
	return 0;
}

static __always_inline __u64 parent_of(struct cgroup *cgroup)
{
	return BPF_CORE_READ(cgroup, self.parent, cgroup, kn, id);
}

SEC("tp_btf/cgroup_mkdir")
int BPF_PROG(cgroup_mkdir, struct cgroup *cgroup, const char *path)
{
	__u64 id, parent, sandbox;
	__u32 flags;

	if (!is_v2(cgroup))
		return 0;
	parent = parent_of(cgroup);
	flags = cgroup_flags(parent);
	if (!flags)
		return 0;
	/* Below a directory that is only a candidate's parent this is provisional: user space
	 * knows the pattern, takes the entry back if it does not match, and drops the records.
	 */
	id = BPF_CORE_READ(cgroup, kn, id);
	if (!(flags & WATCH_TASKS)) {
		flags |= WATCH_TASKS | WATCH_PROVISIONAL;
	} else {
		sandbox = sandbox_of(parent);
		bpf_map_update_elem(&sandboxes, &id, &sandbox, BPF_ANY);
	}
	if (bpf_map_update_elem(&cgroups, &id, &flags, BPF_ANY))
		lose(id, RECORD_CGROUP_MKDIR, LOSS_MAP_FULL);
	return report_cgroup(cgroup, path, RECORD_CGROUP_MKDIR, 0, parent);
}

SEC("tp_btf/cgroup_rmdir")
int BPF_PROG(cgroup_rmdir, struct cgroup *cgroup, const char *path)
{
	__u64 id = BPF_CORE_READ(cgroup, kn, id);

	if (!is_v2(cgroup))
		return 0;
	bpf_map_delete_elem(&sandboxes, &id);
	bpf_map_delete_elem(&shares, &id);
	if (bpf_map_delete_elem(&cgroups, &id))
		return 0;
	return report_cgroup(cgroup, path, RECORD_CGROUP_RMDIR, 1, parent_of(cgroup));
}

SEC("tp_btf/cgroup_attach_task")
int BPF_PROG(cgroup_attach, struct cgroup *to, const char *path, struct task_struct *task, bool threadgroup)
{
	__u32 index = 2, tgid;
	struct cgroup_scratch *s;
	struct record_attach *r;
	bool was, is;
	__u32 flags;
	__u64 id, start, *from;
	long len;

	if (!is_v2(to))
		return 0;
	id = BPF_CORE_READ(to, kn, id);
	tgid = BPF_CORE_READ(task, tgid);
	/* Where it was may be watched no more: a provisional directory that matched no selector. */
	from = bpf_map_lookup_elem(&watched, &tgid);
	was = from && (cgroup_flags(*from) & WATCH_TASKS || is_followed(tgid));
	flags = cgroup_flags(id);
	is = flags & WATCH_TASKS;
	if (!was && !is) {
		bpf_map_delete_elem(&watched, &tgid);
		return 0;
	}
	start = BPF_CORE_READ(task, group_leader, start_boottime);
	if (bpf_map_update_elem(&watched, &tgid, &id, BPF_ANY))
		lose(id, RECORD_CGROUP_ATTACH, LOSS_MAP_FULL);
	/* A thread that comes back says nothing of the others, which may be outside still (threaded cgroups). */
	if (!is || (was && flags & WATCH_PROVISIONAL))
		follow(tgid, start, id, RECORD_CGROUP_ATTACH);
	else if (threadgroup)
		unfollow(tgid);

	s = bpf_map_lookup_elem(&cgroup_scratch, &index);
	if (!s) {
		lose(id, RECORD_CGROUP_ATTACH, LOSS_SCRATCH);
		return 0;
	}
	r = (void *)s;
	__builtin_memset(r, 0, sizeof(*r));
	fill_header(&r->h, RECORD_CGROUP_ATTACH, task, id);
	r->mover_tgid = bpf_get_current_pid_tgid() >> 32;
	r->vpid = vpid(task);
	r->watched = was;
	len = bpf_probe_read_kernel_str(s->bytes + sizeof(*r), PATH_BYTES, path);
	len = len > 0 ? (len - 1) & (PATH_BYTES - 1) : 0;
	r->path_len = len;
	send(r, sizeof(*r) + len);
	return 0;
}
