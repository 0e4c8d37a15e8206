// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/*
 * Puts a live connection into a listener from one of its own packets (tc, ingress; called by baton_decapsulate when the
 * packet came with a handoff option, which is in the control block).
 *
 * The kernel builds the established connection from the packet's sequence numbers and from what the option says was agreed
 * on, puts it on the accept queue, and takes the payload as the first unread bytes (bpf_sk_assign_tcp_reqsk). Only a
 * packet that begins at the option's start and acknowledges all that the client was sent can do that, because this host has
 * nothing of it to send again; and only one with the token of the agent's admission, once: a late packet of a former hand-over
 * has another token, and a late copy must not bring back what has ended. If the connection is there already, the option means
 * nothing. A packet that could do neither comes again behind the others of its batch, and is dropped if there is no connection
 * then: a listener would answer it with RST. The client sends it again. If the kernel would not take another one either, or nobody
 * listens, the agent is told at once.
 *
 * Instead of an admission of this connection, a token that the agent gave out ahead will do (tokens.h).
 *
 * What the kernel keeps of a connection of the same ends that has ended here (TIME_WAIT) would be in the way: it is ended by the packet,
 * of which a copy comes behind it (baton_decapsulate).
 *
 * A packet without the token is kept away as any other packet of a connection that is frozen here or has departed from here; one
 * with it is let in and ends that.
 */
#include <stddef.h>

#include "address.h"
#include "admissions.h"
#include "counters.h"
#include "events.h"
#include "freezes.h"
#include "handoff.h"
#include "lookup.h"
#include "tokens.h"

#define EINVAL 22
#define ENOBUFS 105

/* As in include/net/tcp.h (Linux 6.9). */
struct bpf_tcp_req_attrs {
	__u32 rcv_tsval;
	__u32 rcv_tsecr;
	__u16 mss;
	__u8 rcv_wscale;
	__u8 snd_wscale;
	__u8 ecn_ok;
	__u8 wscale_ok;
	__u8 sack_ok;
	__u8 tstamp_ok;
	__u8 usec_ts_ok;
	__u8 reserved[3];
};

/* What is read of a listener. */
struct sock {
	__u32 sk_ack_backlog;
	__u32 sk_max_ack_backlog;
} __attribute__((preserve_access_index));

/* What is read of a connection in TIME_WAIT. */
struct sock_common {
	__u32 skc_tw_rcv_nxt;
} __attribute__((preserve_access_index));

struct inet_timewait_sock {
	struct sock_common __tw_common;
} __attribute__((preserve_access_index));

struct tcp_timewait_sock {
	struct inet_timewait_sock tw_sk;
} __attribute__((preserve_access_index));

extern int bpf_sk_assign_tcp_reqsk(struct __sk_buff *s, struct sock *sk, struct bpf_tcp_req_attrs *attrs,
				   int attrs__sz) __ksym;

struct option {
	__u8 bytes[HANDOFF_BYTES];
};

static __always_inline __u32 big_endian(const __u8 *bytes, int count)
{
	__u32 value = 0;

#pragma unroll
	for (int i = 0; i < count; i++)
		value = value << 8 | bytes[i];
	return value;
}

#define TCP_OPTIONS 20
#define OPTION_END 0
#define OPTION_NOP 1
#define OPTION_TIMESTAMPS 8

/* Finds the timestamps (RFC 7323 3.2). Returns 1 if there are any. */
static __always_inline int read_timestamps(struct __sk_buff *skb, const struct segment *segment,
					   struct bpf_tcp_req_attrs *attrs)
{
	__u32 at = segment->tcp_offset + sizeof(struct tcphdr), end = segment->tcp_offset + segment->tcp.doff * 4;

	for (int i = 0; i < TCP_OPTIONS; i++) {
		__be32 values[2];
		__u8 head[2];

		if (at + sizeof(head) > end || load(skb, at, head, sizeof(head)) || head[0] == OPTION_END)
			return 0;
		if (head[0] == OPTION_NOP) {
			at += 1;
			continue;
		}
		if (head[0] == OPTION_TIMESTAMPS && head[1] == sizeof(head) + sizeof(values)) {
			if (load(skb, at + sizeof(head), values, sizeof(values)))
				return 0;
			attrs->rcv_tsval = bpf_ntohl(values[0]);
			attrs->rcv_tsecr = bpf_ntohl(values[1]);
			return 1;
		}
		if (head[1] < sizeof(head))
			return 0;
		at += head[1];
	}
	return 0;
}

/* What the connection has agreed on, as the option and the packet say. Returns 1 if the packet says it. */
static __always_inline int read_attrs(struct __sk_buff *skb, const struct segment *segment, const struct option *option,
				      struct bpf_tcp_req_attrs *attrs)
{
	__u8 flags = option->bytes[HANDOFF_AT_FLAGS], scales = option->bytes[HANDOFF_AT_SCALES];

