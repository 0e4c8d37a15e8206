//! The rows that need DPDK: its hash table, its forwarder, and our path on its mbufs.

use std::sync::{Arc, Barrier};

use ffi::{Eal, Lcore, Mempool};

use crate::cluster::{Carried, Traffic};
use crate::frames::Kind;
use crate::path::{Line, Shared};
use crate::rows::Rows;
use crate::{FLOWS, peer, testpmd, timing};

/// DPDK, started.
pub(crate) struct Dpdk {
    eal: Eal,
    pool: Mempool,
    /// The second core, for scaling.
    other: Option<Lcore>,
    cores: (usize, usize),
    huge: bool,
}

/// How the names of its rows begin.
const ROWS: [&str; 5] = ["rte_hash_", "testpmd_", "path_", "stage_", "scaling_"];
/// Packet buffers: more than all queues hold.
const MBUFS: u32 = 8191;

impl Dpdk {
    /// Starts it, with huge pages if there are enough free ones: rte_hash would suffer without.
    pub(crate) fn start() -> Option<Self> {
        let (last, first) = timing::cores();
        let huge = free_huge_pages() >= 512;
        let mut extra = vec!["--no-pci".to_owned(), "--log-level=error".to_owned()];
        if !huge {
            eprintln!(
                "fewer than 512 free huge pages: rte_hash and packet buffers are measured on small ones"
            );
            extra.extend(["--no-huge", "-m", "2048"].map(str::to_owned));
        }
        let worker_cores = if first == last { vec![] } else { vec![first] };
        let arguments = ffi::eal::Arguments { control_core: last, worker_cores, extra };
        let started = Eal::start(&arguments).and_then(|(eal, lcores)| {
            let pool = Mempool::create(eal, "perf", MBUFS, 1518)?;
            Ok(Self { eal, pool, other: lcores.into_iter().next(), cores: (last, first), huge })
        });
        started.inspect_err(|error| eprintln!("{} are left out: {error}", ROWS.join(", "))).ok()
    }

    /// rte_hash, as full as the connection table up to its rounding to a power of two.
    pub(crate) fn rte_hash(&self, rows: &mut Rows, n: u32, word: &str, largest: bool) {
        let names = [format!("rte_hash_lookup_{word}_ns"), format!("rte_hash_insert_{word}_ns")];
        let [lookup, insert] = names.each_ref().map(String::as_str);
        if !(rows.wants(&[lookup]) || largest && rows.wants(&[insert])) {
            return;
        }
        let Some(mut table) = peer::RteHash::new(self.eal, n + n / 4) else {
            eprintln!("rte_hash of {n}: DPDK has not the memory");
            return;
        };
        let ns =
            timing::once_ns(u64::from(n), || assert_eq!(table.insert(0, n), 0, "rte_hash takes all keys"));
        if largest {
            rows.add(insert, "ns", ns, "one by one: it has no bursts");
        }
        let (ns, found) = table.lookup_ns(0, u64::from(n));
        rows.add(lookup, "ns", ns, format!("{:.0} % found", found * 100.0));
    }

    /// testpmd on two net_null ports, on the core that ours is measured on.
    pub(crate) fn testpmd(&self, rows: &mut Rows) {
        for (name, mode) in [("testpmd_io_ns", "io"), ("testpmd_macswap_ns", "macswap")] {
            if rows.wants(&[name])
                && let Some(ns) = testpmd::packet_ns(mode, self.cores.1, self.cores.0, self.huge)
            {
                rows.add(name, "ns", ns, "both ports' packets counted; its own default of 32 a burst");
            }
        }
    }

    /// The stages of our path at the plot's numbers of flows.
    pub(crate) fn stages(&self, rows: &mut Rows) {
        for (flows, word) in FLOWS {
            let names = ["io", "lookup", "path"].map(|part| format!("stage_{part}_{word}_ns"));
            let names = names.each_ref().map(String::as_str);
            if !rows.wants(&names) {
                continue;
            }
            let Some((shared, mut line)) = self.line(Traffic::ack(timing::connections(flows)), &names) else {
                continue;
            };
            let stages = line.stages(&shared);
            let [io, lookup, path] = names;
            rows.add(io, "ns", stages.device, "net_null");
            rows.add(lookup, "ns", stages.lookup, "");
            rows.add(path, "ns", stages.path, "");
        }
    }

