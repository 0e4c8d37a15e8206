/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * What tells a UDP flow that is opened here with a DVIPA from a server's answers: which ports are served for the routing
 * stacks, and when a datagram of the flow went through the routing stack last.
 */
#pragma once

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "connection.h"

/* UDP ports of DVIPAs that this host serves. Written by the agent's `system::maps`. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct service);
	__type(value, __u8);
} served SEC(".maps");

/* A datagram of each flow goes through the routing stack this often, so that its entry is there and stays. */
#define FLOW_RENEWED_NS 5000000000ULL

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct connection);
	__type(value, __u64); /* CLOCK_MONOTONIC, ns */
} begun SEC(".maps");
