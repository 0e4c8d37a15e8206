//! How long a lease runs, by whose clock.
//!
//! The routing node counts its lease from before it asked, the witness from after it heard, so that a delay only shortens what the node
//! believes. What is left is that clocks run at different rates: each may be off the true one by [`DRIFT`]. The witness counts the
//! whole lease, and in the worst case its clock is fast; the node counts [`Lease::counted`], and in the worst case its clock is slow:
//!
//! ```text
//! counted / (1 − 1/10)  ≤  lease / (1 + 1/10)    ⇔    counted ≤ lease · 9/11
//! ```

use std::time::Duration;

/// The rate of each clock may be off the true one by one part in so many.
pub const DRIFT: u32 = 10;
/// A lease is not shorter, or the heartbeats that renew it would be most of what is sent.
pub const MIN: Duration = Duration::from_millis(100);
/// A lease is not longer: for so long a DVIPA can be without an owner when one dies.
pub const MAX: Duration = Duration::from_secs(60);
/// Not shorter where etcd decides: it grants whole seconds, and none below one and a half of its election timeouts, which are 1 s unless it
/// is configured otherwise.
pub const ETCD_MIN: Duration = Duration::from_secs(2);
/// Unless configured otherwise. A backup hears of a death by the neighbour's silence in about this time anyway.
pub const DEFAULT: Duration = Duration::from_millis(600);

/// How long a node is leased to after each ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Lease(pub(crate) Duration);

impl Lease {
    /// For how long after asking the node believes in it.
    pub(crate) fn counted(self) -> Duration {
        self.0 * (DRIFT - 1) / (DRIFT + 1)
    }

    /// How often it is renewed: two renewals in a row may be lost.
    pub(crate) fn interval(self) -> Duration {
        self.0 / 5
    }

    /// For how long a node keeps `grants` of the `majority` that it needs, in which the others may come: the longer the more it has, so
    /// that of several nodes the one that is nearest gets what the others leave.
    pub(crate) fn patience(self, grants: u32, majority: u32) -> Duration {
        self.0 * (majority + grants.min(majority)) / (2 * majority.max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_node_counts_with_the_slowest_clock_a_witness_counts_with_the_fastest() {
        let lease = Lease(Duration::from_millis(1100));
        assert_eq!(lease.counted(), Duration::from_millis(900));
        assert!(lease.counted() * DRIFT / (DRIFT - 1) <= lease.0 * DRIFT / (DRIFT + 1));
        assert_eq!(lease.interval(), Duration::from_millis(220));
    }

    #[test]
    fn a_node_keeps_grants_the_longer_the_more_it_has_of_them() {
        let patience =
            |grants, majority| Lease(Duration::from_millis(600)).patience(grants, majority).as_millis();
        assert_eq!((patience(0, 3), patience(1, 3), patience(2, 3)), (300, 400, 500));
        assert_eq!((patience(3, 3), patience(9, 3)), (600, 600));
        assert_eq!(patience(0, 0), 0, "nobody is waited for");
    }
}
