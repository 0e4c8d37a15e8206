//! What is in a connection ID: the first octet, and server ID with nonce, plain or encrypted (section 5 of the draft).
//!
//! | key | bytes of server ID and nonce | how they stand there |
//! | --- | --- | --- |
//! | none | any | as they are |
//! | yes | 16 | as one block of AES-128 |
//! | yes | others | mixed in four passes (a Feistel network whose rounds are AES-128) |

use aes::Aes128;
use aes::cipher::{BlockCipherDecrypt, BlockCipherEncrypt, KeyInit};
use model::quic::{Configuration, ServerId};

use crate::{Destination, Mistake};

/// Bytes of a block of AES, and of the halves that four passes mix.
const BLOCK: usize = 16;
/// The bits of the first octet below the rotation bits.
const LOW_BITS: u8 = 0x1f;

/// How connection IDs of one configuration are made and read.
#[derive(Clone, Debug)]
pub struct Algorithm {
    rotation: u8,
    server_id_bytes: usize,
    /// Of server ID and nonce.
    bytes: usize,
    length_in_first_octet: bool,
    cipher: Option<Aes128>,
    /// The bits of the left half. A half stands in the most significant bits; of an odd number of bytes the middle one is in both
    /// halves, its upper bits in the left one and its lower bits in the right one.
    left: u128,
    /// The bits of the right half.
    right: u128,
}

impl Algorithm {
    /// Of this configuration.
    ///
    /// # Errors
    /// What is wrong with its lengths and its rotation bits; its server IDs are not looked at.
    pub fn new(configuration: &Configuration) -> Result<Self, Mistake> {
        let Configuration { rotation, server_id_bytes, nonce_bytes, .. } = *configuration;
        let bytes = server_id_bytes.saturating_add(nonce_bytes);
        if rotation > Configuration::MAX_ROTATION {
            return Err(Mistake::Rotation(rotation));
        }
        let too_short = server_id_bytes == 0 || nonce_bytes < Configuration::MIN_NONCE;
        if too_short || bytes > Configuration::MAX_BLOCK {
            return Err(Mistake::Lengths { server_id_bytes, nonce_bytes });
        }
        // Half of the bits, from the most significant one on.
        let left = !u128::MAX.wrapping_shr(u32::from(bytes).wrapping_mul(4));
        Ok(Self {
            rotation,
            server_id_bytes: server_id_bytes.into(),
            bytes: bytes.into(),
            length_in_first_octet: configuration.length_in_first_octet,
            cipher: configuration.key.map(|key| Aes128::new(&key.0.into())),
            left,
            right: if bytes.is_multiple_of(2) { left } else { left >> 4 },
        })
    }

    /// Its rotation bits, as a number.
    pub fn rotation(&self) -> u8 {
        self.rotation
    }

    /// Bytes of each connection ID.
    pub fn id_bytes(&self) -> usize {
        self.bytes.saturating_add(1)
    }

    /// Bytes of each nonce.
    pub fn nonce_bytes(&self) -> usize {
        self.bytes.saturating_sub(self.server_id_bytes)
    }

    /// A connection ID, for servers. No nonce must be used twice; without a key nonces must be random. `low_bits`: random ones, for the
    /// first octet. `None`: the server ID or the nonce has another length than the configuration says.
    pub fn connection_id(&self, server: ServerId, nonce: &[u8], low_bits: u8) -> Option<Vec<u8>> {
        let mut id = Vec::with_capacity(self.id_bytes());
        let low_bits = if self.length_in_first_octet { self.bytes as u8 } else { low_bits };
        id.push(self.rotation << 5 | low_bits & LOW_BITS);
        id.extend_from_slice(server.as_bytes());
        id.extend_from_slice(nonce);
        if server.as_bytes().len() != self.server_id_bytes || id.len() != self.id_bytes() {
            return None;
        }
        let block = id.get_mut(1..)?;
        match &self.cipher {
            None => {}
            Some(cipher) if self.bytes == BLOCK => {
                let mut one = aes::Block::from(*block.first_chunk::<BLOCK>()?);
                cipher.encrypt_block(&mut one);
                block.copy_from_slice(&one);
            }
            Some(cipher) => {
                let (mut left, mut right) = self.halves(block)?;
                right ^= self.pass(cipher, 1, left) & self.right;
                left ^= self.pass(cipher, 2, right) & self.left;
                right ^= self.pass(cipher, 3, left) & self.right;
                left ^= self.pass(cipher, 4, right) & self.left;
                block.copy_from_slice(self.whole(left, right)?.get(..self.bytes)?);
            }
        }
        Some(id)
    }

