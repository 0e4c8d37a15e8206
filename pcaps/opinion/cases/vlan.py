"""A NIC port that is a VLAN of its segment."""

from .. import rfc
from ..case import LOCAL, Case
from ..segment import from_client, ip, target, tcp


def tagged():
    """The port's own VLAN."""
    c = Case(
        "vlan",
        "On a port with a VLAN, tagged packets come in and go out with its tag.",
        "IEEE 802.1Q 9.6",
        vlan=100,
    )
    t1 = c.stack(target(1, "ipip"))
    c.serve([t1])
    for family in (4, 6):
        syn = ip(family) / tcp("S")
        c.packet(from_client(syn, vlan=100), rfc.to(t1, syn, vlan=100))
    return c


def other():
    """Any other VLAN."""
    c = Case(
        "vlan-other",
        "Frames of another VLAN and of none pass to the node's kernel; a priority tag names no VLAN.",
        "IEEE 802.1Q 8.6.2",
        vlan=100,
    )
    t1 = c.stack(target(1, "ipip"))
    c.serve([t1])
    elsewhere = from_client(ip(4) / tcp("S"), vlan=101)
    for frame in (elsewhere, elsewhere[:16]):
        c.packet(frame, (LOCAL, frame))
    syn = ip(4) / tcp("S")
    for frame in (from_client(syn), from_client(syn, vlan=0)):
        c.packet(frame, (LOCAL, bytes(frame)))
    c.packet(from_client(syn, vlan=100), rfc.to(t1, syn, vlan=100), counts=["forwarded_new"])
    return c


def untagged():
    """A port without a VLAN."""
    c = Case(
        "vlan-none",
        "On a port without a VLAN, a tagged packet to a DVIPA is served, and its encapsulation is untagged.",
        "IEEE 802.1Q 9.6",
    )
    t1 = c.stack(target(1, "ipip"))
    c.serve([t1])
    syn = ip(4) / tcp("S")
    c.packet(from_client(syn, vlan=7), rfc.to(t1, syn), counts=["forwarded_new"])
    return c


def cases():
    """All of them."""
    yield from (tagged(), other(), untagged())
