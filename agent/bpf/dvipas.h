/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* The DVIPAs of this host, and for each where the first SYN of a connection opened here with it goes. */
#pragma once

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "address.h"

struct origin {
	struct address to;   /* the routing stack's cluster address; none: no routing stack is known */
	struct address from; /* this stack's own, of the same family */
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, struct address);
	__type(value, struct origin);
} dvipas SEC(".maps");
