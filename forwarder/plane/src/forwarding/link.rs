//! Whether the ports' links are up, and what follows when one returns.

/// How often a link is looked at, in milliseconds.
const LOOK_MS: u64 = 100;

/// The link of one port, as the control thread has seen it.
#[derive(Debug)]
pub(super) struct Link {
    up: bool,
    lost: u64,
    next_look_ms: u64,
}

/// What a look has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// The link was lost.
    Lost,
    /// It is back.
    Returned,
}

impl Link {
    /// A link that is like this at the start.
    pub(super) fn new(up: bool) -> Self {
        Self { up, lost: 0, next_look_ms: 0 }
    }

    /// Asks `is_up` if it is time for that.
    pub(super) fn look(&mut self, now_ms: u64, is_up: impl FnOnce() -> bool) -> Option<Change> {
        if now_ms < self.next_look_ms {
            return None;
        }
        self.next_look_ms = now_ms.saturating_add(LOOK_MS);
        match (self.up, is_up()) {
            (true, false) => {
                (self.up, self.lost) = (false, self.lost.saturating_add(1));
                Some(Change::Lost)
            }
            (false, true) => {
                self.up = true;
                Some(Change::Returned)
            }
            (true, true) | (false, false) => None,
        }
    }

    /// It was up at the last look.
    pub(super) fn is_up(&self) -> bool {
        self.up
    }

    /// How often it was lost.
    pub(super) fn lost(&self) -> u64 {
        self.lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_loss_and_each_return_is_noticed_once() {
        let mut link = Link::new(true);
        assert_eq!(link.look(0, || true), None);
        assert_eq!(link.look(99, || panic!("too early")), None);
        assert_eq!(link.look(100, || false), Some(Change::Lost));
        assert_eq!(link.look(200, || false), None);
        assert_eq!((link.is_up(), link.lost()), (false, 1));
        assert_eq!(link.look(300, || true), Some(Change::Returned));
        assert_eq!(link.look(400, || true), None);
        assert_eq!((link.is_up(), link.lost()), (true, 1));
    }
}
