//! What routing nodes go through while clients of all kinds are there, what routing nodes are beside that, and what was ordered before.
//!
//! `BATON_SOAK` makes it a hundred takeovers.

use std::net::IpAddr;
use std::thread;
use std::time::Duration;

use lab::client::HttpConnection;
use lab::spec::{DVIPA, RoutingNode, Web, both_families, dvipa};
use lab::{Lab, Spec};
use nix::sys::signal::Signal;

use crate::crowd::{self, Crowd};
use crate::fixture::{SOON, lab, web4, web6};
use crate::takeover::{backup, owners, wait_for_owner, wait_until_warm};

const TARGETS: [&str; 3] = ["t1", "t2", "t3"];
const PATIENCE: Duration = Duration::from_secs(60);
/// How many takeovers there are without `BATON_SOAK`, and with it.
const TAKEOVERS: [usize; 2] = [3, 100];

/// What the owner, `rt1`, goes through; at the end it owns both DVIPAs.
#[derive(Clone, Copy, Debug)]
enum Event {
    /// `batond` is killed, and started again when the backup owns.
    Killed,
    /// `batond` stands still, and goes on when the backup owns.
    StandsStill,
    /// Its link is cut on both sides, and mended when the backup owns.
    CutOff,
    /// It can't reach the hosts that lease to it, and hears the backup still; its link is mended when that owns.
    CutFromWitnesses,
    /// It and its backup don't hear each other for a while.
    CutFromBackup,
    /// Both DVIPAs are moved by order, and back.
    Moved,
    /// It leaves, and stays again.
    Leaves,
}

impl Event {
    fn play(self, lab: &Lab) {
        use RoutingNode::{First, Second};
        wait_until_warm(lab, Second, &[]);
        let backup_owns = || wait_for_owner(lab, Second, &[]);
        match self {
            Self::Killed => {
                lab.kill(First.batond()).expect("it dies");
                backup_owns();
                lab.start_batond_of(First).expect("it starts");
            }
            Self::StandsStill => {
                lab.signal(First.batond(), Signal::SIGSTOP);
                backup_owns();
                lab.signal(First.batond(), Signal::SIGCONT);
            }
            Self::CutOff => {
                lab.cut_off(&[First.name()]).expect("it is cut");
                backup_owns();
                lab.mend().expect("it is mended");
            }
            Self::CutFromWitnesses => {
                lab.lose(&[First.name()], &TARGETS).expect("it is cut");
                lab.lose(&TARGETS, &[First.name()]).expect("it is cut");
                wait_for_owner(lab, Second, &[First]);
                lab.mend().expect("it is mended");
            }
            Self::CutFromBackup => {
                for (from, to) in [(First, Second), (Second, First)] {
                    lab.lose(&[from.name()], &[to.name()]).expect("it is cut");
                }
                thread::sleep(Duration::from_secs(3));
                let now = owners(lab, First);
                assert_eq!(now, Ok(vec![(First.name().to_owned(), true); 2]), "its witnesses hear it");
                lab.mend().expect("it is mended");
            }
            Self::Moved => {
                for (at, to) in [(First, Second), (Second, First)] {
                    for address in [IpAddr::from(DVIPA.0), DVIPA.1.into()] {
                        lab.baton_at(at, &["vipa", "move", &address.to_string(), to.name()])
                            .expect("it moves");
                    }
                    wait_for_owner(lab, to, &[at]);
                    wait_until_warm(lab, at, &[]);
                }
            }
            Self::Leaves => {
                lab.baton_at(First, &["node", "leave"]).expect("it leaves");
                wait_for_owner(lab, Second, &[First]);
                lab.baton_at(First, &["node", "stay"]).expect("it stays");
            }
        }
        wait_for_owner(lab, First, &[Second]);
    }
}

fn lab_of_two() -> Lab {
    let lab = lab(crowd::spec().second(backup()).witnessed());
    wait_for_owner(&lab, RoutingNode::First, &[RoutingNode::Second]);
    lab
}

