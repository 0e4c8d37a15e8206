//! Tokens, the book, and a real server with real and hostile clients.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinHandle;

use super::book::{Book, BookError, State};
use super::client::{JoinError, join};
use super::server::{Given, ServeError, serve};
use super::token::{BadToken, Pin, Token};
use super::*;
use crate::identity::{Identity, IdentityFiles};
use crate::pki::{self, Authority};
use crate::tls;

const HOUR: u32 = 3600;

fn name(text: &str) -> StackName {
    StackName::new(text).unwrap()
}

fn now() -> i64 {
    OffsetDateTime::now_utc().unix_timestamp()
}

/// A cluster's authority, and the directories of hosts.
struct Cluster {
    dir: tempfile::TempDir,
}

impl Cluster {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        pki::init(&dir.path().join("pki")).unwrap();
        Self { dir }
    }

    fn authority(&self) -> Authority {
        Authority::open(&self.dir.path().join("pki")).unwrap()
    }

    fn book(&self) -> Book {
        Book::of(&self.dir.path().join("pki"))
    }

    fn order(&self, stack: &str) -> Token {
        self.book().order(&self.authority(), &name(stack), HOUR, false, now()).unwrap()
    }

    /// Where a host keeps its files; it is not there yet.
    fn host(&self, host: &str) -> IdentityFiles {
        let at = |file: &str| self.dir.path().join(host).join("pki").join(file);
        IdentityFiles { ca: at("ca.pem"), certificate: at("own.pem"), key: at("own.key") }
    }

    /// A server; it ends with the last open token.
    async fn serve(&self) -> (String, JoinHandle<Result<u32, ServeError>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let rt1 = RoutingStack { name: name("rt1"), control: "192.0.2.10:7440".parse().unwrap() };
        let given = Given { days: 30, routing_stacks: vec![rt1] };
        (address, tokio::spawn(serve(self.authority(), listener, given)))
    }

    fn state(&self, stack: &str) -> State {
        let all = self.book().tokens(now()).unwrap();
        all.into_iter().rfind(|(record, _)| record.stack == name(stack)).unwrap().1
    }
}

/// Names and modes of what is in a host's directory.
fn files_in(files: &IdentityFiles) -> Vec<(String, u32)> {
    let entries = std::fs::read_dir(files.ca.parent().unwrap()).into_iter().flatten().flatten();
    let mut all: Vec<_> = entries
        .map(|e| (e.file_name().into_string().unwrap(), e.metadata().unwrap().permissions().mode() & 0o777))
        .collect();
    all.sort();
    all
}

fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap()
}

/// A host that believes any server and sends these bytes; what it hears until the connection ends.
async fn shout(address: &str, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let mut heard = Vec::new();
    if stream.write_all(bytes).await.is_ok() {
        let _ = stream.read_to_end(&mut heard).await;
    }
    heard
}

/// The same inside TLS with the right authority, from another address of this host.
async fn shout_tls(address: &str, pin: Pin, bytes: &[u8]) -> io::Result<Vec<u8>> {
    let socket = TcpSocket::new_v4()?;
    socket.bind("127.0.0.2:0".parse().unwrap())?;
    let mut stream = client::connected(socket.connect(address.parse().unwrap()).await?, pin).await?;
    stream.write_all(bytes).await?;
    stream.flush().await?;
    hear(&mut stream, ANSWER_BYTES).await
}

#[test]
fn a_token_is_read_as_it_was_printed() {
    let pin = Pin::of(b"a certificate");
    let token = Token::new(name("t7"), pin, tls::provider().secure_random).unwrap();
    let text = token.to_string();
    assert!(text.starts_with("t7.") && text.len() < 100, "{text}");
    assert_eq!(format!(" {text}\n").parse(), Ok(token.clone()));
    let other = Token::new(name("t7"), pin, tls::provider().secure_random).unwrap();
    assert!(token.id != other.id && token.secret != other.secret);
    assert!(!format!("{token:?}").contains(&text[40..]), "a token in a log is no token");
}

