//go:build ignore
// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
/*
 * Sockets whose traffic the connection hooks do not see, told when they are made: raw and
 * packet sockets, vsock, and every family that is rarer. Two forms as for opens.
 *
 * Trampoline: fexit on __sock_create, the one place behind socket, socketpair and io_uring.
 * Tracepoint: sys_exit_socket.
 */

enum { AF_NETLINK = 16, AF_VSOCK = 40 };
enum { SOCK_STREAM = 1, SOCK_DGRAM = 2, SOCK_TYPE_MASK = 0xf };

struct sockaddr_vm { /* include/uapi/linux/vm_sockets.h */
	__u16 svm_family;
	__u16 svm_reserved1;
	__u32 svm_port;
	__u32 svm_cid;
};

/* Netlink is not told: every libc opens it, and it does not leave the host. TCP, UDP and MPTCP (by its
 * subflows) pass the cgroup hooks whatever they do; SCTP does not, nor all that ping and UDP-Lite sockets do.
 */
static __always_inline bool socket_is_ordinary(int family, int type, int protocol)
{
	if (family == AF_UNIX || family == AF_NETLINK)
		return true;
	if (family != AF_INET && family != AF_INET6)
		return false;
	if (type != SOCK_STREAM && type != SOCK_DGRAM)
		return false;
	return !protocol || protocol == IPPROTO_TCP || protocol == IPPROTO_UDP || protocol == IPPROTO_MPTCP;
}

static __always_inline int report_socket(int family, int type, int protocol, int error)
{
	struct record_socket *r;
	struct header h;

	if (socket_is_ordinary(family, type, protocol))
		return 0;
	fill_header_current(&h, RECORD_SOCKET, bpf_get_current_cgroup_id());
	r = reserve(struct record_socket, &h);
	if (!r)
		return 0;
	r->error = error;
	r->family = family;
	r->type = type;
	r->protocol = protocol;
	r->op = SOCKET_MAKE;
	submit(r);
	return 0;
}

SEC("fexit/__sock_create")
int BPF_PROG(socket_make, void *net, int family, int type, int protocol, void *res, int kern, int ret)
{
	if (!current_watched())
		return 0;
	if (kern)
		return 0; /* the kernel's own */
	return report_socket(family, type, protocol, -ret);
}

SEC("tracepoint/syscalls/sys_exit_socket")
int socket_call(struct syscall_exit *ctx)
{
	struct call_args args;

	if (!current_watched())
		return 0;
	args = call_args();
	return report_socket(args.first, (int)args.second & SOCK_TYPE_MASK, args.third, ctx->ret < 0 ? -ctx->ret : 0);
}

/* A connect that has returned. address: as for report_unix(). sk: NULL when it is not known. */
static __always_inline int report_vsock(struct sock *sk, int error, const void *address, __u32 address_len, bool user)
{
	struct sockaddr_vm to = {};
	struct record_socket *r;
	struct header h;

	fill_header_current(&h, RECORD_SOCKET, bpf_get_current_cgroup_id());
	r = reserve(struct record_socket, &h);
	if (!r)
		return 0;
	if (address_len >= sizeof(to)) {
		if (user)
			bpf_probe_read_user(&to, sizeof(to), address);
		else
			bpf_probe_read_kernel(&to, sizeof(to), address);
	}
	if (user)
		r->h.flags = SOCKET_ADDRESS_FROM_USER;
	r->error = error;
	r->family = AF_VSOCK;
	r->type = sk ? BPF_CORE_READ(sk, sk_type) : 0;
	r->op = SOCKET_CONNECT;
	r->cid = to.svm_cid;
	r->port = to.svm_port;
	submit(r);
	return 0;
}
