//! Routing nodes that die, come back, and hand over, while clients go on.

use std::fs;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use lab::client::HttpConnection;
use lab::spec::{self, DVIPA, RoutingNode};
use lab::{Lab, Server, Spec};
use nix::sys::signal::Signal;

use crate::fixture::{SOON, connect, dvipa4, lab, still_answered_by, web4, web6};

/// For so long a client waits: more than any takeover takes on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A backup for both DVIPAs that has no VIPADISTRIBUTE of its own.
pub(crate) fn backup() -> String {
    let each = |address: IpAddr| format!("[[vipadynamic.vipabackup]]\naddress = \"{address}\"\nrank = 100\n");
    format!("[[vipadynamic]]\n{}{}", each(DVIPA.0.into()), each(DVIPA.1.into()))
}

/// The owners of the DVIPAs as this routing node knows them, and whether it is one itself.
pub(crate) fn owners(lab: &Lab, node: RoutingNode) -> Result<Vec<(String, bool)>, String> {
    let text = lab.baton_at(node, &["--json", "vipa"]).map_err(|e| e.to_string())?;
    let view: serde_json::Value = serde_json::from_str(&text).map_err(|e| e.to_string())?;
    let dvipas = view["dvipas"].as_array().ok_or("no dvipas")?;
    let owner = |d: &serde_json::Value| (d["owner"].as_str().unwrap_or("-").to_owned(), d["role"] == "owner");
    Ok(dvipas.iter().map(owner).collect())
}

/// Waits until this routing node owns both DVIPAs, and each of the others that run knows it.
pub(crate) fn wait_for_owner(lab: &Lab, node: RoutingNode, others: &[RoutingNode]) {
    let name = node.name();
    lab.wait_for(&format!("{name} to own the DVIPAs"), PATIENCE, || {
        for (at, is_own) in [(node, true)].into_iter().chain(others.iter().map(|other| (*other, false))) {
            let now = owners(lab, at)?;
            if now != vec![(name.to_owned(), is_own); 2] {
                return Err(format!("{}: {now:?}", at.name()));
            }
        }
        Ok(())
    })
    .unwrap_or_else(|e| panic!("{e}"));
}

/// Waits until this routing node would forward as its owner does: it knows the targets and these connections.
pub(crate) fn wait_until_warm(lab: &Lab, node: RoutingNode, connections: &[&HttpConnection]) {
    lab.wait_for(&format!("{} to be warm", node.name()), PATIENCE, || {
        let dpt = lab.dpt_at(node).map_err(|e| e.to_string())?;
        let targets: Vec<usize> = dpt.iter().map(|row| row.selectable().len()).collect();
        if targets.is_empty() || targets.iter().any(|count| *count != 3) {
            return Err(format!("{dpt:#?}"));
        }
        let crt = lab.crt_at(node, &["--state", "established"]).map_err(|e| e.to_string())?;
        let known = |c: &&&HttpConnection| crt.iter().any(|row| row.client == c.local().to_string());
        match connections.iter().find(|c| !known(c)) {
            None => Ok(()),
            Some(unknown) => Err(format!("{} is not in {crt:#?}", unknown.local())),
        }
    })
    .unwrap_or_else(|e| panic!("{e}"));
}

/// What the client's kernel was told with a RST.
fn resets(lab: &Lab) -> u64 {
    let text = lab.client().run(&["nstat", "-asz", "TcpEstabResets"]).expect("nstat answers");
    let row = text.lines().find(|line| line.starts_with("TcpEstabResets")).expect("it has the counter");
    row.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("a number")
}

/// Clients that go on while something happens to the routing nodes: a download, an upload, and a person who is silent meanwhile.
fn while_clients_go_on(lab: &Lab, to: SocketAddr, happens: impl FnOnce(&[&HttpConnection])) {
    let before = resets(lab);
    let (mut idle, target) = connect(lab, to);
    let open = || HttpConnection::open_patiently(lab.client(), to, PATIENCE).expect("it connects");
    let (mut down, up) = (open(), open());
    let servers = ["t1", "t2", "t3"].map(|t| fs::read(lab.files().join(format!("nginx-{t}/www/big"))));
    let sent: Vec<u8> = (0..4_000_000_u32).map(|n| (n % 251) as u8).collect();
    let url = format!("http://{to}/put/{}", up.local().port());
    drop(up);
    let file = lab.files().join("upload");
    fs::write(&file, &sent).expect("a file to send");
    thread::scope(|scope| {
        let download = scope.spawn(|| {
            let got = down.get("/slow-enough").expect("the download is whole");
            let whole = servers.iter().flatten().any(|file| *file == got);
            assert!(whole, "{} bytes, and no server has them", got.len());
            down
        });
        let upload = scope.spawn(|| {
            let file = file.display().to_string();
            let curl = ["curl", "-sS", "--fail", "--limit-rate", "1M", "--max-time", "60", "-T", &file, &url];
            lab.client().run(&curl).expect("the upload is whole");
        });
        // In the middle of both.
        thread::sleep(Duration::from_millis(700));
        happens(&[&idle]);
        still_answered_by(&mut idle, &target);
        upload.join().expect("the upload");
        download.join().expect("the download");
    });
    let kept = ["t1", "t2", "t3"].map(|t| {
        let port = url.rsplit('/').next().unwrap_or_default();
        fs::read(lab.files().join(format!("nginx-{t}/put/{port}"))).ok()
    });
    assert!(kept.iter().flatten().any(|file| *file == sent), "no server has what was sent");
    assert_eq!(resets(lab), before, "connections were reset");
}

