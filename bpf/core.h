/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
#ifndef SHEETBEND_CORE_H
#define SHEETBEND_CORE_H

/*
 * The kernel types that the programs touch, and of each only the fields that
 * they read. The loader relocates every access against the running kernel's BTF
 * (CO-RE), so order and size here do not matter; names and nesting do.
 * Types without the attribute are user ABI, whose layout is fixed.
 */

#include "abi.h"

struct bpf_sock_addr {
	__u32 user_family;
	__u32 user_ip4;
	__u32 user_ip6[4];
	__u32 user_port;
	__u32 family;
	__u32 type;
	__u32 protocol;
	__u32 msg_src_ip4;
	__u32 msg_src_ip6[4];
	__u64 sk;
};

struct __sk_buff {
	__u32 len;
	__u32 pkt_type;
	__u32 mark;
	__u32 queue_mapping;
	__u32 protocol;
};

struct bpf_sock {
	__u32 bound_dev_if;
	__u32 family;
	__u32 type;
	__u32 protocol;
	__u32 others[14];
	__u32 state;
};

/* include/uapi: errno, open, socket, stat constants that never change and are the same on amd64 and arm64. (Of
 * open's flags O_DIRECTORY, O_NOFOLLOW, O_DIRECT and O_LARGEFILE are not.)
 */
enum {
	EPERM = 1,
	ENOENT = 2,
	EBADF = 9,
	EFAULT = 14,
	EEXIST = 17,
	EINVAL = 22,
	ENOTSOCK = 88,
	EOPNOTSUPP = 95,
	EAFNOSUPPORT = 97,
	ECANCELED = 125,
	EINPROGRESS = 115,
	EALREADY = 114,
	EISCONN = 106,
	ERESTARTSYS = 512,
	MAX_ERRNO = 4095,
};
enum { O_WRONLY = 01, O_ACCMODE = 03, O_CREAT = 0100, O_TRUNC = 01000, O_PATH = 010000000 };
enum { AT_FDCWD = -100 };
enum { AF_UNIX = 1, AF_INET = 2, AF_INET6 = 10 };
enum { S_IFMT = 0170000, S_IFSOCK = 0140000 };
enum { IPPROTO_TCP = 6, IPPROTO_UDP = 17, IPPROTO_MPTCP = 262 };
enum { SIGNAL_GROUP_EXIT = 4 }; /* include/linux/sched/signal.h, the same since 2.6 */
enum { FMODE_EXEC = 0x20 };     /* __FMODE_EXEC in open_flag and f_flags: an exec's own open; no caller can set it */
enum { FMODE_CREATED = 0x100000 };
enum { PROC_SUPER_MAGIC = 0x9fa0 }; /* include/uapi/linux/magic.h */
enum {
	TCP_ESTABLISHED = 1,
	TCP_SYN_SENT = 2,
	TCP_SYN_RECV = 3,
	TCP_FIN_WAIT1 = 4,
	TCP_FIN_WAIT2 = 5,
	TCP_CLOSE = 7,
	TCP_CLOSE_WAIT = 8,
	TCP_LAST_ACK = 9,
	TCP_CLOSING = 11,
};
enum { SOCK_DONE = 1 << 1 }; /* include/net/sock.h, of skc_flags: a FIN has come in */

typedef int pid_t;
typedef struct { int counter; } atomic_t;
typedef struct { __s64 counter; } atomic64_t;
typedef struct { unsigned int val; } kuid_t;
typedef struct { unsigned int val; } kgid_t;

struct qstr {
	union {
		struct {
			__u32 hash;
			__u32 len;
		};
		__u64 hash_len;
	};
	const unsigned char *name;
} CORE;

struct super_block {
	__u32 s_dev;
	unsigned long s_magic;
} CORE;

struct inode {
	__u16 i_mode;
	unsigned long i_ino;
	unsigned int i_nlink;
	kuid_t i_uid;
	kgid_t i_gid;
	__s64 i_size;
	struct super_block *i_sb;
} CORE;

struct hlist_bl_node { struct hlist_bl_node **pprev; } CORE;

struct dentry {
	struct hlist_bl_node d_hash;
	struct dentry *d_parent;
	struct qstr d_name;
	struct inode *d_inode;
} CORE;

struct vfsmount { struct dentry *mnt_root; } CORE;

/* A mount namespace belongs to the user namespace in which it was made; the host's has level 0. */
struct user_namespace { int level; } CORE;
struct ns_common___number { unsigned int inum; } CORE;
struct mnt_namespace {
	struct ns_common___number ns;
	struct user_namespace *user_ns;
} CORE;

