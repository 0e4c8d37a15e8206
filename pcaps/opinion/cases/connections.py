"""Packets of known connections, of ended ones, and of none."""

from .. import rfc
from ..case import Case
from ..segment import from_client, ip, payload, target, tcp, udp
from ..case import connection


def two(name, sentence, source, **kw):
    """A case with two targets; port 80 is distributed to the first only, so that an entry shows."""
    c = Case(name, sentence, source)
    t1, t2 = target(1), target(2)
    c.stack(t1, t2)
    c.serve([t1])
    c.serve([t1], port=53, protocol="udp")
    return c, t1, t2


def unknown():
    """No entry, no SYN."""
    c, _, _ = two(
        "no-connection",
        "A TCP packet without SYN that belongs to no known connection is never guessed: where nobody can be asked, dropped.",
        "requirement W4, R4",
    )
    for family in (4, 6):
        for flags in ("A", "PA", "FA", "R", "SA", "", "SR"):
            c.packet(from_client(ip(family) / tcp(flags)), drop="ask_unanswered")
    return c


def established():
    """An established connection."""
    c, _, t2 = two(
        "established",
        "A known connection's packets go to its owner, whatever their flags and the DPT say.",
        "requirement W4",
    )
    for family in (4, 6):
        c.connection(family, t2)
        for flags in ("A", "PA", "FA", "R", "SA"):
            packet = ip(family) / tcp(flags) / payload(2)
            c.packet(from_client(packet), rfc.to(t2, packet))
    return c


def undistributed():
    """A connection to a port that is not in the DPT (row U2's and W6's shape)."""
    c, _, t2 = two(
        "established-undistributed",
        "A known connection is forwarded also where its port is not distributed.",
        "requirement W6",
    )
    c.connection(4, t2, dport=33000)
    packet = ip(4) / tcp("A", dport=33000)
    c.packet(from_client(packet), rfc.to(t2, packet))
    return c


def closing():
    """After the end of a connection."""
    c, t1, t2 = two(
        "closing",
        "After a connection's end its last packets still reach the owner; a new SYN selects anew; "
        "after a while there is no entry.",
        "RFC 9293 3.6, requirement W6",
    )
    c.connection(4, t2, state="closing")
    last = ip(4) / tcp("A")
    c.packet(from_client(last), rfc.to(t2, last))
    c.at(1001)
    again = ip(4) / tcp("S")
    c.packet(from_client(again), rfc.to(t1, again), counts=["forwarded_new"])
    c.at(1002)
    c.packet(from_client(last), rfc.to(t1, last))
    return c


def terminated():
    """TERMCONN between two packets."""
    c, _, t2 = two("terminated", "TERMCONN starts the short life after a connection's end.", "requirement W6")
    c.connection(4, t2)
    last = ip(4) / tcp("FA")
    c.packet(from_client(last), rfc.to(t2, last))
    c.event("terminate", (connection(4), "t2"))
    c.packet(from_client(last), rfc.to(t2, last))
    c.at(1000 + 12_000)
    c.event("tick", True)
    c.packet(from_client(last), drop="ask_unanswered")
    return c


def confirmed():
    """NEWCONN between two packets."""
    c, t1, _ = two("confirmed", "NEWCONN makes a half-open entry last.", "requirement W6")
    syn, data = ip(4) / tcp("S"), ip(4) / tcp("A")
    c.packet(from_client(syn), rfc.to(t1, syn))
    c.event("confirm", (connection(4), "t1"))
    c.at(1000 + 60_000)
    c.event("tick", True)
    c.packet(from_client(data), rfc.to(t1, data))
    return c


def half_open_ages():
    """No NEWCONN."""
    c, t1, _ = two(
        "half-open-ages",
        "A half-open entry that nobody confirms ends after its short life.",
        "requirement W4",
    )
    syn, data = ip(4) / tcp("S"), ip(4) / tcp("A")
    c.packet(from_client(syn), rfc.to(t1, syn))
    c.at(1000 + 20_000)
    c.event("tick", True)
    c.packet(from_client(data), drop="ask_unanswered")
    return c


def frozen():
    """A connection that moves."""
    c, _, t2 = two(
        "frozen", "A packet of a frozen connection waits, is given up after five seconds and is counted.", "requirement C5"
    )
    for family in (4, 6):
        c.connection(family, t2, state="frozen")
        c.packet(from_client(ip(family) / tcp("A")), held=True)
    c.at(5999)
    c.event("tick", True)
    c.at(6000)
    c.event("tick", True, drop=["frozen", "frozen"])
    return c


def udp_flow():
    """UDP."""
    c, t1, _ = two(
        "udp", "A datagram of no known flow is given a target, and the flow keeps it.", "requirement W4"
    )
    for size in (1, 2, 3):
        for family in (4, 6):
            packet = ip(family) / udp() / payload(size)
            c.packet(from_client(packet), rfc.to(t1, packet))
    c.at(1000 + 30_000)
    c.event("tick", True)
    packet = ip(4) / udp() / payload(4)
    c.packet(from_client(packet), rfc.to(t1, packet))
    return c


def gone():
    """The owner is a stack that no DPT row names any more."""
    c, _, t2 = two(
        "owner-not-distributed",
        "A connection stays with an owner that is given no new connections any more.",
        "requirement W5",
    )
    c.connection(4, t2)
    packet = ip(4) / tcp("A")
    c.packet(from_client(packet), rfc.to(t2, packet))
    return c


def cases():
    """All of them."""
    yield from (
        unknown(),
        established(),
        undistributed(),
        closing(),
        terminated(),
        confirmed(),
        half_open_ages(),
    )
    yield from (frozen(), udp_flow(), gone())
