#!/usr/bin/python3
"""Makes the first inputs of the fuzz targets out of the replay cases: seeds.py DIRECTORY."""

import struct
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Frames of one case that become inputs of their own.
FRAMES = 4
REPAIR_CHECKSUM = 4
# A connection's state, as `ConnectionState::encode` writes it.
STATE = (
    "82018d4d06c6120002cf3dc61200095cd2820280820280831a0eff945c440102030402821a75147ba44405060708851a75147ba319a01a19"
    "ffff192b991a5c9303bf1977ad820900f4f6f48182001b06a5c06b7c793d95656375626963"
)
# First requests, with the protocol that they are in.
REQUESTS = (
    ("http", 0, b"POST /p/x?q=abc HTTP/1.1\r\nHost: a.example\r\nX-A: ab\r\nContent-Length: 2\r\n\r\nab"),
    ("http-chunked", 0, b"PUT /a HTTP/1.1\r\nHost: b\r\nTransfer-Encoding: chunked\r\nConnection: te\r\n\r\n0\r\n\r\n"),
    ("http-absolute", 0, b"GET http://a.example:80/ab/77 HTTP/1.0\r\nHost: a.example:80\r\nExpect: x\r\n\r\n"),
    (
        "tls",
        1,
        bytes.fromhex("160301004a0100004603030000000000000000000000000000000000000000000000000000000000000000000002130101")
        + bytes.fromhex("00001b0000000e000c000009622e6578616d706c65001000050003026832"),
    ),
    ("postgresql", 2, b"\0\0\0\x1e\0\3\0\0user\0ux\0database\0bcc\0\0"),
    ("postgresql-tls", 2, bytes.fromhex("0000000804d2162f")),
    ("mqtt", 3, b"\x10\x11\0\4MQTT\4\x80\0\x3c\0\2bc\0\1u"),
    ("mqtt-5", 3, b"\x10\x12\0\4MQTT\5\x80\0\x3c\0\0\2bc\0\1u"),
    ("redis", 4, b"*2\r\n$3\r\nGET\r\n$3\r\nacc\r\n"),
    ("redis-inline", 4, b"XREAD STREAMS {cc}c 0\r\n"),
    ("raw", 5, b"ABCDE"),
)


def frames(path):
    """The frames of a pcap file as pcaps/generate.py writes it."""
    data, at = path.read_bytes(), 24
    while at < len(data):
        (length,) = struct.unpack_from("<I", data, at + 8)
        yield data[at + 16 : at + 16 + length]
        at += 16 + length


def main(directory):
    """Writes one file an input."""
    targets = ("packet_path", "headers", "tunnel", "codec", "control_socket", "config", "connection_state", "crt_file", "routes")
    for target in targets:
        (directory / target).mkdir(parents=True, exist_ok=True)
    for path in sorted(ROOT.glob("pcaps/*/in.pcap")):
        name, arriving = path.parent.name, list(frames(path))
        records = (struct.pack("<BH", REPAIR_CHECKSUM, len(frame)) + frame for frame in arriving)
        (directory / "packet_path" / name).write_bytes(b"".join(records))
        for i, frame in enumerate(arriving[:FRAMES]):
            (directory / "headers" / f"{name}-{i}").write_bytes(frame[14:])
            (directory / "tunnel" / f"{name}-{i}").write_bytes(bytes([i]) + frame[14:])
    for kind in range(1, 8):
        (directory / "codec" / f"empty-{kind}").write_bytes(bytes([kind, 0x80]))
    (directory / "connection_state" / "established").write_bytes(bytes.fromhex(STATE))
    for kind in range(1, 11):
        (directory / "control_socket" / f"empty-{kind}").write_bytes(bytes([kind, 0x80]))
    for name, choice, text in REQUESTS:
        (directory / "routes" / name).write_bytes(bytes([choice]) + text)
    example = ROOT / "control/src/config/tests/good.toml"
    (directory / "config" / "example").write_bytes(example.read_bytes())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
