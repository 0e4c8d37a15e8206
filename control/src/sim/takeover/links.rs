//! Sessions between two processes: what is said in one arrives in its order, late, or not any more when it is over.

use std::collections::{BTreeMap, BTreeSet};

use histories::Nanos;
use model::message::{FromStack, ToStack};

use super::history::End;
use super::world::{Parcel, Said};

/// Which of the sessions that any two ever had.
pub(super) type SessionId = u64;

/// The way between two processes.
#[derive(Debug)]
pub(super) struct Link {
    /// Who dials, and who is dialled.
    pub(super) ends: [End; 2],
    /// The session that each of them has.
    pub(super) at: [Option<SessionId>; 2],
    /// When each has heard a sign of life.
    pub(super) heard: [Nanos; 2],
    /// When the last thing arrives at each that is under way: of transfers, which have a stream of their own, and all else.
    last: [[Nanos; 2]; 2],
    /// What is held up on the way to each.
    held_up: [Vec<Parcel>; 2],
}

/// All of them, and what is cut.
#[derive(Debug, Default)]
pub(super) struct Links {
    pub(super) all: BTreeMap<(End, End), Link>,
    /// From one to the other, with the number of cuts at a time.
    pub(super) cut: BTreeMap<(End, End), u32>,
    pub(super) slow: BTreeMap<End, Nanos>,
    last_session: SessionId,
}

impl Links {
    pub(super) fn add(&mut self, dials: End, dialled: End) {
        let link = Link {
            ends: [dials, dialled],
            at: [None; 2],
            heard: [0; 2],
            last: [[0; 2]; 2],
            held_up: Default::default(),
        };
        self.all.insert((dials, dialled), link);
    }

    pub(super) fn new_session(&mut self) -> SessionId {
        self.last_session += 1;
        self.last_session
    }

    pub(super) fn is_cut(&self, from: End, to: End) -> bool {
        self.cut.contains_key(&(from, to))
    }

    /// The link between two, and the place of the second one in it.
    pub(super) fn between(&mut self, one: End, other: End) -> Option<(&mut Link, usize)> {
        let key = if self.all.contains_key(&(one, other)) { (one, other) } else { (other, one) };
        let place = usize::from(key.1 == other);
        self.all.get_mut(&key).map(|link| (link, place))
    }

    /// The session in which one can say something to another.
    pub(super) fn session(&mut self, from: End, to: End) -> Option<SessionId> {
        let (link, place) = self.between(from, to)?;
        link.at[1 - place]
    }

    /// When something arrives that is said now.
    pub(super) fn arrival(&mut self, parcel: &Parcel, now: Nanos, delay: Nanos) -> Nanos {
        let slow = self.slow.get(&parcel.from).copied().unwrap_or(0);
        let Some((link, place)) = self.between(parcel.from, parcel.to) else { return now };
        // The order in a stream is kept, and that of its session's begin and end in both.
        let streams = match parcel.said {
            Said::Dials(_) | Said::Over => 0..2,
            _ if parcel.is_of_transfers() => 1..2,
            _ => 0..1,
        };
        let last = &mut link.last[place][streams];
        let at = last.iter().copied().fold(now + slow + delay, Nanos::max);
        last.fill(at);
        at
    }

    /// Holds a parcel up, if its way is cut or others are held up before it. What witnesses and nodes say to each other is lost instead.
    pub(super) fn holds_up(&mut self, parcel: &Parcel) -> bool {
        let is_cut = self.is_cut(parcel.from, parcel.to);
        let Some((link, place)) = self.between(parcel.from, parcel.to) else { return true };
        let holds = is_cut || (parcel.is_ordered() && !link.held_up[place].is_empty());
        if holds && parcel.is_ordered() {
            link.held_up[place].push(parcel.clone());
        }
        holds
    }

    /// One cut is over; what was held up goes on if it was the last one.
    pub(super) fn mend(&mut self, from: End, to: End) -> Vec<Parcel> {
        if let Some(cuts) = self.cut.get_mut(&(from, to)) {
            *cuts -= 1;
            if *cuts > 0 {
                return Vec::new();
            }
        }
        self.cut.remove(&(from, to));
        self.between(from, to)
            .map(|(link, place)| std::mem::take(&mut link.held_up[place]))
            .unwrap_or_default()
    }

    /// A process has died: it has no session any more, and nothing arrives there.
    pub(super) fn forget(&mut self, dead: End) {
        for link in self.all.values_mut() {
            for place in (0..2).filter(|place| link.ends[*place] == dead) {
                link.at[place] = None;
                link.held_up[place].clear();
            }
        }
    }

    pub(super) fn ends(&self) -> BTreeSet<End> {
        self.all.keys().flat_map(|(one, other)| [*one, *other]).collect()
    }
}

impl Parcel {
    fn is_of_transfers(&self) -> bool {
        match &self.said {
            Said::FromHost(said) => matches!(**said, FromStack::Transfer(_) | FromStack::After(_)),
            Said::ToHost(said) => matches!(**said, ToStack::Transfer(_)),
            _ => false,
        }
    }

    /// Whether it keeps its place in the session. What witnesses hear and say may get lost and overtake: more than a session does to it.
    fn is_ordered(&self) -> bool {
        !matches!(self.said, Said::Claims(_) | Said::Grants(_))
    }
}
