//! The hot path allocates nothing: a packet of every kind passes a worker, plain and odd ones, and the allocator is not
//! called once.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::Arc;

use baton_forwarder::crt::{Config, Crt, Now};
use baton_forwarder::tables::Family;
use baton_forwarder::{
    Counters, Fence, Limits, Looks, Mac, Neighbours, Node, PacketBuffer, Port, Reason, Sink, Tables,
    TestPacket, Verdict, Worker,
};
use etherparse::PacketBuilder;
use model::dpt::{
    Ask, Distribution, Dpt, DvipaEntry, Encapsulation, Method, Reach, Refuse, Shared, StackEntry, StackState,
    WeightedTarget,
};
use model::limits::Rate;
use model::quic::{Configuration, Key};
use model::{ClusterAddress, Dvipa, DvipaIndex, Protocol, StackIndex, StackName};

/// Counts the calls of the thread that asks for it.
struct Counting;

thread_local! {
    static CALLS: Cell<Option<u64>> = const { Cell::new(None) };
}

fn count() {
    // A thread that ends allocates too; nobody counts that.
    let _ = CALLS.try_with(|calls| calls.set(calls.get().map(|n| n + 1)));
}

// SAFETY: every call is handed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count();
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller's promise is passed on.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How often `work` calls the allocator.
fn calls(work: impl FnOnce()) -> u64 {
    CALLS.set(Some(0));
    work();
    CALLS.replace(None).unwrap()
}

/// Keeps packets in memory taken beforehand.
struct Pool {
    spare: Vec<TestPacket>,
    given: Vec<(TestPacket, Verdict)>,
}

impl Sink<TestPacket> for Pool {
    fn give(&mut self, packet: TestPacket, verdict: Verdict) {
        assert!(self.given.len() < self.given.capacity(), "the test's own memory is enough");
        self.given.push((packet, verdict));
    }

    fn spare(&mut self) -> Option<TestPacket> {
        self.spare.pop()
    }
}

const CLIENT: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 2);
const DVIPA: Ipv4Addr = Ipv4Addr::new(198, 18, 9, 1);
const CLIENT6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2);
const DVIPA6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 9, 0, 0, 0, 0, 1);
const NODE: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 10);
const NODE_MAC: Mac = Mac([2, 0, 0, 0, 0, 0x10]);

/// Connection IDs as they are, as one block, and mixed in four passes.
fn quic() -> Vec<Configuration> {
    let configuration = |rotation: u8, nonce_bytes, key| Configuration {
        rotation,
        server_id_bytes: 4,
        nonce_bytes,
        key,
        length_in_first_octet: rotation == 0,
        server_ids: Vec::new(),
    };
    let key = Some(Key([7; 16]));
    vec![configuration(0, 6, None), configuration(1, 12, key), configuration(2, 5, key)]
}

/// What a client sends to a server of this stack.
fn said(configuration: &Configuration, stack: &str) -> Vec<u8> {
    let algorithm = quiclb::Algorithm::new(configuration).unwrap();
    let server = quiclb::derived(&StackName::new(stack).unwrap(), 4).unwrap();
    let id = algorithm.connection_id(server, &vec![9; algorithm.nonce_bytes()], 0).unwrap();
    [&[0x40][..], &id, &[0; 30]].concat()
}

/// A client may begin three connections, and all of them five.
fn few() -> model::Limits {
    let rate = |burst| Some(Rate { per_s: NonZeroU32::MIN, burst: NonZeroU32::new(burst)? });
    model::Limits { service: rate(5), client: rate(3) }
}

