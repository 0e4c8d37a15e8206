/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Which ports of a DVIPA this host's applications get when they do not name one. The routing stack that owns the DVIPA grants them
 * in blocks, so that no two hosts have the same one.
 */
#pragma once

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "address.h"

#define PORTS_A_BLOCK 64
#define BLOCKS 1024
#define WORDS_OF_BLOCKS (BLOCKS / 64)

/* Read by the agent's `system::pools`. */
struct pool {
	__u64 granted[WORDS_OF_BLOCKS];	  /* this host's blocks, a bit each */
	__u64 elsewhere[WORDS_OF_BLOCKS]; /* other hosts' */
	__u64 free[BLOCKS];		  /* the ports of this host's blocks that nobody here has, a bit each */
	__s64 left;			  /* how many bits of `free` are set */
	__s64 low;			  /* with fewer left the agent is told */
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 4096);
	__type(key, struct address);
	__type(value, struct pool);
} pools SEC(".maps");

/* A port of a DVIPA; host order. */
struct port {
	struct address dvipa;
	__u16 port;
	__u16 padding;
};

/* Ports that sockets were bound to, by the cookie of the socket: they are in use until it is closed, whatever its state is. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1 << 20);
	__type(key, struct port);
	__type(value, __u64);
} bound SEC(".maps");

/* What the agent does with a pool (baton_order). The answer is 1 if it was done. */
enum deed {
	GRANT = 1, /* the block is this host's, and all its ports are free */
	WITHDRAW,  /* the block is not this host's any more, if all its ports are free; the answer says whether they were */
	REVOKE,	   /* the block is not this host's any more; whoever has a port of it keeps it */
	FREE,	   /* these ports of the block are free again */
	TAKE,	   /* these ports of the block are not free */
	ELSEWHERE, /* of the 64 blocks of word `block`, those in `ports` are other hosts' */
	LOW,	   /* the agent is told when fewer than `ports` ports are left */
};

struct order {
	struct address dvipa;
	__u32 deed;
	__u32 block;
	__u64 ports;
};
