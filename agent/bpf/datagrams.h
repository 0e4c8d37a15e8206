/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Which DVIPA a client's UDP datagrams came to: where a server bound to the wildcard address is to answer from. */
#pragma once

#include "address.h"
#include "dvipas.h"
#include "packet.h"

/* The client's end, and the port that it sent to. */
struct flow {
	struct address client;
	__be16 client_port;
	__be16 port;
};

struct datagrams {
	struct address dvipa;
	__u64 last_ns; /* when the last one came (CLOCK_BOOTTIME) */
};

/* Read by the agent too, which tells a routing stack that has just started of these flows. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 131072);
	__type(key, struct flow);
	__type(value, struct datagrams);
} flows SEC(".maps");

/* Reads the ends of a UDP datagram, or of its first fragment. Returns 1 if it is one. */
static __always_inline int read_datagram(struct __sk_buff *skb, int is_v4, struct flow *flow, struct address *to)
{
	__be16 ports[2];
	__u32 at;

	if (is_v4) {
		struct iphdr ip;

		if (load(skb, 0, &ip, sizeof(ip)) || ip.protocol != IPPROTO_UDP || ip.frag_off & bpf_htons(IPV4_OFFSET))
			return 0;
		flow->client = address_v4(ip.saddr);
		*to = address_v4(ip.daddr);
		at = ip.ihl * 4;
	} else {
		struct ipv6hdr ip;
		__u8 fragment[4]; /* next header, reserved, offset (13 bits) and flags */

		if (load(skb, 0, &ip, sizeof(ip)))
			return 0;
		at = sizeof(ip);
		if (ip.nexthdr == IPPROTO_FRAGMENT) {
			if (load(skb, at, fragment, sizeof(fragment)) || fragment[2] || fragment[3] & 0xf8)
				return 0;
			ip.nexthdr = fragment[0];
			at += 8;
		}
		if (ip.nexthdr != IPPROTO_UDP)
			return 0;
		flow->client = address_v6(ip.saddr.in6_u.u6_addr32);
		*to = address_v6(ip.daddr.in6_u.u6_addr32);
	}
	if (load(skb, at, ports, sizeof(ports)))
		return 0;
	flow->client_port = ports[0];
	flow->port = ports[1];
	return 1;
}

/*
 * Notes a datagram that is about to reach this host. One to another address than a DVIPA ends the note: its answer has to
 * come from there.
 */
static __always_inline void note_datagram(struct __sk_buff *skb, int is_v4)
{
	struct flow flow = {};
	struct datagrams *known, now = {};

	if (!read_datagram(skb, is_v4, &flow, &now.dvipa))
		return;
	known = bpf_map_lookup_elem(&flows, &flow);
	if (!bpf_map_lookup_elem(&dvipas, &now.dvipa)) {
		if (known)
			bpf_map_delete_elem(&flows, &flow);
		return;
	}
	now.last_ns = bpf_ktime_get_boot_ns();
	if (known && address_equal(&known->dvipa, &now.dvipa))
		known->last_ns = now.last_ns;
	else
		bpf_map_update_elem(&flows, &flow, &now, BPF_ANY);
}
