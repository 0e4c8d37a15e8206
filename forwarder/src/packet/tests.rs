//! Every parser takes any bytes; where etherparse reads them too, both say the same.

use std::net::{IpAddr, Ipv4Addr};

use proptest::prelude::*;

use super::{neighbour, *};

/// Bytes that are likely to get past the first checks.
fn ip_like() -> impl Strategy<Value = Vec<u8>> {
    let first = prop_oneof![Just(0x45), Just(0x46), Just(0x4f), Just(0x60), any::<u8>()];
    let next = prop_oneof![Just(0), Just(43), Just(44), Just(51), Just(60), Just(6), Just(17), any::<u8>()];
    (first, next, 0..1_u8, any::<u8>(), proptest::collection::vec(any::<u8>(), 0..200)).prop_map(
        |(first, next, high, low, mut bytes)| {
            let put = [(0, first), (2, high), (3, low), (4, high), (5, low), (6, next)];
            put.into_iter().for_each(|(at, value)| {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = value;
                }
            });
            bytes
        },
    )
}

/// The same with a right IPv4 header checksum, and short extension headers.
fn mended(mut bytes: Vec<u8>) -> Vec<u8> {
    let len = bytes.first().map_or(0, |b| usize::from(b & 15) * 4);
    if bytes.len() >= len.max(20) && len >= 20 {
        (bytes[10], bytes[11]) = (0, 0);
        let sum = Sum::ZERO.bytes(&bytes[..len]).finish().to_be_bytes();
        bytes[10..12].copy_from_slice(&sum);
    }
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_parser_panics(bytes in prop_oneof![ip_like(), proptest::collection::vec(any::<u8>(), 0..120)]) {
        let _ = Ethernet::parse(&bytes);
        let _ = Arp::parse(&bytes);
        let _ = Icmp::parse(&bytes).map(|i| (i.is_error_v4(), i.is_error_v6()));
        let _ = (Tcp::parse(&bytes), Udp::parse(&bytes), Udp::parse_first_fragment(&bytes), Ports::parse(&bytes));
        let _ = (Gue::parse(&bytes), neighbour::target(&bytes));
        for ip in [Ipv4::parse(&bytes), Ipv4::parse_quoted(&bytes)].into_iter().flatten() {
            prop_assert_eq!(ip.total_bytes(), ip.header_bytes() + ip.payload().len());
            prop_assert!(ip.total_bytes() <= bytes.len());
        }
        for ip in [Ipv6::parse(&bytes), Ipv6::parse_quoted(&bytes)].into_iter().flatten() {
            prop_assert!(ip.total_bytes() <= bytes.len());
            let _ = Solicitation::parse(&ip);
        }
    }

    #[test]
    fn ipv4_is_read_as_etherparse_reads_it(bytes in ip_like().prop_map(mended)) {
        let (ours, theirs) = (Ipv4::parse(&bytes), etherparse::Ipv4HeaderSlice::from_slice(&bytes));
        if let Ok(ip) = ours {
            let h = theirs.unwrap();
            prop_assert_eq!((ip.source(), ip.destination()), (h.source_addr(), h.destination_addr()));
            prop_assert_eq!((ip.protocol(), ip.ttl()), (h.protocol().0, h.ttl()));
            prop_assert_eq!(ip.fragment().is_some(), h.is_fragmenting_payload());
            prop_assert_eq!(usize::from(h.total_len()), ip.total_bytes());
            // etherparse knows no reserved flag.
            let reserved = bytes[6] & 0x80 != 0;
            prop_assert!(reserved || h.to_header().calc_header_checksum() == h.header_checksum());
        } else if let Ok(h) = theirs {
            let len = usize::from(h.total_len());
            prop_assert!(len > bytes.len() || len < h.slice().len(), "refused, but nothing is wrong: {:?}", ours);
        }
    }

    #[test]
    fn ipv6_is_read_as_etherparse_reads_it(bytes in ip_like()) {
        let Ok(ip) = Ipv6::parse(&bytes) else { return Ok(()) };
        let sliced = etherparse::SlicedPacket::from_ip(&bytes);
        // etherparse is stricter about the order of extension headers, and takes a length of 0 for a jumbogram's.
        let Ok(Some(etherparse::NetSlice::Ipv6(theirs))) = sliced.map(|s| s.net) else { return Ok(()) };
        prop_assert_eq!(IpAddr::from(ip.source()), IpAddr::from(theirs.header().source_addr()));
        if theirs.payload().ip_number.0 == ip.protocol() && theirs.header().payload_length() > 0 {
            prop_assert_eq!(theirs.payload().payload.len(), ip.payload().len());
        }
    }

    #[test]
    fn a_sum_with_its_own_checksum_is_right(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let checksum = Sum::ZERO.bytes(&bytes).finish();
        prop_assert_eq!(Sum::ZERO.bytes(&bytes).word(checksum).finish(), 0);
        let theirs = etherparse::checksum::Sum16BitWords::new().add_slice(&bytes).ones_complement();
        prop_assert_eq!(checksum, theirs.to_be());
    }

    #[test]
    fn arp_is_written_as_it_is_read(bytes in any::<[u8; 20]>(), reply in any::<bool>()) {
        let mut message = vec![0, 1, 8, 0, 6, 4, 0, 1 + u8::from(reply)];
        message.extend_from_slice(&bytes);
        prop_assert_eq!(&Arp::parse(&message).unwrap().to_bytes()[..], &message[..]);
    }
}

