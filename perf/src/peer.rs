//! The loops in C: the limit of the memory, and DPDK's hash table.

use std::hint::black_box;

use crate::timing::{BURST, best_ns, bursts};

mod c {
    unsafe extern "C" {
        pub(super) fn perf_lines_new(lines: u64) -> *mut u64;
        pub(super) fn perf_lines_free(memory: *mut u64);
        pub(super) fn perf_limit(memory: *const u64, lines: u64, bursts: u64, seed: u64) -> u64;
        pub(super) fn perf_limit_source(memory: *const u64, lines: u64, bursts: u64, seed: u64) -> u64;
    }
}

/// One random 64-byte line out of so many, in bursts of 32 prefetches: nanoseconds a line, the source subtracted. `None` if
/// there is no memory for them.
pub(crate) fn limit_line_ns(lines: u64) -> Option<f64> {
    // SAFETY: takes any number; the result is checked.
    let memory = unsafe { c::perf_lines_new(lines) };
    if memory.is_null() {
        return None;
    }
    let bursts = bursts();
    let run = |f: unsafe extern "C" fn(*const u64, u64, u64, u64) -> u64| {
        best_ns(bursts * BURST, |seed| {
            // SAFETY: `memory` has this many lines and is only read.
            black_box(unsafe { f(memory, lines, bursts, seed) });
        })
    };
    let ns = run(c::perf_limit) - run(c::perf_limit_source);
    // SAFETY: from `perf_lines_new`, and not used any more.
    unsafe { c::perf_lines_free(memory) };
    Some(ns)
}

#[cfg(feature = "dpdk")]
pub(crate) use dpdk::RteHash;

#[cfg(feature = "dpdk")]
mod dpdk {
    use std::hint::black_box;
    use std::ptr::NonNull;

    use crate::timing::{BURST, best_ns, bursts};

    mod c {
        #[repr(C)]
        pub(super) struct Table([u8; 0]);

        unsafe extern "C" {
            pub(super) fn perf_rte_hash_new(entries: u32) -> *mut Table;
            pub(super) fn perf_rte_hash_free(table: *mut Table);
            pub(super) fn perf_rte_hash_insert(table: *mut Table, from: u32, to: u32) -> u64;
            pub(super) fn perf_rte_hash_lookup(
                t: *const Table,
                base: u64,
                n: u64,
                bursts: u64,
                seed: u64,
            ) -> u64;
            pub(super) fn perf_rte_hash_source(base: u64, n: u64, bursts: u64, seed: u64) -> u64;
        }
    }

    /// DPDK's hash table, lock-free mode, with 16-byte keys.
    pub(crate) struct RteHash(NonNull<c::Table>);

    impl RteHash {
        /// For this many entries, under a name of its own; `None` if DPDK has not the memory.
        pub(crate) fn new(_: ffi::Eal, entries: u32) -> Option<Self> {
            // SAFETY: DPDK runs; takes any number; the result is checked.
            NonNull::new(unsafe { c::perf_rte_hash_new(entries) }).map(Self)
        }

        /// Inserts keys by number; returns how many did not fit.
        pub(crate) fn insert(&mut self, from: u32, to: u32) -> u64 {
            // SAFETY: a live table, used by this thread alone.
            unsafe { c::perf_rte_hash_insert(self.0.as_ptr(), from, to) }
        }

        /// Nanoseconds a look-up of one of the `n` keys from `base` on, in bursts of 32; and the share that was found.
        pub(crate) fn lookup_ns(&self, base: u64, n: u64) -> (f64, f64) {
            let mut found = 0;
            let ns = best_ns(bursts() * BURST, |seed| {
                // SAFETY: a live table, only read.
                found = unsafe { c::perf_rte_hash_lookup(self.0.as_ptr(), base, n, bursts(), seed) };
            });
            let source = best_ns(bursts() * BURST, |seed| {
                // SAFETY: arithmetic only.
                black_box(unsafe { c::perf_rte_hash_source(base, n, bursts(), seed) });
            });
            (ns - source, found as f64 / (bursts() * BURST) as f64)
        }
    }

    impl Drop for RteHash {
        fn drop(&mut self) {
            // SAFETY: from `perf_rte_hash_new`, and not used any more.
            unsafe { c::perf_rte_hash_free(self.0.as_ptr()) };
        }
    }
}
