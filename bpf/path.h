/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
#ifndef SHEETBEND_PATH_H
#define SHEETBEND_PATH_H

/*
 * Paths from the kernel's own objects: from a dentry up through the mounts to the
 * task's root, as d_path() does it (fs/d_path.c), so the answer is what the sandboxed
 * process would see, whatever it passed to the call. bpf_d_path() itself is allowed in
 * few hooks, none of them a tracepoint.
 */

/* Longest path that is reported, in bytes: PATH_MAX of the kernel. */
enum { PATH_BYTES = 4096 };
/* Steps of a walk: one a name or mount, so that PATH_BYTES of one-letter names and some mounts fit. Kernels
 * before 5.17 lack bpf_loop() and verify every turn of a loop: fewer there.
 */
enum { PATH_STEPS = PATH_BYTES / 2 + 256, PATH_STEPS_BOUNDED = 256 };
enum { NAME_BYTES = 255 };
/* What one append may write past its offset. */
enum { PATH_SLACK = NAME_BYTES + 1 + 32 };

/* bpf_loop() came with 5.17; set by the loader. */
const volatile bool have_bpf_loop = true;

enum path_flags {
	PATH_TRUNCATED = 1,
	PATH_OUTSIDE = 2,  /* ended at the top of a mount tree that is not the task's root */
	PATH_PSEUDO = 4,   /* a file on no mounted file system */
	PATH_UNLINKED = 8,
};

/* State of a walk. It lies in the scratch buffer, not on the stack: the verifier follows values on
 * the stack, and would take every turn of the loop for a new case.
 */
struct walk {
	__u32 off;
	__u32 end;
	__u32 flags;
	__u32 done;
	struct dentry *dentry;
	struct dentry *mnt_root;
	struct vfsmount *vfsmnt;
	struct dentry *root_dentry;
	struct vfsmount *root_vfsmnt;
};

/* The fields of a dentry that one step needs lie side by side in every kernel so far: one
 * read instead of three.
 */
struct dentry_view {
	struct dentry *d_parent;
	__u32 hash;
	__u32 len;
	const unsigned char *name;
	struct inode *d_inode;
	__u64 inline_name[4]; /* where short names lie; the pointer above tells whether this one does */
};

static __always_inline bool dentry_is_compact(void)
{
	return bpf_core_field_offset(struct dentry, d_name) == bpf_core_field_offset(struct dentry, d_parent) + 8;
}

/* Appends one name and a NUL. LIMIT is a constant, so that the verifier knows that
 * off + PATH_SLACK lies within the buffer.
 */
static __always_inline void append_name(struct walk *w, __u8 *buf, struct dentry *dentry, struct dentry_view *v,
					__u32 limit)
{
	/* 64 bits wide: verifiers before 6.3 forget the bounds of a 32-bit comparison. */
	__u64 off = w->off, len = v->len;
	__u8 *to;

	if (off >= limit || off >= w->end) {
		w->flags |= PATH_TRUNCATED;
		w->done = 1;
		return;
	}
	if (len > NAME_BYTES)
		len = NAME_BYTES;
	barrier_var(len);
	to = buf + off;
	if (len < sizeof(v->inline_name) &&
	    (__u64)v->name == (__u64)dentry + bpf_core_field_offset(struct dentry, d_parent) +
				      __builtin_offsetof(struct dentry_view, inline_name)) {
		__u64 *words = (__u64 *)to;

		words[0] = v->inline_name[0];
		words[1] = v->inline_name[1];
		words[2] = v->inline_name[2];
		words[3] = v->inline_name[3];
	} else if (bpf_probe_read_kernel(to, len & 255, v->name)) {
		len = 0;
		w->flags |= PATH_TRUNCATED;
	}
	len &= 255;
	to += len;
	barrier_var(to);
	*to = 0;
	w->off = off + len + 1;
}

static __always_inline void read_dentry(struct dentry_view *v, struct dentry *dentry)
{
	if (dentry_is_compact()) {
		bpf_probe_read_kernel(v, sizeof(*v), (void *)dentry + bpf_core_field_offset(struct dentry, d_parent));
		return;
	}
	v->d_parent = BPF_CORE_READ(dentry, d_parent);
	v->len = BPF_CORE_READ(dentry, d_name.len);
	v->name = BPF_CORE_READ(dentry, d_name.name);
	bpf_probe_read_kernel(v->inline_name, sizeof(v->inline_name),
			      (void *)dentry + bpf_core_field_offset(struct dentry, d_parent) +
				      __builtin_offsetof(struct dentry_view, inline_name));
}

/* One step up; sets done at the root. */
static __always_inline void walk_step(struct walk *w, __u8 *buf, __u32 limit)
{
	struct dentry_view v = {};
	struct dentry *dentry = w->dentry;

	if (dentry == w->root_dentry && w->vfsmnt == w->root_vfsmnt) {
		w->done = 1;
		return;
	}
	if (dentry == w->mnt_root) {
		struct mount *mnt = (void *)w->vfsmnt - bpf_core_field_offset(struct mount, mnt);
		struct mount *parent = BPF_CORE_READ(mnt, mnt_parent);

		if (parent == mnt || !parent) {
			w->flags |= PATH_OUTSIDE;
			w->done = 1;
			return;
		}
		w->dentry = BPF_CORE_READ(mnt, mnt_mountpoint);
		w->vfsmnt = (void *)parent + bpf_core_field_offset(struct mount, mnt);
		w->mnt_root = BPF_CORE_READ(parent, mnt.mnt_root);
		return;
	}
	read_dentry(&v, dentry);
	append_name(w, buf, dentry, &v, limit);
	if (v.d_parent == dentry || !v.d_parent) {
		w->flags |= PATH_PSEUDO;
		w->done = 1;
	}
	w->dentry = v.d_parent;
}

