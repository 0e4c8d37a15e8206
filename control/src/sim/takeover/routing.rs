//! A routing node: its machine, what its workers know, and what outlives its process.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Instant;

use histories::{Clock, Nanos};
use model::dpt::{Dpt, Duty, StackState};
use model::handoff::Token;
use model::numbering::Numbering;
use model::{ClusterAddress, Connection, Dvipa, Epoch, StackIndex, StackName};

use super::world::Parcel;
use super::{Fault, Scale};
use crate::config::{Config, RoutingStack as RoutingStackAt};
use crate::machine::fixture::{config, name};
use crate::machine::{Identity, RoutingStack};

/// Routing nodes: `rt1` to `rt3`.
pub(super) const NODES: usize = 3;
/// What they define: of each DVIPA one is the primary, the next ones are backups.
pub(super) const DVIPAS: [&str; 3] = ["198.18.9.1", "2001:db8:9::1", "198.18.9.2"];
/// The ports of each DVIPA that are distributed.
pub(super) const DISTRIBUTED: [&[u16]; 3] = [&[80], &[80, 443], &[443]];

/// Which definitions of a node are in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Settings {
    Usual,
    /// Its own DVIPA has one more port.
    MorePorts,
    /// It does not define its own DVIPA.
    NoPrimary,
    /// It defines nothing.
    Nothing,
}

impl Settings {
    pub(super) const EVERY: [Self; 6] =
        [Self::Usual, Self::Usual, Self::Usual, Self::MorePorts, Self::NoPrimary, Self::Nothing];

    fn text(self, node: usize) -> String {
        if self == Self::Nothing {
            return String::new();
        }
        let mut text = "[[vipadynamic]]\n".to_owned();
        for (at, dvipa) in DVIPAS.iter().enumerate() {
            let distance = (node + NODES - at) % NODES;
            if distance > 0 {
                let rank = 300 - 100 * distance;
                text += &format!("[[vipadynamic.vipabackup]]\naddress = \"{dvipa}\"\nrank = {rank}\n");
            } else if self != Self::NoPrimary {
                let (mask, moveable) = [(24, "immediate"), (64, "immediate"), (24, "whenidle")][at];
                text += &format!(
                    "[[vipadynamic.vipadefine]]\naddress = \"{dvipa}\"\nmask = {mask}\nmoveable = \"{moveable}\"\n"
                );
            }
        }
        for (at, dvipa) in DVIPAS.iter().enumerate() {
            let distance = (node + NODES - at) % NODES;
            if distance == 0 && self == Self::NoPrimary {
                continue;
            }
            let mut ports = DISTRIBUTED[at].to_vec();
            ports.extend((self == Self::MorePorts && distance == 0).then_some(8080));
            text += &format!(
                "[[vipadynamic.vipadistribute]]\naddress = \"{dvipa}\"\nports = {ports:?}\ndestip = [\"t1\", \"t2\", \"t3\"]\n"
            );
        }
        text
    }

    /// The configuration of a node with them.
    pub(super) fn config(self, node: usize, scale: Scale) -> Config {
        let mut config = config(&self.text(node));
        config.node.name = name(&format!("rt{}", node + 1));
        config.node.cluster_address = address(node);
        let others = (0..NODES).filter(|other| *other != node);
        let other = |other: usize| RoutingStackAt {
            name: name(&format!("rt{}", other + 1)),
            address: format!("198.18.0.1{}:7441", other + 1).parse().expect("an address"),
        };
        config.routing_stacks = others.map(other).collect();
        config.cluster.witnesses = (0..scale.witnesses).map(|host| name(&format!("t{}", host + 1))).collect();
        config
    }
}

/// The cluster address of a node.
pub(super) fn address(node: usize) -> ClusterAddress {
    let last = u8::try_from(node + 11).expect("few nodes");
    ClusterAddress::from_addresses(&[[198, 18, 0, last].into()]).expect("an address")
}

pub(super) fn dvipa(at: usize) -> Dvipa {
    Dvipa::new(DVIPAS[at].parse().expect("an address"))
}

/// A routing node.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) name: StackName,
    pub(super) clock: Clock,
    /// `None`: it is down.
    pub(super) machine: Option<RoutingStack>,
    pub(super) stopped: Option<Stopped>,
    pub(super) inbox: VecDeque<Parcel>,
    pub(super) settings: Settings,
    pub(super) workers: Workers,
    pub(super) leaves: bool,
    pub(super) due: Option<Nanos>,
    /// What is beside a table that outlives its process.
    pub(super) former: Option<Numbering>,
}

/// A process that stands still.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stopped {
    pub(super) since: Nanos,
    pub(super) until: Nanos,
    /// Its control thread alone.
    pub(super) workers_run: bool,
}

/// What the workers of a node know.
#[derive(Debug, Default)]
pub(super) struct Workers {
    pub(super) dpt: Dpt,
    pub(super) fence: Option<Instant>,
    /// The CRT's entries, but half-open ones, and of accounts that are open what they have not named yet.
    pub(super) entries: BTreeMap<Connection, Entry>,
    in_doubt: BTreeMap<StackIndex, BTreeSet<Connection>>,
    /// A stack said that it has these, while the entry was another living stack's, or while they moved: it does not count, and is asked for
    /// later.
    pub(super) contested: BTreeSet<Connection>,
}

