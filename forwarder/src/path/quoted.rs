//! ICMP errors about connections (row F6): they go where the connection is.

use std::net::{IpAddr, SocketAddr};

use model::Protocol;

use super::Context;
use super::datagram::Datagram;
use super::ends::Ends;
use super::fate::Fate;
use super::lookup::{Standing, standing};
use super::whose::Read;
use crate::Reason;
use crate::packet::{Icmp, Ipv4, Ipv6, Ports, protocol};
use crate::tables::Family;

/// Finds the connection that an ICMP error quotes.
///
/// In: an ICMP error to a DVIPA. The packet that it quotes was sent from that DVIPA to a client. Out: what becomes of it,
/// or why it is dropped. Touches the quoted headers and the connection's line of the CRT.
pub(super) fn whose(error: Icmp<'_>, d: &Datagram, cx: &Context<'_>) -> Result<(Read, Fate), Reason> {
    let ends = quoted_ends(error.body, d).ok_or(Reason::IcmpUnmatched)?;
    let entry = ends.key().get(cx).ok_or(Reason::IcmpUnmatched)?;
    let fate = match standing(entry.state, false, false) {
        Standing::Owned | Standing::HandedOver | Standing::Confirms | Standing::Reopens => {
            Fate::Forward { to: entry.owner, counts: Reason::ForwardedIcmpError }
        }
        Standing::Moving => Fate::Hold,
    };
    Ok((Read { datagram: *d, key: Some(ends.key()), hash: ends.hash() }, fate))
}

/// The connection of the quoted packet, in which the client is the receiver.
fn quoted_ends(quoted: &[u8], d: &Datagram) -> Option<Ends> {
    let (source, destination, number, fragment, payload): (IpAddr, IpAddr, _, _, _) = match d.family {
        Family::V4 => {
            let ip = Ipv4::parse_quoted(quoted).ok()?;
            (ip.source().into(), ip.destination().into(), ip.protocol(), ip.fragment(), ip.payload())
        }
        Family::V6 => {
            let ip = Ipv6::parse_quoted(quoted).ok()?;
            (ip.source().into(), ip.destination().into(), ip.protocol(), ip.fragment(), ip.payload())
        }
    };
    let protocol = match number {
        protocol::TCP => Protocol::Tcp,
        protocol::UDP => Protocol::Udp,
        _ => return None,
    };
    if source != d.address || fragment.is_some_and(|f| !f.is_first()) {
        return None;
    }
    let ports = Ports::parse(payload).ok()?;
    let client = SocketAddr::new(destination, ports.destination);
    Some(Ends { client, dvipa: d.dvipa, port: ports.source, protocol })
}
