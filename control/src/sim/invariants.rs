//! What must hold after every event, whatever happened: kept beside the machine, out of the same messages, in the
//! simplest way that is right.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use model::dpt::{Dpt, Duty, DvipaEntry};
use model::message::{FromStack, Srvstat};
use model::{Dvipa, Service, StackIndex};

use super::settings::{PORTS, TARGETS};
use crate::machine::{Action, RoutingStack};

/// What a routing node was told, and what it made of it.
#[derive(Debug, Default)]
pub(super) struct Watch {
    up: [bool; TARGETS],
    /// On which services each target said last that it listens.
    said: [BTreeSet<Service>; TARGETS],
    draining: [bool; TARGETS],
    numbers: BTreeMap<String, StackIndex>,
    published: Option<Dpt>,
}

impl Watch {
    /// Of the process that goes on with the CRT: the numbers in it stay.
    pub(super) fn successor(&self) -> Self {
        Self { numbers: self.numbers.clone(), ..Self::default() }
    }

    /// A session with a target begins or ends: what it said before is void, unless the session takes the place of another one.
    pub(super) fn session(&mut self, target: usize, up: bool) {
        if !(up && self.up[target]) {
            self.said[target].clear();
        }
        self.up[target] = up;
    }

    pub(super) fn drain(&mut self, target: usize, on: bool) {
        self.draining[target] = on;
    }

    /// A target said something; what is of another epoch is void.
    pub(super) fn heard(&mut self, target: usize, message: &FromStack, machine: &RoutingStack) {
        let FromStack::Srvstat(Srvstat { dvipa, epoch, complete, listens }) = message else { return };
        let dvipa = Dvipa::new(dvipa.0);
        if !machine.vipa_view().dvipas.iter().any(|view| (view.dvipa, view.epoch) == (dvipa, *epoch)) {
            return;
        }
        if *complete {
            self.said[target].retain(|service| service.dvipa != dvipa);
        }
        for listen in listens {
            let service = Service { dvipa, port: listen.port, protocol: listen.protocol };
            if listen.listening {
                self.said[target].insert(service);
            } else {
                self.said[target].remove(&service);
            }
        }
    }

    /// The machine wants something done.
    pub(super) fn action(&mut self, action: &Action, machine: &RoutingStack) -> Result<(), String> {
        match action {
            Action::Publish(dpt) => self.publish(dpt),
            Action::Newconn { owner, connections, .. } | Action::Termconn { owner, connections } => {
                let dpt = self.published.as_ref().ok_or("connections before the first DPT")?;
                if !dpt.stacks.iter().any(|stack| stack.index == *owner) {
                    return Err(format!(
                        "connections of stack {} before the DPT that introduces it",
                        owner.0
                    ));
                }
                let owned = |dvipa| dpt.dvipas.iter().any(|entry| entry.dvipa == dvipa);
                match connections.iter().find(|c| !owned(c.service().dvipa)) {
                    Some(foreign) => Err(format!("{foreign} is not to a DVIPA of this node")),
                    None => Ok(()),
                }
            }
            Action::Announce { dvipa } => {
                let is_owned = |entry: &DvipaEntry| entry.dvipa == *dvipa && entry.duty == Duty::Owner;
                let owned = machine.dpt().dvipas.iter().any(|entry| is_owned(entry));
                if owned { Ok(()) } else { Err(format!("{dvipa} is announced and not owned")) }
            }
            Action::Route { dvipas } => {
                let is_forwarded = |entry: &DvipaEntry| matches!(entry.duty, Duty::Owner | Duty::Partner);
                let has = |dvipa: &&Dvipa| {
                    let mut entries = machine.dpt().dvipas.iter();
                    entries.any(|entry| entry.dvipa == **dvipa && is_forwarded(entry))
                };
                match dvipas.iter().find(|dvipa| !has(dvipa)) {
                    Some(dvipa) => Err(format!("{dvipa} has a route and is not forwarded")),
                    None => Ok(()),
                }
            }
            Action::Freeze { connection, .. }
            | Action::Thaw { connection, .. }
            | Action::HandOver { connection, .. }
            | Action::End { connection }
            | Action::Stay { connection, .. }
            | Action::Report { connection, .. } => {
                Err(format!("{connection} moves, and nobody asked for it"))
            }
            Action::Choose { .. } => Err("a target is chosen, and nobody asked for it".to_owned()),
            Action::List { stack, .. } => Err(format!("{stack} is evacuated, and nobody asked for it")),
            Action::Send { .. }
            | Action::Looked { .. }
            | Action::Loaded { .. }
            | Action::Tell { .. }
            | Action::Count { .. }
            | Action::CountStacks { .. }
            | Action::Retire { .. }
            | Action::Tokens { .. }
            | Action::Declined { .. }
            | Action::AskEtcd { .. }
            | Action::Note(_) => Ok(()),
        }
    }

