//! Why a session did not come about, in an operator's words.

use quinn::ConnectionError;

use crate::counters::Tally;
use crate::endpoint::HANDSHAKE_TIME;
use crate::session::MAX_PEERS;

/// Why no session came about.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("{}", explain(.0))]
    Unauthenticated(ConnectionError),
    #[error("expected the stack `{wanted}`, but {found}; check the name and address in the configuration")]
    WrongName { wanted: String, found: String },
    #[error("no HELLO within {} s", HANDSHAKE_TIME.as_secs())]
    Late,
    #[error("no HELLO: {0}")]
    NoHello(String),
    #[error("more than {MAX_PEERS} different stacks")]
    TooMany,
    #[error("cannot dial: {0}")]
    Dial(#[from] quinn::ConnectError),
    #[error("stopped")]
    Stopped,
}

/// A failed handshake in an operator's words, with the fix where TLS tells enough (alerts of RFC 8446 6.2).
fn explain(error: &ConnectionError) -> String {
    let code = match error {
        ConnectionError::TransportError(e) => u64::from(e.code),
        ConnectionError::ConnectionClosed(e) => u64::from(e.error_code),
        ConnectionError::TimedOut => return "no answer: is the peer running, and is UDP open to it?".into(),
        other => return other.to_string(),
    };
    let theirs = matches!(error, ConnectionError::ConnectionClosed(_));
    let who = if theirs { "the peer refused our certificate" } else { "the peer's certificate is refused" };
    // A crypto error is 0x100 plus the alert (RFC 9001 4.8).
    let text = match code.checked_sub(0x100) {
        // 51: signed by a CA of the same name with another key.
        Some(48 | 51) => "it is of another CA; use one `baton pki` directory for the whole cluster",
        Some(45) => "it has expired; issue a new one with `baton pki issue`",
        Some(116) => "none was shown; configure `certificate` and `key`",
        Some(42) => {
            "it is for another stack name, or damaged; check the name, or issue a new one with `baton pki issue`"
        }
        Some(120) => return "the peer does not speak baton/1; check its address and version".into(),
        _ => return format!("handshake failed: {error}"),
    };
    format!("{who}: {text}")
}

impl Refusal {
    /// Which counter it belongs to; none if nobody did anything wrong.
    pub(crate) fn tally(&self) -> Option<Tally> {
        match self {
            // Nobody answering is no failed authentication.
            Refusal::Unauthenticated(ConnectionError::TimedOut | ConnectionError::Reset) => None,
            Refusal::Unauthenticated(_) => Some(Tally::Unauthenticated),
            Refusal::WrongName { .. } => Some(Tally::WrongNames),
            Refusal::Late | Refusal::NoHello(_) | Refusal::TooMany => Some(Tally::ProtocolErrors),
            Refusal::Dial(_) | Refusal::Stopped => None,
        }
    }
}
