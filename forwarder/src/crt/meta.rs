//! The last word of an entry: everything about it but the rest of its key, in one atomic word.
//!
//! | bits | field | |
//! | --- | --- | --- |
//! | 0–12 | service | part of the key: DVIPA index (12), protocol (1) |
//! | 13–26 | owner | stack index |
//! | 27–29 | state | 0: the slot is empty |
//! | 30–41 | stamp | tick of the last use ([`super::ages`]) |
//! | 42–58 | version | counts the entries that this slot has held |
//! | 59–62 | overflow | of the line; in slot 0: keys that have this line first and live in their second; 15: some |
//! | | | in the others: which classes of keys these are, a bit each |
//! | 63 | lock | of the line, in slot 0 only |

use model::StackIndex;

use super::key::{SERVICE_BITS, UDP, is_udp};
use super::{CrtState, Entry};

const OWNER: u32 = SERVICE_BITS;
const STATE: u32 = 27;
const STAMP: u32 = 30;
const VERSION: u32 = 42;
const OVERFLOW: u32 = 59;
const LOCK: u32 = 63;

/// Bits of a stamp.
pub(super) const STAMP_BITS: u32 = VERSION - STAMP;

const fn mask(from: u32, to: u32) -> u64 {
    (u64::MAX >> (64 - (to - from))) << from
}

/// The key's part.
pub(super) const SERVICE_MASK: u64 = mask(0, OWNER);
const OWNER_MASK: u64 = mask(OWNER, STATE);
/// Zero: the slot is empty.
pub(super) const STATE_MASK: u64 = mask(STATE, STAMP);
const STAMP_MASK: u64 = mask(STAMP, VERSION);
/// What tells the entries apart that a slot has held.
pub(super) const VERSION_MASK: u64 = mask(VERSION, OVERFLOW);
const OVERFLOW_MASK: u64 = mask(OVERFLOW, LOCK);
/// The line's lock, in slot 0.
pub(super) const LOCKED: u64 = mask(LOCK, 64);

/// What a meta says of its line.
pub(super) const LINE_BITS: u64 = OVERFLOW_MASK | LOCKED;

/// Classes that a meta has bits for, in any slot but the first.
pub(super) const CLASSES_A_SLOT: usize = (LOCK - OVERFLOW) as usize;

/// The bit of a class, in the meta of its slot.
#[inline(always)]
pub(super) const fn class_bit(class: usize) -> u64 {
    1 << (OVERFLOW as usize + class % CLASSES_A_SLOT)
}

/// All of them.
pub(super) const CLASS_BITS: u64 = OVERFLOW_MASK;

const _: () = assert!(OWNER_MASK >> OWNER == StackIndex::MAX as u64);

/// A value of an entry's last word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Meta(pub(super) u64);

impl Meta {
    #[inline(always)]
    pub(super) fn is_empty(self) -> bool {
        self.0 & STATE_MASK == 0
    }

    #[inline(always)]
    pub(super) fn is_locked(self) -> bool {
        self.0 & LOCKED != 0
    }

    #[inline(always)]
    pub(super) fn service(self) -> u64 {
        self.0 & SERVICE_MASK
    }

    /// Whether it is of an entry in this state.
    #[inline(always)]
    pub(super) fn is(self, state: CrtState) -> bool {
        self.0 & STATE_MASK == (state as u64) << STATE
    }

    /// Whether it is of an established TCP connection.
    #[inline(always)]
    pub(super) fn is_established_tcp(self) -> bool {
        self.0 & (STATE_MASK | UDP) == (CrtState::Established as u64) << STATE
    }

    /// Whether it is of an established UDP flow.
    #[inline(always)]
    pub(super) fn is_established_udp(self) -> bool {
        self.0 & (STATE_MASK | UDP) == (CrtState::Established as u64) << STATE | UDP
    }

    /// All bits if its key is a UDP flow's, else none.
    #[inline(always)]
    pub(super) fn udp_mask(self) -> u64 {
        0_u64.wrapping_sub((self.0 / UDP) & 1)
    }

    /// Whether its key is a UDP flow's.
    #[inline(always)]
    pub(super) fn is_udp(self) -> bool {
        is_udp(self.service())
    }

    /// The owner, unless the slot is empty.
    #[inline(always)]
    pub(super) fn owner(self) -> StackIndex {
        StackIndex(((self.0 & OWNER_MASK) >> OWNER) as u16)
    }

    /// `None` if the slot is empty.
    #[inline(always)]
    pub(super) fn entry(self) -> Option<Entry> {
        let state = match (self.0 & STATE_MASK) >> STATE {
            1 => Some(CrtState::HalfOpen),
            2 => Some(CrtState::Established),
            3 => Some(CrtState::Closing),
            4 => Some(CrtState::Frozen),
            5 => Some(CrtState::HandingOver),
            _ => None,
        };
        state.map(|state| Entry { owner: self.owner(), state })
    }

    #[inline(always)]
    pub(super) fn stamp(self) -> u64 {
        (self.0 & STAMP_MASK) >> STAMP
    }

    /// The same entry, last used at `stamp`.
    pub(super) fn with_stamp(self, stamp: u64) -> Self {
        Self(self.0 & !STAMP_MASK | stamp << STAMP & STAMP_MASK)
    }

    /// The same key, in another state or at another owner.
    pub(super) fn with_entry(self, entry: Entry) -> Self {
        Self(self.0 & !(OWNER_MASK | STATE_MASK) | entry_bits(entry))
    }

    /// The slot without its entry. The version stays: [`Self::published`] counts.
    #[inline(always)]
    pub(super) fn cleared(self) -> Self {
        Self(self.0 & (VERSION_MASK | LINE_BITS))
    }

    /// The slot with a new entry, of the next version.
    pub(super) fn published(self, service: u64, entry: Entry, stamp: u64) -> Self {
        let version = self.0.wrapping_add(1 << VERSION) & VERSION_MASK;
        let line = self.0 & LINE_BITS;
        Self(line | version | entry_bits(entry) | service & SERVICE_MASK).with_stamp(stamp)
    }

    /// Whether `earlier` is of the same entry, whatever has become of it in between. An emptied slot's version is its last
    /// entry's, so an entry's version is never that of the empty slot before it.
    #[inline(always)]
    pub(super) fn same_life(self, earlier: Self) -> bool {
        (self.0 ^ earlier.0) & VERSION_MASK == 0 && !self.is_empty()
    }

    /// Whether no key that has this line first lives in its second line. Of slot 0.
    pub(super) fn has_no_overflow(self) -> bool {
        self.0 & OVERFLOW_MASK == 0
    }

    /// One more key of this line lives in its second line. Sticks at the highest value: "some, not counted any more".
    pub(super) fn overflow_up(self) -> Self {
        if self.0 & OVERFLOW_MASK == OVERFLOW_MASK { self } else { Self(self.0.wrapping_add(1 << OVERFLOW)) }
    }

    /// One less, unless the count has stuck.
    pub(super) fn overflow_down(self) -> Self {
        let overflow = self.0 & OVERFLOW_MASK;
        if overflow == OVERFLOW_MASK || overflow == 0 {
            self
        } else {
            Self(self.0.wrapping_sub(1 << OVERFLOW))
        }
    }
}

fn entry_bits(entry: Entry) -> u64 {
    u64::from(entry.owner.0) << OWNER & OWNER_MASK | (entry.state as u64) << STATE
}
