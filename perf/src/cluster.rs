//! The cluster that packets go through: two DVIPAs, sixteen stacks that serve them, and the node's own, which serves another
//! port.

use forwarder::crt::{Config, Crt};
use forwarder::tables::Family;
use forwarder::{Fence, Looks, Mac, Neighbours, Node, Now, Tables};
use model::dpt::{
    Ask, Distribution, Dpt, DvipaEntry, Encapsulation, Method, Reach, Refuse, Routing, Shared, StackEntry,
    StackState, WeightedTarget,
};
use model::{ClusterAddress, Dvipa, Protocol, StackIndex, StackName};

use crate::frames::{DVIPA, DVIPA6, Frames, Kind, NODE_MAC, V4, V6, VLAN};
use crate::renewal;
use crate::timing::A_MS;

/// Targets: stacks 1 to 16.
pub(crate) const TARGETS: u16 = 16;
/// The node's own stack.
const LOCAL: u16 = TARGETS + 1;

/// How packets are carried to the targets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Carried {
    /// To all of them in IPIP.
    Ipip,
    /// To all of them in GUE.
    Gue,
    /// To every other one in GUE, to the rest in IPIP.
    Mixed,
}

/// Who serves the port that packets are to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum To {
    /// All targets.
    Targets,
    /// The node's own stack.
    Local,
    /// Nobody.
    Nobody,
}

impl To {
    fn port(self) -> u16 {
        8000 + self as u16
    }

    fn stacks(self) -> Vec<u16> {
        match self {
            To::Targets => (1..=TARGETS).collect(),
            To::Local => vec![LOCAL],
            To::Nobody => vec![],
        }
    }
}

/// Which packets, and where to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Traffic {
    pub(crate) kind: Kind,
    pub(crate) to: To,
    pub(crate) carried: Carried,
    /// Connections that they are spread over; 0: each is of one that nobody knows.
    pub(crate) flows: u32,
    /// With a VLAN tag, and so they are sent on.
    pub(crate) tagged: bool,
    /// Of 32 packets one is a SYN of a new connection, and two are UDP.
    pub(crate) mixed: bool,
    /// The tables are full of new connections.
    pub(crate) full: bool,
    /// Packets in a millisecond of the clock.
    pub(crate) a_ms: u64,
}

impl Traffic {
    /// Acknowledgements of so many connections over IPv4, carried on in IPIP.
    pub(crate) fn ack(flows: u32) -> Self {
        let (kind, to, carried) = (Kind::Ack, To::Targets, Carried::Ipip);
        Self { kind, to, carried, flows, tagged: false, mixed: false, full: false, a_ms: A_MS }
    }

    /// Packets over IPv4 that are each of a connection of its own.
    pub(crate) fn new(kind: Kind) -> Self {
        Self { kind, ..Self::ack(0) }
    }

    /// Its packets of one kind.
    pub(crate) fn frames(self, kind: Kind) -> Frames {
        Frames::new(kind, self.to.port(), self.tagged)
    }

    /// Whether each packet makes an entry in a table that must have room for it.
    pub(crate) fn needs_room(self) -> bool {
        let opens = matches!(self.kind, Kind::Syn | Kind::Udp);
        self.flows == 0 && opens && self.to != To::Nobody && !self.full
    }

    /// How often the use of its connections is written down, in milliseconds.
    pub(crate) fn renewal_ms(self) -> u64 {
        renewal::interval_ms(self.kind.protocol())
    }

    /// A CRT with its connections established, the use of each written down when `written` says.
    ///
    /// # Errors
    /// The system's, if the memory can't be had.
    ///
    /// # Panics
    /// If the table refuses a connection that it has room for.
    pub(crate) fn crt(self, written: impl Fn(Protocol, u32) -> Now) -> std::io::Result<Crt> {
        let kinds = if self.mixed { vec![self.kind, Kind::Udp] } else { vec![self.kind] };
        let room = (self.flows as usize * kinds.len()).max(1000);
        let (v4, v6) = if self.kind.is_v6() { (0, room) } else { (room, 0) };
        let flows = (self.flows as usize).max(Config::default().flows);
        let crt = Crt::new(&Config { connections_v4: v4, connections_v6: v6, flows, ..Config::default() })?;
        let stacks = self.to.stacks();
        for kind in kinds {
            let frames = self.frames(kind);
            for (n, stack) in (0..self.flows).zip(stacks.iter().cycle()) {
                let (owner, at) = (StackIndex(*stack), written(kind.protocol(), n));
                let done = if kind.is_v6() {
                    crt.newconn(frames.key_v6(n), owner, at)
                } else {
                    crt.newconn(frames.key_v4(n), owner, at)
                };
                assert!(done.is_ok(), "connection {n} of {}: {done:?}", self.flows);
            }
        }
        Ok(crt)
    }