    /// The server ID in a connection ID with the rotation bits of this configuration. `None`: it is too short, or has another length
    /// than it says itself.
    pub fn server_id(&self, destination: Destination<'_>) -> Option<ServerId> {
        let (id, is_whole) = match destination {
            Destination::Servers(id) => (id, true),
            Destination::BeginsWith(bytes) => (bytes, false),
            Destination::Clients => return None,
        };
        let (first, behind) = id.split_first()?;
        if self.length_in_first_octet {
            let length = usize::from(first & LOW_BITS);
            let fits = length >= self.bytes
                && if is_whole { length == behind.len() } else { length <= behind.len() };
            fits.then_some(())?;
        }
        let block = behind.get(..self.bytes)?;
        match &self.cipher {
            None => ServerId::new(block.get(..self.server_id_bytes)?),
            Some(cipher) if self.bytes == BLOCK => {
                let mut one = aes::Block::from(*block.first_chunk::<BLOCK>()?);
                cipher.decrypt_block(&mut one);
                ServerId::new(one.get(..self.server_id_bytes)?)
            }
            Some(cipher) => {
                let (mut left, mut right) = self.halves(block)?;
                left ^= self.pass(cipher, 4, right) & self.left;
                right ^= self.pass(cipher, 3, left) & self.right;
                left ^= self.pass(cipher, 2, right) & self.left;
                if self.server_id_bytes > self.bytes >> 1 {
                    right ^= self.pass(cipher, 1, left) & self.right;
                }
                ServerId::new(self.whole(left, right)?.get(..self.server_id_bytes)?)
            }
        }
    }

    /// Encrypts a half, with the number of bytes and of the pass behind it.
    fn pass(&self, cipher: &Aes128, number: u8, half: u128) -> u128 {
        let mut block =
            aes::Block::from((half | (self.bytes as u128) << 8 | u128::from(number)).to_be_bytes());
        cipher.encrypt_block(&mut block);
        u128::from_be_bytes(block.into())
    }

    /// Bytes of a half, the shared one included.
    fn half_bytes(&self) -> usize {
        self.bytes.div_ceil(2)
    }

    fn halves(&self, block: &[u8]) -> Option<(u128, u128)> {
        let half = |bytes: &[u8]| {
            let mut half = [0; BLOCK];
            half.get_mut(..bytes.len())?.copy_from_slice(bytes);
            Some(u128::from_be_bytes(half))
        };
        let left = half(block.get(..self.half_bytes())?)? & self.left;
        let right = half(block.get(self.bytes.checked_sub(self.half_bytes())?..)?)? & self.right;
        Some((left, right))
    }

    fn whole(&self, left: u128, right: u128) -> Option<[u8; BLOCK + 4]> {
        let mut whole = [0; BLOCK + 4];
        whole.get_mut(..BLOCK)?.copy_from_slice(&left.to_be_bytes());
        let behind = whole.get_mut(self.bytes.checked_sub(self.half_bytes())?..)?;
        behind.iter_mut().zip(right.to_be_bytes()).for_each(|(byte, more)| *byte |= more);
        Some(whole)
    }
}

#[cfg(test)]
mod tests;
