//! Which target a new connection is given.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use lab::client::{HttpConnection, ask, ask_often};
use lab::spec::{CLIENT, DVIPA, ipv4_only};
use lab::{Lab, Spec};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::fixture::{SOON, connect, established, lab, still_answered_by, web4};

fn spec(keys: &str) -> Spec {
    Spec::default().vipadynamic(ipv4_only(&[&format!("ports = [80]\n{keys}")]))
}

fn counts(expected: &[(&str, usize)]) -> BTreeMap<String, usize> {
    expected.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect()
}

/// W5: round robin gives each target the same share.
#[test]
#[ignore = "needs root"]
fn round_robin_is_even() {
    let lab = lab(spec("destip = \"all\"\nmethod = \"round-robin\""));
    assert_eq!(ask_often(lab.client(), web4(), 30), counts(&[("t1", 10), ("t2", 10), ("t3", 10)]));
}

/// W5: weighted round robin gives shares as the weights say.
#[test]
#[ignore = "needs root"]
fn weighted_round_robin_follows_the_weights() {
    let keys = "destip = [\"t1\", \"t2\", \"t3\"]\nmethod = \"weighted-round-robin\"\nweights = { t1 = 6, t2 = 3, t3 = 1 }";
    let lab = lab(spec(keys));
    assert_eq!(ask_often(lab.client(), web4(), 40), counts(&[("t1", 24), ("t2", 12), ("t3", 4)]));
}

/// W5: least connections gives a new connection to the target that has the fewest.
#[test]
#[ignore = "needs root"]
fn least_connections_fills_up_whoever_has_the_fewest() {
    let lab = lab(spec("destip = \"all\"\nmethod = \"least-connections\""));
    let mut held: Vec<_> = (0..9).map(|_| connect(&lab, web4())).collect();
    for (connection, _) in &held {
        established(&lab, connection);
    }
    let of = |held: &[(HttpConnection, String)], name: &str| held.iter().filter(|(_, t)| t == name).count();
    assert_eq!(["t1", "t2", "t3"].map(|t| of(&held, t)), [3, 3, 3]);
    held.retain(|(_, target)| target != "t2");
    lab.wait_for("t2 to have none", SOON, || {
        let rows = lab.crt(&["--stack", "t2", "--state", "established"]).map_err(|e| e.to_string())?;
        if rows.is_empty() { Ok(()) } else { Err(format!("{rows:#?}")) }
    })
    .unwrap_or_else(|e| panic!("{e}"));
    for _ in 0..3 {
        let (connection, target) = connect(&lab, web4());
        established(&lab, &connection);
        assert_eq!(target, "t2");
        held.push((connection, target));
    }
}

/// W5: consistent hashing uses every target, and a client's address and port always lead to the same one.
#[test]
#[ignore = "needs root"]
fn maglev_gives_one_client_port_the_same_target_again() {
    let lab = lab(spec("destip = \"all\"\nmethod = \"maglev\""));
    let answers = ask_often(lab.client(), web4(), 60);
    assert!(["t1", "t2", "t3"].iter().all(|t| answers.get(*t).is_some_and(|n| *n > 5)), "{answers:?}");
    // Below the ephemeral ports, so that nobody else had them.
    for port in 20_000..20_004 {
        let from = SocketAddr::new(CLIENT.0.into(), port);
        let ask = |_| {
            let mut connection = HttpConnection::open_from(lab.client(), from, web4()).expect("it connects");
            let target = connection.target().expect("a target answers");
            established(&lab, &connection);
            connection.abort().expect("it is reset");
            // What is not established is selected anew.
            lab.wait_for("the entry to close", SOON, || {
                let rows = lab.crt(&["--client", &from.to_string()]).map_err(|e| e.to_string())?;
                if rows.iter().all(|r| r.state == "closing") { Ok(()) } else { Err(format!("{rows:?}")) }
            })
            .unwrap_or_else(|e| panic!("{e}"));
            target
        };
        let targets: Vec<String> = (0..3).map(ask).collect();
        assert!(targets.iter().all(|t| *t == targets[0]), "port {port}: {targets:?}");
    }
}

/// B6: with hot standby all connections go to the heaviest target, to the next one while it does not listen, and to it again when it
/// does.
#[test]
#[ignore = "needs root"]
fn hot_standby_uses_the_others_only_while_the_first_is_not_there() {
    let keys =
        "destip = [\"t1\", \"t2\", \"t3\"]\nmethod = \"hot-standby\"\nweights = { t1 = 1, t2 = 3, t3 = 2 }";
    let lab = lab(spec(keys));
    assert_eq!(ask_often(lab.client(), web4(), 6), counts(&[("t2", 6)]));
    lab.stop("nginx-t2", Signal::SIGTERM).expect("nginx of t2 ends");
    t2_is(&lab, "not-listening");
    assert_eq!(ask_often(lab.client(), web4(), 6), counts(&[("t3", 6)]));
    let (mut held, _) = connect(&lab, web4());
    lab.start_web("t2").expect("nginx of t2 is back");
    t2_is(&lab, "listening");
    assert_eq!(ask_often(lab.client(), web4(), 6), counts(&[("t2", 6)]));
    still_answered_by(&mut held, "t3");
}

