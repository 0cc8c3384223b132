//go:build ignore
// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
/*
 * File opens, in two forms of which the loader attaches one.
 *
 * Trampoline: fexit on do_filp_open (do_file_open since 7.0), the one place behind open,
 * openat, openat2, creat, io_uring and O_PATH. It has the kernel's copy of the name and
 * the resulting file or error. Opens by handle go through do_file_open_root instead.
 *
 * Tracepoint: the exit tracepoints of the system calls, for kernels without BPF
 * trampolines. A successful open is reported from the file behind the returned
 * descriptor; of a refused one only the caller's own word can be had.
 */

enum { OPEN_LIMIT = sizeof(struct record_open) + PATH_BYTES + PATH_SLACK };
struct open_scratch {
	__u8 bytes[(OPEN_LIMIT + PATH_BYTES + PATH_SLACK + 7) & ~7];
	struct walk walk;
};

/* As exec_scratch. The tracepoint programs share it: system call tracepoints run with preemption off. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct open_scratch);
} open_scratch SEC(".maps");

DEFINE_WALK(open, OPEN_LIMIT)

/* Another one, for trampoline programs can be preempted by each other. */
struct open_root_scratch {
	__u8 bytes[sizeof(((struct open_scratch *)0)->bytes)];
	struct walk walk;
};
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct open_root_scratch);
} open_root_scratch SEC(".maps");

DEFINE_WALK(open_root, OPEN_LIMIT)

/* The file behind a descriptor of a task. */
static __always_inline struct file *task_file(struct task_struct *task, __u32 fd)
{
	struct fdtable *fdt = BPF_CORE_READ(task, files, fdt);
	struct file *file = NULL;

	if (fdt && fd < BPF_CORE_READ(fdt, max_fds))
		bpf_probe_read_kernel(&file, sizeof(file), BPF_CORE_READ(fdt, fd) + fd);
	return file;
}

/* The same of the current task. */
static __always_inline struct file *current_file(__u32 fd)
{
	struct file *file = NULL, **files;
	struct fdtable *fdt;
	__u32 count;

	if (have_task_btf) {
		fdt = ((struct task_struct *)bpf_get_current_task_btf())->files->fdt;
		count = fdt->max_fds;
		files = fdt->fd;
	} else {
		fdt = BPF_CORE_READ((struct task_struct *)bpf_get_current_task(), files, fdt);
		count = BPF_CORE_READ(fdt, max_fds);
		files = BPF_CORE_READ(fdt, fd);
	}
	if (fd < count)
		bpf_probe_read_kernel(&file, sizeof(file), files + fd);
	return file;
}

static __always_inline __u32 open_path_flags(__u32 path_flags)
{
	__u32 flags = 0;

	if (path_flags & PATH_TRUNCATED)
		flags |= OPEN_TRUNCATED;
	if (path_flags & PATH_OUTSIDE)
		flags |= OPEN_OUTSIDE;
	if (path_flags & PATH_PSEUDO)
		flags |= OPEN_PSEUDO;
	if (path_flags & PATH_UNLINKED)
		flags |= OPEN_UNLINKED;
	return flags;
}

/* Fingerprints of (program, file) of reads that were sent. A newer one takes the place of an older one, which then counts
 * as not read yet.
 */
enum { READS = 16384 };
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, READS);
	__type(key, __u32);
	__type(value, __u64);
} reads SEC(".maps");

static __always_inline __u64 mix(__u64 x, __u64 with)
{
	x = (x ^ with) * 0x9e3779b97f4a7c15ULL;
	return x ^ x >> 32;
}

static __always_inline __u64 read_fingerprint(const struct record_open *r)
{
	__u64 x = mix(r->h.start, r->inode);

	x = mix(x, (__u64)r->h.tgid << 32 | r->dev);
	return mix(x, r->h.exec_id);
}

