//! Fourth stage: the outer header.

use super::handoff::OPTION_BYTES;
use crate::packet::checksum::add;
use crate::packet::{chunk_at_mut, gue};
use crate::tables::Family;
use crate::tables::carrier::{Carrier, Form, UDP_GUE_BYTES};
use crate::{PacketBuffer, Reason};

/// The packet that is to be carried.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Inner {
    /// IPv4 or IPv6.
    pub(crate) family: Family,
    /// Bytes of the Ethernet header before it.
    pub(crate) l2_bytes: usize,
    /// Bytes from its IP header on, padding left out.
    pub(crate) len: u16,
    /// DSCP and ECN, copied to the outer header: RFC 2983 uniform, RFC 6040 normal mode.
    pub(crate) traffic_class: u8,
    /// The flow's hash.
    pub(crate) hash: u16,
}

/// Puts a stack's header before a packet and counts the inner TTL or hop limit down (RFC 2003 3.1).
///
/// In: a packet that fits ([`Carrier::max_inner`]), with more than one hop left. Out: the frame for the NIC. Touches
/// the packet's first line, the line before it and the stack's template. Costs the copying of the template and, with
/// an outer IPv4 header, the adding of two words to a sum made beforehand.
#[inline(always)]
pub(crate) fn encapsulate<B: PacketBuffer>(
    packet: &mut B,
    carrier: &Carrier,
    inner: Inner,
) -> Result<(), Reason> {
    let done = match carrier.form {
        Form::Gue4 => put::<46, 58, 14, { V4 | GUE }, B>(packet, carrier, inner),
        Form::Ipip4 => put::<34, 46, 14, V4, B>(packet, carrier, inner),
        Form::Gue6 => put::<66, 78, 14, GUE, B>(packet, carrier, inner),
        Form::Ipip6 => put::<54, 66, 14, 0, B>(packet, carrier, inner),
        Form::L2 => put::<14, 26, 14, L2, B>(packet, carrier, inner),
        Form::Gue4Tagged => put::<50, 62, 18, { V4 | GUE }, B>(packet, carrier, inner),
        Form::Ipip4Tagged => put::<38, 50, 18, V4, B>(packet, carrier, inner),
        Form::Gue6Tagged => put::<70, 82, 18, GUE, B>(packet, carrier, inner),
        Form::Ipip6Tagged => put::<58, 70, 18, 0, B>(packet, carrier, inner),
        Form::L2Tagged => put::<18, 30, 18, L2, B>(packet, carrier, inner),
        Form::Local | Form::Missing => return Err(carrier.missing),
    };
    done.ok_or(Reason::NoHeadroom)
}

/// As [`encapsulate`], with the handoff option, by a carrier that is made for it.
pub(crate) fn hand_over<B: PacketBuffer>(
    packet: &mut B,
    carrier: &Carrier,
    inner: Inner,
    option: &[u8; OPTION_BYTES],
) -> Result<(), Reason> {
    let (done, at) = match carrier.form {
        Form::Gue4 => (put::<70, 82, 14, { V4 | GUE | OPTION }, B>(packet, carrier, inner), 46),
        Form::Gue6 => (put::<90, 102, 14, { GUE | OPTION }, B>(packet, carrier, inner), 66),
        Form::Gue4Tagged => (put::<74, 86, 18, { V4 | GUE | OPTION }, B>(packet, carrier, inner), 50),
        Form::Gue6Tagged => (put::<94, 106, 18, { GUE | OPTION }, B>(packet, carrier, inner), 70),
        _ => return Err(carrier.missing),
    };
    done.ok_or(Reason::NoHeadroom)?;
    *chunk_at_mut(packet.bytes_mut(), at).ok_or(Reason::NoHeadroom)? = *option;
    Ok(())
}

/// As [`encapsulate`], with the ask option, by a carrier that is made for it and has the option in its template.
pub(crate) fn ask<B: PacketBuffer>(packet: &mut B, carrier: &Carrier, inner: Inner) -> Result<(), Reason> {
    let done = match carrier.form {
        Form::Gue4 => put::<50, 62, 14, { V4 | GUE | ASK }, B>(packet, carrier, inner),
        Form::Gue6 => put::<70, 82, 14, { GUE | ASK }, B>(packet, carrier, inner),
        Form::Gue4Tagged => put::<54, 66, 18, { V4 | GUE | ASK }, B>(packet, carrier, inner),
        Form::Gue6Tagged => put::<74, 86, 18, { GUE | ASK }, B>(packet, carrier, inner),
        _ => return Err(carrier.missing),
    };
    done.ok_or(Reason::NoHeadroom)
}

