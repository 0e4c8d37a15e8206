//! Where a client's requests begin on its connection, by sequence numbers (RFC 9112 6; RFC 9293 3.4).
//!
//! The one before its last, its head and its content say where the next one begins. Where that is not beyond doubt there is no
//! boundary, and the connection stays with its target.

use routes::{Framing, Pin};

/// The farthest from a boundary that a segment is taken for one of the connection: more than any window.
const NEAR: i32 = 1 << 30;
/// Longer requests are not followed: sequence numbers behind one could be taken for those before it.
const LONGEST: u32 = 1 << 29;

/// Why nothing is known of where the next request begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unknown {
    /// The request itself leaves it in doubt.
    Pinned(Pin),
    /// More of the client came with it than belongs to it.
    More,
}

/// The request that is under way, and where the next one begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Boundary {
    /// The first sequence number of the request.
    start: u32,
    /// Of the one behind it.
    next: u32,
}

/// Where bytes of a client are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// In the request that is under way, or before it.
    Known,
    /// The next request begins with them.
    Next,
    /// They begin before the next request and end in it.
    Across,
    /// They begin in the next request.
    Ahead,
    /// Nowhere near.
    Foreign,
}

/// The bytes from `from` on that lie behind `to`, negative if it is before it.
fn behind(from: u32, to: u32) -> i32 {
    from.wrapping_sub(to) as i32
}

impl Boundary {
    /// Behind a request that begins at `start`, of which, or of more, so many bytes were read.
    pub(crate) fn behind(start: u32, framing: Framing, read_bytes: usize) -> Result<Self, Unknown> {
        let request_bytes = match framing {
            Framing::Pinned(pin) => return Err(Unknown::Pinned(pin)),
            Framing::Ends { request_bytes } if request_bytes > LONGEST => {
                return Err(Unknown::Pinned(Pin::LongContent));
            }
            Framing::Ends { request_bytes } => request_bytes,
        };
        if read_bytes > request_bytes as usize {
            return Err(Unknown::More);
        }
        Ok(Self { start, next: start.wrapping_add(request_bytes) })
    }

    /// Of a request that begins at `start`, and nothing is known of what follows.
    pub(crate) fn open(start: u32) -> Self {
        Self { start, next: start }
    }

    /// Where these bytes are. There is at least one.
    pub(crate) fn part(self, sequence: u32, bytes: usize) -> Part {
        let begin = behind(sequence, self.next);
        let end = begin.saturating_add(i32::try_from(bytes).unwrap_or(i32::MAX));
        match begin {
            _ if begin.saturating_abs() > NEAR => Part::Foreign,
            _ if end <= 0 => Part::Known,
            0 => Part::Next,
            1.. => Part::Ahead,
            _ => Part::Across,
        }
    }

    /// Whether any of these numbers belong to the request that is under way or lie behind it.
    pub(crate) fn is_in_last(self, sequence: u32, numbers: usize) -> bool {
        let end = sequence.wrapping_add(u32::try_from(numbers).unwrap_or(u32::MAX));
        behind(end, self.start) > 0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ends(request_bytes: u32) -> Framing {
        Framing::Ends { request_bytes }
    }

    #[test]
    fn the_next_request_begins_behind_head_and_content() {
        let boundary = Boundary::behind(u32::MAX - 9, ends(30), 20).unwrap();
        assert_eq!(boundary.part(u32::MAX - 9, 20), Part::Known, "sent again");
        assert_eq!(boundary.part(10, 10), Part::Known, "its content");
        assert_eq!(boundary.part(20, 1), Part::Next);
        assert_eq!(boundary.part(19, 2), Part::Across);
        assert_eq!(boundary.part(21, 1), Part::Ahead);
        assert_eq!(boundary.part(20 + (1 << 30) + 1, 1), Part::Foreign);
        assert!(boundary.is_in_last(u32::MAX - 9, 1) && !boundary.is_in_last(u32::MAX - 10, 1));
    }

    #[test]
    fn what_is_in_doubt_has_no_boundary() {
        let pinned = |pin| Err(Unknown::Pinned(pin));
        assert_eq!(Boundary::behind(1, Framing::Pinned(Pin::Upgrade), 20), pinned(Pin::Upgrade));
        assert_eq!(Boundary::behind(1, ends(LONGEST + 1), 20), pinned(Pin::LongContent));
        assert_eq!(Boundary::behind(1, ends(20), 21), Err(Unknown::More));
    }

    proptest! {
        /// Whatever the packets that a stream is cut into, each request is seen to begin where it does.
        #[test]
        fn boundaries_do_not_depend_on_how_content_is_cut(
            start: u32, requests in prop::collection::vec((1..900_u32, 0..5000_u32), 1..9), cut in 1..1500_usize,
        ) {
            let mut at = start;
            let mut last: Option<Boundary> = None;
            for (head, content) in requests {
                prop_assert!(last.is_none_or(|last| last.part(at, head as usize) == Part::Next));
                let boundary = Boundary::behind(at, ends(head + content), head as usize).unwrap();
                let mut behind = head as usize;
                while behind < (head + content) as usize {
                    let bytes = cut.min((head + content) as usize - behind);
                    prop_assert_eq!(boundary.part(at.wrapping_add(behind as u32), bytes), Part::Known);
                    behind += bytes;
                }
                at = at.wrapping_add(head + content);
                last = Some(boundary);
            }
        }
    }
}