#[test]
fn a_token_that_was_changed_or_cut_off_is_damaged() {
    let text = Token::new(name("t7"), Pin::of(b"a"), tls::provider().secure_random).unwrap().to_string();
    for at in 3..text.len() {
        let mut bytes = text.clone().into_bytes();
        bytes[at] = if bytes[at] == b'B' { b'C' } else { b'B' };
        let changed = String::from_utf8(bytes).unwrap();
        let error = changed.parse::<Token>().unwrap_err();
        assert!(matches!(error, BadToken::Damaged | BadToken::Version(_)), "{changed}: {error}");
        let cut = &text[..at];
        assert_eq!(cut.parse::<Token>(), Err(BadToken::Damaged), "{cut}");
    }
    assert_eq!(text.replace("t7.", "t8.").parse::<Token>(), Err(BadToken::Damaged));
    assert_eq!("AbCd".parse::<Token>(), Err(BadToken::Form));
    assert_eq!("rt1.Ag".parse::<Token>(), Err(BadToken::Version(2)));
}

#[test]
fn the_authority_keeps_no_secret_and_nobody_else_reads_what_it_keeps() {
    let cluster = Cluster::new();
    let token = cluster.order("t7");
    let at = cluster.dir.path().join("pki/tokens");
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    let file = at.join(token.id.to_string());
    assert_eq!((mode(&at), mode(&file)), (0o700, 0o600));
    let kept: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(&read(&file)).unwrap();
    assert_eq!(kept["secret_sha256"], token.secret.hash());
    let keys: std::collections::BTreeSet<_> = kept.keys().map(String::as_str).collect();
    assert_eq!(keys, ["ordered_unix_s", "secret_sha256", "stack", "until_unix_s"].into());
}

#[test]
fn a_token_is_good_for_its_time_once_and_for_its_name() {
    let cluster = Cluster::new();
    let (book, token, by) = (cluster.book(), cluster.order("t7"), "192.0.2.27".parse().unwrap());
    let end = now() + i64::from(HOUR);
    assert!(matches!(book.look(&token, end + 1), Err(Refusal::Expired(_))));
    assert_eq!(book.look(&token, end - 2), Ok(()));
    let stolen = Token { name: name("rt1"), ..token.clone() };
    assert_eq!(book.use_up(&stolen, by, now()), Err(Refusal::OtherName(name("t7"))));
    let guess = Token { secret: cluster.order("t8").secret, ..token.clone() };
    assert_eq!(book.use_up(&guess, by, now()), Err(Refusal::Unknown));
    assert_eq!(book.use_up(&token, by, now()), Ok(()));
    let again = book.use_up(&token, by, now()).unwrap_err();
    assert!(matches!(&again, Refusal::Used { by, .. } if by == "192.0.2.27"), "{again}");
    let guess = Token { secret: guess.secret, ..token };
    assert_eq!(book.look(&guess, now()), Err(Refusal::Unknown), "a guess learns nothing of a used one");
}

#[test]
fn of_many_that_use_a_token_at_a_time_one_does() {
    let cluster = Cluster::new();
    for round in 0..20 {
        let token = cluster.order(&format!("t{round}x"));
        let done = std::thread::scope(|scope| {
            let uses = [(); 8].map(|()| {
                let (book, token) = (cluster.book(), &token);
                scope.spawn(move || book.use_up(token, "192.0.2.1".parse().unwrap(), now()).is_ok())
            });
            uses.map(|one| one.join().unwrap()).into_iter().filter(|done| *done).count()
        });
        assert_eq!(done, 1, "round {round}");
    }
}

#[test]
fn a_revoked_token_is_unknown_and_a_new_order_revokes_the_former() {
    let cluster = Cluster::new();
    let (book, first) = (cluster.book(), cluster.order("t7"));
    let second = cluster.order("t7");
    assert_eq!(book.look(&first, now()), Err(Refusal::Unknown));
    assert_eq!(book.look(&second, now()), Ok(()));
    book.revoke(&name("t7")).unwrap();
    assert_eq!(book.look(&second, now()), Err(Refusal::Unknown));
    assert!(matches!(book.revoke(&name("t7")), Err(BookError::NotOpen(_))));
}

