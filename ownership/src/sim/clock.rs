//! The clock of a host, which runs a little too fast or too slow.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use fastrand::Rng;

use crate::lease::DRIFT;

/// The true time of a history, in nanoseconds from its beginning.
pub(super) type Nanos = u64;

/// One host's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Clock {
    /// What it says at the beginning.
    offset: Duration,
    /// Parts in a thousand of the true rate.
    permille: u64,
}

impl Clock {
    /// A clock as wrong as they may be, or less.
    pub(super) fn draw(rng: &mut Rng) -> Self {
        let off = 1000 / u64::from(DRIFT);
        let permille = match rng.u8(0..3) {
            0 => 1000 - off,
            1 => 1000 + off,
            _ => rng.u64(1000 - off..=1000 + off),
        };
        Self { offset: Duration::from_millis(rng.u64(0..1_000_000)), permille }
    }

    /// As slow as it may be.
    pub(super) fn slowest() -> Self {
        Self { offset: Duration::ZERO, permille: 1000 - 1000 / u64::from(DRIFT) }
    }

    /// As fast as it may be.
    pub(super) fn fastest() -> Self {
        Self { offset: Duration::ZERO, permille: 1000 + 1000 / u64::from(DRIFT) }
    }

    /// Before all that any clock says.
    pub(super) fn beginning() -> Instant {
        base()
    }

    /// What it says at this true time.
    pub(super) fn at(self, now: Nanos) -> Instant {
        base() + self.offset + Duration::from_nanos(now * self.permille / 1000)
    }

    /// The true time at which it says this or more.
    pub(super) fn when(self, at: Instant) -> Nanos {
        let local = at.saturating_duration_since(base() + self.offset).as_nanos();
        u64::try_from(local).expect("a history is short").saturating_mul(1000).div_ceil(self.permille)
    }
}

/// Where all clocks begin: an instant has no zero.
fn base() -> Instant {
    static BASE: OnceLock<Instant> = OnceLock::new();
    *BASE.get_or_init(Instant::now)
}
