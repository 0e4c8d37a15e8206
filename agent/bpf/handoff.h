/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* The handoff option in a GUE header. What it means is in baton-model's `handoff`; a test compares the numbers. */
#pragma once

#define HANDOFF_BYTES 16
#define HANDOFF_KIND 0xb1

#define HANDOFF_AT_FLAGS 1
#define HANDOFF_AT_MSS 2
#define HANDOFF_AT_SCALES 4
#define HANDOFF_AT_EPOCH 5
#define HANDOFF_AT_START 8
#define HANDOFF_AT_SENT 12

#define HANDOFF_SCALES 1
#define HANDOFF_SACK 2
#define HANDOFF_TIMESTAMPS 4
#define HANDOFF_MICROSECONDS 8
#define HANDOFF_ECN 16

/*
 * How the option travels from the program that takes the encapsulation off to the one that makes connections: in the
 * packet's control block, which has five words.
 */
#define HANDOFF_WORDS (HANDOFF_BYTES / 4)
