//! What packets of a filter meet, seen from outside of the path: a burst passes in pieces, and what a packet that is looked for was
//! counted as, and what came out, follows from the counters and the sink before and after it.
//!
//! So the path has no instruction for it. A worker that is asked to look has its bursts passed by [`Trace::process`] instead of
//! [`Worker::process`]. Everything is bounded: rows that wait, rows a second, bytes of a frame. What is beyond that is counted.
//!
//! In reading order: [`Filter`], [`Traced`] (a row), [`Trace`] (what workers and control thread share), [`headers`] (what frames say).

mod headers;

use std::net::IpAddr;
use std::slice;
use std::sync::atomic::{AtomicU64, Ordering};

use arrayvec::ArrayVec;
use crossbeam::queue::ArrayQueue;

use crate::crt::Crt;
use crate::{Counters, Kind, Now, PacketBuffer, Port, Reason, Sink, Tables, Verdict, Worker};
pub use headers::{Ends, describe, ends};

/// Bytes that are kept of a frame: a whole one of an ordinary Ethernet, encapsulated.
pub const SNAP: usize = 1600;
/// Things that are kept of what a packet met.
const REASONS: usize = 6;
/// Frames that are kept of what came out for one that went in.
const GIVEN: usize = 2;
/// Rows that wait for the control thread.
const ROOM: usize = 1024;

/// Which packets are looked at: those that match in all that is said. A packet whose ports can't be read matches by its addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// The client's address.
    pub client: Option<IpAddr>,
    /// The client's port.
    pub client_port: Option<u16>,
    /// The DVIPA.
    pub dvipa: Option<IpAddr>,
    /// Its port.
    pub port: Option<u16>,
}

impl Filter {
    /// Whether a frame is looked for, in either direction, encapsulated or not.
    pub fn admits(&self, frame: &[u8]) -> bool {
        ends(frame).is_some_and(|ends| self.is_between(&ends) || self.is_between(&ends.reversed()))
    }

    fn is_between(&self, ends: &Ends) -> bool {
        fn is<T: PartialEq>(wanted: Option<T>, found: Option<T>) -> bool {
            wanted.is_none() || found.is_none() || wanted == found
        }
        let (from, to) = ends.ports.unzip();
        is(self.client, Some(ends.source))
            && is(self.dvipa, Some(ends.destination))
            && is(self.client_port, from)
            && is(self.port, to)
    }
}

/// A frame, or its beginning.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Copied {
    /// Its first bytes.
    pub bytes: ArrayVec<u8, SNAP>,
    /// How many it had.
    pub len: usize,
}

impl Copied {
    fn of(frame: &[u8]) -> Self {
        let mut bytes = ArrayVec::new();
        let _ = bytes.try_extend_from_slice(frame.get(..SNAP).unwrap_or(frame));
        Self { bytes, len: frame.len() }
    }
}

/// What one packet met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Traced {
    /// When.
    pub at: Now,
    /// The worker's number.
    pub worker: u16,
    /// Where it came from, and as what; none: it had come before, and waited until now.
    pub came: Option<(Port, Copied)>,
    /// What it was counted as, and what happened besides.
    pub reasons: ArrayVec<Reason, REASONS>,
    /// What came out, and where it went; nothing: it waits.
    pub given: ArrayVec<(Verdict, Copied), GIVEN>,
}

impl Traced {
    /// What it ended as; none: it waits.
    pub fn end(&self) -> Option<Reason> {
        self.reasons.iter().copied().find(|reason| reason.kind() != Kind::Note)
    }
}

/// What is looked for, and what was seen and not read yet. Workers write, the control thread reads.
#[derive(Debug)]
pub struct Trace {
    filter: Filter,
    rows: ArrayQueue<Traced>,
    /// Rows a second, at most.
    a_second: u64,
    /// The second that is counted, and the rows in it. Relaxed, as all here: a number more or less does not matter.
    second: AtomicU64,
    in_it: AtomicU64,
    missed: AtomicU64,
}

impl Trace {
    /// Nothing was seen yet. Its memory is taken here.
    pub fn new(filter: Filter, a_second: u32) -> Self {
        Self {
            filter,
            rows: ArrayQueue::new(ROOM),
            a_second: a_second.into(),
            second: AtomicU64::new(0),
            in_it: AtomicU64::new(0),
            missed: AtomicU64::new(0),
        }
    }

    /// For the control thread: the next row.
    pub fn take(&self) -> Option<Traced> {
        self.rows.pop()
    }

    /// How many packets were not kept, because rows waited or came too fast.
    pub fn missed(&self) -> u64 {
        self.missed.load(Ordering::Relaxed)
    }

    /// [`Worker::process`], looked at.
    #[inline(never)]
    pub fn process<B: PacketBuffer, S: Sink<B>>(
        &self,
        (worker, number): (&mut Worker<B>, u16),
        burst: &mut [Option<B>],
        from: Port,
        (tables, crt, now): (&Tables, &Crt, Now),
        sink: &mut S,
    ) {
        // What waited for its connection goes first, as it would.
        self.thaw((worker, number), (tables, crt, now), sink);
        let mut rest = burst;
        while !rest.is_empty() {
            let wanted = |place: &Option<B>| place.as_ref().is_some_and(|p| self.filter.admits(p.bytes()));
            let run = rest.iter().position(wanted).unwrap_or(rest.len());
            let Some((others, more)) = rest.split_at_mut_checked(run) else { return };
            if !others.is_empty() {
                worker.process(others, from, tables, crt, now, sink);
            }
            let Some((place, more)) = more.split_first_mut() else { return };
            if self.is_in_time(now) {
                self.one((worker, number), place, from, (tables, crt, now), sink);
            } else {
                worker.process(slice::from_mut(place), from, tables, crt, now, sink);
            }
            rest = more;
        }
    }

