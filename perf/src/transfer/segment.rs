//! TCP segments over IPv4, written and read by hand.

use std::net::SocketAddrV4;

pub(super) const SYN: u8 = 2;
pub(super) const RST: u8 = 4;
pub(super) const PSH: u8 = 8;
pub(super) const ACK: u8 = 16;

const IP_BYTES: usize = 20;
/// The largest segment that the client says it takes (RFC 9293 3.7.1).
pub(super) const MSS: u16 = 1460;

/// A segment without what does not matter here.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segment<'a> {
    pub(super) from: SocketAddrV4,
    pub(super) to: SocketAddrV4,
    pub(super) sequence: u32,
    pub(super) acknowledgment: u32,
    pub(super) flags: u8,
    pub(super) payload: &'a [u8],
}

impl<'a> Segment<'a> {
    /// The packet, from the IPv4 header on.
    pub(super) fn packet(&self) -> Vec<u8> {
        let options: &[u8] =
            if self.flags & SYN == 0 { &[] } else { &[2, 4, MSS.to_be_bytes()[0], MSS.to_be_bytes()[1]] };
        let header = 20 + options.len();
        let mut tcp = Vec::with_capacity(header + self.payload.len());
        tcp.extend(self.from.port().to_be_bytes());
        tcp.extend(self.to.port().to_be_bytes());
        tcp.extend(self.sequence.to_be_bytes());
        tcp.extend(self.acknowledgment.to_be_bytes());
        // The header's length in words, flags, the window, checksum, urgent pointer.
        tcp.extend([(header as u8 / 4) << 4, self.flags, 0xff, 0xff, 0, 0, 0, 0]);
        tcp.extend(options);
        tcp.extend(self.payload);
        let length = tcp.len() as u16;
        let [a, b] = length.to_be_bytes();
        let (from, to) = (self.from.ip().octets(), self.to.ip().octets());
        let sum = checksum(&[&from, &to, &[0, 6, a, b], &tcp]);
        tcp[16..18].copy_from_slice(&sum.to_be_bytes());

        let [a, b] = (length + IP_BYTES as u16).to_be_bytes();
        // Version and length, TOS, total length; no identification, DF; TTL, TCP, checksum.
        let mut packet = vec![0x45, 0, a, b, 0, 0, 0x40, 0, 64, 6, 0, 0];
        packet.extend(from);
        packet.extend(to);
        let sum = checksum(&[&packet]);
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
        packet.extend(tcp);
        packet
    }

    /// Reads a packet; `None` if it is anything else.
    pub(super) fn read(packet: &'a [u8]) -> Option<Self> {
        let length = usize::from(u16::from_be_bytes([*packet.get(2)?, *packet.get(3)?]));
        let packet = packet.get(..length)?;
        if packet.first() != Some(&0x45) || packet.get(9) != Some(&6) {
            return None;
        }
        let (ip, tcp) = packet.split_at_checked(IP_BYTES)?;
        let address = |at: usize| -> Option<[u8; 4]> { ip.get(at..at + 4)?.try_into().ok() };
        let two = |at: usize| Some(u16::from_be_bytes(tcp.get(at..at + 2)?.try_into().ok()?));
        let four = |at: usize| Some(u32::from_be_bytes(tcp.get(at..at + 4)?.try_into().ok()?));
        Some(Self {
            from: SocketAddrV4::new(address(12)?.into(), two(0)?),
            to: SocketAddrV4::new(address(16)?.into(), two(2)?),
            sequence: four(4)?,
            acknowledgment: four(8)?,
            flags: *tcp.get(13)?,
            payload: tcp.get(usize::from(tcp.get(12)? >> 4) * 4..)?,
        })
    }
}

/// The Internet checksum (RFC 1071) of parts of an even length each, but for the last.
fn checksum(parts: &[&[u8]]) -> u16 {
    let words = parts.iter().flat_map(|part| part.chunks(2));
    let sum: u32 = words.map(|w| u32::from(u16::from_be_bytes([w[0], w.get(1).copied().unwrap_or(0)]))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !((folded & 0xffff) + (folded >> 16)) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let segment = Segment {
            from: "198.18.64.1:1024".parse().unwrap(),
            to: "198.18.9.1:80".parse().unwrap(),
            sequence: 7,
            acknowledgment: 9,
            flags: PSH | ACK,
            payload: b"odd",
        };
        let packet = segment.packet();
        let read = Segment::read(&packet).unwrap();
        assert_eq!(format!("{read:?}"), format!("{segment:?}"));
        assert_eq!(checksum(&[&packet[..20]]), 0, "the header's checksum is right");
        let [a, b] = (packet.len() as u16 - 20).to_be_bytes();
        assert_eq!(checksum(&[&packet[12..20], &[0, 6, a, b], &packet[20..]]), 0, "and the segment's");
        assert!(Segment::read(&packet[..30]).is_none());
    }
}
