//! A cluster under fire: routing application and targets of `examples/echo/`, and clients in rows.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use lab::spec::DVIPA;
use lab::{Lab, Spec};

use super::clients::{Broken, Client, Manner};
use super::condition::Condition;
use super::counts::Counts;
use crate::fixture::{SOON, lab};

/// A connection moves on after so many milliseconds at a target.
const MOVES_EVERY_MS: &str = "20";
/// Of each manner and family.
const CLIENTS: usize = 1;
/// Of more conditions than this a run without `BATON_SOAK` takes only some, which depends on the seed.
const MOST_CONDITIONS: usize = 5;
/// How long each client sends.
const SENDS_FOR: Duration = Duration::from_millis(1000);

/// At least so many transfers happen under each condition.
const LEAST_MOVES: u64 = 20;
/// Clients are sent out so often at most until they have.
const MOST_TURNS: u64 = 10;

/// Bytes that came out of order do not move; the client sends them again. Without timestamps it doubles its time-out each time
/// (RFC 6298 5.5, and 3: no round trip is measured): up to two minutes, unless the kernel (6.15) can be told not to. Then it
/// also gives up much earlier, unless told not to.
const IMPATIENT: &str = "f=/proc/sys/net/ipv4/tcp_rto_max_ms; [ ! -e $f ] || echo 1000 >$f
    echo 200 >/proc/sys/net/ipv4/tcp_retries2";

/// No host waits long before it sends again, so that what is stuck is told apart from what was lost often.
pub(crate) fn be_impatient(lab: &Lab) {
    for (_, host) in lab.hosts() {
        host.sh(IMPATIENT).unwrap_or_else(|e| panic!("{e}"));
    }
}

pub(crate) struct Field {
    pub(crate) lab: Lab,
    seed: u64,
}

/// How often each condition is repeated: `BATON_SOAK`. Without it, once, and not each of them.
fn rounds() -> Option<u64> {
    std::env::var("BATON_SOAK").ok().and_then(|rounds| rounds.parse().ok())
}

/// `BATON_SEED`, or another one each time.
pub(crate) fn seed() -> u64 {
    let given = std::env::var("BATON_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = given.unwrap_or_else(|| {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        since.as_nanos() as u64 >> 10
    });
    println!("BATON_SEED={seed}");
    seed
}

impl Field {
    pub(crate) fn begin(spec: Spec) -> Self {
        let lab = lab(spec);
        be_impatient(&lab);
        let (v4, v6) = (DVIPA.0.to_string(), DVIPA.1.to_string());
        let router = ["echo", "router", "80", &v4, &v6];
        lab.start_application("rt1", "router", &router).expect("the router starts");
        lab.wait_for_targets(80, &["rt1"]).unwrap_or_else(|e| panic!("{e}"));
        for stack in ["t1", "t2", "t3"] {
            let target = ["echo", "target", MOVES_EVERY_MS, "80", &v4, &v6];
            lab.start_application(stack, &format!("echo@{stack}"), &target).expect("the target starts");
            crate::transfer::wait_for_state(&lab, stack, "transfer-only");
        }
        Self { lab, seed: seed() }
    }

    /// Sends clients out under each of these conditions; all must get what they are owed.
    pub(crate) fn soak(&self, conditions: &[Condition]) {
        let all = Instant::now();
        let before = self.moved();
        let most = if rounds().is_some() { conditions.len() } else { MOST_CONDITIONS };
        let first = (self.seed >> 8) as usize % conditions.len();
        for round in 0..rounds().unwrap_or(1) {
            for condition in conditions.iter().cycle().skip(first).take(conditions.len().min(most)) {
                let (begun, moved, seed) =
                    (Instant::now(), self.moved(), self.seed.wrapping_add(round << 32));
                condition.set(&self.lab, seed);
                // A busy machine has them sent out again, rather than have fewer connections move.
                let mut bytes = 0;
                for turn in 0..MOST_TURNS {
                    bytes += self.send_clients(condition, seed.wrapping_add(turn << 24), SENDS_FOR);
                    if self.moved() - moved > LEAST_MOVES {
                        break;
                    }
                }
                condition.unset(&self.lab, seed);
                self.wait_until_nothing_is_frozen();
                let (moved, took) = (self.moved() - moved, begun.elapsed().as_secs_f32());
                let mb = bytes >> 20;
                println!("round {round}: {:50} {moved:5} transfers {mb:4} MB {took:5.1} s", condition.name);
                assert!(moved > LEAST_MOVES, "{}: connections move", condition.name);
            }
        }
        let (moved, took) = (self.moved() - before, all.elapsed().as_secs_f32());
        println!("{moved} transfers in {took:.1} s; links:\n{}", self.lab.tallies());
        println!("outcomes: {:?}", self.outcomes());
    }

