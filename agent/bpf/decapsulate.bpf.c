// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/*
 * Takes off the encapsulation of packets that a forwarder sent (tc, ingress).
 *
 * In: IPv4 or IPv6 in IPv4 or IPv6 (RFC 2003, RFC 2473, RFC 4213), or in GUE, addressed to this stack's cluster address.
 * Taken off only if the inner destination is a DVIPA of this host and the outer source a forwarder of the stack that owns it; of
 * one that owned it before, only if the connection is here. Other packets for a DVIPA are dropped and counted, so that no
 * tunnel device of this host takes them in. Everything else goes on untouched, what looks like an attempt is counted. ECN at decapsulation is RFC 6040 section 4.2.
 * Segments of connections that are frozen or have departed end here, with and without encapsulation. Which DVIPA a client's
 * UDP datagrams came to is noted for the answers (answers.bpf.c).
 */
#include "address.h"
#include "ask.h"
#include "claim.h"
#include "counters.h"
#include "datagrams.h"
#include "dvipas.h"
#include "freezes.h"
#include "handoff.h"
#include "lookup.h"
#include "packet.h"

const volatile struct address own_v4 = {}; /* this stack's cluster addresses; none if there is none of the family */
const volatile struct address own_v6 = {};

/* Who sends packets for a DVIPA. */
struct forwarder {
	struct address source;
	struct address dvipa; /* none: the source is that of some DVIPA's forwarder */
};

/* Which of them are taken. */
enum takes {
	TAKES_ALL = 1,	      /* its stack owns the DVIPA */
	TAKES_WHAT_IS_HERE, /* it owned the DVIPA before: those of connections that are here */
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 32768);
	__type(key, struct forwarder);
	__type(value, __u8);
} forwarders SEC(".maps");

/*
 * What to do with a packet that came with a handoff option, which may not run on every kernel: baton_handoff, or nothing,
 * and then the packet is treated as if it had none.
 */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} handoff SEC(".maps");

/* What to do with a packet that came with the ask option: baton_ask. */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} ask SEC(".maps");

/* Since Linux 6.3; a build machine's headers may be older. */
#define DECAP_L3_IPV4 (1ULL << 7)
#define DECAP_L3_IPV6 (1ULL << 8)

/* What is around the packet. */
struct outer {
	struct address source;
	__u32 handoff[HANDOFF_WORDS]; /* the handoff option, if has_handoff and it is of this version */
	__u8 has_handoff;
	__u8 is_asked;	   /* it came with the ask option */
	__u32 bytes;	   /* of all headers to take off */
	__u8 protocol;	   /* IPPROTO_UDP, or that of the inner header: IPPROTO_IPIP, IPPROTO_IPV6 */
	__u8 tos;
};

/* What is inside. */
struct inner {
	struct address destination;
	__u8 tos;
};

static __always_inline int is_tunnel(__u8 protocol)
{
	return protocol == IPPROTO_IPIP || protocol == IPPROTO_IPV6 || protocol == IPPROTO_UDP;
}

/* Returns 1 if the packet is for this stack and may be encapsulated. */
static __always_inline int read_outer_v4(struct __sk_buff *skb, struct outer *outer)
{
	struct iphdr ip;

	if (load(skb, 0, &ip, sizeof(ip)) || !is_tunnel(ip.protocol))
		return 0;
	if (own_v4.word[2] != MAPPED_PREFIX || ip.daddr != own_v4.word[3])
		return 0;
	if (ip.frag_off & bpf_htons(IPV4_FRAGMENT)) {
		if (ip.protocol != IPPROTO_UDP)
			count(OUTER_FRAGMENT);
		return 0;
	}
	*outer = (struct outer){
		.source = address_v4(ip.saddr), .bytes = ip.ihl * 4, .protocol = ip.protocol, .tos = ip.tos,
	};
	return 1;
}

static __always_inline int read_outer_v6(struct __sk_buff *skb, struct outer *outer)
{
	struct ipv6hdr ip;
	__be32 *to = ip.daddr.in6_u.u6_addr32;

	if (load(skb, 0, &ip, sizeof(ip)) || !is_tunnel(ip.nexthdr))
		return 0;
	if (own_v6.word[0] != to[0] || own_v6.word[1] != to[1] || own_v6.word[2] != to[2] || own_v6.word[3] != to[3])
		return 0;
	*outer = (struct outer){
		.source = address_v6(ip.saddr.in6_u.u6_addr32),
		.bytes = sizeof(ip),
		.protocol = ip.nexthdr,
		.tos = traffic_class((__u8 *)&ip),
	};
	return 1;
}