/* Files that every program reads, of the list of noise as far as it fits: struct noise_key -> struct noise_path. Set by the
 * loader, which leaves out what does not. The collector has the list; here it says only who goes first.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 1024);
	__uint(map_flags, 1); /* BPF_F_NO_PREALLOC, which this type demands */
	__type(key, struct noise_key);
	__type(value, struct noise_path);
} noise SEC(".maps");

/* Whether a process's own directory of /proc is noise; set by the loader. */
const volatile bool noise_own_proc = false;

/* Whether the path in open_scratch, of this length, is noise. A global function: the verifier looks at it once. */
__noinline int path_is_noise(__u32 path_len)
{
	enum { LEAF = 64 };
	struct open_scratch *s;
	__u64 end = sizeof(struct record_open) + (__u64)path_len;
	__u32 zero = 0, tail[NOISE_BYTES / 4] = {};
	struct noise_key key = { .bits = 8 * NOISE_BYTES };
	struct noise_path *known;
	char leaf[LEAF];

	s = bpf_map_lookup_elem(&open_scratch, &zero);
	if (!s || end > OPEN_LIMIT)
		return 0;
	bpf_probe_read_kernel(tail, sizeof(tail), s->bytes + end - sizeof(tail)); /* at worst some of the record */
#pragma unroll
	for (int i = 0; i < NOISE_BYTES / 4; i++)
		key.words[i] = __builtin_bswap32(tail[NOISE_BYTES / 4 - 1 - i]);
	known = bpf_map_lookup_elem(&noise, &key);
	if (!known)
		return 0;
	if (known->kind == NOISE_FILE)
		return path_len == known->len;
	if (known->kind == NOISE_BELOW)
		return 1;
	bpf_probe_read_kernel(leaf, sizeof(leaf), s->bytes + sizeof(struct record_open));
#pragma unroll
	for (int i = 0; i < LEAF - 3 && leaf[i]; i++)
		if (leaf[i] == '.' && leaf[i + 1] == 's' && leaf[i + 2] == 'o' && (!leaf[i + 3] || leaf[i + 3] == '.'))
			return 1;
	return 0;
}

struct proc_inode {
	struct pid *pid;
	struct inode vfs_inode;
} CORE;

/* A file in the own directory of /proc, but for those that the list of sensitive ones has. */
static __always_inline bool is_own_proc(struct task_struct *task, struct inode *inode, const __u8 *leaf)
{
	struct proc_inode *proc = (void *)inode - bpf_core_field_offset(struct proc_inode, vfs_inode);

	if (!noise_own_proc || BPF_CORE_READ(proc, pid) != BPF_CORE_READ(task, group_leader, thread_pid))
		return false;
	return !(leaf[0] == 'e' && leaf[1] == 'n' && leaf[2] == 'v') && !(leaf[0] == 'm' && leaf[1] == 'e' && leaf[2] == 'm');
}

/* The number of the host's mount namespace; set by the loader. */
const volatile __u32 host_mounts = 0;

/* Whether the current task sees another file system tree than the host's. */
static __always_inline bool foreign_tree(struct task_struct *task)
{
	__u32 mounts;

	if (have_task_btf)
		mounts = ((struct task_struct___mounts *)bpf_get_current_task_btf())->nsproxy->mnt_ns->ns.inum;
	else
		mounts = BPF_CORE_READ((struct task_struct___mounts *)task, nsproxy, mnt_ns, ns.inum);
	return mounts != host_mounts || !own_root((__u64)task);
}

/* The directory that a relative name starts from; both stay NULL where it starts from none. */
static __always_inline void starts_at(struct task_struct *task, int dfd, const char *name, bool user_name, struct vfsmount **mnt,
				      struct dentry **dentry)
{
	struct file *dir;
	char first = 0;

	if (user_name)
		bpf_probe_read_user(&first, 1, name);
	else
		bpf_probe_read_kernel(&first, 1, name);
	if (!first || first == '/')
		return;
	if (dfd == AT_FDCWD) {
		*mnt = BPF_CORE_READ(task, fs, pwd.mnt);
		*dentry = BPF_CORE_READ(task, fs, pwd.dentry);
		return;
	}
	dir = current_file(dfd);
	*mnt = BPF_CORE_READ(dir, f_path.mnt);
	*dentry = BPF_CORE_READ(dir, f_path.dentry);
}

