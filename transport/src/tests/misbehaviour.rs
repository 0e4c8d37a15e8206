//! What others can do to an endpoint, and what it makes of it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use model::codec;
use model::message::{FromStack, Hello, Pulse, ToStack, VipaList};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{Connection, SendStream};
use rustls::version::TLS13;
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::io::AsyncWriteExt;

use super::fixture::{Cluster, Node, load, name, pair};
use crate::outbox::Sent;
use crate::{DownReason, Event, Listen, PeerState, Settings, Tally, beside, tls};

/// A QUIC client that shows `stack`'s certificate and otherwise does what a test wants.
async fn raw(cluster: &Cluster, stack: &str, to: SocketAddr) -> (quinn::Endpoint, Connection) {
    let identity = cluster.identity(stack);
    let config = tls::client(&identity, FromStack::PROTOCOL).unwrap();
    let config = tls::quic_client(config, Duration::from_millis(50), Duration::from_secs(10)).unwrap();
    let client = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    let connection = client.connect_with(config, to, "rt1").unwrap().await.unwrap();
    (client, connection)
}

fn hello(stack: &str) -> Vec<u8> {
    let hello = Hello {
        stack: stack.into(),
        cluster_addresses: Vec::new(),
        incarnation: 1,
        version: "raw".into(),
        ..Hello::default()
    };
    codec::encode(&Pulse::Hello(hello)).unwrap()
}

/// A raw peer whose session as `t1` is up, and its first stream.
async fn raw_session(
    cluster: &Cluster,
    rt1: &mut Node<ToStack>,
) -> (quinn::Endpoint, Connection, SendStream) {
    let (client, connection) = raw(cluster, "t1", rt1.address()).await;
    let mut stream = connection.open_uni().await.unwrap();
    stream.write_all(&hello("t1")).await.unwrap();
    rt1.expect_up("t1").await;
    (client, connection, stream)
}

fn frame(version: u8, kind: u16, body: &[u8]) -> Vec<u8> {
    let rest = u32::try_from(body.len() + 4).unwrap();
    [&rest.to_be_bytes()[..], &[version, 0], &kind.to_be_bytes(), body].concat()
}

/// Waits until a counter reaches a value: its event happens on another task.
async fn counted(node: &Node<impl Sent>, tally: Tally, value: u64) {
    for _ in 0..500 {
        if node.endpoint.counters().get(tally) >= value {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{} is {}, not {value}", tally.name(), node.endpoint.counters().get(tally));
}

#[tokio::test]
async fn a_peer_without_a_certificate_is_refused() {
    let cluster = Cluster::of(&["rt1"]);
    let mut rt1 = cluster.listener("rt1");
    let mut config =
        rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_protocol_versions(&[&TLS13])
            .unwrap()
            .with_root_certificates(cluster.identity("rt1").roots)
            .with_no_client_auth();
    config.alpn_protocols = vec![b"baton/1".to_vec()];
    let config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(config).unwrap()));
    let client = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    if let Ok(connection) = client.connect_with(config, rt1.address(), "rt1").unwrap().await {
        // TLS 1.3 lets a client finish before the server has seen that the certificate is missing.
        connection.closed().await;
    }
    counted(&rt1, Tally::Unauthenticated, 1).await;
    assert!(rt1.next_within(Duration::from_millis(100)).await.is_none());
}

#[tokio::test]
async fn a_peer_of_another_ca_is_refused_and_the_dialler_is_told_the_fix() {
    let (ours, theirs) = (Cluster::of(&["rt1"]), Cluster::of(&["t1"]));
    let (mut rt1, t1) = (ours.listener("rt1"), theirs.dialler("t1"));
    t1.endpoint.dial(name("rt1"), rt1.address());
    counted(&t1, Tally::DialsFailed, 1).await;
    let why = |node: &Node<_>| match node.endpoint.peers().first().map(|p| p.state.clone()) {
        Some(PeerState::Waiting { why }) => why,
        _ => String::new(),
    };
    while why(&t1).is_empty() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(why(&t1).contains("another CA"), "{}", why(&t1));
    counted(&rt1, Tally::Unauthenticated, 1).await;
    assert!(rt1.next_within(Duration::from_millis(100)).await.is_none());
}

