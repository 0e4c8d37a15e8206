//! The connection routing table (CRT): connection → the stack that has it now.
//!
//! One table for all workers and the control thread. Look-ups take no lock and are made in bursts, step by step, so that
//! the memory's latency overlaps; a look-up never sees half an entry, never takes one connection for another (keys are
//! compared whole), and never misses a connection that was there all the time. Writers lock single cache lines.
//!
//! In reading order: [`key`] and [`entry`] (what is stored), [`meta`] and [`line`] (how one line is read and written),
//! [`hash`] and [`share`] (where a key goes), [`cuckoo`] and [`room`] (the main table), [`bounded`] (half-open connections and
//! fragments), [`family`] (both together: find, insert, promote, remove), [`burst`] and [`scan`] (look-ups, many at once),
//! [`ages`], [`ageing`], [`sweep`] and [`pressure`] (time), [`ledger`] (accounts), [`memory`] and [`layout`] (the mapping), [`put_right`] and
//! [`record`] (what a process leaves to its successor), [`stand_in`] (a table for a question). The concurrency argument is
//! the numbered rules L1–L5 ([`line`]), C1–C4 ([`cuckoo`]), B1–B3 ([`bounded`]), K1–K3 ([`family`]); `loom_check` checks them
//! with loom.

#![allow(
    clippy::arithmetic_side_effects,
    reason = "no number here comes from a packet: bit fields, and indices below the table's size"
)]

mod ageing;
mod ages;
mod atomic;
mod attach;
mod bounded;
mod burst;
mod config;
mod cuckoo;
mod entry;
mod family;
mod hash;
mod key;
mod layout;
mod ledger;
mod line;
#[cfg_attr(loom, path = "memory_model.rs")]
mod memory;
mod meta;
mod pressure;
mod put_right;
mod record;
mod room;
mod scan;
mod share;
mod stand_in;
mod stats;
mod sweep;

use std::fs::File;
use std::io;
use std::time::Duration;

use model::StackIndex;

use crate::loads::Loads;
use bounded::Bounded;
use family::{Change, Common, Family, check};
use key::{Exact, is_udp};
use ledger::Counter;
use sealed::Connection as _;
use share::Place;

pub use burst::{Burst, Found};
pub use config::Config;
pub use entry::Entry;
pub use key::{FragmentKeyV4, FragmentKeyV6, KeyParts, KeyV4, KeyV6};
pub use layout::Unusable;
pub(crate) use memory::prefetch;
pub use model::CrtState;
pub use put_right::{Left, Named, Repairs};
pub use stats::{Fill, StackCount, Stats};

/// The most keys of one burst.
pub const BURST: usize = 32;

/// The time, as the caller's clock says it; never goes backwards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Now {
    /// Milliseconds since a moment that stays the same for the life of the table.
    pub ms: u64,
}

/// Why an entry was not made or changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// No room: counted in [`Stats::refused_full`].
    #[error("the table is full")]
    Full,
    /// Other writers held the entry's place for longer than a worker may wait: counted in [`Stats::refused_busy`].
    #[error("the entry's place is being changed")]
    Busy,
    /// The DVIPA or stack index does not fit an entry.
    #[error("an index is out of range")]
    Index,
}

/// What [`Crt::confirm`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Confirmed {
    /// It was half-open, and is established now.
    Promoted,
    /// There was no entry: it is new.
    New,
    /// Already so.
    Unchanged,
    /// It was another stack's, or closing: it is established at the reporting stack now.
    Replaced(Entry),
}

/// One entry, as the displays see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// Which connection.
    pub key: KeyParts,
    /// What is known of it.
    pub entry: Entry,
    /// Seconds since its last packet, to the precision in which the table keeps it.
    pub idle_s: u32,
}

/// Where a scan is: the number of a line. Starts at [`Cursor::default`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor(pub u64);

/// A key and where it belongs in the table, so that it is hashed once however often it is asked about. Another table finds
/// nothing at that place.
#[derive(Clone, Copy, Debug)]
pub struct Located<K> {
    key: K,
    place: Place,
}

impl<K: Copy> Located<K> {
    /// The key.
    #[inline(always)]
    pub fn key(&self) -> K {
        self.key
    }
}

mod sealed {
    //! Which part of a table a key belongs to.
    use super::{Bounded, Crt, Exact, Family, Key, Located};

