//! The stacks: which are here, which were, and what they said.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use model::codec::Address;
use model::numbering::NumberedStack;
use model::{ClusterAddress, Dvipa, Epoch, Service, StackIndex, StackName};

use super::losses::Losses;
use super::numbers::Numbers;
use super::roster::{Roster, Turn};
use super::session::Said;
use super::{Offence, Refusal};

/// All stacks that have a session or had one.
#[derive(Debug)]
pub(super) struct Stacks {
    sessions: BTreeMap<StackName, Said>,
    known: BTreeMap<StackName, Known>,
    /// By number; none where nobody has it.
    names: Vec<Option<StackName>>,
    pub(super) numbers: Numbers,
    greetings: u64,
    pub(super) losses: Losses,
    pub(super) roster: Roster,
}

/// A stack that has had a session.
#[derive(Debug)]
pub(super) struct Known {
    /// Its number in CRT entries: given in its first session.
    pub(super) index: StackIndex,
    /// Where packets reach it.
    pub(super) cluster_address: ClusterAddress,
    /// Its software's version.
    pub(super) version: String,
    /// The longest IP packet between the stacks, in bytes, as it is configured there; none: it did not say.
    pub(super) fabric_mtu: Option<u16>,
    /// How many connections the CRT has of it.
    pub(super) connections: u64,
    /// Up to which number it was heard what became of its connections, in this run of its agent; none: it has to name all.
    heard: Option<u64>,
    /// Counts up over all sessions: of two stacks with one address, the one that has been here for longer keeps it.
    pub(super) greeting: u64,
    incarnation: u64,
}

/// What a stack says of itself.
#[derive(Debug)]
pub(super) struct Greeting {
    /// Where packets reach it.
    pub(super) cluster_address: ClusterAddress,
    /// Which run of its agent this is.
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
    /// What it said in the session that is up; none: lost.
    pub(super) said: Option<&'a Said>,
}

impl Stacks {
    /// None yet beside this node itself.
    pub(super) fn new(own: StackName, own_address: ClusterAddress) -> Self {
        Self {
            sessions: BTreeMap::new(),
            known: BTreeMap::new(),
            names: Vec::new(),
            numbers: Numbers::new(StackIndex::MAX),
            greetings: 0,
            losses: Losses::default(),
            roster: Roster::new(own, own_address),
        }
    }

    /// Each of these was known to a former process of this node, and is lost until it greets again.
    pub(super) fn resume(&mut self, stacks: &[NumberedStack], now: Instant) {
        for stack in stacks {
            // A numbering that was read has no others.
            let Some(cluster_address) = stack.cluster_address() else { continue };
            self.numbers.take(stack.number);
            self.name_number(stack.number, &stack.name);
            self.greetings = self.greetings.saturating_add(1);
            let known = Known {
                index: StackIndex(stack.number),
                cluster_address,
                version: String::new(),
                fabric_mtu: None,
                connections: 0,
                heard: None,
                greeting: self.greetings,
                incarnation: 0,
            };
            self.known.insert(stack.name.clone(), known);
            self.losses.lose(&stack.name, now);
            self.place(&stack.name);
        }
    }

    fn name_number(&mut self, number: u16, stack: &StackName) {
        let at = usize::from(number);
        self.names.resize(self.names.len().max(at + 1), None);
        if let Some(place) = self.names.get_mut(at) {
            *place = Some(stack.clone());
        }
    }

