//! One routing stack as this host knows it: its session, its last VIPA list, and what it was told.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::time::Instant;

use model::codec::{Address, WireConnection};
use model::message::{
    After, Failing, FromStack, Listen, Looked, Newconn, Srvstat, Stalled, Termconn, Told, VipaList,
    VipaListDvipa,
};
use model::ranges::{Bound, Ranges};
use model::{Connection, Dvipa};

use super::listens::Served;
use super::log::Log;
use super::sockets::{Change, Place, Sockets};

/// Connections in one message: 160 kB of IPv6 ones.
pub const CONNECTIONS_A_MESSAGE: usize = 4096;

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
    /// It is being told of the connections.
    Answering,
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
    /// Where each DVIPA stands in it.
    places: HashMap<Dvipa, usize>,
    /// What it was told this host serves, in this session.
    told: BTreeMap<Dvipa, BTreeSet<Served>>,
    /// Which of that it was told serves nobody.
    told_unfit: BTreeMap<Dvipa, Unfit>,
    /// What became of connections since it was given a complete account, in this session or former ones.
    log: Log,
    /// The DVIPAs of that account. In which epoch they are owned, and by whom, is nothing to connections.
    accounted: BTreeSet<Dvipa>,
    /// Up to which number it was told; none: not in this session.
    said: Option<u64>,
    /// What it is being told of connections, in answer to its list.
    answer: Option<Answer>,
    /// It is still to be told some of what has followed: the next part has to wait until others have had their turn.
    pub(super) is_behind: bool,
    /// Up to which number it has heard in former sessions, as it says itself.
    pub(super) heard: Option<u64>,
    /// Connections that it is named again.
    again: Vec<Connection>,
    /// The last number that it was told, and the one that ends of transfers were put behind.
    numbered: u64,
    fenced: u64,
    owes_number: bool,
    /// Its ranges, kept when the session is lost; none: it has not said any.
    pub(super) ranges: Option<Ranges>,
    /// It has said them in this session.
    pub(super) said_ranges: bool,
    /// Which addresses of them this host claims, as it was told in this session.
    pub(super) told_bound: Option<Bound>,
    /// When it began to own what it had backed up, in this session.
    pub(super) took_over: Option<Instant>,
    /// Which question it has put that is to be answered behind the news.
    pub(super) asked: Option<u64>,
    /// Since the last such answer, events were lost: connections that it asked about may be here that it is not told of.
    pub(super) missed: bool,
}

/// Of what a DVIPA serves, what serves nobody.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Unfit {
    /// The TCP ports.
    pub(super) ports: BTreeSet<u16>,
    /// What fails, and why.
    pub(super) failing: BTreeMap<Served, String>,
}

/// How a list is answered.
#[derive(Debug)]
enum Answer {
    /// All connections are named, those behind this place and these UDP flows still.
    All { at: Place, first: bool, flows: Vec<Connection> },
    /// What has followed the number `since` is told, up to the number `to`.
    Missed { since: u64, to: u64 },
}

impl RoutingStack {
    /// A session begins or ends: what was told in the former one is void.
    pub(super) fn restart(&mut self, standing: Standing) {
        let (list, log) = (self.list.take(), std::mem::take(&mut self.log));
        let (accounted, ranges) = (std::mem::take(&mut self.accounted), self.ranges.take());
        let places = std::mem::take(&mut self.places);
        *self = Self { standing, list, places, log, accounted, ranges, ..Self::default() };
    }

    /// Whether it has listed its DVIPAs in this session.
    pub(super) fn is_heard(&self) -> bool {
        !matches!(self.standing, Standing::Apart | Standing::Greeted)
    }

    /// It lists these DVIPAs. What it was being told in answer to the list before ends in the middle: a complete account begins anew.
    pub(super) fn listed_anew(&mut self, list: VipaList) {
        if let Some(Answer::All { .. }) = self.answer.take() {
            self.accounted.clear();
            // Also if it lists nothing now, of which it would have an account.
            (self.said, self.heard) = (None, None);
        }
        let places = list.dvipas.iter().enumerate();
        self.places = places.map(|(place, entry)| (Dvipa::new(entry.address.0), place)).collect();
        self.list = Some(list);
    }

