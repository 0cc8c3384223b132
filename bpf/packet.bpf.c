//go:build ignore
// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
/*
 * Bytes that may name a peer: DNS, and the first that a connection sends (the TLS ClientHello, the head of an HTTP request).
 * The hooks see every packet of the host and have no current task: what they look at are the sockets that a watched process
 * was seen with when it connected or sent. While there is none of these, a packet costs one comparison.
 */

/* Set by the loader. */
const volatile bool names = true;

enum { DNS_PORT = 53 };
enum { ETH_P_IP = 0x0800, ETH_P_IPV6 = 0x86dd };
enum talk_flags {
	TALK_LOOKUPS = 1, /* it is asked for names */
	TALK_ANSWERS = 2, /* its own port is 53 */
	TALK_STREAM = 4,
	TALK_FOREIGN = 8, /* PACKET_FOREIGN */
};
enum { FIRST_BYTES = 4096, STREAM_RECORDS = 16 };
enum { ANSWERS = 16 }; /* that may come without a lookup, of a datagram socket */

/* What is known of a socket whose packets are looked at. */
struct talk {
	struct header h;
	__u8 peer[16];    /* as the process named it */
	__u32 begin[2];   /* of a stream: sequence number of the first byte; received, sent */
	__u32 records[2]; /* sent to user space; received, sent */
	__u32 awaited;    /* bytes of the stream's beginning that are looked at; 0: not known yet */
	__u16 family;
	__u16 port;
	__u32 flags;      /* enum talk_flags */
	__u32 place;      /* held.h */
	__u32 pad;
};

/* Socket cookie -> struct talk. An entry goes with its socket, that of a stream with its first bytes. Full, or the
 * sandbox has its part (held.h): the socket has no names, which is counted (RECORD_PACKET).
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__uint(map_flags, 1); /* BPF_F_NO_PREALLOC */
	__type(key, __u64);
	__type(value, struct talk);
} talks SEC(".maps");

/* Entries of `talks` that await the first bytes of a stream, and that are asked for names. */
__u64 stream_count;
__u64 lookup_count;

static __always_inline void count_talk(__u32 flags, int n)
{
	if (flags & TALK_STREAM)
		__sync_fetch_and_add(&stream_count, n);
	if (flags & TALK_LOOKUPS)
		__sync_fetch_and_add(&lookup_count, n);
}

static __always_inline void forget_talk(__u64 cookie)
{
	struct talk *talk;
	__u32 flags, place;

	if (!stream_count && !lookup_count)
		return;
	talk = bpf_map_lookup_elem(&talks, &cookie);
	if (!talk)
		return;
	flags = talk->flags;
	place = talk->place;
	if (!bpf_map_delete_elem(&talks, &cookie)) {
		count_talk(flags, -1);
		give(place);
	}
}

/* A watched process connects a socket, or sends a datagram to an address. */
static __always_inline void note_talk(struct bpf_sock_addr *ctx, bool connects, __u16 family, struct task_struct *task, __u64 cgroup,
				      __u64 cookie, const __u8 *addr, __u16 port)
{
	__u64 known = ctx->sk; /* as in has_source_route */
	struct talk talk = {};
	struct sock *sk = NULL;
	__u32 *words = (__u32 *)talk.peer;

	bpf_probe_read_kernel(&sk, sizeof(sk), &known);
	if (ctx->protocol == IPPROTO_TCP) {
		if (!connects)
			return;
		talk.flags = TALK_STREAM | (port == DNS_PORT ? TALK_LOOKUPS : 0);
	} else if (ctx->protocol == IPPROTO_UDP) {
		if (port == DNS_PORT)
			talk.flags = TALK_LOOKUPS;
		else if (BPF_CORE_READ(sk, __sk_common.skc_num) == DNS_PORT)
			talk.flags = TALK_LOOKUPS | TALK_ANSWERS;
		else
			return forget_talk(cookie);
	} else {
		return;
	}
	if (bpf_core_field_exists(sk->__sk_common.skc_net.net) &&
	    BPF_CORE_READ(sk, __sk_common.skc_net.net, user_ns, level) > 0)
		talk.flags |= TALK_FOREIGN;
	__builtin_memcpy(talk.peer, addr, sizeof(talk.peer));
	talk.family = family;
	talk.port = port;
	if (family == AF_INET6 && !words[0] && !words[1] && words[2] == __builtin_bswap32(0xffff)) {
		talk.family = AF_INET; /* its packets are IPv4 */
		words[0] = words[3];
		words[2] = words[3] = 0;
	}
	fill_header(&talk.h, RECORD_PACKET, task, cgroup);
	forget_talk(cookie);
	if (hold(&talks, &cookie, &talk, &talk.place, HELD_TALKS, &talk.h))
		count_talk(talk.flags, 1);
}

