//! Services with routes: what is answered, what waits, and what goes to a target.

use std::sync::Arc;

use etherparse::{SlicedPacket, TcpHeader, TcpOptionElement, TransportSlice};
use model::StackName;
use model::dpt::{Dpt, Routing, WeightedTarget};
use model::handoff::{HandoffOption, Token};
use model::route::{Backend, Match, Pattern, Route, RouteSet};
use model::{Protocol, StackIndex};

use super::bench::*;
use crate::crt::{KeyV4, KeyV6};
use crate::packet::Gue;
use crate::path::AnyKey;
use crate::tables::Family;
use crate::{Pool, Pools, Port, Reason, Tables, Verdict};

pub(super) const FAMILIES: [Family; 2] = [Family::V4, Family::V6];
pub(super) const CLIENT_PORT: u16 = 1024;
pub(super) const FIRST: u32 = 7_000;
pub(super) const WHOLE: &[u8] = b"GET /one HTTP/1.1\r\nHost: a\r\n\r\n";

/// A DPT whose service of [`GUE`] has these routes by path, to these stacks.
pub(super) fn dpt_with(routes: &[(&str, &[StackIndex])]) -> Dpt {
    let mut dpt = dpt();
    let name = |stack: StackIndex| StackName::new(format!("s{}", stack.0)).unwrap();
    let route = |(path, stacks): &(&str, &[StackIndex])| Route {
        name: (*path).to_owned(),
        matches: vec![Match { subject: Some(Pattern::Prefix((*path).to_owned())), ..Match::default() }],
        backends: stacks.iter().map(|stack| Backend { stack: name(*stack), weight: 1 }).collect(),
        ..Route::default()
    };
    let targets = |(_, stacks): &(&str, &[StackIndex])| {
        stacks.iter().map(|stack| WeightedTarget { stack: *stack, weight: 1 }).collect::<Vec<_>>()
    };
    let set = RouteSet { routes: routes.iter().map(route).collect(), ..RouteSet::default() };
    let routing = Routing { set: set.into(), targets: routes.iter().map(targets).collect() };
    let of_gue = |row: &&mut model::dpt::Shared<model::dpt::Distribution>| {
        row.port == port_of(GUE) && row.protocol == Protocol::Tcp
    };
    for row in dpt.distributions.iter_mut().filter(of_gue) {
        row.routing = Some(routing.clone());
    }
    dpt
}

/// The bench's service of [`GUE`] has routes: `/one` to GUE and IPIP, `/two` to L2.
pub(super) fn bench() -> Bench {
    let mut bench = Bench::new();
    let dpt = dpt_with(&[("/one", &[GUE, IPIP]), ("/two", &[L2])]);
    bench.tables = Tables::build(&dpt, &neighbours(), &node());
    let pools = [GUE, IPIP, L2].into_iter().fold(Pools::default(), |pools, stack| {
        let pool = Pool::new(64);
        pool.fill((1..=64).filter_map(|n| Token::new(u64::from(stack.0) << 32 | n)));
        pools.with(stack, Some(Arc::new(pool)))
    });
    bench.worker.set_pools(&Arc::new(pools));
    bench
}

pub(super) fn segment(family: Family, (sequence, acknowledged): (u32, u32), data: &[u8]) -> Vec<u8> {
    frame!(to_dvipa(family).tcp(CLIENT_PORT, port_of(GUE), sequence, 65535).ack(acknowledged), data)
}

pub(super) fn tcp(frame: &[u8]) -> (TcpHeader, Vec<u8>) {
    match SlicedPacket::from_ethernet(frame).unwrap().transport.unwrap() {
        TransportSlice::Tcp(tcp) => (tcp.to_header(), tcp.payload().to_vec()),
        other => panic!("{other:?}"),
    }
}

/// A handshake; returns the number that this node's data would begin with.
pub(super) fn handshake(bench: &mut Bench, family: Family) -> u32 {
    let options = [
        TcpOptionElement::MaximumSegmentSize(1460),
        TcpOptionElement::SelectiveAcknowledgementPermitted,
        TcpOptionElement::Timestamp(5, 0),
        TcpOptionElement::WindowScale(9),
    ];
    let syn = to_dvipa(family).tcp(CLIENT_PORT, port_of(GUE), FIRST, 65535).syn().options(&options).unwrap();
    let (answer, _) = tcp(&bench.sent(&frame!(syn, &[])));
    assert!(answer.syn && answer.ack && answer.acknowledgment_number == FIRST + 1);
    let said: Vec<_> = answer.options_iterator().map(Result::unwrap).collect();
    assert!(said.contains(&TcpOptionElement::WindowScale(7)), "{said:?}");
    assert!(said.contains(&TcpOptionElement::SelectiveAcknowledgementPermitted), "{said:?}");
    assert!(said.iter().any(|o| matches!(o, TcpOptionElement::Timestamp(_, 5))), "{said:?}");
    answer.sequence_number.wrapping_add(1)
}

