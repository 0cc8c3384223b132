//go:build ignore
// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
/*
 * Changes of names, so far renames, in the trampoline form: fexit on security_path_rename, which runs once for every way
 * to rename, before the file system acts, and has both directories and both names as the kernel found them. What it saw
 * waits for the outcome: fexit on do_renameat2 (filename_renameat2 since 7.0). A rename without such an entry, as that of
 * a name that is not there, is reported with the names that the caller asked for (changecall.bpf.c).
 */

enum {
	FOUND_NAME = NAME_BYTES + 1,
	FOUND_LIMIT = sizeof(struct record_change) + SIDE_BYTES(FOUND_NAME) + PATH_BYTES + PATH_SLACK,
};

struct found_bytes { __u8 bytes[(FOUND_LIMIT + PATH_SLACK + FOUND_NAME + 7) & ~7]; };
struct found_scratch {
	__u8 bytes[sizeof(struct found_bytes)];
	struct walk walk;
};

/* Not asked_scratch, for trampoline programs can be preempted by each other. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct found_scratch);
} found_scratch SEC(".maps");

DEFINE_WALK(found, FOUND_LIMIT)

/* Appends a side to the record in SCRATCH from `off` on: the components of a directory, then a name. LIMIT is that of
 * the walk. Sets LENGTH and NAME_LENGTH of the record; gives the flags, enum change_side.
 */
#define append_side(SCRATCH, WALK, LIMIT, NAME_BYTES_, task, mnt, dentry, name, user, length, name_length) \
	({                                                                                             \
		__u32 side_ = 0;                                                                       \
		__u64 from_ = off;                                                                     \
		long len_;                                                                             \
		if (dentry) {                                                                          \
			off = WALK(SCRATCH, mnt, dentry, task, off);                                   \
			side_ = CHANGE_BASE;                                                           \
			if ((SCRATCH)->walk.flags & (PATH_TRUNCATED | PATH_PSEUDO))                    \
				side_ |= CHANGE_TRUNCATED;                                             \
			if ((SCRATCH)->walk.flags & PATH_OUTSIDE)                                      \
				side_ |= CHANGE_OUTSIDE;                                               \
		}                                                                                      \
		length = off - from_;                                                                  \
		if (off <= (LIMIT) + PATH_SLACK) {                                                     \
			if (user)                                                                      \
				len_ = bpf_probe_read_user_str((SCRATCH)->bytes + off, NAME_BYTES_, name); \
			else                                                                           \
				len_ = bpf_probe_read_kernel_str((SCRATCH)->bytes + off, NAME_BYTES_, name); \
			if (len_ <= 0) {                                                               \
				side_ |= CHANGE_NAME_MISSING;                                          \
			} else {                                                                       \
				if (user && len_ == NAME_BYTES_)                                       \
					side_ |= CHANGE_NAME_TRUNCATED;                                \
				len_ = (len_ - 1) & ((NAME_BYTES_) - 1);                               \
				name_length = len_;                                                    \
				off += len_;                                                           \
			}                                                                              \
		}                                                                                      \
		side_;                                                                                 \
	})

/* tid -> the record of a rename that the file system is at. An entry goes with the outcome. The kernel may have skipped
 * the program that takes it: so it also goes when the thread begins another rename, and with the thread. No LRU: on
 * several CPUs a small one drops entries in use while others are free. Full: the names are the caller's.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 128);
	__type(key, __u32);
	__type(value, struct found_bytes);
} renames SEC(".maps");

/* Also where the process is watched no more: it may have been when the entry was made. */
static __always_inline void forget_rename(__u32 tid)
{
	bpf_map_delete_elem(&renames, &tid);
}

SEC("fentry/do_renameat2")
int rename_enter(void *ctx)
{
	forget_rename(bpf_get_current_pid_tgid());
	return 0;
}