    /// Sends clients out for so long while something else is done; all must get what they are owed.
    pub(crate) fn soak_while(&self, condition: &Condition, sends_for: Duration, work: impl FnOnce()) {
        std::thread::scope(|scope| {
            let clients = scope.spawn(|| self.send_clients(condition, self.seed, sends_for));
            work();
            clients.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        });
        self.wait_until_nothing_is_frozen();
    }

    /// How many bytes went there and back.
    fn send_clients(&self, condition: &Condition, seed: u64, sends_for: Duration) -> u64 {
        let dvipas =
            [IpAddr::from(DVIPA.0), DVIPA.1.into()].into_iter().take(1 + usize::from(condition.carries_v6()));
        let kinds = dvipas.flat_map(|dvipa| Manner::ALL.map(|manner| (dvipa, manner)));
        let clients = kinds.flat_map(|kind| [kind; CLIENTS]).zip(1..);
        let clients = clients.map(|((dvipa, manner), number)| Client {
            to: (dvipa, 80).into(),
            manner,
            seed: seed.wrapping_mul(1000).wrapping_add(number) << 16 | number,
            sends_for,
        });
        let ns = self.lab.client();
        let outcomes: Vec<Result<u64, Broken>> = std::thread::scope(|scope| {
            let clients: Vec<_> = clients.map(|client| scope.spawn(move || client.run(ns))).collect();
            clients.into_iter().map(|client| client.join().expect("a client does not panic")).collect()
        });
        let broken: Vec<String> =
            outcomes.iter().filter_map(|o| o.as_ref().err()).map(Broken::to_string).collect();
        assert!(broken.is_empty(), "{} (BATON_SEED={}): {broken:#?}", condition.name, self.seed);
        outcomes.into_iter().flatten().sum()
    }

    /// How transfers ended, since `batond` was started.
    pub(crate) fn outcomes(&self) -> BTreeMap<String, u64> {
        let all = self.lab.transfers().expect("baton stats answers");
        all.into_iter().filter(|(_, count)| *count > 0).collect()
    }

    pub(crate) fn moved(&self) -> u64 {
        self.outcomes().get("restored").copied().unwrap_or(0)
    }

    /// Waits until nothing moves and no connection is there, with the same counts as before if they are given.
    pub(crate) fn settle(&self, before: Option<&Counts>) -> Counts {
        let settled = self.lab.wait_for("nothing to be left", 2 * SOON, || {
            let counts = Counts::of(&self.lab)?;
            match before {
                None if counts.is_calm() => Ok(counts),
                Some(before) if counts == *before => Ok(counts),
                None => Err(format!("\n{counts}")),
                Some(before) => Err(format!("\n{counts}before:\n{before}")),
            }
        });
        settled.unwrap_or_else(|e| panic!("{e}"))
    }

    fn wait_until_nothing_is_frozen(&self) {
        self.lab
            .wait_for("nothing to be frozen", 3 * SOON, || {
                let left = self.lab.crt(&["--state", "frozen"]).map_err(|e| e.to_string())?;
                if left.is_empty() { Ok(()) } else { Err(format!("{left:#?}")) }
            })
            .unwrap_or_else(|e| panic!("{e}"));
    }
}
