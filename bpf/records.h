/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
#ifndef SHEETBEND_RECORDS_H
#define SHEETBEND_RECORDS_H

/*
 * The record stream between the kernel programs and the collector. collector/record
 * decodes it by offset; TestRecordLayoutIsTheDecoders holds both together.
 *
 * Every record begins with a struct header. Times are nanoseconds of
 * CLOCK_BOOTTIME. Pids are those of the initial pid namespace unless the
 * name says "vpid". All integers are in host byte order, ports included.
 *
 * A "components" payload is a path as the kernel holds it: names from the leaf
 * up to the task's root, each followed by one NUL byte; the collector reverses
 * it. No components at all is the root itself.
 */

enum record_type {
	RECORD_FORK = 1,
	RECORD_EXEC = 2,
	RECORD_EXEC_ARGS = 3,   /* a piece of argv that did not fit RECORD_EXEC; sent before it */
	RECORD_EXIT = 4,
	RECORD_OPEN = 5,
	RECORD_CONNECT = 6,     /* an attempt, seen before the kernel acts on it */
	RECORD_CONNECT_END = 7, /* its outcome; joined by cookie */
	RECORD_UNIX = 8,        /* a finished connect of a unix socket */
	RECORD_CGROUP_MKDIR = 9,
	RECORD_CGROUP_RMDIR = 10,
	RECORD_CGROUP_ATTACH = 11,
	RECORD_PROCESS = 12,    /* a process that ran before the sensor started (iter/task) */
	RECORD_SOCKET = 13,     /* a socket whose traffic no other record tells of */
	RECORD_NAMESPACE = 14,
	RECORD_ACCESS = 15,     /* one process reaches into another */
	RECORD_CHANGE = 16,     /* a change of a file or of what a path means, other than by an open */
	RECORD_LISTEN = 17,     /* a socket that others can connect to */
	RECORD_ACCEPT = 18,     /* a connection that came in */
	RECORD_CLOSE = 19,      /* the end of a connection, or of what went to a peer; joined by cookie */
	RECORD_PACKET = 20,     /* bytes of a socket that may name its peer: DNS, or the first of a connection */
	RECORD_EXEC_FAILED = 21,/* an exec that was refused */
	RECORD_OOM = 22,        /* the kernel chose the process to free memory; sent before its exit */
	/* losses_unkeyed and PROCESS_KINDS have room for those below 32. */
};

/* What a process does while it runs: its losses are counted by process. Of a storm of short processes each would have
 * its own entries: of what begins or ends one, only the sandbox is told.
 */
enum process_kinds {
	PROCESS_KINDS = 1 << RECORD_OPEN | 1 << RECORD_CONNECT | 1 << RECORD_UNIX | 1 << RECORD_SOCKET |
			1 << RECORD_NAMESPACE | 1 << RECORD_ACCESS | 1 << RECORD_CHANGE | 1 << RECORD_LISTEN |
			1 << RECORD_ACCEPT | 1 << RECORD_CLOSE | 1 << RECORD_PACKET | 1 << RECORD_EXEC_FAILED,
};

/* Why a record could not be delivered. */
enum loss_cause {
	LOSS_RING_FULL = 1,      /* the ring had no room, but for what is more important (budget.h) */
	LOSS_MAP_FULL = 2,       /* a map that the hook needs had no room */
	LOSS_SCRATCH = 3,        /* no scratch buffer (cannot happen, counted all the same) */
	LOSS_MISSED = 4,         /* the kernel skipped the program (recursion), from bpf_prog_info */
	/* Left out while there was room, to keep it for more important ones (budget.h). */
	LOSS_SHED_REPEAT = 5,
	LOSS_SHED_NOISE = 6,
	LOSS_SHED_READ = 7,
	/* The same because the sandbox has its share of the ring. */
	LOSS_BUDGET_REPEAT = 8,
	LOSS_BUDGET_NOISE = 9,
	LOSS_BUDGET_READ = 10,
	LOSS_BUDGET_FACT = 11,
};

struct header {
	__u16 type;    /* enum record_type */
	__u16 flags;   /* meaning by type, below */
	__u32 size;    /* of the whole record, payload included */
	__u64 time;
	__u64 cgroup;  /* cgroup v2 id of the acting task */
	__u64 start;   /* start time of the acting process (its thread group leader) */
	__u64 exec_id; /* task->self_exec_id: grows by one with each exec, inherited by fork */
	__u32 tgid;
	__u32 tid;
};

