//! The table's rules under every interleaving that loom can make of two or three threads (`RUSTFLAGS="--cfg loom" cargo test
//! -p baton-forwarder --release loom`), weak memory included. Tables are of two lines, so that every key has one of them
//! first and the other one second.

use std::net::Ipv6Addr;
use std::sync::Arc;

use loom::thread;
use model::{DvipaIndex, Protocol, StackIndex};

use super::ages::Ages;
use super::bounded::Bounded;
use super::cuckoo::Cuckoo;
use super::family::{Change, Common, Family};
use super::hash::Secret;
use super::key::{Exact, KeyV6};
use super::ledger::{COUNTERS, Counter, Ledger, STACK_WORDS};
use super::memory::{Array, Mapping};
use super::pressure::Pressure;
use super::share::Place;
use super::{Burst, Config, Located, Now, Refused};
use super::{CrtState, Entry};

const NOW: Now = Now { ms: 0 };
const A: StackIndex = StackIndex(1);
const B: StackIndex = StackIndex(2);

struct Table {
    family: Family<KeyV6>,
    common: Common,
}

impl Table {
    fn new() -> Arc<Self> {
        let mapping = Arc::new(Mapping::anonymous(0).unwrap());
        let config = Config::default();
        Arc::new(Self {
            family: Family {
                main: Cuckoo::new(Array::new(&mapping, 0, 2), 2, 1),
                half_open: Bounded::new(Array::new(&mapping, 0, 1), Ages::of_half_open(&config)),
                ages: Ages::of_connections(&config),
                flow_ages: Ages::of_flows(&config),
                pressure: Pressure::new(100),
                connections: Counter::ConnectionsV6,
                flows: Counter::FlowsV6,
                flow_room: 0,
                half_opens: Counter::HalfOpenV6,
                vectors: false,
            },
            common: Common {
                secret: Secret::known(false),
                ledger: Ledger {
                    counters: Array::new(&mapping, 0, COUNTERS),
                    stacks: Array::new(&mapping, 0, STACK_WORDS),
                },
            },
        })
    }

    fn place(&self, key: KeyV6) -> Place {
        self.family.main.place(&self.common.secret, key)
    }

    /// The `n`th key whose first line is `line`.
    fn key(&self, line: u32, n: usize) -> KeyV6 {
        let of = |port| KeyV6::new(Ipv6Addr::LOCALHOST, port, DvipaIndex(1), 80, Protocol::Tcp);
        (0..).map(of).filter(|key| self.place(*key).first == line).nth(n).unwrap()
    }

    fn look_up(&self, key: KeyV6) -> Option<Entry> {
        let mut burst = Burst::default();
        burst.push(key);
        burst.place(&self.common.secret, self.family.main.division());
        self.family.read(&mut burst, None);
        self.family.finish(&self.common, &mut burst, NOW);
        burst.found()[0].entry()
    }

    fn insert_half_open(&self, key: KeyV6, owner: StackIndex) -> Result<Entry, Refused> {
        let at = Located { key, place: self.place(key) };
        self.family.insert_half_open(&self.common, at, owner, NOW)
    }

    fn confirm(&self, key: KeyV6, owner: StackIndex) {
        while let Err(refused) = self.family.confirm(&self.common, key, owner, NOW) {
            assert_eq!(refused, Refused::Busy);
            thread::yield_now();
        }
    }

    fn modify(&self, key: KeyV6, change: impl Fn(Entry) -> Change) -> Option<Entry> {
        loop {
            match self.family.modify(&self.common, key, NOW, |_, old, _| change(old)) {
                Ok(old) => return old,
                Err(_) => thread::yield_now(),
            }
        }
    }

    /// Moves the only entry of line `from` to its other line.
    fn shift(&self, from: u32) {
        let slot = self.family.main.line(from).slots::<KeyV6>().position(|slot| slot.read().is_some());
        while !self.family.main.shift(from, slot.unwrap(), 1 - from, &self.common.secret) {
            thread::yield_now();
        }
    }

    /// Entries of a key in both tables.
    fn copies(&self, key: KeyV6) -> usize {
        let lines = [self.family.main.line(0), self.family.main.line(1), self.family.half_open.lines().at(0)];
        let slots = lines.into_iter().flat_map(|line| line.slots::<KeyV6>());
        slots.filter(|slot| slot.read().is_some_and(|(words, _)| words == key.words())).count()
    }
}

fn established(owner: StackIndex) -> Option<Entry> {
    Some(Entry { owner, state: CrtState::Established })
}

fn check(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(2);
    builder.check(model);
}

#[test]
fn loom_a_reader_never_takes_one_entry_for_another_while_a_slot_changes_hands() {
    check(|| {
        let table = Table::new();
        let (one, other) = (table.key(0, 0), table.key(0, 1));
        table.confirm(one, A);
        let writer = {
            let table = table.clone();
            thread::spawn(move || {
                table.modify(one, |_| Change::Remove);
                table.confirm(other, B);
            })
        };
        let found = table.look_up(other);
        assert!(found.is_none() || found == established(B), "{found:?}");
        let found = table.look_up(one);
        assert!(found.is_none() || found == established(A), "{found:?}");
        writer.join().unwrap();
        assert_eq!((table.look_up(one), table.look_up(other)), (None, established(B)));
    });
}

