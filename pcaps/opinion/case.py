"""A case: a sentence, tables, and steps of packets in and packets out; written as in.pcap, out.pcap, case.toml."""

import ipaddress
import struct

from . import flow, rfc, segment

NIC, LOCAL = "nic", "local"
PCAP_HEADER = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)


def quoted(text):
    """A TOML basic string."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


class Case:
    """Collects one case. Its methods are called in the order in which things happen."""

    def __init__(
        self,
        name,
        sentence,
        source,
        dvipas=(segment.DVIPA_V4, segment.DVIPA_V6),
        vlan=None,
        node=(segment.NODE_V4, segment.NODE_V6),
    ):
        self.name, self.sentence, self.source, self.dvipas = name, sentence, source, dvipas
        self.vlan, self.node, self.now_ms = vlan, node, 1000
        self.stacks, self.distributions, self.connections, self.steps = [], [], [], []
        self.frames_in, self.frames_out = [], []
        self.known = set()
        self.candidates, self.refuse = None, "reset"

    def stack(self, *stacks):
        """Adds stacks; the first may be given new connections by `serve`."""
        self.stacks.extend(stacks)
        return stacks[0]

    def serve(
        self,
        targets,
        port=segment.SERVICE_PORT,
        protocol="tcp",
        method="round-robin",
        policies=(),
        dvipas=None,
        routes=(),
    ):
        """Distributes a port of each DVIPA to `targets`: stacks, or (stack, weight) pairs.

        `routes`: each with a name, a prefix of a path, and stacks.
        """
        pairs = [t if isinstance(t, tuple) else (t, 1) for t in targets]
        for dvipa in dvipas or self.dvipas:
            self.distributions.append((dvipa, port, protocol, method, pairs, list(policies), list(routes)))

    def connection(
        self, family, owner, state="established", protocol="tcp", sport=None, dport=None, client=None
    ):
        """A connection that is in the CRT before the first packet."""
        self.connections.append((connection(family, protocol, sport, dport, client), owner.name, state))
        v4 = family == 4
        client = ipaddress.ip_address(client or (segment.CLIENT_V4 if v4 else segment.CLIENT_V6)).packed
        dvipa = ipaddress.ip_address(segment.DVIPA_V4 if v4 else segment.DVIPA_V6).packed
        number = 6 if protocol == "tcp" else 17
        self.known.add((number, client, sport or segment.CLIENT_PORT, dvipa, dport or segment.SERVICE_PORT))

    def at(self, ms):
        """Sets the clock."""
        self.now_ms = ms

    def packet(self, frame, *out, port=NIC, drop=None, held=False, counts=None):
        """A frame comes in. Each of `out` is a frame or (port, frame) that goes out because of it.

        `drop`: the reason. `held`: it waits. `counts`: how it and what waited for it end, where that does not go
        without saying.
        """
        frame = bytes(frame)
        pairs = [o if isinstance(o, tuple) else (NIC, o) for o in out]
        assert bool(pairs) + bool(drop) == 1 or held, f"{self.name}: say what becomes of the packet"
        if counts is None:
            counts = [drop] if drop else [] if held else [self.sent_as(frame, pairs)]
        self.frames_in.append((self.now_ms, frame))
        self.frames_out.extend((self.now_ms, bytes(f)) for _, f in pairs)
        self.steps.append(dict(at_ms=self.now_ms, packet=port, out=[p for p, _ in pairs], counts=counts))

    def sent_as(self, frame, pairs):
        """How a packet is counted that is sent on: passed, or forwarded, as the first of its connection or not."""
        if [f for _, f in pairs] == [frame] and pairs[0][0] == LOCAL and not self.stacks_are_local():
            return "passed_to_local"
        if [f for _, f in pairs] == [frame] and pairs[0][0] == NIC:
            return "passed_to_nic"
        at = 18 if self.vlan is not None else 14
        ends = flow.ends(rfc.packet_of(frame[at:]))
        if ends in self.known:
            return "forwarded"
        self.known.add(ends)
        return "forwarded_new"

    def stacks_are_local(self):
        """Whether the node's own kernel is the target."""
        return any(s.local for s in self.stacks)

    def may_have(self, *stacks):
        """Who is asked about a connection without an entry; each of them would answer."""
        self.candidates = stacks

    def event(self, kind, what, drop=(), out=()):
        """Something else happens: `confirm`, `terminate`, `tick`. `out`: frames that leave because of it."""
        self.frames_out.extend((self.now_ms, bytes(f)) for f in out)
        ports = [NIC for _ in out]
        self.steps.append({"at_ms": self.now_ms, kind: what, "out": ports, "counts": list(drop)})

    def write(self, directory):
        """Writes the three files."""
        directory.mkdir(parents=True, exist_ok=True)
        for name, content in self.files().items():
            (directory / name).write_bytes(content)

    def files(self):
        """The three files' names and contents."""
        return {
            "in.pcap": PCAP_HEADER + b"".join(record(*f) for f in self.frames_in),
            "out.pcap": PCAP_HEADER + b"".join(record(*f) for f in self.frames_out),
            "case.toml": self.toml().encode(),
        }

    def toml(self):
        """case.toml. Its format is explained in README.md."""
        out = [f"sentence = {quoted(self.sentence)}", f"source = {quoted(self.source)}"]
        out += [
            "",
            "[node]",
            f"cluster_address = [{', '.join(map(quoted, self.node))}]",
            f"mac = {quoted(segment.NODE_MAC)}",
            "fabric_mtu = 1500",
        ]
        if self.vlan is not None:
            out.append(f"vlan = {self.vlan}")
        for dvipa in self.dvipas:
            out += ["", "[[dvipa]]", f"address = {quoted(dvipa)}"]
            if self.candidates is not None:
                out.append("candidates = [" + ", ".join(quoted(s.name) for s in self.candidates) + "]")
                out.append("certain = true")
            if self.refuse != "reset":
                out.append(f"refuse = {quoted(self.refuse)}")
        for s in self.stacks:
            out += ["", "[[stack]]", f"name = {quoted(s.name)}"]
            if s.local:
                out.append("local = true")
                continue
            addresses = ", ".join(quoted(a) for a in (s.v4, s.v6) if a)
            out += [f"cluster_address = [{addresses}]", f"encapsulation = {quoted(s.encapsulation)}"]
            if s.mac:
                out.append(f"mac = {quoted(s.mac)}")
            if s.tokens:
                out.append(f"tokens = {s.tokens}")
        for dvipa, port, protocol, method, pairs, policies, routes in self.distributions:
            out += [
                "",
                "[[distribution]]",
                f"dvipa = {quoted(dvipa)}",
                f"port = {port}",
                f"protocol = {quoted(protocol)}",
                f"method = {quoted(method)}",
                f"targets = {weights(pairs)}",
            ]
            for prefix, chosen in policies:
                out += [
                    "",
                    "[[distribution.policy]]",
                    f"client = {quoted(prefix)}",
                    f"targets = {weights(chosen)}",
                ]
            for name, path, stacks in routes:
                out += [
                    "",
                    "[[distribution.route]]",
                    f"name = {quoted(name)}",
                    f"path = {quoted(path)}",
                    f"targets = {weights([(s, 1) for s in stacks])}",
                ]
        for what, owner, state in self.connections:
            out += [
                "",
                "[[connection]]",
                f"connection = {quoted(what)}",
                f"owner = {quoted(owner)}",
                f"state = {quoted(state)}",
            ]
        for step in self.steps:
            out += ["", "[[step]]", f"at_ms = {step['at_ms']}"]
            for kind in ("packet", "terminate", "confirm"):
                if kind in step:
                    value = step[kind]
                    if isinstance(value, tuple):
                        out += [f"{kind} = {quoted(value[0])}", f"owner = {quoted(value[1])}"]
                    else:
                        out.append(f"{kind} = {quoted(value)}")
            if "tick" in step:
                out.append("tick = true")
            if step["out"]:
                out.append("out = [" + ", ".join(quoted(p) for p in step["out"]) + "]")
            if step["counts"]:
                out.append("counts = [" + ", ".join(quoted(r) for r in sorted(step["counts"])) + "]")
        return "\n".join(out) + "\n"


def connection(family, protocol="tcp", sport=None, dport=None, client=None):
    """How a connection is written in case.toml."""
    sport, dport = sport or segment.CLIENT_PORT, dport or segment.SERVICE_PORT
    if family == 4:
        return f"{protocol} {client or segment.CLIENT_V4}:{sport} -> {segment.DVIPA_V4}:{dport}"
    return f"{protocol} [{client or segment.CLIENT_V6}]:{sport} -> [{segment.DVIPA_V6}]:{dport}"


def weights(pairs):
    """Targets with weights as a TOML array of tables."""
    return "[" + ", ".join(f"{{ stack = {quoted(s.name)}, weight = {w} }}" for s, w in pairs) + "]"


def record(ms, frame):
    """A packet record of a pcap file."""
    return struct.pack("<IIII", ms // 1000, ms % 1000 * 1000, len(frame), len(frame)) + frame
