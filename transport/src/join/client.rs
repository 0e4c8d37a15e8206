//! The new host's side: makes a key, asks the authority that the token names, and puts the three files in their places.
//!
//! The key is made here and stays here. Nothing is sent before the server has shown the authority's certificate and that it has its
//! key. Files are written under other names first and looked at as the agent will, and take their places by rename.

use std::fs::{self, File};
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::version::TLS13;
use rustls::{
    CertificateError, DigitallySignedStruct, Error as TlsError, PeerIncompatible, RootCertStore,
    SignatureScheme,
};
use time::OffsetDateTime;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::token::{Pin, Token};
use super::{
    ANSWER_BYTES, Answer, PORT, PROTOCOL, Refusal, Request, RoutingStack, SERVER_NAME, TIME, clock, hear, say,
};
use crate::identity::{Expiry, Identity, IdentityError, IdentityFiles};
use crate::{private, tls};

/// A host that has joined.
#[derive(Clone, Debug)]
pub struct Joined {
    /// The address by which it reached the authority.
    pub address: IpAddr,
    /// When its certificate ends.
    pub expires: Expiry,
    /// The cluster's routing stacks, if the authority was told.
    pub routing_stacks: Vec<RoutingStack>,
}

/// Why a host has not joined, and what to do. Its former files are as they were.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// Nobody answers.
    #[error(
        "cannot reach {address}: {cause}; is `baton pki serve` running there, and does the network let TCP to this port through? \
             Nothing was sent, the token is still good"
    )]
    Reach {
        /// Where.
        address: String,
        /// What the system says.
        cause: io::Error,
    },
    /// The server is another one.
    #[error(
        "the server at {address} does not have the authority that has ordered this token: the address is wrong, the authority was \
             changed since, or somebody is in between. Nothing was sent, the token is still good"
    )]
    OtherServer {
        /// Where.
        address: String,
    },
    /// The clocks differ too much.
    #[error(
        "by this host's clock ({now}) the server's certificate is not valid: set the clock. Nothing was sent, the token is still good"
    )]
    Clock {
        /// What it shows.
        now: String,
    },
    /// It hung up before it said who it is.
    #[error(
        "the server at {address} closed the connection: it ignores a host for a minute that it has refused several times; wait, and \
             see what it says where it runs. The token is still good"
    )]
    Closed {
        /// Where.
        address: String,
    },
    /// The conversation broke off.
    #[error(
        "the conversation with {address} broke off: {cause}; `baton pki token list` says there whether the token was used: order \
             another one if it was"
    )]
    Broken {
        /// Where.
        address: String,
        /// How.
        cause: io::Error,
    },
    /// The authority says no.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// What it sends is of no use.
    #[error(
        "what the authority has sent can't be used: {0}; order another token, and see that both programs are of the same version"
    )]
    Unusable(String),
    /// The same, of the files.
    #[error("what the authority has sent can't be used: {0}")]
    Identity(#[from] IdentityError),
    /// The host trusts another authority.
    #[error("{} does not have the authority that has ordered this token; move it away if this host is to change to another cluster, or \
             add the authority's certificate to it. Nothing was sent, the token is still good", .0.display())]
    OtherAuthority(PathBuf),
    /// The configuration has one file for two.
    #[error("`certificate` and `key` are one file, {}: name two in agent.toml. Nothing was sent, the token is still good", .0.display())]
    SameFile(PathBuf),
    /// No key.
    #[error("cannot make a key: {0}")]
    Key(#[from] rcgen::Error),
    /// A file can't be written.
    #[error("cannot write {}: {cause}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the system says.
        cause: io::Error,
    },
}

/// Has this host join: its key, its certificate and the authority's are in these files afterwards, readable by their owner alone. A
/// key and a certificate that are there are replaced, an authority's file is not. `address` is ADDRESS, NAME, or either with `:PORT`.
///
/// # Errors
/// [`JoinError`]; the files are as they were.
pub async fn join(address: &str, token: &Token, files: &IdentityFiles) -> Result<Joined, JoinError> {
    if files.ca.exists() && !has(&files.ca, token.pin)? {
        return Err(JoinError::OtherAuthority(files.ca.clone()));
    }
    if files.certificate == files.key {
        return Err(JoinError::SameFile(files.key.clone()));
    }
    let new = Staged::of(files)?;
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    new.write(&new.files.key, key.serialize_pem().as_bytes())?;
    let certificate_request =
        CertificateParams::new(vec![token.name.to_string()])?.serialize_request(&key)?.pem()?;
    let request = Request { token: token.to_string(), certificate_request };
    let address = with_port(address);
    let (answer, from) = ask(&address, token.pin, &request).await?;
    let (certificate, authority, routing_stacks) = match answer {
        Answer::Joined { certificate, authority, routing_stacks } => (certificate, authority, routing_stacks),
        Answer::Refused(refusal) => return Err(refusal.into()),
    };
    new.write(&new.files.certificate, certificate.as_bytes())?;
    if !files.ca.exists() {
        new.write(&new.files.ca, authority.as_bytes())?;
        if !has(&new.files.ca, token.pin)? {
            return Err(JoinError::Unusable("its ca.pem lacks its own certificate".into()));
        }
    }
    let ca = if files.ca.exists() { &files.ca } else { &new.files.ca };
    let identity = Identity::load(&IdentityFiles { ca: ca.clone(), ..new.files.clone() }, &token.name)?;
    new.take_their_places(files)?;
    Ok(Joined { address: from, expires: identity.expires(), routing_stacks })
}

