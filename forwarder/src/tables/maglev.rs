//! Maglev hashing (Eisenbud et al., NSDI'16, section 3.4), with weights.
//!
//! Everything that enters the table is the same on every routing stack: names, not indices; fixed hashes.

use std::net::IpAddr;

use model::dpt::WeightedTarget;
use model::{StackIndex, StackName};

/// Table sizes, all prime. The first that is at least 100 times the number of targets is taken, so that shares differ
/// by at most 1 % (section 5.3).
const SIZES: [u32; 3] = [65_537, 655_373, 6_553_577];

/// The look-up table: entry → target.
#[derive(Debug)]
pub(super) struct Maglev(Box<[StackIndex]>);

impl Maglev {
    /// Fills the table (figure 4: each target in turn takes the next free entry of its own permutation). A target with
    /// weight `w` has its turn in `w` of `w_max` rounds.
    pub(super) fn new(targets: &[(&StackName, WeightedTarget)]) -> Self {
        let mut targets: Vec<_> = targets.iter().filter(|(_, t)| t.weight > 0).copied().collect();
        targets.sort_by_key(|(name, _)| *name);
        let heaviest = targets.iter().map(|(_, t)| u64::from(t.weight)).max().unwrap_or(1);
        let needed = u32::try_from(targets.len()).unwrap_or(u32::MAX).saturating_mul(100);
        let size = SIZES.into_iter().find(|s| *s >= needed).unwrap_or(SIZES[2]);
        let mut turns: Vec<_> = targets.iter().map(|(name, t)| Turns::new(name, *t, size)).collect();
        let mut table = vec![None; size as usize];
        let mut free = if turns.is_empty() { 0 } else { size };
        while free > 0 {
            for turn in turns.iter_mut().filter_map(|t| t.due(heaviest)) {
                if free > 0 && turn.take(&mut table, size) {
                    free = free.saturating_sub(1);
                }
            }
        }
        Self(table.into_iter().flatten().collect())
    }

    /// The target of a client.
    #[inline]
    pub(super) fn pick(&self, client: IpAddr, port: u16) -> Option<StackIndex> {
        let at = client_hash(client, port).checked_rem(self.0.len() as u64)?;
        self.0.get(at as usize).copied()
    }
}

/// One target's way through its permutation.
#[derive(Debug)]
struct Turns {
    stack: StackIndex,
    weight: u64,
    credit: u64,
    next: u32,
    skip: u32,
}

impl Turns {
    fn new(name: &StackName, target: WeightedTarget, size: u32) -> Self {
        let hash = |seed| name.as_str().bytes().fold(seed, |h, b| mix(h ^ u64::from(b)));
        let remainder =
            |h: u64, of: u32| u32::try_from(h.checked_rem(u64::from(of)).unwrap_or(0)).unwrap_or(0);
        let next = remainder(hash(0x6f66_6673_6574), size);
        let skip = remainder(hash(0x736b_6970), size.saturating_sub(1)).saturating_add(1);
        Self { stack: target.stack, weight: u64::from(target.weight), credit: 0, next, skip }
    }

    /// Itself, if it has a turn in this round.
    fn due(&mut self, heaviest: u64) -> Option<&mut Self> {
        self.credit = self.credit.saturating_add(self.weight);
        self.credit = self.credit.checked_sub(heaviest)?;
        Some(self)
    }

    /// Takes the next entry of its permutation that is free. There is one as long as any is free: `size` is prime.
    fn take(&mut self, table: &mut [Option<StackIndex>], size: u32) -> bool {
        for _ in 0..size {
            let at = self.next as usize;
            self.next = self.next.saturating_add(self.skip).checked_rem(size).unwrap_or(0);
            if let Some(free @ None) = table.get_mut(at) {
                *free = Some(self.stack);
                return true;
            }
        }
        false
    }
}

fn client_hash(client: IpAddr, port: u16) -> u64 {
    let address = match client {
        IpAddr::V4(a) => u128::from(a.to_bits()),
        IpAddr::V6(a) => a.to_bits(),
    };
    mix(mix((address >> 64) as u64 ^ u64::from(port)) ^ address as u64)
}

/// The finalizer of SplitMix64 (Steele, Lea, Flood, OOPSLA'14): every input bit changes half of the output's.
pub(super) fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ x >> 31
}
