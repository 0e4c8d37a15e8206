//! One worker in a small cluster, and packets for it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use etherparse::{NetSlice, PacketBuilder, PacketBuilderStep, SlicedPacket};
use model::dpt::{
    Ask, Distribution, Dpt, DvipaEntry, Encapsulation, Method, Reach, Refuse, Shared, StackEntry, StackState,
    WeightedTarget,
};
use model::{ClusterAddress, Dvipa, DvipaIndex, Protocol, StackIndex, StackName};

use crate::crt::{Config, Crt, KeyV4, KeyV6, Now};
use crate::packet::Sum;
use crate::tables::Family;
use crate::{
    Counters, Fence, Limits, Looks, Mac, Neighbours, Node, PacketBuffer, Port, Reason, Sink, Tables,
    TestPacket, Verdict, Worker,
};

pub(super) const NODE_MAC: Mac = Mac([2, 0, 0, 0, 0, 0x10]);
pub(super) const CLIENT_MAC: Mac = Mac([2, 0, 0, 0, 0, 2]);
pub(super) const CLIENT: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 2);
pub(super) const CLIENT6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2);
pub(super) const NODE: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 10);
pub(super) const NODE6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x10);
pub(super) const DVIPA: Ipv4Addr = Ipv4Addr::new(198, 18, 9, 1);
pub(super) const DVIPA6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 9, 0, 0, 0, 0, 1);
/// The index of each of them.
pub(super) const V4: DvipaIndex = DvipaIndex(0);
pub(super) const V6: DvipaIndex = DvipaIndex(1);

/// The stacks, named by how their packets reach them. Each serves the TCP and UDP port 8000 + its index alone.
pub(super) const LOCAL: StackIndex = StackIndex(0);
pub(super) const GUE: StackIndex = StackIndex(1);
pub(super) const IPIP: StackIndex = StackIndex(2);
pub(super) const L2: StackIndex = StackIndex(3);
pub(super) const GUE6: StackIndex = StackIndex(4);
pub(super) const IPIP6: StackIndex = StackIndex(5);
pub(super) const UNRESOLVED: StackIndex = StackIndex(6);

pub(super) fn port_of(stack: StackIndex) -> u16 {
    8000 + stack.0
}

pub(super) fn stack_v4(stack: StackIndex) -> Ipv4Addr {
    Ipv4Addr::new(198, 18, 0, 20 + stack.0 as u8)
}

pub(super) fn stack_v6(stack: StackIndex) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x20 + stack.0)
}

pub(super) fn stack_mac(stack: StackIndex) -> Mac {
    Mac([2, 0, 0, 0, 1, stack.0 as u8])
}

fn stack(index: StackIndex, reach: Reach) -> StackEntry {
    let name = StackName::new(format!("s{}", index.0)).unwrap();
    StackEntry { index, name, reach, state: StackState::Up }
}

fn remote(index: StackIndex, encapsulation: Encapsulation, v6_only: bool) -> StackEntry {
    let v4 = (!v6_only).then(|| stack_v4(index));
    let cluster_address = ClusterAddress { v4, v6: Some(stack_v6(index)) };
    stack(index, Reach::Remote { cluster_address, encapsulation })
}

/// The DPT of the small cluster.
pub(super) fn dpt() -> Dpt {
    let stacks = Shared::from(vec![
        stack(LOCAL, Reach::Local),
        remote(GUE, Encapsulation::Gue, false),
        remote(IPIP, Encapsulation::Ipip, false),
        remote(L2, Encapsulation::L2, false),
        remote(GUE6, Encapsulation::Gue, true),
        remote(IPIP6, Encapsulation::Ipip, true),
        remote(UNRESOLVED, Encapsulation::Gue, false),
    ]);
    let mut distributions = Vec::new();
    for (dvipa, protocol) in [V4, V6].into_iter().flat_map(|d| [(d, Protocol::Tcp), (d, Protocol::Udp)]) {
        let row = |s: &StackEntry| Distribution {
            dvipa,
            port: port_of(s.index),
            protocol,
            method: Method::RoundRobin,
            targets: vec![WeightedTarget { stack: s.index, weight: 1 }],
            serving: vec![s.index],
            policies: vec![],
            refuse: Refuse::Reset,
            max_connections: None,
            affinity: None,
            limits: model::Limits::NONE,
            routing: None,
            quic: Shared::default(),
        };
        distributions.extend(stacks.iter().map(row).map(Shared::from));
    }
    let ask = Ask { candidates: vec![LOCAL, GUE, IPIP, L2], certain: true };
    let dvipa =
        |index, address| DvipaEntry { ask: ask.clone(), ..DvipaEntry::new(index, Dvipa::new(address)) };
    let dvipas = vec![dvipa(V4, DVIPA.into()).into(), dvipa(V6, DVIPA6.into()).into()];
    Dpt { generation: 1, dvipas, stacks, distributions }
}

