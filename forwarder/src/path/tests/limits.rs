//! How many connections may begin: what is over a limit is dropped, and what there is goes on.

use std::num::NonZeroU32;

use model::limits::Rate;
use model::{Limits, Protocol};

use super::bench::*;
use super::transact;
use crate::tables::Family;
use crate::traffic::What;
use crate::{Port, Reason, Tables};

const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

fn rate(per_s: u32, burst: u32) -> Option<Rate> {
    Some(Rate { per_s: NonZeroU32::new(per_s)?, burst: NonZeroU32::new(burst)? })
}

/// The bench, with these limits of every service.
fn limited(mut bench: Bench, mut dpt: model::dpt::Dpt, limits: Limits) -> Bench {
    for row in &mut dpt.distributions {
        row.limits = limits;
    }
    bench.tables = Tables::build(&dpt, &neighbours(), &node());
    bench
}

fn bench(limits: Limits) -> Bench {
    limited(Bench::new(), dpt(), limits)
}

fn limited_by(bench: &Bench, what: What) -> u64 {
    let of = bench.counters.traffic().volumes().filter(|(pair, _)| pair.what() == what);
    of.map(|(_, volume)| volume.packets).sum()
}

#[test]
fn a_client_over_its_limit_is_dropped_and_its_connections_and_others_go_on() {
    for family in FAMILIES {
        let mut bench = bench(Limits { client: rate(10, 2), ..Limits::NONE });
        let port = port_of(GUE);
        bench.establish(1000, port, Protocol::Tcp, GUE);
        bench.sent(&syn(family, 1024, port));
        bench.sent(&syn(family, 1025, port));
        assert_eq!(bench.dropped(&syn(family, 1026, port)), Reason::ClientLimited);
        bench.sent(&syn(family, 1024, port));
        bench.sent(&ack(family, 1000, port));
        bench.sent(&ack(family, 1025, port));
        bench.sent(&syn(family, 1026, port_of(IPIP)));
        let [mut v4, mut v6] = [syn(Family::V4, 1026, port), syn(Family::V6, 1026, port)];
        v4[29] ^= 1;
        mend(&mut v4);
        v6[29] ^= 1;
        bench.sent(if family == Family::V4 { &v4 } else { &v6 });
        assert_eq!((limited_by(&bench, What::ClientLimited), bench.count(Reason::ClientLimited)), (1, 1));
        bench.now.ms += 100;
        bench.sent(&syn(family, 1026, port));
        assert_eq!(bench.dropped(&syn(family, 1027, port)), Reason::ClientLimited);
    }
}

#[test]
fn flows_of_udp_begin_as_connections_do() {
    for family in FAMILIES {
        let mut bench = bench(Limits { service: rate(10, 2), ..Limits::NONE });
        let of = |client_port| udp(family, client_port, port_of(GUE), b"one");
        bench.sent(&of(1024));
        bench.sent(&of(1025));
        assert_eq!(bench.dropped(&of(1026)), Reason::ServiceLimited);
        bench.sent(&of(1024));
        bench.sent(&of(1025));
        assert_eq!(limited_by(&bench, What::ServiceLimited), 1);
    }
    let mut bench = bench(Limits { service: rate(1, 1), client: rate(1, 1) });
    bench.sent(&udp(Family::V4, 1, port_of(GUE), b"one"));
    bench.establish(1024, port_of(GUE), Protocol::Udp, IPIP);
    bench.sent(&udp(Family::V4, 1024, port_of(GUE), b"one"));
    assert_eq!(bench.count(Reason::ForwardedNew), 2, "one whose server has ended goes to another");
}

#[test]
fn a_client_that_nothing_serves_is_told_and_has_its_tokens() {
    let mut dpt = dpt();
    let gue = dpt.distributions.iter_mut().filter(|d| d.port == port_of(GUE));
    gue.for_each(|distribution| distribution.targets.clear());
    let mut bench = limited(Bench::new(), dpt, Limits { client: rate(1, 1), ..Limits::NONE });
    (0..9).for_each(|n| drop(bench.sent(&syn(Family::V4, 1024 + n, port_of(GUE)))));
    assert_eq!((bench.count(Reason::RefusedReset), bench.count(Reason::ClientLimited)), (9, 0));
}

