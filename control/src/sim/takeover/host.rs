//! A host: its kernel with sockets, accepted forwarders and pools of ports; its agent, which is a witness too.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use agent::machine::{
    Bound, Cookie, Event, Forwarders, Inherited, Listener, Machine, Origin, Own, Picture, Scope, Takes,
};
use agent::ports::{Pool, Pools, Ports};
use histories::{Clock, Nanos};
use model::codec::Address;
use model::message::Hello;
use model::ports::{PORTS_A_BLOCK, PortBlocks};
use model::transfer::{Abilities, Ledger};
use model::{ClusterAddress, Connection, Dvipa, Epoch, Protocol, StackName};
use ownership::{Kept, Witness};

use super::hands::{Moves, Process};
use super::routing::{NODES, Stopped};
use super::world::Parcel;
use crate::machine::fixture::name;

/// A host.
pub(super) struct Host {
    pub(super) name: StackName,
    pub(super) clock: Clock,
    /// `None`: it is down.
    pub(super) agent: Option<Agent>,
    /// The host itself is down.
    pub(super) is_dead: bool,
    pub(super) stopped: Option<Stopped>,
    pub(super) inbox: VecDeque<Parcel>,
    /// What the kernel has told and the agent has not read.
    pub(super) ring: Vec<Event>,
    pub(super) kernel: Kernel,
    /// What each node has last said that it owns, of those that this run of the agent has heard.
    pub(super) owns: BTreeMap<usize, BTreeSet<Dvipa>>,
    /// The witness's file.
    pub(super) kept: Kept,
    pub(super) due: Option<Nanos>,
    address: ClusterAddress,
    runs: u64,
    /// How often it has lost all that it had, and when it did so last.
    pub(super) deaths: u64,
    pub(super) died: Option<Nanos>,
}

/// The agent's process.
pub(super) struct Agent {
    pub(super) run: u64,
    pub(super) machine: Machine,
    pub(super) ports: Ports,
    pub(super) witness: Witness,
    pub(super) transfers: transfer::Host,
    pub(super) process: Process,
    /// The owners as the transfers know them.
    pub(super) owners: BTreeMap<Dvipa, (StackName, Epoch)>,
    /// What each routing stack was told of applications, and in answer to which epoch.
    pub(super) registered: BTreeMap<(StackName, Dvipa), (Epoch, Vec<u16>)>,
}

/// What outlives the agent.
#[derive(Default)]
pub(super) struct Kernel {
    pub(super) sockets: BTreeMap<Cookie, Socket>,
    pub(super) forwarders: Forwarders,
    pub(super) dvipas: BTreeMap<Dvipa, Option<Origin>>,
    pub(super) pools: FakePools,
    pub(super) moves: Moves,
    cookies: u64,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Socket {
    Listens(Listener),
    Connected(Connection),
}

impl Host {
    pub(super) fn new(at: usize, clock: Clock) -> Self {
        let last = u8::try_from(at + 21).expect("few hosts");
        Self {
            name: name(&format!("t{}", at + 1)),
            clock,
            agent: None,
            is_dead: false,
            stopped: None,
            inbox: VecDeque::new(),
            ring: Vec::new(),
            kernel: Kernel::default(),
            owns: BTreeMap::new(),
            kept: Kept::default(),
            due: None,
            address: ClusterAddress::from_addresses(&[[198, 18, 0, last].into()]).expect("an address"),
            runs: 0,
            deaths: 0,
            died: None,
        }
    }

    /// An agent begins.
    pub(super) fn start(&mut self, now: Nanos) {
        self.runs += 1;
        self.owns.clear();
        let own = Own {
            name: self.name.clone(),
            cluster_address: self.address,
            interfaces: Vec::new(),
            routing_stacks: (0..NODES).map(|node| name(&format!("rt{}", node + 1))).collect(),
            repair: Duration::from_secs(20),
            unanswered: None,
        };
        let Kernel { dvipas, forwarders, .. } = &self.kernel;
        let inherited = Inherited { dvipas: dvipas.clone(), forwarders: forwarders.clone() };
        let now = self.clock.at(now);
        let (machine, witness) = (Machine::new(own, inherited, now), Witness::new(self.kept, now));
        let ledger = Ledger(self.deaths + 1);
        let abilities = Abilities { ledger, restores: true, injects: true, incarnation: self.runs };
        self.agent = Some(Agent {
            run: self.runs,
            machine,
            ports: Ports::default(),
            witness,
            transfers: transfer::Host::new(abilities, now),
            process: Process::default(),
            owners: BTreeMap::new(),
            registered: BTreeMap::new(),
        });
    }

    pub(super) fn runs(&self) -> bool {
        self.agent.is_some() && self.stopped.is_none()
    }

    pub(super) fn hello(&self) -> Hello {
        Hello {
            stack: self.name.to_string(),
            cluster_addresses: self.address.iter().map(Address).collect(),
            incarnation: self.runs,
            version: "sim".to_owned(),
            ..Hello::default()
        }
    }

