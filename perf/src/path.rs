//! The whole path on real mbufs: receive from a net_null device, write the flow's packet over the buffer (the source),
//! let the forwarder's worker process the burst, send what it says through the device.
//!
//! Passes of different extent take turns: with everything; without the worker; and without worker and source. The difference
//! of the last two is the source's own cost and is subtracted, so that receive, path and send remain: what testpmd does, with
//! the path in between. For the figure, passes with the look-up alone take turns with them. Time goes by as packets come, and
//! all passes are on one clock, so that connections' stamps are renewed as they would be.

use std::cmp::Reverse;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use ffi::{BURST, Burst, Device, Eal, Mempool, Port as Nic, RxQueue, Settings, TxQueue};
use forwarder::crt::{self, Crt, KeyV4};
use forwarder::{Counters, Kind, Limits, Now, Port, Reason, Sink, Tables, Verdict, Worker};
use plane::packet::Packet;

use crate::cluster::Traffic;
use crate::keys::Random;
use crate::renewal;
use crate::source::Source;
use crate::timing::{Clock, bursts, once_ns, sized, slices, steady_ns_of};

/// Packets a pass: two or three milliseconds.
fn packets() -> u64 {
    bursts() * crt::BURST as u64
}

/// Slices of a run of packets of new connections.
const SLICES_OF_NEW: u64 = 8;
/// New connections' packets that fill the tables, half-open and UDP's, several times over.
const FILLING: u64 = 1 << 20;
/// Bursts in a row of a worker that counts.
const COUNTED: u64 = 32;

/// Where the path's packets go: those that it sends, to either port, through one queue. The others are freed and counted.
pub(crate) struct Outlet {
    queue: TxQueue,
    waiting: Burst,
    pool: Mempool,
    unsent: u64,
}

impl Outlet {
    pub(crate) fn new(queue: TxQueue, pool: Mempool) -> Self {
        Self { queue, waiting: Burst::new(), pool, unsent: 0 }
    }

    /// Sends packets that nothing was done with.
    #[inline]
    pub(crate) fn send(&mut self, burst: &mut Burst) {
        self.queue.send(burst);
    }

    #[inline]
    pub(crate) fn flush(&mut self) {
        self.queue.send(&mut self.waiting);
    }
}

impl Sink<Packet> for Outlet {
    #[inline]
    fn give(&mut self, packet: Packet, verdict: Verdict) {
        match verdict {
            Verdict::Send(_) => {
                if let Err(full) = self.waiting.try_push(packet.0) {
                    self.flush();
                    self.waiting.push(full.element());
                }
            }
            Verdict::Drop(_) => self.unsent += 1,
        }
    }

    fn spare(&mut self) -> Option<Packet> {
        self.pool.allocate().map(Packet)
    }
}

/// How much of a pass is done.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Extent {
    /// Receive and send.
    Device,
    /// And packets are written.
    Source,
    /// And their keys are made.
    Keys,
    /// And looked up.
    LookUp,
    /// All that the path does with them.
    Path,
}

/// One worker with its queues.
pub(crate) struct Line {
    worker: Worker<Packet>,
    receive: RxQueue,
    outlet: Outlet,
    _nic: Nic,
    source: Source,
    clock: Clock,
    traffic: Traffic,
    keys: [crt::Burst<KeyV4>; 2],
}

/// What the workers share.
pub(crate) struct Shared {
    tables: Tables,
    crt: Crt,
}

/// What a pass costs, in nanoseconds a packet.
#[derive(Clone, Debug)]
pub(crate) struct Cost {
    /// Receive, path and send.
    pub(crate) path: f64,
    /// The source, already subtracted.
    pub(crate) source: f64,
    /// Receive and send alone.
    pub(crate) device: f64,
    /// Calls of the allocator a packet.
    pub(crate) allocations: f64,
    /// What became of the packets.
    pub(crate) ends: String,
}

