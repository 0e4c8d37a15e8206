//! An IPv4 packet cut in two, where its sender allows it and the encapsulated one would not fit (RFC 791 3.2).

use super::datagram::Datagram;
use crate::PacketBuffer;
use crate::packet::{Sum, chunk_at, chunk_at_mut, copy, ipv4};

/// The flag "more fragments" in the word of flags and offset.
const MORE: u16 = 0x2000;

/// Where a packet is to be cut.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cut {
    first_len: u16,
    second_len: u16,
    /// Where the second part's payload begins in the packet's, in units of 8 bytes.
    units: u16,
}

/// Where to cut a packet of more than `max` bytes so that the first part has at most as many, and as many as possible. `None` if it
/// may not be cut, if no payload fits, or if it has options: some of them belong into both parts, some don't.
pub(super) fn plan(d: &Datagram, max: u16) -> Option<Cut> {
    let header = ipv4::HEADER_BYTES as u16;
    let units = max.saturating_sub(header) >> 3;
    let first_len = (units << 3).saturating_add(header);
    let second_len = d.len.checked_sub(first_len)?.saturating_add(header);
    let simple = d.may_split && d.header_bytes == ipv4::HEADER_BYTES;
    (simple && units > 0).then_some(Cut { first_len, second_len, units })
}

/// Cuts a packet in two.
///
/// In: an IPv4 packet and an empty one. Out: the first part in its own buffer, the second in the other, and what each
/// now is; `None` if the other buffer is too small. Padding is gone.
pub(super) fn split<B: PacketBuffer>(
    first: &mut B,
    second: &mut B,
    d: &Datagram,
    cut: Cut,
) -> Option<(Datagram, Datagram)> {
    let Cut { first_len, second_len, units } = cut;
    let l2 = d.ethernet.header_bytes;
    let heads = l2.saturating_add(ipv4::HEADER_BYTES);
    second.truncate(0);
    if !second.extend(l2.saturating_add(usize::from(second_len))) {
        return None;
    }
    fill(first.bytes(), second.bytes_mut(), l2, first_len, d.len)?;
    first.truncate(l2.saturating_add(usize::from(first_len)));
    let flags = u16::from_be_bytes(*chunk_at::<2>(first.bytes(), l2.saturating_add(6))?);
    rewrite(first.bytes_mut().get_mut(l2..heads)?, first_len, flags | MORE);
    rewrite(second.bytes_mut().get_mut(l2..heads)?, second_len, flags.wrapping_add(units));
    Some((Datagram { len: first_len, ..*d }, Datagram { len: second_len, ..*d }))
}

/// Both headers, and what is behind the first part.
fn fill(from: &[u8], to: &mut [u8], l2: usize, first_len: u16, len: u16) -> Option<()> {
    let heads = l2.saturating_add(ipv4::HEADER_BYTES);
    let behind = l2.saturating_add(usize::from(first_len))..l2.saturating_add(usize::from(len));
    let (head, rest) = to.split_at_mut_checked(heads)?;
    copy(head, from.get(..heads)?)?;
    let behind = from.get(behind)?;
    copy(rest.get_mut(..behind.len())?, behind)
}

/// Gives a header another length and flags, and its checksum.
fn rewrite(header: &mut [u8], len: u16, flags: u16) {
    let put = |bytes: &mut [u8], at, word: u16| {
        if let Some(place) = chunk_at_mut(bytes, at) {
            *place = word.to_be_bytes();
        }
    };
    put(header, 2, len);
    put(header, 6, flags);
    put(header, 10, 0);
    let checksum = Sum::ZERO.bytes(header).finish();
    put(header, 10, checksum);
}
