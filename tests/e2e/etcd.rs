//! Routing nodes that an etcd of three members leases DVIPAs to.

use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use lab::spec::{self, DVIPA, RoutingNode};
use lab::{Lab, Spec};
use nix::sys::signal::Signal;

use crate::fixture::{connect, lab, still_answered_by, web4};
use crate::witnesses::{backup, never_both, owned, the_owner_is_killed_and_comes_back};

/// A lease of 5 s lapses in that time, on a machine with other work.
const TAKEN_OVER: Duration = Duration::from_secs(40);

fn start() -> Lab {
    let lab = lab(Spec::default().second(backup()).etcd());
    wait_for_owner(&lab, RoutingNode::First);
    lab
}

fn wait_for_owner(lab: &Lab, node: RoutingNode) -> u64 {
    wait_to_own(lab, node, 2);
    owned(lab, node).expect("it answers").1
}

fn wait_to_own(lab: &Lab, node: RoutingNode, dvipas: usize) {
    lab.wait_for(&format!("{} to own {dvipas} DVIPAs", node.name()), TAKEN_OVER, || {
        owned(lab, node).and_then(|now| if now.0 == dvipas { Ok(()) } else { Err(format!("{now:?}")) })
    })
    .unwrap_or_else(|e| panic!("{e}"));
}

/// Waits until so many members answer a routing node, as it says.
fn wait_for_members(lab: &Lab, node: RoutingNode, members: usize) {
    lab.wait_for(&format!("{members} members to answer {}", node.name()), TAKEN_OVER, || {
        let etcd = lab.baton_json_at(node, &["status"]).map_err(|e| e.to_string())?["etcd"].clone();
        let all = etcd["members"].as_array().ok_or("no members")?;
        let answer = all.iter().filter(|member| member["fails"].is_null()).count();
        let is_said = etcd["answers"] == (members > 0);
        if answer == members && is_said { Ok(()) } else { Err(etcd.to_string()) }
    })
    .unwrap_or_else(|e| panic!("{e}"));
}

/// While this lasts the node owns both DVIPAs in this epoch or later, and clients are answered.
fn goes_on(lab: &Lab, node: RoutingNode, epoch: u64, for_so_long: Duration) {
    let until = Instant::now() + for_so_long;
    while Instant::now() < until {
        connect(lab, web4());
        assert_eq!(owned(lab, node), Ok((2, epoch)), "nothing happens to its ownership");
        thread::sleep(Duration::from_millis(200));
    }
}

/// W12: etcd leases the DVIPAs to the primary; it is killed, and the backup owns them in a higher epoch when the lease has lapsed; the
/// primary comes back and has them again when the backup has released them. A connection goes on.
#[test]
#[ignore = "needs root"]
fn a_backup_owns_what_etcd_leases_to_it() {
    use RoutingNode::{First, Second};
    let lab = start();
    wait_for_owner(&lab, First);
    assert_eq!(owned(&lab, Second), Ok((0, 0)));
    let shown = lab.baton_at(First, &["vipa"]).expect("it answers");
    assert!(shown.contains("etcd leases") && shown.contains("5000 ms"), "{shown}");
    the_owner_is_killed_and_comes_back(&lab, wait_for_owner);
}

/// W12: of three members of etcd one is killed, and when it is back another is cut off: nothing happens to the owner and its clients.
#[test]
#[ignore = "needs root"]
fn one_member_of_etcd_may_die_and_another_may_be_cut_off_one_after_the_other() {
    use RoutingNode::First;
    let lab = start();
    let epoch = wait_for_owner(&lab, First);
    wait_for_members(&lab, First, 3);
    let (mut idle, target) = connect(&lab, web4());
    lab.kill("etcd-e1").expect("it dies");
    goes_on(&lab, First, epoch, Duration::from_secs(12));
    wait_for_members(&lab, First, 2);
    lab.start_etcd("e1").expect("it comes back");
    wait_for_members(&lab, First, 3);
    lab.cut_off(&["e2"]).expect("it is cut off");
    goes_on(&lab, First, epoch, Duration::from_secs(12));
    wait_for_members(&lab, First, 2);
    lab.mend().expect("it is heard again");
    wait_for_members(&lab, First, 3);
    still_answered_by(&mut idle, &target);
    lab.check().expect("everything runs");
}

