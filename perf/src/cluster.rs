//! The cluster that packets go through: two DVIPAs, and two stacks that are reached in different ways and serve a port each.

use forwarder::crt::{Config, Crt};
use forwarder::tables::Family;
use forwarder::{Mac, Neighbours, Node, Now, Tables};
use model::dpt::{
    Distribution, Dpt, DvipaEntry, Encapsulation, Method, Reach, Refuse, StackEntry, StackState,
    WeightedTarget,
};
use model::{ClusterAddress, Dvipa, Protocol, StackIndex, StackName};

use crate::frames::{DVIPA, DVIPA6, Frames, Kind, NODE_MAC, V4, V6};

/// Stacks by how packets reach them; each serves its own port.
const IPIP: StackIndex = StackIndex(1);
const GUE: StackIndex = StackIndex(2);

/// Which packets, and how they are carried on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Traffic {
    pub(crate) kind: Kind,
    pub(crate) gue: bool,
    pub(crate) flows: u32,
}

impl Traffic {
    /// The stack that has its connections.
    pub(crate) fn owner(self) -> StackIndex {
        if self.gue { GUE } else { IPIP }
    }

    /// Its packets.
    pub(crate) fn frames(self) -> Frames {
        Frames::new(self.kind, 8000 + self.owner().0)
    }

    /// A CRT with its flows established; without any, if each packet opens a connection.
    ///
    /// # Errors
    /// The system's, if the memory can't be had.
    ///
    /// # Panics
    /// If the table refuses a flow that it has room for.
    pub(crate) fn crt(self) -> std::io::Result<Crt> {
        let (frames, flows) = (self.frames(), if self.kind == Kind::Syn { 0 } else { self.flows });
        let room = flows.max(1000) as usize;
        let (v4, v6) = if frames.is_v6() { (0, room) } else { (room, 0) };
        let crt = Crt::new(&Config { connections_v4: v4, connections_v6: v6, ..Config::default() })?;
        for n in 0..flows {
            let done = if frames.is_v6() {
                crt.newconn(frames.key_v6(n), self.owner(), Now::default())
            } else {
                crt.newconn(frames.key_v4(n), self.owner(), Now::default())
            };
            assert!(done.is_ok(), "flow {n} of {flows}: {done:?}");
        }
        Ok(crt)
    }
}

/// What the workers know of the cluster.
pub(crate) fn tables() -> Tables {
    let stack = |index: StackIndex, encapsulation| StackEntry {
        index,
        name: StackName::new(format!("t{}", index.0)).unwrap_or_else(|e| unreachable!("{e}")),
        reach: Reach::Remote {
            cluster_address: ClusterAddress { v4: Some([198, 18, 0, index.0 as u8].into()), v6: None },
            encapsulation,
        },
        state: StackState::Up,
    };
    let stacks = vec![stack(IPIP, Encapsulation::Ipip), stack(GUE, Encapsulation::Gue)];
    let mut distributions = Vec::new();
    for (dvipa, protocol) in
        [V4, V6].into_iter().flat_map(|dvipa| [(dvipa, Protocol::Tcp), (dvipa, Protocol::Udp)])
    {
        distributions.extend([IPIP, GUE].map(|stack| Distribution {
            dvipa,
            port: 8000 + stack.0,
            protocol,
            method: Method::RoundRobin,
            targets: vec![WeightedTarget { stack, weight: 1 }],
            serving: vec![stack],
            policies: vec![],
            refuse: Refuse::Reset,
        }));
    }
    let dvipas =
        vec![DvipaEntry::new(V4, Dvipa::new(DVIPA.into())), DvipaEntry::new(V6, Dvipa::new(DVIPA6.into()))];
    let mut neighbours = Neighbours::new();
    for stack in [IPIP, GUE] {
        neighbours.set(stack, Family::V4, Mac([2, 0, 0, 0, 1, stack.0 as u8]));
    }
    let cluster_address = ClusterAddress { v4: Some([198, 18, 0, 10].into()), v6: None };
    let node = Node { mac: Mac(NODE_MAC), cluster_address, fabric_mtu: 1500, vlan: None };
    Tables::build(&Dpt { generation: 1, dvipas, stacks, distributions }, &neighbours, &node)
}
