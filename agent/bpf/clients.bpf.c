// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/*
 * Lets programs of this host reach what others serve (cgroup: connect and sendmsg; tc: egress of lo).
 *
 * A DVIPA is an address of every candidate target, so a connection to it would end in this host's own kernel, and be
 * refused if nothing listens here. If no socket of this host takes the connection, the socket is bound to the interface
 * that leads to the routing stacks: a route of `lo` does not fit it then, and its packets leave as any client's do. Where
 * this host has a listener, the connection stays here.
 *
 * An IPv6 socket is bound to the host's own address too, because RFC 6724 5 (rule 1) would make the DVIPA its source. One that
 * is bound to a port can't be bound again; the setting use_oif_addrs_only of the interface gives it an address of the interface.
 *
 * A UDP socket that is not connected can't be bound so: its next datagram may be for another address. Each of its datagrams that
 * no socket of this host takes gets the host's own address as its source, and is taken on its way out of `lo` to the interface
 * that leads to the routing stacks.
 */
#include "address.h"
#include "counters.h"
#include "dvipas.h"
#include "packet.h"
#include "source.h"

#include <linux/in6.h>

#define AF_INET 2
#define AF_INET6 10
#define SOL_SOCKET 1
#define SO_BINDTOIFINDEX 62
#define CONTINUE 1

const volatile __u64 netns_cookie = 0;	     /* the agent's own network namespace */
const volatile __u32 ifindex = 0;	     /* the interface towards the routing stacks */
const volatile struct address own_v4 = {};   /* addresses of that interface; none if there is none */
const volatile struct address own_v6 = {};

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

/* Returns 0 if the socket's own choice of a source stays, an own one was set, or the kernel will choose one of the interface. */
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
	if (socket->src_port)
		return 0;
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
	/* One that is bound to another interface, as a check of a server is to `lo`, is not to leave by this one. */
	if (ctx->sk && ctx->sk->bound_dev_if && ctx->sk->bound_dev_if != ifindex)
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

/* Whether a datagram of a socket that is not connected goes to a DVIPA that is not served here, from an address still to be chosen. */
static __always_inline int leaves(struct bpf_sock_addr *ctx, const struct address *to)
{
	struct bpf_sock *socket = ctx->sk;

	if (!bpf_map_lookup_elem(&dvipas, to) || bpf_get_netns_cookie(ctx) != netns_cookie)
		return 0;
	/* A socket that is bound to an interface meets no route of lo. */
	return socket && !socket->bound_dev_if && !is_served_here(ctx, to, WORD(ctx->user_port));
}

SEC("cgroup/sendmsg4")
int baton_send_v4(struct bpf_sock_addr *ctx)
{
	struct address to = address_v4(WORD(ctx->user_ip4));

	if (!ctx->msg_src_ip4 && own_v4.word[3] && leaves(ctx, &to))
		ctx->msg_src_ip4 = own_v4.word[3];
	return CONTINUE;
}

SEC("cgroup/sendmsg6")
int baton_send_v6(struct bpf_sock_addr *ctx)
{
	struct address to = { .word = {
		WORD(ctx->user_ip6[0]), WORD(ctx->user_ip6[1]), WORD(ctx->user_ip6[2]), WORD(ctx->user_ip6[3]) } };
	__u32 chosen = WORD(ctx->msg_src_ip6[0]) | WORD(ctx->msg_src_ip6[1]) | WORD(ctx->msg_src_ip6[2]) |
		       WORD(ctx->msg_src_ip6[3]);

	if (chosen || !own_v6.word[0] || !leaves(ctx, &to))
		return CONTINUE;
	ctx->msg_src_ip6[0] = own_v6.word[0];
	ctx->msg_src_ip6[1] = own_v6.word[1];
	ctx->msg_src_ip6[2] = own_v6.word[2];
	ctx->msg_src_ip6[3] = own_v6.word[3];
	return CONTINUE;
}

