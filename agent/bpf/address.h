/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* IP addresses as the maps hold them: 16 bytes, IPv4 as IPv4-mapped IPv6 (RFC 4291 2.5.5.2). */
#pragma once

#include <linux/types.h>
#include <bpf/bpf_endian.h>

struct address {
	__u32 word[4]; /* network byte order */
};

#define MAPPED_PREFIX bpf_htonl(0x0000ffff)

static __always_inline struct address address_v4(__be32 v4)
{
	return (struct address){ .word = { 0, 0, MAPPED_PREFIX, v4 } };
}

static __always_inline struct address address_v6(const __be32 v6[4])
{
	return (struct address){ .word = { v6[0], v6[1], v6[2], v6[3] } };
}

static __always_inline int address_is_v4(const struct address *a)
{
	return a->word[0] == 0 && a->word[1] == 0 && a->word[2] == MAPPED_PREFIX;
}

static __always_inline int address_is_none(const struct address *a)
{
	return (a->word[0] | a->word[1] | a->word[2] | a->word[3]) == 0;
}

static __always_inline int address_equal(const struct address *a, const struct address *b)
{
	return a->word[0] == b->word[0] && a->word[1] == b->word[1] && a->word[2] == b->word[2] &&
	       a->word[3] == b->word[3];
}