/// The same cluster without an agent on the routing node: its own kernel is no stack of it.
pub(super) fn without_own_stack() -> Dpt {
    let mut dpt = dpt();
    dpt.stacks.retain(|stack| stack.index != LOCAL);
    dpt.distributions.retain(|distribution| distribution.port != port_of(LOCAL));
    dpt
}

pub(super) fn node() -> Node {
    let cluster_address = ClusterAddress { v4: Some(NODE), v6: Some(NODE6) };
    let looks = Looks::default();
    (0..256).for_each(|stack| looks.looked(StackIndex(stack), Now { ms: 0 }, Now { ms: u64::MAX }));
    Node { mac: NODE_MAC, cluster_address, fabric_mtu: 1500, vlan: None, fence: Fence::default(), looks }
}

pub(super) fn neighbours() -> Neighbours {
    let mut neighbours = Neighbours::new();
    for stack in [GUE, IPIP, L2, GUE6, IPIP6] {
        neighbours.set(stack, Family::V4, stack_mac(stack));
        neighbours.set(stack, Family::V6, stack_mac(stack));
    }
    neighbours
}

/// What left the path.
#[derive(Default)]
pub(super) struct Outlet {
    pub(super) given: Vec<(TestPacket, Verdict)>,
    pub(super) no_spare: bool,
}

impl Sink<TestPacket> for Outlet {
    fn give(&mut self, packet: TestPacket, verdict: Verdict) {
        self.given.push((packet, verdict));
    }

    fn spare(&mut self) -> Option<TestPacket> {
        (!self.no_spare).then(|| TestPacket::new(&[]))
    }
}

/// The worker and what it works on.
pub(super) struct Bench {
    pub(super) worker: Worker<TestPacket>,
    pub(super) tables: Tables,
    pub(super) crt: Crt,
    pub(super) counters: Arc<Counters>,
    pub(super) now: Now,
    pub(super) outlet: Outlet,
}

impl Bench {
    pub(super) fn new() -> Self {
        Self::with(&dpt(), &node())
    }

    pub(super) fn with(dpt: &Dpt, node: &Node) -> Self {
        let counters = Arc::new(Counters::new());
        let config = Config {
            connections_v4: 1024,
            connections_v6: 1024,
            half_open: 1024,
            fragments: 64,
            ..Config::default()
        };
        Self {
            worker: Worker::new(
                Limits {
                    held: 4,
                    held_of_one: 4,
                    held_ms: 1000,
                    frozen: 6,
                    frozen_of_one: 4,
                    frozen_ms: 2000,
                    asks: 64,
                    unclaimed: 1024,
                    ..Limits::default()
                },
                Arc::clone(&counters),
            ),
            tables: Tables::build(dpt, &neighbours(), node),
            crt: Crt::new(&config).unwrap(),
            counters,
            now: Now { ms: 1000 },
            outlet: Outlet::default(),
        }
    }

    /// Lets a burst pass; returns all that came out.
    pub(super) fn burst<F: AsRef<[u8]>>(&mut self, frames: &[F], from: Port) -> Vec<(Vec<u8>, Verdict)> {
        let mut burst: Vec<_> = frames.iter().map(|f| Some(TestPacket::new(f.as_ref()))).collect();
        self.worker.process(&mut burst, from, &self.tables, &self.crt, self.now, &mut self.outlet);
        assert!(burst.iter().all(Option::is_none), "every packet of a burst is taken");
        self.outlet.given.drain(..).map(|(p, v)| (p.bytes().to_vec(), v)).collect()
    }

    /// What a worker does in a turn in which no packet comes: late, as it looks at old packets every millisecond only.
    pub(super) fn turn(&mut self, late: bool) -> Vec<(Vec<u8>, Verdict)> {
        if late {
            self.worker.expire(&self.tables, &self.crt, self.now, &mut self.outlet);
        } else {
            self.worker.thaw(&self.tables, &self.crt, self.now, &mut self.outlet);
        }
        self.outlet.given.drain(..).map(|(p, v)| (p.bytes().to_vec(), v)).collect()
    }

    /// Lets one packet from the NIC pass that has exactly one result.
    pub(super) fn one(&mut self, frame: &[u8]) -> (Vec<u8>, Verdict) {
        let mut out = self.burst(&[frame], Port::Nic);
        assert_eq!(out.len(), 1, "one in, one out");
        out.remove(0)
    }

