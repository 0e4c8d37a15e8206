//! What the path's stages cost, for the plot. No clock stands between the stages; they are told apart by what packets in
//! memory cost that go less far:
//!
//! - look-up: the CRT alone, on the same connections;
//! - encapsulate: packets of established connections, less those of frozen ones, which are dropped as soon as they are
//!   looked up. Dropping has a cost of its own, so that this is a lower bound. At few flows only: it knows nothing of them,
//!   and a small difference of large numbers says little.
//!
//! Each is the best of short passes in bursts of 32, with the packets' source subtracted. The plot shows parsing as what
//! these leave of the whole path.

use std::hint::black_box;

use forwarder::Now;
use forwarder::crt::{BURST as KEYS, Burst, Crt, CrtState, Entry};

use crate::cluster::Traffic;
use crate::frames::{Frames, Kind};
use crate::keys::Random;
use crate::rig::Rig;
use crate::rows::Rows;
use crate::timing::{BURST, BURSTS, best_ns, once_ns};

/// Flows, and the words for them in names.
pub(crate) const FLOWS: [(u32, &str); 5] =
    [(1000, "1k"), (10_000, "10k"), (100_000, "100k"), (1_000_000, "1m"), (10_000_000, "10m")];

/// Passes of packets that are sent, and of packets that are dropped.
const PASSES: u64 = 200;
const NOW: Now = Now { ms: 1000 };

/// Adds the rows `stage_lookup_*_ns` and `stage_encapsulate_ns`.
pub(crate) fn measure(rows: &mut Rows) {
    let of = |flows| Traffic { kind: Kind::Ack, gue: false, flows };
    for (flows, word) in FLOWS {
        let name = format!("stage_lookup_{word}_ns");
        if rows.wants(&[&name])
            && let Ok(ns) = lookup_ns(of(flows))
        {
            rows.add(&name, "ns", ns, "");
        }
    }
    let (name, [(fewest, _), ..]) = ("stage_encapsulate_ns", FLOWS);
    if rows.wants(&[name])
        && let Ok(ns) = encapsulate_ns(of(fewest))
    {
        rows.add(name, "ns", ns, "a lower bound");
    }
}

fn lookup_ns(traffic: Traffic) -> std::io::Result<f64> {
    let (frames, crt) = (traffic.frames(), traffic.crt()?);
    let ns = |crt: Option<&Crt>| best_ns(BURSTS * BURST, |seed| look_up(&frames, crt, traffic.flows, seed));
    Ok(ns(Some(&crt)) - ns(None))
}

fn encapsulate_ns(traffic: Traffic) -> std::io::Result<f64> {
    let (mut open, mut frozen) = (Rig::new(traffic)?, Rig::new(traffic)?);
    freeze(frozen.crt(), traffic);
    let (mut sent, mut dropped) = (f64::INFINITY, f64::INFINITY);
    // In turns, so that both have the machine's good and bad moments.
    for seed in 0..PASSES {
        sent = sent.min(pass_ns(&mut open, seed, BURSTS * BURST));
        dropped = dropped.min(pass_ns(&mut frozen, seed, 0));
    }
    Ok(sent - dropped)
}

fn pass_ns(rig: &mut Rig, seed: u64, expected: u64) -> f64 {
    once_ns(BURSTS * BURST, || assert_eq!(bursts(rig, seed) as u64, expected, "packets that are sent"))
}

fn freeze(crt: &Crt, traffic: Traffic) {
    let (frames, owner) = (traffic.frames(), traffic.owner());
    for n in 0..traffic.flows {
        let [old, new] = [CrtState::Established, CrtState::Frozen].map(|state| Entry { owner, state });
        let done = crt.change(frames.key_v4(n), old, new, NOW);
        assert_eq!(done, Ok(()), "flow {n} freezes");
    }
}

#[inline(never)]
fn bursts(rig: &mut Rig, seed: u64) -> usize {
    let (mut random, mut sent) = (Random(seed), 0);
    for _ in 0..BURSTS {
        rig.write(&mut random);
        sent += rig.process();
    }
    sent
}

#[inline(never)]
fn look_up(frames: &Frames, crt: Option<&Crt>, flows: u32, seed: u64) {
    let (mut burst, mut random) = (Burst::default(), Random(seed));
    for _ in 0..BURSTS {
        burst.set((0..KEYS).map(|_| frames.key_v4(random.below(u64::from(flows)))));
        match crt {
            Some(crt) => crt.look_up(&mut burst, NOW),
            None => drop(black_box(&burst)),
        }
        black_box(&burst);
    }
}
