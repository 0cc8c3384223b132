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

/* What was lost, exactly: struct loss_key, of no process -> count. Full: the count goes to losses_unkeyed, so only the key is lost. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, struct loss_key);
	__type(value, __u64);
} losses SEC(".maps");

/* The same by process, of what a process does while it runs. User space removes the entries of those that have ended.
 * Full: the count goes to `losses`.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, struct loss_key);
	__type(value, __u64);
} process_losses SEC(".maps");

/* Losses by kind (low five bits: enum record_type) and cause (the rest) for which `losses` had no room. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 512);
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

/* Adds one to a counter, and makes it if need be; false: no room. */
static __always_inline bool count_in(void *map, const struct loss_key *key)
{
	__u64 one = 1, *count;

	count = bpf_map_lookup_elem(map, key);
	if (!count) {
		if (!bpf_map_update_elem(map, key, &one, BPF_NOEXIST))
			return true;
		/* Another CPU made it first, or the map is full. */
		count = bpf_map_lookup_elem(map, key);
		if (!count)
			return false;
	}
	__sync_fetch_and_add(count, 1);
	return true;
}

static __always_inline void lose(__u64 cgroup, __u16 kind, __u16 cause)
{
	struct loss_key key = { .cgroup = cgroup, .kind = kind, .cause = cause };
	__u64 *count;
	__u32 index;

	if (count_in(&losses, &key))
		return;
	index = ((__u32)kind & 31) | ((__u32)cause & 15) << 5;
	count = bpf_map_lookup_elem(&losses_unkeyed, &index);
	if (count)
		__sync_fetch_and_add(count, 1);
}

static __always_inline void lose_record(const struct header *h, __u16 cause)
{
	struct loss_key key = { .cgroup = h->cgroup, .start = h->start, .tgid = h->tgid, .kind = h->type, .cause = cause };

	if (!(PROCESS_KINDS >> key.kind & 1) || !count_in(&process_losses, &key))
		lose(key.cgroup, key.kind, cause);
}

#include "budget.h"

static __always_inline __u64 ring_level(void)
{
	return bpf_ringbuf_query(&ring, BPF_RB_AVAIL_DATA);
}

static __always_inline __u64 wake_flags(__u64 level)
{
	if (level >= wake_bytes && level - wake_bytes < WAKE_WINDOW)
		return BPF_RB_FORCE_WAKEUP;
	return BPF_RB_NO_WAKEUP;
}

/* The cause for which a record is not sent now; 0: there is room. Below wake_bytes the reader is not even late. */
static __always_inline __u16 no_room(__u64 level, __u64 cgroup, __u32 class, __u32 size)
{
	return level < wake_bytes ? 0 : refuse(level, cgroup, class, size);
}

/* Sends size bytes that begin with a struct header, for which there is room. */
static __always_inline bool send_admitted(void *record, __u64 size, __u64 level)
{
	struct header *h = record;

	h->size = size;
	if (!bpf_ringbuf_output(&ring, record, size, wake_flags(level)))
		return true;
	lose_record(h, LOSS_RING_FULL);
	return false;
}

/* The same of a class, if there is room. */
static __always_inline bool send_as(__u32 class, void *record, __u64 size)
{
	struct header *h = record;
	__u64 level = ring_level();
	__u16 cause = no_room(level, h->cgroup, class, size);

	if (!cause)
		return send_admitted(record, size, level);
	lose_record(h, cause);
	return false;
}

static __always_inline bool send(void *record, __u64 size)
{
	return send_as(class_of(((struct header *)record)->type), record, size);
}

/* For hooks that may be preempted by another run of themselves on the same CPU, where a
 * per-CPU buffer would be shared: the record is built in the ring itself.
 */
#define reserve(type_name, header)                                                      \
	({                                                                              \
		__u64 level_ = ring_level();                                            \
		__u16 cause_ = no_room(level_, (header)->cgroup, class_of((header)->type), sizeof(type_name)); \
		type_name *r_ = NULL;                                                   \
		if (!cause_) {                                                          \
			r_ = bpf_ringbuf_reserve(&ring, sizeof(type_name), 0);          \
			cause_ = LOSS_RING_FULL;                                        \
		}                                                                       \
		if (r_) {                                                               \
			__builtin_memset(r_, 0, sizeof(*r_));                           \
			r_->h = *(header);                                              \
			r_->h.size = sizeof(*r_);                                       \
		} else {                                                                \
			lose_record(header, cause_);                                    \
		}                                                                       \
		r_;                                                                     \
	})

static __always_inline void submit(void *record)
{
	bpf_ringbuf_submit(record, wake_flags(ring_level()));
}

#endif