fn t2_is(lab: &Lab, state: &str) {
    lab.wait_for(&format!("t2 to be {state}"), SOON, || {
        let seen = lab.dpt().map_err(|e| e.to_string())?.remove(0).targets.remove(1).state;
        if seen == state { Ok(()) } else { Err(seen) }
    })
    .unwrap_or_else(|e| panic!("{e}"));
}

/// B6: all connections of a client go to one target, and many clients to all.
#[test]
#[ignore = "needs root"]
fn source_keeps_a_client_at_one_target() {
    let lab = lab(spec("destip = \"all\"\nmethod = \"source\""));
    let mut used = BTreeSet::new();
    for last in 0..12 {
        let client = format!("198.18.1.{}", 10 + last);
        lab.client().sh(&format!("ip addr add {client}/15 dev eth0")).expect("an address is added");
        let from: SocketAddr = format!("{client}:0").parse().expect("an address");
        let ask = |_| {
            let mut connection = HttpConnection::open_from(lab.client(), from, web4()).expect("it connects");
            connection.target().expect("a target answers")
        };
        let targets: BTreeSet<String> = (0..4).map(ask).collect();
        assert_eq!(targets.len(), 1, "{client}: {targets:?}");
        used.extend(targets);
    }
    assert_eq!(used.len(), 3, "{used:?}");
}

/// How often each target answers a client that asks so many times, each time over another connection.
fn answers(lab: &Lab, times: usize) -> BTreeSet<String> {
    ask_often(lab.client(), web4(), times).into_keys().collect()
}

/// B6: timed affinity keeps a client at its target while it has a connection and for the time after, over a restart of `batond`; a target
/// that ends gives its clients away.
#[test]
#[ignore = "needs root"]
fn a_client_keeps_its_target_until_so_long_after_its_last_connection() {
    let lab = lab(spec("destip = \"all\"\nmethod = \"round-robin\"\naffinity_s = 3"));
    let first = answers(&lab, 12);
    assert_eq!(first.len(), 1, "{first:?}");
    std::thread::sleep(Duration::from_secs(5));
    let second = answers(&lab, 6);
    assert_eq!(second.len(), 1, "{second:?}");
    assert_ne!(first, second, "the time was over, and it is another's turn");
    // A connection that lasts longer than the time keeps the target.
    let mut open = HttpConnection::open(lab.client(), web4()).expect("it connects");
    assert_eq!(BTreeSet::from([open.target().expect("it answers")]), second);
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!(answers(&lab, 6), second);
    lab.kill("batond").expect("batond is killed");
    std::thread::sleep(Duration::from_secs(4));
    lab.start_batond().expect("batond starts again");
    lab.wait_for_targets(80, &["t1", "t2", "t3"]).unwrap_or_else(|e| panic!("{e}"));
    established(&lab, &open);
    assert_eq!(answers(&lab, 6), second);
    assert!(open.target().is_ok(), "the connection itself goes on");
    // Its target takes no new ones.
    let target = second.first().expect("there is one").clone();
    lab.baton(&["drain", &target]).expect("it drains");
    let third = answers(&lab, 6);
    assert_eq!((third.len(), third == second), (1, false), "{third:?}");
}

/// B6: a backup knows whom each client has, and clients keep their targets when it takes over.
#[test]
#[ignore = "needs root"]
fn a_client_keeps_its_target_when_its_dvipa_moves() {
    let keys = "ports = [80]\ndestip = \"all\"\nmethod = \"round-robin\"\naffinity_s = 600";
    // What the backup distributes it has from the owner.
    let backup =
        format!("[[vipadynamic]]\n[[vipadynamic.vipabackup]]\naddress = \"{}\"\nrank = 100\n", DVIPA.0);
    let lab = lab(Spec::default().vipadynamic(ipv4_only(&[keys])).second(backup));
    let before = answers(&lab, 4);
    assert_eq!(before.len(), 1, "{before:?}");
    lab.kill("batond").expect("batond is killed");
    lab.wait_for("the backup to forward", Duration::from_secs(20), || {
        let answer = ask(lab.client(), web4());
        answer.map(drop).map_err(|e| e.to_string())
    })
    .unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(answers(&lab, 12), before);
}

