//! Floods: packets as fast as one thread can send them, each of a source that nobody else uses.

use std::io::{self, IoSlice};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

use nix::ifaddrs::getifaddrs;
use nix::sys::socket::sockopt::SndBufForce;
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, MultiHeaders, SockFlag, SockProtocol, SockType, bind, sendmmsg,
    setsockopt, socket,
};

use crate::error::{Result, WithPath};
use crate::namespace::Namespace;

/// Where spoofed sources are: in RFC 2544's network, and in RFC 3849's. No host of a lab has such an address.
pub const SOURCES: (&str, &str) = ("198.19.0.0/16", "2001:db8:ffff::/48");
/// Frames that are made before the flood begins, and sent again and again: more than a lab's tables hold.
const FRAMES: u32 = 1 << 18;
/// Frames that are handed to the kernel at once.
const AT_ONCE: usize = 64;
/// What may wait in the socket, bytes.
const SOCKET_BYTES: usize = 4 << 20;

/// What a flood is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// First packets of TCP connections.
    Syn,
    /// Acknowledgments of TCP connections that never were.
    Ack,
    /// Two datagrams of a flow each, one after the other.
    Udp,
    /// First fragments of datagrams whose others never come, and other fragments whose first never comes, in turns.
    Fragments,
    /// ICMP echo requests.
    Echo,
    /// ARP requests for the IPv4 address, from 256 stations.
    Arp,
}

/// A flood while it lasts; dropping it ends it.
#[derive(Debug)]
pub struct Flood {
    sent: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Flood {
    /// Begins to send from a host's interface, to the station `mac` and the service `to`.
    ///
    /// # Errors
    /// [`crate::LabError::File`] if a packet socket can't be had.
    pub fn start(ns: &Namespace, interface: &str, mac: [u8; 6], kind: Kind, to: SocketAddr) -> Result<Self> {
        let open = || -> io::Result<_> {
            let mut all = getifaddrs()?.filter(|a| a.interface_name == interface);
            let address: LinkAddr = all
                .find_map(|a| a.address.as_ref().and_then(|address| address.as_link_addr().copied()))
                .ok_or(io::ErrorKind::NotFound)?;
            let fd =
                socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::EthAll)?;
            setsockopt(&fd, SndBufForce, &SOCKET_BYTES)?;
            bind(fd.as_raw_fd(), &address)?;
            Ok((fd, address.addr().unwrap_or_default()))
        };
        let (fd, own) = ns.enter(open).with_path("open a packet socket on", interface)?;
        let (sent, stop) = (Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
        let (count, stopped) = (Arc::clone(&sent), Arc::clone(&stop));
        let frames: Vec<_> = (0..FRAMES).map(|number| frame(mac, own, kind, to, number)).collect();
        let work = move || {
            let mut headers = MultiHeaders::<()>::preallocate(AT_ONCE, None);
            for some in frames.chunks(AT_ONCE).cycle().take_while(|_| !stopped.load(Ordering::Relaxed)) {
                let slices: Vec<_> = some.iter().map(|frame| [IoSlice::new(frame)]).collect();
                let none = vec![None; slices.len()];
                let sent = sendmmsg(fd.as_raw_fd(), &mut headers, &slices, none, [], MsgFlags::empty());
                // What finds no room is lost, as on a link.
                let _ = count.fetch_add(sent.map_or(0, Iterator::count) as u64, Ordering::Relaxed);
            }
        };
        Ok(Self { sent, stop, thread: Some(thread::spawn(work)) })
    }

    /// Frames sent so far.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Ends it; returns how many frames were sent.
    pub fn end(mut self) -> u64 {
        self.join();
        self.sent()
    }

    fn join(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.join();
    }
}

const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;
const FRAGMENT: u8 = 44;

/// The frame of this number. Two sources are the same for one number in 2^31 at most.
fn frame(to_mac: [u8; 6], from_mac: [u8; 6], kind: Kind, to: SocketAddr, number: u32) -> Vec<u8> {
    if let (Kind::Arp, IpAddr::V4(target)) = (kind, to.ip()) {
        return arp(to_mac, number, target);
    }
    let flow = if kind == Kind::Udp { number / 2 } else { number };
    // Neighbouring numbers differ in address and port.
    let mixed = flow.wrapping_mul(0x9e37_79b1);
    let (host, port) = (mixed as u16, (mixed >> 16) as u16 | 1024);
    let source: IpAddr = match to.ip() {
        IpAddr::V4(_) => [198, 19, (host >> 8) as u8, host as u8].into(),
        IpAddr::V6(_) => [0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, host].into(),
    };
    let from = SocketAddr::new(source, port);
    let (protocol, l4) = match kind {
        Kind::Syn => (TCP, tcp(from, to, 0x02, number)),
        Kind::Ack => (TCP, tcp(from, to, 0x10, number)),
        Kind::Udp | Kind::Fragments => (UDP, udp(from, to)),
        Kind::Echo | Kind::Arp => echo(from, to),
    };
    let later = kind == Kind::Fragments && number % 2 == 1;
    let fragment = (kind == Kind::Fragments).then_some(later);
    let ip = match (from.ip(), to.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            ipv4(from.octets(), to.octets(), protocol, &l4, fragment, number as u16)
        }
        (from, to) => ipv6(octets(from), octets(to), protocol, &l4, fragment, number),
    };
    let ethertype: [u8; 2] = if to.is_ipv4() { [0x08, 0x00] } else { [0x86, 0xdd] };
    [&to_mac[..], &from_mac, &ethertype, &ip].concat()
}