/// The option in an encapsulated frame, and its packet.
pub(super) fn opened(frame: &[u8]) -> (HandoffOption, Vec<u8>) {
    let ip = if frame[14] >> 4 == 4 { 20 } else { 40 };
    let payload = &frame[14 + ip + 8..];
    let gue = Gue::parse(payload).unwrap();
    (HandoffOption::decode(&payload[4..gue.header_bytes]).expect("an option"), gue.payload.to_vec())
}

pub(super) fn key(family: Family) -> AnyKey {
    match family {
        Family::V4 => KeyV4::new(CLIENT, CLIENT_PORT, V4, port_of(GUE), Protocol::Tcp).into(),
        Family::V6 => KeyV6::new(CLIENT6, CLIENT_PORT, V6, port_of(GUE), Protocol::Tcp).into(),
    }
}

#[test]
fn nothing_is_kept_of_a_client_before_its_request() {
    for family in FAMILIES {
        let mut bench = bench();
        let sent = handshake(&mut bench, family);
        let done = bench.dropped(&segment(family, (FIRST + 1, sent), &[]));
        assert_eq!(done, Reason::Handshake);
        assert_eq!(bench.count(Reason::AnsweredSyn), 1);
        assert!(key(family).entry(&bench.crt, bench.now).is_none());
        assert!(bench.worker.is_idle());
    }
}

#[test]
fn a_whole_request_goes_to_its_routes_target_with_option_and_token() {
    for family in FAMILIES {
        let mut bench = bench();
        let sent = handshake(&mut bench, family);
        let packet = segment(family, (FIRST + 1, sent), WHOLE);
        let (option, inner) = opened(&bench.sent(&packet));
        assert_eq!(inner, counted_down(&packet));
        assert_eq!((option.start, option.sent, option.mss), (FIRST + 1, sent, 1460));
        let entry = key(family).entry(&bench.crt, bench.now).expect("an entry");
        assert_eq!(option.token.bytes()[..4], u32::from(entry.owner.0).to_be_bytes());
        // The client's repetition and what follows go there too, with the same token.
        for data in [WHOLE, b"more"] {
            let (again, _) = opened(&bench.sent(&segment(family, (FIRST + 1, sent), data)));
            assert_eq!(again, option);
        }
        // What the target has sent is acknowledged: the option is not needed any more.
        let established = bench.sent(&segment(family, (FIRST + 1 + WHOLE.len() as u32, sent + 5), &[]));
        assert_eq!(Gue::parse(&established[14 + 20 + 8..]).unwrap().header_bytes, 4);
        assert_eq!(bench.count(Reason::Forwarded), 1);
        let other = bench.sent(&segment(family, (FIRST + 1 + WHOLE.len() as u32, sent), b"next"));
        assert_eq!(Gue::parse(&other[14 + 20 + 8..]).unwrap().header_bytes, 4, "established");
    }
}

#[test]
fn routes_keep_their_counts_when_others_come() {
    let mut bench = bench();
    let of = |bench: &Bench, name: &str| -> Vec<u64> {
        bench.tables.routes().filter(|(.., route, _)| *route == name).map(|(.., count)| count).collect()
    };
    let sent = handshake(&mut bench, Family::V4);
    bench.sent(&segment(Family::V4, (FIRST + 1, sent), WHOLE));
    assert_eq!(of(&bench, "/one").iter().sum::<u64>(), 1);
    assert_eq!(of(&bench, "/two").iter().sum::<u64>(), 0);
    let dpt = dpt_with(&[("/two", &[L2]), ("/three", &[IPIP]), ("/one", &[GUE])]);
    bench.tables = bench.tables.rebuild(&dpt, &neighbours(), &node());
    let counts = ["/one", "/two", "/three"].map(|name| of(&bench, name).iter().sum::<u64>());
    assert_eq!(counts, [1, 0, 0]);
}