/// W12: the majority of etcd's members is gone: the owner stops owning when its lease lapses, says why, and none owns. It owns again when
/// they are back.
#[test]
#[ignore = "needs root"]
fn without_a_majority_of_etcd_none_owns_until_it_is_back() {
    use RoutingNode::{First, Second};
    let lab = start();
    let epoch = wait_for_owner(&lab, First);
    for member in ["etcd-e1", "etcd-e2"] {
        lab.kill(member).expect("it dies");
    }
    wait_to_own(&lab, First, 0);
    wait_for_members(&lab, First, 0);
    let shown = lab.baton_at(First, &["status"]).expect("it answers");
    assert!(shown.contains("etcd") && shown.contains("does not answer"), "{shown}");
    assert_eq!(owned(&lab, Second), Ok((0, 0)), "no other owns them");
    for member in ["e1", "e2"] {
        lab.start_etcd(member).expect("it comes back");
    }
    let again = wait_for_owner(&lab, First);
    assert!(again > epoch, "epochs grow: {epoch}, {again}");
    connect(&lab, web4());
    lab.check().expect("everything runs");
}

/// W12: the owner's process is stopped for ten seconds, and goes on: it finds that it does not own any more.
#[test]
#[ignore = "needs root"]
fn an_owner_that_was_stopped_does_not_own_beside_the_one_that_etcd_leases_to() {
    use RoutingNode::{First, Second};
    let lab = start();
    let first = wait_for_owner(&lab, First);
    lab.signal("batond", Signal::SIGSTOP);
    let stopped = Instant::now();
    let second = wait_for_owner(&lab, Second);
    assert!(second > first, "epochs grow: {first}, {second}");
    thread::sleep(Duration::from_secs(10).saturating_sub(stopped.elapsed()));
    lab.signal("batond", Signal::SIGCONT);
    never_both(&lab, Second, First, Duration::from_secs(2));
    let third = wait_for_owner(&lab, First);
    assert!(third > second, "the primary takes them back, in an epoch of its own: {second}, {third}");
    lab.check().expect("everything runs");
}

/// W8, W12: DVIPAs move by order from one node that etcd leases to to another, stay there, and move back when that one leaves.
#[test]
#[ignore = "needs root"]
fn dvipas_move_by_order_where_etcd_decides() {
    use RoutingNode::{First, Second};
    let lab = start();
    let first = wait_for_owner(&lab, First);
    let (mut idle, target) = connect(&lab, web4());
    for dvipa in [DVIPA.0.to_string(), DVIPA.1.to_string()] {
        lab.baton_at(First, &["vipa", "move", &dvipa, "rt2"]).expect("it is ordered");
    }
    let second = wait_for_owner(&lab, Second);
    assert!(second > first, "epochs grow: {first}, {second}");
    never_both(&lab, Second, First, Duration::from_secs(2));
    assert_eq!(owned(&lab, Second).map(|now| now.0), Ok(2), "they stay");
    still_answered_by(&mut idle, &target);
    lab.baton_at(Second, &["node", "leave"]).expect("it leaves");
    wait_for_owner(&lab, First);
    still_answered_by(&mut idle, &target);
    lab.check().expect("everything runs");
}

