//! What a stranger can make the node do is limited, and what keeps the node in its cluster goes on.

use std::net::Ipv4Addr;

use super::bench::*;
use crate::tables::Family;
use crate::{Limits, Mac, Port, Reason, TestPacket, Verdict, Worker};

/// A bench whose limits are a burst of 10 for all together, and 5 for each.
fn limited() -> Bench {
    let mut bench = Bench::new();
    let limits = Limits {
        echoes_a_second: 100,
        neighbours_a_second: 100,
        own_a_second: 100,
        passed_a_second: 100,
        share_a_second: 50,
        opening_share_a_second: 50,
        ..Limits::default()
    };
    bench.worker = Worker::new(limits, bench.counters.clone());
    bench
}

/// The frame from another IPv4 address and station.
fn of(frame: &[u8], source: Ipv4Addr, mac: Mac) -> Vec<u8> {
    let mut frame = frame.to_vec();
    frame[6..12].copy_from_slice(&mac.0);
    frame[26..30].copy_from_slice(&source.octets());
    mend(&mut frame);
    frame
}

const OTHER: Ipv4Addr = Ipv4Addr::new(198, 19, 7, 7);
const OTHER_MAC: Mac = Mac([2, 0, 0, 0, 0, 3]);

/// How many of `count` such frames have another end than this one.
fn passed(bench: &mut Bench, frame: &[u8], count: usize, limited: Reason) -> usize {
    let out = bench.burst(&vec![frame; count], Port::Nic);
    out.iter().filter(|(_, verdict)| *verdict != Verdict::Drop(limited)).count()
}

#[test]
fn echo_answers_are_limited_and_each_network_has_its_share() {
    let mut bench = limited();
    let request = frame!(to_dvipa(Family::V4).icmpv4_echo_request(7, 9), b"data");
    let from_others = of(&request, OTHER, CLIENT_MAC);
    assert_eq!(passed(&mut bench, &from_others, 100, Reason::EchoLimited), 15);
    assert_eq!(passed(&mut bench, &request, 100, Reason::EchoLimited), 5);
    assert_eq!((bench.count(Reason::AnsweredEcho), bench.count(Reason::EchoLimited)), (20, 180));
    bench.now.ms += 100;
    assert_eq!(passed(&mut bench, &request, 1, Reason::EchoLimited), 1);
}

#[test]
fn answers_to_arp_are_limited_and_each_station_has_its_share() {
    let mut bench = limited();
    let request = |mac: Mac| {
        let arp = [&[0, 1, 8, 0, 6, 4, 0, 1][..], &mac.0, &CLIENT.octets(), &[0; 6], &DVIPA.octets()];
        [&Mac::BROADCAST.0[..], &mac.0, &[8, 6], &arp.concat(), &[0; 18]].concat()
    };
    assert_eq!(passed(&mut bench, &request(OTHER_MAC), 100, Reason::NeighbourLimited), 15);
    assert_eq!(passed(&mut bench, &request(CLIENT_MAC), 100, Reason::NeighbourLimited), 5);
    assert_eq!(bench.count(Reason::AnsweredArp), 20);
}

/// Keeps apart what goes first.
#[derive(Default)]
struct Ordered {
    first: Vec<Vec<u8>>,
    others: Vec<Vec<u8>>,
}

impl crate::Sink<TestPacket> for Ordered {
    fn give(&mut self, packet: TestPacket, verdict: Verdict) {
        if verdict == Verdict::Send(Port::Local) {
            self.others.push(crate::PacketBuffer::bytes(&packet).to_vec());
        }
    }

    fn give_first(&mut self, packet: TestPacket) {
        self.first.push(crate::PacketBuffer::bytes(&packet).to_vec());
    }
}

