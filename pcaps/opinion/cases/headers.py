"""What the headers of a packet may hold, and what of it shows outside: options, DSCP and ECN, TTL, checksums."""

from scapy.layers.inet import ICMP, IP, IPOption_RR, IPOption_Router_Alert
from scapy.layers.inet6 import (
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
    PadN,
    RouterAlert,
)

from .. import rfc
from ..case import Case
from ..segment import CLIENT_V4, DVIPA_V4, DVIPA_V6, ROUTER_V4, from_client, ip, payload, target, tcp, udp

ECN = {0: "not-ect", 1: "ect1", 2: "ect0", 3: "ce"}


def one_target(name, sentence, source, encapsulation="ipip", **kw):
    """A case with one target that serves TCP port 80 and UDP port 53."""
    c = Case(name, sentence, source)
    t1 = c.stack(target(1, encapsulation, **kw))
    c.serve([t1])
    c.serve([t1], port=53, protocol="udp")
    return c, t1


def forwards(c, t1, *packets):
    """Each packet reaches the target."""
    for packet in packets:
        c.packet(from_client(packet), rfc.to(t1, packet))


def ecn(encapsulation, value):
    """One ECN codepoint in one encapsulation, every pair of families."""
    c = Case(
        f"ecn-{encapsulation}-{ECN[value]}",
        f"ECN {ECN[value]} of the inner header is copied to the outer one, {encapsulation.upper()}, all families.",
        "RFC 6040 4.1, normal mode",
    )
    t1 = c.stack(target(1, encapsulation, families="4"))
    t2 = target(2, encapsulation, families="6")
    c.stack(t2)
    c.serve([t1], port=80)
    c.serve([t2], port=81)
    for family in (4, 6):
        for dport, stack in ((80, t1), (81, t2)):
            for flags in ("S", "A"):
                packet = ip(family, tos=value) / tcp(flags, dport=dport)
                c.packet(from_client(packet), rfc.to(stack, packet))
    return c


def dscp():
    """DSCP values, alone and with ECN."""
    c, t1 = one_target(
        "dscp",
        "DSCP is copied to the outer header, and is not mixed up with ECN.",
        "RFC 2983 section 3.1",
        "gue",
    )
    for family in (4, 6):
        for codepoint in (0, 10, 46, 63):
            for bits in (0, 2):
                forwards(c, t1, ip(family, tos=codepoint << 2 | bits) / tcp("S", sport=41000 + codepoint))
    return c


def dscp_l2():
    """Without an outer header nothing of them changes."""
    c, t1 = one_target(
        "dscp-ecn-l2", "An L2 rewrite leaves DSCP and ECN as they are.", "RFC 2474 section 3", "l2"
    )
    for family in (4, 6):
        forwards(c, t1, ip(family, tos=0xBB) / tcp("S"))
    return c


def options4():
    """IPv4 options are carried along."""
    c, t1 = one_target(
        "ipv4-options",
        "IPv4 options stay in the inner header and are not copied to the outer one.",
        "RFC 2003 section 3.1",
    )
    forwards(
        c,
        t1,
        ip(4, options=[IPOption_Router_Alert()]) / tcp("S"),
        ip(4, options=[IPOption_RR(length=39, pointer=4, routers=["0.0.0.0"] * 9)]) / tcp("A"),
        ip(4, options=[IPOption_Router_Alert()]) / udp() / payload(9),
    )
    return c


def extensions6():
    """IPv6 extension headers before the transport header."""
    c, t1 = one_target(
        "ipv6-extension-headers",
        "IPv6 extension headers are walked to find the ports, and carried along.",
        "RFC 8200 section 4.1",
    )
    forwards(
        c,
        t1,
        ip(6) / IPv6ExtHdrHopByHop(options=[PadN(optdata=b"\0" * 4)]) / tcp("S"),
        ip(6) / IPv6ExtHdrDestOpt(options=[PadN(optdata=b"\0" * 12)]) / tcp("A"),
        ip(6)
        / IPv6ExtHdrHopByHop(options=[RouterAlert(), PadN(optdata=b"")])
        / IPv6ExtHdrDestOpt(options=[PadN(optdata=b"\0" * 4)])
        / udp()
        / payload(5),
        ip(6) / IPv6ExtHdrRouting(type=0, segleft=0, addresses=["2001:db8::77"]) / tcp("A"),
    )
    return c


def tcp_options():
    """TCP options of a SYN and of data."""
    c, t1 = one_target("tcp-options", "TCP options are nobody's business on the way.", "RFC 9293 3.2")
    syn = [("MSS", 1460), ("SAckOK", b""), ("Timestamp", (12345, 0)), ("NOP", None), ("WScale", 7)]
    data = [
        ("NOP", None),
        ("NOP", None),
        ("Timestamp", (12346, 99)),
        ("NOP", None),
        ("NOP", None),
        ("SAck", (3000, 4000)),
    ]
    for family in (4, 6):
        forwards(c, t1, ip(family) / tcp("S", options=syn), ip(family) / tcp("A", options=data))
    return c


def decrement():
    """TTL and hop limit."""
    c, t1 = one_target(
        "ttl-decrement",
        "The inner TTL or hop limit is one less, the outer one is 64.",
        "RFC 2003 section 3.1",
        "gue",
    )
    for family in (4, 6):
        for ttl in (255, 64, 2):
            forwards(c, t1, ip(family, ttl=ttl) / tcp("S", sport=42000 + ttl))
    return c


