//go:build ignore
// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
/*
 * Changes of files and of what a path means, by what the system call was asked: the tracepoint form.
 * (The other one: change.bpf.c.) Names are the caller's word; of what they stood for nothing is known when
 * the call has returned. By a descriptor it is known which file it was.
 */

#if defined(__TARGET_ARCH_x86)
enum {
	NR_TRUNCATE = 76, NR_FTRUNCATE = 77, NR_RENAME = 82, NR_MKDIR = 83, NR_RMDIR = 84, NR_LINK = 86, NR_UNLINK = 87,
	NR_SYMLINK = 88, NR_CHMOD = 90, NR_FCHMOD = 91, NR_CHOWN = 92, NR_FCHOWN = 93, NR_LCHOWN = 94, NR_UTIME = 132,
	NR_MKNOD = 133, NR_PIVOT_ROOT = 155, NR_CHROOT = 161, NR_MOUNT = 165, NR_UMOUNT2 = 166, NR_SETXATTR = 188,
	NR_LSETXATTR = 189, NR_FSETXATTR = 190, NR_REMOVEXATTR = 197, NR_LREMOVEXATTR = 198, NR_FREMOVEXATTR = 199,
	NR_UTIMES = 235, NR_MKDIRAT = 258, NR_MKNODAT = 259, NR_FCHOWNAT = 260, NR_FUTIMESAT = 261, NR_UNLINKAT = 263,
	NR_RENAMEAT = 264, NR_LINKAT = 265, NR_SYMLINKAT = 266, NR_FCHMODAT = 268, NR_UTIMENSAT = 280, NR_RENAMEAT2 = 316,
};
#else
enum {
	NR_SETXATTR = 5, NR_LSETXATTR = 6, NR_FSETXATTR = 7, NR_REMOVEXATTR = 14, NR_LREMOVEXATTR = 15, NR_FREMOVEXATTR = 16,
	NR_MKNODAT = 33, NR_MKDIRAT = 34, NR_UNLINKAT = 35, NR_SYMLINKAT = 36, NR_LINKAT = 37, NR_RENAMEAT = 38, NR_UMOUNT2 = 39,
	NR_MOUNT = 40, NR_PIVOT_ROOT = 41, NR_TRUNCATE = 45, NR_FTRUNCATE = 46, NR_CHROOT = 51, NR_FCHMOD = 52, NR_FCHMODAT = 53,
	NR_FCHOWNAT = 54, NR_FCHOWN = 55, NR_UTIMENSAT = 88, NR_RENAMEAT2 = 276,
	/* It has not these. */
	NR_RENAME = -100, NR_MKDIR, NR_RMDIR, NR_LINK, NR_UNLINK, NR_SYMLINK, NR_CHMOD, NR_CHOWN, NR_LCHOWN, NR_UTIME, NR_MKNOD,
	NR_UTIMES, NR_FUTIMESAT,
};
#endif
enum { NR_MOVE_MOUNT = 429, NR_FCHMODAT2 = 452, NR_SETXATTRAT = 463, NR_REMOVEXATTRAT = 466 };

enum { AT_REMOVEDIR = 0x200, AT_SYMLINK_FOLLOW = 0x400, AT_EMPTY_PATH = 0x1000 };
enum { MOVE_MOUNT_F_EMPTY_PATH = 4, MOVE_MOUNT_T_EMPTY_PATH = 0x40 };
enum { MS_MGC_VAL = 0xC0ED0000, MS_MGC_MSK = 0xffff0000 };
enum { S_IFDIR = 0040000, S_IFREG = 0100000, S_PERMISSIONS = 07777 };
enum { TEXT_BYTES = 256 }; /* the longest name of an attribute and its NUL */

struct inode___changed { long i_size; } CORE;

/* What one side of a change is. */
enum asked_side {
	SIDE_NONE,
	SIDE_NAME, /* a name that starts from a directory */
	SIDE_BARE, /* a text, which starts from nowhere */
	SIDE_FILE, /* the file behind a descriptor */
};