#[test]
fn loom_a_reader_does_not_miss_an_entry_that_moves_to_its_second_line() {
    check(|| {
        let table = Table::new();
        let key = table.key(0, 0);
        table.confirm(key, A);
        let writer = {
            let table = table.clone();
            thread::spawn(move || table.shift(0))
        };
        assert_eq!(table.look_up(key), established(A));
        writer.join().unwrap();
        assert_eq!((table.look_up(key), table.copies(key)), (established(A), 1));
    });
}

#[test]
fn loom_a_reader_does_not_miss_an_entry_that_moves_home_or_to_and_fro() {
    for first_move in [1, 0] {
        check(move || {
            let table = Table::new();
            let key = table.key(0, 0);
            table.confirm(key, A);
            if first_move == 1 {
                table.shift(0);
            }
            let writer = {
                let table = table.clone();
                thread::spawn(move || {
                    table.shift(first_move);
                    if first_move == 0 {
                        table.shift(1);
                    }
                })
            };
            assert_eq!(table.look_up(key), established(A));
            writer.join().unwrap();
            assert_eq!(table.copies(key), 1);
        });
    }
}

#[test]
fn loom_a_reader_does_not_miss_an_entry_that_is_promoted() {
    check(|| {
        let table = Table::new();
        let key = table.key(0, 0);
        table.insert_half_open(key, A).unwrap();
        let writer = {
            let table = table.clone();
            thread::spawn(move || table.confirm(key, A))
        };
        let found = table.look_up(key).unwrap();
        assert_eq!(found.owner, A);
        writer.join().unwrap();
        assert_eq!((table.look_up(key), table.copies(key)), (established(A), 1));
        assert_eq!(table.common.ledger.stack(A).connections, 1);
    });
}

#[test]
fn loom_a_reader_does_not_miss_an_entry_that_is_promoted_into_its_second_line() {
    check(|| {
        let table = Table::new();
        let key = table.key(0, 2);
        table.confirm(table.key(0, 0), B);
        table.confirm(table.key(0, 1), B);
        table.insert_half_open(key, A).unwrap();
        let writer = {
            let table = table.clone();
            thread::spawn(move || table.confirm(key, A))
        };
        assert_eq!(table.look_up(key).map(|entry| entry.owner), Some(A));
        writer.join().unwrap();
        assert_eq!((table.look_up(key), table.copies(key)), (established(A), 1));
    });
}

#[test]
fn loom_a_reader_sees_a_re_pointed_entry_at_its_old_or_new_owner_and_never_goes_back() {
    check(|| {
        let table = Table::new();
        let key = table.key(0, 0);
        table.confirm(key, A);
        let writer = {
            let table = table.clone();
            thread::spawn(move || {
                table.modify(key, |_| Change::Set(Entry { owner: B, state: CrtState::Established }));
                table.shift(0);
            })
        };
        let (first, second) = (table.look_up(key), table.look_up(key));
        assert!(first == established(A) || first == established(B), "{first:?}");
        assert!(second == established(B) || second == first, "{first:?}, then {second:?}");
        writer.join().unwrap();
        assert_eq!(table.look_up(key), established(B));
    });
}

#[test]
fn loom_a_stamp_undoes_nothing() {
    check(|| {
        let table = Table::new();
        let key = table.key(0, 0);
        table.confirm(key, A);
        let reader = {
            let table = table.clone();
            thread::spawn(move || {
                let line = table.family.main.line(0);
                if let Some((slot, meta)) = line.find(key) {
                    slot.touch(meta, 77);
                }
            })
        };
        table.modify(key, |_| Change::Set(Entry { owner: B, state: CrtState::Frozen }));
        reader.join().unwrap();
        assert_eq!(table.look_up(key), Some(Entry { owner: B, state: CrtState::Frozen }));
    });
}

#[test]
fn loom_two_writers_of_one_key_make_one_entry() {
    check(|| {
        let table = Table::new();
        let key = table.key(0, 0);
        let writer = {
            let table = table.clone();
            thread::spawn(move || table.confirm(key, B))
        };
        let _ = table.insert_half_open(key, A);
        table.confirm(key, A);
        writer.join().unwrap();
        assert_eq!(table.copies(key), 1);
        let found = table.look_up(key);
        assert!(found == established(A) || found == established(B), "{found:?}");
        let count = |stack| table.common.ledger.stack(stack);
        assert_eq!(count(A).connections + count(B).connections, 1);
        assert_eq!(count(A).half_open + count(B).half_open, 0);
    });
}

#[test]
fn loom_two_writers_in_one_line_both_find_room() {
    check(|| {
        let table = Table::new();
        let (one, other) = (table.key(0, 0), table.key(0, 1));
        let writer = {
            let table = table.clone();
            thread::spawn(move || table.confirm(one, A))
        };
        table.confirm(other, B);
        writer.join().unwrap();
        assert_eq!((table.look_up(one), table.look_up(other)), (established(A), established(B)));
    });
}

#[test]
fn loom_a_move_and_a_removal_of_the_same_key_leave_no_copy() {
    check(|| {
        let table = Table::new();
        let key = table.key(0, 0);
        table.confirm(key, A);
        let writer = {
            let table = table.clone();
            thread::spawn(move || table.family.main.shift(0, 0, 1, &table.common.secret))
        };
        table.modify(key, |_| Change::Remove);
        writer.join().unwrap();
        assert_eq!((table.copies(key), table.look_up(key)), (0, None));
    });
}
