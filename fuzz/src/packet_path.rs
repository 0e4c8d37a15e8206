//! Bursts of any frames through a worker with tables.
//!
//! Input: records of one byte of choice, two bytes of length (little-endian) and as many bytes of frame. The byte's low
//! bit chooses the port; bit 1 lets a second pass before; bit 2 repairs the IPv4 header checksum, so that a changed
//! packet gets further than the first check; bit 3 ends the burst.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::rc::Rc;
use std::sync::Arc;

use forwarder::crt::{Config, Crt, CrtState, Entry, KeyV4, KeyV6};
use forwarder::tables::Family;
use forwarder::{
    Counters, Fence, Kind, Limits, Looks, Mac, Neighbours, Node, Now, PacketBuffer, Port, Reason, Sink,
    Tables, TestPacket, Verdict, Worker,
};
use model::dpt::{
    Ask, Distribution, Dpt, DvipaEntry, Encapsulation, Method, Reach, Refuse, Shared, StackEntry, StackState,
    WeightedTarget,
};
use model::quic::{Assigned, Configuration, Key, ServerId};
use model::{ClusterAddress, Dvipa, DvipaIndex, Protocol, StackIndex, StackName};

/// The longest frame that is taken: what an mbuf holds.
const LONGEST: usize = 2048;

/// A record of the input that has this frame arrive at the NIC.
pub fn record(frame: &[u8]) -> Vec<u8> {
    let frame = frame.get(..LONGEST).unwrap_or(frame);
    [&[4][..], &(frame.len() as u16).to_le_bytes(), frame].concat()
}

thread_local! {
    /// Made once: they take longer than an input.
    static TABLES: Rc<Tables> = Rc::new(tables());
}

/// Counts what comes out and looks at it.
#[derive(Default)]
struct Outlet {
    given: usize,
    spares: usize,
}

impl Sink<TestPacket> for Outlet {
    fn give(&mut self, packet: TestPacket, verdict: Verdict) {
        self.given += 1;
        if let Verdict::Send(_) = verdict {
            assert!(
                packet.bytes().len() <= LONGEST + 128,
                "a frame of {} bytes was sent",
                packet.bytes().len()
            );
        }
    }

    fn spare(&mut self) -> Option<TestPacket> {
        self.spares += 1;
        Some(TestPacket::new(&[]))
    }
}

/// A worker and a CRT that know nothing yet, so that an input does the same each time. The CRT is small, so that it is
/// full soon.
pub struct Bench {
    worker: Worker<TestPacket>,
    tables: Rc<Tables>,
    crt: Crt,
    counters: Arc<Counters>,
    now: Now,
    outlet: Outlet,
    taken: usize,
}

impl Default for Bench {
    fn default() -> Self {
        let counters = Arc::new(Counters::new());
        let config = Config {
            connections_v4: 64,
            connections_v6: 64,
            half_open: 64,
            fragments: 64,
            ..Config::default()
        };
        let crt = Crt::new(&config).expect("memory for a small CRT");
        enter(&crt);
        let limits = Limits { held: 8, ..Limits::default() };
        Self {
            worker: Worker::new(limits, Arc::clone(&counters)),
            tables: TABLES.with(Rc::clone),
            crt,
            counters,
            now: Now { ms: 1000 },
            outlet: Outlet::default(),
            taken: 0,
        }
    }
}

/// A connection in each state, from the client and port that the replay cases use.
fn enter(crt: &Crt) {
    let start = Now { ms: 0 };
    for (state, port) in CrtState::ALL.into_iter().zip(40_000..) {
        let owner = StackIndex(port % 4);
        let v4 = KeyV4::new(Ipv4Addr::new(198, 18, 0, 2), port, DvipaIndex(0), 80, Protocol::Tcp);
        let v6 = KeyV6::new(
            Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2),
            port,
            DvipaIndex(1),
            80,
            Protocol::Tcp,
        );
        let (established, entry) = (Entry { owner, state: CrtState::Established }, Entry { owner, state });
        crt.newconn(v4, owner, start).expect("there is room");
        crt.newconn(v6, owner, start).expect("there is room");
        crt.change(v4, established, entry, start).expect("it is as expected");
        crt.change(v6, established, entry, start).expect("it is as expected");
    }
}

/// Connection IDs that begin with 0 to 2 and name each of the stacks by one byte, as they are and encrypted in both ways.
fn quic() -> Vec<Configuration> {
    let stack = |index: u8| StackName::new(format!("t{index}")).expect("a label");
    let id = |index| ServerId::new(&[index]).expect("a byte");
    let given = |index| Assigned { stack: stack(index), id: id(index) };
    let configuration = |(rotation, nonce_bytes, key): (u8, u8, Option<Key>)| Configuration {
        rotation,
        server_id_bytes: 1,
        nonce_bytes,
        key,
        length_in_first_octet: rotation == 0,
        server_ids: (0..4).map(given).collect(),
    };
    [(0, 4, None), (1, 15, Some(Key([1; 16]))), (2, 6, Some(Key([2; 16])))].map(configuration).into()
}

