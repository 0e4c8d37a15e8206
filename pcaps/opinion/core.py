"""The routing node as a client's peer: what it answers itself, and how a request goes to its target.

A SYN cookie depends on a key. Replays have [`KEY`], so that each number can be known here.
"""

import ipaddress
import struct

from scapy.layers.inet import TCP
from scapy.packet import Raw

from . import flow, rfc, segment

MASK = (1 << 64) - 1
KEY = (0x0706050403020100, 0x0F0E0D0C0B0A0908)
#: The sizes that a cookie can say.
SIZES = [536, 1024, 1220, 1300, 1380, 1440, 1460, 8940]
#: What clients are offered: the scale of windows, and the window.
SCALE, WINDOW = 7, 64240
#: Bytes of UDP, GUE and the option before a request, and of the longest outer header.
BEFORE = 40 + 8 + 4 + 24
FIRST = 1000


def siphash13(key, data):
    """SipHash-1-3 (Aumasson, Bernstein: SipHash, 2012)."""
    v = [
        key[0] ^ 0x736F6D6570736575,
        key[1] ^ 0x646F72616E646F6D,
        key[0] ^ 0x6C7967656E657261,
        key[1] ^ 0x7465646279746573,
    ]

    def rotated(x, bits):
        return (x << bits | x >> 64 - bits) & MASK

    def round_():
        v[0] = (v[0] + v[1]) & MASK
        v[1] = rotated(v[1], 13) ^ v[0]
        v[0] = rotated(v[0], 32)
        v[2] = (v[2] + v[3]) & MASK
        v[3] = rotated(v[3], 16) ^ v[2]
        v[0] = (v[0] + v[3]) & MASK
        v[3] = rotated(v[3], 21) ^ v[0]
        v[2] = (v[2] + v[1]) & MASK
        v[1] = rotated(v[1], 17) ^ v[2]
        v[2] = rotated(v[2], 32)

    data += bytes(-(len(data) + 1) % 8) + bytes([len(data) & 0xFF])
    for (word,) in struct.iter_unpack("<Q", data):
        v[3] ^= word
        round_()
        v[0] ^= word
    v[2] ^= 0xFF
    for _ in range(3):
        round_()
    return v[0] ^ v[1] ^ v[2] ^ v[3]


def cookie(client, ports, first, dvipa, size, minute):
    """The first sequence number: the minute's last bit, which of the sizes, and 28 bits of a keyed hash."""
    address = ipaddress.ip_address(client)
    if address.version == 4:
        address = ipaddress.ip_address("::ffff:" + client)
    said = struct.pack("<Q", minute) + address.packed + struct.pack("<QQ", ports[0] << 48 | ports[1] << 32 | first, dvipa << 32 | size)
    return siphash13(KEY, said) & (1 << 28) - 1 | size << 28 | (minute & 1) << 31


