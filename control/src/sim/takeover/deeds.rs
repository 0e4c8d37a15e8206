//! What the machines of nodes and hosts hear, and what they want done.

use agent::machine::{Action as AgentAction, Event as AgentEvent};
use agent::ports::Listing;
use histories::ms;
use model::handoff::Handoff;
use model::message::{FromStack, Load, ToStack};
use model::peer::ToPeer;
use model::{Connection, Dvipa, StackIndex, StackName};
use ownership::Deed;

use super::Fault;
use super::history::End;
use super::host::Host;
use super::routing::{NODES, State};
use super::world::{Happens, LOOK, Said, World};
use crate::machine::{Action, Event, Note};

impl World {
    pub(super) fn tell_host(&mut self, host: usize, events: Vec<AgentEvent>) {
        let now = self.now;
        events.into_iter().for_each(|event| self.hosts[host].tell(event, now));
        self.act_host(host);
    }

    pub(super) fn tell_silent_hosts(&mut self) {
        let dead: Vec<StackName> = self.hosts.iter().filter(|h| h.is_dead).map(|h| h.name.clone()).collect();
        for at in 0..NODES {
            let Some(machine) = &self.nodes[at].machine else { continue };
            let silent = dead.iter().filter_map(|name| machine.stack_index(name)).collect();
            self.tell_node(at, Event::SilentHosts(silent));
        }
    }

    pub(super) fn tick(&mut self, end: End) {
        match end {
            End::Node(at) => {
                let node = &mut self.nodes[at];
                let now = node.clock.at(self.now);
                if let Some(machine) = &mut node.machine {
                    machine.tick(now);
                }
                self.act_node(at);
            }
            End::Host(at) => {
                let host = &mut self.hosts[at];
                let now = host.clock.at(self.now);
                if let Some(agent) = &mut host.agent {
                    agent.witness.tick(now);
                    if agent.machine.next_deadline().is_some_and(|(due, _)| due <= now) {
                        agent.machine.handle(AgentEvent::TimePassed, now);
                        agent.ports.give_back(&host.kernel.pools);
                    }
                }
                self.transfers_due(at);
                self.act_host(at);
            }
        }
    }

    pub(super) fn host_hears(&mut self, at: usize, node: usize, message: ToStack) {
        let (from, now) = (self.nodes[node].name.clone(), self.now);
        let host = &mut self.hosts[at];
        let Some(agent) = &mut host.agent else { return };
        let owners = agent.machine.owners();
        if agent::rights::judge(&from, &message, |dvipa| owners.get(&dvipa)).is_err() {
            return;
        }
        match message {
            ToStack::VipaList(list) => {
                let owned = list.dvipas.iter().filter(|entry| entry.owner);
                host.owns.insert(node, owned.map(|entry| Dvipa::new(entry.address.0)).collect());
                host.tell(AgentEvent::Listed(from, list), now);
            }
            ToStack::Heard(heard) => host.tell(AgentEvent::Heard(from, heard.number), now),
            ToStack::Transfer(message) => {
                // What is void there is counted.
                let _ = agent.transfers.received(from, message, host.clock.at(now));
            }
            ToStack::PortsGranted(granted) => {
                agent.ports.granted(&from, &granted, &host.kernel.pools);
                self.check_blocks();
            }
            _ => {}
        }
        self.act_host(at);
    }

    /// Hands an event to a node's machine, if it runs, and does what it wants done.
    pub(super) fn tell_node(&mut self, at: usize, event: Event) {
        let node = &mut self.nodes[at];
        let now = node.clock.at(self.now);
        let Some(machine) = node.machine.as_mut().filter(|_| node.stopped.is_none()) else { return };
        // The machine counts what it refuses.
        let _ = machine.handle(event, now);
        self.act_node(at);
    }