    /// Whether it owns something by this list that it backs up by the last one.
    pub(super) fn takes_over(&self, list: &VipaList) -> bool {
        let owned: BTreeSet<_> =
            list.dvipas.iter().filter(|entry| entry.owner).map(|entry| entry.address).collect();
        self.entries().any(|entry| !entry.owner && owned.contains(&entry.address))
    }

    /// The list's entry for this address.
    pub(super) fn entry(&self, dvipa: Dvipa) -> Option<&VipaListDvipa> {
        self.list.as_ref()?.dvipas.get(*self.places.get(&dvipa)?)
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
    ) -> Option<FromStack> {
        let address = Dvipa::new(entry.address.0);
        let before = self.told.insert(address, now.clone()).unwrap_or_default();
        if complete {
            self.told_unfit.remove(&address);
        }
        let listen = |&(protocol, port): &Served, listening| Listen { protocol, port, listening };
        let listens: Vec<_> = if complete {
            now.iter().map(|s| listen(s, true)).collect()
        } else {
            let ended = before.difference(&now).map(|s| listen(s, false));
            ended.chain(now.difference(&before).map(|s| listen(s, true))).collect()
        };
        let (dvipa, epoch) = (entry.address, entry.epoch);
        (complete || !listens.is_empty()).then_some(FromStack::Srvstat(Srvstat {
            dvipa,
            epoch,
            complete,
            listens,
        }))
    }

    /// Takes what of a DVIPA serves nobody now and says it, if it was told something else.
    pub(super) fn unfit(&mut self, entry: &VipaListDvipa, now: Unfit) -> Option<FromStack> {
        let told = self.told_unfit.entry(Dvipa::new(entry.address.0)).or_default();
        if *told == now {
            return None;
        }
        let failing =
            |(&(protocol, port), why): (&Served, &String)| Failing { protocol, port, why: why.clone() };
        let message = Stalled {
            dvipa: entry.address,
            epoch: entry.epoch,
            ports: now.ports.iter().copied().collect(),
            failing: (!now.failing.is_empty()).then(|| now.failing.iter().map(failing).collect()),
        };
        *told = now;
        Some(FromStack::Stalled(message))
    }

    /// What it was told that this host serves.
    pub(super) fn told(&self) -> impl Iterator<Item = (&Dvipa, &BTreeSet<Served>)> {
        self.told.iter()
    }

    /// What this host serves of a DVIPA, as it was told.
    pub(super) fn told_of(&self, dvipa: Dvipa) -> Option<&BTreeSet<Served>> {
        self.told.get(&dvipa)
    }

    /// Forgets what was told of DVIPAs that are no longer in the list.
    pub(super) fn forget_unlisted(&mut self) {
        let listed = self.listed();
        self.told.retain(|dvipa, _| listed.contains(dvipa));
        self.told_unfit.retain(|dvipa, _| listed.contains(dvipa));
        self.accounted.retain(|dvipa| listed.contains(dvipa));
    }

    /// The DVIPAs of its list.
    fn listed(&self) -> BTreeSet<Dvipa> {
        self.entries().map(|entry| Dvipa::new(entry.address.0)).collect()
    }

    /// Remembers a change of a connection, to be told with the next [`RoutingStack::take_news`], or after the session that begins
    /// next. Before the first complete account there is nothing to remember.
    pub(super) fn note(&mut self, change: Change) {
        if !self.accounted.is_empty() {
            self.log.note(change, self.said);
        }
    }

    /// This connection is here still. All that are named again at a time have one number, at which the log holds
    /// [`Change::Listeners`]: no change of a connection.
    pub(super) fn name_again(&mut self, connection: Connection) {
        if self.standing == Standing::Reporting {
            if self.again.is_empty() {
                self.note(Change::Listeners);
            }
            self.again.push(connection);
        }
    }