    fn publish(&mut self, dpt: &Dpt) -> Result<(), String> {
        for (i, stack) in dpt.stacks.iter().enumerate() {
            if usize::from(stack.index.0) != i {
                return Err(format!("stack {} is at place {i} of the DPT", stack.index.0));
            }
            let number = *self.numbers.entry(stack.name.to_string()).or_insert(stack.index);
            if number != stack.index {
                return Err(format!("{} was stack {} and is {}", stack.name, number.0, stack.index.0));
            }
        }
        if let Some(before) = &self.published {
            if dpt.generation != before.generation + 1 {
                return Err(format!("generation {} follows {}", dpt.generation, before.generation));
            }
            if (Dpt { generation: before.generation, ..dpt.clone() }) == *before {
                return Err("the same DPT was published twice".to_owned());
            }
        }
        self.published = Some(dpt.clone());
        Ok(())
    }

    /// Everything that was wanted is done.
    pub(super) fn settled(&self, machine: &RoutingStack, now: Instant) -> Result<(), String> {
        let dpt = self.published.as_ref().ok_or("nothing was published")?;
        if machine.is_settling() {
            return Ok(());
        }
        machine.check_board()?;
        for row in &dpt.distributions {
            let dvipa =
                dpt.dvipas.iter().find(|d| d.index == row.dvipa).ok_or("a service of no DVIPA")?.dvipa;
            let service = Service { dvipa, port: row.port, protocol: row.protocol };
            for target in row.targets.iter().chain(row.policies.iter().flat_map(|p| &p.targets)) {
                // A port of one host is reached there as long as the host lives.
                if machine.is_direct(service) && row.targets.len() == 1 && target.weight > 0 {
                    continue;
                }
                let name = &dpt.stacks[usize::from(target.stack.0)].name;
                let number = name.as_str()[1..].parse::<usize>().map_err(|e| e.to_string())? - 1;
                let wrong = if !self.up[number] {
                    "has no session"
                } else if !self.said[number].contains(&service) {
                    "did not say that it listens"
                } else if self.draining[number] {
                    "drains"
                } else if target.weight == 0 {
                    "has weight 0"
                } else {
                    continue;
                };
                return Err(format!("{service} may go to {name}, which {wrong}"));
            }
        }
        let listens: usize = machine.status_view().stacks.iter().map(|stack| stack.listens).sum();
        if dpt.stacks.len() > TARGETS || listens > TARGETS * PORTS.len() {
            return Err(format!("it grows: {} stacks, {listens} listens", dpt.stacks.len()));
        }
        match machine.next_deadline() {
            Some(due) if due < now => Err("a timer is due and nothing happened".to_owned()),
            _ => Ok(()),
        }
    }

    /// Who may be selected for a service.
    pub(super) fn selectable(&self, machine: &RoutingStack, service: Service) -> Vec<String> {
        let dpt = machine.dpt();
        let Some(dvipa) = dpt.dvipas.iter().find(|d| d.dvipa == service.dvipa) else { return Vec::new() };
        let row = dpt.distributions.iter().find(|d| d.dvipa == dvipa.index && d.port == service.port);
        let targets = row.map(|row| row.targets.as_slice()).unwrap_or_default();
        targets.iter().map(|target| dpt.stacks[usize::from(target.stack.0)].name.to_string()).collect()
    }
}