#[test]
fn a_stack_that_has_a_certificate_gets_a_token_only_if_that_is_meant() {
    let cluster = Cluster::new();
    let (book, authority) = (cluster.book(), cluster.authority());
    pki::issue(&cluster.dir.path().join("pki"), &name("rt1"), 30).unwrap();
    let order = |stack, again| book.order(&authority, &name(stack), HOUR, again, now());
    assert!(matches!(order("rt1", false), Err(BookError::Known(_))));
    let token = order("t7", false).unwrap();
    book.use_up(&token, "192.0.2.27".parse().unwrap(), now()).unwrap();
    assert!(matches!(order("t7", false), Err(BookError::Known(_))));
    assert!(order("t7", true).is_ok());
    for no_name in ["ca", "17"] {
        assert!(matches!(order(no_name, true), Err(BookError::Pki(_))), "{no_name}");
    }
}

#[test]
fn no_more_tokens_are_open_than_may_and_old_ones_are_forgotten() {
    let cluster = Cluster::new();
    let (book, authority, begun) = (cluster.book(), cluster.authority(), now());
    let (first, at) = (cluster.order("t0").id.to_string(), cluster.dir.path().join("pki/tokens"));
    for n in 1..1024 {
        std::fs::copy(at.join(&first), at.join(n.to_string())).unwrap();
    }
    let one_more = |at| book.order(&authority, &name("another"), HOUR, false, at).map(drop);
    assert!(matches!(one_more(begun), Err(BookError::Full)));
    one_more(begun + 9 * 24 * 3600).unwrap();
    assert_eq!(book.tokens(begun).unwrap().len(), 1);
}

#[tokio::test]
async fn a_host_joins_and_keeps_its_files_to_itself() {
    let cluster = Cluster::new();
    let (token, files) = (cluster.order("t7"), cluster.host("t7"));
    let (address, served) = cluster.serve().await;
    let joined = join(&address, &token, &files).await.unwrap();
    assert_eq!(joined.address, "127.0.0.1".parse::<std::net::IpAddr>().unwrap());
    assert_eq!(joined.routing_stacks.len(), 1);
    assert_eq!(Identity::load(&files, &name("t7")).unwrap().expires(), joined.expires);
    let all = ["ca.pem", "own.key", "own.pem"].map(|file| (file.to_owned(), 0o600));
    assert_eq!(files_in(&files), all);
    assert_eq!(files.ca.parent().unwrap().metadata().unwrap().permissions().mode() & 0o777, 0o700);
    let ended = tokio::time::timeout(TIME, served).await.expect("it ends when no token is open");
    assert_eq!(ended.unwrap().unwrap(), 1);
    assert!(matches!(cluster.state("t7"), State::Used(Some(_))));
}

#[tokio::test]
async fn a_host_that_joins_again_has_another_key_and_the_same_authority() {
    let cluster = Cluster::new();
    let (first, files) = (cluster.order("t7"), cluster.host("t7"));
    let _other = cluster.order("t8");
    let (address, _served) = cluster.serve().await;
    join(&address, &first, &files).await.unwrap();
    let (key, certificate) = (read(&files.key), read(&files.certificate));
    // Another authority that this host trusts too.
    let both = [read(&files.ca), read(&Cluster::new().dir.path().join("pki/ca.pem"))].concat();
    std::fs::write(&files.ca, &both).unwrap();

    let refused = join(&address, &first, &files).await.unwrap_err();
    assert!(
        matches!(&refused, JoinError::Refused(Refusal::Used { by, .. }) if by == "127.0.0.1"),
        "{refused}"
    );
    assert_eq!((read(&files.key), read(&files.certificate)), (key.clone(), certificate.clone()));
    assert_eq!(files_in(&files).len(), 3, "nothing else is left");

    let second = cluster.book().order(&cluster.authority(), &name("t7"), HOUR, true, now()).unwrap();
    join(&address, &second, &files).await.unwrap();
    assert!(read(&files.key) != key && read(&files.certificate) != certificate);
    assert_eq!(read(&files.ca), both);
    Identity::load(&files, &name("t7")).unwrap();
}

#[tokio::test]
async fn a_server_with_another_authority_is_told_nothing() {
    let (cluster, other) = (Cluster::new(), Cluster::new());
    let (token, files) = (cluster.order("t7"), cluster.host("t7"));
    let _open = other.order("t7");
    let (address, served) = other.serve().await;
    let refused = join(&address, &token, &files).await.unwrap_err();
    assert!(matches!(refused, JoinError::OtherServer { .. }), "{refused}");
    assert_eq!(files_in(&files), []);
    assert!(!served.is_finished());
    assert_eq!(cluster.state("t7"), State::Open);
}