    /// Tells the agent what its kernel does: at once, or when it goes on. One that begins later looks.
    pub(super) fn tell(&mut self, event: Event, now: Nanos) {
        let at = self.clock.at(now);
        match &mut self.agent {
            Some(_) if self.stopped.is_some() => self.ring.push(event),
            Some(agent) => agent.machine.handle(event, at),
            None => {}
        }
    }
}

impl Agent {
    /// What was told in it is void.
    pub(super) fn session_over(&mut self, stack: &StackName) {
        self.ports.session_over(stack);
        self.registered.retain(|(of, _), _| of != stack);
    }
}

impl Kernel {
    /// A socket begins.
    pub(super) fn open(&mut self, socket: Socket) -> Event {
        let cookie = self.next_cookie();
        self.sockets.insert(cookie, socket);
        match socket {
            Socket::Listens(listener) => Event::Listening(cookie, listener),
            Socket::Connected(connection) => Event::Established(cookie, connection),
        }
    }

    pub(super) fn next_cookie(&mut self) -> Cookie {
        self.cookies += 1;
        Cookie(self.cookies)
    }

    /// The sockets that look like this end.
    pub(super) fn close(&mut self, count: usize, is_such: impl Fn(&Socket) -> bool) -> Vec<Event> {
        let such: Vec<Cookie> =
            self.sockets.iter().filter(|(_, s)| is_such(s)).map(|(c, _)| *c).take(count).collect();
        self.sockets.retain(|cookie, _| !such.contains(cookie));
        such.into_iter().map(Event::Ended).collect()
    }

    pub(super) fn picture(&self, scope: Scope) -> Picture {
        let mut picture = Picture::default();
        for (cookie, socket) in &self.sockets {
            match socket {
                Socket::Listens(listener) if scope == Scope::All || listener.protocol == Protocol::Udp => {
                    picture.listeners.push((*cookie, *listener));
                }
                Socket::Connected(connection)
                    if scope == Scope::All
                        && self.dvipas.contains_key(&Dvipa::new(connection.dvipa.ip())) =>
                {
                    picture.connections.push((*cookie, *connection));
                }
                Socket::Listens(_) | Socket::Connected(_) => {}
            }
        }
        picture
    }

    pub(super) fn listens(&self, port: u16) -> bool {
        self.sockets
            .values()
            .any(|socket| matches!(socket, Socket::Listens(listener) if listener.port == port))
    }

    pub(super) fn connections(&self) -> impl Iterator<Item = Connection> {
        self.sockets.values().filter_map(|socket| match socket {
            Socket::Connected(connection) => Some(*connection),
            Socket::Listens(_) => None,
        })
    }

    /// Which packets of a forwarder are taken.
    pub(super) fn takes(&self, from: ClusterAddress, dvipa: Dvipa) -> Option<Takes> {
        from.iter().find_map(|from| self.forwarders.get(&(from, dvipa)).copied())
    }
}

/// A listener on the wildcard address.
pub(super) fn listener(port: u16) -> Listener {
    Listener { protocol: Protocol::Tcp, bound: Bound::AnyDual, port, interface: None }
}

/// Pools whose ports are taken and given back by hand.
#[derive(Debug, Default)]
pub(super) struct FakePools(RefCell<BTreeMap<Dvipa, (Pool, BTreeSet<u16>)>>);

impl FakePools {
    /// The blocks of a DVIPA.
    pub(super) fn granted(&self, dvipa: Dvipa) -> PortBlocks {
        self.pool(dvipa).unwrap_or_default().granted
    }

    /// Applications take so many ports, or give back all (`None`).
    pub(super) fn take(&self, dvipa: Dvipa, ports: Option<u32>) {
        if let Some((pool, in_use)) = self.0.borrow_mut().get_mut(&dvipa) {
            let all = pool.ports();
            pool.left = ports.map_or(all, |ports| pool.left.saturating_sub(ports));
            let used = (all - pool.left).div_ceil(u32::from(PORTS_A_BLOCK));
            *in_use = pool.granted.iter().take(usize::try_from(used).expect("few blocks")).collect();
        }
    }

    fn change(&self, dvipa: Dvipa, change: impl FnOnce(&mut Pool)) {
        change(&mut self.0.borrow_mut().entry(dvipa).or_default().0);
    }
}

impl Pools for FakePools {
    fn pool(&self, dvipa: Dvipa) -> Option<Pool> {
        self.0.borrow().get(&dvipa).map(|(pool, _)| *pool)
    }

    fn make(&self, dvipa: Dvipa) {
        self.change(dvipa, |_| {});
    }

    fn grant(&self, dvipa: Dvipa, block: u16) {
        self.change(dvipa, |pool| {
            pool.granted.insert(block);
            pool.left += u32::from(PORTS_A_BLOCK);
        });
    }

    fn withdraw(&self, dvipa: Dvipa, block: u16) -> bool {
        let is_free = self.0.borrow().get(&dvipa).is_some_and(|(_, in_use)| !in_use.contains(&block));
        if is_free {
            self.revoke(dvipa, block);
        }
        is_free
    }

    fn revoke(&self, dvipa: Dvipa, block: u16) {
        self.change(dvipa, |pool| {
            pool.granted.remove(block);
            pool.left = pool.left.saturating_sub(u32::from(PORTS_A_BLOCK));
        });
    }

    fn set_elsewhere(&self, dvipa: Dvipa, elsewhere: &PortBlocks) {
        self.change(dvipa, |pool| pool.elsewhere = *elsewhere);
    }

    fn set_low(&self, _: Dvipa, _: u32) {}
}
