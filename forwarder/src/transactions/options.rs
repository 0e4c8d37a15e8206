//! TCP options (RFC 9293 3.1), as far as a handshake needs them.

/// End of the list.
const END: u8 = 0;
/// Padding.
const NO_OPERATION: u8 = 1;
/// The largest segment that the sender takes (RFC 9293 3.7.1).
pub(super) const MSS: u8 = 2;
/// The scale of the sender's windows (RFC 7323 2.2).
pub(super) const SCALE: u8 = 3;
/// The sender takes selective acknowledgments (RFC 2018 2).
pub(super) const SACK_PERMITTED: u8 = 4;
/// Timestamps (RFC 7323 3.2).
pub(super) const TIMESTAMPS: u8 = 8;
/// The largest scale; a larger one counts as it (RFC 7323 2.3).
const MAX_SCALE: u8 = 14;

/// What a segment's options say. Others, as that of TCP Fast Open, mean nothing here: the client goes on without.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) mss: Option<u16>,
    pub(crate) scale: Option<u8>,
    pub(crate) sack_permitted: bool,
    /// TSval and TSecr.
    pub(crate) timestamps: Option<(u32, u32)>,
}

impl Options {
    /// Reads the options of a TCP header. What follows a malformed one is not read.
    pub(crate) fn read(bytes: &[u8]) -> Self {
        // As nearly all senders write them.
        match *bytes {
            [NO_OPERATION, NO_OPERATION, TIMESTAMPS, 10, v0, v1, v2, v3, e0, e1, e2, e3] => {
                let stamps = [[v0, v1, v2, v3], [e0, e1, e2, e3]].map(u32::from_be_bytes);
                Self { timestamps: Some(stamps.into()), ..Self::default() }
            }
            _ => Self::read_any(bytes),
        }
    }

    fn read_any(mut bytes: &[u8]) -> Self {
        let mut options = Self::default();
        while let [kind, rest @ ..] = bytes {
            match *kind {
                END => break,
                NO_OPERATION => {
                    bytes = rest;
                    continue;
                }
                _ => {}
            }
            let Some((len, _)) = rest.split_first() else { break };
            let Some((option, others)) = bytes.split_at_checked(usize::from(*len).max(2)) else { break };
            match *option {
                [MSS, 4, m0, m1] => options.mss = Some(u16::from_be_bytes([m0, m1])),
                [SCALE, 3, scale] => options.scale = Some(scale.min(MAX_SCALE)),
                [SACK_PERMITTED, 2] => options.sack_permitted = true,
                [TIMESTAMPS, 10, v0, v1, v2, v3, e0, e1, e2, e3] => {
                    let value = u32::from_be_bytes([v0, v1, v2, v3]);
                    options.timestamps = Some((value, u32::from_be_bytes([e0, e1, e2, e3])));
                }
                _ => {}
            }
            bytes = others;
        }
        options
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn those_of_linux_are_read() {
        let bytes = [2, 4, 5, 180, 4, 2, 8, 10, 0, 0, 0, 9, 0, 0, 0, 7, 1, 3, 3, 8];
        let read =
            Options { mss: Some(1460), scale: Some(8), sack_permitted: true, timestamps: Some((9, 7)) };
        assert_eq!(Options::read(&bytes), read);
    }

    #[test]
    fn fast_open_means_nothing_and_a_scale_has_a_limit() {
        let bytes = [34, 10, 1, 2, 3, 4, 5, 6, 7, 8, 3, 3, 200, 0, 2, 4, 5, 180];
        assert_eq!(Options::read(&bytes), Options { scale: Some(14), ..Options::default() });
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes in prop::collection::vec(any::<u8>(), 0..44)) {
            prop_assert_eq!(Options::read(&bytes), Options::read_any(&bytes));
        }

        #[test]
        fn the_usual_ones_are_read_as_any(stamps in any::<[u8; 8]>()) {
            let bytes = [&[1, 1, 8, 10], &stamps[..]].concat();
            prop_assert_eq!(Options::read(&bytes), Options::read_any(&bytes));
            prop_assert!(Options::read(&bytes).timestamps.is_some());
        }
    }
}
