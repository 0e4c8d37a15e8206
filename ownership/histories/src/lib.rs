//! What seeded histories of clusters share: true time, clocks that are off it, and a queue of what happens when.
//!
//! One thread and one generator of random numbers make a history, so it is its seed.

mod clock;
mod queue;

pub use clock::Clock;
pub use queue::Queue;

/// The true time of a history, in nanoseconds from its beginning.
pub type Nanos = u64;

/// So many milliseconds of true time.
pub const fn ms(milliseconds: u64) -> Nanos {
    milliseconds * 1_000_000
}
