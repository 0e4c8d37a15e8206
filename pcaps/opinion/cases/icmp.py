"""ICMP: errors about a connection go to its owner, echo is answered."""

import struct

from scapy.layers.inet import ICMP
from scapy.layers.inet6 import ICMPv6DestUnreach, ICMPv6EchoRequest, ICMPv6PacketTooBig, ICMPv6TimeExceeded

from .. import flow, rfc
from ..case import Case
from ..segment import (
    CLIENT_V4,
    CLIENT_V6,
    DVIPA_V4,
    DVIPA_V6,
    ROUTER_V4,
    ROUTER_V6,
    from_client,
    ip,
    payload,
    target,
    tcp,
    udp,
)


def sent_by_target(family, protocol="tcp", sport=80, dport=40000, size=64):
    """A packet of a connection from the DVIPA to the client: what an ICMP error quotes."""
    here, there = (DVIPA_V4, CLIENT_V4) if family == 4 else (DVIPA_V6, CLIENT_V6)
    layer = tcp("A", sport=sport, dport=dport) if protocol == "tcp" else udp(sport=sport, dport=dport)
    return bytes(ip(family, src=here, dst=there, ttl=63) / layer / payload(size))


def error4(quote, kind=3, code=1, **fields):
    """An ICMP error from a router on the way."""
    return ip(4, src=ROUTER_V4, flags=0) / ICMP(type=kind, code=code, **fields) / quote


def connection_and_target(name, sentence, source, encapsulation="gue"):
    """A case with an established TCP and UDP connection of each family at the second of two targets."""
    c = Case(name, sentence, source)
    t1, t2 = target(1, encapsulation), target(2, encapsulation)
    c.stack(t1, t2)
    c.serve([t1, t2])
    for family in (4, 6):
        c.connection(family, t2)
        c.connection(family, t2, protocol="udp", dport=53)
    return c, t2


def errors4():
    """ICMP errors."""
    c, t2 = connection_and_target(
        "icmp-error-4",
        "An ICMP error that quotes a connection goes to the stack that has it.",
        "RFC 792, RFC 1191 section 3",
    )
    whole = sent_by_target(4)
    for quote, protocol, kind, code, fields in (
        (whole, "tcp", 3, 1, {}),
        (whole, "tcp", 3, 4, {"nexthopmtu": 1280}),
        (whole, "tcp", 11, 0, {}),
        (whole[:28], "tcp", 3, 3, {}),
        (sent_by_target(4, "udp", sport=53), "udp", 3, 3, {}),
    ):
        c.packet(
            from_client(error4(quote, kind, code, **fields)),
            rfc.to(t2, error4(quote, kind, code, **fields), follows=flow.of_quoted(quote)),
            counts=["forwarded_icmp_error"],
        )
    return c


def errors6():
    """ICMPv6 errors."""
    c, t2 = connection_and_target(
        "icmp-error-6",
        "An ICMPv6 error that quotes a connection goes to the stack that has it.",
        "RFC 4443 section 3, RFC 8201",
    )
    tcp_quote, udp_quote = sent_by_target(6), sent_by_target(6, "udp", sport=53)
    for quote, layer in (
        (tcp_quote, ICMPv6DestUnreach(code=0)),
        (tcp_quote, ICMPv6PacketTooBig(mtu=1280)),
        (tcp_quote, ICMPv6TimeExceeded()),
        (udp_quote, ICMPv6DestUnreach(code=4)),
        (tcp_quote[:48], ICMPv6DestUnreach(code=3)),
    ):
        packet = ip(6, src=ROUTER_V6) / layer / quote
        c.packet(
            from_client(packet),
            rfc.to(t2, packet, follows=flow.of_quoted(quote)),
            counts=["forwarded_icmp_error"],
        )
    return c


def unknown():
    """Errors about nothing known."""
    c, _ = connection_and_target(
        "icmp-error-unknown",
        "An ICMP error that quotes no known connection is dropped.",
        "RFC 5927 section 4",
    )
    c.packet(from_client(error4(sent_by_target(4, dport=40001))), drop="icmp_unmatched")
    c.packet(
        from_client(ip(6, src=ROUTER_V6) / ICMPv6DestUnreach() / sent_by_target(6, dport=40001)),
        drop="icmp_unmatched",
    )
    return c


def backwards():
    """An error that quotes a packet in the other direction."""
    c, _ = connection_and_target(
        "icmp-error-not-ours",
        "An ICMP error that quotes a packet which the DVIPA did not send is dropped.",
        "RFC 5927 section 4",
    )
    quote = bytes(ip(4) / tcp("A"))
    c.packet(from_client(error4(quote)), drop="icmp_unmatched")
    return c


def malformed():
    """Quotes that can't be read."""
    c, _ = connection_and_target(
        "icmp-error-malformed",
        "An ICMP error whose quote is too short or no IP is dropped.",
        "RFC 1122 3.2.2",
    )
    c.packet(from_client(error4(sent_by_target(4)[:20])), drop="icmp_unmatched")
    c.packet(from_client(error4(b"\x00" * 40)), drop="icmp_unmatched")
    c.packet(from_client(error4(sent_by_target(6))), drop="icmp_unmatched")
    c.packet(
        from_client(ip(6, src=ROUTER_V6) / ICMPv6DestUnreach() / sent_by_target(6)[:40]),
        drop="icmp_unmatched",
    )
    return c


def echo(family):
    """Echo."""
    c = Case(
        f"echo-{family}",
        "An echo request to a DVIPA is answered by the worker, whatever its length.",
        "RFC 792, RFC 1122 3.2.2.6" if family == 4 else "RFC 4443 4.2",
    )
    for size in (0, 1, 56, 1400):
        layer = ICMP(type=8, id=7, seq=size) if family == 4 else ICMPv6EchoRequest(id=7, seq=size)
        request = ip(family, tos=0x28) / layer / payload(size)
        c.packet(from_client(request), rfc.echo_reply(request), counts=["answered_echo"])
    return c


def echo_bad():
    """Echo requests that must not be answered."""
    c = Case("echo-bad-checksum", "An echo request with a wrong checksum is not answered.", "RFC 1122 3.2.2")
    c.packet(from_client(ip(4) / ICMP(type=8, chksum=1) / payload(8)), drop="bad_checksum")
    c.packet(from_client(ip(6) / ICMPv6EchoRequest(cksum=1) / payload(8)), drop="bad_checksum")
    return c


def other():
    """ICMP that is neither an error nor an echo request."""
    c = Case(
        "icmp-other",
        "ICMP that is neither an error nor an echo request, nor the reply to one of a target's, has no business at a DVIPA.",
        "RFC 1122 3.2.2",
    )
    c.packet(from_client(ip(4) / ICMP(type=13, ts_ori=1, ts_rx=0, ts_tx=0)), drop="icmp_unsupported")
    c.packet(from_client(ip(4) / ICMP(type=0, id=3) / payload(8)), drop="icmp_unmatched")
    c.packet(from_client(ip(6, nh=58) / bytes([200, 0]) / struct.pack(">HI", 0, 0)), drop="icmp_unsupported")
    return c


def cases():
    """All of them."""
    yield from (
        errors4(),
        errors6(),
        unknown(),
        backwards(),
        malformed(),
        echo(4),
        echo(6),
        echo_bad(),
        other(),
    )