/// Four targets, one for each method on the ports from 80 on, IPIP and GUE.
fn tables() -> Tables {
    let address = |i: u8| Ipv4Addr::new(198, 18, 0, 20 + i);
    let stacks = (0..4_u16).map(|i| StackEntry {
        index: StackIndex(i),
        name: StackName::new(format!("t{i}")).unwrap(),
        reach: Reach::Remote {
            cluster_address: ClusterAddress { v4: Some(address(i as u8)), v6: None },
            encapsulation: if i % 2 == 0 { Encapsulation::Ipip } else { Encapsulation::Gue },
        },
        state: StackState::Up,
    });
    let services = [DvipaIndex(0), DvipaIndex(1)].into_iter().flat_map(|d| {
        [Protocol::Tcp, Protocol::Udp]
            .into_iter()
            .flat_map(move |p| Method::ALL.into_iter().zip(80..).map(move |m| (d, p, m)))
    });
    let distributions = services.map(|(dvipa, protocol, (method, port))| Distribution {
        dvipa,
        port,
        protocol,
        method,
        targets: (0..4).map(|i| WeightedTarget { stack: StackIndex(i), weight: 1 + i }).collect(),
        serving: (0..4).map(StackIndex).collect(),
        policies: vec![],
        refuse: Refuse::Reset,
        max_connections: None,
        affinity: None,
        limits: if port == 81 { few() } else { model::Limits::NONE },
        routing: None,
        quic: if protocol == Protocol::Udp { quic().into() } else { Shared::default() },
    });
    let dvipas = [DVIPA.into(), DVIPA6.into()].into_iter().zip(0..);
    let dpt = Dpt {
        generation: 1,
        dvipas: dvipas
            .map(|(a, i)| {
                let ask = Ask { candidates: (0..4).map(StackIndex).collect(), certain: true };
                DvipaEntry { ask, ..DvipaEntry::new(DvipaIndex(i), Dvipa::new(a)) }.into()
            })
            .collect(),
        stacks: stacks.collect(),
        distributions: distributions.map(Into::into).collect(),
    };
    let mut neighbours = Neighbours::new();
    (0..4).for_each(|i| neighbours.set(StackIndex(i), Family::V4, Mac([2, 0, 0, 0, 1, i as u8])));
    let cluster_address = ClusterAddress { v4: Some(NODE), v6: None };
    Tables::build(
        &dpt,
        &neighbours,
        &Node {
            mac: NODE_MAC,
            cluster_address,
            fabric_mtu: 1500,
            vlan: None,
            fence: Fence::default(),
            looks: {
                let looks = Looks::default();
                (0..256)
                    .for_each(|stack| looks.looked(StackIndex(stack), Now { ms: 0 }, Now { ms: u64::MAX }));
                looks
            },
        },
    )
}

fn frame(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = Vec::new();
    write(&mut bytes);
    bytes
}

