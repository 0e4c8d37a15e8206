/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* What names a connection, and a port of a DVIPA, in the maps that the agent reads and writes. */
#pragma once

#include "address.h"

struct connection {
	struct address client;
	struct address dvipa;
	__be16 client_port;
	__be16 dvipa_port;
};

struct service {
	struct address dvipa;
	__be16 port;
	__u16 padding;
};
