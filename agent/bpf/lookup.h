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
