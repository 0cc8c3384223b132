//go:build ignore
// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
/*
 * How TCP connections end, and how much went over them. The last change of state may come in an interrupt, or in a process of
 * the peer's: whose the connection is was written down when it was made, by the socket's address. It changes hands only
 * after that state.
 */

/* Of TCP: the sockets of MPTCP that programs hold have counters of their own, which say something else. */
struct connection {
	struct header h; /* of the connect, or of the accept */
	__u64 cookie;
	__u64 since;
	__u32 ports;     /* both: a socket whose end was missed may have left its address to another one */
	__u32 incoming;
	__u32 place;     /* held.h */
	__u32 pad;
};

/* Address of a struct sock -> connection of a watched process. Full, or the sandbox has its part (held.h): the
 * connection's end is not told, which is counted (RECORD_CLOSE). Entries go with the end.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__uint(map_flags, 1); /* BPF_F_NO_PREALLOC */
	__type(key, __u64);
	__type(value, struct connection);
} connections SEC(".maps");

/* Ports of this side and of the peer. inet_sport, since skc_num is gone by the end. */
static __always_inline __u32 ports_of(const struct sock *sk)
{
	return BPF_CORE_READ((struct inet_sock *)sk, inet_sport) | (__u32)BPF_CORE_READ(sk, __sk_common.skc_dport) << 16;
}

/* Addresses of this side and of the peer, 16 bytes each, zeroed. */
static __always_inline void read_addresses(const struct sock *sk, __u16 family, __u8 *addr, __u8 *peer)
{
	if (family == AF_INET) {
		BPF_CORE_READ_INTO((__u32 *)addr, sk, __sk_common.skc_rcv_saddr);
		BPF_CORE_READ_INTO((__u32 *)peer, sk, __sk_common.skc_daddr);
	} else if (bpf_core_field_exists(sk->__sk_common.skc_v6_daddr)) {
		BPF_CORE_READ_INTO((struct in6_addr *)addr, sk, __sk_common.skc_v6_rcv_saddr);
		BPF_CORE_READ_INTO((struct in6_addr *)peer, sk, __sk_common.skc_v6_daddr);
	}
}

/* h: of the connect or the accept. */
static __always_inline void keep_connection(const struct sock *sk, const struct header *h, __u64 cookie, __u32 incoming)
{
	struct connection c = { .h = *h, .cookie = cookie, .incoming = incoming };
	struct connection *missed;
	__u64 key = (__u64)sk;
	__u32 place;

	c.h.type = RECORD_CLOSE;
	c.h.flags = 0;
	c.since = bpf_ktime_get_boot_ns();
	c.ports = ports_of(sk);
	missed = bpf_map_lookup_elem(&connections, &key);
	if (missed) {
		place = missed->place;
		if (!bpf_map_delete_elem(&connections, &key))
			give(place);
	}
	hold(&connections, &key, &c, &c.place, HELD_CONNECTIONS, &c.h);
}

/* The last state of a socket, coming from another one. */
static __always_inline void end_connection(const struct sock *sk, int from)
{
	struct tcp_sock *tcp = (void *)sk;
	__u64 key = (__u64)sk;
	struct connection *found, c;
	struct record_close *r;
	__u32 next;
	bool fin;

	found = bpf_map_lookup_elem(&connections, &key);
	if (!found)
		return;
	c = *found;
	if (bpf_map_delete_elem(&connections, &key))
		return;
	give(c.place);
	if (c.ports != ports_of(sk))
		return;
	c.h.time = bpf_ktime_get_boot_ns();
	r = reserve(struct record_close, &c.h);
	if (!r)
		return;
	r->cookie = c.cookie;
	r->since = c.since;
	/* SYN and FIN count as one byte each; what was acknowledged of the one that accepts begins behind its SYN. Who breaks a
	 * connection off need not have acknowledged what came: what is on its way counts, too.
	 */
	next = BPF_CORE_READ(tcp, snd_nxt);
	fin = from != TCP_ESTABLISHED && from != TCP_CLOSE_WAIT && next == BPF_CORE_READ(tcp, write_seq);
	r->sent = BPF_CORE_READ(tcp, bytes_acked) + (__u32)(next - BPF_CORE_READ(tcp, snd_una)) - !c.incoming - fin;
	r->received = BPF_CORE_READ(tcp, bytes_received) - !!(BPF_CORE_READ(sk, __sk_common.skc_flags) & SOCK_DONE);
	r->family = BPF_CORE_READ(sk, __sk_common.skc_family);
	read_addresses(sk, r->family, r->addr, r->peer);
	r->protocol = IPPROTO_TCP;
	r->port = __builtin_bswap16(c.ports);
	r->peer_port = __builtin_bswap16(c.ports >> 16);
	r->error = BPF_CORE_READ(sk, sk_err);
	if (from == TCP_CLOSE_WAIT || from == TCP_LAST_ACK)
		r->reason = CLOSE_PEER;
	else if (from != TCP_ESTABLISHED || !r->error)
		r->reason = CLOSE_HERE;
	else
		r->reason = CLOSE_ERROR;
	r->incoming = c.incoming;
	submit(r);
}