	*attrs = (struct bpf_tcp_req_attrs){
		.mss = big_endian(option->bytes + HANDOFF_AT_MSS, 2),
		.wscale_ok = !!(flags & HANDOFF_SCALES),
		.snd_wscale = scales >> 4,
		.rcv_wscale = scales & 15,
		.sack_ok = !!(flags & HANDOFF_SACK),
		.ecn_ok = !!(flags & HANDOFF_ECN),
	};
	if (flags & HANDOFF_TIMESTAMPS) {
		if (!read_timestamps(skb, segment, attrs))
			return 0;
		attrs->tstamp_ok = 1;
		attrs->usec_ts_ok = !!(flags & HANDOFF_MICROSECONDS);
	}
	return 1;
}

/* Makes the connection on this listener. Returns 0, or the kernel's error. */
static __always_inline int create(struct __sk_buff *skb, struct bpf_tcp_req_attrs *attrs, struct bpf_sock *listener)
{
	struct sock *full = (struct sock *)bpf_skc_to_tcp_sock(listener);

	return full ? bpf_sk_assign_tcp_reqsk(skb, full, attrs, sizeof(*attrs)) : -EINVAL;
}

/* The admission whose token this option has, if its connection is not made, nor is it void. */
static __always_inline struct admission *admission_of(const struct connection *connection, const struct option *option)
{
	struct admission *admission = bpf_map_lookup_elem(&admitted, connection);
	__be64 token;

	__builtin_memcpy(&token, option->bytes + HANDOFF_AT_TOKEN, sizeof(token));
	if (!admission || admission->token != token || admission->state > ADMISSION_CLAIMED)
		return 0;
	return admission;
}

/* In one step: baton_void comes before it or after it, and so does another packet. Returns 1 if this packet makes the connection. */
static __always_inline int claim(struct admission *admission)
{
	return __sync_val_compare_and_swap(&admission->state, ADMISSION_OPEN, ADMISSION_CLAIMED) == ADMISSION_OPEN;
}

/* This packet makes no connection after all. If the agent closes it in between, that stays. */
static __always_inline void unclaim(struct admission *admission)
{
	__sync_val_compare_and_swap(&admission->state, ADMISSION_CLAIMED, ADMISSION_OPEN);
}

/* Where the token is, if it was given out ahead and nobody has taken it. */
static __always_inline __be64 *open_token(__be64 token)
{
	__u32 at = bpf_be64_to_cpu(token) % TOKENS;
	__be64 *open = bpf_map_lookup_elem(&tokens, &at);

	return open && token && *open == token ? open : 0;
}

/* What the token means that was given out ahead: 0 if this packet can't make the connection with it. */
static __always_inline int is_ahead(const struct connection *connection, __be64 token)
{
	struct admission *mine = bpf_map_lookup_elem(&taken, connection);

	if (mine && mine->token == token)
		return mine->state == ADMISSION_CLAIMED;
	return !!open_token(token);
}

/* Takes it. Returns 1 if it is this connection's. */
static __always_inline int take(const struct connection *connection, __be64 token)
{
	struct admission *mine = bpf_map_lookup_elem(&taken, connection), new = {
		.token = token, .state = ADMISSION_CLAIMED,
	};
	__be64 *open;

	if (mine && mine->token == token)
		return mine->state == ADMISSION_CLAIMED;
	open = open_token(token);
	if (!open || __sync_val_compare_and_swap(open, token, 0) != token)
		return 0;
	return bpf_map_update_elem(&taken, connection, &new, BPF_ANY) == 0;
}

/* No packet makes the connection with it any more. Returns 1 if none has. */
static __always_inline int spoil(const struct connection *connection, __be64 token)
{
	struct admission *mine;

	if (!take(connection, token))
		return 0;
	mine = bpf_map_lookup_elem(&taken, connection);
	return mine && mine->token == token &&
	       __sync_val_compare_and_swap(&mine->state, ADMISSION_CLAIMED, ADMISSION_VOID) == ADMISSION_CLAIMED;
}

static __always_inline int is_full(struct bpf_sock *listener)
{
	struct sock *full = (struct sock *)bpf_skc_to_tcp_sock(listener);

	return full && full->sk_ack_backlog > full->sk_max_ack_backlog;
}

static __always_inline int drop(enum counter why)
{
	count(why);
	return DROP;
}

/* The kernel does not take this connection, and would not from another packet. */
static __always_inline int tell_not_taken(const struct connection *connection, enum kind kind, int error, enum counter why)
{
	struct event event = {
		.kind = kind,
		.cookie = error,
		.local = connection->dvipa,
		.remote = connection->client,
		.local_port = bpf_ntohs(connection->dvipa_port),
		.remote_port = bpf_ntohs(connection->client_port),
	};

	tell(&event, 0);
	return drop(why);
}

static __always_inline int not_taken(const struct connection *connection, int error, enum counter why)
{
	return tell_not_taken(connection, NOT_TAKEN, -error, why);
}

/* The same of a connection whose token was given out ahead: another target may get it. */
static __always_inline int declined(const struct connection *connection, __be64 token, int error, enum counter why)
{
	return spoil(connection, token) ? tell_not_taken(connection, DECLINED, error, why) : drop(why);
}

/* The option means nothing: the packet is treated as any other. */
static __always_inline int goes_on(const struct connection *connection, const struct segment *segment)
{
	return is_kept_away(connection, &segment->tcp, 0) ? DROP : NEXT_PROGRAM;
}