/* What a call was asked to do. Names are addresses. */
struct asked {
	__u64 old_name, new_name, text, after;
	int old_dfd, new_dfd, error;
	__u32 flags;
	__u16 op, mode;
	__u32 old_side, new_side;
	int linked_fd; /* the old name is that of a descriptor, or -1 */
};

/* Ends of what one side, a directory and a name in it, may fill of a buffer. NAME: of the longest name. */
#define SIDE_BYTES(NAME) (PATH_BYTES + PATH_SLACK + (NAME))
enum { ASKED_LIMIT = sizeof(struct record_change) + SIDE_BYTES(PATH_BYTES) + PATH_BYTES + PATH_SLACK };

struct asked_scratch {
	__u8 bytes[(ASKED_LIMIT + PATH_SLACK + PATH_BYTES + TEXT_BYTES + 7) & ~7];
	struct walk walk;
	struct asked asked;
};

/* As open_scratch. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct asked_scratch);
} asked_scratch SEC(".maps");

DEFINE_WALK(asked, ASKED_LIMIT)

/* The same for io_uring, whose hook can run between two instructions of another one. */
struct submitted_scratch {
	__u8 bytes[sizeof(((struct asked_scratch *)0)->bytes)];
	struct walk walk;
	struct asked asked;
};
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct submitted_scratch);
} submitted_scratch SEC(".maps");

DEFINE_WALK(submitted, ASKED_LIMIT)

/* Appends a side to the record from `at` on: the components of a directory, or of the file, then the name. Gives the flags,
 * enum change_side, and the file. submitted: a constant; the names are kernel memory, and the buffer is another.
 */
static __always_inline __u32 append_asked(bool submitted, struct asked_scratch *s, struct task_struct *task, __u32 what,
					  int dfd, const char *name, __u64 *at, __u16 *length, __u16 *name_length,
					  struct file **file)
{
	struct vfsmount *mnt = NULL;
	struct dentry *dentry = NULL;
	__u64 off = *at;
	__u32 side = 0;
	long len;

	if (what == SIDE_FILE && dfd == AT_FDCWD) {
		mnt = BPF_CORE_READ(task, fs, pwd.mnt);
		dentry = BPF_CORE_READ(task, fs, pwd.dentry);
	} else if (what == SIDE_FILE) {
		*file = current_file(dfd);
		mnt = BPF_CORE_READ(*file, f_path.mnt);
		dentry = BPF_CORE_READ(*file, f_path.dentry);
	} else if (what == SIDE_NAME) {
		starts_at(task, dfd, name, !submitted, &mnt, &dentry);
	}
	if (dentry) {
		if (submitted)
			off = walk_submitted((struct submitted_scratch *)s, mnt, dentry, task, off);
		else
			off = walk_asked(s, mnt, dentry, task, off);
		side = CHANGE_BASE;
		if (s->walk.flags & (PATH_TRUNCATED | PATH_PSEUDO))
			side |= CHANGE_TRUNCATED;
		if (s->walk.flags & PATH_OUTSIDE)
			side |= CHANGE_OUTSIDE;
	}
	*length = off - *at;
	if (what == SIDE_FILE) {
		if (!dentry)
			side |= CHANGE_NAME_MISSING;
	} else if (off <= ASKED_LIMIT + PATH_SLACK) {
		if (submitted)
			len = bpf_probe_read_kernel_str(s->bytes + bounded(off, ASKED_LIMIT + PATH_SLACK), PATH_BYTES, name);
		else
			len = bpf_probe_read_user_str(s->bytes + bounded(off, ASKED_LIMIT + PATH_SLACK), PATH_BYTES, name);
		if (len <= 0) {
			side |= CHANGE_NAME_MISSING;
		} else {
			if (len == PATH_BYTES)
				side |= CHANGE_NAME_TRUNCATED;
			len = (len - 1) & (PATH_BYTES - 1);
			*name_length = len;
			off += len;
		}
	}
	*at = off;
	return side;
}