#[tokio::test]
async fn a_stack_at_another_stacks_address_is_refused() {
    let cluster = Cluster::of(&["rt1", "rt2", "t1"]);
    let (mut rt2, t1) = (cluster.listener("rt2"), cluster.dialler("t1"));
    t1.endpoint.dial(name("rt1"), rt2.address());
    counted(&t1, Tally::DialsFailed, 2).await;
    assert!(rt2.next_within(Duration::from_millis(100)).await.is_none());
}

#[tokio::test]
async fn a_hello_with_another_name_than_the_certificates_is_refused() {
    let cluster = Cluster::of(&["rt1", "t1"]);
    let mut rt1 = cluster.listener("rt1");
    let (_client, connection) = raw(&cluster, "t1", rt1.address()).await;
    let mut stream = connection.open_uni().await.unwrap();
    stream.write_all(&hello("t2")).await.unwrap();
    connection.closed().await;
    counted(&rt1, Tally::WrongNames, 1).await;
    assert!(rt1.next_within(Duration::from_millis(100)).await.is_none());
}

#[tokio::test]
async fn a_peer_that_begins_with_something_else_than_hello_is_refused() {
    let cluster = Cluster::of(&["rt1", "t1"]);
    let mut rt1 = cluster.listener("rt1");
    let (_client, connection) = raw(&cluster, "t1", rt1.address()).await;
    let mut stream = connection.open_uni().await.unwrap();
    stream.write_all(&codec::encode(&load(1)).unwrap()).await.unwrap();
    connection.closed().await;
    counted(&rt1, Tally::ProtocolErrors, 1).await;
    assert!(rt1.next_within(Duration::from_millis(100)).await.is_none());
}

#[tokio::test]
async fn unknown_and_malformed_messages_are_counted_and_ignored() {
    let cluster = Cluster::of(&["rt1", "t1"]);
    let mut rt1 = cluster.listener("rt1");
    let (_client, _connection, mut stream) = raw_session(&cluster, &mut rt1).await;
    let unknown = [frame(1, 999, b"what"), frame(9, 6, b"")].concat();
    stream.write_all(&unknown).await.unwrap();
    stream.write_all(&frame(1, 6, b"\xff\xff")).await.unwrap();
    stream.write_all(&codec::encode(&load(5)).unwrap()).await.unwrap();
    assert_eq!(rt1.expect_message("t1").await, load(5));
    assert_eq!(rt1.endpoint.counters().get(Tally::UnknownMessages), 2);
    assert_eq!(rt1.endpoint.counters().get(Tally::MalformedMessages), 1);
}

#[tokio::test]
async fn what_only_the_reader_may_say_is_refused_by_name_and_the_session_goes_on() {
    let cluster = Cluster::of(&["rt1", "t1"]);
    let mut rt1 = cluster.listener("rt1");
    let (_client, _connection, mut stream) = raw_session(&cluster, &mut rt1).await;
    let list = codec::encode(&ToStack::VipaList(VipaList::default())).unwrap();
    stream.write_all(&[list, codec::encode(&load(5)).unwrap()].concat()).await.unwrap();
    match rt1.next().await {
        Event::Misdirected { peer, message } => assert_eq!((peer, message), (name("t1"), "a VIPA list")),
        other => panic!("{other:?}"),
    }
    assert_eq!(rt1.expect_message("t1").await, load(5));
}

#[tokio::test]
async fn a_stream_of_an_unknown_lane_is_read_like_any_other() {
    let cluster = Cluster::of(&["rt1", "t1"]);
    let mut rt1 = cluster.listener("rt1");
    let (_client, connection, _stream) = raw_session(&cluster, &mut rt1).await;
    for round in 0..5 {
        let mut another = connection.open_uni().await.unwrap();
        another.write_all(&codec::encode(&load(round)).unwrap()).await.unwrap();
        another.finish().unwrap();
        assert_eq!(rt1.expect_message("t1").await, load(round));
    }
}

