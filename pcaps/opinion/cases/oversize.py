"""Packets that do not fit any more once they are encapsulated."""

from scapy.layers.inet import IPOption_Router_Alert
from scapy.layers.inet6 import IPv6ExtHdrFragment

from .. import flow, rfc
from ..case import Case
from ..segment import from_client, ip, payload, target, tcp


def of(family, encapsulation, outer, name, **fields):
    """A connection at one target, and the largest segment that fits."""
    c = Case(name, "", "")
    t1 = c.stack(target(1, encapsulation, families=str(outer)))
    c.serve([t1])
    c.connection(family, t1)
    header = 40 if family == 4 else 60
    fits = rfc.FABRIC_MTU - rfc.overhead(t1)
    return c, t1, fits, lambda size: ip(family, **fields) / tcp("A") / payload(size - header)


def with_df(encapsulation, outer):
    """IPv4 with DF."""
    c, t1, fits, segment = of(4, encapsulation, outer, f"oversize-4-{encapsulation}-over-{outer}")
    c.sentence = (
        "A packet with DF that would not fit is answered with fragmentation needed and the size that does."
    )
    c.source = "RFC 1191, RFC 2003 section 5.1"
    c.packet(from_client(segment(fits)), rfc.to(t1, segment(fits)))
    for size in (fits + 1, 1500):
        c.packet(
            from_client(segment(size)), rfc.error(segment(size), "too-big", fits), counts=["answered_too_big"]
        )
    return c


def version6(encapsulation, outer):
    """IPv6."""
    c, t1, fits, segment = of(6, encapsulation, outer, f"oversize-6-{encapsulation}-over-{outer}")
    c.sentence = "An IPv6 packet that would not fit is answered with packet too big and the size that does."
    c.source = "RFC 8201, RFC 2473 section 7.1"
    c.packet(from_client(segment(fits)), rfc.to(t1, segment(fits)))
    for size in (fits + 1, 1500):
        c.packet(
            from_client(segment(size)), rfc.error(segment(size), "too-big", fits), counts=["answered_too_big"]
        )
    return c


def without_df():
    """IPv4 that may be fragmented."""
    c, t1, fits, segment = of(4, "ipip", 4, "oversize-without-df", flags=0)
    c.sentence = "A packet without DF that would not fit is fragmented before it is encapsulated."
    c.source = "RFC 791 3.2, RFC 2003 section 5"
    c.packet(from_client(segment(fits)), rfc.to(t1, segment(fits)))
    pieces = rfc.fragments4(segment(1500), fits)
    hashed = flow.hash_of(pieces[0])
    c.packet(
        from_client(segment(1500)),
        *(rfc.to(t1, piece, follows=hashed) for piece in pieces),
        counts=["forwarded"],
    )
    return c


def options_without_df():
    """IPv4 with options."""
    c, _, fits, _ = of(4, "ipip", 4, "oversize-options", flags=0)
    c.sentence = "A packet without DF that would not fit and has options is dropped."
    c.source = "RFC 791 3.2"
    segment = ip(4, flags=0, options=[IPOption_Router_Alert()]) / tcp("A") / payload(fits - 40)
    c.packet(from_client(segment), drop="too_big_unfragmented")
    return c


def fragment_too_big():
    """A fragment that is to be fragmented again."""
    c, t1, fits, _ = of(4, "ipip", 4, "oversize-fragment", flags=0)
    c.sentence = "A fragment that would not fit is fragmented again, with offsets and flags as of the whole."
    c.source = "RFC 791 3.2"
    whole = ip(4, flags=0, id=7) / tcp("A") / payload(2900)
    for i, piece in enumerate(rfc.fragments4(whole, 1500)):
        parts = rfc.fragments4(piece, fits)
        how = "forwarded_fragment" if i else "forwarded"
        c.packet(from_client(piece), *(rfc.to(t1, part) for part in parts), counts=[how])
    return c


def fragment6_too_big():
    """IPv6 fragments are not fragmented."""
    c, _, fits, _ = of(6, "gue", 6, "oversize-fragment-6")
    c.sentence = (
        "An IPv6 fragment that would not fit is answered with packet too big, the first and the later ones."
    )
    c.source = "RFC 4443 3.2, RFC 8200 section 5"
    data = bytes(ip(6) / tcp("A") / payload(2876))[40:]
    first = ip(6) / IPv6ExtHdrFragment(nh=6, offset=0, m=1, id=3) / data[:1448]
    second = ip(6) / IPv6ExtHdrFragment(nh=6, offset=181, m=0, id=3) / data[1448:]
    for piece in (first, second):
        c.packet(from_client(piece), rfc.error(piece, "too-big", fits), counts=["answered_too_big"])
    return c


def larger_than_the_mtu():
    """A frame that no segment with this MTU carries: an offload that was left on."""
    c, t1, fits, segment = of(4, "l2", 4, "oversize-l2")
    c.sentence = (
        "An L2 rewrite adds nothing: 1500 bytes pass, and more is answered like any packet that is too big."
    )
    c.source = "RFC 1191"
    c.packet(from_client(segment(1500)), rfc.to(t1, segment(1500)))
    c.packet(
        from_client(segment(1501)), rfc.error(segment(1501), "too-big", fits), counts=["answered_too_big"]
    )
    return c


def cases():
    """All of them."""
    for encapsulation in ("ipip", "gue"):
        for outer in (4, 6):
            yield with_df(encapsulation, outer)
            yield version6(encapsulation, outer)
    yield from (
        without_df(),
        options_without_df(),
        fragment_too_big(),
        fragment6_too_big(),
        larger_than_the_mtu(),
    )
