/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* A connection that a routing stack asked for is here. */
#pragma once

#include "events.h"
#include "segment.h"

/* Tells the agent; a packet of a connection that is not frozen goes in. */
static __always_inline int claim(const struct segment *segment, enum kind kind)
{
	struct event event = {
		.kind = kind,
		.local = segment->destination,
		.remote = segment->source,
		.local_port = bpf_ntohs(segment->tcp.dest),
		.remote_port = bpf_ntohs(segment->tcp.source),
		.v6 = !address_is_v4(&segment->destination),
	};

	count(ASKED_CLAIMED);
	tell(&event, 0);
	return NEXT_PROGRAM;
}

static __always_inline int not_here(void)
{
	count(ASKED_NOT_HERE);
	return DROP;
}
