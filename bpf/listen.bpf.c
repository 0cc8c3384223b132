//go:build ignore
// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
/*
 * Who listens, and who is connected to. Two forms as for opens.
 *
 * Trampoline: fexit on inet_csk_listen_start and unix_listen, which have the outcome and the port that the kernel chose,
 * and on do_accept, behind every way to accept.
 * Tracepoint: sys_exit_listen, and sys_exit_accept and accept4 with the socket behind the descriptor that they return.
 */

enum { LISTEN_LIMIT = sizeof(struct record_listen) + PATH_BYTES + PATH_SLACK };
struct listen_scratch {
	__u8 bytes[(LISTEN_LIMIT + SUN_PATH + PATH_SLACK + 7) & ~7];
	struct walk walk;
};

/* As exec_scratch. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct listen_scratch);
} listen_scratch SEC(".maps");

DEFINE_WALK(listen, LISTEN_LIMIT)

/* The socket of TCP below one of MPTCP, and any other as it is. */
static __always_inline struct sock *tcp_of(struct sock *sk)
{
	struct mptcp_sock *above = (void *)sk;
	struct sock *first = NULL;

	if (BPF_CORE_READ(sk, sk_protocol) == IPPROTO_MPTCP && bpf_core_field_exists(above->first))
		first = BPF_CORE_READ(above, first);
	return first ? first : sk;
}

static __always_inline int report_listen(struct sock *sk, __u16 family, int error)
{
	__u8 peer[16];
	struct record_listen *r;
	struct header h;

	if (BPF_CORE_READ(sk, sk_protocol) != IPPROTO_TCP)
		return 0;
	fill_header_current(&h, RECORD_LISTEN, bpf_get_current_cgroup_id());
	r = reserve(struct record_listen, &h);
	if (!r)
		return 0;
	r->cookie = BPF_CORE_READ(sk, __sk_common.skc_cookie.counter);
	r->family = family;
	r->protocol = IPPROTO_TCP;
	read_addresses(sk, family, r->addr, peer);
	r->port = BPF_CORE_READ(sk, __sk_common.skc_num);
	r->error = error;
	submit(r);
	return 0;
}

static __always_inline int report_unix_listen(struct unix_sock *sk, int error)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	struct unix_address *bound = BPF_CORE_READ(sk, addr);
	struct dentry *dentry = BPF_CORE_READ(sk, path.dentry);
	__u64 cgroup = bpf_get_current_cgroup_id(), off = sizeof(struct record_listen), len;
	struct listen_scratch *s;
	struct record_listen *r;
	__u32 zero = 0, flags = 0;
	__u8 *to;

	s = bpf_map_lookup_elem(&listen_scratch, &zero);
	if (!s) {
		lose(cgroup, RECORD_LISTEN, LOSS_SCRATCH);
		return 0;
	}
	r = (void *)s;
	__builtin_memset(r, 0, sizeof(*r));
	fill_header_current(&r->h, RECORD_LISTEN, cgroup);
	r->family = AF_UNIX;
	r->error = error;
	if (dentry) {
		off = walk_listen(s, BPF_CORE_READ(sk, path.mnt), dentry, task, off);
		if (s->walk.flags & PATH_TRUNCATED)
			flags |= UNIX_TRUNCATED;
		if (s->walk.flags & PATH_OUTSIDE)
			flags |= UNIX_OUTSIDE;
		if (s->walk.flags & PATH_UNLINKED)
			flags |= UNIX_UNLINKED;
	}
	r->path_len = off - sizeof(*r);
	if (off > LISTEN_LIMIT + PATH_SLACK)
		off = LISTEN_LIMIT + PATH_SLACK;
	to = s->bytes + off;
	len = BPF_CORE_READ(bound, len);
	len = len > 2 ? len - 2 : 0; /* sun_family */
	if (len > SUN_PATH)
		len = SUN_PATH;
	bpf_probe_read_kernel(to, len, (void *)bound + bpf_core_field_offset(struct unix_address, name) + 2);
	if (len && !to[0])
		flags |= UNIX_ABSTRACT;
	r->name_len = len;
	off += len;
	r->h.flags = flags;
	if (off > sizeof(s->bytes))
		off = sizeof(s->bytes);
	send(r, off);
	return 0;
}

