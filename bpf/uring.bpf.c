//go:build ignore
// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
/*
 * What io_uring is asked to do, for the tracepoint form, whose other programs see system
 * calls only. Reported is the request as the kernel took it, before it acts: the name of
 * an open or a change is the kernel's own copy, the outcome is not known. IP connects need none of
 * this (connect.bpf.c).
 */

enum {
	IORING_OP_CONNECT = 16,
	IORING_OP_OPENAT = 18,
	IORING_OP_OPENAT2 = 28,
	IORING_OP_RENAMEAT = 35,
	IORING_OP_UNLINKAT = 36,
	IORING_OP_MKDIRAT = 37,
	IORING_OP_SYMLINKAT = 38,
	IORING_OP_LINKAT = 39,
	IORING_OP_SETXATTR = 42,
};

struct uring_scratch {
	__u8 bytes[(OPEN_LIMIT + PATH_BYTES + PATH_SLACK + 7) & ~7];
	struct walk walk;
};

/* As exec_scratch. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct uring_scratch);
} uring_scratch SEC(".maps");

DEFINE_WALK(uring, OPEN_LIMIT)

static __always_inline void report_submitted_open(struct io_open *open, __u64 cgroup)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	const char *name;
	int dfd = BPF_CORE_READ(open, dfd);
	__u32 zero = 0, flags = OPEN_SUBMITTED;
	struct vfsmount *mnt = NULL;
	struct dentry *dentry = NULL;
	struct uring_scratch *s;
	struct record_open *r;
	__u64 off;
	long len;

	if (bpf_core_type_exists(struct delayed_filename))
		name = BPF_CORE_READ((struct io_open___delayed *)open, filename.__incomplete_filename, name);
	else
		name = BPF_CORE_READ(open, filename, name);
	s = bpf_map_lookup_elem(&uring_scratch, &zero);
	if (!s) {
		lose(cgroup, RECORD_OPEN, LOSS_SCRATCH);
		return;
	}
	r = (void *)s;
	__builtin_memset(r, 0, sizeof(*r));
	fill_header(&r->h, RECORD_OPEN, task, cgroup);
	r->flags = BPF_CORE_READ(open, how.flags);
	off = sizeof(*r);
	starts_at(task, dfd, name, false, &mnt, &dentry);
	if (dentry) {
		flags |= OPEN_BASE;
		off = walk_uring(s, mnt, dentry, task, off);
		flags |= open_path_flags(s->walk.flags);
	}
	r->path_len = off - sizeof(*r);
	if (off <= OPEN_LIMIT + PATH_SLACK) {
		len = bpf_probe_read_kernel_str(s->bytes + off, PATH_BYTES, name);
		if (len <= 0) {
			flags |= OPEN_NAME_MISSING;
		} else {
			if (len == PATH_BYTES)
				flags |= OPEN_NAME_TRUNCATED;
			len = (len - 1) & (PATH_BYTES - 1);
			r->name_len = len;
			off += len;
		}
	}
	r->h.flags = flags;
	if (off > sizeof(s->bytes))
		off = sizeof(s->bytes);
	send(r, off);
}

/* The socket is not known yet: the address tells whether it is a unix socket's. Until 6.10 the kernel has no copy of
 * its own at this point, so the caller's word is taken on every kernel.
 */
static __always_inline void report_submitted_connect(struct io_connect *connect, __u64 cgroup)
{
	enum { SUN_PATH = sizeof(((struct sockaddr_un *)0)->sun_path) };
	struct task_struct *task = (void *)bpf_get_current_task();
	const void *address = BPF_CORE_READ(connect, addr);
	__u32 zero = 0, flags = UNIX_SUBMITTED | UNIX_NAME_FROM_USER;
	__u64 len = (__u32)BPF_CORE_READ(connect, addr_len), off = sizeof(struct record_unix);
	__u16 family = 0;
	struct uring_scratch *s;
	struct record_unix *r;
	__u8 *to;

	if (bpf_probe_read_user(&family, sizeof(family), address) || family != AF_UNIX)
		return;
	s = bpf_map_lookup_elem(&uring_scratch, &zero);
	if (!s) {
		lose(cgroup, RECORD_UNIX, LOSS_SCRATCH);
		return;
	}
	r = (void *)s;
	__builtin_memset(r, 0, sizeof(*r));
	fill_header(&r->h, RECORD_UNIX, task, cgroup);
	len -= 2; /* sun_family */
	if ((int)len > 0) {
		if (len > SUN_PATH)
			len = SUN_PATH;
		to = s->bytes + off;
		bpf_probe_read_user(to, len, address + 2);
		if (!to[0])
			flags |= UNIX_ABSTRACT;
		r->name_len = len;
		off += len;
	}
	r->h.flags = flags;
	send(r, off);
}

