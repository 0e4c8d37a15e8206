//! What a SYN flood from everywhere does to others: nothing to connections that are there, next to nothing to new ones.

use std::net::Ipv4Addr;
use std::time::Duration;

use model::Protocol;

use super::bench::*;
use crate::crt::{Config, Crt, KeyV4, Now, Refused};
use crate::tables::Family;
use crate::{Port, Reason, TestPacket, Verdict};

/// Distinct spoofed sources.
const SOURCES: u32 = 10_000_000;
/// Spoofed SYNs in a millisecond: a million a second.
const SPOOFED_A_MS: u32 = 1000;
/// Established connections' packets in a millisecond.
const ACKS_A_MS: u32 = 8;
/// From an honest client's SYN to its next packet.
const ROUND_TRIP_MS: u32 = 30;
const ESTABLISHED: u32 = 20_000;
const CLIENT_PORT: u16 = 4000;

/// Who sends: no two have an address in common.
#[derive(Clone, Copy)]
enum Who {
    Established = 0x1000_0000,
    Honest = 0x2000_0000,
    Spoofed = 0x3000_0000,
}

fn address(who: Who, n: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(who as u32 | n.wrapping_mul(0x9e37_79b1) & 0x0fff_ffff)
}

fn key(who: Who, n: u32) -> KeyV4 {
    KeyV4::new(address(who, n), CLIENT_PORT, V4, port_of(IPIP), Protocol::Tcp)
}

/// A bench with a larger CRT, and packets that are used again.
struct Flood {
    bench: Bench,
    syn: Vec<u8>,
    ack: Vec<u8>,
    spare: Vec<TestPacket>,
    waiting: Vec<Option<TestPacket>>,
}

impl Flood {
    fn new(config: &Config) -> Self {
        let mut bench = Bench::new();
        bench.crt = Crt::new(config).unwrap();
        let [syn, ack] = [syn, ack].map(|packet| packet(Family::V4, CLIENT_PORT, port_of(IPIP)));
        Self { bench, syn, ack, spare: Vec::new(), waiting: Vec::new() }
    }

    fn add(&mut self, who: Who, n: u32, is_syn: bool) {
        let frame = if is_syn { &mut self.syn } else { &mut self.ack };
        frame[26..30].copy_from_slice(&address(who, n).octets());
        mend(frame);
        let mut packet = self.spare.pop().unwrap_or_else(|| TestPacket::new(&[]));
        packet.refill(frame);
        self.waiting.push(Some(packet));
    }

    /// Lets all that was added pass; returns how many of them were dropped.
    fn pass(&mut self) -> usize {
        let Bench { worker, tables, crt, now, outlet, .. } = &mut self.bench;
        worker.process(&mut self.waiting, Port::Nic, tables, crt, *now, outlet);
        self.waiting.clear();
        let dropped = outlet.given.iter().filter(|(_, verdict)| matches!(verdict, Verdict::Drop(_))).count();
        self.spare.extend(outlet.given.drain(..).map(|(packet, _)| packet));
        dropped
    }

    /// The target's agent reports the connection.
    fn newconn(&self, who: Who, n: u32) -> Result<(), Refused> {
        self.bench.crt.newconn(key(who, n), IPIP, self.bench.now).map(drop)
    }
}

#[test]
fn a_flood_of_distinct_sources_ends_no_connection_and_lets_new_ones_through() {
    let config = Config { connections_v4: 60_000, connections_v6: 0, ..Config::default() };
    let mut flood = Flood::new(&config);
    (0..ESTABLISHED).for_each(|n| flood.newconn(Who::Established, n).unwrap());
    let mut came = 0;
    for ms in 0..SOURCES / SPOOFED_A_MS {
        flood.bench.now = Now { ms: 1000 + u64::from(ms) };
        for n in 0..SPOOFED_A_MS {
            flood.add(Who::Spoofed, ms * SPOOFED_A_MS + n, true);
        }
        for n in 0..ACKS_A_MS {
            flood.add(Who::Established, (ms * ACKS_A_MS + n) % ESTABLISHED, false);
        }
        flood.add(Who::Honest, ms, true);
        assert_eq!(flood.pass(), 0, "every SYN and every packet of an established connection goes on");
        if let Some(before) = ms.checked_sub(ROUND_TRIP_MS) {
            flood.add(Who::Honest, before, false);
            came += 1;
            assert_eq!(flood.pass(), 0, "who was pushed out in the handshake is asked for");
            flood.newconn(Who::Honest, before).unwrap();
        }
        flood.bench.crt.age(flood.bench.now, flood.bench.crt.age_budget(Duration::from_millis(1)));
    }
    for n in 0..ESTABLISHED {
        flood.add(Who::Established, n, false);
    }
    assert_eq!(flood.pass(), 0, "all that were established still are");
    let stats = flood.bench.crt.stats();
    // The bounded table holds a quarter of a second of this flood; one line of it, by chance, less than a round trip: some
    // twelve of ten thousand are pushed out in their handshake.
    let asked = flood.bench.count(Reason::AskHeld);
    assert!(
        asked > 0 && asked * 200 <= came,
        "{asked} of {came} honest clients were pushed out within a round trip"
    );
    assert!(stats.half_open_evicted > 0 && stats.half_open_v4.entries <= stats.half_open_v4.capacity);
    assert_eq!((flood.bench.count(Reason::AskLimited), flood.bench.count(Reason::RefusedReset)), (0, 0));
    assert_eq!(stats.refused_full, 0);
}

#[test]
fn a_full_table_is_counted_and_its_connections_go_on_in_a_flood() {
    let config = Config { connections_v4: 2000, connections_v6: 0, half_open: 4096, ..Config::default() };
    let mut flood = Flood::new(&config);
    let fit: Vec<u32> = (0..10_000).filter(|n| flood.newconn(Who::Established, *n).is_ok()).collect();
    assert!(fit.len() >= 2000, "{} connections fit", fit.len());
    let full = flood.bench.crt.stats().refused_full;
    for (n, established) in (0..20_000).zip(fit.iter().cycle()) {
        flood.add(Who::Spoofed, n, true);
        flood.add(Who::Established, *established, false);
        if n % 100 == 99 {
            assert_eq!(flood.pass(), 0);
        }
    }
    // An honest client's connection that no longer fits is forwarded as a half-open one, and that it doesn't fit is counted.
    let refused = (0..100_u32).filter(|n| {
        flood.add(Who::Honest, *n, true);
        let refused = flood.newconn(Who::Honest, *n);
        flood.add(Who::Honest, *n, false);
        assert_eq!(flood.pass(), 0);
        refused == Err(Refused::Full)
    });
    let refused = refused.count() as u64;
    assert!(refused > 90, "{refused} of 100 do not fit");
    assert_eq!(flood.bench.crt.stats().refused_full, full + refused);
}
