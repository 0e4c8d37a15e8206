//! Where a key belongs: which of its hash's bits choose what.
//!
//! TCP and UDP have lines of their own in the main table, so that neither can fill the other's. A key's place is counted with
//! the numbers of its protocol, so that all that comes afterwards, a burst's look-up above all, need not know of it.

use super::hash::Hash;
use super::key::{Exact, UDP};
use super::line::classes;

/// The numbers of what a key's hash chooses. Of a table other than the one that it was made for, it finds nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(16))]
pub(super) struct Place {
    /// The first line in the main table.
    pub(super) first: u32,
    /// The second one: another line.
    pub(super) second: u32,
    /// The line in a bounded table.
    pub(super) bounded: u32,
    /// What the first line calls the key when it lives in the second ([`super::line::Class`]).
    pub(super) class: u32,
}

/// Of how many a place chooses one, and what is before them; in the order of [`Place`].
#[derive(Clone, Copy, Debug, Default)]
#[repr(C, align(16))]
pub(super) struct Choice {
    pub(super) of: Hash,
    pub(super) from: Hash,
}

/// The division of a family's lines. A line's number has 31 bits ([`super::layout`]).
#[derive(Clone, Copy, Debug)]
pub(super) struct Division {
    tcp_lines: u32,
    tcp: Choice,
    udp: Choice,
}

impl Division {
    /// Of `lines` of a main table the first `tcp_lines` are TCP's; a bounded table has `bounded` lines.
    pub(super) fn new<K: Exact>(tcp_lines: usize, lines: usize, bounded: usize) -> Self {
        let [tcp_lines, lines, bounded] = [tcp_lines, lines, bounded].map(|n| n as u32);
        let choice = |from: u32, lines: u32| Choice {
            // The second line is one of the others.
            of: [lines, lines.saturating_sub(1), bounded, classes::<K>()],
            from: [from, from + 1, 0, 0],
        };
        Self { tcp_lines, tcp: choice(0, tcp_lines), udp: choice(tcp_lines, lines.saturating_sub(tcp_lines)) }
    }

    /// Of a bounded table alone.
    pub(super) fn bounded<K: Exact>(lines: usize) -> Self {
        Self::new::<K>(0, 0, lines)
    }

    /// TCP's lines of the main table.
    pub(super) fn tcp_lines(&self) -> usize {
        self.tcp_lines as usize
    }

    /// What a key of this service has to choose from.
    #[inline(always)]
    pub(super) fn choice(&self, service: u64) -> &Choice {
        // A number, not a branch: which protocol's turn it is can't be predicted.
        if service & UDP == 0 { &self.tcp } else { &self.udp }
    }
}

impl Choice {
    /// One of each, without a division: equal parts of the hash's range for all.
    #[inline(always)]
    pub(super) fn place(&self, hash: Hash) -> Place {
        let mut numbers = [0; 4];
        for ((number, hash), of) in numbers.iter_mut().zip(hash).zip(self.of) {
            *number = ((u64::from(hash) * u64::from(of)) >> 32) as u32;
        }
        let ([first, second, bounded, class], [to_first, to_second, ..]) = (numbers, self.from);
        let second = second + to_second - u32::from(first > second);
        Place { first: first + to_first, second, bounded, class }
    }
}
