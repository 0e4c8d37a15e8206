//! The clock of a host, which runs a little too fast or too slow.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use fastrand::Rng;

/// The true time of a history, in nanoseconds from its beginning.
pub(super) type Nanos = u64;

pub(super) const fn ms(milliseconds: u64) -> Nanos {
    milliseconds * 1_000_000
}

/// One host's clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    offset: Duration,
    /// Parts in a thousand of the true rate.
    permille: u64,
}

impl Clock {
    /// A clock as wrong as they may be (one part in [`ownership::lease::DRIFT`]), or less.
    pub(super) fn draw(random: &mut Rng) -> Self {
        let off = 1000 / u64::from(ownership::lease::DRIFT);
        let permille = match random.u8(0..3) {
            0 => 1000 - off,
            1 => 1000 + off,
            _ => random.u64(1000 - off..=1000 + off),
        };
        Self { offset: Duration::from_millis(random.u64(0..1_000_000)), permille }
    }

    /// What it says at this true time.
    pub(super) fn at(self, now: Nanos) -> Instant {
        beginning() + self.offset + Duration::from_nanos(now * self.permille / 1000)
    }

    /// The true time at which it says this or more.
    pub(super) fn when(self, at: Instant) -> Nanos {
        let local = at.saturating_duration_since(beginning() + self.offset).as_nanos();
        u64::try_from(local).expect("a history is short").saturating_mul(1000).div_ceil(self.permille)
    }
}

/// Where all clocks begin: an instant has no zero.
fn beginning() -> Instant {
    static BEGINNING: OnceLock<Instant> = OnceLock::new();
    *BEGINNING.get_or_init(Instant::now)
}