/* header: the process that forked. Threads are not reported. */
struct record_fork {
	struct header h;
	__u64 child_start;
	__u64 child_cgroup; /* differs from h.cgroup after clone3(CLONE_INTO_CGROUP) */
	__u32 child_tgid;
	__u32 child_vpid;   /* in the child's own pid namespace */
};

/* exec flags (header.flags) */
enum exec_flags {
	EXEC_SECURE = 1,          /* set-user-id, set-group-id or file capabilities took effect */
	EXEC_UNLINKED = 2,        /* the executable has no name left: memfd or deleted */
	EXEC_MEMFD = 4,           /* the executable lies on no mounted file system: memfd and the like */
	EXEC_EXE_TRUNCATED = 8,   /* path longer than PATH_BYTES or deeper than the kernel's program can walk */
	EXEC_CWD_TRUNCATED = 16,
	EXEC_CWD_DELETED = 32,
	EXEC_ENV_TRUNCATED = 64,  /* part of the environment was not searched */
	EXEC_ARGS_MISSING = 128,  /* a page of argv could not be read; its bytes are zero */
	EXEC_EXE_OUTSIDE = 256,   /* path leads out of the task's root */
	EXEC_CWD_OUTSIDE = 512,
	EXEC_SESSION_LEADER = 1024, /* the process called setsid() before: pid = sid */
	EXEC_FOREIGN_MOUNTS = 4096, /* its mount namespace was made in a user namespace: paths are what an unprivileged user says */
	EXEC_FOREIGN_ROOT = 8192, /* its root directory is not that of its mount namespace: paths begin where somebody said */
	EXEC_EXE_SET = 16384,     /* RECORD_PROCESS: the executable may be one that the process itself has named (PR_SET_MM) */
	EXEC_FOUND = 2048,        /* the program has the name of an agent or of an interpreter of some; told only where agents are looked for */
};

/* Payload: exe components, cwd components, filename, env, args. filename is what
 * execve was asked to run; env is "NAME=value\0" of the listed variables only;
 * args is the start of argv as the kernel laid it out: "arg\0arg\0". Bytes of
 * argv beyond it came before in RECORD_EXEC_ARGS or were not sent.
 */
struct record_exec {
	struct header h;
	__u64 parent_start;
	__u64 inode;
	__u32 parent_tgid;
	__u32 uid;
	__u32 euid;
	__u32 egid;
	__u32 vpid;
	__u32 dev;          /* kernel encoding: major << 20 | minor */
	__u32 argc;         /* true count */
	__u32 args_size;    /* true size of argv in bytes */
	__u32 exe_uid;      /* owner of the executable's file */
	__u32 peak_rss;     /* pages, of what the process ran before: exit tells the most of all */
	__u16 exe_len;
	__u16 cwd_len;
	__u16 filename_len;
	__u16 env_len;
	__u16 args_len;     /* in this record */
	__u16 pad[3];
};

struct record_exec_args {
	struct header h;    /* h.exec_id is that of the exec to come */
	__u32 offset;       /* of the payload within argv */
	__u32 len;
	/* payload: len bytes */
};

struct record_exit {
	struct header h;    /* once per process, when its last thread leaves */
	__u64 cpu_ns;       /* time on a CPU, all threads */
	__u64 user_ns;      /* by the kernel's tick accounting: coarse for short processes */
	__u64 system_ns;
	__u64 peak_rss;     /* pages */
	__u32 status;       /* as wait(2) returns it: code << 8 | core << 7 | signal */
	__u32 pad;
};

/* open flags (header.flags) */
enum open_record_flags {
	OPEN_UNLINKED = 1,       /* the file has no name left; the path is its last one */
	OPEN_PSEUDO = 2,         /* on no mounted file system (memfd, pipe): one component, its name */
	OPEN_TRUNCATED = 4,
	OPEN_OUTSIDE = 8,        /* path leads out of the task's root */
	OPEN_CREATED = 16,       /* this open made the file (FMODE_CREATED) */
	OPEN_NAME_FROM_USER = 32,/* the requested name was read from user memory after the call: the caller's word */
	OPEN_NAME_TRUNCATED = 64,
	OPEN_BASE = 128,         /* refused: the components are the directory that a relative name starts from */
	OPEN_NAME_MISSING = 256, /* the requested name could not be read */
	OPEN_ON_PROC = 512,      /* the file lies on a proc file system, by its superblock */
	OPEN_SUBMITTED = 1024,   /* handed to io_uring; the outcome is not known, and error is 0 */
	/* Of reads, also of those of a file that is not there: the mount namespace is not the host's, or the root is not that of
	 * the namespace. What lies at a path is what somebody else has put there.
	 */
	OPEN_FOREIGN = 2048,
};

