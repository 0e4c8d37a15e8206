/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * What client and server of a connection said last: the head of the last answer and where in the stream it began, so that
 * the agent can tell whether the server is in the middle of one. 1 KiB a connection with a DVIPA, gone with its socket.
 */
#pragma once

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#define REQUEST_BYTES 160
#define RESPONSE_BYTES 768
#define TAIL_BYTES 8

/* What the server's answers look like. */
enum protocol {
	NOTHING_SAID = 0,
	HTTP_1 = 1,
	TLS = 2,
	ANOTHER = 3,
};

/* The connection was not seen from its beginning (a flag). */
#define SEEN_LATE 1
/* The numbers below are known (flags). */
#define SENT_KNOWN 2
#define RECEIVED_KNOWN 4
/* A request has begun that is not answered yet (a flag). */
#define REQUEST_BEGUN 8
/*
 * The client has not waited for an answer before it went on: which answer belongs to what is not known until all that it asked for
 * has begun to be answered (a flag).
 */
#define INTERLEAVED 16
/* So many requests are owed an answer that they were not counted, or it is not known how many. */
#define MANY_OWED 255

/* Read by the agent's `system::conversations`, which makes one for a socket that it has restored. */
struct conversation {
	__u32 sent_end;	      /* the sequence number after the server's last byte */
	__u32 received_end;   /* and after the client's */
	__u32 answered_end;   /* received_end when the last answer began */
	__u32 request_begin;  /* where the noted request begins */
	__u32 response_begin; /* where the noted answer begins */
	__u16 request_bytes;  /* how much of the request is noted */
	__u16 response_bytes; /* how much of the answer is noted */
	__u8 protocol;
	__u8 flags;
	__u8 owed; /* requests that have begun and whose answers have not, or MANY_OWED */
	__u8 padding;
	__u32 received_begin; /* the sequence number of the client's first byte */
	__u64 tail; /* the server's last bytes, the last one in the lowest byte */
	__u8 request[REQUEST_BYTES];
	__u8 response[RESPONSE_BYTES];
};

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct conversation);
} conversations SEC(".maps");
