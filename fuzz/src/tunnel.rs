//! Packets inside of packets: what an ICMP error quotes, and what a target sends encapsulated.
//!
//! Input: one byte that chooses what goes around, then the inner packet. The outer headers are right, so that every
//! input reaches the parsers of inner ones.

use forwarder::Port;

use crate::packet_path::{Bench, repaired};

const NODE_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x10];
const CLIENT_V4: [u8; 4] = [198, 18, 0, 2];
const DVIPA_V4: [u8; 4] = [198, 18, 9, 1];
const TARGET_V4: [u8; 4] = [198, 18, 0, 22];
const NODE_V4: [u8; 4] = [198, 18, 0, 10];
const CLIENT_V6: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];
const DVIPA_V6: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

/// Runs one input.
pub fn run(data: &[u8]) {
    let Some((choice, inner)) = data.split_first() else { return };
    let inner = inner.get(..1900).unwrap_or(inner);
    let mended = repaired(&[&[0; 14][..], inner].concat());
    let inner = if choice & 8 == 0 { mended.get(14..).unwrap_or_default() } else { inner };
    let frame = match choice & 7 {
        0 => v4(1, CLIENT_V4, DVIPA_V4, &[&[3, 1, 0, 0, 0, 0, 0, 0][..], inner].concat()),
        1 => v4(1, CLIENT_V4, DVIPA_V4, &[&[3, 4, 0, 0, 0, 0, 5, 0][..], inner].concat()),
        2 => v6(58, &[&[2, 0, 0, 0, 0, 0, 5, 0][..], inner].concat()),
        3 => v6(58, inner),
        4 => v4(4, TARGET_V4, NODE_V4, inner),
        5 => v4(41, TARGET_V4, NODE_V4, inner),
        6 => v4(17, TARGET_V4, NODE_V4, &udp(&[&[0, 4, 0, 0][..], inner].concat())),
        _ => v4(17, TARGET_V4, NODE_V4, &udp(inner)),
    };
    let mut bench = Bench::default();
    bench.burst(&[repaired(&frame)], Port::Nic);
    bench.settle();
}

fn ethernet(kind: [u8; 2]) -> Vec<u8> {
    [&NODE_MAC[..], &[2, 0, 0, 0, 0, 2], &kind].concat()
}

fn udp(payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u16 + 8).to_be_bytes();
    [&[0xc0, 0, 0x17, 0xc0][..], &length, &[0, 0], payload].concat()
}

fn v4(protocol: u8, source: [u8; 4], destination: [u8; 4], payload: &[u8]) -> Vec<u8> {
    let [l0, l1] = (payload.len() as u16 + 20).to_be_bytes();
    let head = [0x45, 0, l0, l1, 0, 0, 0x40, 0, 64, protocol, 0, 0];
    [&ethernet([8, 0])[..], &head, &source, &destination, payload].concat()
}

fn v6(next: u8, payload: &[u8]) -> Vec<u8> {
    let [l0, l1] = (payload.len() as u16).to_be_bytes();
    let head = [0x60, 0, 0, 0, l0, l1, next, 64];
    [&ethernet([0x86, 0xdd])[..], &head, &CLIENT_V6, &DVIPA_V6, payload].concat()
}
