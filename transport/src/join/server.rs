//! The authority's server, while hosts join. It has the CA's key, so it does nothing else, and ends when no token is open any more.
//!
//! What strangers can make it hold is bounded: [`CLIENTS`] connections of [`TIME`] each, requests of [`REQUEST_BYTES`], and
//! an address that was refused [`REFUSALS`] times is ignored for the rest of a minute.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::serve::Listener;
use model::StackName;
use rcgen::{CertificateSigningRequestParams, KeyPair, PKCS_ECDSA_P256_SHA256, PublicKey, PublicKeyData};
use rustls::pki_types::PrivateKeyDer;
use rustls::server::NoServerSessionStorage;
use rustls::version::TLS13;
use time::OffsetDateTime;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::book::{Book, BookError};
use super::token::{Pin, Token};
use super::{Answer, PROTOCOL, REQUEST_BYTES, Refusal, Request, RoutingStack, SERVER_NAME, TIME, hear, say};
use crate::bounded::{Bounded, Client};
use crate::pki::{Authority, PkiError};
use crate::tls;

/// Connections at once; one more is closed at once.
const CLIENTS: usize = 16;
/// Refusals of one address (of IPv6: of one /64) after which it is ignored, until [`IGNORED`] after the first of them.
const REFUSALS: u32 = 5;
const IGNORED: Duration = Duration::from_secs(60);
/// Addresses whose refusals are remembered; of more, the earliest is forgotten.
const SUSPECTS: usize = 1024;
/// How often is looked whether a token is open.
const LOOK: Duration = Duration::from_secs(1);

/// Why hosts can't join any longer.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// No certificate of its own.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// The CA's key does not do for TLS.
    #[error("the authority can't be used for TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// The tokens can't be read.
    #[error(transparent)]
    Book(#[from] BookError),
    /// There is none.
    #[error(
        "no token is open: order one for each host that is to join (`baton pki token create`), then start this again"
    )]
    NoToken,
}

/// What hosts are given.
#[derive(Clone, Debug)]
pub struct Given {
    /// Days for which their certificates are valid.
    pub days: u16,
    /// For hosts that have no configuration yet.
    pub routing_stacks: Vec<RoutingStack>,
}

struct Server {
    authority: Authority,
    book: Book,
    given: Given,
    acceptor: TlsAcceptor,
    suspects: Mutex<Suspects>,
}

/// Lets hosts join until no token is open; returns how many have.
///
/// # Errors
/// [`ServeError`] if no token is open at the start, or they can't be read.
pub async fn serve(authority: Authority, listener: TcpListener, given: Given) -> Result<u32, ServeError> {
    let book = Book::of(&authority.dir);
    if !book.is_open(now())? {
        return Err(ServeError::NoToken);
    }
    let acceptor = acceptor(&authority)?;
    let server = Arc::new(Server { authority, book, given, acceptor, suspects: Mutex::default() });
    let mut listener = Bounded::with(listener, CLIENTS, TIME);
    let mut looks = tokio::time::interval(LOOK);
    let (mut talks, mut joined) = (JoinSet::new(), 0);
    loop {
        tokio::select! {
            (stream, from) = listener.accept() => {
                let from = from.ip().to_canonical();
                if !server.suspects().is_ignored(from, Instant::now()) {
                    talks.spawn(server.clone().answer(stream, from));
                }
            }
            Some(done) = talks.join_next() => joined += u32::from(done.unwrap_or(false)),
            _ = looks.tick() => if talks.is_empty() && !server.book.is_open(now())? {
                return Ok(joined);
            },
        }
    }
}

fn now() -> i64 {
    OffsetDateTime::now_utc().unix_timestamp()
}

/// A key and a certificate for this process alone.
fn acceptor(authority: &Authority) -> Result<TlsAcceptor, ServeError> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(PkiError::Make)?;
    let certificate = authority.certify_server(SERVER_NAME, &key, OffsetDateTime::now_utc())?;
    let chain = vec![certificate.der().clone(), authority.certificate.clone()];
    let mut config = rustls::ServerConfig::builder_with_provider(tls::provider())
        .with_protocol_versions(&[&TLS13])?
        .with_no_client_auth()
        .with_single_cert(chain, PrivateKeyDer::from(key))?;
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

impl Server {
    fn suspects(&self) -> std::sync::MutexGuard<'_, Suspects> {
        self.suspects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One connection; whether a host has joined.
    async fn answer(self: Arc<Self>, stream: Client<TcpStream>, from: IpAddr) -> bool {
        let (reason, cause) = match self.talk(stream, from).await {
            Ok(None) => return true,
            Ok(Some(refusal)) => (refusal.word(), refusal.to_string()),
            Err(broken) => ("broken-off", broken.to_string()),
        };
        tracing::warn!(%from, reason, %cause, "a host did not join");
        if self.suspects().note(from, Instant::now()) {
            tracing::warn!(%from, "was refused {REFUSALS} times and is ignored for a minute");
        }
        false
    }

