"""ARP and neighbour discovery: the worker answers for the DVIPAs, the node's kernel for itself."""

from scapy.layers.inet6 import ICMPv6ND_NA, ICMPv6ND_NS, ICMPv6NDOptSrcLLAddr, IPv6
from scapy.layers.l2 import ARP, Ether

from .. import rfc
from ..case import LOCAL, Case
from ..segment import CLIENT_MAC, CLIENT_V4, CLIENT_V6, DVIPA_V4, DVIPA_V6, NODE_MAC, NODE_V4, NODE_V6

BROADCAST = "ff:ff:ff:ff:ff:ff"


def who_has(address, source=CLIENT_V4, dst=BROADCAST, **fields):
    """An ARP request of the client's."""
    return bytes(
        Ether(dst=dst, src=CLIENT_MAC)
        / ARP(op="who-has", hwsrc=CLIENT_MAC, psrc=source, hwdst="00:00:00:00:00:00", pdst=address, **fields)
    )


def solicitation(address, dst, source=CLIENT_V6, mac="33:33:ff:00:00:01", hlim=255, option=True, **fields):
    """A neighbour solicitation of the client's."""
    packet = (
        Ether(dst=mac, src=CLIENT_MAC)
        / IPv6(src=source, dst=dst, hlim=hlim)
        / ICMPv6ND_NS(tgt=address, **fields)
    )
    return bytes(packet / ICMPv6NDOptSrcLLAddr(lladdr=CLIENT_MAC)) if option else bytes(packet)


def arp():
    """Requests for the DVIPA."""
    c = Case(
        "arp-dvipa",
        "An ARP request for a DVIPA is answered with the node's hardware address.",
        "RFC 826, RFC 5227 2.1.1",
    )
    reply = rfc.arp_reply(DVIPA_V4, CLIENT_V4)
    c.packet(who_has(DVIPA_V4), reply, counts=["answered_arp"])
    c.packet(who_has(DVIPA_V4).ljust(60, b"\0"), reply.ljust(60, b"\0"), counts=["answered_arp"])
    c.packet(who_has(DVIPA_V4, dst=NODE_MAC), reply, counts=["answered_arp"])
    c.packet(who_has(DVIPA_V4, source="0.0.0.0"), rfc.arp_reply(DVIPA_V4, "0.0.0.0"), counts=["answered_arp"])
    return c


def arp_others():
    """ARP for anybody else."""
    c = Case(
        "arp-others",
        "ARP that is not about a DVIPA passes between the network and the node's kernel.",
        "RFC 826",
    )
    for frame in (who_has(NODE_V4), who_has("198.18.0.77"), who_has("198.18.9.2")):
        c.packet(frame, (LOCAL, frame))
    reply = bytes(
        Ether(dst=NODE_MAC, src=CLIENT_MAC)
        / ARP(op="is-at", hwsrc=CLIENT_MAC, psrc=CLIENT_V4, hwdst=NODE_MAC, pdst=NODE_V4)
    )
    c.packet(reply, (LOCAL, reply))
    asked = bytes(
        Ether(dst=BROADCAST, src=NODE_MAC) / ARP(op="who-has", hwsrc=NODE_MAC, psrc=NODE_V4, pdst=CLIENT_V4)
    )
    c.packet(asked, asked, port=LOCAL)
    return c


