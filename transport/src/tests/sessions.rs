//! What well-behaved peers see.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use model::codec::WireConnection;
use model::message::{FromStack, Newconn, ToStack, VipaList};
use model::transfer::{About, FromHost, FromSource, Parcel, TransferId};
use model::{Connection, Epoch, Protocol};

use super::fixture::{Cluster, Node, connection, load, name, newconn, pair};
use crate::{DownReason, Endpoint, Event, Listen, PeerState, SendError, Settings, Tally};

/// Sessions are the same over QUIC and beside each other.
macro_rules! both_ways {
    ($($name:ident,)+) => {
        mod over_quic {
            $(#[tokio::test]
            async fn $name() {
                super::$name(super::Cluster::of_two(false)).await;
            })+
        }
        mod beside {
            $(#[tokio::test]
            async fn $name() {
                super::$name(super::Cluster::of_two(true)).await;
            })+
        }
    };
}

both_ways! {
    large_connections_arrive_whole_and_keep_the_others_waiting_for_their_share_only,
    another_hello_reaches_a_peer_at_once_and_in_its_next_session,
    both_sides_hear_a_hello_with_the_name_of_the_certificate,
    messages_of_one_kind_group_keep_their_order,
    a_big_account_does_not_hold_up_a_load,
    a_goodbye_is_heard_at_once_and_the_peer_is_dialled_again_when_it_is_back,
    a_new_session_of_a_peer_ends_the_former_one_first,
    a_quiet_session_stays_up,
    a_reader_that_sleeps_longer_than_lost_after_keeps_its_sessions,
    the_queue_to_a_slow_peer_is_bounded_and_breaks_the_session,
    the_events_of_a_closed_endpoint_end_with_the_last_session,
    hanging_up_ends_the_session_and_the_dialling,
    an_oversize_message_is_refused_and_the_session_goes_on,
}

async fn both_sides_hear_a_hello_with_the_name_of_the_certificate(cluster: Cluster) {
    let (mut rt1, mut t1) = (cluster.listener("rt1"), cluster.dialler("t1"));
    t1.endpoint.dial(name("rt1"), rt1.address());
    assert_eq!(rt1.expect_up("t1").await.stack, "t1");
    assert_eq!(t1.expect_up("rt1").await.stack, "rt1");
    let peers = t1.endpoint.peers();
    assert!(matches!(peers.as_slice(), [p] if p.state == PeerState::Up), "{peers:?}");
}

async fn another_hello_reaches_a_peer_at_once_and_in_its_next_session(cluster: Cluster) {
    let (mut rt1, t1) = pair(&cluster).await;
    t1.endpoint.greet_again(|hello| hello.fabric_mtu = Some(9000));
    let Event::Greets { hello, .. } = rt1.next().await else { panic!("a HELLO") };
    assert_eq!((hello.stack.as_str(), hello.fabric_mtu), ("t1", Some(9000)));
    t1.endpoint.hang_up(&name("rt1"));
    rt1.expect_down("t1").await;
    t1.endpoint.dial(name("rt1"), rt1.address());
    assert_eq!(rt1.expect_up("t1").await.fabric_mtu, Some(9000));
}

async fn messages_of_one_kind_group_keep_their_order(cluster: Cluster) {
    let (mut rt1, t1) = pair(&cluster).await;
    for round in 0..200 {
        t1.endpoint.send(&name("rt1"), &newconn(round)).unwrap();
    }
    for round in 0..200 {
        assert_eq!(rt1.expect_message("t1").await, newconn(round), "message {round}");
    }
}

async fn a_big_account_does_not_hold_up_a_load(cluster: Cluster) {
    let (mut rt1, t1) = pair(&cluster).await;
    // More than the receiver takes while nobody reads its events.
    for _ in 0..40 {
        t1.endpoint.send(&name("rt1"), &newconn(u16::MAX)).unwrap();
    }
    t1.endpoint.send(&name("rt1"), &load(7)).unwrap();
    let mut before = 0;
    while rt1.expect_message("t1").await != load(7) {
        before += 1;
    }
    assert!(before < 40, "the LOAD came after all {before} parts of the account");
}

#[tokio::test]
async fn nothing_can_be_sent_without_a_session() {
    let cluster = Cluster::of(&["rt1"]);
    let rt1 = cluster.listener("rt1");
    let list = ToStack::VipaList(VipaList::default());
    assert_eq!(rt1.endpoint.send(&name("t1"), &list), Err(SendError::NoSession(name("t1"))));
}

