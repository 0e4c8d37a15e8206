//! Look-up and selection: who gets a packet.

use std::num::NonZeroU32;

use model::Protocol;
use model::dpt::{Method, WeightedTarget};

use super::bench::*;
use crate::crt::KeyV4;
use crate::tables::Family;
use crate::{Port, Reason, Verdict};

const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

#[test]
fn a_syn_makes_a_half_open_entry_and_goes_to_the_selected_target() {
    for family in FAMILIES {
        let mut bench = Bench::new();
        let out = bench.sent(&syn(family, 1024, port_of(GUE)));
        assert_eq!(outer(&out).1, stack_v4(GUE));
        assert_eq!(bench.count(Reason::ForwardedNew), 1);
        assert_eq!(bench.crt.stack_count(GUE).half_open, 1);
    }
}

#[test]
fn a_connection_stays_with_its_owner_whatever_the_dpt_says() {
    for family in FAMILIES {
        let mut bench = Bench::new();
        bench.establish(1024, port_of(GUE), Protocol::Tcp, IPIP);
        assert_eq!(outer(&bench.sent(&ack(family, 1024, port_of(GUE)))).1, stack_v4(IPIP));
        assert_eq!(bench.count(Reason::Forwarded), 1);
    }
}

#[test]
fn data_behind_its_syn_in_one_burst_finds_the_entry() {
    let mut bench = Bench::new();
    let port = port_of(GUE);
    let out = bench.burst(&[syn(Family::V4, 1024, port), ack(Family::V4, 1024, port)], Port::Nic);
    assert!(out.iter().all(|(_, v)| *v == Verdict::Send(Port::Nic)), "{out:?}");
    assert_eq!((bench.count(Reason::ForwardedNew), bench.count(Reason::Forwarded)), (1, 1));
}

#[test]
fn a_syn_on_a_closing_entry_selects_anew_and_other_packets_still_pass() {
    let mut bench = Bench::new();
    bench.establish(1024, port_of(GUE), Protocol::Tcp, IPIP);
    let key = KeyV4::new(CLIENT, 1024, V4, port_of(GUE), Protocol::Tcp);
    assert!(bench.crt.terminate(key, IPIP, bench.now));
    assert_eq!(outer(&bench.sent(&ack(Family::V4, 1024, port_of(GUE)))).1, stack_v4(IPIP));
    assert_eq!(outer(&bench.sent(&syn(Family::V4, 1024, port_of(GUE)))).1, stack_v4(GUE));
}

#[test]
fn udps_first_packet_makes_an_established_flow_that_takes_no_room_of_tcp() {
    for family in FAMILIES {
        let mut bench = Bench::new();
        let frame = udp(family, 1024, port_of(GUE), b"one");
        bench.sent(&frame);
        bench.sent(&frame);
        let (stats, count) = (bench.crt.stats(), bench.crt.stack_count(GUE));
        assert_eq!((count.connections, count.half_open), (1, 0));
        assert_eq!(stats.flows_v4.entries + stats.flows_v6.entries, 1);
        assert_eq!(stats.v4.entries + stats.v6.entries, 0);
        assert_eq!((bench.count(Reason::ForwardedNew), bench.count(Reason::Forwarded)), (1, 1));
    }
}

#[test]
fn a_udp_flow_ends_with_its_server_and_stays_where_nothing_is_distributed() {
    for family in FAMILIES {
        let frame = udp(family, 1024, port_of(GUE), b"one");
        let mut bench = Bench::new();
        bench.establish(1024, port_of(GUE), Protocol::Udp, IPIP);
        assert_eq!(outer(&bench.sent(&frame)).1, stack_v4(GUE), "no server is left where it was");
        assert_eq!(bench.count(Reason::ForwardedNew), 1);
        assert_eq!(bench.crt.stack_count(IPIP).connections, 1, "only the other family's");
        let mut none = dpt();
        none.distributions.clear();
        let mut bench = Bench::with(&none, &node());
        bench.establish(1024, port_of(GUE), Protocol::Udp, GUE);
        assert_eq!(outer(&bench.sent(&frame)).1, stack_v4(GUE), "it is one that the target began");
    }
}

#[test]
fn a_target_that_takes_no_new_connections_keeps_its_udp_flows() {
    let mut drained = dpt();
    for distribution in &mut drained.distributions {
        distribution.targets.retain(|target| target.stack != GUE);
    }
    let mut bench = Bench::with(&drained, &node());
    bench.establish(1024, port_of(GUE), Protocol::Udp, GUE);
    let of = |port| udp(Family::V4, port, port_of(GUE), b"one");
    assert_eq!(outer(&bench.sent(&of(1024))).1, stack_v4(GUE));
    bench.sent(&of(1025));
    assert_eq!((bench.count(Reason::NoTarget), bench.count(Reason::RefusedUnreachable)), (1, 1));
}

#[test]
fn a_client_is_refused_when_the_target_has_as_many_connections_as_it_may() {
    let mut limited = dpt();
    for distribution in &mut limited.distributions {
        distribution.max_connections = NonZeroU32::new(3);
    }
    let mut bench = Bench::with(&limited, &node());
    bench.establish(1024, port_of(GUE), Protocol::Tcp, GUE);
    bench.sent(&syn(Family::V4, 1025, port_of(GUE)));
    bench.sent(&syn(Family::V4, 1026, port_of(GUE)));
    assert_eq!((bench.count(Reason::TargetsFull), bench.count(Reason::NoTarget)), (1, 0));
    assert_eq!(bench.count(Reason::RefusedReset), 1);
    bench.sent(&syn(Family::V4, 1025, port_of(GUE)));
    assert_eq!(bench.count(Reason::TargetsFull), 1, "one that has begun goes on");
}

