/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* The handoff option in a GUE header. What it means is in baton-model's `handoff`; a test compares the numbers. */
#pragma once

#define HANDOFF_BYTES 24
#define HANDOFF_KIND 0xb1
#define HANDOFF_VERSION 2

#define HANDOFF_AT_FLAGS 4
#define HANDOFF_AT_SCALES 5
#define HANDOFF_AT_MSS 6
#define HANDOFF_AT_START 8
#define HANDOFF_AT_SENT 12
#define HANDOFF_AT_TOKEN 16

#define HANDOFF_SCALES 1
#define HANDOFF_SACK 2
#define HANDOFF_TIMESTAMPS 4
#define HANDOFF_MICROSECONDS 8
#define HANDOFF_ECN 16

/*
 * How the option travels from the program that takes the encapsulation off to the one that makes connections: in the
 * packet's control block, which has five words, without kind and version. All zero, and so without a token, if the version
 * is another one.
 */
#define HANDOFF_WORDS ((HANDOFF_BYTES - HANDOFF_AT_FLAGS) / 4)

/*
 * The mark of a packet that comes to the host again ("bat"), in its last byte how often: behind the one that makes its connection, or that
 * makes room for it. The kernel looks at the packets of a batch one after the other in one program, and only then takes the first one
 * in; or another processor is about to.
 */
#define COMES_AGAIN 0x62617400
#define AGAIN_MASK 0xffffff00
#define MOST_OFTEN 8 /* some microseconds each time */

/* The packet comes again: what the program returns. */
static __always_inline int come_again(struct __sk_buff *skb, __u32 often)
{
	skb->mark = COMES_AGAIN | often;
	return bpf_redirect(skb->ifindex, BPF_F_INGRESS);
}
