"""Connections that targets open themselves, and what else comes from targets."""

from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoReply, ICMPv6EchoRequest, IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Raw

from .. import rfc
from ..case import LOCAL, Case
from ..segment import (
    CLIENT_V4,
    CLIENT_V6,
    DVIPA_V4,
    DVIPA_V6,
    NODE_MAC,
    NODE_V4,
    NODE_V6,
    from_client,
    ip,
    payload,
    target,
    tcp,
    udp,
)

SERVER_PORT, LOCAL_PORT = 443, 40077


def inner(family, flags="S", **fields):
    """A SYN that a target sends with a DVIPA as its source."""
    src, dst = (DVIPA_V4, CLIENT_V4) if family == 4 else (DVIPA_V6, CLIENT_V6)
    return ip(family, src=fields.pop("src", src), dst=dst, **fields) / tcp(
        flags, sport=LOCAL_PORT, dport=SERVER_PORT
    )


def sent_by(stack, packet, encapsulation, outer, src=None):
    """The frame in which a target sends it to the routing stack."""
    layer = (
        IP(src=src or stack.v4, dst=NODE_V4, id=0, flags="DF")
        if outer == 4
        else IPv6(src=src or stack.v6, dst=NODE_V6)
    )
    raw = bytes(packet)
    carried = 41 if raw[0] >> 4 == 6 else 4
    if encapsulation == "ipip":
        layer = layer.__class__(**{**layer.fields, ("proto" if outer == 4 else "nh"): carried}) / Raw(raw)
    else:
        layer = layer / UDP(sport=50000, dport=6080, chksum=0) / Raw(bytes([0, carried, 0, 0]) + raw)
    return bytes(Ether(dst=NODE_MAC, src=stack.mac) / layer)


def delivered(stack, packet):
    """The frame in which the node's kernel gets the SYN to route it on."""
    raw = bytes(packet)
    return bytes(Ether(dst=NODE_MAC, src=stack.mac, type=0x86DD if raw[0] >> 4 == 6 else 0x0800)) + raw


def first_syn(encapsulation):
    """The first SYN of an outgoing connection, and the answer to it."""
    c = Case(
        f"outgoing-{encapsulation}",
        "The first SYN of a connection that a target opens makes the CRT entry and goes "
        "on through the node's kernel; the answer finds the target.",
        "requirement W6",
    )
    t1, t2 = target(1, "ipip"), target(2, "ipip")
    c.stack(t1, t2)
    c.serve([t1])
    for family in (4, 6):
        for outer in (4, 6):
            syn = inner(family)
            port = LOCAL_PORT + outer
            syn[TCP].sport = port
            c.packet(sent_by(t2, syn, encapsulation, outer), (LOCAL, delivered(t2, syn)), counts=["outgoing"])
            c.known.add((6, rfc.address(bytes(syn), 1), SERVER_PORT, rfc.address(bytes(syn), 0), port))
            answer = ip(family) / tcp("SA", sport=SERVER_PORT, dport=port)
            c.packet(from_client(answer), rfc.to(t2, answer), counts=["forwarded"])
    return c


def strangers():
    """Encapsulated packets that are no target's outgoing connection."""
    c = Case(
        "outgoing-strangers",
        "Encapsulated packets from strangers, or with a source that is no DVIPA, make no entry and "
        "are the kernel's.",
        "requirement W6, RFC 6169 section 2",
    )
    t1 = c.stack(target(1, "ipip"))
    c.serve([t1])
    for frame in (
        sent_by(t1, inner(4), "ipip", 4, src="198.18.0.99"),
        sent_by(t1, inner(4, src="198.18.0.21"), "gue", 4),
    ):
        c.packet(frame, (LOCAL, frame))
    c.packet(from_client(ip(4) / tcp("SA", sport=SERVER_PORT, dport=LOCAL_PORT)), drop="ask_unanswered")
    return c


def refused():
    """A target's packets that are not the first of a connection."""
    c = Case(
        "outgoing-refused",
        "What a target sends encapsulated with a DVIPA as its source and is no first SYN, or is one of "
        "another stack's connection, is dropped.",
        "requirement W6",
    )
    t1, t2 = target(1, "ipip"), target(2, "ipip")
    c.stack(t1, t2)
    c.serve([t1])
    c.connection(4, t2, sport=SERVER_PORT, dport=LOCAL_PORT)
    for packet in (inner(6, "A"), inner(6, "SA"), inner(6, "R"), inner(4)):
        c.packet(sent_by(t1, packet, "ipip", 4), drop="outgoing_refused")
    return c