/* Payload: components, requested name (without NUL). Success: the components of the file
 * that the kernel opened. Refusal: those of the starting directory (OPEN_BASE) or none.
 */
struct record_open {
	struct header h;
	__u64 inode;
	__s32 error;     /* 0 or a positive errno */
	__u32 flags;     /* O_* as the caller gave them */
	__u32 dev;
	__u32 uid;       /* owner of the file */
	__u16 path_len;
	__u16 name_len;
	__u32 pad;
};

enum connect_op { CONNECT_CONNECT = 1, CONNECT_SENDMSG = 2 };

/* connect flags (header.flags) */
enum connect_flags {
	CONNECT_SOURCE_ROUTE = 1, /* the socket has a source route: its packets go to another address first */
};

struct record_connect {
	struct header h;
	__u64 cookie;    /* of the socket */
	__u8 addr[16];   /* network order; IPv4 in the first four bytes */
	__u16 family;    /* AF_INET, AF_INET6 */
	__u16 protocol;  /* IPPROTO_TCP, IPPROTO_UDP, … */
	__u16 port;
	__u16 op;        /* enum connect_op */
};

/* header: the process that called connect, also when the outcome came in an interrupt. */
struct record_connect_end {
	struct header h;
	__u64 cookie;
	__s32 error;     /* 0 established, else a positive errno; ECANCELED when closed before an outcome */
	__u32 pad;
};

/* unix flags (header.flags) */
enum unix_flags {
	UNIX_ABSTRACT = 1,
	UNIX_NAME_FROM_USER = 2,  /* as OPEN_NAME_FROM_USER */
	UNIX_TRUNCATED = 4,
	UNIX_OUTSIDE = 8,
	UNIX_UNLINKED = 16,
	UNIX_SUBMITTED = 32,      /* as OPEN_SUBMITTED */
	UNIX_NOT_SURE = 64,       /* the descriptor was exchanged: of the socket only that it is none of IP is known */
};

/* Payload: components of the peer's socket file (when connected to one), then the address as in
 * sun_path: a path up to its NUL if it has one, or a leading NUL and an abstract name. With
 * UNIX_NAME_FROM_USER it is what the call was given, and the peer that of the socket behind the descriptor
 * when the call had returned; else the peer's own name.
 */
struct record_unix {
	struct header h;
	__s32 error;
	__u16 path_len;
	__u16 name_len;
};

/* header: who made or removed the directory. Payload: its path from the cgroup v2 root. */
struct record_cgroup {
	struct header h;
	__u64 id;
	__u64 parent;
	__u32 path_len;
	__u32 pad;
};

/* header: the task that was moved, h.cgroup where it is now. Payload: path of h.cgroup.
 * Sent when a watched task leaves the watched cgroups or moves between them, and when a
 * task is moved into one.
 */
struct record_attach {
	struct header h;
	__u32 mover_tgid;
	__u32 vpid;         /* of the moved task */
	__u32 path_len;
	__u32 watched;      /* 1: the task was watched before the move */
};

/* header: the process, h.time when it was looked at. Payload: exe components, cwd components.
 * argv is not here: reading another task's memory needs a sleepable program (5.18).
 */
struct record_process {
	struct header h;
	__u64 parent_start;
	__u64 inode;
	__u32 parent_tgid;
	__u32 uid;
	__u32 vpid;
	__u32 dev;
	__u16 exe_len;
	__u16 cwd_len;
	__u32 exe_uid;
};

enum socket_op { SOCKET_MAKE = 1, SOCKET_CONNECT = 2 };

/* socket flags (header.flags) */
enum socket_flags {
	SOCKET_ADDRESS_FROM_USER = 1, /* as OPEN_NAME_FROM_USER */
};

struct record_socket {
	struct header h;
	__s32 error;
	__u32 protocol;  /* as passed to socket(2); of a packet socket in network order */
	__u16 family;
	__u16 type;      /* SOCK_*, without flags */
	__u16 op;        /* enum socket_op; SOCKET_CONNECT: of a vsock socket */
	__u16 pad;
	__u32 cid;       /* SOCKET_CONNECT: vsock address */
	__u32 port;
};

enum namespace_op { NAMESPACE_UNSHARE = 1, NAMESPACE_SETNS = 2, NAMESPACE_CLONE = 3 };

struct record_namespace {
	struct header h;
	__u32 types;     /* CLONE_NEW*; 0 when not known */
	__s32 error;
	__u16 op;        /* enum namespace_op */
	__u16 pad;
	__u32 pad2;
};

