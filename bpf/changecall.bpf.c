//go:build ignore
// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
/*
 * Changes of names, so far renames, by what the system call was asked: the tracepoint form, and what the trampoline form
 * (change.bpf.c) falls back to. Both names are the caller's word.
 */

#if defined(__TARGET_ARCH_x86)
enum { NR_RENAME = 82, NR_RENAMEAT = 264, NR_RENAMEAT2 = 316 };
#else
enum { NR_RENAME = -1, NR_RENAMEAT = 38, NR_RENAMEAT2 = 276 };
#endif

/* Ends of what one side, a directory and a name in it, may fill of a buffer. NAME: of the longest name. */
#define SIDE_BYTES(NAME) (PATH_BYTES + PATH_SLACK + (NAME))
enum { ASKED_LIMIT = sizeof(struct record_change) + SIDE_BYTES(PATH_BYTES) + PATH_BYTES + PATH_SLACK };

struct asked_scratch {
	__u8 bytes[(ASKED_LIMIT + PATH_SLACK + PATH_BYTES + 7) & ~7];
	struct walk walk;
};

/* As open_scratch. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct asked_scratch);
} asked_scratch SEC(".maps");

DEFINE_WALK(asked, ASKED_LIMIT)

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

/* dfd and name of each side as the caller gave them; names are NULL where they are not known. */
static __always_inline int report_rename(int old_dfd, const char *old_name, int new_dfd, const char *new_name,
					 __u32 rename_flags, int error)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	__u64 off = sizeof(struct record_change), cgroup = bpf_get_current_cgroup_id();
	struct vfsmount *mnt = NULL;
	struct dentry *dir = NULL;
	__u32 zero = 0, side;
	struct asked_scratch *s;
	struct record_change *r;

	s = bpf_map_lookup_elem(&asked_scratch, &zero);
	if (!s) {
		lose(cgroup, RECORD_CHANGE, LOSS_SCRATCH);
		return 0;
	}
	r = (void *)s;
	__builtin_memset(r, 0, sizeof(*r));
	fill_header_current(&r->h, RECORD_CHANGE, cgroup);
	r->op = CHANGE_RENAME;
	r->flags = rename_flags;
	r->error = error;
	r->h.flags = CHANGE_NAMES_FROM_USER;
	starts_at(task, old_dfd, old_name, true, &mnt, &dir);
	side = append_side(s, walk_asked, ASKED_LIMIT, PATH_BYTES, task, mnt, dir, old_name, true, r->old_len,
			   r->old_name_len);
	r->h.flags |= side;
	if (off > ASKED_LIMIT - PATH_BYTES - PATH_SLACK)
		off = ASKED_LIMIT - PATH_BYTES - PATH_SLACK; /* for the verifier: it is not */
	mnt = NULL;
	dir = NULL;
	starts_at(task, new_dfd, new_name, true, &mnt, &dir);
	side = append_side(s, walk_asked, ASKED_LIMIT, PATH_BYTES, task, mnt, dir, new_name, true, r->new_len,
			   r->new_name_len);
	r->h.flags |= side << CHANGE_NEW_SHIFT;
	if (off > sizeof(s->bytes))
		off = sizeof(s->bytes);
	send(r, off);
	return 0;
}

static __always_inline int report_rename_call(long number, long ret)
{
	struct call_args args = call_args();
	struct later_args later;
	int error = ret < 0 ? -ret : 0;

	if (number == NR_RENAME)
		return report_rename(AT_FDCWD, (void *)args.first, AT_FDCWD, (void *)args.second, 0, error);
	later = later_args();
	return report_rename(args.first, (void *)args.second, args.third, (void *)later.fourth,
			     number == NR_RENAMEAT2 ? later.fifth : 0, error);
}

SEC("tracepoint/syscalls/sys_exit_rename")
int rename_call(struct syscall_exit *ctx)
{
	if (!current_watched())
		return 0;
	return report_rename_call(NR_RENAME, ctx->ret);
}

SEC("tracepoint/syscalls/sys_exit_renameat")
int rename_call_at(struct syscall_exit *ctx)
{
	if (!current_watched())
		return 0;
	return report_rename_call(NR_RENAMEAT, ctx->ret);
}

SEC("tracepoint/syscalls/sys_exit_renameat2")
int rename_call_at2(struct syscall_exit *ctx)
{
	if (!current_watched())
		return 0;
	return report_rename_call(NR_RENAMEAT2, ctx->ret);
}
