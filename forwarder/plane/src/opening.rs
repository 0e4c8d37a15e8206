//! The packet that makes a connection at the stack that it is handed over to: a bare ACK as from the client, which begins
//! where the handoff option says.
//!
//! The client may send no such packet for long: it waits for the answer to bytes that were acknowledged, or it is idle.
//! TSval is 0, the value of which every later one of the client counts as newer (kernel `tcp_paws_check`): only the old
//! owner's kernel knows the client's last one, and tells nobody. TSecr is that kernel's own clock, from which the target's
//! goes on.

use std::net::IpAddr;

use arrayvec::ArrayVec;
use forwarder::packet::transport::{TCP_BYTES, flags};
use forwarder::packet::{Sum, ethernet, ipv4, ipv6, protocol};
use model::handoff::Handoff;
use model::{Connection, StackIndex};

use crate::worker::inbox::{Frame, To};

/// Two no-operations before the timestamps, as kernels write them (RFC 7323 appendix A).
const TIMESTAMPS: [u8; 4] = [1, 1, 8, 10];
const TIMESTAMP_BYTES: usize = 12;
const HOPS: u8 = 64;

type Tcp = ArrayVec<u8, { TCP_BYTES + TIMESTAMP_BYTES }>;

/// The packet for the stack `to`. The link-layer addresses are those of its encapsulation.
pub fn frame(connection: &Connection, to: StackIndex, handoff: &Handoff) -> Frame {
    let mut bytes = ArrayVec::new();
    bytes.extend([0; 12]);
    let mut tcp = tcp(connection, handoff);
    // A TCP header is shorter than 64 kB.
    let tcp_bytes = tcp.len() as u16;
    match (connection.client.ip(), connection.dvipa.ip()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let sum = Sum::default().bytes(&source.octets()).bytes(&destination.octets());
            set_checksum(&mut tcp, sum.word(tcp_bytes).word(protocol::TCP.into()));
            let header = ipv4::Header {
                traffic_class: 0,
                total_bytes: tcp_bytes + ipv4::HEADER_BYTES as u16,
                identification: 0,
                flags: ipv4::DONT_FRAGMENT,
                ttl: HOPS,
                protocol: protocol::TCP,
                source,
                destination,
            };
            bytes.extend(ethernet::IPV4.to_be_bytes());
            bytes.extend(header.to_bytes());
        }
        (source, destination) => {
            let [source, destination] = [source, destination].map(|address| match address {
                IpAddr::V4(address) => address.to_ipv6_mapped(),
                IpAddr::V6(address) => address,
            });
            let (from, to) = (source.octets(), destination.octets());
            set_checksum(&mut tcp, Sum::default().pseudo_v6(from, to, tcp_bytes, protocol::TCP));
            let header = ipv6::Header {
                traffic_class: 0,
                payload_bytes: tcp_bytes,
                next_header: protocol::TCP,
                hop_limit: HOPS,
                source,
                destination,
            };
            bytes.extend(ethernet::IPV6.to_be_bytes());
            bytes.extend(header.to_bytes());
        }
    }
    bytes.extend(tcp);
    Frame { to: To::Handoff(to), bytes }
}

fn tcp(connection: &Connection, handoff: &Handoff) -> Tcp {
    let mut tcp = Tcp::new();
    let words = (TCP_BYTES + handoff.echo.map_or(0, |_| TIMESTAMP_BYTES)) / 4;
    tcp.extend(connection.client.port().to_be_bytes());
    tcp.extend(connection.dvipa.port().to_be_bytes());
    tcp.extend(handoff.option.start.to_be_bytes());
    tcp.extend(handoff.acknowledgment.to_be_bytes());
    tcp.extend([(words as u8) << 4, flags::ACK]);
    tcp.extend(handoff.window.to_be_bytes());
    tcp.extend([0; 4]); // checksum and urgent pointer
    if let Some(echo) = handoff.echo {
        tcp.extend(TIMESTAMPS);
        tcp.extend([0; 4]);
        tcp.extend(echo.to_be_bytes());
    }
    tcp
}

fn set_checksum(tcp: &mut Tcp, pseudo_header: Sum) {
    let checksum = pseudo_header.bytes(tcp).finish();
    if let Some(field) = tcp.get_mut(16..18) {
        field.copy_from_slice(&checksum.to_be_bytes());
    }
}

#[cfg(test)]
mod tests;
