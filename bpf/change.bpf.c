//go:build ignore
// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
/*
 * Changes of files as the kernel makes them: the trampoline form. (The other one: changecall.bpf.c.)
 *
 * A change of a name has three programs. At the entry of do_X (filename_X since 7.0) the names are the kernel's copy of what
 * was asked. security_path_X runs once for every way to X, before the file system acts, and has the directory and the name
 * as the kernel found them; open and bind get to security_path_mknod as well, but without an entry. The return of do_X has
 * the outcome. What fails before the kernel has found the directories is told by the names that were asked for.
 * (Where it has found the path before: changepath.bpf.c.)
 */

enum { S_IFLNK = 0120000, LINK_MODE = S_IFLNK | 0777 };

enum {
	FOUND_NAME = NAME_BYTES + 1,
	FOUND_LIMIT = sizeof(struct record_change) + SIDE_BYTES(FOUND_NAME) + PATH_BYTES + PATH_SLACK,
};

/* Appends a side to the record in SCRATCH from `off` on: the components of a directory, then a name in the kernel's memory,
 * if there is one. LIMIT is that of the walk. Sets LENGTH and NAME_LENGTH of the record; gives the flags, enum change_side.
 */
#define append_side(SCRATCH, WALK, LIMIT, NAME_BYTES_, mnt, dentry, name, length, name_length)                 \
	({                                                                                                     \
		__u32 side_ = 0;                                                                               \
		__u64 from_ = off;                                                                             \
		long len_;                                                                                     \
		if (dentry) {                                                                                  \
			off = WALK(SCRATCH, mnt, dentry, (void *)bpf_get_current_task(), off);                 \
			side_ = CHANGE_BASE;                                                                   \
			if ((SCRATCH)->walk.flags & (PATH_TRUNCATED | PATH_PSEUDO))                            \
				side_ |= CHANGE_TRUNCATED;                                                     \
			if ((SCRATCH)->walk.flags & PATH_OUTSIDE)                                              \
				side_ |= CHANGE_OUTSIDE;                                                       \
		}                                                                                              \
		length = off - from_;                                                                          \
		if (name && off <= (LIMIT) + PATH_SLACK) {                                                     \
			len_ = bpf_probe_read_kernel_str((SCRATCH)->bytes + bounded(off, (LIMIT) + PATH_SLACK), NAME_BYTES_, name); \
			if (len_ <= 0 || (!dentry && len_ == 1)) {                                             \
				side_ |= CHANGE_NAME_MISSING;                                                  \
			} else {                                                                               \
				len_ = (len_ - 1) & ((NAME_BYTES_) - 1);                                       \
				name_length = len_;                                                            \
				off += len_;                                                                   \
			}                                                                                      \
		}                                                                                              \
		side_;                                                                                         \
	})

/* What a thread changes. `bytes` begins with the record. Before the kernel has found the names behind it, those that were
 * asked for are there: the old one, and PATH_BYTES later the new one.
 */
struct found_scratch {
	__u8 bytes[(FOUND_LIMIT + PATH_SLACK + FOUND_NAME + TEXT_BYTES + 7) & ~7];
	struct walk walk;
	struct dentry *made;  /* of what is made, the name in a directory: they lead to its inode */
	struct dentry *in;
	__u64 name_hash;
	int old_dfd, new_dfd;
	__u32 found;
	__u32 place; /* held.h */
};

/* tid -> what the thread is at. Each thread has its own buffer here, for trampoline programs can be preempted by each other.
 * An entry goes with the outcome. The kernel may have skipped the program that takes it: so it also goes when the thread
 * begins another change, and with the thread. No LRU: on several CPUs a small one drops entries in use while others are
 * free. Full, or the sandbox has its part (held.h): the change is counted as lost.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 512);
	__type(key, __u32);
	__type(value, struct found_scratch);
} found_scratch SEC(".maps");

/* The same, of what was not found, while it is told. */
struct unfound_scratch {
	__u8 bytes[sizeof(((struct asked_scratch *)0)->bytes)];
	struct walk walk;
};
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 32);
	__type(key, __u32);
	__type(value, struct unfound_scratch);
} unfound_scratch SEC(".maps");

