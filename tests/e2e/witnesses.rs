//! Routing nodes that the targets lease DVIPAs to.

use std::net::IpAddr;
use std::thread;
use std::time::{Duration, Instant};

use lab::spec::{DVIPA, RoutingNode};
use lab::{Lab, Spec};
use nix::sys::signal::Signal;

use crate::fixture::{SOON, connect, lab, still_answered_by, web4};

const TARGETS: [&str; 3] = ["t1", "t2", "t3"];

pub(crate) fn backup() -> String {
    let each = |address: IpAddr| format!("[[vipadynamic.vipabackup]]\naddress = \"{address}\"\nrank = 100\n");
    format!("[[vipadynamic]]\n{}{}", each(DVIPA.0.into()), each(DVIPA.1.into()))
}

/// How many DVIPAs this routing node owns, and the highest epoch of them.
pub(crate) fn owned(lab: &Lab, node: RoutingNode) -> Result<(usize, u64), String> {
    let view = lab.baton_json_at(node, &["vipa"]).map_err(|e| e.to_string())?;
    let dvipas = view["dvipas"].as_array().ok_or("no dvipas")?;
    let own = dvipas.iter().filter(|d| d["role"] == "owner");
    let epochs: Vec<u64> = own.filter_map(|d| d["epoch"].as_u64()).collect();
    Ok((epochs.len(), epochs.into_iter().max().unwrap_or_default()))
}

pub(crate) fn wait_for_owner(lab: &Lab, node: RoutingNode) -> u64 {
    lab.wait_for(&format!("{} to own both DVIPAs", node.name()), SOON, || {
        owned(lab, node).and_then(|now| if now.0 == 2 { Ok(()) } else { Err(format!("{now:?}")) })
    })
    .unwrap_or_else(|e| panic!("{e}"));
    owned(lab, node).expect("it answers").1
}

/// How many of the targets have granted both DVIPAs to this node.
fn granted(lab: &Lab, node: RoutingNode) -> usize {
    let grants = |target: &&&str| {
        let status = lab.agent_status(target).expect("the agent answers");
        let grants = status["witness"]["grants"].as_array().cloned().unwrap_or_default();
        grants.iter().filter(|grant| grant["to"] == node.name()).count() == 2
    };
    TARGETS.iter().filter(grants).count()
}

/// While `node` owns a DVIPA, `other` owns none that it owned before.
pub(crate) fn never_both(lab: &Lab, node: RoutingNode, other: RoutingNode, for_so_long: Duration) {
    let until = Instant::now() + for_so_long;
    let mut seen = 0;
    while Instant::now() < until {
        // Asked in this order: what `node` owns at first and still owns at last, `other` did not own in between.
        let (first, between, last) = (owned(lab, node), owned(lab, other), owned(lab, node));
        if let (Ok(first), Ok(between), Ok(last)) = (first, between, last)
            && first == last
            && first.0 == 2
        {
            assert_eq!(between.0, 0, "{} and {} both own DVIPAs", node.name(), other.name());
            seen += 1;
        }
        thread::sleep(Duration::from_millis(50));
    }
    assert!(seen > 0, "{} was never seen as the owner", node.name());
}

/// The owner is killed; the backup owns both DVIPAs in a higher epoch, and releases them when the primary is back. A connection goes on.
/// `wait_for_owner` says in which epoch they are owned.
pub(crate) fn the_owner_is_killed_and_comes_back(lab: &Lab, wait_for_owner: fn(&Lab, RoutingNode) -> u64) {
    use RoutingNode::{First, Second};
    let first = wait_for_owner(lab, First);
    let (mut idle, target) = connect(lab, web4());
    lab.kill("batond").expect("it dies");
    let second = wait_for_owner(lab, Second);
    assert!(second > first, "epochs grow: {first}, {second}");
    still_answered_by(&mut idle, &target);
    lab.start_batond().expect("it comes back");
    let third = wait_for_owner(lab, First);
    assert!(third > second, "epochs grow: {second}, {third}");
    assert_eq!(owned(lab, Second), Ok((0, 0)), "the backup has released them before");
    still_answered_by(&mut idle, &target);
    lab.check().expect("everything runs");
}

/// W12: the targets lease the DVIPAs to the primary; it is killed, and the backup owns them in a higher epoch when the lease has
/// lapsed; the primary comes back and has them again when the backup has released them. A connection goes on.
#[test]
#[ignore = "needs root"]
fn a_backup_owns_what_a_majority_of_witnesses_lease_to_it() {
    use RoutingNode::{First, Second};
    let lab = lab(Spec::default().second(backup()).witnessed());
    wait_for_owner(&lab, First);
    assert_eq!(owned(&lab, Second), Ok((0, 0)));
    assert!(granted(&lab, First) >= 2, "a majority has granted both");
    the_owner_is_killed_and_comes_back(&lab, wait_for_owner);
}

/// W8, W12: DVIPAs move by order from one node that is leased to to another, stay there, and move back when that one leaves.
#[test]
#[ignore = "needs root"]
fn dvipas_move_by_order_where_witnesses_decide() {
    use RoutingNode::{First, Second};
    let lab = lab(Spec::default().second(backup()).witnessed());
    let first = wait_for_owner(&lab, First);
    let (mut idle, target) = connect(&lab, web4());
    for dvipa in [IpAddr::from(DVIPA.0), IpAddr::from(DVIPA.1)] {
        lab.baton_at(First, &["vipa", "move", &dvipa.to_string(), "rt2"]).expect("it is ordered");
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

/// W12: the owner can't be heard any more, but lives: it stops owning when its lease lapses, and the backup owns from then on. When
/// the network is whole again there is one owner.
#[test]
#[ignore = "needs root"]
fn an_owner_that_is_cut_off_does_not_own_beside_the_backup() {
    use RoutingNode::{First, Second};
    let lab = lab(Spec::default().second(backup()).witnessed());
    wait_for_owner(&lab, First);
    lab.cut_off(&[First.name()]).expect("it is cut off");
    wait_for_owner(&lab, Second);
    assert_eq!(owned(&lab, First), Ok((0, 0)), "it lives, and does not own any more");
    never_both(&lab, Second, First, Duration::from_secs(3));
    lab.mend().expect("it is heard again");
    never_both(&lab, Second, First, Duration::from_secs(2));
    wait_for_owner(&lab, First);
    never_both(&lab, First, Second, Duration::from_secs(2));
    lab.check().expect("everything runs");
}

/// W12: the owner's process is stopped for longer than its lease and goes on: it finds that it does not own any more.
#[test]
#[ignore = "needs root"]
fn an_owner_that_was_stopped_does_not_own_beside_the_backup() {
    use RoutingNode::{First, Second};
    let lab = lab(Spec::default().second(backup()).witnessed());
    let first = wait_for_owner(&lab, First);
    lab.signal("batond", Signal::SIGSTOP);
    let second = wait_for_owner(&lab, Second);
    assert!(second > first, "epochs grow: {first}, {second}");
    lab.signal("batond", Signal::SIGCONT);
    never_both(&lab, Second, First, Duration::from_secs(2));
    let third = wait_for_owner(&lab, First);
    assert!(third > second, "the primary takes them back, in an epoch of its own: {second}, {third}");
    lab.check().expect("everything runs");
}
