//! What can be counted of a table.

use super::key::Exact;
use super::ledger::Counter;
use super::line::slots_per_line;
use super::{Crt, KeyV4, KeyV6};

/// Counts of the whole table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// IPv4 TCP connections in the main table and the room for them.
    pub v4: Fill,
    /// IPv6 TCP connections in the main table and the room for them.
    pub v6: Fill,
    /// IPv4 UDP flows.
    pub flows_v4: Fill,
    /// IPv6 UDP flows.
    pub flows_v6: Fill,
    /// Half-open IPv4 entries.
    pub half_open_v4: Fill,
    /// Half-open IPv6 entries.
    pub half_open_v6: Fill,
    /// Half-open entries that a newer one replaced before they were confirmed or aged.
    pub half_open_evicted: u64,
    /// Fragment entries that a newer one replaced.
    pub fragments_evicted: u64,
    /// UDP flows that a newer one replaced.
    pub flows_evicted: u64,
    /// TCP connections, idle for long, that ended because the main table was full.
    pub gave_way: u64,
    /// Entries not made because the main table was full.
    pub refused_full: u64,
    /// Changes given up because another writer held the place.
    pub refused_busy: u64,
    /// Entries that ended because they were unconfirmed, closing, or UDP and idle for too long.
    pub aged: u64,
    /// Bytes of memory, everything counted.
    pub bytes: u64,
}

/// How full a part of the table is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fill {
    /// Entries in it.
    pub entries: u64,
    /// Entries that fit.
    pub capacity: u64,
}

/// How many connections a stack has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StackCount {
    /// Confirmed ones that have not ended.
    pub connections: u32,
    /// Half-open ones.
    pub half_open: u32,
}

impl Crt {
    /// Counts of the whole table.
    pub fn stats(&self) -> Stats {
        fn fill<K: Exact>(entries: u64, lines: usize) -> Fill {
            Fill { entries, capacity: lines.saturating_mul(slots_per_line::<K>()) as u64 }
        }
        let get = |counter| self.common.ledger.get(counter);
        let (tcp_v4, tcp_v6) = (self.v4.main.division().tcp_lines(), self.v6.main.division().tcp_lines());
        Stats {
            v4: fill::<KeyV4>(get(Counter::ConnectionsV4), tcp_v4),
            v6: fill::<KeyV6>(get(Counter::ConnectionsV6), tcp_v6),
            flows_v4: fill::<KeyV4>(get(Counter::FlowsV4), self.v4.main.lines().len() - tcp_v4),
            flows_v6: fill::<KeyV6>(get(Counter::FlowsV6), self.v6.main.lines().len() - tcp_v6),
            half_open_v4: fill::<KeyV4>(get(Counter::HalfOpenV4), self.v4.half_open.lines().len()),
            half_open_v6: fill::<KeyV6>(get(Counter::HalfOpenV6), self.v6.half_open.lines().len()),
            half_open_evicted: get(Counter::HalfOpenEvicted),
            fragments_evicted: get(Counter::FragmentsEvicted),
            flows_evicted: get(Counter::FlowsEvicted),
            gave_way: get(Counter::GaveWay),
            refused_full: get(Counter::RefusedFull),
            refused_busy: get(Counter::RefusedBusy),
            aged: get(Counter::Aged),
            bytes: self.bytes as u64,
        }
    }
}
