//! Patterns, ready to be compared. Regular expressions are automata that were built whole: a look at each byte, nothing else.

use std::fmt;
use std::sync::Arc;

use regex_automata::dfa::{Automaton, StartKind, dense};
use regex_automata::nfa::thompson;
use regex_automata::util::primitives::StateID;
use regex_automata::util::{start, syntax};
use regex_automata::{Anchored, MatchKind};

/// The largest automaton of one regular expression, in bytes.
pub(crate) const REGEX_BYTES: usize = 256 * 1024;
/// What may be used to build it, in bytes.
const BUILD_BYTES: usize = 2 * 1024 * 1024;

/// What a text is compared with.
#[derive(Clone, Debug)]
pub(crate) enum Compiled {
    Exact(Box<[u8]>),
    Prefix(Box<[u8]>),
    Regex(Regex),
}

impl Compiled {
    /// Whether it describes the text.
    pub(crate) fn holds(&self, text: &[u8]) -> bool {
        match self {
            Compiled::Exact(all) => **all == *text,
            Compiled::Prefix(start) => text.starts_with(start),
            Compiled::Regex(regex) => regex.holds(text.iter().copied()),
        }
    }

    /// The same for a text that is decoded on the way.
    pub(crate) fn holds_of(&self, mut text: impl Iterator<Item = u8>) -> bool {
        match self {
            Compiled::Exact(all) => {
                all.iter().all(|byte| text.next() == Some(*byte)) && text.next().is_none()
            }
            Compiled::Prefix(start) => start.iter().all(|byte| text.next() == Some(*byte)),
            Compiled::Regex(regex) => regex.holds(text),
        }
    }
}

/// A regular expression that has to match a text as a whole. A clone shares its memory.
#[derive(Clone)]
pub(crate) struct Regex {
    automaton: Arc<dense::DFA<Vec<u32>>>,
    start: StateID,
}

impl Regex {
    /// Builds the automaton. Classes such as `\d` and `.` are of bytes.
    ///
    /// # Errors
    /// Says what is wrong with the expression.
    pub(crate) fn new(expression: &str) -> Result<Self, String> {
        let config = dense::Config::new()
            .start_kind(StartKind::Anchored)
            // All matches are followed, so that the state after the last byte says whether one of them ends there.
            .match_kind(MatchKind::All)
            .dfa_size_limit(Some(REGEX_BYTES))
            .determinize_size_limit(Some(BUILD_BYTES));
        let automaton = dense::Builder::new()
            .configure(config)
            .thompson(thompson::Config::new().utf8(false).nfa_size_limit(Some(BUILD_BYTES)))
            .syntax(syntax::Config::new().unicode(false).utf8(false))
            .build(expression)
            .map_err(|error| reason(&error))?;
        let start = automaton.start_state(&start::Config::new().anchored(Anchored::Yes));
        let start = start.map_err(|error| error.to_string())?;
        Ok(Self { automaton: Arc::new(automaton), start })
    }

    fn holds(&self, text: impl Iterator<Item = u8>) -> bool {
        let mut state = self.start;
        for byte in text {
            state = self.automaton.next_state(state, byte);
            if self.automaton.is_dead_state(state) {
                return false;
            }
        }
        self.automaton.is_match_state(self.automaton.next_eoi_state(state))
    }
}

impl fmt::Debug for Regex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Regex({} bytes)", self.automaton.memory_usage())
    }
}

/// The innermost cause on one line.
fn reason(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    let text = cause.to_string();
    let last = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
    last.trim().trim_start_matches("error: ").to_owned()
}
