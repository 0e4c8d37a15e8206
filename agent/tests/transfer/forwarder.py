"""A toy forwarder: takes the client's packets to the DVIPAs from a TUN device and sends them on in GUE.

Reads orders, one JSON object a line: {"target": address, "option": hex or "", "copies": n, "lose": percent, "hold": n,
"keep": 1, "again": 1}. `hold` keeps the next packet with payload back until n more have gone, so that they come in the
wrong order; `keep` remembers the next packet with payload and an option, `again` sends that once more. Answers each with
an empty line.
"""
import fcntl
import json
import os
import random
import select
import socket
import struct
import subprocess
import sys

TUNSETIFF, IFF_TUN_NO_PI = 0x400454CA, 0x1001
tun = os.open("/dev/net/tun", os.O_RDWR)
fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH", b"fwd0", IFF_TUN_NO_PI))
for command in sys.argv[1:]:
    subprocess.run(command.split(), check=True)
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
order = {"target": "198.18.0.21", "option": "", "copies": 1, "lose": 0, "hold": 0, "keep": 0}
held, kept = [], []


def payload_bytes(packet):
    """How many bytes of TCP payload the packet has."""
    at = 40 if packet[0] >> 4 == 6 else (packet[0] & 15) * 4
    return len(packet) - at - (packet[at + 12] >> 4) * 4


def send(packet):
    """Sends a packet to the target, as often as ordered."""
    option = bytes.fromhex(order["option"])
    protocol = 41 if packet[0] >> 4 == 6 else 4
    for _ in range(order["copies"]):
        if random.randrange(100) >= order["lose"]:
            datagram = (bytes([len(option) // 4, protocol, 0, 0]) + option + packet, (order["target"], 6080))
            udp.sendto(*datagram)
            if order["keep"] and option and payload_bytes(packet) > 0:
                order["keep"] = 0
                kept.append(datagram)


print(flush=True)
while True:
    ready, _, _ = select.select([tun, sys.stdin.fileno()], [], [])
    if sys.stdin.fileno() in ready:
        line = os.read(sys.stdin.fileno(), 65536)
        if not line:
            break
        order.update(json.loads(line))
        if order.pop("again", 0):
            udp.sendto(*kept.pop())
        print(flush=True)
    if tun in ready:
        packet = os.read(tun, 65536)
        if order["hold"] and not held and payload_bytes(packet) > 0:
            held.append([order["hold"], packet])
            order["hold"] = 0
            continue
        send(packet)
        if held:
            held[0][0] -= 1
            if held[0][0] == 0:
                send(held.pop()[1])
