"""Flows: who they are, the hash that spreads them, and Maglev's choice.

The RFCs leave the hash open; the contract is: 14 bits of a multiplicative hash over the client's address and both
ports, equal for a connection's packets and the ICMP errors about it. All fragments of a datagram have another one, over
the client's address and the identification, because only the first shows the ports.
"""

import struct
from functools import lru_cache

MASK = (1 << 64) - 1
GOLDEN = 0x9E3779B97F4A7C15
EXTENSIONS = {0, 43, 60}
FRAGMENT = 44


def transport(raw):
    """Protocol number and transport header of a packet; the header is None in a fragment that is not the first."""
    if raw[0] >> 4 == 4:
        offset = struct.unpack_from(">H", raw, 6)[0] & 0x1FFF
        return raw[9], None if offset else raw[(raw[0] & 15) * 4 :]
    protocol, at = raw[6], 40
    while protocol in EXTENSIONS or protocol == FRAGMENT:
        if protocol == FRAGMENT and struct.unpack_from(">H", raw, at + 2)[0] >> 3:
            return raw[at], None
        length = 8 if protocol == FRAGMENT else (raw[at + 1] + 1) * 8
        protocol, at = raw[at], at + length
    return protocol, raw[at:]


def ends(raw):
    """(protocol, source, source port, destination, destination port) of a packet; None if it shows no ports."""
    protocol, header = transport(raw)
    if protocol not in (6, 17) or header is None or len(header) < 4:
        return None
    sport, dport = struct.unpack_from(">HH", header)
    size = 4 if raw[0] >> 4 == 4 else 16
    at = 12 if size == 4 else 8
    return protocol, raw[at : at + size], sport, raw[at + size : at + 2 * size], dport


def hash_of_client(client, client_port, port):
    """The hash: 14 bits."""
    if len(client) == 16:
        high, low = struct.unpack(">QQ", client)
        folded = high ^ (low * GOLDEN & MASK)
        word = (folded >> 32) ^ (folded & 0xFFFFFFFF)
    else:
        word = struct.unpack(">I", client)[0]
    return ((word << 32 | client_port << 16 | port) * GOLDEN & MASK) >> 50


def hash_of(raw):
    """The hash of a packet from a client; 0 if it shows neither ports nor an identification."""
    ident = identification(raw)
    if ident is not None:
        client = raw[12:16] if raw[0] >> 4 == 4 else raw[8:24]
        return hash_of_client(client, ident >> 16, ident & 0xFFFF)
    found = ends(raw)
    return hash_of_client(found[1], found[2], found[4]) if found else 0


def identification(raw):
    """The identification that a fragment shares with the others of its datagram; None if the packet is no fragment.

    An IPv6 packet with a fragment header counts, also if it is whole (RFC 6946).
    """
    if raw[0] >> 4 == 4:
        ident, word = struct.unpack_from(">HH", raw, 4)
        return ident if word & 0x3FFF else None
    protocol, at = raw[6], 40
    while protocol in EXTENSIONS:
        protocol, at = raw[at], at + (raw[at + 1] + 1) * 8
    return struct.unpack_from(">I", raw, at + 4)[0] if protocol == FRAGMENT else None


def of_quoted(raw):
    """The hash of the connection that a packet to a client belongs to."""
    _, _, port, client, client_port = ends(raw)
    return hash_of_client(client, client_port, port)


def source_port(hashed):
    """GUE's source port: dynamic ports (RFC 6335 section 6), told apart by the hash."""
    return 0xC000 | hashed


def mix(x):
    """SplitMix64's finalizer."""
    x = (x + GOLDEN) & MASK
    x = ((x ^ x >> 30) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ x >> 27) * 0x94D049BB133111EB) & MASK
    return x ^ x >> 31


@lru_cache
def maglev_table(targets, size=65537):
    """NSDI'16 figure 4, by (name, weight), sorted by name: weight w has a turn in w of the heaviest's rounds."""

    def seeded(name, seed):
        for octet in name.encode():
            seed = mix(seed ^ octet)
        return seed

    offsets = [seeded(name, int.from_bytes(b"offset")) % size for name, _ in targets]
    skips = [seeded(name, int.from_bytes(b"skip")) % (size - 1) + 1 for name, _ in targets]
    nexts, credits = [0] * len(targets), [0] * len(targets)
    heaviest = max(weight for _, weight in targets)
    table, filled = [None] * size, 0
    while True:
        for i, (name, weight) in enumerate(targets):
            credits[i] += weight
            if credits[i] < heaviest:
                continue
            credits[i] -= heaviest
            while table[(offsets[i] + nexts[i] * skips[i]) % size] is not None:
                nexts[i] += 1
            table[(offsets[i] + nexts[i] * skips[i]) % size] = name
            filled += 1
            if filled == size:
                return table


def maglev(raw, targets):
    """The target of a packet's client out of (stack, weight) pairs."""
    _, client, port, _, _ = ends(raw)
    table = maglev_table(tuple(sorted((s.name, w) for s, w in targets if w)))
    client = int.from_bytes(client)
    hashed = mix(mix(client >> 64 ^ port) ^ client & MASK)
    return {s.name: s for s, _ in targets}[table[hashed % len(table)]]
