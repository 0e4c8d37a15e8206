// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/*
 * Tells of listens and connections as they happen (cgroup: sock_ops and post_bind).
 *
 * Attached to the root of cgroup v2, the programs see the sockets of all network namespaces; only those of the agent's own
 * are told of. Of others, as containers', it is told that something listens or no longer does, if the agent wants to know; it
 * looks for itself. Listens of all addresses are told, connections only if their local address is a DVIPA of this host; for those
 * a note of what is said on them begins.
 */
#include "address.h"
#include "admissions.h"
#include "conversations.h"
#include "counters.h"
#include "dvipas.h"
#include "events.h"
#include "freezes.h"
#include "tokens.h"

#include <linux/in.h>
#include <linux/tcp.h>
#include <bpf/bpf_core_read.h>

#define AF_INET 2
#define AF_INET6 10
#define CONTINUE 1

const volatile __u64 netns_cookie = 0; /* the agent's own network namespace */
const volatile __u8 has_containers = 0; /* tell of listens in others */

/* The fields that are read, wherever this kernel has them. */
struct sock_common {
	unsigned char skc_ipv6only : 1;
} __attribute__((preserve_access_index));

struct sock {
	struct sock_common __sk_common;
} __attribute__((preserve_access_index));

/*
 * The context is read a word at a time, and both families' fields before the choice: left free, the compiler makes one
 * read of two words, or one read through a computed pointer, and the verifier refuses both.
 */
#define WORD(ops, field) (*(volatile __u32 *)&(ops)->field)
#define WORDS(ops, field) { WORD(ops, field[0]), WORD(ops, field[1]), WORD(ops, field[2]), WORD(ops, field[3]) }

static __always_inline struct address local_address(struct bpf_sock_ops *ops)
{
	struct address v4 = address_v4(WORD(ops, local_ip4)), v6 = { .word = WORDS(ops, local_ip6) };

	return ops->family == AF_INET ? v4 : v6;
}

static __always_inline struct address remote_address(struct bpf_sock_ops *ops)
{
	struct address v4 = address_v4(WORD(ops, remote_ip4)), v6 = { .word = WORDS(ops, remote_ip6) };

	return ops->family == AF_INET ? v4 : v6;
}

static __always_inline void read_binding(struct bpf_sock_ops *ops, struct event *event)
{
	struct bpf_sock *socket = ops->sk;
	struct sock *full;

	if (!socket)
		return;
	event->ifindex = socket->bound_dev_if;
	full = (struct sock *)bpf_skc_to_tcp_sock(socket);
	if (full)
		event->v6only = BPF_CORE_READ_BITFIELD(full, __sk_common.skc_ipv6only);
}

static __always_inline void tell_listen(struct bpf_sock_ops *ops, enum kind kind)
{
	struct event event = {
		.cookie = bpf_get_socket_cookie(ops),
		.kind = kind,
		.local = local_address(ops),
		.local_port = ops->local_port,
		.v6 = ops->family == AF_INET6,
	};

	if (kind == LISTENING)
		read_binding(ops, &event);
	tell(&event, 0);
}

static __always_inline void note_admitted(const struct connection *connection)
{
	struct admission *admission = bpf_map_lookup_elem(&admitted, connection);

	struct admission *ahead = bpf_map_lookup_elem(&taken, connection);

	if (ahead)
		__sync_val_compare_and_swap(&ahead->state, ADMISSION_CLAIMED, ADMISSION_MADE);
	/* If the agent closes it in between, the second step is the one. A handshake of the client's own claims nothing. */
	if (admission && __sync_val_compare_and_swap(&admission->state, ADMISSION_CLAIMED, ADMISSION_MADE) == ADMISSION_CLOSING)
		__sync_val_compare_and_swap(&admission->state, ADMISSION_CLOSING, ADMISSION_MADE);
}

/* A client has connected to a DVIPA: what it and its server say is noted from now on (conversations.bpf.c). */
static __always_inline void begin_conversation(struct bpf_sock_ops *ops)
{
	struct bpf_sock *socket = ops->sk;
	struct conversation *of;

	if (!socket)
		return;
	of = bpf_sk_storage_get(&conversations, socket, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!of)
		return;
	of->sent_end = ops->snd_nxt;
	of->received_end = of->answered_end = ops->rcv_nxt;
	of->received_begin = ops->rcv_nxt - ops->bytes_received;
	of->flags = SENT_KNOWN | RECEIVED_KNOWN;
}

