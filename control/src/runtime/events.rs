//! What happened lately, for operators: a bounded list of the same facts that the log has, under the same names.

use std::collections::VecDeque;
use std::time::{SystemTime, UNIX_EPOCH};

use super::api::{EventName, EventRow, EventsAnswer};

/// How many are kept. At ten a second, what a busy cluster's targets cause, they are those of the last minutes.
const KEPT: usize = 4096;
/// So many characters of a text that somebody else wrote, such as an order, are in an event.
const CUT: usize = 200;
/// How many are answered at once.
const AT_ONCE: usize = 1000;

/// The beginning of a text that somebody else wrote.
pub(super) fn cut(text: &str) -> String {
    match text.char_indices().nth(CUT) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

/// The last events, oldest first.
#[derive(Debug, Default)]
pub(super) struct Recent {
    rows: VecDeque<EventRow>,
    /// The number of the newest, counted from 1.
    newest: u64,
}

impl Recent {
    /// Something happened, now.
    pub(super) fn add(&mut self, event: EventName, about: impl ToString, text: impl Into<String>) {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.newest += 1;
        if self.rows.len() == KEPT {
            self.rows.pop_front();
        }
        self.rows.push_back(EventRow {
            number: self.newest,
            unix_ms: u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX),
            event,
            about: about.to_string(),
            text: text.into(),
        });
    }

    /// The last one of its kind about somebody, as far as it is kept.
    pub(super) fn last(&self, event: EventName, about: impl ToString) -> Option<&EventRow> {
        let about = about.to_string();
        self.rows.iter().rev().find(|row| row.event == event && row.about == about)
    }

    /// As [`Self::after`], but so many of the newest at most.
    pub(super) fn lately(&self, number: u64, most: u64) -> EventsAnswer {
        let after = if number > self.newest { 0 } else { number };
        self.after(after.max(self.newest.saturating_sub(most)))
    }

    /// Those after the one with this number. A number that was not given yet is a former process's: all are new then.
    pub(super) fn after(&self, number: u64) -> EventsAnswer {
        let after = if number > self.newest { 0 } else { number };
        let oldest = self.rows.front().map_or(self.newest, |row| row.number.saturating_sub(1));
        let new = self.rows.iter().filter(|row| row.number > after);
        let events: Vec<EventRow> = new.take(AT_ONCE).cloned().collect();
        let next = events.last().map_or(after.max(oldest), |row| row.number);
        EventsAnswer { events, next, missed: oldest.saturating_sub(after) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(number: usize) -> Recent {
        let mut recent = Recent::default();
        (0..number).for_each(|n| recent.add(EventName::Reloaded, n, "read"));
        recent
    }

    fn numbers(answer: &EventsAnswer) -> (usize, Option<u64>, u64, u64) {
        (answer.events.len(), answer.events.first().map(|row| row.number), answer.next, answer.missed)
    }

    #[test]
    fn a_long_text_is_cut() {
        assert_eq!((cut("ä"), cut(&"ä".repeat(CUT))), ("ä".to_owned(), "ä".repeat(CUT)));
        assert_eq!(cut(&"ä".repeat(9_000)), "ä".repeat(CUT) + "…");
    }

    #[test]
    fn each_is_answered_once_and_in_order() {
        let recent = with(3);
        assert_eq!(numbers(&recent.after(0)), (3, Some(1), 3, 0));
        assert_eq!(numbers(&recent.after(2)), (1, Some(3), 3, 0));
        assert_eq!(numbers(&recent.after(3)), (0, None, 3, 0));
    }

    #[test]
    fn after_a_restart_all_are_new() {
        assert_eq!(numbers(&with(2).after(70)), (2, Some(1), 2, 0));
        assert_eq!(numbers(&with(0).after(70)), (0, None, 0, 0));
    }

    #[test]
    fn the_oldest_give_way_and_who_missed_them_is_told() {
        let recent = with(KEPT + 10);
        assert_eq!(numbers(&recent.after(4)), (AT_ONCE, Some(11), 1010, 6));
        assert_eq!(numbers(&recent.after(1010)), (AT_ONCE, Some(1011), 2010, 0));
    }
}
