//! What well-behaved peers see.

use std::net::SocketAddr;
use std::time::Duration;

use model::message::{Message, VipaList};

use super::fixture::{Cluster, Node, load, name, newconn, pair, settings};
use crate::{DownReason, Endpoint, Event, Listen, PeerState, SendError, Settings, Tally};

#[tokio::test]
async fn both_sides_hear_a_hello_with_the_name_of_the_certificate() {
    let cluster = Cluster::of(&["rt1", "t1"]);
    let (mut rt1, mut t1) = (cluster.listener("rt1"), cluster.dialler("t1"));
    t1.endpoint.dial(name("rt1"), rt1.address());
    assert_eq!(rt1.expect_up("t1").await.stack, "t1");
    assert_eq!(t1.expect_up("rt1").await.stack, "rt1");
    let peers = t1.endpoint.peers();
    assert!(matches!(peers.as_slice(), [p] if p.state == PeerState::Up), "{peers:?}");
}

#[tokio::test]
async fn messages_of_one_kind_group_keep_their_order() {
    let cluster = Cluster::of(&["rt1", "t1"]);
    let (mut rt1, t1) = pair(&cluster).await;
    for round in 0..200 {
        t1.endpoint.send(&name("rt1"), &newconn(round)).unwrap();
    }
    for round in 0..200 {
        assert_eq!(rt1.expect_message("t1").await, newconn(round), "message {round}");
    }
}

#[tokio::test]
async fn a_big_account_does_not_hold_up_a_load() {
    let cluster = Cluster::of(&["rt1", "t1"]);
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
    assert_eq!(rt1.endpoint.send(&name("t1"), &load(1)), Err(SendError::NoSession(name("t1"))));
}

#[tokio::test]
async fn a_goodbye_is_heard_at_once_and_the_peer_is_dialled_again_when_it_is_back() {
    let cluster = Cluster::of(&["rt1", "t1"]);
    let (rt1, mut t1) = pair(&cluster).await;
    let address = rt1.address();
    rt1.endpoint.close().await;
    drop(rt1);
    assert_eq!(t1.expect_down("rt1").await, DownReason::Closed);
    let mut rt1 = Node::bind_again(address, &cluster.identity("rt1"), 2).await;
    assert_eq!(t1.expect_up("rt1").await.incarnation, 2);
    rt1.expect_up("t1").await;
    t1.endpoint.send(&name("rt1"), &load(3)).unwrap();
    assert_eq!(rt1.expect_message("t1").await, load(3));
}

#[tokio::test]
async fn a_new_session_of_a_peer_ends_the_former_one_first() {
    let cluster = Cluster::of(&["rt1", "t1"]);
    let (mut rt1, old) = pair(&cluster).await;
    for _ in 0..50 {
        old.endpoint.send(&name("rt1"), &newconn(100)).unwrap();
    }
    let mut new = Node::bind(Listen::DialOnly, &cluster.identity("t1"), 2);
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

#[tokio::test]
async fn a_quiet_session_stays_up() {
    let cluster = Cluster::of(&["rt1", "t1"]);
    let (mut rt1, mut t1) = pair(&cluster).await;
    let time = Duration::from_millis(1200);
    let (a, b) = tokio::join!(rt1.next_within(time), t1.next_within(time));
    assert!(a.is_none() && b.is_none(), "{a:?} {b:?}");
}

#[tokio::test]
async fn a_reader_that_sleeps_longer_than_lost_after_keeps_its_sessions() {
    let cluster = Cluster::of(&["rt1", "t1"]);
    let (mut rt1, t1) = pair(&cluster).await;
    for _ in 0..100 {
        t1.endpoint.send(&name("rt1"), &newconn(u16::MAX)).unwrap();
    }
    tokio::time::sleep(Duration::from_millis(1200)).await;
    for part in 0..100 {
        assert_eq!(rt1.expect_message("t1").await, newconn(u16::MAX), "part {part}");
    }
}

#[tokio::test]
async fn the_queue_to_a_slow_peer_is_bounded_and_breaks_the_session() {
    let cluster = Cluster::of(&["rt1", "t1"]);
    let (_rt1, mut t1) = pair(&cluster).await;
    // `rt1` never receives its events.
    let part = newconn(u16::MAX);
    let refused = (0..4096).find_map(|_| t1.endpoint.send(&name("rt1"), &part).err());
    assert_eq!(refused, Some(SendError::QueueFull(name("rt1"))));
    assert_eq!(t1.expect_down("rt1").await, DownReason::QueueFull);
    assert_eq!(t1.endpoint.counters().get(Tally::QueuesFull), 1);
}

#[tokio::test]
async fn the_events_of_a_closed_endpoint_end_with_the_last_session() {
    let cluster = Cluster::of(&["rt1", "t1"]);
    let (rt1, mut t1) = pair(&cluster).await;
    t1.endpoint.close().await;
    assert_eq!(t1.expect_down("rt1").await, DownReason::HungUp);
    assert!(t1.events.recv().await.is_none());
    drop(rt1);
}

#[tokio::test]
async fn hanging_up_ends_the_session_and_the_dialling() {
    let cluster = Cluster::of(&["rt1", "t1"]);
    let (mut rt1, mut t1) = pair(&cluster).await;
    t1.endpoint.hang_up(&name("rt1"));
    assert_eq!(t1.expect_down("rt1").await, DownReason::HungUp);
    assert_eq!(rt1.expect_down("t1").await, DownReason::Closed);
    assert!(t1.next_within(Duration::from_millis(600)).await.is_none());
    assert!(t1.endpoint.peers().is_empty());
}

#[tokio::test]
async fn an_oversize_message_is_refused_and_the_session_goes_on() {
    let cluster = Cluster::of(&["rt1", "t1"]);
    let (mut rt1, t1) = pair(&cluster).await;
    let forwarders = vec![model::codec::Address([198, 18, 0, 1].into()); 1 << 20];
    let list = Message::VipaList(VipaList { dvipas: Vec::new(), forwarders });
    assert!(matches!(t1.endpoint.send(&name("rt1"), &list), Err(SendError::Oversize { .. })));
    t1.endpoint.send(&name("rt1"), &load(1)).unwrap();
    assert_eq!(rt1.expect_message("t1").await, load(1));
}

/// `rt1`, which wants to know who is quiet, and `t1`, which gives a sign of life every 50 ms.
async fn listening_pair(cluster: &Cluster) -> (Node, Node) {
    let quiet = Settings { quiet_after: Some(Duration::from_millis(200)), ..settings(1) };
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
