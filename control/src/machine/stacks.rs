//! The stacks: which are here, which were, and what they said.

use std::collections::BTreeMap;
use std::time::Instant;

use model::{ClusterAddress, Service, StackIndex, StackName};

use super::Refusal;
use super::losses::Losses;
use super::session::{Said, Session};

/// All stacks that have a session or had one.
#[derive(Debug, Default)]
pub(super) struct Stacks {
    sessions: BTreeMap<StackName, Session>,
    known: BTreeMap<StackName, Known>,
    names: Vec<StackName>,
    greetings: u64,
    pub(super) losses: Losses,
}

/// A stack that has greeted at least once.
#[derive(Debug)]
pub(super) struct Known {
    /// Its number in CRT entries: given at its first Hello, never to another.
    pub(super) index: StackIndex,
    /// Where packets reach it.
    pub(super) cluster_address: ClusterAddress,
    /// Its software's version.
    pub(super) version: String,
    /// The longest IP packet between the stacks, in bytes, as it is configured there; none: it did not say.
    pub(super) fabric_mtu: Option<u16>,
    /// How many connections the CRT has of it.
    pub(super) connections: u64,
    /// Counts up over all sessions: of two stacks with one address, the one that has been here for longer keeps it.
    pub(super) greeting: u64,
    incarnation: u64,
}

/// What a stack says of itself.
#[derive(Debug)]
pub(super) struct Greeting {
    /// Where packets reach it.
    pub(super) cluster_address: ClusterAddress,
    /// Differs each time its process starts.
    pub(super) incarnation: u64,
    /// Its software's version.
    pub(super) version: String,
    /// The longest IP packet between the stacks, in bytes, as it is configured there.
    pub(super) fabric_mtu: Option<u16>,
}

/// One stack as it is now.
#[derive(Clone, Copy, Debug)]
pub(super) struct StackNow<'a> {
    /// Its name.
    pub(super) name: &'a StackName,
    /// What does not end with a session.
    pub(super) known: &'a Known,
    /// What it said in the session that is up and greeted; none: lost.
    pub(super) said: Option<&'a Said>,
}

impl Stacks {
    /// A session begins.
    pub(super) fn session_up(&mut self, stack: StackName) -> Result<(), Refusal> {
        let room = usize::from(StackIndex::MAX) + 1;
        let full = if self.known.contains_key(&stack) { false } else { self.known.len() >= room };
        if full || (self.sessions.len() >= room && !self.sessions.contains_key(&stack)) {
            return Err(Refusal::TooManyStacks { from: stack });
        }
        self.sessions.insert(stack, Session::Greeting);
        Ok(())
    }

    /// A session ends, and with it what was said in it.
    pub(super) fn session_down(&mut self, stack: &StackName, now: Instant) {
        self.sessions.remove(stack);
        if self.known.contains_key(stack) {
            self.losses.lose(stack, now);
        }
    }

    /// The session with a stack.
    pub(super) fn session(&self, stack: &StackName) -> Option<&Session> {
        self.sessions.get(stack)
    }

    /// What a greeted stack said.
    pub(super) fn said_mut(&mut self, stack: &StackName) -> Option<&mut Said> {
        match self.sessions.get_mut(stack)? {
            Session::Greeting => None,
            Session::Greeted(said) => Some(said),
        }
    }

    /// A stack greets: it gets its number at the first time; a new incarnation has said nothing yet. `true`: this begins
    /// what it says anew.
    pub(super) fn greet(&mut self, from: &StackName, greeting: Greeting) -> Result<bool, Refusal> {
        let Greeting { cluster_address, incarnation, version, fabric_mtu } = greeting;
        let same = self.known.get(from).is_some_and(|known| known.incarnation == incarnation);
        let again = matches!(self.sessions.get(from), Some(Session::Greeted(_)));
        if !self.known.contains_key(from) {
            let index = u16::try_from(self.names.len()).ok().filter(|index| *index <= StackIndex::MAX);
            let index = StackIndex(index.ok_or_else(|| Refusal::TooManyStacks { from: from.clone() })?);
            let new = Known {
                index,
                cluster_address,
                version: String::new(),
                fabric_mtu: None,
                connections: 0,
                greeting: 0,
                incarnation,
            };
            self.names.push(from.clone());
            self.known.insert(from.clone(), new);
        }
        if let Some(known) = self.known.get_mut(from) {
            if !again {
                self.greetings = self.greetings.saturating_add(1);
                known.greeting = self.greetings;
            }
            known.cluster_address = cluster_address;
            known.version = version;
            known.fabric_mtu = fabric_mtu;
            known.incarnation = incarnation;
        }
        self.losses.find(from);
        let anew = !(again && same);
        if anew {
            self.sessions.insert(from.clone(), Session::Greeted(Box::default()));
        }
        Ok(anew)
    }

    /// Marks all greeted stacks as having the VIPA list of this generation, and returns those that did not have it.
    pub(super) fn without_list(&mut self, generation: u64) -> Vec<StackName> {
        let mut without = Vec::new();
        for (name, session) in &mut self.sessions {
            if let Session::Greeted(said) = session
                && said.list_generation != generation
            {
                said.list_generation = generation;
                without.push(name.clone());
            }
        }
        without
    }

    /// Forgets listens of a stack that are of no use any more.
    pub(super) fn forget_listens(&mut self, stack: &StackName, void: &[Service]) {
        if let Some(said) = self.said_mut(stack) {
            for service in void {
                said.listen(*service, false);
            }
        }
    }

    /// The CRT was counted; who is not named has none.
    pub(super) fn count_connections(&mut self, counts: Vec<(StackIndex, u64)>) {
        let counts: BTreeMap<StackIndex, u64> = counts.into_iter().collect();
        for known in self.known.values_mut() {
            known.connections = counts.get(&known.index).copied().unwrap_or(0);
        }
    }

    /// A stack that has greeted at least once.
    pub(super) fn known(&self, name: &StackName) -> Option<&Known> {
        self.known.get(name)
    }

    /// The name of a stack by its number.
    pub(super) fn name(&self, index: StackIndex) -> Option<&StackName> {
        self.names.get(usize::from(index.0))
    }

    /// All known stacks, by name.
    pub(super) fn iter(&self) -> impl Iterator<Item = StackNow<'_>> {
        self.known.iter().map(|(name, known)| StackNow { name, known, said: self.said(name) })
    }

    /// All known stacks, by number.
    pub(super) fn by_index(&self) -> impl Iterator<Item = StackNow<'_>> {
        self.names.iter().filter_map(|name| self.get(name))
    }

    /// One stack as it is now, if it ever greeted.
    pub(super) fn get(&self, name: &StackName) -> Option<StackNow<'_>> {
        let (name, known) = self.known.get_key_value(name)?;
        Some(StackNow { name, known, said: self.said(name) })
    }

    fn said(&self, name: &StackName) -> Option<&Said> {
        match self.sessions.get(name)? {
            Session::Greeting => None,
            Session::Greeted(said) => Some(said),
        }
    }
}
