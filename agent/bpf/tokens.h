/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Tokens that were given out ahead (`system::tokens`): a packet that has one may put its connection into a listener here, whatever
 * connection that is. A token is taken in one step (compare and exchange), by one packet; from then on it is that connection's, so that
 * the client's repetition makes the connection if the kernel has dropped the packet (a packet filter, a full accept queue). Once the
 * connection was made, or could not be, the token makes nothing any more.
 */
#pragma once

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "admissions.h"
#include "connection.h"

/* A token's last two bytes say where it is. */
#define TOKENS 65536

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, TOKENS);
	__type(key, __u32);
	__type(value, __be64); /* 0: none */
} tokens SEC(".maps");

/* Whose tokens are now: claimed, made or void. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, TOKENS);
	__type(key, struct connection);
	__type(value, struct admission);
} taken SEC(".maps");
