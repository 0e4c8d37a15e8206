//! What operators ask about packets: what would become of one, and what becomes of those that pass.

use std::fmt::Write;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use control::runtime::looking::{
    CameRow, Foretold, GivenRow, Met, MetKind, PacketQuestion, Passed, SEEN_AT_ONCE, Seen, SeenPage,
    SegmentKind, TRACE_A_SECOND, TRACE_A_SECOND_MAX, TRACE_S, TRACE_S_MAX, TRACE_UNREAD_S, TraceOrder,
    TraceRow, WayView, parts,
};
use forwarder::foretell::{self, Asked, Question, World, family_of};
use forwarder::packet::protocol;
use forwarder::trace::{Copied, Filter, Trace, Traced, describe, ends};
use forwarder::{Kind, Mac, Port, Reason, Tables, Verdict, WayTo};
use model::{Connection, CrtState, Protocol, StackIndex};

use super::Plane;

/// What workers look at, or have looked at.
#[derive(Debug)]
pub(super) struct Tracing {
    number: u64,
    /// Shared with the workers until it is over.
    trace: Arc<Option<Trace>>,
    bytes: bool,
    until: Instant,
    read: Instant,
    over: bool,
}

impl Plane {
    pub(super) fn foretold(&self, asked: &PacketQuestion) -> io::Result<Foretold> {
        let shared = &self.node.shared;
        let (tables, handoffs, now) = (shared.tables.load_full(), shared.handoffs.load_full(), self.now());
        let Connection { client, dvipa, protocol } = asked.connection;
        let kind = match (protocol, asked.segment) {
            (Protocol::Udp, _) => Asked::Datagram,
            (Protocol::Tcp, Some(SegmentKind::Syn)) => Asked::Syn,
            (Protocol::Tcp, Some(SegmentKind::Ack)) => Asked::Ack,
            (Protocol::Tcp, Some(SegmentKind::Rst)) => Asked::Rst,
            (Protocol::Tcp, None) => {
                let is_there = self.entry_of(&asked.connection).is_some_and(|entry| entry.state.counts());
                if is_there { Asked::Ack } else { Asked::Syn }
            }
        };
        let (bytes, hops) = (asked.bytes.unwrap_or(0), asked.ttl.unwrap_or(64));
        let question = Question { client, dvipa, kind, bytes, hops };
        let world = World { tables: &tables, handoffs: &handoffs, crt: &shared.crt, now };
        let told = foretell::foretell(&question, world)?;
        let index = tables.dvipa(dvipa.ip());
        let service = index.map(|index| (index, dvipa.port(), protocol));
        let entry = told.entry.map(|entry| (entry.owner, entry.state));
        let to = told.entry_then.or(told.entry).map(|entry| entry.owner);
        Ok(Foretold {
            packet: describe(&told.frame),
            is_ours: index.is_some(),
            is_distributed: service.is_some_and(|(index, port, of)| tables.has_service(index, port, of)),
            entry,
            policy: service.and_then(|service| tables.policy(service, client.ip())),
            asked: index
                .map(|index| tables.asked(index))
                .map(|(s, certain)| (s.to_vec(), certain))
                .unwrap_or_default(),
            at_once: passed(&told.at_once),
            later: told.later.as_ref().map(passed),
            to,
            way: to.map(|to| way(&tables, to, dvipa)),
        })
    }

    pub(super) fn trace_from(&mut self, order: &TraceOrder) -> Option<u64> {
        if self.tracing.as_ref().is_some_and(|tracing| !tracing.over) {
            return None;
        }
        let ((client, client_port), (dvipa, port)) = (parts(order.client), parts(order.service));
        let filter = Filter { client, client_port, dvipa, port };
        let trace = Trace::new(filter, order.a_second.unwrap_or(TRACE_A_SECOND).min(TRACE_A_SECOND_MAX));
        self.traces.replace(&self.node.shared.trace, Some(trace));
        self.trace += 1;
        let now = Instant::now();
        let seconds = order.for_s.unwrap_or(TRACE_S).min(TRACE_S_MAX);
        self.tracing = Some(Tracing {
            number: self.trace,
            trace: self.node.shared.trace.load_full(),
            bytes: order.bytes,
            until: now + Duration::from_secs(seconds),
            read: now,
            over: false,
        });
        Some(self.trace)
    }