#[test]
fn up_to_two_vlan_tags_are_skipped_and_the_outer_one_counts() {
    let addresses = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];
    let frame = |rest: &[u8]| Ethernet::parse(&[&addresses[..], rest].concat());
    let read = |e: Ethernet| (e.vlan, e.ethertype, e.header_bytes);
    assert_eq!(frame(&[8, 0]).map(read), Ok((None, 0x800, 14)));
    assert_eq!(frame(&[0x81, 0, 0xe0, 5, 8, 0]).map(read), Ok((Some(5), 0x800, 18)));
    assert_eq!(frame(&[0x88, 0xa8, 0, 9, 0x81, 0, 0, 5, 0x86, 0xdd]).map(read), Ok((Some(9), 0x86dd, 22)));
    assert_eq!(frame(&[0x81, 0, 0, 5]).map(read), Err(Malformed::Truncated));
}

#[test]
fn gue_skips_optional_fields_and_refuses_control_messages() {
    let gue = |bytes: &[u8]| Gue::parse(bytes).map(|g| (g.protocol, g.payload.to_vec()));
    assert_eq!(gue(&[0, 4, 0, 0, 7]), Ok((4, vec![7])));
    assert_eq!(gue(&[1, 41, 0, 0, 1, 2, 3, 4, 7]), Ok((41, vec![7])));
    assert_eq!(gue(&[0x20, 4, 0, 0]), Err(Malformed::Header));
    assert_eq!(gue(&[0x45, 4, 0, 0]), Err(Malformed::Header));
    assert_eq!(gue(&[2, 4, 0, 0, 0, 0]), Err(Malformed::Truncated));
}

#[test]
fn extension_headers_are_followed_only_so_far() {
    let chain = |n: usize| {
        let mut bytes = vec![0x60, 0, 0, 0, 0, (n * 8 + 4) as u8, 60, 64];
        bytes.extend([0; 32]);
        for i in 0..n {
            bytes.extend([if i + 1 == n { 6 } else { 60 }, 0, 0, 0, 0, 0, 0, 0]);
        }
        bytes.extend([1, 2, 3, 4]);
        bytes
    };
    assert_eq!(Ipv6::parse(&chain(8)).map(|ip| (ip.protocol(), ip.header_bytes())).unwrap(), (6, 104));
    assert_eq!(Ipv6::parse(&chain(9)).unwrap_err(), Malformed::Header);
}

#[test]
fn hosts_have_unicast_addresses() {
    let host = |a: [u8; 4]| ipv4::is_host(Ipv4Addr::from(a));
    assert!(host([198, 18, 0, 1]) && host([10, 0, 0, 1]) && host([223, 0, 0, 1]));
    assert!(host([240, 0, 0, 5]) && host([255, 255, 255, 254]));
    assert!(
        !host([0, 0, 0, 0]) && !host([127, 0, 0, 1]) && !host([224, 0, 0, 1]) && !host([255, 255, 255, 255])
    );
}
