// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/*
 * Says whether the host's DNAT knows a connection (tc, ingress; called by baton_ask when no socket has it). It is a
 * container's then, behind this host's own address translation.
 */
#include "claim.h"

#define IPS_DST_NAT (1UL << 5) /* include/uapi/linux/netfilter/nf_conntrack_common.h */

struct nf_conn {
	unsigned long status;
} __attribute__((preserve_access_index));

/* As in net/netfilter/nf_conntrack_bpf.c (Linux 5.18): the part that every later kernel takes. */
struct bpf_ct_opts {
	__s32 netns_id;
	__s32 error;
	__u8 l4proto;
	__u8 dir;
	__u8 reserved[2];
};

extern struct nf_conn *bpf_skb_ct_lookup(struct __sk_buff *skb, struct bpf_sock_tuple *tuple, __u32 tuple__sz,
					 struct bpf_ct_opts *opts, __u32 opts__sz) __ksym;
extern void bpf_ct_release(struct nf_conn *connection) __ksym;

#define CURRENT_NETNS (-1)

SEC("tc")
int baton_conntrack(struct __sk_buff *skb)
{
	int is_v4 = skb->protocol == bpf_htons(ETH_P_IP), translated;
	struct bpf_ct_opts opts = { .netns_id = CURRENT_NETNS, .l4proto = IPPROTO_TCP };
	struct bpf_sock_tuple tuple = {};
	struct nf_conn *connection;
	struct segment segment;

	if (!read_segment(skb, is_v4, &segment))
		return not_here();
	if (is_v4) {
		tuple.ipv4.saddr = segment.source.word[3];
		tuple.ipv4.daddr = segment.destination.word[3];
		tuple.ipv4.sport = segment.tcp.source;
		tuple.ipv4.dport = segment.tcp.dest;
		connection = bpf_skb_ct_lookup(skb, &tuple, sizeof(tuple.ipv4), &opts, sizeof(opts));
	} else {
		__builtin_memcpy(tuple.ipv6.saddr, segment.source.word, sizeof(tuple.ipv6.saddr));
		__builtin_memcpy(tuple.ipv6.daddr, segment.destination.word, sizeof(tuple.ipv6.daddr));
		tuple.ipv6.sport = segment.tcp.source;
		tuple.ipv6.dport = segment.tcp.dest;
		connection = bpf_skb_ct_lookup(skb, &tuple, sizeof(tuple.ipv6), &opts, sizeof(opts));
	}
	if (!connection)
		return not_here();
	translated = !!(connection->status & IPS_DST_NAT);
	bpf_ct_release(connection);
	return translated ? claim(&segment, CLAIMED) : not_here();
}

char LICENSE[] SEC("license") = "GPL";