/* What entries of both are made from. */
static __u8 nothing[sizeof(struct unfound_scratch)];

DEFINE_WALK_OF(found, FOUND_LIMIT, bpf_get_current_pid_tgid())
DEFINE_WALK_OF(unfound, ASKED_LIMIT, bpf_get_current_pid_tgid())

/* For each enum change_op a bit: the function at whose entry the program is takes names as pointers into user memory (before
 * 5.15); else struct filename. Set by the loader.
 */
const volatile __u32 user_names = 0;

/* Also where the process is watched no more: it may have been when the entry was made. */
static __always_inline void forget_change(__u32 tid)
{
	struct found_scratch *s = bpf_map_lookup_elem(&found_scratch, &tid);
	__u32 place;

	if (!s)
		return;
	place = s->place;
	if (!bpf_map_delete_elem(&found_scratch, &tid))
		give(place);
}

/* A new entry for the current thread, if it is watched. */
static __always_inline struct found_scratch *new_change(__u16 op)
{
	__u32 tid = bpf_get_current_pid_tgid();
	struct found_scratch *s;
	struct record_change *r;
	struct header h = {};
	__u32 place;

	forget_change(tid);
	if (!current_watched())
		return NULL;
	fill_header_current(&h, RECORD_CHANGE, bpf_get_current_cgroup_id());
	if (!hold(&found_scratch, &tid, nothing, &place, HELD_CHANGES, &h))
		return NULL;
	s = bpf_map_lookup_elem(&found_scratch, &tid);
	if (!s)
		return NULL;
	r = (void *)s;
	s->place = place;
	r->h = h;
	r->h.size = sizeof(*r);
	r->op = op;
	if (op == CHANGE_RMDIR || op == CHANGE_MKDIR)
		r->h.flags = CHANGE_DIRECTORY;
	return s;
}

static __always_inline void copy_name(__u8 *to, __u16 op, const void *name)
{
	if (op > CHANGE_SYMLINK || user_names >> op & 1)
		bpf_probe_read_user_str(to, PATH_BYTES, name);
	else
		bpf_probe_read_kernel_str(to, PATH_BYTES, BPF_CORE_READ((const struct filename *)name, name));
}

/* old: NULL where an operation has one name. */
static __always_inline struct record_change *enter_change(__u16 op, int old_dfd, const void *old, int new_dfd, const void *new)
{
	struct found_scratch *s = new_change(op);

	if (!s)
		return NULL;
	if (old)
		copy_name(s->bytes + sizeof(struct record_change), op, old);
	copy_name(s->bytes + sizeof(struct record_change) + PATH_BYTES, op, new);
	s->old_dfd = old_dfd;
	s->new_dfd = new_dfd;
	return (void *)s;
}

/* The entry that the current thread has made for op. The kernel may get here twice in a call. */
static __always_inline struct found_scratch *entered(__u16 op)
{
	__u32 tid = bpf_get_current_pid_tgid();
	struct found_scratch *s = bpf_map_lookup_elem(&found_scratch, &tid);
	struct record_change *r = (void *)s;

	if (!s || r->op != op)
		return NULL;
	r->h.flags &= CHANGE_DIRECTORY;
	return s;
}

static __always_inline void fill_inode(struct record_change *r, struct inode *inode)
{
	r->inode = BPF_CORE_READ(inode, i_ino);
	r->dev = BPF_CORE_READ(inode, i_sb, s_dev);
	r->nlink = BPF_CORE_READ(inode, i_nlink);
	r->mode = BPF_CORE_READ(inode, i_mode);
	if ((r->mode & S_IFMT) == S_IFDIR)
		r->h.flags |= CHANGE_DIRECTORY;
}

/* Appends the old name, or the new one, from off on; gives the end. */
static __always_inline __u64 append_found(struct found_scratch *s, bool old, struct vfsmount *mnt, struct dentry *dir,
					  const void *name, __u64 off)
{
	struct record_change *r = (void *)s;
	__u32 side;

	if (off > FOUND_LIMIT - PATH_BYTES - PATH_SLACK)
		off = FOUND_LIMIT - PATH_BYTES - PATH_SLACK; /* for the verifier: it is not */
	if (old) {
		side = append_side(s, walk_found, FOUND_LIMIT, FOUND_NAME, mnt, dir, name, r->old_len, r->old_name_len);
		r->h.flags |= side;
	} else {
		side = append_side(s, walk_found, FOUND_LIMIT, FOUND_NAME, mnt, dir, name, r->new_len, r->new_name_len);
		r->h.flags |= side << CHANGE_NEW_SHIFT;
	}
	return off;
}

