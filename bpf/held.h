/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
#ifndef SHEETBEND_HELD_H
#define SHEETBEND_HELD_H

/*
 * How much of a table one sandbox may hold: a quarter. Who fills a table loses his own records first.
 */

enum held_table {
	HELD_CHANGES,
	HELD_TALKS,
	HELD_PENDING,
	HELD_CONNECTIONS,
	HELD_TABLES,
};

/* The most entries of a sandbox in each; set by the loader. */
const volatile __u32 held_most[HELD_TABLES] = {};

/* Entries by sandbox and table. A sandbox's place is told by its number: two that have the same one share it. Entries of
 * the tables remember the place, for a sandbox may become part of another one; 0: they are not counted.
 */
enum { HELD_SANDBOXES = 1024 };
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1 + HELD_SANDBOXES * HELD_TABLES);
	__type(key, __u32);
	__type(value, __u32);
} held SEC(".maps");

/* Counts an entry in; false: the sandbox has its part already. Gives the place. */
static __always_inline bool take(__u64 cgroup, __u32 table, __u32 *place)
{
	__u32 *n;

	*place = 1 + (__u32)(sandbox_of(cgroup) * 0x9e3779b97f4a7c15 >> 54) * HELD_TABLES + table;
	n = bpf_map_lookup_elem(&held, place);
	if (!n || *n >= held_most[table])
		return false;
	__sync_fetch_and_add(n, 1);
	return true;
}

static __always_inline void give(__u32 place)
{
	__u32 *n = place ? bpf_map_lookup_elem(&held, &place) : NULL;

	if (n)
		__sync_fetch_and_add(n, -1);
}

/* Adds an entry, in which `place` lies, or counts a record like h as lost. */
static __always_inline bool hold(void *map, const void *key, const void *value, __u32 *place, __u32 table, const struct header *h)
{
	long err;

	if (take(h->cgroup, table, place)) {
		err = bpf_map_update_elem(map, key, value, BPF_NOEXIST);
		if (!err)
			return true;
		give(*place);
		if (err == -EEXIST)
			return false; /* another thread's, of the same socket */
	}
	lose_record(h, LOSS_MAP_FULL);
	return false;
}

#endif
