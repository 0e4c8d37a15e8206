//! Connections that this worker hands over with their first request: the handoff option of each, until the target has it.
//!
//! The oldest gives way ([`places`](super::places)): then the packets of that connection are dropped until its
//! target's report has come, and its client sends them again.

use model::StackIndex;

use super::ends::At;
use super::handoff::OPTION_BYTES;
use super::places::Places;
use crate::{Limits, Now};

/// A connection that is being handed over.
#[derive(Clone, Copy, Debug)]
pub(super) struct Handing {
    /// What its packets carry.
    pub(super) option: [u8; OPTION_BYTES],
    /// To whom.
    pub(super) to: StackIndex,
    /// Its first byte here.
    pub(super) start: u32,
    /// This node's next sequence number: what the client acknowledges beyond it, the target has sent.
    pub(super) sent: u32,
}

/// All of a worker.
#[derive(Debug)]
pub(super) struct Handings(Places<Handing>);

impl Handings {
    pub(super) fn new(limits: Limits) -> Self {
        Self(Places::new(limits.handed))
    }

    /// Starts to fetch what is known of a connection.
    pub(super) fn prefetch(&self, at: At) {
        self.0.prefetch(at);
    }

    /// What is known of a connection.
    pub(super) fn get(&mut self, at: At) -> Option<Handing> {
        self.0.get(at).copied()
    }

    /// From now on this is handed over.
    pub(super) fn begin(
        &mut self,
        at: At,
        (to, option): (StackIndex, [u8; OPTION_BYTES]),
        (start, sent): (u32, u32),
        now: Now,
    ) -> Handing {
        let new = Handing { option, to, start, sent };
        self.0.put(at, new, now);
        new
    }

    /// It is with its target.
    pub(super) fn end(&mut self, at: At) {
        self.0.end(at);
    }
}

#[cfg(test)]
mod tests {
    use model::{DvipaIndex, Protocol};

    use super::super::AnyKey;
    use super::super::places::WAYS;
    use super::*;
    use crate::crt::KeyV4;

    fn key(port: u16) -> At {
        let key = KeyV4::new([198, 18, 0, 2].into(), port, DvipaIndex(0), 80, Protocol::Tcp);
        At { key: AnyKey::V4(key), hash: u64::from(port) << 48 }
    }

    #[test]
    fn the_oldest_gives_way_where_all_places_are_taken() {
        let mut handings = Handings::new(Limits { handed: WAYS, ..Limits::default() });
        let begin = |handings: &mut Handings, port, ms| {
            handings.begin(key(port), (StackIndex(1), [0; OPTION_BYTES]), (1, 2), Now { ms })
        };
        for port in 1..=5 {
            begin(&mut handings, port, u64::from(port));
        }
        assert!(handings.get(key(1)).is_none());
        assert!((2..=5).all(|port| handings.get(key(port)).is_some()));
        begin(&mut handings, 2, 9);
        assert!(handings.get(key(3)).is_some(), "the same connection takes its own place");
        handings.end(key(2));
        assert!(handings.get(key(2)).is_none());
    }
}