/* The new name is the last of a record. made: it is to be made. */
static __always_inline int found_change(struct found_scratch *s, const struct path *dir, struct dentry *dentry, bool made,
					__u64 off)
{
	struct record_change *r = (void *)s;
	struct dentry *in = BPF_CORE_READ(dir, dentry);

	if (made) {
		s->made = dentry;
		s->in = in;
		s->name_hash = BPF_CORE_READ(dentry, d_name.hash_len);
		r->dev = BPF_CORE_READ(in, d_inode, i_sb, s_dev);
	}
	r->h.size = append_found(s, false, BPF_CORE_READ(dir, mnt), in, BPF_CORE_READ(dentry, d_name.name), off);
	s->found = 1;
	return 0;
}

/* What was made has its name still, or had it a moment ago; 0: not any more. */
static __always_inline __u64 made_inode(struct found_scratch *s, __u16 mode)
{
	struct dentry *made = s->made;
	struct inode *inode = BPF_CORE_READ(made, d_inode);

	if (!inode || BPF_CORE_READ(made, d_parent) != s->in || BPF_CORE_READ(made, d_name.hash_len) != s->name_hash ||
	    (BPF_CORE_READ(inode, i_mode) & S_IFMT) != (mode & S_IFMT))
		return 0;
	return BPF_CORE_READ(inode, i_ino);
}

/* Tells of an entry by what was asked. */
static __always_inline void send_asked(struct found_scratch *s, __u32 tid, __u16 op)
{
	const __u8 *old = s->bytes + sizeof(struct record_change), *new = old + PATH_BYTES;
	struct task_struct *task = (void *)bpf_get_current_task();
	__u64 off = sizeof(struct record_change);
	struct vfsmount *mnt = NULL;
	struct dentry *dir = NULL;
	struct unfound_scratch *u;
	struct record_change *r = (void *)s;
	__u32 side;
	long len;

	if (bpf_map_update_elem(&unfound_scratch, &tid, nothing, BPF_ANY)) {
		lose_record(&r->h, LOSS_MAP_FULL);
		return;
	}
	u = bpf_map_lookup_elem(&unfound_scratch, &tid);
	if (!u)
		return;
	r = (void *)u;
	*r = *(struct record_change *)s;
	r->h.flags |= CHANGE_NAMES_FROM_USER;
	if (op == CHANGE_RENAME || op == CHANGE_LINK || op == CHANGE_SYMLINK || op == CHANGE_MOVE_MOUNT || op == CHANGE_PIVOT_ROOT) {
		if (op != CHANGE_SYMLINK)
			starts_at(task, s->old_dfd, (const void *)old, false, &mnt, &dir);
		side = append_side(u, walk_unfound, ASKED_LIMIT, PATH_BYTES, mnt, dir, old, r->old_len, r->old_name_len);
		r->h.flags |= side;
		if (off > ASKED_LIMIT - PATH_BYTES - PATH_SLACK)
			off = ASKED_LIMIT - PATH_BYTES - PATH_SLACK; /* for the verifier: it is not */
		mnt = NULL;
		dir = NULL;
	}
	starts_at(task, s->new_dfd, (const void *)new, false, &mnt, &dir);
	side = append_side(u, walk_unfound, ASKED_LIMIT, PATH_BYTES, mnt, dir, new, r->new_len, r->new_name_len);
	r->h.flags |= side << CHANGE_NEW_SHIFT;
	if ((op == CHANGE_SETXATTR || op == CHANGE_REMOVEXATTR) && off <= sizeof(u->bytes) - TEXT_BYTES) {
		len = bpf_probe_read_kernel_str(u->bytes + off, TEXT_BYTES, old);
		if (len > 0) {
			r->text_len = (len - 1) & (TEXT_BYTES - 1);
			off += r->text_len;
		}
	}
	if (off > sizeof(u->bytes))
		off = sizeof(u->bytes);
	send(r, off);
	bpf_map_delete_elem(&unfound_scratch, &tid);
}

