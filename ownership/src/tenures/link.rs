//! What a node knows of one witness.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use model::StackName;
use model::ownership::Ask;

/// More asks than this are not waited for: the first ones are older than any lease by then.
const MAX_ASKS: usize = 64;

/// One witness, and what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Link {
    pub(super) name: StackName,
    pub(super) up: bool,
    /// What was asked when, oldest first.
    asks: VecDeque<(Ask, Instant)>,
    /// The highest ask that was answered.
    answered: Ask,
    /// The last list that was sent; none is 0.
    sent: Ask,
    /// The list that the witness's grants are about.
    list: Ask,
    /// Lists with lower numbers are void: the witness has said that it leases to no run of ours.
    void_below: Ask,
    /// It leases to this node until then.
    until: Option<Instant>,
    /// The list has changed since it was sent, or the witness does not have it.
    stale: bool,
    /// It leases to none until then.
    waits: Option<Instant>,
    /// When it is to be asked again. Means something while the session is up.
    next: Option<Instant>,
}

/// What an answer says of the witness's grants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum About {
    /// The grants of another list than before.
    Anew,
    /// The list that is known: some more may be granted.
    More,
}

impl Link {
    pub(super) fn new(name: StackName) -> Self {
        Self {
            name,
            up: false,
            asks: VecDeque::new(),
            answered: Ask(0),
            sent: Ask(0),
            list: Ask(0),
            void_below: Ask(0),
            until: None,
            stale: false,
            waits: None,
            next: None,
        }
    }

    /// Whether it leases to this node at this time.
    pub(super) fn leases(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| until > now)
    }

    /// Until when it does.
    pub(super) fn until(&self) -> Option<Instant> {
        self.until
    }

    /// The session has begun or is over.
    pub(super) fn session(&mut self, up: bool, now: Instant) {
        self.up = up;
        self.next = Some(now);
        self.stale |= up && self.sent > Ask(0);
    }

    /// The list has changed.
    pub(super) fn list_changed(&mut self) {
        self.stale = true;
    }

    /// The list has to be sent now.
    pub(super) fn owes_list(&self, now: Instant) -> bool {
        self.up && self.stale && self.waits.is_none_or(|until| until <= now)
    }

    /// The list has to be sent, now or later.
    pub(super) fn lacks_list(&self) -> bool {
        self.stale || self.list < self.sent
    }

    /// When it is to be asked next, if there is something to ask.
    pub(super) fn deadline(&self, wants: bool) -> Option<Instant> {
        let asks = self.up && (wants || self.lacks_list());
        self.next.filter(|_| asks).map(|next| self.waits.map_or(next, |waits| next.max(waits)))
    }

    /// It is asked this at this time; `list`: it is sent the list.
    pub(super) fn ask(&mut self, ask: Ask, list: bool, now: Instant, interval: Duration) {
        if self.asks.len() == MAX_ASKS {
            self.asks.pop_front();
        }
        self.asks.push_back((ask, now));
        self.next = Some(now + interval);
        if list {
            self.sent = ask;
            self.stale = false;
            self.waits = None;
        }
    }

    /// Which list a renewal names.
    pub(super) fn list(&self) -> Ask {
        self.list
    }

    /// It has answered that it leases to this node. `None`: that is about an old list.
    pub(super) fn granted(&mut self, ask: Ask, list: Ask, counted: Duration) -> Option<About> {
        if list < self.list.max(self.void_below) || list > self.sent || list == Ask(0) {
            return None;
        }
        if let Some((_, at)) = self.asks.iter().find(|(number, _)| *number == ask) {
            self.until = self.until.max(Some(*at + counted));
        }
        self.asks.retain(|(number, _)| *number > ask);
        self.answered = self.answered.max(ask);
        let anew = list > self.list;
        self.list = list;
        Some(if anew { About::Anew } else { About::More })
    }

    /// It has answered that it does not lease to this node, and to none for so long. `false`: a later answer was heard already.
    pub(super) fn unleased(&mut self, ask: Ask, wait: Duration, now: Instant) -> bool {
        if ask <= self.answered {
            return false;
        }
        self.answered = ask;
        self.void_below = Ask(ask.0.saturating_add(1));
        self.until = None;
        self.stale |= self.sent <= ask;
        self.waits = (!wait.is_zero()).then(|| now + wait);
        true
    }

    /// For a fault in the simulation: as if all had been asked now.
    #[cfg(test)]
    pub(crate) fn asked_now(&mut self, now: Instant) {
        self.asks.iter_mut().for_each(|(_, at)| *at = now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COUNTED: Duration = Duration::from_millis(900);
    const INTERVAL: Duration = Duration::from_millis(220);

    #[test]
    fn of_too_many_asks_the_first_are_not_waited_for() {
        let (mut link, begin) = (Link::new(StackName::new("w").unwrap()), Instant::now());
        link.session(true, begin);
        for ask in 1..=u64::try_from(MAX_ASKS).unwrap() + 1 {
            link.ask(Ask(ask), ask == 1, begin + Duration::from_millis(ask), INTERVAL);
        }
        assert_eq!(link.granted(Ask(1), Ask(1), COUNTED), Some(About::Anew));
        assert_eq!(link.until(), None, "nobody knows any more when that was asked");
        assert_eq!(link.granted(Ask(2), Ask(1), COUNTED), Some(About::More));
        let until = begin + Duration::from_millis(2) + COUNTED;
        assert_eq!(link.until(), Some(until));
        assert!(link.leases(until - Duration::from_nanos(1)) && !link.leases(until));
        link.granted(Ask(2), Ask(1), COUNTED * 2);
        assert_eq!(link.until(), Some(until), "an ask is answered once");
    }

    #[test]
    fn a_witness_is_asked_again_in_a_session_for_as_long_as_there_is_something_to_ask() {
        let (mut link, now) = (Link::new(StackName::new("w").unwrap()), Instant::now());
        assert_eq!(link.deadline(true), None, "there is no session");
        link.session(true, now);
        assert_eq!((link.deadline(true), link.deadline(false)), (Some(now), None));
        assert!(!link.owes_list(now) && !link.lacks_list());
        link.list_changed();
        assert!(link.owes_list(now) && link.lacks_list());
        assert_eq!(link.deadline(false), Some(now));
        link.ask(Ask(1), true, now, INTERVAL);
        assert!(!link.owes_list(now) && link.lacks_list(), "it is not answered yet");
        assert_eq!(link.deadline(false), Some(now + INTERVAL));
        link.granted(Ask(1), Ask(1), COUNTED);
        assert_eq!((link.deadline(false), link.deadline(true)), (None, Some(now + INTERVAL)));
        link.session(false, now);
        assert!(!link.owes_list(now) && !link.lacks_list());
        link.session(true, now);
        assert!(link.owes_list(now), "it may not have heard the list");
    }
}
