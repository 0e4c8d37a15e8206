//! A routing stack, played by the test: the protocol's own machine over real sessions, and a toy forwarder as its CRT.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use lab::Namespace;
use lab::spec::{CLIENT, DVIPA};
use model::codec::{Address, WireConnection};
use model::control_socket::request::Role;
use model::control_socket::{JobName, Target};
use model::handoff::Token;
use model::message::{
    Application, FromStack, Hello, Move, Targets as TargetsMessage, ToStack, VipaList, VipaListDistribution,
    VipaListDvipa,
};
use model::transfer::Reason;
use model::{Connection, ConnectionState, Dvipa, Epoch, Protocol, StackName};
use tokio::sync::mpsc;
use transfer::Routing;
use transfer::routing::{Action, Event, Outcome, Reach, Targets};
use transport::{Endpoint, Event as SessionEvent, Identity, IdentityFiles, Listen, Settings};

use crate::forwarder::{Forwarder, option_of};

pub(crate) const EPOCH: Epoch = Epoch(7);
pub(crate) const PORT: u16 = 80;
const PATIENCE: Duration = Duration::from_secs(30);

/// What the routing stack has seen.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) applications: BTreeMap<StackName, Vec<Application>>,
    pub(crate) serves: BTreeSet<StackName>,
    /// By NEWCONN and TERMCONN.
    pub(crate) connections: BTreeMap<StackName, BTreeSet<Connection>>,
    /// TERMCONN of connections that the machine spoke for.
    pub(crate) talked_over: Vec<(StackName, FromStack)>,
    /// How often a connection was handed over to a listener, repetitions not counted.
    pub(crate) handed_over: usize,
    pub(crate) outcomes: Vec<Outcome>,
    /// Who has sent an account in the present session.
    pub(crate) accounts: BTreeSet<StackName>,
    /// How many accounts there were.
    pub(crate) answers: usize,
}

type Shared = Arc<(Mutex<Seen>, Condvar)>;

/// What a test has it do.
enum Order {
    Move(Connection, StackName),
    Own(bool),
}

/// The routing stack `rt1`.
pub(crate) struct RoutingStack {
    seen: Shared,
    orders: mpsc::UnboundedSender<Order>,
}

impl RoutingStack {
    /// Accepts sessions in this namespace, under this name.
    pub(crate) fn start(namespace: &Namespace, name: &str, pki: &Path) -> Self {
        let stack: StackName = name.parse().unwrap();
        let files = IdentityFiles {
            ca: pki.join("ca.pem"),
            certificate: pki.join(format!("{name}.pem")),
            key: pki.join(format!("{name}.key")),
        };
        let identity = Identity::load(&files, &stack).unwrap();
        let seen = Shared::default();
        let (orders, ordered) = mpsc::unbounded_channel();
        let (into, client) = (Arc::clone(&seen), namespace.clone());
        // A new thread is in its parent's namespace.
        namespace.enter(|| {
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(play(stack, identity, client, into, ordered));
            });
        });
        Self { seen, orders }
    }

    /// Orders an agent to move a connection.
    pub(crate) fn order(&self, connection: Connection, to: &str) {
        self.orders.send(Order::Move(connection, to.parse().unwrap())).ok().unwrap();
    }

    /// Publishes that it owns the DVIPAs, or that it is only a backup for them.
    pub(crate) fn own(&self, owner: bool) {
        self.orders.send(Order::Own(owner)).ok().unwrap();
    }

    pub(crate) fn seen(&self) -> Seen {
        self.seen.0.lock().unwrap().clone()
    }

    pub(crate) fn wait(&self, what: &str, condition: impl Fn(&Seen) -> bool) -> Seen {
        let seen = self.seen.0.lock().unwrap();
        let (seen, timeout) = self.seen.1.wait_timeout_while(seen, PATIENCE, |s| !condition(s)).unwrap();
        assert!(!timeout.timed_out(), "waited without success for {what}; seen {seen:#?}");
        seen.clone()
    }
}

struct Player {
    routing: Routing,
    endpoint: Endpoint<ToStack>,
    forwarder: RefCell<Forwarder>,
    seen: Shared,
    handed_over: BTreeSet<Token>,
    owner: bool,
}

