//! What counts as a listener (rows U1 and U2).
//!
//! | the distribution's ports | a listener counts if it is bound to | on |
//! | --- | --- | --- |
//! | enumerated | the DVIPA, or the wildcard address of its family | one of these ports |
//! | not enumerated | the DVIPA itself | any port |
//! | no distribution enumerates the port | the DVIPA itself | any port: this host may have it for itself, which the routing stack decides |
//! | this host has the DVIPA by an operator's order (VIPARANGE) | the DVIPA, or the wildcard address of its family | any port |
//!
//! Bound to the wildcard address, a listener does not say that it wants a DVIPA's clients: every service of the host would be
//! reached there.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use model::message::VipaListDistribution;
use model::{Dvipa, Protocol, StackName};

use super::sockets::{Bound, Cookie, Ifindex, Listener};

/// A protocol and port that some application listens on.
pub type Served = (Protocol, u16);

/// The most sockets that take the clients of one service.
pub const MAX_TAKERS: usize = 64;

/// Which of the listeners of a service take new connections (rows C12 and C14).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Takers {
    /// These, in turn, at most [`MAX_TAKERS`].
    pub open: BTreeSet<Cookie>,
    /// Others hold accepts back: connections can be transferred to them.
    pub holds: bool,
}

/// Services of whose listeners not all take new connections. Of others all do.
pub type TakersOf = BTreeMap<(Dvipa, u16), Takers>;

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

/// Whether a listener of the wildcard address is reached at the DVIPA.
fn is_open(listener: &Listener, dvipa: Dvipa, interfaces: &[Ifindex]) -> bool {
    let reached = listener.interface.is_none_or(|i| interfaces.contains(&i));
    let open = match dvipa.address() {
        IpAddr::V4(_) => matches!(listener.bound, Bound::AnyV4 | Bound::AnyDual),
        IpAddr::V6(_) => matches!(listener.bound, Bound::AnyV6 | Bound::AnyDual),
    };
    reached && open
}

/// Whether a listener may have its port of this DVIPA for itself: no distribution enumerates it.
fn is_direct(
    listener: &Listener,
    dvipa: Dvipa,
    distributions: &[VipaListDistribution],
    interfaces: &[Ifindex],
) -> bool {
    let reached = listener.interface.is_none_or(|i| interfaces.contains(&i));
    let enumerates =
        |d: &VipaListDistribution| d.protocol == listener.protocol && d.ports.contains(&listener.port);
    reached && listener.bound == Bound::Address(dvipa.address()) && !distributions.iter().any(enumerates)
}

/// What of a DVIPA's distributions is served by these listeners on `stack`, and what they have for themselves. `whole`: an operator
/// wants the stack to have all of the DVIPA.
pub fn served<'a>(
    listeners: impl Iterator<Item = &'a Listener>,
    (dvipa, whole): (Dvipa, bool),
    distributions: &[VipaListDistribution],
    stack: &StackName,
    interfaces: &[Ifindex],
) -> BTreeSet<Served> {
    let ours: Vec<_> = distributions.iter().filter(|d| is_candidate(d, stack)).collect();
    listeners
        .filter(|l| {
            let distributed = ours.iter().any(|d| counts(l, dvipa, d, interfaces));
            let all = || whole && is_open(l, dvipa, interfaces);
            distributed || is_direct(l, dvipa, distributions, interfaces) || all()
        })
        .map(|l| (l.protocol, l.port))
        .collect()
}

#[cfg(test)]
mod tests;
