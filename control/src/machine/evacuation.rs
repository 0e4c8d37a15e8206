//! Drains that also move the drained stack's connections to the others, as they become idle (`baton drain --move`).
//!
//! It is decided here and not by the program that ordered it, so that it goes on when an operator's terminal is gone.
//!
//! Which connections the stack has is asked of the CRT again and again ([`super::Action::List`]). Each of them is in one place:
//!
//! | event | waiting | under way | refused |
//! | --- | --- | --- | --- |
//! | its turn, and a target has room | order; *under way* | – | – |
//! | the order ends: moved | – | counted; gone | – |
//! | it ends: tried again later | – | *waiting*, each time for longer | – |
//! | it ends: can't move, or too often | – | *refused* | – |
//! | the list does not name it | gone | – | gone |
//!
//! Each target has room for as many as [`Terms::at_once`] says, so that one whose application thinks long about each offer keeps
//! only its own share waiting.
//!
//! A busy connection is tried again for as long as the evacuation lasts, and so is one that no target takes now; whatever else
//! fails, [`TRIES`] times.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::time::{Duration, Instant};

use model::transfer::Reason;
use model::{Connection, Protocol, Service, StackName};
use transfer::routing::Outcome;

use super::Scope;

/// The most connections that are known at once of one evacuation; the others follow when these are gone.
const KNOWN: usize = 4_096;
/// How often the CRT is asked while connections leave, while none does, and while there are none.
const LOOKS: (Duration, Duration, Duration) =
    (Duration::from_millis(250), Duration::from_secs(1), Duration::from_secs(5));
/// When a busy connection is tried again for the first time; each later time after twice as long, up to the second number.
const AGAIN: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(2));
/// A connection that could not move for another reason than being busy is tried so often.
const TRIES: u32 = 5;
/// The most orders that one evacuation has under way to one target.
pub const MAX_AT_ONCE: usize = 256;

/// How an evacuation is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// For how many milliseconds a connection and its server must have been quiet; `None`: as agents do by themselves.
    pub quiet_ms: Option<u32>,
    /// How many connections move to each target at once, at most [`MAX_AT_ONCE`].
    pub at_once: usize,
    /// Then it ends, whatever is left.
    pub time: Option<Duration>,
}

/// How far an evacuation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Connections are moved as they become idle.
    Moving,
    /// An operator has stopped it; the drain goes on.
    Stopped,
    /// Its time is over; the drain goes on.
    TimeOver,
}

/// A connection that waits for its turn.
#[derive(Clone, Debug)]
struct Waiting {
    since: Instant,
    at: Instant,
    tries: u32,
    failures: u32,
    why: Option<Reason>,
    /// Where it could go when its turn came and none of these had room.
    full: Vec<StackName>,
}

/// A connection that an order is given for.
#[derive(Clone, Debug)]
struct UnderWay {
    waiting: Waiting,
    target: StackName,
}

impl Waiting {
    /// As far as is known.
    fn has_room(&self, full: &BTreeSet<StackName>) -> bool {
        self.full.is_empty() || self.full.iter().any(|target| !full.contains(target))
    }
}

/// One evacuation.
#[derive(Debug)]
pub(super) struct Evacuation {
    pub(super) terms: Terms,
    pub(super) phase: Phase,
    pub(super) began: Instant,
    /// When it ended, unless it goes on.
    pub(super) ended: Option<Instant>,
    /// Connections that the stack had when the CRT was asked last; `None`: not yet.
    pub(super) listed: Option<u64>,
    pub(super) moved: u64,
    /// Gone with the host that took them over.
    pub(super) lost: u64,
    next_look: Instant,
    /// Since when the CRT is being looked through, if it is.
    asked: Option<Instant>,
    waiting: BTreeMap<Connection, Waiting>,
    under_way: BTreeMap<Connection, UnderWay>,
    /// Why, and since when.
    refused: BTreeMap<Connection, (Reason, Instant)>,
    /// How much each target is owed (smooth weighted round robin).
    credit: BTreeMap<(Service, StackName), i64>,
}

impl Evacuation {
    pub(super) fn new(terms: Terms, now: Instant) -> Self {
        Self {
            terms,
            phase: Phase::Moving,
            began: now,
            ended: None,
            listed: None,
            moved: 0,
            lost: 0,
            next_look: now,
            asked: None,
            waiting: BTreeMap::new(),
            under_way: BTreeMap::new(),
            refused: BTreeMap::new(),
            credit: BTreeMap::new(),
        }
    }