    pub(super) fn act_node(&mut self, at: usize) {
        let now = self.nodes[at].clock.at(self.now);
        loop {
            let node = &mut self.nodes[at];
            let Some(machine) = &mut node.machine else { return };
            if let Some(fence) = machine.moved_fence() {
                node.workers.fence = Some(fence);
            }
            let Some(action) = machine.poll() else { break };
            match action {
                Action::Send { to, message } => {
                    let Some(host) = self.hosts.iter().position(|host| host.name == to) else { continue };
                    let said = match message {
                        ToStack::Ownership(message) => Said::Claims(message),
                        message => Said::ToHost(Box::new(message)),
                    };
                    self.say(End::Node(at), End::Host(host), said);
                }
                Action::Tell { to, message } => {
                    let Some(message) = self.tampered(message) else { continue };
                    if let Some(peer) = self.nodes.iter().position(|node| node.name == to) {
                        self.say(End::Node(at), End::Node(peer), Said::Peer(Box::new(message)));
                    }
                }
                Action::Publish(dpt) => node.workers.publish(dpt),
                Action::Newconn { owner, first, last, connections, moving, .. } => {
                    node.workers.newconn(owner, (first, last), connections, &moving);
                }
                Action::Termconn { owner, connections } => {
                    let of_any = self.scale.fault == Some(Fault::EndsWhatOthersHave);
                    node.workers.termconn(owner, &connections, of_any);
                }
                Action::Freeze { connection, owner } => {
                    node.workers.settle(connection, State::Frozen, |former| former.or(Some(owner)));
                }
                Action::Thaw { connection, owner } => {
                    node.workers.settle(connection, State::Established, |former| owner.or(former));
                }
                Action::HandOver { connection, to, handoff } => self.hand_over(at, connection, to, handoff),
                Action::End { connection } => node.workers.end(&connection),
                Action::Announce { dvipa } => drop(self.place.insert(dvipa, at)),
                Action::Count { dvipa } => {
                    let of_it = |c: &&Connection| c.service().dvipa == dvipa;
                    let connections =
                        u64::try_from(node.workers.entries.keys().filter(of_it).count()).unwrap_or(0);
                    let _ = machine.handle(Event::Counted { dvipa, connections }, now);
                }
                Action::Note(Note::Gained { dvipa, epoch, .. }) => {
                    self.note(format!("rt{} gains {dvipa} in {}", at + 1, epoch.0));
                    self.record.gained(at, dvipa, epoch, self.scale.witnesses > 0);
                }
                Action::Note(Note::Lost { dvipa, .. }) => self.note(format!("rt{} loses {dvipa}", at + 1)),
                Action::Note(_)
                | Action::Route { .. }
                | Action::Stay { .. }
                | Action::Choose { .. }
                | Action::List { .. }
                | Action::Retire { .. }
                | Action::CountStacks { .. }
                | Action::Tokens { .. }
                | Action::Declined { .. }
                | Action::Looked { .. }
                | Action::Loaded { .. }
                | Action::AskEtcd { .. }
                | Action::Report { .. } => {}
            }
        }
        let node = &mut self.nodes[at];
        let due = node.machine.as_ref().and_then(|machine| machine.next_deadline());
        node.due = due.map(|due| node.clock.when(due));
    }

    pub(super) fn note(&mut self, what: String) {
        let notes = &mut self.record.notes;
        if notes.len() == 24 {
            notes.pop_front();
        }
        notes.push_back(format!("{} ms: {what}", self.now / 1_000_000));
    }

    /// What a fault makes of what routing stacks tell each other.
    pub(super) fn tampered(&self, mut message: ToPeer) -> Option<ToPeer> {
        match (&mut message, self.scale.fault) {
            (ToPeer::Orders(_), Some(Fault::OrdersLost)) => return None,
            (ToPeer::Definitions(said), Some(Fault::MovesForgotten)) => {
                said.dvipas.iter_mut().for_each(|said| said.by_order = None);
            }
            _ => {}
        }
        Some(message)
    }