/// The parts of [`Cost::path`] that can be told apart, in nanoseconds a packet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stages {
    /// Everything.
    pub(crate) path: f64,
    /// Receive and send alone.
    pub(crate) device: f64,
    /// The look-up in the CRT alone.
    pub(crate) lookup: f64,
}

impl Shared {
    /// Tables, and a CRT with the traffic's flows established.
    pub(crate) fn new(traffic: Traffic) -> std::io::Result<Self> {
        Ok(Self { tables: traffic.tables(), crt: traffic.crt(renewal::written)? })
    }
}

impl Line {
    /// Opens the device of this number.
    ///
    /// # Errors
    /// DPDK's.
    pub(crate) fn new(eal: Eal, pool: Mempool, number: u32, traffic: Traffic) -> Result<Self, ffi::Error> {
        let source = Source::new(traffic, number);
        let device = Device::open(eal, &format!("net_null{number},size={}", source.len()))?;
        let (nic, mut queues) = device.start(&Settings::default(), pool)?;
        let Some((receive, queue)) = queues.pop() else { unreachable!("one queue pair was asked for") };
        Ok(Self {
            worker: Worker::new(Limits::default(), Arc::new(Counters::new())),
            receive,
            outlet: Outlet::new(queue, pool),
            _nic: nic,
            source,
            clock: Clock::new(renewal::start(), traffic.a_ms),
            traffic,
            keys: Default::default(),
        })
    }

    /// Bursts from receive to send.
    fn pass(&mut self, shared: &Shared, extent: Extent, bursts: u64, seed: u64) {
        let (mut random, mut expired) = (Random(seed), self.clock.now());
        let mut slots: [Option<Packet>; BURST] = std::array::from_fn(|_| None);
        for _ in 0..bursts {
            let mut burst = Burst::new();
            self.receive.receive(&mut burst);
            assert_eq!(burst.len(), BURST, "the pool has more buffers than the worker holds");
            let now = self.clock.now();
            match extent {
                Extent::Device => {}
                Extent::Source | Extent::Path => self.write(&mut burst, &mut random),
                Extent::Keys => self.write_with_keys(&mut burst, &mut random),
                Extent::LookUp => {
                    self.write_with_keys(&mut burst, &mut random);
                    self.look_up(&shared.crt, now);
                }
            }
            if extent != Extent::Path {
                self.outlet.send(black_box(&mut burst));
            } else {
                for (slot, mbuf) in slots.iter_mut().zip(burst) {
                    *slot = Some(Packet(mbuf));
                }
                let Shared { tables, crt } = shared;
                self.worker.process(&mut slots, Port::Nic, tables, crt, now, &mut self.outlet);
                if now != expired {
                    self.worker.expire(tables, crt, now, &mut self.outlet);
                    expired = now;
                }
                self.outlet.flush();
            }
            if matches!(extent, Extent::LookUp | Extent::Path) {
                self.clock.advance(BURST);
            }
        }
    }

    #[inline(always)]
    fn write(&mut self, burst: &mut Burst, random: &mut Random) {
        for (place, mbuf) in burst.iter_mut().enumerate() {
            self.source.write(place, random, mbuf.bytes_mut());
        }
    }

    #[inline(always)]
    fn write_with_keys(&mut self, burst: &mut Burst, random: &mut Random) {
        for (mbufs, keys) in burst.chunks_mut(crt::BURST).zip(&mut self.keys) {
            keys.clear();
            for (place, mbuf) in mbufs.iter_mut().enumerate() {
                let number = self.source.write(place, random, mbuf.bytes_mut());
                keys.push(self.source.key_v4(number));
            }
            black_box(keys);
        }
    }

    /// As the path does it: two bursts in turns.
    #[inline(always)]
    fn look_up(&mut self, crt: &Crt, now: Now) {
        let [one, two] = &mut self.keys;
        crt.locate(one);
        crt.request(one);
        crt.locate(two);
        crt.read(one, Some(two));
        crt.read(two, None);
        crt.finish(one, now);
        crt.finish(two, now);
        black_box((one.found(), two.found()));
    }

