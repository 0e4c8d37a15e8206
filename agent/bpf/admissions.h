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

/*
 * How far it is. A packet claims an admission or the agent voids it, each in one step (compare and exchange), never both: what a
 * packet has claimed on one processor the agent does not call void on another. Between claim and connection the kernel may still
 * drop the packet (a packet filter, a full accept queue): when the agent has seen that it did, it opens the admission again. No
 * second packet may claim it before, which could make the connection when that of the first has ended or moved on.
 */
#define ADMISSION_OPEN 0
#define ADMISSION_CLAIMED 1 /* by a packet of which the kernel makes the connection, or which it drops */
#define ADMISSION_CLOSING 2 /* the same, and it is not opened again */
#define ADMISSION_MADE 3
#define ADMISSION_VOID 4

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
