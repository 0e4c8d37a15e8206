//! Which packets go the fast way: what it leaves out is delivered the same, but not as fast.

use model::Protocol;

use super::bench::*;
use crate::crt::{KeyV4, KeyV6};
use crate::path::AnyKey;
use crate::path::parse::{Gate, Tag, plain_v4, plain_v6};
use crate::tables::Family;
use crate::{Node, Port, Reason};

const PORT: u16 = 8001;

/// What the packet is called, if it is plain.
fn read(frame: &[u8], from: Port, bench: &Bench) -> Option<AnyKey> {
    let gate = Gate::new(from, &bench.tables);
    let v4 = plain_v4(frame, gate, false, &bench.tables).map(AnyKey::V4);
    let v6 = plain_v6(frame, gate, &bench.tables).map(AnyKey::V6);
    assert!(v4.is_none() || v6.is_none());
    v4.or(v6)
}

fn named(family: Family, protocol: Protocol) -> Option<AnyKey> {
    Some(match family {
        Family::V4 => AnyKey::V4(KeyV4::new(CLIENT, 1024, V4, PORT, protocol)),
        Family::V6 => AnyKey::V6(KeyV6::new(CLIENT6, 1024, V6, PORT, protocol)),
    })
}

/// The shortest segment and datagram, and longer ones.
fn ordinary(family: Family) -> [(Protocol, Vec<u8>); 5] {
    let datagram = |len| (Protocol::Udp, udp(family, 1024, PORT, &vec![7; len]));
    let mut empty = datagram(0);
    empty.1.resize(68, 0);
    let segment = (Protocol::Tcp, ack(family, 1024, PORT));
    [(Protocol::Tcp, syn(family, 1024, PORT)), segment, empty, datagram(6), datagram(1400)]
}

#[test]
fn ordinary_packets_are_plain_and_called_by_their_ends() {
    for (family, port) in
        [Family::V4, Family::V6].into_iter().flat_map(|f| [(f, Port::Nic), (f, Port::Local)])
    {
        for (protocol, frame) in ordinary(family) {
            let bench = Bench::new();
            assert_eq!(read(&frame, port, &bench), named(family, protocol), "{frame:?}");
            let padded = [&frame[..], &[0xee; 7]].concat();
            assert_eq!(read(&padded, port, &bench), named(family, protocol), "{padded:?}");
        }
    }
}

