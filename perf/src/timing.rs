//! How things are timed: the best of several short passes, because other work on the machine can only make one slower; and
//! for what does not cost the same at all times, the mean of such bests over a longer run ([`steady_ns_of`]).

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use forwarder::Now;
use rustix::time::{ClockId, clock_gettime};

/// Packets or keys a burst.
pub(crate) const BURST: u64 = 32;
/// Passes of which the best counts, in a run whose parts cost differently.
const SLICE: u64 = 16;
/// How long the clock of a run goes, in milliseconds of its own.
const RUN_MS: u64 = 8000;
/// Packets or keys in a millisecond of the clock: 25 million a second (10 Gbit/s carry 14.9).
pub(crate) const A_MS: u64 = 25_000;

/// Only a fraction of a second each, to see that it works.
static TINY: AtomicBool = AtomicBool::new(false);

/// From now on things are measured in a size that says nothing of how fast they are.
pub(crate) fn be_tiny() {
    TINY.store(true, Ordering::Relaxed);
}

/// How many, and how many at most in the tiny size.
pub(crate) fn sized(full: u64, tiny: u64) -> u64 {
    if TINY.load(Ordering::Relaxed) { full.min(tiny) } else { full }
}

/// Connections in a table.
pub(crate) fn connections(full: u32) -> u32 {
    sized(full.into(), 10_000) as u32
}

/// Bursts a pass: a millisecond or two, short enough to fit between two interruptions.
pub(crate) fn bursts() -> u64 {
    sized(2048, 64)
}

/// The time of packets that come at a fixed rate.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    /// In parts of 2⁻³² ms.
    time: u64,
    /// The same for a packet.
    each: u64,
}

impl Clock {
    /// A clock that shows `start`, and a millisecond more with each `a_ms` packets.
    pub(crate) fn new(start: Now, a_ms: u64) -> Self {
        Self { time: start.ms << 32, each: (1 << 32) / a_ms }
    }

    /// What it shows.
    #[inline(always)]
    pub(crate) fn now(&self) -> Now {
        Now { ms: self.time >> 32 }
    }

    /// So many packets have come.
    #[inline(always)]
    pub(crate) fn advance(&mut self, packets: usize) {
        self.time += self.each * packets as u64;
    }
}

/// Slices of a run of passes of `items` at the [`A_MS`] rate, in which stamps are renewed each `renewal_ms`: a whole number of
/// intervals, so that each part of one weighs the same, unless an interval is longer than [`RUN_MS`].
pub(crate) fn slices(items: u64, renewal_ms: u64) -> u64 {
    let ms = if renewal_ms > RUN_MS { RUN_MS } else { RUN_MS / renewal_ms * renewal_ms };
    sized((ms * A_MS).div_ceil(items * SLICE), 1)
}

/// Nanoseconds that `run` takes for each of `items`, in the best of several passes; `run` is given the pass's seed.
pub(crate) fn best_ns(items: u64, mut run: impl FnMut(u64)) -> f64 {
    (0..sized(200, 2)).map(|pass| once_ns(items, || run(seed(pass)))).fold(f64::INFINITY, f64::min)
}

/// What several things cost that do not cost the same at all times, in turns, so that they share the machine's good and bad
/// moments: of each slice the best pass, the mean over all slices. The best of all passes would be one in which nothing had to
/// be renewed. `run` does a pass of the thing with the seed that it is given, and says how many nanoseconds an item took.
pub(crate) fn steady_ns_of<T: Copy, const N: usize>(
    slices: u64,
    of: [T; N],
    mut run: impl FnMut(T, u64) -> f64,
) -> [f64; N] {
    let mut sums = [0.0; N];
    for slice in 0..slices {
        let mut best = [f64::INFINITY; N];
        for pass in 0..SLICE {
            for (best, what) in best.iter_mut().zip(of) {
                *best = best.min(run(what, seed(slice * SLICE + pass)));
            }
        }
        sums.iter_mut().zip(best).for_each(|(sum, best)| *sum += best);
    }
    sums.map(|sum| sum / slices as f64)
}

fn seed(pass: u64) -> u64 {
    pass * 7919 + 1
}

/// Processor time of this thread so far: other work on the machine is not counted.
pub(crate) fn processor_time() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0))
}

/// Nanoseconds that `run` takes for each of `items`.
pub(crate) fn once_ns(items: u64, run: impl FnOnce()) -> f64 {
    let start = Instant::now();
    run();
    start.elapsed().as_nanos() as f64 / items as f64
}

/// The numbers of the machine's last core, on which everything is measured, and of its first.
///
/// Found once, before [`pin`]: a pinned thread sees one core only.
pub(crate) fn cores() -> (usize, usize) {
    static CORES: OnceLock<(usize, usize)> = OnceLock::new();
    *CORES.get_or_init(|| {
        let cores = core_affinity::get_core_ids().unwrap_or_default();
        let id = |core: Option<&core_affinity::CoreId>| core.map_or(0, |core| core.id);
        (id(cores.last()), id(cores.first()))
    })
}

/// Keeps this thread on the core that everything is measured on. A failure only makes the figures noisier.
pub(crate) fn pin() {
    core_affinity::set_for_current(core_affinity::CoreId { id: cores().0 });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_shows_a_millisecond_more_with_each_25_000_packets() {
        let mut clock = Clock::new(Now { ms: 7000 }, A_MS);
        for _ in 0..1000 {
            (0..1000).for_each(|_| clock.advance(25));
        }
        assert!(clock.now().ms.abs_diff(8000) <= 1, "{:?}", clock.now());
    }

    #[test]
    fn the_slow_passes_of_a_run_count_and_interruptions_do_not() {
        // Every fourth slice costs 9 ns instead of 1, and each pass but one is interrupted in each.
        let [ns] = steady_ns_of(8, [()], |(), seed| {
            let pass = seed / 7919;
            let cost = if pass / SLICE % 4 == 3 { 9.0 } else { 1.0 };
            if pass % SLICE == 5 { cost } else { 1000.0 }
        });
        assert!((ns - 3.0).abs() < 1e-9, "{ns}");
    }

    #[test]
    fn a_run_is_whole_intervals_of_renewal() {
        let items = 65_536;
        let ms = |renewal_ms| slices(items, renewal_ms) * SLICE * items / A_MS;
        assert!(ms(7032).abs_diff(7032) < 50 && ms(236).abs_diff(33 * 236) < 50);
        assert!(ms(224_000).abs_diff(RUN_MS) < 50);
    }
}
