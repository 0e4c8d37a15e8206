/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* The source of UDP datagrams that leave `lo` (clients.bpf.c) for an interface (egress.bpf.c). */
#pragma once

#include <stddef.h>

#include "address.h"
#include "packet.h"

/* Gives an IPv6 UDP datagram without extension headers another source. */
static __always_inline int change_source_v6(struct __sk_buff *skb, struct address *from, struct address *to)
{
	__u32 checksum = ETH_HLEN + sizeof(struct ipv6hdr) + offsetof(struct udphdr, check);
	__s64 difference = bpf_csum_diff(from->word, sizeof(*from), to->word, sizeof(*to), 0);

	if (difference < 0 || bpf_l4_csum_replace(skb, checksum, 0, difference, BPF_F_PSEUDO_HDR | BPF_F_MARK_MANGLED_0))
		return -1;
	return bpf_skb_store_bytes(skb, ETH_HLEN + offsetof(struct ipv6hdr, saddr), to, sizeof(*to), 0);
}