/* A packet that is looked at. */
struct packet {
	struct header h;
	__u64 cookie;
	__u8 addr[16];
	__u8 peer[16];
	__u16 family;
	__u16 port;
	__u16 peer_port;
	__u16 what;
	__u32 seq;
	__u32 content; /* where it begins */
	__u32 size;    /* of it */
	__u8 protocol;
};

struct ip_header {
	__u8 version_len, tos;
	__u16 len, id, fragment;
	__u8 ttl, protocol;
	__u16 sum;
	__u32 from, to;
};
struct ip6_header {
	__u32 version;
	__u16 len;
	__u8 next, hops;
	__u8 from[16], to[16];
};
struct tcp_header {
	__u16 from, to;
	__u32 seq, ack;
	__u8 len, flags;
};

/* Reads the headers; false: there is no content, or the packet is none of those that are looked at. */
static __always_inline bool read_headers(struct __sk_buff *skb, struct packet *p, bool out)
{
	struct tcp_header tcp = {};
	__u32 at;

	if (skb->protocol == __builtin_bswap16(ETH_P_IP)) {
		struct ip_header ip;

		if (bpf_skb_load_bytes(skb, 0, &ip, sizeof(ip)) || ip.fragment & __builtin_bswap16(0x1fff))
			return false;
		p->protocol = ip.protocol;
		p->family = AF_INET;
		*(__u32 *)p->addr = out ? ip.from : ip.to;
		*(__u32 *)p->peer = out ? ip.to : ip.from;
		at = (ip.version_len & 15) * 4;
	} else if (skb->protocol == __builtin_bswap16(ETH_P_IPV6)) {
		struct ip6_header ip;

		if (bpf_skb_load_bytes(skb, 0, &ip, sizeof(ip)))
			return false;
		p->protocol = ip.next;
		p->family = AF_INET6;
		__builtin_memcpy(p->addr, out ? ip.from : ip.to, 16);
		__builtin_memcpy(p->peer, out ? ip.to : ip.from, 16);
		at = sizeof(ip);
	} else {
		return false;
	}
	if (p->protocol == IPPROTO_UDP) {
		if (bpf_skb_load_bytes(skb, at, &tcp, 8))
			return false;
		p->content = at + 8;
	} else if (p->protocol == IPPROTO_TCP) {
		if (bpf_skb_load_bytes(skb, at, &tcp, 14))
			return false;
		p->content = at + (tcp.len >> 4) * 4;
		p->seq = __builtin_bswap32(tcp.seq) + (tcp.flags >> 1 & 1); /* a SYN has a number of its own */
	} else {
		return false;
	}
	p->port = __builtin_bswap16(out ? tcp.from : tcp.to);
	p->peer_port = __builtin_bswap16(out ? tcp.to : tcp.from);
	p->size = skb->len - p->content;
	return skb->len > p->content;
}

struct small_packet {
	struct record_packet r;
	__u8 bytes[512];
};
struct large_packet {
	struct record_packet r;
	__u8 bytes[2048];
};

