//! The worker, whose every route has a target of its own.

use std::net::Ipv4Addr;
use std::ops::Range;
use std::sync::Arc;

use baton_forwarder::crt::{Config, Crt, Now};
use baton_forwarder::tables::Family;
use baton_forwarder::{
    Counters, Fence, Limits, Looks, Mac, Neighbours, Node as Place, PacketBuffer, Pool, Pools, Port, Sink,
    Tables, TestPacket, Verdict, Worker,
};
use etherparse::{PacketBuilder, SlicedPacket, TransportSlice};
use fastrand::Rng;
use model::dpt::{
    Ask, Distribution, Dpt, DvipaEntry, Encapsulation, Method, Reach, Refuse, Routing, Shared, StackEntry,
    StackState, WeightedTarget,
};
use model::handoff::Token;
use model::route::RouteSet;
use model::{ClusterAddress, Dvipa, DvipaIndex, Protocol, StackIndex, StackName};
use routes::Routes;

use crate::Chosen;

const DVIPA: Ipv4Addr = Ipv4Addr::new(198, 18, 9, 1);
const PORT: u16 = 80;
const NODE_MAC: Mac = Mac([2, 0, 0, 0, 0, 0x10]);
const FIRST: u32 = 7_000;
/// After this a client repeats what was not acknowledged, in milliseconds.
const REPEATS_MS: u64 = 300;
/// How long after the last one of a client the next one comes, in milliseconds: so that none of it waits any more.
const APART_MS: u64 = 2_000;

pub(crate) struct Node {
    pub(crate) routes: Routes,
    worker: Worker<TestPacket>,
    tables: Tables,
    crt: Crt,
    now: Now,
    clients: u16,
    pools: Vec<Arc<Pool>>,
    token: u64,
}

#[derive(Default)]
struct Sent(Vec<Vec<u8>>);

impl Sink<TestPacket> for Sent {
    fn give(&mut self, packet: TestPacket, verdict: Verdict) {
        if let Verdict::Send(_) = verdict {
            self.0.push(packet.bytes().to_vec());
        }
    }

    fn spare(&mut self) -> Option<TestPacket> {
        Some(TestPacket::new(&[]))
    }
}

impl Node {
    pub(crate) fn new(set: &RouteSet) -> Self {
        let stacks = set.routes.len() as u16;
        let mut worker = Worker::new(Limits::default(), Arc::new(Counters::new()));
        let pools: Vec<_> = (0..stacks).map(|_| Arc::new(Pool::new(4))).collect();
        let all = pools.iter().zip(0..);
        let all =
            all.fold(Pools::default(), |all, (pool, n)| all.with(StackIndex(n), Some(Arc::clone(pool))));
        worker.set_pools(&Arc::new(all));
        let room = Config { connections_v4: 4096, connections_v6: 0, ..Config::default() };
        Self {
            routes: Routes::compile(set).expect("they were tried"),
            worker,
            tables: tables(set),
            crt: Crt::new(&room).expect("memory"),
            now: Now { ms: 1_000_000 },
            clients: 0,
            pools,
            token: 0,
        }
    }

    /// What is done with a request that comes in these segments, in any order, and is repeated as often as TCP does.
    pub(crate) fn ask(&mut self, request: &[u8], segments: &[Range<usize>], rng: &mut Rng) -> Chosen {
        self.clients += 1;
        for pool in &self.pools {
            self.token += 1;
            pool.fill(Token::new(self.token));
        }
        let port = 1024 + self.clients;
        let of = |sequence| {
            PacketBuilder::ethernet2([2, 0, 0, 0, 0, 2], NODE_MAC.0)
                .ipv4([198, 18, 1, 1], DVIPA.octets(), 64)
                .tcp(port, PORT, sequence, 65_000)
        };
        let mut syn = Vec::new();
        of(FIRST).syn().write(&mut syn, &[]).expect("a frame");
        let answers = self.takes(&syn);
        let [answer] = &answers[..] else { panic!("{answers:?}") };
        let sent = tcp(answer).0.wrapping_add(1);
        let parts: Vec<Vec<u8>> = segments
            .iter()
            .map(|part| {
                let mut frame = Vec::new();
                let written = of(FIRST + 1 + part.start as u32)
                    .ack(sent)
                    .psh()
                    .write(&mut frame, &request[part.clone()]);
                written.expect("a frame");
                frame
            })
            .collect();
        let mut order: Vec<usize> = (0..parts.len()).collect();
        if rng.u8(..3) == 0 {
            rng.shuffle(&mut order);
        }
        let mut chosen = None;
        for round in [order, (0..parts.len()).collect(), (0..parts.len()).collect()] {
            for part in round {
                let out = self.takes(&parts[part]);
                chosen = chosen.or_else(|| out.iter().find_map(|frame| outcome(frame)));
                if chosen.is_some() {
                    break;
                }
            }
            if chosen.is_some() {
                break;
            }
            self.now.ms += REPEATS_MS;
        }
        self.passes(APART_MS);
        chosen.unwrap_or(Chosen::Unread)
    }

