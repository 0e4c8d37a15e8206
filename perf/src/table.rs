//! The connection table's rows.

use std::hint::black_box;

use forwarder::Now;
use forwarder::crt::{BURST as KEYS, Config, Crt, Fill, Probes};
use model::StackIndex;

use crate::keys::{Numbered, Random};
use crate::timing::{BURST, BURSTS, best_ns, once_ns};

/// A table with connections 0 to `n`, and what filling it took.
pub(crate) struct Filled {
    pub(crate) crt: Crt,
    pub(crate) n: u32,
    /// Nanoseconds an insertion, in bursts.
    pub(crate) insert_ns: f64,
}

const NOW: Now = Now { ms: 1000 };

impl Filled {
    /// With room for just so many connections of `K`'s family.
    pub(crate) fn new<K: Numbered>(n: u32) -> std::io::Result<Self> {
        let (v4, v6) = if size_of::<K>() == 16 { (n as usize, 0) } else { (0, n as usize) };
        let config = Config { connections_v4: v4, connections_v6: v6, ..Config::default() };
        let crt = Crt::new(&config)?;
        let insert_ns = once_ns(u64::from(n), || insert::<K>(&crt, n));
        Ok(Self { crt, n, insert_ns })
    }

    /// How full the family's table is, in percent.
    pub(crate) fn percent(&self) -> f64 {
        let stats = self.crt.stats();
        let Fill { entries, capacity } = if stats.v4.entries > 0 { stats.v4 } else { stats.v6 };
        100.0 * entries as f64 / capacity as f64
    }

    /// Nanoseconds a look-up of one of the `n` connections from `base` on, in bursts of 32, the source subtracted; and
    /// the share that was found.
    pub(crate) fn lookup_ns<K: Numbered>(&self, base: u32) -> (f64, f64) {
        let n = u64::from(self.n);
        let mut found = 0;
        let ns = best_ns(BURSTS * BURST, |seed| found = look_up::<K>(&self.crt, base, n, seed));
        let source = best_ns(BURSTS * BURST, |seed| make_keys::<K>(base, n, seed));
        (ns - source, found as f64 / (BURSTS * BURST) as f64)
    }

    /// Nanoseconds a removal, of each connection in turn.
    pub(crate) fn remove_ns<K: Numbered>(self) -> f64 {
        let mut probes = Probes::default();
        once_ns(u64::from(self.n), || {
            for start in (0..self.n).step_by(KEYS) {
                let keys: [K; KEYS] = std::array::from_fn(|i| K::number(start + i as u32));
                self.crt.prefetch(&keys, &mut probes);
                for key in keys {
                    self.crt.remove(key);
                }
            }
        })
    }
}

fn insert<K: Numbered>(crt: &Crt, n: u32) {
    let mut probes = Probes::default();
    for start in (0..n).step_by(KEYS) {
        let keys: [K; KEYS] = std::array::from_fn(|i| K::number(start + i as u32));
        let keys = &keys[..KEYS.min((n - start) as usize)];
        crt.prefetch(keys, &mut probes);
        for (i, key) in keys.iter().enumerate() {
            if let Err(refused) = crt.newconn(*key, StackIndex((i % 7) as u16), NOW) {
                panic!("connection {} of {n}: {refused}", start + i as u32);
            }
        }
    }
}

#[inline(never)]
fn look_up<K: Numbered>(crt: &Crt, base: u32, n: u64, seed: u64) -> u64 {
    let (mut probes, mut out, mut random, mut found) = (Probes::default(), [None; KEYS], Random(seed), 0);
    for _ in 0..BURSTS {
        let keys: [K; KEYS] = std::array::from_fn(|_| K::number(base + random.below(n)));
        crt.prefetch(&keys, &mut probes);
        crt.lookup(&keys, &probes, NOW, &mut out);
        found += out.iter().flatten().count() as u64;
    }
    found
}

#[inline(never)]
fn make_keys<K: Numbered>(base: u32, n: u64, seed: u64) {
    let mut random = Random(seed);
    for _ in 0..BURSTS {
        let keys: [K; KEYS] = std::array::from_fn(|_| K::number(base + random.below(n)));
        black_box(&keys);
    }
}