struct mount {
	struct mount *mnt_parent;
	struct dentry *mnt_mountpoint;
	struct vfsmount mnt;
	struct mnt_namespace *mnt_ns;
} CORE;
struct nsproxy___mounts { struct mnt_namespace *mnt_ns; } CORE;
struct cred___user { struct user_namespace *user_ns; } CORE;
struct task_struct___mounts {
	struct nsproxy___mounts *nsproxy;
	const struct cred___user *cred;
} CORE;

struct path {
	struct vfsmount *mnt;
	struct dentry *dentry;
} CORE;

struct file {
	unsigned int f_mode;
	unsigned int f_flags;
	struct path f_path;
	struct inode *f_inode;
	void *private_data;
} CORE;

struct filename { const char *name; } CORE;
struct open_flags { int open_flag; } CORE;

struct fs_struct {
	struct path root;
	struct path pwd;
} CORE;

struct fdtable {
	unsigned int max_fds;
	struct file **fd;
} CORE;
struct files_struct { struct fdtable *fdt; } CORE;

struct mm_struct {
	unsigned long arg_start;
	unsigned long arg_end;
	unsigned long env_start;
	unsigned long env_end;
	struct file *exe_file;
} CORE;

struct cred {
	kuid_t uid;
	kuid_t euid;
	kgid_t egid;
} CORE;

struct pid_namespace;
struct upid { /* whole: elements of an array are told apart by its size */
	int nr;
	struct pid_namespace *ns;
} CORE;
struct pid {
	unsigned int level;
	struct upid numbers[1];
} CORE;

struct kernfs_node { __u64 id; } CORE;
struct cgroup_root { int hierarchy_id; } CORE;
struct cgroup;
struct cgroup_subsys_state {
	struct cgroup *cgroup;
	struct cgroup_subsys_state *parent;
} CORE;
struct cgroup {
	struct cgroup_subsys_state self;
	struct kernfs_node *kn;
	struct cgroup_root *root;
} CORE;
struct css_set { struct cgroup *dfl_cgrp; } CORE;

struct signal_struct {
	atomic_t live;
	int group_exit_code;
	unsigned int flags;
	int leader;
	__u64 utime;
	__u64 stime;
	unsigned long maxrss;
	unsigned long long sum_sched_runtime;
} CORE;

struct sched_entity { __u64 sum_exec_runtime; } CORE;

struct thread_info { __u32 status; } CORE;

struct task_struct {
	struct thread_info thread_info;
	void *stack;
	struct sched_entity se;
	struct mm_struct *mm;
	int exit_code;
	pid_t pid;
	pid_t tgid;
	struct task_struct *real_parent;
	struct task_struct *group_leader;
	struct pid *thread_pid;
	__u64 utime;
	__u64 stime;
	__u64 start_boottime;
	const struct cred *cred;
	struct fs_struct *fs;
	struct files_struct *files;
	struct signal_struct *signal;
	struct css_set *cgroups;
	__u64 self_exec_id;
} CORE;

/* io_uring: a request, and what IORING_OP_OPENAT and _CONNECT keep at its beginning. */
struct io_kiocb { __u8 opcode; } CORE;
struct open_how { __u64 flags; };
struct io_open {
	int dfd;
	struct filename *filename;
	struct open_how how;
} CORE;
/* Since 7.0; the name is copied from the caller here too, only audit does not know of it yet. */
struct delayed_filename { struct filename *__incomplete_filename; } CORE;
struct io_open___delayed { struct delayed_filename filename; } CORE;
/* What IORING_OP_RENAMEAT, _UNLINKAT, _MKDIRAT, _SYMLINKAT and _LINKAT, _SETXATTR keep. */
struct io_rename {
	int old_dfd;
	int new_dfd;
	struct filename *oldpath;
	struct filename *newpath;
	int flags;
} CORE;
struct io_rename___delayed { struct delayed_filename oldpath, newpath; } CORE;
struct io_unlink {
	int dfd;
	int flags;
	struct filename *filename;
} CORE;
struct io_unlink___delayed { struct delayed_filename filename; } CORE;
struct io_mkdir {
	int dfd;
	__u16 mode;
	struct filename *filename;
} CORE;
struct io_mkdir___delayed { struct delayed_filename filename; } CORE;
struct io_link {
	int old_dfd;
	int new_dfd;
	struct filename *oldpath;
	struct filename *newpath;
	int flags;
} CORE;
struct io_link___delayed { struct delayed_filename oldpath, newpath; } CORE;
struct xattr_name { char name[256]; } CORE;
struct kernel_xattr_ctx {
	unsigned long size;
	struct xattr_name *kname;
	unsigned int flags;
} CORE;
struct io_xattr {
	struct kernel_xattr_ctx ctx;
	struct filename *filename;
} CORE;
struct io_xattr___delayed { struct delayed_filename filename; } CORE;
struct io_connect {
	void *addr;
	int addr_len;
} CORE;

