//! Stamps: when an entry was last used, in 12 bits, and how long it lives.
//!
//! A part of the table counts time in ticks of its own. A stamp is written only when it is some ticks old, so that look-ups
//! leave lines unwritten and shared between cores (each write would cost the other cores a miss); an entry lives that much
//! longer than its life.
//!
//! A TCP connection's entry lives for as long as its target has it; its stamp says only how long it was idle. The sweep
//! keeps stamps from coming round and looking young again: none is older than [`OLDEST`].

use super::CrtState;
use super::key::Exact;
use super::meta::{Meta, STAMP_BITS};
use super::{Config, Now};

const STAMPS: u64 = 1 << STAMP_BITS;
/// The longest life, in ticks.
const LONGEST: u64 = STAMPS / 2;
/// A stamp this near to the present from above was made by a thread whose clock was read a little later.
const FUTURE: u64 = STAMPS / 8;
/// The age, in ticks, beyond which the sweep tells no older entries apart.
pub(super) const OLDEST: u64 = STAMPS * 3 / 4;
/// `idle_tcp_s` in ticks, so that half as much again is known.
const IDLE_TCP: u64 = STAMPS / 2;
/// The longest tick of TCP connections: half-open and closing ones are counted in it too.
const TCP_TICK_MS: u64 = 4000;

/// The lives of entries in one part of the table, in its ticks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ages {
    tick_ms: u64,
    half_open: u64,
    closing: u64,
    /// How long an entry in use may be idle; `None`: for ever.
    idle: Option<u64>,
    /// From which age on an entry in use may end to make room.
    gives_way: u64,
    /// From which age on a use is written down.
    refresh: u64,
    /// The same where the part holds more than it was made for, so that the oldest one is known.
    refresh_crowded: u64,
}

impl Ages {
    /// For TCP in the main table.
    pub(super) fn of_connections(config: &Config) -> Self {
        let tick_ms = ms(config.idle_tcp_s).div_ceil(IDLE_TCP).clamp(1, TCP_TICK_MS);
        let gives_way = (ms(config.idle_tcp_s) / tick_ms).min(OLDEST);
        let refresh = (gives_way / 16).max(1);
        Self { idle: None, gives_way, refresh, refresh_crowded: refresh, ..Self::new(config, tick_ms, 0) }
    }

    /// For UDP in the main table.
    pub(super) fn of_flows(config: &Config) -> Self {
        let tick_ms = tick_for(config.idle_udp_s.max(config.closing_s));
        let refresh = |parts: u64| (ms(config.idle_udp_s) / tick_ms / parts).max(1);
        let ages = Self::new(config, tick_ms, config.idle_udp_s);
        Self { refresh: refresh(16), refresh_crowded: refresh(512), ..ages }
    }

    /// For the bounded table of half-open entries: short ticks, so that the oldest one is known.
    pub(super) fn of_half_open(config: &Config) -> Self {
        Self::new(config, tick_for(config.half_open_s.max(config.closing_s)), config.half_open_s)
    }

    /// For the bounded table of fragments.
    pub(super) fn of_fragments(config: &Config) -> Self {
        Self::new(config, tick_for(config.fragment_s), config.fragment_s)
    }

    fn new(config: &Config, tick_ms: u64, idle_s: u32) -> Self {
        let [half_open, closing, idle] =
            [config.half_open_s, config.closing_s, idle_s].map(|s| ms(s).div_ceil(tick_ms));
        let idle = Some(idle);
        Self { tick_ms, half_open, closing, idle, gives_way: 0, refresh: 1, refresh_crowded: 1 }
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

    /// Which entries' use at `now` has to be written down, in a part that holds more than it was made for or not.
    #[inline(always)]
    pub(super) fn stale(&self, now: Now, crowded: bool) -> Stale {
        let refresh = if crowded { self.refresh_crowded } else { self.refresh };
        Stale { from: self.stamp(now).wrapping_sub(refresh), below: STAMPS - FUTURE - refresh }
    }

    /// Whether the entry's life is over at `stamp`. An empty slot's is not.
    pub(super) fn is_over(&self, meta: Meta, stamp: u64) -> bool {
        let life = match meta.entry().map(|entry| entry.state) {
            None => return false,
            Some(CrtState::HalfOpen) => self.half_open,
            Some(CrtState::Closing) => self.closing,
            Some(_) => match self.idle {
                None => return false,
                Some(idle) => idle + self.refresh,
            },
        };
        // More, not as much: the tick in which it was stamped had begun before.
        self.age(meta, stamp) > life
    }

    /// From which age on an entry in use may end to make room, in ticks.
    pub(super) fn gives_way(&self) -> u64 {
        self.gives_way
    }

    /// The stamp that an entry older than [`OLDEST`] is given; `None` for younger ones.
    pub(super) fn oldest(&self, meta: Meta, stamp: u64) -> Option<u64> {
        (self.age(meta, stamp) > OLDEST).then(|| stamp.wrapping_sub(OLDEST) % STAMPS)
    }

    /// Within how many milliseconds every entry must be looked at: then a stamp can't come round and look young again.
    pub(super) fn sweep_ms(&self) -> u64 {
        let spare = if self.idle.is_none() { STAMPS - FUTURE - OLDEST } else { LONGEST };
        self.tick_ms * spare / 2
    }
}

/// The entries whose use has to be written down.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stale {
    from: u64,
    below: u64,
}

impl Stale {
    /// Whether it is one of them, if it is one that a use prolongs. Of an empty slot: anything.
    #[inline(always)]
    pub(super) fn is(self, meta: Meta) -> bool {
        // `age >= refresh`, and not from the future, in one comparison.
        self.from.wrapping_sub(meta.stamp()) % STAMPS < self.below
    }

    /// `udp` for an entry of UDP, `self` for one of TCP: in bits, because the compiler makes an address and a load of a choice. Bought
    /// 11 instructions a key.
    #[inline(always)]
    pub(super) fn or(self, udp: Self, meta: Meta) -> Self {
        let choose = |tcp, udp| tcp ^ (tcp ^ udp) & meta.udp_mask();
        Self { from: choose(self.from, udp.from), below: choose(self.below, udp.below) }
    }
}

fn ms(s: u32) -> u64 {
    u64::from(s) * 1000
}

/// The tick with which a life of this many seconds is the longest.
fn tick_for(longest_s: u32) -> u64 {
    ms(longest_s).div_ceil(LONGEST).max(1)
}

/// A key as its words and meta tell it.
pub(super) fn key_of<K: Exact>(words: K::Words, meta: Meta) -> K {
    K::from_parts(words, meta.service())
}
