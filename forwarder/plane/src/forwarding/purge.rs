//! The entries of dead stacks, and UDP flows of services that are no longer defined, go as the [walk](super::walk) comes by.
//!
//! A client of such an entry is told when it sends again: its packet belongs to nobody then. A stack that comes back gives an
//! account of what it still has, and what has gone meanwhile is made again.

use forwarder::crt::{KeyParts, Row};
use hashbrown::HashSet;
use model::dpt::{Dpt, StackState};
use model::{DvipaIndex, Protocol, StackIndex};

use super::walk::Place;

/// Which stacks are dead, which services have ended, and how far the walk has to go until their entries are gone.
#[derive(Debug, Default)]
pub(super) struct Purge {
    dead: HashSet<StackIndex>,
    /// UDP services: those that are distributed, and those that were until a while ago.
    served: HashSet<(DvipaIndex, u16)>,
    ended: HashSet<(DvipaIndex, u16)>,
    /// None: nothing is left.
    until: Option<Place>,
}

impl Purge {
    /// These stacks are dead and these services distributed now. For a stack that was not dead before, and a service that was
    /// distributed, a round begins; what is not dead or ended any more is left alone.
    pub(super) fn of(&mut self, dpt: &Dpt, after_a_round: Place) {
        let dead = dpt.stacks.iter().filter(|stack| stack.state == StackState::Dead).map(|stack| stack.index);
        let dead: HashSet<StackIndex> = dead.collect();
        let udp = dpt.distributions.iter().filter(|service| service.protocol == Protocol::Udp);
        let served: HashSet<_> = udp.map(|service| (service.dvipa, service.port)).collect();
        let begins = !dead.is_subset(&self.dead) || !self.served.is_subset(&served);
        if self.until.is_none() {
            self.ended.clear();
        }
        self.ended.extend(self.served.difference(&served));
        self.ended.retain(|service| !served.contains(service));
        if dead.is_empty() && self.ended.is_empty() {
            self.until = None;
        } else if begins {
            self.until = Some(after_a_round);
        }
        (self.dead, self.served) = (dead, served);
    }

    /// Whether there is anything to look for.
    pub(super) fn is_under_way(&self) -> bool {
        self.until.is_some()
    }

    /// Whether this entry goes.
    pub(super) fn end_of(&self, row: &Row) -> bool {
        let KeyParts { dvipa, dvipa_port, protocol, .. } = row.key;
        let ended = protocol == Protocol::Udp && self.ended.contains(&(dvipa, dvipa_port));
        self.until.is_some() && (ended || self.dead.contains(&row.entry.owner))
    }

    /// The walk is here.
    pub(super) fn walked(&mut self, here: Place) {
        self.until.take_if(|until| *until <= here);
    }
}
