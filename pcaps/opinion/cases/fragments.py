"""Fragments follow the first one of their datagram."""

from scapy.layers.inet import IP
from scapy.layers.inet6 import IPv6ExtHdrFragment

from .. import rfc
from ..case import Case
from ..segment import from_client, ip, payload, target, tcp, udp
from .headers import forwards, one_target


def pieces4(ident=77, size=3000, **fields):
    """A UDP datagram in IPv4 fragments that fit through the tunnel."""
    whole = ip(4, id=ident, flags=0, **fields) / udp() / payload(size)
    return [IP(piece) for piece in rfc.fragments4(whole, 1400)]


def pieces6(ident=77, size=3000):
    """The same in IPv6 (RFC 8200 4.5), cut by hand so that nothing but the RFC decides."""
    whole = ip(6) / udp() / payload(size)
    data = bytes(whole)[40:]
    step = 1304
    return [
        ip(6)
        / IPv6ExtHdrFragment(nh=17, offset=at // 8, m=int(at + step < len(data)), id=ident)
        / data[at : at + step]
        for at in range(0, len(data), step)
    ]


def in_order(family):
    """First to last."""
    c, t1 = one_target(
        f"fragments-{family}-in-order",
        "Fragments follow the first one to its target.",
        "RFC 791 3.2" if family == 4 else "RFC 8200 4.5",
        "gue",
    )
    pieces = pieces4() if family == 4 else pieces6()
    follow(c, t1, pieces)
    return c


def follow(c, t1, pieces):
    """Fragments after their first one: all take the first one's way, GUE source port included."""
    c.packet(from_client(pieces[0]), rfc.to(t1, pieces[0]))
    for piece in pieces[1:]:
        c.packet(from_client(piece), rfc.to(t1, piece), counts=["forwarded_fragment"])


def out_of_order(family):
    """Later ones come first."""
    c, t1 = one_target(
        f"fragments-{family}-out-of-order",
        "Fragments that come before the first one wait for it and follow it.",
        "RFC 791 3.2" if family == 4 else "RFC 8200 4.5",
        "ipip",
    )
    first, second, third = pieces4() if family == 4 else pieces6()
    c.packet(from_client(third), held=True)
    c.packet(from_client(second), held=True)
    c.packet(
        from_client(first),
        rfc.to(t1, first),
        rfc.to(t1, third),
        rfc.to(t1, second),
        counts=["forwarded_new", "forwarded_fragment", "forwarded_fragment"],
    )
    return c


def first_missing(family):
    """The first never comes."""
    c, _ = one_target(
        f"fragments-{family}-first-missing",
        "Fragments whose first one does not come are dropped after a while.",
        "RFC 1122 3.3.2",
    )
    _, second, third = pieces4() if family == 4 else pieces6()
    c.packet(from_client(second), held=True)
    c.packet(from_client(third), held=True)
    c.at(30_000)
    c.event("tick", True, drop=["fragment_unmatched", "fragment_unmatched"])
    return c


def interleaved():
    """Two datagrams with one identification from two clients, and two of one client."""
    c = Case("fragments-interleaved", "Fragments of different datagrams are told apart.", "RFC 791 3.2")
    t1, t2 = target(1), target(2)
    c.stack(t1, t2)
    c.serve([t1, t2], port=53, protocol="udp")
    a, b, d = pieces4(77), pieces4(78), pieces4(77, src="198.18.0.3")
    c.packet(from_client(a[0]), rfc.to(t1, a[0]))
    c.packet(from_client(d[0]), rfc.to(t2, d[0]))
    c.packet(from_client(b[0]), rfc.to(t1, b[0]))
    for piece, stack in ((d[1], t2), (b[1], t1), (a[1], t1), (b[2], t1), (d[2], t2), (a[2], t1)):
        c.packet(from_client(piece), rfc.to(stack, piece), counts=["forwarded_fragment"])
    return c


def of_a_connection():
    """TCP segments in fragments."""
    c, t1 = one_target(
        "fragments-tcp",
        "Fragments of a TCP segment of a known connection follow it; of an unknown one, "
        "they end with their first one.",
        "RFC 791 3.2",
    )
    c.connection(4, t1)
    whole = ip(4, id=5, flags=0) / tcp("A") / payload(2000)
    follow(c, t1, [IP(piece) for piece in rfc.fragments4(whole, 1400)])
    return c


def atomic():
    """A fragment header on a whole packet."""
    c, t1 = one_target(
        "fragments-6-atomic", "A whole IPv6 packet with a fragment header is no fragment.", "RFC 6946"
    )
    forwards(
        c,
        t1,
        ip(6) / IPv6ExtHdrFragment(nh=6, id=9) / tcp("S"),
        ip(6) / IPv6ExtHdrFragment(nh=17, id=9) / udp(),
    )
    return c


def tiny():
    """A first fragment that does not show the ports."""
    c, _ = one_target(
        "fragments-tiny", "A first fragment that does not show the ports is dropped.", "RFC 1858 3, RFC 7112"
    )
    first = ip(4, id=6, flags="MF", proto=6) / bytes(tcp("S", options=[]))[:8]
    c.packet(from_client(first), drop="truncated")
    return c


def cases():
    """All of them."""
    for family in (4, 6):
        yield in_order(family)
        yield out_of_order(family)
        yield first_missing(family)
    yield from (interleaved(), of_a_connection(), atomic(), tiny())
