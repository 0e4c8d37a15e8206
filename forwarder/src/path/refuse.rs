//! Refuse it: nothing serves the packet, and its sender is told, unless the service says otherwise.

use model::Protocol;
use model::dpt::Refuse;

use super::Context;
use super::datagram::Datagram;
use super::emit::{End, Out};
use super::icmp_error::{self, Notice};
use super::whose::Read;
use crate::crt::KeyParts;
use crate::packet::frame::{self, Ip, Link, Segment};
use crate::packet::transport::flags;
use crate::packet::{Ports, Tcp, protocol};
use crate::{PacketBuffer, Reason, Sink};

/// Tells the sender of a packet that nothing serves it.
///
/// In: a packet with ports. Out: a RST made from it or an ICMP error about it, for the port that it came from; or why
/// nobody is told: an RST is answered by nothing, and of a TCP segment in fragments the length is not known.
pub(super) fn answer<B: PacketBuffer, S: Sink<B>>(
    packet: &mut B,
    read: &Read,
    cx: &Context<'_>,
    out: &mut Out<'_, S>,
) -> End {
    let Some(parts) = read.key.map(KeyParts::from) else { return End::dropped(Reason::NoConnection) };
    if cx.tables.refuse(parts.dvipa, parts.dvipa_port, parts.protocol) == Refuse::Silent {
        return End::dropped(Reason::RefusedSilent);
    }
    let d = &read.datagram;
    if parts.protocol == Protocol::Udp {
        return icmp_error::answer(
            packet,
            d,
            Notice::PortUnreachable,
            Reason::NoConnection,
            cx,
            out.answers(),
        );
    }
    let tcp = Tcp::parse(d.payload(packet.bytes())).ok().filter(|tcp| tcp.flags & flags::RST == 0);
    let Some(tcp) = tcp.filter(|_| d.fragment.is_none()) else { return End::dropped(Reason::NoConnection) };
    if !out.answers().take(cx.now) {
        return End::dropped(Reason::AnswerLimited);
    }
    match reset(packet, d, tcp, cx) {
        Some(()) => End::sent(cx.from, Reason::RefusedReset),
        None => End::dropped(Reason::NoHeadroom),
    }
}

/// Makes a segment the reset that a closed port answers it with (RFC 9293 3.10.7.1).
fn reset<B: PacketBuffer>(packet: &mut B, d: &Datagram, tcp: Tcp, cx: &Context<'_>) -> Option<()> {
    let payload_bytes = d.payload(packet.bytes()).len().saturating_sub(tcp.header_bytes);
    let counted = |flag: u8| u32::from(tcp.flags & flag != 0);
    let segment_len =
        (payload_bytes as u32).wrapping_add(counted(flags::SYN)).wrapping_add(counted(flags::FIN));
    let (sequence, acknowledgment, flags) = if tcp.flags & flags::ACK != 0 {
        (tcp.acknowledgment, 0, flags::RST)
    } else {
        (0, tcp.sequence.wrapping_add(segment_len), flags::RST | flags::ACK)
    };
    let ports = Ports { source: tcp.ports.destination, destination: tcp.ports.source };
    let segment = Segment { ports, sequence, acknowledgment, flags, window: 0, timestamps: None };
    let link = Link::back(packet.bytes(), d.ethernet, cx.tables.node().mac);
    let ip = Ip::new(d.address, d.source, protocol::TCP);
    frame::replace(packet, &frame::segment(&link, ip, segment))
}
