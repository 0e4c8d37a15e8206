"""The segment that every case plays on: addresses, and the one way to build a frame of it."""

from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Dot1Q, Ether
from scapy.packet import Raw

NODE_MAC = "02:00:00:00:00:10"
CLIENT_MAC = "02:00:00:00:00:02"
NODE_V4, NODE_V6 = "198.18.0.10", "2001:db8::10"
CLIENT_V4, CLIENT_V6 = "198.18.0.2", "2001:db8::2"
ROUTER_V4, ROUTER_V6 = "198.18.0.1", "2001:db8::1"
DVIPA_V4, DVIPA_V6 = "198.18.9.1", "2001:db8:9::1"
CLIENT_PORT = 40000
SERVICE_PORT = 80


class Stack:
    """A target: its name, cluster addresses, encapsulation, and the MAC address of its next hop (None: not known)."""

    def __init__(self, name, v4, v6, mac, encapsulation="ipip", local=False):
        self.name, self.v4, self.v6, self.mac = name, v4, v6, mac
        self.encapsulation, self.local = encapsulation, local
        #: How many tokens it has given out ahead.
        self.tokens = 0


def target(number, encapsulation="ipip", families="46", mac=True):
    """Target `number`, with cluster addresses of these families."""
    return Stack(
        f"t{number}",
        f"198.18.0.2{number}" if "4" in families else None,
        f"2001:db8::2{number}" if "6" in families else None,
        f"02:00:00:00:00:2{number}" if mac else None,
        encapsulation,
    )


def from_client(ip, vlan=None):
    """A frame from the client to the node. `ip` is a scapy packet or bytes."""
    raw = ip if isinstance(ip, bytes) else bytes(ip)
    kind = 0x86DD if raw[0] >> 4 == 6 else 0x0800
    if vlan is None:
        return bytes(Ether(dst=NODE_MAC, src=CLIENT_MAC, type=kind)) + raw
    return bytes(Ether(dst=NODE_MAC, src=CLIENT_MAC) / Dot1Q(vlan=vlan, type=kind)) + raw


def ip(family, src=None, dst=None, **fields):
    """An IP header from the client to the DVIPA of this family (4 or 6). `ttl`, `tos` name the fields of both."""
    if family == 4:
        fields.setdefault("id", 0x1234)
        fields.setdefault("flags", "DF")
        return IP(src=src or CLIENT_V4, dst=dst or DVIPA_V4, **fields)
    fields["hlim"] = fields.pop("ttl", 64)
    fields["tc"] = fields.pop("tos", 0)
    return IPv6(src=src or CLIENT_V6, dst=dst or DVIPA_V6, **fields)


def tcp(flags="S", sport=CLIENT_PORT, dport=SERVICE_PORT, **fields):
    """A TCP header."""
    fields.setdefault("options", [("MSS", 1460)] if flags == "S" else [])
    return TCP(sport=sport, dport=dport, seq=1000, ack=2000 if "A" in flags else 0, flags=flags, **fields)


def udp(sport=CLIENT_PORT, dport=53, **fields):
    """A UDP header."""
    return UDP(sport=sport, dport=dport, **fields)


def payload(size):
    """`size` bytes that differ from place to place."""
    return Raw(bytes((i * 7 + (i >> 8)) & 0xFF for i in range(size)))