#define WORD_AT_FLAGS 12 /* the word of a TCP header that has them, and its length */

/*
 * Makes the packet the RST that ends a connection in TIME_WAIT (RFC 9293 3.10.7.4). A SYN would end it too, but there is none. The token
 * says that its client has a new connection.
 */
static __always_inline void end_former(struct __sk_buff *skb, const struct segment *segment, struct bpf_sock *socket)
{
	struct tcp_timewait_sock *former = bpf_skc_to_tcp_timewait_sock(socket);
	__u32 at = ETH_HLEN + segment->tcp_offset, checksum = at + offsetof(struct tcphdr, check);
	__be32 sequence;
	__be16 before, rst;

	if (!former || load(skb, segment->tcp_offset + WORD_AT_FLAGS, &before, sizeof(before)))
		return;
	sequence = bpf_htonl(former->tw_sk.__tw_common.skc_tw_rcv_nxt);
	rst = (before & bpf_htons(0xf000)) | bpf_htons(4);
	if (bpf_l4_csum_replace(skb, checksum, segment->tcp.seq, sequence, sizeof(sequence)) ||
	    bpf_l4_csum_replace(skb, checksum, before, rst, sizeof(rst)) ||
	    bpf_skb_store_bytes(skb, at + offsetof(struct tcphdr, seq), &sequence, sizeof(sequence), 0))
		return;
	bpf_skb_store_bytes(skb, at + WORD_AT_FLAGS, &rst, sizeof(rst), 0);
}

SEC("tc")
int baton_handoff(struct __sk_buff *skb)
{
	int is_v4 = skb->protocol == bpf_htons(ETH_P_IP), error;
	__u32 words[HANDOFF_WORDS] = { skb->cb[0], skb->cb[1], skb->cb[2], skb->cb[3], skb->cb[4] };
	struct connection connection;
	struct bpf_tcp_req_attrs attrs;
	struct admission *admission;
	struct segment segment;
	struct bpf_sock *socket;
	struct option option;
	__be64 token;
	int ahead;

	__builtin_memcpy(option.bytes + HANDOFF_AT_FLAGS, words, sizeof(words));
	if (!read_segment(skb, is_v4, &segment))
		return NEXT_PROGRAM;
	connection = (struct connection){
		.client = segment.source,
		.dvipa = segment.destination,
		.client_port = segment.tcp.source,
		.dvipa_port = segment.tcp.dest,
	};
	/* Those a listener treats rightly: a SYN opens another connection, an RST is not answered. */
	if (segment.tcp.syn || segment.tcp.rst)
		return goes_on(&connection, &segment);
	socket = find(skb, &segment, is_v4);
	admission = admission_of(&connection, &option);
	__builtin_memcpy(&token, option.bytes + HANDOFF_AT_TOKEN, sizeof(token));
	ahead = !admission && is_ahead(&connection, token);
	if (!socket && ahead)
		return declined(&connection, token, 0, HANDOFF_NO_LISTENER);
	if (!socket)
		return admission ? not_taken(&connection, 0, HANDOFF_NO_LISTENER) : drop(HANDOFF_NO_LISTENER);
	if (socket->state == BPF_TCP_TIME_WAIT && (admission || ahead)) {
		end_former(skb, &segment, socket);
		bpf_sk_release(socket);
		count(HANDOFF_ELSEWHERE);
		return NEXT_PROGRAM;
	}
	if (socket->state != BPF_TCP_LISTEN) {
		bpf_sk_release(socket);
		return goes_on(&connection, &segment);
	}
	if (!admission && !ahead) {
		bpf_sk_release(socket);
		return goes_on(&connection, &segment) == DROP ? DROP : drop(HANDOFF_NOT_ADMITTED);
	}
	if (!segment.tcp.ack || bpf_ntohl(segment.tcp.seq) != big_endian(option.bytes + HANDOFF_AT_START, 4) ||
	    bpf_ntohl(segment.tcp.ack_seq) != big_endian(option.bytes + HANDOFF_AT_SENT, 4)) {
		bpf_sk_release(socket);
		return come_again(skb, 1);
	}
	if (!read_attrs(skb, &segment, &option, &attrs)) {
		bpf_sk_release(socket);
		return drop(HANDOFF_ELSEWHERE);
	}
	if (ahead && is_full(socket)) {
		bpf_sk_release(socket);
		return declined(&connection, token, ENOBUFS, HANDOFF_FAILED);
	}
	if (admission ? !claim(admission) : !take(&connection, token)) {
		bpf_sk_release(socket);
		return come_again(skb, 1);
	}
	error = create(skb, &attrs, socket);
	bpf_sk_release(socket);
	if (error && ahead)
		return declined(&connection, token, -error, HANDOFF_FAILED);
	if (error) {
		unclaim(admission);
		return not_taken(&connection, error, HANDOFF_FAILED);
	}
	/* It has been here before, perhaps, and its late packets were kept away. */
	end_freeze(&connection);
	count(HANDED_OVER);
	return NEXT_PROGRAM;
}

char LICENSE[] SEC("license") = "GPL";
