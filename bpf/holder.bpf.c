//go:build ignore
// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
/*
 * Which processes have a socket open: an object of its own, over all open files of the host. Reading /proc/PID/fd
 * of all users would take CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH for as long as the sensor runs, and Landlock away.
 */

#include "abi.h"
#include <bpf/bpf_helpers.h>

/*
 * Not those of core.h: what these only point to would be in the object by its name alone, in an order that is another one
 * from build to build.
 */
struct super_block { unsigned long s_magic; } CORE;
struct inode {
	unsigned long i_ino;
	struct super_block *i_sb;
} CORE;
struct file { struct inode *f_inode; } CORE;
struct task_struct {
	int tgid;
	struct task_struct *group_leader;
	__u64 start_boottime;
} CORE;
struct seq_file;
struct bpf_iter_meta { struct seq_file *seq; } CORE;
struct bpf_iter__task_file {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
	__u32 fd;
	struct file *file;
} CORE;

char LICENSE[] SEC("license") = "Dual BSD/GPL";

enum { SOCKFS_MAGIC = 0x534f434b }; /* include/uapi/linux/magic.h */

/* A process that has one of the sockets open; one record for each descriptor. */
struct holder {
	__u64 start; /* of the process, ns of CLOCK_BOOTTIME */
	__u32 inode; /* of the socket, as /proc and sock_diag have it */
	__u32 tgid;
};
const struct holder *keep_holder __attribute__((unused));

/* The inodes that are looked for. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, __u32);
	__type(value, __u8);
} sought SEC(".maps");

/* Threads with files of their own come, too; those that share the files of the first thread do not. */
SEC("iter/task_file")
int holder_each(struct bpf_iter__task_file *ctx)
{
	struct task_struct *task = ctx->task;
	struct file *file = ctx->file;
	struct holder h = {};
	struct inode *inode;

	if (!task || !file)
		return 0;
	inode = file->f_inode;
	/* Not by the mode: the file of a unix socket, opened with O_PATH, has any number. */
	if (inode->i_sb->s_magic != SOCKFS_MAGIC)
		return 0;
	h.inode = inode->i_ino;
	if (!bpf_map_lookup_elem(&sought, &h.inode))
		return 0;
	h.start = task->group_leader->start_boottime;
	h.tgid = task->tgid;
	bpf_seq_write(ctx->meta->seq, &h, sizeof(h));
	return 0;
}