def datagrams():
    """UDP and ping with a DVIPA as source."""
    c = Case(
        "outgoing-datagrams",
        "A datagram that a target sends encapsulated with a DVIPA as its source makes an entry, and so does an echo request: "
        "the answers go to that target.",
        "requirement R7",
    )
    t1, t2 = target(1, "ipip"), target(2, "ipip")
    c.stack(t1, t2)
    c.serve([t1])
    for family in (4, 6):
        src, dst = (DVIPA_V4, CLIENT_V4) if family == 4 else (DVIPA_V6, CLIENT_V6)
        asks = ip(family, src=src, dst=dst) / udp(sport=LOCAL_PORT, dport=53) / payload(20)
        answer = ip(family) / udp(sport=53, dport=LOCAL_PORT) / payload(90)
        c.packet(sent_by(t2, asks, "gue", 4), (LOCAL, delivered(t2, asks)), counts=["outgoing"])
        c.packet(from_client(answer), rfc.to(t2, answer), counts=["forwarded"])
        if family == 4:
            request, reply, stray = (ICMP(type=t, id=i, seq=1) for t, i in ((8, 77), (0, 77), (0, 78)))
        else:
            request, reply = ICMPv6EchoRequest(id=77, seq=1), ICMPv6EchoReply(id=77, seq=1)
            stray = ICMPv6EchoReply(id=78, seq=1)
        ping = ip(family, src=src, dst=dst) / request / payload(56)
        pong = ip(family) / reply / payload(56)
        c.packet(sent_by(t2, ping, "gue", 4), (LOCAL, delivered(t2, ping)), counts=["outgoing"])
        c.packet(from_client(pong), rfc.to(t2, pong), counts=["forwarded_echo"])
        c.packet(from_client(ip(family) / stray), drop="icmp_unmatched")
    return c


def congestion():
    """ECN at the decapsulation."""
    c = Case(
        "outgoing-ecn",
        "The outer header's ECN field reaches the inner packet, or the packet is dropped where it can't.",
        "RFC 6040 4.2, figure 4",
    )
    t1 = c.stack(target(1, "ipip"))
    c.serve([t1])
    port = 41000
    for family in (4, 6):
        for outside, inside, after in FIGURE_4:
            port += 1
            syn, marked = inner(family, tos=inside), inner(family, tos=after or 0)
            syn[TCP].sport = marked[TCP].sport = port
            frame = bytearray(sent_by(t1, syn, "ipip", 4))
            head = frame[14:34]
            head[1], head[10:12] = outside, b"\0\0"
            frame[14:34] = head[:10] + rfc.ones_complement(bytes(head)).to_bytes(2) + head[12:]
            if after is None:
                c.packet(frame, drop="congested")
            else:
                c.packet(frame, (LOCAL, delivered(t1, marked)), counts=["outgoing"])
    return c


NOT_ECT, ECT1, ECT0, CE = range(4)
# Outer and inner field, and what the decapsulated packet has; None: it is dropped.
FIGURE_4 = (
    (NOT_ECT, NOT_ECT, NOT_ECT),
    (ECT0, NOT_ECT, NOT_ECT),
    (ECT1, NOT_ECT, NOT_ECT),
    (CE, NOT_ECT, None),
    (NOT_ECT, ECT0, ECT0),
    (ECT0, ECT0, ECT0),
    (ECT1, ECT0, ECT1),
    (CE, ECT0, CE),
    (NOT_ECT, ECT1, ECT1),
    (ECT0, ECT1, ECT1),
    (ECT1, ECT1, ECT1),
    (CE, ECT1, CE),
    (NOT_ECT, CE, CE),
    (ECT0, CE, CE),
    (ECT1, CE, CE),
    (CE, CE, CE),
)


def cases():
    """All of them."""
    yield from (first_syn("ipip"), first_syn("gue"), strangers(), refused(), datagrams(), congestion())
