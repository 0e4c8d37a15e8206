//! Connections that move from host to host: applications ask for it, the machines of [`transfer`] do it, whoever dies meanwhile.

use std::collections::BTreeSet;
use std::time::Instant;

use agent::machine::Event as AgentEvent;
use histories::{Nanos, ms};
use model::codec::Address;
use model::control_socket::JobName;
use model::control_socket::request::Role;
use model::handoff::Token;
use model::message::{Application, Applications, FromStack};
use model::transfer::{Consent, FromHost, FromSource, TransferId};
use model::{Connection, Dvipa, StackName};
use transfer::Owner;
use transfer::giving::Ask;
use transfer::host::{Standing, Terms};

use super::Fault;
use super::hands::Hands;
use super::history::TARGETS;
use super::host::{Agent, Host, Socket};
use super::world::{Happens, World};

/// On this port applications are registered, and are given connections over their control sockets; on others servers only listen.
const REGISTERED: u16 = 443;
/// For so long a routing stack may not have noticed that a host has died, and is another one now.
const UNNOTICED: Nanos = ms(6_000);

impl Host {
    /// Has the transfers do something.
    fn transfers(&mut self, deed: impl FnOnce(&mut transfer::Host, &mut Hands<'_>, Instant), now: Instant) {
        if let Self { agent: Some(Agent { transfers, process, .. }), kernel, .. } = self {
            deed(transfers, &mut Hands { kernel, process }, now);
        }
    }
}

impl World {
    /// Applications of a host ask for the oldest connections there to be moved to another.
    pub(super) fn ask_for_moves(&mut self, host: usize, to: usize, count: usize) {
        let at = &self.hosts[host];
        let still = |c: &Connection| at.kernel.moves.serves(c) && !at.kernel.moves.concern(c);
        let such: Vec<Connection> = at.kernel.connections().filter(still).take(count).collect();
        for connection in such {
            let target = self.hosts[to].name.clone();
            let consent = if self.random.bool() { Consent::Asked } else { Consent::Presumed };
            let is_told = connection.service().port == REGISTERED && self.random.bool();
            let application = if is_told { vec![7] } else { Vec::new() };
            let ask = Ask { connection, target, job: None, consent, application, giver: None };
            let now = self.hosts[host].clock.at(self.now);
            if !self.hosts[host].runs() {
                continue;
            }
            // Nobody has noticed yet that the target has died, and what it had decided: the connection may be given up.
            if self.hosts[to].died.is_some_and(|died| self.now < died + UNNOTICED) {
                self.excuse(connection);
            }
            let target = self.hosts[to].name.clone();
            let (application, request) = self.hosts[host].kernel.moves.ask(connection, target);
            self.hosts[host].transfers(
                |transfers, _, now| transfers.asked(application, request, ask, Terms::Carry, None, now),
                now,
            );
        }
        self.act_host(host);
    }

    /// A new agent takes over what the former one has left, and applications ask it what became of what they had asked.
    pub(super) fn inherit(&mut self, host: usize) {
        let now = self.hosts[host].clock.at(self.now);
        self.hosts[host].transfers(
            |transfers, hands, now| {
                let left = hands.kernel.left();
                transfers.inherit(left, hands, now);
                let [waits, untold] = hands.kernel.moves.ask_again();
                for (application, request, connection) in waits {
                    transfers.resumed(application, request, connection, hands, now);
                }
                for (application, request, connection) in untold {
                    transfers.claimed(application, request, connection, hands);
                }
            },
            now,
        );
    }

    pub(super) fn transfers_due(&mut self, host: usize) {
        let now = self.hosts[host].clock.at(self.now);
        self.hosts[host].transfers(
            |transfers, hands, now| {
                if transfers.next_deadline() <= now {
                    transfers.time_passed(hands, now);
                }
            },
            now,
        );
    }

