//! Two packet sockets, and the frames that are held back between them.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::ifaddrs::getifaddrs;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::sockopt::{RcvBufForce, SndBufForce};
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, bind, recvfrom, send, setsockopt,
    socket,
};

use super::chance::Chance;
use super::{Impairment, Tally};
use crate::error::{Result, WithPath};

/// The largest frame that a link of the lab carries, with room to spare.
const FRAME_BYTES: usize = 16 * 1024;
/// What may wait in a socket: a burst of full windows of many connections.
const SOCKET_BYTES: usize = 32 << 20;
/// Frames that are taken from one side in a row.
const BURST: usize = 64;
/// Frames that are held back at a time; beyond them all go on at once.
const HELD: usize = 4096;
/// How soon a new setting, or the end, is noticed.
const TURN: Duration = Duration::from_millis(20);
/// `PACKET_OUTGOING` of packet(7): what this host sends is no frame that came.
const OUTGOING: u8 = 4;

/// One end of the cut.
#[derive(Debug)]
pub(super) struct Port(OwnedFd);

impl Port {
    /// Opens a packet socket on an interface of the calling thread's namespace.
    pub(super) fn open(interface: &str) -> Result<Self> {
        Self::try_open(interface).with_path("open a packet socket on", interface)
    }

    fn try_open(interface: &str) -> io::Result<Self> {
        let mut all = getifaddrs()?.filter(|a| a.interface_name == interface);
        let address: LinkAddr = all
            .find_map(|a| a.address.as_ref().and_then(|address| address.as_link_addr().copied()))
            .ok_or(io::ErrorKind::NotFound)?;
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = socket(AddressFamily::Packet, SockType::Raw, flags, SockProtocol::EthAll)?;
        setsockopt(&fd, RcvBufForce, &SOCKET_BYTES)?;
        setsockopt(&fd, SndBufForce, &SOCKET_BYTES)?;
        bind(fd.as_raw_fd(), &address)?;
        let port = Self(fd);
        // Until it was bound it heard all interfaces.
        let mut frame = vec![0; FRAME_BYTES];
        while port.receive(&mut frame).is_some() {}
        Ok(port)
    }

    /// The next frame that has come.
    fn receive<'a>(&self, buffer: &'a mut [u8]) -> Option<&'a [u8]> {
        loop {
            match recvfrom::<LinkAddr>(self.0.as_raw_fd(), buffer) {
                Ok((_, Some(from))) if from.pkttype() == OUTGOING => {}
                Ok((bytes, _)) => return buffer.get(..bytes),
                Err(Errno::EINTR) => {}
                Err(_) => return None,
            }
        }
    }

    /// A frame that can't be sent is one that a link has lost.
    fn send(&self, frame: &[u8]) {
        let _ = send(self.0.as_raw_fd(), frame, MsgFlags::MSG_DONTWAIT);
    }
}

/// Ethernet and IPv6 headers.
const HEADS: usize = 14 + 40;

/// A plain IPv6 segment of TCP with a fragment header that says it is whole (RFC 6946).
fn atomic(frame: &[u8]) -> Option<Vec<u8>> {
    let (heads, segment) = frame.split_first_chunk::<HEADS>()?;
    let is_tcp = heads[12..14] == [0x86, 0xdd] && heads[20] == 6;
    let mut heads = *heads;
    let length = u16::from_be_bytes([heads[18], heads[19]]) + 8;
    heads[18..20].copy_from_slice(&length.to_be_bytes());
    heads[20] = 44;
    is_tcp.then(|| [&heads[..], &[6, 0, 0, 0, 0, 0, 0, 1], segment].concat())
}

/// A frame that later ones overtake: when it goes on, in which order of equals, to which side.
type Held = Reverse<(Instant, u64, usize, Vec<u8>)>;

/// Carries frames both ways. Belongs to one thread.
pub(super) struct Relay {
    ports: [Port; 2],
    /// One for each direction, so that the traffic of one does not change what becomes of the other's.
    chances: [Chance; 2],
    held: BinaryHeap<Held>,
    count: u64,
    /// The next segment becomes an atomic fragment, if any does.
    is_atomics_turn: bool,
    tally: Arc<Tally>,
    buffer: Vec<u8>,
}

impl Relay {
    pub(super) fn new((one, other): (Port, Port), seed: u64, tally: Arc<Tally>) -> Self {
        let chances = [Chance::new(seed), Chance::new(!seed)];
        let (held, buffer) = (BinaryHeap::new(), vec![0; FRAME_BYTES]);
        Self { ports: [one, other], chances, held, count: 0, is_atomics_turn: false, tally, buffer }
    }

    /// Waits for frames and carries them.
    pub(super) fn turn(&mut self, impairment: Impairment) {
        let now = Instant::now();
        let until_due = self.held.peek().map(|Reverse((due, ..))| due.saturating_duration_since(now));
        let wait = until_due.map_or(TURN, |until| until.min(TURN));
        // Rounded up: rounded down it would spin for the last part of a millisecond.
        let ms = u16::try_from(wait.as_micros().div_ceil(1000)).unwrap_or(u16::MAX);
        let mut ready = self.ports.each_ref().map(|port| PollFd::new(port.0.as_fd(), PollFlags::POLLIN));
        // If it fails nothing is ready.
        let _ = poll(&mut ready, PollTimeout::from(ms));
        let came = ready.map(|fd| fd.any().unwrap_or(false));
        for (side, _) in came.into_iter().enumerate().filter(|(_, came)| *came) {
            self.carry(side, impairment);
        }
        self.release(Instant::now());
    }

    fn carry(&mut self, side: usize, impairment: Impairment) {
        let Self { ports, chances, held, count, is_atomics_turn, tally, buffer } = self;
        let add = |counter: &AtomicU64| {
            let _ = counter.fetch_add(1, Ordering::Relaxed);
        };
        let (from, to, chance) = (&ports[side], &ports[1 - side], &mut chances[side]);
        for _ in 0..BURST {
            let Some(frame) = from.receive(buffer) else { break };
            add(&tally.came);
            let mut fragment = None;
            // Side 0 is the host's.
            if impairment.atomic && side == 0 {
                *is_atomics_turn = !*is_atomics_turn;
                fragment = is_atomics_turn.then(|| atomic(frame)).flatten();
            }
            let frame = fragment.as_deref().unwrap_or(frame);
            if chance.permille(impairment.loss_permille) {
                add(&tally.lost);
                continue;
            }
            let mut late_ms = u64::from(impairment.delay_ms);
            let twice = chance.permille(impairment.duplicate_permille);
            if twice {
                add(&tally.doubled);
            }
            let mut pass_on = |late_ms| {
                if late_ms == 0 || held.len() >= HELD {
                    return to.send(frame);
                }
                *count += 1;
                let due = Instant::now() + Duration::from_millis(late_ms);
                held.push(Reverse((due, *count, 1 - side, frame.to_vec())));
            };
            if twice {
                pass_on(late_ms);
            }
            if chance.permille(impairment.reorder_permille) {
                add(&tally.overtaken);
                late_ms += chance.up_to(impairment.reorder_ms);
            }
            pass_on(late_ms);
        }
    }

    fn release(&mut self, now: Instant) {
        while let Some(Reverse((due, ..))) = self.held.peek()
            && *due <= now
        {
            if let Some(Reverse((_, _, to, frame))) = self.held.pop() {
                self.ports[to].send(&frame);
            }
        }
    }
}