/// A request of another station for each of 256 numbers, from an address of [`SOURCES`]. Not broadcast: every host of the lab
/// would do the flood's work, in the same kernel.
fn arp(to_mac: [u8; 6], number: u32, target: Ipv4Addr) -> Vec<u8> {
    let station = [2, 0xff, 0, 0, 0, number as u8];
    let sender = [198, 19, 0, number as u8];
    let request = [&[0, 1, 8, 0, 6, 4, 0, 1][..], &station, &sender, &[0; 6], &target.octets()];
    [&to_mac[..], &station, &[8, 6], &request.concat(), &[0; 18]].concat()
}

fn octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

fn tcp(from: SocketAddr, to: SocketAddr, flags: u8, number: u32) -> Vec<u8> {
    let mut header = [from.port().to_be_bytes(), to.port().to_be_bytes()].concat();
    header.extend(number.to_be_bytes());
    header.extend((!number).to_be_bytes());
    header.extend([0x50, flags, 0x04, 0x00, 0, 0, 0, 0]);
    with_checksum(from, to, TCP, header, 16)
}

fn udp(from: SocketAddr, to: SocketAddr) -> Vec<u8> {
    let mut datagram = [from.port().to_be_bytes(), to.port().to_be_bytes()].concat();
    datagram.extend([0, 16, 0, 0]);
    datagram.extend(b"flooding");
    with_checksum(from, to, UDP, datagram, 6)
}

fn echo(from: SocketAddr, to: SocketAddr) -> (u8, Vec<u8>) {
    let message = |kind| vec![kind, 0, 0, 0, (from.port() >> 8) as u8, from.port() as u8, 0, 1];
    if from.is_ipv4() {
        let mut message = message(8);
        let sum = checksum(&message);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        (ICMP, message)
    } else {
        (ICMPV6, with_checksum(from, to, ICMPV6, message(128), 2))
    }
}

/// Writes the checksum over pseudo header and segment.
fn with_checksum(from: SocketAddr, to: SocketAddr, protocol: u8, mut l4: Vec<u8>, at: usize) -> Vec<u8> {
    let length = (l4.len() as u16).to_be_bytes();
    let sum = match (from.ip(), to.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            checksum(&[&from.octets()[..], &to.octets(), &[0, protocol], &length, &l4].concat())
        }
        (from, to) => checksum(&[&octets(from)[..], &octets(to), &[0, protocol], &length, &l4].concat()),
    };
    l4[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    l4
}

