//! How the QUIC servers of a distributed port write into their connection IDs which stack they are on: QUIC-LB
//! (draft-ietf-quic-load-balancers-21). What the configuration says, as data; `quiclb` reads and writes connection IDs by it.

use std::fmt;
use std::str::FromStr;

use minicbor::decode::Error;
use minicbor::encode::Write;
use minicbor::{Decode, Decoder, Encode, Encoder};

use crate::StackName;

/// One way of making connection IDs. While it is replaced there are two of them, told apart by the rotation bits.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Configuration {
    /// The first three bits of each connection ID, 0 to [`Self::MAX_ROTATION`].
    #[n(0)]
    pub rotation: u8,
    /// Bytes of a server ID, at least 1.
    #[n(1)]
    pub server_id_bytes: u8,
    /// Bytes of a nonce, at least [`Self::MIN_NONCE`]. Together no more than [`Self::MAX_BLOCK`].
    #[n(2)]
    pub nonce_bytes: u8,
    /// What both are encrypted with; none: anyone can read them.
    #[n(3)]
    pub key: Option<Key>,
    /// The other bits of the first octet are the number of bytes that follow it.
    #[n(4)]
    pub length_in_first_octet: bool,
    /// Server IDs, each once; a stack may have several. Empty: they follow from the stacks' names.
    #[n(5)]
    pub server_ids: Vec<Assigned>,
}

impl Configuration {
    /// The largest number that rotation bits may be; beyond it a connection ID names no server.
    pub const MAX_ROTATION: u8 = 6;
    /// The fewest bytes of a nonce.
    pub const MIN_NONCE: u8 = 4;
    /// The most bytes of server ID and nonce: a connection ID has 20 at most (RFC 9000 17.2).
    pub const MAX_BLOCK: u8 = 19;
}

/// A stack's server ID.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Assigned {
    /// Whose.
    #[n(0)]
    pub stack: StackName,
    /// As many bytes as the configuration says.
    #[n(1)]
    pub id: ServerId,
}

/// The key of a configuration, for AES-128. No log or display shows it.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Key(pub [u8; 16]);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(…)")
    }
}

impl<C> Encode<C> for Key {
    fn encode<W: Write>(
        &self,
        e: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.bytes(&self.0)?.ok()
    }
}

impl<'b, C> Decode<'b, C> for Key {
    fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, Error> {
        let key = d.bytes()?.try_into();
        key.map(Self).map_err(|_| Error::message("a key of other than 16 bytes"))
    }
}

/// What connection IDs call a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerId {
    bytes: [u8; Self::MAX_BYTES],
    len: u8,
}

impl ServerId {
    /// The longest one.
    pub const MAX_BYTES: usize = (Configuration::MAX_BLOCK - Configuration::MIN_NONCE) as usize;

    /// The server ID of these bytes, if they are not too many.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        let mut id = Self { bytes: [0; Self::MAX_BYTES], len: u8::try_from(bytes.len()).ok()? };
        id.bytes.get_mut(..bytes.len())?.copy_from_slice(bytes);
        Some(id)
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }

    /// A number that no other server ID as long as this has; its lowest byte is 0.
    pub fn number(self) -> u128 {
        self.bytes.iter().fold(0, |number, byte| (number | u128::from(*byte)) << 8)
    }
}

impl fmt::Display for ServerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_bytes().iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Bytes in hexadecimal digits, two each.
pub fn hexadecimal(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    let digit = |digit: &u8| char::from(*digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let byte = |pair: &[u8]| match pair {
        [high, low] => Some(digit(high)? << 4 | digit(low)?),
        _ => None,
    };
    digits.chunks(2).map(byte).collect()
}

impl FromStr for ServerId {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        hexadecimal(text).and_then(|bytes| Self::new(&bytes)).ok_or(())
    }
}

impl<C> Encode<C> for ServerId {
    fn encode<W: Write>(
        &self,
        e: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.bytes(self.as_bytes())?.ok()
    }
}

impl<'b, C> Decode<'b, C> for ServerId {
    fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, Error> {
        Self::new(d.bytes()?).ok_or_else(|| Error::message("a server ID that is too long"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_is_read_as_it_was_written_and_its_key_is_never_shown() {
        let assigned = |stack: &str, id: &[u8]| Assigned {
            stack: StackName::new(stack).unwrap(),
            id: ServerId::new(id).unwrap(),
        };
        let configuration = Configuration {
            rotation: 6,
            server_id_bytes: 3,
            nonce_bytes: 4,
            key: Some(Key([0xab; 16])),
            length_in_first_octet: true,
            server_ids: vec![assigned("t1", &[1, 2, 3]), assigned("t2", &[0; 3])],
        };
        let written = minicbor::to_vec(&configuration).unwrap();
        assert_eq!(minicbor::decode::<Configuration>(&written).unwrap(), configuration);
        let shown = format!("{configuration:?}").to_lowercase();
        assert!(!shown.contains("ab, ab") && !shown.contains("171"), "{shown}");
        assert!(minicbor::decode::<Key>(&minicbor::to_vec([0_u8; 15]).unwrap()).is_err());
        let too_long = minicbor::to_vec(minicbor::bytes::ByteVec::from(vec![0; 16])).unwrap();
        assert!(minicbor::decode::<ServerId>(&too_long).is_err());
    }

    #[test]
    fn a_server_id_is_written_in_hexadecimal_digits() {
        let id: ServerId = "0a0B00".parse().unwrap();
        assert_eq!((id.as_bytes(), id.to_string().as_str()), (&[10, 11, 0][..], "0a0b00"));
        assert_eq!(id.number(), 0x0a0b << 112);
        for wrong in ["0", "0g", "é", &"00".repeat(16)] {
            assert_eq!(wrong.parse::<ServerId>(), Err(()), "{wrong}");
        }
    }
}