async fn a_goodbye_is_heard_at_once_and_the_peer_is_dialled_again_when_it_is_back(cluster: Cluster) {
    let (rt1, mut t1) = pair(&cluster).await;
    let address = rt1.address();
    rt1.endpoint.close().await;
    drop(rt1);
    assert_eq!(t1.expect_down("rt1").await, DownReason::Closed);
    let mut rt1 = Node::<ToStack>::bind_again(address, &cluster.identity("rt1"), cluster.settings(2)).await;
    assert_eq!(t1.expect_up("rt1").await.incarnation, 2);
    rt1.expect_up("t1").await;
    t1.endpoint.send(&name("rt1"), &load(3)).unwrap();
    assert_eq!(rt1.expect_message("t1").await, load(3));
}

#[tokio::test]
async fn a_peer_that_is_gone_leaves_its_place_to_another() {
    let cluster = Cluster::of(&["rt1", "t1"]);
    let (mut rt1, t1) = pair(&cluster).await;
    assert_eq!(rt1.endpoint.known_peers(), 1);
    t1.endpoint.close().await;
    rt1.expect_down("t1").await;
    for _ in 0..1000 {
        if rt1.endpoint.known_peers() == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("its place is kept");
}

async fn a_new_session_of_a_peer_ends_the_former_one_first(cluster: Cluster) {
    let (mut rt1, old) = pair(&cluster).await;
    for _ in 0..50 {
        old.endpoint.send(&name("rt1"), &newconn(100)).unwrap();
    }
    let mut new = Node::bind(Listen::DialOnly, &cluster.identity("t1"), cluster.settings(2));
    new.endpoint.dial(name("rt1"), rt1.address());
    new.expect_up("rt1").await;
    new.endpoint.send(&name("rt1"), &load(9)).unwrap();
    // The former process would dial again and take the name back.
    old.endpoint.close().await;
    let why = loop {
        match rt1.next().await {
            Event::Message { message, .. } => assert_eq!(message, newconn(100), "of the former session only"),
            Event::Down { why, .. } => break why,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(why, DownReason::Replaced);
    assert_eq!(rt1.expect_up("t1").await.incarnation, 2);
    assert_eq!(rt1.expect_message("t1").await, load(9));
    assert_eq!(rt1.endpoint.counters().get(Tally::SessionsReplaced), 1);
}

async fn a_quiet_session_stays_up(cluster: Cluster) {
    let (mut rt1, mut t1) = pair(&cluster).await;
    let time = Duration::from_millis(1200);
    let (a, b) = tokio::join!(rt1.next_within(time), t1.next_within(time));
    assert!(a.is_none() && b.is_none(), "{a:?} {b:?}");
}

async fn a_reader_that_sleeps_longer_than_lost_after_keeps_its_sessions(cluster: Cluster) {
    let (mut rt1, t1) = pair(&cluster).await;
    for _ in 0..100 {
        t1.endpoint.send(&name("rt1"), &newconn(u16::MAX)).unwrap();
    }
    tokio::time::sleep(Duration::from_millis(1200)).await;
    for part in 0..100 {
        assert_eq!(rt1.expect_message("t1").await, newconn(u16::MAX), "part {part}");
    }
}

async fn the_queue_to_a_slow_peer_is_bounded_and_breaks_the_session(cluster: Cluster) {
    let (_rt1, mut t1) = pair(&cluster).await;
    // `rt1` never receives its events.
    let part = newconn(u16::MAX);
    let refused = (0..4096).find_map(|_| t1.endpoint.send(&name("rt1"), &part).err());
    assert_eq!(refused, Some(SendError::QueueFull(name("rt1"))));
    assert_eq!(t1.expect_down("rt1").await, DownReason::QueueFull);
    assert_eq!(t1.endpoint.counters().get(Tally::QueuesFull), 1);
}

async fn large_connections_arrive_whole_and_keep_the_others_waiting_for_their_share_only(cluster: Cluster) {
    let (mut rt1, t1) = pair(&cluster).await;
    let send = |message: &FromStack| t1.endpoint.send(&name("rt1"), message).expect("there is room");
    // 200 MiB in the queues of fifty connections that move.
    let parts: Vec<_> = (0..50).flat_map(|client| parts_of(client, 4 << 20)).collect();
    parts.iter().for_each(&send);
    send(&load(1));
    send(&newconn(1));
    let small = parts_of(50, 100).remove(0);
    send(&small);
    let (mut came, mut before) = (BTreeMap::<Connection, Vec<FromStack>>::new(), Vec::new());
    for _ in 0..parts.len() + 3 {
        let message = rt1.expect_message("t1").await;
        match &message {
            FromStack::Transfer(FromHost::Source(FromSource::Part(part))) if message != small => {
                came.entry(part.about.connection.0).or_default().push(message);
            }
            _ => before.push(came.values().map(Vec::len).sum::<usize>()),
        }
    }
    let sent = |client| parts_of(client, 4 << 20);
    assert_eq!(came.len(), 50);
    for (client, came) in came.into_values().enumerate() {
        assert!(came == sent(client as u16), "those of connection {client} came in their order");
    }
    // With one stream for all the last of them came after all parts.
    assert!(before.iter().all(|parts_before| *parts_before < parts.len() / 2), "{before:?}");
}

async fn the_events_of_a_closed_endpoint_end_with_the_last_session(cluster: Cluster) {
    let (rt1, mut t1) = pair(&cluster).await;
    t1.endpoint.close().await;
    assert_eq!(t1.expect_down("rt1").await, DownReason::HungUp);
    assert!(t1.events.recv().await.is_none());
    drop(rt1);
}

async fn hanging_up_ends_the_session_and_the_dialling(cluster: Cluster) {
    let (mut rt1, mut t1) = pair(&cluster).await;
    t1.endpoint.hang_up(&name("rt1"));
    assert_eq!(t1.expect_down("rt1").await, DownReason::HungUp);
    assert_eq!(rt1.expect_down("t1").await, DownReason::Closed);
    assert!(t1.next_within(Duration::from_millis(600)).await.is_none());
    assert!(t1.endpoint.peers().is_empty());
}

async fn an_oversize_message_is_refused_and_the_session_goes_on(cluster: Cluster) {
    let (mut rt1, t1) = pair(&cluster).await;
    let connections = vec![connection(1000); 1 << 20];
    let account = FromStack::Newconn(Newconn { first: true, last: true, connections });
    assert!(matches!(t1.endpoint.send(&name("rt1"), &account), Err(SendError::Oversize { .. })));
    t1.endpoint.send(&name("rt1"), &load(1)).unwrap();
    assert_eq!(rt1.expect_message("t1").await, load(1));
}

/// What is sent of a connection with so many bytes in its queues.
fn parts_of(client: u16, bytes: usize) -> Vec<FromStack> {
    let client = SocketAddr::from(([198, 18, 0, 2], 1024 + client));
    let connection = Connection::new(Protocol::Tcp, client, ([198, 18, 9, 1], 80).into()).unwrap();
    let transfer = TransferId { incarnation: 1, number: client.port().into() };
    let about = About { connection: WireConnection(connection), transfer, epoch: Epoch(1) };
    let parcel = Parcel { socket: vec![0; bytes], application: Vec::new() };
    let part = |part| FromStack::Transfer(FromHost::Source(FromSource::Part(part)));
    parcel.parts(about).unwrap().into_iter().map(part).collect()
}

/// `rt1`, which wants to know who is quiet, and `t1`, which gives a sign of life every 50 ms.
async fn listening_pair(cluster: &Cluster) -> (Node<ToStack>, Node<FromStack>) {
    let quiet = Settings { quiet_after: Some(Duration::from_millis(200)), ..cluster.settings(1) };
    let at = Listen::At(SocketAddr::from(([127, 0, 0, 1], 0)));
    let (endpoint, events) = Endpoint::bind(at, &cluster.identity("rt1"), quiet).unwrap();
    let (mut rt1, mut t1) = (Node { endpoint, events }, cluster.dialler("t1"));
    t1.endpoint.dial(name("rt1"), rt1.address());
    rt1.expect_up("t1").await;
    t1.expect_up("rt1").await;
    (rt1, t1)
}

#[tokio::test]
async fn a_peer_that_is_heard_is_not_quiet() {
    let (mut rt1, _t1) = listening_pair(&Cluster::of(&["rt1", "t1"])).await;
    assert!(rt1.next_within(Duration::from_millis(1200)).await.is_none());
}

/// As while a cluster is upgraded.
#[tokio::test]
async fn a_stack_of_this_host_that_is_not_beside_its_address_is_met_over_quic() {
    let cluster = Cluster::of(&["rt1", "t1"]);
    let beside = Settings { beside: true, ..cluster.settings(1) };
    let mut rt1 = cluster.listener("rt1");
    let mut t1 = Node::<FromStack>::bind(Listen::DialOnly, &cluster.identity("t1"), beside);
    t1.endpoint.dial(name("rt1"), rt1.address());
    rt1.expect_up("t1").await;
    t1.expect_up("rt1").await;
    assert_eq!(t1.endpoint.counters().get(Tally::SessionsBeside), 0);
}

#[tokio::test]
async fn a_stack_of_another_cluster_is_refused_also_beside() {
    let (ours, theirs) = (Cluster::of_two(true), Cluster::of_two(true));
    let (mut rt1, t1) = (ours.listener("rt1"), theirs.dialler("t1"));
    t1.endpoint.dial(name("rt1"), rt1.address());
    assert!(rt1.next_within(Duration::from_millis(600)).await.is_none());
    assert!(rt1.endpoint.counters().get(Tally::Unauthenticated) > 0);
}
