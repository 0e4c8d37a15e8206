//! One distributed service: its policies and its targets.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ipnet::IpNet;
use model::StackIndex;
use model::dpt::{Refuse, Shared};
use model::route::RouteSet;
use routes::{RouteId, Routes};

use super::ConnectionIds;
use super::affinity::Affinities;
use super::choice::{Choice, Counts};
use super::limiter::Limiter;
use crate::{Now, Reason};

/// How often a target is picked for a request if the one that was tried comes again.
const TRIES: usize = 16;

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
    /// What its clients have, if they keep their targets for a time.
    pub(super) affinities: Option<Arc<Affinities>>,
    /// Its routes, if it has some.
    pub(super) routed: Option<Routed>,
    /// What reads the connection IDs of its QUIC servers, if it is known how they make them.
    pub(super) ids: Option<Arc<ConnectionIds>>,
    /// How many connections may begin, if there is a limit.
    pub(super) limiter: Option<Limiter>,
}

/// The routes of a service, and what is selected from for each.
#[derive(Debug)]
pub(crate) struct Routed {
    /// What they were made from.
    pub(super) set: Shared<RouteSet>,
    /// What is asked.
    pub(crate) routes: Arc<Routes>,
    /// Of each route.
    pub(super) choices: Box<[Choice]>,
    /// Of each route: whom that selects.
    pub(super) takers: Box<[Stacks]>,
    /// Requests of each route that went to a target.
    pub(super) handed: Arc<[Arc<AtomicU64>]>,
}

impl Routed {
    /// Counts a request of a route that went to a target.
    #[inline]
    pub(crate) fn count(&self, route: RouteId) {
        if let Some(handed) = self.handed.get(usize::from(route.0)) {
            handed.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The counts of these routes, each as the former one of its name has it.
    pub(super) fn counts(set: &RouteSet, former: Option<&Self>) -> Arc<[Arc<AtomicU64>]> {
        let known: HashMap<&str, &Arc<AtomicU64>> = former
            .into_iter()
            .flat_map(|former| former.set.routes.iter().zip(former.handed.iter()))
            .map(|(route, handed)| (route.name.as_str(), handed))
            .collect();
        let of = |name: &str| known.get(name).map_or_else(Arc::default, |handed| Arc::clone(handed));
        set.routes.iter().map(|route| of(&route.name)).collect()
    }

    /// Each route's name, and how many of its requests went to a target.
    pub(super) fn handed(&self) -> impl Iterator<Item = (&str, u64)> {
        let counts = self.handed.iter().map(|handed| handed.load(Ordering::Relaxed));
        self.set.routes.iter().map(|route| route.name.as_str()).zip(counts)
    }

    /// Whether a request of a route may go to this stack.
    pub(crate) fn takes(&self, route: RouteId, stack: StackIndex) -> bool {
        self.takers.get(usize::from(route.0)).is_some_and(|takers| takers.has(stack))
    }

    /// The target for a further request of a client, if there is one that takes it; one with as many connections as it may have, if all
    /// have: an answer of another route's target would be a wrong one.
    pub(crate) fn pick_next(
        &self,
        route: RouteId,
        client: SocketAddr,
        counts: &impl Counts,
        now: Now,
    ) -> Option<StackIndex> {
        let choice = self.choices.get(usize::from(route.0))?;
        let pick = |choice: &Choice| choice.pick(client, counts, now);
        pick(choice).or_else(|| pick(choice.unlimited()))
    }

    /// The target for a request of a route, if there is one that takes it: not the one that was tried, if there is another.
    pub(crate) fn pick(
        &self,
        route: RouteId,
        client: SocketAddr,
        tried: Option<StackIndex>,
        (counts, now): (&impl Counts, Now),
    ) -> Option<StackIndex> {
        let choice = self.choices.get(usize::from(route.0))?;
        let mut picks = (0..TRIES).map_while(|_| choice.pick(client, counts, now));
        let first = picks.next()?;
        if Some(first) != tried {
            return Some(first);
        }
        picks.find(|pick| Some(*pick) != tried).or(Some(first))
    }
}

/// A set of stacks: a bit each, because it is looked at for each packet of a UDP flow.
#[derive(Clone, Debug)]
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
    pub(crate) fn pick(&self, client: SocketAddr, counts: &impl Counts, now: Now) -> Option<StackIndex> {
        self.choice(client.ip()).pick(client, counts, now)
    }

    /// Why a client's new connection finds no target.
    pub(crate) fn refusal(&self, client: IpAddr) -> Reason {
        if self.choice(client).is_limited() { Reason::TargetsFull } else { Reason::NoTarget }
    }

    /// Whether a client's new connection, for which there is a target, may begin now.
    ///
    /// # Errors
    /// What it is counted as, if not.
    #[inline]
    pub(crate) fn admit(&self, client: IpAddr, now: Now) -> Result<(), Reason> {
        self.limiter.as_ref().map_or(Ok(()), |limiter| limiter.admit(client, now))
    }

    /// The target that the client's address and port alone tell, if the method goes by them.
    pub(crate) fn hashed(&self, client: SocketAddr, now: Now) -> Option<StackIndex> {
        self.choice(client.ip()).hashed(client, now)
    }

    /// What its clients have, if they keep their targets for a time.
    pub(crate) fn affinities(&self) -> Option<&Arc<Affinities>> {
        self.affinities.as_ref()
    }

    /// Its routes, if it has some.
    pub(crate) fn routed(&self) -> Option<&Routed> {
        self.routed.as_ref()
    }

    /// What reads the connection IDs of its QUIC servers, if it is known how they make them.
    pub(crate) fn ids(&self) -> Option<&ConnectionIds> {
        self.ids.as_deref()
    }

    /// The same service, but what a selection changes is its own.
    pub(super) fn apart(&self) -> Self {
        Self {
            policies: self.policies.iter().map(|(client, choice)| (*client, choice.apart())).collect(),
            default: self.default.apart(),
            serving: self.serving.clone(),
            refuse: self.refuse,
            affinities: self.affinities.clone(),
            routed: self.routed.as_ref().map(|routed| Routed {
                set: routed.set.clone(),
                routes: Arc::clone(&routed.routes),
                choices: routed.choices.iter().map(Choice::apart).collect(),
                takers: routed.takers.clone(),
                handed: Routed::counts(&routed.set, None),
            }),
            ids: self.ids.clone(),
            limiter: self.limiter.as_ref().map(Limiter::apart),
        }
    }

    fn choice(&self, client: IpAddr) -> &Choice {
        self.policy(client).map_or(&self.default, |(_, choice)| choice)
    }

    /// The policy that a client's target is selected by, if there is one for it.
    pub(super) fn policy(&self, client: IpAddr) -> Option<&(IpNet, Choice)> {
        self.policies.iter().find(|(prefix, _)| prefix.contains(&client))
    }
}