/// A server of this certificate that hears what a host sends after the handshake.
async fn impostor(
    chain: Vec<rustls::pki_types::CertificateDer<'static>>,
    key: KeyPair,
) -> (String, JoinHandle<Vec<u8>>) {
    let mut config = rustls::ServerConfig::builder_with_provider(tls::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key.into())
        .unwrap();
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let heard = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut heard = Vec::new();
        if let Ok(mut stream) = tokio_rustls::TlsAcceptor::from(Arc::new(config)).accept(stream).await {
            let _ = stream.read_to_end(&mut heard).await;
        }
        heard
    });
    (address, heard)
}

#[tokio::test]
async fn who_has_the_authoritys_certificate_without_its_key_is_told_nothing() {
    let (cluster, other) = (Cluster::new(), Cluster::new());
    let (token, files) = (cluster.order("t7"), cluster.host("t7"));
    // The right name, signed by another authority, beside the certificate that the token names.
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let forged = other.authority().certify_server(SERVER_NAME, &key, OffsetDateTime::now_utc()).unwrap();
    // A stack of the cluster, which is not its authority.
    let stacks = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let stack = cluster.authority().certify(&name("t3"), &stacks, 30, OffsetDateTime::now_utc()).unwrap();
    let ours = cluster.authority().certificate.clone();
    for (certificate, key) in [(forged, key), (stack.certificate, stacks)] {
        let (address, heard) = impostor(vec![certificate.der().clone(), ours.clone()], key).await;
        let refused = join(&address, &token, &files).await.unwrap_err();
        assert!(matches!(refused, JoinError::OtherServer { .. }), "{refused}");
        assert_eq!(heard.await.unwrap(), b"");
    }
    assert_eq!(files_in(&files), []);
}

#[tokio::test]
async fn a_host_of_another_cluster_asks_nothing() {
    let (cluster, other) = (Cluster::new(), Cluster::new());
    let files = cluster.host("t7");
    std::fs::create_dir_all(files.ca.parent().unwrap()).unwrap();
    std::fs::copy(other.dir.path().join("pki/ca.pem"), &files.ca).unwrap();
    // Nobody listens there.
    let refused = join("127.0.0.1:1", &cluster.order("t7"), &files).await.unwrap_err();
    assert!(matches!(&refused, JoinError::OtherAuthority(path) if *path == files.ca), "{refused}");
    std::fs::remove_file(&files.ca).unwrap();
    let refused = join("127.0.0.1:1", &cluster.order("t7"), &files).await.unwrap_err();
    assert!(matches!(refused, JoinError::Reach { .. }), "{refused}");
}

#[tokio::test]
async fn two_hosts_with_one_token_get_one_certificate() {
    let cluster = Cluster::new();
    let token = cluster.order("t7");
    let _other = cluster.order("t8");
    let (address, _served) = cluster.serve().await;
    let (one, two) = (cluster.host("one"), cluster.host("two"));
    let (one, two) = tokio::join!(join(&address, &token, &one), join(&address, &token, &two));
    assert!(one.is_ok() != two.is_ok(), "{one:?} {two:?}");
    let refused = one.err().or(two.err()).unwrap();
    assert!(matches!(refused, JoinError::Refused(Refusal::Used { .. })), "{refused}");
}

#[tokio::test]
async fn expired_and_revoked_tokens_and_those_of_another_name_are_refused_with_the_reason() {
    let cluster = Cluster::new();
    let _open = cluster.order("t9");
    let (address, _served) = cluster.serve().await;
    let book = cluster.book();
    let expired = book.order(&cluster.authority(), &name("t1"), HOUR, false, now() - 2 * 3600).unwrap();
    let revoked = cluster.order("t2");
    book.revoke(&name("t2")).unwrap();
    let renamed = Token { name: name("rt1"), ..cluster.order("t3") };
    let elsewhere = Cluster::new();
    // A server that was given another authority's token by a host that believes it.
    let foreign = Token { pin: Pin::of(&cluster.authority().certificate), ..elsewhere.order("t4") };
    for (token, is_right) in [
        (expired, (|e| matches!(e, Refusal::Expired(_))) as fn(&Refusal) -> bool),
        (revoked, |e| *e == Refusal::Unknown),
        (renamed, |e| *e == Refusal::OtherName(name("t3"))),
        (foreign, |e| *e == Refusal::Unknown),
    ] {
        let files = cluster.host("t1");
        let refused = join(&address, &token, &files).await.unwrap_err();
        let JoinError::Refused(refusal) = &refused else { panic!("{refused}") };
        assert!(is_right(refusal), "{refusal}");
        assert_eq!(files_in(&files), []);
    }
}