/// W12: etcd and the backup can't be reached by the owner any more, but clients can: it stops owning when its lease lapses, and the
/// backup owns from then on.
#[test]
#[ignore = "needs root"]
fn an_owner_that_etcd_does_not_hear_stops_before_the_other_begins() {
    use RoutingNode::{First, Second};
    let lab = start();
    wait_for_owner(&lab, First);
    let others = ["e1", "e2", "e3", Second.name()];
    lab.lose(&[First.name()], &others).expect("it is not heard");
    lab.lose(&others, &[First.name()]).expect("it does not hear");
    connect(&lab, web4());
    let deadline = Instant::now() + TAKEN_OVER;
    // What the backup owns, the former owner did not own before, and does not own afterwards.
    while owned(&lab, Second).map(|now| now.0) != Ok(2) {
        assert!(Instant::now() < deadline, "the backup does not own them");
        thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(owned(&lab, First), Ok((0, 0)), "it lives, and does not own any more");
    never_both(&lab, Second, First, Duration::from_secs(3));
    lab.mend().expect("it is heard again");
    never_both(&lab, Second, First, Duration::from_secs(2));
    wait_for_owner(&lab, First);
    never_both(&lab, First, Second, Duration::from_secs(2));
    lab.check().expect("everything runs");
}

/// W7, W12: the owner can't reach etcd, and its backup hears it still: the backup owns the DVIPAs, and the primary takes them back when it
/// reaches etcd again.
#[test]
#[ignore = "needs root"]
fn an_owner_that_does_not_reach_etcd_gives_way_to_one_that_does() {
    let lab = start();
    let (mut connection, target) = connect(&lab, web4());
    let (first, members) = ([RoutingNode::First.name()], spec::ETCD.map(|(name, _)| name));
    lab.lose(&first, &members).expect("it is cut");
    lab.lose(&members, &first).expect("it is cut");
    wait_for_owner(&lab, RoutingNode::Second);
    still_answered_by(&mut connection, &target);
    lab.mend().expect("it is mended");
    wait_for_owner(&lab, RoutingNode::First);
    still_answered_by(&mut connection, &target);
}

/// Makes an authority, and certificates of it for an etcd at 127.0.0.1 and for its client, in this directory.
const CERTIFICATES: &str = "set -e
    key='-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes'
    openssl req -x509 $key -keyout ca.key -out ca.pem -subj /CN=authority -days 2
    for name in etcd client; do
        openssl req $key -keyout $name.key -out $name.csr -subj /CN=$name
        echo subjectAltName=IP:127.0.0.1 >$name.ext
        openssl x509 -req -in $name.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out $name.pem -days 2 -extfile $name.ext
    done";

/// W12: etcd and the routing node know each other by certificates; with one of another authority the node is not answered, and says why.
#[test]
#[ignore = "needs root"]
fn etcd_and_routing_nodes_know_each_other_by_certificates() {
    let files = tempfile::tempdir().expect("a directory");
    let (good, other) = (files.path().join("good"), files.path().join("other"));
    for at in [&good, &other] {
        std::fs::create_dir(at).expect("it is made");
        let made = Command::new("sh").args(["-c", CERTIFICATES]).current_dir(at).output().expect("sh runs");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    }
    let at = good.display();
    let url = "https://127.0.0.1:2379";
    let table = format!(
        "[cluster.etcd]\nendpoints = [\"{url}\"]\nca = \"{at}/ca.pem\"\ncertificate = \"{at}/client.pem\"\nkey = \"{at}/client.key\"\n\n"
    );
    let lab = Lab::build(Spec { announce: table, ..Spec::default() }).expect("it is built");
    let file = |name: &str| good.join(name).display().to_string();
    let data = files.path().join("data").display().to_string();
    let peer = "http://127.0.0.1:2380";
    let (ca, certificate, key) = (file("ca.pem"), file("etcd.pem"), file("etcd.key"));
    let mut words = vec!["etcd", "--name", "e1", "--data-dir", &data, "--listen-client-urls", url];
    words.extend(["--advertise-client-urls", url, "--listen-peer-urls", peer, "--client-cert-auth"]);
    words.extend(["--initial-advertise-peer-urls", peer, "--initial-cluster", "e1=http://127.0.0.1:2380"]);
    words.extend(["--trusted-ca-file", &ca, "--cert-file", &certificate, "--key-file", &key]);
    lab.start_on("rt1", "etcd-e1", &words).expect("etcd starts");
    lab.start_programs().expect("they start");
    wait_for_owner(&lab, RoutingNode::First);
    wait_for_members(&lab, RoutingNode::First, 1);
    lab.kill("batond").expect("it dies");
    for name in ["ca.pem", "client.pem", "client.key"] {
        std::fs::copy(other.join(name), good.join(name)).expect("it is put in the other's place");
    }
    lab.start_batond().expect("it comes back");
    lab.wait_for("the node to say why etcd does not answer", TAKEN_OVER, || {
        let etcd =
            lab.baton_json_at(RoutingNode::First, &["status"]).map_err(|e| e.to_string())?["etcd"].clone();
        let fails = etcd["members"][0]["fails"].as_str().unwrap_or_default();
        if fails.is_empty() || fails.contains("not asked") { Err(etcd.to_string()) } else { Ok(()) }
    })
    .unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(
        owned(&lab, RoutingNode::First).map(|now| now.0),
        Ok(0),
        "what it can't lease it does not own"
    );
}
