//! A frame as named fields, by etherparse: an opinion on packets that shares no code with the forwarder.

use etherparse::{
    ArpPacketSlice, EtherType, Icmpv4Slice, Icmpv6Slice, IpNumber, Ipv4HeaderSlice, LaxLinkExtSlice,
    LaxNetSlice, LaxSlicedPacket, LinkSlice, TcpSlice, TransportSlice, UdpSlice,
};

/// A header's field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Layer and field, `outer.` or `quoted.` before it where layers are nested.
    pub name: String,
    /// As people write it.
    pub value: String,
}

const GUE_PORT: u16 = 6080;
const GUE_BYTES: usize = 4;
/// Packets in packets that are looked into.
const DEPTH: usize = 4;

/// Collects fields under a prefix.
struct Fields {
    prefix: &'static str,
    all: Vec<Field>,
}

impl Fields {
    fn add(&mut self, name: &str, value: impl ToString) {
        self.all.push(Field { name: format!("{}{name}", self.prefix), value: value.to_string() });
    }

    fn bytes(&mut self, name: &str, bytes: &[u8]) {
        const SHOWN: usize = 24;
        let shown: Vec<String> = bytes.iter().take(SHOWN).map(|b| format!("{b:02x}")).collect();
        let more =
            if bytes.len() > SHOWN { format!(" … digest {:016x}", digest(bytes)) } else { String::new() };
        self.add(name, format!("{} bytes {}{more}", bytes.len(), shown.concat()));
    }
}

/// FNV-1a, so that long payloads that differ late are shown as different.
fn digest(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3))
}

/// Every field of a frame that can be made out; what can't be is shown as bytes.
pub fn fields(frame: &[u8]) -> Vec<Field> {
    let mut fields = Fields { prefix: "", all: Vec::new() };
    match LaxSlicedPacket::from_ethernet(frame) {
        Ok(packet) => of_packet(&mut fields, &packet, 0),
        Err(_) => fields.bytes("frame", frame),
    }
    fields.prefix = "";
    fields.add("frame.length", frame.len());
    fields.all
}

fn of_packet(fields: &mut Fields, packet: &LaxSlicedPacket<'_>, depth: usize) {
    if let Some(LinkSlice::Ethernet2(ethernet)) = &packet.link {
        fields.add("ethernet.destination", mac(&ethernet.destination()));
        fields.add("ethernet.source", mac(&ethernet.source()));
        fields.add("ethernet.type", format!("{:#06x}", ethernet.ether_type().0));
        if !matches!(ethernet.ether_type(), EtherType::IPV4 | EtherType::IPV6 | EtherType::ARP) {
            fields.bytes("ethernet.payload", ethernet.payload_slice());
        }
    }
    for extension in &packet.link_exts {
        if let LaxLinkExtSlice::Vlan(vlan) = extension {
            fields.add("vlan.id", vlan.vlan_identifier().value());
            fields.add("vlan.type", format!("{:#06x}", vlan.ether_type().0));
        }
    }
    if let Some((error, layer)) = &packet.stop_err {
        fields.add("malformed", format!("{layer}: {error}"));
    }
    match &packet.net {
        Some(LaxNetSlice::Arp(arp)) => of_arp(fields, arp),
        Some(LaxNetSlice::Ipv4(ip)) => of_ipv4(fields, &ip.header()),
        Some(LaxNetSlice::Ipv6(ip)) => {
            let header = ip.header();
            fields.add("ip6.traffic-class", format!("{:#04x}", header.traffic_class()));
            fields.add("ip6.flow-label", format!("{:#07x}", header.flow_label().value()));
            fields.add("ip6.payload-length", header.payload_length());
            fields.add("ip6.next-header", header.next_header().0);
            fields.add("ip6.hop-limit", header.hop_limit());
            fields.add("ip6.source", header.source_addr());
            fields.add("ip6.destination", header.destination_addr());
            if !ip.extensions().slice().is_empty() {
                fields.bytes("ip6.extensions", ip.extensions().slice());
            }
        }
        None => {}
    }
    of_transport(fields, packet, depth);
}