/// Four stacks, one of each kind; two DVIPAs; a service for each method.
fn tables() -> Tables {
    let v4 = |last| Some(Ipv4Addr::new(198, 18, 0, last));
    let v6 = |last| Some(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last));
    let remote =
        |v4, v6, encapsulation| Reach::Remote { cluster_address: ClusterAddress { v4, v6 }, encapsulation };
    let reaches = [
        remote(v4(21), None, Encapsulation::Ipip),
        remote(v4(22), v6(0x22), Encapsulation::Gue),
        remote(None, v6(0x23), Encapsulation::Gue),
        remote(v4(24), None, Encapsulation::L2),
        Reach::Local,
    ];
    let stack = |(reach, index): (Reach, u16)| StackEntry {
        index: StackIndex(index),
        name: StackName::new(format!("t{index}")).expect("a label"),
        reach,
        state: StackState::Up,
    };
    let stacks: Shared<Vec<_>> = reaches.into_iter().zip(0..).map(stack).collect();
    let targets: Vec<_> =
        stacks.iter().map(|s| WeightedTarget { stack: s.index, weight: 1 + s.index.0 }).collect();
    let dvipas = [Ipv4Addr::new(198, 18, 9, 1).into(), Ipv6Addr::new(0x2001, 0xdb8, 9, 0, 0, 0, 0, 1).into()];
    let ask = Ask { candidates: stacks.iter().map(|s| s.index).collect(), certain: true };
    let dvipa = |(a, i)| DvipaEntry { ask: ask.clone(), ..DvipaEntry::new(DvipaIndex(i), Dvipa::new(a)) };
    let dvipas: Vec<_> = dvipas.into_iter().zip(0..).map(dvipa).map(Shared::from).collect();
    let services = [
        (80, Protocol::Tcp, Method::RoundRobin),
        (81, Protocol::Tcp, Method::LeastConnections),
        (82, Protocol::Tcp, Method::PowerOfTwo),
        (443, Protocol::Tcp, Method::WeightedRoundRobin),
        (53, Protocol::Udp, Method::Maglev),
    ];
    let distributions = dvipas.iter().flat_map(|d| {
        services.map(|(port, protocol, method)| Distribution {
            dvipa: d.index,
            port,
            protocol,
            method,
            targets: targets.clone(),
            serving: targets.iter().map(|target| target.stack).collect(),
            policies: vec![],
            refuse: Refuse::Reset,
            max_connections: None,
            affinity: None,
            limits: model::Limits::NONE,
            routing: None,
            quic: if protocol == Protocol::Udp { quic().into() } else { Shared::default() },
        })
    });
    let distributions = distributions.map(Shared::from).collect();
    let mut neighbours = Neighbours::new();
    for stack in stacks.iter() {
        neighbours.set(stack.index, Family::V4, Mac([2, 0, 0, 0, 0, 0x21]));
        neighbours.set(stack.index, Family::V6, Mac([2, 0, 0, 0, 0, 0x21]));
    }
    let node = Node {
        mac: Mac([2, 0, 0, 0, 0, 0x10]),
        cluster_address: ClusterAddress { v4: v4(10), v6: v6(0x10) },
        fabric_mtu: 1500,
        vlan: None,
        fence: Fence::default(),
        looks: Looks::default(),
    };
    Tables::build(&Dpt { generation: 1, dvipas, stacks, distributions }, &neighbours, &node)
}

impl Bench {
    /// One burst.
    pub fn burst(&mut self, frames: &[Vec<u8>], from: Port) {
        let mut burst: Vec<_> = frames.iter().map(|f| Some(TestPacket::new(f))).collect();
        self.taken += burst.len();
        self.worker.process(&mut burst, from, &self.tables, &self.crt, self.now, &mut self.outlet);
        assert!(burst.iter().all(Option::is_none), "a packet of the burst was left");
    }

    /// Lets held packets go, and checks that nothing was lost, doubled or left uncounted.
    pub fn settle(&mut self) {
        self.now.ms += 60_000;
        self.worker.expire(&self.tables, &self.crt, self.now, &mut self.outlet);
        self.crt.age(self.now, 64);
        let ends = Reason::ALL.iter().filter(|r| !matches!(r.kind(), Kind::Note));
        let ends: u64 = ends.map(|r| self.counters.get(*r)).sum();
        assert_eq!(ends, self.taken as u64, "packets taken, and ends counted");
        assert_eq!(
            self.outlet.given,
            self.taken + self.outlet.spares,
            "packets given to the sink, and taken"
        );
    }
}

/// Runs one input.
pub fn run(data: &[u8]) {
    let mut bench = Bench::default();
    let (mut rest, mut frames, mut port) = (data, Vec::new(), Port::Nic);
    while let Some(([choice, l0, l1], behind)) = rest.split_first_chunk::<3>() {
        let length = usize::from(u16::from_le_bytes([*l0, *l1])).min(LONGEST).min(behind.len());
        let (frame, behind) = behind.split_at(length);
        rest = behind;
        let arrives = if choice & 1 == 1 { Port::Local } else { Port::Nic };
        if arrives != port || choice & 8 != 0 || frames.len() == 64 {
            bench.burst(&std::mem::take(&mut frames), port);
            port = arrives;
        }
        bench.now.ms += u64::from(choice & 2) * 500;
        frames.push(if choice & 4 == 0 { frame.to_vec() } else { repaired(frame) });
    }
    bench.burst(&frames, port);
    bench.settle();
}

/// A frame whose IPv4 header checksum is right, if it has an IPv4 header.
pub fn repaired(frame: &[u8]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    let at = if frame.get(12..14) == Some(&[0x81, 0]) { 18 } else { 14 };
    let length = frame.get(at).map_or(0, |b| usize::from(b & 15) * 4);
    if let Some(header) = frame.get_mut(at..at + length).filter(|h| h.len() >= 20 && h[0] >> 4 == 4) {
        header[10..12].fill(0);
        let sum: u32 = header.chunks_exact(2).map(|w| u32::from(u16::from_be_bytes([w[0], w[1]]))).sum();
        let sum = (sum & 0xffff) + (sum >> 16);
        let checksum = !((sum & 0xffff) + (sum >> 16)) as u16;
        header[10..12].copy_from_slice(&checksum.to_be_bytes());
    }
    frame
}
