// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/*
 * Answers of UDP servers bound to the wildcard address leave from the DVIPA that was asked (cgroup: sendmsg).
 *
 * In: a datagram that a socket of the agent's network namespace is about to send to an address that the call names, and no
 * source chosen: the socket is bound to the wildcard address, and the call brings no IP_PKTINFO or IPV6_PKTINFO. Out: with the
 * DVIPA as its source, if one of this client's datagrams came to this port of it (datagrams.h). The kernel runs these programs
 * for sendto(2), sendmsg(2) and sendmmsg(2) with an address; not for a socket that has connected itself to the client.
 */
#include "datagrams.h"

#define CONTINUE 1

const volatile __u64 netns_cookie = 0; /* the agent's own network namespace */

/* The DVIPA that this client has asked; none: it has asked no DVIPA of this host. */
static __always_inline struct address *asked(struct bpf_sock_addr *ctx, struct flow *flow)
{
	struct bpf_sock *socket = ctx->sk;
	struct datagrams *noted;

	if (!socket || bpf_get_netns_cookie(ctx) != netns_cookie)
		return NULL;
	flow->client_port = ctx->user_port;
	flow->port = bpf_htons(socket->src_port);
	noted = bpf_map_lookup_elem(&flows, flow);
	/* It may be this host's no longer. */
	return noted && bpf_map_lookup_elem(&dvipas, &noted->dvipa) ? &noted->dvipa : NULL;
}

SEC("cgroup/sendmsg4")
int baton_answers_v4(struct bpf_sock_addr *ctx)
{
	struct flow flow = { .client = address_v4(ctx->user_ip4) };
	struct address *dvipa;

	if (ctx->msg_src_ip4)
		return CONTINUE;
	dvipa = asked(ctx, &flow);
	if (dvipa && address_is_v4(dvipa))
		ctx->msg_src_ip4 = dvipa->word[3];
	return CONTINUE;
}

SEC("cgroup/sendmsg6")
int baton_answers_v6(struct bpf_sock_addr *ctx)
{
	struct flow flow = { .client = { .word = { ctx->user_ip6[0], ctx->user_ip6[1], ctx->user_ip6[2], ctx->user_ip6[3] } } };
	struct address *dvipa;

	if (ctx->msg_src_ip6[0] || ctx->msg_src_ip6[1] || ctx->msg_src_ip6[2] || ctx->msg_src_ip6[3])
		return CONTINUE;
	dvipa = asked(ctx, &flow);
	if (!dvipa || address_is_v4(dvipa))
		return CONTINUE;
	ctx->msg_src_ip6[0] = dvipa->word[0];
	ctx->msg_src_ip6[1] = dvipa->word[1];
	ctx->msg_src_ip6[2] = dvipa->word[2];
	ctx->msg_src_ip6[3] = dvipa->word[3];
	return CONTINUE;
}

char LICENSE[] SEC("license") = "GPL";