SEC("fexit/security_path_rename")
int BPF_PROG(rename_begin, const struct path *old_dir, struct dentry *old_dentry, const struct path *new_dir,
	     struct dentry *new_dentry, unsigned int rename_flags)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	__u32 zero = 0, tid = bpf_get_current_pid_tgid(), side;
	__u64 off = sizeof(struct record_change), cgroup;
	struct inode *inode;
	struct found_scratch *s;
	struct record_change *r;
	struct dentry *dir;

	if (!current_watched())
		return 0;
	cgroup = bpf_get_current_cgroup_id();
	s = bpf_map_lookup_elem(&found_scratch, &zero);
	if (!s) {
		lose(cgroup, RECORD_CHANGE, LOSS_SCRATCH);
		return 0;
	}
	r = (void *)s;
	__builtin_memset(r, 0, sizeof(*r));
	fill_header_current(&r->h, RECORD_CHANGE, cgroup);
	r->op = CHANGE_RENAME;
	r->flags = rename_flags;
	inode = BPF_CORE_READ(old_dentry, d_inode);
	r->inode = BPF_CORE_READ(inode, i_ino);
	r->dev = BPF_CORE_READ(inode, i_sb, s_dev);
	if ((BPF_CORE_READ(inode, i_mode) & S_IFMT) == S_IFDIR)
		r->h.flags = CHANGE_DIRECTORY;
	inode = BPF_CORE_READ(new_dentry, d_inode);
	if (inode)
		r->replaced = BPF_CORE_READ(inode, i_ino);
	dir = BPF_CORE_READ(old_dir, dentry);
	side = append_side(s, walk_found, FOUND_LIMIT, FOUND_NAME, task, BPF_CORE_READ(old_dir, mnt), dir,
			   BPF_CORE_READ(old_dentry, d_name.name), false, r->old_len, r->old_name_len);
	r->h.flags |= side;
	if (off > FOUND_LIMIT - PATH_BYTES - PATH_SLACK)
		off = FOUND_LIMIT - PATH_BYTES - PATH_SLACK; /* for the verifier: it is not */
	dir = BPF_CORE_READ(new_dir, dentry);
	side = append_side(s, walk_found, FOUND_LIMIT, FOUND_NAME, task, BPF_CORE_READ(new_dir, mnt), dir,
			   BPF_CORE_READ(new_dentry, d_name.name), false, r->new_len, r->new_name_len);
	r->h.flags |= side << CHANGE_NEW_SHIFT;
	r->h.size = off;
	bpf_map_update_elem(&renames, &tid, s->bytes, BPF_ANY);
	return 0;
}

SEC("fexit/do_renameat2")
int BPF_PROG(rename_end, int old_dfd, void *from, int new_dfd, void *to, unsigned int rename_flags, int ret)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	__u32 tid = bpf_get_current_pid_tgid();
	bool watched = current_watched(), own;
	struct found_bytes *found;
	struct record_change *r;
	__u64 size;
	long number;

	found = bpf_map_lookup_elem(&renames, &tid);
	if (found) {
		r = (void *)found;
		/* Not an entry that an earlier thread of this number has left. */
		own = r->h.tgid == BPF_CORE_READ(task, tgid) &&
		      r->h.start == BPF_CORE_READ(task, group_leader, start_boottime);
		if (watched && own) {
			r->h.time = bpf_ktime_get_boot_ns();
			r->error = -ret;
			size = r->h.size;
			if (size > sizeof(*found))
				size = sizeof(*found);
			send(r, size);
		}
		forget_rename(tid);
		if (own)
			return 0;
	}
	if (!watched)
		return 0;
	/* The kernel's copy of the names is gone by now. */
	number = call_number();
	if (number == NR_RENAME || number == NR_RENAMEAT || number == NR_RENAMEAT2)
		report_change_call(number, call_args(), later_args(), ret);
	else
		report_nameless_rename(old_dfd, new_dfd, rename_flags, -ret);
	return 0;
}