/* name is kernel memory in the trampoline form, user memory in the other; NULL where the call has none. root: for
 * do_file_open_root, a constant.
 */
static __always_inline int report_open_in(bool root, struct file *file, int error, int dfd, const char *name,
					  bool user_name, __u32 open_flags)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	struct open_scratch *s;
	struct record_open *r;
	struct vfsmount *mnt = NULL;
	struct dentry *dentry = NULL;
	struct inode *inode = NULL;
	__u32 zero = 0, flags = 0, class = CLASS_FACT, index = 0;
	__u64 off, cgroup = bpf_get_current_cgroup_id(), level, print = 0, *seen = NULL;
	__u16 cause;
	long len = 0;

	if (root)
		s = bpf_map_lookup_elem(&open_root_scratch, &zero);
	else
		s = bpf_map_lookup_elem(&open_scratch, &zero);
	if (!s) {
		lose(cgroup, RECORD_OPEN, LOSS_SCRATCH);
		return 0;
	}
	r = (void *)s;
	__builtin_memset(r, 0, sizeof(*r));
	fill_header_current(&r->h, RECORD_OPEN, cgroup);
	r->error = error;
	r->flags = open_flags;

	off = sizeof(*r);
	if (file) {
		struct super_block *sb;

		inode = BPF_CORE_READ(file, f_inode);
		r->inode = BPF_CORE_READ(inode, i_ino);
		r->uid = BPF_CORE_READ(inode, i_uid.val);
		sb = BPF_CORE_READ(inode, i_sb);
		r->dev = BPF_CORE_READ(sb, s_dev);
		if (BPF_CORE_READ(sb, s_magic) == PROC_SUPER_MAGIC)
			flags |= OPEN_ON_PROC;
		if (BPF_CORE_READ(file, f_mode) & FMODE_CREATED)
			flags |= OPEN_CREATED;
		else if (open_flags & O_PATH || !(open_flags & (O_ACCMODE | O_TRUNC)))
			class = CLASS_READ;
		mnt = BPF_CORE_READ(file, f_path.mnt);
		dentry = BPF_CORE_READ(file, f_path.dentry);
	} else {
		if (name)
			starts_at(task, dfd, name, user_name, &mnt, &dentry);
		if (dentry)
			flags |= OPEN_BASE;
	}
	if (dentry) {
		if (root)
			off = walk_open_root((struct open_root_scratch *)s, mnt, dentry, task, off);
		else
			off = walk_open(s, mnt, dentry, task, off);
		flags |= open_path_flags(s->walk.flags);
	}
	r->path_len = off - sizeof(*r);

	if (name && off <= OPEN_LIMIT + PATH_SLACK) {
		if (user_name) {
			flags |= OPEN_NAME_FROM_USER;
			len = bpf_probe_read_user_str(s->bytes + off, PATH_BYTES, name);
		} else {
			len = bpf_probe_read_kernel_str(s->bytes + off, PATH_BYTES, name);
		}
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
	/* Nobody but a read can be noise. */
	if ((class == CLASS_READ || error == ENOENT) && foreign_tree(task))
		flags |= OPEN_FOREIGN;
	r->h.flags = flags;
	if (off > sizeof(s->bytes))
		off = sizeof(s->bytes);

	level = ring_level();
	if (class == CLASS_READ) {
		print = read_fingerprint(r);
		index = print % READS;
		seen = bpf_map_lookup_elem(&reads, &index);
		if (seen && *seen == print)
			class = CLASS_REPEAT;
		else if (level >= wake_bytes && !root && !(flags & OPEN_FOREIGN) && (!r->uid || flags & OPEN_ON_PROC) &&
			 !(s->walk.flags & (PATH_TRUNCATED | PATH_OUTSIDE | PATH_PSEUDO | PATH_UNLINKED)) &&
			 ((flags & OPEN_ON_PROC && is_own_proc(task, inode, s->bytes + sizeof(*r))) || path_is_noise(r->path_len)))
			class = CLASS_NOISE;
	}
	cause = no_room(level, cgroup, class, off);
	if (cause)
		lose_record(&r->h, cause);
	else if (send_admitted(r, off, level) && seen)
		*seen = print;
	return 0;
}

