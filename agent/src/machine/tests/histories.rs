//! Random histories: applications listen and connect, events get lost, looks take their time, sessions and lists come
//! and go. Two mirrors apply what each routing stack is told. When all is quiet they hold the truth.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use model::message::{FromStack, Newconn, Srvstat, Termconn, Told};
use model::{Connection, Protocol, StackName};
use proptest::prelude::*;

use super::{Bench, connection, dvipa, list, own, received, stack};
use crate::machine::{Action, Bound, Cookie, Event, Inherited, Listener, Machine, Picture, Scope, Standing};

/// What happens.
#[derive(Clone, Debug)]
enum Step {
    /// An application listens on one of a few ports; the event may get lost.
    Listen { port: u16, lost: bool },
    /// A client connects to one of the DVIPAs.
    Connect { dvipa: u8, client_port: u16, lost: bool },
    /// One of the open sockets ends.
    End { which: usize, lost: bool },
    /// The picture of the look under way is taken.
    TakePicture,
    /// It is delivered.
    Deliver,
    /// A session begins or ends.
    Session { stack: usize, up: bool },
    /// A routing stack distributes these DVIPAs.
    List { stack: usize, dvipas: Vec<u8> },
    /// Time passes.
    Wait { ms: u64 },
    /// The next part of what concerns all connections is done.
    GoOn,
}

fn step() -> impl Strategy<Value = Step> {
    let lost = || prop::bool::weighted(0.15);
    let connect = (1..3u8, 1000..1005u16, lost());
    prop_oneof![
        3 => (80..83u16, lost()).prop_map(|(port, lost)| Step::Listen { port, lost }),
        5 => connect.prop_map(|(dvipa, client_port, lost)| Step::Connect { dvipa, client_port, lost }),
        5 => (any::<usize>(), lost()).prop_map(|(which, lost)| Step::End { which, lost }),
        3 => Just(Step::TakePicture),
        3 => Just(Step::Deliver),
        2 => (0..2usize, prop::bool::weighted(0.7)).prop_map(|(stack, up)| Step::Session { stack, up }),
        2 => (0..2usize, prop::collection::vec(1..3u8, 0..3)).prop_map(|(stack, dvipas)| Step::List { stack, dvipas }),
        2 => (0..3000u64).prop_map(|ms| Step::Wait { ms }),
        6 => Just(Step::GoOn),
    ]
}

/// A socket of the host as it truly is.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Socket {
    Listens(Listener),
    Connected(Connection),
}

/// What a routing stack made of what it was told.
#[derive(Debug, Default)]
struct Mirror {
    served: BTreeMap<IpAddr, BTreeSet<u16>>,
    connections: BTreeSet<Connection>,
    /// Up to which number it has heard, in this session and before.
    heard: Option<u64>,
    /// It may be told again what it has heard, and of the end of what came and went before it was answered: it may have a half-open
    /// entry of that.
    again: bool,
    /// It is answered in parts: what ends while they are told may be in none of them.
    in_parts: bool,
    /// What it has not read yet, and is lost with the session.
    inbox: Vec<FromStack>,
}

impl Mirror {
    /// The session is over, or another one begins.
    fn apart(&mut self) {
        self.inbox.clear();
        self.served.clear();
        self.again = true;
    }

    fn read(&mut self) {
        std::mem::take(&mut self.inbox).iter().for_each(|message| self.hear(message));
    }

    fn hear(&mut self, message: &FromStack) {
        match message {
            FromStack::Srvstat(Srvstat { dvipa, complete, listens, .. }) => {
                let ports = self.served.entry(dvipa.0).or_default();
                if *complete {
                    ports.clear();
                }
                for listen in listens {
                    let changed =
                        if listen.listening { ports.insert(listen.port) } else { ports.remove(&listen.port) };
                    assert!(changed, "told what was known: {message:?}");
                }
            }
            FromStack::Newconn(Newconn { first, connections, .. }) => {
                if *first {
                    self.connections.clear();
                    (self.heard, self.again) = (None, false);
                }
                self.connections.extend(connections.iter().map(|c| c.0));
            }
            FromStack::Termconn(Termconn { connections }) => {
                for connection in connections {
                    let known = self.connections.remove(&connection.0);
                    assert!(known || self.again || self.in_parts, "the end of an unknown {}", connection.0);
                }
            }
            FromStack::Told(Told { number, since }) => {
                assert!(since.is_none_or(|since| self.heard >= Some(since)), "it has not heard {since:?}");
                self.heard = Some(*number);
                self.again &= since.is_none();
            }
            other => panic!("{other:?}"),
        }
    }

