//! The look-ups: host name → path → the matches that are left, the most specific first. So thousands of hosts and paths cost what one
//! of each costs.

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

/// What matches of one host name ask of the subject.
#[derive(Debug, Default)]
pub(crate) struct Node {
    pub(crate) exact: HashMap<Box<[u8]>, Run>,
    pub(crate) prefixes: HashMap<Box<[u8]>, Run>,
    /// The lengths that prefixes have, the longest first.
    pub(crate) lengths: Box<[u32]>,
    /// Those that no look-up finds by the subject.
    pub(crate) others: Run,
    /// The host name that is next in precedence and also holds.
    pub(crate) parent: Option<u32>,
}

/// Everything that routes of a port ask for.
#[derive(Debug, Default)]
pub(crate) struct Tables {
    pub(crate) entries: Box<[Entry]>,
    pub(crate) nodes: Box<[Node]>,
    pub(crate) hosts: HashMap<Box<[u8]>, u32>,
    /// By what follows `*.`.
    pub(crate) wildcards: HashMap<Box<[u8]>, u32>,
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

    /// The most specific host name that holds: itself, the longest wildcard, every host.
    fn node_of(&self, host: Option<&[u8]>) -> Option<&Node> {
        let named = host.and_then(|host| self.hosts.get(host).or_else(|| self.wildcard_of(host)));
        named.copied().or(self.any).and_then(|at| self.node(at))
    }

    /// The longest wildcard of a host name. [`crate::host`] limits the labels of a name.
    pub(crate) fn wildcard_of(&self, host: &[u8]) -> Option<&u32> {
        if self.wildcards.is_empty() {
            return None;
        }
        let dots = host.iter().enumerate().filter(|(_, byte)| **byte == b'.');
        let mut suffixes = dots.filter_map(|(at, _)| host.get(at.saturating_add(1)..));
        suffixes.find_map(|suffix| self.wildcards.get(suffix))
    }

    fn find_in(&self, node: &Node, request: &Request<'_>) -> Option<&Entry> {
        if let Some(subject) = request.subject {
            if let Some(entry) = node.exact.get(subject).and_then(|run| self.first_of(*run, request)) {
                return Some(entry);
            }
            for length in &node.lengths {
                let found =
                    self.prefix_of(subject, *length as usize).and_then(|start| node.prefixes.get(start));
                if let Some(entry) = found.and_then(|run| self.first_of(*run, request)) {
                    return Some(entry);
                }
            }
        }
        self.first_of(node.others, request)
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