    /// What the workers know of the cluster.
    pub(crate) fn tables(self) -> Tables {
        self.tables_with(None)
    }

    /// The same, where the targets' TCP port of both DVIPAs has these routes.
    pub(crate) fn tables_with(self, routing: Option<Routing>) -> Tables {
        let reach = |n: u16| {
            let cluster_address = ClusterAddress { v4: Some([198, 18, 0, n as u8].into()), v6: None };
            let encapsulation = match self.carried {
                Carried::Mixed if n.is_multiple_of(2) => Encapsulation::Gue,
                Carried::Ipip | Carried::Mixed => Encapsulation::Ipip,
                Carried::Gue => Encapsulation::Gue,
            };
            if n == LOCAL { Reach::Local } else { Reach::Remote { cluster_address, encapsulation } }
        };
        let stacks = (1..=LOCAL).map(|n| StackEntry {
            index: StackIndex(n),
            name: StackName::new(format!("t{n}")).unwrap_or_else(|e| unreachable!("{e}")),
            reach: reach(n),
            state: StackState::Up,
        });
        let candidates: Vec<_> = (1..=TARGETS).map(StackIndex).collect();
        let dvipa = |index, address| {
            let ask = Ask { candidates: candidates.clone(), certain: true };
            DvipaEntry { ask, ..DvipaEntry::new(index, Dvipa::new(address)) }
        };
        let dvipas = vec![dvipa(V4, DVIPA.into()).into(), dvipa(V6, DVIPA6.into()).into()];
        let mut neighbours = Neighbours::new();
        for n in 1..=TARGETS {
            neighbours.set(StackIndex(n), Family::V4, Mac([2, 0, 0, 0, 1, n as u8]));
        }
        let cluster_address = ClusterAddress { v4: Some([198, 18, 1, 0].into()), v6: None };
        let vlan = self.tagged.then_some(VLAN);
        let node = Node {
            mac: Mac(NODE_MAC),
            cluster_address,
            fabric_mtu: 1500,
            vlan,
            fence: Fence::default(),
            looks: Looks::default(),
        };
        let (stacks, distributions) =
            (stacks.collect(), distributions(&routing).into_iter().map(Into::into).collect());
        Tables::build(&Dpt { generation: 1, dvipas, stacks, distributions }, &neighbours, &node)
    }
}

fn is_routed(to: To, protocol: Protocol) -> bool {
    (to, protocol) == (To::Targets, Protocol::Tcp)
}

/// Each protocol's ports, of both DVIPAs. One that nobody distributes would be the node's own.
fn distributions(routing: &Option<Routing>) -> Vec<Distribution> {
    let mut all = Vec::new();
    for dvipa in [V4, V6] {
        for to in [To::Targets, To::Local, To::Nobody] {
            all.extend([Protocol::Tcp, Protocol::Udp].map(|protocol| {
                Distribution {
                    dvipa,
                    port: to.port(),
                    protocol,
                    method: Method::RoundRobin,
                    targets: to
                        .stacks()
                        .into_iter()
                        .map(|n| WeightedTarget { stack: StackIndex(n), weight: 1 })
                        .collect(),
                    serving: to.stacks().into_iter().map(StackIndex).collect(),
                    policies: vec![],
                    refuse: Refuse::Reset,
                    max_connections: None,
                    affinity: None,
                    limits: model::Limits::NONE,
                    routing: if is_routed(to, protocol) { routing.clone() } else { None },
                    quic: Shared::default(),
                }
            }));
        }
    }
    all
}