    /// What it holds of these DVIPAs. Of others it may still hold what was true when they were listed.
    fn of(&self, listed: &BTreeSet<IpAddr>) -> Account {
        let served = self.served.iter().filter(|(dvipa, _)| listed.contains(dvipa));
        let connections = self.connections.iter().filter(|c| listed.contains(&c.dvipa.ip()));
        (served.map(|(dvipa, ports)| (*dvipa, ports.clone())).collect(), connections.copied().collect())
    }
}

/// Ports that are served, by DVIPA, and connections.
type Account = (BTreeMap<IpAddr, BTreeSet<u16>>, BTreeSet<Connection>);

/// The host, its agent and two routing stacks.
struct World {
    bench: Bench,
    next_cookie: u64,
    sockets: BTreeMap<Cookie, Socket>,
    look: Option<Scope>,
    picture: Option<(Scope, Picture)>,
    up: [bool; 2],
    lists: [Vec<u8>; 2],
    mirrors: [Mirror; 2],
}

const STACKS: [&str; 2] = ["rt1", "rt2"];

impl World {
    /// All connections are gone over in parts of so many.
    fn new(at_a_step: usize) -> Self {
        let now = Instant::now();
        let mut machine = Machine::new(own(), Inherited::default(), now);
        machine.at_a_step = at_a_step;
        let mut world = Self {
            bench: Bench { machine, now },
            next_cookie: 1,
            sockets: BTreeMap::new(),
            look: None,
            picture: None,
            up: [false; 2],
            lists: Default::default(),
            mirrors: Default::default(),
        };
        world.mirrors.iter_mut().for_each(|mirror| mirror.in_parts = at_a_step < usize::MAX);
        world.tell(Event::TimePassed);
        world
    }

    fn tell(&mut self, event: Event) {
        let actions = self.bench.tell(event);
        self.follow(actions);
    }

    fn go_on(&mut self) -> bool {
        let goes_on = self.bench.machine.step();
        let actions: Vec<_> = std::iter::from_fn(|| self.bench.machine.poll(self.bench.now)).collect();
        assert!(goes_on || actions.is_empty(), "nothing is left: {actions:?}");
        self.follow(actions);
        goes_on
    }