/* The file behind a descriptor that was changed, or was given a name. */
static __always_inline void describe_open(struct record_change *r, struct file *file, bool changed)
{
	struct inode *inode = BPF_CORE_READ(file, f_inode);
	__u16 mode = BPF_CORE_READ(inode, i_mode);
	bool sure = true;

	r->inode = BPF_CORE_READ(inode, i_ino);
	r->dev = BPF_CORE_READ(inode, i_sb, s_dev);
	if (!changed)
		return;
	if ((mode & S_IFMT) == S_IFDIR)
		r->h.flags |= CHANGE_DIRECTORY;
	if (r->op == CHANGE_CHMOD && r->error)
		r->before = mode & S_PERMISSIONS;
	if (r->op != CHANGE_CHMOD || r->error)
		r->mode = mode;
	/* Where it is not as the call has left it, it may be another one. */
	if (r->op == CHANGE_CHMOD)
		sure = !((mode ^ r->after) & 0777);
	else if (r->op == CHANGE_TRUNCATE)
		sure = BPF_CORE_READ((struct inode___changed *)inode, i_size) == r->after;
	if (!r->error && !sure)
		r->h.flags |= CHANGE_NOT_SURE;
}

static __always_inline int report_asked_in(bool submitted)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	__u64 off = sizeof(struct record_change), cgroup = bpf_get_current_cgroup_id();
	struct file *file = NULL;
	struct asked_scratch *s;
	struct record_change *r;
	__u32 zero = 0, side;
	struct asked *a;
	long len;

	if (submitted)
		s = bpf_map_lookup_elem(&submitted_scratch, &zero);
	else
		s = bpf_map_lookup_elem(&asked_scratch, &zero);
	if (!s)
		return 0;
	a = &s->asked;
	r = (void *)s;
	__builtin_memset(r, 0, sizeof(*r));
	fill_header_current(&r->h, RECORD_CHANGE, cgroup);
	r->op = a->op;
	r->mode = a->mode;
	r->flags = a->flags;
	r->after = a->after;
	r->error = a->error;
	if (a->op == CHANGE_CHMOD || a->op == CHANGE_CHOWN || a->op == CHANGE_TRUNCATE)
		r->before = -1;
	r->h.flags = submitted ? CHANGE_NAMES_FROM_USER | CHANGE_SUBMITTED : CHANGE_NAMES_FROM_USER;
	if (a->old_side) {
		side = append_asked(submitted, s, task, a->old_side, a->old_dfd, (void *)a->old_name, &off, &r->old_len,
				    &r->old_name_len, &file);
		r->h.flags |= side;
		if (!submitted && a->linked_fd >= 0)
			file = current_file(a->linked_fd);
		if (file)
			describe_open(r, file, false);
	}
	if (off > ASKED_LIMIT - PATH_BYTES - PATH_SLACK)
		off = ASKED_LIMIT - PATH_BYTES - PATH_SLACK; /* for the verifier: it is not */
	file = NULL;
	side = append_asked(submitted, s, task, a->new_side, a->new_dfd, (void *)a->new_name, &off, &r->new_len, &r->new_name_len,
			    &file);
	r->h.flags |= side << CHANGE_NEW_SHIFT;
	if (a->new_side == SIDE_FILE && !a->old_side) {
		r->h.flags = (r->h.flags & ~CHANGE_NAMES_FROM_USER) | CHANGE_OPEN_FILE;
		if (s->walk.flags & PATH_UNLINKED && side & CHANGE_BASE)
			r->h.flags |= CHANGE_UNLINKED;
		if (file)
			describe_open(r, file, true);
		else if (!r->error && a->new_dfd != AT_FDCWD)
			r->h.flags |= CHANGE_NOT_SURE;
	}
	if (a->text && off <= ASKED_LIMIT + PATH_SLACK + PATH_BYTES) {
		if (submitted)
			len = bpf_probe_read_kernel_str(s->bytes + bounded(off, ASKED_LIMIT + PATH_SLACK + PATH_BYTES), TEXT_BYTES, (void *)a->text);
		else
			len = bpf_probe_read_user_str(s->bytes + bounded(off, ASKED_LIMIT + PATH_SLACK + PATH_BYTES), TEXT_BYTES, (void *)a->text);
		if (len > 0) {
			len = (len - 1) & (TEXT_BYTES - 1);
			r->text_len = len;
			off += len;
		}
	}
	if (off > sizeof(s->bytes))
		off = sizeof(s->bytes);
	send(r, off);
	return 0;
}

