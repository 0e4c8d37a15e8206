//! What rustls and quinn are told: TLS 1.3 with ring, certificates of the cluster's CA on both sides, no
//! resumption (every session shows its certificate), limits on everything a peer can make us hold.

use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::{NoInitialCipherSuite, QuicClientConfig, QuicServerConfig};
use quinn::{ClientConfig, IdleTimeout, ServerConfig, TransportConfig, VarInt};
use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, VerifierBuilderError, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{Error as TlsError, RootCertStore, version::TLS13};

use crate::identity::Identity;

/// Streams that a peer may have open: four lanes, and room for the lanes of later versions.
const MAX_STREAMS: u32 = 16;
/// Bytes that a peer may send on one stream before we have read them.
const STREAM_WINDOW: u32 = 1 << 20;
/// Bytes that a peer may send on all streams before we have read them.
const SESSION_WINDOW: u32 = 4 << 20;

/// Why TLS can't be set up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SetupError {
    #[error("the CA can't be used: {0}")]
    Roots(#[from] VerifierBuilderError),
    #[error("the certificate or its key can't be used: {0}")]
    Tls(#[from] TlsError),
    #[error("no cipher suite for QUIC: {0}")]
    Suite(#[from] NoInitialCipherSuite),
}

pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

pub(crate) fn client_verifier(
    roots: &Arc<RootCertStore>,
) -> Result<Arc<dyn ClientCertVerifier>, VerifierBuilderError> {
    WebPkiClientVerifier::builder_with_provider(roots.clone(), provider()).build()
}

pub(crate) fn certified_key(identity: &Identity) -> Result<CertifiedKey, TlsError> {
    let key = provider().key_provider.load_private_key(identity.key.clone_key())?;
    Ok(CertifiedKey::new(identity.chain.clone(), key))
}

/// What this stack shows and demands where others dial it, in this protocol ([`crate::outbox::Sent::PROTOCOL`]).
pub(crate) fn server(identity: &Identity, protocol: &[u8]) -> Result<rustls::ServerConfig, SetupError> {
    let mut tls = rustls::ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(client_verifier(&identity.roots)?)
        .with_single_cert(identity.chain.clone(), identity.key.clone_key())?;
    tls.alpn_protocols = vec![protocol.to_vec()];
    tls.session_storage = Arc::new(NoServerSessionStorage {});
    tls.send_tls13_tickets = 0;
    Ok(tls)
}

/// The same for QUIC.
pub(crate) fn quic_server(
    tls: rustls::ServerConfig,
    heartbeat: Duration,
    lost_after: Duration,
) -> Result<ServerConfig, SetupError> {
    let mut config = ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls)?));
    config.transport_config(transport(heartbeat, lost_after));
    config
        .migration(false)
        .max_incoming(256)
        .incoming_buffer_size(64 << 10)
        .incoming_buffer_size_total(4 << 20);
    Ok(config)
}

/// What this stack shows and demands where it dials.
pub(crate) fn client(identity: &Identity, protocol: &[u8]) -> Result<rustls::ClientConfig, SetupError> {
    let mut tls = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .with_root_certificates(identity.roots.clone())
        .with_client_auth_cert(identity.chain.clone(), identity.key.clone_key())?;
    tls.alpn_protocols = vec![protocol.to_vec()];
    tls.resumption = Resumption::disabled();
    Ok(tls)
}

/// The same for QUIC.
pub(crate) fn quic_client(
    tls: rustls::ClientConfig,
    heartbeat: Duration,
    lost_after: Duration,
) -> Result<ClientConfig, SetupError> {
    let mut config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
    config.transport_config(transport(heartbeat, lost_after));
    Ok(config)
}

/// The idle time-out is only the backstop, at ten times `lost_after`: the session itself watches for silence and is
/// fair to the peer when this process was the one that slept. QUIC's timer is not: it fires before the datagrams that
/// came meanwhile are read.
fn transport(heartbeat: Duration, lost_after: Duration) -> Arc<TransportConfig> {
    let idle = u32::try_from(lost_after.as_millis().saturating_mul(10)).unwrap_or(u32::MAX);
    let mut config = TransportConfig::default();
    config
        .keep_alive_interval(Some(heartbeat))
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(idle))))
        .max_concurrent_uni_streams(VarInt::from_u32(MAX_STREAMS))
        .max_concurrent_bidi_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None)
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .receive_window(VarInt::from_u32(SESSION_WINDOW))
        .send_window(u64::from(SESSION_WINDOW));
    Arc::new(config)
}
