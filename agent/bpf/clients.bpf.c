// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/*
 * Lets programs of this host reach what others serve (cgroup: connect).
 *
 * A DVIPA is an address of every candidate target, so a connection to it would end in this host's own kernel, and be
 * refused if nothing listens here. If no socket of this host takes the connection, the socket is bound to the interface
 * that leads to the routing stacks: a route of `lo` does not fit it then, and its packets leave as any client's do. Where
 * this host has a listener, the connection stays here.
 *
 * An IPv6 socket is bound to the host's own address too, because RFC 6724 5 (rule 1) would make the DVIPA its source.
 */
#include "address.h"
#include "dvipas.h"

#include <linux/in.h>
#include <linux/in6.h>

#define AF_INET 2
#define AF_INET6 10
#define SOL_SOCKET 1
#define SO_BINDTOIFINDEX 62
#define CONTINUE 1

const volatile __u64 netns_cookie = 0;	     /* the agent's own network namespace */
const volatile __u32 ifindex = 0;	     /* the interface towards the routing stacks */
const volatile struct address own_v6 = {};   /* an address of that interface; none if there is none */

/* As address_v4 and address_v6; the context is read a word at a time (the verifier refuses wider reads). */
#define WORD(field) (*(volatile __u32 *)&(field))

/* Whether a socket of this host takes packets to this destination, from any sender. */
static __always_inline int is_served_here(struct bpf_sock_addr *ctx, const struct address *to, __be16 port)
{
	struct bpf_sock_tuple tuple = {};
	struct bpf_sock *found;
	__u32 bytes;

	if (address_is_v4(to)) {
		tuple.ipv4.daddr = to->word[3];
		tuple.ipv4.dport = port;
		bytes = sizeof(tuple.ipv4);
	} else {
		__builtin_memcpy(tuple.ipv6.daddr, to, sizeof(*to));
		tuple.ipv6.dport = port;
		bytes = sizeof(tuple.ipv6);
	}
	if (ctx->protocol == IPPROTO_TCP)
		found = bpf_sk_lookup_tcp(ctx, &tuple, bytes, BPF_F_CURRENT_NETNS, 0);
	else
		found = bpf_sk_lookup_udp(ctx, &tuple, bytes, BPF_F_CURRENT_NETNS, 0);
	if (!found)
		return 0;
	bpf_sk_release(found);
	return 1;
}

/* Returns 0 if the socket's own choice of a source stays, or an own one was set. */
static __always_inline int set_source_v6(struct bpf_sock_addr *ctx)
{
	struct sockaddr_in6 own = { .sin6_family = AF_INET6 };
	struct bpf_sock *socket = ctx->sk;

	if (!socket)
		return -1;
	if (socket->src_ip6[0] | socket->src_ip6[1] | socket->src_ip6[2] | socket->src_ip6[3])
		return 0;
	if ((own_v6.word[0] | own_v6.word[1] | own_v6.word[2] | own_v6.word[3]) == 0)
		return -1;
	own.sin6_addr.in6_u.u6_addr32[0] = own_v6.word[0];
	own.sin6_addr.in6_u.u6_addr32[1] = own_v6.word[1];
	own.sin6_addr.in6_u.u6_addr32[2] = own_v6.word[2];
	own.sin6_addr.in6_u.u6_addr32[3] = own_v6.word[3];
	return bpf_bind(ctx, (struct sockaddr *)&own, sizeof(own));
}

static __always_inline int connect(struct bpf_sock_addr *ctx, const struct address *to)
{
	__be16 port = WORD(ctx->user_port);
	int interface = ifindex;

	/* Name resolution connects to port 0 to learn a source address, and goes on with the same socket. */
	if (port == 0 || (ctx->protocol != IPPROTO_TCP && ctx->protocol != IPPROTO_UDP))
		return CONTINUE;
	if (!bpf_map_lookup_elem(&dvipas, to) || bpf_get_netns_cookie(ctx) != netns_cookie)
		return CONTINUE;
	if (is_served_here(ctx, to, port))
		return CONTINUE;
	if (!address_is_v4(to) && set_source_v6(ctx))
		return CONTINUE;
	bpf_setsockopt(ctx, SOL_SOCKET, SO_BINDTOIFINDEX, &interface, sizeof(interface));
	return CONTINUE;
}

SEC("cgroup/connect4")
int baton_connect_v4(struct bpf_sock_addr *ctx)
{
	struct address to = address_v4(WORD(ctx->user_ip4));

	return connect(ctx, &to);
}

SEC("cgroup/connect6")
int baton_connect_v6(struct bpf_sock_addr *ctx)
{
	struct address to = { .word = {
		WORD(ctx->user_ip6[0]), WORD(ctx->user_ip6[1]), WORD(ctx->user_ip6[2]), WORD(ctx->user_ip6[3]) } };

	return connect(ctx, &to);
}

char LICENSE[] SEC("license") = "GPL";