    async fn talk(&self, stream: Client<TcpStream>, from: IpAddr) -> io::Result<Option<Refusal>> {
        let mut stream = self.acceptor.accept(stream).await?;
        let asked = hear(&mut stream, REQUEST_BYTES).await?;
        let (answer, refused) = match self.decide(&asked, from) {
            Ok(answer) => (answer, None),
            Err(refusal) => (Answer::Refused(refusal.clone()), Some(refusal)),
        };
        let said = say(&mut stream, &answer).await;
        if let (Err(cause), None) = (&said, &refused) {
            tracing::error!(%from, %cause, "the certificate did not reach the host: order another token for it");
        }
        // The answer is out; whether the connection ends in good order is no matter.
        let _ = stream.shutdown().await;
        said.map(|()| refused)
    }

    fn decide(&self, asked: &[u8], from: IpAddr) -> Result<Answer, Refusal> {
        // Nothing that a stranger has written is said again, in the log least of all.
        let none = |_| Refusal::Request("it is not what `baton-agent join` sends".into());
        let Request { token, certificate_request } = serde_json::from_slice(asked).map_err(none)?;
        let token = Token::from_str(&token).map_err(|e| Refusal::Request(e.to_string()))?;
        if token.pin != Pin::of(&self.authority.certificate) {
            return Err(Refusal::OtherAuthority);
        }
        let time = OffsetDateTime::now_utc();
        // Nothing of who does not know the secret is looked at.
        self.book.look(&token, time.unix_timestamp())?;
        let key = key_of(&certificate_request).map_err(Refusal::Request)?;
        self.book.use_up(&token, from, time.unix_timestamp())?;
        self.sign(&token.name, &key, time, from).map_err(|e| Refusal::Authority(e.to_string()))
    }

    fn sign(
        &self,
        name: &StackName,
        key: &PublicKey,
        time: OffsetDateTime,
        from: IpAddr,
    ) -> Result<Answer, PkiError> {
        let certified = self.authority.certify(name, key, self.given.days, time)?;
        tracing::info!(stack = %name, %from, until = certified.until, "a host has joined");
        Ok(Answer::Joined {
            certificate: certified.certificate.pem(),
            authority: self.authority.pem.clone(),
            routing_stacks: self.given.routing_stacks.clone(),
        })
    }
}

/// The public key of a certificate request whose sender has the private one: the request is signed with it.
fn key_of(request: &str) -> Result<PublicKey, String> {
    let request = CertificateSigningRequestParams::from_pem(request).map_err(|e| e.to_string())?;
    if PublicKeyData::algorithm(&request.public_key) != &PKCS_ECDSA_P256_SHA256 {
        return Err("its key is not ECDSA on P-256".into());
    }
    Ok(request.public_key)
}

/// Addresses that were refused lately, with the time of the first refusal.
#[derive(Default)]
struct Suspects(HashMap<IpAddr, (Instant, u32)>);

impl Suspects {
    fn is_ignored(&self, from: IpAddr, now: Instant) -> bool {
        let known = self.0.get(&from);
        known.is_some_and(|(first, times)| *times >= REFUSALS && now.duration_since(*first) < IGNORED)
    }

    /// Counts a refusal; whether the address is ignored from now on.
    fn note(&mut self, from: IpAddr, now: Instant) -> bool {
        self.0.retain(|_, (first, _)| now.duration_since(*first) < IGNORED);
        if self.0.len() >= SUSPECTS && !self.0.contains_key(&from) {
            let earliest = self.0.iter().min_by_key(|(_, (first, _))| *first).map(|(address, _)| *address);
            earliest.map(|address| self.0.remove(&address));
        }
        let (_, times) = self.0.entry(from).or_insert((now, 0));
        *times += 1;
        *times == REFUSALS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_was_refused_too_often_is_ignored_for_a_minute() {
        let (mut suspects, begun) = (Suspects::default(), Instant::now());
        let [one, other]: [IpAddr; 2] = ["192.0.2.1", "192.0.2.2"].map(|text| text.parse().unwrap());
        for _ in 1..REFUSALS {
            assert!(!suspects.note(one, begun));
            assert!(!suspects.is_ignored(one, begun));
        }
        assert!(suspects.note(one, begun));
        assert!(suspects.is_ignored(one, begun) && !suspects.is_ignored(other, begun));
        assert!(!suspects.is_ignored(one, begun + IGNORED));
        assert!(!suspects.note(one, begun + IGNORED), "it begins anew");
    }

    #[test]
    fn a_neighbour_is_not_ignored_and_not_more_addresses_are_remembered_than_fit() {
        let (mut suspects, begun) = (Suspects::default(), Instant::now());
        let of = |host: u16| IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, host]);
        for _ in 0..REFUSALS {
            suspects.note(of(0), begun);
        }
        assert!(suspects.is_ignored(of(0), begun) && !suspects.is_ignored(of(1), begun));
        for host in 1..2000 {
            suspects.note(of(host), begun + Duration::from_millis(host.into()));
        }
        assert_eq!(suspects.0.len(), SUSPECTS);
        assert!(!suspects.is_ignored(of(0), begun), "the earliest is forgotten");
    }
}