    pub(super) fn answers(&mut self, host: usize, run: u64, transfer: TransferId) {
        let accepts = self.random.u8(0..8) > 0;
        let is_its = self.hosts[host].agent.as_ref().is_some_and(|agent| agent.run == run);
        if !is_its || !self.hosts[host].runs() {
            return;
        }
        let now = self.hosts[host].clock.at(self.now);
        self.hosts[host].transfers(
            |transfers, _, now| {
                if accepts {
                    transfers.accepted(transfer, now);
                } else {
                    transfers.rejected(transfer, String::new(), now);
                }
            },
            now,
        );
        self.act_host(host);
    }

    /// A packet of a connection arrives with this token.
    pub(super) fn handed(&mut self, host: usize, from: usize, connection: Connection, token: Token) {
        let dvipa = connection.service().dvipa;
        let Host { kernel, is_dead, .. } = &mut self.hosts[host];
        let is_here = kernel.connections().any(|here| here == connection);
        let is_taken = kernel.takes(super::routing::address(from), dvipa).is_some();
        if *is_dead || is_here || !is_taken || !kernel.listens(connection.service().port) {
            return;
        }
        if kernel.moves.claim(&connection, token) {
            let told = kernel.open(Socket::Connected(connection));
            self.tell_host(host, vec![told]);
            if self.hosts[host].runs() {
                let now = self.hosts[host].clock.at(self.now);
                self.hosts[host]
                    .transfers(|transfers, hands, now| transfers.begun(connection, hands, now), now);
                self.act_host(host);
            }
        }
    }

    /// Does what the transfers of a host want done, and keeps what its agent tells in step with it.
    pub(super) fn act_transfers(&mut self, at: usize) {
        let now = self.hosts[at].clock.at(self.now);
        self.tell_owners(at, now);
        let mut touched_here = BTreeSet::new();
        loop {
            self.hosts[at].transfers(
                |transfers, hands, now| assert!(transfers.act(hands, now, usize::MAX), "all is done"),
                now,
            );
            let Some(Agent { machine, transfers, process, .. }) = &mut self.hosts[at].agent else { return };
            let touched = transfers.take_touched();
            touched.iter().for_each(|(c, _)| machine.handle(AgentEvent::Moving(*c), now));
            std::mem::take(&mut process.told).into_iter().for_each(|event| machine.handle(event, now));
            for (connection, standing) in touched.iter().copied() {
                match standing {
                    Standing::Moves => {}
                    Standing::Ours => machine.handle(AgentEvent::Rests { connection, ours: true }, now),
                    Standing::Elsewhere => machine.handle(AgentEvent::Rests { connection, ours: false }, now),
                }
            }
            let passed = std::mem::take(&mut process.passed);
            passed.iter().for_each(|transfer| transfers.passed(*transfer, now));
            touched_here.extend(touched.iter().map(|(connection, _)| *connection));
            if touched.is_empty() && passed.is_empty() {
                break;
            }
        }
        let Some(Agent { run, process, .. }) = &mut self.hosts[at].agent else { return };
        let (run, offers) = (*run, std::mem::take(&mut process.offers));
        self.record.moved += std::mem::take(&mut process.moved);
        for transfer in offers {
            let thinks = ms([1, 40, 400, 1_500][self.random.usize(..4)]);
            self.put(self.now + thinks, Happens::Answers { host: at, run, transfer });
        }
        self.send_transfers(at);
        touched_here.iter().for_each(|connection| self.has_one_home(connection));
    }

    fn send_transfers(&mut self, at: usize) {
        let Some(Agent { process, .. }) = &mut self.hosts[at].agent else { return };
        for (to, message) in std::mem::take(&mut process.sent) {
            let ends = matches!(message, FromHost::Source(FromSource::Done(_)));
            let Some(Agent { machine, .. }) = &mut self.hosts[at].agent else { return };
            if let Some(fence) = machine.fence(&to).filter(|_| ends) {
                self.host_says(at, &to, fence);
            }
            self.host_says(at, &to, FromStack::Transfer(message));
        }
    }

