//! Services with routes: each request of a connection is selected anew, and what is in doubt stays.

use model::StackIndex;

use super::bench::*;
use super::transact::{CLIENT_PORT, FAMILIES, FIRST, WHOLE, bench, handshake, key, opened, segment};
use crate::crt::{CrtState, Entry};
use crate::packet::transport::flags;
use crate::reselecting::Reselected;
use crate::tables::Family;
use crate::{AnyKey, Port, Reason, Verdict};

const TWO: &[u8] = b"GET /two HTTP/1.1\r\nHost: a\r\n\r\n";
const UPLOAD: &[u8] = b"POST /two HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n";

/// A connection whose first request `/one` was answered with some bytes.
struct Connection {
    bench: Bench,
    family: Family,
    owner: StackIndex,
    /// The client's next number, and what it acknowledges.
    next: u32,
    acknowledged: u32,
}

impl Connection {
    fn new(family: Family) -> Self {
        let mut bench = bench();
        let sent = handshake(&mut bench, family);
        opened(&bench.sent(&segment(family, (FIRST + 1, sent), WHOLE)));
        let owner = key(family).entry(&bench.crt, bench.now).expect("an entry").owner;
        let next = FIRST + 1 + WHOLE.len() as u32;
        let mut new = Self { bench, family, owner, next, acknowledged: sent + 5 };
        new.goes_to(owner, 0, b"");
        new
    }

    fn segment(&self, behind: u32, data: &[u8]) -> Vec<u8> {
        segment(self.family, (self.next + behind, self.acknowledged), data)
    }

    /// A segment so far behind the client's next number goes to this stack.
    fn goes_to(&mut self, stack: StackIndex, behind: u32, data: &[u8]) {
        let packet = self.segment(behind, data);
        let sent = self.bench.sent(&packet);
        assert_eq!(sent, self.carried(stack, &packet), "{data:?}");
    }

    /// What a packet is when it is carried to this stack.
    fn carried(&self, stack: StackIndex, packet: &[u8]) -> Vec<u8> {
        let mut other = Bench::new();
        other.establish(CLIENT_PORT, port_of(GUE), model::Protocol::Tcp, stack);
        other.sent(packet)
    }

    /// A segment so far behind waits; who has the connection gets what it acknowledges, and none of its bytes.
    fn waits(&mut self, behind: u32, data: &[u8]) {
        let packet = self.segment(behind, data);
        let bare = self.carried(self.owner, &self.segment(behind, b""));
        assert_eq!(self.bench.burst(&[packet], Port::Nic), [(bare, Verdict::Send(Port::Nic))], "it waits");
    }

    fn asked(&self) -> Vec<Reselected> {
        self.bench.worker.reselecting().asked().collect()
    }

    /// Its stack has given it up, and another one has it.
    fn moves_to(&mut self, stack: StackIndex) {
        let key = key(self.family);
        assert!(key.terminate(&self.bench.crt, self.owner, self.bench.now));
        match key {
            AnyKey::V4(key) => drop(self.bench.crt.newconn(key, stack, self.bench.now).unwrap()),
            AnyKey::V6(key) => drop(self.bench.crt.newconn(key, stack, self.bench.now).unwrap()),
        }
        self.owner = stack;
    }

    fn later(&mut self, ms: u64) -> Vec<Vec<u8>> {
        self.bench.now.ms += ms;
        let sent = |(frame, verdict)| (verdict == Verdict::Send(Port::Nic)).then_some(frame);
        self.bench.turn(true).into_iter().filter_map(sent).collect()
    }
}

#[test]
fn a_request_of_the_same_target_goes_on_and_of_another_waits_for_it() {
    for family in FAMILIES {
        let mut c = Connection::new(family);
        for _ in 0..2 {
            c.goes_to(c.owner, 0, WHOLE);
            c.next += WHOLE.len() as u32;
        }
        assert_eq!((c.bench.count(Reason::RequestNext), c.asked()), (2, vec![]));
        c.waits(0, TWO);
        assert_eq!(
            c.asked(),
            [Reselected {
                key: key(family),
                from: c.owner,
                to: L2,
                start: c.next,
                acknowledged: c.acknowledged,
            }]
        );
        // What the client acknowledges meanwhile, and what it repeats of before, the former target gets.
        let before = c.owner;
        c.goes_to(before, TWO.len() as u32, b"");
        let again = c.bench.burst(&[c.segment(0, TWO)], Port::Nic);
        assert_eq!(again.last().map(|(_, verdict)| *verdict), Some(Verdict::Drop(Reason::RequestWaits)));
        assert!(c.later(5).is_empty());
        c.moves_to(L2);
        assert_eq!(c.later(5), [c.carried(L2, &c.segment(0, TWO))]);
        c.goes_to(L2, 0, TWO);
        c.next += TWO.len() as u32;
        c.waits(0, WHOLE);
        assert!([GUE, IPIP].contains(&c.asked()[0].to), "and back");
        assert_eq!((c.bench.count(Reason::RequestElsewhere), c.bench.count(Reason::RequestPinned)), (2, 0));
    }
}

