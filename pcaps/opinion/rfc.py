"""What the RFCs, and the contract where they leave a choice, make of a packet.

Byte strings in, byte strings out; each function names its source. Checksums are always computed anew over the whole
header, never updated, so that an error in an incremental update shows.
"""

import ipaddress
import struct

from scapy.layers.inet import IP
from scapy.layers.l2 import ARP, Dot1Q, Ether

from . import flow
from .segment import CLIENT_MAC, NODE_MAC, NODE_V4, NODE_V6

FABRIC_MTU = 1500
GUE_PORT = 6080


def ones_complement(data):
    """The Internet checksum (RFC 1071)."""
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def packet_of(ip):
    """An IP packet as bytes, without what follows the length that its header gives (Ethernet padding)."""
    raw = ip if isinstance(ip, bytes) else bytes(ip)
    if raw[0] >> 4 == 4:
        return raw[: struct.unpack_from(">H", raw, 2)[0]]
    return raw[: 40 + struct.unpack_from(">H", raw, 4)[0]]


def hop(ip):
    """A packet after one hop: TTL or hop limit less one (RFC 1812 5.3.1, RFC 8200 section 3)."""
    raw = bytearray(packet_of(ip))
    if raw[0] >> 4 == 6:
        raw[7] -= 1
        return bytes(raw)
    raw[8] -= 1
    header = (raw[0] & 15) * 4
    raw[10:12] = b"\0\0"
    raw[10:12] = struct.pack(">H", ones_complement(bytes(raw[:header])))
    return bytes(raw)


def traffic_class(raw):
    """DSCP and ECN of a packet."""
    return raw[1] if raw[0] >> 4 == 4 else ((raw[0] << 4) | (raw[1] >> 4)) & 0xFF


def outer(stack, protocol, tos, length):
    """The outer header: IPv4 if the target has an IPv4 address (and the node has one), otherwise IPv6; TTL 64, DF.

    TOS is the inner one: DSCP by RFC 2983 (uniform), ECN by RFC 6040 4.1 normal mode, which copies all four values.
    """
    if stack.v4:
        head = struct.pack(">BBHHHBBH", 0x45, tos, 20 + length, 0, 0x4000, 64, protocol, 0)
        head += ipaddress.ip_address(NODE_V4).packed + ipaddress.ip_address(stack.v4).packed
        return head[:10] + struct.pack(">H", ones_complement(head)) + head[12:]
    head = struct.pack(">IHBB", 6 << 28 | tos << 20, length, protocol, 64)
    return head + ipaddress.ip_address(NODE_V6).packed + ipaddress.ip_address(stack.v6).packed


def tunnelled(ip, stack, follows=None):
    """The IP packet that carries `ip` to `stack`. `follows`: the connection's hash, if `ip` does not show it."""
    inner = hop(ip)
    carried = 4 if inner[0] >> 4 == 4 else 41
    hashed = flow.hash_of(inner) if follows is None else follows
    if stack.encapsulation == "ipip":
        return outer(stack, carried, traffic_class(inner), len(inner)) + inner
    gue = struct.pack(">BBH", 0, carried, 0)
    udp = struct.pack(">HHHH", flow.source_port(hashed), GUE_PORT, 8 + 4 + len(inner), 0)
    return outer(stack, 17, traffic_class(inner), len(inner) + 12) + udp + gue + inner


def ethernet(ip, dst, vlan=None):
    """A frame from the node to a MAC address."""
    kind = 0x86DD if ip[0] >> 4 == 6 else 0x0800
    head = Ether(dst=dst, src=NODE_MAC, type=kind)
    if vlan is not None:
        head = Ether(dst=dst, src=NODE_MAC) / Dot1Q(vlan=vlan, type=kind)
    return bytes(head) + ip


def to(stack, ip, vlan=None, follows=None):
    """The frame in which a packet of a connection reaches its owner."""
    if stack.encapsulation == "l2":
        return ethernet(hop(ip), stack.mac, vlan)
    return ethernet(tunnelled(ip, stack, follows), stack.mac, vlan)


def overhead(stack):
    """Bytes that encapsulation adds."""
    if stack.encapsulation == "l2":
        return 0
    return (20 if stack.v4 else 40) + (12 if stack.encapsulation == "gue" else 0)


def address(raw, end):
    """The source (`end` 0) or destination (1) address of a packet."""
    at, size = (12, 4) if raw[0] >> 4 == 4 else (8, 16)
    return raw[at + end * size : at + (end + 1) * size]


def answer4(raw, protocol, body, tos, ident=0):
    """An IPv4 packet from the destination of `raw` to its source."""
    head = struct.pack(">BBHHHBBH", 0x45, tos, 20 + len(body), ident, 0x4000, 64, protocol, 0)
    head += address(raw, 1) + address(raw, 0)
    return head[:10] + struct.pack(">H", ones_complement(head)) + head[12:] + body


def answer6(raw, body, hop_limit=64, source=None, tos=0):
    """An ICMPv6 packet from the destination of `raw` (or `source`) to its source, its checksum filled in."""
    src, dst = source or address(raw, 1), address(raw, 0)
    pseudo = src + dst + struct.pack(">II", len(body), 58)
    body = body[:2] + struct.pack(">H", ones_complement(pseudo + body)) + body[4:]
    return struct.pack(">IHBB", 6 << 28 | tos << 20, len(body), 58, hop_limit) + src + dst + body


