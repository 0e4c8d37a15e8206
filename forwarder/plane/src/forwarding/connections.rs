//! What stacks say of their connections, and what follows from it in the CRT: entries come, are confirmed and end.

use std::sync::Arc;

use control::runtime::looking::FateKind;
use control::runtime::{Account, CrtEntry, MOST_SHARES};
use forwarder::crt::{BURST, Burst, Confirmed, Crt, CrtState, KeyParts, KeyV4, KeyV6, Refused, Row};
use forwarder::{Affinities, AnyKey, Now, Tables};
use hashbrown::HashMap;
use model::dpt::{Dpt, StackState, stack_of};
use model::{Connection, DvipaIndex, Protocol, StackIndex};

use super::account::Accounts;
use super::claims::Claim;
use super::fates::Fates;
use super::names::Names;
use super::purge::Purge;
use super::retiring::Retiring;
use super::walk::Walk;

/// In this time after the start every stack has said which UDP flows it has.
const SETTLING_MS: u64 = 10_000;

/// What the control thread knows of connections beside the CRT. Owned by that thread.
#[derive(Debug)]
pub struct Connections {
    pub(super) names: Names,
    pub(super) fates: Fates,
    accounts: Accounts,
    purge: Purge,
    retiring: Retiring,
    walk: Walk,
    dpt: Dpt,
    /// Until then the stacks' word on UDP flows counts more than what packets have made.
    settled_ms: u64,
    strays: u64,
    contested: u64,
    kept: Kept,
    begun: Begun,
    /// Scratch space.
    confirming: Confirming,
}

/// A service, and a stack that has connections of it.
pub(super) type Key = (DvipaIndex, u16, Protocol, StackIndex);

/// How connections of a service came to a stack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Count {
    /// It has confirmed so many new ones.
    pub(super) opened: u64,
    /// So many were moved to it.
    pub(super) moved: u64,
}

/// How the connections of each service came to each stack.
#[derive(Debug, Default)]
struct Begun(HashMap<Key, Count>);

impl Begun {
    fn of(&mut self, key: &KeyParts, stack: StackIndex) -> Option<&mut Count> {
        let share = (key.dvipa, key.dvipa_port, key.protocol, stack);
        let has_room = self.0.len() < MOST_SHARES || self.0.contains_key(&share);
        has_room.then(|| self.0.entry(share).or_default())
    }

    /// Nothing has these numbers any more.
    fn forget(&mut self, stacks: &[StackIndex], dvipas: &[DvipaIndex]) {
        self.0.retain(|(dvipa, _, _, stack), _| !stacks.contains(stack) && !dvipas.contains(dvipa));
    }
}

/// The TCP services whose clients keep their targets for a time.
#[derive(Debug, Default)]
struct Kept(HashMap<(DvipaIndex, u16), Arc<Affinities>>);

impl Kept {
    /// The clients of the connection's service, if they do.
    fn of(&self, key: &KeyParts) -> Option<&Affinities> {
        if self.0.is_empty() || key.protocol != Protocol::Tcp {
            return None;
        }
        self.0.get(&(key.dvipa, key.dvipa_port)).map(Arc::as_ref)
    }

    /// The same, if the connection is open.
    fn of_open(&self, crt: &Crt, key: AnyKey, now: Now) -> Option<&Affinities> {
        let of = self.of(&key.into())?;
        key.entry(crt, now).is_some_and(|entry| entry.state.counts()).then_some(of)
    }

    /// Ends a connection, and its client has one less if it was open. Returns what `end` does: whether it was ended.
    fn end(&self, crt: &Crt, key: AnyKey, now: Now, end: impl FnOnce() -> bool) -> bool {
        let of = self.of_open(crt, key, now);
        let ended = end();
        if ended && let Some(of) = of {
            of.ended(KeyParts::from(key).client.ip(), now);
        }
        ended
    }

