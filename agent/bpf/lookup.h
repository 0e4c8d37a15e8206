/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* The socket of a segment that arrives. */
#pragma once

#include "segment.h"

/* Of the agent's own network namespace; in any state, also a request or one in TIME_WAIT. To be released. */
static __always_inline struct bpf_sock *find(struct __sk_buff *skb, const struct segment *segment, int is_v4)
{
	struct bpf_sock_tuple tuple = {};

	if (is_v4) {
		tuple.ipv4.saddr = segment->source.word[3];
		tuple.ipv4.daddr = segment->destination.word[3];
		tuple.ipv4.sport = segment->tcp.source;
		tuple.ipv4.dport = segment->tcp.dest;
		return bpf_skc_lookup_tcp(skb, &tuple, sizeof(tuple.ipv4), BPF_F_CURRENT_NETNS, 0);
	}
	__builtin_memcpy(tuple.ipv6.saddr, segment->source.word, sizeof(tuple.ipv6.saddr));
	__builtin_memcpy(tuple.ipv6.daddr, segment->destination.word, sizeof(tuple.ipv6.daddr));
	tuple.ipv6.sport = segment->tcp.source;
	tuple.ipv6.dport = segment->tcp.dest;
	return bpf_skc_lookup_tcp(skb, &tuple, sizeof(tuple.ipv6), BPF_F_CURRENT_NETNS, 0);
}

/* Whether the packet is the last of a handshake of which this listener keeps nothing but the cookie (RFC 4987 3.6). */
static __always_inline int has_cookie(struct __sk_buff *skb, const struct segment *segment, struct bpf_sock *listener,
				      int is_v4)
{
	struct tcphdr tcp = segment->tcp;

	if (is_v4) {
		struct iphdr ip;

		return load(skb, 0, &ip, sizeof(ip)) == 0 &&
		       bpf_tcp_check_syncookie(listener, &ip, sizeof(ip), &tcp, sizeof(tcp)) == 0;
	} else {
		struct ipv6hdr ip;

		return load(skb, 0, &ip, sizeof(ip)) == 0 &&
		       bpf_tcp_check_syncookie(listener, &ip, sizeof(ip), &tcp, sizeof(tcp)) == 0;
	}
}
