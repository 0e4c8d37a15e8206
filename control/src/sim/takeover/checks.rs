//! What must be true at every instant, as one sees it that sees all hosts and the true time.

use std::collections::{BTreeMap, VecDeque};

use agent::machine::{Event as AgentEvent, Takes};
use model::dpt::Duty;
use model::ports::PortBlocks;
use model::{Connection, Dvipa, Epoch};

use super::history::{End, TARGETS};
use super::host::Host;
use super::routing::{DVIPAS, NODES, Node, State, address, dvipa};
use super::world::World;
use super::{Fault, Scale};

/// What was seen so far.
#[derive(Debug, Default)]
pub(super) struct Record {
    /// Who gained a DVIPA last, in which epoch.
    gained: BTreeMap<Dvipa, (Epoch, usize)>,
    pub(super) gains: u64,
    pub(super) packets: u64,
    /// How many connections have moved.
    pub(super) moved: u64,
    /// The first thing that was wrong.
    pub(super) wrong: Option<String>,
    /// What has happened last.
    pub(super) notes: VecDeque<String>,
}

impl Record {
    pub(super) fn blame(&mut self, what: String) {
        self.wrong.get_or_insert(what);
    }

    /// Where witnesses decide, epochs grow from ownership to ownership, whoever has it.
    pub(super) fn gained(&mut self, node: usize, dvipa: Dvipa, epoch: Epoch, witnessed: bool) {
        self.gains += 1;
        if let Some((last, owner)) = self.gained.insert(dvipa, (epoch, node))
            && last >= epoch
            && (witnessed || owner == node)
        {
            self.blame(format!(
                "epochs do not grow: rt{} gains {dvipa} in {} after rt{} in {}",
                node + 1,
                epoch.0,
                owner + 1,
                last.0
            ));
        }
    }
}

/// How a packet of a connection fares at a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It reaches its connection.
    Arrives,
    /// All that may have it are asked, and one has it.
    AskedFor,
    /// It is lost, and the client sends it again.
    Lost,
    /// Somebody tells the client that there is no such connection.
    Refused,
}

impl World {
    /// Whether a node answers for a DVIPA as its owner at this instant.
    pub(super) fn is_in_effect(&self, node: &Node, dvipa: Dvipa) -> bool {
        let Scale { witnesses, fault, .. } = self.scale;
        let void = witnesses == 0 || fault == Some(Fault::NoFence);
        let fenced = || node.workers.fence.is_some_and(|fence| node.clock.at(self.now) < fence);
        node.forwards() && node.workers.duty(dvipa) == Some(Duty::Owner) && (void || fenced())
    }

    /// Who does.
    pub(super) fn owner(&self, dvipa: Dvipa) -> Option<usize> {
        self.nodes.iter().position(|node| self.is_in_effect(node, dvipa))
    }

    /// At most one node answers for a DVIPA where witnesses decide. In any case a host takes new connections of one at most of those
    /// that have told it that they own the DVIPA.
    pub(super) fn look(&mut self) {
        for at in 0..DVIPAS.len() {
            let dvipa = dvipa(at);
            let owners: Vec<usize> =
                (0..NODES).filter(|node| self.is_in_effect(&self.nodes[*node], dvipa)).collect();
            if owners.len() < 2 {
                continue;
            }
            if self.scale.witnesses > 0 {
                self.record.blame(format!("two owners: {dvipa} is answered for by {owners:?}"));
            }
            for host in &self.hosts[..TARGETS] {
                let takes_all = self.scale.fault == Some(Fault::TargetsTakeAll);
                let takes = |node: &&usize| {
                    if !host.owns.get(node).is_some_and(|owned| owned.contains(&dvipa)) {
                        // It forwards what it got as a partner, or as a former owner, as far as the host has heard.
                        return false;
                    }
                    let takes = host.kernel.takes(address(**node), dvipa);
                    takes == Some(Takes::All) || (takes_all && takes.is_some())
                };
                if owners.iter().filter(takes).count() > 1 {
                    self.record.wrong.get_or_insert_with(|| {
                        format!(
                            "a target accepts from two: {} takes {dvipa} from all of {owners:?}",
                            host.name
                        )
                    });
                }
            }
        }
    }