#[test]
fn parts_of_a_request_in_any_order_reach_the_target_in_theirs() {
    let mut bench = bench();
    let sent = handshake(&mut bench, Family::V4);
    let at = |from: usize| (FIRST + 1 + from as u32, sent);
    let part = |from: usize, to: usize| segment(Family::V4, at(from), &WHOLE[from..to]);
    assert!(bench.burst(&[part(0, 9)], Port::Nic).is_empty(), "it waits");
    assert!(bench.burst(&[part(20, WHOLE.len())], Port::Nic).is_empty(), "a gap");
    // What the client repeats is acknowledged as far as there is no gap.
    let (answer, _) = tcp(&bench.sent(&part(0, 9)));
    assert_eq!(answer.acknowledgment_number, FIRST + 10);
    let out = bench.burst(&[part(5, 20)], Port::Nic);
    let said: Vec<Vec<u8>> = out.iter().map(|(frame, _)| opened(frame).1).collect();
    let wanted: Vec<Vec<u8>> =
        [part(0, 9), part(5, 20), part(20, WHOLE.len())].iter().map(|p| counted_down(p)).collect();
    assert_eq!(said, wanted);
    // What was acknowledged is sent again, until it is known to have come.
    bench.now.ms += 300;
    let again: Vec<_> = (0..3)
        .flat_map(|_| {
            bench.now.ms += 16;
            bench.turn(true)
        })
        .collect();
    assert_eq!(again.len(), 3, "{again:?}");
    bench.now.ms += 10_000;
    (0..3).for_each(|_| {
        bench.now.ms += 16;
        bench.turn(true);
    });
    assert!(bench.worker.is_idle(), "nothing is kept for ever");
}

#[test]
fn a_segment_ahead_of_the_start_is_dropped_once_and_then_asked_about() {
    let mut bench = bench();
    let sent = handshake(&mut bench, Family::V4);
    let early = segment(Family::V4, (FIRST + 10, sent), b"rest");
    assert_eq!(bench.dropped(&early), Reason::RequestEarly);
    bench.now.ms += 300;
    assert!(bench.count(Reason::Asked) == 0);
    bench.burst(&[&early], Port::Nic);
    assert!(bench.count(Reason::Asked) > 0);
}

#[test]
fn a_request_that_no_route_takes_is_refused_in_its_own_words() {
    for family in FAMILIES {
        let mut bench = bench();
        let sent = handshake(&mut bench, family);
        let request = b"GET /none HTTP/1.1\r\nHost: a\r\n\r\n";
        let (answer, data) = tcp(&bench.sent(&segment(family, (FIRST + 1, sent), request)));
        assert!(data.starts_with(b"HTTP/1.1 404"), "{data:?}");
        assert!(answer.fin && answer.sequence_number == sent);
        assert_eq!(answer.acknowledgment_number, FIRST + 1 + request.len() as u32);
        assert_eq!(bench.count(Reason::RefusedRequest), 1);
    }
}

#[test]
fn another_target_gets_what_one_has_declined() {
    let mut bench = bench();
    let sent = handshake(&mut bench, Family::V4);
    let packet = segment(Family::V4, (FIRST + 1, sent), WHOLE);
    let mut owners = Vec::new();
    for _ in 0..2 {
        bench.sent(&packet);
        let entry = key(Family::V4).entry(&bench.crt, bench.now).expect("an entry");
        owners.push(entry.owner);
        assert!(key(Family::V4).bury(&bench.crt, entry.owner, bench.now), "it is declined");
    }
    owners.sort_unstable();
    assert_eq!(owners, [GUE, IPIP]);
}

#[test]
fn probes_ends_and_resets_before_the_request_are_what_rfc_9293_says() {
    let mut bench = bench();
    let sent = handshake(&mut bench, Family::V4);
    // A keep-alive probe is one before the next number.
    let (answer, _) = tcp(&bench.sent(&segment(Family::V4, (FIRST, sent), &[0])));
    assert_eq!((answer.sequence_number, answer.acknowledgment_number), (sent, FIRST + 1));
    let fin = to_dvipa(Family::V4).tcp(CLIENT_PORT, port_of(GUE), FIRST + 1, 65535).ack(sent).fin();
    let (answer, _) = tcp(&bench.sent(&frame!(fin, &[])));
    assert!(answer.fin && answer.ack && answer.acknowledgment_number == FIRST + 2);
    assert_eq!(bench.dropped(&segment(Family::V4, (FIRST + 2, sent + 1), &[])), Reason::Handshake);
    // A reset takes back what waits, if its number is right.
    assert!(bench.burst(&[segment(Family::V4, (FIRST + 1, sent), &WHOLE[..9])], Port::Nic).is_empty());
    let reset = |number| {
        let rst = to_dvipa(Family::V4).tcp(CLIENT_PORT, port_of(GUE), number, 65535).rst();
        frame!(rst, &[])
    };
    assert_eq!(bench.burst(&[reset(FIRST + 400)], Port::Nic).len(), 1);
    assert!(!bench.worker.is_idle());
    assert_eq!(bench.burst(&[reset(FIRST + 1)], Port::Nic).len(), 2, "the segment too");
    assert!(bench.worker.is_idle());
    assert_eq!((bench.count(Reason::AnsweredSegment), bench.count(Reason::RequestCut)), (2, 1));
}

