// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/*
 * Voids an admission, and opens it again (syscall: the agent runs these). What a map operation of the agent's can't do: look and
 * change in one step, while packets claim admissions on other processors.
 */
#include "admissions.h"

/*
 * Returns the state that it is in now. Void: no packet has claimed it, nor will. Made: one has made the connection. Closing: one
 * has claimed it, and no other will; when that packet is through, the connection is made or never will be.
 */
SEC("syscall")
int baton_void(struct connection *of)
{
	struct connection connection = *of;
	struct admission *admission = bpf_map_lookup_elem(&admitted, &connection);
	__u32 before;

	if (!admission)
		return ADMISSION_VOID;
	before = __sync_val_compare_and_swap(&admission->state, ADMISSION_OPEN, ADMISSION_VOID);
	if (before == ADMISSION_OPEN)
		return ADMISSION_VOID;
	if (before != ADMISSION_CLAIMED)
		return before;
	before = __sync_val_compare_and_swap(&admission->state, ADMISSION_CLAIMED, ADMISSION_CLOSING);
	return before == ADMISSION_CLAIMED ? ADMISSION_CLOSING : before;
}

/* The packet that had claimed it is through. Returns the state that it was in. */
SEC("syscall")
int baton_reopen(struct connection *of)
{
	struct connection connection = *of;
	struct admission *admission = bpf_map_lookup_elem(&admitted, &connection);

	if (!admission)
		return ADMISSION_VOID;
	return __sync_val_compare_and_swap(&admission->state, ADMISSION_CLAIMED, ADMISSION_OPEN);
}

char LICENSE[] SEC("license") = "GPL";
