//! The whole path on real mbufs: receive from a net_null device, write the flow's packet over the buffer (the source),
//! let the forwarder's worker process the burst, send what it says through the device.
//!
//! A pass is timed three times: with everything; without the worker; and without worker and source. The difference of the
//! last two is the source's own cost and is subtracted, so that receive, path and send remain: what testpmd does, with the
//! path in between.

use std::hint::black_box;
use std::sync::Arc;

use ffi::{BURST, Burst, Device, Eal, Mempool, Port as Nic, RxQueue, Settings, TxQueue};
use forwarder::crt::Crt;
use forwarder::{Counters, Limits, Now, PacketBuffer, Port, Reason, Sink, Tables, Verdict, Worker};

use crate::cluster::{Traffic, tables};
use crate::frames::{Frames, Kind};
use crate::keys::Random;
use crate::timing::{BURSTS, best_ns_of};

/// An mbuf, as the forwarder wants it.
struct Packet(ffi::Mbuf);

impl PacketBuffer for Packet {
    #[inline]
    fn bytes(&self) -> &[u8] {
        self.0.bytes()
    }
    #[inline]
    fn bytes_mut(&mut self) -> &mut [u8] {
        self.0.bytes_mut()
    }
    #[inline]
    fn prepend(&mut self, n: usize) -> bool {
        self.0.prepend(n)
    }
    #[inline]
    fn trim_front(&mut self, n: usize) -> bool {
        self.0.trim_front(n)
    }
    #[inline]
    fn truncate(&mut self, len: usize) {
        self.0.truncate(len);
    }
    #[inline]
    fn extend(&mut self, n: usize) -> bool {
        self.0.extend(n)
    }
    #[inline]
    fn prefetch(&self) {
        self.0.prefetch();
    }
}

/// Where the path's packets go: a burst for the NIC. The others are freed and counted.
#[derive(Default)]
struct Outlet {
    sent: Burst,
    others: u64,
}

impl Sink<Packet> for Outlet {
    #[inline]
    fn give(&mut self, packet: Packet, verdict: Verdict) {
        match verdict {
            Verdict::Send(Port::Nic) => self.sent.push(packet.0),
            _ => self.others += 1,
        }
    }
}

/// How much of a pass is done.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Extent {
    Device,
    Source,
    Path,
}

/// One worker with its queues.
pub(crate) struct Line {
    worker: Worker<Packet>,
    receive: RxQueue,
    send: TxQueue,
    _nic: Nic,
    frames: Frames,
    flows: u32,
    /// Each packet is of a new flow.
    fresh: Option<u32>,
}

/// What the workers share.
pub(crate) struct Shared {
    tables: Tables,
    crt: Crt,
}

/// What a pass costs, in nanoseconds a packet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    /// Receive, path and send.
    pub(crate) path: f64,
    /// The source, already subtracted.
    pub(crate) source: f64,
    /// Receive and send alone.
    pub(crate) device: f64,
    /// Calls of the allocator a packet.
    pub(crate) allocations: f64,
}

impl Shared {
    /// Tables, and a CRT with the traffic's flows established.
    pub(crate) fn new(traffic: Traffic) -> std::io::Result<Self> {
        Ok(Self { tables: tables(), crt: traffic.crt()? })
    }
}

impl Line {
    /// Opens the device of this number.
    ///
    /// # Errors
    /// DPDK's.
    pub(crate) fn new(eal: Eal, pool: Mempool, number: usize, traffic: Traffic) -> Result<Self, ffi::Error> {
        let frames = traffic.frames();
        let device = Device::open(eal, &format!("net_null{number},size={}", frames.len()))?;
        let (nic, mut queues) = device.start(&Settings::default(), pool)?;
        let Some((receive, send)) = queues.pop() else { unreachable!("one queue pair was asked for") };
        Ok(Self {
            worker: Worker::new(Limits::default(), Arc::new(Counters::new())),
            receive,
            send,
            _nic: nic,
            frames,
            flows: traffic.flows,
            fresh: (traffic.kind == Kind::Syn).then_some(0),
        })
    }

    /// Bursts from receive to send; returns how many packets the path did not send.
    fn pass(&mut self, shared: &Shared, extent: Extent, seed: u64) -> u64 {
        let mut random = Random(seed);
        let mut outlet = Outlet::default();
        let mut slots: [Option<Packet>; BURST] = std::array::from_fn(|_| None);
        let now = Now { ms: 1000 };
        for _ in 0..BURSTS {
            let mut burst = Burst::new();
            self.receive.receive(&mut burst);
            if extent >= Extent::Source {
                for mbuf in &mut burst {
                    let n = match &mut self.fresh {
                        None => random.below(u64::from(self.flows)),
                        Some(n) => {
                            *n = n.wrapping_add(1);
                            *n
                        }
                    };
                    self.frames.write(n, mbuf.bytes_mut());
                }
            }
            if extent < Extent::Path {
                self.send.send(black_box(&mut burst));
                continue;
            }
            let count = burst.len();
            for (slot, mbuf) in slots.iter_mut().zip(burst) {
                *slot = Some(Packet(mbuf));
            }
            let slots = slots.get_mut(..count).unwrap_or_default();
            self.worker.process(slots, Port::Nic, &shared.tables, &shared.crt, now, &mut outlet);
            self.send.send(&mut outlet.sent);
        }
        outlet.others
    }

    /// The cost of the traffic that the line was made for.
    ///
    /// # Panics
    /// If the path does not send every packet.
    pub(crate) fn cost(&mut self, shared: &Shared) -> Cost {
        let packets = BURSTS * BURST as u64;
        let mut unsent = 0;
        unsent += self.pass(shared, Extent::Path, 5);
        let before = crate::allocations::calls();
        unsent += self.pass(shared, Extent::Path, 6);
        let allocations = (crate::allocations::calls() - before) as f64 / packets as f64;
        let extents = [Extent::Path, Extent::Source, Extent::Device];
        let [all, source, device] =
            best_ns_of(packets, extents, |extent, seed| unsent += self.pass(shared, extent, seed));
        let counts = Reason::ALL
            .iter()
            .map(|reason| (reason.name(), self.worker.counters().get(*reason)))
            .filter(|c| c.1 > 0);
        assert_eq!(unsent, 0, "the path sends every packet; it counted {:?}", counts.collect::<Vec<_>>());
        Cost { path: all - (source - device), source: source - device, device, allocations }
    }
}