/* Sends what asked_scratch says. A global function: the verifier looks at it once. */
__noinline int report_asked(void)
{
	return report_asked_in(false);
}

static __always_inline struct asked *new_asked(void)
{
	struct asked_scratch *s;
	__u32 zero = 0;

	s = bpf_map_lookup_elem(&asked_scratch, &zero);
	if (!s) {
		lose(bpf_get_current_cgroup_id(), RECORD_CHANGE, LOSS_SCRATCH);
		return NULL;
	}
	__builtin_memset(&s->asked, 0, sizeof(s->asked));
	s->asked.linked_fd = -1;
	return &s->asked;
}

static __always_inline void asked_old(struct asked *a, int dfd, __u64 name)
{
	a->old_side = SIDE_NAME;
	a->old_dfd = dfd;
	a->old_name = name;
}

static __always_inline void asked_new(struct asked *a, int dfd, __u64 name)
{
	a->new_side = SIDE_NAME;
	a->new_dfd = dfd;
	a->new_name = name;
}

static __always_inline void asked_file(struct asked *a, int fd)
{
	a->new_side = SIDE_FILE;
	a->new_dfd = fd;
}

/* Whether a name stands for its descriptor, with AT_EMPTY_PATH. */
static __always_inline bool is_empty(__u64 name)
{
	char first = 1;

	bpf_probe_read_user(&first, 1, (void *)name);
	return !first;
}

/* The same of a name, or, if it is empty and that is allowed, of the file behind the descriptor. */
static __always_inline void asked_at(struct asked *a, int dfd, __u64 name, bool empty)
{
	if (empty && (!name || is_empty(name)))
		asked_file(a, dfd);
	else
		asked_new(a, dfd, name);
}

/* The number in /proc/self/fd/NUMBER, by which a file without a name is given one; -1: it is another name. */
static __always_inline int descriptor_of(__u64 name)
{
	__u64 begin = 0, middle = 0;
	char digits[8] = {};
	int fd = 0, i;

	bpf_probe_read_user(&begin, sizeof(begin), (void *)name);
	bpf_probe_read_user(&middle, sizeof(middle), (void *)name + 6);
	if (begin != 0x65732f636f72702f /* "/proc/se" */ || middle != 0x2f64662f666c6573 /* "self/fd/" */)
		return -1;
	if (bpf_probe_read_user_str(digits, sizeof(digits), (void *)name + 14) < 2)
		return -1;
#pragma unroll
	for (i = 0; i < sizeof(digits) - 1; i++) {
		if (!digits[i])
			break;
		if (digits[i] < '0' || digits[i] > '9')
			return -1;
		fd = fd * 10 + digits[i] - '0';
	}
	return fd;
}

static __always_inline void asked_xattr(struct asked *a, __u64 name, __u64 size, __u32 flags)
{
	a->op = CHANGE_SETXATTR;
	a->text = name;
	a->after = size;
	a->flags = flags;
}

static __always_inline void asked_owner(struct asked *a, __u32 uid, __u32 gid)
{
	a->op = CHANGE_CHOWN;
	a->after = uid | (__u64)gid << 32;
}

static __always_inline void asked_mknod(struct asked *a, __u32 mode, __u32 device)
{
	a->op = CHANGE_MKNOD;
	a->mode = mode & S_IFMT ? mode : mode | S_IFREG;
	a->after = device;
}

/* Of setxattrat: include/uapi/linux/xattr.h. */
struct xattr_args {
	__u64 value;
	__u32 size, flags;
};

