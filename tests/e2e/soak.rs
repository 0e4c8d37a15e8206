//! Many transfers at once: on links that lose packets, and while the programs that carry them out are killed.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use lab::spec::DVIPA;
use lab::{Lab, Spec};

use crate::fixture::lab;
use crate::transfer::{start_router, start_target};

/// Clients at the same time.
const CLIENTS: usize = 8;
/// A download: some round trips between two moves.
const DOWNLOAD_BYTES: usize = 6 << 20;
/// The moves of each.
const WAY: &str = "files@t2,files@t3,files@t1,files@t3,files@t2,files@t1,files@t2,files@t1";
/// All moves: these, and that from the router.
const MOVES: u64 = 9 * CLIENTS as u64;
/// When everything must be over.
const PATIENCE: Duration = Duration::from_secs(100);

/// C5, C6, C11: downloads that move nine times each, all at once, are whole.
#[test]
#[ignore = "needs root"]
fn many_connections_move_at_once() {
    assert_all_moved(&Soak::begin(0, rounds(), "100M").end());
}

/// C5, C6, C11: the same where one packet in a hundred is lost in each direction.
#[test]
#[ignore = "needs root"]
fn connections_move_while_packets_are_lost() {
    assert_all_moved(&Soak::begin(1, rounds(), "100M").end());
}

/// C5, C6, C11: the same where one packet in twenty is lost in each direction.
#[test]
#[ignore = "needs root"]
fn connections_move_while_many_packets_are_lost() {
    assert_all_moved(&Soak::begin(5, rounds(), "100M").end());
}

/// How often the downloads are repeated: `BATON_SOAK`, or once. 50 rounds of the three tests are 10 800 transfers.
fn rounds() -> usize {
    std::env::var("BATON_SOAK").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(1)
}

/// C5, C8: agents are killed and started again while connections move: those wait, and none is lost, because applications
/// keep their descriptors until they know.
#[test]
#[ignore = "needs root"]
fn killed_agents_cost_no_connection_that_moves() {
    let soak = Soak::begin(0, 1, "1M");
    for stack in ["t1", "t2", "t3", "t2"] {
        std::thread::sleep(Duration::from_millis(700));
        soak.lab.kill(&format!("agent-{stack}")).expect("it is killed");
        soak.lab.start_agent(stack).expect("it starts");
    }
    let counts = soak.end();
    assert!(counts["restored"] > MOVES / 2, "most went on: {counts:?}");
}

/// C5, C8: `batond` is killed and started again while connections move: they stall until it is back, and go on.
#[test]
#[ignore = "needs root"]
fn a_killed_batond_costs_no_connection_that_moves() {
    let soak = Soak::begin(0, 1, "1M");
    for _ in 0..2 {
        std::thread::sleep(Duration::from_millis(1500));
        soak.lab.kill("batond").expect("it is killed");
        soak.lab.start_batond().expect("it starts");
    }
    let counts = soak.end();
    assert!(counts["restored"] > 0, "it moves connections again: {counts:?}");
}

/// C5, C8: clients that go away in any phase of a move leave nothing behind: no entry, no socket, no descriptor.
#[test]
#[ignore = "needs root"]
fn clients_that_go_away_leave_nothing_behind() {
    let soak = Soak::prepare(0);
    let lab = &soak.lab;
    let url = |bytes| format!("http://{}/download/{bytes}?via={WAY}", DVIPA.0);
    // Agents open once what they need for the first transfer.
    lab.client().run(&["curl", "-s", "--max-time", "20", &url(900)]).expect("it is downloaded");
    let before = descriptors(lab);
    // Each ends with FIN or RST, whichever curl's unread bytes make it.
    let script = format!(
        "for i in $(seq 20); do
             curl -s --limit-rate 4M --max-time 0.$((i * 4 + 10)) \
                 '{}' >/dev/null &
         done
         wait",
        url(DOWNLOAD_BYTES)
    );
    lab.client().sh(&script).expect("the shell runs");
    let hosts = ["rt1", "t1", "t2", "t3"];
    let left = || hosts.map(|h| lab.host(h).sh("ss -Htn state connected sport = :80").unwrap_or_default());
    lab.wait_for("nothing to be left", Duration::from_secs(30), || {
        let (sockets, after) = (left().concat(), descriptors(lab));
        let entries = lab.crt(&["--state", "frozen"]).map_err(|e| e.to_string())?;
        let good = sockets.is_empty() && entries.is_empty() && after == before;
        if good { Ok(()) } else { Err(format!("{sockets}{entries:?} {before:?} {after:?}")) }
    })
    .unwrap_or_else(|e| panic!("{e}"));
    assert!(lab.transfers().expect("baton stats answers")["restored"] > 20, "they moved before they left");
}

