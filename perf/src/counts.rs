//! Instructions a call of the hot functions, counted by callgrind, so that a change that costs some is seen in review.
//!
//! The program runs itself under valgrind once for each function. Only what [`counted`] calls is counted: keys and packets
//! are made before. Valgrind has no AVX-512: what is counted is the code for processors with AES and AVX2, whatever this one
//! has. The table's secret is random, so that the numbers of two runs differ by some per mille.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::path::Path;
use std::process::Command;

use forwarder::Now;
use forwarder::crt::{BURST as KEYS, Burst, Config, Crt, KeyV4, KeyV6};
use model::StackIndex;
use serde::{Deserialize, Serialize};

use crate::cluster::{Carried, Traffic};
use crate::frames::Kind;
use crate::keys::{Numbered, Random};
use crate::rig::Rig;
use crate::transactions::{self, Says};

/// Connections in the table: it is as full as it is meant to get, and soon filled under valgrind.
const CONNECTIONS: u32 = 9_984;
/// Tables that are filled to count an insertion.
const TABLES: u32 = 8;
/// How much more than recorded is a failure.
const TOLERANCE: f64 = 0.02;
const NOW: Now = Now { ms: 1000 };

/// Sets a function up, and lets [`counted`] call it; returns how many packets, keys or lines that were.
type Scenario = fn() -> std::io::Result<u32>;

const SCENARIOS: [(&str, Scenario); 20] = [
    ("crt_hit_v4", || look_up::<KeyV4>(0)),
    ("crt_hit_v6", || look_up::<KeyV6>(0)),
    ("crt_miss_v4", || look_up::<KeyV4>(CONNECTIONS)),
    ("crt_miss_v6", || look_up::<KeyV6>(CONNECTIONS)),
    ("crt_insert_v4", insert),
    ("crt_half_open_v4", half_open),
    ("crt_remove_v4", remove),
    ("crt_flow_crowded_v4", flow_in_a_crowd),
    ("crt_age_line_v4", age),
    ("path_v4", || path(Traffic::ack(CONNECTIONS))),
    ("path_v6", || path(Traffic { kind: Kind::Ack6, ..Traffic::ack(CONNECTIONS) })),
    ("path_gue", || path(Traffic { carried: Carried::Gue, ..Traffic::ack(CONNECTIONS) })),
    ("path_vlan", || path(Traffic { tagged: true, ..Traffic::ack(CONNECTIONS) })),
    ("path_vlan_v6", || path(Traffic { tagged: true, kind: Kind::Ack6, ..Traffic::ack(CONNECTIONS) })),
    ("path_udp", || path(Traffic { kind: Kind::Udp, ..Traffic::ack(CONNECTIONS) })),
    ("path_syn", || path(Traffic::new(Kind::Syn))),
    ("core_syn", || first_requests(Says::Syn, 10)),
    ("core_ack", || first_requests(Says::Ack, 10)),
    ("core_request", || first_requests(Says::Request, 10)),
    ("core_request_10k", || first_requests(Says::Request, 10_000)),
];

/// What was recorded.
#[derive(Serialize, Deserialize)]
struct Record {
    /// The compiler: another one makes other instructions.
    rustc: String,
    /// Instructions a key or packet.
    instructions: BTreeMap<String, f64>,
}

/// Why nothing could be compared.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("there is nothing called {0} to count")]
    Unknown(String),
    #[error("{0}: no memory: {1}")]
    Memory(String, std::io::Error),
    #[error("this processor has no AES instructions: other code would be counted than was recorded")]
    OtherCode,
    #[error("valgrind does not start (Debian: apt install valgrind): {0}")]
    Valgrind(std::io::Error),
    #[error("valgrind counted nothing of {0}; it said:\n{1}")]
    Nothing(String, String),
    #[error("{0}: {1}")]
    File(String, String),
    #[error("more instructions than recorded: {0}. If they are worth it, record them: perf/counts --record")]
    Grown(String),
}

/// Calls what is to be counted. Callgrind knows it by its name.
#[inline(never)]
fn counted(work: &mut dyn FnMut()) {
    work();
}

