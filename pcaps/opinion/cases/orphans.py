"""Packets that belong to no entry: who has the connection is asked, and what nobody has is refused."""

from .. import rfc
from ..case import Case, connection
from ..segment import from_client, ip, payload, target, tcp, udp


def one(name, sentence, source, encapsulation="ipip"):
    """A case with one target, which may have connections without an entry."""
    c = Case(name, sentence, source)
    t1 = c.stack(target(1, encapsulation))
    c.serve([t1])
    c.may_have(t1)
    return c, t1


def claimed(family):
    """The target has the connection."""
    c, t1 = one(
        f"ask-claimed-{family}",
        "A packet without an entry goes to the candidate with the ask option; once it reports the connection, "
        "what waited follows, and later packets as well.",
        "requirement R4; draft-ietf-intarea-gue-09 3.2",
    )
    first, second = ip(family) / tcp("PA") / payload(9), ip(family) / tcp("A")
    c.packet(from_client(first), rfc.asked(t1, first), held=True)
    c.packet(from_client(second), held=True)
    c.event("confirm", (connection(family), "t1"))
    c.at(1010)
    c.event("tick", True, ["forwarded", "forwarded"], [rfc.to(t1, first), rfc.to(t1, second)])
    c.packet(from_client(second), rfc.to(t1, second), counts=["forwarded"])
    return c


def unclaimed(family):
    """Nobody has it."""
    c, t1 = one(
        f"ask-unclaimed-{family}",
        "A connection that no candidate claims is reset, at once as long as that is remembered; a reset is not answered.",
        "requirement R4, RFC 9293 3.10.7.1",
    )
    data, fin = ip(family) / tcp("PA") / payload(9), ip(family) / tcp("FA")
    c.packet(from_client(data), rfc.asked(t1, data), held=True)
    c.at(1300)
    c.event("tick", True, [], [rfc.asked(t1, data)])
    c.at(1600)
    c.event("tick", True, ["refused_reset"], [rfc.reset(data)])
    c.packet(from_client(fin), rfc.reset(fin), counts=["refused_reset"])
    bare = ip(family) / tcp("") / payload(3)
    c.packet(from_client(bare), rfc.reset(bare), counts=["refused_reset"])
    c.packet(from_client(ip(family) / tcp("R")), drop="no_connection")
    return c


def silent():
    """By policy nobody is told."""
    c = Case("refuse-silent", "Where the policy is silent, nothing is answered.", "requirement R6")
    c.stack(target(1))
    c.refuse = "silent"
    for family in (4, 6):
        c.packet(from_client(ip(family) / tcp("S")), drop="refused_silent")
        c.packet(from_client(ip(family) / udp() / payload(3)), drop="refused_silent")
    return c


def refused_numbers():
    """RFC 9293 3.10.7.1 line by line."""
    c, _ = one("refuse-numbers", "A reset has the numbers that its receiver accepts.", "RFC 9293 3.10.7.1")
    for family in (4, 6):
        for flags, size in (("S", 0), ("S", 5), ("SE", 0)):
            packet = ip(family) / tcp(flags, dport=81) / payload(size)
            c.packet(from_client(packet), rfc.reset(packet), counts=["refused_reset"])
    return c


def cases():
    """All of them."""
    for family in (4, 6):
        yield from (claimed(family), unclaimed(family))
    yield from (silent(), refused_numbers())