    fn follow(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Look(scope) => {
                    assert!(
                        self.look.replace(scope).is_none() && self.picture.is_none(),
                        "one look at a time"
                    );
                }
                Action::Send(to, message) => self.mirror(&to).inbox.push(message),
                Action::SetForwarders(_)
                | Action::AddDvipa(..)
                | Action::RemoveDvipa(_)
                | Action::AllowBinds { .. }
                | Action::End(_)
                | Action::SampleLoad
                | Action::LookAtSpeeches => {}
            }
        }
    }

    fn mirror(&mut self, to: &StackName) -> &mut Mirror {
        let index = STACKS.iter().position(|name| *name == to.as_str()).unwrap();
        assert!(self.up[index], "told {to} without a session");
        &mut self.mirrors[index]
    }

    fn open(&mut self, socket: Socket, lost: bool) {
        let cookie = Cookie(self.next_cookie);
        self.next_cookie += 1;
        self.sockets.insert(cookie, socket);
        let dvipas = self.bench.machine.view().dvipas;
        match socket {
            _ if lost => {}
            Socket::Listens(listener) => self.tell(Event::Listening(cookie, listener)),
            // The programs tell of connections with a DVIPA of this host only.
            Socket::Connected(c) if dvipas.contains_key(&c.service().dvipa) => {
                self.tell(Event::Established(cookie, c))
            }
            Socket::Connected(_) => {}
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::GoOn => {
                self.go_on();
            }
            Step::Listen { port, lost } => {
                let listener =
                    Listener { protocol: Protocol::Tcp, bound: Bound::AnyV4, port, interface: None };
                self.open(Socket::Listens(listener), lost);
            }
            Step::Connect { dvipa, client_port, lost } => {
                let socket = Socket::Connected(connection(dvipa, client_port));
                if !self.sockets.values().any(|s| *s == socket) {
                    self.open(socket, lost);
                }
            }
            Step::End { which, lost } => {
                let cookie = self.sockets.keys().nth(which % self.sockets.len().max(1)).copied();
                if let Some(cookie) = cookie {
                    self.sockets.remove(&cookie);
                    if !lost {
                        self.tell(Event::Ended(cookie));
                    }
                }
            }
            Step::TakePicture => {
                if let Some(scope) = self.look.take() {
                    self.picture = Some((scope, self.picture_of(scope)));
                }
            }
            Step::Deliver => {
                if let Some((scope, picture)) = self.picture.take() {
                    self.tell(Event::Seen(scope, picture));
                }
            }
            Step::Session { stack: index, up } => self.session(index, up),
            Step::List { stack: index, dvipas } => {
                if self.up[index] {
                    self.mirrors[index].read();
                    self.mirrors[index].again = true;
                    if let Some(number) = self.mirrors[index].heard {
                        self.tell(Event::Heard(stack(STACKS[index]), number));
                    }
                    self.tell(received(STACKS[index], list(&dvipas, &[])));
                    self.lists[index] = dvipas;
                }
            }
            Step::Wait { ms } => {
                self.mirrors.iter_mut().for_each(Mirror::read);
                self.bench.now += Duration::from_millis(ms);
                if self.bench.machine.next_deadline().is_some_and(|(at, _)| at <= self.bench.now) {
                    self.tell(Event::TimePassed);
                }
            }
        }
    }

    fn session(&mut self, index: usize, up: bool) {
        self.up[index] = up;
        self.mirrors[index].apart();
        let name = stack(STACKS[index]);
        self.tell(if up { Event::SessionUp(name) } else { Event::SessionDown(name) });
    }

    fn picture_of(&self, scope: Scope) -> Picture {
        let mut picture = Picture::default();
        for (cookie, socket) in self.sockets.iter().filter(|_| scope == Scope::All) {
            match socket {
                Socket::Listens(listener) => picture.listeners.push((*cookie, *listener)),
                Socket::Connected(connection) => picture.connections.push((*cookie, *connection)),
            }
        }
        picture
    }

    /// Lets everything that is under way come to its end, and what was lost be repaired.
    fn settle(&mut self) {
        for _ in 0..4 {
            for _ in 0..4 {
                self.step(Step::TakePicture);
                self.step(Step::Deliver);
                while self.go_on() {}
                assert!(!self.bench.machine.is_busy());
            }
            // The looks of the history may have taken minutes, which makes the next ones rare.
            self.bench.now += Duration::from_secs(24 * 60 * 60);
            self.tell(Event::TimePassed);
        }
        self.mirrors.iter_mut().for_each(Mirror::read);
    }

    fn listed(&self, index: usize) -> BTreeSet<IpAddr> {
        self.lists[index].iter().map(|d| dvipa(*d).address()).collect()
    }

    /// What there truly is to tell this routing stack.
    fn truth(&self, index: usize) -> Account {
        let listed = self.listed(index);
        let mut ports = BTreeSet::new();
        let mut connections = BTreeSet::new();
        for socket in self.sockets.values() {
            match socket {
                Socket::Listens(listener) if listener.port == 80 => drop(ports.insert(80)),
                Socket::Connected(c) if listed.contains(&c.dvipa.ip()) => drop(connections.insert(*c)),
                Socket::Listens(_) | Socket::Connected(_) => {}
            }
        }
        (listed.into_iter().map(|dvipa| (dvipa, ports.clone())).collect(), connections)
    }
}

proptest! {
    #[test]
    fn after_any_history_what_was_told_equals_the_truth(
        steps in prop::collection::vec(step(), 0..160),
        at_a_step in prop_oneof![Just(1), Just(2), Just(usize::MAX)],
    ) {
        let mut world = World::new(at_a_step);
        for step in steps {
            world.step(step);
        }
        world.settle();
        for (index, name) in STACKS.into_iter().enumerate() {
            // A stack that was answered before has heard of changes only.
            if world.bench.machine.view().standings[&stack(name)] == Standing::Reporting {
                prop_assert_eq!(world.mirrors[index].of(&world.listed(index)), world.truth(index));
            }
        }
        for index in 0..2 {
            world.session(index, true);
            let dvipas = world.lists[index].clone();
            world.step(Step::List { stack: index, dvipas });
        }
        world.settle();
        for index in 0..2 {
            prop_assert_eq!(world.mirrors[index].of(&world.listed(index)), world.truth(index));
        }
    }
}
