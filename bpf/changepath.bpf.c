//go:build ignore
// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
/*
 * Changes of what lies at a path, in the trampoline form: attributes of files, mounts, and the root directory. Where the
 * kernel has found the path already when it gets to the function that is hooked, two programs do: what was before at its
 * entry, and the outcome. Else as for names (change.bpf.c).
 */

/* Tells where a file or directory lies, as a directory without a name in it. */
static __always_inline void found_path(struct found_scratch *s, struct vfsmount *mnt, struct dentry *dentry)
{
	struct record_change *r = (void *)s;

	fill_inode(r, BPF_CORE_READ(dentry, d_inode));
	r->h.size = append_found(s, false, mnt, dentry, NULL, sizeof(*r));
	if (s->walk.flags & PATH_UNLINKED)
		r->h.flags |= CHANGE_UNLINKED;
	s->found = 1;
}

static __always_inline struct record_change *path_enter(__u16 op, const struct path *path)
{
	struct found_scratch *s = new_change(op);

	if (!s)
		return NULL;
	found_path(s, BPF_CORE_READ(path, mnt), BPF_CORE_READ(path, dentry));
	return (void *)s;
}

SEC("fentry/chmod_common")
int BPF_PROG(chmod_enter, const struct path *path, __u16 mode)
{
	struct record_change *r = path_enter(CHANGE_CHMOD, path);

	if (r) {
		r->before = r->mode & S_PERMISSIONS;
		r->after = mode & S_PERMISSIONS;
	}
	return 0;
}

PATH_END(chmod, "chmod_common", CHANGE_CHMOD, 2)

SEC("fentry/chown_common")
int BPF_PROG(chown_enter, const struct path *path, __u32 user, __u32 group)
{
	struct record_change *r = path_enter(CHANGE_CHOWN, path);
	struct inode *inode;

	if (r) {
		inode = BPF_CORE_READ(path, dentry, d_inode);
		r->before = BPF_CORE_READ(inode, i_uid.val) | (__u64)BPF_CORE_READ(inode, i_gid.val) << 32;
		r->after = user | (__u64)group << 32;
	}
	return 0;
}

PATH_END(chown, "chown_common", CHANGE_CHOWN, 3)

SEC("fentry/vfs_truncate")
int BPF_PROG(truncate_enter, const struct path *path, __u64 length)
{
	struct record_change *r = path_enter(CHANGE_TRUNCATE, path);

	if (r) {
		r->before = BPF_CORE_READ(path, dentry, d_inode, i_size);
		r->after = length;
	}
	return 0;
}

PATH_END(truncate, "vfs_truncate", CHANGE_TRUNCATE, 2)

/* do_sys_ftruncate() takes a descriptor, do_ftruncate() (6.9) the file; set by the loader. */
const volatile bool ftruncate_by_number = false;

static __always_inline void found_file(struct found_scratch *s, struct file *file)
{
	struct record_change *r = (void *)s;
	struct dentry *dentry = BPF_CORE_READ(file, f_path.dentry);

	if (dentry)
		found_path(s, BPF_CORE_READ(file, f_path.mnt), dentry);
	r->h.flags |= CHANGE_OPEN_FILE;
}

SEC("fentry/do_ftruncate")
int BPF_PROG(ftruncate_enter, struct file *file, __u64 length)
{
	struct found_scratch *s = new_change(CHANGE_TRUNCATE);
	struct record_change *r = (void *)s;

	if (!s)
		return 0;
	if (ftruncate_by_number)
		file = current_file((__u64)file);
	found_file(s, file);
	r->before = BPF_CORE_READ(file, f_inode, i_size);
	r->after = length;
	return 0;
}

PATH_END(ftruncate, "do_ftruncate", CHANGE_TRUNCATE, 3)

SEC("fentry/vfs_utimes")
int BPF_PROG(utimes_enter, const struct path *path)
{
	path_enter(CHANGE_UTIMES, path);
	return 0;
}

PATH_END(utimes, "vfs_utimes", CHANGE_UTIMES, 2)