#[test]
fn the_content_of_a_request_waits_with_its_head() {
    let mut c = Connection::new(Family::V4);
    let at = UPLOAD.len() as u32;
    c.waits(0, UPLOAD);
    // They acknowledge no more than it; the last one is sent ahead of the answer, and for another target: in its turn.
    for (behind, data) in [(at, &b"con"[..]), (at + 3, b"tent.!"), (at + 9, WHOLE)] {
        let packet = c.segment(behind, data);
        assert!(c.bench.burst(&[packet], Port::Nic).is_empty(), "it waits too");
    }
    assert_eq!(c.asked().len(), 1);
    c.moves_to(L2);
    let sent = c.later(1);
    // The next one waits in its turn, but for what it acknowledges.
    let wanted = [(0, UPLOAD), (at, b"con"), (at + 3, b"tent.!"), (at + 9, b"")];
    assert_eq!(sent, wanted.map(|(behind, data)| c.carried(L2, &c.segment(behind, data))));
    assert_eq!(c.asked().len(), 1);
}

#[test]
fn a_request_whose_connection_stays_goes_where_it_is_and_is_the_last() {
    for told in [true, false] {
        let mut c = Connection::new(Family::V4);
        c.waits(0, TWO);
        let owner = c.owner;
        if told {
            c.bench.worker.reselecting().stay(key(Family::V4));
        }
        let sent = c.later(if told { 1 } else { 10_000 });
        assert_eq!(sent, [c.carried(owner, &c.segment(0, TWO))], "{told}");
        c.next += TWO.len() as u32;
        c.goes_to(owner, 0, TWO);
        assert_eq!((c.bench.count(Reason::RequestStayed), c.bench.count(Reason::RequestNext)), (1, 1));
    }
}

#[test]
fn what_is_said_too_late_is_not_said_of_the_next_request() {
    let mut c = Connection::new(Family::V4);
    c.bench.worker.reselecting().stay(key(Family::V4));
    c.waits(0, TWO);
    assert!(c.later(1).is_empty(), "it waits on");
}

#[test]
fn only_so_many_requests_wait() {
    let mut c = Connection::new(Family::V4);
    c.bench.worker.held.elsewhere = super::super::elsewhere::Elsewhere::new(crate::path::Limits {
        reselected: 0,
        ..crate::path::Limits::default()
    });
    c.goes_to(c.owner, 0, TWO);
    assert_eq!((c.bench.count(Reason::RequestStayed), c.asked()), (1, vec![]));
    assert_eq!(c.bench.count(Reason::RequestNoPlace), 1);
}

