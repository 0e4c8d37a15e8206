"""Which target a new connection is given."""

from .. import flow, rfc
from ..case import Case
from ..segment import CLIENT_V4, DVIPA_V4, from_client, ip, payload, target, tcp, udp


def syn(sport, family=4, **fields):
    """A SYN from one of many client ports."""
    return ip(family, **fields) / tcp("S", sport=sport)


def sequence(c, order, first=50000, **fields):
    """SYNs from successive ports, and the targets that they have to reach."""
    for i, stack in enumerate(order):
        packet = syn(first + i, **fields)
        c.packet(from_client(packet), rfc.to(stack, packet))


def three(name, sentence, source):
    """A case with three targets."""
    c = Case(name, sentence, source)
    stacks = [target(n) for n in (1, 2, 3)]
    c.stack(*stacks)
    return c, stacks


def round_robin():
    """Round robin."""
    c, (a, b, d) = three(
        "round-robin",
        "New connections go to three targets in turn; their packets stay there.",
        "requirement W5",
    )
    c.serve([a, b, d])
    sequence(c, [a, b, d, a, b, d])
    for i, stack in enumerate((a, b, d)):
        packet = ip(4) / tcp("A", sport=50000 + i)
        c.packet(from_client(packet), rfc.to(stack, packet))
    return c


def retransmitted():
    """A SYN sent again."""
    c, (a, b, _) = three(
        "syn-retransmitted",
        "A SYN that is sent again goes where it went first.",
        "requirement W4, RFC 9293 3.8.1",
    )
    c.serve([a, b])
    sequence(c, [a, b])
    sequence(c, [a, b])
    sequence(c, [a], first=50010)
    return c


def weighted():
    """Weighted round robin."""
    c, (a, b, d) = three(
        "weighted-round-robin", "New connections go out by weight, evenly interleaved.", "requirement W5"
    )
    c.serve([(a, 4), (b, 2), (d, 1)], method="weighted-round-robin")
    sequence(c, [a, b, a, d, a, b, a] * 2)
    return c


def weight_zero():
    """Weight 0."""
    c, (a, b, d) = three(
        "weight-zero",
        "A target of weight 0 is given no new connection and keeps those it has.",
        "requirement W5",
    )
    c.serve([(a, 1), (b, 0), (d, 1)])
    c.connection(4, b, sport=49999)
    sequence(c, [a, d, a, d])
    packet = ip(4) / tcp("A", sport=49999)
    c.packet(from_client(packet), rfc.to(b, packet))
    return c


def all_zero():
    """Every target drained."""
    c, (a, b, _) = three(
        "weights-all-zero",
        "With weight 0 everywhere there is no target for a new connection.",
        "requirement W5",
    )
    c.serve([(a, 0), (b, 0)], method="weighted-round-robin")
    c.packet(from_client(syn(50000)), rfc.reset(syn(50000)), counts=["refused_reset"])
    return c


def least_connections():
    """Least connections."""
    c, (a, b, d) = three(
        "least-connections",
        "The target with the fewest connections for its weight is given the next one.",
        "requirement W5",
    )
    c.serve([(a, 1), (b, 1), (d, 2)], method="least-connections")
    for i, owner in enumerate((a, a, a, b, d, d)):
        c.connection(4, owner, sport=45000 + i)
    sequence(c, [b, d, d, b, d, d])
    return c


def maglev():
    """Maglev."""
    c, stacks = three(
        "maglev", "A client's hash decides, by the Maglev table of the targets' names.", "Maglev, NSDI'16 3.4"
    )
    c.serve(stacks, method="maglev")
    for sport in range(50000, 50024):
        for family in (4, 6):
            packet = syn(sport, family)
            chosen = flow.maglev(bytes(packet), [(s, 1) for s in stacks])
            c.packet(from_client(packet), rfc.to(chosen, packet))
    return c


