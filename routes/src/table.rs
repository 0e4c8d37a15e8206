//! The look-ups: host name → path → the matches that are left, the most specific first. So thousands of hosts and paths cost what one
//! of each costs.
//!
//! With thousands of hosts memory is what a look-up costs. So the names are told apart by slots of eight bytes, what belongs to a name
//! lies together, and few subjects are compared one after the other.

use std::sync::Arc;

use hashbrown::HashMap;

use crate::MatchPlace;
use crate::conditions::Conditions;
use crate::request::Request;

/// One match of one route for one host name.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) place: MatchPlace,
    pub(crate) conditions: Option<Arc<Conditions>>,
}

/// Neighbours among the entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) from: u32,
    pub(crate) to: u32,
}

/// Bytes of [`Tables::texts`].
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Text {
    pub(crate) at: u32,
    pub(crate) len: u32,
}

/// A subject that matches ask for.
#[derive(Debug)]
pub(crate) struct Subject {
    pub(crate) text: Text,
    /// It may go on.
    pub(crate) is_prefix: bool,
    pub(crate) run: Run,
}

/// What matches of one host name ask of the subject.
#[derive(Debug, Default)]
pub(crate) struct Node {
    /// The host name; of a wildcard what follows `*.`.
    pub(crate) name: Text,
    /// Neighbours among the subjects, in the order of precedence: exact ones, then prefixes, the longest first.
    pub(crate) subjects: Run,
    /// The same, if they are more than a [`FEW`].
    pub(crate) many: Option<Box<Many>>,
    /// Those that no look-up finds by the subject.
    pub(crate) others: Run,
    /// The host name that is next in precedence and also holds.
    pub(crate) parent: Option<u32>,
}

/// So many subjects are compared one after the other.
pub(crate) const FEW: usize = 8;

/// Many subjects.
#[derive(Debug, Default)]
pub(crate) struct Many {
    pub(crate) exact: HashMap<Box<[u8]>, Run>,
    pub(crate) prefixes: HashMap<Box<[u8]>, Run>,
    /// The lengths that prefixes have, the longest first.
    pub(crate) lengths: Box<[u32]>,
}

/// Names → nodes: open addressing, at most half full. Names that a client makes up meet others' slots at most, not each other.
#[derive(Debug, Default)]
pub(crate) struct Names {
    /// Half of the name's hash, and its node's number + 1; 0: free. As many as a power of two, or none.
    slots: Box<[(u32, u32)]>,
}

/// The hash of a name: where it is, and half of it for its slot.
fn spread(name: &[u8]) -> (usize, u32) {
    let mix = |hash: u64, word: &[u8; 8]| {
        let product = u128::from(hash ^ u64::from_le_bytes(*word))
            .wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
        (product >> 64) as u64 ^ product as u64
    };
    let (words, rest) = name.as_chunks();
    let mut last = [0; 8];
    match name.last_chunk() {
        Some(chunk) => last = *chunk,
        None => last.iter_mut().zip(rest).for_each(|(to, from)| *to = *from),
    }
    let hash = words.iter().chain([&last]).fold(name.len() as u64, mix);
    (hash as usize, (hash >> 32) as u32)
}

impl Names {
    pub(crate) fn new<'n>(names: impl ExactSizeIterator<Item = (&'n [u8], u32)>) -> Self {
        if names.len() == 0 {
            return Self::default();
        }
        let len = names.len().saturating_mul(2).next_power_of_two();
        let mut slots = vec![(0, 0); len];
        for (name, number) in names {
            let (at, half) = spread(name);
            let mut places = probe(at, len);
            let free = places.find(|at| slots.get(*at).is_some_and(|(_, taken)| *taken == 0));
            if let Some(slot) = free.and_then(|at| slots.get_mut(at)) {
                *slot = (half, number.saturating_add(1));
            }
        }
        Self { slots: slots.into() }
    }

    /// The number of a name, if `is_it` says so of the one whose hash is the same.
    #[inline]
    fn get(&self, name: &[u8], is_it: impl Fn(u32) -> bool) -> Option<u32> {
        if self.slots.is_empty() {
            return None;
        }
        let (at, half) = spread(name);
        let taken =
            probe(at, self.slots.len()).map_while(|at| self.slots.get(at)).take_while(|(_, n)| *n != 0);
        let mut numbers = taken.filter(|(hash, _)| *hash == half).map(|(_, number)| number.wrapping_sub(1));
        numbers.find(|number| is_it(*number))
    }
}

/// The slots where a name may be, in order.
fn probe(from: usize, slots: usize) -> impl Iterator<Item = usize> {
    (0..slots).map(move |step| from.wrapping_add(step) & slots.wrapping_sub(1))
}