    pub(super) fn act_host(&mut self, at: usize) {
        let now = self.hosts[at].clock.at(self.now);
        if !self.hosts[at].runs() {
            return;
        }
        self.act_transfers(at);
        loop {
            let host = &mut self.hosts[at];
            let Some(agent) = &mut host.agent else { return };
            let Some(action) = agent.machine.poll(now) else { break };
            let run = agent.run;
            match action {
                AgentAction::SetForwarders(forwarders) => host.kernel.forwarders = forwarders,
                AgentAction::AddDvipa(dvipa, origin) => drop(host.kernel.dvipas.insert(dvipa, origin)),
                AgentAction::RemoveDvipa(dvipa) => drop(host.kernel.dvipas.remove(&dvipa)),
                AgentAction::AllowBinds { .. } | AgentAction::End(_) | AgentAction::LookAtSpeeches => {}
                AgentAction::Look(scope) => {
                    self.put(self.now + LOOK, Happens::Looked { host: at, run, scope })
                }
                AgentAction::SampleLoad => {
                    agent.machine.handle(AgentEvent::LoadSampled(Load::default(), None), now)
                }
                AgentAction::Send(to, message) => self.host_says(at, &to, message),
            }
        }
        let Host { agent: Some(agent), kernel, kept, clock, due, .. } = &mut self.hosts[at] else { return };
        let owners = agent.machine.owners();
        let listings = agent.machine.listing().map(|(stack, dvipa, epoch)| {
            let owner = owners.get(&dvipa).is_some_and(|(owner, of)| owner == stack && *of == epoch);
            Listing { stack, dvipa, epoch, owner }
        });
        agent.ports.listed(listings.filter(|listing| kernel.dvipas.contains_key(&listing.dvipa)));
        let mut says = agent.ports.say(&kernel.pools);
        while let Some(deed) = agent.witness.poll() {
            match deed {
                Deed::Keep(keeps) => *kept = keeps,
                Deed::Send { to, message } => says.push((to, FromStack::Ownership(message))),
            }
        }
        let lapse = agent.witness.next_deadline();
        let next = agent.machine.next_deadline().map(|(at, _)| at).into_iter().chain(lapse);
        let next = next.chain([agent.transfers.next_deadline()]).min();
        *due = next.map(|next| clock.when(next));
        says.into_iter().for_each(|(to, message)| self.host_says(at, &to, message));
        self.tell_applications(at);
    }

    /// The entry is the target's, and a packet that makes the connection goes there.
    fn hand_over(&mut self, at: usize, connection: Connection, to: StackIndex, handoff: Handoff) {
        let node = &mut self.nodes[at];
        let target = node.workers.stack(to).and_then(|name| self.hosts.iter().position(|h| h.name == *name));
        let Some(host) = target.filter(|_| node.workers.entries.contains_key(&connection)) else {
            return self.tell_node(at, Event::NotHandedOver { connection, said: String::new() });
        };
        let token = handoff.option.token;
        node.workers.settle(connection, State::HandingOver(token), |_| Some(to));
        let way = ms(1) + if self.calm { 0 } else { ms(self.random.u64(0..40)) };
        if self.calm || self.random.u8(0..8) > 0 {
            self.put(self.now + way, Happens::Handed { host, from: at, connection, token });
        }
    }

    pub(super) fn host_says(&mut self, at: usize, to: &StackName, message: FromStack) {
        let Some(node) = self.nodes.iter().position(|node| node.name == *to) else { return };
        let forgets = self.scale.fault == Some(Fault::BackupsNotTold);
        if forgets && matches!(message, FromStack::Newconn(ref n) if !n.first) && node == NODES - 1 {
            return;
        }
        // Applications end connections too, and of those it hears.
        if self.scale.fault == Some(Fault::BackupsNotToldOfMoves)
            && node == NODES - 1
            && matches!(&message, FromStack::Termconn(ended) if ended.connections.iter().any(|c| self.alive.contains(&c.0)))
        {
            return;
        }
        let said = match message {
            FromStack::Ownership(message) => Said::Grants(message),
            message => Said::FromHost(Box::new(message)),
        };
        self.say(End::Host(at), End::Node(node), said);
    }
}
