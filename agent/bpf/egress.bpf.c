// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/*
 * Prepares what leaves this host with a DVIPA as its source (tc, egress): packets with SYN, and what begins an exchange here.
 *
 * - Segments of connections that are frozen or have departed are dropped.
 * - The MSS that this host offers (SYN and SYN-ACK) is clamped, so that the client's segments still fit into the fabric
 *   once a forwarder has encapsulated them.
 * - A SYN without ACK opens a connection from here. It goes, in GUE, to the routing stack, which makes the CRT entry and
 *   sends the SYN on: so the entry is there before the answer can be. If no routing stack is known, it leaves as it is.
 * - So does an ICMP echo request, and a datagram every few seconds of a UDP flow from whose other end none comes: a server's
 *   answers leave as they are. One that would be too long, or is not whole, leaves as it is.
 * - A datagram of this host's own to a DVIPA that others serve gets its source back.
 */
#include "address.h"
#include "counters.h"
#include "dvipas.h"
#include "flows.h"
#include "freezes.h"
#include "packet.h"
#include "source.h"

const volatile __u16 mss_v4 = 0; /* largest MSS to offer, in bytes */
const volatile __u16 mss_v6 = 0;
const volatile __u16 largest = 0; /* IP packet that may be encapsulated, in bytes */
const volatile struct address own_v6 = {}; /* of this host's own datagrams to DVIPAs; none if there is none */
const volatile __u32 encapsulated_ifindex = 0; /* the interface towards the routing stacks */

#define TCP_OPTIONS 20 /* options that are looked at; a kernel writes the MSS among the first */
#define OPTION_END 0
#define OPTION_NOP 1
#define OPTION_MSS 2

/* A packet with SYN that has a DVIPA as its source. */
struct syn {
	struct origin *origin;
	__u32 tcp; /* offset of the TCP header from the network header */
	__u32 options_bytes;
	__u8 protocol; /* of the packet in an outer header: IPPROTO_IPIP or IPPROTO_IPV6 */
	__u8 tos;
	__u8 opens; /* no ACK: the connection is opened here */
};

static __always_inline int read_syn(struct __sk_buff *skb, struct syn *syn)
{
	struct address source;
	struct tcphdr tcp;

	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		struct iphdr ip;

		if (load(skb, 0, &ip, sizeof(ip)) || ip.protocol != IPPROTO_TCP ||
		    ip.frag_off & bpf_htons(IPV4_FRAGMENT))
			return 0;
		source = address_v4(ip.saddr);
		*syn = (struct syn){ .tcp = ip.ihl * 4, .protocol = IPPROTO_IPIP, .tos = ip.tos };
	} else if (skb->protocol == bpf_htons(ETH_P_IPV6)) {
		struct ipv6hdr ip;

		if (load(skb, 0, &ip, sizeof(ip)) || ip.nexthdr != IPPROTO_TCP)
			return 0;
		source = address_v6(ip.saddr.in6_u.u6_addr32);
		*syn = (struct syn){
			.tcp = sizeof(ip), .protocol = IPPROTO_IPV6, .tos = traffic_class((__u8 *)&ip),
		};
	} else {
		return 0;
	}
	if (load(skb, syn->tcp, &tcp, sizeof(tcp)) || !tcp.syn || tcp.doff < 5)
		return 0;
	syn->options_bytes = tcp.doff * 4 - sizeof(tcp);
	syn->opens = !tcp.ack;
	syn->origin = bpf_map_lookup_elem(&dvipas, &source);
	return syn->origin != 0;
}

/* Writes a smaller MSS at this offset from the network header. An option at an odd offset is left: no kernel does that. */
static __always_inline void lower_mss(struct __sk_buff *skb, __u32 tcp, __u32 at, __be16 old, __u16 limit)
{
	__be16 new = bpf_htons(limit);

	if (bpf_ntohs(old) <= limit || at & 1)
		return;
	if (bpf_l4_csum_replace(skb, ETH_HLEN + tcp + 16, old, new, sizeof(new)))
		return;
	if (!bpf_skb_store_bytes(skb, ETH_HLEN + at, &new, sizeof(new), 0))
		count(MSS_CLAMPED);
}

static __always_inline void clamp_mss(struct __sk_buff *skb, const struct syn *syn, __u16 limit)
{
	__u32 at = syn->tcp + sizeof(struct tcphdr), end = at + syn->options_bytes;

	for (int i = 0; i < TCP_OPTIONS; i++) {
		struct {
			__u8 kind, length;
			__be16 mss;
		} option;

		if (at + sizeof(option) > end || load(skb, at, &option, sizeof(option)))
			return;
		if (option.kind == OPTION_MSS && option.length == sizeof(option)) {
			lower_mss(skb, syn->tcp, at + 2, option.mss, limit);
			return;
		}
		if (option.kind == OPTION_END)
			return;
		if (option.kind == OPTION_NOP) {
			at += 1;
			continue;
		}
		if (option.length < 2)
			return;
		at += option.length;
	}
}

