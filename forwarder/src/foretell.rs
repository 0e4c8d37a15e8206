//! What would become of a packet, asked without one: it is made, and passes the path over copies of all that the path changes.
//!
//! So the answer is the path's own. A [`Worker`] that holds nothing else takes the packet; the tables are the workers' with rotations of
//! their own ([`Tables`]), and the CRT is a [stand-in](Crt::stand_in) that knows the one connection. What only a running worker knows is
//! left out: how full its limits are, which connections it remembers that nobody has, which requests it follows. For the control
//! thread: it allocates.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use model::{DvipaIndex, Protocol};

use crate::crt::{Crt, Entry, KeyParts};
use crate::packet::frame::{self, Ip, Link, Segment};
use crate::packet::transport::{TCP_BYTES, UDP_BYTES, flags};
use crate::packet::{Mac, Ports, ipv4, ipv6, protocol};
use crate::{
    AnyKey, Counters, Handoffs, Kind, Limits, Node, Now, PacketBuffer, Port, Reason, Sink, Tables,
    TestPacket, Verdict, Worker,
};

/// The client's router, as this node sees it: any host's address.
const ROUTER: Mac = Mac([2, 0, 0, 0, 0, 1]);

/// A packet of a client that is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question {
    /// The client's address and port.
    pub client: SocketAddr,
    /// The DVIPA and its port: of the same family.
    pub dvipa: SocketAddr,
    /// TCP or UDP, and which segment it is.
    pub kind: Asked,
    /// Bytes from the IP header on; at least its headers.
    pub bytes: u16,
    /// TTL or hop limit.
    pub hops: u8,
}

/// Which packet it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// A segment that opens a connection.
    Syn,
    /// A segment in the middle of a connection.
    Ack,
    /// A segment that ends one at once.
    Rst,
    /// A datagram of UDP.
    Datagram,
}

impl Asked {
    /// TCP or UDP.
    pub fn protocol(self) -> Protocol {
        if self == Asked::Datagram { Protocol::Udp } else { Protocol::Tcp }
    }
}

/// What the path did with a packet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Passed {
    /// What it was counted as, and what happened besides.
    pub reasons: Vec<Reason>,
    /// What came out, and where it went.
    pub given: Vec<(Vec<u8>, Verdict)>,
}

impl Passed {
    /// What the packet ended as; none: it waits.
    pub fn end(&self) -> Option<Reason> {
        self.reasons.iter().copied().find(|reason| reason.kind() != Kind::Note)
    }
}

/// What would become of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Foretold {
    /// The frame that was asked about.
    pub frame: Vec<u8>,
    /// What the CRT knows of its connection.
    pub entry: Option<Entry>,
    /// What it would know then.
    pub entry_then: Option<Entry>,
    /// What would become of it at once.
    pub at_once: Passed,
    /// And if it waits for something: what would become of it if that does not happen. None if that is the stacks' answer to a question.
    pub later: Option<Passed>,
}

/// What packets meet.
#[derive(Clone, Copy, Debug)]
pub struct World<'a> {
    /// The workers' tables.
    pub tables: &'a Tables,
    /// Connections that are being handed over.
    pub handoffs: &'a Arc<Handoffs>,
    /// The CRT.
    pub crt: &'a Crt,
    /// The time.
    pub now: Now,
}

/// Says what would become of a packet that comes from the NIC.
///
/// # Errors
/// The system's, if the memory for a stand-in of the CRT can't be had.
pub fn foretell(question: &Question, world: World<'_>) -> io::Result<Foretold> {
    let World { tables, handoffs, crt, now } = world;
    let protocol = question.kind.protocol();
    // A key that is never found.
    let dvipa = tables.dvipa(question.dvipa.ip()).unwrap_or(DvipaIndex(u16::MAX));
    let port = question.dvipa.port();
    let key = AnyKey::from(KeyParts { client: question.client, dvipa, dvipa_port: port, protocol });
    let stand_in = match key {
        AnyKey::V4(key) => crt.stand_in(key, now)?,
        AnyKey::V6(key) => crt.stand_in(key, now)?,
    };
    let entry = key.entry(&stand_in, now);
    let tables = tables.apart(dvipa, port, protocol);
    let frame = frame(question, tables.node());

    let mut dry = Dry { worker: worker(handoffs), outlet: Outlet::default(), before: [0; Reason::COUNT] };
    let mut burst = [Some(TestPacket::new(&frame))];
    dry.worker.process(&mut burst, Port::Nic, &tables, &stand_in, now, &mut dry.outlet);
    let at_once = dry.passed();
    let later = wait_ms(&at_once).map(|ms| {
        let then = Now { ms: now.ms.saturating_add(ms) };
        dry.worker.expire(&tables, &stand_in, then, &mut dry.outlet);
        dry.passed()
    });
    let entry_then = key.entry(&stand_in, now);
    Ok(Foretold { frame, entry, entry_then, at_once, later })
}

