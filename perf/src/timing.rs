//! How things are timed: the best of several short passes, because other work on the machine can only make one slower.

use std::sync::OnceLock;
use std::time::Instant;

/// Packets or keys a burst.
pub(crate) const BURST: u64 = 32;
/// Bursts a pass: a millisecond or two, short enough to fit between two interruptions.
pub(crate) const BURSTS: u64 = 2048;
/// Passes.
const PASSES: u64 = 200;

/// Nanoseconds that `run` takes for each of `items`, in the best of several passes; `run` is given the pass's seed.
pub(crate) fn best_ns(items: u64, mut run: impl FnMut(u64)) -> f64 {
    (0..PASSES).map(|pass| once_ns(items, || run(pass * 7919 + 1))).fold(f64::INFINITY, f64::min)
}

/// As [`best_ns`] for several things at once, in turns, so that they share the machine's good and bad moments.
#[cfg(feature = "dpdk")]
pub(crate) fn best_ns_of<T: Copy, const N: usize>(
    items: u64,
    of: [T; N],
    mut run: impl FnMut(T, u64),
) -> [f64; N] {
    let mut best = [f64::INFINITY; N];
    for pass in 0..PASSES {
        for (best, what) in best.iter_mut().zip(of) {
            *best = best.min(once_ns(items, || run(what, pass * 7919 + 1)));
        }
    }
    best
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
