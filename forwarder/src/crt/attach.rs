//! From the mapping's parts to a table, and from a dead process's table to a sound one.

use super::ages::{Ages, key_of};
use super::bounded::Bounded;
use super::cuckoo::{Cuckoo, Place};
use super::family::{Common, Family};
use super::key::Exact;
use super::layout::Parts;
use super::ledger::{Counter, Ledger};
use super::line::Line;
use super::memory::Array;
use super::pressure::Pressure;
use super::{Config, Crt};

impl Crt {
    pub(super) fn of(config: &Config, parts: Parts) -> Self {
        let [main_v4, main_v6, half_open_v4, half_open_v6, fragments_v4, fragments_v6] = parts.lines;
        let (ages, flow_ages) = (Ages::of_connections(config), Ages::of_flows(config));
        let [room_v4, room_v6] = parts.room;
        let [tcp_v4, tcp_v6] = parts.tcp_lines;
        let half_open = Ages::of_half_open(config);
        let fragments = Ages::of_fragments(config);
        let vectors = super::scan::has_vectors();
        Self {
            v4: Family {
                main: Cuckoo::new(main_v4, tcp_v4),
                half_open: Bounded::new(half_open_v4, half_open),
                ages,
                flow_ages,
                pressure: Pressure::new(room_v4),
                connections: Counter::ConnectionsV4,
                flows: Counter::FlowsV4,
                half_opens: Counter::HalfOpenV4,
                vectors,
            },
            v6: Family {
                main: Cuckoo::new(main_v6, tcp_v6),
                half_open: Bounded::new(half_open_v6, half_open),
                ages,
                flow_ages,
                pressure: Pressure::new(room_v6),
                connections: Counter::ConnectionsV6,
                flows: Counter::FlowsV6,
                half_opens: Counter::HalfOpenV6,
                vectors,
            },
            fragments_v4: Bounded::new(fragments_v4, fragments),
            fragments_v6: Bounded::new(fragments_v6, fragments),
            common: Common {
                secret: parts.secret,
                ledger: Ledger { counters: parts.counters, stacks: parts.stacks },
            },
            bytes: parts.bytes,
        }
    }

    /// What a process was changing when it died: its locks end, of a key that was on its way from one place to another one
    /// copy is left, and overflow and accounts are counted anew.
    pub(super) fn put_right(&self) {
        self.common.ledger.reset();
        self.common.put_right(&self.v4);
        self.common.put_right(&self.v6);
        unlock_all::<super::FragmentKeyV4>(self.fragments_v4.lines());
        unlock_all::<super::FragmentKeyV6>(self.fragments_v6.lines());
        self.fragments_v4.count();
        self.fragments_v6.count();
    }
}

impl Common {
    fn put_right<K: Exact>(&self, family: &Family<K>) {
        unlock_all::<K>(family.main.lines());
        unlock_all::<K>(family.half_open.lines());
        for i in 0..family.main.lines().len() {
            for slot in family.main.line(i).slots::<K>() {
                let Some((words, meta)) = slot.read() else { continue };
                let key = key_of::<K>(words, meta);
                let Place { first, second, class } =
                    family.main.place(family.main.share().hash(&self.secret, key));
                let home = family.main.line(first);
                if i == second {
                    // C2: a copy in the first line says the same.
                    if home.find(key).is_some() {
                        slot.clear();
                        continue;
                    }
                    if let Some(home) = home.lock::<K>() {
                        home.overflow_up(class);
                    }
                }
                self.ledger.add(family.counter(key), 1);
                self.ledger.changed(None, meta.entry());
            }
        }
        for i in 0..family.half_open.lines().len() {
            for slot in family.half_open.lines().at(i).slots::<K>() {
                let Some((words, meta)) = slot.read() else { continue };
                let key = key_of::<K>(words, meta);
                // K2: the main table's is the newer one.
                if family
                    .main
                    .locate(family.main.place(family.main.share().hash(&self.secret, key)), key)
                    .is_some()
                {
                    slot.clear();
                    continue;
                }
                self.ledger.add(family.half_opens, 1);
                self.ledger.changed(None, meta.entry());
            }
        }
        family.half_open.count();
    }
}

fn unlock_all<K: Exact>(lines: &Array<Line>) {
    for i in 0..lines.len() {
        lines.at(i).reset::<K>();
    }
}