/// W7, W8, W12: however the owner ends, and comes back, again and again: no connection of any kind is reset, and no byte is wrong. One
/// is being moved at that moment; `kills::` has that step by step.
#[test]
#[ignore = "needs root"]
fn clients_of_all_kinds_go_on_however_the_owner_ends() {
    let lab = lab_of_two();
    let mut crowd = Crowd::gather(&lab);
    let takeovers = TAKEOVERS[usize::from(std::env::var("BATON_SOAK").is_ok())];
    let ends = [Event::Killed, Event::StandsStill, Event::CutOff];
    for (number, end) in (1..=takeovers).zip(ends.into_iter().cycle()) {
        crowd.go_on(&lab, || end.play(&lab));
        eprintln!("takeover {number}, {end:?}");
    }
    lab.check().expect("everything runs");
}

/// W7, W8, W12: an owner that is cut off from its witnesses or from its backup alone, that is moved by order, or leaves: no connection of
/// any kind is reset, no request is lost, and no byte is wrong.
#[test]
#[ignore = "needs root"]
fn clients_of_all_kinds_go_on_when_nobody_dies() {
    let lab = lab_of_two();
    let mut crowd = Crowd::gather(&lab);
    for event in [Event::Moved, Event::Leaves, Event::CutFromBackup, Event::CutFromWitnesses] {
        crowd.go_on(&lab, || event.play(&lab));
        eprintln!("{event:?}");
    }
    lab.check().expect("everything runs");
}

/// W7, C5: the backup knows of each connection that has moved where it is now, and the clients go on there when the owner dies.
#[test]
#[ignore = "needs root"]
fn what_has_moved_goes_on_where_it_is_when_the_owner_dies() {
    use RoutingNode::{First, Second};
    let lab = lab(Spec::default().second(backup()));
    wait_for_owner(&lab, First, &[Second]);
    lab.wait_for_targets(80, &TARGETS).unwrap_or_else(|e| panic!("{e}"));
    let mut sessions = Vec::new();
    for to in [web4(), web6()] {
        let mut session = HttpConnection::open_patiently(lab.client(), to, PATIENCE).expect("it connects");
        let first = session.target().expect("a target answers");
        let next = TARGETS.into_iter().find(|target| *target != first).expect("there is another");
        wait_until_warm(&lab, Second, &[&session]);
        let client = session.local().to_string();
        lab.baton(&["move", &client, &to.to_string(), next]).expect("it moves");
        assert_eq!(session.target().expect("it is answered"), next);
        lab.wait_for("the backup to know where it is", SOON, || {
            let crt = lab.crt_at(Second, &["--stack", next]).map_err(|e| e.to_string())?;
            if crt.iter().any(|row| row.client == client) { Ok(()) } else { Err(format!("{crt:#?}")) }
        })
        .unwrap_or_else(|e| panic!("{e}"));
        sessions.push((session, next));
    }
    lab.kill(First.batond()).expect("it dies");
    wait_for_owner(&lab, Second, &[]);
    for (session, target) in &mut sessions {
        assert_eq!(&session.target().expect("it goes on"), target);
    }
}

/// How a target of port 80 stands at a routing node.
fn target(lab: &Lab, node: RoutingNode, stack: &str) -> Result<(String, u16), String> {
    let dpt = lab.dpt_at(node).map_err(|e| e.to_string())?;
    let row = dpt.iter().find(|row| row.port == 80 && row.dvipa == DVIPA.0.to_string()).ok_or("no row")?;
    let target = row.targets.iter().find(|target| target.target == stack).ok_or("no target")?;
    Ok((target.state.clone(), target.weight))
}

