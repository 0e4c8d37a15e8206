// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/*
 * Counts what applications take out of the accept queues of some listeners (tracing: exit of inet_csk_accept), so that the agent
 * can tell a listener whose application takes nothing from one whose queue is never empty because clients come all the time.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

struct sock;

/* By the listener's cookie. Only what is here is counted: the agent's `system::accepts` enters what it wants to know about. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, __u64);
	__type(value, __u64);
} accepted SEC(".maps");

/* The arguments behind the first one differ between kernels, so the result is asked for and not taken from its place. */
SEC("fexit/inet_csk_accept")
int BPF_PROG(baton_accepted, struct sock *listener)
{
	__u64 cookie = bpf_get_socket_cookie(listener), taken = 0;
	__u64 *count = bpf_map_lookup_elem(&accepted, &cookie);

	if (count && !bpf_get_func_ret(ctx, &taken) && taken)
		__sync_fetch_and_add(count, 1);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
