//go:build ignore
// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
/*
 * Connections. The attempt is seen by the cgroup hooks, attached at the root of the
 * hierarchy: behind every way to connect (system call, io_uring, TCP Fast Open, a datagram
 * with an address), with the kernel's copy of the address. The outcome of TCP comes from
 * inet_sock_set_state, other outcomes from the return of the call (trampoline on
 * __sys_connect_file, or the exit tracepoint).
 */

/* Attempt whose outcome is awaited. */
struct pending {
	struct header h;
	__u32 protocol;
	__u32 pad;
};

/* Socket cookie -> attempt. Full: the attempt is reported without its outcome, which is
 * counted (RECORD_CONNECT_END). Entries go with the outcome, at the latest with the socket.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__uint(map_flags, 1); /* BPF_F_NO_PREALLOC */
	__type(key, __u64);
	__type(value, struct pending);
} pending SEC(".maps");

struct destination {
	__u64 cookie;
	__u8 addr[16];
	__u32 port;
	__u32 pad;
};

/* Destinations that an unconnected socket has sent to. LRU: what is forgotten is reported once more, not lost. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct destination);
	__type(value, __u8);
} destinations SEC(".maps");

/* cgroup programs lack bpf_get_current_cgroup_id() on older kernels: everything comes from the task. */
static __always_inline bool task_watched(struct task_struct *task, __u64 cgroup)
{
	if (cgroup_flags(cgroup) & WATCH_TASKS)
		return true;
	return followed_count && is_followed(BPF_CORE_READ(task, tgid));
}

/* family: a constant, for the kernel lets a program of one family touch its own address field only. */
static __always_inline int report_connect(struct bpf_sock_addr *ctx, __u16 op, __u16 family)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	__u64 cgroup = task_cgroup(task);
	struct destination to = {};
	struct record_connect *r;
	struct pending p = {};
	__u32 *words = (__u32 *)to.addr;
	__u8 one = 1;

	if (!task_watched(task, cgroup))
		return 1;
	to.cookie = bpf_get_socket_cookie(ctx);
	to.port = (__u16)__builtin_bswap16(ctx->user_port);
	if (family == AF_INET6) {
		words[0] = ctx->user_ip6[0];
		words[1] = ctx->user_ip6[1];
		words[2] = ctx->user_ip6[2];
		words[3] = ctx->user_ip6[3];
	} else {
		words[0] = ctx->user_ip4;
	}
	if (op == CONNECT_SENDMSG && bpf_map_lookup_elem(&destinations, &to))
		return 1;

	fill_header(&p.h, RECORD_CONNECT, task, cgroup);
	p.protocol = ctx->protocol;
	r = reserve(struct record_connect, &p.h);
	if (!r)
		return 1;
	r->cookie = to.cookie;
	__builtin_memcpy(r->addr, to.addr, sizeof(r->addr));
	r->family = family;
	r->protocol = ctx->protocol;
	r->port = to.port;
	r->op = op;
	submit(r);
	/* Only now: what did not fit the ring is told with the next datagram. */
	if (op == CONNECT_SENDMSG)
		bpf_map_update_elem(&destinations, &to, &one, BPF_ANY);
	/* No outcome can come before this: the call has not acted yet. */
	if (op == CONNECT_CONNECT && bpf_map_update_elem(&pending, &to.cookie, &p, BPF_ANY))
		lose(cgroup, RECORD_CONNECT_END, LOSS_MAP_FULL);
	return 1;
}

SEC("cgroup/connect4")
int connect4(struct bpf_sock_addr *ctx)
{
	return report_connect(ctx, CONNECT_CONNECT, AF_INET);
}

SEC("cgroup/connect6")
int connect6(struct bpf_sock_addr *ctx)
{
	return report_connect(ctx, CONNECT_CONNECT, AF_INET6);
}

SEC("cgroup/sendmsg4")
int sendmsg4(struct bpf_sock_addr *ctx)
{
	return report_connect(ctx, CONNECT_SENDMSG, AF_INET);
}

SEC("cgroup/sendmsg6")
int sendmsg6(struct bpf_sock_addr *ctx)
{
	return report_connect(ctx, CONNECT_SENDMSG, AF_INET6);
}