/* The outcome of what the current thread is at. Gives the entry where it is still to be told, by what was asked. */
static __always_inline struct found_scratch *end_found(__u16 op, __u32 tid, int ret)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	struct found_scratch *s = bpf_map_lookup_elem(&found_scratch, &tid);
	struct record_change *r = (void *)s;
	__u64 size;

	if (!s)
		return NULL;
	/* Not an entry that an earlier thread of this number has left. */
	if (r->op != op || r->h.tgid != BPF_CORE_READ(task, tgid) ||
	    r->h.start != BPF_CORE_READ(task, group_leader, start_boottime) || !current_watched())
		return NULL;
	r->h.time = bpf_ktime_get_boot_ns();
	r->error = ret < 0 ? -ret : 0;
	if (!s->found)
		return s;
	if (!ret && s->made)
		r->inode = made_inode(s, r->mode);
	size = r->h.size;
	if (size > sizeof(s->bytes))
		size = sizeof(s->bytes);
	send(r, size);
	return NULL;
}

/* Defines NAME_end(): the outcome of a function with so many arguments. */
#define PATH_END(NAME, FUNCTION, OP, ARGUMENTS)                                         \
	SEC("fexit/" FUNCTION)                                                          \
	int NAME##_end(__u64 *ctx)                                                      \
	{                                                                               \
		__u32 tid = bpf_get_current_pid_tgid();                                 \
		end_found(OP, tid, ctx[ARGUMENTS]);                                     \
		forget_change(tid);                                                     \
		return 0;                                                               \
	}

/* The same of one whose names were copied at its entry. */
#define CHANGE_END(NAME, FUNCTION, OP, ARGUMENTS)                                       \
	SEC("fexit/" FUNCTION)                                                          \
	int NAME##_end(__u64 *ctx)                                                      \
	{                                                                               \
		__u32 tid = bpf_get_current_pid_tgid();                                 \
		struct found_scratch *s = end_found(OP, tid, ctx[ARGUMENTS]);           \
		if (s)                                                                  \
			send_asked(s, tid, OP);                                         \
		forget_change(tid);                                                     \
		return 0;                                                               \
	}

SEC("fentry/do_renameat2")
int BPF_PROG(rename_enter, int old_dfd, void *from, int new_dfd, void *to, unsigned int rename_flags)
{
	struct record_change *r = enter_change(CHANGE_RENAME, old_dfd, from, new_dfd, to);

	if (r)
		r->flags = rename_flags;
	return 0;
}

SEC("fexit/security_path_rename")
int BPF_PROG(rename_begin, const struct path *old_dir, struct dentry *old_dentry, const struct path *new_dir,
	     struct dentry *new_dentry)
{
	struct found_scratch *s = entered(CHANGE_RENAME);
	struct record_change *r = (void *)s;
	struct inode *inode;
	__u64 off;

	if (!s)
		return 0;
	fill_inode(r, BPF_CORE_READ(old_dentry, d_inode));
	inode = BPF_CORE_READ(new_dentry, d_inode);
	if (inode)
		r->replaced = BPF_CORE_READ(inode, i_ino);
	off = append_found(s, true, BPF_CORE_READ(old_dir, mnt), BPF_CORE_READ(old_dir, dentry),
			   BPF_CORE_READ(old_dentry, d_name.name), sizeof(*r));
	return found_change(s, new_dir, new_dentry, false, off);
}

CHANGE_END(rename, "do_renameat2", CHANGE_RENAME, 5)

SEC("fentry/do_linkat")
int BPF_PROG(link_enter, int old_dfd, void *old, int new_dfd, void *new, int flags)
{
	enter_change(CHANGE_LINK, old_dfd, old, new_dfd, new);
	return 0;
}

/* Both names are on the same mount. */
SEC("fexit/security_path_link")
int BPF_PROG(link_begin, struct dentry *old_dentry, const struct path *new_dir, struct dentry *new_dentry)
{
	struct found_scratch *s = entered(CHANGE_LINK);
	struct record_change *r = (void *)s;
	__u64 off;

	if (!s)
		return 0;
	fill_inode(r, BPF_CORE_READ(old_dentry, d_inode));
	off = append_found(s, true, BPF_CORE_READ(new_dir, mnt), BPF_CORE_READ(old_dentry, d_parent),
			   BPF_CORE_READ(old_dentry, d_name.name), sizeof(*r));
	return found_change(s, new_dir, new_dentry, false, off);
}