fn of_transport(fields: &mut Fields, packet: &LaxSlicedPacket<'_>, depth: usize) {
    match &packet.transport {
        Some(TransportSlice::Tcp(tcp)) => of_tcp(fields, tcp),
        Some(TransportSlice::Udp(udp)) => of_udp(fields, udp, depth),
        Some(TransportSlice::Icmpv4(icmp)) => of_icmpv4(fields, icmp, depth),
        Some(TransportSlice::Icmpv6(icmp)) => of_icmpv6(fields, icmp, depth),
        _ => {
            if let Some(payload) = packet.net.as_ref().and_then(|n| n.ip_payload_ref()) {
                match payload.ip_number {
                    IpNumber::IPV4 | IpNumber::IPV6 if !payload.fragmented => {
                        nested(fields, payload.payload, "inner.", depth);
                    }
                    number => {
                        fields.add("ip.payload-protocol", number.0);
                        fields.bytes("ip.payload", payload.payload);
                    }
                }
            }
        }
    }
}

/// A packet in a packet.
fn nested(fields: &mut Fields, bytes: &[u8], prefix: &'static str, depth: usize) {
    let before = std::mem::replace(&mut fields.prefix, prefix);
    match LaxSlicedPacket::from_ip(bytes) {
        Ok(packet) if depth < DEPTH => of_packet(fields, &packet, depth + 1),
        _ => fields.bytes("payload", bytes),
    }
    fields.prefix = before;
}

fn of_arp(fields: &mut Fields, arp: &ArpPacketSlice<'_>) {
    fields.add("arp.operation", arp.operation().0);
    fields.bytes("arp.sender-hardware", arp.sender_hw_addr());
    fields.bytes("arp.sender-protocol", arp.sender_protocol_addr());
    fields.bytes("arp.target-hardware", arp.target_hw_addr());
    fields.bytes("arp.target-protocol", arp.target_protocol_addr());
}

fn of_ipv4(fields: &mut Fields, header: &Ipv4HeaderSlice<'_>) {
    fields.add("ip4.header-length", usize::from(header.ihl()) * 4);
    fields.add("ip4.dscp", header.dcp().value());
    fields.add("ip4.ecn", header.ecn().value());
    fields.add("ip4.total-length", header.total_len());
    fields.add("ip4.identification", format!("{:#06x}", header.identification()));
    fields.add("ip4.dont-fragment", header.dont_fragment());
    fields.add("ip4.more-fragments", header.more_fragments());
    fields.add("ip4.fragment-offset", header.fragments_offset().value());
    fields.add("ip4.ttl", header.ttl());
    fields.add("ip4.protocol", header.protocol().0);
    fields.add("ip4.checksum", format!("{:#06x}", header.header_checksum()));
    fields.add("ip4.source", header.source_addr());
    fields.add("ip4.destination", header.destination_addr());
    if !header.options().is_empty() {
        fields.bytes("ip4.options", header.options());
    }
}

fn of_tcp(fields: &mut Fields, tcp: &TcpSlice<'_>) {
    fields.add("tcp.source-port", tcp.source_port());
    fields.add("tcp.destination-port", tcp.destination_port());
    fields.add("tcp.sequence", tcp.sequence_number());
    fields.add("tcp.acknowledgement", tcp.acknowledgment_number());
    let flags = [
        ("FIN", tcp.fin()),
        ("SYN", tcp.syn()),
        ("RST", tcp.rst()),
        ("PSH", tcp.psh()),
        ("ACK", tcp.ack()),
        ("URG", tcp.urg()),
        ("ECE", tcp.ece()),
        ("CWR", tcp.cwr()),
    ];
    let set: Vec<&str> = flags.iter().filter(|(_, set)| *set).map(|(name, _)| *name).collect();
    fields.add("tcp.flags", set.join(" "));
    fields.add("tcp.window", tcp.window_size());
    fields.add("tcp.checksum", format!("{:#06x}", tcp.checksum()));
    fields.bytes("tcp.options", tcp.options());
    fields.bytes("tcp.payload", tcp.payload());
}