class Client:
    """A client of a port with routes, and what is agreed on with it."""

    def __init__(self, case, family, options=(), flags="S", first=FIRST):
        self.case, self.family, self.first, self.flags = case, family, first, flags
        self.options = list(options) or linux()
        said = dict(o for o in self.options if isinstance(o, tuple))
        self.stamp = said["Timestamp"][0] if "Timestamp" in said else None
        least = 536 if family == 4 else 1220
        asked = max(said.get("MSS", least), least)
        self.size = max(n for n, size in enumerate(SIZES) if size <= asked)
        # Without timestamps there is room for nothing but the size.
        stamped = self.stamp is not None
        self.scale = said.get("WScale") if stamped else None
        self.sack = stamped and "SAckOK" in said
        self.ecn = stamped and "E" in flags and "C" in flags
        self.sent, self.value = None, None

    def segment(self, flags, at=0, data=b"", acknowledged=0, options=None):
        """A segment that begins `at` bytes behind the SYN, which acknowledges so many bytes behind the SYN's answer."""
        if options is None:
            options = []
            if self.value is not None:
                options = [("NOP", None), ("NOP", None), ("Timestamp", (self.stamp, self.value))]
        head = TCP(
            sport=segment.CLIENT_PORT,
            dport=segment.SERVICE_PORT,
            seq=(self.first + at) & 0xFFFFFFFF,
            ack=(self.sent + acknowledged) & 0xFFFFFFFF if "A" in flags else 0,
            flags=flags,
            window=65535,
            options=options,
        )
        return rfc.packet_of(segment.ip(self.family) / head / Raw(data))

    def syn(self, data=b""):
        """The SYN."""
        return self.segment(self.flags, 0, data, options=self.options)

    def answered(self):
        """The frame that answers the SYN (RFC 9293 3.10.7.2, RFC 4987 3.6), at the case's time."""
        now = self.case.now_ms
        client = segment.CLIENT_V4 if self.family == 4 else segment.CLIENT_V6
        ports, dvipa = (segment.CLIENT_PORT, segment.SERVICE_PORT), 0 if self.family == 4 else 1
        self.sent = cookie(client, ports, self.first, dvipa, self.size, now // 60000) + 1 & 0xFFFFFFFF
        mss = rfc.FABRIC_MTU - BEFORE - (40 if self.family == 4 else 60)
        options = struct.pack(">BBH", 2, 4, mss)
        if self.stamp is not None:
            told = (15 if self.scale is None else self.scale) | self.sack << 4 | self.ecn << 5
            value = now & ~63 | told
            # RFC 7323 5.4: the target's clock goes on from here, and not backwards.
            self.value = value if value <= now else value - 64
            options += bytes([4, 2]) if self.sack else bytes([1, 1])
            options += struct.pack(">BBII", 8, 10, self.value, self.stamp)
            if self.scale is not None:
                options += bytes([1, 3, 3, SCALE])
        flags = 0x12 | (0x40 if self.ecn else 0)
        return self.from_node(flags, self.sent - 1, self.first + 1, WINDOW, options)

    def acknowledged(self, at, flags=0, data=b""):
        """The frame that acknowledges everything before `at`, with these flags and data of the node's own."""
        options = b""
        if self.value is not None:
            options = bytes([1, 1, 8, 10]) + struct.pack(">II", self.value, self.stamp)
        window = WINDOW >> SCALE if self.scale is not None else WINDOW
        return self.from_node(0x10 | flags, self.sent, self.first + at, window, options, data)

    def from_node(self, flags, sequence, acknowledgment, window, options=b"", data=b""):
        """A segment of the node's as a frame, its checksum filled in."""
        raw = self.segment("S", options=[])
        words = 5 + len(options) // 4
        head = struct.pack(
            ">HHIIBBHHH",
            segment.SERVICE_PORT,
            segment.CLIENT_PORT,
            sequence & 0xFFFFFFFF,
            acknowledgment & 0xFFFFFFFF,
            words << 4,
            flags,
            window,
            0,
            0,
        )
        body, source, client = head + options + data, rfc.address(raw, 1), rfc.address(raw, 0)
        v4 = self.family == 4
        pseudo = struct.pack(">HH" if v4 else ">II", *((6, len(body)) if v4 else (len(body), 6)))
        checksum = rfc.ones_complement(source + client + pseudo + body)
        body = body[:16] + struct.pack(">H", checksum) + body[18:]
        if v4:
            return rfc.ethernet(rfc.answer4(raw, 6, body, 0), segment.CLIENT_MAC)
        head = struct.pack(">IHBB", 6 << 28, len(body), 6, 64)
        return rfc.ethernet(head + source + client + body, segment.CLIENT_MAC)

    def handed(self, stack, ip, token=1):
        """The frame in which a packet reaches the target that gets the connection with it: GUE with the handoff option."""
        scales = self.scale << 4 | SCALE if self.scale is not None else 0
        flags = (self.scale is not None) | self.sack << 1 | (self.value is not None) << 2 | self.ecn << 4
        number = self.case.stacks.index(stack) << 32 | token
        option = struct.pack(
            ">BBHBBHIIQ", 0xB1, 2, 0, flags, scales, SIZES[self.size], self.first + 1, self.sent, number
        )
        inner = rfc.hop(ip)
        gue = struct.pack(">BBH", len(option) // 4, 4 if inner[0] >> 4 == 4 else 41, 0) + option
        port = flow.source_port(flow.hash_of(inner))
        udp = struct.pack(">HHHH", port, rfc.GUE_PORT, 8 + len(gue) + len(inner), 0)
        head = rfc.outer(stack, 17, rfc.traffic_class(inner), len(inner) + 8 + len(gue))
        return rfc.ethernet(head + udp + gue + inner, stack.mac)


def linux(mss=1460):
    """The options of a SYN of Linux."""
    return [("MSS", mss), ("SAckOK", b""), ("Timestamp", (77, 0)), ("NOP", None), ("WScale", 7)]


def refusal(status):
    """What a client is told in HTTP."""
    return f"HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode()
