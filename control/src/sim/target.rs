//! A model of a target: it keeps the promises of an agent, and nothing else of one.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use model::codec::{Address, WireConnection};
use model::message::{
    FromStack, Hello, Listen, Load, Newconn, Srvstat, Termconn, Told, VipaList, VipaListDvipa,
};
use model::{Connection, Dvipa, Epoch, Protocol};

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
    /// What each routing node was told of connections, in this session and before.
    told: [Account; NODES],
    cpu_permille: u16,
    next_client_port: u16,
}

/// What a routing node was told of connections.
#[derive(Debug, Default)]
struct Account {
    /// DVIPAs of the last complete account, and their epochs.
    of: Vec<(Address, Epoch)>,
    /// What followed it: the connection, and whether it began.
    changes: Vec<(Connection, bool)>,
    /// How far it was told in this session, and how far it has heard in former ones.
    said: Option<usize>,
    heard: Option<usize>,
    /// The last number that it was told in this session.
    numbered: usize,
}

impl Account {
    /// Everything from this number on; the number of the last one stays unsaid at times, as it does for a while in agents.
    fn since(&self, from: usize, is_here: impl Fn(&Connection) -> bool) -> Vec<FromStack> {
        let changes = self.changes[from..].iter().filter(|(c, began)| !began || is_here(c));
        let message = |(connection, began): &(Connection, bool)| {
            let connections = vec![WireConnection(*connection)];
            match began {
                true => FromStack::Newconn(Newconn { connections, ..Newconn::default() }),
                false => FromStack::Termconn(Termconn { connections }),
            }
        };
        changes.map(message).collect()
    }

