//! Stamps: when an entry was last used, in 12 bits, and how long it lives.
//!
//! A part of the table counts time in ticks that are so long that the longest life in it is half of what 12 bits hold.
//! A stamp is written only when it is some ticks old, so that look-ups leave lines unwritten and shared between cores
//! (each write would cost the other cores a miss); an entry lives that much longer than its life.

use model::Protocol;

use super::CrtState;
use super::key::{Exact, protocol_of};
use super::meta::{Meta, STAMP_BITS};
use super::{Config, Now};

const STAMPS: u64 = 1 << STAMP_BITS;
/// The longest life, in ticks.
const LONGEST: u64 = STAMPS / 2;
/// A stamp this near to the present from above was made by a thread whose clock was read a little later.
const FUTURE: u64 = STAMPS / 8;

/// The lives of entries in one part of the table, in its ticks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ages {
    tick_ms: u64,
    half_open: u64,
    closing: u64,
    tcp: u64,
    udp: u64,
    refresh: u64,
}

impl Ages {
    /// For the main table.
    pub(super) fn of_connections(config: &Config) -> Self {
        let longest_s =
            config.idle_tcp_s.max(config.idle_udp_s).max(config.half_open_s).max(config.closing_s);
        Self::new(longest_s, [config.half_open_s, config.closing_s, config.idle_tcp_s, config.idle_udp_s], 16)
    }

    /// For the bounded table of half-open entries: short ticks, so that the oldest one is known.
    pub(super) fn of_half_open(config: &Config) -> Self {
        let longest_s = config.half_open_s.max(config.closing_s);
        Self::new(
            longest_s,
            [config.half_open_s, config.closing_s, config.half_open_s, config.half_open_s],
            LONGEST,
        )
    }

    /// For the bounded table of fragments.
    pub(super) fn of_fragments(config: &Config) -> Self {
        Self::new(config.fragment_s, [config.fragment_s; 4], LONGEST)
    }

    /// `refreshes`: how often in the shorter idle life a stamp is renewed.
    fn new(longest_s: u32, lives_s: [u32; 4], refreshes: u64) -> Self {
        let tick_ms = (u64::from(longest_s) * 1000).div_ceil(LONGEST).max(1);
        let [half_open, closing, tcp, udp] = lives_s.map(|s| (u64::from(s) * 1000).div_ceil(tick_ms));
        Self { tick_ms, half_open, closing, tcp, udp, refresh: (tcp.min(udp) / refreshes).clamp(1, LONGEST) }
    }

    /// Milliseconds a tick.
    pub(super) fn tick_ms(&self) -> u64 {
        self.tick_ms
    }

    /// The stamp of a use at `now`.
    #[inline(always)]
    pub(super) fn stamp(&self, now: Now) -> u64 {
        now.ms.checked_div(self.tick_ms).unwrap_or(0) % STAMPS
    }

    /// Ticks from a meta's last use to `stamp`.
    #[inline(always)]
    pub(super) fn age(&self, meta: Meta, stamp: u64) -> u64 {
        let age = stamp.wrapping_sub(meta.stamp()) % STAMPS;
        if age >= STAMPS - FUTURE { 0 } else { age }
    }

    /// Whether a use at `stamp` has to be written down, if the entry is one that a use prolongs. Of an empty slot: anything.
    #[inline(always)]
    pub(super) fn is_stale(&self, meta: Meta, stamp: u64) -> bool {
        // `age >= refresh`, and not from the future, in one comparison.
        let over = stamp.wrapping_sub(self.refresh).wrapping_sub(meta.stamp()) % STAMPS;
        over < STAMPS - FUTURE - self.refresh
    }

    /// Whether the entry's life is over at `stamp`. An empty slot's is not.
    pub(super) fn is_over(&self, meta: Meta, stamp: u64) -> bool {
        let udp = protocol_of(meta.service()) == Protocol::Udp;
        let life = match meta.entry().map(|entry| entry.state) {
            None => return false,
            Some(CrtState::HalfOpen) => self.half_open,
            Some(CrtState::Closing) => self.closing,
            Some(_) if udp => self.udp + self.refresh,
            Some(_) => self.tcp + self.refresh,
        };
        // One more: the tick in which it was stamped had begun before.
        self.age(meta, stamp) > life + 1
    }

    /// Within how many milliseconds every entry must be looked at: then a stamp can't come round and look young again.
    pub(super) fn sweep_ms(&self) -> u64 {
        self.tick_ms * LONGEST / 2
    }
}

/// A key as its words and meta tell it.
pub(super) fn key_of<K: Exact>(words: K::Words, meta: Meta) -> K {
    K::from_parts(words, meta.service())
}
