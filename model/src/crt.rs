//! Where a connection is in its life, as the connection routing table and every display of it say.

use serde::{Deserialize, Serialize};

/// The state of a CRT entry. Its number is what an entry holds, its word what displays and the admin API say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[repr(u8)]
pub enum CrtState {
    /// A SYN (or the first UDP packet) has been sent to the owner, which has not confirmed the connection yet.
    HalfOpen = 1,
    /// The owner has it.
    Established = 2,
    /// The owner reported its end: forwarded for a short while, so that the last acknowledgements arrive.
    Closing = 3,
    /// It is moving from one stack to another: its packets wait.
    Frozen = 4,
    /// It is the owner's once one of its packets has made it there: each carries what the owner's kernel needs for that.
    HandingOver = 5,
}

impl CrtState {
    /// All of them, in the order of their numbers.
    pub const ALL: [CrtState; 5] = [
        CrtState::HalfOpen,
        CrtState::Established,
        CrtState::Closing,
        CrtState::Frozen,
        CrtState::HandingOver,
    ];

    /// The word for displays.
    pub fn name(self) -> &'static str {
        match self {
            CrtState::HalfOpen => "half-open",
            CrtState::Established => "established",
            CrtState::Closing => "closing",
            CrtState::Frozen => "frozen",
            CrtState::HandingOver => "handing-over",
        }
    }

    /// The state with this word.
    pub fn named(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == word)
    }

    /// Whether it counts as one of its owner's connections.
    pub fn counts(self) -> bool {
        !matches!(self, CrtState::HalfOpen | CrtState::Closing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_admin_api_says_the_same_words_as_displays() {
        for state in CrtState::ALL {
            assert_eq!(serde_json::to_value(state).unwrap(), state.name());
            assert_eq!(CrtState::named(state.name()), Some(state));
        }
    }
}
