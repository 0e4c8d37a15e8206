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

#define EXTENSION_HEADERS 6 /* that are passed over: each kind but one may be there once (RFC 8200 4.1) */

/*
 * Goes over the extension headers of IPv6 (RFC 8200 4) to a TCP segment that begins at `at`. A fragment that is not the first, or
 * an encrypted packet, has none. Returns 1 if there is one.
 */
static __always_inline int skip_extensions(struct __sk_buff *skb, __u8 next, __u32 *at)
{
	for (int i = 0; i < EXTENSION_HEADERS && next != IPPROTO_TCP; i++) {
		struct {
			__u8 next, length;
			__be16 fragment;
		} header;

		if (load(skb, *at, &header, sizeof(header)))
			return 0;
		switch (next) {
		case IPPROTO_HOPOPTS:
		case IPPROTO_ROUTING:
		case IPPROTO_DSTOPTS:
			*at += (header.length + 1) * 8;
			break;
		case IPPROTO_FRAGMENT:
			if (header.fragment & bpf_htons(0xfff8))
				return 0;
			*at += 8;
			break;
		case IPPROTO_AH:
			*at += (header.length + 2) * 4;
			break;
		default:
			return 0;
		}
		next = header.next;
	}
	return next == IPPROTO_TCP;
}

/* Returns 1 if the packet whose header is `at` there begins a TCP segment: no later fragment. */
static __always_inline int read_segment_at(struct __sk_buff *skb, __u32 at, int is_v4, struct segment *segment)
{
	if (is_v4) {
		struct iphdr ip;

		if (load(skb, at, &ip, sizeof(ip)) || ip.protocol != IPPROTO_TCP || ip.ihl < 5 ||
		    ip.frag_off & bpf_htons(IPV4_FRAGMENT & ~0x2000))
			return 0;
		segment->source = address_v4(ip.saddr);
		segment->destination = address_v4(ip.daddr);
		segment->tcp_offset = at + ip.ihl * 4;
	} else {
		struct ipv6hdr ip;

		if (load(skb, at, &ip, sizeof(ip)))
			return 0;
		segment->source = address_v6(ip.saddr.in6_u.u6_addr32);
		segment->destination = address_v6(ip.daddr.in6_u.u6_addr32);
		segment->tcp_offset = at + sizeof(ip);
		if (!skip_extensions(skb, ip.nexthdr, &segment->tcp_offset))
			return 0;
	}
	return load(skb, segment->tcp_offset, &segment->tcp, sizeof(segment->tcp)) == 0;
}

static __always_inline int read_segment(struct __sk_buff *skb, int is_v4, struct segment *segment)
{
	return read_segment_at(skb, 0, is_v4, segment);
}