/// How many descriptors the agents and the applications have open, by host and program.
fn descriptors(lab: &Lab) -> Vec<(String, usize)> {
    let script = "for p in $(ip netns pids {}); do
            case $(cat /proc/$p/comm) in baton-agent|http) echo $(cat /proc/$p/comm) $(ls /proc/$p/fd | wc -l);; esac
        done";
    let of = |host: &str| {
        let said = lab.host(host).sh(&script.replace("{}", lab.host(host).name())).expect("the shell runs");
        let line = |line: &str| {
            let (program, count) = line.split_once(' ').expect("two words");
            (format!("{host} {program}"), count.parse().expect("a number"))
        };
        said.lines().map(line).collect::<Vec<_>>()
    };
    let mut all: Vec<_> = ["rt1", "t1", "t2", "t3"].into_iter().flat_map(of).collect();
    all.sort();
    all
}

/// Downloads that run.
struct Soak {
    lab: Lab,
    rounds: usize,
}

impl Soak {
    /// Starts curls, so many rounds of them, with so much loss, each so fast.
    fn begin(loss_percent: u8, rounds: usize, rate: &str) -> Self {
        let soak = Self { rounds, ..Self::prepare(loss_percent) };
        let lab = &soak.lab;
        let example = lab.example("http").expect("it is built");
        let script = format!(
            "wanted=$({example} content {DOWNLOAD_BYTES} | sha256sum)
             one() {{
                 got=$(curl -sS --limit-rate {rate} --max-time 90 \"http://$1/download/{DOWNLOAD_BYTES}?via={WAY}\" | sha256sum)
                 [ \"$got\" = \"$wanted\" ] && echo whole || echo \"$1: $got\"
             }}
             for round in $(seq {rounds}); do
                 for i in $(seq {half}); do one {v4} & one '[{v6}]' & done
                 wait
             done",
            example = example.display(),
            half = CLIENTS / 2,
            v4 = DVIPA.0,
            v6 = DVIPA.1,
        );
        lab.start_on("client", "downloads", &["sh", "-c", &script]).expect("the shell starts");
        soak
    }

    /// A lab with router and targets.
    fn prepare(loss_percent: u8) -> Self {
        let lab = lab(Spec::content_routed());
        start_router(&lab);
        for stack in ["t1", "t2", "t3"] {
            start_target(&lab, &format!("files@{stack}"));
        }
        lose(&lab, loss_percent);
        Self { lab, rounds: 1 }
    }

    /// Waits for the end; every download must be whole and nothing left frozen. Returns how the transfers ended.
    fn end(self) -> BTreeMap<String, u64> {
        let log = self.lab.files().join("downloads.log");
        let said = || fs::read_to_string(&log).unwrap_or_default();
        let begun = Instant::now();
        let downloads = CLIENTS * self.rounds;
        while said().lines().count() < downloads && begun.elapsed() < PATIENCE * self.rounds as u32 {
            std::thread::sleep(Duration::from_millis(50));
        }
        assert_eq!(said(), "whole\n".repeat(downloads), "after {:?}", begun.elapsed());
        let left = self.lab.crt(&["--state", "frozen"]).expect("baton crt answers");
        assert!(left.is_empty(), "nothing is left frozen: {left:#?}");
        self.lab.transfers().expect("baton stats answers")
    }
}

/// Every move was made, but for those to the stack where the connection was: the router gives each job's targets their turn.
fn assert_all_moved(counts: &BTreeMap<String, u64>) {
    let moves = MOVES * rounds() as u64;
    let of = |name: &str| counts.get(name).copied().unwrap_or(0);
    assert_eq!(of("begun"), of("restored"), "none failed: {counts:?}");
    assert_eq!(of("restored") + of("same_stack"), moves, "{counts:?}");
}

/// The client's host loses so many of a hundred TCP packets that come, and of those that go.
fn lose(lab: &Lab, percent: u8) {
    let rules = format!(
        "nft 'add table inet loss
              add chain inet loss in {{ type filter hook input priority 0; }}
              add chain inet loss out {{ type filter hook output priority 0; }}
              add rule inet loss in tcp sport 80 numgen random mod 100 < {percent} drop
              add rule inet loss out tcp dport 80 numgen random mod 100 < {percent} drop'"
    );
    if percent > 0 {
        lab.client().sh(&rules).expect("nft takes the rules");
    }
}