struct linux_binprm {
	unsigned int secureexec : 1;
	int argc;
	const char *filename;
} CORE;

struct net { struct user_namespace *user_ns; } CORE;
typedef struct { struct net *net; } possible_net_t; /* empty without CONFIG_NET_NS */
struct in6_addr { __u32 words[4]; }; /* user ABI */
struct sock_common {
	__be32 skc_daddr;
	__be32 skc_rcv_saddr;
	__be16 skc_dport;
	__u16 skc_num;
	unsigned short skc_family;
	possible_net_t skc_net;
	volatile unsigned char skc_state;
	struct in6_addr skc_v6_daddr; /* these two not without CONFIG_IPV6 */
	struct in6_addr skc_v6_rcv_saddr;
	atomic64_t skc_cookie;
	unsigned long skc_flags;
} CORE;
struct sock {
	struct sock_common __sk_common;
	int sk_err;
	__u16 sk_type;
	__u16 sk_protocol;
} CORE;
struct socket { struct sock *sk; } CORE;

struct ip_options { unsigned char srr; } CORE;
struct ip_options_rcu { struct ip_options opt; } CORE;
struct ipv6_rt_hdr;
struct ipv6_txoptions { struct ipv6_rt_hdr *srcrt; } CORE;
struct ipv6_pinfo { struct ipv6_txoptions *opt; } CORE;
struct inet_sock {
	struct ipv6_pinfo *pinet6; /* not without CONFIG_IPV6 */
	struct ip_options_rcu *inet_opt;
	__be32 inet_saddr;
	__be16 inet_sport;
} CORE;
struct tcp_sock {
	__u64 bytes_acked;
	__u64 bytes_received;
	__u32 snd_una;
	__u32 snd_nxt;
	__u32 write_seq;
} CORE;
struct mptcp_sock { struct sock *first; } CORE;

struct sockaddr_un {
	unsigned short sun_family;
	char sun_path[108];
};
struct unix_address {
	int len;
	struct sockaddr_un name[1];
} CORE;
struct unix_sock {
	struct sock sk;
	struct unix_address *addr;
	struct path path;
	struct sock *peer;
} CORE;

struct seq_file;
struct bpf_iter_meta { struct seq_file *seq; } CORE;
struct bpf_iter__task {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
} CORE;

#if defined(__TARGET_ARCH_x86)
struct pt_regs {
	unsigned long r10;
	unsigned long r8;
	unsigned long bx;
	unsigned long cx;
	unsigned long orig_ax;
	unsigned long dx;
	unsigned long si;
	unsigned long di;
} CORE;
#elif defined(__TARGET_ARCH_arm64)
struct pt_regs {
	__u64 regs[31];
	__u64 orig_x0;
} CORE;
#else
#error "only amd64 and arm64: system call arguments are read from the saved registers"
#endif

/* Where the saved registers have the arguments when a system call returns. */
#if defined(__TARGET_ARCH_x86)
#define FIRST_ARGUMENT di
#define SECOND_ARGUMENT si
#define THIRD_ARGUMENT dx
#define FOURTH_ARGUMENT r10
#define FIFTH_ARGUMENT r8
#elif defined(__TARGET_ARCH_arm64)
#define FIRST_ARGUMENT orig_x0 /* regs[0] has the result already */
#define SECOND_ARGUMENT regs[1]
#define THIRD_ARGUMENT regs[2]
#define FOURTH_ARGUMENT regs[3]
#define FIFTH_ARGUMENT regs[4]
#endif

/* x, which is at most LIMIT. The verifier of 5.10 forgets that where the compiler compares another copy of x than it uses. */
#define bounded(x, LIMIT)                                                                        \
	({                                                                                       \
		__u64 bounded_ = (x);                                                            \
		asm volatile("if %0 <= %1 goto +1\n\t%0 = %1" : "+r"(bounded_) : "i"(LIMIT));    \
		bounded_;                                                                        \
	})

#endif