#[tokio::test]
async fn garbage_and_requests_that_are_too_long_are_refused_and_use_up_nothing() {
    let cluster = Cluster::new();
    let token = cluster.order("t7");
    let pin = token.pin;
    let (address, _served) = cluster.serve().await;
    // A record that announces 16 kB of a handshake, and plain text: an alert at most.
    assert!(shout(&address, b"GET / HTTP/1.1\r\n\r\n").await.len() < 16);
    let mut junk = vec![0x16, 3, 1, 0x40, 0];
    junk.resize(20_000, 0xff);
    assert!(shout(&address, &junk).await.len() < 16);
    // In TLS: no JSON, a good token with a bad certificate request, and 1 MB without an end.
    let answer = String::from_utf8(shout_tls(&address, pin, b"{}\n").await.unwrap()).unwrap();
    assert!(answer.contains("request"), "{answer}");
    // Who does not know the secret learns nothing of what is wrong besides.
    let guess = Token { secret: Cluster::new().order("t7").secret, ..token.clone() };
    let foreign = Cluster::new().order("t7");
    for (token, answered) in [(token, "request"), (guess, "unknown"), (foreign, "other_authority")] {
        let request = Request { token: token.to_string(), certificate_request: "none".into() };
        let mut bytes = serde_json::to_vec(&request).unwrap();
        bytes.push(b'\n');
        let answer = String::from_utf8(shout_tls(&address, pin, &bytes).await.unwrap()).unwrap();
        assert!(answer.contains(answered), "{answer}");
    }
    assert_eq!(cluster.state("t7"), State::Open);
}

#[tokio::test]
async fn a_request_without_an_end_is_cut_off() {
    let cluster = Cluster::new();
    let token = cluster.order("t7");
    let (address, _served) = cluster.serve().await;
    let begun = std::time::Instant::now();
    assert!(shout_tls(&address, token.pin, &vec![b'x'; 1 << 20]).await.is_err());
    assert!(begun.elapsed() < TIME / 2, "not by its time, by its length");
    join(&address, &token, &cluster.host("t7")).await.unwrap();
}

#[tokio::test]
async fn a_key_that_the_host_does_not_have_or_of_another_kind_is_not_signed() {
    let cluster = Cluster::new();
    let token = cluster.order("t7");
    let (address, _served) = cluster.serve().await;
    let of = |algorithm| {
        let key = KeyPair::generate_for(algorithm).unwrap();
        CertificateParams::new(vec!["t7".to_owned()]).unwrap().serialize_request(&key).unwrap()
    };
    let mut tampered = of(&PKCS_ECDSA_P256_SHA256).der().to_vec();
    // The last byte of the signature.
    *tampered.last_mut().unwrap() ^= 1;
    let pem = |der: &[u8]| {
        let body = data_encoding::BASE64.encode(der);
        format!("-----BEGIN CERTIFICATE REQUEST-----\n{body}\n-----END CERTIFICATE REQUEST-----\n")
    };
    for certificate_request in [pem(&tampered), of(&rcgen::PKCS_ED25519).pem().unwrap()] {
        let request = Request { token: token.to_string(), certificate_request };
        let mut bytes = serde_json::to_vec(&request).unwrap();
        bytes.push(b'\n');
        let answer = String::from_utf8(shout_tls(&address, token.pin, &bytes).await.unwrap()).unwrap();
        assert!(answer.contains("\"request\""), "{answer}");
    }
    assert_eq!(cluster.state("t7"), State::Open);
}