    /// A key of connections, located or not.
    pub trait Locate {
        /// The key's type.
        type Key: Key;

        /// Where it belongs in this table.
        fn locate(self, crt: &Crt) -> Located<Self::Key>;
    }

    /// A key of connections.
    pub trait Connection: Exact + Into<super::KeyParts> {
        /// Where its connections are.
        fn family(crt: &Crt) -> &Family<Self>;
    }

    /// A key of datagrams in fragments.
    pub trait Datagram: Exact {
        /// Where its datagrams are.
        fn fragments(crt: &Crt) -> &Bounded<Self>;
    }
}

/// A key of connections: [`KeyV4`] or [`KeyV6`].
pub trait Key: sealed::Connection {}
/// A key of datagrams in fragments: [`FragmentKeyV4`] or [`FragmentKeyV6`].
pub trait FragmentKey: sealed::Datagram {}

/// What the table is asked about: a [`Key`], or one that is [`Located`].
pub trait Locate: sealed::Locate {}

impl Key for KeyV4 {}
impl Key for KeyV6 {}
impl<K: Key> Locate for K {}
impl<K: Key> Locate for Located<K> {}
impl FragmentKey for FragmentKeyV4 {}
impl FragmentKey for FragmentKeyV6 {}

impl<K: Key> sealed::Locate for K {
    type Key = K;
    #[inline]
    fn locate(self, crt: &Crt) -> Located<K> {
        Located { key: self, place: K::family(crt).main.place(&crt.common.secret, self) }
    }
}
impl<K: Key> sealed::Locate for Located<K> {
    type Key = K;
    #[inline(always)]
    fn locate(self, _: &Crt) -> Self {
        self
    }
}

impl sealed::Connection for KeyV4 {
    #[inline(always)]
    fn family(crt: &Crt) -> &Family<Self> {
        &crt.v4
    }
}
impl sealed::Connection for KeyV6 {
    #[inline(always)]
    fn family(crt: &Crt) -> &Family<Self> {
        &crt.v6
    }
}
impl sealed::Datagram for FragmentKeyV4 {
    fn fragments(crt: &Crt) -> &Bounded<Self> {
        &crt.fragments_v4
    }
}
impl sealed::Datagram for FragmentKeyV6 {
    fn fragments(crt: &Crt) -> &Bounded<Self> {
        &crt.fragments_v6
    }
}

/// The table. Shared by all workers and the control thread; every method takes `&self`.
#[derive(Debug)]
pub struct Crt {
    v4: Family<KeyV4>,
    v6: Family<KeyV6>,
    fragments_v4: Bounded<FragmentKeyV4>,
    fragments_v6: Bounded<FragmentKeyV6>,
    common: Common,
    record: Option<record::Record>,
    loads: Loads,
    bytes: usize,
}

impl Crt {
    /// An empty table in this process's own memory.
    ///
    /// # Errors
    /// The system's, if the memory can't be had.
    pub fn new(config: &Config) -> io::Result<Self> {
        Ok(Self::of(config, layout::create(config, None)?))
    }

    /// An empty table in `file` (a memfd, or a file in hugetlbfs or tmpfs), whose former contents are lost.
    ///
    /// # Errors
    /// The system's, if the memory can't be had.
    pub fn create_in(config: &Config, file: &File) -> io::Result<Self> {
        Ok(Self::of(config, layout::create(config, Some(file))?))
    }

    /// What another process left in `file`, which must have ended. [`Left::attach`] makes a table of it.
    ///
    /// # Errors
    /// [`Unusable`]: why it is no table that this process can go on with.
    pub fn find_in(config: &Config, file: &File) -> Result<Left, Unusable> {
        layout::find(config, file).map(|parts| Left::new(config, parts))
    }

    /// Has the table's file say what the numbers in entries mean, in the caller's own words. Whatever moment this process dies at,
    /// [`Left::record`] is what was said before, or this. `false`: the table is in no file, or there is no room for so much.
    pub fn record(&self, meanings: &[u8]) -> bool {
        self.record.as_ref().is_some_and(|record| record.write(meanings))
    }

    /// Whether the table outlives this process.
    pub fn is_in_a_file(&self) -> bool {
        self.record.is_some()
    }

    /// Has the table's file say what the table's clock shows, so that [`Left::clock`] can tell another process. `system_ms`: of the
    /// system's clock that counts from its start.
    pub fn keep_time(&self, now: Now, system_ms: u64) {
        self.common.ledger.set(Counter::Clock, now.ms.wrapping_sub(system_ms));
    }