    /// A stack has named the connection, and this became of its entry.
    fn named(&self, key: &KeyParts, owner: StackIndex, confirmed: Confirmed, now: Now) {
        let Some(of) = self.of(key) else { return };
        let client = key.client.ip();
        match confirmed {
            Confirmed::Promoted | Confirmed::New => of.opened(client, owner, now),
            Confirmed::Replaced(entry) if !entry.state.counts() => of.opened(client, owner, now),
            Confirmed::Replaced(_) => of.moved(client, owner, now),
            Confirmed::Unchanged => of.named(client, owner, now),
        }
    }
}

/// Keys of a NEWCONN on their way into the CRT.
#[derive(Debug, Default)]
struct Confirming {
    v4: Burst<KeyV4>,
    v6: Burst<KeyV6>,
}

impl Confirming {
    fn clear(&mut self) {
        self.v4.clear();
        self.v6.clear();
    }
}

impl Connections {
    /// Nothing is known yet.
    pub fn new(now: Now) -> Self {
        Self {
            names: Names::default(),
            fates: Fates::default(),
            accounts: Accounts::default(),
            purge: Purge::default(),
            retiring: Retiring::default(),
            walk: Walk::default(),
            dpt: Dpt::default(),
            settled_ms: now.ms.saturating_add(SETTLING_MS),
            strays: 0,
            contested: 0,
            kept: Kept::default(),
            begun: Begun::default(),
            confirming: Confirming::default(),
        }
    }

    /// What packets have made of UDP flows counts from now on.
    #[must_use]
    pub fn settled(self) -> Self {
        Self { settled_ms: 0, ..self }
    }

    /// This DPT is in force.
    pub fn publish(&mut self, dpt: &Dpt) {
        self.names.learn(&dpt.dvipas);
        self.purge.of(dpt, self.walk.after_a_round());
        self.retiring.published(dpt);
        self.dpt = dpt.clone();
    }

    /// The workers have these tables from now on.
    pub fn keep(&mut self, tables: &Tables) {
        self.kept = Kept(tables.affinities().map(|(service, of)| (service, Arc::clone(of))).collect());
    }

    /// See [`control::runtime::Forwarding::retire`].
    pub fn retire(&mut self, stacks: Vec<StackIndex>, dvipas: Vec<DvipaIndex>) {
        self.retiring.begin(stacks, dvipas, &self.dpt);
    }

    /// See [`control::runtime::Forwarding::newconn`].
    pub fn newconn(
        &mut self,
        crt: &Crt,
        owner: StackIndex,
        connections: &[Connection],
        account: Account,
        moving: &[Connection],
        now: Now,
    ) -> usize {
        if account.first {
            self.accounts.begin(owner, crt.stack_count(owner).connections > 0);
        }
        let earlier = account.earlier || self.accounts.are_given_by(owner);
        let held_elsewhere = self.confirm(crt, owner, connections, earlier, now);
        if account.last {
            let moving = moving.iter().filter_map(|connection| self.names.key(connection));
            moving.for_each(|key| self.accounts.named(owner, key.into()));
            self.accounts.end(owner, self.walk.after_a_round());
        }
        held_elsewhere
    }

    /// See [`control::runtime::Forwarding::termconn`].
    pub fn termconn(&mut self, crt: &Crt, owner: StackIndex, connections: &[Connection], now: Now) {
        let mut fates = self.fates.now();
        let mut ended = 0;
        for connection in connections {
            let Some(key) = self.names.key(connection) else { continue };
            // `false`: another stack has it.
            if self.kept.end(crt, key, now, || key.terminate(crt, owner, now)) {
                fates.note(*connection, FateKind::Ended, owner, None);
                ended += 1;
            }
        }
        crt.loads().ended(owner, ended);
    }

    /// An account that is under way does not end the connection: the stack that has it need not name it while it moves.
    pub(super) fn moves(&mut self, connection: &Connection) {
        if let Some(key) = self.names.key(connection) {
            self.accounts.need_not_name(key.into());
        }
    }

