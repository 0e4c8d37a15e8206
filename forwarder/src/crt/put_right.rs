//! From what a dead process left in a file to a sound table.
//!
//! | what it was at | what it leaves | what becomes of it |
//! | --- | --- | --- |
//! | a change of an entry | the lock of its line (C1), which no other writer gets | the lock ends |
//! | a move | two copies that say the same (C2), in two lines that are locked | the one in the second line ends |
//! | a promotion | the half-open entry too (K2), in a line that is locked | that one ends |
//! | an overflow | a count that is too high (C3), never one that is too low | stays: it costs a look into another line |
//! | the accounts | are not those of the entries | counted anew |
//!
//! So what does not hold a lock is sound, and one pass in the order of the memory finds everything: no key is hashed but those in lines
//! that are locked. It looks at every entry, because a file may be damaged: what can't be an entry ends, and what has a number that
//! means nothing any more. Entries that are frozen or being handed over end too: the packets that waited and the handoff option were the
//! process's own. Such a connection is an orphan then, of which the stacks are asked.

use std::ops::Range;
use std::thread;

use model::{DvipaIndex, StackIndex};

use super::ages::key_of;
use super::atomic::Ordering;
use super::family::Family;
use super::key::Exact;
use super::layout::Parts;
use super::ledger::{Counter, STACK_WORDS, account};
use super::line::{Line, Slot};
use super::memory::Array;
use super::meta::Meta;
use super::{Config, Crt, CrtState, Entry, FragmentKeyV4, FragmentKeyV6};

/// The fewest lines that are worth a thread.
const LINES_A_THREAD: usize = 1 << 18;
/// The most threads: more do not read memory faster.
const THREADS: usize = 8;
/// The longest that a clock can have shown, in milliseconds: some 139 years.
const LONGEST_MS: u64 = 1 << 42;

/// What a process has left in a file: a table, once it is known which numbers mean something.
#[derive(Debug)]
pub struct Left {
    config: Config,
    parts: Parts,
}

/// The numbers that mean something.
#[derive(Clone, Debug)]
pub struct Named {
    stacks: Box<[bool]>,
    dvipas: Box<[bool]>,
}

/// What had to be put right.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Repairs {
    /// Lines that were being changed.
    pub locked: u64,
    /// Entries of connections that were moving, which have ended.
    pub moving: u64,
    /// Entries of stacks and DVIPAs that mean nothing any more, which have ended.
    pub unnamed: u64,
    /// Entries that could be none, or were there twice, which have ended.
    pub damaged: u64,
}

impl Named {
    /// These, and no others.
    pub fn new(
        stacks: impl IntoIterator<Item = StackIndex>,
        dvipas: impl IntoIterator<Item = DvipaIndex>,
    ) -> Self {
        let mark = |numbers: &mut [bool], number: u16| {
            if let Some(is_named) = numbers.get_mut(usize::from(number)) {
                *is_named = true;
            }
        };
        let none = |max: u16| vec![false; usize::from(max) + 1].into_boxed_slice();
        let mut named = Self { stacks: none(StackIndex::MAX), dvipas: none(DvipaIndex::MAX) };
        stacks.into_iter().for_each(|stack| mark(&mut named.stacks, stack.0));
        dvipas.into_iter().for_each(|dvipa| mark(&mut named.dvipas, dvipa.0));
        named
    }

    fn has(&self, meta: Meta) -> bool {
        let dvipa = meta.service() as usize & usize::from(DvipaIndex::MAX);
        let is = |numbers: &[bool], number: usize| numbers.get(number).copied().unwrap_or(false);
        is(&self.stacks, usize::from(meta.owner().0)) && is(&self.dvipas, dvipa)
    }
}

impl Left {
    pub(super) fn new(config: &Config, parts: Parts) -> Self {
        Self { config: config.clone(), parts }
    }

    /// What the numbers in entries mean, as [`Crt::record`] was told; none: nothing was said, or it is damaged.
    pub fn record(&self) -> Option<Vec<u8>> {
        self.parts.record.as_ref()?.read()
    }

    /// What the table's clock shows now; `system_ms`: what the system's clock shows that counts from its start. None: it can't be right.
    pub fn clock(&self, system_ms: u64) -> Option<u64> {
        let ahead = self.parts.counters.at(Counter::Clock as usize).load(Ordering::Relaxed);
        Some(ahead.wrapping_add(system_ms)).filter(|ms| *ms <= LONGEST_MS)
    }

    /// Goes on with the table. What has other numbers than those named ends.
    pub fn attach(self, named: &Named) -> (Crt, Repairs) {
        let crt = Crt::of(&self.config, self.parts);
        let repairs = crt.put_right(named);
        (crt, repairs)
    }
}

impl Crt {
    fn put_right(&self, named: &Named) -> Repairs {
        let v4 = FamilyFound::of(&self.v4, named);
        let v6 = FamilyFound::of(&self.v6, named);
        let fragments_v4 = pass_over::<FragmentKeyV4>(self.fragments_v4.lines(), named);
        let fragments_v6 = pass_over::<FragmentKeyV6>(self.fragments_v6.lines(), named);
        self.fragments_v4.count();
        self.fragments_v6.count();
        let ledger = &self.common.ledger;
        let mut sum = Found::default();
        for found in [&v4.main, &v4.half_open, &v6.main, &v6.half_open] {
            sum.add_accounts(found);
        }
        ledger.begin(&sum.stacks);
        self.end_copies(&self.v4, &v4, &mut sum.repairs);
        self.end_copies(&self.v6, &v6, &mut sum.repairs);
        sum.repairs.add(&fragments_v4.repairs);
        sum.repairs.add(&fragments_v6.repairs);
        sum.repairs
    }

