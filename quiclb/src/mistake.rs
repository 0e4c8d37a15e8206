//! What a configuration of connection IDs can't be.

use std::fmt;

use model::StackName;
use model::quic::{Configuration, ServerId};

/// Why connection IDs can't be made in this way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mistake {
    /// The rotation bits are no number that a configuration may have.
    Rotation(u8),
    /// Two configurations of a service have these rotation bits.
    RotationTwice(u8),
    /// Too few bytes, or too many.
    Lengths {
        /// Of server IDs.
        server_id_bytes: u8,
        /// Of nonces.
        nonce_bytes: u8,
    },
    /// A server ID has another number of bytes than the configuration says.
    ServerIdLength(StackName, ServerId),
    /// Two stacks have the same server ID.
    ServerIdTwice(StackName, StackName, ServerId),
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Mistake::Rotation(rotation) => {
                write!(f, "rotation bits can't be {rotation}, only 0 to {}", Configuration::MAX_ROTATION)
            }
            Mistake::RotationTwice(rotation) => {
                write!(f, "two ways of making connection IDs have the rotation bits {rotation}")
            }
            Mistake::Lengths { server_id_bytes, nonce_bytes } => write!(
                f,
                "a server ID of {server_id_bytes} and a nonce of {nonce_bytes} bytes are no connection ID: a server ID has at least 1, a nonce at least {}, both together at most {}",
                Configuration::MIN_NONCE,
                Configuration::MAX_BLOCK
            ),
            Mistake::ServerIdLength(stack, id) => {
                write!(f, "the server ID {id} of {stack} has {} bytes", id.as_bytes().len())
            }
            Mistake::ServerIdTwice(one, other, id) => {
                write!(f, "{one} and {other} have the same server ID {id}")
            }
        }
    }
}
