//! Every table has a limit: what is beyond it is refused, counted, and harms nothing that is there.

use std::time::Duration;

use model::codec::Address;
use model::message::{FromStack, Listen, Srvstat};
use model::{Protocol, StackIndex};

use super::super::fixture::{Bench, EPOCH, WEB, name, session_up, tcp};
use super::super::{
    Event, MAX_DRAINS, MAX_LISTENS, MAX_WEIGHED_SERVICES, Offence, OrderRefusal, RefusalKind, Scope,
};

const EVERY_PORT: &str = r#"
[[vipadynamic]]
[[vipadynamic.vipadefine]]
address = "198.18.9.1"
mask = 24
[[vipadynamic.vipadistribute]]
address = "198.18.9.1"
destip = "all"
[[vipadynamic.vipadistribute]]
address = "198.18.9.1"
protocol = "udp"
destip = "all"
"#;

fn every_port(protocol: Protocol) -> FromStack {
    let listens = (0..=u16::MAX).map(|port| Listen { protocol, port, listening: true }).collect();
    let dvipa = Address("198.18.9.1".parse().unwrap());
    FromStack::Srvstat(Srvstat { dvipa, epoch: EPOCH, complete: false, listens })
}

#[test]
fn a_stack_that_listens_everywhere_is_cut_off() {
    let mut bench = Bench::new(EVERY_PORT);
    bench.up("t1");
    bench.listens("t1", tcp("198.18.9.1", 80));
    let refusal = bench.message("t1", every_port(Protocol::Udp)).unwrap_err();
    assert_eq!(refusal, Offence::TooManyListens { ignored: 1 }.by(&name("t1")));
    assert_eq!(bench.stack.status_view().stacks[0].listens, MAX_LISTENS);
    assert_eq!(bench.selectable(tcp("198.18.9.1", 80)), ["t1"]);
    let refused = &bench.stack.status_view().refused[0];
    assert_eq!((refused.reason, refused.count), (RefusalKind::TooManyListens, 1));
}

#[test]
fn more_stacks_than_a_crt_entry_can_name_are_refused() {
    let mut bench = Bench::new(WEB);
    let all = usize::from(StackIndex::MAX) + 1;
    for i in 0..all {
        let stack = format!("s{i}");
        bench.up_at(&stack, &format!("10.0.{}.{}", i / 256, i % 256));
    }
    let one_more = session_up("one-more", &["10.1.0.1"]);
    let refusal = bench.handle(one_more.clone()).unwrap_err();
    assert!(refusal.to_string().contains("forgets those that are gone"), "{refusal}");
    bench.down("s0");
    assert_eq!(bench.handle(one_more).unwrap_err().kind(), RefusalKind::TooManyStacks, "it may come back");
    bench.up_at("s0", "10.0.0.0");
}

#[test]
fn drains_and_weights_of_a_controller_are_bounded() {
    let mut bench = Bench::new(EVERY_PORT);
    bench.up("t1");
    let ports = |count: usize| (1..=count).map(|port| tcp("198.18.9.1", u16::try_from(port).unwrap()));
    let drain = |service| Event::Drain { stack: name("t1"), scope: Scope::Service(service) };
    let weigh =
        |service| Event::SetWeights { service, weights: vec![(name("t1"), 5)], ttl: Duration::from_secs(60) };
    for service in ports(MAX_DRAINS) {
        bench.handle(drain(service)).unwrap();
    }
    for service in ports(MAX_WEIGHED_SERVICES) {
        bench.handle(weigh(service)).unwrap();
    }
    let one_more = tcp("198.18.9.1", 60_000);
    assert_eq!(bench.handle(drain(one_more)), Err(OrderRefusal::TooManyDrains.into()));
    assert_eq!(bench.handle(weigh(one_more)), Err(OrderRefusal::TooManyWeights.into()));
    assert_eq!(bench.handle(drain(tcp("198.18.9.1", 1))), Ok(()), "one that is in force stays");
}