/// W7, B1: drains, weights of a controller and evacuations that were ordered at the dead owner hold on at the one that takes over, and
/// with the primary when it is back.
#[test]
#[ignore = "needs root"]
fn what_was_ordered_holds_on_over_a_takeover() {
    use RoutingNode::{First, Second};
    let tables = both_families("ports = [80]\ndestip = \"all\"\nmethod = \"weighted-round-robin\"");
    let lab = lab(Spec::default().vipadynamic(tables).second(backup()));
    wait_for_owner(&lab, First, &[Second]);
    // Downloads that are under way do not move, so that the evacuation is not over at once.
    let open = |to| HttpConnection::open_patiently(lab.client(), to, PATIENCE).expect("it connects");
    let mut sessions: Vec<_> = (0..9).map(|_| open(web4())).collect();
    sessions.iter_mut().for_each(|session| drop(session.target().expect("a target answers")));
    let address = DVIPA.0.to_string();
    lab.baton(&["weights", &address, "80", "t2=7", "--for", "600"]).expect("weights are set");
    lab.baton(&["drain", "t1"]).expect("t1 drains");
    let holds = |node: RoutingNode| {
        lab.wait_for(&format!("the orders at {}", node.name()), SOON * 2, || {
            let (drained, weighed) = (target(&lab, node, "t1")?, target(&lab, node, "t2")?);
            if drained.0 == "draining" && weighed.1 == 7 {
                Ok(())
            } else {
                Err(format!("{drained:?} {weighed:?}"))
            }
        })
        .unwrap_or_else(|e| panic!("{e}"));
    };
    holds(First);
    lab.kill(First.batond()).expect("it dies");
    wait_for_owner(&lab, Second, &[]);
    holds(Second);
    // An evacuation is ordered there, and goes on at the primary.
    thread::scope(|scope| {
        let evacuation = scope.spawn(|| lab.baton_at(Second, &["drain", "t3", "--move", "--for", "60"]));
        lab.start_batond_of(First).expect("it starts");
        wait_for_owner(&lab, First, &[Second]);
        holds(First);
        let is_empty = || {
            let crt = lab.crt(&["--stack", "t3", "--state", "established"]).map_err(|e| e.to_string())?;
            if crt.is_empty() { Ok(()) } else { Err(format!("{crt:#?}")) }
        };
        lab.wait_for("t3 to be empty", PATIENCE, is_empty).unwrap_or_else(|e| panic!("{e}"));
        drop(evacuation.join());
    });
    for session in &mut sessions {
        assert_ne!(session.target().expect("nobody is reset"), "t3");
    }
}

/// W7: routing nodes that are targets too. What is at the one that backs up goes on when the owner dies; what was at the dead owner's own
/// kernel is told so (RST) as soon as its host is known to be dead.
#[test]
#[ignore = "needs root"]
fn what_was_at_the_dead_node_itself_is_told_and_everything_else_goes_on() {
    use RoutingNode::{First, Second};
    const STACKS: [&str; 3] = ["rt1", "rt2", "t1"];
    let web = STACKS.map(Web::wildcard);
    let spec = Spec { targets: 1, routing_agent: true, ..Spec::default().web(web).second(backup()) };
    let lab = lab(spec);
    wait_for_owner(&lab, First, &[Second]);
    lab.wait_for_targets(80, &STACKS).unwrap_or_else(|e| panic!("{e}"));
    let open = |to| {
        let mut session = HttpConnection::open_patiently(lab.client(), to, PATIENCE).expect("it connects");
        let target = session.target().expect("a target answers");
        (session, target)
    };
    let mut sessions: Vec<_> = [web4(), web6()].into_iter().cycle().take(12).map(open).collect();
    for stack in STACKS {
        assert!(sessions.iter().any(|(_, target)| target == stack), "{stack} has some");
    }
    lab.wait_for("the backup to know them", SOON, || {
        let crt = lab.crt_at(Second, &["--state", "established"]).map_err(|e| e.to_string())?;
        let known = |(session, _): &&(HttpConnection, String)| {
            let client = session.local().to_string();
            crt.iter().any(|row| row.client == client)
        };
        if sessions.iter().all(|session| known(&session)) { Ok(()) } else { Err(format!("{crt:#?}")) }
    })
    .unwrap_or_else(|e| panic!("{e}"));
    lab.kill(First.batond()).expect("it dies");
    wait_for_owner(&lab, Second, &[]);
    for (session, target) in sessions.iter_mut().filter(|(_, target)| target != "rt1") {
        assert_eq!(&session.target().expect("it goes on"), target);
    }
    for (session, _) in sessions.iter_mut().filter(|(_, target)| target == "rt1") {
        let told = session.target().expect_err("its host is dead");
        assert_eq!(told.kind(), std::io::ErrorKind::ConnectionReset, "{told}");
    }
}