static __always_inline void walk_begin(struct walk *w, struct vfsmount *vfsmnt, struct dentry *dentry,
				       struct task_struct *task, __u64 off)
{
	struct fs_struct *fs;

	w->off = off;
	w->end = off + PATH_BYTES;
	w->flags = 0;
	w->done = 0;
	w->dentry = dentry;
	w->vfsmnt = vfsmnt;
	w->mnt_root = BPF_CORE_READ(vfsmnt, mnt_root);
	fs = BPF_CORE_READ(task, fs);
	w->root_dentry = BPF_CORE_READ(fs, root.dentry);
	w->root_vfsmnt = BPF_CORE_READ(fs, root.mnt);
	/* fs/d_path.c: d_unlinked(); a root is never in the hash, and none is unlinked */
	if (!BPF_CORE_READ(dentry, d_hash.pprev) && BPF_CORE_READ(dentry, d_parent) != dentry)
		w->flags |= PATH_UNLINKED;
}

/* Whether somebody without rights on the host decides what lies where. */
static __always_inline bool foreign_mounts(struct task_struct *task)
{
	return BPF_CORE_READ((struct task_struct___mounts *)task, nsproxy, mnt_ns, user_ns, level) > 0;
}

/* What own_root() needs of a mount; side by side in every kernel so far. */
struct mount_view {
	struct mount *parent;
	struct dentry *mountpoint;
	struct dentry *root;
};

static __always_inline bool mount_is_compact(void)
{
	__u64 at = bpf_core_field_offset(struct mount, mnt_parent);

	return bpf_core_field_offset(struct mount, mnt_mountpoint) == at + 8 &&
	       bpf_core_field_offset(struct mount, mnt) + bpf_core_field_offset(struct vfsmount, mnt_root) == at + 16;
}

/* Whether a task's root directory is that of its mount namespace: the top of it, or what is mounted over that, as
 * switch_root and pivot_root leave it; not what chroot made of another directory, or of another namespace's. A global
 * function: the verifier looks at it once. It takes the address as a number, which
 * it has to be for the verifier, too: not the argument of a hook, but what was read.
 */
enum { ROOTS = 8 };
__noinline int own_root(__u64 task_address)
{
	struct task_struct *task = (void *)task_address;
	struct fs_struct *fs = BPF_CORE_READ(task, fs);
	struct dentry *dentry = BPF_CORE_READ(fs, root.dentry);
	struct mount *mount = (void *)BPF_CORE_READ(fs, root.mnt) - bpf_core_field_offset(struct mount, mnt);

	if (BPF_CORE_READ(mount, mnt_ns) != BPF_CORE_READ((struct task_struct___mounts *)task, nsproxy, mnt_ns))
		return 0;
	for (int i = 0; i < ROOTS; i++) {
		struct mount_view v = {};

		if (mount_is_compact()) {
			bpf_probe_read_kernel(&v, sizeof(v), (void *)mount + bpf_core_field_offset(struct mount, mnt_parent));
		} else {
			v.parent = BPF_CORE_READ(mount, mnt_parent);
			v.mountpoint = BPF_CORE_READ(mount, mnt_mountpoint);
			v.root = BPF_CORE_READ(mount, mnt.mnt_root);
		}
		if (dentry != v.root || !v.parent)
			return 0;
		if (v.parent == mount)
			return 1;
		dentry = v.mountpoint;
		mount = v.parent;
	}
	return 0;
}

/* What a callback of bpf_loop() returns. The compiler knows that a step gives 0 or 1; the verifier does not. */
static __always_inline long stop_if(long done)
{
	barrier_var(done);
	return done & 1;
}

/* Defines walk_NAME(): writes the components of the path to the bytes of the map NAME_scratch from off on
 * and returns the offset behind them; flags are left in its walk. A macro, because the verifier
 * wants the limit of each buffer as a constant.
 *
 * A step is a global function that finds its state itself: the verifier looks at such a function once, and not at
 * each call.
 */
#define DEFINE_WALK(NAME, LIMIT) DEFINE_WALK_OF(NAME, LIMIT, 0)

/* The same; KEY: of the map's entry. */
#define DEFINE_WALK_OF(NAME, LIMIT, KEY)                                                             \
	__noinline int walk_step_##NAME(void)                                                        \
	{                                                                                            \
		struct NAME##_scratch *s;                                                            \
		__u32 key = KEY;                                                                     \
		s = bpf_map_lookup_elem(&NAME##_scratch, &key);                                      \
		if (!s)                                                                              \
			return 1;                                                                    \
		walk_step(&s->walk, s->bytes, LIMIT);                                                \
		return s->walk.done ? 1 : 0;                                                         \
	}                                                                                            \
	static __noinline long walk_loop_##NAME(__u32 i, void *ctx)                                  \
	{                                                                                            \
		return stop_if(walk_step_##NAME());                                                  \
	}                                                                                            \
	static __always_inline __u64 walk_##NAME(struct NAME##_scratch *s, struct vfsmount *vfsmnt,  \
						 struct dentry *dentry, struct task_struct *task,    \
						 __u64 off)                                          \
	{                                                                                            \
		walk_begin(&s->walk, vfsmnt, dentry, task, off);                                     \
		if (have_bpf_loop)                                                                   \
			bpf_loop(PATH_STEPS, walk_loop_##NAME, NULL, 0);                             \
		else                                                                                 \
			for (int i = 0; i < PATH_STEPS_BOUNDED; i++)                                 \
				if (walk_step_##NAME())                                              \
					break;                                                       \
		if (!s->walk.done)                                                                   \
			s->walk.flags |= PATH_TRUNCATED;                                             \
		return s->walk.off;                                                                  \
	}

#endif
