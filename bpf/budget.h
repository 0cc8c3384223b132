/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
#ifndef SHEETBEND_BUDGET_H
#define SHEETBEND_BUDGET_H

/*
 * What is left out when the reader falls behind, and in which order. A record is refused when the ring is fuller than
 * its class may have it, or when its sandbox has in the ring more than the class's part of a budget. So a sandbox
 * that floods the ring pays for it first, with its least important records. Nothing of this is looked at
 * while the ring is below wake_bytes.
 */

enum class {
	CLASS_REPEAT,    /* a read of a file that this program has read before, as was told */
	CLASS_NOISE,     /* a read of what every program reads */
	CLASS_READ,      /* another successful read */
	CLASS_FACT,      /* all that is none of these */
	CLASS_CHANGE,    /* that a file was changed other than by an open */
	CLASS_PROGRAM,   /* what begins and ends processes, without which nobody knows whose the others are */
	CLASS_DIRECTORY, /* that a cgroup was made or removed from outside: the same of its processes */
};

/* Bytes; set by the loader. budget_bytes: of the ring, for one sandbox. */
const volatile __u64 ring_bytes = 8 << 20;
const volatile __u64 budget_bytes = 4 << 20;

/* cgroup v2 id -> that of the sandbox that it lies in; none: it is one itself. Written with `cgroups`, goes with
 * the directory. Full: the directory counts as a sandbox of its own.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__uint(map_flags, 1); /* BPF_F_NO_PREALLOC */
	__type(key, __u64);
	__type(value, __u64);
} sandboxes SEC(".maps");

/* What a sandbox has in the ring. Positions are those of the ring, in bytes since it was made. Races between CPUs make
 * this wrong by a record or two; what is lost is counted elsewhere.
 */
struct share {
	__u64 from;   /* position at which `since` began */
	__u64 last;   /* of the last record */
	__u64 before; /* bytes sent before `from` that may be unread */
	__u64 since;  /* bytes sent since */
};

/* Sandbox -> struct share, while the ring fills. Entries go with the directory. Full: those without one
 * share `share_of_others`.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__uint(map_flags, 1);
	__type(key, __u64);
	__type(value, struct share);
} shares SEC(".maps");

struct share share_of_others;

static __always_inline __u64 sandbox_of(__u64 cgroup)
{
	__u64 *sandbox = bpf_map_lookup_elem(&sandboxes, &cgroup);

	return sandbox ? *sandbox : cgroup;
}

/* Of what is no read. */
enum program_kinds {
	PROGRAM_KINDS = 1 << RECORD_FORK | 1 << RECORD_EXEC | 1 << RECORD_EXEC_ARGS | 1 << RECORD_EXIT |
			1 << RECORD_CGROUP_ATTACH | 1 << RECORD_PROCESS | 1 << RECORD_OOM,
};
static __always_inline __u32 class_of(__u16 kind)
{
	if (PROGRAM_KINDS >> (kind & 31) & 1)
		return CLASS_PROGRAM;
	return kind == RECORD_CHANGE ? CLASS_CHANGE : CLASS_FACT;
}

/* Of the ring and of a budget alike, of what is a read. */
static __always_inline __u64 part(__u32 class, __u64 of)
{
	if (class == CLASS_REPEAT)
		return of / 2;
	return class == CLASS_NOISE ? of / 8 * 5 : of / 4 * 3;
}

/* Asks whether a record may be sent at this fill level; counts it in and returns 0 if so, else the cause. A global
 * function: the verifier looks at it once.
 */
__noinline int refuse(__u64 level, __u64 cgroup, __u32 class, __u32 size)
{
	__u64 sandbox, read, written, held, rank = class - CLASS_FACT;
	struct share *s, none = {};

	if (class < CLASS_FACT && level >= part(class, ring_bytes))
		return LOSS_SHED_REPEAT + class;
	/* Of each of the last three 1/32 some more important ones are left: changes, programs, directories. */
	if (class >= CLASS_FACT && class < CLASS_DIRECTORY && level + size > ring_bytes / 32 * (29 + rank))
		return LOSS_RING_FULL;
	if (class == CLASS_DIRECTORY)
		rank = CLASS_PROGRAM - CLASS_FACT; /* in its maker's budget it is one of these */
	sandbox = sandbox_of(cgroup);
	s = bpf_map_lookup_elem(&shares, &sandbox);
	if (!s) {
		bpf_map_update_elem(&shares, &sandbox, &none, BPF_NOEXIST);
		s = bpf_map_lookup_elem(&shares, &sandbox);
		if (!s)
			s = &share_of_others;
	}
	read = bpf_ringbuf_query(&ring, BPF_RB_CONS_POS);
	written = bpf_ringbuf_query(&ring, BPF_RB_PROD_POS);
	/* The ring does not say whose the records are that were read: `before` counts in full until all of it is. */
	if (read >= s->last) {
		s->before = s->since = 0;
		s->from = written;
	} else if (read >= s->from) {
		s->before = s->since;
		s->since = 0;
		s->from = written;
	}
	held = s->before + s->since;
	/* What is no read has to go, of a spent budget, only when the last 5/32 of the ring are all there is for the others;
	 * the less important earlier.
	 */
	if (class < CLASS_FACT && held >= part(class, budget_bytes))
		return LOSS_BUDGET_REPEAT + class;
	if (class >= CLASS_FACT && held >= budget_bytes && level >= ring_bytes / 32 * (25 + rank))
		return LOSS_BUDGET_FACT;
	__sync_fetch_and_add(&s->since, size);
	s->last = written;
	return 0;
}

#endif