def conflict():
    """Another host uses the DVIPA."""
    c = Case(
        "dvipa-conflict",
        "ARP and neighbour discovery messages in which another host claims a DVIPA go no further; the DVIPA is announced "
        "anew, at most every ten seconds.",
        "RFC 5227 2.4, RFC 4862 5.4.4",
    )
    announced = bytes(
        Ether(dst=BROADCAST, src=NODE_MAC)
        / ARP(op="who-has", hwsrc=NODE_MAC, psrc=DVIPA_V4, hwdst="00:00:00:00:00:00", pdst=DVIPA_V4)
    )
    claims = [("is-at", CLIENT_V4), ("who-has", DVIPA_V4), ("who-has", CLIENT_V4)]
    for at, (op, target_address) in enumerate(claims):
        claim = Ether(dst=BROADCAST, src=CLIENT_MAC) / ARP(
            op=op, hwsrc=CLIENT_MAC, psrc=DVIPA_V4, pdst=target_address
        )
        if at == 0:
            c.packet(bytes(claim), announced, counts=["dvipa_defended"])
        else:
            c.packet(bytes(claim), drop="dvipa_conflict")
    claim = IPv6(src=DVIPA_V6, dst="ff02::1", hlim=255) / ICMPv6ND_NA(tgt=DVIPA_V6, R=0, S=0)
    claim = bytes(Ether(dst="33:33:00:00:00:01", src=CLIENT_MAC) / claim)
    announced = rfc.advertisement(DVIPA_V6, None, solicited=False)
    for at, out in ((1000, announced), (10999, None), (11000, announced)):
        c.at(at)
        if out:
            c.packet(claim, out, counts=["dvipa_defended"])
        else:
            c.packet(claim, drop="dvipa_conflict")
    return c


def arp_odd():
    """ARP that is no Ethernet-and-IPv4 ARP."""
    c = Case(
        "arp-odd", "A truncated ARP packet, or one of another kind, is the kernel's to judge.", "RFC 826"
    )
    for frame in (who_has(DVIPA_V4)[:40], who_has(DVIPA_V4, hwtype=6)):
        c.packet(frame, (LOCAL, frame))
    return c


def neighbour():
    """Solicitations for the DVIPA."""
    c = Case(
        "nd-dvipa",
        "A neighbour solicitation for a DVIPA is answered with the node's link-layer address.",
        "RFC 4861 7.2.3, 7.2.4",
    )
    group = "ff02::1:ff00:1"
    answer = rfc.advertisement(DVIPA_V6, CLIENT_V6)
    c.packet(solicitation(DVIPA_V6, group), answer, counts=["answered_neighbour"])
    c.packet(
        solicitation(DVIPA_V6, DVIPA_V6, mac=NODE_MAC, option=False), answer, counts=["answered_neighbour"]
    )
    c.packet(
        solicitation(DVIPA_V6, group, source="::", option=False),
        rfc.advertisement(DVIPA_V6, None, solicited=False),
        counts=["answered_neighbour"],
    )
    return c


def neighbour_others():
    """Neighbour discovery for anybody else."""
    c = Case(
        "nd-others", "Neighbour discovery that is not about a DVIPA passes to the node's kernel.", "RFC 4861"
    )
    for frame in (
        solicitation(NODE_V6, "ff02::1:ff00:10", mac="33:33:ff:00:00:10"),
        solicitation("2001:db8:9::2", "ff02::1:ff00:2", mac="33:33:ff:00:00:02"),
        bytes(
            Ether(dst=NODE_MAC, src=CLIENT_MAC)
            / IPv6(src=CLIENT_V6, dst=NODE_V6, hlim=255)
            / ICMPv6ND_NA(tgt=CLIENT_V6)
        ),
    ):
        c.packet(frame, (LOCAL, frame))
    return c


def neighbour_invalid():
    """Solicitations that a node must discard."""
    c = Case(
        "nd-invalid",
        "A neighbour solicitation from off the link, or a damaged one, is dropped.",
        "RFC 4861 7.1.1",
    )
    group = "ff02::1:ff00:1"
    c.packet(solicitation(DVIPA_V6, group, hlim=254), drop="bad_neighbour")
    c.packet(solicitation(DVIPA_V6, group, cksum=1), drop="bad_checksum")
    c.packet(solicitation(DVIPA_V6, group, code=1), drop="bad_neighbour")
    return c


def cases():
    """All of them."""
    yield from (
        arp(),
        arp_others(),
        arp_odd(),
        conflict(),
        neighbour(),
        neighbour_others(),
        neighbour_invalid(),
    )
