//! Echo requests to a DVIPA, answered by the routing node (RFC 792, RFC 4443 4.2).

use super::Context;
use super::bucket::{Budgets, Matter};
use super::datagram::Datagram;
use super::emit::End;
use super::icmp_reply::{self, Marks, pseudo_header};
use crate::packet::{chunk_at, icmp, ipv4};
use crate::tables::Family;
use crate::{PacketBuffer, Reason};

/// Turns an echo request into its reply, in its own buffer.
///
/// In: a whole ICMP message to a DVIPA whose type is echo request. Out: the reply for the port that it came from, or
/// why it is dropped: more come than are answered. Options and extension headers of the request are not sent back. Touches the
/// whole message, to verify its checksum.
pub(super) fn answer<B: PacketBuffer>(
    packet: &mut B,
    datagram: &Datagram,
    cx: &Context<'_>,
    budgets: &mut Budgets,
) -> End {
    if !budgets.take(Matter::Echo, datagram.source, cx.now) {
        return End::dropped(Reason::EchoLimited);
    }
    let message = datagram.payload(packet.bytes());
    let sum = u16::try_from(message.len()).map(|len| pseudo_header(datagram, len).bytes(message).finish());
    if sum != Ok(0) {
        return End::dropped(Reason::BadChecksum);
    }
    match reply(packet, datagram, cx) {
        Some(()) => End::sent(cx.from, Reason::AnsweredEcho),
        None => End::dropped(Reason::NoHeadroom),
    }
}

fn reply<B: PacketBuffer>(packet: &mut B, d: &Datagram, cx: &Context<'_>) -> Option<()> {
    let way_back = icmp_reply::way_back(packet.bytes(), d, cx.tables);
    // Identification and "don't fragment" are the request's: the reply may be fragmented if the request might have been.
    let [i0, i1, f0, f1] = *chunk_at(packet.bytes(), d.ethernet.header_bytes.saturating_add(4))?;
    let (identification, flags) =
        (u16::from_be_bytes([i0, i1]), u16::from_be_bytes([f0, f1]) & ipv4::DONT_FRAGMENT);
    packet.truncate(d.ethernet.header_bytes.saturating_add(usize::from(d.len)));
    if !packet.trim_front(d.ethernet.header_bytes.saturating_add(d.header_bytes)) {
        return None;
    }
    *packet.bytes_mut().first_mut()? = match d.family {
        Family::V4 => icmp::v4::ECHO_REPLY,
        Family::V6 => icmp::v6::ECHO_REPLY,
    };
    let marks = Marks { traffic_class: d.traffic_class, identification, flags };
    icmp_reply::wrap(packet, &way_back, d, marks)
}