static __always_inline int report_open(struct file *file, int error, int dfd, const char *name, bool user_name,
				       __u32 open_flags)
{
	return report_open_in(false, file, error, dfd, name, user_name, open_flags);
}

SEC("fexit/do_filp_open")
int BPF_PROG(open_file, int dfd, struct filename *name, const struct open_flags *op, struct file *ret)
{
	__u32 flags;
	long err = (long)ret;

	if (!current_watched())
		return 0;
	flags = BPF_CORE_READ(op, open_flag);
	if (flags & FMODE_EXEC)
		return 0;
	if ((unsigned long)err >= (unsigned long)-MAX_ERRNO)
		return report_open(NULL, -err, dfd, BPF_CORE_READ(name, name), false, flags);
	return report_open(ret, 0, dfd, BPF_CORE_READ(name, name), false, flags);
}

/* do_file_open_root() took its root as two arguments before 5.13; set by the loader. */
const volatile bool root_is_one_argument = true;

SEC("fexit/do_file_open_root")
int open_root(__u64 *ctx)
{
	struct open_flags *op;
	__u32 flags;
	long ret;

	if (!current_watched())
		return 0;
	/* The barriers keep the compiler from making one load of two, at an offset that it computes: the verifier refuses that. */
	if (root_is_one_argument) {
		op = (void *)ctx[2];
		ret = ctx[3];
		barrier_var(op);
		barrier_var(ret);
	} else {
		op = (void *)ctx[3];
		ret = ctx[4];
		barrier_var(op);
		barrier_var(ret);
	}
	flags = BPF_CORE_READ(op, open_flag);
	if ((unsigned long)ret >= (unsigned long)-MAX_ERRNO)
		return report_open_in(true, NULL, -ret, AT_FDCWD, NULL, false, flags);
	return report_open_in(true, (struct file *)ret, 0, AT_FDCWD, NULL, false, flags);
}

/* perf_call_bpf_exit() of kernel/trace/trace_syscalls.c: the context of a system call's exit tracepoint. */
struct syscall_exit {
	__u64 common;
	int nr;
	int not_set; /* what was on the kernel's stack */
	long ret;
};

/* bpf_task_pt_regs() came with 5.15; set by the loader. */
const volatile bool have_task_pt_regs = true;
/* THREAD_SIZE; set by the loader. */
const volatile __u32 stack_bytes = 16 << 10;

/* task_pt_regs() of the architecture: at the very end of the stack. (On x86 there is padding above since FRED, 6.9.) */
static __always_inline void *saved_registers(void)
{
	return BPF_CORE_READ((struct task_struct *)bpf_get_current_task(), stack) + stack_bytes -
	       bpf_core_type_size(struct pt_regs);
}

/* Arguments of the call that is returning. */
struct call_args { __u64 first, second, third; };

/* The saved registers still hold the arguments; so no second hook on the way in, and no map, are
 * needed.
 */
static __always_inline struct call_args call_args(void)
{
	struct call_args args;
	struct pt_regs *regs;

	if (have_task_pt_regs) {
		regs = (void *)bpf_task_pt_regs(bpf_get_current_task_btf());
		args.first = regs->FIRST_ARGUMENT;
		args.second = regs->SECOND_ARGUMENT;
		args.third = regs->THIRD_ARGUMENT;
	} else {
		regs = saved_registers();
		args.first = BPF_CORE_READ(regs, FIRST_ARGUMENT);
		args.second = BPF_CORE_READ(regs, SECOND_ARGUMENT);
		args.third = BPF_CORE_READ(regs, THIRD_ARGUMENT);
	}
	return args;
}

