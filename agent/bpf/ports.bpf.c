// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/*
 * Gives applications that bind to a DVIPA without naming a port one that no other host has (cgroup: bind, sock_release; syscall).
 *
 * In: bind(2) of a TCP or UDP socket of the agent's network namespace to a DVIPA that has a pool. Port 0 becomes a free port of one of
 * this host's blocks, beginning at a random one (RFC 6056); without a free one the call fails with EADDRINUSE, as the
 * kernel's does. A port that the call names stays, unless it is in a block of another host: EADDRINUSE too, because that
 * host may give it to an application at any moment. A DVIPA without a pool is left to the kernel.
 *
 * A port is free again when the agent says so, which looks at all sockets: connections outlive their listener, and TIME_WAIT its
 * socket.
 */
#include "counters.h"
#include "dvipas.h"
#include "events.h"
#include "ports.h"

#include <linux/errno.h>
#include <linux/in.h>

#define REFUSE 0
#define CONTINUE 1
#define ALL_FREE (~0ULL)
/* Ports that are tried for one call, because others of this host may have bound the wildcard address to them. */
#define TRIES 8

const volatile __u64 netns_cookie = 0; /* the agent's own network namespace */

/* The port that a socket got from here. */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct port);
} had SEC(".maps");

/* The number of the lowest bit that is set. */
static __always_inline __u32 lowest(__u64 word)
{
	__u32 at = 0;

	if (!(word & 0xffffffff))
		at += 32, word >>= 32;
	if (!(word & 0xffff))
		at += 16, word >>= 16;
	if (!(word & 0xff))
		at += 8, word >>= 8;
	if (!(word & 0xf))
		at += 4, word >>= 4;
	if (!(word & 0x3))
		at += 2, word >>= 2;
	return at + !(word & 0x1);
}

static __always_inline __u32 count_bits(__u64 word)
{
	word -= (word >> 1) & 0x5555555555555555ULL;
	word = (word & 0x3333333333333333ULL) + ((word >> 2) & 0x3333333333333333ULL);
	word = (word + (word >> 4)) & 0x0f0f0f0f0f0f0f0fULL;
	return (word * 0x0101010101010101ULL) >> 56;
}

static __always_inline int has(const __u64 *blocks, __u32 block)
{
	return blocks[(block / 64) & (WORDS_OF_BLOCKS - 1)] >> (block % 64) & 1;
}

/* Takes these ports out of the free ones; returns those that were free. */
static __always_inline __u64 take(struct pool *pool, __u32 block, __u64 ports)
{
	__u64 were = __sync_fetch_and_and(&pool->free[block & (BLOCKS - 1)], ~ports) & ports;

	if (were)
		__sync_fetch_and_add(&pool->left, -(__s64)count_bits(were));
	return were;
}

/* A search for a block with free ports. */
struct search {
	struct pool *pool;
	__u32 from;
	__u32 found;
};

static long look_at(__u32 step, struct search *search)
{
	__u32 block = (search->from + step) & (BLOCKS - 1);

	if (!search->pool->free[block])
		return 0;
	search->found = block;
	return 1;
}

/* A free port, taken; 0: there is none. */
static __always_inline __u32 take_any(struct pool *pool)
{
	struct search search = { .pool = pool, .from = bpf_get_prandom_u32(), .found = BLOCKS };
	__u32 block, bit, turn = bpf_get_prandom_u32() & 63;
	__u64 word, turned;

	bpf_loop(BLOCKS, look_at, &search, 0);
	block = search.found;
	if (block >= BLOCKS)
		return 0;
	word = pool->free[block & (BLOCKS - 1)];
	if (!word)
		return 0;
	turned = word >> turn | word << ((64 - turn) & 63);
	bit = (lowest(turned) + turn) & 63;
	return take(pool, block, 1ULL << bit) ? block * PORTS_A_BLOCK + bit : 0;
}

/* Whether a socket of this host takes what comes to the port: one that is bound to the wildcard address. */
static __always_inline int is_taken(struct bpf_sock_addr *ctx, const struct address *dvipa, __u32 port)
{
	struct bpf_sock_tuple tuple = {};
	struct bpf_sock *socket;
	__u32 bytes;

	if (address_is_v4(dvipa)) {
		tuple.ipv4.daddr = dvipa->word[3];
		tuple.ipv4.dport = bpf_htons(port);
		bytes = sizeof(tuple.ipv4);
	} else {
		__builtin_memcpy(tuple.ipv6.daddr, dvipa->word, sizeof(tuple.ipv6.daddr));
		tuple.ipv6.dport = bpf_htons(port);
		bytes = sizeof(tuple.ipv6);
	}
	if (ctx->protocol == IPPROTO_UDP)
		socket = bpf_sk_lookup_udp(ctx, &tuple, bytes, BPF_F_CURRENT_NETNS, 0);
	else
		socket = bpf_sk_lookup_tcp(ctx, &tuple, bytes, BPF_F_CURRENT_NETNS, 0);
	if (!socket)
		return 0;
	bpf_sk_release(socket);
	return 1;
}

/* Notes which port the socket has; the one that it had before is in no socket's name any more. */
static __always_inline void note(struct bpf_sock_addr *ctx, const struct address *dvipa, __u32 port)
{
	struct bpf_sock *socket = ctx->sk;
	struct port key = { .dvipa = *dvipa, .port = port }, *before;
	__u64 cookie = bpf_get_socket_cookie(ctx);

	if (!socket)
		return;
	before = bpf_sk_storage_get(&had, socket, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!before)
		return;
	if (before->port)
		bpf_map_delete_elem(&bound, before);
	*before = key;
	bpf_map_update_elem(&bound, &key, &cookie, BPF_ANY);
}