/* UDP and GUE, for an IP packet of `inner_bytes`. Without UDP checksum (RFC 6935 for IPv6). */
struct gue_over_udp {
	struct udphdr udp;
	struct gue gue;
} __attribute__((packed));

static __always_inline struct gue_over_udp gue_header(__u8 protocol, __u32 hash, __u32 inner_bytes)
{
	return (struct gue_over_udp){
		.udp = {
			.source = bpf_htons(0xc000 | (hash & 0x3fff)),
			.dest = bpf_htons(GUE_PORT),
			.len = bpf_htons(sizeof(struct gue_over_udp) + inner_bytes),
		},
		.gue = { .protocol = protocol },
	};
}

/* Of ICMP and ICMPv6, as far as it is looked at. */
struct echo {
	__u8 kind, code;
	__be16 checksum;
};

#define ECHO_REQUEST 8
#define ECHO_REQUEST_V6 128

/* Whether a datagram of this flow came, or went through the routing stack, a moment ago. */
static __always_inline int is_known(const struct connection *flow)
{
	struct flow from = { .client = flow->client, .client_port = flow->client_port, .port = flow->dvipa_port };
	struct datagrams *came = bpf_map_lookup_elem(&flows, &from);
	__u64 now = bpf_ktime_get_boot_ns(), *last;

	if (came && address_equal(&came->dvipa, &flow->dvipa) && now - came->last_ns < FLOW_RENEWED_NS)
		return 1;
	last = bpf_map_lookup_elem(&begun, flow);
	if (last && now - *last < FLOW_RENEWED_NS)
		return 1;
	bpf_map_update_elem(&begun, flow, &now, BPF_ANY);
	return 0;
}

/*
 * Reads an echo request, or a datagram of a flow, that has to go through the routing stack. Returns 1 if it is one. Only
 * `origin`, `protocol` and `tos` are written.
 */
static __always_inline int read_begun(struct __sk_buff *skb, struct syn *begun)
{
	struct address source, destination;
	struct udphdr udp;
	struct echo echo;
	__u32 transport;
	__u8 protocol, request;

	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		struct iphdr ip;

		if (load(skb, 0, &ip, sizeof(ip)) || ip.frag_off & bpf_htons(IPV4_FRAGMENT))
			return 0;
		source = address_v4(ip.saddr);
		destination = address_v4(ip.daddr);
		transport = ip.ihl * 4;
		protocol = ip.protocol == IPPROTO_ICMP ? IPPROTO_ICMPV6 : ip.protocol;
		request = ECHO_REQUEST;
		*begun = (struct syn){ .protocol = IPPROTO_IPIP, .tos = ip.tos };
	} else if (skb->protocol == bpf_htons(ETH_P_IPV6)) {
		struct ipv6hdr ip;

		if (load(skb, 0, &ip, sizeof(ip)))
			return 0;
		source = address_v6(ip.saddr.in6_u.u6_addr32);
		destination = address_v6(ip.daddr.in6_u.u6_addr32);
		transport = sizeof(ip);
		protocol = ip.nexthdr;
		request = ECHO_REQUEST_V6;
		*begun = (struct syn){ .protocol = IPPROTO_IPV6, .tos = traffic_class((__u8 *)&ip) };
	} else {
		return 0;
	}
	if ((protocol != IPPROTO_UDP && protocol != IPPROTO_ICMPV6) || skb->gso_segs > 1 || skb->len - ETH_HLEN > largest)
		return 0;
	begun->origin = bpf_map_lookup_elem(&dvipas, &source);
	if (!begun->origin)
		return 0;
	if (protocol == IPPROTO_ICMPV6)
		return !load(skb, transport, &echo, sizeof(echo)) && echo.kind == request && echo.code == 0;
	if (load(skb, transport, &udp, sizeof(udp)))
		return 0;
	struct connection flow = {
		.client = destination, .dvipa = source, .client_port = udp.dest, .dvipa_port = udp.source,
	};
	return !is_known(&flow);
}

