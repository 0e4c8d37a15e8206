"""A port with routes: the node answers clients itself, reads their first request, and hands the connection over with it."""

from .. import rfc
from ..case import Case
from ..core import Client, linux, refusal
from ..segment import from_client, target

ONE = b"GET /one HTTP/1.1\r\nHost: a\r\n\r\n"
TWO = b"POST /two HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"
NONE = b"GET /none HTTP/1.1\r\nHost: a\r\n\r\n"


def begun(name, family, sentence, source, **client):
    """A case with two targets, a route to each, and a client that has had its SYN answered."""
    c = Case(f"core-{name}-{family}", sentence, source)
    t1, t2 = target(1, "gue"), target(2, "ipip")
    c.stack(t1, t2)
    for stack in (t1, t2):
        stack.tokens = 8
    c.serve([t1, t2], routes=[("one", "/one", [t1]), ("two", "/two", [t2])])
    client = Client(c, family, **client)
    c.packet(from_client(client.syn()), client.answered(), counts=["answered_syn"])
    return c, client, t1, t2


def handed(c, client, stack, at, data, flags="PA"):
    """A segment that goes on to its target with the option."""
    packet = client.segment(flags, at, data)
    c.packet(from_client(packet), client.handed(stack, packet), counts=["forwarded_handoff"])


def waits(c, client, at, data):
    """A segment that waits for the rest of its request."""
    packet = client.segment("A", at, data)
    c.packet(from_client(packet), held=True)
    return packet


def whole(family):
    """The usual case."""
    c, client, t1, _ = begun(
        "request",
        family,
        "What is agreed on comes back with the client's numbers; its request goes to the target of its route with the "
        "handoff option, and so does everything until the client acknowledges what the target sent.",
        "requirement T1; RFC 9293 3.10.7.2, RFC 4987 3.6, RFC 7323 2.2 and 3.2",
    )
    c.packet(from_client(client.segment("A", 1)), drop="handshake")
    handed(c, client, t1, 1, ONE)
    after = 1 + len(ONE)
    handed(c, client, t1, after, b"more")
    acknowledges = client.segment("A", after + 4, acknowledged=9)
    c.packet(from_client(acknowledges), rfc.to(t1, acknowledges), counts=["forwarded"])
    late = client.segment("PA", after + 4, b"next")
    c.packet(from_client(late), rfc.to(t1, late), counts=["forwarded"])
    return c


def agreed(name, family, options, sentence, flags="S"):
    """A client that speaks less, or more."""
    c, client, _, t2 = begun(name, family, sentence, "requirement T1; RFC 4987 3.6", options=options, flags=flags)
    c.packet(from_client(client.segment("A", 1)), drop="handshake")
    handed(c, client, t2, 1, TWO)
    return c


def speakers(family):
    """What clients speak."""
    yield agreed(
        "without-timestamps",
        family,
        [("MSS", 1460), ("SAckOK", b""), ("NOP", None), ("WScale", 7)],
        "Without timestamps there is no place for window scales and SACK: neither is agreed on.",
    )
    yield agreed("bare", family, [("NOP", None)] * 4, "Without any option the least MSS holds (RFC 9293 3.7.1).")
    yield agreed(
        "small-mss", family, linux(mss=900), "The MSS that the target is told is none that is larger than the client's."
    )
    yield agreed(
        "no-scale",
        family,
        [("MSS", 1460), ("SAckOK", b""), ("Timestamp", (77, 0))],
        "A client that does not scale its windows is not offered a scale.",
    )
    yield agreed("ecn", family, linux(), "ECN is agreed on with a client that asks for it (RFC 3168 6.1.1).", flags="SEC")


def fast_open(family):
    """RFC 7413."""
    options = linux() + [(34, b"12345678")]
    c = Case(
        f"core-fast-open-{family}",
        "A cookie of TCP Fast Open means nothing, and data in the SYN is not acknowledged: the client sends it again.",
        "requirement T1; RFC 7413 4.2",
    )
    t1 = c.stack(target(1, "gue"))
    t1.tokens = 8
    c.serve([t1], routes=[("one", "/one", [t1])])
    client = Client(c, family, options=options)
    c.packet(from_client(client.syn(ONE)), client.answered(), counts=["answered_syn"])
    handed(c, client, t1, 1, ONE)
    return c


