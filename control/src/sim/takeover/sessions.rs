//! Sessions begin, break and carry what is said.

use agent::machine::Event as AgentEvent;
use histories::ms;
use model::message::{FromStack, Hello};
use model::ownership::ToWitness;

use super::Fault;
use super::history::End;
use super::world::{AGENT_LOST, Happens, PEER_LOST, Parcel, Said, World};
use crate::machine::Event;

impl World {
    /// Signs of life are heard or missed, and who has no session dials.
    pub(super) fn pulse(&mut self) {
        let keys: Vec<(End, End)> = self.links.all.keys().copied().collect();
        for (dials, dialled) in keys {
            let ends = [dials, dialled];
            for place in 0..2 {
                let (to, from) = (ends[place], ends[1 - place]);
                if !self.runs(to) {
                    continue;
                }
                let audible = self.runs(from) && !self.links.is_cut(from, to);
                let now = self.now;
                let Some((link, _)) = self.links.between(from, to) else { continue };
                let Some(session) = link.at[place] else { continue };
                if audible && link.at[1 - place] == Some(session) {
                    link.heard[place] = now;
                }
                let patience = if matches!(ends, [End::Node(_), _]) { PEER_LOST } else { AGENT_LOST };
                if now - link.heard[place] > patience {
                    self.give_up(to, from);
                }
            }
            let may = self.runs(dials) && self.runs(dialled);
            let cut = self.links.is_cut(dials, dialled) || self.links.is_cut(dialled, dials);
            if may
                && !cut
                && self.links.session(dials, dialled).is_none()
                && (self.calm || self.random.u8(0..4) > 0)
            {
                self.dial(dials, dialled);
            }
        }
    }

    pub(super) fn dial(&mut self, from: End, to: End) {
        let (session, now) = (self.links.new_session(), self.now);
        if let Some((link, place)) = self.links.between(from, to) {
            link.at[1 - place] = Some(session);
            link.heard[1 - place] = now;
        }
        let hello = match from {
            End::Host(host) => self.hosts[host].hello(),
            End::Node(_) => Hello::default(),
        };
        self.say(from, to, Said::Dials(Box::new(hello)));
        self.up(from, to, None);
    }

    /// One end takes the session for over, and says so.
    pub(super) fn give_up(&mut self, end: End, other: End) {
        let Some(session) = self.links.session(end, other) else { return };
        let parcel = Parcel { from: end, to: other, session, said: Said::Over };
        self.post(parcel);
        self.over(end, other);
    }

    pub(super) fn over(&mut self, end: End, other: End) {
        if let Some((link, place)) = self.links.between(other, end) {
            link.at[place] = None;
        }
        match (end, other) {
            (End::Node(at), End::Host(host)) => {
                let stack = self.hosts[host].name.clone();
                self.tell_node(at, Event::SessionDown { stack });
            }
            (End::Node(at), End::Node(peer)) => {
                let stack = self.nodes[peer].name.clone();
                self.tell_node(at, Event::PeerDown { stack });
            }
            (End::Host(host), End::Node(node)) => {
                let stack = self.nodes[node].name.clone();
                if let Some(agent) = &mut self.hosts[host].agent {
                    agent.session_over(&stack);
                }
                self.tell_host(host, vec![AgentEvent::SessionDown(stack)]);
            }
            (End::Host(_), End::Host(_)) => {}
        }
    }

    /// One end has a new session.
    pub(super) fn up(&mut self, end: End, other: End, hello: Option<Hello>) {
        match (end, other) {
            (End::Node(at), End::Host(host)) => {
                let stack = self.hosts[host].name.clone();
                self.tell_node(at, Event::SessionUp { stack, hello: hello.unwrap_or_default() });
            }
            (End::Node(at), End::Node(peer)) => {
                let stack = self.nodes[peer].name.clone();
                self.tell_node(at, Event::PeerUp { stack });
            }
            (End::Host(host), End::Node(node)) => {
                let stack = self.nodes[node].name.clone();
                if let Some(agent) = &mut self.hosts[host].agent {
                    agent.session_over(&stack);
                }
                self.tell_host(host, vec![AgentEvent::SessionUp(stack)]);
            }
            (End::Host(_), End::Host(_)) => {}
        }
    }

