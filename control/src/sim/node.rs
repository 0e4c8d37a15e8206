//! A routing node: the machine under test, and a CRT that does what it is told.

use std::collections::BTreeMap;
use std::time::Instant;

use model::{Connection, Dvipa, Epoch, Protocol, Service, StackIndex};

use super::invariants::Watch;
use super::settings::{DVIPAS, Settings};
use crate::config::Config;
use crate::machine::fixture::{config, name};
use crate::machine::{Identity, RoutingStack};

/// A routing node: the machine under test and a CRT that does what it is told.
pub(super) struct Node {
    pub(super) machine: RoutingStack,
    pub(super) settings: Settings,
    pub(super) watch: Watch,
    pub(super) incarnation: u64,
    pub(super) crt: Crt,
}

/// Established connections with their owners, and the accounts that are open.
#[derive(Debug, Default)]
pub(super) struct Crt {
    entries: BTreeMap<Connection, StackIndex>,
    in_doubt: BTreeMap<StackIndex, Vec<Connection>>,
}

impl Node {
    /// Node number `at`, just started.
    pub(super) fn new(at: usize, settings: Settings, incarnation: u64, now: Instant) -> Self {
        let config = settings_config(at, settings);
        let machine = RoutingStack::new(identity(incarnation), config, now).expect("few DVIPAs");
        Self { machine, settings, incarnation, watch: Watch::default(), crt: Crt::default() }
    }

    /// The process has died; the next one begins with an empty CRT, or goes on with this one's. Each second one does.
    pub(super) fn succeed(&mut self, at: usize, now: Instant) {
        let incarnation = self.incarnation + 1;
        let mut next = Self::new(at, self.settings, incarnation, now);
        if incarnation.is_multiple_of(2) {
            let (identity, numbering) = (identity(incarnation), self.machine.numbering());
            let config = settings_config(at, self.settings);
            next.machine =
                RoutingStack::resumed(identity, config, Some(&numbering), now).expect("few DVIPAs");
            next.watch = self.watch.successor();
            next.crt.entries = std::mem::take(&mut self.crt.entries);
        }
        *self = next;
    }
}

fn identity(incarnation: u64) -> Identity {
    Identity { incarnation, version: "sim".to_owned(), first_epoch: Epoch(incarnation * 1000) }
}

impl Crt {
    pub(super) fn newconn(
        &mut self,
        owner: StackIndex,
        first: bool,
        last: bool,
        connections: Vec<Connection>,
    ) {
        if first {
            let mine = self.entries.iter().filter(|(_, o)| **o == owner).map(|(c, _)| *c).collect();
            self.in_doubt.insert(owner, mine);
        }
        for connection in connections {
            if let Some(doubt) = self.in_doubt.get_mut(&owner) {
                doubt.retain(|c| *c != connection);
            }
            self.entries.insert(connection, owner);
        }
        if last {
            for connection in self.in_doubt.remove(&owner).unwrap_or_default() {
                self.entries.remove(&connection);
            }
        }
    }

    /// How many connections a stack has.
    pub(super) fn count(&self, owner: StackIndex) -> usize {
        self.entries.values().filter(|o| **o == owner).count()
    }

    pub(super) fn termconn(&mut self, owner: StackIndex, connections: &[Connection]) {
        self.entries.retain(|connection, o| *o != owner || !connections.contains(connection));
    }
}

/// The configuration of node number `node`.
pub(super) fn settings_config(node: usize, settings: Settings) -> Config {
    let mut config = config(&settings.text(node));
    config.node.name = name(&format!("rt{}", node + 1));
    config
}

/// A port of its DVIPA.
pub(super) fn service(node: usize, port: u16) -> Service {
    Service { dvipa: Dvipa::new(DVIPAS[node].parse().unwrap()), port, protocol: Protocol::Tcp }
}