#[test]
fn of_two_targets_the_one_that_has_less_to_do_is_selected_whatever_is_only_kept_open() {
    for family in FAMILIES {
        let mut two = dpt();
        for distribution in &mut two.distributions {
            distribution.method = Method::PowerOfTwo;
            distribution.targets = [IPIP, GUE].map(|stack| WeightedTarget { stack, weight: 1 }).to_vec();
        }
        let mut bench = Bench::with(&two, &node());
        let goes_to = |bench: &mut Bench, port| outer(&bench.sent(&syn(family, port, port_of(GUE)))).1;
        bench.establish(1024, port_of(GUE), Protocol::Tcp, GUE);
        let had = bench.crt.stack_count(GUE).connections;
        for port in 0..had as u16 {
            assert_eq!(goes_to(&mut bench, 2000 + port), stack_v4(IPIP), "it has fewer");
        }
        bench.establish(1025, port_of(GUE), Protocol::Tcp, GUE);
        bench.crt.loads().say(GUE, 2 * had, 0);
        assert_eq!(goes_to(&mut bench, 3000), stack_v4(GUE), "those that it has are only kept open");
        bench.crt.loads().say(GUE, 2 * had, 9);
        assert_eq!(goes_to(&mut bench, 3001), stack_v4(IPIP), "it has others of other nodes");
    }
}

#[test]
fn a_port_that_is_not_distributed_is_told_from_one_without_targets() {
    let mut dpt = without_own_stack();
    let gue = dpt.distributions.iter_mut().filter(|d| d.port == port_of(GUE));
    gue.for_each(|distribution| distribution.targets.clear());
    let mut bench = Bench::with(&dpt, &node());
    bench.sent(&syn(Family::V4, 1024, 9));
    assert_eq!((bench.count(Reason::NotDistributed), bench.count(Reason::NoTarget)), (1, 0));
    bench.sent(&syn(Family::V4, 1024, port_of(GUE)));
    assert_eq!((bench.count(Reason::NotDistributed), bench.count(Reason::NoTarget)), (1, 1));
    assert_eq!(bench.count(Reason::RefusedReset), 2);
}

#[test]
fn a_target_whose_link_layer_address_is_unknown_gets_nothing() {
    assert_eq!(Bench::new().dropped(&syn(Family::V4, 1024, port_of(UNRESOLVED))), Reason::NextHopUnresolved);
}

#[test]
fn the_nodes_own_stack_gets_its_packets_through_the_local_port_a_hop_further() {
    for family in FAMILIES {
        let mut bench = Bench::new();
        let frame = syn(family, 1024, port_of(LOCAL));
        let (out, verdict) = bench.one(&frame);
        assert_eq!((&out[..14], &out[14..]), (&frame[..14], &counted_down(&frame)[..]));
        assert_eq!((verdict, bench.count(Reason::ForwardedNew)), (Verdict::Send(Port::Local), 1));
    }
}

#[test]
fn hops_are_used_up_on_the_way_to_every_stack() {
    for family in FAMILIES {
        for stack in [LOCAL, GUE, IPIP, L2] {
            let mut frame = syn(family, 1024, port_of(stack));
            match family {
                Family::V4 => {
                    frame[22] = 1;
                    mend(&mut frame);
                }
                Family::V6 => frame[21] = 1,
            }
            let mut bench = Bench::new();
            bench.sent(&frame);
            assert_eq!(bench.count(Reason::AnsweredTimeExceeded), 1, "{stack:?}");
        }
    }
}

#[test]
fn packets_from_the_local_port_to_a_dvipa_are_treated_like_those_from_the_nic() {
    let mut bench = Bench::new();
    let out = bench.burst(&[syn(Family::V4, 1024, port_of(GUE))], Port::Local);
    assert_eq!(out[0].1, Verdict::Send(Port::Nic));
    assert_eq!(outer(&out[0].0).1, stack_v4(GUE));
}

#[test]
fn flags_that_contradict_each_other_open_no_connection() {
    // SYN with FIN, RST, ACK.
    for flag in [0x01, 0x04, 0x10] {
        let mut frame = syn(Family::V4, 1024, port_of(GUE));
        frame[47] |= flag;
        let mut bench = Bench::new();
        bench.burst(&[frame], Port::Nic);
        assert_eq!((bench.count(Reason::AskHeld), bench.count(Reason::ForwardedNew)), (1, 0));
    }
}

#[test]
fn more_packets_than_a_burst_pass_in_order() {
    let mut bench = Bench::new();
    let port = port_of(IPIP);
    let frames: Vec<_> =
        (0..100).map(|i| syn(if i % 3 == 0 { Family::V6 } else { Family::V4 }, 1024 + i, port)).collect();
    let out = bench.burst(&frames, Port::Nic);
    for (i, (frame, (out, _))) in frames.iter().zip(&out).enumerate() {
        assert_eq!(out[34..], counted_down(frame), "packet {i}");
    }
}