    /// Something is said in the session that is up, if there is one.
    pub(super) fn say(&mut self, from: End, to: End, said: Said) {
        if let Some(session) = self.links.session(from, to) {
            self.post(Parcel { from, to, session, said });
        }
    }

    pub(super) fn post(&mut self, parcel: Parcel) {
        let from = parcel.from;
        let delay = match self.random.u8(..) {
            0..3 if !self.calm => ms(self.random.u64(20..300)),
            _ => self.random.u64(ms(1) / 10..ms(2)),
        };
        if matches!(parcel.said, Said::Claims(_) | Said::Grants(_)) {
            let copies = match self.random.u8(..) {
                0..10 if !self.calm => 0,
                10..16 if !self.calm => 2,
                _ => 1,
            };
            let slow = self.links.slow.get(&from).copied().unwrap_or(0);
            for copy in 0..copies {
                let at = self.now + slow + delay * (1 + 7 * copy);
                self.put(at, Happens::Arrives(parcel.clone()));
            }
        } else {
            let at = self.links.arrival(&parcel, self.now, delay);
            self.put(at, Happens::Arrives(parcel));
        }
    }

    pub(super) fn arrive(&mut self, parcel: Parcel) {
        if self.links.holds_up(&parcel) {
            return;
        }
        let stopped_inbox = match parcel.to {
            End::Node(at) => (self.nodes[at].stopped.is_some()).then_some(&mut self.nodes[at].inbox),
            End::Host(at) => (self.hosts[at].stopped.is_some()).then_some(&mut self.hosts[at].inbox),
        };
        match stopped_inbox {
            Some(inbox) => inbox.push_back(parcel),
            None => self.read(parcel),
        }
    }

    pub(super) fn read(&mut self, parcel: Parcel) {
        let Parcel { from, to, session, said } = parcel;
        if !self.runs(to) {
            return;
        }
        let now = self.now;
        let Some((link, place)) = self.links.between(from, to) else { return };
        if let Said::Dials(hello) = said {
            let former = link.at[place].replace(session);
            link.heard[place] = now;
            if let (Some(_), End::Node(at), End::Node(peer)) = (former, to, from) {
                let stack = self.nodes[peer].name.clone();
                self.tell_node(at, Event::PeerDown { stack });
            }
            return self.up(to, from, Some(*hello));
        }
        if link.at[place] != Some(session) {
            return;
        }
        match (said, to, from) {
            (Said::Over, ..) => self.over(to, from),
            (Said::FromHost(message), End::Node(at), End::Host(host)) => {
                let from = self.hosts[host].name.clone();
                self.tell_node(at, Event::Message { from, message: *message });
            }
            (Said::Grants(message), End::Node(at), End::Host(host)) => {
                let from = self.hosts[host].name.clone();
                self.tell_node(at, Event::Message { from, message: FromStack::Ownership(message) });
            }
            (Said::Peer(message), End::Node(at), End::Node(peer)) => {
                let from = self.nodes[peer].name.clone();
                self.tell_node(at, Event::PeerMessage { from, message: *message });
            }
            (Said::Claims(mut message), End::Host(at), End::Node(node)) => {
                if let (Some(Fault::LowEpochs), ToWitness::Claims(claims)) = (self.scale.fault, &mut message)
                {
                    claims.claims.iter_mut().for_each(|claim| claim.owned = true);
                }
                let (from, host) = (self.nodes[node].name.clone(), &mut self.hosts[at]);
                let now = host.clock.at(now);
                if let Some(agent) = &mut host.agent {
                    agent.witness.heard(&from, message, now);
                }
                self.act_host(at);
            }
            (Said::ToHost(message), End::Host(at), End::Node(node)) => self.host_hears(at, node, *message),
            (other, ..) => self.record.blame(format!("the simulation itself: {other:?} at {to:?}")),
        }
    }
}