#[test]
fn with_routes_only_a_request_takes_a_token_so_that_made_up_addresses_take_none() {
    let dpt = || transact::dpt_with(&[("/one", &[GUE, IPIP]), ("/two", &[L2])]);
    for family in FAMILIES {
        let limits = Limits { service: rate(1, 1), client: rate(1, 1) };
        let mut bench = limited(transact::bench(), dpt(), limits);
        for client_port in 2000..2100 {
            bench.sent(&syn(family, client_port, port_of(GUE)));
        }
        assert_eq!(bench.count(Reason::AnsweredSyn), 100);
        let sent = transact::handshake(&mut bench, family);
        let request = transact::segment(family, (transact::FIRST + 1, sent), transact::WHOLE);
        bench.sent(&request);
        bench.sent(&request);
        assert_eq!(bench.count(Reason::ForwardedHandoff), 2, "one that is repeated has begun");

        let mut bench = limited(transact::bench(), dpt(), limits);
        let service = bench.tables.service(V4, port_of(GUE), Protocol::Tcp).unwrap();
        service.admit(CLIENT.into(), bench.now).unwrap();
        let sent = transact::handshake(&mut bench, Family::V4);
        let request = transact::segment(Family::V4, (transact::FIRST + 1, sent), transact::WHOLE);
        assert_eq!(bench.dropped(&request), Reason::ClientLimited);
        bench.now.ms += 1000;
        bench.sent(&request);
        assert_eq!(bench.count(Reason::ForwardedHandoff), 1, "the client has sent it again");
    }
}

#[test]
fn a_request_in_two_segments_that_is_over_a_limit_is_tried_again_with_each_repetition() {
    for family in FAMILIES {
        let dpt = transact::dpt_with(&[("/one", &[GUE, IPIP])]);
        let mut bench = limited(transact::bench(), dpt, Limits { service: rate(1, 1), ..Limits::NONE });
        for dvipa in [V4, V6] {
            let service = bench.tables.service(dvipa, port_of(GUE), Protocol::Tcp).unwrap();
            service.admit(CLIENT.into(), bench.now).unwrap();
        }
        let sent = transact::handshake(&mut bench, family);
        let (head, rest) = transact::WHOLE.split_at(9);
        let head = transact::segment(family, (transact::FIRST + 1, sent), head);
        let rest = transact::segment(family, (transact::FIRST + 10, sent), rest);
        assert!(bench.burst(&[&head], Port::Nic).is_empty(), "it waits");
        assert_eq!(bench.dropped(&rest), Reason::ServiceLimited);
        let (answer, _) = transact::tcp(&bench.sent(&head));
        assert_eq!(answer.acknowledgment_number, transact::FIRST + 10, "the client has to repeat the rest");
        assert_eq!(bench.dropped(&rest), Reason::ServiceLimited);
        assert_eq!((limited_by(&bench, What::ServiceLimited), bench.count(Reason::ServiceLimited)), (2, 2));
        bench.now.ms += 1000;
        let out = bench.burst(&[&rest], Port::Nic);
        let said: Vec<_> = out.iter().map(|(frame, _)| transact::opened(frame).1).collect();
        assert_eq!(said, [counted_down(&head), counted_down(&rest)]);
    }
}

#[test]
fn a_successor_of_the_tables_goes_on_with_the_buckets_and_with_none_where_there_is_no_limit() {
    let limits = Limits { service: rate(1, 1), client: rate(1, 1) };
    let mut bench = bench(limits);
    bench.sent(&syn(Family::V4, 1024, port_of(GUE)));
    let with = |limits| {
        let mut dpt = dpt();
        for row in &mut dpt.distributions {
            row.limits = limits;
            row.targets.first_mut().unwrap().weight = 2;
        }
        dpt
    };
    let tables = bench.tables.rebuild(&with(limits), &neighbours(), &node());
    bench.tables = tables;
    assert_eq!(bench.dropped(&syn(Family::V4, 1025, port_of(GUE))), Reason::ClientLimited);
    let tables = bench.tables.rebuild(&with(Limits::NONE), &neighbours(), &node());
    bench.tables = tables;
    (0..9).for_each(|n| drop(bench.sent(&syn(Family::V4, 1025 + n, port_of(GUE)))));
}
