"""Sends UDP frames at a steady rate through an interface, and prints how many: what Pktgen's ranges say, at a laptop's speed.

    send.py INTERFACE MAC DVIPA PORT CLIENT ADDRESSES PORTS FRAME_BYTES FRAMES_A_SECOND SECONDS
"""
import errno
import ipaddress
import socket
import struct
import sys
import time

interface, mac, dvipa, port, client, addresses, ports, size, rate, seconds = sys.argv[1:]
size, rate, seconds = int(size), float(rate), float(seconds)
SENDER = b"\x02\0\0\0\0\x99"  # a bridge drops frames from nobody
FLOWS = min(int(addresses) * int(ports), 20000)


def header_sum(header):
    total = sum(struct.unpack("!10H", header))
    total = (total >> 16) + (total & 0xFFFF)
    return 0xFFFF - ((total >> 16) + total & 0xFFFF)


def frame(n):
    """The nth one: addresses and ports count up together. Without the FCS, which the size includes."""
    source = ipaddress.IPv4Address(client) + n % int(addresses)
    length = size - 4 - 14
    addressed = source.packed + ipaddress.IPv4Address(dvipa).packed
    header = struct.pack("!BBHHHBBH", 0x45, 0, length, 0, 0x4000, 64, 17, 0) + addressed
    header = header[:10] + struct.pack("!H", header_sum(header)) + header[12:]
    udp = struct.pack("!HHHH", 1024 + n % int(ports), int(port), length - 20, 0)
    ethernet = bytes.fromhex(mac.replace(":", "")) + SENDER + b"\x08\x00"
    return (ethernet + header + udp).ljust(size - 4, b"\0")


frames = [frame(n) for n in range(FLOWS)]
line = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
line.bind((interface, 0))
sent, begun = 0, time.monotonic()
while (passed := time.monotonic() - begun) < seconds:
    while sent < rate * passed:
        try:
            line.send(frames[sent % FLOWS])
        except OSError as problem:
            # The lab's slow link tells the sender what it drops; a real one does not.
            if problem.errno != errno.ENOBUFS:
                raise
        sent += 1
    time.sleep(0.001)
print(sent)
