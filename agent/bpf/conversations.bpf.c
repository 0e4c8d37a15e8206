// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/*
 * Notes what client and server of a connection say (cgroup: skb ingress and egress), of those that have a note: baton_sockets
 * begins one when a connection to a DVIPA is established. No packet is changed or dropped.
 *
 * An answer begins with the first byte that the server sends after new bytes of its client. What of it is noted, the agent
 * reads with an HTTP library: here only its first bytes are looked at.
 */
#include "conversations.h"

#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <bpf/bpf_endian.h>

#define PASS 1
#define TLS_RECORDS_FIRST 20 /* change_cipher_spec (RFC 8446 5.1) */
#define TLS_RECORDS_LAST 24
#define TLS_MAJOR 3

/* The bytes of one packet. */
struct said {
	__u32 begin; /* sequence number */
	__u32 bytes;
	__u32 at; /* offset in the packet */
};

/* Returns 1 if the packet carries bytes of a TCP connection. */
static __always_inline int read_said(struct __sk_buff *skb, struct said *said)
{
	__u8 version;
	__u32 tcp_at;
	struct tcphdr tcp;

	if (bpf_skb_load_bytes(skb, 0, &version, 1))
		return 0;
	if (version >> 4 == 4) {
		struct iphdr ip;

		if (bpf_skb_load_bytes(skb, 0, &ip, sizeof(ip)) || ip.protocol != IPPROTO_TCP || ip.ihl < 5)
			return 0;
		tcp_at = ip.ihl * 4;
	} else {
		struct ipv6hdr ip;

		if (bpf_skb_load_bytes(skb, 0, &ip, sizeof(ip)) || ip.nexthdr != IPPROTO_TCP)
			return 0;
		tcp_at = sizeof(ip);
	}
	if (bpf_skb_load_bytes(skb, tcp_at, &tcp, sizeof(tcp)) || tcp.doff < 5)
		return 0;
	said->at = tcp_at + tcp.doff * 4;
	said->begin = bpf_ntohl(tcp.seq);
	if (skb->len <= said->at)
		return 0;
	said->bytes = skb->len - said->at;
	return 1;
}

static __always_inline struct conversation *conversation_of(struct __sk_buff *skb, struct bpf_sock **socket)
{
	struct bpf_sock *sk = skb->sk;

	if (!sk)
		return 0;
	sk = bpf_sk_fullsock(sk);
	if (!sk || sk->protocol != IPPROTO_TCP)
		return 0;
	*socket = sk;
	return bpf_sk_storage_get(&conversations, sk, 0, 0);
}

static __always_inline int is_after(__u32 a, __u32 b)
{
	return (__s32)(a - b) > 0;
}

/*
 * Copies 1 to `most` bytes of the packet, and returns whether it could. The verifier wants to see both bounds in the same register,
 * so the compiler must know nothing of them and not join the comparisons. The lower one is a signed comparison: of an unsigned one
 * compilers make a comparison with 0, of which verifiers before Linux 6.8 learn nothing.
 */
static __always_inline int copy(struct __sk_buff *skb, __u32 at, void *to, __u32 bytes, __u32 most)
{
	asm volatile("" : "+r"(bytes));
	if ((__s32)bytes < 1)
		return 0;
	asm volatile("" : "+r"(bytes));
	return bytes <= most && bpf_skb_load_bytes(skb, at, to, bytes) == 0;
}

/* Copies the beginning of what was said; returns how much. */
static __always_inline __u16 note(struct __sk_buff *skb, const struct said *said, void *to, __u32 most)
{
	__u32 bytes = said->bytes < most ? said->bytes : most;

	return copy(skb, said->at, to, bytes, most) ? bytes : 0;
}

static __always_inline int is_http(const __u8 *head)
{
	return head[0] == 'H' && head[1] == 'T' && head[2] == 'T' && head[3] == 'P' && head[4] == '/' &&
	       head[5] == '1' && head[6] == '.';
}

static __always_inline int is_tls(const __u8 *head)
{
	return head[0] >= TLS_RECORDS_FIRST && head[0] <= TLS_RECORDS_LAST && head[1] == TLS_MAJOR;
}

/* An informational answer (1xx) is followed by another one, without new bytes of the client (RFC 9110 15.2). */
static __always_inline int is_interim(const struct conversation *of)
{
	return of->response_bytes > 9 && of->response[9] == '1';
}

/* What follows this answer is not HTTP any more (RFC 9110 7.8, 9.3.6). */
static __always_inline int is_switched(const struct conversation *of, const __u8 *head)
{
	if (head[9] == '1' && head[10] == '0' && head[11] == '1')
		return 1;
	return head[9] == '2' && of->request_bytes > 7 && of->request[0] == 'C' && of->request[1] == 'O' &&
	       of->request[2] == 'N' && of->request[3] == 'N';
}