/// For how long a packet waits for something that need not happen.
fn wait_ms(passed: &Passed) -> Option<u64> {
    let limits = Limits::default();
    let waits = |reason: &Reason| match reason {
        Reason::UnservedHeld => Some(limits.unserved_ms),
        Reason::QuietHeld => Some(limits.quiet_ms),
        Reason::FrozenHeld => Some(limits.frozen_ms),
        _ => None,
    };
    passed.reasons.iter().find_map(waits)
}

/// A worker with room for one packet, and a running one's times.
fn worker(handoffs: &Arc<Handoffs>) -> Worker<TestPacket> {
    let few = 8;
    let limits = Limits {
        held: few,
        held_of_one: few,
        frozen: few,
        frozen_of_one: few,
        asks: few,
        ask_held: few,
        unclaimed: few,
        unserved: few,
        quiet: few,
        requests: few,
        request_packets: few,
        handed: few,
        followed: few,
        reselected: few,
        shares: few,
        ..Limits::default()
    };
    let mut worker = Worker::new(limits, Arc::new(Counters::new()));
    worker.set_handoffs(handoffs);
    worker
}

/// A worker, and what it has given so far.
struct Dry {
    worker: Worker<TestPacket>,
    outlet: Outlet,
    before: [u64; Reason::COUNT],
}

impl Dry {
    /// What happened since this was asked last.
    fn passed(&mut self) -> Passed {
        let mut reasons = Vec::new();
        for (reason, before) in Reason::ALL.iter().zip(&mut self.before) {
            let count = self.worker.counters().get(*reason);
            if count > *before && !matches!(reason, Reason::ReceivedNic | Reason::ReceivedLocal) {
                reasons.push(*reason);
            }
            *before = count;
        }
        Passed { reasons, given: std::mem::take(&mut self.outlet.0) }
    }
}

#[derive(Default)]
struct Outlet(Vec<(Vec<u8>, Verdict)>);

impl Sink<TestPacket> for Outlet {
    fn give(&mut self, packet: TestPacket, verdict: Verdict) {
        self.0.push((packet.bytes().to_vec(), verdict));
    }

    fn spare(&mut self) -> Option<TestPacket> {
        Some(TestPacket::new(&[]))
    }
}

/// The packet as this node would receive it.
fn frame(question: &Question, node: &Node) -> Vec<u8> {
    let Question { client, dvipa, kind, bytes, hops } = *question;
    let link = Link::new(node.mac, ROUTER, node.vlan);
    let ip_bytes = if dvipa.is_ipv4() { ipv4::HEADER_BYTES } else { ipv6::HEADER_BYTES };
    let data = |transport_bytes: usize| {
        let headers = ip_bytes.saturating_add(transport_bytes);
        vec![0; usize::from(bytes).saturating_sub(headers)]
    };
    let ports = Ports { source: client.port(), destination: dvipa.port() };
    let ip = |protocol| with_hops(Ip::new(client.ip(), dvipa.ip(), protocol), hops);
    let flags = match kind {
        Asked::Syn => flags::SYN,
        Asked::Ack => flags::ACK,
        Asked::Rst => flags::RST,
        Asked::Datagram => return datagram(&link, ip(protocol::UDP), ports, &data(UDP_BYTES)),
    };
    let acknowledgment = u32::from(kind == Asked::Ack);
    let segment = Segment { ports, sequence: 1, acknowledgment, flags, window: u16::MAX, timestamps: None };
    let data = data(TCP_BYTES);
    [&frame::segment_with(&link, ip(protocol::TCP), segment, &[], &data)[..], &data].concat()
}

fn datagram(link: &Link, ip: Ip, ports: Ports, data: &[u8]) -> Vec<u8> {
    let len = UDP_BYTES.saturating_add(data.len()) as u16;
    let header = |checksum: u16| {
        let words = [ports.source, ports.destination, len, checksum];
        words.map(u16::to_be_bytes).concat()
    };
    let sum = ip.pseudo_header(len).bytes(&header(0)).bytes(data).finish();
    [&frame::head(link, ip, len)[..], &header(sum), data].concat()
}

fn with_hops(ip: Ip, hops: u8) -> Ip {
    match ip {
        Ip::V4(header) => Ip::V4(ipv4::Header { ttl: hops, ..header }),
        Ip::V6(header) => Ip::V6(ipv6::Header { hop_limit: hops, ..header }),
    }
}

/// Whether an address is of IPv4: a packet's family is its DVIPA's.
pub fn family_of(address: IpAddr) -> crate::tables::Family {
    if address.is_ipv4() { crate::tables::Family::V4 } else { crate::tables::Family::V6 }
}
