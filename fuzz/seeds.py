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


def frames(path):
    """The frames of a pcap file as pcaps/generate.py writes it."""
    data, at = path.read_bytes(), 24
    while at < len(data):
        (length,) = struct.unpack_from("<I", data, at + 8)
        yield data[at + 16 : at + 16 + length]
        at += 16 + length


def main(directory):
    """Writes one file an input."""
    targets = ("packet_path", "headers", "tunnel", "codec", "control_socket", "config", "connection_state", "crt_file")
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
    example = ROOT / "control/src/config/tests/good.toml"
    (directory / "config" / "example").write_bytes(example.read_bytes())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