async fn play(
    name: StackName,
    identity: Identity,
    client: Namespace,
    seen: Shared,
    mut ordered: mpsc::UnboundedReceiver<Order>,
) {
    let hello = Hello {
        stack: name.to_string(),
        cluster_addresses: vec![Address(CLIENT.0.into())],
        incarnation: 1,
        version: "test".to_owned(),
        ..Hello::default()
    };
    let (heartbeat, lost_after) = (Duration::from_millis(100), Duration::from_secs(1));
    let settings = Settings { hello, heartbeat, quiet_after: None, lost_after, beside: true };
    let (endpoint, mut events) =
        Endpoint::bind(Listen::At((CLIENT.0, 7440).into()), &identity, settings).unwrap();
    let mut player = Player {
        routing: Routing::new(1),
        endpoint,
        forwarder: RefCell::new(Forwarder::start(&client)),
        seen,
        handed_over: BTreeSet::new(),
        owner: true,
    };
    for dvipa in [DVIPA.0.into(), DVIPA.1.into()] {
        player.tell(Event::Owns { dvipa: Dvipa::new(dvipa), epoch: EPOCH });
    }
    loop {
        let due = player.routing.next_deadline().unwrap_or(Instant::now() + PATIENCE);
        tokio::select! {
            Some(event) = events.recv() => player.hear(event),
            order = ordered.recv() => match order {
                Some(Order::Own(owner)) => {
                    player.owner = owner;
                    let stacks: Vec<_> = player.seen.0.lock().unwrap().accounts.iter().cloned().collect();
                    stacks.iter().for_each(|stack| player.list(stack));
                }
                Some(Order::Move(connection, target)) => {
                    let source = player.owner_of(&connection);
                    let connection = WireConnection(connection);
                    let (job, order, quiet_ms, next) = (None, None, None, None);
                    let order = Move { connection, epoch: EPOCH, target, job, order, quiet_ms, next };
                    player.endpoint.send(&source, &ToStack::Move(order)).unwrap();
                }
                None => return,
            },
            () = tokio::time::sleep_until(due.into()) => player.tell(Event::TimePassed),
        }
        player.act();
        player.seen.1.notify_all();
    }
}

/// The DPT, as applications and listeners were told.
struct Dpt<'a>(&'a Seen);

impl Targets for Dpt<'_> {
    fn reach(&self, connection: &Connection, target: &StackName, job: Option<&str>) -> Result<Reach, Reason> {
        let of_it = self.0.applications.get(target).into_iter().flatten();
        let mut of_it = of_it.filter(|a| a.port == connection.dvipa.port());
        if of_it.any(|a| job.is_none_or(|job| a.job.as_str() == job)) {
            Ok(Reach::ControlSocket)
        } else if self.0.serves.contains(target) {
            Ok(Reach::Listener)
        } else {
            Err(Reason::NotATarget)
        }
    }
}

impl Player {
    fn tell(&mut self, event: Event) {
        let seen = self.seen.0.lock().unwrap().clone();
        let _ = self.routing.handle(event, &Dpt(&seen), Instant::now());
    }

    fn owner_of(&self, connection: &Connection) -> StackName {
        let seen = self.seen.0.lock().unwrap();
        seen.connections.iter().find(|(_, all)| all.contains(connection)).unwrap().0.clone()
    }

    fn hear(&mut self, event: SessionEvent<FromStack>) {
        match event {
            SessionEvent::Up { peer, .. } => {
                self.tell(Event::SessionUp(peer.clone()));
                self.list(&peer);
            }
            SessionEvent::Greets { .. } | SessionEvent::Quiet { .. } | SessionEvent::Heard { .. } => {}
            SessionEvent::Misdirected { message, .. } => panic!("an agent says {message}"),
            SessionEvent::Down { peer, .. } => {
                let mut seen = self.seen.0.lock().unwrap();
                seen.accounts.remove(&peer);
                seen.applications.remove(&peer);
                drop(seen);
                self.tell(Event::SessionDown(peer));
            }
            SessionEvent::Message { peer, message: FromStack::Transfer(message) } => {
                self.tell(Event::Received { from: peer, message });
            }
            SessionEvent::Message { peer, message } => self.note(peer, message),
        }
    }