enum access_op {
	ACCESS_OTHER = 0, /* by a call that is none of these */
	ACCESS_ATTACH = 1,
	ACCESS_SEIZE = 2,
	ACCESS_READ = 3,  /* process_vm_readv */
	ACCESS_WRITE = 4, /* process_vm_writev */
	ACCESS_GETFD = 5,
	ACCESS_PROC = 6,  /* a file of /proc/PID that needs the right to attach: mem and the like */
	ACCESS_SIGNAL = 7,/* a signal, told only of targets that are not watched */
};

/* access flags (header.flags) */
enum access_flags {
	ACCESS_OUTSIDE = 1,       /* the target is not watched */
	ACCESS_EXE_TRUNCATED = 2,
	ACCESS_EXE_OUTSIDE = 4,
	ACCESS_EXE_PSEUDO = 8,
	ACCESS_EXE_UNLINKED = 16,
	ACCESS_TARGET_UNKNOWN = 32, /* the target's fields are 0: its descriptor was exchanged, or it was over, when the call returned */
};

/* Payload, only with ACCESS_OUTSIDE: components of the target's executable, from the target's root. */
struct record_access {
	struct header h;
	__u64 target_start;
	__u64 target_cgroup;
	__u32 target_tgid;
	__s32 error;
	__u16 op;        /* enum access_op */
	__u16 exe_len;
	__u32 signal;    /* ACCESS_SIGNAL: its number */
};

enum change_op {
	CHANGE_RENAME = 1, /* also an exchange and a whiteout: flags */
	CHANGE_UNLINK = 2,
	CHANGE_RMDIR = 3,
	CHANGE_MKDIR = 4,
	CHANGE_MKNOD = 5,
	CHANGE_LINK = 6,     /* old: the name that the file had */
	CHANGE_SYMLINK = 7,  /* old name: the target, as given, without a directory */
	CHANGE_TRUNCATE = 8, /* not by an open */
	CHANGE_CHMOD = 9,
	CHANGE_CHOWN = 10,
	CHANGE_SETXATTR = 11,
	CHANGE_REMOVEXATTR = 12,
	CHANGE_UTIMES = 13,
	CHANGE_MOUNT = 14,      /* old name: the source, as given */
	CHANGE_UMOUNT = 15,
	CHANGE_MOVE_MOUNT = 16, /* old: where it was, or nothing */
	CHANGE_PIVOT_ROOT = 17, /* old: where the old root goes */
	CHANGE_CHROOT = 18,
};

/* change flags (header.flags): of each side, those of the new one shifted, and of the whole. The new name is the one that
 * an operation is about, also of unlink; the old one is only of those that have two.
 */
enum change_side {
	CHANGE_BASE = 1,          /* the name starts from the directory before it */
	CHANGE_TRUNCATED = 2,     /* the directory is longer than PATH_BYTES or deeper than the kernel's program can walk */
	CHANGE_OUTSIDE = 4,       /* the directory leads out of the task's root */
	CHANGE_NAME_MISSING = 8,  /* the name could not be read */
	CHANGE_NAME_TRUNCATED = 16,
	CHANGE_NEW_SHIFT = 5,
};
enum change_flags {
	CHANGE_NAMES_FROM_USER = 1024, /* names and directories are what the call was given, as OPEN_NAME_FROM_USER */
	CHANGE_DIRECTORY = 2048,      /* what was changed is a directory; not known with CHANGE_NAMES_FROM_USER */
	CHANGE_SUBMITTED = 4096,      /* as OPEN_SUBMITTED */
	CHANGE_OPEN_FILE = 8192,      /* by a descriptor: the name is that of the file behind it, and the kernel's */
	CHANGE_UNLINKED = 16384,      /* as OPEN_UNLINKED, of the new name */
	CHANGE_NOT_SURE = 32768,      /* the descriptor was exchanged meanwhile: of which file it was is not known */
};

/* Payload: components of the old name's directory, old name, components of the new name's directory, new name (names
 * without NUL), text: the name of the attribute, or the type of what is mounted. With CHANGE_NAMES_FROM_USER a name
 * may be a path; an absolute one has no directory.
 */
