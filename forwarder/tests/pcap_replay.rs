//! F3: pcap replay without DPDK. Every case in `pcaps/` passes through the worker, byte for byte, one packet at a time
//! and in bursts. `CASE=text` runs those with the text in their name; `BLESS=1` rewrites `out.pcap` with what came out,
//! but only of cases whose counts are as expected.

use std::collections::BTreeSet;
use std::sync::Arc;

use baton_forwarder::{Kind, Limits, PacketBuffer, Port, Reason, Sink, TestPacket, Verdict, Worker};
use pcaps::{Arrival, Bench, COOKIE_KEY, Case, Frame, Harness, Outcome, Replay, Sent};

/// A worker fed from memory.
struct Direct {
    worker: Worker<TestPacket>,
    outlet: Outlet,
}

/// Keeps what is sent.
#[derive(Default)]
struct Outlet {
    sent: Sent,
    dropped: u64,
}

impl Sink<TestPacket> for Outlet {
    fn give(&mut self, packet: TestPacket, verdict: Verdict) {
        match verdict {
            Verdict::Send(Port::Nic) => self.sent.nic.push(packet.bytes().to_vec()),
            Verdict::Send(Port::Local) => self.sent.local.push(packet.bytes().to_vec()),
            Verdict::Drop(_) => self.dropped += 1,
        }
    }

    fn spare(&mut self) -> Option<TestPacket> {
        Some(TestPacket::new(&[]))
    }
}

impl Harness for Direct {
    fn packets(&mut self, port: pcaps::Port, frames: &[Frame], bench: &Bench) {
        let from = match port {
            pcaps::Port::Nic => Port::Nic,
            pcaps::Port::Local => Port::Local,
        };
        let mut burst: Vec<_> = frames.iter().map(|f| Some(TestPacket::new(&f.bytes))).collect();
        self.worker.process(&mut burst, from, &bench.tables, &bench.crt, bench.now(), &mut self.outlet);
        assert!(burst.iter().all(Option::is_none), "every packet of a burst is taken");
    }

    fn idle(&mut self, bench: &Bench) {
        self.worker.expire(&bench.tables, &bench.crt, bench.now(), &mut self.outlet);
    }

    fn sent(&mut self) -> Sent {
        std::mem::take(&mut self.outlet.sent)
    }
}

fn cases() -> Vec<Case> {
    Case::read_all().unwrap_or_else(|e| panic!("{e}"))
}

fn replay_all(arrival: Arrival) {
    let wanted = std::env::var("CASE").unwrap_or_default();
    let cases: Vec<_> = cases().into_iter().filter(|c| c.name.contains(&wanted)).collect();
    let mut failed = Vec::new();
    for case in &cases {
        let replay = Replay::load(case).unwrap_or_else(|e| panic!("{e}"));
        let mut bench = Bench::new(case).unwrap_or_else(|e| panic!("{e}"));
        let mut worker = Worker::new(Limits::default(), Arc::clone(&bench.counters));
        worker.set_pools(&bench.pools);
        worker.set_cookie_key(COOKIE_KEY);
        let mut direct = Direct { worker, outlet: Outlet::default() };
        match replay.run(&mut bench, &mut direct, arrival).unwrap_or_else(|e| panic!("{e}")) {
            Outcome::Held => {}
            Outcome::Blessed => println!("{}: out.pcap rewritten", case.name),
            Outcome::Failed(report) => {
                println!("{report}");
                failed.push(case.name.as_str());
            }
        }
        assert_eq!(
            direct.outlet.dropped,
            bench.dropped(),
            "{}: packets given up, and counted as dropped",
            case.name
        );
    }
    assert!(failed.is_empty(), "{} of {} cases failed: {}", failed.len(), cases.len(), failed.join(", "));
}

#[test]
fn f3_every_case_replays_byte_for_byte() {
    replay_all(Arrival::OneByOne);
}

#[test]
fn f3_a_burst_becomes_what_its_packets_become_one_by_one() {
    replay_all(Arrival::InBursts);
}

#[test]
fn f3_every_end_that_a_packet_can_have_has_a_case() {
    // These need a full table, a full pool, more packets than a case has, a buffer without headroom, a handoff option from the control
    // thread, a limit of new connections, or a client that goes on while its connection moves: unit tests of the stages have them.
    const ELSEWHERE: [Reason; 15] = [
        Reason::TableFull,
        Reason::FragmentNoRoom,
        Reason::NoHeadroom,
        Reason::NoBuffer,
        Reason::HandoffUnknown,
        Reason::AskLimited,
        Reason::AskNoRoom,
        Reason::AnswerLimited,
        Reason::EchoLimited,
        Reason::NeighbourLimited,
        Reason::LocalLimited,
        Reason::Overloaded,
        Reason::RequestWaits,
        Reason::ClientLimited,
        Reason::ServiceLimited,
    ];
    let cases = cases();
    let named: BTreeSet<_> =
        cases.iter().flat_map(|c| &c.step).flat_map(|s| &s.counts).map(String::as_str).collect();
    let ends = Reason::ALL.iter().filter(|r| !matches!(r.kind(), Kind::Note) && !ELSEWHERE.contains(r));
    let missing: Vec<_> = ends.map(|r| r.name()).filter(|n| !named.contains(n)).collect();
    assert!(missing.is_empty(), "no case in pcaps/ ends in {missing:?}; add one to pcaps/opinion/cases/");
    let unknown: Vec<_> = named.iter().filter(|n| !Reason::ALL.iter().any(|r| r.name() == **n)).collect();
    assert!(unknown.is_empty(), "cases in pcaps/ name reasons that there are not: {unknown:?}");
}

#[test]
fn f3_there_are_cases_for_each_encapsulation_and_family() {
    let cases = cases();
    assert!(cases.len() >= 45, "only {} cases in pcaps/", cases.len());
    for name in
        ["ipip", "gue"].iter().flat_map(|e| ["4in4", "4in6", "6in4", "6in6"].map(|f| format!("{e}-{f}")))
    {
        assert!(cases.iter().any(|c| c.name == name), "no case {name}");
    }
}