/* Appends what is neither a path nor a name. */
static __always_inline void append_text(struct found_scratch *s, bool user, const char *text)
{
	struct record_change *r = (void *)s;
	__u64 off = r->h.size;
	long len;

	if (!text || off < sizeof(*r) || off > FOUND_LIMIT + PATH_SLACK)
		return;
	if (user)
		len = bpf_probe_read_user_str(s->bytes + bounded(off, FOUND_LIMIT + PATH_SLACK), TEXT_BYTES, text);
	else
		len = bpf_probe_read_kernel_str(s->bytes + bounded(off, FOUND_LIMIT + PATH_SLACK), TEXT_BYTES, text);
	if (len > 0) {
		r->text_len = (len - 1) & (TEXT_BYTES - 1);
		r->h.size = off + r->text_len;
	}
}

SEC("fentry/path_mount")
int BPF_PROG(mount_enter, const char *source, struct path *path, const char *type, unsigned long flags)
{
	struct found_scratch *s = new_change(CHANGE_MOUNT);
	struct record_change *r = (void *)s;
	struct vfsmount *mnt;
	struct dentry *dentry;
	__u64 off = sizeof(*r);
	long len;

	if (!s)
		return 0;
	mnt = BPF_CORE_READ(path, mnt);
	dentry = BPF_CORE_READ(path, dentry);
	fill_inode(r, BPF_CORE_READ(dentry, d_inode));
	r->flags = (flags & MS_MGC_MSK) == MS_MGC_VAL ? flags & ~MS_MGC_MSK : flags;
	len = source ? bpf_probe_read_kernel_str(s->bytes + sizeof(*r), PATH_BYTES, source) : 0;
	if (len > 0) {
		len = (len - 1) & (PATH_BYTES - 1);
		r->old_name_len = len;
		off += len;
	}
	r->h.size = append_found(s, false, mnt, dentry, NULL, off);
	append_text(s, false, type);
	s->found = 1;
	return 0;
}

PATH_END(mount, "path_mount", CHANGE_MOUNT, 5)

SEC("fentry/path_umount")
int BPF_PROG(umount_enter, struct path *path, int flags)
{
	struct record_change *r = path_enter(CHANGE_UMOUNT, path);

	if (r)
		r->flags = flags;
	return 0;
}

PATH_END(umount, "path_umount", CHANGE_UMOUNT, 2)

/* Of a system call: its own function is at hand, whose argument is the registers. */
static __always_inline int call_enter(__u16 op)
{
	struct call_args args = call_args();
	struct record_change *r;
	struct later_args later;

	if (op == CHANGE_CHROOT) {
		enter_change(op, AT_FDCWD, NULL, AT_FDCWD, (void *)args.first);
	} else if (op == CHANGE_PIVOT_ROOT) {
		enter_change(op, AT_FDCWD, (void *)args.second, AT_FDCWD, (void *)args.first);
	} else {
		later = later_args();
		r = enter_change(op, args.first, (void *)args.second, args.third, (void *)later.fourth);
		if (r)
			r->flags = later.fifth;
	}
	return 0;
}

SEC("fentry/__x64_sys_chroot")
int chroot_enter(void *ctx) { return call_enter(CHANGE_CHROOT); }

SEC("fexit/security_path_chroot")
int BPF_PROG(chroot_begin, const struct path *path)
{
	struct found_scratch *s = entered(CHANGE_CHROOT);

	if (s)
		found_path(s, BPF_CORE_READ(path, mnt), BPF_CORE_READ(path, dentry));
	return 0;
}

CHANGE_END(chroot, "__x64_sys_chroot", CHANGE_CHROOT, 1)

static __always_inline int paths_begin(__u16 op, const struct path *old, const struct path *new)
{
	struct found_scratch *s = entered(op);
	struct record_change *r = (void *)s;
	__u64 off;

	if (!s)
		return 0;
	fill_inode(r, BPF_CORE_READ(old, dentry, d_inode));
	off = append_found(s, true, BPF_CORE_READ(old, mnt), BPF_CORE_READ(old, dentry), NULL, sizeof(*r));
	if (off == sizeof(*r) && r->h.flags & CHANGE_OUTSIDE)
		r->h.flags &= ~(CHANGE_BASE | CHANGE_OUTSIDE); /* it was nowhere */
	r->h.size = append_found(s, false, BPF_CORE_READ(new, mnt), BPF_CORE_READ(new, dentry), NULL, off);
	s->found = 1;
	return 0;
}

