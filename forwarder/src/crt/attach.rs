//! From the mapping's parts to a table.

use super::ages::Ages;
use super::bounded::Bounded;
use super::cuckoo::Cuckoo;
use super::family::{Common, Family};
use super::layout::Parts;
use super::ledger::{Counter, Ledger};
use super::pressure::Pressure;
use super::{Config, Crt};
use crate::loads::Loads;

impl Crt {
    pub(super) fn of(config: &Config, parts: Parts) -> Self {
        let [main_v4, main_v6, half_open_v4, half_open_v6, fragments_v4, fragments_v6] = parts.lines;
        let (ages, flow_ages) = (Ages::of_connections(config), Ages::of_flows(config));
        let ([room_v4, room_v6], [flow_room_v4, flow_room_v6]) = (parts.room, parts.flow_room);
        let [tcp_v4, tcp_v6] = parts.tcp_lines;
        let half_open = Ages::of_half_open(config);
        let fragments = Ages::of_fragments(config);
        let vectors = super::scan::has_vectors();
        Self {
            v4: Family {
                main: Cuckoo::new(main_v4, tcp_v4, half_open_v4.len()),
                half_open: Bounded::new(half_open_v4, half_open),
                ages,
                flow_ages,
                pressure: Pressure::new(room_v4),
                connections: Counter::ConnectionsV4,
                flows: Counter::FlowsV4,
                flow_room: flow_room_v4,
                half_opens: Counter::HalfOpenV4,
                vectors,
            },
            v6: Family {
                main: Cuckoo::new(main_v6, tcp_v6, half_open_v6.len()),
                half_open: Bounded::new(half_open_v6, half_open),
                ages,
                flow_ages,
                pressure: Pressure::new(room_v6),
                connections: Counter::ConnectionsV6,
                flows: Counter::FlowsV6,
                flow_room: flow_room_v6,
                half_opens: Counter::HalfOpenV6,
                vectors,
            },
            fragments_v4: Bounded::new(fragments_v4, fragments),
            fragments_v6: Bounded::new(fragments_v6, fragments),
            common: Common {
                secret: parts.secret,
                ledger: Ledger { counters: parts.counters, stacks: parts.stacks },
            },
            record: parts.record,
            loads: Loads::default(),
            bytes: parts.bytes,
        }
    }
}
