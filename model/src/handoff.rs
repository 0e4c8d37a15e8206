//! The handoff option: what a forwarder tells about a connection in the GUE header of the connection's own packets, so
//! that the target's kernel can go on with it.
//!
//! It is private data of GUE (draft-ietf-intarea-gue 3.2: header length beyond the fields that flags announce; no flag is
//! set). 24 bytes, big-endian; `agent/bpf/handoff.h` has the same numbers, and a test compares them:
//!
//! | at | bytes | |
//! | --- | --- | --- |
//! | 0 | 1 | 0xb1, which says whose data it is |
//! | 1 | 1 | the version, 2 |
//! | 2 | 2 | 0 |
//! | 4 | 1 | flags: window scales, SACK, timestamps, timestamps in µs, ECN |
//! | 5 | 1 | window scales: of the client's windows, of those offered to it, 4 bits each |
//! | 6 | 2 | the client's MSS |
//! | 8 | 4 | the sequence number that the connection goes on at |
//! | 12 | 4 | the sequence number after the last byte that the client was sent |
//! | 16 | 8 | the token of the target's admission |
//!
//! The token alone says that a packet may make the connection: an option of a former hand-over, of a former run, or of another stack
//! who only knows the connection has another one. The rest says how.
//!
//! Version 1 had 16 bytes, flags at 1, and no token. A target that knows only another version drops a packet that has no
//! connection yet.

use std::num::NonZeroU64;

use minicbor::{Decode, Encode};

use crate::connection_state::{ConnectionState, WindowScales};

/// How long it is.
pub const BYTES: usize = 24;
/// The first byte: baton's mark.
pub const KIND: u8 = 0xb1;
/// The second one.
pub const VERSION: u8 = 2;
/// Where each field is.
pub mod at {
    /// One byte.
    pub const FLAGS: usize = 4;
    /// One byte.
    pub const SCALES: usize = 5;
    /// Two bytes.
    pub const MSS: usize = 6;
    /// Four bytes.
    pub const START: usize = 8;
    /// Four bytes.
    pub const SENT: usize = 12;
    /// Eight bytes.
    pub const TOKEN: usize = 16;
}
/// The bits of the flags.
pub mod flag {
    /// Window scales are agreed on (RFC 7323 2).
    pub const SCALES: u8 = 1;
    /// Selective acknowledgments are agreed on (RFC 2018).
    pub const SACK: u8 = 2;
    /// Timestamps are agreed on (RFC 7323 3).
    pub const TIMESTAMPS: u8 = 4;
    /// The unit of those sent to the client is a microsecond, else a millisecond.
    pub const MICROSECONDS: u8 = 8;
    /// Explicit congestion notification is agreed on (RFC 3168).
    pub const ECN: u8 = 16;
}
/// The smallest MSS that a kernel takes a connection with: RFC 9293 3.7.1 for IPv4, the smallest MTU for IPv6.
pub const LEAST_MSS: (u16, u16) = (536, 1220);

/// What lets a packet make a connection at a target: 64 random bits, never all zero, that the target gave out when it admitted
/// this connection this once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct Token(#[n(0)] NonZeroU64);

impl Token {
    /// The token of these bits; `None` if there are none.
    pub fn new(random: u64) -> Option<Self> {
        NonZeroU64::new(random).map(Self)
    }

    /// As it is in the option, and in the target's map.
    pub fn bytes(self) -> [u8; 8] {
        self.0.get().to_be_bytes()
    }
}

/// The handoff option, version 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HandoffOption {
    /// What the target's admission gave out.
    pub token: Token,
    /// Only a packet that begins at this sequence number makes the connection.
    pub start: u32,
    /// Only one that acknowledges everything before this number: the target has nothing of it to send again.
    pub sent: u32,
    /// The largest segment that the client takes, in bytes; below [`LEAST_MSS`] the target refuses.
    pub mss: u16,
    /// Window scales, if agreed on.
    pub scales: Option<WindowScales>,
    /// Selective acknowledgments are agreed on.
    pub sack: bool,
    /// Timestamps are agreed on, and whether those sent to the client count microseconds. Their values are in the packet.
    pub timestamps: Option<TimestampUnit>,
    /// Explicit congestion notification is agreed on.
    pub ecn: bool,
}

/// What a timestamp counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimestampUnit {
    /// A millisecond, as Linux does by itself.
    Millisecond,
    /// A microsecond.
    Microsecond,
}

/// What the forwarder needs for a hand-over: the option of every packet, and the numbers of a bare ACK of the client, which
/// makes the connection if no packet of the client's own does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handoff {
    /// The option of every packet.
    pub option: HandoffOption,
    /// The acknowledgment number: the client has everything below it.
    pub acknowledgment: u32,
    /// The window, not scaled.
    pub window: u16,
    /// TSecr, if timestamps are agreed on: those sent to the client go on from here.
    pub echo: Option<u32>,
    /// A packet of the client's own waits that makes the connection: no bare ACK goes before it.
    pub request_waits: bool,
}