CHANGE_END(link, "do_linkat", CHANGE_LINK, 5)

SEC("fentry/do_symlinkat")
int BPF_PROG(symlink_enter, void *target, int dfd, void *name)
{
	struct record_change *r = enter_change(CHANGE_SYMLINK, AT_FDCWD, target, dfd, name);

	if (r)
		r->mode = LINK_MODE;
	return 0;
}

SEC("fexit/security_path_symlink")
int BPF_PROG(symlink_begin, const struct path *dir, struct dentry *dentry, const char *target)
{
	struct found_scratch *s = entered(CHANGE_SYMLINK);
	struct record_change *r = (void *)s;
	__u64 off = sizeof(*r);
	long len;

	if (!s)
		return 0;
	len = bpf_probe_read_kernel_str(s->bytes + sizeof(*r), PATH_BYTES, target);
	if (len > 0) {
		len = (len - 1) & (PATH_BYTES - 1);
		r->old_name_len = len;
		off += len;
	} else {
		r->h.flags |= CHANGE_NAME_MISSING;
	}
	return found_change(s, dir, dentry, true, off);
}

CHANGE_END(symlink, "do_symlinkat", CHANGE_SYMLINK, 3)

/* Of what has one name. */
static __always_inline int one_begin(__u16 op, const struct path *dir, struct dentry *dentry)
{
	struct found_scratch *s = entered(op);
	bool made = op == CHANGE_MKDIR || op == CHANGE_MKNOD;

	if (!s)
		return 0;
	if (!made)
		fill_inode((void *)s, BPF_CORE_READ(dentry, d_inode));
	return found_change(s, dir, dentry, made, sizeof(struct record_change));
}

#define ONE_BEGIN(NAME, OP)                                                             \
	SEC("fexit/security_path_" #NAME)                                               \
	int BPF_PROG(NAME##_begin, const struct path *dir, struct dentry *dentry)       \
	{                                                                               \
		return one_begin(OP, dir, dentry);                                      \
	}

SEC("fentry/do_unlinkat")
int BPF_PROG(unlink_enter, int dfd, void *name)
{
	enter_change(CHANGE_UNLINK, AT_FDCWD, NULL, dfd, name);
	return 0;
}

ONE_BEGIN(unlink, CHANGE_UNLINK)
CHANGE_END(unlink, "do_unlinkat", CHANGE_UNLINK, 2)

SEC("fentry/do_rmdir")
int BPF_PROG(rmdir_enter, int dfd, void *name)
{
	enter_change(CHANGE_RMDIR, AT_FDCWD, NULL, dfd, name);
	return 0;
}

ONE_BEGIN(rmdir, CHANGE_RMDIR)
CHANGE_END(rmdir, "do_rmdir", CHANGE_RMDIR, 2)

SEC("fentry/do_mkdirat")
int BPF_PROG(mkdir_enter, int dfd, void *name, __u16 mode)
{
	struct record_change *r = enter_change(CHANGE_MKDIR, AT_FDCWD, NULL, dfd, name);

	if (r)
		r->mode = S_IFDIR | (mode & S_PERMISSIONS);
	return 0;
}

ONE_BEGIN(mkdir, CHANGE_MKDIR)
CHANGE_END(mkdir, "do_mkdirat", CHANGE_MKDIR, 3)

SEC("fentry/do_mknodat")
int BPF_PROG(mknod_enter, int dfd, void *name, __u16 mode, unsigned int dev)
{
	struct record_change *r = enter_change(CHANGE_MKNOD, AT_FDCWD, NULL, dfd, name);

	if (r) {
		r->mode = mode & S_IFMT ? mode : mode | S_IFREG;
		r->after = dev;
	}
	return 0;
}

ONE_BEGIN(mknod, CHANGE_MKNOD)
CHANGE_END(mknod, "do_mknodat", CHANGE_MKNOD, 4)