    fn takes(&mut self, frame: &[u8]) -> Vec<Vec<u8>> {
        let (mut burst, mut sent) = ([Some(TestPacket::new(frame))], Sent::default());
        self.worker.process(&mut burst, Port::Nic, &self.tables, &self.crt, self.now, &mut sent);
        sent.0
    }

    /// So much time passes, in which what waits is given up.
    fn passes(&mut self, ms: u64) {
        for _ in 0..2 {
            self.now.ms += ms / 2;
            self.worker.expire(&self.tables, &self.crt, self.now, &mut Sent::default());
        }
    }
}

/// What a frame that the worker sent says of the request: it is one to a target, or a refusal.
fn outcome(frame: &[u8]) -> Option<Chosen> {
    if let [2, 0, 0, 0, 1, stack, ..] = frame {
        return Some(Chosen::Route((*stack).into()));
    }
    let (_, data) = tcp(frame);
    let status = data.get(9..12)?;
    Some(if matches!(status, b"404" | b"421") { Chosen::None } else { Chosen::Unread })
}

/// A frame's sequence number and data.
fn tcp(frame: &[u8]) -> (u32, Vec<u8>) {
    match SlicedPacket::from_ethernet(frame).expect("a frame").transport {
        Some(TransportSlice::Tcp(tcp)) => (tcp.sequence_number(), tcp.payload().to_vec()),
        other => panic!("{other:?}"),
    }
}

fn tables(set: &RouteSet) -> Tables {
    let stacks = 0..set.routes.len() as u16;
    let target = |n: u16| WeightedTarget { stack: StackIndex(n), weight: 1 };
    let row = Distribution {
        dvipa: DvipaIndex(0),
        port: PORT,
        protocol: Protocol::Tcp,
        method: Method::RoundRobin,
        targets: stacks.clone().map(target).collect(),
        serving: stacks.clone().map(StackIndex).collect(),
        policies: vec![],
        refuse: Refuse::Reset,
        max_connections: None,
        affinity: None,
        limits: model::Limits::NONE,
        routing: Some(Routing {
            set: set.clone().into(),
            targets: stacks.clone().map(|n| vec![target(n)]).collect(),
        }),
        quic: Shared::default(),
    };
    let stack = |n: u16| StackEntry {
        index: StackIndex(n),
        name: StackName::new(format!("t{n}")).expect("a name"),
        reach: Reach::Remote {
            cluster_address: ClusterAddress { v4: Some(Ipv4Addr::new(198, 18, 0, 20 + n as u8)), v6: None },
            encapsulation: Encapsulation::Gue,
        },
        state: StackState::Up,
    };
    let ask = Ask { candidates: stacks.clone().map(StackIndex).collect(), certain: true };
    let dvipa = DvipaEntry { ask, ..DvipaEntry::new(DvipaIndex(0), Dvipa::new(DVIPA.into())) };
    let mut neighbours = Neighbours::new();
    stacks.clone().for_each(|n| neighbours.set(StackIndex(n), Family::V4, Mac([2, 0, 0, 0, 1, n as u8])));
    let dpt = Dpt {
        generation: 1,
        dvipas: vec![dvipa.into()],
        stacks: stacks.map(stack).collect(),
        distributions: vec![row.into()],
    };
    let node = Place {
        mac: NODE_MAC,
        cluster_address: ClusterAddress { v4: Some(Ipv4Addr::new(198, 18, 0, 10)), v6: None },
        fabric_mtu: 1500,
        vlan: None,
        fence: Fence::default(),
        looks: Looks::default(),
    };
    Tables::build(&dpt, &neighbours, &node)
}
