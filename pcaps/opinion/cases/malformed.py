"""Lengths that lie, and headers that end too early."""

import struct

from scapy.layers.inet6 import IPv6ExtHdrHopByHop, PadN

from ..case import LOCAL, Case
from ..segment import CLIENT_MAC, NODE_MAC, from_client, ip, payload, tcp, udp
from .headers import one_target


def drops(name, sentence, source, *frames):
    """A case of frames that die, each with its reason."""
    c, _ = one_target(name, sentence, source)
    for reason, frame in frames:
        c.packet(frame, drop=reason)
    return c


def patched(packet, at, value):
    """A packet as bytes with some of them replaced."""
    raw = bytearray(bytes(packet))
    raw[at : at + len(value)] = value
    return bytes(raw)


def truncated4():
    """IPv4."""
    whole = from_client(ip(4) / tcp("S") / payload(100))
    return drops(
        "truncated-4",
        "An IPv4 packet that is longer by its header than its frame is dropped.",
        "RFC 1812 5.2.2",
        ("bad_length", whole[:-1]),
        ("bad_length", whole[:54]),
        ("bad_length", whole[: 14 + 20]),
        ("bad_length", whole[: 14 + 39]),
    )


def truncated6():
    """IPv6."""
    whole = from_client(ip(6) / tcp("S") / payload(100))
    return drops(
        "truncated-6",
        "An IPv6 packet that is longer by its header than its frame is dropped.",
        "RFC 8200 section 3",
        ("bad_length", whole[:-1]),
        ("bad_length", whole[:74]),
        ("bad_length", whole[: 14 + 40]),
        ("bad_length", whole[: 14 + 41]),
    )


def lying4():
    """IPv4 header fields that can't be true."""
    return drops(
        "lying-4",
        "IPv4 header and total lengths that contradict each other are dropped.",
        "RFC 1812 5.2.2",
        ("bad_header", from_client(bytes(ip(4, ihl=4) / tcp("S")))),
        ("bad_length", from_client(bytes(ip(4, ihl=15, len=40) / tcp("S") / payload(30)))),
        ("bad_length", from_client(bytes(ip(4, len=19) / tcp("S")))),
        ("bad_length", from_client(bytes(ip(4, len=0) / tcp("S")))),
        (
            "bad_header",
            from_client(patched(ip(4) / tcp("S"), 0, b"\x65"))[:12]
            + b"\x08\x00"
            + patched(ip(4) / tcp("S"), 0, b"\x65"),
        ),
    )


def lying6():
    """IPv6 header fields that can't be true."""
    hop = bytes(ip(6) / IPv6ExtHdrHopByHop(options=[PadN(optdata=b"\0" * 4)]) / tcp("S"))
    version = patched(from_client(ip(6) / tcp("S")), 14, b"\x40")
    return drops(
        "lying-6",
        "An IPv6 extension header that is longer than the packet, or a wrong version, is dropped.",
        "RFC 8200 section 4",
        ("truncated", from_client(patched(hop, 41, b"\xff"))),
        ("truncated", from_client(patched(hop, 41, b"\x04"))),
        ("bad_header", version),
    )


def transport():
    """TCP and UDP headers that can't be true."""
    return drops(
        "lying-transport",
        "TCP and UDP headers that do not fit their packet are dropped.",
        "RFC 9293 3.1, RFC 768",
        ("truncated", from_client(ip(4, proto=6) / bytes(tcp("S"))[:19])),
        ("bad_length", from_client(ip(4) / tcp("S", dataofs=4))),
        ("bad_length", from_client(ip(4) / udp(len=9))),
        ("bad_length", from_client(ip(6) / udp(len=7) / payload(8))),
        ("truncated", from_client(ip(4, proto=17) / b"1234567")),
    )


def unsupported():
    """Protocols that are not distributed."""
    return drops(
        "protocol-unsupported",
        "A packet to a DVIPA that is no TCP, UDP or ICMP is dropped.",
        "requirement F6",
        *(
            ("protocol_unsupported", from_client(packet))
            for packet in (
                ip(4, proto=132) / payload(20),
                ip(6, nh=132) / payload(20),
                ip(4, proto=47) / payload(20),
                ip(6, nh=59),
            )
        )
    )


def runts():
    """Frames that end before they show for whom they are."""
    c = Case(
        "runts",
        "A frame that ends before it shows a DVIPA, or is of another type, is the kernel's to judge.",
        "design, packets",
    )
    v4, v6 = from_client(ip(4) / tcp("S")), from_client(ip(6) / tcp("S"))
    mac = bytes.fromhex((NODE_MAC + CLIENT_MAC).replace(":", ""))
    others = [mac + struct.pack(">H", kind) + bytes(range(46)) for kind in (0x88CC, 0x0026, 0x8847)]
    for frame in (v4[:1], v4[:13], v4[:14], v4[:15], v4[: 14 + 19], v6[: 14 + 39], *others):
        c.packet(frame, (LOCAL, frame))
    return c


def cases():
    """All of them."""
    yield from (truncated4(), truncated6(), lying4(), lying6(), transport(), unsupported(), runts())
