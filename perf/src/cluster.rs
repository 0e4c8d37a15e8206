//! The cluster that packets go through: two DVIPAs, and sixteen stacks that serve them.

use forwarder::crt::{Config, Crt};
use forwarder::tables::Family;
use forwarder::{Mac, Neighbours, Node, Now, Tables};
use model::dpt::{
    Distribution, Dpt, DvipaEntry, Encapsulation, Method, Reach, Refuse, StackEntry, StackState,
    WeightedTarget,
};
use model::{ClusterAddress, Dvipa, Protocol, StackIndex, StackName};

use crate::frames::{DVIPA, DVIPA6, Frames, Kind, NODE_MAC, V4, V6};
use crate::renewal;

/// Targets: stacks 1 to 16.
const TARGETS: u16 = 16;
/// The port that all of them serve.
const PORT: u16 = 8000;

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

/// Which packets, and how they are carried on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Traffic {
    pub(crate) kind: Kind,
    pub(crate) carried: Carried,
    pub(crate) flows: u32,
}

impl Traffic {
    /// Acknowledgements of so many connections over IPv4, carried on in IPIP.
    pub(crate) fn ack(flows: u32) -> Self {
        Self { kind: Kind::Ack, carried: Carried::Ipip, flows }
    }

    /// Its packets.
    pub(crate) fn frames(self) -> Frames {
        Frames::new(self.kind, PORT)
    }

    fn protocol(self) -> Protocol {
        if self.kind == Kind::Udp { Protocol::Udp } else { Protocol::Tcp }
    }

    /// How often the use of its flows is written down, in milliseconds.
    pub(crate) fn renewal_ms(self) -> u64 {
        renewal::interval_ms(self.protocol())
    }

    /// When its clock starts.
    pub(crate) fn start(self) -> Now {
        renewal::start(self.protocol())
    }

    /// When the use of a flow was written down last before that, if it is used all the time.
    pub(crate) fn written(self, flow: u32) -> Now {
        renewal::written(self.protocol(), flow)
    }

    /// A CRT with its flows established and the use of each written down when `written` says; without any, if each packet opens
    /// a connection.
    ///
    /// # Errors
    /// The system's, if the memory can't be had.
    ///
    /// # Panics
    /// If the table refuses a flow that it has room for.
    pub(crate) fn crt(self, written: impl Fn(u32) -> Now) -> std::io::Result<Crt> {
        let (frames, flows) = (self.frames(), if self.kind == Kind::Syn { 0 } else { self.flows });
        let room = flows.max(1000) as usize;
        let (v4, v6) = if frames.is_v6() { (0, room) } else { (room, 0) };
        let crt = Crt::new(&Config { connections_v4: v4, connections_v6: v6, ..Config::default() })?;
        for n in 0..flows {
            let (owner, at) = (owner(n), written(n));
            let done = if frames.is_v6() {
                crt.newconn(frames.key_v6(n), owner, at)
            } else {
                crt.newconn(frames.key_v4(n), owner, at)
            };
            assert!(done.is_ok(), "flow {n} of {flows}: {done:?}");
        }
        Ok(crt)
    }

    /// What the workers know of the cluster.
    pub(crate) fn tables(self) -> Tables {
        let encapsulation = |index| match self.carried {
            Carried::Mixed if index % 2 == 0 => Encapsulation::Gue,
            Carried::Ipip | Carried::Mixed => Encapsulation::Ipip,
            Carried::Gue => Encapsulation::Gue,
        };
        tables(encapsulation)
    }
}

/// The stack that has a flow.
fn owner(n: u32) -> StackIndex {
    StackIndex(1 + n as u16 % TARGETS)
}

fn tables(encapsulation: impl Fn(u16) -> Encapsulation) -> Tables {
    let stack = |index: u16| StackEntry {
        index: StackIndex(index),
        name: StackName::new(format!("t{index}")).unwrap_or_else(|e| unreachable!("{e}")),
        reach: Reach::Remote {
            cluster_address: ClusterAddress { v4: Some([198, 18, 0, index as u8].into()), v6: None },
            encapsulation: encapsulation(index),
        },
        state: StackState::Up,
    };
    let services = [V4, V6].into_iter().flat_map(|dvipa| [(dvipa, Protocol::Tcp), (dvipa, Protocol::Udp)]);
    let distributions = services.map(|(dvipa, protocol)| Distribution {
        dvipa,
        port: PORT,
        protocol,
        method: Method::RoundRobin,
        targets: (1..=TARGETS).map(|n| WeightedTarget { stack: StackIndex(n), weight: 1 }).collect(),
        policies: vec![],
    });
    let dvipas = vec![
        DvipaEntry { index: V4, dvipa: Dvipa::new(DVIPA.into()) },
        DvipaEntry { index: V6, dvipa: Dvipa::new(DVIPA6.into()) },
    ];
    let mut neighbours = Neighbours::new();
    for n in 1..=TARGETS {
        neighbours.set(StackIndex(n), Family::V4, Mac([2, 0, 0, 0, 1, n as u8]));
    }
    let cluster_address = ClusterAddress { v4: Some([198, 18, 1, 0].into()), v6: None };
    let node = Node { mac: Mac(NODE_MAC), cluster_address, fabric_mtu: 1500, vlan: None };
    let stacks = (1..=TARGETS).map(stack).collect();
    let distributions = distributions.collect();
    Tables::build(&Dpt { generation: 1, dvipas, stacks, distributions }, &neighbours, &node)
}
