//! The poll loop.
//!
//! In reading order: [`Line`] (one burst through the path), [`Worker`] (the loop around it), [`replay`] (the same line
//! over a source that ends), [`output`], [`idle`], [`gauges`], [`inbox`] (packets from the control thread).

pub mod gauges;
pub mod idle;
pub mod inbox;
pub mod output;
pub mod replay;

use std::array;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use arc_swap::cache::Cache;
use ffi::clock::{self, Clock};
use ffi::{BURST, Burst, RxQueue};
use forwarder::crt::{Crt, KeyV4, KeyV6};
use forwarder::trace::Trace;
use forwarder::{Counters, Handoffs, Limits, Now, Pools, Port, Reselecting, Tables};
use model::{Connection, StackIndex};

use self::gauges::Gauges;
use self::idle::{Idler, Policy};
use self::inbox::Inbox;
use self::output::Output;
use crate::packet::Packet;

/// One burst from a receive queue through the forwarder's path into the send queues.
#[derive(Debug)]
pub struct Line {
    path: forwarder::Worker<Packet>,
    output: Output,
    gauges: Arc<Gauges>,
    slots: [Option<Packet>; BURST],
    load: Load,
}

/// The kinds of receive queues that a worker reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// The NIC's, where everything comes that is not steered.
    Nic,
    /// The NIC's for what is steered.
    Steered,
    /// The local port's.
    Local,
}

impl From<Port> for Kind {
    /// A port's ordinary queue.
    fn from(port: Port) -> Self {
        match port {
            Port::Nic => Self::Nic,
            Port::Local => Self::Local,
        }
    }
}

impl Kind {
    #[inline]
    fn port(self) -> Port {
        match self {
            Self::Nic | Self::Steered => Port::Nic,
            Self::Local => Port::Local,
        }
    }
}

/// Somebody who looks on, and the worker's number.
type Look<'t> = Option<(&'t Trace, u16)>;

/// So many full bursts in a row are more packets than a queue of 1024 holds: they come faster than the worker handles them.
const PRESSED: u32 = 20;
/// The worker stays pressed for so long after the last of them, in milliseconds, so that it works its queue off.
const PRESSED_MS: u64 = 100;

/// Whether more packets come from the NIC than the worker handles.
#[derive(Debug, Default)]
struct Load {
    /// Bursts in a row that were full.
    full: u32,
    pressed_until: Now,
}

impl Load {
    /// Notes a burst; returns whether the worker is pressed.
    #[inline]
    fn is_pressed(&mut self, full: bool, now: Now) -> bool {
        self.full = if full { self.full.saturating_add(1) } else { 0 };
        if self.full >= PRESSED {
            self.pressed_until = Now { ms: now.ms.saturating_add(PRESSED_MS) };
        }
        now < self.pressed_until
    }
}

impl Line {
    /// Takes all the memory that it will ever need.
    pub fn new(limits: Limits, counters: Arc<Counters>, output: Output, gauges: Arc<Gauges>) -> Self {
        let path = forwarder::Worker::new(limits, counters);
        Self { path, output, gauges, slots: array::from_fn(|_| None), load: Load::default() }
    }

    /// Connections that it wants moved.
    pub fn reselecting(&self) -> &Arc<Reselecting> {
        self.path.reselecting()
    }

    /// The path that its packets pass.
    pub fn path(&mut self) -> &mut forwarder::Worker<Packet> {
        &mut self.path
    }

    /// Receives a burst and lets it pass; what is to be sent waits in the output. Returns how many packets there were.
    #[inline]
    fn pass(
        &mut self,
        queue: &mut RxQueue,
        kind: Kind,
        (tables, crt, now): (&Tables, &Crt, Now),
        look: Look<'_>,
    ) -> usize {
        let mut burst = Burst::new();
        let oversized = queue.receive(&mut burst);
        let (from, count) = (kind.port(), burst.len());
        self.gauges.port(from).oversized.add(oversized as u64);
        match kind {
            Kind::Nic => {
                let pressed = self.load.is_pressed(burst.is_full(), now);
                self.path.set_pressed(pressed);
            }
            Kind::Steered => self.gauges.steered.add(count as u64),
            Kind::Local => {}
        }
        if count == 0 {
            return 0;
        }
        for (slot, mbuf) in self.slots.iter_mut().zip(burst) {
            *slot = Some(Packet(mbuf));
        }
        let filled = self.slots.get_mut(..count).unwrap_or_default();
        match look {
            None => self.path.process(filled, from, tables, crt, now, &mut self.output),
            Some((trace, number)) => {
                trace.process((&mut self.path, number), filled, from, (tables, crt, now), &mut self.output);
            }
        }
        count
    }

    fn inject(&mut self, inbox: &Inbox, count: usize, tables: &Tables, handoffs: &Handoffs) {
        inbox.inject(count, (tables, handoffs), &mut self.output, &self.gauges);
    }

    #[inline]
    fn thaw(&mut self, (tables, crt, now): (&Tables, &Crt, Now), look: Look<'_>) {
        match look {
            None => self.path.thaw(tables, crt, now, &mut self.output),
            Some((trace, number)) => {
                trace.thaw((&mut self.path, number), (tables, crt, now), &mut self.output);
            }
        }
    }