static __always_inline __u16 header_checksum(const struct iphdr *ip)
{
	const __u16 *word = (const __u16 *)ip;
	__u32 sum = 0;

#pragma unroll
	for (int i = 0; i < 10; i++)
		sum += word[i];
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

#define ENCAPSULATE (BPF_F_ADJ_ROOM_FIXED_GSO | BPF_F_ADJ_ROOM_ENCAP_L4_UDP)

static __always_inline int encapsulate_in_v4(struct __sk_buff *skb, const struct syn *syn, const struct origin *origin)
{
	struct {
		struct iphdr ip;
		struct gue_over_udp gue;
	} __attribute__((packed, aligned(4))) outer = {};
	__u32 inner_bytes = skb->len - ETH_HLEN, hash = bpf_get_hash_recalc(skb);

	if (bpf_skb_adjust_room(skb, sizeof(outer), BPF_ADJ_ROOM_MAC, ENCAPSULATE | BPF_F_ADJ_ROOM_ENCAP_L3_IPV4))
		return -1;
	outer.gue = gue_header(syn->protocol, hash, inner_bytes);
	outer.ip.version = 4;
	outer.ip.ihl = 5;
	outer.ip.tos = syn->tos;
	outer.ip.tot_len = bpf_htons(sizeof(outer) + inner_bytes);
	outer.ip.frag_off = bpf_htons(IPV4_DF);
	outer.ip.ttl = 64;
	outer.ip.protocol = IPPROTO_UDP;
	outer.ip.saddr = origin->from.word[3];
	outer.ip.daddr = origin->to.word[3];
	outer.ip.check = header_checksum(&outer.ip);
	return bpf_skb_store_bytes(skb, ETH_HLEN, &outer, sizeof(outer), 0);
}

static __always_inline int encapsulate_in_v6(struct __sk_buff *skb, const struct syn *syn, const struct origin *origin)
{
	struct {
		struct ipv6hdr ip;
		struct gue_over_udp gue;
	} __attribute__((packed, aligned(4))) outer = {};
	__u32 inner_bytes = skb->len - ETH_HLEN, hash = bpf_get_hash_recalc(skb);

	if (bpf_skb_adjust_room(skb, sizeof(outer), BPF_ADJ_ROOM_MAC, ENCAPSULATE | BPF_F_ADJ_ROOM_ENCAP_L3_IPV6))
		return -1;
	outer.gue = gue_header(syn->protocol, hash, inner_bytes);
	outer.ip.version = 6;
	outer.ip.priority = syn->tos >> 4;
	outer.ip.flow_lbl[0] = syn->tos << 4;
	outer.ip.payload_len = bpf_htons(sizeof(outer.gue) + inner_bytes);
	outer.ip.nexthdr = IPPROTO_UDP;
	outer.ip.hop_limit = 64;
	__builtin_memcpy(&outer.ip.saddr, &origin->from, sizeof(origin->from));
	__builtin_memcpy(&outer.ip.daddr, &origin->to, sizeof(origin->to));
	return bpf_skb_store_bytes(skb, ETH_HLEN, &outer, sizeof(outer), 0);
}

/* The new next hop is the routing stack's: the kernel looks it up and writes the Ethernet header. */
static __always_inline int to_routing_stack(struct __sk_buff *skb, const struct syn *syn)
{
	struct origin origin = *syn->origin;
	int failed;

	if (address_is_none(&origin.to)) {
		count(SYN_WITHOUT_ROUTING_STACK);
		return NEXT_PROGRAM;
	}
	failed = address_is_v4(&origin.to) ? encapsulate_in_v4(skb, syn, &origin) : encapsulate_in_v6(skb, syn, &origin);
	if (failed) {
		count(SYN_ENCAPSULATION_FAILED);
		return DROP;
	}
	count(SYN_ENCAPSULATED);
	return bpf_redirect_neigh(encapsulated_ifindex, 0, 0, 0);
}

/* A datagram that clients.bpf.c has sent here without a source, so that no route of lo was taken, gets it back. */
static __always_inline int give_source(struct __sk_buff *skb)
{
	struct address own = { .word = { own_v6.word[0], own_v6.word[1], own_v6.word[2], own_v6.word[3] } }, from, to;
	struct ipv6hdr ip;

	if (skb->protocol != bpf_htons(ETH_P_IPV6) || load(skb, 0, &ip, sizeof(ip)) || ip.nexthdr != IPPROTO_UDP)
		return 0;
	from = address_v6(ip.saddr.in6_u.u6_addr32);
	if (!address_is_none(&from))
		return 0;
	to = address_v6(ip.daddr.in6_u.u6_addr32);
	return bpf_map_lookup_elem(&dvipas, &to) ? change_source_v6(skb, &from, &own) : 0;
}

SEC("tc")
int baton_egress(struct __sk_buff *skb)
{
	struct syn syn;

	if (give_source(skb))
		return DROP;
	if (leaves_kept_away(skb, skb->protocol == bpf_htons(ETH_P_IP)))
		return DROP;
	if (read_begun(skb, &syn))
		return to_routing_stack(skb, &syn);
	if (!read_syn(skb, &syn))
		return NEXT_PROGRAM;
	clamp_mss(skb, &syn, syn.protocol == IPPROTO_IPIP ? mss_v4 : mss_v6);
	return syn.opens ? to_routing_stack(skb, &syn) : NEXT_PROGRAM;
}

char LICENSE[] SEC("license") = "GPL";
