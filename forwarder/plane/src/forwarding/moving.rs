//! Connections that move: their CRT entries are frozen, switched and thawed.
//!
//! Only the control thread changes the owner of a confirmed entry. So a change fails only against what a worker does to
//! an entry meanwhile (a first packet, aging), and is tried again with what is there then.

use control::runtime::looking::FateKind;
use control::runtime::{CrtEntry, NotHandedOver};
use forwarder::AnyKey;
use forwarder::crt::{Crt, CrtState, Entry, Key, Now};
use model::dpt::Reach;
use model::handoff::Handoff;
use model::{Connection, StackIndex};

use super::Plane;
use crate::opening;

/// How often a change is tried: each failure is another change of the same entry within a microsecond.
const TRIES: usize = 100;

impl Plane {
    /// The entry becomes frozen at its owner; one that is not there, or not confirmed, or has ended, is made first.
    pub(super) fn hold(&mut self, connection: &Connection, owner: StackIndex) {
        self.settle(connection, CrtState::Frozen, |entry| entry.map_or(owner, |entry| entry.owner));
        self.without_option(connection);
    }

    /// The entry becomes established at this owner, or at its own.
    pub(super) fn release(&mut self, connection: &Connection, owner: Option<StackIndex>) {
        let Some(owner) = owner.or_else(|| self.entry_of(connection).map(|entry| entry.stack)) else {
            return;
        };
        self.note_move(connection, owner);
        self.settle(connection, CrtState::Established, |_| owner);
        self.without_option(connection);
    }

    /// The entry becomes `to`'s, and its packets carry the handoff option; first goes one that makes the connection, if none waits. Not
    /// possible to the node's own kernel, which no encapsulated packet reaches.
    pub(super) fn hand_over_to(
        &mut self,
        connection: &Connection,
        to: StackIndex,
        handoff: &Handoff,
    ) -> Result<(), NotHandedOver> {
        self.entry_of(connection).ok_or(NotHandedOver::NoEntry)?;
        let is_remote = self.dpt.stacks.iter().any(|stack| stack.index == to && stack.reach != Reach::Local);
        let key = self.connections.names.key(connection).ok_or(NotHandedOver::NoEntry)?;
        if !is_remote {
            return Err(NotHandedOver::OwnKernel);
        }
        // The option first: a packet that finds the entry but not the option is dropped.
        let (current, option) = (&self.node.shared.handoffs, handoff.option.encode());
        if !current.load().has(key, option) {
            let options = current.load().with(key, option);
            self.handoffs.replace(current, options);
        }
        // Then the packet that all others have to follow, if it is not one of theirs.
        let opens = || {
            let frame = opening::frame(connection, to, handoff);
            self.node.workers.first().is_some_and(|worker| worker.inbox.put(frame))
        };
        if !handoff.request_waits && !opens() {
            tracing::warn!(%connection, "not handed over yet: too many packets wait for the worker");
        }
        self.note_move(connection, to);
        self.settle(connection, CrtState::HandingOver, |_| to);
        Ok(())
    }

    /// The connection is to be another stack's.
    fn note_move(&mut self, connection: &Connection, to: StackIndex) {
        if let Some(entry) = self.entry_of(connection).filter(|entry| entry.stack != to) {
            let now = self.now();
            self.connections.note_move(connection, entry.stack, to, now);
        }
    }

    /// Packets of the connection carry no handoff option any more.
    fn without_option(&mut self, connection: &Connection) {
        let current = &self.node.shared.handoffs;
        let rest = self.connections.names.key(connection).and_then(|key| current.load().without(key));
        if let Some(rest) = rest {
            self.handoffs.replace(current, rest);
        }
    }

    pub(super) fn remove(&mut self, connection: &Connection) {
        if let Some(entry) = self.entry_of(connection) {
            self.connections.fates.now().note(*connection, FateKind::Lost, entry.stack, None);
        }
        self.connections.remove(self.crt(), connection, self.now());
        self.without_option(connection);
        self.connections.moves(connection);
    }