#[test]
fn a_client_that_dribbles_is_refused_after_a_time() {
    let mut bench = bench();
    let sent = handshake(&mut bench, Family::V4);
    assert!(bench.burst(&[segment(Family::V4, (FIRST + 1, sent), &WHOLE[..9])], Port::Nic).is_empty());
    bench.now.ms += 6_000;
    let out: Vec<_> = (0..3)
        .flat_map(|_| {
            bench.now.ms += 16;
            bench.turn(true)
        })
        .collect();
    assert_eq!(out.len(), 1);
    assert_eq!(out[0].1, Verdict::Send(Port::Nic));
    assert!(tcp(&out[0].0).0.rst);
    // One of its segments became the RST; the others are dropped.
    assert_eq!(bench.count(Reason::RequestUnfinished), 1);
}

/// The client is refused within these turns.
fn is_refused(bench: &mut Bench) -> bool {
    let turns = (0..3).flat_map(|_| {
        bench.now.ms += 16;
        bench.turn(true)
    });
    turns.count() > 0
}

#[test]
fn a_client_whose_segments_get_lost_has_time_for_each_and_not_for_ever() {
    let mut bench = bench();
    let sent = handshake(&mut bench, Family::V4);
    let mut at = 0;
    let mut goes_on = |bench: &mut Bench| {
        let part = segment(Family::V4, (FIRST + 1 + at, sent), &WHOLE[at as usize..at as usize + 1]);
        assert!(bench.burst(&[part], Port::Nic).is_empty());
        at += 1;
    };
    goes_on(&mut bench);
    for _ in 0..7 {
        bench.now.ms += 4_000;
        assert!(!is_refused(&mut bench), "new bytes come");
        goes_on(&mut bench);
    }
    bench.now.ms += 2_000;
    assert!(is_refused(&mut bench), "it had 30 s");
    assert_eq!(bench.count(Reason::RequestUnfinished), 1);
}

#[test]
fn the_parts_of_a_request_that_is_refused_are_dropped() {
    let mut bench = bench();
    let sent = handshake(&mut bench, Family::V4);
    let request = b"GET /none HTTP/1.1\r\nHost: a\r\n\r\n";
    assert!(bench.burst(&[segment(Family::V4, (FIRST + 1, sent), &request[..9])], Port::Nic).is_empty());
    bench.burst(&[segment(Family::V4, (FIRST + 10, sent), &request[9..])], Port::Nic);
    assert_eq!((bench.count(Reason::RefusedRequest), bench.count(Reason::RequestRefused)), (1, 1));
    assert!(bench.worker.is_idle());
}

#[test]
fn without_a_token_of_any_target_a_request_waits_for_its_repetition() {
    let mut bench = bench();
    let sent = handshake(&mut bench, Family::V4);
    bench.worker.set_pools(&Arc::new(Pools::default()));
    assert_eq!(bench.dropped(&segment(Family::V4, (FIRST + 1, sent), WHOLE)), Reason::HandoffNoToken);
    assert!(key(Family::V4).entry(&bench.crt, bench.now).is_none());
}

#[test]
fn a_request_in_ip_fragments_is_not_read() {
    let mut bench = bench();
    let sent = handshake(&mut bench, Family::V4);
    let mut first = segment(Family::V4, (FIRST + 1, sent), WHOLE);
    first[20] |= 0x20; // More fragments.
    mend(&mut first);
    assert_eq!(bench.dropped(&first), Reason::RequestFragmented);
}

#[test]
fn only_so_many_requests_wait_for_their_rest() {
    let mut bench = bench();
    let numbers: Vec<(u16, u32)> = (0..=512)
        .map(|client| {
            let port = CLIENT_PORT + client;
            let syn = to_dvipa(Family::V4).tcp(port, port_of(GUE), FIRST, 65535).syn();
            let (answer, _) = tcp(&bench.sent(&frame!(syn, &[])));
            (port, answer.sequence_number.wrapping_add(1))
        })
        .collect();
    for (port, sent) in numbers {
        let part = to_dvipa(Family::V4).tcp(port, port_of(GUE), FIRST + 1, 65535).ack(sent);
        bench.burst(&[frame!(part, &WHOLE[..9])], Port::Nic);
    }
    let over = [Reason::RequestNoRoom, Reason::RequestSlow].map(|reason| bench.count(reason));
    assert!(over.iter().sum::<u64>() > 0, "one of 513 found no room, or took another's");
}
