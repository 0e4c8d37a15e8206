//! Asks a stack about a connection: a copy of one of its packets, which only a stack that has the connection takes in.

use model::StackIndex;

use super::Context;
use super::datagram::Datagram;
use super::emit::Out;
use super::encapsulate;
use crate::packet::transport::flags;
use crate::packet::{Sum, Tcp, chunk_at_mut, ipv6};
use crate::tables::Family;
use crate::tables::carrier::Form;
use crate::{PacketBuffer, Reason, Sink, Verdict};

/// Sends a copy of a packet to a stack, with the ask option. `false`: it can't be asked.
pub(super) fn send<B: PacketBuffer, S: Sink<B>>(
    packet: &B,
    d: &Datagram,
    hash: u16,
    to: StackIndex,
    cx: &Context<'_>,
    out: &mut Out<'_, S>,
) -> bool {
    let Some((carrier, port)) = cx.tables.ask_carrier(to, d.family) else { return false };
    if carrier.form == Form::Missing {
        return false;
    }
    let Some(mut copy) = out.spare() else { return false };
    let whole = d.len <= carrier.max_inner;
    let made = copied(packet, d, &mut copy)
        .and_then(|()| if whole { Some(*d) } else { bare(&mut copy, d) })
        .is_some_and(|d| encapsulate::ask(&mut copy, carrier, d.inner(hash)).is_ok());
    if made {
        out.note(Reason::Asked, 1);
    }
    out.made(copy, if made { Verdict::Send(port) } else { Verdict::Drop(Reason::NoBuffer) });
    made
}

/// Ethernet header and IP packet, without padding.
pub(super) fn copied<B: PacketBuffer>(packet: &B, d: &Datagram, copy: &mut B) -> Option<()> {
    let bytes = packet.bytes().get(..d.ethernet.header_bytes.saturating_add(usize::from(d.len)))?;
    crate::packet::frame::replace(copy, bytes)
}

/// Takes the data out of a TCP segment: what is left is an ACK that means the same to the stack that has the connection, and nothing to
/// others. The whole packet follows when it is known who gets it.
pub(super) fn bare<B: PacketBuffer>(packet: &mut B, d: &Datagram) -> Option<Datagram> {
    let tcp_bytes = Tcp::parse(d.payload(packet.bytes())).ok()?.header_bytes;
    let (l2, len) = (d.ethernet.header_bytes, d.header_bytes.checked_add(tcp_bytes)?);
    packet.truncate(l2.checked_add(len)?);
    let short = Datagram { len: u16::try_from(len).ok()?, ..*d };
    let (ip, tcp) = packet.bytes_mut().get_mut(l2..)?.split_at_mut_checked(d.header_bytes)?;
    match d.family {
        Family::V4 => {
            *chunk_at_mut(ip, 2)? = short.len.to_be_bytes();
            *chunk_at_mut(ip, 10)? = [0, 0];
            *chunk_at_mut(ip, 10)? = Sum::ZERO.bytes(ip).finish().to_be_bytes();
        }
        Family::V6 => *chunk_at_mut(ip, 4)? = short.len.checked_sub(ipv6::HEADER_BYTES as u16)?.to_be_bytes(),
    }
    let [flags] = chunk_at_mut(tcp, 13)?;
    *flags &= flags::ACK;
    *chunk_at_mut(tcp, 16)? = [0, 0];
    let pseudo = crate::packet::frame::Ip::new(d.source, d.address, d.protocol);
    let sum = pseudo.pseudo_header(u16::try_from(tcp_bytes).ok()?).bytes(tcp).finish();
    *chunk_at_mut(tcp, 16)? = sum.to_be_bytes();
    Some(short)
}