    /// Ends the next of the entries that nobody has any more; to be called at each tick. `oldest`: the generation of the oldest
    /// tables that a worker may have. Returns numbers of stacks and DVIPAs that nothing names any more.
    pub fn step(&mut self, crt: &Crt, oldest: u64, now: Now) -> Option<(Vec<StackIndex>, Vec<DvipaIndex>)> {
        self.retiring.workers_have(oldest, now, self.walk.after_a_round());
        if !self.looks() {
            return None;
        }
        let (purge, accounts, retiring) = (&self.purge, &self.accounts, &mut self.retiring);
        let (mut dead, mut unnamed) = (Vec::new(), Vec::new());
        self.walk.step(crt, now, |row| {
            if retiring.end_of(&row) || purge.end_of(&row) {
                dead.push((AnyKey::from(row.key), row.entry.owner));
            } else if accounts.end_of(&row) {
                unnamed.push((AnyKey::from(row.key), row.entry.owner));
            }
        });
        let (mut fates, names, kept) = (self.fates.now(), &self.names, &self.kept);
        for (key, owner) in dead {
            // `false`: another stack has it by now.
            if kept.end(crt, key, now, || key.bury(crt, owner, now))
                && let Some(connection) = names.connection(&key.into())
            {
                fates.note(connection, FateKind::StackDead, owner, None);
            }
        }
        for (key, owner) in unnamed {
            if kept.end(crt, key, now, || key.terminate(crt, owner, now))
                && let Some(connection) = names.connection(&key.into())
            {
                fates.note(connection, FateKind::NotNamed, owner, None);
            }
        }
        let here = self.walk.here();
        self.purge.walked(here);
        self.accounts.walked(here);
        let vacant = self.retiring.walked(crt, here, self.walk.after_a_round())?;
        vacant.1.iter().for_each(|dvipa| self.names.forget(*dvipa));
        self.begun.forget(&vacant.0, &vacant.1);
        Some(vacant)
    }

    /// Whether something is looked for in the whole CRT.
    pub fn looks(&self) -> bool {
        let Self { purge, accounts, retiring, .. } = self;
        purge.is_under_way() || accounts.are_looked_through() || retiring.are_looked_for()
    }

    /// What the CRT knows of a connection.
    pub(super) fn entry_of(&self, crt: &Crt, connection: &Connection, now: Now) -> Option<CrtEntry> {
        let key = self.names.key(connection)?;
        self.entry(Row { key: key.into(), entry: key.entry(crt, now)?, idle_s: 0 })
    }

    /// An entry as the cluster speaks of it; `None` if its DVIPA was never this node's.
    pub(super) fn entry(&self, row: Row) -> Option<CrtEntry> {
        Some(CrtEntry {
            connection: self.names.connection(&row.key)?,
            stack: row.entry.owner,
            state: row.entry.state,
            idle_ms: u64::from(row.idle_s) * 1000,
        })
    }

    /// How the connections of each service came to each stack, since the start.
    pub(super) fn begun(&self) -> impl Iterator<Item = (Key, Count)> {
        self.begun.0.iter().map(|(share, count)| (*share, *count))
    }

    /// The connection is to be another stack's.
    pub(super) fn note_move(&mut self, connection: &Connection, from: StackIndex, to: StackIndex, now: Now) {
        self.fates.now().note(*connection, FateKind::Moved, from, Some(to));
        let Some(key) = self.names.key(connection).map(KeyParts::from) else { return };
        if let Some(of) = self.kept.of(&key) {
            of.moved(key.client.ip(), to, now);
        }
        if let Some(count) = self.begun.of(&key, to) {
            count.moved += 1;
        }
    }

    /// Removes the connection's entry.
    pub(super) fn remove(&self, crt: &Crt, connection: &Connection, now: Now) {
        let Some(key) = self.names.key(connection) else { return };
        self.kept.end(crt, key, now, || match key {
            AnyKey::V4(key) => crt.remove(key).is_some(),
            AnyKey::V6(key) => crt.remove(key).is_some(),
        });
    }