fn of_udp(fields: &mut Fields, udp: &UdpSlice<'_>, depth: usize) {
    fields.add("udp.source-port", udp.source_port());
    fields.add("udp.destination-port", udp.destination_port());
    fields.add("udp.length", udp.length());
    fields.add("udp.checksum", format!("{:#06x}", udp.checksum()));
    match udp.payload().split_at_checked(GUE_BYTES) {
        Some((gue, carried)) if udp.destination_port() == GUE_PORT => {
            fields.bytes("gue.header", gue);
            nested(fields, carried, "inner.", depth);
        }
        _ => fields.bytes("udp.payload", udp.payload()),
    }
}

fn of_icmpv4(fields: &mut Fields, icmp: &Icmpv4Slice<'_>, depth: usize) {
    const ERRORS: [u8; 5] = [3, 4, 5, 11, 12];
    fields.add("icmp.type", icmp.type_u8());
    fields.add("icmp.code", icmp.code_u8());
    fields.add("icmp.checksum", format!("{:#06x}", icmp.checksum()));
    fields.bytes("icmp.word", &icmp.bytes5to8());
    if ERRORS.contains(&icmp.type_u8()) {
        nested(fields, icmp.payload(), "quoted.", depth);
    } else {
        fields.bytes("icmp.payload", icmp.payload());
    }
}

fn of_icmpv6(fields: &mut Fields, icmp: &Icmpv6Slice<'_>, depth: usize) {
    const FIRST_INFORMATIONAL: u8 = 128;
    fields.add("icmp6.type", icmp.type_u8());
    fields.add("icmp6.code", icmp.code_u8());
    fields.add("icmp6.checksum", format!("{:#06x}", icmp.checksum()));
    fields.bytes("icmp6.word", &icmp.bytes5to8());
    if icmp.type_u8() < FIRST_INFORMATIONAL {
        nested(fields, icmp.payload(), "quoted.", depth);
    } else {
        fields.bytes("icmp6.payload", icmp.payload());
    }
}

fn mac(octets: &[u8]) -> String {
    octets.iter().map(|o| format!("{o:02x}")).collect::<Vec<_>>().join(":")
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::PacketBuilder;

    #[test]
    fn layers_inside_layers_are_named_by_where_they_are() {
        let mut inner = Vec::new();
        PacketBuilder::ipv6([1; 16], [2; 16], 9).udp(1, 2).write(&mut inner, b"xyz").unwrap();
        let mut frame = Vec::new();
        let gue = [&[0, 41, 0, 0], inner.as_slice()].concat();
        PacketBuilder::ethernet2([2; 6], [4; 6])
            .ipv4([198, 18, 0, 2], [198, 18, 9, 1], 64)
            .udp(50000, 6080)
            .write(&mut frame, &gue)
            .unwrap();
        let names: Vec<String> = fields(&frame).into_iter().map(|f| f.name).collect();
        for name in [
            "ethernet.type",
            "ip4.ttl",
            "udp.source-port",
            "gue.header",
            "inner.ip6.hop-limit",
            "inner.udp.payload",
        ] {
            assert!(names.iter().any(|n| n == name), "{name} not in {names:?}");
        }
    }

    #[test]
    fn a_frame_that_ends_in_a_header_is_shown_as_far_as_it_goes() {
        let mut frame = Vec::new();
        let builder = PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4([198, 18, 0, 2], [198, 18, 9, 1], 64);
        builder.tcp(1, 2, 3, 4).write(&mut frame, b"").unwrap();
        for length in 0..frame.len() {
            assert!(fields(&frame[..length]).iter().any(|f| f.name == "frame.length"));
        }
    }
}
