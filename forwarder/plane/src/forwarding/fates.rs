//! What became of connections lately: a bounded list, for who asks why one died.

use std::collections::VecDeque;
use std::time::{SystemTime, UNIX_EPOCH};

use control::runtime::looking::{Fate, FateKind};
use model::{Connection, StackIndex};

/// How many are kept: 1.6 MB of them.
const KEPT: usize = 16_384;
/// The most that are answered at once.
const AT_ONCE: usize = 16;

/// The last fates, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Fates(VecDeque<Fate>);

/// The list at a moment: the time is asked once for many.
pub(super) struct At<'f> {
    fates: &'f mut VecDeque<Fate>,
    unix_ms: u64,
}

impl Fates {
    /// To be told what happens now.
    pub(super) fn now(&mut self) -> At<'_> {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        At { fates: &mut self.0, unix_ms: u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX) }
    }

    /// What became of connections with these ends, the last one first.
    pub(super) fn of(&self, connection: &Connection) -> Vec<Fate> {
        let of_it = self.0.iter().rev().filter(|fate| fate.connection == *connection);
        of_it.take(AT_ONCE).copied().collect()
    }
}

impl At<'_> {
    /// This became of a connection that was the stack's.
    pub(super) fn note(
        &mut self,
        connection: Connection,
        what: FateKind,
        stack: StackIndex,
        to: Option<StackIndex>,
    ) {
        if self.fates.len() >= KEPT {
            self.fates.pop_front();
        }
        self.fates.push_back(Fate { connection, unix_ms: self.unix_ms, what, stack, to });
    }
}

#[cfg(test)]
mod tests {
    use model::Protocol;

    use super::*;

    fn connection(port: u16) -> Connection {
        let ends = ([198, 18, 0, 2], port);
        Connection::new(Protocol::Tcp, ends.into(), ([198, 18, 9, 1], 80).into()).unwrap()
    }

    #[test]
    fn the_last_ones_of_a_connection_are_told_the_newest_first_and_the_oldest_give_way() {
        let mut fates = Fates::default();
        let (one, other) = (StackIndex(1), StackIndex(2));
        fates.now().note(connection(1), FateKind::Moved, one, Some(other));
        fates.now().note(connection(2), FateKind::Ended, one, None);
        fates.now().note(connection(1), FateKind::Ended, other, None);
        let of_one: Vec<_> = fates.of(&connection(1)).iter().map(|fate| (fate.what, fate.stack)).collect();
        assert_eq!(of_one, [(FateKind::Ended, other), (FateKind::Moved, one)]);
        (0..KEPT).for_each(|_| fates.now().note(connection(3), FateKind::Ended, one, None));
        assert!(fates.of(&connection(1)).is_empty() && fates.0.len() == KEPT);
        assert_eq!(fates.of(&connection(3)).len(), AT_ONCE);
    }
}
