//! A model of a target: it keeps the promises of an agent, and nothing else of one.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use model::codec::{Address, WireConnection};
use model::message::{Hello, Listen, Load, Message, Newconn, Srvstat, Termconn, VipaList, VipaListDvipa};
use model::{Connection, Dvipa, Protocol};

use super::settings::{DVIPAS, NODES};

/// How many connections a part of an account has.
const PART: usize = 8;

/// A host with applications.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) name: String,
    pub(super) address: String,
    pub(super) incarnation: u64,
    pub(super) delay_ms: u64,
    /// Listening ports; `true`: bound to the DVIPAs, `false`: to the wildcard address.
    pub(super) listeners: BTreeMap<u16, bool>,
    pub(super) connections: BTreeSet<Connection>,
    /// The last VIPA list of each routing node in this session.
    pub(super) lists: [Option<VipaList>; NODES],
    cpu_permille: u16,
    next_client_port: u16,
}

impl Target {
    pub(super) fn new(number: usize) -> Self {
        Self {
            name: format!("t{}", number + 1),
            address: format!("198.18.0.2{}", number + 1),
            incarnation: 1,
            delay_ms: 1 + number as u64,
            listeners: BTreeMap::new(),
            connections: BTreeSet::new(),
            lists: Default::default(),
            cpu_permille: 0,
            // A client has one connection from a port: targets never have the same one.
            next_client_port: 1024 + 16_000 * u16::try_from(number).unwrap(),
        }
    }

    pub(super) fn hello(&self) -> Message {
        Message::Hello(Hello {
            stack: self.name.clone(),
            cluster_addresses: vec![Address(self.address.parse().unwrap())],
            incarnation: self.incarnation,
            version: "model".to_owned(),
            ..Hello::default()
        })
    }

    /// A routing node says what it distributes: a complete report and a complete account answer it.
    pub(super) fn list(&mut self, node: usize, list: VipaList) -> Vec<Message> {
        let mut answers: Vec<Message> = self.candidate_of(&list).map(|dvipa| self.report(dvipa)).collect();
        let connections: Vec<Connection> =
            self.connections.iter().copied().filter(|c| self.candidate_of(&list).any(|d| of(c, d))).collect();
        let parts: Vec<&[Connection]> =
            if connections.is_empty() { vec![&[]] } else { connections.chunks(PART).collect() };
        for (i, part) in parts.iter().enumerate() {
            let (first, last) = (i == 0, i + 1 == parts.len());
            let connections = part.iter().copied().map(WireConnection).collect();
            answers.push(Message::Newconn(Newconn { first, last, connections }));
        }
        answers.push(Message::Load(Load { cpu_permille: self.cpu_permille, ..Load::default() }));
        self.lists[node] = Some(list);
        answers
    }

    /// An application begins or stops to listen: what each routing node is told.
    pub(super) fn listener(&mut self, port: u16, bound_to_dvipa: Option<bool>) -> Vec<(usize, Message)> {
        match bound_to_dvipa {
            Some(bound) => self.listeners.insert(port, bound),
            None => self.listeners.remove(&port),
        };
        let change = |dvipa: &VipaListDvipa| {
            let listening = bound_to_dvipa.is_some_and(|bound| self.counts(dvipa, port, bound));
            let listens = vec![Listen { protocol: Protocol::Tcp, port, listening }];
            Message::Srvstat(Srvstat { dvipa: dvipa.address, epoch: dvipa.epoch, complete: false, listens })
        };
        self.known_lists()
            .flat_map(|(node, list)| self.candidate_of(list).map(move |dvipa| (node, dvipa)))
            .map(|(node, dvipa)| (node, change(dvipa)))
            .collect()
    }

