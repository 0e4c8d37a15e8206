use std::net::Ipv6Addr;

use etherparse::{Icmpv6Header, NetSlice, SlicedPacket, TransportSlice};

use super::*;

const MAC: Mac = Mac([2, 0, 0, 0, 0, 7]);

#[test]
fn an_ipv4_announcement_is_a_broadcast_request_for_itself() {
    let frame = frame(Dvipa::new("198.18.9.1".parse().unwrap()), MAC, None);
    let address = [198, 18, 9, 1];
    let (ethernet, arp) = frame.bytes.split_at(14);
    assert_eq!(ethernet, [&[0xff; 6][..], &MAC.0, &[8, 6]].concat());
    assert_eq!(arp, [&[0, 1, 8, 0, 6, 4, 0, 1][..], &MAC.0, &address, &[0; 6], &address].concat());
}

#[test]
fn an_ipv6_announcement_is_an_advertisement_with_a_right_checksum() {
    let address: Ipv6Addr = "2001:db8:9::1".parse().unwrap();
    let frame = frame(Dvipa::new(address.into()), MAC, None);
    let packet = SlicedPacket::from_ethernet(&frame.bytes).unwrap();
    let Some(NetSlice::Ipv6(ip)) = &packet.net else { panic!("{packet:?}") };
    assert_eq!((ip.header().hop_limit(), ip.header().source_addr()), (255, address));
    let Some(TransportSlice::Icmpv6(icmp)) = &packet.transport else { panic!("{packet:?}") };
    let header: Icmpv6Header = icmp.header();
    assert_eq!(header.icmp_type.type_u8(), 136, "{header:?}");
    assert!(icmp.is_checksum_valid(ip.header().source(), ip.header().destination()));
}

#[test]
fn announcements_are_tagged_where_the_nic_is() {
    for address in ["198.18.9.1", "2001:db8:9::1"] {
        let frame = frame(Dvipa::new(address.parse().unwrap()), MAC, Some(100));
        assert_eq!(frame.bytes[12..16], [0x81, 0, 0, 100]);
    }
}
