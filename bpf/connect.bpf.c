//go:build ignore
// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
/*
 * Connections. The attempt is seen by the cgroup hooks, attached at the root of the
 * hierarchy: behind every way to connect (system call, io_uring, TCP Fast Open, a datagram
 * with an address), with the kernel's copy of the address. The outcome of TCP comes from
 * inet_sock_set_state, other outcomes from the return of the call (trampoline on
 * __sys_connect_file, or the exit tracepoint). The tracepoint has a descriptor's number only, and behind
 * that another thread can have put something else since.
 */

/* Attempt whose outcome is awaited. */
struct pending {
	struct header h;
	__u32 protocol;
	__u32 place; /* held.h */
};

/* Socket cookie -> attempt. Full, or the sandbox has its part (held.h): the attempt is reported without its
 * outcome, which is counted (RECORD_CONNECT_END). Entries go with the outcome, at the latest with the socket.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__uint(map_flags, 1); /* BPF_F_NO_PREALLOC */
	__type(key, __u64);
	__type(value, struct pending);
} pending SEC(".maps");

static __always_inline void forget_pending(__u64 cookie)
{
	struct pending *found = bpf_map_lookup_elem(&pending, &cookie);
	__u32 place;

	if (!found)
		return;
	place = found->place;
	if (!bpf_map_delete_elem(&pending, &cookie))
		give(place);
}

struct destination {
	__u64 cookie;
	__u8 addr[16];
	__u32 port;
	__u32 flags; /* enum connect_flags */
};

struct attempt {
	struct destination to; /* of a connect the cookie only */
	__u32 call;            /* number of the system call that the thread is in */
	__u32 pad;
};

/* tid -> what its connect call, or its sending of a datagram, is about, for the return of the call. What is forgotten has no
 * outcome but that of TCP.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, __u32);
	__type(value, struct attempt);
} attempts SEC(".maps");

/* Destinations that an unconnected socket has sent to, or tries to. LRU: what is forgotten is reported once more, not lost. */
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

/* Whether the packets of a socket go to another address first. */
static __always_inline bool has_source_route(struct bpf_sock_addr *ctx)
{
	__u64 known = ctx->sk; /* to the verifier a struct bpf_sock, whose other fields nobody may compute */
	struct inet_sock *sk = NULL;

	bpf_probe_read_kernel(&sk, sizeof(sk), &known);
	if (BPF_CORE_READ(sk, inet_opt) && BPF_CORE_READ(sk, inet_opt, opt.srr))
		return true;
	if (!bpf_core_field_exists(sk->pinet6))
		return false;
	return BPF_CORE_READ(sk, pinet6, opt, srcrt);
}

/* What the kernel makes of an address of all zeros: the socket's own if it is bound to one, else loopback. */
static __always_inline bool name_any(struct bpf_sock_addr *ctx, __u16 family, __u32 *words)
{
	enum { MAPPED = __builtin_bswap32(0xffff), LOOPBACK = __builtin_bswap32(0x7f000001) };
	__u64 known = ctx->sk; /* as in has_source_route() */
	struct in6_addr own = {};
	struct inet_sock *sk = NULL;
	bool mapped;

	bpf_probe_read_kernel(&sk, sizeof(sk), &known);
	if (family == AF_INET) {
		if (words[0])
			return false;
		words[0] = BPF_CORE_READ(sk, inet_saddr);
		if (!words[0])
			words[0] = LOOPBACK;
		return true;
	}
	if (words[0] | words[1] | words[3] || (words[2] && words[2] != MAPPED))
		return false;
	if (bpf_core_field_exists(((struct sock *)sk)->__sk_common.skc_v6_rcv_saddr))
		BPF_CORE_READ_INTO(&own, (struct sock *)sk, __sk_common.skc_v6_rcv_saddr);
	mapped = !(own.words[0] | own.words[1]) && own.words[2] == MAPPED;
	if (words[2])
		words[3] = mapped && own.words[3] ? own.words[3] : LOOPBACK;
	else if (mapped) {
		words[2] = MAPPED;
		words[3] = LOOPBACK;
	} else
		words[3] = __builtin_bswap32(1);
	return true;
}