    /// Looks up a burst on its own: [`Self::locate`], [`Self::request`], [`Self::read`], [`Self::finish`].
    #[inline]
    pub fn look_up<K: Key>(&self, burst: &mut Burst<K>, now: Now) {
        self.locate(burst);
        self.request(burst);
        self.read(burst, None);
        self.finish(burst, now);
    }

    /// First step of a burst's look-up: where its keys belong.
    #[inline]
    pub fn locate<K: Key>(&self, burst: &mut Burst<K>) {
        burst.place(&self.common.secret, K::family(self).main.division());
    }

    /// Second step: starts to fetch the lines of a burst, all at once. Not needed for one that was `next` in a [`Self::read`].
    #[inline]
    pub fn request<K: Key>(&self, burst: &Burst<K>) {
        K::family(self).request(burst);
    }

    /// Third step: reads the lines, and starts to fetch those that the last step needs. Starts to fetch the lines of the
    /// `next` burst too ([located](Self::locate) before), between its own: memory then works without a pause, and no more is asked of it at once than
    /// it takes, which halves the cost of a key in a table that does not fit the cache.
    #[inline]
    pub fn read<K: Key>(&self, burst: &mut Burst<K>, next: Option<&Burst<K>>) {
        K::family(self).read(burst, next);
    }

    /// Last step: [`Burst::found`] is what the table knows of the keys. Marks what is found as used at `now`. Costs least when
    /// another burst was read since.
    #[inline]
    pub fn finish<K: Key>(&self, burst: &mut Burst<K>, now: Now) {
        K::family(self).finish(&self.common, burst, now);
    }

    /// Starts to fetch the lines that changes of these keys will touch ([`Self::terminate`], [`Self::remove`] and the others, one key
    /// after the other).
    pub fn prepare<K: Key>(&self, burst: &mut Burst<K>) {
        self.locate(burst);
        K::family(self).prepare(burst);
    }

    /// Where a key belongs.
    #[inline]
    pub fn place<K: Key>(&self, key: K) -> Located<K> {
        sealed::Locate::locate(key, self)
    }

    /// A key's hash, which nobody without the table's secret can choose: for a worker's own tables of connections.
    #[inline]
    pub(crate) fn number<K: Key>(&self, key: K) -> u64 {
        self.common.secret.number(key)
    }

    /// A single look-up.
    pub fn get<A: Locate>(&self, at: A, now: Now) -> Option<Entry> {
        let Located { key, place } = at.locate(self);
        A::Key::family(self).find(&self.common, key, place, now).entry()
    }

    /// Makes a half-open entry, in the bounded part of the table, where it may replace an older half-open one. A
    /// closing entry becomes half-open at the new owner. Any other entry that is there already stays in force.
    /// Returns what is in force now: the packet goes to *its* owner.
    ///
    /// # Errors
    /// [`Refused::Busy`] or [`Refused::Index`]; the packet has to be dropped then.
    pub fn insert_half_open<A: Locate>(&self, at: A, owner: StackIndex, now: Now) -> Result<Entry, Refused> {
        let at = at.locate(self);
        let done = A::Key::family(self).insert_half_open(&self.common, at, owner, now);
        self.count_refusal(done)
    }

    /// Makes the entry of a UDP flow, in UDP's share of the main table, where it may replace the oldest of others. An entry of
    /// another owner than `former` that is there already stays in force. Returns what is in force now: the packet goes to *its*
    /// owner. For workers: waits some microseconds at most.
    ///
    /// # Errors
    /// [`Refused`]; the packet has to be dropped then.
    pub fn insert_flow<A: Locate>(
        &self,
        at: A,
        owner: StackIndex,
        former: Option<StackIndex>,
        now: Now,
    ) -> Result<Entry, Refused> {
        let at = at.locate(self);
        let done = A::Key::family(self).insert_flow(&self.common, at, owner, former, now);
        self.count_refusal(done)
    }

    /// A connection is with its owner (NEWCONN): into the main table. A frozen entry of the same owner stays as it is. For the
    /// control thread: waits for as long as it takes.
    ///
    /// # Errors
    /// [`Refused::Full`] or [`Refused::Index`]; the entry is then as it was.
    pub fn newconn<K: Key>(&self, key: K, owner: StackIndex, now: Now) -> Result<Confirmed, Refused> {
        let done = patiently(|| K::family(self).confirm(&self.common, key, owner, now));
        self.count_refusal(done)
    }

