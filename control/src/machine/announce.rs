//! Telling the segment where a DVIPA is: at once when it becomes active, and twice more, because one frame can be lost. Telling the
//! routing daemon: from when it is served until it is not owned any more.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use model::dpt::{Duty, DvipaEntry};
use model::{Dvipa, DvipaIndex};

use super::{Action, RoutingStack};

/// How often a DVIPA that became active is announced.
const TIMES: u8 = 3;
/// Time between two announcements (RFC 5227 2.3: ANNOUNCE_INTERVAL is 2 s; RFC 4861 7.2.6: RetransTimer is 1 s).
const INTERVAL: Duration = Duration::from_secs(1);

/// What is still to be announced, and when.
#[derive(Debug, Default)]
pub(super) struct Announcements {
    all: BTreeMap<Dvipa, (u8, Instant)>,
    /// When something is due next; asked with each event.
    next: Option<Instant>,
}

impl Announcements {
    /// These became active.
    pub(super) fn begin(&mut self, dvipas: Vec<Dvipa>, now: Instant) {
        self.all.extend(dvipas.into_iter().map(|dvipa| (dvipa, (TIMES, now))));
        self.look_ahead();
    }

    /// Forgets the others.
    pub(super) fn retain(&mut self, keep: impl Fn(Dvipa) -> bool) {
        self.all.retain(|dvipa, _| keep(*dvipa));
        self.look_ahead();
    }

    /// What is to be announced now.
    pub(super) fn due(&mut self, now: Instant) -> Vec<Dvipa> {
        let mut due = Vec::new();
        if self.next.is_none_or(|next| next > now) {
            return due;
        }
        self.all.retain(|dvipa, (left, at)| {
            if *at <= now {
                due.push(*dvipa);
                *left = left.saturating_sub(1);
                *at = now + INTERVAL;
            }
            *left > 0
        });
        self.look_ahead();
        due
    }

    fn look_ahead(&mut self) {
        self.next = self.all.values().map(|(_, at)| *at).min();
    }

    /// When something is due next.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.next
    }
}

/// To which DVIPAs the routing daemon has routes.
#[derive(Debug, Default)]
pub(super) struct Routes {
    dvipas: BTreeSet<Dvipa>,
    /// This stack ends soon: there are none any more.
    ended: bool,
}

impl RoutingStack {
    pub(super) fn announce(&mut self, dvipas: Vec<Dvipa>, now: Instant) {
        self.announcements.begin(dvipas, now);
        for dvipa in self.announcements.due(now) {
            self.actions.push_back(Action::Announce { dvipa });
        }
    }

    /// As if every DVIPA that this stack owns had become its own now.
    pub(super) fn announce_again(&mut self, now: Instant) {
        let owned = self.dvipas.iter().map(|(dvipa, _)| dvipa).collect();
        self.announce(owned, now);
    }

    /// The routes follow the DPT, if there is a table for them. One waits until a service of its DVIPA has a target: clients that another
    /// node serves until then would be refused here. After [`super::SETTLES`] nothing is waited for.
    pub(super) fn follow_routes(&mut self) {
        if self.config.announce.is_none() || self.routes.ended {
            return;
        }
        let (dpt, settled, had) = (&self.published, self.settles.is_none(), &self.routes.dvipas);
        let serving = dpt.distributions.iter().filter(|d| !d.targets.is_empty()).map(|d| d.dvipa);
        let serving: BTreeSet<DvipaIndex> = serving.collect();
        let has_route = |e: &DvipaEntry| settled || had.contains(&e.dvipa) || serving.contains(&e.index);
        // Not the former owner's: it forwards what comes until the routers have heard.
        let ours = dpt.dvipas.iter().filter(|entry| matches!(entry.duty, Duty::Owner | Duty::Partner));
        let dvipas = ours.filter(|entry| has_route(entry)).map(|entry| entry.dvipa).collect();
        self.change_routes(dvipas);
    }

    /// This stack ends soon.
    pub(super) fn end_routes(&mut self) {
        self.routes.ended = true;
        self.change_routes(BTreeSet::new());
    }

    fn change_routes(&mut self, dvipas: BTreeSet<Dvipa>) {
        let had = &mut self.routes.dvipas;
        if dvipas == *had {
            return;
        }
        let withdraws = !dvipas.is_superset(had);
        had.clone_from(&dvipas);
        let action = Action::Route { dvipas };
        // A route goes before its DVIPA does, and comes after it.
        if withdraws { self.actions.push_front(action) } else { self.actions.push_back(action) }
    }
}
