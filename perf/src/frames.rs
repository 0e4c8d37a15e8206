//! The packets that go through the whole path: 60 bytes (IPv6: 74; a VLAN tag: 4 more) from a client to a DVIPA, made from a
//! flow's number.

use std::net::{Ipv4Addr, Ipv6Addr};

use forwarder::crt::{KeyV4, KeyV6};
use model::{DvipaIndex, Protocol};

/// The node's own link-layer address.
pub(crate) const NODE_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x10];
/// The VLAN of tagged packets.
pub(crate) const VLAN: u16 = 100;
/// The DVIPAs.
pub(crate) const DVIPA: Ipv4Addr = Ipv4Addr::new(198, 18, 9, 1);
pub(crate) const DVIPA6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 9, 0, 0, 0, 0, 1);
/// Their numbers.
pub(crate) const V4: DvipaIndex = DvipaIndex(0);
pub(crate) const V6: DvipaIndex = DvipaIndex(1);

/// Bytes of the longest packet.
pub(crate) const LONGEST: usize = 78;
const CLIENTS6: u128 = 0x2001_0db8_0001_0000_0000_0000_0000_0000;

/// Which packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// TCP over IPv4, an acknowledgement.
    Ack,
    /// TCP over IPv4, the first packet of a connection.
    Syn,
    /// UDP over IPv4.
    Udp,
    /// TCP over IPv6, an acknowledgement.
    Ack6,
}

impl Kind {
    /// Their protocol.
    pub(crate) fn protocol(self) -> Protocol {
        if self == Kind::Udp { Protocol::Udp } else { Protocol::Tcp }
    }

    /// Whether they are IPv6's.
    pub(crate) fn is_v6(self) -> bool {
        self == Kind::Ack6
    }
}

/// Writes the packets of one kind to one port of the DVIPA.
#[derive(Clone, Debug)]
pub(crate) struct Frames {
    kind: Kind,
    port: u16,
    tagged: bool,
    template: [u8; LONGEST],
    len: usize,
    /// The sum of the IPv4 header without the client's address.
    sum: u32,
}

/// The `n`th client's address, in 16.0.0.0/4, and port. Two are the same after 2²⁸.
pub(crate) fn client(n: u32) -> (u32, u16) {
    (0x1000_0000 | n.wrapping_mul(0x9e37_79b1) & 0x0fff_ffff, (n >> 7) as u16 | 1024)
}

impl Frames {
    /// To this port, with a VLAN tag or without.
    pub(crate) fn new(kind: Kind, port: u16, tagged: bool) -> Self {
        let ethertype = if kind.is_v6() { [0x86, 0xdd] } else { [0x08, 0x00] };
        let mut ethernet = [&NODE_MAC[..], &[2, 0, 0, 0, 0, 2]].concat();
        if tagged {
            ethernet.extend([0x81, 0x00, 0, VLAN as u8]);
        }
        ethernet.extend(ethertype);
        let protocol = if kind == Kind::Udp { 17 } else { 6 };
        let mut ip = if kind.is_v6() { vec![0; 60] } else { vec![0; 46] };
        let l4 = if kind.is_v6() {
            (ip[0], ip[5], ip[6], ip[7]) = (0x60, 20, protocol, 64);
            ip[24..40].copy_from_slice(&DVIPA6.octets());
            40
        } else {
            (ip[0], ip[3], ip[6], ip[8], ip[9]) = (0x45, 46, 0x40, 64, protocol);
            ip[16..20].copy_from_slice(&DVIPA.octets());
            20
        };
        ip[l4 + 2..l4 + 4].copy_from_slice(&port.to_be_bytes());
        if kind == Kind::Udp {
            ip[l4 + 5] = 26;
        } else {
            ip[l4 + 12] = 0x50;
            ip[l4 + 13] = if kind == Kind::Syn { 0x02 } else { 0x10 };
        }
        let words = ip[..20].chunks_exact(2);
        let sum = words.map(|word| u32::from(u16::from_be_bytes([word[0], word[1]]))).sum();
        let frame = [ethernet, ip].concat();
        let mut template = [0; LONGEST];
        template[..frame.len()].copy_from_slice(&frame);
        Self { kind, port, tagged, template, len: frame.len(), sum }
    }

    /// Bytes of a packet.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Writes the `n`th flow's packet over a buffer of at least [`Frames::len`] bytes.
    #[inline(always)]
    pub(crate) fn write(&self, n: u32, buffer: &mut [u8]) {
        match (self.kind.is_v6(), self.tagged) {
            (false, false) => self.put::<60, 14, 26>(n, buffer),
            (false, true) => self.put::<64, 18, 30>(n, buffer),
            (true, false) => self.put::<74, 14, 22>(n, buffer),
            (true, true) => self.put::<78, 18, 26>(n, buffer),
        }
    }

    /// A packet of `LEN` bytes, whose IP header begins at `IP` and has the client's address at `CLIENT`.
    #[inline(always)]
    fn put<const LEN: usize, const IP: usize, const CLIENT: usize>(&self, n: u32, buffer: &mut [u8]) {
        let (address, port) = client(n);
        let Some(frame) = buffer.first_chunk_mut::<LEN>() else { return };
        frame.copy_from_slice(&self.template[..LEN]);
        if self.kind.is_v6() {
            frame[CLIENT..CLIENT + 16].copy_from_slice(&(CLIENTS6 | u128::from(address)).to_be_bytes());
            frame[IP + 40..IP + 42].copy_from_slice(&port.to_be_bytes());
        } else {
            frame[CLIENT..CLIENT + 4].copy_from_slice(&address.to_be_bytes());
            frame[IP + 20..IP + 22].copy_from_slice(&port.to_be_bytes());
            let sum = self.sum + (address >> 16) + (address & 0xffff);
            let sum = (sum >> 16) + (sum & 0xffff);
            let sum = (sum >> 16) + (sum & 0xffff);
            frame[IP + 10..IP + 12].copy_from_slice(&(!(sum as u16)).to_be_bytes());
        }
    }

    /// The `n`th flow over IPv4.
    pub(crate) fn key_v4(&self, n: u32) -> KeyV4 {
        let (address, port) = client(n);
        KeyV4::new(Ipv4Addr::from_bits(address), port, V4, self.port, self.kind.protocol())
    }

    /// The `n`th flow over IPv6.
    pub(crate) fn key_v6(&self, n: u32) -> KeyV6 {
        let (address, port) = client(n);
        let client = Ipv6Addr::from_bits(CLIENTS6 | u128::from(address));
        KeyV6::new(client, port, V6, self.port, self.kind.protocol())
    }
}