/// `fragment`: whether it is a later one.
fn ipv4(from: [u8; 4], to: [u8; 4], protocol: u8, l4: &[u8], fragment: Option<bool>, id: u16) -> Vec<u8> {
    let offset: u16 = match fragment {
        None => 0,
        // More fragments follow.
        Some(false) => 0x2000,
        Some(true) => 0x2000 | 185,
    };
    let mut header = vec![0x45, 0];
    header.extend((20 + l4.len() as u16).to_be_bytes());
    header.extend(id.to_be_bytes());
    header.extend(offset.to_be_bytes());
    header.extend([64, protocol, 0, 0]);
    header.extend(from);
    header.extend(to);
    let sum = checksum(&header);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    header.extend(l4);
    header
}

/// As [`ipv4`], with a fragment header.
fn ipv6(from: [u8; 16], to: [u8; 16], protocol: u8, l4: &[u8], fragment: Option<bool>, id: u32) -> Vec<u8> {
    let mut extension = Vec::new();
    if let Some(later) = fragment {
        let offset: u16 = if later { 1480 | 1 } else { 1 };
        extension.extend([protocol, 0]);
        extension.extend(offset.to_be_bytes());
        extension.extend(id.to_be_bytes());
    }
    let next = if fragment.is_some() { FRAGMENT } else { protocol };
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend(((extension.len() + l4.len()) as u16).to_be_bytes());
    packet.extend([next, 64]);
    packet.extend(from);
    packet.extend(to);
    packet.extend(extension);
    packet.extend(l4);
    packet
}

/// RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|w| u32::from(w[0]) << 8 | u32::from(w.get(1).copied().unwrap_or(0)));
    let sum: u32 = words.sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    !(((sum & 0xffff) + (sum >> 16)) as u16)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const KINDS: [Kind; 5] = [Kind::Syn, Kind::Ack, Kind::Udp, Kind::Fragments, Kind::Echo];

    fn frames(kind: Kind, to: &str) -> Vec<Vec<u8>> {
        let to = to.parse().unwrap();
        (0..5000).map(|n| frame([2; 6], [4; 6], kind, to, n)).collect()
    }

    #[test]
    fn every_source_is_new_but_that_of_a_second_datagram() {
        for kind in KINDS {
            for to in ["198.18.9.1:80", "[2001:db8:9::1]:80"] {
                // The addresses and the ports behind them.
                let (ip, l4) = if to.starts_with('[') { (22..38, 54..56) } else { (26..30, 34..36) };
                let sources =
                    frames(kind, to).into_iter().map(|f| (f[ip.clone()].to_vec(), f[l4.clone()].to_vec()));
                let all: BTreeSet<_> = sources.collect();
                let wanted = if kind == Kind::Udp { 2500 } else { 5000 };
                assert!(
                    kind == Kind::Fragments || kind == Kind::Echo || all.len() > wanted * 99 / 100,
                    "{kind:?} to {to}: {}",
                    all.len()
                );
                assert!(all.len() <= wanted);
            }
        }
    }

    #[test]
    fn checksums_are_right() {
        for frame in frames(Kind::Syn, "198.18.9.1:80") {
            assert_eq!(checksum(&frame[14..34]), 0);
            let pseudo = [&frame[26..34], &[0, TCP, 0, 20], &frame[34..]].concat();
            assert_eq!(checksum(&pseudo), 0);
        }
        for frame in frames(Kind::Echo, "[2001:db8:9::1]:80") {
            let pseudo = [&frame[22..54], &[0, ICMPV6, 0, 8], &frame[54..]].concat();
            assert_eq!(checksum(&pseudo), 0);
        }
    }
}
