//! Walks over the whole table in steps: ageing, and the displays. Neither stops anyone.

use std::ops::Range;

use super::ages::{Ages, key_of};
use super::bounded::Bounded;
use super::entry::Entry;
use super::family::Family;
use super::key::{Exact, KeyParts};
use super::ledger::Counter;
use super::line::Line;
use super::{Crt, Cursor, KeyV4, KeyV6, Now, Row};

/// The parts, in the order of a walk.
#[derive(Clone, Copy)]
enum Part {
    MainV4,
    MainV6,
    HalfOpenV4,
    HalfOpenV6,
    FragmentsV4,
    FragmentsV6,
}

impl Crt {
    /// The parts and their lines.
    fn parts(&self) -> [(Part, usize); 6] {
        [
            (Part::MainV4, self.v4.main.lines().len()),
            (Part::MainV6, self.v6.main.lines().len()),
            (Part::HalfOpenV4, self.v4.half_open.lines().len()),
            (Part::HalfOpenV6, self.v6.half_open.lines().len()),
            (Part::FragmentsV4, self.fragments_v4.lines().len()),
            (Part::FragmentsV6, self.fragments_v6.lines().len()),
        ]
    }

    /// Lines of all parts.
    pub(super) fn all_lines(&self) -> usize {
        self.parts().into_iter().map(|(_, lines)| lines).sum()
    }

    /// The part that a walk's line number is in, and its lines from there on; `None` after the last one.
    fn rest_of_part(&self, number: u64) -> Option<(Part, Range<u32>)> {
        let mut rest = number;
        for (part, lines) in self.parts() {
            match rest.checked_sub(lines as u64) {
                None => return Some((part, rest as u32..lines as u32)),
                Some(less) => rest = less,
            }
        }
        None
    }

    /// See [`Crt::age`].
    pub(super) fn age_lines(&self, now: Now, budget: usize) -> usize {
        let ledger = &self.common.ledger;
        let (mut number, mut left) = (ledger.get(Counter::AgeCursor), budget.min(self.all_lines()));
        let mut ended = 0usize;
        while left > 0 {
            let Some((part, lines)) = self.rest_of_part(number) else {
                number = 0;
                left -= 1;
                self.v4.aged(&self.common);
                self.v6.aged(&self.common);
                continue;
            };
            let lines = lines.start
                ..lines.end.min(lines.start.saturating_add(u32::try_from(left).unwrap_or(u32::MAX)));
            number = number.wrapping_add(lines.len() as u64);
            left -= lines.len();
            ended = ended.wrapping_add(match part {
                Part::MainV4 => self.v4.age_lines(&self.common, lines, now),
                Part::MainV6 => self.v6.age_lines(&self.common, lines, now),
                Part::HalfOpenV4 => self.age_half_open(&self.v4, lines, now),
                Part::HalfOpenV6 => self.age_half_open(&self.v6, lines, now),
                Part::FragmentsV4 => age_fragments(&self.fragments_v4, lines, now),
                Part::FragmentsV6 => age_fragments(&self.fragments_v6, lines, now),
            });
        }
        ledger.set(Counter::AgeCursor, number);
        ledger.add(Counter::Aged, ended as u64);
        ended
    }

    fn age_half_open<K: Exact>(&self, family: &Family<K>, lines: Range<u32>, now: Now) -> usize {
        let ledger = &self.common.ledger;
        let mut count = 0usize;
        family.half_open.age_lines(lines, now, |entry: Entry| {
            count = count.wrapping_add(1);
            ledger.one_less(family.half_opens);
            ledger.changed(Some(entry), None);
        });
        count
    }

    /// See [`Crt::scan`].
    pub(super) fn scan_lines(
        &self,
        from: Cursor,
        budget: usize,
        now: Now,
        each: &mut dyn FnMut(Row),
    ) -> Option<Cursor> {
        let mut number = from.0;
        for _ in 0..budget.max(1) {
            let (part, Range { start: line, .. }) = self.rest_of_part(number)?;
            match part {
                Part::MainV4 => self.v4.show_line(line, now, each),
                Part::MainV6 => self.v6.show_line(line, now, each),
                Part::HalfOpenV4 => {
                    show::<KeyV4>(
                        self.v4.half_open.lines().at(line as usize),
                        now,
                        |_| self.v4.half_open.ages(),
                        each,
                    );
                }
                Part::HalfOpenV6 => {
                    show::<KeyV6>(
                        self.v6.half_open.lines().at(line as usize),
                        now,
                        |_| self.v6.half_open.ages(),
                        each,
                    );
                }
                Part::FragmentsV4 | Part::FragmentsV6 => return None,
            }
            number = number.wrapping_add(1);
        }
        Some(Cursor(number))
    }
}

fn age_fragments<K: Exact>(fragments: &Bounded<K>, lines: Range<u32>, now: Now) -> usize {
    // Not counted as aged: they are no connections.
    fragments.age_lines(lines, now, drop);
    0
}

impl<K: Exact + Into<KeyParts>> Family<K> {
    fn show_line(&self, line: u32, now: Now, each: &mut dyn FnMut(Row)) {
        show::<K>(self.main.line(line), now, |service| self.ages_of(service), each);
    }
}

fn show<'a, K: Exact + Into<KeyParts>>(
    line: &Line,
    now: Now,
    ages_of: impl Fn(u64) -> &'a Ages,
    each: &mut dyn FnMut(Row),
) {
    for slot in line.slots::<K>() {
        let Some((words, meta)) = slot.read() else { continue };
        let Some(entry) = meta.entry() else { continue };
        let ages = ages_of(meta.service());
        let idle_ms = ages.age(meta, ages.stamp(now)).wrapping_mul(ages.tick_ms());
        let key = key_of::<K>(words, meta).into();
        each(Row { key, entry, idle_s: u32::try_from(idle_ms / 1000).unwrap_or(u32::MAX) });
    }
}