#[tokio::test]
async fn a_certificate_that_can_not_take_its_place_leaves_the_former_key_in_its_own() {
    let cluster = Cluster::new();
    let token = cluster.order("t7");
    let (address, _served) = cluster.serve().await;
    let files = cluster.host("t7");
    std::fs::create_dir_all(&files.certificate).unwrap();
    std::fs::write(&files.key, "the former one").unwrap();
    let refused = join(&address, &token, &files).await.unwrap_err();
    assert!(matches!(&refused, JoinError::File { path, .. } if *path == files.certificate), "{refused}");
    assert_eq!(std::fs::read_to_string(&files.key).unwrap(), "the former one");
    let beside = std::fs::read_dir(files.key.parent().unwrap()).unwrap().flatten();
    let left: Vec<_> =
        beside.map(|entry| entry.path()).filter(|path| path.to_string_lossy().contains(".key.")).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn a_certificate_and_a_key_in_one_file_are_refused_before_anything_is_sent() {
    let cluster = Cluster::new();
    let token = cluster.order("t7");
    let (address, _served) = cluster.serve().await;
    let files = cluster.host("t7");
    let one = crate::IdentityFiles { certificate: files.key.clone(), ..files };
    let refused = join(&address, &token, &one).await.unwrap_err();
    assert!(matches!(refused, JoinError::SameFile(_)), "{refused}");
    assert_eq!(cluster.state("t7"), State::Open);
}

#[tokio::test]
async fn slow_clients_are_let_go_and_make_room() {
    let cluster = Cluster::new();
    let token = cluster.order("t7");
    let (address, _served) = cluster.serve().await;
    let mut slow = Vec::new();
    for _ in 0..16 {
        slow.push(TcpStream::connect(&address).await.unwrap());
    }
    // All places are taken: one more is closed at once.
    let closed = join(&address, &token, &cluster.host("t7")).await.unwrap_err();
    assert!(matches!(closed, JoinError::Closed { .. }), "{closed}");
    let begun = std::time::Instant::now();
    for stream in &mut slow {
        let _ = stream.read_to_end(&mut Vec::new()).await;
    }
    let waited = begun.elapsed();
    assert!(waited > TIME / 2 && waited < 2 * TIME, "{waited:?}");
    assert!(shout_tls(&address, token.pin, b"{}\n").await.is_ok(), "there is room again");
    assert_eq!(cluster.state("t7"), State::Open);
}

#[tokio::test]
async fn who_guesses_is_ignored() {
    let cluster = Cluster::new();
    let (token, other) = (cluster.order("t7"), cluster.order("t8"));
    let (address, _served) = cluster.serve().await;
    let guess = Token { secret: other.secret, ..token.clone() };
    for _ in 0..5 {
        let refused = join(&address, &guess, &cluster.host("t7")).await.unwrap_err();
        assert!(matches!(refused, JoinError::Refused(Refusal::Unknown)), "{refused}");
    }
    // Also with the right one.
    let ignored = join(&address, &token, &cluster.host("t7")).await.unwrap_err();
    assert!(matches!(ignored, JoinError::Closed { .. }), "{ignored}");
    assert_eq!(cluster.state("t7"), State::Open);
}

#[tokio::test]
async fn without_an_open_token_there_is_no_server() {
    let cluster = Cluster::new();
    let (_, served) = cluster.serve().await;
    assert!(matches!(served.await.unwrap(), Err(ServeError::NoToken)));
}

#[test]
fn an_address_has_the_usual_port_if_it_says_none() {
    for (typed, dialled) in [
        ("192.0.2.10", "192.0.2.10:7440"),
        ("192.0.2.10:80", "192.0.2.10:80"),
        ("2001:db8::10", "[2001:db8::10]:7440"),
        ("[2001:db8::10]:80", "[2001:db8::10]:80"),
        ("rt1.example", "rt1.example:7440"),
        ("rt1:80", "rt1:80"),
    ] {
        assert_eq!(client::with_port(typed), dialled);
    }
}

/// The clock of the new host, as it shows itself in TLS.
#[tokio::test]
async fn a_certificate_of_another_time_points_at_the_clock() {
    let cluster = Cluster::new();
    let token = cluster.order("t7");
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let long_ago = cluster
        .authority()
        .certify_server(SERVER_NAME, &key, OffsetDateTime::UNIX_EPOCH + time::Duration::days(10_000))
        .unwrap();
    let chain = vec![long_ago.der().clone(), cluster.authority().certificate.clone()];
    let (address, heard) = impostor(chain, key).await;
    let refused = join(&address, &token, &cluster.host("t7")).await.unwrap_err();
    assert!(matches!(refused, JoinError::Clock { .. }), "{refused}");
    assert_eq!(heard.await.unwrap(), b"");
}