    pub(super) fn seen(&mut self, number: u64) -> Option<SeenPage> {
        let (now, mut tracing) = (self.now(), self.tracing.take_if(|tracing| tracing.number == number)?);
        tracing.read = Instant::now();
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let unix_ms = u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX);
        let trace = tracing.trace.as_ref().as_ref();
        let rows = std::iter::from_fn(|| trace?.take()).take(SEEN_AT_ONCE).map(|seen| {
            let at = unix_ms.saturating_sub(now.ms.saturating_sub(seen.at.ms));
            Seen { entry: self.entry_then(&seen), row: row(&seen, at, tracing.bytes) }
        });
        let packets: Vec<Seen> = rows.collect();
        let over = tracing.over && packets.len() < SEEN_AT_ONCE;
        let missed = trace.map_or(0, Trace::missed);
        self.tracing = Some(tracing);
        Some(SeenPage { packets, missed, over })
    }

    pub(super) fn trace_until(&mut self, number: u64) -> bool {
        let Some(tracing) = self.tracing.as_mut().filter(|tracing| tracing.number == number) else {
            return false;
        };
        if !tracing.over {
            tracing.over = true;
            self.traces.replace(&self.node.shared.trace, None);
        }
        true
    }

    /// Ends a trace whose time is over or that nobody reads; to be called at each tick.
    pub(super) fn end_old_trace(&mut self) {
        self.traces.free();
        let Some(tracing) = self.tracing.as_ref().filter(|tracing| !tracing.over) else { return };
        let unread = Duration::from_secs(TRACE_UNREAD_S);
        if Instant::now() >= tracing.until || tracing.read.elapsed() >= unread {
            self.trace_until(tracing.number);
        }
    }

    /// What the CRT knows of the connection of a packet that was seen.
    fn entry_then(&self, seen: &Traced) -> Option<(StackIndex, CrtState)> {
        let came = seen.came.as_ref().map(|(_, copied)| copied);
        let frame = came.or_else(|| seen.given.first().map(|(_, copied)| copied))?;
        let ends = ends(&frame.bytes)?;
        let protocol = match ends.protocol {
            protocol::TCP => Protocol::Tcp,
            protocol::UDP => Protocol::Udp,
            _ => return None,
        };
        let connection = |ends: forwarder::trace::Ends| {
            let (from, to) = ends.ports?;
            let (client, dvipa) = (SocketAddr::new(ends.source, from), SocketAddr::new(ends.destination, to));
            self.entry_of(&Connection::new(protocol, client, dvipa)?)
        };
        let entry = connection(ends).or_else(|| connection(ends.reversed()))?;
        Some((entry.stack, entry.state))
    }
}

fn way(tables: &Tables, to: StackIndex, dvipa: SocketAddr) -> WayView {
    match tables.way(to, family_of(dvipa.ip())) {
        WayTo::Local => WayView::Local,
        WayTo::None(why) => {
            WayView::None { counter: why.name().to_owned(), sentence: why.sentence().to_owned() }
        }
        WayTo::Carried { encapsulation, longest, next_hop } => {
            WayView::Carried { encapsulation: encapsulation.to_owned(), longest, next_hop: written(next_hop) }
        }
    }
}

fn written(Mac(bytes): Mac) -> String {
    let bytes = bytes.map(|byte| format!("{byte:02x}"));
    bytes.join(":")
}

/// Notes first, and the end last.
fn met(reasons: &[Reason]) -> Vec<Met> {
    let row = |reason: &Reason| Met {
        name: reason.name().to_owned(),
        kind: match reason.kind() {
            Kind::Done => MetKind::Done,
            Kind::Dropped(_) => MetKind::Dropped,
            Kind::Note => MetKind::Note,
        },
        fault: reason.blame(),
        sentence: reason.sentence().to_owned(),
    };
    let (notes, ends): (Vec<Met>, Vec<Met>) =
        reasons.iter().map(row).partition(|met| met.kind == MetKind::Note);
    notes.into_iter().chain(ends).collect()
}

fn passed(passed: &foretell::Passed) -> Passed {
    let given = passed.given.iter().map(|(frame, verdict)| given(*verdict, frame, frame.len(), false));
    Passed { met: met(&passed.reasons), given: given.collect() }
}

fn given(verdict: Verdict, frame: &[u8], len: usize, bytes: bool) -> GivenRow {
    let to = match verdict {
        Verdict::Send(Port::Nic) => "nic",
        Verdict::Send(Port::Local) => "local",
        Verdict::Drop(_) => "dropped",
    };
    GivenRow { to: to.to_owned(), packet: describe(frame), bytes: hexadecimal(frame, bytes), len }
}

fn row(seen: &Traced, unix_ms: u64, bytes: bool) -> TraceRow {
    let came = |(from, Copied { bytes: frame, len }): &(Port, Copied)| CameRow {
        from: if *from == Port::Nic { "nic" } else { "local" }.to_owned(),
        packet: describe(frame),
        bytes: hexadecimal(frame, bytes),
        len: *len,
    };
    let given = seen.given.iter().map(|(verdict, copied)| given(*verdict, &copied.bytes, copied.len, bytes));
    TraceRow {
        unix_ms,
        worker: seen.worker,
        came: seen.came.as_ref().map(came),
        met: met(&seen.reasons),
        given: given.collect(),
        entry: None,
    }
}

/// Nothing, if it is not wanted.
fn hexadecimal(bytes: &[u8], wanted: bool) -> String {
    let mut text = String::with_capacity(if wanted { bytes.len() * 2 } else { 0 });
    for byte in bytes.iter().filter(|_| wanted) {
        let _ = write!(text, "{byte:02x}");
    }
    text
}