/// The families of request smuggling, as the next request and as the one before it.
#[test]
fn what_is_in_doubt_stays_with_its_target() {
    let lines = |lines: &str| format!("POST /one HTTP/1.1\r\nHost: a\r\n{lines}\r\n").into_bytes();
    for doubtful in [
        // CL.TE, TE.CL, TE.TE, CL.CL.
        lines("Content-Length: 6\r\nTransfer-Encoding: chunked\r\n"),
        lines("Transfer-Encoding: chunked\r\nContent-Length: 4\r\n"),
        lines("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n"),
        lines("Transfer-Encoding: xchunked\r\n"),
        lines("Content-Length: 5\r\nContent-Length: 6\r\n"),
        lines("Content-Length: 5, 5\r\n"),
        // Folded lines, LF and CR alone, a space before the colon.
        lines("X: a\r\n Content-Length: 5\r\n"),
        lines("X: a\nContent-Length: 5\r\n"),
        lines("X: a\rContent-Length: 5\r\n"),
        lines("Content-Length : 5\r\n"),
        lines("Content_Length: 5\r\n"),
        b"GET /one HTTP/1.1\nHost: a\n\n".to_vec(),
        // What may begin another protocol, or not end.
        lines("Upgrade: websocket\r\nConnection: Upgrade\r\n"),
        lines("Expect: 100-continue\r\nContent-Length: 5\r\n"),
        b"CONNECT a HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
        b"GET /one HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n".to_vec(),
        b"\r\nGET /one HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
        // A part of a head, and more than a request.
        WHOLE[..9].to_vec(),
        [WHOLE, TWO].concat(),
        [WHOLE, b"x"].concat(),
    ] {
        let mut c = Connection::new(Family::V4);
        let owner = c.owner;
        c.goes_to(owner, 0, &doubtful);
        c.next += doubtful.len() as u32;
        c.goes_to(owner, 0, TWO);
        let said = String::from_utf8_lossy(&doubtful);
        assert_eq!((c.bench.count(Reason::RequestPinned), c.asked()), (1, vec![]), "{said}");
    }
}

#[test]
fn a_first_request_in_doubt_is_the_last_that_is_selected() {
    let chunked = b"POST /one HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    for first in [&chunked[..], &[WHOLE, TWO].concat()] {
        let mut bench = bench();
        let sent = handshake(&mut bench, Family::V4);
        opened(&bench.sent(&segment(Family::V4, (FIRST + 1, sent), first)));
        let next = FIRST + 1 + first.len() as u32;
        bench.sent(&segment(Family::V4, (next, sent + 5), TWO));
        assert_eq!((bench.count(Reason::RequestPinned), bench.count(Reason::RequestNext)), (1, 0));
        assert_eq!(bench.worker.reselecting().asked().count(), 0);
    }
}

#[test]
fn more_than_a_request_before_its_answer_stays_with_its_target() {
    let mut bench = bench();
    let sent = handshake(&mut bench, Family::V4);
    opened(&bench.sent(&segment(Family::V4, (FIRST + 1, sent), WHOLE)));
    let next = FIRST + 1 + WHOLE.len() as u32;
    opened(&bench.sent(&segment(Family::V4, (next, sent), TWO)));
    assert_eq!(bench.count(Reason::RequestPinned), 1);
}

#[test]
fn bytes_ahead_of_a_request_are_dropped_until_they_come_again() {
    let mut c = Connection::new(Family::V4);
    let rest = c.segment(9, &TWO[9..]);
    assert_eq!(c.bench.dropped(&rest), Reason::RequestEarly);
    c.waits(0, TWO);
    let mut c = Connection::new(Family::V4);
    let owner = c.owner;
    assert_eq!(c.bench.dropped(&rest), Reason::RequestEarly);
    c.bench.now.ms += 200;
    c.goes_to(owner, 9, &TWO[9..]);
    assert_eq!(c.bench.count(Reason::RequestPinned), 1);
}

#[test]
fn ends_and_resets_go_to_the_target() {
    let mut c = Connection::new(Family::V4);
    for flag in [flags::FIN, flags::RST] {
        let mut packet = c.segment(0, b"");
        packet[14 + 20 + 13] |= flag;
        assert_eq!(c.bench.sent(&packet), c.carried(c.owner, &packet));
    }
    assert_eq!(c.bench.count(Reason::RequestPinned), 0);
}

#[test]
fn a_request_behind_ip_options_is_selected_too() {
    let mut c = Connection::new(Family::V4);
    let mut packet = c.segment(0, TWO);
    // Four no-operations: the general way.
    packet[14] = 0x46;
    packet.splice(34..34, [1; 4]);
    let total = u16::from_be_bytes([packet[16], packet[17]]) + 4;
    packet[16..18].copy_from_slice(&total.to_be_bytes());
    mend(&mut packet);
    assert_eq!(c.bench.burst(&[packet], Port::Nic).len(), 1, "it waits; what it acknowledges does not");
    assert_eq!(c.asked().len(), 1);
}