    /// Connections begin.
    pub(super) fn connect(&mut self, node: usize, count: usize) -> Vec<(usize, Message)> {
        let dvipa = DVIPAS[node];
        let client = if node == 0 { "198.18.0.2" } else { "2001:db8::2" };
        let mut connections = Vec::new();
        for _ in 0..count {
            self.next_client_port += 1;
            let client = SocketAddr::new(client.parse().unwrap(), self.next_client_port);
            let dvipa = SocketAddr::new(dvipa.parse().unwrap(), 80);
            connections.extend(Connection::new(Protocol::Tcp, client, dvipa));
        }
        self.connections.extend(connections.iter().copied());
        self.tell(&connections, |connections| {
            Message::Newconn(Newconn { first: false, last: false, connections })
        })
    }

    /// The oldest connections end.
    pub(super) fn disconnect(&mut self, count: usize) -> Vec<(usize, Message)> {
        let ended: Vec<Connection> = self.connections.iter().copied().take(count).collect();
        self.connections.retain(|connection| !ended.contains(connection));
        self.tell(&ended, |connections| Message::Termconn(Termconn { connections }))
    }

    pub(super) fn load(&mut self, cpu_permille: u16) -> Vec<(usize, Message)> {
        self.cpu_permille = cpu_permille;
        let load = Load { cpu_permille, ..Load::default() };
        self.known_lists().map(|(node, _)| (node, Message::Load(load.clone()))).collect()
    }

    /// A report of the epoch before the present one: as a delayed message would be.
    pub(super) fn old_epoch(&self, node: usize, port: u16) -> Option<Message> {
        let dvipa = self.lists[node].as_ref()?.dvipas.first()?;
        let Message::Srvstat(mut report) = self.report(dvipa) else { return None };
        report.epoch.0 -= 1;
        report.listens.push(Listen { protocol: Protocol::Tcp, port, listening: true });
        Some(Message::Srvstat(report))
    }

    fn report(&self, dvipa: &VipaListDvipa) -> Message {
        let counting = self.listeners.iter().filter(|(port, bound)| self.counts(dvipa, **port, **bound));
        let listens =
            counting.map(|(port, _)| Listen { protocol: Protocol::Tcp, port: *port, listening: true });
        Message::Srvstat(Srvstat {
            dvipa: dvipa.address,
            epoch: dvipa.epoch,
            complete: true,
            listens: listens.collect(),
        })
    }

    /// Row U1, as an agent reads it out of a VIPA list.
    fn counts(&self, dvipa: &VipaListDvipa, port: u16, bound_to_dvipa: bool) -> bool {
        let mut mine = dvipa
            .distributions
            .iter()
            .filter(|d| d.candidates.is_empty() || d.candidates.contains(&self.name));
        mine.any(|d| d.ports.contains(&port) || (d.ports.is_empty() && bound_to_dvipa))
    }

    fn candidate_of<'l>(&self, list: &'l VipaList) -> impl Iterator<Item = &'l VipaListDvipa> {
        let names = |d: &&VipaListDvipa| {
            d.distributions.iter().any(|d| d.candidates.is_empty() || d.candidates.contains(&self.name))
        };
        list.dvipas.iter().filter(|d| d.owner).filter(names).collect::<Vec<_>>().into_iter()
    }

    fn known_lists(&self) -> impl Iterator<Item = (usize, &VipaList)> {
        self.lists.iter().enumerate().filter_map(|(node, list)| Some((node, list.as_ref()?)))
    }

    fn tell(
        &self,
        connections: &[Connection],
        message: impl Fn(Vec<WireConnection>) -> Message,
    ) -> Vec<(usize, Message)> {
        let of_node = |list: &VipaList| -> Vec<WireConnection> {
            let theirs = connections.iter().filter(|c| self.candidate_of(list).any(|d| of(c, d)));
            theirs.copied().map(WireConnection).collect()
        };
        let told = self.known_lists().map(|(node, list)| (node, of_node(list)));
        told.filter(|(_, list)| !list.is_empty()).map(|(node, list)| (node, message(list))).collect()
    }
}

fn of(connection: &Connection, dvipa: &VipaListDvipa) -> bool {
    connection.service().dvipa == Dvipa::new(dvipa.address.0)
}
