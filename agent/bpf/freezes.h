/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Connections whose packets are kept away from this host's kernel, and its packets from the client: frozen ones, which are
 * being moved, and departed ones, whose late packets the kernel would answer with RST.
 *
 * Every entry ends by itself, so that an agent that dies leaves nothing for ever. The programs end an entry early in one step
 * (compare and exchange of its end) and never remove one: what the agent puts in its place meanwhile stays. The agent removes
 * what has ended.
 */
#pragma once

#include "address.h"
#include "connection.h"
#include "counters.h"
#include "segment.h"

enum away {
	AWAY_FROZEN,
	AWAY_DEPARTED,
	AWAY_DEAF, /* frozen, but what the client has not acknowledged is sent again: only its acknowledgment moves the connection */
};

struct freeze {
	__u64 until_ns; /* CLOCK_MONOTONIC */
	__u64 away;
};

/* Read and written by the agent's `system::freezes`. How many: `limits` of the agent's tests. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 2097152);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct connection);
	__type(value, struct freeze);
} freezes SEC(".maps");

/* The entry that keeps a connection's packets away now, and until when. */
static __always_inline struct freeze *freeze_of(const struct connection *connection, __u64 *until)
{
	struct freeze *freeze = bpf_map_lookup_elem(&freezes, connection);

	if (!freeze)
		return 0;
	*until = *(volatile __u64 *)&freeze->until_ns;
	return bpf_ktime_get_ns() < *until ? freeze : 0;
}

/* Lets the packets of this connection flow, unless it was frozen or has departed anew meanwhile. */
static __always_inline void end_freeze(const struct connection *connection)
{
	__u64 until;
	struct freeze *freeze = freeze_of(connection, &until);

	if (freeze)
		__sync_val_compare_and_swap(&freeze->until_ns, until, 0);
}

/* Whether this segment is to be dropped. A SYN ends what is known of a departed connection: it begins another one. */
static __always_inline int is_kept_away(const struct connection *connection, const struct tcphdr *tcp, int leaves)
{
	__u64 until;
	struct freeze *freeze = freeze_of(connection, &until);

	if (!freeze || (leaves && freeze->away == AWAY_DEAF && !tcp->rst && !tcp->fin))
		return 0;
	if (freeze->away == AWAY_DEPARTED && tcp->syn && !tcp->ack) {
		__sync_val_compare_and_swap(&freeze->until_ns, until, 0);
		return 0;
	}
	count(freeze->away == AWAY_DEPARTED ? DEPARTED_DROPPED : FROZEN_DROPPED);
	return 1;
}

/* From a DVIPA to a client. */
static __always_inline int leaves_kept_away(struct __sk_buff *skb, int is_v4)
{
	struct connection connection;
	struct segment segment;

	if (!read_segment(skb, is_v4, &segment))
		return 0;
	connection = (struct connection){
		.client = segment.destination,
		.dvipa = segment.source,
		.client_port = segment.tcp.dest,
		.dvipa_port = segment.tcp.source,
	};
	return is_kept_away(&connection, &segment.tcp, 1);
}
