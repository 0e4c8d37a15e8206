//! The packets that go through the whole path: 60 bytes (IPv6: 74) from a client to a DVIPA, made from a flow's number.

use std::net::{Ipv4Addr, Ipv6Addr};

use forwarder::crt::{KeyV4, KeyV6};
use model::{DvipaIndex, Protocol};

/// The node's own link-layer address.
pub(crate) const NODE_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x10];
/// The DVIPAs.
pub(crate) const DVIPA: Ipv4Addr = Ipv4Addr::new(198, 18, 9, 1);
pub(crate) const DVIPA6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 9, 0, 0, 0, 0, 1);
/// Their numbers.
pub(crate) const V4: DvipaIndex = DvipaIndex(0);
pub(crate) const V6: DvipaIndex = DvipaIndex(1);

const ETHERNET: usize = 14;
const CLIENTS6: u128 = 0x2001_0db8_0001_0000_0000_0000_0000_0000;

/// Which packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// TCP over IPv4, an acknowledgement.
    Ack,
    /// TCP over IPv4, each packet the first one of a new connection.
    Syn,
    /// UDP over IPv4.
    Udp,
    /// TCP over IPv6, an acknowledgement.
    Ack6,
}

/// Writes the packets of one kind to one port of the DVIPA.
#[derive(Clone, Debug)]
pub(crate) struct Frames {
    kind: Kind,
    port: u16,
    template: [u8; 74],
    len: usize,
    /// The sum of the IPv4 header without the client's address.
    sum: u32,
}

/// The `n`th client's address, in 16.0.0.0/4, and port.
fn client(n: u32) -> (u32, u16) {
    (0x1000_0000 | n.wrapping_mul(0x9e37_79b1) & 0x0fff_ffff, (n >> 7) as u16 | 1024)
}

impl Frames {
    /// To this port.
    pub(crate) fn new(kind: Kind, port: u16) -> Self {
        let mut frame = [0; 74];
        frame[..6].copy_from_slice(&NODE_MAC);
        frame[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 2]);
        let protocol = if kind == Kind::Udp { 17 } else { 6 };
        let (l4, len) = if kind == Kind::Ack6 {
            frame[12..14].copy_from_slice(&[0x86, 0xdd]);
            frame[14] = 0x60;
            frame[19] = 20;
            frame[20] = protocol;
            frame[21] = 64;
            frame[38..54].copy_from_slice(&DVIPA6.octets());
            (54, 74)
        } else {
            frame[12..14].copy_from_slice(&[0x08, 0x00]);
            frame[14] = 0x45;
            frame[17] = 46;
            frame[20] = 0x40;
            frame[22] = 64;
            frame[23] = protocol;
            frame[30..34].copy_from_slice(&DVIPA.octets());
            (34, 60)
        };
        frame[l4 + 2..l4 + 4].copy_from_slice(&port.to_be_bytes());
        if kind == Kind::Udp {
            frame[l4 + 5] = 26;
        } else {
            frame[l4 + 12] = 0x50;
            frame[l4 + 13] = if kind == Kind::Syn { 0x02 } else { 0x10 };
        }
        let words = frame[ETHERNET..ETHERNET + 20].chunks_exact(2);
        let sum = words.map(|word| u32::from(u16::from_be_bytes([word[0], word[1]]))).sum();
        Self { kind, port, template: frame, len, sum }
    }

    /// Bytes of a packet.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Writes the `n`th flow's packet over a buffer of at least [`Frames::len`] bytes.
    #[inline(always)]
    pub(crate) fn write(&self, n: u32, buffer: &mut [u8]) {
        let (address, port) = client(n);
        if self.kind == Kind::Ack6 {
            let Some(frame) = buffer.first_chunk_mut::<74>() else { return };
            *frame = self.template;
            frame[22..38].copy_from_slice(&(CLIENTS6 | u128::from(address)).to_be_bytes());
            frame[54..56].copy_from_slice(&port.to_be_bytes());
        } else {
            let Some(frame) = buffer.first_chunk_mut::<60>() else { return };
            frame.copy_from_slice(&self.template[..60]);
            frame[26..30].copy_from_slice(&address.to_be_bytes());
            frame[34..36].copy_from_slice(&port.to_be_bytes());
            let sum = self.sum + (address >> 16) + (address & 0xffff);
            let sum = (sum >> 16) + (sum & 0xffff);
            let sum = (sum >> 16) + (sum & 0xffff);
            frame[24..26].copy_from_slice(&(!(sum as u16)).to_be_bytes());
        }
    }

    /// The `n`th flow over IPv4.
    pub(crate) fn key_v4(&self, n: u32) -> KeyV4 {
        let (address, port) = client(n);
        let protocol = if self.kind == Kind::Udp { Protocol::Udp } else { Protocol::Tcp };
        KeyV4::new(Ipv4Addr::from_bits(address), port, V4, self.port, protocol)
    }

    /// The `n`th flow over IPv6.
    pub(crate) fn key_v6(&self, n: u32) -> KeyV6 {
        let (address, port) = client(n);
        KeyV6::new(Ipv6Addr::from_bits(CLIENTS6 | u128::from(address)), port, V6, self.port, Protocol::Tcp)
    }

    /// Which of the two.
    pub(crate) fn is_v6(&self) -> bool {
        self.kind == Kind::Ack6
    }
}
