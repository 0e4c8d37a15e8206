//! The views of headers, each on the same bytes: what they accept holds together.

use forwarder::packet::{Arp, Ethernet, Gue, Icmp, Ipv4, Ipv6, Ports, Solicitation, Tcp, Udp};

/// Runs one input.
pub fn run(data: &[u8]) {
    if let Ok(eth) = Ethernet::parse(data) {
        assert!((14..=22).contains(&eth.header_bytes) && eth.header_bytes <= data.len());
    }
    for ip in [Ipv4::parse(data), Ipv4::parse_quoted(data)].into_iter().flatten() {
        assert!(ip.header_bytes() >= 20 && ip.total_bytes() <= data.len());
        let _ = (ip.source(), ip.destination(), ip.protocol(), ip.ttl(), ip.traffic_class(), ip.fragment());
        transports(ip.payload());
    }
    for ip in [Ipv6::parse(data), Ipv6::parse_quoted(data)].into_iter().flatten() {
        assert!(ip.header_bytes() >= 40 && ip.header_bytes() + ip.payload().len() <= data.len());
        let _ =
            (ip.source(), ip.destination(), ip.protocol(), ip.hop_limit(), ip.traffic_class(), ip.fragment());
        let _ = Solicitation::parse(&ip);
        transports(ip.payload());
    }
    if let Ok(arp) = Arp::parse(data) {
        assert_eq!(arp.to_bytes(), data[..28], "an ARP message is written as it was read");
    }
    transports(data);
}

fn transports(data: &[u8]) {
    let _ = (Tcp::parse(data), Ports::parse(data));
    if let Ok(udp) = Udp::parse(data) {
        assert!((8..=data.len()).contains(&udp.len));
    }
    if let Ok(icmp) = Icmp::parse(data) {
        assert!(icmp.body.len() + 8 == data.len());
    }
    if let Ok(gue) = Gue::parse(data) {
        assert!(gue.header_bytes >= 4 && gue.header_bytes + gue.payload.len() == data.len());
    }
}