/* Whether a socket of this host takes this datagram. `tuple` is the packet's own. */
static __always_inline int is_taken(struct __sk_buff *skb, struct bpf_sock_tuple *tuple, __u32 bytes)
{
	struct bpf_sock *found = bpf_sk_lookup_udp(skb, tuple, bytes, BPF_F_CURRENT_NETNS, 0);

	if (!found)
		return 0;
	bpf_sk_release(found);
	return 1;
}

/* Returns 1 if the packet is a datagram to a DVIPA that nobody here takes, from an address that is no DVIPA. */
static __always_inline int is_for_others_v4(struct __sk_buff *skb)
{
	struct bpf_sock_tuple tuple = {};
	struct address from, to;
	struct iphdr ip;
	__be16 ports[2];

	if (load(skb, 0, &ip, sizeof(ip)) || ip.protocol != IPPROTO_UDP || ip.frag_off & bpf_htons(IPV4_OFFSET))
		return 0;
	from = address_v4(ip.saddr);
	to = address_v4(ip.daddr);
	if (!bpf_map_lookup_elem(&dvipas, &to) || bpf_map_lookup_elem(&dvipas, &from) ||
	    load(skb, ip.ihl * 4, ports, sizeof(ports)))
		return 0;
	tuple.ipv4.saddr = ip.saddr;
	tuple.ipv4.daddr = ip.daddr;
	tuple.ipv4.sport = ports[0];
	tuple.ipv4.dport = ports[1];
	return !is_taken(skb, &tuple, sizeof(tuple.ipv4));
}

/* The same, from the address that leads out. */
static __always_inline int is_for_others_v6(struct __sk_buff *skb)
{
	struct bpf_sock_tuple tuple = {};
	struct address from, to;
	struct ipv6hdr ip;
	__be16 ports[2];

	if (load(skb, 0, &ip, sizeof(ip)) || ip.nexthdr != IPPROTO_UDP)
		return 0;
	from = address_v6(ip.saddr.in6_u.u6_addr32);
	to = address_v6(ip.daddr.in6_u.u6_addr32);
	if (from.word[0] != own_v6.word[0] || from.word[1] != own_v6.word[1] || from.word[2] != own_v6.word[2] ||
	    from.word[3] != own_v6.word[3])
		return 0;
	if (!bpf_map_lookup_elem(&dvipas, &to) || load(skb, sizeof(ip), ports, sizeof(ports)))
		return 0;
	__builtin_memcpy(tuple.ipv6.saddr, &from, sizeof(from));
	__builtin_memcpy(tuple.ipv6.daddr, &to, sizeof(to));
	tuple.ipv6.sport = ports[0];
	tuple.ipv6.dport = ports[1];
	return !is_taken(skb, &tuple, sizeof(tuple.ipv6));
}

/* Nothing fragments on this way, and not every driver looks at the length. */
static __always_inline int is_too_long(struct __sk_buff *skb)
{
	__u32 mtu = 0;

	if (bpf_check_mtu(skb, ifindex, &mtu, 0, 0) == 0)
		return 0;
	count(DATAGRAM_TOO_LONG);
	return 1;
}

/* IPv6 takes a route of lo also for another interface, unless the packet has no source: baton_egress puts it back. */
static __always_inline int out_v6(struct __sk_buff *skb)
{
	struct address own = { .word = { own_v6.word[0], own_v6.word[1], own_v6.word[2], own_v6.word[3] } }, none = {};

	if (is_too_long(skb) || change_source_v6(skb, &own, &none))
		return DROP;
	return bpf_redirect_neigh(ifindex, 0, 0, 0);
}

static __always_inline int out_v4(struct __sk_buff *skb)
{
	return is_too_long(skb) ? DROP : bpf_redirect_neigh(ifindex, 0, 0, 0);
}

SEC("tc")
int baton_loopback(struct __sk_buff *skb)
{
	if (skb->protocol == bpf_htons(ETH_P_IP))
		return is_for_others_v4(skb) ? out_v4(skb) : NEXT_PROGRAM;
	if (skb->protocol == bpf_htons(ETH_P_IPV6))
		return is_for_others_v6(skb) ? out_v6(skb) : NEXT_PROGRAM;
	return NEXT_PROGRAM;
}

char LICENSE[] SEC("license") = "GPL";