SEC("fentry/__x64_sys_pivot_root")
int pivot_root_enter(void *ctx) { return call_enter(CHANGE_PIVOT_ROOT); }

SEC("fexit/security_sb_pivotroot")
int BPF_PROG(pivot_root_begin, const struct path *old, const struct path *new)
{
	return paths_begin(CHANGE_PIVOT_ROOT, old, new);
}

CHANGE_END(pivot_root, "__x64_sys_pivot_root", CHANGE_PIVOT_ROOT, 1)

SEC("fentry/__x64_sys_move_mount")
int move_mount_enter(void *ctx) { return call_enter(CHANGE_MOVE_MOUNT); }

SEC("fexit/security_move_mount")
int BPF_PROG(move_mount_begin, const struct path *from, const struct path *to)
{
	return paths_begin(CHANGE_MOVE_MOUNT, from, to);
}

CHANGE_END(move_mount, "__x64_sys_move_mount", CHANGE_MOVE_MOUNT, 1)

/* Extended attributes: behind their calls nothing has the path that does not run once more for an overlay's own ones. Names are
 * the caller's word, and a descriptor is looked up before the kernel does.
 */
static __always_inline int xattr_enter(long number)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	struct vfsmount *mnt;
	struct dentry *dentry;
	struct found_scratch *s;
	struct record_change *r;
	struct asked a = {};
	struct file *file;

	ask(&a, number, call_args(), later_args());
	s = new_change(a.op);
	if (!s)
		return 0;
	r = (void *)s;
	r->after = a.after;
	r->flags = a.flags;
	if (a.new_side == SIDE_FILE) {
		if (a.new_dfd == AT_FDCWD) {
			mnt = BPF_CORE_READ(task, fs, pwd.mnt);
			dentry = BPF_CORE_READ(task, fs, pwd.dentry);
		} else {
			file = current_file(a.new_dfd);
			mnt = BPF_CORE_READ(file, f_path.mnt);
			dentry = BPF_CORE_READ(file, f_path.dentry);
		}
		if (dentry)
			found_path(s, mnt, dentry);
		else
			r->h.flags |= CHANGE_NAME_MISSING << CHANGE_NEW_SHIFT;
		r->h.flags |= CHANGE_OPEN_FILE;
		append_text(s, true, (void *)a.text);
		s->found = 1; /* there is no name to tell it by */
		return 0;
	}
	s->new_dfd = a.new_dfd;
	bpf_probe_read_user_str(s->bytes + sizeof(*r), TEXT_BYTES, (void *)a.text);
	bpf_probe_read_user_str(s->bytes + sizeof(*r) + PATH_BYTES, PATH_BYTES, (void *)a.new_name);
	return 0;
}

#define XATTR(NAME, NUMBER, OP)                                                         \
	SEC("fentry/__x64_sys_" #NAME)                                                  \
	int NAME##_enter(void *ctx)                                                     \
	{                                                                               \
		return xattr_enter(NUMBER);                                             \
	}                                                                               \
	CHANGE_END(NAME, "__x64_sys_" #NAME, OP, 1)

XATTR(setxattr, NR_SETXATTR, CHANGE_SETXATTR)
XATTR(lsetxattr, NR_LSETXATTR, CHANGE_SETXATTR)
XATTR(fsetxattr, NR_FSETXATTR, CHANGE_SETXATTR)
XATTR(setxattrat, NR_SETXATTRAT, CHANGE_SETXATTR)
XATTR(removexattr, NR_REMOVEXATTR, CHANGE_REMOVEXATTR)
XATTR(lremovexattr, NR_LREMOVEXATTR, CHANGE_REMOVEXATTR)
XATTR(fremovexattr, NR_FREMOVEXATTR, CHANGE_REMOVEXATTR)
XATTR(removexattrat, NR_REMOVEXATTRAT, CHANGE_REMOVEXATTR)
