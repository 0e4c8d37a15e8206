//! A QUIC server whose connection IDs name the stack that it is on (QUIC-LB), so that clients that change their address stay with it.
//!
//! ```text
//! quic NAME ADDRESS:PORT CERTIFICATE KEY ROTATION SERVER_ID NONCE_BYTES [IDS_KEY]
//! ```
//!
//! Rotation bits, server ID and the number of a nonce's bytes are those of the `quic` table of the service; so is the file with the key, if
//! they are encrypted. `baton dpt` shows the server ID of each stack. With the rotation bits 6 the first octet tells the length.
//!
//! It answers what a client sends on a stream with its name, the number of bytes, and as many bytes.

mod ids;

use std::error::Error as Failure;
use std::net::UdpSocket;
use std::sync::Arc;
use std::{env, fs, process};

use quiclb::{Algorithm, Configuration, Key, ServerId};
use quinn::crypto::rustls::QuicServerConfig;
use quinn::{
    ConnectionError, Endpoint, EndpointConfig, Incoming, RecvStream, SendStream, ServerConfig, TokioRuntime,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use ids::Ids;

type Result<T, E = Box<dyn Failure + Send + Sync>> = std::result::Result<T, E>;

/// So many bytes are sent at a time.
const PIECE: usize = 64 * 1024;

/// How connection IDs are made.
fn ids(rotation: &str, server: &str, nonce_bytes: &str, key: Option<&str>) -> Result<Ids> {
    let server: ServerId = server.parse().map_err(|()| "the server ID is not in hexadecimal digits")?;
    let key = match key {
        Some(file) => {
            let bytes = model::quic::hexadecimal(fs::read_to_string(file)?.trim());
            let key = bytes.and_then(|bytes| bytes.try_into().ok());
            Some(Key(key.ok_or("the key is not 32 hexadecimal digits")?))
        }
        None => None,
    };
    let rotation = rotation.parse()?;
    let configuration = Configuration {
        rotation,
        server_id_bytes: server.as_bytes().len() as u8,
        nonce_bytes: nonce_bytes.parse()?,
        key,
        length_in_first_octet: rotation == 6,
        server_ids: Vec::new(),
    };
    let algorithm = Algorithm::new(&configuration).map_err(|mistake| mistake.to_string())?;
    let random = rustls::crypto::ring::default_provider().secure_random;
    Ok(Ids { algorithm, server, random })
}

fn server(certificate: &str, key: &str) -> Result<ServerConfig> {
    let chain = CertificateDer::pem_file_iter(certificate)?.collect::<Result<Vec<_>, _>>()?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(chain, PrivateKeyDer::from_pem_file(key)?)?;
    Ok(ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls)?)))
}

async fn answer(name: Arc<str>, (mut answer, mut asked): (SendStream, RecvStream)) -> Result<()> {
    let mut bytes = 0;
    while let Some(chunk) = asked.read_chunk(PIECE, true).await? {
        bytes += chunk.bytes.len();
    }
    answer.write_all(format!("{name} {bytes}\n").as_bytes()).await?;
    while bytes > 0 {
        let piece = bytes.min(PIECE);
        answer.write_all(&[b'b'; PIECE][..piece]).await?;
        bytes -= piece;
    }
    Ok(answer.finish()?)
}

/// Serves a client until it goes.
async fn serve(name: Arc<str>, client: Incoming) -> Result<()> {
    let connection = client.await?;
    loop {
        match connection.accept_bi().await {
            Ok(streams) => spawn(answer(Arc::clone(&name), streams)),
            Err(ConnectionError::ApplicationClosed(_) | ConnectionError::TimedOut) => return Ok(()),
            Err(e) => return Err(e.into()),
        }
    }
}

/// One client's trouble is no other's.
fn spawn(work: impl Future<Output = Result<()>> + Send + 'static) {
    tokio::spawn(async move {
        if let Err(e) = work.await {
            eprintln!("{e}");
        }
    });
}

async fn run(words: &[&str]) -> Result<()> {
    let [name, address, certificate, key, rotation, server_id, nonce_bytes, rest @ ..] = words else {
        return Err(
            "usage: quic NAME ADDRESS:PORT CERTIFICATE KEY ROTATION SERVER_ID NONCE_BYTES [IDS_KEY]".into()
        );
    };
    let ids = ids(rotation, server_id, nonce_bytes, rest.first().copied())?;
    let mut config = EndpointConfig::default();
    config.cid_generator(move || Box::new(ids.clone()));
    let socket = UdpSocket::bind(address)?;
    let endpoint = Endpoint::new(config, Some(server(certificate, key)?), socket, Arc::new(TokioRuntime))?;
    let name: Arc<str> = Arc::from(*name);
    while let Some(client) = endpoint.accept().await {
        spawn(serve(Arc::clone(&name), client));
    }
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let words: Vec<String> = env::args().skip(1).collect();
    if let Err(e) = run(&words.iter().map(String::as_str).collect::<Vec<_>>()).await {
        eprintln!("quic: {e}");
        process::exit(1);
    }
}