def checksum_wraps():
    """Checksums where an update in place goes wrong first."""
    c, t1 = one_target(
        "checksum-wrap",
        "The decremented header's checksum is right where the sum wraps.",
        "RFC 1624 section 4",
        "l2",
    )
    for ident in range(0, 0x10000, 0x0AAB):
        forwards(c, t1, ip(4, id=ident, tos=ident & 0xFC) / tcp("S", sport=43000))
    for wanted in (0x0000, 0x0001, 0xFEFF, 0xFF00, 0xFFFE):
        forwards(c, t1, ip(4, id=identification_for(wanted)) / tcp("A", sport=43000))
    return c


def identification_for(checksum):
    """The identification that gives a TCP packet without payload this header checksum (both are in one sum)."""
    without = ~rfc.ones_complement(bytes(ip(4, id=0, chksum=0, len=40, proto=6))[:20]) & 0xFFFF
    return ((~checksum & 0xFFFF) - without) % 0xFFFF


def expired(family):
    """A packet that has no hop left."""
    what = "TTL" if family == 4 else "hop limit"
    c, _ = one_target(
        f"expired-{family}",
        f"A packet with {what} 1 is answered with time exceeded from the DVIPA.",
        "RFC 1812 5.3.1, RFC 792" if family == 4 else "RFC 4443 3.3",
    )
    for ttl in (1, 0):
        for packet in (ip(family, ttl=ttl) / tcp("S"), ip(family, ttl=ttl) / udp() / payload(1300)):
            c.packet(from_client(packet), rfc.error(packet, "expired"), counts=["answered_time_exceeded"])
    return c


def expired_silently():
    """Packets with no hop left about which no error may be sent."""
    c, t1 = one_target(
        "expired-silently",
        "No error is sent about an ICMP error, or about a fragment that is not the first.",
        "RFC 1812 4.3.2.7",
    )
    c.connection(4, t1)
    quote = bytes(ip(4, src=DVIPA_V4, dst=CLIENT_V4) / tcp("A", sport=80, dport=40000))
    error = ip(4, src=ROUTER_V4, flags=0, ttl=1) / ICMP(type=3, code=1) / quote
    c.packet(from_client(error), drop="hop_limit")
    whole = ip(4, flags=0, ttl=64) / udp() / payload(2000)
    first, second = (IP(piece) for piece in rfc.fragments4(whole, 1400))
    c.packet(from_client(first), rfc.to(t1, first))
    second.ttl, second.chksum = 1, None
    c.packet(from_client(second), drop="hop_limit")
    return c


def bad_source():
    """Sources that no packet from outside can have."""
    c, _ = one_target(
        "bad-source",
        "A packet from a loopback, multicast, unspecified or broadcast address, or from the DVIPA "
        "itself, is dropped.",
        "RFC 1812 5.3.7, RFC 4291 2.5.2, 2.5.3, 2.7",
    )
    for source in ("127.0.0.1", "0.0.0.0", "224.0.0.1", "255.255.255.255", DVIPA_V4):
        c.packet(from_client(ip(4, src=source) / tcp("S")), drop="bad_source")
    for source in ("::1", "::", "ff02::1", DVIPA_V6):
        c.packet(from_client(ip(6, src=source) / tcp("S")), drop="bad_source")
    return c


def reserved_source():
    """Clients in 240.0.0.0/4."""
    c, t1 = one_target(
        "reserved-source",
        "A client of 240.0.0.0/4, which large networks use, is served as Linux serves it.",
        "Linux, ip_route_input_slow; RFC 1112 4 reserves the class",
    )
    forwards(c, t1, *(ip(4, src=s) / tcp("S") for s in ("240.0.0.5", "254.255.255.255", "255.255.255.254")))
    return c


def bad_checksum():
    """A damaged IPv4 header."""
    c, t1 = one_target(
        "bad-ipv4-checksum", "A packet with a wrong IPv4 header checksum is dropped.", "RFC 1812 5.2.2"
    )
    for wrong in (0x0001, 0xFFFF, 0x0000):
        c.packet(from_client(ip(4, chksum=wrong) / tcp("S")), drop="bad_checksum")
    forwards(c, t1, ip(4) / tcp("S"))
    return c


def transport_checksum():
    """A damaged segment is not the forwarder's to judge."""
    c, t1 = one_target(
        "bad-tcp-checksum", "A wrong TCP or UDP checksum is the target's to find.", "RFC 9293 3.1"
    )
    forwards(c, t1, ip(4) / tcp("S", chksum=0xBAD), ip(4) / udp(chksum=0) / payload(4))
    return c


def padding():
    """Ethernet padding."""
    c, t1 = one_target(
        "ethernet-padding", "What pads a short frame to 60 bytes is not carried along.", "RFC 894"
    )
    for family in (4, 6):
        packet = ip(family) / udp()
        c.packet(from_client(packet).ljust(60, b"\0"), rfc.to(t1, packet))
        c.packet(from_client(packet).ljust(90, b"x"), rfc.to(t1, packet))
    return c


def cases():
    """All of them."""
    for encapsulation in ("ipip", "gue"):
        for value in ECN:
            yield ecn(encapsulation, value)
    yield from (dscp(), dscp_l2(), options4(), extensions6(), tcp_options(), decrement(), checksum_wraps())
    yield from (
        expired(4),
        expired(6),
        expired_silently(),
        bad_source(),
        reserved_source(),
        bad_checksum(),
        transport_checksum(),
        padding(),
    )