    /// Its next news say how far they go.
    pub(super) fn owe_number(&mut self) {
        self.owes_number = self.log.last() > self.numbered;
    }

    /// What is to go before the end of a transfer, so that nothing that was said before counts after it. While a new list of the
    /// session waits for its answer, the number at the end of that answer reaches it.
    pub(super) fn fence(&mut self) -> Option<FromStack> {
        let number = self.log.last();
        if self.said.is_none() || self.fenced == number {
            return None;
        }
        (self.fenced, self.owes_number) = (number, number > self.numbered);
        Some(FromStack::After(After { number }))
    }

    /// The messages that tell the noted changes in their order, at most so many; whether that is all stands in `is_behind`.
    pub(super) fn take_news(&mut self, most: usize) -> Vec<FromStack> {
        let (Standing::Reporting, Some(said)) = (self.standing, self.said) else { return Vec::new() };
        // First, so that the end of one of them counts.
        let again = std::mem::take(&mut self.again).into_iter().map(Change::Opened);
        let news = self.log.since(said).into_iter().flatten().take(most).copied();
        let mut messages = tell(&again.chain(news.filter(is_of_connection)).collect::<Vec<_>>());
        let said = self.says(said, self.log.last(), most);
        self.is_behind = said < self.log.last();
        if self.is_behind {
            return messages;
        }
        if self.owes_number {
            messages.push(self.number(None));
        }
        if let Some(number) = self.asked.take() {
            let anew = std::mem::take(&mut self.missed);
            messages.push(FromStack::Looked(Looked { number, anew }));
        }
        messages
    }

    /// It is told so many changes behind this number, none behind `to`.
    fn says(&mut self, from: u64, to: u64, most: usize) -> u64 {
        let said = from.saturating_add(u64::try_from(most).unwrap_or(u64::MAX)).min(to);
        self.said = Some(said);
        said
    }

    /// Begins to answer its list as far as connections are concerned: with what has followed since it heard last, if that is known, or
    /// with all, these UDP flows included, of which those are told that are served.
    pub(super) fn begin_to_answer(&mut self, flows: &[Connection]) {
        let listed = self.listed();
        // In a session nothing gets lost, so that what was said since the last number is known to be heard.
        let before = match self.said {
            Some(said) => Some((said, self.numbered)),
            None => self.heard.map(|heard| (heard, heard)),
        };
        // An account that is under way is none yet: what it would have named further on has no number.
        let is_whole = !matches!(self.answer, Some(Answer::All { .. }));
        let is_known = |said| self.accounted == listed && self.log.since(said).is_some();
        let before = before.filter(|(said, _)| is_whole && is_known(*said));
        self.answer = Some(match before {
            Some((said, number)) => {
                (self.said, self.numbered) = (Some(said), number);
                Answer::Missed { since: number, to: self.log.last() }
            }
            None => {
                // It does not name what has no socket here: claims that were to be told.
                self.missed = true;
                self.log.begin_anew();
                self.again.clear();
                self.said = Some(self.log.last());
                Answer::All { at: None, first: true, flows: flows.to_vec() }
            }
        });
        (self.accounted, self.standing) = (listed, Standing::Answering);
    }

