//! What counts as a listener (row U1).
//!
//! | the distribution's ports | a listener counts if it is bound to | on |
//! | --- | --- | --- |
//! | enumerated | the DVIPA, or the wildcard address of its family | one of these ports |
//! | not enumerated | the DVIPA itself | any port |

use std::collections::BTreeSet;
use std::net::IpAddr;

use model::message::VipaListDistribution;
use model::{Dvipa, Protocol, StackName};

use super::sockets::{Bound, Ifindex, Listener};

/// A protocol and port that some application listens on.
pub type Served = (Protocol, u16);

/// Whether this distribution names `stack` as a candidate target.
pub fn is_candidate(distribution: &VipaListDistribution, stack: &StackName) -> bool {
    distribution.candidates.is_empty() || distribution.candidates.iter().any(|c| c == stack.as_str())
}

/// Whether a listener counts for this distribution of this DVIPA. `interfaces` are those that forwarded packets arrive
/// at: a listener that takes the packets of another interface only does not count.
pub fn counts(
    listener: &Listener,
    dvipa: Dvipa,
    distribution: &VipaListDistribution,
    interfaces: &[Ifindex],
) -> bool {
    let reached = listener.interface.is_none_or(|i| interfaces.contains(&i));
    let enumerated = distribution.ports.contains(&listener.port);
    let bound = match (listener.bound, dvipa.address()) {
        (Bound::Address(address), dvipa) => address == dvipa && (enumerated || distribution.ports.is_empty()),
        (Bound::AnyV4 | Bound::AnyDual, IpAddr::V4(_)) | (Bound::AnyV6 | Bound::AnyDual, IpAddr::V6(_)) => {
            enumerated
        }
        (Bound::AnyV4, IpAddr::V6(_)) | (Bound::AnyV6, IpAddr::V4(_)) => false,
    };
    listener.protocol == distribution.protocol && reached && bound
}

/// What of a DVIPA's distributions is served by these listeners on `stack`.
pub fn served<'a>(
    listeners: impl Iterator<Item = &'a Listener>,
    dvipa: Dvipa,
    distributions: &[VipaListDistribution],
    stack: &StackName,
    interfaces: &[Ifindex],
) -> BTreeSet<Served> {
    let ours: Vec<_> = distributions.iter().filter(|d| is_candidate(d, stack)).collect();
    listeners
        .filter(|l| ours.iter().any(|d| counts(l, dvipa, d, interfaces)))
        .map(|l| (l.protocol, l.port))
        .collect()
}

#[cfg(test)]
mod tests;