    fn note(&mut self, from: StackName, message: FromStack) {
        let spoken_for = |c: &WireConnection| self.routing.speaks_for(&c.0);
        let mut seen = self.seen.0.lock().unwrap();
        if matches!(&message, FromStack::Termconn(m) if m.connections.iter().any(spoken_for)) {
            seen.talked_over.push((from.clone(), message.clone()));
        }
        match message {
            FromStack::Newconn(m) => {
                for (_, of_other) in seen.connections.iter_mut().filter(|(stack, _)| **stack != from) {
                    of_other.retain(|c| !m.connections.contains(&WireConnection(*c)));
                }
                let of_it = seen.connections.entry(from.clone()).or_default();
                if m.first {
                    of_it.clear();
                }
                of_it.extend(m.connections.iter().map(|c| c.0));
                if m.last {
                    seen.accounts.insert(from);
                    seen.answers += 1;
                }
            }
            FromStack::Told(told) if told.since.is_some() => {
                seen.accounts.insert(from);
                seen.answers += 1;
            }
            FromStack::Termconn(m) => {
                let of_it = seen.connections.entry(from).or_default();
                of_it.retain(|c| !m.connections.contains(&WireConnection(*c)));
            }
            FromStack::Srvstat(m) => {
                for listen in m.listens.iter().filter(|l| l.port == PORT) {
                    if listen.listening {
                        seen.serves.insert(from.clone());
                    } else {
                        seen.serves.remove(&from);
                    }
                }
            }
            FromStack::Applications(m) => {
                if m.dvipa.0.is_ipv4() {
                    seen.applications.insert(from, m.applications);
                }
                drop(seen);
                self.publish();
            }
            _ => {}
        }
    }

    /// Tells every stack with an application where connections can go.
    fn publish(&self) {
        let seen = self.seen.0.lock().unwrap();
        let targets = seen.applications.iter().flat_map(|(stack, all)| {
            let targets = all.iter().filter(|a| a.role == Role::Target);
            targets.map(|a| Target { stack: stack.clone(), job: a.job.clone() })
        });
        let listeners = seen.serves.iter().map(|s| Target { stack: s.clone(), job: JobName::listener() });
        let targets: Vec<_> = targets.chain(listeners).collect::<BTreeSet<_>>().into_iter().collect();
        for stack in seen.applications.keys() {
            let (dvipa, targets) = (Address(DVIPA.0.into()), targets.clone());
            let message = ToStack::Targets(TargetsMessage { dvipa, epoch: EPOCH, port: PORT, targets });
            let _ = self.endpoint.send(stack, &message);
        }
    }

    fn list(&self, to: &StackName) {
        let distribution = VipaListDistribution {
            protocol: Protocol::Tcp,
            ports: vec![PORT],
            candidates: Vec::new(),
            content_routed: Some(true),
        };
        let entry = |address| VipaListDvipa {
            address: Address(address),
            epoch: EPOCH,
            owner: self.owner,
            rank: 255,
            distributions: vec![distribution.clone()],
            forwards: None,
        };
        let dvipas = vec![entry(DVIPA.0.into()), entry(DVIPA.1.into())];
        let forwarders = vec![Address(CLIENT.0.into())];
        let _ = self
            .endpoint
            .send(to, &ToStack::VipaList(VipaList { dvipas, forwarders, ..VipaList::default() }));
    }

    fn act(&mut self) {
        while let Some(action) = self.routing.poll() {
            match action {
                Action::Send { to, message } => {
                    let _ = self.endpoint.send(&to, &ToStack::Transfer(message));
                }
                // The hosts drop what the toy forwarder does not hold.
                Action::Freeze { .. } | Action::End(_) => {}
                Action::Thaw { owner, .. } => {
                    if let Some(owner) = owner {
                        self.forwarder.borrow_mut().send_to(index(&owner), None);
                    }
                }
                Action::HandOver { target, token, parcel, .. } => {
                    if self.handed_over.insert(token) {
                        self.seen.0.lock().unwrap().handed_over += 1;
                    }
                    let state = ConnectionState::decode(&parcel.socket).unwrap();
                    self.forwarder.borrow_mut().send_to(index(&target), Some(option_of(&state, token)));
                }
                Action::Report { outcome, .. } => self.seen.0.lock().unwrap().outcomes.push(outcome),
            }
        }
    }
}

/// The place of a host: `t1` is 0.
fn index(stack: &StackName) -> usize {
    usize::from(stack.as_str() == "t2")
}