/* Keeps the handoff option or the ask option, if a GUE header has that and nothing else in its private data. */
static __always_inline void read_option(struct __sk_buff *skb, __u32 at, __u32 bytes, struct outer *outer)
{
	struct {
		__u8 kind;
		__u8 version;
	} head;

	if (load(skb, at, &head, sizeof(head)))
		return;
	/*
	 * A version that this program does not know is a question too, to which nothing is to be answered, and a hand-over that
	 * makes nothing: the kernel would answer its packets with RST.
	 */
	outer->is_asked = bytes == ASK_BYTES && head.kind == ASK_KIND;
	outer->has_handoff = head.kind == HANDOFF_KIND;
	if (outer->has_handoff && head.version == HANDOFF_VERSION && bytes == HANDOFF_BYTES)
		load(skb, at + HANDOFF_AT_FLAGS, outer->handoff, sizeof(outer->handoff));
}

/*
 * Goes on over a GUE header to what is in it. Returns 1 if there is an IP packet. A UDP checksum is not verified: the
 * outer IPv4 header's own and the inner checksums cover what is used (RFC 6935, RFC 8085 section 3.4.1).
 */
static __always_inline int read_gue(struct __sk_buff *skb, struct outer *outer)
{
	struct {
		struct udphdr udp;
		struct gue gue;
	} header;

	if (load(skb, outer->bytes, &header, sizeof(header)) || header.udp.dest != bpf_htons(GUE_PORT))
		return 0;
	if (header.gue.lead & 0xe0 || (header.gue.protocol != IPPROTO_IPIP && header.gue.protocol != IPPROTO_IPV6)) {
		count(GUE_UNKNOWN);
		return 0;
	}
	if (header.gue.lead & 0x1f)
		read_option(skb, outer->bytes + sizeof(header), (header.gue.lead & 0x1f) * 4, outer);
	outer->bytes += sizeof(header) + (header.gue.lead & 0x1f) * 4;
	outer->protocol = header.gue.protocol;
	return 1;
}

static __always_inline int read_inner(struct __sk_buff *skb, const struct outer *outer, struct inner *inner)
{
	if (outer->protocol == IPPROTO_IPIP) {
		struct iphdr ip;

		if (load(skb, outer->bytes, &ip, sizeof(ip)) || ip.version != 4 || ip.ihl < 5)
			return 0;
		inner->destination = address_v4(ip.daddr);
		inner->tos = ip.tos;
	} else {
		struct ipv6hdr ip;

		if (load(skb, outer->bytes, &ip, sizeof(ip)) || ip.version != 6)
			return 0;
		inner->destination = address_v6(ip.daddr.in6_u.u6_addr32);
		inner->tos = traffic_class((__u8 *)&ip);
	}
	return 1;
}

enum ecn { NOT_ECT, ECT_1, ECT_0, CE };

/* RFC 6040 figure 4: the ECN field of the packet that goes on, or -1 if it is to be dropped. */
static __always_inline int combine_ecn(__u8 outer, __u8 inner)
{
	if (outer == CE)
		return inner == NOT_ECT ? -1 : CE;
	if (outer == ECT_1 && inner == ECT_0)
		return ECT_1;
	return inner;
}

static __always_inline int write_ecn_v4(struct __sk_buff *skb, __u8 ecn)
{
	__u8 old[2], new[2];

	if (load(skb, 0, old, sizeof(old)))
		return -1;
	new[0] = old[0];
	new[1] = (old[1] & ~ECN_MASK) | ecn;
	if (bpf_l3_csum_replace(skb, ETH_HLEN + 10, *(__u16 *)old, *(__u16 *)new, 2))
		return -1;
	return bpf_skb_store_bytes(skb, ETH_HLEN, new, sizeof(new), 0);
}

static __always_inline int write_ecn_v6(struct __sk_buff *skb, __u8 ecn)
{
	__u8 head[2];

	if (load(skb, 0, head, sizeof(head)))
		return -1;
	head[1] = (head[1] & ~(ECN_MASK << 4)) | (ecn << 4);
	return bpf_skb_store_bytes(skb, ETH_HLEN, head, sizeof(head), BPF_F_RECOMPUTE_CSUM);
}