struct record_change {
	struct header h;
	__u64 inode;     /* of what is changed: of a rename or link what has the old name; of what was made; 0: not known */
	__u64 replaced;  /* inode of what had the new name before a rename; 0: nothing, or not known */
	__u64 before;    /* chmod: mode; chown: uid | gid << 32; truncate: bytes; all ones: not known */
	__u64 after;     /* the same, as asked for: a uid or gid of 32 ones stays as it is. setxattr: bytes; mknod: device */
	__s32 error;
	__u32 flags;     /* RENAME_*, XATTR_*, MS_*, MNT_*, MOVE_MOUNT_*: of the operation */
	__u32 dev;       /* of the file system of inode */
	__u32 nlink;     /* names of inode before the operation; 0: not known */
	__u16 op;        /* enum change_op */
	__u16 mode;      /* of inode before the operation, S_IFMT with permissions; of what is made: as asked for; 0: not known */
	__u16 old_len;
	__u16 old_name_len;
	__u16 new_len;
	__u16 new_name_len;
	__u16 text_len;
	__u16 pad;
};

/* Of a unix socket the payload: as of record_unix, with its flags. addr and port are then 0. */
struct record_listen {
	struct header h;
	__u64 cookie;
	__u8 addr[16];   /* as in record_connect; zero: every address */
	__u16 family;
	__u16 protocol;
	__u16 port;      /* also the one that the kernel chose */
	__u16 path_len;
	__u16 name_len;
	__u16 pad;
	__s32 error;
};

/* header: the process that has taken the connection. */
struct record_accept {
	struct header h;
	__u64 cookie;    /* of the new socket */
	__u8 addr[16];   /* of this side */
	__u8 peer[16];
	__u16 family;
	__u16 protocol;
	__u16 port;      /* of this side: that of the listening socket */
	__u16 peer_port;
	__u32 peer_tgid; /* of a unix socket: who connected; 0: not known */
	__u32 pad;
};

enum close_reason {
	CLOSE_UNKNOWN = 0,
	CLOSE_HERE = 1,    /* this side has ended it first */
	CLOSE_PEER = 2,    /* the peer has */
	CLOSE_ERROR = 3,   /* broken off: error */
};

/* header: the process that connected, accepted or sent, also when it is over. Of TCP, and of the datagrams of a socket
 * that is connected, or of all that an unconnected one has sent and received.
 */
struct record_close {
	struct header h;
	__u64 cookie;
	__u64 sent;        /* bytes of content; of TCP what the peer has acknowledged */
	__u64 received;
	__u32 sent_count;  /* datagrams */
	__u32 received_count;
	__s32 error;
	__u16 reason;      /* enum close_reason */
	__u16 protocol;
};

enum packet_what { PACKET_DNS = 1, PACKET_FIRST = 2 };

/* packet flags (header.flags) */
enum packet_flags {
	PACKET_OUT = 1,       /* sent by the socket; else received */
	PACKET_STREAM = 2,    /* of TCP */
};

/* header: the process that the socket was last seen with, as of record_close. Payload: the first len bytes of size, from the
 * end of the transport header on. Of a stream, `offset` says where in it they lie.
 */
struct record_packet {
	struct header h;
	__u64 cookie;
	__u8 addr[16];     /* of this side */
	__u8 peer[16];
	__u16 family;
	__u16 port;        /* of this side */
	__u16 peer_port;
	__u16 what;        /* enum packet_what */
	__u32 offset;
	__u32 size;
	__u32 len;
	__u32 pad;
};

/* Payload: components of the directory that a relative name starts from (OPEN_BASE), the name as asked for; flags as those of
 * an open.
 */
struct record_exec_failed {
	struct header h;
	__s32 error;
	__u16 path_len;
	__u16 name_len;
};

/* header: the victim. */
struct record_oom {
	struct header h;
	__u64 limit_cgroup; /* whose limit it was; 0: the host's, or not known */
	__u32 by_tgid;      /* who asked for memory */
	__u32 pad;
};

/* Key of the loss maps: exact counts of what was not delivered. */
struct loss_key {
	__u64 cgroup;
	__u64 start;  /* of the process; 0 where it is not told apart */
	__u32 tgid;   /* the same */
	__u16 kind;   /* enum record_type */
	__u16 cause;  /* enum loss_cause */
};

enum noise_kind {
	NOISE_FILE = 1,      /* this file */
	NOISE_BELOW = 2,     /* everything below this directory */
	NOISE_LIBRARIES = 3, /* shared objects below it */
};

/* Key of the noise map, a trie: the end of a path's components with its bytes in reverse order, so that the path
 * begins it. Value: struct noise_path.
 */
enum { NOISE_BYTES = 64 };
struct noise_key {
	__u32 bits;
	__u32 words[NOISE_BYTES / 4];
};
struct noise_path {
	__u8 kind; /* enum noise_kind */
	__u8 len;  /* of the components; of a directory with the NUL before them */
};

#endif