/* Reports the outcome if it is awaited, once. */
static __always_inline void end_connect(__u64 cookie, int error, __u16 source)
{
	struct pending *found, p;
	struct record_connect_end *r;

	found = bpf_map_lookup_elem(&pending, &cookie);
	if (!found)
		return;
	p = *found;
	if (bpf_map_delete_elem(&pending, &cookie))
		return;
	p.h.type = RECORD_CONNECT_END;
	p.h.time = bpf_ktime_get_boot_ns();
	r = reserve(struct record_connect_end, &p.h);
	if (!r)
		return;
	r->cookie = cookie;
	r->error = error;
	r->source = source;
	submit(r);
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(connect_state, const struct sock *sk, const int oldstate, const int newstate)
{
	int error = 0;

	if (oldstate != TCP_SYN_SENT || (newstate != TCP_ESTABLISHED && newstate != TCP_CLOSE))
		return 0;
	if (newstate == TCP_CLOSE) {
		error = BPF_CORE_READ(sk, sk_err);
		if (!error)
			error = ECANCELED;
	}
	end_connect(BPF_CORE_READ(sk, __sk_common.skc_cookie.counter), error, CONNECT_END_STATE);
	return 0;
}

SEC("cgroup/sock_release")
int connect_release(struct bpf_sock *ctx)
{
	__u64 cookie = bpf_get_socket_cookie(ctx);
	struct pending *found = bpf_map_lookup_elem(&pending, &cookie);

	if (!found)
		return 1;
	if (found->protocol == IPPROTO_TCP)
		end_connect(cookie, ECANCELED, CONNECT_END_STATE);
	else
		bpf_map_delete_elem(&pending, &cookie);
	return 1;
}

enum { UNIX_LIMIT = sizeof(struct record_unix) + PATH_BYTES + PATH_SLACK };
struct unix_scratch {
	__u8 bytes[(UNIX_LIMIT + 256 + PATH_SLACK + 7) & ~7];
	struct walk walk;
};

/* As exec_scratch. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct unix_scratch);
} unix_scratch SEC(".maps");

DEFINE_WALK(unix, UNIX_LIMIT)

/* address: what the caller passed, user or kernel memory; address_len as passed. */
static __always_inline int report_unix(struct sock *sk, int error, const void *address, __u32 address_len, bool user)
{
	enum { SUN_PATH = sizeof(((struct sockaddr_un *)0)->sun_path) };
	struct task_struct *task = (void *)bpf_get_current_task();
	__u64 cgroup = bpf_get_current_cgroup_id();
	struct unix_address *bound = NULL;
	struct unix_scratch *s;
	struct record_unix *r;
	struct vfsmount *mnt = NULL;
	struct dentry *dentry = NULL;
	__u64 off, len;
	__u32 zero = 0, flags = 0;
	__u8 *to;

	s = bpf_map_lookup_elem(&unix_scratch, &zero);
	if (!s) {
		lose(cgroup, RECORD_UNIX, LOSS_SCRATCH);
		return 0;
	}
	r = (void *)s;
	__builtin_memset(r, 0, sizeof(*r));
	fill_header_current(&r->h, RECORD_UNIX, cgroup);
	r->error = error;
	r->sock_type = BPF_CORE_READ(sk, sk_type);

	off = sizeof(*r);
	if (!error) {
		struct unix_sock *peer = (void *)BPF_CORE_READ((struct unix_sock *)sk, peer);

		if (peer) {
			bound = BPF_CORE_READ(peer, addr);
			mnt = BPF_CORE_READ(peer, path.mnt);
			dentry = BPF_CORE_READ(peer, path.dentry);
		}
	}
	if (dentry) {
		off = walk_unix(s, mnt, dentry, task, off);
		if (s->walk.flags & PATH_TRUNCATED)
			flags |= UNIX_TRUNCATED;
		if (s->walk.flags & PATH_OUTSIDE)
			flags |= UNIX_OUTSIDE;
		if (s->walk.flags & PATH_UNLINKED)
			flags |= UNIX_UNLINKED;
	}
	r->path_len = off - sizeof(*r);

	if (off > UNIX_LIMIT + PATH_SLACK)
		off = UNIX_LIMIT + PATH_SLACK;
	to = s->bytes + off;
	/* The name that the peer is bound to, where there is one; else the caller's word. */
	if (bound) {
		len = BPF_CORE_READ(bound, len);
		address = (void *)bound + bpf_core_field_offset(struct unix_address, name);
		user = false;
	} else {
		len = address_len;
		if (user)
			flags |= UNIX_NAME_FROM_USER;
	}
	len -= 2; /* sun_family */
	if ((int)len > 0) {
		if (len > SUN_PATH)
			len = SUN_PATH;
		if (user)
			bpf_probe_read_user(to, len, address + 2);
		else
			bpf_probe_read_kernel(to, len, address + 2);
		if (!to[0])
			flags |= UNIX_ABSTRACT;
		r->name_len = len;
		off += len;
	}
	r->h.flags = flags;
	if (off > sizeof(s->bytes))
		off = sizeof(s->bytes);
	send(r, off);
	return 0;
}

static __always_inline int report_connect_call(struct file *file, long ret, const void *address, __u32 address_len,
					       bool user)
{
	struct socket *socket;
	struct sock *sk;
	__u16 family;

	if ((BPF_CORE_READ(file, f_inode, i_mode) & S_IFMT) != S_IFSOCK)
		return 0;
	socket = BPF_CORE_READ(file, private_data);
	sk = BPF_CORE_READ(socket, sk);
	if (!sk)
		return 0;
	family = BPF_CORE_READ(sk, __sk_common.skc_family);
	if (family == AF_UNIX)
		return report_unix(sk, -ret, address, address_len, user);
	if (family == AF_VSOCK)
		return report_vsock(sk, -ret, address, address_len, user);
	if (family != AF_INET && family != AF_INET6)
		return 0;
	/* Not outcomes: the connection goes on, or was another's. */
	if (ret == -EINPROGRESS || ret == -EALREADY || ret == -EISCONN || ret == -ERESTARTSYS)
		return 0;
	end_connect(BPF_CORE_READ(sk, __sk_common.skc_cookie.counter), -ret, CONNECT_END_CALL);
	return 0;
}

SEC("fexit/__sys_connect_file")
int BPF_PROG(connect_file, struct file *file, void *address, int address_len, int file_flags, int ret)
{
	if (!current_watched())
		return 0;
	return report_connect_call(file, ret, address, address_len, false);
}

SEC("tracepoint/syscalls/sys_exit_connect")
int connect_call(struct syscall_exit *ctx)
{
	struct call_args args;
	struct file *file;

	if (!current_watched())
		return 0;
	args = call_args();
	file = current_file(args.first);
	if (!file)
		return 0;
	return report_connect_call(file, ctx->ret, (void *)args.second, args.third, true);
}
