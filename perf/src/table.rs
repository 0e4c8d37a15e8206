//! The connection table's rows.

use std::hint::black_box;
use std::time::Duration;

use forwarder::crt::{BURST as KEYS, Burst, Config, Crt, Fill, KeyV4};
use model::{Protocol, StackIndex};

use crate::keys::{Numbered, Random};
use crate::renewal;
use crate::timing::{A_MS, BURST, Clock, best_ns, bursts, once_ns, sized, slices, steady_ns_of};

/// A table with connections 0 to `n`, and what filling it took.
pub(crate) struct Filled {
    pub(crate) crt: Crt,
    pub(crate) n: u32,
    /// Nanoseconds an insertion, in bursts.
    pub(crate) insert_ns: f64,
    clock: Clock,
}

/// How often `batond`'s control thread ages a part of the table.
const AGE_INTERVAL: Duration = Duration::from_millis(10);

/// A table with room for just so many connections of `K`'s family.
///
/// # Errors
/// The system's, if the memory can't be had.
pub(crate) fn empty<K: Numbered>(n: u32) -> std::io::Result<Crt> {
    let (v4, v6) = if size_of::<K>() == size_of::<KeyV4>() { (n as usize, 0) } else { (0, n as usize) };
    Crt::new(&Config { connections_v4: v4, connections_v6: v6, flows: 1024, ..Config::default() })
}

impl Filled {
    /// As full as it is meant to get: with as many connections as it has room for.
    ///
    /// # Errors
    /// The system's, if the memory can't be had.
    pub(crate) fn new<K: Numbered>(n: u32) -> std::io::Result<Self> {
        let crt = empty::<K>(n)?;
        let insert_ns = once_ns(u64::from(n), || insert::<K>(&crt, n));
        let clock = Clock::new(renewal::start(), A_MS);
        Ok(Self { crt, n, insert_ns, clock })
    }

    /// How full the family's table is, and the share of keys that was found, for people.
    pub(crate) fn how_full(&self, found: f64) -> String {
        let stats = self.crt.stats();
        let Fill { entries, capacity } = if stats.v4.entries > 0 { stats.v4 } else { stats.v6 };
        format!("{:.0} % full, {:.0} % found", 100.0 * entries as f64 / capacity as f64, found * 100.0)
    }

    /// Bytes of memory a connection.
    pub(crate) fn bytes_each(&self) -> f64 {
        self.crt.stats().bytes as f64 / f64::from(self.n)
    }

    /// Nanoseconds a look-up of one of the `n` connections from `base` on, in bursts of 32 of which two are under way, the
    /// source subtracted, stamps renewed as time goes by; and the share that was found.
    pub(crate) fn lookup_ns<K: Numbered>(&mut self, base: u32) -> (f64, f64) {
        let (n, items) = (u64::from(self.n), bursts() * BURST);
        let (crt, clock, mut found) = (&self.crt, &mut self.clock, 0);
        let [ns] = steady_ns_of(slices(items, renewal::interval_ms(Protocol::Tcp)), [()], |(), seed| {
            once_ns(items, || found = look_up::<K>(crt, clock, base, n, seed))
        });
        let source = best_ns(items, |seed| make_keys::<K>(base, n, seed));
        (ns - source, found as f64 / items as f64)
    }

    /// The share of a core that ageing takes, in percent, called as often as `batond`'s control thread does and for as many lines as
    /// [`Crt::age_budget`] says; and these lines. No connection is old enough to end.
    pub(crate) fn age_percent(&mut self) -> (f64, usize) {
        let (crt, budget, mut now) = (&self.crt, self.crt.age_budget(AGE_INTERVAL), self.clock.now());
        // At 16 calls a slice, ten seconds: two rounds.
        let [ns] = steady_ns_of(sized(64, 1), [()], |(), _| {
            now.ms += AGE_INTERVAL.as_millis() as u64;
            once_ns(1, || assert_eq!(crt.age(now, budget), 0, "no connection ends"))
        });
        (100.0 * ns / AGE_INTERVAL.as_nanos() as f64, budget)
    }

    /// Nanoseconds a removal, of each connection in turn.
    pub(crate) fn remove_ns<K: Numbered>(self) -> f64 {
        let mut burst = Burst::<K>::default();
        once_ns(u64::from(self.n), || {
            for start in (0..self.n).step_by(KEYS) {
                burst.set((start..self.n).take(KEYS).map(K::number));
                self.crt.prepare(&mut burst);
                for key in burst.keys() {
                    self.crt.remove(*key);
                }
            }
        })
    }
}

/// Connections 0 to `n` of seven stacks, in bursts.
pub(crate) fn insert<K: Numbered>(crt: &Crt, n: u32) {
    let mut burst = Burst::<K>::default();
    for (owner, start) in (0..n).step_by(KEYS).enumerate() {
        burst.set((start..n).take(KEYS).map(K::number));
        let at = renewal::written(Protocol::Tcp, owner as u32);
        crt.newconn_all(&mut burst, StackIndex((owner % 7) as u16), at, |_, done| {
            if let Err(refused) = done {
                panic!("a connection from {start} on, of {n}: {refused}");
            }
        });
    }
}

/// As the path does it: a burst is hashed, then read while the next one's lines are fetched, then finished when the next
/// one was read.
#[inline(never)]
fn look_up<K: Numbered>(crt: &Crt, clock: &mut Clock, base: u32, n: u64, seed: u64) -> u64 {
    let mut random = Random(seed);
    let [mut a, mut b, mut c] = <[Burst<K>; 3]>::default();
    let mut found = 0;
    let mut turn = |next: &mut Burst<K>, this: &mut Burst<K>, last: &mut Burst<K>| {
        choose(next, base, n, &mut random);
        crt.locate(next);
        crt.read(this, Some(next));
        crt.finish(last, clock.now());
        clock.advance(KEYS);
        found += last.found().iter().filter(|found| found.is_some()).count() as u64;
    };
    // The first two turns finish empty bursts; the last two bursts are not finished.
    for _ in 0..bursts().div_ceil(3) {
        turn(&mut a, &mut b, &mut c);
        turn(&mut c, &mut a, &mut b);
        turn(&mut b, &mut c, &mut a);
    }
    found
}

#[inline(never)]
fn make_keys<K: Numbered>(base: u32, n: u64, seed: u64) {
    let (mut random, mut burst) = (Random(seed), Burst::<K>::default());
    for _ in 0..bursts().div_ceil(3) * 3 {
        choose(&mut burst, base, n, &mut random);
        black_box(&burst);
    }
}

#[inline(always)]
fn choose<K: Numbered>(burst: &mut Burst<K>, base: u32, n: u64, random: &mut Random) {
    burst.set((0..KEYS).map(|_| K::number(base + random.below(n))));
}
