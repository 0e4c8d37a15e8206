//! A routing stack, played by the test: it says what is distributed and keeps what it is told.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use lab::Namespace;
use model::codec::Address;
use model::message::{
    FromStack, Hello, Listen, Load, Newconn, Srvstat, Termconn, ToStack, VipaList, VipaListDistribution,
    VipaListDvipa,
};
use model::{Connection, Epoch, Protocol, StackName};
use tokio::sync::mpsc;
use transport::{Endpoint, Event, Identity, IdentityFiles, Listen as ListenAt, Settings};

use crate::host::{DVIPA_V4, DVIPA_V6, PATIENCE, ROUTING_V4, ROUTING_V6};

/// What the routing stack has heard, put together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Heard {
    pub(crate) session: bool,
    /// The answers to lists in this session: complete accounts that have ended.
    pub(crate) accounts: u32,
    pub(crate) served: BTreeMap<IpAddr, BTreeSet<(Protocol, u16)>>,
    pub(crate) connections: BTreeSet<Connection>,
    pub(crate) load: Option<Load>,
}

impl Heard {
    /// Whether this port of the DVIPA is served.
    pub(crate) fn serves(&self, dvipa: IpAddr, protocol: Protocol, port: u16) -> bool {
        self.served.get(&dvipa).is_some_and(|s| s.contains(&(protocol, port)))
    }

    fn hear(&mut self, event: Event<FromStack>) {
        match event {
            Event::Up { .. } => *self = Self { session: true, ..Self::default() },
            Event::Greets { .. } | Event::Quiet { .. } | Event::Heard { .. } => {}
            Event::Down { .. } => self.session = false,
            Event::Misdirected { message, .. } => panic!("an agent says {message}"),
            Event::Message { message, .. } => self.message(message),
        }
    }

    fn message(&mut self, message: FromStack) {
        match message {
            FromStack::Srvstat(Srvstat { dvipa, complete, listens, .. }) => {
                let served = self.served.entry(dvipa.0).or_default();
                if complete {
                    served.clear();
                }
                for Listen { protocol, port, listening } in listens {
                    if listening {
                        served.insert((protocol, port))
                    } else {
                        served.remove(&(protocol, port))
                    };
                }
            }
            FromStack::Newconn(Newconn { first, last, connections }) => {
                if first {
                    self.connections.clear();
                }
                self.connections.extend(connections.into_iter().map(|c| c.0));
                self.accounts += u32::from(last);
            }
            FromStack::Termconn(Termconn { connections }) => {
                for connection in connections {
                    self.connections.remove(&connection.0);
                }
            }
            FromStack::Told(told) => self.accounts += u32::from(told.since.is_some()),
            FromStack::Load(load) => self.load = Some(load),
            FromStack::Transfer(_)
            | FromStack::Ownership(_)
            | FromStack::Applications(_)
            | FromStack::Stays(_)
            | FromStack::After(_)
            | FromStack::Choose(_)
            | FromStack::View(_)
            | FromStack::PortsHeld(_)
            | FromStack::Bound(_)
            | FromStack::TokensGiven(_)
            | FromStack::Declined(_)
            | FromStack::Looked(_)
            | FromStack::Stalled(_)
            | FromStack::Say(_) => {}
        }
    }
}

type Shared = Arc<(Mutex<Heard>, Condvar)>;

/// The routing stack `rt1`.
pub(crate) struct RoutingStack {
    heard: Shared,
    send: mpsc::UnboundedSender<ToStack>,
}

impl RoutingStack {
    /// Accepts sessions in this namespace.
    pub(crate) fn start(namespace: &Namespace, pki: &Path) -> Self {
        let name: StackName = "rt1".parse().unwrap();
        let files = IdentityFiles {
            ca: pki.join("ca.pem"),
            certificate: pki.join("rt1.pem"),
            key: pki.join("rt1.key"),
        };
        let identity = Identity::load(&files, &name).unwrap();
        let heard = Shared::default();
        let (send, outgoing) = mpsc::unbounded_channel();
        let into = Arc::clone(&heard);
        // A new thread is in its parent's namespace.
        namespace.enter(|| {
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(play(identity, into, outgoing));
            });
        });
        Self { heard, send }
    }

    /// Tells the agent what is distributed.
    pub(crate) fn list(&self, distributions: &[VipaListDistribution]) {
        self.list_with(&[], distributions);
    }

    /// The same of these addresses too: the answer to a list with others than the last one had is a complete account.
    pub(crate) fn list_with(&self, others: &[IpAddr], distributions: &[VipaListDistribution]) {
        let entry = |address| VipaListDvipa {
            address: Address(address),
            epoch: Epoch(1),
            owner: true,
            rank: 255,
            distributions: distributions.to_vec(),
            forwards: None,
        };
        let dvipas = [DVIPA_V4, DVIPA_V6].iter().chain(others).copied().map(entry).collect();
        let forwarders = vec![Address(ROUTING_V4.into()), Address(ROUTING_V6.into())];
        self.send_list(VipaList { dvipas, forwarders, ..VipaList::default() });
    }

    /// Sends a list, and waits until it is answered.
    pub(crate) fn send_list(&self, list: VipaList) {
        let before = self.heard().accounts;
        self.send.send(ToStack::VipaList(list)).unwrap();
        self.wait("an answer to the list", |heard| heard.accounts > before);
    }

    /// What was heard until now.
    pub(crate) fn heard(&self) -> Heard {
        self.heard.0.lock().unwrap().clone()
    }

    /// Waits until what was heard is as it should be, and says how long it took.
    pub(crate) fn wait(&self, what: &str, condition: impl Fn(&Heard) -> bool) -> Duration {
        let began = Instant::now();
        let heard = self.heard.0.lock().unwrap();
        let (heard, timeout) = self.heard.1.wait_timeout_while(heard, PATIENCE, |h| !condition(h)).unwrap();
        assert!(!timeout.timed_out(), "waited without success for {what}; heard {heard:#?}");
        began.elapsed()
    }
}

/// A distribution to all candidates.
pub(crate) fn to_all(protocol: Protocol, ports: &[u16]) -> VipaListDistribution {
    VipaListDistribution { protocol, ports: ports.to_vec(), candidates: Vec::new(), content_routed: None }
}

async fn play(identity: Identity, heard: Shared, mut outgoing: mpsc::UnboundedReceiver<ToStack>) {
    let hello = Hello {
        stack: "rt1".to_owned(),
        cluster_addresses: vec![Address(ROUTING_V4.into())],
        incarnation: 1,
        version: "test".to_owned(),
        ..Hello::default()
    };
    let (heartbeat, lost_after) = (Duration::from_millis(100), Duration::from_secs(1));
    let settings = Settings { hello, heartbeat, quiet_after: None, lost_after, beside: true };
    let at = ListenAt::At((ROUTING_V4, 7440).into());
    let (endpoint, mut events) = Endpoint::bind(at, &identity, settings).unwrap();
    let agent: StackName = "t1".parse().unwrap();
    loop {
        tokio::select! {
            Some(event) = events.recv() => {
                heard.0.lock().unwrap().hear(event);
                heard.1.notify_all();
            }
            message = outgoing.recv() => match message {
                Some(message) => endpoint.send(&agent, &message).unwrap(),
                None => return,
            },
        }
    }
}
