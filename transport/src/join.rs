//! How a host without a certificate gets one: by a token that an operator has ordered where the CA is.
//!
//! The authority's side is the book of tokens and, while hosts join, a server with the CA's key; the new host dials it:
//!
//! | host | authority |
//! | --- | --- |
//! | TLS 1.3, no certificate of its own | shows a certificate of [`SERVER_NAME`], signed by the CA whose hash is in the token, or the host goes |
//! | [`Request`]: the token, and a certificate request with a key that the host has just made | looks the token up, and uses it up |
//! | | [`Answer`]: the certificate and `ca.pem`, or why not |
//!
//! Each of the two is one line of JSON. In reading order: [`token`], [`book`], [`server`], [`client`].

pub mod book;
pub mod client;
pub mod server;
pub mod token;

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use model::StackName;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};

/// The TCP port of the server unless said otherwise.
pub const PORT: u16 = 7440;
/// How long the server talks with one host, and the host waits for each step.
const TIME: Duration = Duration::from_secs(10);
/// The name in the server's certificate. Its dot makes it no [`StackName`], so that no stack's certificate has it.
const SERVER_NAME: &str = "join.invalid";
/// The protocol and its version (ALPN).
const PROTOCOL: &[u8] = b"baton-join/1";
/// Bytes of a request: a token of a long name is 150, a certificate request on P-256 700.
const REQUEST_BYTES: u64 = 4 << 10;
/// Bytes of an answer: a certificate has 900, `ca.pem` may have several.
const ANSWER_BYTES: u64 = 256 << 10;

/// What the new host asks.
#[derive(Debug, Serialize, Deserialize)]
struct Request {
    token: String,
    /// PKCS #10, PEM; only its key counts, and that the host has it.
    certificate_request: String,
}

/// What it is answered.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Answer {
    /// Its certificate.
    Joined {
        /// PEM.
        certificate: String,
        /// `ca.pem`.
        authority: String,
        /// For a host that has no configuration yet.
        routing_stacks: Vec<RoutingStack>,
    },
    Refused(Refusal),
}

/// A routing stack, as an agent's configuration names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoutingStack {
    /// Its name, as in its certificate.
    pub name: StackName,
    /// Where its `batond` accepts sessions.
    pub control: SocketAddr,
}

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

impl Refusal {
    /// Its word in logs.
    fn word(&self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Expired(_) => "expired",
            Self::Used { .. } => "used",
            Self::OtherName(_) => "other-name",
            Self::OtherAuthority => "other-authority",
            Self::Request(_) => "request",
            Self::Authority(_) => "authority",
        }
    }
}

/// A time for people.
pub fn clock(unix_s: i64) -> String {
    let Ok(time) = OffsetDateTime::from_unix_timestamp(unix_s) else { return unix_s.to_string() };
    format!("{} {:02}:{:02}:{:02} UTC", time.date(), time.hour(), time.minute(), time.second())
}

/// Writes a message as one line.
async fn say(stream: &mut (impl AsyncWrite + Unpin), message: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    stream.write_all(&line).await?;
    stream.flush().await
}

/// Reads one line of at most `limit` bytes.
async fn hear(stream: &mut (impl AsyncRead + Unpin), limit: u64) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    BufReader::new(stream.take(limit)).read_until(b'\n', &mut line).await?;
    match line.pop() {
        Some(b'\n') => Ok(line),
        Some(_) => {
            Err(io::Error::new(io::ErrorKind::InvalidData, format!("cut off, or longer than {limit} bytes")))
        }
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

#[cfg(test)]
mod tests;