    /// Those with a number.
    pub(super) fn numbering(&self) -> Vec<NumberedStack> {
        let numbered = |stack: StackNow<'_>| NumberedStack {
            number: stack.known.index.0,
            name: stack.name.clone(),
            cluster_addresses: stack.known.cluster_address.iter().map(Address).collect(),
        };
        self.by_index().map(numbered).collect()
    }

    /// Says to the roster where a stack stands: after each change of its session or its address.
    fn place(&mut self, stack: &StackName) {
        let Some(StackNow { known, said, .. }) = self.get(stack) else { return };
        let (greeting, address) = (known.greeting, known.cluster_address);
        let turn = if said.is_some() { Turn::Here(greeting) } else { Turn::Gone(Reverse(greeting)) };
        self.roster.place(stack, turn, address);
    }

    /// A session begins, in which nothing was said yet beside this. The stack gets its number in the first one.
    pub(super) fn session_up(&mut self, stack: &StackName, greeting: Greeting) -> Result<(), Refusal> {
        let Greeting { cluster_address, incarnation, version, fabric_mtu } = greeting;
        let before = self.known.get(stack);
        let connections = before.map_or(0, |known| known.connections);
        // What a former run of its agent has said is nothing to this one.
        let heard = before.filter(|known| known.incarnation == incarnation).and_then(|known| known.heard);
        let index = match before {
            Some(known) => known.index,
            None => {
                let number = self.numbers.give().ok_or_else(|| Offence::TooManyStacks.by(stack))?;
                self.name_number(number, stack);
                StackIndex(number)
            }
        };
        self.greetings = self.greetings.saturating_add(1);
        let greeting = self.greetings;
        let known =
            Known { index, cluster_address, version, fabric_mtu, connections, heard, greeting, incarnation };
        self.known.insert(stack.clone(), known);
        self.losses.find(stack);
        self.sessions.insert(stack.clone(), Said::default());
        self.place(stack);
        Ok(())
    }

    /// A session ends, and with it what was said in it.
    pub(super) fn session_down(&mut self, stack: &StackName, now: Instant) {
        self.sessions.remove(stack);
        if self.known.contains_key(stack) {
            self.losses.lose(stack, now);
            self.place(stack);
        }
    }

    /// Those without a session that have been lost for as long as this.
    pub(super) fn gone(&self, patience: Duration, now: Instant) -> impl Iterator<Item = StackName> {
        let lost = self.losses.lost_for(patience, now);
        lost.filter(|stack| !self.sessions.contains_key(*stack)).cloned()
    }

    /// Forgets a stack; returns the number that it had, which rests from now on.
    pub(super) fn forget(&mut self, stack: &StackName) -> Option<StackIndex> {
        let index = self.known.remove(stack)?.index;
        if let Some(place) = self.names.get_mut(usize::from(index.0)) {
            *place = None;
        }
        self.losses.find(stack);
        self.roster.remove(stack);
        Some(index)
    }

    /// A stack says its `fabric_mtu` while its session goes on. `true`: it is another one.
    pub(super) fn says_mtu(&mut self, stack: &StackName, theirs: Option<u16>) -> bool {
        let known = self.known.get_mut(stack).filter(|known| known.fabric_mtu != theirs);
        known.map(|known| known.fabric_mtu = theirs).is_some()
    }

    /// Whether there is a session with a stack.
    pub(super) fn is_up(&self, stack: &StackName) -> bool {
        self.sessions.contains_key(stack)
    }

    /// Those that there is a session with.
    pub(super) fn up(&self) -> impl Iterator<Item = &StackName> {
        self.sessions.keys()
    }

    /// What a stack said in its session.
    pub(super) fn said_mut(&mut self, stack: &StackName) -> Option<&mut Said> {
        self.sessions.get_mut(stack)
    }

    /// What all stacks said that have sessions.
    pub(super) fn said_of_all(&mut self) -> impl Iterator<Item = (&StackName, &mut Said)> {
        self.sessions.iter_mut()
    }

    /// What stacks have said of a DVIPA goes on to be true in another epoch.
    pub(super) fn carry(&mut self, dvipa: Dvipa, to: Epoch) {
        self.sessions.values_mut().for_each(|said| said.carry(dvipa, to));
    }

    /// Those that have given a complete account in the session that is up.
    pub(super) fn accounted(&self) -> BTreeSet<StackName> {
        let accounted = self.sessions.iter().filter(|(_, said)| said.accounted);
        accounted.map(|(stack, _)| stack.clone()).collect()
    }

    /// Marks all stacks as having the VIPA list of this generation, and returns those that did not have it.
    pub(super) fn without_list(&mut self, generation: u64) -> Vec<StackName> {
        let without = self.sessions.iter_mut().filter(|(_, said)| said.list_generation != generation);
        let mark = |(name, said): (&StackName, &mut Said)| {
            said.list_generation = generation;
            name.clone()
        };
        without.map(mark).collect()
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

    /// Up to which number it was heard what became of a stack's connections.
    pub(super) fn heard(&self, stack: &StackName) -> Option<u64> {
        self.known.get(stack)?.heard
    }

    /// It was heard up to this number, or has to name all.
    pub(super) fn hear(&mut self, stack: &StackName, number: Option<u64>) {
        if let Some(known) = self.known.get_mut(stack) {
            known.heard = number;
        }
    }

    /// A stack that has had a session.
    pub(super) fn known(&self, name: &StackName) -> Option<&Known> {
        self.known.get(name)
    }

    /// The name of a stack by its number.
    pub(super) fn name(&self, index: StackIndex) -> Option<&StackName> {
        self.names.get(usize::from(index.0))?.as_ref()
    }

    /// All known stacks, by name.
    pub(super) fn iter(&self) -> impl Iterator<Item = StackNow<'_>> {
        self.known.iter().map(|(name, known)| StackNow { name, known, said: self.said(name) })
    }

    /// All known stacks, by number.
    pub(super) fn by_index(&self) -> impl Iterator<Item = StackNow<'_>> {
        self.names.iter().flatten().filter_map(|name| self.get(name))
    }

    /// One stack as it is now, by its number.
    pub(super) fn at(&self, index: StackIndex) -> Option<StackNow<'_>> {
        self.get(self.name(index)?)
    }

    /// One stack as it is now, if it ever greeted.
    pub(super) fn get(&self, name: &StackName) -> Option<StackNow<'_>> {
        let (name, known) = self.known.get_key_value(name)?;
        Some(StackNow { name, known, said: self.said(name) })
    }

    fn said(&self, name: &StackName) -> Option<&Said> {
        self.sessions.get(name)
    }
}
