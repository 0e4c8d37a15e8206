//! What two cores on one connection table cost each other: look-ups beside a writer, insertions beside a reader, look-ups
//! beside ageing.
//!
//! Each is measured three ways in turns: with the other core idle; with the other core doing its work on *another* table of
//! the same size; and on the same table. The second is the reference: it has the same traffic between cores and memory,
//! so that what the third costs more is the table's own doing (lines that both write, marks that make a reader repeat).

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use core_affinity::CoreId;
use forwarder::Now;
use forwarder::crt::{BURST as KEYS, Burst, Config, Crt, KeyV4};
use model::StackIndex;

use crate::keys::{Numbered, Random};
use crate::rows::Rows;
use crate::timing::{self, BURST, bursts, once_ns};

/// Connections that stay.
const STABLE: u32 = 1_000_000;
/// Connections that a writer makes and removes, over and over.
const COMING: u32 = 131_072;
/// Those of them that come and go in one pass.
const PIECE: u32 = 4096;
/// Passes of each way.
const PASSES: u64 = 150;
/// How often a control thread ages.
const AGE_INTERVAL: Duration = Duration::from_millis(1);
const NOW: Now = Now { ms: 1000 };

const ROWS: [&str; 3] = ["crt_lookup_beside_writer_ratio", "crt_insert_beside_reader_ratio", "crt_age_ratio"];

/// Where the other core is at work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Where {
    Nowhere,
    OtherTable,
    SameTable,
}

impl Where {
    const ALL: [Where; 3] = [Where::Nowhere, Where::OtherTable, Where::SameTable];
}

const STOP: u8 = u8::MAX;

/// The tables and what the cores tell each other.
struct Scene {
    /// The measured table, and one like it.
    tables: [Crt; 2],
    /// A [`Where`], or [`STOP`].
    wanted: AtomicU8,
    /// What the neighbour is at.
    doing: AtomicU8,
    /// Bursts that the neighbour has done.
    done: AtomicU64,
}

/// The other core's thread.
struct Neighbour {
    scene: Arc<Scene>,
    thread: Option<JoinHandle<()>>,
}

/// One pass: nanoseconds an operation, and the neighbour's bursts in a millisecond of it.
#[derive(Clone, Copy)]
struct Pass {
    ns: f64,
    pace: f64,
}

/// Measures the rows, if there are two cores.
pub(crate) fn measure(rows: &mut Rows) {
    if !rows.wants(&ROWS) {
        return;
    }
    let (last, first) = timing::cores();
    if first == last {
        eprintln!("{} need a second core and are left out", ROWS.join(", "));
        return;
    }
    let Some(scene) = Scene::new() else {
        eprintln!("{} are left out: no memory", ROWS.join(", "));
        return;
    };
    let [lookup, insert, age] = ROWS;
    if rows.wants(&[lookup]) {
        let neighbour = Neighbour::start(&scene, first, write);
        neighbour.report(rows, lookup, look_up);
    }
    if rows.wants(&[insert]) {
        let neighbour = Neighbour::start(&scene, first, |crt, seed| {
            look_up_burst(crt, seed);
        });
        neighbour.report(rows, insert, come_and_go);
    }
    if rows.wants(&[age]) {
        let neighbour = Neighbour::start(&scene, first, age_and_wait);
        neighbour.report(rows, age, look_up);
    }
}

impl Scene {
    fn new() -> Option<Arc<Self>> {
        let room = (STABLE + COMING) as usize;
        let config = Config { connections_v4: room, connections_v6: 0, ..Config::default() };
        let tables = [filled(&config)?, filled(&config)?];
        let (wanted, doing, done) = Default::default();
        Some(Arc::new(Self { tables, wanted, doing, done }))
    }
}

fn filled(config: &Config) -> Option<Crt> {
    let crt = Crt::new(config).ok()?;
    insert(&crt, 0..STABLE);
    Some(crt)
}

impl Neighbour {
    /// Starts a thread on `core` that calls `work` with a table and a seed, whenever it is wanted.
    fn start(scene: &Arc<Scene>, core: usize, work: fn(&Crt, u64)) -> Self {
        scene.wanted.store(Where::Nowhere as u8, Ordering::Relaxed);
        let ours = scene.clone();
        let thread = thread::spawn(move || {
            core_affinity::set_for_current(CoreId { id: core });
            for seed in 1.. {
                let wanted = ours.wanted.load(Ordering::Acquire);
                ours.doing.store(wanted, Ordering::Release);
                let table = match wanted {
                    STOP => return,
                    n if n == Where::SameTable as u8 => &ours.tables[0],
                    n if n == Where::OtherTable as u8 => &ours.tables[1],
                    _ => {
                        std::hint::spin_loop();
                        continue;
                    }
                };
                work(table, seed);
                ours.done.fetch_add(1, Ordering::Relaxed);
            }
        });
        Self { scene: scene.clone(), thread: Some(thread) }
    }