/// For a run under valgrind: one scenario.
///
/// # Errors
/// If there is none of this name, or no memory for it.
pub(crate) fn run(name: &str) -> Result<(), Error> {
    let (_, scenario) =
        SCENARIOS.iter().find(|(n, _)| *n == name).ok_or_else(|| Error::Unknown(name.to_owned()))?;
    let items = scenario().map_err(|e| Error::Memory(name.to_owned(), e))?;
    println!("{items}");
    Ok(())
}

/// Counts everything; compares it with `file`, or writes it there.
///
/// # Errors
/// If it can't be counted, or has grown.
pub(crate) fn compare(file: &Path, record: bool) -> Result<(), Error> {
    if !std::is_x86_feature_detected!("aes") {
        return Err(Error::OtherCode);
    }
    let problem = |e: &dyn std::fmt::Display| Error::File(file.display().to_string(), e.to_string());
    let rustc = env!("PERF_RUSTC").to_owned();
    let mut instructions = BTreeMap::new();
    for (name, _) in SCENARIOS {
        instructions.insert(name.to_owned(), (under_valgrind(name)? * 10.0).round() / 10.0);
    }
    if record {
        let text = toml::to_string(&Record { rustc, instructions }).map_err(|e| problem(&e))?;
        let head =
            "# Instructions a key, packet or line, in bursts of 32. Written by `perf/counts --record`.\n";
        return std::fs::write(file, format!("{head}{text}")).map_err(|e| problem(&e));
    }
    let text = std::fs::read_to_string(file).map_err(|e| problem(&e))?;
    let recorded: Record = toml::from_str(&text).map_err(|e| problem(&e))?;
    let same_compiler = recorded.rustc == rustc;
    let mut grown = Vec::new();
    for (name, now) in &instructions {
        let Some(before) = recorded.instructions.get(name).copied() else {
            println!("{name:<18}{now:>8.1}  not recorded yet");
            continue;
        };
        let change = 100.0 * (now / before - 1.0);
        println!("{name:<18}{now:>8.1}  recorded {before:>8.1}  {change:>+6.1} %");
        if *now > before * (1.0 + TOLERANCE) {
            grown.push(name.as_str());
        }
    }
    if !same_compiler {
        println!("recorded with {}, counted with {rustc}: only shown, not judged", recorded.rustc);
    } else if !grown.is_empty() {
        return Err(Error::Grown(grown.join(", ")));
    }
    Ok(())
}

/// Instructions a key or packet.
fn under_valgrind(name: &str) -> Result<f64, Error> {
    let program = std::env::current_exe().map_err(Error::Valgrind)?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "--collect-atstart=no"])
        .arg("--toggle-collect=*counts*counted*")
        .arg(program)
        .args(["--count", name])
        .output()
        .map_err(Error::Valgrind)?;
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    let collected: Option<f64> = told
        .lines()
        .find_map(|l| l.split("Collected :").nth(1)?.trim().parse().ok())
        .filter(|n| *n >= f64::from(CONNECTIONS));
    let items: Option<f64> = String::from_utf8_lossy(&output.stdout).trim().parse().ok();
    let (Some(collected), Some(items)) = (collected, items) else {
        return Err(Error::Nothing(name.to_owned(), told));
    };
    Ok(collected / items)
}

fn bursts<K: Numbered>(from: u32) -> Vec<[K; KEYS]> {
    let starts = (from..from + CONNECTIONS).step_by(KEYS);
    starts.map(|start| std::array::from_fn(|i| K::number(start + i as u32))).collect()
}

fn empty<K: Numbered>() -> std::io::Result<Crt> {
    let room = CONNECTIONS as usize;
    let (v4, v6) = if size_of::<K>() == size_of::<KeyV4>() { (room, 0) } else { (0, room) };
    Crt::new(&Config { connections_v4: v4, connections_v6: v6, half_open: 65_536, ..Config::default() })
}

fn fill<K: Numbered>(crt: &Crt) {
    for key in bursts::<K>(0).iter().flatten() {
        assert!(crt.newconn(*key, StackIndex(1), NOW).is_ok(), "the table has room");
    }
}

