//! What each stack has of each service, counted in a pass round the CRT now and then while somebody wants to know.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use model::{Protocol, StackIndex};

use super::api::ShareRow;
use super::driver::Driver;
use super::forwarding::{CrtEntry, Forwarding, MOST_SHARES, Share};
use super::listings::Listing;

/// Not more often than this.
const EVERY: Duration = Duration::from_secs(15);
/// A pass is followed by so many times what it has cost without another one: it takes half a percent of the control thread at most.
const REST: u32 = 200;

/// Connections by service and stack.
pub(super) type Shares = HashMap<(SocketAddr, Protocol, StackIndex), u64>;

/// One more connection.
pub(super) fn count(shares: &mut Shares, entry: &CrtEntry) {
    let share = (entry.connection.dvipa, entry.connection.protocol, entry.stack);
    if let Some(count) = shares.get_mut(&share) {
        *count += 1;
    } else if shares.len() < MOST_SHARES {
        shares.insert(share, 1);
    }
}

/// The last count, and when the next one may begin.
#[derive(Debug, Default)]
pub(super) struct Census {
    last: Option<Shares>,
    not_before: Option<Instant>,
    under_way: bool,
    spent: Duration,
}

impl Census {
    /// Somebody wants to know. `true`: a pass is to begin.
    fn wanted(&mut self, now: Instant) -> bool {
        let begins = !self.under_way && self.not_before.is_none_or(|at| at <= now);
        if begins {
            (self.under_way, self.spent) = (true, Duration::ZERO);
        }
        begins
    }

    /// What a part of a pass has cost.
    pub(super) fn spent(&mut self, time: Duration) {
        if self.under_way {
            self.spent += time;
        }
    }

    /// A pass is over.
    pub(super) fn done(&mut self, shares: Shares, now: Instant) {
        self.last = Some(shares);
        self.under_way = false;
        self.not_before = Some(now + EVERY.max(self.spent * REST));
    }
}

impl<F: Forwarding> Driver<F> {
    /// Counts anew, if it is time.
    pub(super) fn take_census(&mut self) {
        if self.census.wanted(Instant::now()) {
            // Only operators' looks are limited.
            let _ = self.listings.put(Listing::census());
        }
    }

    /// What was counted.
    pub(super) fn shares(&self) -> Vec<ShareRow> {
        let none = self.census.last.as_ref().map(|_| 0);
        let mut shares: BTreeMap<_, (u64, Option<u64>)> = BTreeMap::new();
        for Share { service, protocol, stack, connections } in self.forwarding.opened() {
            shares.insert((service, protocol, self.name(stack)), (connections, none));
        }
        for ((service, protocol, stack), connections) in self.census.last.iter().flatten() {
            let share = shares.entry((*service, *protocol, self.name(*stack))).or_default();
            share.1 = Some(*connections);
        }
        let row = |((service, protocol, stack), (opened, connections)): (_, (u64, Option<u64>))| {
            let (service, stack): (SocketAddr, String) = (service, stack);
            ShareRow { dvipa: service.ip(), port: service.port(), protocol, stack, opened, connections }
        };
        shares.into_iter().map(row).take(MOST_SHARES).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pass_that_cost_much_is_followed_by_a_long_rest() {
        let (mut census, begun) = (Census::default(), Instant::now());
        assert!(census.wanted(begun) && !census.wanted(begun), "one at a time");
        census.spent(Duration::from_millis(10));
        census.done(Shares::new(), begun);
        assert!(!census.wanted(begun + EVERY - Duration::from_millis(1)));
        assert!(census.wanted(begun + EVERY));
        census.spent(Duration::from_secs(1));
        census.done(Shares::new(), begun);
        assert!(!census.wanted(begun + Duration::from_secs(199)));
        assert!(census.wanted(begun + Duration::from_secs(200)));
    }
}
