/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* TCP segments and whose they are. */
#pragma once

#include "address.h"
#include "packet.h"

/* A TCP segment with its addresses. */
struct segment {
	struct address source;
	struct address destination;
	__u32 tcp_offset; /* from the network header */
	struct tcphdr tcp;
};

/* Returns 1 if the packet begins a TCP segment: no later fragment, no extension headers. */
static __always_inline int read_segment(struct __sk_buff *skb, int is_v4, struct segment *segment)
{
	if (is_v4) {
		struct iphdr ip;

		if (load(skb, 0, &ip, sizeof(ip)) || ip.protocol != IPPROTO_TCP || ip.ihl < 5 ||
		    ip.frag_off & bpf_htons(IPV4_FRAGMENT & ~0x2000))
			return 0;
		segment->source = address_v4(ip.saddr);
		segment->destination = address_v4(ip.daddr);
		segment->tcp_offset = ip.ihl * 4;
	} else {
		struct ipv6hdr ip;

		if (load(skb, 0, &ip, sizeof(ip)) || ip.nexthdr != IPPROTO_TCP)
			return 0;
		segment->source = address_v6(ip.saddr.in6_u.u6_addr32);
		segment->destination = address_v6(ip.daddr.in6_u.u6_addr32);
		segment->tcp_offset = sizeof(ip);
	}
	return load(skb, segment->tcp_offset, &segment->tcp, sizeof(segment->tcp)) == 0;
}