/* The outcome of a datagram. h: of its thread. What did not leave is told again with the next one. */
static __always_inline void end_datagram(struct header *h, const struct destination *to, int error)
{
	struct record_connect_end *r;

	if (error)
		bpf_map_delete_elem(&destinations, to);
	h->type = RECORD_CONNECT_END;
	h->flags = CONNECT_END_DATAGRAM;
	r = reserve(struct record_connect_end, h);
	if (!r)
		return;
	r->cookie = to->cookie;
	r->error = error;
	submit(r);
}

/* family: a constant, for the kernel lets a program of one family touch its own address field only. */
static __always_inline int report_connect(struct bpf_sock_addr *ctx, __u16 op, __u16 family)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	__u64 cgroup = task_cgroup(task);
	struct attempt attempt = {}, *before;
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
	if (has_source_route(ctx))
		to.flags = CONNECT_SOURCE_ROUTE;
	if (name_any(ctx, family, words))
		to.flags |= CONNECT_TO_ANY;
	if (names)
		note_talk(ctx, op == CONNECT_CONNECT, family, task, cgroup, to.cookie, to.addr, to.port);
	if (op == CONNECT_SENDMSG && bpf_map_lookup_elem(&destinations, &to))
		return 1;

	fill_header(&p.h, RECORD_CONNECT, task, cgroup);
	attempt.to = to;
	attempt.call = call_number();
	if (op == CONNECT_SENDMSG && attempt.call == NR_SENDMMSG) {
		/* Which sends one after the other, until one fails. In the trampoline form each has been told already. */
		before = bpf_map_lookup_elem(&attempts, &p.h.tid);
		if (before && before->call == NR_SENDMMSG) {
			struct destination sent = before->to;

			end_datagram(&p.h, &sent, 0);
			p.h.type = RECORD_CONNECT;
			p.h.flags = 0;
		}
	}
	if (op == CONNECT_CONNECT && attempt.call == NR_CONNECT)
		bpf_map_update_elem(&attempts, &p.h.tid, &attempt, BPF_ANY);
	p.protocol = ctx->protocol;
	r = reserve(struct record_connect, &p.h);
	if (!r) {
		if (op == CONNECT_SENDMSG)
			bpf_map_delete_elem(&attempts, &p.h.tid);
		return 1;
	}
	r->h.flags = to.flags;
	r->cookie = to.cookie;
	__builtin_memcpy(r->addr, to.addr, sizeof(r->addr));
	r->family = family;
	r->protocol = ctx->protocol;
	r->port = to.port;
	r->op = op;
	submit(r);
	/* Only now: what did not fit the ring is told with the next datagram. */
	if (op == CONNECT_SENDMSG) {
		bpf_map_update_elem(&attempts, &p.h.tid, &attempt, BPF_ANY);
		bpf_map_update_elem(&destinations, &to, &one, BPF_ANY);
	}
	/* No outcome can come before this: the call has not acted yet. */
	if (op == CONNECT_CONNECT) {
		p.h.type = RECORD_CONNECT_END;
		forget_pending(to.cookie);
		hold(&pending, &to.cookie, &p, &p.place, HELD_PENDING, &p.h);
	}
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
static __always_inline void end_connect(__u64 cookie, int error)
{
	struct pending *found, p;
	struct record_connect_end *r;

	found = bpf_map_lookup_elem(&pending, &cookie);
	if (!found)
		return;
	p = *found;
	if (names && error)
		forget_talk(cookie);
	if (bpf_map_delete_elem(&pending, &cookie))
		return;
	give(p.place);
	p.h.time = bpf_ktime_get_boot_ns();
	r = reserve(struct record_connect_end, &p.h);
	if (!r)
		return;
	r->cookie = cookie;
	r->error = error;
	submit(r);
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(connect_state, const struct sock *sk, const int oldstate, const int newstate)
{
	struct pending *found;
	__u64 cookie;
	int error = 0;

	if (newstate != TCP_ESTABLISHED && newstate != TCP_CLOSE)
		return 0;
	cookie = BPF_CORE_READ(sk, __sk_common.skc_cookie.counter);
	if (newstate == TCP_CLOSE) {
		/* Those of MPTCP are not released as sockets are. */
		if (names)
			forget_talk(cookie);
		if (oldstate != TCP_SYN_SENT)
			end_connection(sk, oldstate);
	}
	/* TCP_SYN_RECV: both sides have connected. Of what was accepted nothing is pending. */
	if (oldstate != TCP_SYN_SENT && oldstate != TCP_SYN_RECV)
		return 0;
	if (newstate == TCP_CLOSE) {
		error = BPF_CORE_READ(sk, sk_err);
		if (!error)
			error = ECANCELED;
	} else if (BPF_CORE_READ(sk, sk_protocol) == IPPROTO_TCP) {
		found = bpf_map_lookup_elem(&pending, &cookie);
		if (found)
			keep_connection(sk, &found->h, cookie, 0);
	}
	end_connect(cookie, error);
	return 0;
}

SEC("cgroup/sock_release")
int connect_release(struct bpf_sock *ctx)
{
	__u64 cookie = bpf_get_socket_cookie(ctx);
	struct pending *found = bpf_map_lookup_elem(&pending, &cookie);

	if (names)
		forget_talk(cookie);
	if (!found)
		return 1;
	/* Connected, and nobody told: what came of it is not known. */
	if (found->protocol == IPPROTO_TCP && (ctx->state == TCP_SYN_SENT || ctx->state == TCP_CLOSE))
		end_connect(cookie, ECANCELED);
	else
		forget_pending(cookie);
	return 1;
}

enum { SUN_PATH = sizeof(((struct sockaddr_un *)0)->sun_path), NAME_WORDS = (SUN_PATH + 7) / 8 };
enum { UNIX_LIMIT = sizeof(struct record_unix) + PATH_BYTES + PATH_SLACK };
struct unix_scratch {
	__u8 bytes[(UNIX_LIMIT + 256 + PATH_SLACK + 7) & ~7];
	struct walk walk;
	__u64 word[NAME_WORDS], bound[NAME_WORDS]; /* as in sun_path, the rest zero */
};

/* As exec_scratch. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct unix_scratch);
} unix_scratch SEC(".maps");

DEFINE_WALK(unix, UNIX_LIMIT)

/* Takes the name out of a struct sockaddr_un of so many bytes; returns its length. */
static __always_inline __u64 read_name(__u64 *to, const void *address, __u32 address_len, bool user)
{
	__u64 len = address_len > 2 ? address_len - 2 : 0; /* sun_family */

	if (len > SUN_PATH)
		len = SUN_PATH;
	__builtin_memset(to, 0, NAME_WORDS * sizeof(*to));
	if (user)
		bpf_probe_read_user(to, len, address + 2);
	else
		bpf_probe_read_kernel(to, len, address + 2);
	return len;
}

/* Whether both names of s are the same. Of a path the bytes behind its end may be missing. */
static __always_inline bool same_name(const struct unix_scratch *s, __u64 word_len, __u64 bound_len)
{
	__u64 differ = !(__u8)s->word[0] && word_len != bound_len;

#pragma unroll
	for (int i = 0; i < NAME_WORDS; i++)
		differ |= s->word[i] ^ s->bound[i];
	return !differ;
}

/* A connect that has returned. address: what the caller passed, user or kernel memory; address_len as passed. sk: NULL when it is
 * not known.
 */
static __always_inline int report_unix(struct sock *sk, int error, const void *address, __u32 address_len, bool user,
				       __u32 flags)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	__u64 cgroup = bpf_get_current_cgroup_id();
	struct unix_address *bound = NULL;
	struct unix_scratch *s;
	struct record_unix *r;
	struct vfsmount *mnt = NULL;
	struct dentry *dentry = NULL;
	__u64 off, len, name_len;
	bool from_user;
	__u32 zero = 0;
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

	off = sizeof(*r);
	if (!error && sk) {
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
	name_len = read_name(s->word, address, address_len, user);
	from_user = user;
	if (bound) {
		len = read_name(s->bound, (void *)bound + bpf_core_field_offset(struct unix_address, name), BPF_CORE_READ(bound, len),
				false);
		/* The name that the peer is bound to. What the call was given instead, where that is another and the peer is
		 * of whatever is behind the descriptor when the call has returned.
		 */
		if (!user || same_name(s, name_len, len)) {
			bpf_probe_read_kernel(to, len, s->bound);
			name_len = len;
			from_user = false;
		}
	}
	if (!bound || from_user)
		bpf_probe_read_kernel(to, name_len, s->word);
	if (from_user)
		flags |= UNIX_NAME_FROM_USER;
	if (name_len && !to[0])
		flags |= UNIX_ABSTRACT;
	r->name_len = name_len;
	off += name_len;
	r->h.flags = flags;
	if (off > sizeof(s->bytes))
		off = sizeof(s->bytes);
	send(r, off);
	return 0;
}

/* The socket behind a file; NULL: it is none. */
static __always_inline struct sock *file_sock(struct file *file)
{
	struct socket *socket;

	if (!file || (BPF_CORE_READ(file, f_inode, i_mode) & S_IFMT) != S_IFSOCK)
		return NULL;
	socket = BPF_CORE_READ(file, private_data);
	return BPF_CORE_READ(socket, sk);
}

/* The outcome of an IP connect, as its call returns it. */
static __always_inline int end_connect_call(__u64 cookie, long ret)
{
	/* Not outcomes: the connection goes on, or was another's. */
	if (ret != -EINPROGRESS && ret != -EALREADY && ret != -EISCONN && ret != -ERESTARTSYS)
		end_connect(cookie, -ret);
	return 0;
}

SEC("fexit/__sys_connect_file")
int BPF_PROG(connect_file, struct file *file, void *address, int address_len, int file_flags, int ret)
{
	struct attempt *attempt;
	struct sock *sk;
	__u64 cookie;
	__u32 tid;
	__u16 family;

	if (!current_watched())
		return 0;
	sk = file_sock(file);
	if (!sk)
		return 0;
	family = BPF_CORE_READ(sk, __sk_common.skc_family);
	if (family == AF_UNIX)
		return report_unix(sk, -ret, address, address_len, false, 0);
	if (family == AF_VSOCK)
		return report_vsock(sk, -ret, address, address_len, false);
	if (family == AF_INET || family == AF_INET6) {
		/* Of MPTCP another socket than this one connects. */
		tid = bpf_get_current_pid_tgid();
		attempt = bpf_map_lookup_elem(&attempts, &tid);
		if (!attempt || attempt->call != NR_CONNECT)
			return end_connect_call(BPF_CORE_READ(sk, __sk_common.skc_cookie.counter), ret);
		cookie = attempt->to.cookie;
		bpf_map_delete_elem(&attempts, &tid);
		return end_connect_call(cookie, ret);
	}
	return 0;
}

/* The same by the number of a descriptor, behind which there can be something else by now. is_ip: that the call was about an IP
 * socket is known.
 */
static __always_inline int report_connect_number(__u32 fd, long ret, const void *address, __u32 address_len, bool is_ip)
{
	struct sock *sk = file_sock(current_file(fd));
	__u16 family = sk ? BPF_CORE_READ(sk, __sk_common.skc_family) : 0;
	__u32 flags = 0;

	if (ret == -EBADF || ret == -ENOTSOCK)
		return 0; /* it was no socket, whatever there is now */
	if (family != AF_UNIX && family != AF_VSOCK) {
		if (is_ip)
			return 0;
		/* What these refuse they may refuse of any socket; after the last the call begins anew. */
		if (ret == -EFAULT || ret == -EINVAL || ret == -EAFNOSUPPORT || ret == -ERESTARTSYS)
			return 0;
		/* Only a socket of the address's own family takes it: it was one, and is no longer behind the number. */
		family = 0;
		if (address_len >= sizeof(family))
			bpf_probe_read_user(&family, sizeof(family), address);
		if (family != AF_UNIX && family != AF_VSOCK) {
			if (sk || (ret && ret != -EINPROGRESS))
				return 0;
			/* Something was connected, and neither the descriptor nor the address tells what. */
			flags = UNIX_NOT_SURE;
			address_len = 0;
			family = AF_UNIX;
		}
		sk = NULL;
	}
	if (family == AF_VSOCK)
		return report_vsock(sk, -ret, address, address_len, true);
	return report_unix(sk, -ret, address, address_len, true, flags);
}

SEC("tracepoint/syscalls/sys_exit_connect")
int connect_call(struct syscall_exit *ctx)
{
	struct attempt *attempt;
	struct call_args args;
	bool is_ip = false;
	__u64 cookie;
	__u32 tid;

	if (!current_watched())
		return 0;
	args = call_args();
	tid = bpf_get_current_pid_tgid();
	attempt = bpf_map_lookup_elem(&attempts, &tid);
	if (attempt && attempt->call == NR_CONNECT) {
		cookie = attempt->to.cookie;
		bpf_map_delete_elem(&attempts, &tid);
		end_connect_call(cookie, ctx->ret);
		is_ip = true;
	}
	return report_connect_number(args.first, ctx->ret, (void *)args.second, args.third, is_ip);
}

/* A call that sends datagrams has returned. Most had nothing new to tell, and leave after this look-up. */
static __always_inline struct attempt *datagram_of(__u32 tid)
{
	struct attempt *attempt = bpf_map_lookup_elem(&attempts, &tid);

	return attempt && attempt->call != NR_CONNECT ? attempt : NULL;
}

static __always_inline int end_send(struct attempt *attempt, __u32 tid, long ret)
{
	struct destination to = attempt->to;
	struct header h;

	if (ret == -ERESTARTSYS)
		return 0; /* the call begins anew */
	bpf_map_delete_elem(&attempts, &tid);
	fill_header_current(&h, RECORD_CONNECT_END, bpf_get_current_cgroup_id());
	end_datagram(&h, &to, ret < 0 ? -ret : 0);
	return 0;
}

/* Both run for a datagram of an IPv6 socket to an IPv4 address, and the inner one tells. */
SEC("fexit/udp_sendmsg")
int BPF_PROG(send_udp, struct sock *sk, void *message, unsigned long len, int ret)
{
	__u32 tid = bpf_get_current_pid_tgid();
	struct attempt *attempt = datagram_of(tid);

	return attempt ? end_send(attempt, tid, ret) : 0;
}

SEC("fexit/udpv6_sendmsg")
int BPF_PROG(send_udp6, struct sock *sk, void *message, unsigned long len, int ret)
{
	__u32 tid = bpf_get_current_pid_tgid();
	struct attempt *attempt = datagram_of(tid);

	return attempt ? end_send(attempt, tid, ret) : 0;
}

SEC("tracepoint/syscalls/sys_exit_sendto")
int send_call_to(struct syscall_exit *ctx)
{
	__u32 tid = bpf_get_current_pid_tgid();
	struct attempt *attempt = datagram_of(tid);

	return attempt && attempt->call == NR_SENDTO ? end_send(attempt, tid, ctx->ret) : 0;
}

SEC("tracepoint/syscalls/sys_exit_sendmsg")
int send_call_message(struct syscall_exit *ctx)
{
	__u32 tid = bpf_get_current_pid_tgid();
	struct attempt *attempt = datagram_of(tid);

	return attempt && attempt->call == NR_SENDMSG ? end_send(attempt, tid, ctx->ret) : 0;
}

SEC("tracepoint/syscalls/sys_exit_sendmmsg")
int send_call_messages(struct syscall_exit *ctx)
{
	__u32 tid = bpf_get_current_pid_tgid();
	struct attempt *attempt = datagram_of(tid);

	if (!attempt || attempt->call != NR_SENDMMSG)
		return 0;
	/* One of them has failed, and not the first: why is not known, nor whether it was the last to a new destination. */
	if (ctx->ret >= 0 && ctx->ret < (long)(__u32)call_args().third) {
		bpf_map_delete_elem(&attempts, &tid);
		return 0;
	}
	return end_send(attempt, tid, ctx->ret);
}