/// One packet of each kind that the path tells apart.
fn frames() -> Vec<Vec<u8>> {
    let from_client = || PacketBuilder::ethernet2([2, 0, 0, 0, 0, 2], NODE_MAC.0);
    let v4 = || from_client().ipv4(CLIENT.octets(), DVIPA.octets(), 64);
    let v6 = || from_client().ipv6(CLIENT6.octets(), DVIPA6.octets(), 64);
    let mut frames = vec![b"scrap".to_vec()];
    for port in 80..88 {
        for client_port in 1024..1034 {
            frames.push(frame(|b| v4().tcp(client_port, port, 1, 1).syn().write(b, &[]).unwrap()));
            frames.push(frame(|b| v4().tcp(client_port, port, 2, 1).ack(1).write(b, b"data").unwrap()));
            frames.push(frame(|b| v6().tcp(client_port, port, 1, 1).syn().write(b, &[]).unwrap()));
            frames.push(frame(|b| v6().udp(client_port, port).write(b, b"data").unwrap()));
            frames.push(frame(|b| v4().udp(client_port, port).write(b, b"data").unwrap()));
        }
    }
    for (configuration, port) in quic().iter().zip(3000..) {
        for stack in ["t0", "t1", "t9"] {
            let said = said(configuration, stack);
            frames.push(frame(|b| v4().udp(port, 80).write(b, &said).unwrap()));
            frames.push(frame(|b| v6().udp(port, 80).write(b, &said).unwrap()));
        }
    }
    frames.push(frame(|b| v4().udp(3100, 80).write(b, &[0xc0, 0, 0, 0, 1, 4, 1, 2, 3, 4]).unwrap()));
    frames.push(frame(|b| v4().tcp(9, 80, 2, 1).ack(1).write(b, b"no connection").unwrap()));
    frames.push(frame(|b| v4().udp(1024, 80).write(b, &[0; 1472]).unwrap()));
    frames.push(frame(|b| v6().udp(1024, 80).write(b, &[0; 1452]).unwrap()));
    frames.push(frame(|b| v4().icmpv4_echo_request(1, 1).write(b, &[0; 56]).unwrap()));
    frames.push(frame(|b| v6().icmpv6_echo_request(1, 1).write(b, &[0; 56]).unwrap()));
    frames.push(frame(|b| {
        from_client().ipv4(CLIENT.octets(), DVIPA.octets(), 1).udp(1, 80).write(b, b"").unwrap()
    }));
    let target =
        PacketBuilder::ethernet2([2, 0, 0, 0, 1, 0], NODE_MAC.0).ipv4([198, 18, 0, 20], NODE.octets(), 64);
    let inner = PacketBuilder::ipv4(DVIPA.octets(), CLIENT.octets(), 64).tcp(40000, 443, 1, 1).syn();
    let inner = [vec![0, 4, 0, 0], frame(|b| inner.write(b, &[]).unwrap())].concat();
    frames.push(frame(|b| target.udp(50000, 6080).write(b, &inner).unwrap()));
    // A whole datagram that may be fragmented, and is too big; then the same cut, the last part first.
    let whole = frame(|b| v4().udp(2000, 80).write(b, &[0; 1472]).unwrap());
    for flags in [[0, 0], [0, 9], [0x20, 0]] {
        let mut part = whole.clone();
        part[20..22].copy_from_slice(&flags);
        let mut header = etherparse::Ipv4Header::from_slice(&part[14..]).unwrap().0;
        header.header_checksum = header.calc_header_checksum();
        part[14..34].copy_from_slice(&header.to_bytes());
        frames.push(part);
    }
    frames
}

#[test]
fn no_kind_of_packet_makes_a_worker_call_the_allocator() {
    let (tables, counters) = (tables(), Arc::new(Counters::new()));
    let config = Config {
        connections_v4: 4096,
        connections_v6: 4096,
        half_open: 4096,
        fragments: 64,
        ..Config::default()
    };
    let crt = Crt::new(&config).unwrap();
    let mut worker = Worker::new(Limits::default(), Arc::clone(&counters));
    let frames = frames();
    let mut bursts: Vec<Vec<_>> =
        (0..4).map(|_| frames.iter().map(|f| Some(TestPacket::new(f))).collect()).collect();
    let mut pool =
        Pool { spare: vec![TestPacket::new(&[]); 256], given: Vec::with_capacity(frames.len() * 5 + 256) };
    let calls = calls(|| {
        for (burst, ms) in bursts.iter_mut().zip(1..) {
            let (now, from) = (Now { ms: ms * 1000 }, if ms % 2 == 0 { Port::Local } else { Port::Nic });
            worker.process(burst, from, &tables, &crt, now, &mut pool);
            for later in (0..400).step_by(8) {
                worker.expire(&tables, &crt, Now { ms: now.ms + later }, &mut pool);
            }
        }
    });
    assert_eq!(calls, 0, "calls of the allocator");
    let kinds = [
        Reason::Forwarded,
        Reason::ForwardedNew,
        Reason::ForwardedFragment,
        Reason::Outgoing,
        Reason::AnsweredEcho,
        Reason::AnsweredTooBig,
        Reason::AnsweredTimeExceeded,
        Reason::QuicFollowed,
        Reason::QuicUnknown,
        Reason::QuicUnroutable,
        Reason::FragmentMade,
        Reason::FragmentHeld,
        Reason::ClientLimited,
        Reason::NotDistributed,
        Reason::Asked,
        Reason::Unclaimed,
        Reason::RefusedReset,
    ];
    for reason in kinds {
        assert!(counters.get(reason) > 0, "the packets of this test include none that is {}", reason.name());
    }
    assert!(pool.given.iter().any(|(p, _)| p.bytes().len() > 1400));
}