    pub(super) fn entry_of(&self, connection: &Connection) -> Option<CrtEntry> {
        self.connections.entry_of(self.crt(), connection, self.now())
    }

    fn settle(
        &mut self,
        connection: &Connection,
        state: CrtState,
        owner: impl Fn(Option<Entry>) -> StackIndex,
    ) {
        let (crt, now) = (self.crt(), self.now());
        let settled = match self.connections.names.key(connection) {
            Some(AnyKey::V4(key)) => settle(crt, key, now, state, owner),
            Some(AnyKey::V6(key)) => settle(crt, key, now, state, owner),
            None => false,
        };
        if !settled {
            tracing::warn!(%connection, state = state.name(), "its CRT entry can't be changed");
        }
        self.connections.moves(connection);
    }
}

/// Gives the connection's entry this state, and an owner that depends on what the entry is. `false`: there is no room for
/// it.
fn settle<K: Key>(
    crt: &Crt,
    key: K,
    now: Now,
    state: CrtState,
    owner: impl Fn(Option<Entry>) -> StackIndex,
) -> bool {
    for _ in 0..TRIES {
        let found = crt.get(key, now);
        let new = Entry { owner: owner(found), state };
        match found {
            Some(entry) if entry == new => return true,
            Some(entry) if entry.state.counts() => {
                if crt.change(key, entry, new, now).is_ok() {
                    return true;
                }
            }
            // Into the main table first, where a flood of new connections does not push it out.
            Some(_) | None => {
                if crt.newconn(key, new.owner, now).is_err() {
                    return false;
                }
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use forwarder::crt::{Config, KeyV4};
    use model::{DvipaIndex, Protocol};

    use super::*;

    const NOW: Now = Now { ms: 1000 };
    const HERE: StackIndex = StackIndex(1);
    const THERE: StackIndex = StackIndex(2);

    fn table() -> (Crt, KeyV4) {
        let key = KeyV4::new([198, 18, 0, 2].into(), 4000, DvipaIndex(0), 80, Protocol::Tcp);
        (Crt::new(&Config::default()).unwrap(), key)
    }

    fn freeze(crt: &Crt, key: KeyV4) -> Option<Entry> {
        assert!(settle(crt, key, NOW, CrtState::Frozen, |entry| entry.map_or(HERE, |entry| entry.owner)));
        crt.get(key, NOW)
    }

    #[test]
    fn an_entry_is_frozen_at_its_owner_whatever_it_was() {
        let frozen = |owner| Some(Entry { owner, state: CrtState::Frozen });
        let (crt, key) = table();
        assert_eq!(freeze(&crt, key), frozen(HERE), "there was none");
        assert_eq!(freeze(&crt, key), frozen(HERE), "it was frozen");
        crt.remove(key);
        crt.insert_half_open(key, THERE, NOW).unwrap();
        assert_eq!(freeze(&crt, key), frozen(THERE), "it was half-open");
        crt.remove(key);
        crt.newconn(key, THERE, NOW).unwrap();
        assert_eq!(freeze(&crt, key), frozen(THERE), "it was established");
        crt.terminate(key, THERE, NOW);
        assert_eq!(freeze(&crt, key), frozen(THERE), "it had ended");
        assert_eq!((crt.stack_count(HERE).connections, crt.stack_count(THERE).connections), (0, 1));
    }

    #[test]
    fn a_frozen_entry_is_switched_and_thawed_in_one_step() {
        let (crt, key) = table();
        freeze(&crt, key);
        assert!(settle(&crt, key, NOW, CrtState::Established, |_| THERE));
        assert_eq!(crt.get(key, NOW), Some(Entry { owner: THERE, state: CrtState::Established }));
        assert_eq!((crt.stack_count(HERE).connections, crt.stack_count(THERE).connections), (0, 1));
    }

    #[test]
    fn no_news_of_an_owner_thaws_a_frozen_entry() {
        let (crt, key) = table();
        freeze(&crt, key);
        let _ = crt.newconn(key, HERE, NOW);
        assert_eq!(crt.get(key, NOW).map(|entry| entry.state), Some(CrtState::Frozen));
    }
}