/// With the usual port if it has none.
pub(super) fn with_port(address: &str) -> String {
    match address.parse::<IpAddr>() {
        Ok(ip) => std::net::SocketAddr::new(ip, PORT).to_string(),
        Err(_) if address.contains(':') => address.to_owned(),
        Err(_) => format!("{address}:{PORT}"),
    }
}

/// One question, one answer, and the address of this host's end.
async fn ask(address: &str, pin: Pin, request: &Request) -> Result<(Answer, IpAddr), JoinError> {
    let cannot = |cause| JoinError::Reach { address: address.to_owned(), cause };
    let stream = in_time(TcpStream::connect(address)).await.map_err(cannot)?;
    let from = stream.local_addr().map_err(cannot)?.ip();
    let mut stream = in_time(connected(stream, pin)).await.map_err(|cause| no_tls(address, cause))?;
    let talk = in_time(async {
        say(&mut stream, request).await?;
        hear(&mut stream, ANSWER_BYTES).await
    });
    let answer = talk.await.map_err(|cause| JoinError::Broken { address: address.to_owned(), cause })?;
    let answer = serde_json::from_slice(&answer).map_err(|e| JoinError::Unusable(e.to_string()))?;
    Ok((answer, from))
}

/// TLS with a server that has the authority's key, and with no other.
pub(super) async fn connected(stream: TcpStream, pin: Pin) -> io::Result<TlsStream<TcpStream>> {
    let mut config = rustls::ClientConfig::builder_with_provider(tls::provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(io::Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Pinned { pin, provider: tls::provider() }))
        .with_no_client_auth();
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    let name = ServerName::try_from(SERVER_NAME).map_err(io::Error::other)?;
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

/// Gives up with `TimedOut` after a while.
async fn in_time<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(TIME, work).await?
}

/// Why there is no TLS with a server.
fn no_tls(address: &str, cause: io::Error) -> JoinError {
    let address = address.to_owned();
    match cause.get_ref().and_then(|e| e.downcast_ref::<TlsError>()) {
        Some(TlsError::InvalidCertificate(
            CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. }
            | CertificateError::Expired
            | CertificateError::ExpiredContext { .. },
        )) => JoinError::Clock { now: clock(OffsetDateTime::now_utc().unix_timestamp()) },
        Some(TlsError::InvalidCertificate(_)) => JoinError::OtherServer { address },
        None if is_closed(&cause) => JoinError::Closed { address },
        _ => JoinError::Reach { address, cause },
    }
}

fn is_closed(cause: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(cause.kind(), UnexpectedEof | ConnectionReset | BrokenPipe)
}

/// Believes a server whose certificate was signed by the one authority that the token names, which the server shows too.
#[derive(Debug)]
struct Pinned {
    pin: Pin,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        let pinned = intermediates.iter().find(|shown| Pin::of(shown) == self.pin);
        let authority = pinned.ok_or(TlsError::InvalidCertificate(CertificateError::UnknownIssuer))?;
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone().into_owned())?;
        let usual =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), self.provider.clone()).build();
        let usual = usual.map_err(|e| TlsError::General(e.to_string()))?;
        usual.verify_server_cert(end_entity, &[], server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        Err(PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Whether a file of authorities has this one.
fn has(file: &Path, pin: Pin) -> Result<bool, JoinError> {
    let failed = |cause| JoinError::File { path: file.to_owned(), cause };
    let pem = fs::read(file).map_err(failed)?;
    Ok(CertificateDer::pem_slice_iter(&pem).flatten().any(|certificate| Pin::of(&certificate) == pin))
}

/// The path of a file beside this one. The whole name is kept, so that those of t7.pem and t7.key are two.
fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.to_path_buf().into_os_string();
    name.push(ending);
    PathBuf::from(name)
}

/// Files beside those whose places they will take; what is left of them goes with this.
struct Staged {
    files: IdentityFiles,
}

impl Staged {
    fn of(files: &IdentityFiles) -> Result<Self, JoinError> {
        let IdentityFiles { ca, certificate, key } = files;
        for path in [ca, certificate, key] {
            let above = path.parent().unwrap_or(Path::new("/"));
            if !above.as_os_str().is_empty() && !above.exists() {
                private::directory(above)
                    .map_err(|cause| JoinError::File { path: above.to_owned(), cause })?;
            }
        }
        Ok(Self {
            files: IdentityFiles {
                ca: beside(ca, ".new"),
                certificate: beside(certificate, ".new"),
                key: beside(key, ".new"),
            },
        })
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), JoinError> {
        let written = private::write(path, bytes).and_then(|()| File::open(path)?.sync_all());
        written.map_err(|cause| JoinError::File { path: path.to_owned(), cause })
    }

    /// A running agent reads them when all have settled. The former key is kept until the certificate is in its place.
    fn take_their_places(self, to: &IdentityFiles) -> Result<(), JoinError> {
        let new = &self.files;
        let failed = |path: &PathBuf| {
            let path = path.clone();
            move |cause| JoinError::File { path, cause }
        };
        if new.ca.exists() {
            fs::rename(&new.ca, &to.ca).map_err(failed(&to.ca))?;
        }
        let former = beside(&to.key, ".old");
        let _ = fs::remove_file(&former);
        let had_one = to.key.exists();
        if had_one {
            fs::hard_link(&to.key, &former).map_err(failed(&former))?;
        }
        fs::rename(&new.key, &to.key).map_err(failed(&to.key))?;
        let placed = fs::rename(&new.certificate, &to.certificate).map_err(failed(&to.certificate));
        if placed.is_err() && had_one {
            fs::rename(&former, &to.key).map_err(failed(&to.key))?;
        }
        let _ = fs::remove_file(&former);
        placed
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        for path in [&self.files.ca, &self.files.certificate, &self.files.key] {
            let _ = fs::remove_file(path);
        }
    }
}