#[test]
fn what_keeps_the_node_in_its_cluster_goes_first_whatever_else_comes() {
    let mut bench = limited();
    let to_node = |source: Ipv4Addr, mac: Mac| {
        etherparse::PacketBuilder::ethernet2(mac.0, NODE_MAC.0).ipv4(source.octets(), NODE.octets(), 64)
    };
    let session = frame!(to_node(stack_v4(GUE), stack_mac(GUE)).udp(50_000, 7440), b"quic");
    let bgp = frame!(to_node(CLIENT, CLIENT_MAC).tcp(40_000, 179, 1, 1).ack(1), b"keepalive");
    let arp = [&Mac::BROADCAST.0[..], &CLIENT_MAC.0, &[8, 6], &[0; 46]].concat();
    let link6 = {
        let ip = etherparse::PacketBuilder::ethernet2(CLIENT_MAC.0, NODE_MAC.0);
        frame!(ip.ipv6(CLIENT6.octets(), NODE6.octets(), 255).icmpv6_raw(136, 0, [0; 4]), &[0; 16])
    };
    let flood = frame!(to_node(OTHER, OTHER_MAC).udp(50_000, 7440), b"flood");
    let own = [session, bgp, arp, link6];
    let mut frames = vec![flood.clone(); 100];
    own.iter().for_each(|frame| frames.insert(50, frame.clone()));
    let mut burst: Vec<_> = frames.iter().map(|f| Some(TestPacket::new(f))).collect();
    let mut out = Ordered::default();
    bench.worker.process(&mut burst, Port::Nic, &bench.tables, &bench.crt, bench.now, &mut out);
    out.first.reverse();
    assert_eq!((out.first, out.others.len()), (own.to_vec(), 15));
    assert_eq!((bench.count(Reason::PassedToLocal), bench.count(Reason::LocalLimited)), (19, 85));
    // An honest stranger's packets still pass.
    let ssh = frame!(to_node(CLIENT, CLIENT_MAC).tcp(40_000, 22, 1, 1).syn(), &[]);
    assert_eq!(passed(&mut bench, &ssh, 1, Reason::LocalLimited), 1);
    // What the node's own kernel sends is its own business.
    assert_eq!(bench.burst(&vec![flood; 100], Port::Local).len(), 100);
    assert_eq!(bench.count(Reason::PassedToNic), 100);
}

#[test]
fn a_stack_of_the_cluster_has_its_share_of_sessions_when_its_address_is_forged() {
    let mut bench = limited();
    let session = |stack| {
        let from = etherparse::PacketBuilder::ethernet2(stack_mac(stack).0, NODE_MAC.0);
        frame!(from.ipv4(stack_v4(stack).octets(), NODE.octets(), 64).udp(50_000, 7440), b"quic")
    };
    assert_eq!(passed(&mut bench, &session(GUE), 100, Reason::LocalLimited), 15);
    assert_eq!(passed(&mut bench, &session(IPIP), 100, Reason::LocalLimited), 5);
}

#[test]
fn who_is_pressed_lets_each_network_begin_its_share_and_all_else_go_on() {
    for udp in [false, true] {
        let mut bench = limited();
        let opening = |port| match udp {
            false => syn(Family::V4, port, port_of(GUE)),
            true => super::bench::udp(Family::V4, port, port_of(GUE), b"data"),
        };
        let flood = |bench: &mut Bench, from: u16| {
            let frames: Vec<_> =
                (from..from + 100).map(|port| of(&opening(port), OTHER, CLIENT_MAC)).collect();
            bench.burst(&frames, Port::Nic);
        };
        flood(&mut bench, 1000);
        assert_eq!((bench.count(Reason::ForwardedNew), bench.count(Reason::Overloaded)), (100, 0));
        bench.worker.set_pressed(true);
        flood(&mut bench, 2000);
        assert_eq!((bench.count(Reason::ForwardedNew), bench.count(Reason::Overloaded)), (105, 95));
        bench.sent(&opening(3000));
        assert_eq!(bench.count(Reason::ForwardedNew), 106, "of another network");
        flood(&mut bench, 1000);
        assert_eq!(bench.count(Reason::Overloaded), 95, "what there is goes on");
        bench.worker.set_pressed(false);
        flood(&mut bench, 4000);
        assert_eq!(bench.count(Reason::Overloaded), 95);
    }
}