    /// No connection begins to move any more.
    pub(super) fn end(&mut self, phase: Phase, now: Instant) {
        if self.phase == Phase::Moving {
            (self.phase, self.ended) = (phase, Some(now));
        }
    }

    /// Ends it if its time is over; whether the CRT is to be asked now.
    pub(super) fn time_passed(&mut self, now: Instant) -> bool {
        if self.terms.time.is_some_and(|time| self.began + time <= now) {
            self.end(Phase::TimeOver, now);
        }
        let due = self.phase == Phase::Moving && self.asked.is_none() && self.next_look <= now;
        if due {
            self.asked = Some(now);
        }
        due
    }

    /// How many connections the CRT is to name.
    pub(super) fn wanted(&self) -> usize {
        KNOWN.saturating_add(self.refused.len())
    }

    /// The stack has these established connections, and so many more.
    pub(super) fn list(&mut self, connections: Vec<Connection>, more: u64, now: Instant) {
        let tcp = connections.into_iter().filter(|c| c.protocol == Protocol::Tcp);
        let there: BTreeSet<Connection> = tcp.collect();
        let before = self.listed.replace(u64::try_from(there.len()).unwrap_or(u64::MAX).saturating_add(more));
        let asked = self.asked.take().unwrap_or(now);
        let (leaving, staying, none) = LOOKS;
        self.next_look = now + if before != self.listed { leaving } else { staying };
        if self.is_empty() {
            self.next_look = now + none;
        }
        // Of those that the list left out nothing is known, nor of those that were moving while it was made.
        if more == 0 {
            let stands = |connection: &Connection, since| since > asked || there.contains(connection);
            self.waiting.retain(|connection, waiting| stands(connection, waiting.since));
            self.refused.retain(|connection, (_, since)| stands(connection, *since));
        }
        // The targets may be others by now.
        self.waiting.values_mut().for_each(|waiting| waiting.full.clear());
        if self.phase != Phase::Moving {
            return;
        }
        for connection in there {
            let known = self.under_way.contains_key(&connection) || self.refused.contains_key(&connection);
            if !known {
                let new = Waiting { since: now, at: now, tries: 0, failures: 0, why: None, full: Vec::new() };
                self.waiting.entry(connection).or_insert(new);
            }
        }
    }

    /// A connection whose turn it is, and the target that it goes to, out of those that a connection could go to, with their
    /// weights. It is under way until [`Self::over`].
    pub(super) fn next(
        &mut self,
        now: Instant,
        destinations: impl Fn(&Connection) -> Vec<(StackName, u16)>,
    ) -> Option<(Connection, StackName)> {
        if self.phase != Phase::Moving {
            return None;
        }
        let full = self.full();
        let due = self.waiting.iter().filter(|(_, waiting)| waiting.at <= now && waiting.has_room(&full));
        let mut due: BinaryHeap<_> =
            due.map(|(connection, waiting)| Reverse((waiting.at, *connection))).collect();
        while let Some(Reverse((_, connection))) = due.pop() {
            let Some(mut waiting) = self.waiting.remove(&connection) else { continue };
            let destinations = destinations(&connection);
            if destinations.is_empty() {
                self.again(connection, waiting, Reason::NotATarget, now);
                continue;
            }
            let with_room =
                destinations.iter().filter(|(target, _)| !full.contains(target)).cloned().collect();
            if let Some(target) = self.choose(connection.service(), with_room) {
                self.under_way.insert(connection, UnderWay { waiting, target: target.clone() });
                return Some((connection, target));
            }
            waiting.full = destinations.into_iter().map(|(target, _)| target).collect();
            self.waiting.insert(connection, waiting);
        }
        None
    }

    /// The targets that have no room.
    fn full(&self) -> BTreeSet<StackName> {
        let to = count(self.under_way.values().map(|under_way| &under_way.target));
        let at_once = self.terms.at_once.clamp(1, MAX_AT_ONCE) as u64;
        to.into_iter().filter(|(_, n)| *n >= at_once).map(|(target, _)| target.clone()).collect()
    }

