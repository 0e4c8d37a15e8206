//! F3: pcap replay through DPDK. The same cases as in `forwarder/tests/pcap_replay.rs`, but packets come and go through
//! net_pcap devices, in DPDK's mbufs, through the worker's own line of bursts. No hugepages, no NIC, no root needed.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use baton_plane::worker::Line;
use baton_plane::worker::gauges::Gauges;
use baton_plane::worker::output::Output;
use baton_plane::worker::replay::replay;
use ffi::eal::Arguments;
use ffi::{Device, Eal, Mempool, RxQueue, Settings, TxQueue};
use forwarder::{Limits, Now, Port};
use pcaps::{Arrival, Bench, COOKIE_KEY, Case, Frame, Harness, Outcome, Replay, Sent, frames};

/// DPDK as the whole test uses it: started once, devices come and go.
#[derive(Clone, Copy)]
struct Dpdk {
    eal: Eal,
    pool: Mempool,
}

impl Dpdk {
    fn start() -> Self {
        let extra = ["--no-huge", "--no-pci", "-m", "64"].map(str::to_owned).to_vec();
        let core = *cores().first().expect("a process has a core to run on");
        let (eal, _) =
            Eal::start(&Arguments { control_core: core, worker_cores: vec![], extra, ..Default::default() })
                .expect("DPDK starts without hugepages and devices");
        let pool = Mempool::create(eal, "replay", 8191, 2048, None).expect("64 MB hold the pool");
        Self { eal, pool }
    }

    /// A net_pcap device's only queue pair. It reads `arriving` and writes `leaving`.
    fn device(self, name: &str, arriving: &Path, leaving: Option<&Path>) -> (RxQueue, TxQueue) {
        let mut device = format!("net_pcap_{name},rx_pcap={}", arriving.display());
        if let Some(leaving) = leaving {
            device.push_str(&format!(",tx_pcap={}", leaving.display()));
        }
        let settings = Settings { rx_descriptors: 256, tx_descriptors: 256, ..Settings::default() };
        let device = Device::open(self.eal, &device).unwrap_or_else(|e| panic!("{e}"));
        let (_, mut queues) = device.start(&settings, self.pool).unwrap_or_else(|e| panic!("{e}"));
        queues.pop().expect("one queue pair was asked for")
    }
}

/// The cores that this process may run on.
fn cores() -> Vec<usize> {
    baton_plane::cores::available()
}

/// The worker's line between two net_pcap devices that are written to, and one at a time that is read from.
struct ThroughDpdk<'d> {
    dpdk: Dpdk,
    line: Option<Line>,
    idle: Option<RxQueue>,
    directory: &'d Path,
    feeds: usize,
}

impl<'d> ThroughDpdk<'d> {
    fn new(dpdk: Dpdk, bench: &Bench, directory: &'d Path) -> Self {
        let empty = directory.join("empty.pcap");
        frames::write(&empty, &[]).unwrap_or_else(|e| panic!("{e}"));
        let (idle, nic) = dpdk.device("nic", &empty, Some(&directory.join("nic.pcap")));
        let (_, local) = dpdk.device("local", &empty, Some(&directory.join("local.pcap")));
        let gauges = Arc::new(Gauges::default());
        let output = Output::new(nic, local, dpdk.pool, Arc::clone(&gauges));
        let mut line = Line::new(Limits::default(), Arc::clone(&bench.counters), output, gauges);
        line.path().set_pools(&bench.pools);
        line.path().set_cookie_key(COOKIE_KEY);
        Self { dpdk, line: Some(line), idle: Some(idle), directory, feeds: 0 }
    }

    fn pass(&mut self, queue: &mut RxQueue, from: Port, bench: &Bench) -> usize {
        let Now { ms } = bench.now();
        let line = self.line.as_mut().expect("a case is played before its frames are collected");
        replay(line, queue, from, &bench.tables, &bench.crt, || Now { ms })
    }
}

impl Harness for ThroughDpdk<'_> {
    fn packets(&mut self, port: pcaps::Port, arriving: &[Frame], bench: &Bench) {
        let from = match port {
            pcaps::Port::Nic => Port::Nic,
            pcaps::Port::Local => Port::Local,
        };
        self.feeds += 1;
        let feed: PathBuf = self.directory.join(format!("feed{}.pcap", self.feeds));
        frames::write(&feed, arriving).unwrap_or_else(|e| panic!("{e}"));
        let (mut queue, _unused) = self.dpdk.device("feed", &feed, None);
        let received = self.pass(&mut queue, from, bench);
        assert_eq!(received, arriving.len(), "packets that net_pcap delivered from {}", feed.display());
    }

    fn idle(&mut self, bench: &Bench) {
        let mut queue = self.idle.take().expect("the queue that delivers nothing is always put back");
        let received = self.pass(&mut queue, Port::Nic, bench);
        assert_eq!(received, 0, "packets from an empty file");
        self.idle = Some(queue);
    }

    fn sent(&mut self) -> Sent {
        // Closing the devices writes the files.
        self.line = None;
        self.idle = None;
        let read = |name: &str| {
            let frames = frames::read(&self.directory.join(name)).unwrap_or_else(|e| panic!("{e}"));
            frames.into_iter().map(|f| f.bytes).collect()
        };
        Sent { nic: read("nic.pcap"), local: read("local.pcap") }
    }
}

#[test]
fn f3_every_case_replays_byte_for_byte_through_dpdk() {
    let dpdk = Dpdk::start();
    let free = dpdk.pool.free();
    let wanted = std::env::var("CASE").unwrap_or_default();
    let cases = Case::read_all().unwrap_or_else(|e| panic!("{e}"));
    let cases: Vec<_> = cases.into_iter().filter(|c| c.name.contains(&wanted)).collect();
    let mut failed = Vec::new();
    for case in &cases {
        let replay = Replay::load(case).unwrap_or_else(|e| panic!("{e}"));
        let mut bench = Bench::new(case).unwrap_or_else(|e| panic!("{e}"));
        let directory = tempfile::tempdir().unwrap();
        let mut through = ThroughDpdk::new(dpdk, &bench, directory.path());
        match replay.run(&mut bench, &mut through, Arrival::InBursts).unwrap_or_else(|e| panic!("{e}")) {
            Outcome::Held => {}
            Outcome::Blessed => println!("{}: out.pcap rewritten", case.name),
            Outcome::Failed(report) => {
                println!("{report}");
                failed.push(case.name.as_str());
            }
        }
        assert_eq!(dpdk.pool.free(), free, "{}: every mbuf is back in its pool", case.name);
    }
    assert!(failed.is_empty(), "{} of {} cases failed: {}", failed.len(), cases.len(), failed.join(", "));
}
