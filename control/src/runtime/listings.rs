//! Looks into the whole CRT, in slices: between two of them heartbeats, timers and everybody's messages have their turn.
//!
//! All looks that wait when a pass begins share it; those that come later share the next one. So a table of 10 million
//! connections is gone through once for any number of operators and evacuations, some 800 slices of less than a millisecond.
//!
//! A pass is no snapshot. Each line is shown as it was when the pass came by. An entry that was there all the time and did not
//! move within the table is shown once; one that moved meanwhile (to make room for another) is shown once, twice or not at
//! all, and so is one that came, went or changed its state.

use std::collections::BTreeMap;

use model::{Dvipa, StackIndex, StackName};
use tokio::sync::oneshot;

use super::admin::Answer;
use super::census::{Shares, count};
use super::forwarding::{CrtCursor, CrtEntry, CrtFilter, CrtPage, Forwarding};
use crate::machine::Scope;

/// The most looks that wait or are under way: above it operators are asked to come again.
pub(super) const MAX_LISTINGS: usize = 64;

/// Whom a look is for.
pub(super) enum Asker {
    /// An operator, who waits for the answer.
    Operator(oneshot::Sender<Answer>),
    /// An evacuation.
    Evacuation(StackName, Scope),
    /// A DVIPA that is taken back when it has no connection.
    Idle(Dvipa),
    /// An address of a range, whose connections may be at several stacks.
    Range(Dvipa),
    /// Those who watch services.
    Census,
}

/// A look into the whole CRT.
pub(super) struct Listing {
    pub(super) asker: Asker,
    pub(super) page: CrtPage,
    /// How many each stack has, for [`Asker::Range`].
    pub(super) stacks: BTreeMap<StackIndex, u64>,
    /// What each stack has of each service, for [`Asker::Census`].
    pub(super) shares: Shares,
    filter: CrtFilter,
    limit: usize,
}

/// The looks that wait, and those that are under way.
#[derive(Default)]
pub(super) struct Listings {
    waiting: Vec<Listing>,
    under_way: Vec<Listing>,
    at: CrtCursor,
}

impl Listing {
    /// At most `limit` of the entries that pass the filter, and how many more there are.
    pub(super) fn new(asker: Asker, filter: CrtFilter, limit: usize) -> Self {
        Self {
            asker,
            filter,
            limit,
            page: CrtPage::default(),
            stacks: BTreeMap::new(),
            shares: Shares::new(),
        }
    }

    /// All connections, counted.
    pub(super) fn census() -> Self {
        Self::new(Asker::Census, CrtFilter::default(), 0)
    }

    fn see(&mut self, entry: &CrtEntry) {
        if !self.filter.admits(entry) {
            return;
        }
        if matches!(self.asker, Asker::Range(_)) {
            *self.stacks.entry(entry.stack).or_default() += 1;
        }
        if matches!(self.asker, Asker::Census) {
            count(&mut self.shares, entry);
            return;
        }
        if self.page.entries.len() < self.limit {
            self.page.entries.push(*entry);
        } else {
            self.page.more = self.page.more.saturating_add(1);
        }
    }

    fn is_awaited(&self) -> bool {
        !matches!(&self.asker, Asker::Operator(reply) if reply.is_closed())
    }
}

impl Listings {
    /// Puts a look in. `Err`: there are too many, and this operator has to be told.
    pub(super) fn put(&mut self, listing: Listing) -> Result<(), Asker> {
        if self.waiting.len().saturating_add(self.under_way.len()) >= MAX_LISTINGS
            && matches!(listing.asker, Asker::Operator(_))
        {
            return Err(listing.asker);
        }
        self.waiting.push(listing);
        Ok(())
    }

    /// There is something to look for.
    pub(super) fn are_wanted(&self) -> bool {
        !self.waiting.is_empty() || !self.under_way.is_empty()
    }

    /// Looks at one slice; returns the looks that are done with it.
    pub(super) fn step(&mut self, forwarding: &impl Forwarding) -> Vec<Listing> {
        if self.under_way.is_empty() {
            (self.under_way, self.at) = (std::mem::take(&mut self.waiting), CrtCursor::default());
        }
        // One that has gone away meanwhile needs no answer.
        self.under_way.retain(Listing::is_awaited);
        if self.under_way.is_empty() {
            return Vec::new();
        }
        let under_way = &mut self.under_way;
        let next = forwarding.crt_scan(self.at, &mut |entry| {
            under_way.iter_mut().for_each(|listing| listing.see(&entry));
        });
        match next {
            Some(next) => {
                self.at = next;
                Vec::new()
            }
            None => std::mem::take(&mut self.under_way),
        }
    }
}