/// W5: weights come from live load: a target whose accept queue is full weighs next to nothing.
#[test]
#[ignore = "needs root"]
fn a_busy_target_weighs_less() {
    let lab = lab(spec("destip = \"all\"\nmethod = \"weighted-round-robin\"\nweights = \"load\""));
    lab.freeze_all("t1", "nginx").expect("nginx of t1 does nothing");
    // Straight to t1, so that its queue fills without the forwarder's doing.
    let to = SocketAddr::new(IpAddr::from([198, 18, 0, 21]), 80);
    let _waiting: Vec<_> = (0..600).map_while(|_| lab.client().enter(|| try_connect(to))).collect();
    // The processors are everybody's here, so that on a busy machine all weigh little: the queue has to show by itself.
    lab.wait_for("t1 to weigh next to nothing", Duration::from_secs(30), || {
        let dpt = lab.baton_json(&["dpt"]).map_err(|e| e.to_string())?;
        let targets = dpt["services"][0]["targets"].as_array().ok_or("no targets")?;
        let of = |target: &Value| {
            let queue = target["load"]["accept_queue_permille"].as_u64();
            (queue, target["weight"].as_u64(), target["weight_source"]["from"] == "load")
        };
        let seen: Vec<_> = targets.iter().map(of).collect();
        let full = matches!(seen[0], (Some(900..), Some(..=10), true));
        let others = seen[1..].iter().all(|other| other.0 == Some(0) && other.1 >= seen[0].1 && other.2);
        if full && others { Ok(()) } else { Err(format!("{seen:?}")) }
    })
    .unwrap_or_else(|e| panic!("{e}"));
    // A connection that t1 is given hangs, because its queue is full. The weights say how many: where the machine has nothing else
    // to do next to none, where it is so busy that all weigh little a third.
    let shares = [(); 2].map(|()| {
        let before = share_of_t1(&lab);
        let hanging = (0..15).filter(|_| lab.client().enter(|| try_connect(web4())).is_none()).count();
        (before.max(share_of_t1(&lab)), hanging)
    });
    let wanted: f64 = shares.iter().map(|(share, _)| 15.0 * share).sum();
    let hanging: usize = shares.iter().map(|(_, hanging)| hanging).sum();
    assert!(hanging as f64 <= wanted + 4.0, "{hanging} of 30 went to t1, not {wanted:.0}: {shares:?}");
}

/// The first target's part of all weights.
fn share_of_t1(lab: &Lab) -> f64 {
    let row = lab.dpt().expect("baton dpt answers").remove(0);
    let all: f64 = row.targets.iter().map(|target| f64::from(target.weight)).sum();
    f64::from(row.targets[0].weight) / all
}

fn try_connect(to: SocketAddr) -> Option<std::net::TcpStream> {
    std::net::TcpStream::connect_timeout(&to, Duration::from_millis(300)).ok()
}

/// W5: a service policy gives clients of a prefix other targets.
#[test]
#[ignore = "needs root"]
fn a_policy_gives_clients_of_a_prefix_their_own_targets() {
    let keys = "destip = \"all\"\n[[vipadynamic.vipadistribute.policy]]\nclient = \"198.18.1.0/24\"\ndestip = [\"t3\"]";
    let lab = lab(spec(keys));
    lab.client().sh("ip addr add 198.18.1.2/15 dev eth0").expect("an address is added");
    let from: SocketAddr = "198.18.1.2:0".parse().expect("an address");
    for _ in 0..6 {
        let mut connection = HttpConnection::open_from(lab.client(), from, web4()).expect("it connects");
        assert_eq!(connection.target().expect("a target answers"), "t3");
    }
    assert_eq!(ask_often(lab.client(), web4(), 9), counts(&[("t1", 3), ("t2", 3), ("t3", 3)]));
}

/// W5: an outside controller's weights hold until they expire.
#[test]
#[ignore = "needs root"]
fn a_controllers_weights_hold_until_they_expire() {
    let lab = lab(spec("destip = \"all\"\nmethod = \"weighted-round-robin\""));
    lab.baton(&["weights", "198.18.9.1", "80", "t1=0", "t2=0", "t3=5", "--for", "4"])
        .expect("weights are set");
    lab.wait_for_targets(80, &["t3"]).expect("only t3 has weight");
    assert_eq!(ask_often(lab.client(), web4(), 5), counts(&[("t3", 5)]));
    lab.wait_for_targets(80, &["t1", "t2", "t3"]).expect("the weights expire");
}

/// W5: a draining target gets no new connection, keeps the ones that it has, and is back when it is resumed.
#[test]
#[ignore = "needs root"]
fn a_draining_target_keeps_its_connections_and_gets_no_new_one() {
    let lab = lab(spec("destip = \"all\""));
    let mut held: Vec<_> = (0..3).map(|_| connect(&lab, web4())).collect();
    for (connection, _) in &held {
        established(&lab, connection);
    }
    lab.baton(&["drain", "t2"]).expect("t2 drains");
    lab.wait_for_targets(80, &["t1", "t3"]).expect("t2 is not selected");
    assert_eq!(ask_often(lab.client(), web4(), 10), counts(&[("t1", 5), ("t3", 5)]));
    for (connection, target) in &mut held {
        still_answered_by(connection, target);
    }
    lab.baton(&["resume", "t2"]).expect("t2 resumes");
    lab.wait_for_targets(80, &["t1", "t2", "t3"]).expect("t2 is selected again");
}

/// W5: with no target left a new connection is not answered by a guess, and is counted.
#[test]
#[ignore = "needs root"]
fn with_no_target_a_new_connection_is_refused_and_counted() {
    let lab = lab(spec("destip = \"all\"").web([]));
    let before = lab.counter("no_target").expect("baton stats answers");
    assert!(lab.client().enter(|| try_connect(web4())).is_none());
    assert!(lab.counter("no_target").expect("baton stats answers") > before);
}