    /// Writes a family's accounts down, and ends what lines that were locked have twice.
    fn end_copies<K: Exact>(&self, family: &Family<K>, found: &FamilyFound, repairs: &mut Repairs) {
        let (ledger, secret, main) = (&self.common.ledger, &self.common.secret, &family.main);
        ledger.set(family.connections, found.main.tcp);
        ledger.set(family.flows, found.main.udp);
        ledger.set(family.half_opens, found.half_open.tcp + found.half_open.udp);
        for number in &found.main.locked {
            for (slot, key, meta) in entries::<K>(main.line(*number)) {
                let place = main.place(secret, key);
                // C2: a copy in the first line says the same.
                if *number == place.second && main.first(place).find(key).is_some() {
                    slot.clear();
                    ledger.one_less(family.counter(key));
                    ledger.changed(meta.entry(), None);
                    repairs.damaged += 1;
                }
            }
        }
        for number in &found.half_open.locked {
            for (slot, key, meta) in entries::<K>(family.half_open.lines().at(*number as usize)) {
                // K2: the main table's is the newer one.
                if main.locate(main.place(secret, key), key).is_some() {
                    slot.clear();
                    ledger.one_less(family.half_opens);
                    ledger.changed(meta.entry(), None);
                    repairs.damaged += 1;
                }
            }
        }
        family.half_open.count();
    }
}

/// The entries of a line.
fn entries<K: Exact>(line: &Line) -> impl Iterator<Item = (Slot<'_, K>, K, Meta)> {
    line.slots::<K>().filter_map(|slot| {
        let (words, meta) = slot.read()?;
        Some((slot, key_of::<K>(words, meta), meta))
    })
}

/// What passes over the lines of a family have found.
struct FamilyFound {
    main: Found,
    half_open: Found,
}

impl FamilyFound {
    fn of<K: Exact>(family: &Family<K>, named: &Named) -> Self {
        Self {
            main: pass_over::<K>(family.main.lines(), named),
            half_open: pass_over::<K>(family.half_open.lines(), named),
        }
    }
}

/// What a pass over lines has found.
#[derive(Debug, Default)]
struct Found {
    /// As the ledger has them.
    stacks: Vec<u32>,
    tcp: u64,
    udp: u64,
    /// Lines that were being changed.
    locked: Vec<u32>,
    repairs: Repairs,
}

impl Repairs {
    fn add(&mut self, other: &Self) {
        self.locked += other.locked;
        self.moving += other.moving;
        self.unnamed += other.unnamed;
        self.damaged += other.damaged;
    }
}

impl Found {
    fn add_accounts(&mut self, other: &Self) {
        self.stacks.resize(STACK_WORDS, 0);
        self.stacks.iter_mut().zip(&other.stacks).for_each(|(sum, count)| *sum += count);
        self.repairs.add(&other.repairs);
    }

    fn add(&mut self, other: Self) {
        self.add_accounts(&other);
        self.tcp += other.tcp;
        self.udp += other.udp;
        self.locked.extend(other.locked);
    }
}

/// Looks at every line, with as many threads as may run where this one may.
fn pass_over<K: Exact>(lines: &Array<Line>, named: &Named) -> Found {
    let most = thread::available_parallelism().map_or(1, |n| n.get().min(THREADS));
    let threads = (lines.len() / LINES_A_THREAD).clamp(1, most);
    let share = lines.len().div_ceil(threads);
    let part = |n: usize| n * share..lines.len().min((n + 1) * share);
    thread::scope(|scope| {
        let others: Vec<_> =
            (1..threads).map(|n| scope.spawn(move || pass::<K>(lines, part(n), named))).collect();
        let mut found = pass::<K>(lines, part(0), named);
        for (n, other) in others.into_iter().enumerate() {
            // A thread that could not go on: its part again, here.
            found.add(other.join().unwrap_or_else(|_| pass::<K>(lines, part(n + 1), named)));
        }
        found
    })
}

fn pass<K: Exact>(lines: &Array<Line>, part: Range<usize>, named: &Named) -> Found {
    let mut found = Found { stacks: vec![0; STACK_WORDS], ..Found::default() };
    for number in part {
        let line = lines.at(number);
        if line.unlock::<K>() {
            found.locked.push(number as u32);
            found.repairs.locked += 1;
        }
        for slot in line.slots::<K>() {
            let Some((words, meta)) = slot.read() else { continue };
            let Some(fault) = fault_of::<K>(words, meta, named) else {
                let count = meta.entry().and_then(account).and_then(|at| found.stacks.get_mut(at));
                count.into_iter().for_each(|count| *count += 1);
                *if meta.is_udp() { &mut found.udp } else { &mut found.tcp } += 1;
                continue;
            };
            slot.clear();
            *fault(&mut found.repairs) += 1;
        }
    }
    found
}

/// Why an entry has to end, as what is counted of it.
#[inline(always)]
fn fault_of<K: Exact>(words: K::Words, meta: Meta, named: &Named) -> Option<fn(&mut Repairs) -> &mut u64> {
    match meta.entry() {
        None => Some(|repairs| &mut repairs.damaged),
        // A key that no packet has is never found again.
        Some(_) if key_of::<K>(words, meta).words() != words => Some(|repairs| &mut repairs.damaged),
        Some(_) if !named.has(meta) => Some(|repairs| &mut repairs.unnamed),
        Some(Entry { state: CrtState::Frozen | CrtState::HandingOver, .. }) => {
            Some(|repairs| &mut repairs.moving)
        }
        Some(Entry { state: CrtState::HalfOpen | CrtState::Established | CrtState::Closing, .. }) => None,
    }
}