    #[inline]
    fn expire(&mut self, (tables, crt, now): (&Tables, &Crt, Now), look: Look<'_>) {
        match look {
            None => self.path.expire(tables, crt, now, &mut self.output),
            Some((trace, number)) => {
                trace.expire((&mut self.path, number), (tables, crt, now), &mut self.output);
            }
        }
    }
}

/// What all workers of a node share with its control thread.
#[derive(Debug)]
pub struct Shared {
    /// Connection → stack.
    pub crt: Crt,
    /// The control thread's decisions. It frees a replaced snapshot itself, when no worker has it any more, so that a
    /// worker never runs the allocator.
    pub tables: ArcSwap<Tables>,
    /// Options of connections that are being handed over; replaced and freed as the tables are.
    pub handoffs: ArcSwap<Handoffs>,
    /// Tokens that stacks gave out; replaced and freed as the tables are.
    pub pools: ArcSwap<Pools>,
    /// What the workers look at for somebody, if there is somebody; replaced and freed as the tables are.
    pub trace: ArcSwap<Option<Trace>>,
    /// The time that entries of the CRT are measured in.
    pub clock: Clock,
    /// The workers end.
    ///
    /// Relaxed: nothing is read because of it.
    pub stop: AtomicBool,
}

impl Shared {
    /// The stack that has a connection.
    pub fn owner(&self, connection: &Connection) -> Option<StackIndex> {
        let Connection { client, dvipa, protocol } = *connection;
        let (tables, now) = (self.tables.load(), Now { ms: self.clock.ms() });
        let entry = match (client, dvipa.ip()) {
            (SocketAddr::V4(client), IpAddr::V4(address)) => {
                let to = tables.dvipa_v4(address)?;
                self.crt.get(KeyV4::new(*client.ip(), client.port(), to, dvipa.port(), protocol), now)
            }
            (SocketAddr::V6(client), IpAddr::V6(address)) => {
                let to = tables.dvipa_v6(address)?;
                self.crt.get(KeyV6::new(*client.ip(), client.port(), to, dvipa.port(), protocol), now)
            }
            _ => None,
        };
        entry.map(|entry| entry.owner)
    }
}

/// A poll-mode worker. It runs on one lcore and owns one queue pair of each port; everything that it shares is in
/// [`Shared`], read without locks.
#[derive(Debug)]
pub struct Worker {
    /// Its number.
    pub number: u16,
    /// The NIC's receive queue for packets that are steered there, if this worker reads it. It comes first.
    pub steered: Option<RxQueue>,
    /// Its receive queue of the NIC.
    pub nic: RxQueue,
    /// Its receive queue of the local port.
    pub local: RxQueue,
    /// The path and the send queues.
    pub line: Line,
    /// Packets from the control thread.
    pub inbox: Arc<Inbox>,
    /// What it does when no packet comes.
    pub idle: Policy,
}

impl Worker {
    /// Polls until it is told to stop.
    pub fn run(&mut self, shared: &Shared) {
        let mut tables = Cache::new(&shared.tables);
        let mut handoffs = Cache::new(&shared.handoffs);
        let mut pools = Cache::new(&shared.pools);
        let mut trace = Cache::new(&shared.trace);
        let mut idler = Idler::new(self.idle);
        let mut turn_began = clock::cycles();
        let mut expired = Now::default();
        while !shared.stop.load(Ordering::Relaxed) {
            let now = Now { ms: shared.clock.ms_of(turn_began) };
            // Before the tables, which are then at least as new as what the frames stand on; and sent before the packets
            // that wait for their connection, which a hand-over lets go.
            let injected = self.inbox.waiting();
            let (tables, handoffs) = (tables.load(), handoffs.load());
            self.line.path.set_handoffs(handoffs);
            self.line.path.set_pools(pools.load());
            if injected > 0 {
                self.line.inject(&self.inbox, injected, tables, handoffs);
            }
            let mut packets = injected;
            // One look a turn, so that packets pay nothing for a trace that nobody wants.
            let look = trace.load().as_ref().as_ref().map(|trace| (trace, self.number));
            let world = (&**tables, &shared.crt, now);
            if let Some(queue) = &mut self.steered {
                packets += self.line.pass(queue, Kind::Steered, world, look);
            }
            packets += self.line.pass(&mut self.nic, Kind::Nic, world, look)
                + self.line.pass(&mut self.local, Kind::Local, world, look);
            self.line.thaw(world, look);
            if now != expired {
                self.line.expire(world, look);
                expired = now;
            }
            self.line.output.flush();
            idler.rest(packets);
            turn_began = self.count(turn_began, packets);
        }
    }

    /// Notes a turn and returns when it ended.
    #[inline]
    fn count(&self, began: u64, packets: usize) -> u64 {
        let (gauges, ended) = (&self.line.gauges, clock::cycles());
        let cycles = if packets > 0 { &gauges.busy_cycles } else { &gauges.idle_cycles };
        cycles.add(ended.saturating_sub(began));
        gauges.turns.add(1);
        ended
    }
}

#[cfg(test)]
mod tests;