def repeated(family):
    """Whatever gets lost is sent again, and is the same again."""
    c, client, t1, _ = begun(
        "repeated",
        family,
        "A SYN that is sent again has the same answer, and a request that is sent again goes to the same target with the "
        "same token.",
        "requirement T1; RFC 9293 3.8.1",
    )
    c.packet(from_client(client.syn()), client.answered(), counts=["answered_syn"])
    for _ in range(2):
        c.packet(from_client(client.segment("A", 1)), drop="handshake")
    for _ in range(3):
        handed(c, client, t1, 1, ONE)
    return c


def segments(family, count):
    """The request in so many segments."""
    c, client, _, t2 = begun(
        f"segments-{count}",
        family,
        f"A request in {count} segments waits for its last one, unacknowledged; then all go to the target in their order.",
        "requirement T1",
    )
    head = TWO[: TWO.index(b"\r\n\r\n") + 4]
    size = -(-len(head) // count)
    cuts = [(at, head[at : at + size]) for at in range(0, len(head), size)]
    packets = [waits(c, client, 1 + at, data) for at, data in cuts[:-1]]
    at, data = cuts[-1]
    packets.append(client.segment("A", 1 + at, data))
    out = [client.handed(t2, packet) for packet in packets]
    c.packet(from_client(packets[-1]), *out, counts=["forwarded_handoff"] * len(packets))
    handed(c, client, t2, 1 + len(head), b"abc")
    return c


def out_of_order(family):
    """A gap, and what fills it; a segment ahead of the start."""
    c, client, t1, _ = begun(
        "out-of-order",
        family,
        "A segment that comes before the request's start is dropped, one behind a gap waits; what the client sends again is "
        "acknowledged up to the gap; overlapping segments are one request.",
        "requirement T1; RFC 9293 3.10.7.4",
    )
    c.packet(from_client(client.segment("A", 21, ONE[20:])), drop="request_early")
    packets = [waits(c, client, 1, ONE[:9])]
    packets.append(waits(c, client, 21, ONE[20:]))
    c.packet(from_client(client.segment("A", 1, ONE[:9])), client.acknowledged(10), counts=["answered_segment"])
    fills = client.segment("A", 6, ONE[5:22])
    out = [client.handed(t1, packet) for packet in (packets[0], fills, packets[1])]
    c.packet(from_client(fills), *out, counts=["forwarded_handoff"] * 3)
    return c


def probes(family):
    """RFC 9293 3.8.4 and 3.8.6.1: one before the next number."""
    c, client, t1, _ = begun(
        "probes",
        family,
        "Probes, with a byte or without, are answered before the request and while it waits, and go to the target with the "
        "option afterwards.",
        "requirement T1; RFC 9293 3.8.4, 3.8.6.1",
    )
    for data in (b"", b"\0"):
        c.packet(from_client(client.segment("A", 0, data)), client.acknowledged(1), counts=["answered_segment"])
    first = waits(c, client, 1, ONE[:9])
    c.packet(from_client(client.segment("A", 0)), client.acknowledged(1), counts=["answered_segment"])
    rest = client.segment("PA", 10, ONE[9:])
    out = [client.handed(t1, packet) for packet in (first, rest)]
    c.packet(from_client(rest), *out, counts=["forwarded_handoff"] * 2)
    handed(c, client, t1, 0, b"", "A")
    return c


def resets(family):
    """RFC 5961 3.2."""
    c, client, t1, _ = begun(
        "reset",
        family,
        "A reset ends a request that waits, if its number is the next one; others change nothing.",
        "requirement T1; RFC 5961 3.2",
    )
    c.packet(from_client(client.segment("R", 1)), drop="no_connection")
    waits(c, client, 1, ONE[:9])
    c.packet(from_client(client.segment("R", 400)), drop="no_connection")
    c.packet(from_client(client.segment("RA", 1)), counts=["no_connection", "request_cut"], held=True)
    handed(c, client, t1, 1, ONE)
    return c


def ends(family):
    """FIN before the request, with a part of it, with all of it."""
    c, client, t1, _ = begun(
        "fin",
        family,
        "A client that ends without a request is answered with an end; one that ends in its midst is reset; one that ends "
        "with it goes to the target.",
        "requirement T1; RFC 9293 3.6, 3.10.7.1",
    )
    c.packet(from_client(client.segment("FA", 1)), client.acknowledged(2, 1), counts=["answered_segment"])
    c.packet(from_client(client.segment("A", 2, acknowledged=1)), drop="handshake")
    part = client.segment("FPA", 1, ONE[:9])
    c.packet(from_client(part), rfc.reset(part), counts=["refused_reset"])
    waits(c, client, 1, ONE[:9])
    fin = client.segment("FA", 10)
    c.packet(from_client(fin), rfc.reset(fin), counts=["refused_reset", "request_cut"])
    handed(c, client, t1, 1, ONE, "FPA")
    return c


def refused(family):
    """Requests that go nowhere."""
    c, client, *_ = begun(
        "refused",
        family,
        "A request that no route takes, that can't be read, or that is too large is refused in HTTP, with an end.",
        "requirement T1; RFC 9110 15.5, RFC 9112 2.2",
    )
    for request, status in (
        (NONE, "404 Not Found"),
        (b"GET  /one HTTP/1.1\r\nHost: a\r\n\r\n", "400 Bad Request"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "505 HTTP Version Not Supported"),
    ):
        out = client.acknowledged(1 + len(request), 0x09, refusal(status))
        c.packet(from_client(client.segment("PA", 1, request)), out, counts=["refused_request"])
    waits(c, client, 1, NONE[:9])
    out = client.acknowledged(1 + len(NONE), 0x09, refusal("404 Not Found"))
    rest = client.segment("PA", 10, NONE[9:])
    c.packet(from_client(rest), out, counts=["refused_request", "request_refused"])
    waits(c, client, 1, ONE[:9])
    far = client.segment("PA", 32760, b"x" * 40)
    out = client.acknowledged(10, 0x09, refusal("431 Request Header Fields Too Large"))
    c.packet(from_client(far), out, counts=["refused_request", "request_no_room"])
    return c


def slow(family):
    """A client that dribbles."""
    c, client, *_ = begun("slow", family, "A request that is not whole after 5 s is reset.", "requirement T1")
    first = waits(c, client, 1, ONE[:9])
    waits(c, client, 10, ONE[9:14])
    c.at(7000)
    c.event("tick", True, ["refused_reset", "request_slow"], [rfc.reset(first)])
    return c


def no_token():
    """No target can take it."""
    c = Case(
        "core-no-token",
        "While no target of a route has given out tokens, a request is dropped: the client will send it again.",
        "requirement T1",
    )
    t1 = c.stack(target(1, "gue"))
    c.serve([t1], routes=[("one", "/one", [t1])])
    client = Client(c, 4)
    c.packet(from_client(client.syn()), client.answered(), counts=["answered_syn"])
    c.packet(from_client(client.segment("PA", 1, ONE)), drop="handoff_no_token")
    return c


def fragments():
    """Requests in IP fragments are not read."""
    c, client, *_ = begun("fragment", 4, "A request in IP fragments is not read.", "requirement T1")
    packet = bytearray(client.segment("PA", 1, ONE))
    packet[6:8] = b"\x20\x00"
    packet[10:12] = b"\0\0"
    packet[10:12] = rfc.ones_complement(bytes(packet[:20])).to_bytes(2, "big")
    c.packet(from_client(bytes(packet)), drop="request_fragmented")
    return c


def old(family):
    """A cookie is good for one to two minutes."""
    c, client, t1, _ = begun(
        "old-cookie",
        family,
        "A cookie is good in its own minute and the next; later the request is one of a connection that nobody knows.",
        "requirement T1; RFC 4987 3.6",
    )
    c.at(119_000)
    handed(c, client, t1, 1, ONE)
    c.at(180_000)
    c.event("tick", True)
    c.packet(from_client(client.segment("PA", 1, ONE)), drop="request_early")
    return c


def cases():
    """All of them."""
    for family in (4, 6):
        yield from (whole(family), fast_open(family), repeated(family), out_of_order(family), probes(family))
        yield from (resets(family), ends(family), refused(family), slow(family), old(family))
        yield from speakers(family)
        yield from (segments(family, count) for count in (2, 3, 10))
    yield from (no_token(), fragments())
