//! What a client is answered.

use arrayvec::ArrayVec;

use super::cookie::Offer;
use super::options::{self, Options};
use super::{Agreed, SCALE, WINDOW};
use crate::packet::Ports;
use crate::packet::frame::{self, Bytes, Ip, Link, OPTION_BYTES, Segment};
use crate::packet::transport::flags;

/// The way back to a client: everything of an answer but what it says.
#[derive(Clone, Debug)]
pub(crate) struct Back {
    pub(crate) link: Link,
    pub(crate) ip: Ip,
    pub(crate) ports: Ports,
}

/// Where an answer stands in the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    /// This node's next sequence number.
    pub(crate) next: u32,
    /// The client's.
    pub(crate) expected: u32,
    /// TSval and TSecr, if timestamps are agreed on.
    stamps: Option<(u32, u32)>,
    /// Windows are scaled.
    scaled: bool,
}

impl Standing {
    /// Of an answer to a segment. Its TSval is what the client repeats: the target will go on from there, and must not be behind.
    pub(crate) fn new((next, expected): (u32, u32), options: Options, agreed: Agreed) -> Self {
        let stamps = options.timestamps.filter(|_| agreed.timestamps).map(|(value, echo)| (echo, value));
        Self { next, expected, stamps, scaled: agreed.scales.is_some() }
    }
}

/// Adds options. There is room for all that are said together.
fn put(said: &mut ArrayVec<u8, OPTION_BYTES>, option: &[u8]) {
    let _ = said.try_extend_from_slice(option);
}

/// The option behind two bytes of others.
fn timestamps([b0, b1]: [u8; 2], value: u32, echo: u32) -> [u8; 12] {
    let ([v0, v1, v2, v3], [e0, e1, e2, e3]) = (value.to_be_bytes(), echo.to_be_bytes());
    [b0, b1, options::TIMESTAMPS, 10, v0, v1, v2, v3, e0, e1, e2, e3]
}

impl Back {
    /// SYN and ACK (RFC 9293 3.10.7.2). `mss`: the largest segment that fits into what carries it on.
    pub(crate) fn accept(&self, client_first: u32, theirs: Options, offer: Offer, mss: u16) -> Bytes {
        let mut said = ArrayVec::new();
        let [m0, m1] = mss.to_be_bytes();
        put(&mut said, &[options::MSS, 4, m0, m1]);
        if let (Some(stamp), Some((theirs, _))) = (offer.stamp, theirs.timestamps) {
            let [sack, len] = if offer.agreed.sack { [options::SACK_PERMITTED, 2] } else { [1, 1] };
            put(&mut said, &timestamps([sack, len], stamp, theirs));
        }
        if offer.agreed.scales.is_some() {
            put(&mut said, &[1, options::SCALE, 3, SCALE]);
        }
        let ecn = if offer.agreed.ecn { flags::ECE } else { 0 };
        let segment = Segment {
            ports: self.ports,
            sequence: offer.first,
            acknowledgment: client_first.wrapping_add(1),
            flags: flags::SYN | flags::ACK | ecn,
            window: WINDOW,
            timestamps: None,
        };
        frame::segment_with(&self.link, self.ip, segment, &said, &[])
    }

    /// An acknowledgment with these flags besides, and the headers of this data.
    pub(crate) fn say(&self, standing: Standing, besides: u8, data: &[u8]) -> Bytes {
        let segment = Segment {
            ports: self.ports,
            sequence: standing.next,
            acknowledgment: standing.expected,
            flags: flags::ACK | besides,
            window: if standing.scaled { WINDOW >> SCALE } else { WINDOW },
            timestamps: None,
        };
        let mut said = ArrayVec::new();
        if let Some((value, echo)) = standing.stamps {
            put(&mut said, &timestamps([1, 1], value, echo));
        }
        frame::segment_with(&self.link, self.ip, segment, &said, data)
    }
}
