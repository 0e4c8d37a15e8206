//! The clock of a host, which runs a little too fast or too slow.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use fastrand::Rng;

use crate::Nanos;

/// One host's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Clock {
    /// What it says at the beginning.
    offset: Duration,
    /// Parts in a thousand of the true rate.
    permille: u64,
}

impl Clock {
    /// A clock as wrong as they may be, or less: its rate is off by one part in `drift` at most.
    pub fn draw(random: &mut Rng, drift: u32) -> Self {
        let off = 1000 / u64::from(drift);
        let permille = match random.u8(0..3) {
            0 => 1000 - off,
            1 => 1000 + off,
            _ => random.u64(1000 - off..=1000 + off),
        };
        Self { offset: Duration::from_millis(random.u64(0..1_000_000)), permille }
    }

    /// As slow as it may be.
    pub fn slowest(drift: u32) -> Self {
        Self { offset: Duration::ZERO, permille: 1000 - 1000 / u64::from(drift) }
    }

    /// As fast as it may be.
    pub fn fastest(drift: u32) -> Self {
        Self { offset: Duration::ZERO, permille: 1000 + 1000 / u64::from(drift) }
    }

    /// Before all that any clock says.
    pub fn beginning() -> Instant {
        // An instant has no zero.
        static BEGINNING: OnceLock<Instant> = OnceLock::new();
        *BEGINNING.get_or_init(Instant::now)
    }

    /// What it says at this true time.
    pub fn at(self, now: Nanos) -> Instant {
        Self::beginning() + self.offset + Duration::from_nanos(now * self.permille / 1000)
    }

    /// The true time at which it says this or more.
    pub fn when(self, at: Instant) -> Nanos {
        let local = at.saturating_duration_since(Self::beginning() + self.offset).as_nanos();
        u64::try_from(local).expect("a history is short").saturating_mul(1000).div_ceil(self.permille)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ms;

    #[test]
    fn a_clock_says_a_time_when_it_is_due_and_not_before() {
        let mut random = Rng::with_seed(1);
        let drawn: Vec<Clock> = (0..50).map(|_| Clock::draw(&mut random, 10)).collect();
        for clock in drawn.into_iter().chain([Clock::slowest(10), Clock::fastest(10)]) {
            let due = clock.at(ms(700)) + Duration::from_millis(3);
            let when = clock.when(due);
            assert!(clock.at(when) >= due && clock.at(when - 1) < due, "{clock:?}");
        }
        let rate = |clock: Clock| clock.at(ms(1000)) - clock.at(0);
        assert_eq!(rate(Clock::slowest(10)), Duration::from_millis(900));
        assert_eq!(rate(Clock::fastest(10)), Duration::from_millis(1100));
    }
}