/// How long a client has to wait for its next answer: it asks again and again.
fn longest_wait(lab: &Lab, to: SocketAddr, happens: impl FnOnce()) -> Duration {
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let client = scope.spawn(|| {
            let mut connection =
                HttpConnection::open_patiently(lab.client(), to, PATIENCE).expect("it connects");
            let (mut longest, mut last) = (Duration::ZERO, Instant::now());
            while !is_over.load(Ordering::Relaxed) {
                connection.target().expect("it is answered");
                (longest, last) = (longest.max(last.elapsed()), Instant::now());
                thread::sleep(Duration::from_millis(5));
            }
            longest
        });
        thread::sleep(Duration::from_millis(300));
        happens();
        is_over.store(true, Ordering::Relaxed);
        client.join().expect("the client")
    })
}

/// W2, W7, W8: the owner is killed in the middle of downloads and uploads; the backup, which has no VIPADISTRIBUTE of its own, takes over
/// with the primary's, and nothing is reset. The primary comes back, is warm, takes the DVIPAs back, and again nothing is.
#[test]
#[ignore = "needs root"]
fn the_owner_is_killed_and_comes_back_and_no_connection_notices() {
    use RoutingNode::{First, Second};
    let lab = lab(Spec::default().second(backup()));
    wait_for_owner(&lab, First, &[Second]);
    for to in [web4(), web6()] {
        while_clients_go_on(&lab, to, |connections| {
            wait_until_warm(&lab, Second, connections);
            lab.kill("batond").expect("it dies");
            wait_for_owner(&lab, Second, &[]);
        });
        assert_eq!(
            lab::client::ask_often(lab.client(), to, 6).values().sum::<usize>(),
            6,
            "new clients are served"
        );
        while_clients_go_on(&lab, to, |_| {
            lab.start_batond_of(First).expect("it starts");
            wait_for_owner(&lab, First, &[Second]);
        });
    }
}

/// W7: the time without an answer is about as long as it takes to find out that the owner is dead.
#[test]
#[ignore = "needs root"]
fn a_takeover_takes_about_as_long_as_its_detection() {
    use RoutingNode::{First, Second};
    let lab = lab(Spec::default().second(backup()));
    wait_for_owner(&lab, First, &[Second]);
    wait_until_warm(&lab, Second, &[]);
    let waited = longest_wait(&lab, web4(), || {
        lab.kill("batond").expect("it dies");
        wait_for_owner(&lab, Second, &[]);
        thread::sleep(Duration::from_secs(2));
    });
    eprintln!("the client waited {waited:?}");
    assert!(waited < SOON, "{waited:?}");
}

/// W7, W12: an owner that stood still for some seconds finds another owner when it goes on, and yields; it takes the DVIPAs back as its
/// primary, in a later epoch, and both agree at each end.
#[test]
#[ignore = "needs root"]
fn an_owner_that_stood_still_is_no_second_one() {
    use RoutingNode::{First, Second};
    let lab = lab(Spec::default().second(backup()));
    wait_for_owner(&lab, First, &[Second]);
    while_clients_go_on(&lab, web4(), |connections| {
        wait_until_warm(&lab, Second, connections);
        lab.signal("batond", Signal::SIGSTOP);
        wait_for_owner(&lab, Second, &[]);
        lab.signal("batond", Signal::SIGCONT);
        wait_for_owner(&lab, First, &[Second]);
    });
    lab.check().expect("everything runs");
}

/// W8: a DVIPA moves by order, and stays; a node that leaves hands over all, and its clients notice nothing.
#[test]
#[ignore = "needs root"]
fn dvipas_move_by_order_without_a_lost_request() {
    use RoutingNode::{First, Second};
    let lab = lab(Spec::default().second(backup()));
    wait_for_owner(&lab, First, &[Second]);
    while_clients_go_on(&lab, web4(), |_| {
        for dvipa in [IpAddr::from(DVIPA.0), IpAddr::from(DVIPA.1)] {
            lab.baton_at(First, &["vipa", "move", &dvipa.to_string(), "rt2"]).expect("it is ordered");
        }
        wait_for_owner(&lab, Second, &[First]);
    });
    while_clients_go_on(&lab, web4(), |_| {
        lab.baton_at(Second, &["node", "leave"]).expect("it leaves");
        wait_for_owner(&lab, First, &[Second]);
    });
    lab.baton_at(Second, &["node", "stay"]).expect("it stays");
    lab.baton_at(First, &["node", "leave"]).expect("it leaves");
    wait_for_owner(&lab, Second, &[First]);
    lab.stop("batond", Signal::SIGTERM).expect("it ends");
    while_clients_go_on(&lab, web4(), |_| {
        lab.start_batond_of(First).expect("it starts");
        wait_for_owner(&lab, First, &[Second]);
    });
}

