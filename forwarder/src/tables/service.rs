//! One distributed service: its policies and its targets.

use std::net::IpAddr;

use ipnet::IpNet;
use model::StackIndex;
use model::dpt::Refuse;

use super::choice::{Choice, Counts};

/// A service that is distributed.
#[derive(Debug)]
pub(crate) struct Service {
    /// First match wins.
    pub(super) policies: Box<[(IpNet, Choice)]>,
    /// For clients that no policy matches.
    pub(super) default: Choice,
    /// Stacks with an application listening, selectable or not.
    pub(super) serving: Stacks,
    /// What a client is told while no target takes it.
    pub(super) refuse: Refuse,
}

/// A set of stacks: a bit each, because it is looked at for each packet of a UDP flow.
#[derive(Debug)]
pub(super) struct Stacks(Box<[u64]>);

impl FromIterator<StackIndex> for Stacks {
    fn from_iter<I: IntoIterator<Item = StackIndex>>(stacks: I) -> Self {
        let mut words = Vec::new();
        for (word, bit) in stacks.into_iter().map(place) {
            if words.len() <= word {
                words.resize(word.saturating_add(1), 0);
            }
            if let Some(word) = words.get_mut(word) {
                *word |= bit;
            }
        }
        Self(words.into())
    }
}

impl Stacks {
    #[inline(always)]
    pub(super) fn has(&self, stack: StackIndex) -> bool {
        let (word, bit) = place(stack);
        self.0.get(word).is_some_and(|word| word & bit != 0)
    }
}

/// The word of a stack's bit, and the bit.
#[inline(always)]
fn place(stack: StackIndex) -> (usize, u64) {
    (usize::from(stack.0 >> 6), 1 << (stack.0 & 63))
}

impl Service {
    /// Whether an application of the stack serves it: what the stack has of it stays there.
    #[inline(always)]
    pub(crate) fn serves(&self, stack: StackIndex) -> bool {
        self.serving.has(stack)
    }

    /// The target for a client's new connection, if there is one that takes it.
    pub(crate) fn pick(&self, client: IpAddr, port: u16, counts: &impl Counts) -> Option<StackIndex> {
        self.choice(client).pick(client, port, counts)
    }

    /// The target that the client's address and port alone tell, if the method goes by them.
    pub(crate) fn hashed(&self, client: IpAddr, port: u16) -> Option<StackIndex> {
        self.choice(client).hashed(client, port)
    }

    fn choice(&self, client: IpAddr) -> &Choice {
        let policy = self.policies.iter().find(|(prefix, _)| prefix.contains(&client));
        policy.map_or(&self.default, |(_, choice)| choice)
    }
}