    /// What became of a connection that was under way.
    pub(super) fn over(&mut self, connection: &Connection, outcome: &Outcome, now: Instant) {
        let Some(UnderWay { waiting, .. }) = self.under_way.remove(connection) else { return };
        match outcome {
            Outcome::Moved => {
                self.moved = self.moved.saturating_add(1);
                // It may have been the last one.
                if self.under_way.is_empty() && self.waiting.is_empty() {
                    self.next_look = now;
                }
            }
            Outcome::Lost => self.lost = self.lost.saturating_add(1),
            Outcome::Stayed(why) => self.again(*connection, waiting, why.reason, now),
        }
    }

    /// It did not move: it is tried again later, or not any more.
    fn again(&mut self, connection: Connection, mut waiting: Waiting, why: Reason, now: Instant) {
        let fails = !is_no_failure(why);
        waiting.failures = waiting.failures.saturating_add(u32::from(fails));
        if can_never_move(why) || waiting.failures >= TRIES {
            self.refused.insert(connection, (why, now));
            return;
        }
        let pause = AGAIN.0.saturating_mul(1 << waiting.tries.min(10)).min(AGAIN.1);
        let pause = if fails { AGAIN.1 } else { pause };
        waiting.tries = waiting.tries.saturating_add(1);
        (waiting.since, waiting.at, waiting.why) = (now, now + pause, Some(why));
        waiting.full.clear();
        self.waiting.insert(connection, waiting);
    }

    /// When there is something to do, if ever.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        if self.phase != Phase::Moving {
            return None;
        }
        let full = self.full();
        let turn =
            self.waiting.values().filter(|waiting| waiting.has_room(&full)).map(|waiting| waiting.at).min();
        let look = Some(self.next_look).filter(|_| self.asked.is_none());
        let end = self.terms.time.map(|time| self.began + time);
        [turn, look, end].into_iter().flatten().min()
    }

    /// The stack has no connection any more, as far as the CRT says.
    pub(super) fn is_empty(&self) -> bool {
        self.listed == Some(0)
            && self.under_way.is_empty()
            && self.waiting.is_empty()
            && self.refused.is_empty()
    }

    /// How many connections are under way.
    pub(super) fn under_way(&self) -> usize {
        self.under_way.len()
    }

    /// How many wait, by why they did not move when they were tried last; those that were not tried yet have none.
    pub(super) fn waiting(&self) -> BTreeMap<Option<Reason>, u64> {
        count(self.waiting.values().map(|waiting| waiting.why))
    }

    /// How many are not tried any more, by the reason.
    pub(super) fn refused(&self) -> BTreeMap<Reason, u64> {
        count(self.refused.values().map(|(why, _)| *why))
    }

    /// Chooses who is next among these targets of a service by their weights.
    fn choose(&mut self, service: Service, targets: Vec<(StackName, u16)>) -> Option<StackName> {
        let all: i64 = targets.iter().map(|(_, weight)| i64::from(*weight)).sum();
        for (stack, weight) in &targets {
            *self.credit.entry((service, stack.clone())).or_default() += i64::from(*weight);
        }
        let credit = |stack: &StackName| self.credit.get(&(service, stack.clone())).copied();
        let (chosen, _) = targets.into_iter().max_by_key(|(stack, _)| credit(stack))?;
        *self.credit.entry((service, chosen.clone())).or_default() -= all;
        Some(chosen)
    }
}

/// It is tried again for as long as the evacuation lasts: the connection is busy, or stacks come back.
fn is_no_failure(why: Reason) -> bool {
    matches!(
        why,
        Reason::NotIdle
            | Reason::Unseen
            | Reason::Busy
            | Reason::NotATarget
            | Reason::TargetDrains
            | Reason::SourceLost
            | Reason::TooMany
    )
}

/// Whatever is tried: the connection, the target's kernel or its application is not made for it.
fn can_never_move(why: Reason) -> bool {
    matches!(
        why,
        Reason::NotDumped
            | Reason::Encrypted
            | Reason::AnotherProtocol
            | Reason::NoWay
            | Reason::TooLarge
            | Reason::NeedsControlSocket
            | Reason::TakesNoOffers
    )
}

fn count<K: Ord>(keys: impl Iterator<Item = K>) -> BTreeMap<K, u64> {
    let mut counts = BTreeMap::new();
    for key in keys {
        *counts.entry(key).or_default() += 1;
    }
    counts
}

/// All evacuations: what is evacuated, and of which of its connections.
pub(super) type Evacuations = BTreeMap<(StackName, Scope), Evacuation>;

#[cfg(test)]
mod tests;
