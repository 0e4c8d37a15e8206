/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * What the programs tell the agent. If the ring buffer is full, the event is counted as lost, and the agent looks at all
 * sockets again (sock_diag).
 */
#pragma once

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "address.h"
#include "counters.h"

enum kind {
	LISTENING = 1,
	LISTEN_ENDED,
	ESTABLISHED,
	ENDED,
	UDP_BOUND,
	CLAIMED,	 /* a routing stack asked for the connection, and it is here */
	CLAIMED_CLOSING, /* it is here, in TIME_WAIT */
	LISTENS_ELSEWHERE, /* a listen, or its end, in another network namespace */
	NOT_TAKEN,	   /* an admitted connection, and why in `cookie`: an error number, 0 if nobody listens */
	/* a connection whose token was given out ahead is not taken here, and never will be with it; why in `cookie`, as above */
	DECLINED = 11,
	ENDED_ANSWERED = 12, /* as ENDED, and its client has acknowledged bytes of its server */
	PORTS_LOW = 10,	   /* few ports of the DVIPA `local` are left that applications may be given */
};

/* Read by the agent's `system::events`. */
struct event {
	__u64 cookie;
	struct address local;
	struct address remote;
	__u32 ifindex; /* the interface that the socket is bound to, or 0 */
	__u16 local_port;
	__u16 remote_port;
	__u8 kind;
	__u8 v6;     /* the socket's family is IPv6 */
	__u8 v6only; /* IPV6_V6ONLY */
	__u8 padding[5];
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4 << 20);
} events SEC(".maps");

static __always_inline void tell(struct event *event, __u64 flags)
{
	if (bpf_ringbuf_output(&events, event, sizeof(*event), flags))
		count(EVENTS_LOST);
}