/* inet_csk_listen_start() has its second argument no more since 5.17; set by the loader. */
const volatile bool listen_has_backlog = false;

SEC("fexit/inet_csk_listen_start")
int listen_start(__u64 *ctx)
{
	struct sock *sk = (void *)ctx[0];
	long ret;

	if (!current_watched())
		return 0;
	/* As in open_root. */
	if (listen_has_backlog) {
		ret = ctx[2];
		barrier_var(ret);
	} else {
		ret = ctx[1];
		barrier_var(ret);
	}
	return report_listen(sk, BPF_CORE_READ(sk, __sk_common.skc_family), -(int)ret);
}

SEC("fexit/unix_listen")
int BPF_PROG(listen_unix, struct socket *socket, int backlog, int ret)
{
	if (!current_watched() || ret == -EINVAL || ret == -EOPNOTSUPP)
		return 0;
	return report_unix_listen((void *)BPF_CORE_READ(socket, sk), -ret);
}

SEC("tracepoint/syscalls/sys_exit_listen")
int listen_call(struct syscall_exit *ctx)
{
	struct sock *sk;
	__u16 family;

	if (!current_watched())
		return 0;
	/* No socket, or one that cannot listen, or not now. */
	if (ctx->ret == -EBADF || ctx->ret == -ENOTSOCK || ctx->ret == -EOPNOTSUPP || ctx->ret == -EINVAL)
		return 0;
	sk = file_sock(current_file(call_args().first));
	if (!sk)
		return 0;
	family = BPF_CORE_READ(sk, __sk_common.skc_family);
	if (family == AF_UNIX)
		return report_unix_listen((void *)sk, -ctx->ret);
	if (family == AF_INET || family == AF_INET6)
		return report_listen(tcp_of(sk), family, -ctx->ret);
	return 0;
}

/* A connection has come out of an accept. */
static __always_inline int report_accept(struct file *file)
{
	struct sock *sk = file_sock(file);
	struct record_accept *r;
	struct header h;
	__u64 cookie;
	__u32 ports;
	__u16 family;

	if (!sk)
		return 0;
	family = BPF_CORE_READ(sk, __sk_common.skc_family);
	if (family != AF_INET && family != AF_INET6)
		return 0;
	sk = tcp_of(sk);
	if (BPF_CORE_READ(sk, sk_protocol) != IPPROTO_TCP)
		return 0;
	fill_header_current(&h, RECORD_ACCEPT, bpf_get_current_cgroup_id());
	cookie = BPF_CORE_READ(sk, __sk_common.skc_cookie.counter);
	if (!cookie)
		cookie = (h.time ^ (__u64)h.tid << 40) | 1ULL << 63;
	ports = ports_of(sk);
	r = reserve(struct record_accept, &h);
	if (r) {
		r->cookie = cookie;
		r->family = family;
		r->protocol = IPPROTO_TCP;
		read_addresses(sk, family, r->addr, r->peer);
		r->port = __builtin_bswap16(ports);
		r->peer_port = __builtin_bswap16(ports >> 16);
		submit(r);
	}
	keep_connection(sk, &h, cookie, 1);
	/* It may have been over before, or in this moment: whoever takes the entry out tells. */
	if (BPF_CORE_READ(sk, __sk_common.skc_state) == TCP_CLOSE)
		end_connection(sk, BPF_CORE_READ(sk, __sk_common.skc_flags) & SOCK_DONE ? TCP_CLOSE_WAIT : TCP_ESTABLISHED);
	return 0;
}

SEC("fexit/do_accept")
int accept_file(__u64 *ctx)
{
	struct file *file = (void *)ctx[5];

	if (!current_watched() || (unsigned long)file >= (unsigned long)-MAX_ERRNO)
		return 0;
	return report_accept(file);
}

static __always_inline int report_accept_call(long ret)
{
	if (ret < 0 || !current_watched())
		return 0;
	return report_accept(current_file(ret));
}

SEC("tracepoint/syscalls/sys_exit_accept")
int accept_call(struct syscall_exit *ctx)
{
	return report_accept_call(ctx->ret);
}

SEC("tracepoint/syscalls/sys_exit_accept4")
int accept_call4(struct syscall_exit *ctx)
{
	return report_accept_call(ctx->ret);
}