/* Further ones, of the few calls that have them. */
struct later_args { __u64 fourth, fifth; };

static __always_inline struct later_args later_args(void)
{
	struct later_args args;
	struct pt_regs *regs;

	if (have_task_pt_regs) {
		regs = (void *)bpf_task_pt_regs(bpf_get_current_task_btf());
		args.fourth = regs->FOURTH_ARGUMENT;
		args.fifth = regs->FIFTH_ARGUMENT;
	} else {
		regs = saved_registers();
		args.fourth = BPF_CORE_READ(regs, FOURTH_ARGUMENT);
		args.fifth = BPF_CORE_READ(regs, FIFTH_ARGUMENT);
	}
	return args;
}

#if defined(__TARGET_ARCH_x86)
struct pt_regs___number { unsigned long orig_ax; } CORE;
#define CALL_NUMBER orig_ax
enum { NR_CONNECT = 42, NR_SENDTO = 44, NR_SENDMSG = 46, NR_SENDMMSG = 307 };
#else
struct pt_regs___number { int syscallno; } CORE;
#define CALL_NUMBER syscallno
enum { NR_CONNECT = 203, NR_SENDTO = 206, NR_SENDMSG = 211, NR_SENDMMSG = 269 };
#endif

/* Number of the system call that the current task is in. */
static __always_inline long call_number(void)
{
	struct pt_regs___number *regs;

	if (have_task_pt_regs)
		return ((struct pt_regs___number *)bpf_task_pt_regs(bpf_get_current_task_btf()))->CALL_NUMBER;
	regs = saved_registers();
	return BPF_CORE_READ(regs, CALL_NUMBER);
}

static __always_inline int report_open_call(long ret, int dfd, const char *name, __u32 flags)
{
	struct file *file;

	if (ret < 0)
		return report_open(NULL, -ret, dfd, name, true, flags);
	file = current_file(ret);
	if (!file)
		return report_open(NULL, 0, dfd, name, true, flags); /* closed by another thread already */
	/* The flags of openat2 lie in memory that another thread can have changed since: what the file was opened for is the
	 * file's own word. (It forgets O_CREAT and O_TRUNC.)
	 */
	flags = (flags & ~(O_ACCMODE | O_PATH)) | (BPF_CORE_READ(file, f_flags) & (O_ACCMODE | O_PATH));
	return report_open(file, 0, dfd, name, true, flags);
}

#if defined(__TARGET_ARCH_x86)
enum { NR_OPEN = 2, NR_CREAT = 85, NR_OPENAT = 257, NR_OPEN_BY_HANDLE_AT = 304 };
#else
enum { NR_OPENAT = 56, NR_OPEN_BY_HANDLE_AT = 265, NR_OPEN = -200, NR_CREAT }; /* the last two are no calls of it */
#endif
enum { NR_OPENAT2 = 437 };

/* At the exit of each call that opens a file: one program, as the verifier needs a tenth of a second for each. */
SEC("tracepoint/syscalls/sys_exit_openat")
int open_call(struct syscall_exit *ctx)
{
	struct call_args args;
	const char *name;
	__u64 flags;
	int dfd;

	if (!current_watched())
		return 0;
	args = call_args();
	dfd = args.first;
	name = (void *)args.second;
	flags = args.third;
	switch (ctx->nr) {
	case NR_OPENAT2: /* struct open_how begins with the flags */
		flags = 0;
		bpf_probe_read_user(&flags, sizeof(flags), (void *)args.third);
		break;
	case NR_OPEN:
	case NR_CREAT:
		dfd = AT_FDCWD;
		name = (void *)args.first;
		flags = ctx->nr == NR_OPEN ? args.second : O_CREAT | O_WRONLY | O_TRUNC;
		break;
	case NR_OPEN_BY_HANDLE_AT:
		dfd = AT_FDCWD;
		name = NULL;
		break;
	}
	return report_open_call(ctx->ret, dfd, name, flags);
}