    /// A packet proves that a connection is with its owner: as [`Crt::newconn`], for workers: waits some microseconds at most.
    ///
    /// # Errors
    /// [`Refused`]; the entry is then as it was.
    pub fn promote<K: Key>(&self, key: K, owner: StackIndex, now: Now) -> Result<Confirmed, Refused> {
        self.count_refusal(K::family(self).confirm(&self.common, key, owner, now))
    }

    /// How many entries were not made because the main table was full.
    pub(crate) fn refused_full(&self) -> u64 {
        self.common.ledger.get(Counter::RefusedFull)
    }

    /// [`Crt::newconn`] of many keys; tells `each` what became of every one, in their order. Hashed, fetched and counted
    /// together: half of what one at a time costs.
    pub fn newconn_all<K: Key>(
        &self,
        burst: &mut Burst<K>,
        owner: StackIndex,
        now: Now,
        mut each: impl FnMut(K, Result<Confirmed, Refused>),
    ) {
        let (family, mut new_tcp, mut new_udp) = (K::family(self), 0, 0);
        self.prepare(burst);
        for Located { key, place } in burst.located() {
            let done = patiently(|| family.confirm_at(&self.common, key, place, owner, now));
            let new = if is_udp(key.service()) { &mut new_udp } else { &mut new_tcp };
            *new += u32::from(done == Ok(Confirmed::New));
            each(key, self.count_refusal(done));
        }
        self.common.ledger.came(family.connections, owner, new_tcp);
        self.common.ledger.came(family.flows, owner, new_udp);
    }

    /// The owner's connection has ended (TERMCONN): [`CrtState::Closing`]. Does nothing, and returns `false`, if the
    /// connection is not `owner`'s. For the control thread: waits for as long as it takes.
    pub fn terminate<K: Key>(&self, key: K, owner: StackIndex, now: Now) -> bool {
        let mut ours = false;
        self.modify(key, now, |old| {
            ours = old.owner == owner;
            let closing = Entry { owner, state: CrtState::Closing };
            if ours && old != closing { Change::Set(closing) } else { Change::Keep }
        });
        ours
    }

    /// Changes owner and state in one step if the entry is as expected. For the control thread: waits for as long as it
    /// takes.
    ///
    /// # Errors
    /// The entry as it is, `None` if there is none (or `new` does not fit an entry).
    pub fn change<K: Key>(&self, key: K, expected: Entry, new: Entry, now: Now) -> Result<(), Option<Entry>> {
        let fits = check(key, new).is_ok();
        let old = self
            .modify(key, now, |old| if fits && old == expected { Change::Set(new) } else { Change::Keep });
        if fits && old == Some(expected) { Ok(()) } else { Err(old) }
    }

    /// Removes an entry at once; returns what it was. For the control thread: waits for as long as it takes.
    pub fn remove<K: Key>(&self, key: K) -> Option<Entry> {
        self.modify(key, Now::default(), |_| Change::Remove)
    }

    /// Remembers which stack the fragments of a datagram go to. May replace an older datagram's.
    ///
    /// # Errors
    /// [`Refused::Busy`] or [`Refused::Index`].
    pub fn insert_fragment<K: FragmentKey>(
        &self,
        key: K,
        owner: StackIndex,
        now: Now,
    ) -> Result<(), Refused> {
        let entry = Entry { owner, state: CrtState::Established };
        check(key, entry)?;
        let fragments = K::fragments(self);
        let stamp = fragments.ages().stamp(now);
        let Some(line) = fragments.lock(fragments.place(&self.common.secret, key)) else {
            return self.count_refusal(Err(Refused::Busy));
        };
        if let Some((slot, _)) = line.find(key) {
            slot.update(entry, stamp);
        } else if line.insert(key, entry, stamp).is_some() {
            self.common.ledger.add(Counter::FragmentsEvicted, 1);
        }
        Ok(())
    }

    /// Which stack the fragments of a datagram go to.
    pub fn fragment<K: FragmentKey>(&self, key: K, now: Now) -> Option<StackIndex> {
        let fragments = K::fragments(self);
        let place = fragments.place(&self.common.secret, key);
        fragments.get_living(place, key, now).map(|entry| entry.owner)
    }

