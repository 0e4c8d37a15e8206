//! When nothing goes wrong any more: what is promised then, and that it is kept when an owner dies once more.

use histories::ms;
use model::{Connection, Dvipa};

use super::checks::Fate;
use super::history::{End, TARGETS};
use super::routing::{DISTRIBUTED, DVIPAS, NODES, Settings, dvipa};
use super::world::World;
use crate::machine::{Event, Scope};

/// After this time without a fault every DVIPA has an owner, whatever the clocks: all are heard, or the time is over in which they may
/// be heard, and leases have found their way to one.
const OWNED_MS: u64 = 8_000;
/// After this time everything is known everywhere, and primaries have taken back what is theirs.
const SETTLED_MS: u64 = 12_000;
/// So much later no connection moves any more: a target has waited for the permission to take one that is silent elsewhere.
const MOVED_MS: u64 = 35_000;
/// After this time another one owns what a killed one has owned.
const TAKEN_OVER_MS: u64 = 3_000;

impl World {
    /// What must come true after a history.
    pub(super) fn recover(&mut self) {
        self.heal();
        for node in 0..NODES {
            self.nodes[node].leaves = false;
            self.tell_node(node, Event::Leave(false));
            self.reload(node, Settings::Usual);
        }
        self.pass(OWNED_MS);
        // Not before: what is resumed at one owner while the next one takes over, that one has heard of as drained.
        for host in 0..TARGETS {
            let stack = self.hosts[host].name.clone();
            (0..DVIPAS.len()).for_each(|at| {
                self.each_node(|_| Event::Resume { stack: stack.clone(), scope: Scope::Dvipa(dvipa(at)) });
            });
        }
        if let Some(at) = (0..DVIPAS.len()).find(|at| self.owner(dvipa(*at)).is_none()) {
            self.record.blame(format!("{} has no owner {OWNED_MS} ms after all went well", DVIPAS[at]));
        }
        self.pass(SETTLED_MS);
        if self.moves() {
            self.pass(MOVED_MS);
        }
        self.is_all_known();
        let moved = self.random.bool().then(|| self.move_one()).flatten();
        self.kill_an_owner(moved);
    }

    fn pass(&mut self, time_ms: u64) {
        self.run_until(self.now + ms(time_ms));
    }

    /// An operator moves a DVIPA; says which, and whereto.
    fn move_one(&mut self) -> Option<(usize, usize)> {
        let (at, to) = (self.random.usize(0..DVIPAS.len()), self.random.usize(0..NODES));
        let owner = self.owner(dvipa(at)).filter(|owner| *owner != to)?;
        let name = self.nodes[to].name.clone();
        self.tell_node(owner, Event::MoveDvipa { dvipa: dvipa(at), to: name });
        self.pass(TAKEN_OVER_MS);
        if self.owner(dvipa(at)) != Some(to) {
            self.record.blame(format!("{} does not move to rt{} by order", DVIPAS[at], to + 1));
        }
        Some((at, to))
    }

    /// One owner dies, with an order of its operator, and comes back.
    fn kill_an_owner(&mut self, moved: Option<(usize, usize)>) {
        let (at, host) = (self.random.usize(0..DVIPAS.len()), self.random.usize(0..TARGETS));
        let Some(owner) = self.owner(dvipa(at)) else { return };
        let stack = self.hosts[host].name.clone();
        let scope = Scope::Dvipa(dvipa(at));
        self.tell_node(owner, Event::Drain { stack: stack.clone(), scope });
        self.pass(300);
        self.kill(End::Node(owner));
        self.pass(TAKEN_OVER_MS);
        match self.owner(dvipa(at)) {
            None => self.record.blame(format!("{} is not taken over within {TAKEN_OVER_MS} ms", DVIPAS[at])),
            Some(node) => {
                for port in DISTRIBUTED[at] {
                    if self.selectable(node, dvipa(at), *port).contains(&stack) {
                        let text = format!(
                            "an order is lost: {stack} drains {}, and rt{} selects it",
                            DVIPAS[at],
                            node + 1
                        );
                        self.record.blame(text);
                    }
                }
                self.goes_on(node, dvipa(at));
            }
        }
        self.begin(End::Node(owner));
        self.pass(SETTLED_MS);
        // A drain that went with the DVIPA comes back with it.
        self.each_node(|_| Event::Resume { stack: stack.clone(), scope });
        self.pass(100);
        self.is_all_known();
        if let Some((at, to)) = moved.filter(|(_, to)| *to != owner)
            && self.owner(dvipa(at)) != Some(to)
        {
            self.record.blame(format!(
                "{} was moved to rt{} by order, and does not stay",
                DVIPAS[at],
                to + 1
            ));
        }
    }

