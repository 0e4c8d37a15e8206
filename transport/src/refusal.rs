//! Why a session did not come about, in an operator's words.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;

use quinn::ConnectionError;

use crate::counters::Tally;
use crate::endpoint::HANDSHAKE_TIME;
use crate::session::{MAX_PEERS, Place};

/// Why no session came about.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("{}", explain(.0))]
    Unauthenticated(ConnectionError),
    #[error("no TLS on this host: {0}")]
    Beside(io::Error),
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
            Refusal::Unauthenticated(_) | Refusal::Beside(_) => Some(Tally::Unauthenticated),
            Refusal::WrongName { .. } => Some(Tally::WrongNames),
            Refusal::Late | Refusal::NoHello(_) | Refusal::TooMany => Some(Tally::ProtocolErrors),
            Refusal::Dial(_) | Refusal::Stopped => None,
        }
    }
}

/// Peers that are remembered with the reason why they were refused; if there are more, all are news again.
const REMEMBERED: usize = 1024;

/// The address that was refused; `None`: this host.
fn address(place: Place) -> Option<IpAddr> {
    match place {
        Place::At(address) => Some(address.ip()),
        Place::Beside => None,
    }
}

/// Why each address was refused the last time: a peer that dials on and on is one line in the log.
#[derive(Debug, Default)]
pub(crate) struct Refused(HashMap<Option<IpAddr>, String>);

impl Refused {
    /// Whether this address was not refused for this reason the last time.
    pub(crate) fn is_news(&mut self, place: Place, why: String) -> bool {
        let address = address(place);
        if self.0.get(&address) == Some(&why) {
            return false;
        }
        if self.0.len() >= REMEMBERED {
            self.0.clear();
        }
        self.0.insert(address, why);
        true
    }

    /// It was accepted.
    pub(crate) fn forget(&mut self, place: Place) {
        self.0.remove(&address(place));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_that_is_refused_again_and_again_is_news_once() {
        let (mut refused, peer) = (Refused::default(), Place::At(([198, 18, 0, 21], 7440).into()));
        let mut is_news = |why: &str| refused.is_news(peer, why.to_owned());
        assert_eq!([is_news("expired"), is_news("expired"), is_news("other name")], [true, false, true]);
        refused.forget(peer);
        assert!(refused.is_news(peer, "other name".to_owned()), "it was accepted meanwhile");
    }

    #[test]
    fn the_memory_of_refusals_is_bounded() {
        let mut refused = Refused::default();
        for n in 0..3000_u32 {
            assert!(refused.is_news(Place::At((n.to_be_bytes(), 1).into()), "expired".to_owned()));
        }
        assert!(refused.0.len() <= REMEMBERED);
    }
}