static __always_inline void tell_connection(struct bpf_sock_ops *ops, enum kind kind)
{
	struct event event = { .local = local_address(ops), .kind = kind };
	struct connection connection;
	__u64 until;

	if (!bpf_map_lookup_elem(&dvipas, &event.local))
		return;
	event.cookie = bpf_get_socket_cookie(ops);
	event.remote = remote_address(ops);
	event.local_port = ops->local_port;
	event.remote_port = bpf_ntohl(ops->remote_port);
	event.v6 = ops->family == AF_INET6;
	connection = (struct connection){
		.client = event.remote,
		.dvipa = event.local,
		.client_port = bpf_htons(event.remote_port),
		.dvipa_port = bpf_htons(event.local_port),
	};
	if (kind == ESTABLISHED)
		note_admitted(&connection);
	if (ops->op == BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB)
		begin_conversation(ops);
	/* What befalls a connection that moves is the agent's own doing: it looks for itself, and need not be woken. */
	tell(&event, freeze_of(&connection, &until) ? BPF_RB_NO_WAKEUP : 0);
}

static __always_inline void tell_change(struct bpf_sock_ops *ops, __u32 from, __u32 to)
{
	if (to != BPF_TCP_CLOSE)
		return;
	if (from == BPF_TCP_LISTEN)
		tell_listen(ops, LISTEN_ENDED);
	else if (from != BPF_TCP_SYN_SENT)
		/* The server's FIN counts one. */
		tell_connection(ops, ops->bytes_acked > 1 ? ENDED_ANSWERED : ENDED);
}

/* A listen of another network namespace, or its end. */
static __always_inline void elsewhere(struct bpf_sock_ops *ops)
{
	struct event event = { .kind = LISTENS_ELSEWHERE };

	switch (ops->op) {
	case BPF_SOCK_OPS_TCP_LISTEN_CB:
		bpf_sock_ops_cb_flags_set(ops, ops->bpf_sock_ops_cb_flags | BPF_SOCK_OPS_STATE_CB_FLAG);
		tell(&event, 0);
		break;
	case BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB:
		/* Inherited from the listener. */
		bpf_sock_ops_cb_flags_set(ops, ops->bpf_sock_ops_cb_flags & ~BPF_SOCK_OPS_STATE_CB_FLAG);
		break;
	case BPF_SOCK_OPS_STATE_CB:
		if (ops->args[0] == BPF_TCP_LISTEN && ops->args[1] == BPF_TCP_CLOSE)
			tell(&event, 0);
		break;
	}
}

SEC("sockops")
int baton_sockets(struct bpf_sock_ops *ops)
{
	if (ops->family != AF_INET && ops->family != AF_INET6)
		return CONTINUE;
	if (bpf_get_netns_cookie(ops) != netns_cookie) {
		if (has_containers)
			elsewhere(ops);
		return CONTINUE;
	}
	switch (ops->op) {
	case BPF_SOCK_OPS_TCP_LISTEN_CB:
		bpf_sock_ops_cb_flags_set(ops, ops->bpf_sock_ops_cb_flags | BPF_SOCK_OPS_STATE_CB_FLAG);
		tell_listen(ops, LISTENING);
		break;
	case BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB:
	case BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB:
		bpf_sock_ops_cb_flags_set(ops, ops->bpf_sock_ops_cb_flags | BPF_SOCK_OPS_STATE_CB_FLAG);
		tell_connection(ops, ESTABLISHED);
		break;
	case BPF_SOCK_OPS_STATE_CB:
		tell_change(ops, ops->args[0], ops->args[1]);
		break;
	}
	return CONTINUE;
}

/* A UDP socket has no listen: its bind is told, and the agent looks up what it is (sock_diag). */
static __always_inline int bound(struct bpf_sock *socket)
{
	struct event event = { .kind = UDP_BOUND };

	if (socket->protocol != IPPROTO_UDP)
		return CONTINUE;
	if (bpf_get_netns_cookie(socket) == netns_cookie || has_containers)
		tell(&event, 0);
	return CONTINUE;
}

SEC("cgroup/post_bind4")
int baton_bound_v4(struct bpf_sock *socket)
{
	return bound(socket);
}

SEC("cgroup/post_bind6")
int baton_bound_v6(struct bpf_sock *socket)
{
	return bound(socket);
}

char LICENSE[] SEC("license") = "GPL";
