//! Sessions between routing stacks.

use std::net::SocketAddr;
use std::time::Duration;

use model::message::FromStack;
use model::peer::{Accounted, ToPeer};

use super::fixture::{Cluster, Node, name};
use crate::{Listen, PeerState};

fn anywhere() -> Listen {
    Listen::At(SocketAddr::from(([127, 0, 0, 1], 0)))
}

fn peer(cluster: &Cluster, stack: &str) -> Node<ToPeer> {
    Node::bind(anywhere(), &cluster.identity(stack), cluster.settings(1))
}

#[tokio::test]
async fn routing_stacks_speak_both_ways_in_one_session() {
    let cluster = Cluster::of(&["rt1", "rt2"]);
    let (mut rt1, mut rt2) = (peer(&cluster, "rt1"), peer(&cluster, "rt2"));
    rt1.endpoint.dial(name("rt2"), rt2.address());
    rt1.expect_up("rt2").await;
    rt2.expect_up("rt1").await;
    let said = |stack| ToPeer::Accounted(Accounted { stacks: vec![name(stack)] });
    rt1.endpoint.send(&name("rt2"), &said("t1")).unwrap();
    rt2.endpoint.send(&name("rt1"), &said("t2")).unwrap();
    assert_eq!(rt2.expect_message("rt1").await, said("t1"));
    assert_eq!(rt1.expect_message("rt2").await, said("t2"));
}

/// An agent and the `batond` beside it have one name and one certificate.
#[tokio::test]
async fn an_agent_that_dials_the_port_for_routing_stacks_gets_no_session() {
    let cluster = Cluster::of(&["rt1", "rt2"]);
    let mut rt1 = peer(&cluster, "rt1");
    let agent: Node<FromStack> = cluster.dialler("rt2");
    agent.endpoint.dial(name("rt1"), rt1.address());
    let refused = async {
        while !matches!(agent.endpoint.peers().as_slice(), [p] if matches!(p.state, PeerState::Waiting { .. }))
        {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), refused).await.expect("the handshake fails");
    assert!(rt1.next_within(Duration::from_millis(100)).await.is_none());
}
