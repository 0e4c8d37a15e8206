/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Connections that may be put into a listener here by a packet that has the token, and whether one was. The kernel's own word
 * and not the agent's, because a connection can begin and end before the agent looks, or while there is none. Read and
 * written by `system::admissions`.
 */
#pragma once

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "connection.h"

#define ADMITTED 0
#define MADE 1

struct admission {
	__be64 token; /* as in the handoff option; never 0 */
	__u32 state;
	__u32 unused;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct connection);
	__type(value, struct admission);
} admitted SEC(".maps");
