//! One routing stack as this host knows it: its session, its last VIPA list, and what it was told.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use model::codec::{Address, WireConnection};
use model::message::{Listen, Message, Newconn, Srvstat, Termconn, VipaList, VipaListDvipa};
use model::{Connection, Dvipa};

use super::listens::Served;
use super::sockets::Change;

/// Connections in one message: 400 kB of IPv6 ones.
pub const CONNECTIONS_A_MESSAGE: usize = 10_000;

/// How far the session is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Standing {
    /// There is none.
    #[default]
    Apart,
    /// There is one, but no VIPA list came in it yet.
    Greeted,
    /// A VIPA list came; it will be answered after a look at all sockets.
    Listed,
    /// That look is under way.
    Looking,
    /// The list was answered; changes are told as they happen.
    Reporting,
}

/// A routing stack.
#[derive(Debug, Default)]
pub(super) struct RoutingStack {
    /// How far its session is.
    pub(super) standing: Standing,
    /// The newest VIPA list, kept when the session is lost: the data path stays as it is.
    pub(super) list: Option<VipaList>,
    /// What it was told this host serves, in this session.
    told: BTreeMap<Dvipa, BTreeSet<Served>>,
    /// Changes of connections that it was not told yet.
    news: Vec<Change>,
}

impl RoutingStack {
    /// A session begins or ends: what was told in the former one is void.
    pub(super) fn restart(&mut self, standing: Standing) {
        *self = Self { standing, list: self.list.take(), ..Self::default() };
    }

    /// The list's entry for this address.
    pub(super) fn entry(&self, dvipa: Dvipa) -> Option<&VipaListDvipa> {
        self.entries().find(|e| Dvipa::new(e.address.0) == dvipa)
    }

    /// All entries of its list.
    pub(super) fn entries(&self) -> impl Iterator<Item = &VipaListDvipa> {
        self.list.iter().flat_map(|l| &l.dvipas)
    }

    /// The outer sources of its packets.
    pub(super) fn forwarders(&self) -> impl Iterator<Item = IpAddr> {
        self.list.iter().flat_map(|l| &l.forwarders).map(|a| a.0)
    }

    /// Takes what a DVIPA serves now and says what is to be told of it: everything in a `complete` account, otherwise the
    /// difference to what was told, if there is one.
    pub(super) fn srvstat(
        &mut self,
        entry: &VipaListDvipa,
        now: BTreeSet<Served>,
        complete: bool,
    ) -> Option<Message> {
        let before = self.told.insert(Dvipa::new(entry.address.0), now.clone()).unwrap_or_default();
        let listen = |&(protocol, port): &Served, listening| Listen { protocol, port, listening };
        let listens: Vec<_> = if complete {
            now.iter().map(|s| listen(s, true)).collect()
        } else {
            let ended = before.difference(&now).map(|s| listen(s, false));
            ended.chain(now.difference(&before).map(|s| listen(s, true))).collect()
        };
        let (dvipa, epoch) = (entry.address, entry.epoch);
        (complete || !listens.is_empty()).then_some(Message::Srvstat(Srvstat {
            dvipa,
            epoch,
            complete,
            listens,
        }))
    }

    /// What this host serves of a DVIPA, as it was told.
    pub(super) fn told(&self) -> impl Iterator<Item = (Dvipa, &BTreeSet<Served>)> {
        self.told.iter().map(|(dvipa, served)| (*dvipa, served))
    }

    /// Forgets what was told of DVIPAs that are no longer in the list.
    pub(super) fn forget_unlisted(&mut self) {
        let listed: BTreeSet<_> = self.entries().map(|e| Dvipa::new(e.address.0)).collect();
        self.told.retain(|dvipa, _| listed.contains(dvipa));
    }

    /// Remembers a change of a connection, to be told with the next [`RoutingStack::take_news`].
    pub(super) fn note(&mut self, change: Change) {
        if self.standing == Standing::Reporting {
            self.news.push(change);
        }
    }

    /// The messages that tell the noted changes in their order.
    pub(super) fn take_news(&mut self) -> Vec<Message> {
        let news = std::mem::take(&mut self.news);
        let kind = |c: &Change| matches!(c, Change::Opened(_));
        let runs = news.chunk_by(|a, b| kind(a) == kind(b));
        runs.flat_map(|run| run.chunks(CONNECTIONS_A_MESSAGE)).map(tell).collect()
    }

    /// The complete account of these connections. What was noted before is part of it.
    pub(super) fn account(&mut self, connections: &[Connection]) -> Vec<Message> {
        self.news.clear();
        let wire = |part: &[Connection]| part.iter().copied().map(WireConnection).collect::<Vec<_>>();
        let mut parts: Vec<_> = connections.chunks(CONNECTIONS_A_MESSAGE).map(wire).collect();
        if parts.is_empty() {
            parts.push(Vec::new());
        }
        let end = parts.len() - 1;
        let part =
            |(i, connections)| Message::Newconn(Newconn { first: i == 0, last: i == end, connections });
        parts.into_iter().enumerate().map(part).collect()
    }

    /// A complete account for `address` that says that nothing is served.
    pub(super) fn nothing_served(entry: &VipaListDvipa) -> Message {
        let VipaListDvipa { address, epoch, .. } = entry;
        let dvipa: Address = *address;
        Message::Srvstat(Srvstat { dvipa, epoch: *epoch, complete: true, listens: Vec::new() })
    }
}

/// A message for changes of one kind.
fn tell(run: &[Change]) -> Message {
    let connections = run.iter().filter_map(|change| match change {
        Change::Opened(c) | Change::Ended(c) => Some(WireConnection(*c)),
        Change::Listeners => None,
    });
    let connections = connections.collect();
    match run.first() {
        Some(Change::Opened(_)) => Message::Newconn(Newconn { first: false, last: false, connections }),
        Some(Change::Ended(_) | Change::Listeners) | None => Message::Termconn(Termconn { connections }),
    }
}