#[tokio::test]
async fn an_impossible_length_ends_the_session() {
    for lie in [u32::MAX, 3, u32::try_from(codec::MAX_BODY_BYTES).unwrap() + 5] {
        let cluster = Cluster::of(&["rt1", "t1"]);
        let mut rt1 = cluster.listener("rt1");
        let (_client, _connection, mut stream) = raw_session(&cluster, &mut rt1).await;
        stream.write_all(&[&lie.to_be_bytes()[..], &[1, 0, 0, 6]].concat()).await.unwrap();
        let why = rt1.expect_down("t1").await;
        assert!(matches!(why, DownReason::Protocol(_)), "{lie}: {why:?}");
        assert_eq!(rt1.endpoint.counters().get(Tally::ProtocolErrors), 1, "{lie}");
    }
}

#[tokio::test]
async fn a_peer_that_falls_silent_is_down_after_lost_after() {
    let cluster = Cluster::of(&["rt1", "t1"]);
    let mut rt1 = cluster.listener("rt1");
    // QUIC itself still answers, but the process behind it says nothing any more.
    let (_client, _connection, _stream) = raw_session(&cluster, &mut rt1).await;
    let began = std::time::Instant::now();
    assert_eq!(rt1.expect_down("t1").await, DownReason::Silent);
    assert!(began.elapsed() >= Duration::from_millis(350), "{:?}", began.elapsed());
    assert_eq!(rt1.endpoint.counters().get(Tally::SessionsSilent), 1);
}

#[tokio::test]
async fn garbage_on_the_udp_port_harms_nobody() {
    let cluster = Cluster::of(&["rt1", "t1"]);
    let (mut rt1, t1) = pair(&cluster).await;
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    for round in 0..2000_u32 {
        let length = usize::try_from(round % 1400).unwrap();
        let garbage: Vec<u8> =
            (0..length).map(|i| (i as u32 ^ round).wrapping_mul(0x9e37_79b1).to_be_bytes()[0]).collect();
        let _ = socket.send_to(&garbage, rt1.address()).await;
    }
    t1.endpoint.send(&name("rt1"), &load(2)).unwrap();
    match rt1.next().await {
        Event::Message { message, .. } => assert_eq!(message, load(2)),
        other => panic!("{other:?}"),
    }
}

/// What an agent stands for, its kernel goes on with: nothing is taken from it before it is lost.
#[tokio::test]
async fn a_process_of_this_host_that_ends_without_a_goodbye_is_silent() {
    let cluster = Cluster::of_two(true);
    let mut rt1 = cluster.listener("rt1");
    let socket = beside::reach(rt1.address()).expect("it listens beside its address");
    let tls = Arc::new(tls::client(&cluster.identity("t1"), FromStack::PROTOCOL).unwrap());
    let mut stream = beside::dial(socket, &name("rt1"), tls).await.unwrap();
    stream.write_all(&hello("t1")).await.unwrap();
    rt1.expect_up("t1").await;
    drop(stream);
    assert!(rt1.next_within(Duration::from_millis(150)).await.is_none());
    assert_eq!(rt1.expect_down("t1").await, DownReason::Silent);
}

#[tokio::test]
async fn a_listener_of_this_host_that_accepts_nothing_is_not_waited_for() {
    let address = SocketAddr::from(([127, 0, 0, 1], 9));
    let full = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
    full.bind(&SockAddr::unix(format!("\0baton/sessions/{address}")).unwrap()).unwrap();
    full.listen(0).unwrap();
    let waiting: Vec<_> = std::iter::from_fn(|| beside::reach(address)).take(10).collect();
    assert!(waiting.len() < 10, "it takes them all");
}

#[tokio::test]
async fn a_process_of_this_host_that_is_no_stack_does_not_keep_others_from_quic() {
    let cluster = Cluster::of(&["rt1", "t1"]);
    let mut rt1 = cluster.listener("rt1");
    let other = beside::listen(rt1.address()).unwrap();
    let hangs_up = tokio::spawn(async move { while other.accept().await.is_ok() {} });
    let settings = Settings { beside: true, ..cluster.settings(1) };
    let mut t1 = Node::<FromStack>::bind(Listen::DialOnly, &cluster.identity("t1"), settings);
    t1.endpoint.dial(name("rt1"), rt1.address());
    rt1.expect_up("t1").await;
    t1.expect_up("rt1").await;
    hangs_up.abort();
}