    fn one<B: PacketBuffer, S: Sink<B>>(
        &self,
        (worker, number): (&mut Worker<B>, u16),
        place: &mut Option<B>,
        from: Port,
        (tables, crt, now): (&Tables, &Crt, Now),
        sink: &mut S,
    ) {
        let came = place.as_ref().map(|packet| (from, Copied::of(packet.bytes())));
        let before = Counts::of(worker.counters());
        let mut tap = Tap { sink, given: ArrayVec::new() };
        worker.process(slice::from_mut(place), from, tables, crt, now, &mut tap);
        let (reasons, given) = (before.since(worker.counters()), tap.given);
        self.keep(Traced { at: now, worker: number, came, reasons, given });
    }

    /// [`Worker::thaw`], looked at.
    pub fn thaw<B: PacketBuffer, S: Sink<B>>(
        &self,
        (worker, number): (&mut Worker<B>, u16),
        (tables, crt, now): (&Tables, &Crt, Now),
        sink: &mut S,
    ) {
        let counters = std::sync::Arc::clone(worker.counters());
        worker.thaw(tables, crt, now, &mut Late::new(self, &counters, number, now, sink));
    }

    /// [`Worker::expire`], looked at.
    pub fn expire<B: PacketBuffer, S: Sink<B>>(
        &self,
        (worker, number): (&mut Worker<B>, u16),
        (tables, crt, now): (&Tables, &Crt, Now),
        sink: &mut S,
    ) {
        let counters = std::sync::Arc::clone(worker.counters());
        worker.expire(tables, crt, now, &mut Late::new(self, &counters, number, now, sink));
    }

    /// Whether there may be another row in this second.
    fn is_in_time(&self, now: Now) -> bool {
        let second = now.ms / 1000;
        if self.second.swap(second, Ordering::Relaxed) != second {
            self.in_it.store(0, Ordering::Relaxed);
        }
        let is_in_time = self.in_it.fetch_add(1, Ordering::Relaxed) < self.a_second;
        if !is_in_time {
            self.missed.fetch_add(1, Ordering::Relaxed);
        }
        is_in_time
    }

    fn keep(&self, row: Traced) {
        if self.rows.push(row).is_err() {
            self.missed.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The counters at a moment.
struct Counts([u64; Reason::COUNT]);

impl Counts {
    fn of(counters: &Counters) -> Self {
        let mut counts = [0; Reason::COUNT];
        for (count, reason) in counts.iter_mut().zip(Reason::ALL) {
            *count = counters.get(*reason);
        }
        Self(counts)
    }

    /// What was counted since then, that it was received left out.
    fn since(&self, counters: &Counters) -> ArrayVec<Reason, REASONS> {
        let more = self.0.iter().zip(Reason::ALL).filter(|(before, reason)| {
            counters.get(**reason) != **before
                && !matches!(reason, Reason::ReceivedNic | Reason::ReceivedLocal)
        });
        more.map(|(_, reason)| *reason).take(REASONS).collect()
    }
}

/// Keeps copies of what comes out for one packet.
struct Tap<'a, S> {
    sink: &'a mut S,
    given: ArrayVec<(Verdict, Copied), GIVEN>,
}

impl<B: PacketBuffer, S: Sink<B>> Sink<B> for Tap<'_, S> {
    fn give(&mut self, packet: B, verdict: Verdict) {
        let _ = self.given.try_push((verdict, Copied::of(packet.bytes())));
        self.sink.give(packet, verdict);
    }

    fn give_first(&mut self, packet: B) {
        let _ = self.given.try_push((Verdict::Send(Port::Local), Copied::of(packet.bytes())));
        self.sink.give_first(packet);
    }

    fn spare(&mut self) -> Option<B> {
        self.sink.spare()
    }
}

/// Makes a row of each packet that comes out later than it came in.
struct Late<'a, S> {
    trace: &'a Trace,
    counters: &'a Counters,
    before: Counts,
    worker: u16,
    now: Now,
    sink: &'a mut S,
}

impl<'a, S> Late<'a, S> {
    fn new(trace: &'a Trace, counters: &'a Counters, worker: u16, now: Now, sink: &'a mut S) -> Self {
        Self { trace, counters, before: Counts::of(counters), worker, now, sink }
    }

    fn look(&mut self, frame: &[u8], verdict: Verdict) {
        let mut reasons = self.before.since(self.counters);
        self.before = Counts::of(self.counters);
        if !self.trace.filter.admits(frame) || !self.trace.is_in_time(self.now) {
            return;
        }
        // What goes to its connection's stack is counted when the burst is over.
        if verdict == Verdict::Send(Port::Nic) && reasons.is_empty() {
            reasons.push(Reason::Forwarded);
        }
        let given = ArrayVec::from_iter([(verdict, Copied::of(frame))]);
        self.trace.keep(Traced { at: self.now, worker: self.worker, came: None, reasons, given });
    }
}

impl<B: PacketBuffer, S: Sink<B>> Sink<B> for Late<'_, S> {
    fn give(&mut self, packet: B, verdict: Verdict) {
        self.look(packet.bytes(), verdict);
        self.sink.give(packet, verdict);
    }

    fn give_first(&mut self, packet: B) {
        self.look(packet.bytes(), Verdict::Send(Port::Local));
        self.sink.give_first(packet);
    }

    fn spare(&mut self) -> Option<B> {
        self.sink.spare()
    }
}
