//! What a frame says, for people and for filters: its own packet, or the one that it carries.

use std::fmt::Write;
use std::net::IpAddr;

use crate::packet::transport::{TCP_BYTES, UDP_BYTES, flags};
use crate::packet::{Ethernet, Gue, Icmp, Ipv4, Ipv6, Ports, Tcp, Udp, ethernet, gue, protocol};

/// Both ends of an IP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// Who sent it.
    pub source: IpAddr,
    /// Who is to have it.
    pub destination: IpAddr,
    /// Both ports, if it has some that can be read.
    pub ports: Option<(u16, u16)>,
    /// The protocol's number.
    pub protocol: u8,
}

impl Ends {
    /// Those of an answer.
    pub fn reversed(&self) -> Self {
        let ports = self.ports.map(|(from, to)| (to, from));
        Self { source: self.destination, destination: self.source, ports, ..*self }
    }
}

/// An IP packet whose header can be read.
#[derive(Clone, Copy)]
struct Packet<'p> {
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    hops: u8,
    len: usize,
    is_first: bool,
    is_fragment: bool,
    payload: &'p [u8],
}

impl<'p> Packet<'p> {
    /// Lengths and checksums may be wrong: who looks wants to see such packets too.
    fn read(bytes: &'p [u8], ethertype: u16) -> Option<Self> {
        match ethertype {
            ethernet::IPV4 => {
                let ip = Ipv4::parse_quoted(bytes).ok()?;
                let fragment = ip.fragment();
                Some(Self {
                    source: ip.source().into(),
                    destination: ip.destination().into(),
                    protocol: ip.protocol(),
                    hops: ip.ttl(),
                    len: Ipv4::parse(bytes).map_or(bytes.len(), Ipv4::total_bytes),
                    is_first: fragment.is_none_or(|fragment| fragment.is_first()),
                    is_fragment: fragment.is_some(),
                    payload: ip.payload(),
                })
            }
            ethernet::IPV6 => {
                let ip = Ipv6::parse_quoted(bytes).ok()?;
                let fragment = ip.fragment();
                Some(Self {
                    source: ip.source().into(),
                    destination: ip.destination().into(),
                    protocol: ip.protocol(),
                    hops: ip.hop_limit(),
                    len: Ipv6::parse(bytes).map_or(bytes.len(), Ipv6::total_bytes),
                    is_first: fragment.is_none_or(|fragment| fragment.is_first()),
                    is_fragment: fragment.is_some(),
                    payload: ip.payload(),
                })
            }
            _ => None,
        }
    }

    /// The packet that it carries, and how.
    fn inner(&self) -> Option<(&'static str, Self)> {
        let ethertype = |number: u8| if number == protocol::IPV4 { ethernet::IPV4 } else { ethernet::IPV6 };
        match self.protocol {
            protocol::IPV4 | protocol::IPV6 => {
                Some(("IPIP", Self::read(self.payload, ethertype(self.protocol))?))
            }
            protocol::UDP => {
                Ports::parse(self.payload).ok().filter(|ports| ports.destination == gue::PORT)?;
                let gue = Gue::parse(self.payload.get(UDP_BYTES..)?).ok()?;
                Some(("GUE", Self::read(gue.payload, ethertype(gue.protocol))?))
            }
            _ => None,
        }
    }

    fn ports(&self) -> Option<(u16, u16)> {
        let has_ports = self.is_first && matches!(self.protocol, protocol::TCP | protocol::UDP);
        let ports = Ports::parse(self.payload).ok().filter(|_| has_ports)?;
        Some((ports.source, ports.destination))
    }

    fn write(&self, text: &mut String) {
        let host = |address: IpAddr, port: Option<u16>| match port {
            Some(port) => std::net::SocketAddr::new(address, port).to_string(),
            None => address.to_string(),
        };
        let (from, to) = self.ports().unzip();
        let name = match self.protocol {
            protocol::TCP => "TCP",
            protocol::UDP => "UDP",
            protocol::ICMP | protocol::ICMPV6 => "ICMP",
            _ => "IP",
        };
        let _ = write!(text, "{name} {} > {}", host(self.source, from), host(self.destination, to));
        match self.protocol {
            _ if !self.is_first => text.push_str(", a later fragment"),
            protocol::TCP => self.write_tcp(text),
            protocol::ICMP | protocol::ICMPV6 => {
                if let Ok(icmp) = Icmp::parse(self.payload) {
                    let _ = write!(text, " type {} code {}", icmp.kind, icmp.code);
                }
            }
            protocol::UDP => {
                if let Ok(udp) = Udp::parse_first_fragment(self.payload) {
                    let _ = write!(text, ", {} bytes of data", udp.len.saturating_sub(UDP_BYTES));
                }
            }
            number => {
                let _ = write!(text, ", protocol {number}");
            }
        }
        let _ = write!(text, ", {} bytes, TTL {}", self.len, self.hops);
        if self.is_fragment {
            text.push_str(", in fragments");
        }
    }

    fn write_tcp(&self, text: &mut String) {
        let Ok(tcp) = Tcp::parse(self.payload) else { return };
        let names = [
            (flags::SYN, "SYN"),
            (flags::FIN, "FIN"),
            (flags::RST, "RST"),
            (flags::PSH, "PSH"),
            (flags::ACK, "ACK"),
        ];
        for (_, name) in names.iter().filter(|(bit, _)| tcp.flags & bit != 0) {
            let _ = write!(text, " {name}");
        }
        let headers = TCP_BYTES.max(tcp.header_bytes);
        let _ = write!(text, " seq {}", tcp.sequence);
        if tcp.flags & flags::ACK != 0 {
            let _ = write!(text, " ack {}", tcp.acknowledgment);
        }
        let _ = write!(text, ", {} bytes of data", self.payload.len().min(self.len).saturating_sub(headers));
    }
}

fn outermost(frame: &[u8]) -> Option<Packet<'_>> {
    let header = Ethernet::parse(frame).ok()?;
    Packet::read(frame.get(header.header_bytes..)?, header.ethertype)
}

/// Both ends of a frame's IP packet, or of the one that it carries; none: it is no IP.
pub fn ends(frame: &[u8]) -> Option<Ends> {
    let outer = outermost(frame)?;
    let packet = outer.inner().map_or(outer, |(_, inner)| inner);
    let Packet { source, destination, protocol, .. } = packet;
    Some(Ends { source, destination, ports: packet.ports(), protocol })
}

/// A frame in a line: `GUE 198.18.0.10 > 198.18.0.21: TCP 198.18.0.2:40000 > 198.18.9.1:80 SYN seq 1, …`.
pub fn describe(frame: &[u8]) -> String {
    let mut text = String::new();
    let Some(outer) = outermost(frame) else {
        return match Ethernet::parse(frame) {
            Ok(header) if header.ethertype == ethernet::ARP => "ARP".to_owned(),
            Ok(header) => format!("EtherType 0x{:04x}", header.ethertype),
            Err(_) => "no frame that can be read".to_owned(),
        };
    };
    match outer.inner() {
        Some((how, inner)) => {
            let _ = write!(text, "{how} {} > {}: ", outer.source, outer.destination);
            inner.write(&mut text);
        }
        None => outer.write(&mut text),
    }
    text
}