/// The outer header is IPv4, not IPv6.
const V4: u8 = 1;
/// UDP and GUE follow the outer IP header.
const GUE: u8 = 2;
/// There is no outer IP header.
const L2: u8 = 4;
/// The handoff option follows the GUE header.
const OPTION: u8 = 8;
/// The ask option does.
const ASK: u8 = 16;

/// Replaces the Ethernet header by `N` bytes of the template, in which the outer IP header begins at `AT`, and counts a
/// hop. `REACH` is where the inner hop field ends, so that one check of the length does for all that is written.
#[inline(always)]
fn put<const N: usize, const REACH: usize, const AT: usize, const FORM: u8, B: PacketBuffer>(
    packet: &mut B,
    carrier: &Carrier,
    inner: Inner,
) -> Option<()> {
    // An L2 rewrite leaves all but addresses and hops alone, padding included.
    let rest = if FORM & L2 == 0 { inner.len.into() } else { usize::MAX };
    if !packet.reframe(inner.l2_bytes, N, rest) {
        return None;
    }
    let (head, payload) = packet.bytes_mut().first_chunk_mut::<REACH>()?.split_first_chunk_mut::<N>()?;
    *head = *carrier.header.first_chunk()?;
    count_hop(payload, inner.family);
    if FORM & L2 != 0 {
        return Some(());
    }
    let ip = head.get_mut(AT..)?;
    let handoff_bytes = if FORM & OPTION != 0 { OPTION_BYTES as u16 } else { 0 };
    let option_bytes = if FORM & ASK != 0 { model::ask::BYTES as u16 } else { handoff_bytes };
    let gue_bytes = if FORM & GUE != 0 { (UDP_GUE_BYTES as u16).wrapping_add(option_bytes) } else { 0 };
    let udp_bytes = inner.len.wrapping_add(gue_bytes);
    if FORM & V4 != 0 {
        let total = udp_bytes.wrapping_add(20);
        let [l0, l1] = total.to_be_bytes();
        let sum = add(add(carrier.sum, total), inner.traffic_class.into());
        let [c0, c1] = (!sum).to_be_bytes();
        let ip = ip.first_chunk_mut::<20>()?;
        (ip[1], ip[2], ip[3], ip[10], ip[11]) = (inner.traffic_class, l0, l1, c0, c1);
    } else {
        let [l0, l1] = udp_bytes.to_be_bytes();
        let ip = ip.first_chunk_mut::<6>()?;
        (ip[0], ip[1]) = (0x60 | inner.traffic_class >> 4, inner.traffic_class << 4);
        (ip[4], ip[5]) = (l0, l1);
    }
    if FORM & GUE != 0 {
        let [p0, p1] = (gue::SOURCE_PORTS | inner.hash & 0x3fff).to_be_bytes();
        let [l0, l1] = udp_bytes.to_be_bytes();
        let udp = ip.get_mut(if FORM & V4 != 0 { 20 } else { 40 }..)?.first_chunk_mut::<6>()?;
        (udp[0], udp[1], udp[4], udp[5]) = (p0, p1, l0, l1);
    }
    Some(())
}

/// Counts TTL or hop limit down; an IPv4 checksum follows (RFC 1624).
#[inline(always)]
pub(crate) fn count_hop(ip: &mut [u8], family: Family) {
    match family {
        Family::V4 => {
            if let Some([ttl, _, c0, c1]) = chunk_at_mut::<4>(ip, 8) {
                *ttl = ttl.wrapping_sub(1);
                // With its bytes exchanged, which sums are indifferent to (RFC 1071 2 B), it grows by 1. 0xffff is the same sum as
                // 0, and 0 is what a sender would have written: it is left out.
                let sum = u16::from_le_bytes([*c0, *c1]);
                let sum = sum.wrapping_add(1).wrapping_add(u16::from(sum >= 0xfffe));
                [*c0, *c1] = sum.to_le_bytes();
            }
        }
        Family::V6 => {
            if let Some([hops]) = chunk_at_mut::<1>(ip, 7) {
                *hops = hops.wrapping_sub(1);
            }
        }
    }
}
