/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Connections whose packets are kept away from this host's kernel, and its packets from the client: frozen ones, which are
 * being moved, and departed ones, whose late packets the kernel would answer with RST.
 *
 * Every entry ends by itself, so that an agent that dies leaves nothing for ever.
 */
#pragma once

#include "address.h"
#include "connection.h"
#include "counters.h"
#include "segment.h"

struct freeze {
	__u64 until_ns; /* CLOCK_MONOTONIC */
	__u64 departed; /* 0: frozen, 1: departed */
};

/* Read and written by the agent's `system::freezes`. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 131072);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct connection);
	__type(value, struct freeze);
} freezes SEC(".maps");

/* Whether this segment is to be dropped. A SYN ends what is known of a departed connection: it begins another one. */
static __always_inline int is_kept_away(const struct connection *connection, const struct tcphdr *tcp)
{
	struct freeze *freeze = bpf_map_lookup_elem(&freezes, connection);

	if (!freeze)
		return 0;
	if (bpf_ktime_get_ns() >= freeze->until_ns || (freeze->departed && tcp->syn && !tcp->ack)) {
		bpf_map_delete_elem(&freezes, connection);
		return 0;
	}
	count(freeze->departed ? DEPARTED_DROPPED : FROZEN_DROPPED);
	return 1;
}

/* From a client to a DVIPA. */
static __always_inline int arrives_kept_away(struct __sk_buff *skb, int is_v4)
{
	struct connection connection;
	struct segment segment;

	if (!read_segment(skb, is_v4, &segment))
		return 0;
	connection = (struct connection){
		.client = segment.source,
		.dvipa = segment.destination,
		.client_port = segment.tcp.source,
		.dvipa_port = segment.tcp.dest,
	};
	return is_kept_away(&connection, &segment.tcp);
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
	return is_kept_away(&connection, &segment.tcp);
}
