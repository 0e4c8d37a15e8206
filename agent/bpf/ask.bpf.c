// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/*
 * Says whether a connection is here that a routing stack has no entry for (tc, ingress; called by baton_decapsulate when the
 * packet came with the ask option and its connection is neither frozen nor departed).
 *
 * It is here if it has a socket in any state but LISTEN, a request that waits for its handshake or its first data included;
 * if a listener has given out the SYN cookie that the packet acknowledges; or if the host's DNAT sends it on to a container
 * (conntrack.bpf.c, which not every kernel can run). The packet then goes in as any other, and the agent tells the routing
 * stack. If not, it is dropped without a word: the kernel would answer it with RST.
 */
#include "claim.h"
#include "lookup.h"

/* What to do when no socket has it: baton_conntrack, or nothing. */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} conntrack SEC(".maps");

SEC("tc")
int baton_ask(struct __sk_buff *skb)
{
	int is_v4 = skb->protocol == bpf_htons(ETH_P_IP), is_here = 0, is_closing = 0;
	struct segment segment;
	struct bpf_sock *socket;

	if (!read_segment(skb, is_v4, &segment))
		return not_here();
	socket = find(skb, &segment, is_v4);
	if (socket) {
		is_closing = socket->state == BPF_TCP_TIME_WAIT;
		is_here = socket->state != BPF_TCP_LISTEN || has_cookie(skb, &segment, socket, is_v4);
		bpf_sk_release(socket);
	}
	if (is_here)
		return claim(&segment, is_closing ? CLAIMED_CLOSING : CLAIMED);
	bpf_tail_call(skb, &conntrack, 0);
	return not_here();
}

char LICENSE[] SEC("license") = "GPL";
