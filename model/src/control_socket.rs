//! What an application and the agent of its stack tell each other over the control socket.
//!
//! The control socket is a Unix socket of type SEQPACKET: one message is one datagram, at most
//! [`MAX_MESSAGE_BYTES`] long, with at most two descriptors beside it: a connection, then its application state in sealed
//! memory. A message is: version (u8), reserved (u8, 0), kind (u16, big-endian), body in CBOR (RFC 8949) with numbered
//! fields. As between stacks, a field is never renumbered, a new one is an `Option`, and a reader ignores messages and
//! fields that it does not know.
//!
//! In reading order: [`name`] (jobs and targets), [`request`] (application → agent), [`notification`] (agent →
//! application), [`view`] (what is shown of targets), [`refusal`] (why something was not done).

pub mod name;
pub mod notification;
pub mod refusal;
pub mod request;
pub mod view;

use std::convert::Infallible;

use minicbor::{Decode, Encode};

pub use name::{BadJobName, JobName, Target};
pub use notification::Notification;
pub use refusal::Refusal;
pub use request::Request;
pub use view::{TargetState, TargetView, WeightFrom};

/// The version that this software speaks.
pub const VERSION: u8 = 1;
/// The bytes before the body.
pub const HEADER_BYTES: usize = 4;
/// The longest message. It fits a Unix socket's default send buffer three times.
pub const MAX_MESSAGE_BYTES: usize = 64 << 10;
/// The longest application state.
pub const MAX_STATE_BYTES: usize = 16 << 20;
/// The most bytes that go back to a connection before it moves. They fit a message.
pub const MAX_GIVEN_BACK_BYTES: usize = 32 << 10;
/// The longest message of an application to another, in bytes.
pub const MAX_SAID_BYTES: usize = 32 << 10;
/// The most ports of one registration.
pub const MAX_PORTS: usize = 1024;
/// The most targets of one message; a longer list comes in parts.
pub const TARGETS_A_MESSAGE: usize = 256;
/// The most jobs that a target can be chosen from, and the most targets that can be left out.
pub const MAX_CHOICE: usize = 256;
/// The longest text that a person gives as a reason, in bytes. A longer one is cut.
pub const MAX_TEXT_BYTES: usize = 512;

/// The number that an application gives a request; the answer names it. Not used twice on one control socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct RequestId(#[n(0)] pub u32);

/// The number that the agent gives an offered connection. Not used twice while the agent runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct OfferId(#[n(0)] pub u64);

/// Why a datagram is not a message.
#[derive(Debug, thiserror::Error)]
pub enum MessageError {
    /// It has no whole header.
    #[error("a datagram of {0} bytes is no message: it has no header")]
    Short(usize),
    /// Its kind is known and its body is malformed.
    #[error("malformed body of message kind {kind}: {cause}")]
    Body {
        /// The kind's number.
        kind: u16,
        /// What the decoder says.
        cause: minicbor::decode::Error,
    },
    /// It would be longer than [`MAX_MESSAGE_BYTES`].
    #[error("a message of {0} bytes is too long: {MAX_MESSAGE_BYTES} are allowed")]
    Long(usize),
}

/// A set of messages that go one way.
pub trait Message: Sized {
    /// The message in one datagram.
    ///
    /// # Errors
    /// [`MessageError::Long`].
    fn encode(&self) -> Result<Vec<u8>, MessageError> {
        let bytes = self.write();
        if bytes.len() > MAX_MESSAGE_BYTES { Err(MessageError::Long(bytes.len())) } else { Ok(bytes) }
    }

    /// The message in a datagram; `None`: of a version or kind that this software does not know, to be ignored.
    ///
    /// # Errors
    /// [`MessageError`] if it is none.
    fn decode(datagram: &[u8]) -> Result<Option<Self>, MessageError> {
        let ([version, _reserved, k0, k1], body) =
            datagram.split_first_chunk().ok_or(MessageError::Short(datagram.len()))?;
        if *version != VERSION {
            return Ok(None);
        }
        let kind = u16::from_be_bytes([*k0, *k1]);
        Self::read(kind, body).transpose().map_err(|cause| MessageError::Body { kind, cause })
    }

    /// Header and body.
    fn write(&self) -> Vec<u8>;

    /// The message of this kind; `None` if there is no such kind.
    fn read(kind: u16, body: &[u8]) -> Option<Result<Self, minicbor::decode::Error>>;
}

/// A header and a body.
fn written<T: Encode<()>>(kind: u16, body: &T) -> Vec<u8> {
    let [k0, k1] = kind.to_be_bytes();
    let mut bytes = vec![VERSION, 0, k0, k1];
    let result: Result<(), minicbor::encode::Error<Infallible>> = minicbor::encode(body, &mut bytes);
    // Writing to memory does not fail, and no body's encoding refuses a value.
    debug_assert!(result.is_ok());
    bytes
}

/// Declares an enum of messages, each with its number.
macro_rules! messages {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $number:literal => $kind:ident,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$variant_doc])* $kind($kind),)* }

        impl $crate::control_socket::Message for $name {
            fn write(&self) -> Vec<u8> {
                match self { $($name::$kind(body) => $crate::control_socket::written($number, body),)* }
            }

            fn read(kind: u16, body: &[u8]) -> Option<Result<Self, minicbor::decode::Error>> {
                match kind {
                    $($number => Some(minicbor::decode(body).map($name::$kind)),)*
                    _ => None,
                }
            }
        }

        $(impl From<$kind> for $name {
            fn from(body: $kind) -> Self {
                $name::$kind(body)
            }
        })*
    };
}
use messages;

#[cfg(test)]
mod tests;