    /// What traffic needs to pass; or says that these rows are left out.
    fn line(&self, traffic: Traffic, names: &[&str]) -> Option<(Shared, Line)> {
        let shared = Shared::new(traffic).map_err(|e| e.to_string());
        let both = shared.and_then(|shared| {
            Ok((shared, Line::new(self.eal, self.pool, 0, traffic).map_err(|e| e.to_string())?))
        });
        both.inspect_err(|error| eprintln!("{} are left out: {error}", names.join(", "))).ok()
    }

    /// Our path.
    pub(crate) fn paths(self, rows: &mut Rows) {
        let ack = |flows| Traffic::ack(timing::connections(flows));
        let one_million = ack(1_000_000);
        let all = [
            ("path_v4_1k_ns", ack(1000)),
            ("path_v4_100k_ns", ack(100_000)),
            ("path_v4_1m_ns", one_million),
            ("path_v4_10m_ns", ack(10_000_000)),
            ("path_v6_1k_ns", Traffic { kind: Kind::Ack6, ..ack(1000) }),
            ("path_v6_1m_ns", Traffic { kind: Kind::Ack6, ..one_million }),
            ("path_gue_1m_ns", Traffic { carried: Carried::Gue, ..one_million }),
            ("path_mixed_1m_ns", Traffic { carried: Carried::Mixed, ..one_million }),
            ("path_udp_1m_ns", Traffic { kind: Kind::Udp, ..one_million }),
            ("path_syn_ns", Traffic { kind: Kind::Syn, ..one_million }),
        ];
        let wanted = all.iter().any(|(name, _)| rows.wants(&[name]));
        if !wanted && !rows.wants(&["scaling_2_workers", "path_allocs_per_packet"]) {
            return;
        }
        let mut allocations: f64 = 0.0;
        for (name, traffic) in all {
            if !rows.wants(&[name, "path_allocs_per_packet"]) {
                continue;
            }
            let Some((shared, mut line)) = self.line(traffic, &[name]) else { continue };
            let cost = line.cost(&shared);
            allocations = allocations.max(cost.allocations);
            let note =
                format!("source {:.1} ns subtracted; receive and send alone {:.1}", cost.source, cost.device);
            rows.add(name, "ns", cost.path, note);
        }
        rows.add("path_allocs_per_packet", "", allocations, "the largest of all kinds");
        if rows.wants(&["scaling_2_workers"])
            && let Some(other) = self.other
        {
            scaling(self.eal, self.pool, other, ack(100_000), rows);
        }
    }
}

/// What two workers on one connection table do at once, as a multiple of what one does.
fn scaling(eal: Eal, pool: Mempool, other: Lcore, traffic: Traffic, rows: &mut Rows) {
    let Ok(shared) = Shared::new(traffic).map(Arc::new) else { return };
    let (Ok(mut one), Ok(mut two)) = (Line::new(eal, pool, 0, traffic), Line::new(eal, pool, 1, traffic))
    else {
        return;
    };
    let alone = one.cost(&shared).path;
    let barrier = Arc::new(Barrier::new(2));
    let running = {
        let (shared, barrier) = (shared.clone(), barrier.clone());
        other.launch(move || {
            barrier.wait();
            two.cost(&shared).path
        })
    };
    let Ok(running) = running else { return };
    barrier.wait();
    let together = one.cost(&shared).path;
    let (theirs, _) = running.join();
    let note = format!("alone {alone:.1} ns a packet; together {together:.1} and {theirs:.1}");
    rows.add("scaling_2_workers", "x", alone / together + alone / theirs, note);
}

fn free_huge_pages() -> u32 {
    let free = std::fs::read_to_string("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages");
    free.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}