    /// No two hosts have one block of ports.
    pub(super) fn check_blocks(&mut self) {
        for at in 0..DVIPAS.len() {
            let mut given = PortBlocks::NONE;
            for host in &self.hosts {
                let granted = host.kernel.pools.granted(dvipa(at));
                if let Some(block) = given.intersection(&granted).iter().next() {
                    let who: Vec<&str> = self
                        .hosts
                        .iter()
                        .filter(|h| h.kernel.pools.granted(dvipa(at)).contains(block))
                        .map(|h| h.name.as_str())
                        .collect();
                    return self
                        .record
                        .blame(format!("two hosts have one block: {who:?} have {block} of {}", dvipa(at)));
                }
                given = given.union(&granted);
            }
        }
    }

    /// Every client says something. What it is told is that its connection goes on, or nothing for a while.
    pub(super) fn clients(&mut self) {
        let all: Vec<(usize, Connection)> = self.all_connections();
        for (host, connection) in all {
            let dvipa = connection.service().dvipa;
            let Some(node) = self.place.get(&dvipa).copied() else { continue };
            self.record.packets += 1;
            match self.fate(node, host, &connection) {
                Fate::Refused => {
                    let now = self.now / 1_000_000;
                    let name = self.hosts[host].name.clone();
                    self.record
                        .blame(format!("rt{} refuses {connection}, which {name} has ({now} ms)", node + 1));
                }
                Fate::AskedFor => {
                    self.tell_host(host, vec![AgentEvent::Claimed { connection, closing: false }]);
                }
                Fate::Arrives | Fate::Lost => {}
            }
        }
    }

    /// The connections that go on, and which host has each.
    pub(super) fn all_connections(&self) -> Vec<(usize, Connection)> {
        self.alive.iter().filter_map(|connection| Some((self.home(connection)?, *connection))).collect()
    }

    /// What becomes of a packet that this node receives of a connection that this host has.
    pub(super) fn fate(&self, node: usize, host: usize, connection: &Connection) -> Fate {
        let (node_at, node) = (node, &self.nodes[node]);
        let (dvipa, Host { kernel, name, .. }) = (connection.service().dvipa, &self.hosts[host]);
        let Some(entry) = node.workers.dpt.dvipas.iter().find(|entry| entry.dvipa == dvipa) else {
            return Fate::Lost;
        };
        if !node.forwards() || entry.duty == Duty::Backup {
            return Fate::Lost;
        }
        let is_taken = kernel.takes(address(node_at), dvipa).is_some() && kernel.dvipas.contains_key(&dvipa);
        let serves = kernel.moves.serves(connection);
        let known = node.workers.entries.get(connection);
        match known.map(|known| (known.state, node.workers.stack(known.owner))) {
            // It waits at the node, or makes the connection.
            Some((State::Frozen | State::HandingOver(_), _)) => Fate::Lost,
            Some((State::Established, Some(owner))) if owner == name && is_taken && serves => Fate::Arrives,
            Some((State::Established, Some(owner))) if owner == name => Fate::Lost,
            Some((State::Established, owner)) => {
                let other = self.hosts.iter().find(|host| Some(&host.name) == owner);
                // Its kernel says that it does not have it, unless it is kept from it, or has never heard of the node.
                let hears = |other: &Host| other.kernel.takes(address(node_at), dvipa).is_some();
                let silent = |other: &Host| other.kernel.moves.away(connection).is_some();
                match other {
                    Some(other) if !other.is_dead && hears(other) && !silent(other) => Fate::Refused,
                    Some(_) => Fate::Lost,
                    None => Fate::Refused,
                }
            }
            None => {
                let asked = entry.ask.candidates.iter().any(|c| node.workers.stack(*c) == Some(name));
                // One that holds it back says so, though the packet does not go in.
                let says = serves || self.scale.fault != Some(Fault::FrozenIsSilent);
                match (asked && says, is_taken) {
                    (true, true) => Fate::AskedFor,
                    (true, false) => Fate::Lost,
                    (false, _) if entry.ask.certain && self.has_session(node_at, host) => Fate::Refused,
                    (false, _) => Fate::Lost,
                }
            }
        }
    }

    fn has_session(&self, node: usize, host: usize) -> bool {
        let link = self.links.all.get(&(End::Host(host), End::Node(node)));
        link.is_some_and(|link| link.at[0].is_some() && link.at[0] == link.at[1])
    }
}