    /// Reports that had no entry because this node never owned their DVIPA, and claims to connections of other stacks.
    pub(super) fn counts(&self) -> [u64; 2] {
        [self.strays, self.contested]
    }

    /// The connections' entries exist or are made at `owner`. A UDP flow that has one stays where it is, because its packets went
    /// there; but after the start a packet may have come before the word of the stack that had the flow.
    /// Returns how many other stacks have.
    fn confirm(
        &mut self,
        crt: &Crt,
        owner: StackIndex,
        connections: &[Connection],
        earlier: bool,
        now: Now,
    ) -> usize {
        let mut held_elsewhere = 0;
        let only_fills_in = |c: &Connection| c.protocol == Protocol::Udp && now.ms > self.settled_ms;
        for part in connections.chunks(BURST) {
            self.confirming.clear();
            for connection in part {
                let key = self.names.key(connection);
                let is_tcp = connection.protocol == Protocol::Tcp;
                if is_tcp && key.is_some_and(|key| self.is_void_claim(crt, key, (owner, earlier), now)) {
                    held_elsewhere += 1;
                    continue;
                }
                match key {
                    Some(key) if only_fills_in(connection) => {
                        let _ = key.insert_flow(crt, owner, now);
                    }
                    Some(AnyKey::V4(key)) => drop(self.confirming.v4.push(key)),
                    Some(AnyKey::V6(key)) => drop(self.confirming.v6.push(key)),
                    None => self.strays += 1,
                }
            }
            let (accounts, fates, names) = (&mut self.accounts, &mut self.fates, &self.names);
            let (begun, kept) = (&mut self.begun, &self.kept);
            let mut done = |key: KeyParts, done: Result<Confirmed, Refused>| {
                if let Ok(confirmed) = &done {
                    kept.named(&key, owner, *confirmed, now);
                }
                let opens = match done {
                    Ok(Confirmed::Promoted) => true,
                    Ok(Confirmed::New) => !earlier,
                    Ok(Confirmed::Replaced(entry)) => entry.state == CrtState::Closing,
                    Ok(Confirmed::Unchanged) | Err(_) => false,
                };
                if opens && let Some(count) = begun.of(&key, owner) {
                    count.opened += 1;
                }
                if let Some(former) = confirmed(accounts, owner, key, done)
                    && let Some(connection) = names.connection(&key)
                {
                    fates.now().note(connection, FateKind::Taken, former, Some(owner));
                }
            };
            crt.newconn_all(&mut self.confirming.v4, owner, now, |key, confirmed| {
                done(key.into(), confirmed)
            });
            crt.newconn_all(&mut self.confirming.v6, owner, now, |key, confirmed| {
                done(key.into(), confirmed)
            });
        }
        self.contested += u64::try_from(held_elsewhere).unwrap_or(u64::MAX);
        held_elsewhere
    }

    /// Whether the owner's claim to a connection is void, because another stack has it.
    fn is_void_claim(&self, crt: &Crt, key: AnyKey, (by, earlier): (StackIndex, bool), now: Now) -> bool {
        let Some(entry) = key.entry(crt, now) else { return false };
        let owner = stack_of(&self.dpt.stacks, entry.owner);
        let owner_is_up = owner.is_some_and(|owner| owner.state == StackState::Up);
        Claim { by, earlier, owner_is_up }.is_void(entry)
    }
}

/// A connection is named, unless it gets no entry here. Returns who had it.
fn confirmed(
    accounts: &mut Accounts,
    owner: StackIndex,
    key: KeyParts,
    done: Result<Confirmed, Refused>,
) -> Option<StackIndex> {
    match done {
        Ok(confirmed) => {
            accounts.named(owner, key);
            match confirmed {
                Confirmed::Replaced(former) if former.state.counts() && former.owner != owner => {
                    Some(former.owner)
                }
                _ => None,
            }
        }
        Err(refused) => {
            let KeyParts { client, dvipa_port, .. } = key;
            tracing::debug!(%client, dvipa_port, %refused, "no entry");
            None
        }
    }
}

#[cfg(test)]
mod tests;