impl Handoff {
    /// How a dumped connection goes on in another kernel.
    pub fn new(state: &ConnectionState, token: Token) -> Self {
        let unit =
            |value| if value & 1 == 1 { TimestampUnit::Microsecond } else { TimestampUnit::Millisecond };
        let scale = state.scales.map_or(0, |scales| scales.send);
        let option = HandoffOption {
            token,
            start: state.receive.first,
            sent: state.send_next(),
            mss: state.mss,
            scales: state.scales,
            sack: state.sack,
            timestamps: state.timestamp.map(unit),
            ecn: state.ecn,
        };
        Self {
            option,
            acknowledgment: state.send_unacknowledged(),
            window: u16::try_from(state.windows.snd_wnd >> scale).unwrap_or(u16::MAX),
            echo: state.timestamp,
            request_waits: false,
        }
    }
}

impl HandoffOption {
    /// Writes it.
    pub fn encode(&self) -> [u8; BYTES] {
        let WindowScales { send, receive } = self.scales.unwrap_or(WindowScales { send: 0, receive: 0 });
        let flags = [
            (self.scales.is_some(), flag::SCALES),
            (self.sack, flag::SACK),
            (self.timestamps.is_some(), flag::TIMESTAMPS),
            (self.timestamps == Some(TimestampUnit::Microsecond), flag::MICROSECONDS),
            (self.ecn, flag::ECN),
        ];
        let flags = flags.into_iter().filter(|(is, _)| *is).fold(0, |all, (_, bit)| all | bit);
        let [m0, m1] = self.mss.to_be_bytes();
        let [s0, s1, s2, s3] = self.start.to_be_bytes();
        let [n0, n1, n2, n3] = self.sent.to_be_bytes();
        let [t0, t1, t2, t3, t4, t5, t6, t7] = self.token.bytes();
        let scales = send << 4 | receive & 15;
        [
            KIND, VERSION, 0, 0, flags, scales, m0, m1, s0, s1, s2, s3, n0, n1, n2, n3, t0, t1, t2, t3, t4,
            t5, t6, t7,
        ]
    }

    /// Reads it; `None` if it is something else, of another version, or impossible.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (head, numbers) = bytes.first_chunk::<BYTES>()?.split_at(at::START);
        let [KIND, VERSION, _, _, flags, scales, m0, m1] = *head else { return None };
        let ([s0, s1, s2, s3, n0, n1, n2, n3], token) = numbers.split_first_chunk()?;
        let has = |bit| flags & bit != 0;
        let scales = WindowScales { send: scales >> 4, receive: scales & 15 };
        if scales.send.max(scales.receive) > 14 {
            return None;
        }
        let unit =
            if has(flag::MICROSECONDS) { TimestampUnit::Microsecond } else { TimestampUnit::Millisecond };
        Some(Self {
            token: Token::new(u64::from_be_bytes(*token.first_chunk()?))?,
            start: u32::from_be_bytes([*s0, *s1, *s2, *s3]),
            sent: u32::from_be_bytes([*n0, *n1, *n2, *n3]),
            mss: u16::from_be_bytes([m0, m1]),
            scales: has(flag::SCALES).then_some(scales),
            sack: has(flag::SACK),
            timestamps: has(flag::TIMESTAMPS).then_some(unit),
            ecn: has(flag::ECN),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(
            (token, start, sent, mss) in (1u64.., any::<u32>(), any::<u32>(), any::<u16>()),
            scales in prop::option::of((0u8..15, 0u8..15)),
            (sack, ecn) in any::<(bool, bool)>(),
            timestamps in prop::option::of(any::<bool>()),
        ) {
            let unit = |micro| if micro { TimestampUnit::Microsecond } else { TimestampUnit::Millisecond };
            let option = HandoffOption {
                token: Token::new(token).unwrap(), start, sent, mss, sack, ecn,
                scales: scales.map(|(send, receive)| WindowScales { send, receive }),
                timestamps: timestamps.map(unit),
            };
            prop_assert_eq!(HandoffOption::decode(&option.encode()), Some(option));
        }

        #[test]
        fn any_bytes_are_an_option_or_none(bytes in prop::collection::vec(any::<u8>(), 0..28)) {
            let bytes = [&[KIND, VERSION][..], &bytes].concat();
            if let Some(option) = HandoffOption::decode(&bytes) {
                prop_assert_eq!(HandoffOption::decode(&option.encode()), Some(option));
            }
        }
    }

    #[test]
    fn another_version_and_an_option_without_a_token_are_none() {
        let mut bytes = [0; BYTES];
        (bytes[0], bytes[1]) = (KIND, VERSION);
        assert_eq!(HandoffOption::decode(&bytes), None);
        bytes[at::TOKEN] = 1;
        assert!(HandoffOption::decode(&bytes).is_some());
        bytes[1] = VERSION + 1;
        assert_eq!(HandoffOption::decode(&bytes), None);
    }
}