static __always_inline void fill_packet(struct record_packet *r, const struct packet *p, __u32 offset, __u32 len)
{
	r->h.size = sizeof(*r) + len;
	r->cookie = p->cookie;
	__builtin_memcpy(r->addr, p->addr, sizeof(r->addr));
	__builtin_memcpy(r->peer, p->peer, sizeof(r->peer));
	r->family = p->family;
	r->port = p->port;
	r->peer_port = p->peer_port;
	r->what = p->what;
	r->offset = offset;
	r->size = p->size;
	r->len = len;
}

/* What is left of the record's room behind its size is not looked at. */
#define SEND_BYTES(type)                                                                         \
	do {                                                                                     \
		struct type *to = reserve_as(CLASS_READ, struct record_packet, struct type, &p->h); \
		__u32 last = (len - 1) & (sizeof(to->bytes) - 1);                                \
                                                                                                 \
		if (!to)                                                                         \
			return;                                                                  \
		if (bpf_skb_load_bytes(skb, p->content + from, to->bytes, last + 1)) {           \
			bpf_ringbuf_discard(to, BPF_RB_NO_WAKEUP);                               \
			lose_record(&p->h, LOSS_MISSED);                                         \
			return;                                                                  \
		}                                                                                \
		fill_packet(&to->r, p, offset, last + 1);                                        \
		submit(to);                                                                      \
	} while (0)

/* Sends so many bytes of the content from a place on, as those that are at this offset of a stream. */
static __noinline void send_bytes(struct __sk_buff *skb, struct packet *p, __u32 from, __u32 len, __u32 offset)
{
	if (!len) {
		struct record_packet *r = reserve_as(CLASS_READ, struct record_packet, struct record_packet, &p->h);

		if (!r)
			return;
		fill_packet(r, p, offset, 0);
		submit(r);
	} else if (len <= sizeof(((struct small_packet *)0)->bytes)) {
		SEND_BYTES(small_packet);
	} else {
		if (len > sizeof(((struct large_packet *)0)->bytes))
			len = sizeof(((struct large_packet *)0)->bytes);
		SEND_BYTES(large_packet);
	}
}

enum { TLS_HANDSHAKE = 22, TLS_HEAD = 5 };

/* How many bytes of a stream that begins so may name its peer. */
static __always_inline __u32 naming_bytes(struct __sk_buff *skb, const struct packet *p)
{
	__u8 head[TLS_HEAD + 3] = {};
	__u32 word;

	if (p->size < TLS_HEAD) /* in pieces, as an HTTP request is not */
		return !bpf_skb_load_bytes(skb, p->content, head, 1) && head[0] == TLS_HANDSHAKE ? FIRST_BYTES : 0;
	if (bpf_skb_load_bytes(skb, p->content, head, TLS_HEAD))
		return 0;
	if (head[0] == TLS_HANDSHAKE && head[1] == 3) {
		word = TLS_HEAD + (head[3] << 8 | head[4]);
		return word < FIRST_BYTES ? word : FIRST_BYTES;
	}
	word = head[0] << 24 | head[1] << 16 | head[2] << 8 | head[3];
	switch (word) {
	case 'G' << 24 | 'E' << 16 | 'T' << 8 | ' ':
	case 'P' << 24 | 'O' << 16 | 'S' << 8 | 'T':
	case 'P' << 24 | 'U' << 16 | 'T' << 8 | ' ':
	case 'H' << 24 | 'E' << 16 | 'A' << 8 | 'D':
	case 'C' << 24 | 'O' << 16 | 'N' << 8 | 'N':
	case 'D' << 24 | 'E' << 16 | 'L' << 8 | 'E':
	case 'O' << 24 | 'P' << 16 | 'T' << 8 | 'I':
	case 'P' << 24 | 'A' << 16 | 'T' << 8 | 'C':
		return sizeof(((struct large_packet *)0)->bytes);
	}
	return 0;
}