#[test]
fn while_a_connection_comes_to_its_target_the_next_request_goes_there_too() {
    let mut c = Connection::new(Family::V4);
    c.waits(0, TWO);
    let option = [7; crate::path::OPTION_BYTES];
    let handoffs = crate::path::Handoffs::default().with(key(Family::V4), option);
    c.bench.worker.set_handoffs(&std::sync::Arc::new(handoffs));
    let AnyKey::V4(entry) = key(Family::V4) else { panic!("of IPv4") };
    let [old, new] = [(c.owner, CrtState::Established), (L2, CrtState::HandingOver)]
        .map(|(owner, state)| Entry { owner, state });
    c.bench.crt.change(entry, old, new, c.bench.now).unwrap();
    assert_eq!(c.later(1).len(), 1, "with the option");
    c.next += TWO.len() as u32;
    let again = c.segment(0, TWO);
    c.bench.sent(&again);
    c.bench.sent(&again);
    assert_eq!((c.bench.count(Reason::ForwardedHandoff), c.asked().len()), (4, 1));
    assert_eq!((c.bench.count(Reason::RequestNext), c.bench.count(Reason::RequestWaits)), (2, 0));
    c.next += TWO.len() as u32;
    let with_option = c.bench.sent(&c.segment(0, WHOLE));
    assert_eq!(
        with_option.len(),
        again.len() - TWO.len() + crate::path::OPTION_BYTES + 32,
        "it waits; what it acknowledges does not"
    );
    assert_eq!(c.asked().len(), 1);
}

#[test]
fn a_next_request_with_a_wrong_checksum_is_dropped_and_one_with_urgent_data_stays() {
    for family in FAMILIES {
        let mut c = Connection::new(family);
        let right = c.segment(0, TWO);
        let mut wrong = right.clone();
        *wrong.last_mut().unwrap() ^= 1;
        assert_eq!(c.bench.dropped(&wrong), Reason::BadChecksum);
        assert_eq!(c.bench.burst(&[right], Port::Nic).len(), 1, "it waits; what it acknowledges does not");
        assert_eq!(c.asked().len(), 1);
        let mut c = Connection::new(family);
        let mut urgent = c.segment(0, TWO);
        let ip_bytes = if family == Family::V4 { 20 } else { 40 };
        urgent[14 + ip_bytes + 13] |= flags::URG;
        assert_eq!(c.bench.sent(&urgent), c.carried(c.owner, &urgent));
        c.next += TWO.len() as u32;
        let owner = c.owner;
        c.goes_to(owner, 0, TWO);
        assert_eq!((c.bench.count(Reason::RequestPinned), c.asked()), (1, vec![]));
    }
}

#[test]
fn a_first_request_with_urgent_data_is_the_last_that_is_selected() {
    for cut in [WHOLE.len(), 9] {
        let mut bench = bench();
        let sent = handshake(&mut bench, Family::V4);
        let mut first = segment(Family::V4, (FIRST + 1, sent), &WHOLE[..cut]);
        first[14 + 20 + 13] |= flags::URG;
        bench.burst(&[first], Port::Nic);
        if cut < WHOLE.len() {
            bench.burst(&[segment(Family::V4, (FIRST + 1 + 9, sent), &WHOLE[9..])], Port::Nic);
        }
        assert_eq!(
            (bench.count(Reason::RequestPinned), bench.count(Reason::ForwardedHandoff) > 0),
            (1, true)
        );
    }
}

#[test]
fn one_client_has_a_share_of_the_places_and_others_have_theirs() {
    let limits =
        crate::path::Limits { reselected: 64, reselected_of_one: 2, ..crate::path::Limits::default() };
    let mut elsewhere = super::super::elsewhere::Elsewhere::<()>::new(limits);
    let crt = bench().crt;
    let at = |host: u8, port: u16| {
        let client = std::net::Ipv4Addr::new(198, 18, 7, host);
        AnyKey::V4(crate::crt::KeyV4::new(client, port, V4, 80, model::Protocol::Tcp)).at(&crt)
    };
    let now = crate::Now { ms: 0 };
    for port in [1, 2] {
        assert!(elsewhere.has_room(at(1, port)) && elsewhere.begin(at(1, port), (GUE, L2), now));
    }
    assert!(!elsewhere.has_room(at(1, 3)) && elsewhere.has_room(at(2, 3)));
    assert!(elsewhere.add(at(1, 1), (), Port::Nic, (7, 9)).is_ok());
    assert!(elsewhere.add(at(1, 1), (), Port::Nic, (7, 9)).is_err(), "it is there");
    assert!(elsewhere.add(at(1, 3), (), Port::Nic, (7, 9)).is_err(), "nothing of it waits");
}
