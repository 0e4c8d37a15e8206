//! What many reports at once cost.

use std::fmt::Write;
use std::time::Duration;

use model::codec::Address;
use model::message::{FromStack, Listen, Srvstat};
use model::{Dvipa, Protocol};

use super::super::fixture::{Bench, EPOCH, connection, dvipa, newconn, tcp};
use super::super::{Action, pace};

const DVIPAS: u16 = 1000;

fn address(number: u16) -> String {
    format!("198.19.{}.{}", number / 250, number % 250 + 1)
}

/// So many DVIPAs with two ports each, and three targets.
fn definitions() -> String {
    let mut text = String::from("[[vipadynamic]]\n");
    for address in (0..DVIPAS).map(address) {
        let _ = write!(
            text,
            "[[vipadynamic.vipadefine]]\naddress = \"{address}\"\nmask = 24\n\
             [[vipadynamic.vipadistribute]]\naddress = \"{address}\"\nports = [80, 443]\ndestip = \"all\"\n"
        );
    }
    text
}

fn report(dvipa: Dvipa) -> FromStack {
    let listens =
        [80, 443].map(|port| Listen { protocol: Protocol::Tcp, port, listening: true }).into_iter().collect();
    FromStack::Srvstat(Srvstat { dvipa: Address(dvipa.address()), epoch: EPOCH, complete: true, listens })
}

fn publications(actions: &[Action]) -> usize {
    actions.iter().filter(|action| matches!(action, Action::Publish(_))).count()
}

#[test]
fn a_storm_of_reports_makes_a_new_dpt_each_20_ms_and_not_each_time() {
    let mut bench = Bench::new(&definitions());
    for target in ["t1", "t2", "t3"] {
        bench.up(target);
    }
    bench.actions();
    let (begun, mut published) = (bench.now, 0);
    for number in 0..DVIPAS {
        for target in ["t1", "t2", "t3"] {
            bench.now += Duration::from_micros(200);
            bench.message(target, report(dvipa(&address(number)))).unwrap();
            published += publications(&bench.actions());
        }
    }
    let pauses = (bench.now - begun).as_millis() / pace::PAUSE.as_millis();
    let most = pauses as usize + pace::AT_ONCE as usize + 1;
    assert!(published <= most, "{published} for {} reports, at most {most}", 3 * DVIPAS);
    while let Some(due) = bench.stack.next_deadline().filter(|due| *due <= bench.now + pace::PAUSE) {
        bench.wait(due.saturating_duration_since(bench.now).max(Duration::from_millis(1)));
        bench.actions();
    }
    assert_eq!(bench.selectable(tcp(&address(DVIPAS - 1), 443)), ["t1", "t2", "t3"], "nothing is forgotten");
}

#[test]
fn reports_of_connections_compute_nothing_and_come_through_at_once() {
    let mut bench = Bench::new(&definitions());
    bench.up("t1");
    bench.actions();
    let to = format!("{}:80", address(7));
    for batch in 0..40 {
        let connections: Vec<_> = (0..100).map(|i| connection(batch * 100 + i + 1, &to)).collect();
        bench.message("t1", newconn(false, false, &connections)).unwrap();
        assert_eq!(bench.stack.pace.take(), None, "nothing is to be computed");
        let actions = bench.actions();
        assert!(matches!(&actions[..], [Action::Newconn { connections, .. }] if connections.len() == 100));
    }
}

#[test]
fn connections_are_confirmed_before_a_dpt_that_waits() {
    let mut bench = Bench::new(&definitions());
    bench.up("t1");
    bench.actions();
    for number in 0..20 {
        bench.message("t1", report(dvipa(&address(number)))).unwrap();
        bench.actions();
    }
    let here = [connection(1, &format!("{}:80", address(0)))];
    bench.message("t1", newconn(false, false, &here)).unwrap();
    let actions = bench.actions();
    assert!(matches!(&actions[..], [Action::Newconn { .. }]), "{actions:?}");
    bench.wait(pace::PAUSE);
    assert_eq!(publications(&bench.actions()), 1);
}
