/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Headers and constants of packets on an Ethernet interface, as the tc programs see them. */
#pragma once

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define NEXT_PROGRAM (-1) /* TC_ACT_UNSPEC: other filters of this hook go on */
#define DROP 2		  /* TC_ACT_SHOT */

#define IPV4_FRAGMENT 0x3fff /* MF and the offset */
#define IPV4_OFFSET 0x1fff
#define IPV4_DF 0x4000
#define ECN_MASK 3
#define GUE_PORT 6080

/* draft-ietf-intarea-gue, variant 0. */
struct gue {
	__u8 lead; /* variant (2 bits), control (1), length of the options in words (5) */
	__u8 protocol;
	__be16 flags;
};

/*
 * Reads bytes that begin `offset` after the start of the network header. Not with bpf_skb_load_bytes_relative, which sees
 * only the linear part of a packet: some senders and drivers put everything behind the Ethernet header into fragments.
 */
static __always_inline int load(struct __sk_buff *skb, __u32 offset, void *to, __u32 bytes)
{
	return bpf_skb_load_bytes(skb, ETH_HLEN + offset, to, bytes);
}

/* The traffic class, out of the first two bytes of an IPv6 header. */
static __always_inline __u8 traffic_class(const __u8 head[2])
{
	return (head[0] << 4) | (head[1] >> 4);
}
