"""What is not for a DVIPA passes between the NIC and the node's kernel."""

from scapy.layers.inet import ICMP
from scapy.layers.inet6 import ICMPv6EchoRequest
from scapy.layers.l2 import Ether

from .. import rfc
from ..case import LOCAL
from ..segment import (
    CLIENT_MAC,
    CLIENT_V4,
    CLIENT_V6,
    NODE_MAC,
    NODE_V4,
    NODE_V6,
    from_client,
    ip,
    payload,
    tcp,
    udp,
)
from .headers import one_target


def both_ways():
    """ssh and the like."""
    c, _ = one_target(
        "pass-through",
        "Packets that are not for a DVIPA cross between NIC and local port unchanged.",
        "design, packets",
    )
    for family, here in ((4, NODE_V4), (6, NODE_V6)):
        for layer in (
            tcp("S", dport=22),
            udp(dport=7440) / payload(1200),
            ICMP() if family == 4 else ICMPv6EchoRequest(),
        ):
            frame = from_client(ip(family, dst=here, ttl=1) / layer)
            c.packet(frame, (LOCAL, frame))
    for packet in (
        ip(4, src=NODE_V4, dst=CLIENT_V4) / tcp("SA", sport=22, dport=40000),
        ip(6, src=NODE_V6, dst=CLIENT_V6) / udp(sport=7440) / payload(99),
    ):
        raw = bytes(packet)
        frame = bytes(Ether(dst=CLIENT_MAC, src=NODE_MAC, type=0x0800 if raw[0] >> 4 == 4 else 0x86DD)) + raw
        c.packet(frame, frame, port=LOCAL)
    return c


def damaged():
    """Damaged packets of other people."""
    c, _ = one_target(
        "pass-through-damaged",
        "A packet for the node's kernel is the kernel's to judge, damaged or not.",
        "design, packets",
    )
    for packet in (ip(4, dst=NODE_V4, chksum=1) / tcp("S"), ip(4, dst=NODE_V4, len=1000) / tcp("S")):
        frame = from_client(bytes(packet))
        c.packet(frame, (LOCAL, frame))
    return c


def local_client():
    """The node's own kernel as a client of a DVIPA."""
    c, t1 = one_target(
        "local-client",
        "A packet from the node's own kernel to a DVIPA is treated like one from the network.",
        "design, packets",
    )
    for family, here in ((4, NODE_V4), (6, NODE_V6)):
        syn = ip(family, src=here) / tcp("S")
        raw = bytes(syn)
        frame = bytes(Ether(dst=CLIENT_MAC, src=NODE_MAC, type=0x0800 if family == 4 else 0x86DD)) + raw
        c.packet(frame, rfc.to(t1, syn), port=LOCAL)
    return c


def cases():
    """All of them."""
    yield from (both_ways(), damaged(), local_client())