    /// The next part of that. Only what is here now is said to have come, and nothing that moves. What comes or goes meanwhile is told
    /// afterwards, as it follows the number at the end.
    pub(super) fn answer_some(
        &mut self,
        most: usize,
        sockets: &Sockets,
        moves: impl Fn(&Connection) -> bool,
    ) -> Vec<FromStack> {
        match self.answer.take() {
            Some(Answer::All { mut at, mut first, mut flows }) => {
                let (part, is_last) = sockets.part(&mut at, most);
                let is_listed = |c: &Connection| self.entry(Dvipa::new(c.dvipa.ip())).is_some();
                let here = part.into_iter().filter(|c| is_listed(c) && !moves(c));
                let mut connections: Vec<_> = here.map(WireConnection).collect();
                if is_last {
                    let room = most.saturating_sub(connections.len());
                    let next = flows.drain(flows.len().saturating_sub(room)..).filter(|c| self.serves(c));
                    connections.extend(next.map(WireConnection));
                }
                let last = is_last && flows.is_empty();
                let mut messages = Vec::new();
                if first || last || !connections.is_empty() {
                    messages.push(FromStack::Newconn(Newconn { first, last, connections }));
                    first = false;
                }
                if last {
                    messages.push(self.answered(None));
                } else {
                    self.answer = Some(Answer::All { at, first, flows });
                }
                messages
            }
            Some(Answer::Missed { since, to }) => {
                let said = self.said.unwrap_or(to);
                // Nothing that has a number up to that of the answer is said after it.
                let again = std::mem::take(&mut self.again).into_iter().map(Change::Opened);
                let left = usize::try_from(to.saturating_sub(said)).unwrap_or(usize::MAX);
                let missed = self.log.since(said).into_iter().flatten().take(most.min(left)).copied();
                let is_here = |c: &Connection| sockets.has(c) && !moves(c);
                let counts = |change: &Change| {
                    is_of_connection(change) && !matches!(change, Change::Opened(c) if !is_here(c))
                };
                let mut messages = tell(&again.chain(missed).filter(counts).collect::<Vec<_>>());
                if self.says(said, to, most) == to {
                    messages.push(self.answered(Some(since)));
                } else {
                    self.answer = Some(Answer::Missed { since, to });
                }
                messages
            }
            None => Vec::new(),
        }
    }

    /// Whether this host serves what the flow is to, as it was told.
    fn serves(&self, flow: &Connection) -> bool {
        let service = (flow.protocol, flow.dvipa.port());
        self.told_of(Dvipa::new(flow.dvipa.ip())).is_some_and(|served| served.contains(&service))
    }

    /// The number at the end of an answer.
    fn answered(&mut self, since: Option<u64>) -> FromStack {
        self.standing = Standing::Reporting;
        self.number(since)
    }

    /// Up to where it was told.
    fn number(&mut self, since: Option<u64>) -> FromStack {
        self.numbered = self.said.unwrap_or_else(|| self.log.last());
        self.owes_number &= self.fenced > self.numbered;
        FromStack::Told(Told { number: self.numbered, since })
    }

    /// A complete account for `address` that says that nothing is served.
    pub(super) fn nothing_served(entry: &VipaListDvipa) -> FromStack {
        let VipaListDvipa { address, epoch, .. } = entry;
        let dvipa: Address = *address;
        FromStack::Srvstat(Srvstat { dvipa, epoch: *epoch, complete: true, listens: Vec::new() })
    }
}

/// Whether this is something to tell; the log has numbers without it.
fn is_of_connection(change: &Change) -> bool {
    !matches!(change, Change::Listeners)
}

/// The messages that tell changes in their order.
fn tell(changes: &[Change]) -> Vec<FromStack> {
    let kind = |c: &Change| matches!(c, Change::Opened(_));
    let runs = changes.chunk_by(|a, b| kind(a) == kind(b));
    runs.flat_map(|run| run.chunks(CONNECTIONS_A_MESSAGE)).map(message).collect()
}

/// A message for changes of one kind.
fn message(run: &[Change]) -> FromStack {
    let connections = run.iter().filter_map(|change| match change {
        Change::Opened(c) | Change::Ended(c) => Some(WireConnection(*c)),
        Change::Listeners => None,
    });
    let connections = connections.collect();
    match run.first() {
        Some(Change::Opened(_)) => FromStack::Newconn(Newconn { first: false, last: false, connections }),
        Some(Change::Ended(_) | Change::Listeners) | None => FromStack::Termconn(Termconn { connections }),
    }
}