    /// Who owns a DVIPA now is told to the transfers before anything else.
    fn tell_owners(&mut self, at: usize, now: Instant) {
        let thaws = self.scale.fault == Some(Fault::ThawsForANewOwner);
        let Host { agent: Some(agent), kernel, .. } = &mut self.hosts[at] else { return };
        let owners = agent.machine.owners();
        let before = std::mem::replace(&mut agent.owners, owners);
        let all: BTreeSet<Dvipa> = before.keys().chain(agent.owners.keys()).copied().collect();
        for dvipa in all {
            let owner = agent.owners.get(&dvipa);
            if before.get(&dvipa) != owner {
                let owner = owner.map(|(stack, epoch)| Owner { stack: stack.clone(), epoch: *epoch });
                agent.transfers.owner(dvipa, owner, now);
                if thaws {
                    kernel.moves.thaw_all();
                }
            }
        }
    }

    /// Those who list a DVIPA hear which applications are registered for it.
    pub(super) fn tell_applications(&mut self, at: usize) {
        let Host { agent: Some(agent), kernel, .. } = &mut self.hosts[at] else { return };
        let ports: Vec<u16> = [REGISTERED].into_iter().filter(|port| kernel.listens(*port)).collect();
        let mut news = Vec::new();
        for (stack, dvipa, epoch) in agent.machine.listing() {
            let now = (epoch, ports.clone());
            let key = (stack.clone(), dvipa);
            if agent.registered.get(&key) != Some(&now) {
                agent.registered.insert(key, now);
                news.push((stack.clone(), dvipa, epoch));
            }
        }
        let job = JobName::new("web").expect("a name");
        let each = |port: &u16| Application { port: *port, role: Role::Target, job: job.clone() };
        let applications: Vec<Application> = ports.iter().map(each).collect();
        for (stack, dvipa, epoch) in news {
            let (dvipa, applications) = (Address(dvipa.address()), applications.clone());
            let said = FromStack::Applications(Applications { dvipa, epoch, applications });
            self.host_says(at, &stack, said);
        }
    }

    /// The host that has the connection: that serves its client, or else keeps it silent.
    pub(super) fn home(&self, connection: &Connection) -> Option<usize> {
        let has = |host: &usize| self.hosts[*host].kernel.connections().any(|here| here == *connection);
        let serves = |host: &usize| self.hosts[*host].kernel.moves.serves(connection);
        let all: Vec<usize> = (0..TARGETS).filter(has).collect();
        all.iter().copied().find(serves).or(all.first().copied())
    }

    /// Whether its client is served there.
    pub(super) fn serves(&self, host: usize, connection: &Connection) -> bool {
        let kernel = &self.hosts[host].kernel;
        kernel.moves.serves(connection) && kernel.connections().any(|here| here == *connection)
    }

    /// A connection whose hosts live is somewhere, and nowhere twice.
    fn has_one_home(&mut self, connection: &Connection) {
        let homes: Vec<usize> = (0..TARGETS).filter(|host| self.serves(*host, connection)).collect();
        if homes.len() > 1 {
            self.record.blame(format!("two homes: {connection} is served by all of {homes:?}"));
        }
        if self.alive.contains(connection) && self.home(connection).is_none() {
            self.record.blame(format!("a connection is lost: {connection} is nowhere"));
        }
    }

    fn excuse(&mut self, connection: Connection) {
        self.alive.remove(&connection);
        self.excused.insert(connection);
    }

    /// A host is about to die: what it has, and what it gives away or is given, may die with it.
    pub(super) fn may_be_lost(&mut self, host: usize) {
        let kernel = &self.hosts[host].kernel;
        let name: &StackName = &self.hosts[host].name;
        let mut lost: BTreeSet<Connection> =
            kernel.connections().chain(kernel.moves.moving().copied()).collect();
        for other in &self.hosts {
            let with_it = other.kernel.moves.moving().filter(|c| other.kernel.moves.others(c).contains(name));
            lost.extend(with_it.copied());
        }
        lost.into_iter().for_each(|connection| self.excuse(connection));
    }
}
