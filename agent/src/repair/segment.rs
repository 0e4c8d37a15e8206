//! TCP segments that are written by hand (RFC 9293 3.1), through a raw socket.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, ipproto};

const TCP: u8 = 6;
const TCP_BYTES: usize = 20;
/// Two no-operations before the timestamps, as kernels write them (RFC 7323 appendix A).
const TIMESTAMP_BYTES: usize = 12;
const HOP_LIMIT: u8 = 64;

/// The flags of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Flags(u8);

impl Flags {
    pub(super) const ACK: Self = Self(0x10);
    pub(super) const FIN_ACK: Self = Self(0x11);
}

/// A segment's header.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segment {
    pub(super) from: SocketAddr,
    pub(super) to: SocketAddr,
    pub(super) sequence: u32,
    pub(super) acknowledgment: u32,
    pub(super) flags: Flags,
    /// Not scaled.
    pub(super) window: u16,
    /// TSval; TSecr is 0, which says nothing.
    pub(super) timestamps: Option<u32>,
}

impl Segment {
    /// How long its options are.
    pub(super) fn option_bytes(&self) -> usize {
        self.timestamps.map_or(0, |_| TIMESTAMP_BYTES)
    }

    /// Sends it from this process's network namespace, whatever `from` is.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn send(&self, payload: &[u8]) -> io::Result<()> {
        Wire::open(self.to.ip())?.send(self, payload)
    }

    fn packet(&self, payload: &[u8]) -> Vec<u8> {
        let mut tcp = self.tcp(payload);
        let length = tcp.len();
        let (from, to) = (octets(self.from.ip()), octets(self.to.ip()));
        let length_bytes = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
        let checksum = checksum(&[&from, &to, &[0, TCP], &length_bytes, &tcp]);
        if let Some(field) = tcp.get_mut(16..18) {
            field.copy_from_slice(&checksum.to_be_bytes());
        }
        let mut packet = self.ip(length);
        packet.extend(tcp);
        packet
    }

    fn tcp(&self, payload: &[u8]) -> Vec<u8> {
        let words = (TCP_BYTES + self.option_bytes()) / 4;
        let mut tcp = Vec::with_capacity(TCP_BYTES + TIMESTAMP_BYTES + payload.len());
        tcp.extend(self.from.port().to_be_bytes());
        tcp.extend(self.to.port().to_be_bytes());
        tcp.extend(self.sequence.to_be_bytes());
        tcp.extend(self.acknowledgment.to_be_bytes());
        tcp.extend([u8::try_from(words << 4).unwrap_or(0x50), self.flags.0]);
        tcp.extend(self.window.to_be_bytes());
        tcp.extend([0; 4]); // checksum and urgent pointer
        if let Some(now) = self.timestamps {
            tcp.extend([1, 1, 8, 10]);
            tcp.extend(now.to_be_bytes());
            tcp.extend([0; 4]);
        }
        tcp.extend(payload);
        tcp
    }

    /// The kernel fills in IPv4's checksum, length and identification.
    fn ip(&self, tcp_bytes: usize) -> Vec<u8> {
        let mut ip = if self.to.is_ipv4() {
            vec![0x45, 0, 0, 0, 0, 0, 0x40, 0, HOP_LIMIT, TCP, 0, 0]
        } else {
            let [high, low] = u16::try_from(tcp_bytes).unwrap_or(u16::MAX).to_be_bytes();
            vec![0x60, 0, 0, 0, high, low, TCP, HOP_LIMIT]
        };
        ip.extend(octets(self.from.ip()));
        ip.extend(octets(self.to.ip()));
        ip
    }
}

/// A way out for segments of one family.
#[derive(Debug)]
pub(super) struct Wire(OwnedFd);

impl Wire {
    /// For segments to addresses of this one's family.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn open(to: IpAddr) -> io::Result<Self> {
        let family = if to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        // IPPROTO_RAW: the IP header is ours, in both families (raw(7), RFC 3542 3).
        let socket =
            rustix::net::socket_with(family, SocketType::RAW, SocketFlags::CLOEXEC, Some(ipproto::RAW))?;
        Ok(Self(socket))
    }

    /// Sends a segment from this process's network namespace, whatever its source is.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn send(&self, segment: &Segment, payload: &[u8]) -> io::Result<()> {
        // A raw socket's port is its protocol, or nothing.
        let to = SocketAddr::new(segment.to.ip(), 0);
        rustix::net::sendto(&self.0, &segment.packet(payload), SendFlags::empty(), &to)?;
        Ok(())
    }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(a) => a.octets().to_vec(),
        IpAddr::V6(a) => a.octets().to_vec(),
    }
}

/// RFC 1071, over parts of which only the last may have an odd length.
fn checksum(parts: &[&[u8]]) -> u16 {
    let words = parts.iter().flat_map(|part| part.chunks(2));
    let mut sum: u64 = words
        .map(|word| match *word {
            [high, low] => u64::from(u16::from_be_bytes([high, low])),
            [high] => u64::from(high) << 8,
            _ => 0,
        })
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(0)
}