def policies():
    """Service policies."""
    c, (a, b, d) = three(
        "policies",
        "A client that a policy names is given one of the policy's targets, the first match wins.",
        "requirement W5",
    )
    c.serve(
        [a, b, d],
        dvipas=[DVIPA_V4],
        policies=[
            ("198.18.1.0/25", [(b, 1)]),
            ("198.18.1.0/24", [(d, 1)]),
            ("198.18.2.0/24", []),
        ],
    )
    sequence(c, [b, b], src="198.18.1.5")
    sequence(c, [d, d], src="198.18.1.200")
    sequence(c, [a, b], src=CLIENT_V4)
    refused = syn(50000, src="198.18.2.1")
    c.packet(from_client(refused), rfc.reset(refused), counts=["refused_reset"])
    return c


def refused(c, packet):
    """The packet's sender is told that nothing serves it."""
    if packet.haslayer("TCP"):
        c.packet(from_client(packet), rfc.reset(packet), counts=["refused_reset"])
    else:
        c.packet(from_client(packet), rfc.error(packet, "port"), counts=["refused_unreachable"])


def not_distributed():
    """Services that nobody distributes."""
    c, (a, b, _) = three(
        "not-distributed", "A new connection to a port that is not distributed is refused.", "requirement W4"
    )
    c.serve([a, b])
    for family in (4, 6):
        refused(c, ip(family) / tcp("S", dport=81))
        refused(c, ip(family) / udp(dport=80) / payload(3))
    return c


def no_target():
    """A service without listeners."""
    c, _ = three(
        "no-target",
        "A new connection to a distributed port on which nobody listens is refused.",
        "requirement W4",
    )
    c.serve([])
    c.serve([], port=53, protocol="udp")
    refused(c, ip(4) / tcp("S"))
    refused(c, ip(6) / udp() / payload(3))
    return c


def own_kernel():
    """The routing node's own kernel as a target."""
    from ..case import LOCAL
    from ..segment import Stack

    c = Case(
        "local-stack",
        "A connection of the routing node's own kernel leaves through the local port, one hop further, as to any stack.",
        "design, processes; RFC 1812 5.3.1",
    )
    here = c.stack(Stack("rt1", None, None, None, local=True))
    c.serve([here])
    for family in (4, 6):
        frame = bytes(from_client(ip(family) / tcp("S")))
        c.packet(frame, (LOCAL, frame[:14] + rfc.hop(frame[14:])))
        expired = ip(family, ttl=1) / tcp("S", sport=40001)
        c.packet(from_client(expired), rfc.error(expired, "expired"), counts=["answered_time_exceeded"])
    return c


def own_stack():
    """What nobody distributes, on a node whose own kernel has the DVIPAs."""
    from ..case import LOCAL
    from ..segment import Stack

    c = Case(
        "own-stack",
        "What is not distributed is served by the owner's own stack, also where another port of the DVIPA is distributed; "
        "what that stack sends itself does not come back to it.",
        "seed 004, figure 7, block 140",
    )
    t1, _ = target(1), c.stack(Stack("rt1", None, None, None, local=True))
    c.stack(t1)
    c.serve([t1])
    for family in (4, 6):
        for packet in (
            ip(family) / tcp("S", dport=22),
            ip(family) / tcp("A", dport=22),
            ip(family) / udp(dport=80) / payload(3),
        ):
            frame = bytes(from_client(packet))
            c.packet(frame, (LOCAL, frame[:14] + rfc.hop(frame[14:])))
        itself = ip(family) / tcp("S", dport=23)
        c.packet(from_client(itself), (LOCAL, rfc.reset(itself)), port=LOCAL, counts=["refused_reset"])
        distributed = ip(family) / tcp("S")
        c.packet(from_client(distributed), rfc.to(t1, distributed))
    return c


def cases():
    """All of them."""
    yield from (
        round_robin(),
        retransmitted(),
        weighted(),
        weight_zero(),
        all_zero(),
        least_connections(),
        maglev(),
    )
    yield from (policies(), not_distributed(), no_target(), own_kernel(), own_stack())