/// The owner of each DVIPA at a node, IPv4 first.
fn wait_for_owners(lab: &Lab, at: RoutingNode, wanted: [RoutingNode; 2]) {
    lab.wait_for(&format!("{} to know that {wanted:?} own", at.name()), PATIENCE, || {
        let now = owners(lab, at)?;
        let good = now.iter().map(|(owner, _)| owner.as_str()).eq(wanted.map(RoutingNode::name));
        if good { Ok(()) } else { Err(format!("{now:?}")) }
    })
    .unwrap_or_else(|e| panic!("{e}"));
}

/// W7, W8: two nodes back each other up, and a third one both: each in turn is killed, all three DVIPAs' connections go on, and each primary
/// takes back what is its own.
#[test]
#[ignore = "needs root"]
fn nodes_that_back_each_other_up_take_over_from_each_other() {
    use RoutingNode::{First, Second, Third};
    let distribute = "ports = [80]\ndestip = \"all\"\nmethod = \"round-robin\"";
    let (v4, v6) = (IpAddr::from(DVIPA.0), IpAddr::from(DVIPA.1));
    let backs = |address: IpAddr, rank: u8| {
        format!("[[vipadynamic.vipabackup]]\naddress = \"{address}\"\nrank = {rank}\n")
    };
    let first = format!("[[vipadynamic]]\n{}{}", dvipa(v4, 24, &[distribute]), backs(v6, 200));
    let second = format!("[[vipadynamic]]\n{}{}", dvipa(v6, 64, &[distribute]), backs(v4, 200));
    let third = format!("[[vipadynamic]]\n{}{}", backs(v4, 100), backs(v6, 100));
    let lab = lab(Spec::default().vipadynamic(first).second(second).third(third));
    let all = |wanted| RoutingNode::ALL.iter().for_each(|at| wait_for_owners(&lab, *at, wanted));
    all([First, Second]);
    let open = |to| {
        let mut session = HttpConnection::open_patiently(lab.client(), to, PATIENCE).expect("it connects");
        let target = session.target().expect("a target answers");
        (session, target)
    };
    let mut sessions: Vec<_> = [web4(), web6()].into_iter().cycle().take(8).map(open).collect();
    let mut go_on = || {
        for (session, target) in &mut sessions {
            assert_eq!(&session.target().expect("it goes on"), target);
        }
    };
    RoutingNode::ALL.iter().for_each(|node| wait_until_warm(&lab, *node, &[]));
    for (dies, takes) in [(First, Second), (Second, First)] {
        lab.kill(dies.batond()).expect("it dies");
        wait_for_owners(&lab, takes, [takes; 2]);
        go_on();
        lab.start_batond_of(dies).expect("it starts");
        all([First, Second]);
        wait_until_warm(&lab, dies, &[]);
        go_on();
    }
    for (dies, then) in [(First, [Second; 2]), (Second, [Third; 2])] {
        lab.kill(dies.batond()).expect("it dies");
        wait_for_owners(&lab, Third, then);
        go_on();
    }
    for node in [First, Second] {
        lab.start_batond_of(node).expect("it starts");
    }
    all([First, Second]);
    go_on();
}
