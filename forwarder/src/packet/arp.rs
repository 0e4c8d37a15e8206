//! ARP for IPv4 over Ethernet (RFC 826).

use std::net::Ipv4Addr;

use super::{Mac, Malformed};

/// Bytes of a message.
pub const BYTES: usize = 28;
/// Hardware type Ethernet, protocol type IPv4, 6 and 4 bytes.
const PREAMBLE: [u8; 6] = [0, 1, 8, 0, 6, 4];

/// What an ARP message asks or says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Who has the target address?
    Request,
    /// The sender has the sender address.
    Reply,
}

/// An ARP message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arp {
    /// Question or answer.
    pub operation: Operation,
    /// Who sends.
    pub sender_mac: Mac,
    /// Its address; unspecified in a probe (RFC 5227).
    pub sender: Ipv4Addr,
    /// Who is meant; zero in a request.
    pub target_mac: Mac,
    /// The address in question.
    pub target: Ipv4Addr,
}

impl Arp {
    /// Reads a message.
    ///
    /// # Errors
    /// [`Malformed::Truncated`], or [`Malformed::Header`] if it is not a request or reply for IPv4 over Ethernet.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let bytes = bytes.first_chunk::<BYTES>().ok_or(Malformed::Truncated)?;
        let (preamble, rest) = bytes.split_first_chunk::<6>().ok_or(Malformed::Truncated)?;
        let (operation, rest) = rest.split_first_chunk::<2>().ok_or(Malformed::Truncated)?;
        let operation = match operation {
            [0, 1] if *preamble == PREAMBLE => Operation::Request,
            [0, 2] if *preamble == PREAMBLE => Operation::Reply,
            _ => return Err(Malformed::Header),
        };
        let (sender_mac, rest) = rest.split_first_chunk::<6>().ok_or(Malformed::Truncated)?;
        let (sender, rest) = rest.split_first_chunk::<4>().ok_or(Malformed::Truncated)?;
        let (target_mac, rest) = rest.split_first_chunk::<6>().ok_or(Malformed::Truncated)?;
        let target = rest.first_chunk::<4>().ok_or(Malformed::Truncated)?;
        Ok(Self {
            operation,
            sender_mac: Mac(*sender_mac),
            sender: Ipv4Addr::from(*sender),
            target_mac: Mac(*target_mac),
            target: Ipv4Addr::from(*target),
        })
    }

    /// The message as bytes.
    pub fn to_bytes(self) -> [u8; BYTES] {
        let [p0, p1, p2, p3, p4, p5] = PREAMBLE;
        let operation = match self.operation {
            Operation::Request => 1,
            Operation::Reply => 2,
        };
        let [a0, a1, a2, a3, a4, a5] = self.sender_mac.0;
        let [s0, s1, s2, s3] = self.sender.octets();
        let [b0, b1, b2, b3, b4, b5] = self.target_mac.0;
        let [t0, t1, t2, t3] = self.target.octets();
        [
            p0, p1, p2, p3, p4, p5, 0, operation, a0, a1, a2, a3, a4, a5, s0, s1, s2, s3, b0, b1, b2, b3, b4,
            b5, t0, t1, t2, t3,
        ]
    }
}