/* The answer that begins here is noted. `head`: its first bytes. */
static __always_inline void note_answer(struct __sk_buff *skb, const struct said *said, struct conversation *of,
					const __u8 *head)
{
	of->answered_end = of->received_end;
	of->protocol = is_switched(of, head) ? ANOTHER : HTTP_1;
	of->response_begin = said->begin;
	of->response_bytes = note(skb, said, of->response, RESPONSE_BYTES);
}

/*
 * While requests that were sent ahead are owed answers, each packet that begins as an answer does begins the next one. With the last of
 * them it is known again which answer belongs to what. Answers that share a packet are not told apart: then it stays unknown.
 */
static __always_inline int next_answer(struct __sk_buff *skb, const struct said *said, struct conversation *of)
{
	__u8 head[16] = {};

	if (!note(skb, said, head, sizeof(head)) || !is_http(head))
		return 0;
	note_answer(skb, said, of, head);
	if (head[9] == '1' || of->owed == MANY_OWED)
		return 1;
	if (of->owed > 1) {
		of->owed--;
		return 1;
	}
	of->owed = 0;
	of->flags &= ~(INTERLEAVED | REQUEST_BEGUN);
	return 1;
}

/* The server may begin an answer here. */
static __always_inline void begin_answer(struct __sk_buff *skb, const struct said *said, struct conversation *of)
{
	__u8 head[16] = {};

	if (!note(skb, said, head, sizeof(head)))
		return;
	of->response_bytes = 0;
	of->answered_end = of->received_end;
	if (!is_http(head) && of->protocol == HTTP_1) {
		/* The client went on in the middle of an answer. */
		of->flags |= INTERLEAVED;
		return;
	}
	/* The request goes on after an informational answer. */
	if (!is_http(head) || head[9] != '1') {
		of->flags &= ~REQUEST_BEGUN;
		of->owed = 0;
	}
	if (is_http(head)) {
		note_answer(skb, said, of, head);
	} else if (of->protocol == NOTHING_SAID && is_tls(head)) {
		of->protocol = TLS;
	} else if (of->protocol == NOTHING_SAID && !(of->flags & SEEN_LATE)) {
		of->protocol = ANOTHER;
	}
}

/* Servers write heads in pieces: what follows at once belongs to the note, as long as it is short. */
static __always_inline void go_on(struct __sk_buff *skb, const struct said *said, struct conversation *of)
{
	__u32 noted = of->response_bytes;

	if (noted == 0 || noted >= RESPONSE_BYTES / 2 || said->begin != of->response_begin + noted)
		return;
	of->response_bytes = noted + note(skb, said, of->response + noted, RESPONSE_BYTES / 2);
}

static __always_inline void note_tail(struct __sk_buff *skb, const struct said *said, struct conversation *of)
{
	__u8 last[TAIL_BYTES] = {};
	__u32 bytes = said->bytes;

	if (bytes > TAIL_BYTES)
		bytes = TAIL_BYTES;
	if (!copy(skb, said->at + said->bytes - bytes, last, bytes, TAIL_BYTES))
		return;
	for (__u32 i = 0; i < TAIL_BYTES; i++) {
		if (i < bytes)
			of->tail = of->tail << 8 | last[i];
	}
}

SEC("cgroup_skb/egress")
int baton_server_says(struct __sk_buff *skb)
{
	struct bpf_sock *socket;
	struct conversation *of = conversation_of(skb, &socket);
	struct bpf_tcp_sock *tcp;
	struct said said;
	int is_first, is_interim_over;

	if (!of || of->protocol == TLS || of->protocol == ANOTHER || !read_said(skb, &said))
		return PASS;
	if (of->flags & SENT_KNOWN) {
		/* Sent again. */
		if (!is_after(said.begin + said.bytes, of->sent_end))
			return PASS;
		/* Partly: then it is no beginning of anything that matters. */
		if (said.begin != of->sent_end) {
			of->sent_end = said.begin + said.bytes;
			of->response_bytes = 0;
			return PASS;
		}
	}
	is_first = of->protocol == NOTHING_SAID;
	of->flags |= SENT_KNOWN;
	of->sent_end = said.begin + said.bytes;
	/* Bytes in the packet that has completed the handshake passed the listener, and not this program. */
	tcp = bpf_tcp_sock(socket);
	if (tcp && (!(of->flags & RECEIVED_KNOWN) || is_after(tcp->rcv_nxt, of->received_end))) {
		of->received_end = tcp->rcv_nxt;
		of->flags |= RECEIVED_KNOWN;
	}
	is_interim_over = is_interim(of);
	if (of->flags & INTERLEAVED) {
		if (!next_answer(skb, &said, of))
			go_on(skb, &said, of);
	} else if (is_first || is_interim_over || of->received_end != of->answered_end) {
		begin_answer(skb, &said, of);
	} else {
		go_on(skb, &said, of);
	}
	note_tail(skb, &said, of);
	return PASS;
}