    fn number(&mut self, since: Option<usize>) -> FromStack {
        self.numbered = self.changes.len();
        let since = since.map(|since| since as u64);
        FromStack::Told(Told { number: self.changes.len() as u64, since })
    }
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
            told: Default::default(),
            cpu_permille: 0,
            // A client has one connection from a port: targets never have the same one.
            next_client_port: 1024 + 16_000 * u16::try_from(number).unwrap(),
        }
    }

    pub(super) fn hello(&self) -> Hello {
        Hello {
            stack: self.name.clone(),
            cluster_addresses: vec![Address(self.address.parse().unwrap())],
            incarnation: self.incarnation,
            version: "model".to_owned(),
            ..Hello::default()
        }
    }

    /// A routing node says what it distributes: a complete report and a complete account answer it.
    pub(super) fn list(&mut self, node: usize, list: VipaList) -> Vec<FromStack> {
        let mut answers: Vec<FromStack> = self.candidate_of(&list).map(|dvipa| self.report(dvipa)).collect();
        let of: Vec<_> = self.candidate_of(&list).map(|dvipa| (dvipa.address, dvipa.epoch)).collect();
        let told = &mut self.told[node];
        let before = told.said.map(|said| (said, told.numbered)).or(told.heard.map(|heard| (heard, heard)));
        if let Some((said, since)) = before.filter(|(n, _)| told.of == of && *n <= told.changes.len()) {
            answers.extend(told.since(said, |c| self.connections.contains(c)));
            answers.push(told.number(Some(since)));
        } else {
            let here = self.connections.iter().copied();
            let connections: Vec<Connection> =
                here.filter(|c| self.candidate_of(&list).any(|d| self::of(c, d))).collect();
            let parts: Vec<&[Connection]> =
                if connections.is_empty() { vec![&[]] } else { connections.chunks(PART).collect() };
            for (i, part) in parts.iter().enumerate() {
                let (first, last) = (i == 0, i + 1 == parts.len());
                let connections = part.iter().copied().map(WireConnection).collect();
                answers.push(FromStack::Newconn(Newconn { first, last, connections }));
            }
            answers.push(self.told[node].number(None));
        }
        let told = &mut self.told[node];
        (told.said, told.of) = (Some(told.changes.len()), of);
        answers.push(FromStack::Load(Load { cpu_permille: self.cpu_permille, ..Load::default() }));
        self.lists[node] = Some(list);
        answers
    }

    /// An application begins or stops to listen: what each routing node is told.
    pub(super) fn listener(&mut self, port: u16, bound_to_dvipa: Option<bool>) -> Vec<(usize, FromStack)> {
        match bound_to_dvipa {
            Some(bound) => self.listeners.insert(port, bound),
            None => self.listeners.remove(&port),
        };
        let change = |dvipa: &VipaListDvipa| {
            let listening = bound_to_dvipa.is_some_and(|bound| self.counts(dvipa, port, bound));
            let listens = vec![Listen { protocol: Protocol::Tcp, port, listening }];
            FromStack::Srvstat(Srvstat { dvipa: dvipa.address, epoch: dvipa.epoch, complete: false, listens })
        };
        self.known_lists()
            .flat_map(|(node, list)| self.candidate_of(list).map(move |dvipa| (node, dvipa)))
            .map(|(node, dvipa)| (node, change(dvipa)))
            .collect()
    }

    /// Connections begin.
    pub(super) fn connect(&mut self, node: usize, count: usize) -> Vec<(usize, FromStack)> {
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
        self.tell(&connections, true)
    }

    /// The oldest connections end.
    pub(super) fn disconnect(&mut self, count: usize) -> Vec<(usize, FromStack)> {
        let ended: Vec<Connection> = self.connections.iter().copied().take(count).collect();
        self.connections.retain(|connection| !ended.contains(connection));
        self.tell(&ended, false)
    }

    /// A routing node says how far it has heard.
    pub(super) fn heard(&mut self, node: usize, number: u64) {
        self.told[node].heard = usize::try_from(number).ok();
    }

    /// The session with a routing node is over.
    pub(super) fn apart(&mut self, node: usize) {
        self.lists[node] = None;
        let told = &mut self.told[node];
        (told.said, told.heard, told.numbered) = (None, None, 0);
    }

    /// The agent's process begins anew.
    pub(super) fn restart(&mut self) {
        self.incarnation += 1;
        self.told = Default::default();
    }

    pub(super) fn load(&mut self, cpu_permille: u16) -> Vec<(usize, FromStack)> {
        self.cpu_permille = cpu_permille;
        let load = Load { cpu_permille, ..Load::default() };
        self.known_lists().map(|(node, _)| (node, FromStack::Load(load.clone()))).collect()
    }

    /// A report of the epoch before the present one: as a delayed message would be.
    pub(super) fn old_epoch(&self, node: usize, port: u16) -> Option<FromStack> {
        let dvipa = self.lists[node].as_ref()?.dvipas.first()?;
        let FromStack::Srvstat(mut report) = self.report(dvipa) else { return None };
        report.epoch.0 -= 1;
        report.listens.push(Listen { protocol: Protocol::Tcp, port, listening: true });
        Some(FromStack::Srvstat(report))
    }

    fn report(&self, dvipa: &VipaListDvipa) -> FromStack {
        let counting = self.listeners.iter().filter(|(port, bound)| self.counts(dvipa, **port, **bound));
        let listens =
            counting.map(|(port, _)| Listen { protocol: Protocol::Tcp, port: *port, listening: true });
        FromStack::Srvstat(Srvstat {
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

    /// Notes what became of connections for each routing node, and tells those that there is a session with.
    fn tell(&mut self, connections: &[Connection], began: bool) -> Vec<(usize, FromStack)> {
        let mut messages = Vec::new();
        for (node, told) in self.told.iter_mut().enumerate() {
            let is_told = |c: &&Connection| told.of.iter().any(|(d, _)| Dvipa::new(d.0) == c.service().dvipa);
            let theirs: Vec<_> = connections.iter().filter(is_told).map(|c| (*c, began)).collect();
            told.changes.extend(theirs);
            let Some(said) = told.said else { continue };
            let news = told.since(said, |_| true);
            told.said = Some(told.changes.len());
            messages.extend(news.into_iter().map(|message| (node, message)));
            if told.changes.len() % 3 > 0 {
                messages.push((node, told.number(None)));
            }
        }
        messages
    }
}

fn of(connection: &Connection, dvipa: &VipaListDvipa) -> bool {
    connection.service().dvipa == Dvipa::new(dvipa.address.0)
}