    /// Lets one packet pass that is sent through the NIC; returns it.
    pub(super) fn sent(&mut self, frame: &[u8]) -> Vec<u8> {
        let (out, verdict) = self.one(frame);
        assert_eq!(verdict, Verdict::Send(Port::Nic), "sent");
        out
    }

    /// Lets one packet pass that is dropped; returns why.
    pub(super) fn dropped(&mut self, frame: &[u8]) -> Reason {
        match self.one(frame).1 {
            Verdict::Drop(reason) => reason,
            Verdict::Send(port) => panic!("sent through {port:?}"),
        }
    }

    pub(super) fn count(&self, reason: Reason) -> u64 {
        self.counters.get(reason)
    }

    /// Makes an established connection with the client's port.
    pub(super) fn establish(&self, client_port: u16, port: u16, protocol: Protocol, owner: StackIndex) {
        self.crt.newconn(KeyV4::new(CLIENT, client_port, V4, port, protocol), owner, self.now).unwrap();
        self.crt.newconn(KeyV6::new(CLIENT6, client_port, V6, port, protocol), owner, self.now).unwrap();
    }
}

/// A packet's beginning: Ethernet and IP from the client to the DVIPA.
pub(super) fn to_dvipa(family: Family) -> PacketBuilderStep<etherparse::IpHeaders> {
    let ethernet = PacketBuilder::ethernet2(CLIENT_MAC.0, NODE_MAC.0);
    match family {
        Family::V4 => ethernet.ipv4(CLIENT.octets(), DVIPA.octets(), 64),
        Family::V6 => ethernet.ipv6(CLIENT6.octets(), DVIPA6.octets(), 64),
    }
}

/// The bytes of a packet that a builder made.
macro_rules! frame {
    ($step:expr, $payload:expr) => {{
        let (step, payload) = ($step, $payload);
        let mut bytes = Vec::with_capacity(step.size(payload.len()));
        step.write(&mut bytes, payload).unwrap();
        bytes
    }};
}
pub(super) use frame;

pub(super) fn syn(family: Family, client_port: u16, port: u16) -> Vec<u8> {
    frame!(to_dvipa(family).tcp(client_port, port, 1, 65535).syn(), &[])
}

pub(super) fn ack(family: Family, client_port: u16, port: u16) -> Vec<u8> {
    frame!(to_dvipa(family).tcp(client_port, port, 2, 65535).ack(9), b"hello")
}

pub(super) fn udp(family: Family, client_port: u16, port: u16, payload: &[u8]) -> Vec<u8> {
    frame!(to_dvipa(family).udp(client_port, port), payload)
}

/// A frame with a VLAN's tag.
pub(super) fn in_vlan(vlan: u8, frame: &[u8]) -> Vec<u8> {
    [&frame[..12], &[0x81, 0, 0, vlan], &frame[12..]].concat()
}

/// Addresses of the outermost IP header, its payload's protocol, its TTL, and the header checksum verified.
pub(super) fn outer(frame: &[u8]) -> (IpAddr, IpAddr, u8, u8) {
    let sliced = SlicedPacket::from_ethernet(frame).unwrap();
    match sliced.net.unwrap() {
        NetSlice::Ipv4(ip) => {
            let h = ip.header().to_header();
            assert_eq!(h.header_checksum, h.calc_header_checksum(), "outer header checksum");
            (h.source.into(), h.destination.into(), h.protocol.0, h.time_to_live)
        }
        NetSlice::Ipv6(ip) => {
            let h = ip.header();
            (h.source_addr().into(), h.destination_addr().into(), h.next_header().0, h.hop_limit())
        }
        other => panic!("{other:?}"),
    }
}

/// A frame's IP packet as it should arrive: hops counted down once, padding gone.
pub(super) fn counted_down(frame: &[u8]) -> Vec<u8> {
    let mut packet = frame[14..].to_vec();
    if packet[0] >> 4 == 4 {
        let mut header = etherparse::Ipv4Header::from_slice(&packet).unwrap().0;
        packet.truncate(usize::from(header.total_len));
        header.time_to_live -= 1;
        header.header_checksum = header.calc_header_checksum();
        let bytes = header.to_bytes();
        packet[..bytes.len()].copy_from_slice(&bytes);
    } else {
        packet.truncate(40 + usize::from(u16::from_be_bytes([packet[4], packet[5]])));
        packet[7] -= 1;
    }
    packet
}

/// Puts the right checksum into an untagged frame's IPv4 header.
pub(super) fn mend(frame: &mut [u8]) {
    let end = 14 + usize::from(frame[14] & 15) * 4;
    (frame[24], frame[25]) = (0, 0);
    let sum = Sum::ZERO.bytes(&frame[14..end]).finish();
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
}