fn look_up<K: Numbered>(from: u32) -> std::io::Result<u32> {
    let crt = empty::<K>()?;
    fill::<K>(&crt);
    let bursts = bursts::<K>(from);
    let mut burst = Burst::default();
    for keys in bursts {
        burst.set(keys);
        counted(&mut || crt.look_up(&mut burst, NOW));
        black_box(burst.found());
    }
    Ok(CONNECTIONS)
}

fn insert() -> std::io::Result<u32> {
    // Several tables: how often an entry has to make room for another is chance.
    for _ in 0..TABLES {
        let crt = empty::<KeyV4>()?;
        let (mut burst, mut done) = (Burst::default(), 0);
        for keys in bursts::<KeyV4>(0) {
            burst.set(keys);
            counted(&mut || {
                crt.newconn_all(&mut burst, StackIndex(1), NOW, |_, new| done += u32::from(new.is_ok()));
            });
        }
        assert_eq!(done, CONNECTIONS, "the table has room");
    }
    Ok(TABLES * CONNECTIONS)
}

fn half_open() -> std::io::Result<u32> {
    let crt = empty::<KeyV4>()?;
    one_by_one(&crt, |key| black_box(crt.insert_half_open(key, StackIndex(1), NOW).is_ok()));
    Ok(CONNECTIONS)
}

fn remove() -> std::io::Result<u32> {
    let crt = empty::<KeyV4>()?;
    fill::<KeyV4>(&crt);
    one_by_one(&crt, |key| black_box(crt.remove(key).is_some()));
    Ok(CONNECTIONS)
}

/// A new flow where there are more than the table was made for: it takes the place of another.
fn flow_in_a_crowd() -> std::io::Result<u32> {
    let flows = CONNECTIONS as usize;
    let crt = Crt::new(&Config { connections_v4: 1024, connections_v6: 0, flows, ..Config::default() })?;
    let frames = Traffic::new(Kind::Udp).frames(Kind::Udp);
    let insert = |n| assert!(crt.insert_flow(frames.key_v4(n), StackIndex(1), None, NOW).is_ok());
    (CONNECTIONS..5 * CONNECTIONS).for_each(insert);
    let before = crt.stats().flows_evicted;
    (0..CONNECTIONS).for_each(|n| counted(&mut || insert(n)));
    let evicted = crt.stats().flows_evicted - before;
    assert!(evicted > u64::from(CONNECTIONS / 2), "{evicted} flows gave way");
    Ok(CONNECTIONS)
}

/// Ageing of lines of connections that stay, a line each.
fn age() -> std::io::Result<u32> {
    const LINES: u32 = 3072;
    let crt = empty::<KeyV4>()?;
    fill::<KeyV4>(&crt);
    counted(&mut || assert_eq!(crt.age(NOW, LINES as usize), 0, "no connection ends"));
    Ok(LINES)
}

/// One call for each key, prefetched in bursts as a careful caller does it.
fn one_by_one(crt: &Crt, each: impl Fn(KeyV4) -> bool) {
    let bursts = bursts::<KeyV4>(0);
    let (mut burst, mut done) = (Burst::default(), 0);
    for keys in bursts {
        burst.set(keys);
        counted(&mut || {
            crt.prepare(&mut burst);
            for key in burst.keys() {
                done += u32::from(each(*key));
            }
        });
    }
    assert_eq!(done, CONNECTIONS, "every call does what it is counted for");
}

/// Whole bursts; one is written, uncounted, before each.
fn path(traffic: Traffic) -> std::io::Result<u32> {
    let mut rig = Rig::new(traffic)?;
    let mut random = Random(1);
    let rounds = CONNECTIONS / KEYS as u32;
    for _ in 0..rounds {
        rig.write(&mut random);
        let mut sent = 0;
        counted(&mut || sent = rig.process());
        assert_eq!(sent, KEYS, "every packet is sent");
    }
    Ok(rounds * KEYS as u32)
}

/// What so many clients of a service with so many routes say.
fn first_requests(says: Says, routes: u32) -> std::io::Result<u32> {
    transactions::say(says, (CONNECTIONS, routes), counted)?;
    Ok(CONNECTIONS)
}
