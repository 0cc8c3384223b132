/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
#ifndef SHEETBEND_RING_H
#define SHEETBEND_RING_H

/*
 * The one ordered stream out of the kernel, and the account of what did not get
 * into it. A ring per kind of event would lose the order of exec, open and exit
 * of one process.
 */

/* Bytes; set by the loader. When full, bpf_ringbuf_output and _reserve refuse and the record is counted in `losses`. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 8 << 20);
} ring SEC(".maps");

/* What was lost, exactly: struct loss_key -> count. Full: the count goes to losses_unkeyed, so only the key is lost. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, struct loss_key);
	__type(value, __u64);
} losses SEC(".maps");

/* Losses by kind (low five bits: enum record_type) and cause (the rest) for which `losses` had no room. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 256);
	__type(key, __u32);
	__type(value, __u64);
} losses_unkeyed SEC(".maps");

/* Fill level from which the reader is woken; below it the reader's own poll collects. A
 * wake-up for each record would cost more than the record (docs/benchmarks.md).
 */
const volatile __u64 wake_bytes = 1 << 20;
/* Wake-ups are sent only while the level passes through this many bytes above wake_bytes:
 * a reader that is already busy need not be told again.
 */
enum { WAKE_WINDOW = 64 << 10 };

static __always_inline void lose(__u64 cgroup, __u16 kind, __u16 cause)
{
	struct loss_key key = { .cgroup = cgroup, .kind = kind, .cause = cause };
	__u64 one = 1, *count;
	__u32 index;

	count = bpf_map_lookup_elem(&losses, &key);
	if (!count) {
		if (!bpf_map_update_elem(&losses, &key, &one, BPF_NOEXIST))
			return;
		/* Another CPU made it first, or the map is full. */
		count = bpf_map_lookup_elem(&losses, &key);
	}
	if (!count) {
		index = ((__u32)kind & 31) | ((__u32)cause & 7) << 5;
		count = bpf_map_lookup_elem(&losses_unkeyed, &index);
	}
	if (count)
		__sync_fetch_and_add(count, 1);
}

static __always_inline __u64 wake_flags(void)
{
	__u64 level = bpf_ringbuf_query(&ring, BPF_RB_AVAIL_DATA);

	if (level >= wake_bytes && level - wake_bytes < WAKE_WINDOW)
		return BPF_RB_FORCE_WAKEUP;
	return BPF_RB_NO_WAKEUP;
}

/* Sends size bytes that begin with a struct header. */
static __always_inline bool send(void *record, __u64 size)
{
	struct header *h = record;

	h->size = size;
	if (!bpf_ringbuf_output(&ring, record, size, wake_flags()))
		return true;
	lose(h->cgroup, h->type, LOSS_RING_FULL);
	return false;
}

/* For hooks that may be preempted by another run of themselves on the same CPU, where a
 * per-CPU buffer would be shared: the record is built in the ring itself.
 */
#define reserve(type_name, kind, cgroup_id)                                             \
	({                                                                              \
		type_name *r_ = bpf_ringbuf_reserve(&ring, sizeof(type_name), 0);       \
		if (r_)                                                                 \
			__builtin_memset(r_, 0, sizeof(*r_));                           \
		else                                                                    \
			lose(cgroup_id, kind, LOSS_RING_FULL);                          \
		r_;                                                                     \
	})

static __always_inline void submit(void *record)
{
	bpf_ringbuf_submit(record, wake_flags());
}

#endif
