// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/*
 * Lets containers of this host reach what others serve (tc, ingress, of interfaces that lead to containers).
 *
 * A DVIPA is an address of every candidate target, so a container's packet to it would end in this host's own kernel. One that
 * no socket of this host takes is marked, and a routing rule before the kernel's own (system/rules.rs) has marked packets to
 * DVIPAs leave as any client's do. The host's own translation of the container's address and its filters see them as they see all
 * that is forwarded; what DNAT sends elsewhere is no packet to a DVIPA any more when the rules are looked at.
 *
 * A TCP connection stays where its SYN went: only a SYN meets listeners.
 */
#include "dvipas.h"
#include "lookup.h"

const volatile __u32 mark = 0; /* one bit; the others are other programs' */

/* Whether a socket of this host takes the segment. */
static __always_inline int takes_segment(struct __sk_buff *skb, const struct segment *segment, int is_v4)
{
	struct bpf_sock *socket = find(skb, segment, is_v4);
	int takes;

	if (!socket)
		return 0;
	takes = socket->state != BPF_TCP_LISTEN || (segment->tcp.syn && !segment->tcp.ack) ||
		has_cookie(skb, segment, socket, is_v4);
	bpf_sk_release(socket);
	return takes;
}

/* Whether a socket of this host takes the datagram with these ports. */
static __always_inline int takes_datagram(struct __sk_buff *skb, const struct address *from, const struct address *to,
					  __u32 at, int is_v4)
{
	struct bpf_sock_tuple tuple = {};
	struct bpf_sock *socket;
	__be16 ports[2];

	if (load(skb, at, ports, sizeof(ports)))
		return 1;
	if (is_v4) {
		tuple.ipv4.saddr = from->word[3];
		tuple.ipv4.daddr = to->word[3];
		tuple.ipv4.sport = ports[0];
		tuple.ipv4.dport = ports[1];
		socket = bpf_sk_lookup_udp(skb, &tuple, sizeof(tuple.ipv4), BPF_F_CURRENT_NETNS, 0);
	} else {
		__builtin_memcpy(tuple.ipv6.saddr, from->word, sizeof(tuple.ipv6.saddr));
		__builtin_memcpy(tuple.ipv6.daddr, to->word, sizeof(tuple.ipv6.daddr));
		tuple.ipv6.sport = ports[0];
		tuple.ipv6.dport = ports[1];
		socket = bpf_sk_lookup_udp(skb, &tuple, sizeof(tuple.ipv6), BPF_F_CURRENT_NETNS, 0);
	}
	if (!socket)
		return 0;
	bpf_sk_release(socket);
	return 1;
}

/* A later fragment goes where the first one does: what tracks connections puts them together before the rules are looked at. */
static __always_inline int is_for_others(struct __sk_buff *skb, int is_v4)
{
	struct address from, to;
	struct segment segment;
	__u8 protocol;
	__u32 at;

	if (is_v4) {
		struct iphdr ip;

		if (load(skb, 0, &ip, sizeof(ip)) || ip.frag_off & bpf_htons(IPV4_OFFSET))
			return 0;
		from = address_v4(ip.saddr);
		to = address_v4(ip.daddr);
		protocol = ip.protocol;
		at = ip.ihl * 4;
	} else {
		struct ipv6hdr ip;
		__u8 fragment[4]; /* next header, reserved, offset (13 bits) and flags */

		if (load(skb, 0, &ip, sizeof(ip)))
			return 0;
		from = address_v6(ip.saddr.in6_u.u6_addr32);
		to = address_v6(ip.daddr.in6_u.u6_addr32);
		protocol = ip.nexthdr;
		at = sizeof(ip);
		if (protocol == IPPROTO_FRAGMENT) {
			if (load(skb, at, fragment, sizeof(fragment)) || fragment[2] || fragment[3] & 0xf8)
				return 0;
			protocol = fragment[0];
			at += 8;
		}
	}
	if (!bpf_map_lookup_elem(&dvipas, &to))
		return 0;
	if (protocol == IPPROTO_UDP)
		return !takes_datagram(skb, &from, &to, at, is_v4);
	return read_segment(skb, is_v4, &segment) && !takes_segment(skb, &segment, is_v4);
}

SEC("tc")
int baton_container(struct __sk_buff *skb)
{
	int is_v4 = skb->protocol == bpf_htons(ETH_P_IP);

	if ((is_v4 || skb->protocol == bpf_htons(ETH_P_IPV6)) && is_for_others(skb, is_v4))
		skb->mark |= mark;
	return NEXT_PROGRAM;
}

char LICENSE[] SEC("license") = "GPL";
