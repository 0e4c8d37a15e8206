//! Time from the processor's time-stamp counter: no system call.

use crate::eal::Eal;
use crate::raw;

/// Reads and converts the time-stamp counter. It must tick at one rate on all cores (`constant_tsc`), as every
/// processor that DPDK supports today does.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: u64,
    start_ms: u64,
    cycles_per_ms: u64,
}

impl Clock {
    /// A clock that shows this many milliseconds now.
    pub fn new(_: Eal, start_ms: u64) -> Self {
        // SAFETY: the EAL has measured the rate when it started (fact 1).
        let hertz = unsafe { raw::rte_get_tsc_hz() };
        Self { start: cycles(), start_ms, cycles_per_ms: (hertz / 1000).max(1) }
    }

    /// What it shows.
    pub fn ms(&self) -> u64 {
        self.ms_of(cycles())
    }

    /// What it showed at a reading of [`cycles`].
    #[inline]
    pub fn ms_of(&self, cycles: u64) -> u64 {
        (cycles.saturating_sub(self.start) / self.cycles_per_ms).wrapping_add(self.start_ms)
    }

    /// How many cycles a millisecond has.
    pub fn cycles_per_ms(&self) -> u64 {
        self.cycles_per_ms
    }
}

/// The counter's value.
#[inline]
pub fn cycles() -> u64 {
    // SAFETY: reads a register.
    unsafe { raw::shim_tsc() }
}

/// Tells the processor that this is a spinning loop.
#[inline]
pub fn pause() {
    // SAFETY: one instruction without effect on memory.
    unsafe { raw::shim_pause() }
}