/*
 * How many heads of requests end in what is noted, behind which are zeros. A global function, which the verifier checks once: inlined, it
 * followed the loop from each state that its caller can be in. Without a branch, of which it would follow both ways each time.
 */
__noinline int head_ends(const struct conversation *of)
{
	__u32 ends = 0, window = 0;

	if (!of)
		return 0;
	for (__u32 i = 0; i < REQUEST_BYTES; i++) {
		__u64 differs;

		window = window << 8 | of->request[i];
		differs = window ^ 0x0d0a0d0a;
		ends += (differs - 1) >> 63;
	}
	return ends;
}

/*
 * Whether more than one request is noted: the end of a head, and more behind it that is no body. `whole`: what is noted is one request
 * without a body, which ends with its packet.
 */
static __always_inline int is_pipelined(struct __sk_buff *skb, const struct said *said, const struct conversation *of, int *whole)
{
	__u32 ends = head_ends(of);
	__u8 end[4] = {};
	int has_no_body = of->request[0] == 'G' || of->request[0] == 'H';

	*whole = 0;
	if (has_no_body && ends == 1 && said->bytes == of->request_bytes && said->bytes > sizeof(end) &&
	    !bpf_skb_load_bytes(skb, said->at + said->bytes - sizeof(end), end, sizeof(end)))
		*whole = end[0] == '\r' && end[1] == '\n' && end[2] == '\r' && end[3] == '\n';
	return has_no_body && (ends > 1 || (ends == 1 && said->bytes > REQUEST_BYTES));
}

/* Whether the client begins another request here. */
static __always_inline int begins_request(struct __sk_buff *skb, const struct said *said)
{
	__u8 head[4];

	if (said->bytes < sizeof(head) || bpf_skb_load_bytes(skb, said->at, head, sizeof(head)))
		return 0;
	return (head[0] == 'G' && head[1] == 'E' && head[2] == 'T' && head[3] == ' ') ||
	       (head[0] == 'H' && head[1] == 'E' && head[2] == 'A' && head[3] == 'D') ||
	       (head[0] == 'P' && head[1] == 'O' && head[2] == 'S' && head[3] == 'T') ||
	       (head[0] == 'P' && head[1] == 'U' && head[2] == 'T' && head[3] == ' ') ||
	       (head[0] == 'P' && head[1] == 'A' && head[2] == 'T' && head[3] == 'C') ||
	       (head[0] == 'D' && head[1] == 'E' && head[2] == 'L' && head[3] == 'E') ||
	       (head[0] == 'O' && head[1] == 'P' && head[2] == 'T' && head[3] == 'I');
}

/* The client begins a request here. One that comes ahead of bytes that are missing may not be the next one. */
static __always_inline void note_request(struct __sk_buff *skb, const struct said *said, struct conversation *of, int is_next)
{
	of->owed = is_next && of->owed < MANY_OWED - 1 ? of->owed + 1 : MANY_OWED;
	of->request_begin = said->begin;
	__builtin_memset(of->request, 0, REQUEST_BYTES);
	of->request_bytes = is_next ? note(skb, said, of->request, REQUEST_BYTES) : 0;
}

SEC("cgroup_skb/ingress")
int baton_client_says(struct __sk_buff *skb)
{
	struct bpf_sock *socket;
	struct conversation *of = conversation_of(skb, &socket);
	struct said said;
	int is_next, whole;

	if (!of || of->protocol == TLS || of->protocol == ANOTHER || !read_said(skb, &said))
		return PASS;
	if (of->flags & RECEIVED_KNOWN && !is_after(said.begin + said.bytes, of->received_end))
		return PASS;
	is_next = !(of->flags & RECEIVED_KNOWN) || said.begin == of->received_end;
	/* What came before in the packet that has completed the handshake was not seen here, and is owed an answer. */
	if (!(of->flags & (RECEIVED_KNOWN | SEEN_LATE)) && of->protocol == NOTHING_SAID && said.begin != of->received_begin) {
		of->flags |= REQUEST_BEGUN;
		of->owed = 1;
	}
	if (!(of->flags & REQUEST_BEGUN) || begins_request(skb, &said)) {
		if (of->flags & REQUEST_BEGUN)
			of->flags |= INTERLEAVED;
		of->flags |= REQUEST_BEGUN;
		note_request(skb, &said, of, is_next);
		if (is_pipelined(skb, &said, of, &whole))
			of->flags |= INTERLEAVED;
		/* Where a request ends that goes on in other packets, or has a body, is not known here, nor whether another follows it there. */
		if (!whole)
			of->owed = MANY_OWED;
	} else {
		of->owed = MANY_OWED;
	}
	of->flags |= RECEIVED_KNOWN;
	of->received_end = said.begin + said.bytes;
	return PASS;
}

char LICENSE[] SEC("license") = "GPL";
