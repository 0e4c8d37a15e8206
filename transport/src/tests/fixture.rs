//! One way to build a cluster on loopback.

use std::net::SocketAddr;
use std::time::Duration;

use model::StackName;
use model::message::{Hello, Load, Message, Newconn};
use tempfile::TempDir;

use crate::{Endpoint, Event, Events, Identity, IdentityFiles, Listen, Settings, pki};

pub(super) fn name(text: &str) -> StackName {
    StackName::new(text).unwrap()
}

/// A directory of certificates.
pub(super) struct Cluster {
    dir: TempDir,
}

impl Cluster {
    pub(super) fn of(stacks: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        pki::init(dir.path()).unwrap();
        for stack in stacks {
            pki::issue(dir.path(), &name(stack), 1).unwrap();
        }
        Self { dir }
    }

    pub(super) fn identity(&self, stack: &str) -> Identity {
        let at = |file: &str| self.dir.path().join(file);
        let files = IdentityFiles {
            ca: at("ca.pem"),
            certificate: at(&format!("{stack}.pem")),
            key: at(&format!("{stack}.key")),
        };
        Identity::load(&files, &name(stack)).unwrap()
    }

    pub(super) fn listener(&self, stack: &str) -> Node {
        Node::bind(Listen::At(SocketAddr::from(([127, 0, 0, 1], 0))), &self.identity(stack), 1)
    }

    pub(super) fn dialler(&self, stack: &str) -> Node {
        Node::bind(Listen::DialOnly, &self.identity(stack), 1)
    }
}

pub(super) fn settings(incarnation: u64) -> Settings {
    let hello = Hello {
        stack: String::new(),
        cluster_addresses: Vec::new(),
        incarnation,
        version: "test".into(),
        ..Hello::default()
    };
    Settings {
        hello,
        heartbeat: Duration::from_millis(50),
        quiet_after: None,
        lost_after: Duration::from_millis(400),
    }
}

/// An endpoint and its events.
pub(super) struct Node {
    pub(super) endpoint: Endpoint,
    pub(super) events: Events,
}

impl Node {
    pub(super) fn bind(listen: Listen, identity: &Identity, incarnation: u64) -> Self {
        let (endpoint, events) = Endpoint::bind(listen, identity, settings(incarnation)).unwrap();
        Self { endpoint, events }
    }

    /// Binds where another endpoint was closed a moment ago.
    pub(super) async fn bind_again(address: SocketAddr, identity: &Identity, incarnation: u64) -> Self {
        for _ in 0..500 {
            match Endpoint::bind(Listen::At(address), identity, settings(incarnation)) {
                Ok((endpoint, events)) => return Self { endpoint, events },
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
        panic!("{address} stays in use");
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.endpoint.local_addr().unwrap()
    }

    /// The next event, or a failed test after 10 s.
    pub(super) async fn next(&mut self) -> Event {
        let event = tokio::time::timeout(Duration::from_secs(10), self.events.recv()).await;
        event.expect("no event within 10 s").expect("the endpoint is closed")
    }

    /// The next event, if one comes within `time`.
    pub(super) async fn next_within(&mut self, time: Duration) -> Option<Event> {
        tokio::time::timeout(time, self.events.recv()).await.ok().flatten()
    }

    pub(super) async fn expect_up(&mut self, peer: &str) -> Hello {
        match self.next().await {
            Event::Up { peer: who, hello, .. } if who == name(peer) => hello,
            other => panic!("expected {peer} up, got {other:?}"),
        }
    }

    pub(super) async fn expect_message(&mut self, peer: &str) -> Message {
        match self.next().await {
            Event::Message { peer: who, message } if who == name(peer) => message,
            other => panic!("expected a message of {peer}, got {other:?}"),
        }
    }

    pub(super) async fn expect_down(&mut self, peer: &str) -> crate::DownReason {
        match self.next().await {
            Event::Down { peer: who, why } if who == name(peer) => why,
            other => panic!("expected {peer} down, got {other:?}"),
        }
    }
}

/// `rt1`, and `t1` that dialled it, both up.
pub(super) async fn pair(cluster: &Cluster) -> (Node, Node) {
    let (mut rt1, mut t1) = (cluster.listener("rt1"), cluster.dialler("t1"));
    t1.endpoint.dial(name("rt1"), rt1.address());
    rt1.expect_up("t1").await;
    t1.expect_up("rt1").await;
    (rt1, t1)
}

pub(super) fn load(cpu_permille: u16) -> Message {
    Message::Load(Load { cpu_permille, ..Load::default() })
}

/// A NEWCONN of `count` connections.
pub(super) fn newconn(count: u16) -> Message {
    let connection = |port| {
        let client = SocketAddr::from(([198, 18, 0, 2], port));
        let dvipa = SocketAddr::from(([198, 18, 9, 1], 80));
        model::codec::WireConnection(model::Connection::new(model::Protocol::Tcp, client, dvipa).unwrap())
    };
    Message::Newconn(Newconn { first: false, last: false, connections: (0..count).map(connection).collect() })
}