/* The first bytes that a connection sends. */
static __always_inline void send_first(struct __sk_buff *skb, struct packet *p, struct talk *talk)
{
	const __u32 most = sizeof(((struct large_packet *)0)->bytes);
	__u32 offset, len;
	bool tls = true;

	p->what = PACKET_FIRST;
	if (!talk->records[1]++) {
		talk->begin[1] = p->seq;
		talk->awaited = naming_bytes(skb, p);
		tls = talk->awaited != most || p->size < TLS_HEAD;
	}
	offset = p->seq - talk->begin[1];
	len = offset < talk->awaited ? talk->awaited - offset : 0;
	if (len > p->size)
		len = p->size;
	if (!tls || offset + len >= talk->awaited || talk->records[1] >= STREAM_RECORDS) {
		p->h.flags |= PACKET_LAST;
		forget_talk(p->cookie);
	}
	if (len > most) {
		__u16 flags = p->h.flags;

		p->h.flags &= ~PACKET_LAST;
		send_bytes(skb, p, 0, most, offset);
		p->h.flags = flags;
		send_bytes(skb, p, most, len - most, offset + most);
		return;
	}
	send_bytes(skb, p, 0, len, offset);
}

static __always_inline void look(struct __sk_buff *skb, bool out)
{
	struct packet p = {};
	struct talk *talk;
	__u64 cgroup;

	if (out) {
		p.cookie = bpf_get_socket_cookie(skb);
		talk = bpf_map_lookup_elem(&talks, &p.cookie);
		if ((!talk && !lookup_count) || !read_headers(skb, &p, out))
			return;
	} else {
		if (!read_headers(skb, &p, out) || p.peer_port != DNS_PORT)
			return;
		p.cookie = bpf_get_socket_cookie(skb);
		talk = bpf_map_lookup_elem(&talks, &p.cookie);
		if (!talk)
			return;
	}
	p.what = PACKET_DNS;
	if (out && p.port == DNS_PORT) {
		cgroup = bpf_skb_cgroup_id(skb);
		if (!talk && !(cgroup_flags(cgroup) & WATCH_TASKS))
			return;
		if (talk) {
			p.h = talk->h;
		} else {
			p.h.type = RECORD_PACKET;
			p.h.cgroup = cgroup;
		}
		p.h.time = bpf_ktime_get_boot_ns();
		p.h.flags = PACKET_OUT | PACKET_ANSWERS;
		send_bytes(skb, &p, 0, 0, 0);
		return;
	}
	if (!talk || talk->flags & TALK_ANSWERS || !(talk->flags & TALK_STREAM) != (p.protocol == IPPROTO_UDP))
		return;
	p.h = talk->h;
	p.h.time = bpf_ktime_get_boot_ns();
	p.h.flags = out ? PACKET_OUT : 0;
	if (talk->flags & TALK_FOREIGN)
		p.h.flags |= PACKET_FOREIGN;
	if (talk->flags & TALK_STREAM)
		p.h.flags |= PACKET_STREAM;
	if (out && talk->family == p.family) {
		__builtin_memcpy(p.peer, talk->peer, sizeof(p.peer));
		p.peer_port = talk->port;
	}
	if (!(talk->flags & TALK_LOOKUPS)) {
		if (out)
			send_first(skb, &p, talk);
		return;
	}
	if (!talk->records[out])
		talk->begin[out] = p.seq;
	if (talk->flags & TALK_STREAM ? talk->records[out] >= STREAM_RECORDS :
					!out && talk->records[0] >= talk->records[1] + ANSWERS)
		return;
	talk->records[out]++;
	send_bytes(skb, &p, 0, p.size, talk->flags & TALK_STREAM ? p.seq - talk->begin[out] : 0);
}

SEC("cgroup_skb/egress")
int packet_out(struct __sk_buff *skb)
{
	if (stream_count || lookup_count)
		look(skb, true);
	return 1;
}

SEC("cgroup_skb/ingress")
int packet_in(struct __sk_buff *skb)
{
	if (lookup_count)
		look(skb, false);
	return 1;
}
