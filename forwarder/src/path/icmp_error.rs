//! ICMP errors that this node sends, from the DVIPA's address (RFC 1812 4.3.2, RFC 4443 2.4).

use super::Context;
use super::datagram::Datagram;
use super::emit::End;
use super::icmp_reply::{self, Marks, plain_header_bytes};
use crate::packet::{icmp, ipv4, protocol};
use crate::tables::Family;
use crate::{PacketBuffer, Reason};

/// The longest error with its IP header, for IPv4 (RFC 1812 4.3.2.3).
const LONGEST_V4: usize = 576;
/// The longest error with its IP header, for IPv6: the least MTU (RFC 4443 2.4 c).
const LONGEST_V6: usize = 1280;
/// Precedence "internetwork control" for IPv4 errors (RFC 1812 4.3.2.5).
const PRECEDENCE: u8 = 0xc0;

/// What the sender of a packet is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Notice {
    /// The longest packet that fits is so long.
    TooBig { mtu: u16 },
    /// Its TTL or hop limit is used up.
    TimeExceeded,
}

impl Notice {
    fn reason(self) -> Reason {
        match self {
            Notice::TooBig { .. } => Reason::AnsweredTooBig,
            Notice::TimeExceeded => Reason::AnsweredTimeExceeded,
        }
    }

    /// Type, code, checksum 0, and the four bytes behind.
    fn head(self, family: Family) -> [u8; icmp::HEADER_BYTES] {
        match (self, family) {
            (Notice::TooBig { mtu }, Family::V4) => {
                let [m0, m1] = mtu.to_be_bytes();
                [icmp::v4::UNREACHABLE, icmp::v4::FRAGMENTATION_NEEDED, 0, 0, 0, 0, m0, m1]
            }
            (Notice::TooBig { mtu }, Family::V6) => {
                let [m0, m1] = mtu.to_be_bytes();
                [icmp::v6::TOO_BIG, 0, 0, 0, 0, 0, m0, m1]
            }
            (Notice::TimeExceeded, Family::V4) => [icmp::v4::TIME_EXCEEDED, 0, 0, 0, 0, 0, 0, 0],
            (Notice::TimeExceeded, Family::V6) => [icmp::v6::TIME_EXCEEDED, 0, 0, 0, 0, 0, 0, 0],
        }
    }
}

/// Whether an error may be sent about a packet: not about an IPv4 fragment but the first (RFC 1812 4.3.2.7), not about
/// an ICMP error, not to a group of hosts.
fn may_answer(frame: &[u8], d: &Datagram) -> bool {
    let later_fragment = d.family == Family::V4 && d.fragment.is_some_and(|f| !f.is_first());
    let about_error = match d.protocol {
        protocol::ICMP | protocol::ICMPV6 => {
            icmp::Icmp::parse(d.payload(frame)).map_or(true, |i| match d.family {
                Family::V4 => i.kind != icmp::v4::ECHO_REQUEST,
                Family::V6 => i.kind < icmp::v6::ECHO_REQUEST,
            })
        }
        _ => false,
    };
    !later_fragment && !about_error && !d.ethernet.destination.is_group()
}

/// Makes the packet an error about itself.
///
/// In: a packet to a DVIPA. Out: the error for the port that it came from; dropped with `otherwise` if none may be
/// sent. Touches what is quoted, to sum it up.
pub(super) fn answer<B: PacketBuffer>(
    packet: &mut B,
    d: &Datagram,
    notice: Notice,
    otherwise: Reason,
    cx: &Context<'_>,
) -> End {
    if !may_answer(packet.bytes(), d) {
        return End::dropped(otherwise);
    }
    match write(packet, d, notice, cx) {
        Some(()) => End::sent(cx.from, notice.reason()),
        None => End::dropped(Reason::NoHeadroom),
    }
}

fn write<B: PacketBuffer>(packet: &mut B, d: &Datagram, notice: Notice, cx: &Context<'_>) -> Option<()> {
    let way_back = icmp_reply::way_back(packet.bytes(), d, cx.tables);
    let (longest, traffic_class) = match d.family {
        Family::V4 => (LONGEST_V4, PRECEDENCE),
        Family::V6 => (LONGEST_V6, 0),
    };
    let headers = plain_header_bytes(d.family).saturating_add(icmp::HEADER_BYTES);
    let quoted = usize::from(d.len).min(longest.saturating_sub(headers));
    packet.truncate(d.ethernet.header_bytes.saturating_add(quoted));
    if !packet.trim_front(d.ethernet.header_bytes) || !packet.prepend(icmp::HEADER_BYTES) {
        return None;
    }
    *packet.bytes_mut().first_chunk_mut()? = notice.head(d.family);
    let marks = Marks { traffic_class, identification: 0, flags: ipv4::DONT_FRAGMENT };
    icmp_reply::wrap(packet, &way_back, d, marks)
}
