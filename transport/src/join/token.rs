//! What an operator carries from the authority to a new host: `NAME.DATA`.
//!
//! The data is base64url (RFC 4648 5) of: version (1 byte), [`Pin`] (32), [`Id`] (8), [`Secret`] (16), and the first 4 bytes of the
//! SHA-256 of the name and all this, which find a token that was not copied whole.

use std::fmt;
use std::str::FromStr;

use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use model::StackName;
use rustls::crypto::SecureRandom;
use sha2::{Digest, Sha256};

const VERSION: u8 = 1;
/// Bytes of the check.
const CHECK: usize = 4;

/// The SHA-256 of an authority's certificate (DER).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pin([u8; 32]);

impl Pin {
    /// Of this certificate.
    pub(crate) fn of(certificate: &[u8]) -> Self {
        Self(Sha256::digest(certificate).into())
    }
}

/// The number by which the authority finds a token. It is no secret.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Id([u8; 8]);

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

/// What only the operator and the new host know.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Secret([u8; 16]);

impl Secret {
    /// What the authority keeps of it: its SHA-256. Two are compared in the usual way: who sends a secret does not choose its hash.
    pub(crate) fn hash(&self) -> String {
        HEXLOWER.encode(&Sha256::digest(self.0))
    }
}

/// A token.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// The stack whose certificate it is for.
    pub name: StackName,
    /// The authority that has ordered it.
    pub(crate) pin: Pin,
    pub(crate) id: Id,
    pub(crate) secret: Secret,
}

/// Why a text is no token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadToken {
    /// It looks otherwise.
    #[error("this is no token: `baton pki token create` prints one, as t7.AXlD4cK…, on one line")]
    Form,
    /// Something is missing, or other than it was.
    #[error("the token is not as it was printed: copy the whole line again")]
    Damaged,
    /// A later one.
    #[error(
        "the token is of version {0}, and this program knows version {VERSION}: install the authority's version of baton here"
    )]
    Version(u8),
}

impl Token {
    /// A new one.
    ///
    /// # Errors
    /// [`rustls::crypto::GetRandomFailed`] if the system gives no random numbers.
    pub(crate) fn new(
        name: StackName,
        pin: Pin,
        random: &dyn SecureRandom,
    ) -> Result<Self, rustls::crypto::GetRandomFailed> {
        let (mut id, mut secret) = ([0; 8], [0; 16]);
        random.fill(&mut id)?;
        random.fill(&mut secret)?;
        Ok(Self { name, pin, id: Id(id), secret: Secret(secret) })
    }

    /// The data without its check.
    fn bytes(&self) -> Vec<u8> {
        [&[VERSION][..], &self.pin.0, &self.id.0, &self.secret.0].concat()
    }
}

fn check(name: &StackName, bytes: &[u8]) -> [u8; CHECK] {
    let hash = Sha256::new_with_prefix(name.as_str()).chain_update([0]).chain_update(bytes).finalize();
    std::array::from_fn(|i| hash[i])
}

/// The token with its secret, as it is given to the new host.
impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = self.bytes();
        bytes.extend(check(&self.name, &bytes));
        write!(f, "{}.{}", self.name, BASE64URL_NOPAD.encode(&bytes))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({}, {})", self.name, self.id)
    }
}

impl FromStr for Token {
    type Err = BadToken;
    fn from_str(text: &str) -> Result<Self, BadToken> {
        let (name, data) = text.trim().split_once('.').ok_or(BadToken::Form)?;
        let name = StackName::new(name).map_err(|_| BadToken::Form)?;
        let bytes = BASE64URL_NOPAD.decode(data.as_bytes()).map_err(|_| BadToken::Damaged)?;
        let (version, rest) = bytes.split_first().ok_or(BadToken::Damaged)?;
        if *version > VERSION {
            return Err(BadToken::Version(*version));
        }
        let (pin, rest) = rest.split_first_chunk().ok_or(BadToken::Damaged)?;
        let (id, rest) = rest.split_first_chunk().ok_or(BadToken::Damaged)?;
        let (secret, sum) = rest.split_first_chunk().ok_or(BadToken::Damaged)?;
        let token = Self { name, pin: Pin(*pin), id: Id(*id), secret: Secret(*secret) };
        if sum == check(&token.name, &token.bytes()) { Ok(token) } else { Err(BadToken::Damaged) }
    }
}