    /// A pass's nanoseconds a packet. Entries that it made and that must not fill the table are taken out again afterwards.
    fn pass_ns(&mut self, shared: &Shared, extent: Extent, seed: u64) -> f64 {
        let first = self.source.next_new();
        let bursts = packets() / BURST as u64;
        let ns = once_ns(packets(), || self.pass(shared, extent, bursts, seed));
        if extent == Extent::Path && self.traffic.needs_room() {
            for number in first..self.source.next_new() {
                shared.crt.remove(self.source.key_v4(number));
            }
        }
        ns
    }

    /// The cost of the traffic that the line was made for.
    ///
    /// # Panics
    /// If the path does not send every packet of connections that it knows.
    pub(crate) fn cost(&mut self, shared: &Shared) -> Cost {
        let is_known = self.traffic.flows > 0;
        if self.traffic.full {
            self.pass(shared, Extent::Path, sized(FILLING, packets()) / BURST as u64, 3);
        }
        self.pass_ns(shared, Extent::Path, 5);
        let before = crate::allocations::calls();
        self.pass_ns(shared, Extent::Path, 6);
        let allocations = (crate::allocations::calls() - before) as f64 / packets() as f64;
        let slices = if is_known { self.slices() } else { sized(SLICES_OF_NEW, 1) };
        let extents = [Extent::Path, Extent::Source, Extent::Device];
        let [all, source, device] =
            steady_ns_of(slices, extents, |extent, seed| self.pass_ns(shared, extent, seed));
        if is_known {
            self.check();
        }
        let source = source - device;
        Cost { path: all - source, source, device, allocations, ends: self.ends() }
    }

    /// The stages of its path, of a line of packets of connections over IPv4.
    ///
    /// # Panics
    /// If the path does not send every packet.
    pub(crate) fn stages(&mut self, shared: &Shared) -> Stages {
        let extents = [Extent::Path, Extent::LookUp, Extent::Keys, Extent::Source, Extent::Device];
        let [all, lookup, keys, source, device] =
            steady_ns_of(self.slices(), extents, |extent, seed| self.pass_ns(shared, extent, seed));
        self.check();
        Stages { path: all - (source - device), device, lookup: lookup - keys }
    }

    /// Packets from receive to send between two moments.
    pub(crate) fn count(&mut self, shared: &Shared, [begin, end]: [Instant; 2]) -> u64 {
        while Instant::now() < begin {
            std::hint::spin_loop();
        }
        let mut turns = 0;
        while Instant::now() < end {
            turns += 1;
            self.pass(shared, Extent::Path, COUNTED, turns * 7919 + u64::from(self.source.next_new()));
        }
        turns * COUNTED * BURST as u64
    }

    fn slices(&self) -> u64 {
        slices(packets(), self.traffic.renewal_ms())
    }

    fn check(&self) {
        assert_eq!(self.outlet.unsent, 0, "the path sends every packet; they ended as {}", self.ends());
    }

    /// What became of the packets, in percent of them; what less than one in a hundred was left out.
    fn ends(&self) -> String {
        let counters = self.worker.counters();
        let ends = Reason::ALL.iter().filter(|reason| reason.kind() != Kind::Note);
        let mut ends: Vec<_> = ends.map(|reason| (counters.get(*reason), reason.name())).collect();
        let all = ends.iter().map(|end| end.0).sum::<u64>().max(1);
        ends.sort_by_key(|(count, _)| Reverse(*count));
        let percent = ends.into_iter().map(|(count, name)| (count * 100 / all, name)).filter(|end| end.0 > 0);
        percent.map(|(percent, name)| format!("{name} {percent} %")).collect::<Vec<_>>().join(", ")
    }
}