static __always_inline void tell_of_low(const struct address *dvipa)
{
	struct event event = { .kind = PORTS_LOW, .local = *dvipa, .v6 = !address_is_v4(dvipa) };

	tell(&event, 0);
}

static __always_inline int refuse(enum counter why)
{
	count(why);
	bpf_set_retval(-EADDRINUSE);
	return REFUSE;
}

static __always_inline int bind_any(struct bpf_sock_addr *ctx, const struct address *dvipa, struct pool *pool)
{
	__s64 before = pool->left;

	for (int i = 0; i < TRIES; i++) {
		__u32 port = take_any(pool);

		if (!port || is_taken(ctx, dvipa, port))
			continue;
		ctx->user_port = bpf_htons(port);
		note(ctx, dvipa, port);
		count(PORT_GIVEN);
		if (before >= pool->low && pool->left < pool->low)
			tell_of_low(dvipa);
		return CONTINUE;
	}
	tell_of_low(dvipa);
	return refuse(PORTS_USED_UP);
}

static __always_inline int bind_to(struct bpf_sock_addr *ctx, const struct address *dvipa)
{
	__u32 port = bpf_ntohs(ctx->user_port), block = port / PORTS_A_BLOCK;
	struct pool *pool;

	/* The compiler knows how large a block's number is and drops the masks; Linux 6.1 does not know it of a swapped word. */
	barrier_var(block);
	if (bpf_get_netns_cookie(ctx) != netns_cookie)
		return CONTINUE;
	if (ctx->protocol != IPPROTO_TCP && ctx->protocol != IPPROTO_UDP)
		return CONTINUE;
	pool = bpf_map_lookup_elem(&pools, dvipa);
	if (!pool) {
		if (!port && bpf_map_lookup_elem(&dvipas, dvipa))
			count(PORT_OF_THE_KERNEL);
		return CONTINUE;
	}
	if (!port)
		return bind_any(ctx, dvipa, pool);
	if (has(pool->elsewhere, block))
		return refuse(PORT_ELSEWHERE);
	if (has(pool->granted, block)) {
		take(pool, block, 1ULL << (port % PORTS_A_BLOCK));
		note(ctx, dvipa, port);
	}
	return CONTINUE;
}

SEC("cgroup/bind4")
int baton_bind_v4(struct bpf_sock_addr *ctx)
{
	struct address dvipa = address_v4(ctx->user_ip4);

	return bind_to(ctx, &dvipa);
}

SEC("cgroup/bind6")
int baton_bind_v6(struct bpf_sock_addr *ctx)
{
	struct address dvipa = { .word = { ctx->user_ip6[0], ctx->user_ip6[1], ctx->user_ip6[2], ctx->user_ip6[3] } };

	return bind_to(ctx, &dvipa);
}

SEC("cgroup/sock_release")
int baton_released(struct bpf_sock *ctx)
{
	struct port *had_port = bpf_sk_storage_get(&had, ctx, 0, 0);
	__u64 cookie, *holder;

	if (!had_port || !had_port->port)
		return CONTINUE;
	cookie = bpf_get_socket_cookie(ctx);
	holder = bpf_map_lookup_elem(&bound, had_port);
	if (holder && *holder == cookie)
		bpf_map_delete_elem(&bound, had_port);
	return CONTINUE;
}

/* The only way in which a pool is changed, but for the ports that are taken: so that no call is between reading and writing. */
SEC("syscall")
int baton_order(struct order *order)
{
	struct address dvipa = order->dvipa;
	struct pool *pool = bpf_map_lookup_elem(&pools, &dvipa);
	__u32 block = order->block & (BLOCKS - 1);
	__u64 bit = 1ULL << (block % 64), were;

	if (!pool)
		return 0;
	switch (order->deed) {
	case GRANT:
		if (has(pool->granted, block))
			return 0;
		pool->granted[block / 64] |= bit;
		__sync_lock_test_and_set(&pool->free[block], ALL_FREE);
		__sync_fetch_and_add(&pool->left, PORTS_A_BLOCK);
		break;
	case WITHDRAW:
		if (__sync_val_compare_and_swap(&pool->free[block], ALL_FREE, 0) != ALL_FREE)
			return 0;
		__sync_fetch_and_add(&pool->left, -PORTS_A_BLOCK);
		pool->granted[block / 64] &= ~bit;
		break;
	case REVOKE:
		pool->granted[block / 64] &= ~bit;
		take(pool, block, ALL_FREE);
		break;
	case FREE:
		if (!has(pool->granted, block))
			return 0;
		were = __sync_fetch_and_or(&pool->free[block], order->ports);
		__sync_fetch_and_add(&pool->left, count_bits(order->ports & ~were));
		break;
	case TAKE:
		take(pool, block, order->ports);
		break;
	case ELSEWHERE:
		pool->elsewhere[block & (WORDS_OF_BLOCKS - 1)] = order->ports;
		break;
	case LOW:
		pool->low = order->ports;
		break;
	default:
		return 0;
	}
	return 1;
}

char LICENSE[] SEC("license") = "GPL";