/* What a call is asked to do by its arguments; false: it changes no file. */
static __always_inline bool ask(struct asked *a, long number, struct call_args c, struct later_args l)
{
	struct xattr_args x = {};

	switch (number) {
	case NR_UNLINK:
	case NR_RMDIR:
		a->op = number == NR_RMDIR ? CHANGE_RMDIR : CHANGE_UNLINK;
		asked_new(a, AT_FDCWD, c.first);
		return true;
	case NR_UNLINKAT:
		a->op = c.third & AT_REMOVEDIR ? CHANGE_RMDIR : CHANGE_UNLINK;
		asked_new(a, c.first, c.second);
		return true;
	case NR_MKDIR:
		a->op = CHANGE_MKDIR;
		a->mode = (c.second & S_PERMISSIONS) | S_IFDIR;
		asked_new(a, AT_FDCWD, c.first);
		return true;
	case NR_MKDIRAT:
		a->op = CHANGE_MKDIR;
		a->mode = (c.third & S_PERMISSIONS) | S_IFDIR;
		asked_new(a, c.first, c.second);
		return true;
	case NR_MKNOD:
		asked_mknod(a, c.second, c.third);
		asked_new(a, AT_FDCWD, c.first);
		return true;
	case NR_MKNODAT:
		asked_mknod(a, c.third, l.fourth);
		asked_new(a, c.first, c.second);
		return true;
	case NR_RENAME:
	case NR_LINK:
		a->op = number == NR_LINK ? CHANGE_LINK : CHANGE_RENAME;
		asked_old(a, AT_FDCWD, c.first);
		asked_new(a, AT_FDCWD, c.second);
		return true;
	case NR_RENAMEAT2:
		a->flags = l.fifth;
		/* fall through */
	case NR_RENAMEAT:
		a->op = CHANGE_RENAME;
		asked_old(a, c.first, c.second);
		asked_new(a, c.third, l.fourth);
		return true;
	case NR_LINKAT:
		a->op = CHANGE_LINK;
		asked_old(a, c.first, c.second);
		if (l.fifth & AT_EMPTY_PATH && is_empty(c.second))
			a->old_side = SIDE_FILE;
		else if (l.fifth & AT_SYMLINK_FOLLOW)
			a->linked_fd = descriptor_of(c.second);
		asked_new(a, c.third, l.fourth);
		return true;
	case NR_SYMLINK:
	case NR_SYMLINKAT:
		a->op = CHANGE_SYMLINK;
		a->old_name = c.first;
		a->old_side = SIDE_BARE;
		if (number == NR_SYMLINK)
			asked_new(a, AT_FDCWD, c.second);
		else
			asked_new(a, c.second, c.third);
		return true;
	case NR_TRUNCATE:
	case NR_FTRUNCATE:
		a->op = CHANGE_TRUNCATE;
		a->after = c.second;
		if (number == NR_TRUNCATE)
			asked_new(a, AT_FDCWD, c.first);
		else
			asked_file(a, c.first);
		return true;
	case NR_CHMOD:
	case NR_FCHMOD:
		a->op = CHANGE_CHMOD;
		a->after = c.second & S_PERMISSIONS;
		if (number == NR_CHMOD)
			asked_new(a, AT_FDCWD, c.first);
		else
			asked_file(a, c.first);
		return true;
	case NR_FCHMODAT:
	case NR_FCHMODAT2:
		a->op = CHANGE_CHMOD;
		a->after = c.third & S_PERMISSIONS;
		asked_at(a, c.first, c.second, number == NR_FCHMODAT2 && l.fourth & AT_EMPTY_PATH);
		return true;
	case NR_CHOWN:
	case NR_LCHOWN:
		asked_owner(a, c.second, c.third);
		asked_new(a, AT_FDCWD, c.first);
		return true;
	case NR_FCHOWN:
		asked_owner(a, c.second, c.third);
		asked_file(a, c.first);
		return true;
	case NR_FCHOWNAT:
		asked_owner(a, c.third, l.fourth);
		asked_at(a, c.first, c.second, l.fifth & AT_EMPTY_PATH);
		return true;
	case NR_SETXATTR:
	case NR_LSETXATTR:
		asked_xattr(a, c.second, l.fourth, l.fifth);
		asked_new(a, AT_FDCWD, c.first);
		return true;
	case NR_FSETXATTR:
		asked_xattr(a, c.second, l.fourth, l.fifth);
		asked_file(a, c.first);
		return true;
	case NR_SETXATTRAT:
		bpf_probe_read_user(&x, sizeof(x), (void *)l.fifth);
		asked_xattr(a, l.fourth, x.size, x.flags);
		asked_at(a, c.first, c.second, c.third & AT_EMPTY_PATH);
		return true;
	case NR_REMOVEXATTR:
	case NR_LREMOVEXATTR:
	case NR_FREMOVEXATTR:
		a->op = CHANGE_REMOVEXATTR;
		a->text = c.second;
		if (number == NR_FREMOVEXATTR)
			asked_file(a, c.first);
		else
			asked_new(a, AT_FDCWD, c.first);
		return true;
	case NR_REMOVEXATTRAT:
		a->op = CHANGE_REMOVEXATTR;
		a->text = l.fourth;
		asked_at(a, c.first, c.second, c.third & AT_EMPTY_PATH);
		return true;
	case NR_UTIME:
	case NR_UTIMES:
		a->op = CHANGE_UTIMES;
		asked_new(a, AT_FDCWD, c.first);
		return true;
	case NR_FUTIMESAT:
	case NR_UTIMENSAT:
		a->op = CHANGE_UTIMES;
		asked_at(a, c.first, c.second, !c.second || (number == NR_UTIMENSAT && l.fourth & AT_EMPTY_PATH));
		return true;
	case NR_MOUNT:
		a->op = CHANGE_MOUNT;
		a->old_side = c.first ? SIDE_BARE : SIDE_NONE;
		a->old_name = c.first;
		a->text = c.third;
		a->flags = l.fourth;
		if ((a->flags & MS_MGC_MSK) == MS_MGC_VAL)
			a->flags &= ~MS_MGC_MSK;
		asked_new(a, AT_FDCWD, c.second);
		return true;
	case NR_UMOUNT2:
		a->op = CHANGE_UMOUNT;
		a->flags = c.second;
		asked_new(a, AT_FDCWD, c.first);
		return true;
	case NR_MOVE_MOUNT:
		a->op = CHANGE_MOVE_MOUNT;
		a->flags = l.fifth;
		if (!(l.fifth & MOVE_MOUNT_F_EMPTY_PATH) || !is_empty(c.second))
			asked_old(a, c.first, c.second);
		asked_at(a, c.third, l.fourth, l.fifth & MOVE_MOUNT_T_EMPTY_PATH);
		return true;
	case NR_PIVOT_ROOT:
		a->op = CHANGE_PIVOT_ROOT;
		asked_old(a, AT_FDCWD, c.second);
		asked_new(a, AT_FDCWD, c.first);
		return true;
	case NR_CHROOT:
		a->op = CHANGE_CHROOT;
		asked_new(a, AT_FDCWD, c.first);
		return true;
	}
	return false;
}

/* Reports the call that the current task is returning from; false: it changes no file. */
static __always_inline bool report_change_call(long number, struct call_args args, struct later_args later, long ret)
{
	struct asked *a = new_asked();

	if (!a)
		return true;
	if (!ask(a, number, args, later))
		return false;
	a->error = ret < 0 ? -ret : 0;
	report_asked();
	return true;
}

/* At the exit of each call that changes a file. */
SEC("tracepoint/syscalls/sys_exit_unlinkat")
int change_call(struct syscall_exit *ctx)
{
	if (!current_watched())
		return 0;
	if (!report_change_call(ctx->nr, call_args(), later_args(), ctx->ret))
		lose(bpf_get_current_cgroup_id(), RECORD_CHANGE, LOSS_SCRATCH); /* cannot happen: ask() knows all that it is attached to */
	return 0;
}
