//! The handoff option: what a forwarder tells about a connection in the GUE header of the connection's own packets, so
//! that the target's kernel can go on with it.
//!
//! It is private data of GUE (draft-ietf-intarea-gue 3.2: header length beyond the fields that flags announce; no flag is
//! set). Sixteen bytes, big-endian; `agent/bpf/handoff.h` has the same numbers, and a test compares them:
//!
//! | at | bytes | |
//! | --- | --- | --- |
//! | 0 | 1 | 0xb, which says whose data it is, and the version, 4 bits each |
//! | 1 | 1 | flags: window scales, SACK, timestamps, timestamps in µs, ECN |
//! | 2 | 2 | the client's MSS |
//! | 4 | 1 | window scales: of the client's windows, of those offered to it, 4 bits each |
//! | 5 | 3 | the DVIPA's epoch, modulo 2²⁴ |
//! | 8 | 4 | the sequence number that the connection goes on at |
//! | 12 | 4 | the sequence number after the last byte that the client was sent |

use crate::Epoch;
use crate::connection_state::{ConnectionState, WindowScales};

/// How long it is.
pub const BYTES: usize = 16;
/// The first byte: baton's mark, and version 1.
pub const KIND: u8 = 0xb1;
/// Where each field is.
pub mod at {
    /// One byte.
    pub const FLAGS: usize = 1;
    /// Two bytes.
    pub const MSS: usize = 2;
    /// One byte.
    pub const SCALES: usize = 4;
    /// Three bytes.
    pub const EPOCH: usize = 5;
    /// Four bytes.
    pub const START: usize = 8;
    /// Four bytes.
    pub const SENT: usize = 12;
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

/// The handoff option, version 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HandoffOption {
    /// The DVIPA's epoch; one that is older than the target knows is void.
    pub epoch: Epoch,
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
}

impl Handoff {
    /// How a dumped connection goes on in another kernel.
    pub fn new(state: &ConnectionState, epoch: Epoch) -> Self {
        let unit =
            |value| if value & 1 == 1 { TimestampUnit::Microsecond } else { TimestampUnit::Millisecond };
        let scale = state.scales.map_or(0, |scales| scales.send);
        let option = HandoffOption {
            epoch,
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
        let [.., e0, e1, e2] = self.epoch.0.to_be_bytes();
        let [s0, s1, s2, s3] = self.start.to_be_bytes();
        let [n0, n1, n2, n3] = self.sent.to_be_bytes();
        [KIND, flags, m0, m1, send << 4 | receive & 15, e0, e1, e2, s0, s1, s2, s3, n0, n1, n2, n3]
    }

    /// Reads it; `None` if it is something else, of another version, or impossible. The epoch is the one given back modulo
    /// 2²⁴.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (head, numbers) = bytes.first_chunk::<BYTES>()?.split_at(at::START);
        let [KIND, flags, m0, m1, scales, e0, e1, e2] = *head else { return None };
        let [s0, s1, s2, s3, n0, n1, n2, n3] = *numbers else { return None };
        let has = |bit| flags & bit != 0;
        let scales = WindowScales { send: scales >> 4, receive: scales & 15 };
        if scales.send.max(scales.receive) > 14 {
            return None;
        }
        let unit =
            if has(flag::MICROSECONDS) { TimestampUnit::Microsecond } else { TimestampUnit::Millisecond };
        Some(Self {
            epoch: Epoch(u64::from(u32::from_be_bytes([0, e0, e1, e2]))),
            start: u32::from_be_bytes([s0, s1, s2, s3]),
            sent: u32::from_be_bytes([n0, n1, n2, n3]),
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
            (epoch, start, sent, mss) in (0u64..1 << 24, any::<u32>(), any::<u32>(), any::<u16>()),
            scales in prop::option::of((0u8..15, 0u8..15)),
            (sack, ecn) in any::<(bool, bool)>(),
            timestamps in prop::option::of(any::<bool>()),
        ) {
            let unit = |micro| if micro { TimestampUnit::Microsecond } else { TimestampUnit::Millisecond };
            let option = HandoffOption {
                epoch: Epoch(epoch), start, sent, mss, sack, ecn,
                scales: scales.map(|(send, receive)| WindowScales { send, receive }),
                timestamps: timestamps.map(unit),
            };
            prop_assert_eq!(HandoffOption::decode(&option.encode()), Some(option));
        }

        #[test]
        fn any_bytes_are_an_option_or_none(bytes in prop::collection::vec(any::<u8>(), 0..20)) {
            if let Some(option) = HandoffOption::decode(&bytes) {
                prop_assert_eq!(HandoffOption::decode(&option.encode()), Some(option));
            }
        }
    }

    #[test]
    fn another_version_is_none() {
        let mut bytes = [0; BYTES];
        bytes[0] = KIND + 1;
        assert_eq!(HandoffOption::decode(&bytes), None);
    }
}
