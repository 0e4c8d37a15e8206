//! Many transfers at once: on links that misbehave, between kernels that can less, with clients that do not care, and
//! while the programs that carry the connections out are killed.
//!
//! `BATON_SOAK=N` repeats each condition N times (`scripts/test --long`), `BATON_SEED` repeats what a failure printed.

mod clients;
mod condition;
mod counts;
mod field;

use std::time::Duration;

use lab::{Impairment, Spec};

pub(crate) use condition::Condition;
pub(crate) use field::{Field, be_impatient, seed};

/// So much larger a program may be after a soak, MiB: what its allocator keeps of the largest transfers at a time.
const MOST_GROWN_MIB: u64 = 24;

/// C5, C6, C11: connections that carry checked bytes both ways move on every 20 ms, whatever the client's link does to
/// frames and whichever options its kernel goes without; clients that do not read and clients that go away are among them.
#[test]
#[ignore = "needs root"]
fn connections_move_under_fire() {
    let field = Field::begin(Spec::content_routed());
    field.soak(&[
        Condition::named("nothing in the way"),
        Condition::named("1 % lost").impaired(Impairment::loss(10)),
        Condition::named("5 % lost").impaired(Impairment::loss(50)),
        Condition::named("5 % doubled").impaired(Impairment::default().duplicate(50)),
        Condition::named("10 % overtaken").impaired(Impairment::default().reorder(100, 5)),
        Condition::named("all of it, everywhere")
            .impaired(Impairment::loss(10).duplicate(20).reorder(50, 5))
            .on(&["client", "rt1", "t1", "t2", "t3"]),
        Condition::named("no timestamps").without(&["tcp_timestamps"]),
        Condition::named("no SACK, 1 % lost").without(&["tcp_sack"]).impaired(Impairment::loss(10)),
        Condition::named("no window scaling").without(&["tcp_window_scaling"]),
        Condition::named("no option at all, 1 % lost, 5 % overtaken")
            .without(&["tcp_timestamps", "tcp_sack", "tcp_window_scaling"])
            .impaired(Impairment::loss(10).reorder(50, 5)),
        Condition::named("all links but the routing node's carry 9000 bytes").link_mtu(9000),
        Condition::named("the client's packets are small").client_mtu(1280),
        Condition::named("the client's packets are tiny (IPv4)").client_mtu(576),
    ]);
}

/// C5, C6, C11: the same where the fabric carries no packet that is longer than IPv6 demands.
#[test]
#[ignore = "needs root"]
fn connections_move_over_a_fabric_of_small_packets() {
    let field = Field::begin(Spec { fabric_mtu: 1280, ..Spec::content_routed() });
    field.soak(&[
        Condition::named("fabric of 1280 bytes"),
        Condition::named("fabric of 1280 bytes, 1 % lost").impaired(Impairment::loss(10)),
    ]);
}

/// C5, C8: when clients have ended, or gone away in any phase of a move, nothing is left of them and of their transfers: no
/// entry, no frozen connection, no note, no socket, no descriptor; and the programs are not larger than before.
#[test]
#[ignore = "needs root"]
fn nothing_is_left_of_connections_that_moved() {
    let field = Field::begin(Spec::content_routed());
    // What is opened once, for the first transfers.
    let condition = Condition::named("before");
    field.soak_while(&condition, Duration::from_millis(300), || ());
    let before = field.settle(None);
    let memory = counts::memory(&field.lab);
    let condition = Condition::named("1 % lost").impaired(Impairment::loss(10));
    for _ in 0..3 {
        condition.set(&field.lab, 1);
        field.soak_while(&condition, Duration::from_millis(700), || ());
        condition.unset(&field.lab, 1);
    }
    field.settle(Some(&before));
    assert!(field.moved() > 100, "{:?}", field.outcomes());
    for (program, mib) in counts::memory(&field.lab) {
        let grown = mib.saturating_sub(memory[&program]);
        assert!(grown <= MOST_GROWN_MIB, "{program} has grown by {grown} MiB to {mib}");
    }
}
