//! Messages between stacks, seen from a stack that speaks them badly.

use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::Arc;

use lab::client::ask_often;
use lab::spec::RT1;
use lab::{Lab, Spec};
use model::codec::{self, Address};
use model::message::{FromStack, Hello, Listen, Pulse, Srvstat};
use model::{Epoch, Protocol};
use quinn::crypto::rustls::QuicClientConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::fixture::{SOON, lab, web4};

/// W2: a stack that knows nothing of a message ignores it: unknown kinds, unknown versions and malformed bodies are
/// counted, and the session that brought them goes on.
#[test]
#[ignore = "needs root"]
fn a_message_that_nobody_knows_is_counted_and_ignored() {
    let lab = lab(Spec::default());
    lab.issue("t9").expect("a certificate");
    let names = ["unknown_messages", "malformed_messages"];
    let before = names.map(|n| lab.counter(n).expect("baton stats answers"));
    let unknown_kind = frame(codec::VERSION, 999, b"\x00what is this");
    let unknown_version = frame(77, 3, b"");
    let malformed = frame(codec::VERSION, 3, b"\xff\xff\xff");
    let listen = Listen { protocol: Protocol::Tcp, port: 80, listening: true };
    let dvipa = Address(web4().ip());
    let news = Srvstat { dvipa, epoch: epoch(&lab), complete: true, listens: vec![listen] };
    let good = codec::encode(&FromStack::Srvstat(news)).expect("it is short");
    let speaking = Stranger::speak(&lab, "t9", &[unknown_kind, unknown_version, malformed, good].concat());
    lab.wait_for("the message after the bad ones to take effect", SOON, || {
        let dpt = lab.dpt().map_err(|e| e.to_string())?;
        let there =
            dpt.iter().any(|row| row.targets.iter().any(|t| t.target == "t9" && t.state == "listening"));
        if there { Ok(()) } else { Err(format!("{dpt:#?}")) }
    })
    .unwrap_or_else(|e| panic!("{e}"));
    let after = names.map(|n| lab.counter(n).expect("baton stats answers"));
    assert_eq!([after[0] - before[0], after[1] - before[1]], [2, 1], "{names:?}");
    drop(speaking);
}

/// W2, S1: a stack without a certificate of the cluster is counted and not heard.
#[test]
#[ignore = "needs root"]
fn a_stranger_without_the_clusters_certificate_is_not_heard() {
    let lab = lab(Spec::default());
    let other = lab.files().join("other");
    transport::pki::init(&other.join("pki")).expect("another cluster's CA");
    transport::pki::issue(&other.join("pki"), &"t1".parse().expect("a name"), transport::pki::STACK_DAYS)
        .expect("another cluster's certificate");
    // It trusts our CA, so that only its own certificate is wrong.
    std::fs::copy(lab.files().join("pki/ca.pem"), other.join("pki/ca.pem")).expect("the CA is copied");
    let before = lab.counter("unauthenticated").expect("baton stats answers");
    // Were it heard, t1 would listen no more.
    let news = Srvstat { dvipa: Address(web4().ip()), epoch: epoch(&lab), complete: true, listens: vec![] };
    let news = codec::encode(&FromStack::Srvstat(news)).expect("it is short");
    let _speaking = Stranger::speak_from(&lab, &other, "t1", &news);
    lab.wait_for("the stranger to be counted", SOON, || {
        let now = lab.counter("unauthenticated").map_err(|e| e.to_string())?;
        if now > before { Ok(()) } else { Err(format!("{now}")) }
    })
    .unwrap_or_else(|e| panic!("{e}"));
    let targets = lab.dpt().expect("baton dpt answers");
    assert!(targets.iter().all(|row| row.selectable() == ["t1", "t2", "t3"]), "{targets:#?}");
    let sessions = lab.stacks().expect("baton status answers");
    assert!(sessions.iter().any(|s| s.stack == "t1" && s.session == "up"), "{sessions:#?}");
    let answers = ask_often(lab.client(), web4(), 6);
    assert_eq!(answers.get("t1"), Some(&2), "{answers:?}");
}

fn frame(version: u8, kind: u16, body: &[u8]) -> Vec<u8> {
    let rest = u32::try_from(body.len() + 4).expect("it is short");
    [&rest.to_be_bytes()[..], &[version, 0], &kind.to_be_bytes(), body].concat()
}

/// The epoch of the default lab's IPv4 DVIPA.
pub(crate) fn epoch(lab: &Lab) -> Epoch {
    let vipa = lab.baton_json(&["vipa"]).expect("baton vipa answers");
    let shown =
        vipa["dvipas"].as_array().expect("a list").iter().find(|d| d["dvipa"] == web4().ip().to_string());
    Epoch(shown.expect("the DVIPA is shown")["epoch"].as_u64().expect("a number"))
}

/// A stack at the client's address that says what the test wants. Its session lasts until it is dropped.
pub(crate) struct Stranger {
    _runtime: tokio::runtime::Runtime,
}

impl Stranger {
    pub(crate) fn speak(lab: &Lab, name: &str, bytes: &[u8]) -> Self {
        Self::speak_from(lab, lab.files(), name, bytes)
    }

    fn speak_from(lab: &Lab, directory: &Path, name: &str, bytes: &[u8]) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let socket = lab.client().enter(|| UdpSocket::bind(("198.18.0.2", 0))).expect("a socket");
        let hello = Pulse::Hello(Hello {
            stack: name.to_owned(),
            cluster_addresses: vec![Address([198, 18, 0, 2].into())],
            incarnation: 1,
            version: "stranger".into(),
            ..Hello::default()
        });
        let bytes = [&codec::encode(&hello).expect("it is short"), bytes].concat();
        let config = client(&directory.join("pki"), name);
        let (started, start) = std::sync::mpsc::channel();
        runtime.spawn(async move {
            let quic = quinn::EndpointConfig::default();
            let endpoint = quinn::Endpoint::new(quic, None, socket, Arc::new(quinn::TokioRuntime));
            let endpoint = endpoint.expect("an endpoint");
            let to = SocketAddr::new(RT1.0.into(), 7440);
            let connection = endpoint.connect_with(config, to, "rt1").expect("it may be dialled").await;
            let Ok(connection) = connection else {
                let _ = started.send(());
                return;
            };
            if let Ok(mut stream) = connection.open_uni().await {
                let _ = stream.write_all(&bytes).await;
                let _ = started.send(());
                connection.closed().await;
            }
        });
        let _ = start.recv();
        Self { _runtime: runtime }
    }
}

fn client(pki: &Path, name: &str) -> quinn::ClientConfig {
    let chain = |file: &str| {
        let certificates = CertificateDer::pem_file_iter(pki.join(file)).expect("a certificate file");
        certificates.map(|c| c.expect("a certificate")).collect::<Vec<_>>()
    };
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(chain("ca.pem"));
    let key = PrivateKeyDer::from_pem_file(pki.join(format!("{name}.key"))).expect("a key");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_root_certificates(roots)
        .with_client_auth_cert(chain(&format!("{name}.pem")), key)
        .expect("a certificate with its key");
    tls.alpn_protocols = vec![b"baton/1".to_vec()];
    let mut config =
        quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).expect("a cipher suite")));
    let mut transport = quinn::TransportConfig::default();
    transport.keep_alive_interval(Some(std::time::Duration::from_millis(200)));
    config.transport_config(Arc::new(transport));
    config
}
