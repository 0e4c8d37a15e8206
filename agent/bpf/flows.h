/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * What tells a UDP flow that is opened here with a DVIPA from a server's answers: whether a datagram of the flow came from its other
 * end lately (datagrams.h), which then has an entry at the routing stack, and when one of ours went through the routing stack last.
 */
#pragma once

#include "connection.h"
#include "datagrams.h"

/*
 * A datagram of each flow goes through the routing stack this often, so that its entry is there and stays; as long after the last
 * datagram that came is the entry known to be there.
 */
#define FLOW_RENEWED_NS 5000000000ULL

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct connection);
	__type(value, __u64); /* CLOCK_BOOTTIME, ns */
} begun SEC(".maps");
