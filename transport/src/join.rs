//! How a host without a certificate gets one: by a token that an operator has ordered where the CA is.
//!
//! In reading order: [`token`], [`book`].

pub mod book;
pub mod token;

use model::StackName;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

/// Why the authority gives no certificate. Whoever does not know the secret learns only [`Refusal::Unknown`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// It has no such token, or another secret for it.
    #[error(
        "the authority has no such token: it was revoked, or expired days ago; order another one there (`baton pki token create`)"
    )]
    Unknown,
    /// Its time is over.
    #[error("the token expired at {0}; order another one where the authority is (`baton pki token create`)")]
    Expired(String),
    /// A host has had a certificate for it.
    #[error(
        "the token was used at {at} from {by}: if that was not this host, somebody else has a certificate of this stack, and you \
             should change the authority; order another token where the authority is (`baton pki token create --again`)"
    )]
    Used {
        /// When.
        at: String,
        /// From which address.
        by: String,
    },
    /// It is for another stack than it says.
    #[error(
        "the token was ordered for the stack `{0}`, and its name was changed since; copy it as it was printed"
    )]
    OtherName(StackName),
    /// It is another authority's.
    #[error(
        "the token is of another authority than that of this server; order one there, or dial the other one"
    )]
    OtherAuthority,
    /// The request is not what such a server takes.
    #[error("the request is no good: {0}; are both programs of the same version?")]
    Request(String),
    /// Nothing can be signed or written.
    #[error("the authority can't do it: {0}")]
    Authority(String),
}

/// A time for people.
pub fn clock(unix_s: i64) -> String {
    let Ok(time) = OffsetDateTime::from_unix_timestamp(unix_s) else { return unix_s.to_string() };
    format!("{} {:02}:{:02}:{:02} UTC", time.date(), time.hour(), time.minute(), time.second())
}

#[cfg(test)]
mod tests;