/*
 * Removes the outer headers, which are of the other family than the packet in them. Before Linux 6.3 bpf_skb_adjust_room refuses to
 * change the family, and has changed nothing: then the outer header is made one of the inner family first, and so has another
 * length.
 */
static __always_inline int take_off_other(struct __sk_buff *skb, __s32 bytes, int inner_is_v4)
{
	__u64 flags = BPF_F_ADJ_ROOM_FIXED_GSO | (inner_is_v4 ? DECAP_L3_IPV4 : DECAP_L3_IPV6);
	__s32 longer = sizeof(struct ipv6hdr) - sizeof(struct iphdr);

	if (bpf_skb_adjust_room(skb, -bytes, BPF_ADJ_ROOM_MAC, flags) == 0)
		return 0;
	if (bpf_skb_change_proto(skb, bpf_htons(inner_is_v4 ? ETH_P_IP : ETH_P_IPV6), 0))
		return -1;
	bytes += inner_is_v4 ? -longer : longer;
	return bpf_skb_adjust_room(skb, -bytes, BPF_ADJ_ROOM_MAC, BPF_F_ADJ_ROOM_FIXED_GSO);
}

/* The state of the socket that would take the segment in, whose IP header is `at` there; 0 if there is none. */
static __always_inline int state_of(struct __sk_buff *skb, __u32 at, int is_v4)
{
	struct bpf_sock *socket;
	struct segment segment;
	int state;

	if (!read_segment_at(skb, at, is_v4, &segment))
		return 0;
	socket = find(skb, &segment, is_v4);
	if (!socket)
		return 0;
	state = socket->state;
	bpf_sk_release(socket);
	return state;
}

/*
 * Has a copy of the packet come behind it. baton_handoff ends the former connection by the packet itself; the copy then makes the new
 * one, which otherwise the client's repetition would, 200 ms later. Of a copy there is none: not everything can be ended so (tcp_rfc1337).
 */
static __always_inline void copy_behind(struct __sk_buff *skb)
{
	__u32 before = skb->mark;

	skb->mark = COMES_AGAIN | MOST_OFTEN;
	bpf_clone_redirect(skb, skb->ifindex, BPF_F_INGRESS);
	skb->mark = before;
}

/* Removes the outer headers and makes the Ethernet header name the inner family. */
static __always_inline int take_off(struct __sk_buff *skb, const struct outer *outer, int inner_is_v4)
{
	__be16 ethertype = bpf_htons(inner_is_v4 ? ETH_P_IP : ETH_P_IPV6);
	__s32 bytes = outer->bytes;

	if (skb->protocol == ethertype ? bpf_skb_adjust_room(skb, -bytes, BPF_ADJ_ROOM_MAC, BPF_F_ADJ_ROOM_FIXED_GSO)
				       : take_off_other(skb, bytes, inner_is_v4))
		return -1;
	return bpf_skb_store_bytes(skb, ETH_HLEN - sizeof(ethertype), &ethertype, sizeof(ethertype), 0);
}

/*
 * Whether this segment of a client is to be dropped. A connection that is frozen is this host's until its transfer is decided: who
 * asks for it is told so, though its packet does not go in, or it would be taken for nobody's and its client told.
 */
static __always_inline int arrives_kept_away(struct __sk_buff *skb, int is_v4, int is_asked)
{
	struct connection connection;
	struct segment segment;
	struct freeze *freeze;
	__u64 until;

	if (!read_segment(skb, is_v4, &segment))
		return 0;
	connection = (struct connection){
		.client = segment.source,
		.dvipa = segment.destination,
		.client_port = segment.tcp.source,
		.dvipa_port = segment.tcp.dest,
	};
	if (!is_kept_away(&connection, &segment.tcp, 0))
		return 0;
	freeze = is_asked ? freeze_of(&connection, &until) : 0;
	if (freeze && freeze->away != AWAY_DEPARTED)
		claim(&segment, CLAIMED);
	return 1;
}

/* Whether the kernel has this segment's connection. */
static __always_inline int is_made(struct __sk_buff *skb, int is_v4)
{
	int state = state_of(skb, 0, is_v4);

	return state && state != BPF_TCP_LISTEN && state != BPF_TCP_TIME_WAIT;
}

/*
 * The packet, as it is now, goes on to the kernel, unless its connection is frozen or has departed. If it has come again so often, and
 * the one before it has made no connection, a listener would answer it with RST.
 */
