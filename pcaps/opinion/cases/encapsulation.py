"""Each way to a target: encapsulation, outer and inner family, protocol."""

from .. import rfc
from ..case import Case
from ..segment import NODE_V4, from_client, ip, payload, target, tcp, udp

OUTER_PROTOCOL = {
    ("ipip", 4, 4): "RFC 2003",
    ("ipip", 6, 4): "RFC 4213",
    ("ipip", 4, 6): "RFC 2473",
    ("ipip", 6, 6): "RFC 2473",
}


def carried(encapsulation, inner, outer):
    """A SYN and the packets after it, TCP and UDP, in one encapsulation and pair of families."""
    names = "" if encapsulation == "l2" else f"-{inner}in{outer}"
    family = f"IPv{inner}" if encapsulation == "l2" else f"IPv{inner} in IPv{outer}"
    source = OUTER_PROTOCOL.get(
        (encapsulation, inner, outer),
        {
            "gue": "draft-ietf-intarea-gue-09 section 3, RFC 6935",
            "l2": "RFC 1812 5.3.1",
        }.get(encapsulation),
    )
    c = Case(
        f"{encapsulation}-{inner}{names}" if encapsulation == "l2" else f"{encapsulation}{names}",
        f"A connection and a datagram reach their target by {encapsulation.upper()}, {family}.",
        source,
    )
    t1 = c.stack(target(1, encapsulation, families=str(outer)))
    c.serve([t1])
    c.serve([t1], port=53, protocol="udp")
    for inner_packet in (
        ip(inner) / tcp("S"),
        ip(inner) / tcp("A"),
        ip(inner) / tcp("PA") / payload(300),
        ip(inner) / udp() / payload(31),
        ip(inner) / udp() / payload(0),
    ):
        c.packet(from_client(inner_packet), rfc.to(t1, inner_packet))
    return c


def both_families():
    """A target with both cluster addresses."""
    c = Case(
        "outer-family",
        "A target with an IPv4 and an IPv6 cluster address is reached over IPv4.",
        "model::dpt::Reach",
    )
    t1 = c.stack(target(1, "ipip", families="46"))
    c.serve([t1])
    for family in (4, 6):
        syn = ip(family) / tcp("S")
        c.packet(from_client(syn), rfc.to(t1, syn))
    return c


def unresolved():
    """A target whose next hop's MAC address nobody knows yet."""
    c = Case(
        "next-hop-unresolved",
        "A packet for a target without a known next hop is dropped and counted.",
        "RFC 1812 5.2",
    )
    t1 = c.stack(target(1, "gue", mac=False))
    c.serve([t1])
    c.packet(from_client(ip(4) / tcp("S")), drop="next_hop_unresolved")
    c.packet(from_client(ip(6) / tcp("S")), drop="next_hop_unresolved")
    return c


def unreachable():
    """A target in a family that the node does not have."""
    c = Case(
        "stack-unreachable",
        "A packet for a stack with no cluster address of a family that the node has is dropped.",
        "model::dpt::Reach",
        node=(NODE_V4,),
    )
    t1 = c.stack(target(1, "gue", families="6"))
    c.serve([t1])
    for family in (4, 6):
        c.packet(from_client(ip(family) / tcp("S")), drop="stack_unreachable")
    return c


def flows_differ():
    """GUE's source port."""
    c = Case(
        "gue-flows",
        "GUE takes its source port from the flow, one flow always the same one.",
        "draft-ietf-intarea-gue-09 5.11, RFC 6335 section 6",
    )
    t1 = c.stack(target(1, "gue"))
    c.serve([t1])
    for sport in (40000, 40001, 40002, 40000):
        for family in (4, 6):
            syn = ip(family) / tcp("S", sport=sport)
            c.packet(from_client(syn), rfc.to(t1, syn))
    return c


def cases():
    """All of them."""
    for encapsulation in ("ipip", "gue"):
        for inner in (4, 6):
            for outer in (4, 6):
                yield carried(encapsulation, inner, outer)
    yield carried("l2", 4, 4)
    yield carried("l2", 6, 6)
    yield both_families()
    yield unresolved()
    yield unreachable()
    yield flows_differ()
