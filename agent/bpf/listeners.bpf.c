// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/*
 * Which socket takes a new connection (sk_lookup, in the agent's network namespace).
 *
 * In: the addresses of a packet that belongs to no connection, before the kernel looks for a listener. Of a service in `takers`
 * only the sockets that are named there take clients, in turn; if there is none (its listeners are held, or wait until this stack
 * owns the DVIPA), the kernel refuses the packet as if nothing listened. The packet that makes a connection that was transferred
 * here finds the listener all the same. Services that are not in `takers` are left to the kernel.
 */
#include <linux/bpf.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "address.h"
#include "admissions.h"

#include <linux/in.h>

#define AF_INET 2
#define MAX_TAKERS 64 /* a power of two */

/* Written by the agent's `system::listeners`. */
struct takers {
	__u32 turn;
	__u32 count;
	__u64 cookies[MAX_TAKERS];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct service);
	__type(value, struct takers);
} takers SEC(".maps");

/* The sockets that applications have named, by cookie. One that is closed is gone from here. */
struct {
	__uint(type, BPF_MAP_TYPE_SOCKHASH);
	__uint(max_entries, 16384);
	__type(key, __u64);
	__type(value, __u64);
} named SEC(".maps");

/*
 * The cookie of the socket whose turn it was, so that the last packet of a handshake by SYN cookie comes to the listener that has
 * answered the first.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct connection);
	__type(value, __u64);
} chosen SEC(".maps");

static __always_inline int takes(const struct takers *of, __u64 cookie)
{
	for (__u32 i = 0; i < MAX_TAKERS && i < of->count; i++)
		if (of->cookies[i] == cookie)
			return 1;
	return 0;
}

/* Gives the connection to this socket. Returns 1 if it is open. */
static __always_inline int assign(struct bpf_sk_lookup *lookup, __u64 cookie)
{
	struct bpf_sock *socket = bpf_map_lookup_elem(&named, &cookie);
	long failed;

	if (!socket)
		return 0;
	failed = bpf_sk_assign(lookup, socket, BPF_SK_LOOKUP_F_NO_REUSEPORT);
	bpf_sk_release(socket);
	return !failed;
}

static __always_inline int choose(struct bpf_sk_lookup *lookup, struct takers *of, const struct connection *connection)
{
	__u64 *before = bpf_map_lookup_elem(&chosen, connection);
	__u32 count = of->count, turn;

	if (before && takes(of, *before) && assign(lookup, *before))
		return SK_PASS;
	turn = __sync_fetch_and_add(&of->turn, 1);
	for (__u32 i = 0; i < MAX_TAKERS && i < count; i++) {
		__u64 cookie = of->cookies[((turn + i) % count) & (MAX_TAKERS - 1)];

		if (assign(lookup, cookie)) {
			bpf_map_update_elem(&chosen, connection, &cookie, BPF_ANY);
			return SK_PASS;
		}
	}
	return SK_DROP;
}

SEC("sk_lookup")
int baton_listeners(struct bpf_sk_lookup *lookup)
{
	struct service service = { .port = bpf_htons(lookup->local_port) };
	struct connection connection = { .client_port = lookup->remote_port, .dvipa_port = service.port };
	struct admission *admission;
	struct takers *of;

	if (lookup->protocol != IPPROTO_TCP)
		return SK_PASS;
	if (lookup->family == AF_INET) {
		connection.client = address_v4(lookup->remote_ip4);
		connection.dvipa = address_v4(lookup->local_ip4);
	} else {
		__u32 client[] = { lookup->remote_ip6[0], lookup->remote_ip6[1], lookup->remote_ip6[2], lookup->remote_ip6[3] };
		__u32 dvipa[] = { lookup->local_ip6[0], lookup->local_ip6[1], lookup->local_ip6[2], lookup->local_ip6[3] };

		connection.client = address_v6(client);
		connection.dvipa = address_v6(dvipa);
	}
	service.dvipa = connection.dvipa;
	of = bpf_map_lookup_elem(&takers, &service);
	if (!of)
		return SK_PASS;
	admission = bpf_map_lookup_elem(&admitted, &connection);
	if (admission && admission->state <= ADMISSION_CLAIMED)
		return SK_PASS;
	return choose(lookup, of, &connection);
}

char LICENSE[] SEC("license") = "GPL";
