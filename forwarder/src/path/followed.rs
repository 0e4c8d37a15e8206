//! Connections whose next requests this worker reads: where each of them begins.
//!
//! The oldest gives way ([`places`](super::places)): such a connection stays with its target from then on, as one
//! does that another worker or a former process has followed.

use super::ends::At;
use super::places::Places;
use crate::transactions::boundary::Boundary;
use crate::{Limits, Now};

/// A connection that is followed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Following {
    pub(super) boundary: Boundary,
    /// Its last request waits for another target.
    pub(super) waits: bool,
    /// Where its last request ends is not known: it is not followed any more when that has come to its target.
    pub(super) is_last: bool,
    /// When bytes came that begin in the next request, if its beginning has not come since.
    pub(super) ahead: Option<Now>,
}

/// All of a worker.
#[derive(Debug)]
pub(super) struct Followed(Places<Following>);

impl Followed {
    pub(super) fn new(limits: Limits) -> Self {
        Self(Places::new(limits.followed))
    }

    /// Starts to fetch what is known of a connection.
    pub(super) fn prefetch(&self, at: At) {
        self.0.prefetch(at);
    }

    /// What is known of a connection.
    pub(super) fn get(&mut self, at: At) -> Option<&mut Following> {
        self.0.get(at)
    }

    /// From now on this is known of a connection. Returns whether another one gave way.
    pub(super) fn put(&mut self, at: At, boundary: Boundary, now: Now) -> bool {
        self.0.put(at, Following { boundary, waits: false, is_last: false, ahead: None }, now)
    }

    /// It is not followed any more; returns whether it was.
    pub(super) fn end(&mut self, at: At) -> bool {
        self.0.end(at)
    }
}

#[cfg(test)]
mod tests {
    use model::{DvipaIndex, Protocol};

    use super::super::AnyKey;
    use super::super::places::WAYS;
    use super::*;
    use crate::crt::KeyV4;

    #[test]
    fn the_oldest_gives_way_and_is_not_followed_any_more() {
        let key = |port: u16| {
            let key = KeyV4::new([198, 18, 0, 2].into(), port, DvipaIndex(0), 80, Protocol::Tcp);
            At { key: AnyKey::V4(key), hash: u64::from(port) << 48 }
        };
        let mut followed = Followed::new(Limits { followed: WAYS, ..Limits::default() });
        let gave_way: Vec<bool> = [1, 2, 3, 4, 4, 5]
            .into_iter()
            .map(|port| followed.put(key(port), Boundary::open(7), Now { ms: port.into() }))
            .collect();
        assert_eq!(gave_way, [false, false, false, false, false, true]);
        assert!(followed.get(key(1)).is_none() && followed.get(key(5)).is_some());
        assert!(followed.end(key(5)) && !followed.end(key(5)));
    }
}
