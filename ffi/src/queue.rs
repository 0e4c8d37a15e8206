//! A port's queues: each has one owner at a time, because DPDK's are not made for two.

use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::Arc;

use crate::mbuf::{BURST, Burst, Mbuf};
use crate::port::Opened;
use crate::raw;

const BURST_U16: u16 = BURST as u16;

/// Where a worker gets packets. It can move to another thread and be used by one at a time: `Send`, not `Sync`.
#[derive(Debug)]
pub struct RxQueue {
    port: Arc<Opened>,
    queue: u16,
    one_thread: PhantomData<Cell<()>>,
}

/// Where a worker puts packets: `Send`, not `Sync`.
#[derive(Debug)]
pub struct TxQueue {
    port: Arc<Opened>,
    queue: u16,
    one_thread: PhantomData<Cell<()>>,
}

impl RxQueue {
    /// # Safety
    /// The port is started, has this receive queue, and no other object stands for it (fact 4).
    pub(crate) unsafe fn new(port: Arc<Opened>, queue: u16) -> Self {
        Self { port, queue, one_thread: PhantomData }
    }

    /// Receives what is there, up to the free places of `burst`, and returns how many packets had to be dropped
    /// because they came in more than one segment: longer than the buffers of the pool. A VLAN tag that the device took
    /// off (the kernel does so for a packet socket) is put back.
    #[inline]
    pub fn receive(&mut self, burst: &mut Burst) -> usize {
        let before = burst.len();
        let room = BURST_U16.saturating_sub(u16::try_from(before).unwrap_or(BURST_U16));
        // SAFETY: an `Mbuf` is a non-null pointer to an mbuf; DPDK writes at most `room` of them, from the first free
        // place on, all live, ours alone, and then they are counted as elements. The port is started, and `&mut self`
        // makes this thread the only one on the queue (fact 4).
        unsafe {
            let free = burst.as_mut_ptr().add(before).cast::<*mut raw::rte_mbuf>();
            let received = raw::shim_rx_burst(self.port.id(), self.queue, free, room);
            burst.set_len(before + usize::from(received));
        }
        let as_sent = |packet: &Mbuf| packet.segments() == 1 && packet.stripped_tag().is_none();
        if burst.iter().skip(before).all(as_sent) { 0 } else { restore(burst, before) }
    }
}

/// Puts tags back into the packets from `first` on, and drops those in more than one segment.
#[cold]
fn restore(burst: &mut Burst, first: usize) -> usize {
    let received = burst.len();
    for packet in burst.iter_mut().skip(first) {
        if let Some(tag) = packet.stripped_tag() {
            // There is headroom: the packet was just received.
            packet.insert_tag(tag);
        }
    }
    burst.retain(|packet| packet.segments() == 1);
    received - burst.len()
}

impl TxQueue {
    /// # Safety
    /// The port is started, has this send queue, and no other object stands for it (fact 4).
    pub(crate) unsafe fn new(port: Arc<Opened>, queue: u16) -> Self {
        Self { port, queue, one_thread: PhantomData }
    }

    /// Sends the burst and leaves it empty. Returns how many packets the device did not take: those are freed.
    #[inline]
    pub fn send(&mut self, burst: &mut Burst) -> usize {
        self.offer(burst);
        let unsent = burst.len();
        burst.clear();
        unsent
    }

    /// Sends as much of the burst as the device takes; what it does not take stays in the burst, in order. Returns how many
    /// packets it took.
    #[inline]
    pub fn offer(&mut self, burst: &mut Burst) -> usize {
        let count = burst.len();
        // SAFETY: `count` live mbufs, which DPDK takes over from the first on, as many as it returns; the burst is
        // emptied before, so that those have one owner, and then holds those that DPDK left alone, moved to its beginning.
        // The port is started, and `&mut self` makes this thread the only one on the queue (fact 4).
        unsafe {
            burst.set_len(0);
            let packets = burst.as_mut_ptr();
            let offered = u16::try_from(count).unwrap_or(BURST_U16);
            let sent = raw::shim_tx_burst(self.port.id(), self.queue, packets.cast(), offered);
            let sent = usize::from(sent).min(count);
            packets.copy_from(packets.add(sent), count - sent);
            burst.set_len(count - sent);
            sent
        }
    }
}

// A burst of mbufs is what DPDK calls an array of pointers to mbufs.
const _: () = assert!(size_of::<Mbuf>() == size_of::<*mut raw::rte_mbuf>());
