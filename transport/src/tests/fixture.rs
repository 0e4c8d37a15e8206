//! One way to build a cluster on loopback.

use std::net::SocketAddr;
use std::time::Duration;

use model::StackName;
use model::message::{FromStack, Hello, Load, Newconn, ToStack};
use tempfile::TempDir;

use crate::outbox::Sent;
use crate::{Endpoint, Event, Events, Identity, IdentityFiles, Listen, Settings, Tally, pki};

pub(super) fn name(text: &str) -> StackName {
    StackName::new(text).unwrap()
}

/// A directory of certificates.
pub(super) struct Cluster {
    dir: TempDir,
    beside: bool,
}

impl Cluster {
    pub(super) fn of(stacks: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        pki::init(dir.path()).unwrap();
        for stack in stacks {
            pki::issue(dir.path(), &name(stack), 1).unwrap();
        }
        Self { dir, beside: false }
    }

    /// `rt1` and `t1`, over QUIC or beside each other.
    pub(super) fn of_two(beside: bool) -> Self {
        Self { beside, ..Self::of(&["rt1", "t1"]) }
    }

    pub(super) fn settings(&self, incarnation: u64) -> Settings {
        Settings { beside: self.beside, ..settings(incarnation) }
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

    pub(super) fn listener(&self, stack: &str) -> Node<ToStack> {
        Node::bind(Listen::At(SocketAddr::from(([127, 0, 0, 1], 0))), &self.identity(stack), self.settings(1))
    }

    pub(super) fn dialler(&self, stack: &str) -> Node<FromStack> {
        Node::bind(Listen::DialOnly, &self.identity(stack), self.settings(1))
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
        beside: false,
    }
}

/// An endpoint and its events.
pub(super) struct Node<S: Sent> {
    pub(super) endpoint: Endpoint<S>,
    pub(super) events: Events<S>,
}

impl<S: Sent<Other: std::fmt::Debug>> Node<S> {
    pub(super) fn bind(listen: Listen, identity: &Identity, settings: Settings) -> Self {
        let (endpoint, events) = Endpoint::bind(listen, identity, settings).unwrap();
        Self { endpoint, events }
    }

    /// Binds where another endpoint was closed a moment ago.
    pub(super) async fn bind_again(address: SocketAddr, identity: &Identity, settings: Settings) -> Self {
        for _ in 0..500 {
            match Endpoint::bind(Listen::At(address), identity, settings.clone()) {
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
    pub(super) async fn next(&mut self) -> Event<S::Other> {
        let event = tokio::time::timeout(Duration::from_secs(10), self.events.recv()).await;
        event.expect("no event within 10 s").expect("the endpoint is closed")
    }

    /// The next event, if one comes within `time`.
    pub(super) async fn next_within(&mut self, time: Duration) -> Option<Event<S::Other>> {
        tokio::time::timeout(time, self.events.recv()).await.ok().flatten()
    }

    pub(super) async fn expect_up(&mut self, peer: &str) -> Hello {
        match self.next().await {
            Event::Up { peer: who, hello, .. } if who == name(peer) => hello,
            other => panic!("expected {peer} up, got {other:?}"),
        }
    }

    pub(super) async fn expect_message(&mut self, peer: &str) -> S::Other {
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
pub(super) async fn pair(cluster: &Cluster) -> (Node<ToStack>, Node<FromStack>) {
    let (mut rt1, mut t1) = (cluster.listener("rt1"), cluster.dialler("t1"));
    t1.endpoint.dial(name("rt1"), rt1.address());
    rt1.expect_up("t1").await;
    t1.expect_up("rt1").await;
    assert_eq!(rt1.endpoint.counters().get(Tally::SessionsBeside), u64::from(cluster.beside));
    (rt1, t1)
}

pub(super) fn load(cpu_permille: u16) -> FromStack {
    FromStack::Load(Load { cpu_permille, ..Load::default() })
}

/// A NEWCONN of `count` connections.
pub(super) fn newconn(count: u16) -> FromStack {
    let connections = (0..count).map(connection).collect();
    FromStack::Newconn(Newconn { first: false, last: false, connections })
}

/// One from this port.
pub(super) fn connection(port: u16) -> model::codec::WireConnection {
    let client = SocketAddr::from(([198, 18, 0, 2], port));
    let dvipa = SocketAddr::from(([198, 18, 9, 1], 80));
    model::codec::WireConnection(model::Connection::new(model::Protocol::Tcp, client, dvipa).unwrap())
}