/// Everything that routes of a port ask for.
#[derive(Debug, Default)]
pub(crate) struct Tables {
    pub(crate) entries: Box<[Entry]>,
    pub(crate) nodes: Box<[Node]>,
    pub(crate) subjects: Box<[Subject]>,
    /// Of each node its name, then its subjects.
    pub(crate) texts: Box<[u8]>,
    pub(crate) hosts: Names,
    /// By what follows `*.`.
    pub(crate) wildcards: Names,
    /// Of matches for every host.
    pub(crate) any: Option<u32>,
    /// Prefixes end where a path element does.
    pub(crate) whole_elements: bool,
}

/// The result of a search.
pub(crate) enum Found {
    Match(MatchPlace),
    /// Routes name the host, but none takes the request.
    NoMatch,
    /// No route is for the host.
    NoHost,
}

impl Tables {
    /// The first match that holds, in the order of precedence.
    pub(crate) fn find(&self, request: &Request<'_>) -> Found {
        let Some(mut node) = self.node_of(request.host) else { return Found::NoHost };
        // Each node's parent is a shorter name, so that this ends.
        loop {
            if let Some(entry) = self.find_in(node, request) {
                return Found::Match(entry.place);
            }
            match node.parent.and_then(|at| self.node(at)) {
                Some(parent) => node = parent,
                None => return Found::NoMatch,
            }
        }
    }

    fn node(&self, at: u32) -> Option<&Node> {
        self.nodes.get(at as usize)
    }

    fn text(&self, text: Text) -> Option<&[u8]> {
        self.texts.get(text.at as usize..)?.get(..text.len as usize)
    }

    /// The most specific host name that holds: itself, the longest wildcard, every host.
    fn node_of(&self, host: Option<&[u8]>) -> Option<&Node> {
        let named = host.and_then(|host| self.named(&self.hosts, host).or_else(|| self.wildcard_of(host)));
        named.or(self.any).and_then(|at| self.node(at))
    }

    #[inline]
    fn named(&self, names: &Names, name: &[u8]) -> Option<u32> {
        names.get(name, |at| self.node(at).and_then(|node| self.text(node.name)) == Some(name))
    }

    /// The longest wildcard of a host name. [`crate::host`] limits the labels of a name.
    pub(crate) fn wildcard_of(&self, host: &[u8]) -> Option<u32> {
        if self.wildcards.slots.is_empty() {
            return None;
        }
        let dots = host.iter().enumerate().filter(|(_, byte)| **byte == b'.');
        let mut suffixes = dots.filter_map(|(at, _)| host.get(at.saturating_add(1)..));
        suffixes.find_map(|suffix| self.named(&self.wildcards, suffix))
    }

    fn find_in(&self, node: &Node, request: &Request<'_>) -> Option<&Entry> {
        let found = request.subject.and_then(|subject| match &node.many {
            Some(many) => self.find_in_many(many, subject, request),
            None => {
                let subjects = self.subjects.get(node.subjects.from as usize..node.subjects.to as usize)?;
                let mut named = subjects.iter().filter(|one| self.is_of(one, subject));
                named.find_map(|one| self.first_of(one.run, request))
            }
        });
        found.or_else(|| self.first_of(node.others, request))
    }

    /// Whether matches that ask for this have the subject.
    fn is_of(&self, one: &Subject, subject: &[u8]) -> bool {
        let known = self.text(one.text).unwrap_or_default();
        if one.is_prefix { self.prefix_of(subject, known.len()) == Some(known) } else { known == subject }
    }

    fn find_in_many(&self, many: &Many, subject: &[u8], request: &Request<'_>) -> Option<&Entry> {
        if let Some(entry) = many.exact.get(subject).and_then(|run| self.first_of(*run, request)) {
            return Some(entry);
        }
        many.lengths.iter().find_map(|length| {
            let start = self.prefix_of(subject, *length as usize)?;
            many.prefixes.get(start).and_then(|run| self.first_of(*run, request))
        })
    }

    /// The beginning of a subject, if a prefix can have this length there.
    fn prefix_of<'s>(&self, subject: &'s [u8], length: usize) -> Option<&'s [u8]> {
        let start = subject.get(..length)?;
        let ends = !self.whole_elements || subject.get(length).is_none_or(|byte| *byte == b'/');
        ends.then_some(start)
    }

    fn first_of(&self, run: Run, request: &Request<'_>) -> Option<&Entry> {
        let mut entries = self.entries.get(run.from as usize..run.to as usize)?.iter();
        entries.find(|entry| entry.conditions.as_ref().is_none_or(|conditions| conditions.hold(request)))
    }
}
