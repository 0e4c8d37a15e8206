//! What each stack has of each service: connections, counted in a pass round the CRT now and then while somebody wants to know, and what
//! workers count.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use model::{Protocol, StackIndex};
use serde::{Deserialize, Serialize};

use super::driver::Driver;
use super::forwarding::{CrtEntry, Forwarding, MOST_SHARES, Share, TurnedAway};
use super::listings::Listing;
use crate::machine::DptView;

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
    pub(super) fn shares(&self) -> (Vec<ShareRow>, Vec<TurnedAwayRow>) {
        let none = self.census.last.as_ref().map(|_| 0);
        let given = self.forwarding.given();
        let mut shares: BTreeMap<(SocketAddr, Protocol, String), ShareRow> = BTreeMap::new();
        for share in given.shares {
            let row = ShareRow::of(&share, self.name(share.stack), none);
            shares.insert((share.service, share.protocol, row.stack.clone()), row);
        }
        for ((service, protocol, stack), connections) in self.census.last.iter().flatten() {
            let (service, protocol, stack) = (*service, *protocol, *stack);
            let nothing = Share { service, protocol, stack, opened: 0, moved: 0, packets: 0, bytes: 0 };
            let name = self.name(stack);
            let share = shares.entry((service, protocol, name.clone()));
            share.or_insert_with(|| ShareRow::of(&nothing, name, none)).connections = Some(*connections);
        }
        let mut turned_away: Vec<_> = given.turned_away.iter().map(TurnedAwayRow::from).collect();
        turned_away.sort_by_key(|row| (row.dvipa, row.port, row.protocol));
        turned_away.truncate(MOST_SHARES);
        (shares.into_values().take(MOST_SHARES).collect(), turned_away)
    }

    /// The answer of `GET /v1/dpt`.
    pub(super) fn dpt_answer(&self) -> DptAnswer {
        let (shares, turned_away) = self.shares();
        DptAnswer { dpt: self.machine.dpt_view(Instant::now()), shares, turned_away }
    }
}

/// What one stack has of one service, sorted by service and stack.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShareRow {
    /// The service's DVIPA.
    pub dvipa: IpAddr,
    /// Its port; 0: what is of no service, and later fragments.
    pub port: u16,
    /// Its protocol.
    pub protocol: Protocol,
    /// The stack.
    pub stack: String,
    /// TCP connections that it has confirmed since the start; those that were transferred to it are not among them.
    pub opened: u64,
    /// TCP connections that were moved to it since the start.
    #[serde(default)]
    pub moved: u64,
    /// Packets of clients that were sent to it since the start.
    #[serde(default)]
    pub packets: u64,
    /// Bytes of these packets, from the IP header on.
    #[serde(default)]
    pub bytes: u64,
    /// Connections that it has, as of the last pass round the CRT; null: none was made yet, or it is not known.
    pub connections: Option<u64>,
}

impl ShareRow {
    fn of(share: &Share, stack: String, connections: Option<u64>) -> Self {
        let Share { service, protocol, opened, moved, packets, bytes, .. } = *share;
        let (dvipa, port) = (service.ip(), service.port());
        let connections = connections.filter(|_| port != 0);
        Self { dvipa, port, protocol, stack, opened, moved, packets, bytes, connections }
    }
}

/// Packets of clients that were refused of one service since the start, sorted by service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TurnedAwayRow {
    /// The service's DVIPA.
    pub dvipa: IpAddr,
    /// Its port; 0: those that are of no service.
    pub port: u16,
    /// Its protocol.
    pub protocol: Protocol,
    /// No target took them.
    pub refused: u64,
    /// They were beyond `new_connections_per_s`.
    pub service_limited: u64,
    /// They were beyond `client_new_connections_per_s`.
    pub client_limited: u64,
}

impl From<&TurnedAway> for TurnedAwayRow {
    fn from(of: &TurnedAway) -> Self {
        let TurnedAway { service, protocol, refused, service_limited, client_limited } = *of;
        let (dvipa, port) = (service.ip(), service.port());
        Self { dvipa, port, protocol, refused, service_limited, client_limited }
    }
}

/// Answer of `GET /v1/dpt`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DptAnswer {
    /// The services and their targets.
    #[serde(flatten)]
    pub dpt: DptView,
    /// What each stack was given of each service, as in `GET /v1/stats`.
    #[serde(default)]
    pub shares: Vec<ShareRow>,
    /// What was refused of each service, as in `GET /v1/stats`.
    #[serde(default)]
    pub turned_away: Vec<TurnedAwayRow>,
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
