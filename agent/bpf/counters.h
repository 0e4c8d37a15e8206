/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* What the programs count. The agent's `counters` module has the sentences, in this order; a test compares the names. */
#pragma once

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

enum counter {
	DECAPSULATED_IPIP,
	DECAPSULATED_GUE,
	ECN_MARKED,
	NOT_A_FORWARDER,
	NOT_THE_OWNERS,
	NOT_A_DVIPA,
	INNER_MALFORMED,
	GUE_UNKNOWN,
	OUTER_FRAGMENT,
	ECN_NOT_CAPABLE,
	DECAPSULATION_FAILED,
	MSS_CLAMPED,
	SYN_ENCAPSULATED,
	SYN_WITHOUT_ROUTING_STACK,
	SYN_ENCAPSULATION_FAILED,
	FROZEN_DROPPED,
	DEPARTED_DROPPED,
	HANDED_OVER,
	HANDOFF_ELSEWHERE,
	HANDOFF_NO_LISTENER,
	HANDOFF_NOT_ADMITTED,
	HANDOFF_FAILED,
	ASKED_CLAIMED,
	ASKED_NOT_HERE,
	DATAGRAM_TOO_LONG,
	PORT_GIVEN,
	PORT_OF_THE_KERNEL,
	PORTS_USED_UP,
	PORT_ELSEWHERE,
	EVENTS_LOST,
	COUNTERS,
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, COUNTERS);
	__type(key, __u32);
	__type(value, __u64);
} counters SEC(".maps");

static __always_inline void count(enum counter which)
{
	__u32 key = which;
	__u64 *value = bpf_map_lookup_elem(&counters, &key);

	if (value)
		*value += 1; /* per CPU; a program is not interrupted by itself there */
}