/* The text of a name that the request keeps as FIELD. */
#define RING_NAME(TYPE, request, FIELD)                                                                                \
	(bpf_core_type_exists(struct delayed_filename) ?                                                               \
		 (__u64)BPF_CORE_READ((struct TYPE##___delayed *)(request), FIELD.__incomplete_filename, name) :       \
		 (__u64)BPF_CORE_READ((struct TYPE *)(request), FIELD, name))

/* Sends what submitted_scratch says, as report_asked(). */
__noinline int report_submitted_change(void)
{
	return report_asked_in(true);
}

static __always_inline bool is_empty_copy(__u64 name)
{
	char first = 1;

	bpf_probe_read_kernel(&first, 1, (void *)name);
	return !first;
}

/* What a request of io_uring is asked to change; false: nothing, or this kernel cannot. */
static __always_inline bool ask_submitted(struct asked *a, __u8 opcode, void *request)
{
	switch (opcode) {
	case IORING_OP_RENAMEAT:
		if (!bpf_core_type_exists(struct io_rename))
			return false;
		a->op = CHANGE_RENAME;
		a->flags = BPF_CORE_READ((struct io_rename *)request, flags);
		asked_old(a, BPF_CORE_READ((struct io_rename *)request, old_dfd), RING_NAME(io_rename, request, oldpath));
		asked_new(a, BPF_CORE_READ((struct io_rename *)request, new_dfd), RING_NAME(io_rename, request, newpath));
		return true;
	case IORING_OP_UNLINKAT:
		if (!bpf_core_type_exists(struct io_unlink))
			return false;
		a->op = BPF_CORE_READ((struct io_unlink *)request, flags) & AT_REMOVEDIR ? CHANGE_RMDIR : CHANGE_UNLINK;
		asked_new(a, BPF_CORE_READ((struct io_unlink *)request, dfd), RING_NAME(io_unlink, request, filename));
		return true;
	case IORING_OP_MKDIRAT:
		if (!bpf_core_type_exists(struct io_mkdir))
			return false;
		a->op = CHANGE_MKDIR;
		a->mode = (BPF_CORE_READ((struct io_mkdir *)request, mode) & S_PERMISSIONS) | S_IFDIR;
		asked_new(a, BPF_CORE_READ((struct io_mkdir *)request, dfd), RING_NAME(io_mkdir, request, filename));
		return true;
	case IORING_OP_SYMLINKAT:
	case IORING_OP_LINKAT:
		if (!bpf_core_type_exists(struct io_link))
			return false;
		asked_old(a, BPF_CORE_READ((struct io_link *)request, old_dfd), RING_NAME(io_link, request, oldpath));
		asked_new(a, BPF_CORE_READ((struct io_link *)request, new_dfd), RING_NAME(io_link, request, newpath));
		a->op = CHANGE_LINK;
		if (opcode == IORING_OP_SYMLINKAT) {
			a->op = CHANGE_SYMLINK;
			a->old_side = SIDE_BARE;
		} else if (BPF_CORE_READ((struct io_link *)request, flags) & AT_EMPTY_PATH &&
			   is_empty_copy(a->old_name)) {
			a->old_side = SIDE_FILE;
		}
		return true;
	case IORING_OP_SETXATTR:
		if (!bpf_core_type_exists(struct io_xattr))
			return false;
		asked_xattr(a, (__u64)BPF_CORE_READ((struct io_xattr *)request, ctx.kname),
			    BPF_CORE_READ((struct io_xattr *)request, ctx.size), BPF_CORE_READ((struct io_xattr *)request, ctx.flags));
		asked_new(a, AT_FDCWD, RING_NAME(io_xattr, request, filename));
		return true;
	}
	return false;
}

static __always_inline void report_submitted(__u8 opcode, void *request, __u64 cgroup)
{
	struct submitted_scratch *s;
	__u32 zero = 0;

	if (opcode < IORING_OP_RENAMEAT || opcode > IORING_OP_SETXATTR)
		return;
	s = bpf_map_lookup_elem(&submitted_scratch, &zero);
	if (!s) {
		lose(cgroup, RECORD_CHANGE, LOSS_SCRATCH);
		return;
	}
	__builtin_memset(&s->asked, 0, sizeof(s->asked));
	s->asked.linked_fd = -1;
	if (ask_submitted(&s->asked, opcode, request))
		report_submitted_change();
}

/* Of the tracepoint's arguments, which one the request is; set by the loader. */
const volatile __u32 uring_request = 0;

/* Since 6.3; before, io_uring_submit_sqe. What the request keeps for its operation lies at its beginning. */
SEC("tp_btf/io_uring_submit_req")
int uring_submit(__u64 *ctx)
{
	struct io_kiocb *req;
	__u64 cgroup;
	__u8 opcode;

	if (!current_watched())
		return 0;
	/* As in open_root. */
	if (uring_request) {
		req = (void *)ctx[1];
		barrier_var(req);
	} else {
		req = (void *)ctx[0];
		barrier_var(req);
	}
	cgroup = bpf_get_current_cgroup_id();
	opcode = BPF_CORE_READ(req, opcode);
	if (opcode == IORING_OP_OPENAT || opcode == IORING_OP_OPENAT2)
		report_submitted_open((void *)req, cgroup);
	else if (opcode == IORING_OP_CONNECT)
		report_submitted_connect((void *)req, cgroup);
	else
		report_submitted(opcode, req, cgroup);
	return 0;
}