    /// Ends entries that are too old, looking at `budget` lines of up to four entries; goes round the table call by
    /// call. Returns how many it ended. For one thread; [`Crt::age_budget`] says how often.
    pub fn age(&self, now: Now, budget: usize) -> usize {
        self.age_lines(now, budget)
    }

    /// The budget with which [`Crt::age`] has to be called each `interval`: goes round twice in the shortest life, and often enough
    /// that no entry's stamp can come round.
    pub fn age_budget(&self, interval: Duration) -> usize {
        let round_ms = self
            .v4
            .ages
            .sweep_ms()
            .min(self.v4.flow_ages.sweep_ms())
            .min(self.v4.half_open.ages().sweep_ms())
            .min(self.fragments_v4.ages().sweep_ms());
        let share = interval
            .as_millis()
            .saturating_mul(self.all_lines() as u128)
            .div_ceil(u128::from(round_ms.max(1)));
        usize::try_from(share).unwrap_or(usize::MAX)
    }

    /// Shows the connections in `budget` lines to `each`; returns where to go on, or `None` at the end. Stops nobody: an entry
    /// that is moved meanwhile may be shown twice or not at all.
    pub fn scan(&self, from: Cursor, budget: usize, now: Now, mut each: impl FnMut(Row)) -> Option<Cursor> {
        self.scan_lines(from, budget, now, &mut each)
    }

    /// Changes whenever a frozen entry is frozen no longer, or ends.
    #[inline(always)]
    pub fn thaws(&self) -> u64 {
        self.common.ledger.thaws()
    }

    /// How many connections `stack` has.
    pub fn stack_count(&self, stack: StackIndex) -> StackCount {
        self.common.ledger.stack(stack)
    }

    /// What stacks have to do. Of this process: no table in a file has it.
    pub fn loads(&self) -> &Loads {
        &self.loads
    }

    /// Removes an entry at once if it is `owner`'s and not moving; returns whether it did. For the control thread: waits for as
    /// long as it takes.
    pub fn bury<K: Key>(&self, key: K, owner: StackIndex, now: Now) -> bool {
        let ends = |old: Entry| {
            let moves = matches!(old.state, CrtState::Frozen | CrtState::HandingOver);
            old.owner == owner && !moves
        };
        let change = |old| if ends(old) { Change::Remove } else { Change::Keep };
        self.modify(key, now, change).is_some_and(ends)
    }

    /// A SYN of a connection whose owner is not heard of: half-open at another stack now, if the entry is still what was
    /// `found`. Returns what is in force: the packet goes to *its* owner. For workers: waits some microseconds at most.
    ///
    /// # Errors
    /// [`Refused::Busy`] or [`Refused::Index`]; the packet has to be dropped then.
    pub fn reselect<K: Key>(&self, key: K, found: Entry, to: StackIndex, now: Now) -> Result<Entry, Refused> {
        let new = Entry { owner: to, state: CrtState::HalfOpen };
        check(key, new)?;
        let change = |_, old, _: &_| if old == found { Change::Set(new) } else { Change::Keep };
        match K::family(self).modify(&self.common, key, now, change) {
            Ok(Some(old)) if old == found => Ok(new),
            Ok(Some(old)) => Ok(old),
            Ok(None) => self.insert_half_open(key, to, now),
            Err(refused) => self.count_refusal(Err(refused)),
        }
    }

    fn modify<K: Key>(&self, key: K, now: Now, mut change: impl FnMut(Entry) -> Change) -> Option<Entry> {
        let family = K::family(self);
        patiently(|| family.modify(&self.common, key, now, |_, old, _| change(old))).unwrap_or(None)
    }

    fn count_refusal<T>(&self, done: Result<T, Refused>) -> Result<T, Refused> {
        match done {
            Err(Refused::Full) => self.common.ledger.add(Counter::RefusedFull, 1),
            Err(Refused::Busy) => self.common.ledger.add(Counter::RefusedBusy, 1),
            _ => {}
        }
        done
    }
}

/// Tries again for as long as a lock can't be had. Not for workers.
fn patiently<T>(mut attempt: impl FnMut() -> Result<T, Refused>) -> Result<T, Refused> {
    loop {
        match attempt() {
            Err(Refused::Busy) => atomic::yield_now(),
            done => return done,
        }
    }
}

#[cfg(all(test, loom))]
mod loom_check;
#[cfg(all(test, not(loom)))]
mod tests;