/// Of the CRT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) owner: StackIndex,
    pub(super) state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Established,
    Frozen,
    HandingOver(Token),
}

impl Node {
    pub(super) fn new(at: usize, clock: Clock) -> Self {
        Self {
            name: name(&format!("rt{}", at + 1)),
            clock,
            machine: None,
            stopped: None,
            inbox: VecDeque::new(),
            settings: Settings::Usual,
            workers: Workers::default(),
            leaves: false,
            due: None,
            former: None,
        }
    }

    /// A process begins: with an empty table, or with that of the former process.
    pub(super) fn start(&mut self, at: usize, scale: Scale, run: u64, now: Nanos) {
        let former = self.former.take();
        let identity =
            Identity { incarnation: run, version: "sim".to_owned(), first_epoch: Epoch(run * 1000) };
        let config = self.settings.config(at, scale);
        let mut entries = std::mem::take(&mut self.workers.entries);
        // What waited, and the option, were the former process's own.
        entries.retain(|_, entry| former.is_some() && entry.state == State::Established);
        self.workers = Workers { entries, ..Workers::default() };
        let now = self.clock.at(now);
        let machine = RoutingStack::resumed(identity, config, former.as_ref(), now);
        let mut machine = machine.expect("few DVIPAs");
        if scale.fault == Some(Fault::GrantsAtOnce) {
            machine.grant_at_once();
        }
        self.machine = Some(machine);
    }

    pub(super) fn runs(&self) -> bool {
        self.machine.is_some() && self.stopped.is_none()
    }

    /// Whether its workers forward packets.
    pub(super) fn forwards(&self) -> bool {
        self.machine.is_some() && self.stopped.is_none_or(|stopped| stopped.workers_run)
    }
}

impl Workers {
    /// What they do for a DVIPA.
    pub(super) fn duty(&self, dvipa: Dvipa) -> Option<Duty> {
        self.dpt.dvipas.iter().find(|entry| entry.dvipa == dvipa).map(|entry| entry.duty)
    }

    /// The name of a stack.
    pub(super) fn stack(&self, index: StackIndex) -> Option<&StackName> {
        model::dpt::stack_of(&self.dpt.stacks, index).map(|stack| &stack.name)
    }

    pub(super) fn publish(&mut self, dpt: Dpt) {
        for dead in dpt.stacks.iter().filter(|stack| stack.state == StackState::Dead) {
            self.entries.retain(|_, entry| entry.owner != dead.index);
        }
        self.dpt = dpt;
    }

    pub(super) fn newconn(
        &mut self,
        owner: StackIndex,
        (first, last): (bool, bool),
        connections: Vec<Connection>,
        moving: &[Connection],
    ) {
        let state = State::Established;
        if first {
            let is_its = |(_, entry): &(&Connection, &Entry)| **entry == Entry { owner, state };
            let mine = self.entries.iter().filter(is_its).map(|(connection, _)| *connection).collect();
            self.in_doubt.insert(owner, mine);
        }
        for connection in connections {
            if let Some(doubt) = self.in_doubt.get_mut(&owner) {
                doubt.remove(&connection);
            }
            match self.entries.get(&connection) {
                Some(entry) if entry.owner == owner => {}
                Some(entry) if self.is_up(entry.owner) => {
                    self.contested.insert(connection);
                    continue;
                }
                Some(_) | None => drop(self.entries.insert(connection, Entry { owner, state })),
            }
            self.contested.remove(&connection);
        }
        if last {
            let mut doubt = self.in_doubt.remove(&owner).unwrap_or_default();
            doubt.retain(|connection| !moving.contains(connection));
            self.entries.retain(|connection, _| !doubt.contains(connection));
        }
    }

    fn is_up(&self, index: StackIndex) -> bool {
        model::dpt::stack_of(&self.dpt.stacks, index).is_some_and(|stack| stack.state == StackState::Up)
    }

    /// `of_any`: a fault: whoever has it now.
    pub(super) fn termconn(&mut self, owner: StackIndex, connections: &[Connection], of_any: bool) {
        for connection in connections {
            if self.entries.get(connection).is_some_and(|entry| of_any || entry.owner == owner) {
                self.entries.remove(connection);
            }
        }
    }

    /// A transfer gives the connection's entry this state, and an owner that depends on what it was.
    pub(super) fn settle(
        &mut self,
        connection: Connection,
        state: State,
        owner: impl FnOnce(Option<StackIndex>) -> Option<StackIndex>,
    ) {
        let former = self.entries.get(&connection).map(|entry| entry.owner);
        if let Some(owner) = owner(former) {
            self.entries.insert(connection, Entry { owner, state });
        }
        self.contested.remove(&connection);
        self.need_not_be_named(&connection);
    }

    pub(super) fn end(&mut self, connection: &Connection) {
        self.entries.remove(connection);
        self.contested.insert(*connection);
        self.need_not_be_named(connection);
    }

    fn need_not_be_named(&mut self, connection: &Connection) {
        self.in_doubt.values_mut().for_each(|doubt| doubt.retain(|other| other != connection));
    }
}