def error4(ip, kind, code, word=0):
    """An ICMP error from the DVIPA: quotes what fits into 576 bytes (RFC 1812 4.3.2.3), precedence 6 (4.3.2.5)."""
    raw = packet_of(ip)
    body = struct.pack(">BBHI", kind, code, 0, word) + raw[: 576 - 28]
    return answer4(raw, 1, body[:2] + struct.pack(">H", ones_complement(body)) + body[4:], 0xC0)


def error6(ip, kind, code, word=0):
    """An ICMPv6 error from the DVIPA: quotes as much as fits into 1280 bytes (RFC 4443 2.4 (c))."""
    raw = packet_of(ip)
    return answer6(raw, struct.pack(">BBHI", kind, code, 0, word) + raw[: 1280 - 48])


def reset(ip):
    """The frame with which a closed port answers a TCP segment (RFC 9293 3.10.7.1)."""
    raw = packet_of(ip)
    segment = flow.transport(raw)[1]
    sport, dport, sequence, acknowledgment = struct.unpack_from(">HHII", segment)
    flags = segment[13]
    length = len(segment) - (segment[12] >> 4) * 4 + bool(flags & 2) + bool(flags & 1)
    numbers = (acknowledgment, 0, 4) if flags & 16 else (0, (sequence + length) & 0xFFFFFFFF, 20)
    body = struct.pack(">HHIIBBHHH", dport, sport, numbers[0], numbers[1], 0x50, numbers[2], 0, 0, 0)
    source, client = address(raw, 1), address(raw, 0)
    v4 = raw[0] >> 4 == 4
    pseudo = struct.pack(">HH" if v4 else ">II", *((6, len(body)) if v4 else (len(body), 6)))
    checksum = ones_complement(source + client + pseudo + body)
    body = body[:16] + struct.pack(">H", checksum) + body[18:]
    if v4:
        return ethernet(answer4(raw, 6, body, 0), CLIENT_MAC)
    head = struct.pack(">IHBB", 6 << 28, len(body), 6, 64)
    return ethernet(head + source + client + body, CLIENT_MAC)


def asked(stack, ip):
    """The frame that asks a stack about a connection: GUE with four bytes of private data, however it is reached."""
    inner = hop(ip)
    gue = struct.pack(">BBH", 1, 4 if inner[0] >> 4 == 4 else 41, 0) + bytes([0xB2, 1, 0, 0])
    port = flow.source_port(flow.hash_of(inner))
    udp = struct.pack(">HHHH", port, GUE_PORT, 8 + len(gue) + len(inner), 0)
    head = outer(stack, 17, traffic_class(inner), len(inner) + 8 + len(gue))
    return ethernet(head + udp + gue + inner, stack.mac)


def error(ip, what, mtu=0):
    """`what`: "expired" (RFC 792, RFC 4443 3.3), "port" (RFC 792, RFC 4443 3.1) or "too-big" (RFC 1191, RFC 4443 3.2), as
    a frame to the client."""
    v4 = packet_of(ip)[0] >> 4 == 4
    if what == "port":
        return ethernet(error4(ip, 3, 3) if v4 else error6(ip, 1, 4), CLIENT_MAC)
    if what == "expired":
        return ethernet(error4(ip, 11, 0) if v4 else error6(ip, 3, 0), CLIENT_MAC)
    return ethernet(error4(ip, 3, 4, mtu) if v4 else error6(ip, 2, 0, mtu), CLIENT_MAC)


def echo_reply(ip):
    """The frame that answers an echo request without options (RFC 792, RFC 4443 4.2).

    Type of service as in the request (RFC 1122 3.2.2.6), and so, by contract, the IPv6 traffic class and the
    identification.
    """
    raw = packet_of(ip)
    if raw[0] >> 4 == 6:
        return ethernet(answer6(raw, bytes([129, 0, 0, 0]) + raw[44:], tos=traffic_class(raw)), CLIENT_MAC)
    body = bytes(4) + raw[24:]
    body = body[:2] + struct.pack(">H", ones_complement(body)) + body[4:]
    return ethernet(answer4(raw, 1, body, raw[1], struct.unpack_from(">H", raw, 4)[0]), CLIENT_MAC)


def arp_reply(dvipa, client, client_mac=CLIENT_MAC):
    """The frame that tells a client the DVIPA's hardware address (RFC 826)."""
    return bytes(
        Ether(dst=client_mac, src=NODE_MAC)
        / ARP(op="is-at", hwsrc=NODE_MAC, psrc=dvipa, hwdst=client_mac, pdst=client)
    )


def advertisement(dvipa, client, solicited=True):
    """The frame that tells a client the DVIPA's link-layer address (RFC 4861 4.4, 7.2.4).

    To an unspecified source (duplicate address detection) it goes to all nodes, unsolicited.
    """
    dst = client if solicited else "ff02::1"
    mac = CLIENT_MAC if solicited else "33:33:00:00:00:01"
    flags = (0x40 if solicited else 0) | 0x20
    dvipa = ipaddress.ip_address(dvipa).packed
    body = (
        struct.pack(">BBHI", 136, 0, 0, flags << 24)
        + dvipa
        + bytes([2, 1])
        + bytes.fromhex(NODE_MAC.replace(":", ""))
    )
    asked = bytes(8) + ipaddress.ip_address(dst).packed + dvipa
    return ethernet(answer6(b"\x60" + asked[1:], body, hop_limit=255, source=dvipa), mac)


def fragments4(ip, mtu):
    """IPv4 fragments of a packet that may be fragmented, each at most `mtu` bytes (RFC 791 section 3.2)."""
    return [packet_of(f) for f in IP(packet_of(ip)).fragment(((mtu - 20) // 8) * 8)]
