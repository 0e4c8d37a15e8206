//! How long entries live.

use std::thread;
use std::time::Duration;

use lab::Spec;

use crate::fixture::{connect, established, lab, still_answered_by, web4, web6};

/// R2: no time ends a connection that its target has, however long it was idle.
#[test]
#[ignore = "needs root"]
fn an_idle_connection_outlives_idle_tcp_s() {
    let lab = lab(Spec::default().forwarder("idle_tcp_s = 1\nhalf_open_s = 1\nclosing_s = 1"));
    let mut connections: Vec<_> = [web4(), web6()].into_iter().map(|to| connect(&lab, to)).collect();
    for (connection, target) in &connections {
        assert_eq!(&established(&lab, connection).stack, target);
    }
    // Four lives, in each of which the CRT is swept twice.
    thread::sleep(Duration::from_secs(4));
    for (connection, target) in &mut connections {
        assert_eq!(&established(&lab, connection).stack, target);
        still_answered_by(connection, target);
    }
    assert_eq!(lab.counter("no_connection").expect("baton stats answers"), 0);
    assert_eq!(lab.counter("crt_gave_way").expect("baton stats answers"), 0);
}
