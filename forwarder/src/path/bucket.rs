//! A token bucket: how often a worker may do what a stranger can make it do.

use crate::Now;

/// So many actions a second, and up to a tenth of them at once. Owned by one worker.
#[derive(Debug)]
pub(crate) struct Bucket {
    /// In thousandths: a rate a second fills as many of them a millisecond.
    level: u64,
    a_second: u64,
    filled: Now,
}

impl Bucket {
    /// A full one.
    pub(super) fn new(a_second: u32) -> Self {
        let a_second = u64::from(a_second);
        Self { level: Self::capacity(a_second), a_second, filled: Now::default() }
    }

    fn capacity(a_second: u64) -> u64 {
        a_second.saturating_mul(100).max(1000)
    }

    /// Takes one token; `false` if there is none.
    pub(super) fn take(&mut self, now: Now) -> bool {
        let passed_ms = now.ms.saturating_sub(self.filled.ms);
        self.filled = now;
        let filled = self.level.saturating_add(passed_ms.saturating_mul(self.a_second));
        self.level = filled.min(Self::capacity(self.a_second));
        let rest = self.level.checked_sub(1000);
        self.level = rest.unwrap_or(self.level);
        rest.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_gives_its_rate_and_no_more_than_a_tenth_at_once() {
        let mut bucket = Bucket::new(2000);
        let mut taken = |ms| (0..1000).filter(|_| bucket.take(Now { ms })).count();
        assert_eq!(
            (taken(10_000), taken(10_000), taken(10_001), taken(10_050), taken(99_999)),
            (200, 0, 2, 98, 200)
        );
    }
}