/// W8: `batond` of the owner ends: the backup owns before it is gone.
#[test]
#[ignore = "needs root"]
fn a_batond_that_ends_hands_over_first() {
    use RoutingNode::{First, Second};
    let lab = lab(Spec::default().second(backup()));
    wait_for_owner(&lab, First, &[Second]);
    while_clients_go_on(&lab, web4(), |connections| {
        wait_until_warm(&lab, Second, connections);
        lab.stop("batond", Signal::SIGTERM).expect("it ends");
        wait_for_owner(&lab, Second, &[]);
    });
    let text = fs::read_to_string(lab.files().join("batond-rt2.log")).expect("a log");
    let gained: Vec<&str> = text.lines().filter(|line| line.contains("owned from now on")).collect();
    assert_eq!(gained.len(), 2, "{text}");
    assert!(gained.iter().all(|line| line.contains("from=\"rt1\"")), "from one that lives: {gained:#?}");
}

/// W2: two primaries of one DVIPA are an alarm at both, with both names.
#[test]
#[ignore = "needs root"]
fn two_primaries_are_an_alarm_at_both() {
    let spec = Spec::default();
    let tables = spec.vipadynamic.clone();
    let lab = lab(spec.second(tables));
    for node in [RoutingNode::First, RoutingNode::Second] {
        lab.wait_for("the alarm", SOON, || {
            let shown = lab.baton_at(node, &["vipa"]).map_err(|e| e.to_string())?;
            if shown.contains("rt1 and rt2 define it both") { Ok(()) } else { Err(shown) }
        })
        .unwrap_or_else(|e| panic!("{e}"));
    }
    for log in ["batond.log", "batond-rt2.log"] {
        let text = fs::read_to_string(lab.files().join(log)).expect("a log");
        assert!(text.contains("rt1, rt2") && text.contains("have a vipadefine"), "{text}");
    }
}

/// W7: a UDP flow stays with its server when the owner dies.
#[test]
#[ignore = "needs root"]
fn a_flow_stays_with_its_server_over_a_takeover() {
    use RoutingNode::{First, Second};
    let tables = spec::both_families("ports = [5300]\nprotocol = \"udp\"\ndestip = \"all\"");
    let lab = lab(Spec::default().vipadynamic(tables).web([]).second(backup()));
    let to_any = SocketAddr::new(IpAddr::from([0_u16; 8]), 5300);
    let _servers = ["t1", "t2", "t3"].map(|t| Server::udp(lab.host(t), to_any, t).expect("it listens"));
    wait_for_owner(&lab, First, &[Second]);
    for node in [First, Second] {
        lab.wait_for("the targets", SOON, || {
            let dpt = lab.dpt_at(node).map_err(|e| e.to_string())?;
            let good = dpt.len() == 2 && dpt.iter().all(|row| row.selectable().len() == 3);
            if good { Ok(()) } else { Err(format!("{dpt:#?}")) }
        })
        .unwrap_or_else(|e| panic!("{e}"));
    }
    let flows: Vec<_> =
        (0..8).map(|_| lab::client::udp(lab.client(), dvipa4(5300)).expect("a socket")).collect();
    let ask = |socket: &UdpSocket| {
        let mut answer = [0; 64];
        socket.send(b"who").ok()?;
        let bytes = socket.recv(&mut answer).ok()?;
        Some(String::from_utf8_lossy(&answer[..bytes]).into_owned())
    };
    let before: Vec<_> = flows.iter().map(|flow| ask(flow).expect("an answer")).collect();
    lab.kill("batond").expect("it dies");
    wait_for_owner(&lab, Second, &[]);
    lab.wait_for("the agents to name their flows", SOON, || {
        let crt = lab.crt_at(Second, &["--port", "5300"]).map_err(|e| e.to_string())?;
        if crt.len() == flows.len() { Ok(()) } else { Err(format!("{crt:#?}")) }
    })
    .unwrap_or_else(|e| panic!("{e}"));
    let after: Vec<_> = flows.iter().map(|flow| ask(flow).expect("an answer")).collect();
    assert_eq!(after, before);
}

/// W7, W12: the owner's link is cut off and mended. Meanwhile the backup owns the DVIPAs; then both agree on one owner, and no connection
/// was reset.
#[test]
#[ignore = "needs root"]
fn an_owner_whose_link_is_cut_yields_when_it_is_mended() {
    use RoutingNode::{First, Second};
    let lab = lab(Spec::default().second(backup()));
    wait_for_owner(&lab, First, &[Second]);
    while_clients_go_on(&lab, web4(), |connections| {
        wait_until_warm(&lab, Second, connections);
        lab.cut_off(&["rt1"]).expect("it is cut");
        wait_for_owner(&lab, Second, &[]);
        assert_eq!(owners(&lab, First), Ok(vec![("rt1".to_owned(), true); 2]), "it can't know");
    });
    lab.mend().expect("it is mended");
    wait_for_owner(&lab, First, &[Second]);
    while_clients_go_on(&lab, web4(), |_| ());
}
