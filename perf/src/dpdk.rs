//! The rows that need DPDK: its hash table, its forwarder, and our path on its mbufs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ffi::{Eal, Lcore, Mempool};

use crate::cluster::{Carried, To, Traffic};
use crate::frames::Kind;
use crate::path::{Cost, Line, Shared};
use crate::rows::Rows;
use crate::{FLOWS, peer, testpmd, timing, transactions};

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
const ROWS: [&str; 6] = ["rte_hash_", "testpmd_", "path_", "stage_", "scaling_", "core_"];
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
        let arguments = ffi::eal::Arguments { control_core: last, worker_cores, extra, ..Default::default() };
        let started = Eal::start(&arguments).and_then(|(eal, lcores)| {
            let pool = Mempool::create(eal, "perf", MBUFS, 1518, None)?;
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
            if !rows.wants(&[name]) {
                continue;
            }
            match testpmd::packet_ns(mode, self.cores.1, self.cores.0, self.huge) {
                Ok(ns) => {
                    rows.add(name, "ns", ns, "both ports' packets counted; its own default of 32 a burst")
                }
                Err(error) => eprintln!("{name} is left out: {error}"),
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

    /// What the worker does of a connection of a service with routes.
    pub(crate) fn first_requests(&self, rows: &mut Rows) {
        transactions::measure(self.eal, self.pool, rows);
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
        let mut allocations: f64 = 0.0;
        for (name, traffic) in paths() {
            if !rows.wants(&[name, "path_allocs_per_packet"]) {
                continue;
            }
            let Some((shared, mut line)) = self.line(traffic, &[name]) else { continue };
            let cost = line.cost(&shared);
            allocations = allocations.max(cost.allocations);
            let Cost { source, device, ends, .. } = &cost;
            let note =
                format!("{ends}; source {source:.1} ns subtracted; receive and send alone {device:.1}");
            rows.add(name, "ns", cost.path, note);
        }
        rows.add("path_allocs_per_packet", "", allocations, "the largest of all kinds");
        if rows.wants(&["scaling_2_workers"]) {
            self.scaling(rows);
        }
    }

    /// What two workers on one connection table carry on in the same time, each as a multiple of what it does alone.
    fn scaling(self, rows: &mut Rows) {
        let traffic = Traffic { mixed: true, ..Traffic::ack(timing::connections(100_000)) };
        let name = "scaling_2_workers";
        let Some(mut other) = self.other else {
            eprintln!("{name} needs a second core and is left out");
            return;
        };
        let (shared, two) = (Shared::new(traffic), Line::new(self.eal, self.pool, 1, traffic));
        let (Ok(shared), Ok(mut two)) = (shared.map(Arc::new), two) else { return };
        let Ok(mut one) = Line::new(self.eal, self.pool, 0, traffic) else { return };
        let (mut alone, mut together) = ([0; 2], [0; 2]);
        for _ in 0..timing::sized(ROUNDS, 1) {
            alone[0] = one.count(&shared, soon()).max(alone[0]);
            for beside in [false, true] {
                let (span, theirs) = (soon(), shared.clone());
                let running = other.launch(move || {
                    let count = two.count(&theirs, span);
                    (two, count)
                });
                let Ok(running) = running else { return };
                let ours = if beside { one.count(&shared, span) } else { 0 };
                let ((line, count), core) = running.join();
                (two, other) = (line, core);
                if !beside {
                    alone[1] = count.max(alone[1]);
                } else if ours + count > together.iter().sum() {
                    together = [ours, count];
                }
            }
        }
        let [first, second] = [0, 1].map(|n| together[n] as f64 / alone[n] as f64);
        let note =
            format!("{first:.2} and {second:.2} of what each does alone; SYNs and UDP among the packets");
        rows.add(name, "x", first + second, note);
    }
}

/// Times that two workers count alone and together; the best of each counts.
const ROUNDS: u64 = 8;

/// When workers begin to count and when they stop: both in the same time.
fn soon() -> [Instant; 2] {
    let begin = Instant::now() + Duration::from_millis(5);
    [begin, begin + Duration::from_millis(250)]
}

/// Rows of the path and their traffic.
fn paths() -> [(&'static str, Traffic); 19] {
    let ack = |flows| Traffic::ack(timing::connections(flows));
    let one_million = ack(1_000_000);
    let (syn, udp, orphan) = (Traffic::new(Kind::Syn), Traffic::new(Kind::Udp), Traffic::new(Kind::Ack));
    let refused = Traffic { to: To::Nobody, ..syn };
    [
        ("path_v4_1k_ns", ack(1000)),
        ("path_v4_100k_ns", ack(100_000)),
        ("path_v4_1m_ns", one_million),
        ("path_v4_10m_ns", ack(10_000_000)),
        ("path_v6_1k_ns", Traffic { kind: Kind::Ack6, ..ack(1000) }),
        ("path_v6_1m_ns", Traffic { kind: Kind::Ack6, ..one_million }),
        ("path_gue_1m_ns", Traffic { carried: Carried::Gue, ..one_million }),
        ("path_mixed_1m_ns", Traffic { carried: Carried::Mixed, ..one_million }),
        ("path_vlan_1m_ns", Traffic { tagged: true, ..one_million }),
        ("path_local_1m_ns", Traffic { to: To::Local, ..one_million }),
        ("path_udp_1m_ns", Traffic { kind: Kind::Udp, ..one_million }),
        ("path_syn_ns", syn),
        ("path_syn_full_ns", Traffic { full: true, ..syn }),
        ("path_udp_new_ns", udp),
        ("path_udp_full_ns", Traffic { full: true, ..udp }),
        ("path_orphan_ns", orphan),
        ("path_orphan_asked_ns", Traffic { a_ms: RARE, ..orphan }),
        ("path_refused_ns", refused),
        ("path_refused_told_ns", Traffic { a_ms: RARE, ..refused }),
    ]
}

/// Packets in a millisecond that are so few that no limit of what may be asked or answered is reached.
const RARE: u64 = 1;

fn free_huge_pages() -> u32 {
    let free = std::fs::read_to_string("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages");
    free.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}
