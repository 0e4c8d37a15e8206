//! The whole path on real mbufs: receive from a net_null device, write the flow's packet over the buffer (the source),
//! let the forwarder's worker process the burst, send what it says through the device.
//!
//! Passes of different extent take turns: with everything; without the worker; and without worker and source. The difference
//! of the last two is the source's own cost and is subtracted, so that receive, path and send remain: what testpmd does, with
//! the path in between. For the figure, passes with the look-up alone take turns with them. Time goes by as packets come, and
//! all passes are on one clock, so that connections' stamps are renewed as they would be.

use std::hint::black_box;
use std::sync::Arc;

use ffi::{BURST, Burst, Device, Eal, Mempool, Port as Nic, RxQueue, Settings, TxQueue};
use forwarder::crt::{self, Crt, KeyV4};
use forwarder::{Counters, Limits, Now, PacketBuffer, Port, Reason, Sink, Tables, Verdict, Worker};

use crate::cluster::Traffic;
use crate::keys::Random;
use crate::source::Source;
use crate::timing::{A_MS, Clock, bursts, once_ns, slices, steady_ns_of};

/// Packets a pass: two or three milliseconds.
fn packets() -> u64 {
    bursts() * crt::BURST as u64
}

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

/// Where the path's packets go: those that it sends, to either port, through one queue. The others are freed and counted.
struct Outlet {
    queue: TxQueue,
    waiting: Burst,
    pool: Mempool,
    unsent: u64,
}

impl Outlet {
    #[inline]
    fn flush(&mut self) {
        self.queue.send(&mut self.waiting);
    }
}

impl Sink<Packet> for Outlet {
    #[inline]
    fn give(&mut self, packet: Packet, verdict: Verdict) {
        match verdict {
            Verdict::Send(_) => {
                if self.waiting.is_full() {
                    self.flush();
                }
                self.waiting.push(packet.0);
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
    /// Slices of a run.
    slices: u64,
    keys: [crt::Burst<KeyV4>; 2],
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
        Ok(Self { tables: traffic.tables(), crt: traffic.crt(|n| traffic.written(n))? })
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
            outlet: Outlet { queue, waiting: Burst::new(), pool, unsent: 0 },
            _nic: nic,
            source,
            clock: Clock::new(traffic.start(), A_MS),
            slices: slices(packets(), traffic.renewal_ms()),
            keys: Default::default(),
        })
    }

    /// Bursts from receive to send.
    fn pass(&mut self, shared: &Shared, extent: Extent, seed: u64) {
        let (mut random, mut expired) = (Random(seed), self.clock.now());
        let mut slots: [Option<Packet>; BURST] = std::array::from_fn(|_| None);
        for _ in 0..packets() / BURST as u64 {
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
                self.outlet.queue.send(black_box(&mut burst));
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
        for mbuf in burst {
            let flow = self.source.next(random);
            self.source.write(flow, mbuf.bytes_mut());
        }
    }

    #[inline(always)]
    fn write_with_keys(&mut self, burst: &mut Burst, random: &mut Random) {
        for (mbufs, keys) in burst.chunks_mut(crt::BURST).zip(&mut self.keys) {
            keys.clear();
            for mbuf in mbufs {
                let flow = self.source.next(random);
                self.source.write(flow, mbuf.bytes_mut());
                keys.push(self.source.key_v4(flow));
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

    /// A pass's nanoseconds a packet.
    fn pass_ns(&mut self, shared: &Shared, extent: Extent, seed: u64) -> f64 {
        once_ns(packets(), || self.pass(shared, extent, seed))
    }

    /// The cost of the traffic that the line was made for.
    ///
    /// # Panics
    /// If the path does not send every packet.
    pub(crate) fn cost(&mut self, shared: &Shared) -> Cost {
        self.pass(shared, Extent::Path, 5);
        let before = crate::allocations::calls();
        self.pass(shared, Extent::Path, 6);
        let allocations = (crate::allocations::calls() - before) as f64 / packets() as f64;
        let extents = [Extent::Path, Extent::Source, Extent::Device];
        let [all, source, device] =
            steady_ns_of(self.slices, extents, |extent, seed| self.pass_ns(shared, extent, seed));
        self.check();
        Cost { path: all - (source - device), source: source - device, device, allocations }
    }

    /// The stages of its path, of a line of packets of connections over IPv4.
    ///
    /// # Panics
    /// If the path does not send every packet.
    pub(crate) fn stages(&mut self, shared: &Shared) -> Stages {
        let extents = [Extent::Path, Extent::LookUp, Extent::Keys, Extent::Source, Extent::Device];
        let [all, lookup, keys, source, device] =
            steady_ns_of(self.slices, extents, |extent, seed| self.pass_ns(shared, extent, seed));
        self.check();
        Stages { path: all - (source - device), device, lookup: lookup - keys }
    }

    fn check(&self) {
        let counts = Reason::ALL
            .iter()
            .map(|reason| (reason.name(), self.worker.counters().get(*reason)))
            .filter(|c| c.1 > 0);
        let unsent = self.outlet.unsent;
        assert_eq!(unsent, 0, "the path sends every packet; it counted {:?}", counts.collect::<Vec<_>>());
    }
}