    /// Tells the neighbour where to work and waits until it is there.
    fn go(&self, place: Where) {
        self.scene.wanted.store(place as u8, Ordering::Release);
        while self.scene.doing.load(Ordering::Acquire) != place as u8 {
            // It may share its core with others: they must get on.
            thread::yield_now();
        }
    }

    /// Adds the row: what `ours` (on the measured table; it returns how many operations it did) costs beside the neighbour.
    fn report(self, rows: &mut Rows, name: &str, ours: impl Fn(&Crt, u64) -> u64) {
        let mut passes: [Vec<Pass>; 3] = Default::default();
        let mut seed = 0;
        for _ in 0..timing::sized(PASSES, 4) {
            for (place, passes) in Where::ALL.into_iter().zip(&mut passes) {
                // Each pass its own: who came second with the same keys would find their lines in the cache.
                seed += 1;
                self.go(place);
                let before = self.scene.done.load(Ordering::Relaxed);
                let mut operations = 1;
                let all = once_ns(1, || operations = ours(&self.scene.tables[0], seed * 7919 + 1));
                let bursts = self.scene.done.load(Ordering::Relaxed) - before;
                passes.push(Pass { ns: all / operations as f64, pace: bursts as f64 / (all / 1e6) });
            }
        }
        let [alone, elsewhere, beside] = passes.map(typical_ns);
        let note =
            format!("alone {alone:.1} ns, beside another table {elsewhere:.1}, beside this one {beside:.1}");
        rows.add(name, "x", beside / elsewhere, note);
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        self.scene.wanted.store(STOP, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            // A panic there has been printed.
            let _ = thread.join();
        }
    }
}

/// The lower quartile of the passes in which the neighbour was at work all the time. The best alone would be one in
/// which the neighbour's core was busy with something else.
fn typical_ns(mut passes: Vec<Pass>) -> f64 {
    passes.sort_by(|a, b| a.pace.total_cmp(&b.pace));
    let usual = passes.get(passes.len() * 3 / 4).map_or(0.0, |pass| pass.pace);
    let mut ns: Vec<f64> = passes.iter().filter(|p| p.pace >= usual * 0.8).map(|p| p.ns).collect();
    ns.sort_by(f64::total_cmp);
    ns.get(ns.len() / 4).copied().unwrap_or(f64::NAN)
}

/// Look-ups of stable connections, in bursts.
fn look_up(crt: &Crt, seed: u64) -> u64 {
    let bursts = bursts();
    let found: u64 = (0..bursts).map(|n| look_up_burst(crt, seed.wrapping_mul(bursts).wrapping_add(n))).sum();
    assert_eq!(found, bursts * BURST, "a stable connection is found beside any neighbour");
    found
}

fn look_up_burst(crt: &Crt, seed: u64) -> u64 {
    let (mut burst, mut random) = (Burst::default(), Random(seed.wrapping_mul(0x9e37_79b9)));
    random.below(1);
    burst.set((0..KEYS).map(|_| KeyV4::number(random.below(u64::from(STABLE)))));
    crt.look_up(&mut burst, NOW);
    burst.found().iter().filter(|found| found.is_some()).count() as u64
}

/// Makes a piece of the coming connections and removes it again.
fn come_and_go(crt: &Crt, seed: u64) -> u64 {
    let from = STABLE + Random(seed).below(u64::from(COMING / PIECE)) * PIECE;
    insert(crt, from..from + PIECE);
    remove(crt, from..from + PIECE);
    u64::from(2 * PIECE)
}

/// The same a burst at a time, so that the neighbour soon hears what is wanted.
fn write(crt: &Crt, seed: u64) {
    let bursts = u64::from(COMING) / BURST;
    let from = STABLE + (seed % bursts * BURST) as u32;
    insert(crt, from..from + KEYS as u32);
    remove(crt, from..from + KEYS as u32);
}

/// What a control thread does: its share of a round through the table, then other things.
fn age_and_wait(crt: &Crt, _: u64) {
    let begun = Instant::now();
    crt.age(NOW, crt.age_budget(AGE_INTERVAL));
    while begun.elapsed() < AGE_INTERVAL {
        std::hint::spin_loop();
    }
}

fn insert(crt: &Crt, numbers: std::ops::Range<u32>) {
    let mut burst = Burst::default();
    for start in numbers.step_by(KEYS) {
        burst.set((start..start + KEYS as u32).map(KeyV4::number));
        crt.newconn_all(&mut burst, StackIndex(1), NOW, |_, done| {
            if let Err(refused) = done {
                panic!("the table has room for all connections: {refused}");
            }
        });
    }
}

fn remove(crt: &Crt, numbers: std::ops::Range<u32>) {
    let mut burst = Burst::default();
    for start in numbers.step_by(KEYS) {
        burst.set((start..start + KEYS as u32).map(KeyV4::number));
        crt.prepare(&mut burst);
        for key in burst.keys() {
            crt.remove(*key);
        }
    }
}