static __always_inline int leave(struct __sk_buff *skb, int is_v4, __u32 often)
{
	if (often && !is_made(skb, is_v4)) {
		if (often < MOST_OFTEN)
			return come_again(skb, often + 1);
		count(HANDOFF_ELSEWHERE);
		return DROP;
	}
	if (arrives_kept_away(skb, is_v4, 0))
		return DROP;
	note_datagram(skb, is_v4);
	return NEXT_PROGRAM;
}

/* The packet's source is no forwarder of its destination, or nothing usable is in it. */
static __always_inline int refuse(struct forwarder *from, int has_inner)
{
	int is_for_dvipa = has_inner && bpf_map_lookup_elem(&dvipas, &from->dvipa);

	from->dvipa = (struct address){};
	if (!bpf_map_lookup_elem(&forwarders, from)) {
		count(NOT_A_FORWARDER);
		return is_for_dvipa ? DROP : NEXT_PROGRAM;
	}
	count(!has_inner ? INNER_MALFORMED : is_for_dvipa ? NOT_THE_OWNERS : NOT_A_DVIPA);
	return DROP;
}

SEC("tc")
int baton_decapsulate(struct __sk_buff *skb)
{
	struct outer outer;
	struct inner inner;
	struct forwarder from = {};
	__u32 often = (skb->mark & AGAIN_MASK) == COMES_AGAIN ? skb->mark & ~AGAIN_MASK : 0;
	int is_v4, ecn, is_gue, has_inner;
	__u8 *takes;

	if (often)
		skb->mark = 0;

	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		if (!read_outer_v4(skb, &outer))
			return leave(skb, 1, often);
	} else if (skb->protocol == bpf_htons(ETH_P_IPV6)) {
		if (!read_outer_v6(skb, &outer))
			return leave(skb, 0, often);
	} else {
		return NEXT_PROGRAM;
	}
	is_gue = outer.protocol == IPPROTO_UDP;
	if (is_gue && !read_gue(skb, &outer))
		return leave(skb, skb->protocol == bpf_htons(ETH_P_IP), often);
	from.source = outer.source;
	has_inner = read_inner(skb, &outer, &inner);
	if (has_inner)
		from.dvipa = inner.destination;
	takes = has_inner ? bpf_map_lookup_elem(&forwarders, &from) : 0;
	if (!takes)
		return refuse(&from, has_inner);
	if (!bpf_map_lookup_elem(&dvipas, &inner.destination)) {
		count(NOT_A_DVIPA);
		return DROP;
	}
	if (*takes == TAKES_WHAT_IS_HERE) {
		outer.has_handoff = 0;
		outer.is_asked = 1;
	}
	ecn = combine_ecn(outer.tos & ECN_MASK, inner.tos & ECN_MASK);
	if (ecn < 0) {
		count(ECN_NOT_CAPABLE);
		return DROP;
	}

	is_v4 = outer.protocol == IPPROTO_IPIP;
	if (outer.has_handoff && !often && state_of(skb, outer.bytes, is_v4) == BPF_TCP_TIME_WAIT)
		copy_behind(skb);
	if (take_off(skb, &outer, is_v4)) {
		count(DECAPSULATION_FAILED);
		return DROP;
	}
	if (ecn != (inner.tos & ECN_MASK)) {
		if (is_v4 ? write_ecn_v4(skb, ecn) : write_ecn_v6(skb, ecn)) {
			count(DECAPSULATION_FAILED);
			return DROP;
		}
		count(ECN_MARKED);
	}
	count(is_gue ? DECAPSULATED_GUE : DECAPSULATED_IPIP);
	if (outer.has_handoff) {
		skb->cb[0] = outer.handoff[0];
		skb->cb[1] = outer.handoff[1];
		skb->cb[2] = outer.handoff[2];
		skb->cb[3] = outer.handoff[3];
		skb->cb[4] = outer.handoff[4];
		bpf_tail_call(skb, &handoff, 0);
	}
	if (arrives_kept_away(skb, is_v4, outer.is_asked))
		return DROP;
	note_datagram(skb, is_v4);
	if (outer.is_asked) {
		bpf_tail_call(skb, &ask, 0);
		count(ASKED_NOT_HERE);
		return DROP;
	}
	return NEXT_PROGRAM;
}

char LICENSE[] SEC("license") = "GPL";