    /// Every connection to the DVIPA goes on at this node, or at least its host is asked for it.
    fn goes_on(&mut self, node: usize, dvipa: Dvipa) {
        for (host, connection) in self.all_connections() {
            let fate = self.fate(node, host, &connection);
            if connection.service().dvipa == dvipa && !matches!(fate, Fate::Arrives | Fate::AskedFor) {
                self.record.blame(format!("{connection} does not go on at rt{}: {fate:?}", node + 1));
            }
        }
    }

    pub(super) fn selectable(&self, node: usize, dvipa: Dvipa, port: u16) -> Vec<model::StackName> {
        let workers = &self.nodes[node].workers;
        let index = workers.dpt.dvipas.iter().find(|entry| entry.dvipa == dvipa).map(|entry| entry.index);
        let row = workers.dpt.distributions.iter().find(|row| Some(row.dvipa) == index && row.port == port);
        let targets = row.map(|row| row.targets.as_slice()).unwrap_or_default();
        targets.iter().filter_map(|target| workers.stack(target.stack)).cloned().collect()
    }

    /// At owners and backups the tables are what applications do and connections are.
    fn is_all_known(&mut self) {
        let all = self.all_connections();
        if let Some((host, connection)) = all.iter().find(|(host, c)| !self.serves(*host, c)) {
            let name = self.hosts[*host].name.clone();
            self.record.blame(format!("{name} does not serve {connection}, which it has"));
        }
        for at in 0..DVIPAS.len() {
            let owner = self.owner(dvipa(at));
            if owner.is_none() {
                self.record.blame(format!("{} has no owner any more", DVIPAS[at]));
            }
            for node in 0..NODES {
                for port in DISTRIBUTED[at] {
                    let (mut have, want) = (self.selectable(node, dvipa(at), *port), self.listening(*port));
                    have.sort();
                    if have != want {
                        let text = format!(
                            "rt{}: {} port {port} is served by {want:?}, and the DPT has {have:?}",
                            node + 1,
                            DVIPAS[at]
                        );
                        self.record.blame(text);
                    }
                }
                self.knows_connections(node, dvipa(at), &all);
            }
        }
    }

    /// Whether a connection is not served yet.
    fn moves(&self) -> bool {
        self.all_connections().iter().any(|(host, connection)| !self.serves(*host, connection))
    }

    fn knows_connections(&mut self, node: usize, dvipa: Dvipa, all: &[(usize, Connection)]) {
        let workers = &self.nodes[node].workers;
        let is_of_it = |connection: &Connection| connection.service().dvipa == dvipa;
        let unknown = all.iter().find(|(host, connection)| {
            let entry = workers.entries.get(connection).map(|entry| workers.stack(entry.owner));
            // It has come there before its former host has told that it has left: the node asks when it takes over.
            let is_asked_for = entry.is_none() && workers.contested.contains(connection);
            is_of_it(connection) && !is_asked_for && entry.flatten() != Some(&self.hosts[*host].name)
        });
        // A transfer whose source has died ends with an entry there, as if that had it still.
        let exists =
            |connection: &Connection| self.home(connection).is_some() || self.excused.contains(connection);
        let too_many = workers.entries.keys().find(|known| is_of_it(known) && !exists(known));
        let wrong = match (unknown, too_many) {
            (Some((host, connection)), _) => {
                format!("rt{} does not know {connection} of {}", node + 1, self.hosts[*host].name)
            }
            (None, Some(ended)) => format!("rt{} knows {ended}, which has ended", node + 1),
            (None, None) => return,
        };
        self.record.blame(wrong);
    }
}