/// A change of a frame, and its sentence.
type Change = (&'static str, fn(&mut Vec<u8>));

fn put(frame: &mut [u8], at: usize, word: usize) {
    frame[at..at + 2].copy_from_slice(&(word as u16).to_be_bytes());
}

#[test]
fn a_header_with_any_checksum_passes_and_one_bit_more_or_less_does_not() {
    let mut bench = Bench::new();
    bench.establish(1024, port_of(IPIP), Protocol::Tcp, IPIP);
    let mut frame = ack(Family::V4, 1024, port_of(IPIP));
    for identification in 0..=u16::MAX {
        put(&mut frame, 18, identification.into());
        mend(&mut frame);
        assert_eq!(bench.sent(&frame)[34..], counted_down(&frame), "{identification}");
        frame[24] ^= 1 << (identification % 8);
        assert_eq!(bench.dropped(&frame), Reason::BadChecksum, "{identification}");
    }
}

/// Whether each ordinary packet stays plain with each of these sets of changes.
fn check(family: Family, expected: bool, sets: impl IntoIterator<Item = Vec<Change>>) {
    let bench = Bench::new();
    for set in sets {
        for (protocol, mut frame) in ordinary(family) {
            // A wrong checksum is one when everything else is done.
            let (checksum, others): (Vec<&Change>, Vec<&Change>) =
                set.iter().partition(|(what, _)| what.contains("checksum"));
            others.iter().for_each(|(_, change)| change(&mut frame));
            if family == Family::V4 {
                mend(&mut frame);
            }
            checksum.iter().for_each(|(_, change)| change(&mut frame));
            let expected = if expected { named(family, protocol) } else { None };
            let sentences = set.iter().map(|(sentence, _)| *sentence).collect::<Vec<_>>().join(" and ");
            assert_eq!(read(&frame, Port::Nic, &bench), expected, "{sentences}: {frame:?}");
        }
    }
}

fn one_by_one(changes: &[Change]) -> impl Iterator<Item = Vec<Change>> {
    changes.iter().map(|change| vec![*change])
}

fn by_twos(changes: &[Change]) -> impl Iterator<Item = Vec<Change>> {
    changes.iter().enumerate().flat_map(|(i, one)| changes[..i].iter().map(|other| vec![*other, *one]))
}

#[test]
fn what_does_not_matter_leaves_a_packet_plain() {
    let v4: [Change; 5] = [
        ("traffic class", |f| f[15] = 0xff),
        ("identification", |f| f[18..20].fill(0xff)),
        ("the reserved flag", |f| f[20] |= 0x80),
        ("fragmentation allowed", |f| f[20] &= !0x40),
        ("two hops left", |f| f[22] = 2),
    ];
    check(Family::V4, true, one_by_one(&v4));
    let v6: [Change; 2] = [
        ("traffic class and flow label", |f| {
            f[14] = 0x6f;
            f[15..18].fill(0xff);
        }),
        ("two hops left", |f| f[21] = 2),
    ];
    check(Family::V6, true, one_by_one(&v6));
}

#[test]
fn what_needs_a_closer_look_is_not_plain() {
    let both: [Change; 3] = [
        ("for another station", |f| f[5] ^= 1),
        ("for another station", |f| f[0] ^= 4),
        ("another EtherType", |f| f[13] ^= 1),
    ];
    let cut: [Change; 1] = [("no flags", |f| f.truncate(47))];
    check(Family::V4, false, one_by_one(&cut));
    check(Family::V6, false, one_by_one(&cut));
    let v4: [Change; 18] = [
        ("version 5", |f| f[14] = 0x55),
        ("options", |f| f[14] = 0x46),
        ("longer than the frame", |f| {
            let beyond = f.len() - 13;
            put(f, 16, beyond);
        }),
        ("more fragments", |f| f[20] |= 0x20),
        ("a later fragment", |f| f[20] |= 0x10),
        ("a later fragment", |f| f[21] |= 1),
        ("one hop left", |f| f[22] = 1),
        ("no hop left", |f| f[22] = 0),
        ("another protocol", |f| f[23] = 1),
        ("a wrong checksum", |f| f[25] ^= 1),
        ("a wrong checksum", |f| f[18] ^= 1),
        ("from a group", |f| f[26] = 224),
        ("from nowhere", |f| f[26] = 0),
        ("from a loopback", |f| f[26] = 127),
        ("from the DVIPA", |f| f[26..30].copy_from_slice(&DVIPA.octets())),
        ("to no DVIPA", |f| f[33] ^= 0x80),
        ("too short for its transport header", |f| match f[23] {
            6 => put(f, 16, 39),
            _ => {
                put(f, 16, 27);
                put(f, 38, 7);
            }
        }),
        ("a data offset, or length, that is too small", |f| match f[23] {
            6 => f[46] = 0x4f,
            _ => f[39] = f[39].wrapping_sub(1),
        }),
    ];
    let all = [&both[..], &v4].concat();
    check(Family::V4, false, one_by_one(&all).chain(by_twos(&all)));
    let v6: [Change; 11] = [
        ("version 5", |f| f[14] = 0x50),
        ("longer than the frame", |f| {
            let beyond = f.len() - 53;
            put(f, 18, beyond);
        }),
        ("longer than any packet", |f| f[18..20].fill(0xff)),
        ("one hop left", |f| f[21] = 1),
        ("no hop left", |f| f[21] = 0),
        ("another protocol", |f| f[20] = 58),
        ("from a group", |f| f[22] = 0xff),
        ("from the DVIPA", |f| f[22..38].copy_from_slice(&DVIPA6.octets())),
        ("to no DVIPA", |f| f[53] ^= 0x80),
        ("too short for its transport header", |f| match f[20] {
            6 => put(f, 18, 19),
            _ => {
                put(f, 18, 7);
                put(f, 58, 7);
            }
        }),
        ("a data offset, or length, that is too small", |f| match f[20] {
            6 => f[66] = 0x4f,
            _ => f[59] = f[59].wrapping_sub(1),
        }),
    ];
    let all = [&both[..], &v6].concat();
    check(Family::V6, false, one_by_one(&all).chain(by_twos(&all)));
}

#[test]
fn in_a_vlan_packets_with_its_tag_are_plain() {
    let bench = Bench::with(&dpt(), &Node { vlan: Some(100), ..node() });
    let behind_tag = |frame: &[u8]| {
        Tag::new(&bench.tables).behind::<4>(frame).and_then(|frame| read(frame, Port::Nic, &bench))
    };
    for family in [Family::V4, Family::V6] {
        let frame = syn(family, 1024, PORT);
        assert_eq!(behind_tag(&in_vlan(100, &frame)), named(family, Protocol::Tcp));
        assert_eq!([&frame, &in_vlan(101, &frame)].map(|frame| behind_tag(frame)), [None, None]);
        assert_eq!(read(&frame, Port::Local, &bench), named(family, Protocol::Tcp));
    }
}
