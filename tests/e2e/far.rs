//! Clients and targets that are far away: delay, and the losses that long ways have.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use app::{Registration, RoutingApplication, Target, TargetApplication, Terms, Unacknowledged};
use lab::client::HttpConnection;
use lab::spec::{DVIPA, ipv4_only};
use lab::{Impairment, Lab, Spec};
use socket2::SockRef;

use crate::fixture::{SOON, connect, established, lab, web4, web6};
use crate::transfer::{Watch, assert_one_calm_connection, routed, url};

/// A client that is far away may have to send its packets again and again.
const LATER: Duration = Duration::from_secs(60);
/// Round trips in milliseconds, and losses of a thousand frames each way.
const WAYS: [(u16, u16); 4] = [(50, 10), (50, 50), (200, 10), (200, 50)];
/// Bytes of a download: a second and more of the slowest of these ways.
const DOWNLOAD_BYTES: usize = 200_000;

/// The client's link is so long and loses so much.
fn stretch(lab: &Lab, (rtt_ms, loss_permille): (u16, u16), seed: u64) {
    let way = Impairment { loss_permille, ..Impairment::delay(rtt_ms / 2) };
    lab.impair("client", way, seed).expect("the link is cut and joined");
}

/// Nothing of the servers is heard at the client's host.
fn deafen(lab: &Lab) {
    lab.client()
        .sh("nft 'add table inet deaf
             add chain inet deaf in { type filter hook input priority 0; }
             add rule inet deaf in tcp sport 80 drop'")
        .expect("nft takes the rules");
}

/// Waits for the state of a client's CRT entry.
fn wait_for_entry(lab: &Lab, client: &str, state: &str) {
    lab.wait_for(&format!("{client} to be {state}"), SOON, || {
        let crt = lab.baton(&["crt"]).map_err(|e| e.to_string())?;
        let is_so = crt.lines().any(|line| line.contains(client) && line.contains(state));
        if is_so { Ok(()) } else { Err(crt) }
    })
    .unwrap_or_else(|e| panic!("{e}"));
}

/// C5, C8, C11: the last segment of an answer is lost, and its connection moves before the client has got it: the old server's kernel
/// sends it again, and the client's acknowledgment takes the connection to the new one.
#[test]
#[ignore = "needs root"]
fn a_lost_last_segment_stalls_no_move() {
    let lab = lab(Spec::default());
    for target in ["t1", "t2", "t3"] {
        // What is lost again is sent again within a second (Linux 6.15).
        let often = "s=/proc/sys/net/ipv4/tcp_rto_max_ms; [ ! -e $s ] || echo 1000 >$s";
        lab.host(target).sh(often).expect("it is set");
    }
    for to in [web4(), web6()] {
        let at_client = Watch::begin(&lab);
        let mut connection = HttpConnection::open_patiently(lab.client(), to, LATER).expect("it connects");
        let first = connection.target().expect("a target answers");
        let client = established(&lab, &connection).client;
        let next = ["t1", "t2", "t3"].into_iter().find(|target| *target != first).expect("another");
        deafen(&lab);
        thread::scope(|scope| {
            let answer = scope.spawn(|| connection.target());
            lab.wait_for("the answer to be under way", SOON, || {
                let shown = lab.host(&first).sh("ss -Htin state established sport = :80");
                let shown = shown.map_err(|e| e.to_string())?;
                if shown.contains("unacked:") { Ok(()) } else { Err(shown) }
            })
            .unwrap_or_else(|e| panic!("{e}"));
            let order = scope.spawn(|| lab.baton(&["move", &client, &to.to_string(), next]));
            wait_for_entry(&lab, &client, "committed");
            lab.client().sh("nft delete table inet deaf").expect("nft takes it");
            assert_eq!(answer.join().expect("no panic").expect("it is answered"), first);
            let said = order.join().expect("no panic").unwrap_or_else(|e| panic!("{e}"));
            assert!(said.contains("(inject)"), "{said}");
        });
        assert_eq!(connection.target().expect("it is answered"), next);
        drop(connection);
        assert_one_calm_connection(&at_client.end());
    }
}

/// C5, C6, C8, C11: over round trips of 50 and 200 ms that lose 1 and 5 % of all packets, connections move from target to target in the
/// middle of a download, with every byte.
#[test]
#[ignore = "needs root"]
fn downloads_move_over_long_ways_that_lose_packets() {
    let lab = routed(&["files@t1", "more@t2", "rest@t3"]);
    let wanted = lab.example("http").expect("it is built");
    for (seed, way) in (1..).zip(WAYS) {
        stretch(&lab, way, seed);
        let script = format!(
            "curl -sS --max-time 120 '{}' | sha256sum; {} content {DOWNLOAD_BYTES} | sha256sum",
            url(DVIPA.0.into(), &format!("/download/{DOWNLOAD_BYTES}?via=more@t2,rest@t3,files@t1")),
            wanted.display(),
        );
        let begun = Instant::now();
        let sums = lab.client().sh(&script).unwrap_or_else(|e| panic!("{way:?}: {e}"));
        let (got, wanted) = sums.trim().split_once('\n').expect("two sums");
        assert_eq!(got, wanted, "every byte of the download, in order, over {way:?}: {}", lab.tallies());
        eprintln!("{way:?}: {:?}", begun.elapsed());
    }
    assert_eq!(lab.transfers().expect("they are counted")["restored"], 4 * WAYS.len() as u64);
}

/// C5, C8, C11: over the same ways connections go from one unmodified server to the next while their client asks, and each request is
/// answered once and rightly. A move for which too much was lost leaves the connection where it is.
#[test]
#[ignore = "needs root"]
fn connections_go_round_unmodified_servers_over_long_ways_that_lose_packets() {
    let lab = lab(Spec::default());
    let targets = ["t1", "t2", "t3"];
    let (mut moved, mut ordered) = (0, 0);
    for (seed, way) in (1..).zip(WAYS) {
        stretch(&lab, way, seed);
        for to in [web4(), web6()] {
            let mut connection =
                HttpConnection::open_patiently(lab.client(), to, LATER).expect("it connects");
            let mut at = connection.target().expect("a target answers");
            let client = established(&lab, &connection).client;
            for _ in 0..4 {
                let next = targets.iter().cycle().skip_while(|t| **t != at).nth(1).expect("a ring");
                thread::scope(|scope| {
                    let order = scope.spawn(|| lab.baton(&["move", &client, &to.to_string(), next]));
                    let said = connection.target().unwrap_or_else(|e| panic!("{way:?}: {e}"));
                    let order = order.join().expect("no panic");
                    assert!(
                        said == at || said == *next && order.is_ok(),
                        "{said} instead of {at}: {order:?}"
                    );
                    ordered += 1;
                    if order.is_ok() {
                        moved += 1;
                        at = (*next).to_owned();
                    }
                });
                assert_eq!(connection.target().unwrap_or_else(|e| panic!("{way:?}: {e}")), at, "{way:?}");
            }
        }
    }
    eprintln!("{moved} of {ordered} moves took place");
    assert!(moved * 2 > ordered, "{moved} of {ordered} moves took place: {}", lab.tallies());
}

/// From now on the client's kernel acknowledges nothing but with data.
fn delay_acknowledgments(lab: &Lab) {
    lab.client()
        .sh("nft 'add table inet late
             add chain inet late out { type filter hook output priority 0; }
             add rule inet late out tcp dport 80 tcp flags & (fin | syn | rst | psh | ack) == ack drop'")
        .expect("nft takes the rules");
}

fn delay_no_more(lab: &Lab) {
    lab.client().sh("nft delete table inet late").expect("nft takes it");
}

/// C5, C8, C11: a client acknowledges answers as late as it may. One whose kernel waits for its timer moves at the first order; one that
/// acknowledges an answer only with its next request moves with that.
#[test]
#[ignore = "needs root"]
fn a_client_that_delays_its_acknowledgments_stalls_no_move() {
    let lab = lab(Spec::default());
    let targets = ["t1", "t2", "t3"];
    let behind = |at: &str| *targets.iter().cycle().skip_while(|t| **t != at).nth(1).expect("a ring");
    for to in [web4(), web6()] {
        let at_client = Watch::begin(&lab);
        let mut connection = HttpConnection::open_patiently(lab.client(), to, LATER).expect("it connects");
        let mut at = connection.target().expect("a target answers");
        let client = established(&lab, &connection).client;
        for _ in 0..4 {
            SockRef::from(connection.stream()).set_tcp_quickack(false).expect("TCP_QUICKACK");
            assert_eq!(connection.target().expect("it is answered"), at);
            let next = behind(&at);
            let said = lab.baton(&["move", &client, &to.to_string(), next]).unwrap_or_else(|e| panic!("{e}"));
            assert!(said.contains("(inject)"), "{said}");
            next.clone_into(&mut at);
        }
        delay_acknowledgments(&lab);
        assert_eq!(connection.target().expect("it is answered"), at);
        let next = behind(&at);
        thread::scope(|scope| {
            let order = scope.spawn(|| lab.baton(&["move", &client, &to.to_string(), next]));
            wait_for_entry(&lab, &client, "committed");
            assert_eq!(connection.target().expect("it is answered"), next, "the request acknowledges all");
            let said = order.join().expect("no panic").unwrap_or_else(|e| panic!("{e}"));
            assert!(said.contains("(inject)"), "{said}");
        });
        delay_no_more(&lab);
        assert_eq!(connection.target().expect("it is answered"), next);
        drop(connection);
        assert_one_calm_connection(&at_client.end());
    }
    let moved = lab.transfers().expect("they are counted");
    assert_eq!((moved["injected"], moved["timed_out"]), (10, 0), "{moved:?}");
}

/// C4, C6, C8: what the client has not acknowledged moves along, and it gets every byte once.
#[test]
#[ignore = "needs root"]
fn what_a_client_acknowledges_late_moves_along() {
    let ports = "ports = [80]\ndestip = \"all\"\ncontent_routed = true";
    let lab = lab(Spec { targets: 1, ..Spec::content_routed() }.vipadynamic(ipv4_only(&[ports])));
    let (router, listener, target) = router_and_target(&lab);
    let mut client = lab.client().enter(|| TcpStream::connect(web4())).expect("the client connects");
    client.set_read_timeout(Some(LATER)).expect("a time-out");
    let mut server = listener.accept().expect("the router accepts").0;
    delay_acknowledgments(&lab);
    server.write_all(b"late").expect("it is sent");
    let mut first = [0; 4];
    client.read_exact(&mut first).expect("it comes");
    let to: Target = "far@t1".parse().expect("JOB@STACK");
    let refused = router.give_connection(server, &to, &Terms::new().unacknowledged(Unacknowledged::Refuse));
    let server = refused.expect_err("the client has acknowledged nothing").stream;
    let terms = Terms::new().unacknowledged(Unacknowledged::Carry);
    router.give_connection(server, &to, &terms).unwrap_or_else(|e| panic!("{}", e.error));
    let taken = target.take_connection(Some(LATER)).expect("the agent lives").expect("it comes");
    (&taken.stream).write_all(b"r!").expect("it is sent");
    drop(taken);
    delay_no_more(&lab);
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).expect("it ends");
    assert_eq!((&first, &rest[..]), (b"late", &b"r!"[..]));
    let moved = lab.transfers().expect("they are counted");
    assert_eq!((moved["restored"], moved["timed_out"]), (1, 0), "{moved:?}");
}

/// C8, C9: what the target's kernel does not take comes back at once, in its own words, and the connection goes on where it is.
#[test]
#[ignore = "needs root"]
fn what_the_targets_kernel_refuses_is_said_and_the_connection_goes_on() {
    let lab = lab(Spec::default());
    let (mut connection, first) = connect(&lab, web4());
    let client = established(&lab, &connection).client;
    let next = ["t1", "t2", "t3"].into_iter().find(|target| *target != first).expect("another");
    lab.host(next).sh("echo 0 >/proc/sys/net/ipv4/tcp_sack").expect("it is set");
    let order = ["move", &client, &web4().to_string(), next];
    let refused = lab.baton(&order).expect_err("its kernel does not do what was agreed on").to_string();
    assert!(refused.contains("tcp_sack"), "{refused}");
    assert_eq!(connection.target().expect("it goes on"), first);
    lab.host(next).sh("echo 1 >/proc/sys/net/ipv4/tcp_sack").expect("it is set");
    lab.baton(&order).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(connection.target().expect("it has moved"), next);
}

/// A routing application on the routing node with its listener, and the target `far@t1`, which it knows.
fn router_and_target(lab: &Lab) -> (RoutingApplication, TcpListener, TargetApplication) {
    let dvipa = IpAddr::from(DVIPA.0);
    let registration = |job: &str, stack: &str| {
        Registration::new(job, dvipa, &[80]).expect("a job's name").socket(lab.applications(stack))
    };
    let target = TargetApplication::register(&registration("far", "t1")).expect("it is registered");
    let router = RoutingApplication::register(&registration("router", "rt1")).expect("it is registered");
    let listener =
        lab.host("rt1").enter(|| TcpListener::bind(SocketAddr::new(dvipa, 80))).expect("it listens");
    let to: Target = "far@t1".parse().expect("JOB@STACK");
    lab.wait_for("the router to know its target", SOON, || {
        let targets = router.targets(80).map_err(|e| e.to_string())?;
        if targets.contains(&to) { Ok(()) } else { Err(format!("{targets:?}")) }
    })
    .unwrap_or_else(|e| panic!("{e}"));
    lab.wait_for_targets(80, &["rt1"]).unwrap_or_else(|e| panic!("{e}"));
    (router, listener, target)
}

/// C5, C6, R10: fifty connections with 4 MiB each go to a target that is 25 ms away at once, and all arrive.
#[test]
#[ignore = "needs root"]
fn two_hundred_megabytes_move_over_a_long_way_at_once() {
    const CONNECTIONS: usize = 50;
    let ports = "ports = [80]\ndestip = \"all\"\ncontent_routed = true";
    let lab = lab(Spec { targets: 1, ..Spec::content_routed() }.vipadynamic(ipv4_only(&[ports])));
    let (router, listener, target) = router_and_target(&lab);
    let to: Target = "far@t1".parse().expect("JOB@STACK");
    lab.impair("t1", Impairment::delay(25), 1).expect("the link is cut and joined");
    let pairs: Vec<_> = (0..CONNECTIONS)
        .map(|_| {
            let client = lab.client().enter(|| TcpStream::connect(web4())).expect("the client connects");
            (client, listener.accept().expect("the router accepts").0)
        })
        .collect();
    let (clients, servers): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
    let state = vec![b's'; 4 << 20];
    thread::scope(|scope| {
        for server in servers {
            let (router, to, state) = (&router, &to, &state);
            scope.spawn(move || {
                let terms = Terms::new().unacknowledged(Unacknowledged::Carry).state(state);
                router.give_connection(server, to, &terms).unwrap_or_else(|e| panic!("{}", e.error));
            });
        }
        for _ in 0..CONNECTIONS {
            let taken = target.take_connection(Some(LATER)).expect("the agent lives").expect("it comes");
            assert!(taken.state.as_deref() == Some(&state[..]), "its state is whole");
            (&taken.stream).write_all(b"!").expect("it is sent");
        }
    });
    for mut client in &clients {
        let mut answer = [0];
        client.set_read_timeout(Some(LATER)).expect("a time-out");
        client.read_exact(&mut answer).expect("each is answered");
    }
    let moved = lab.transfers().expect("they are counted");
    assert_eq!((moved["restored"], moved["timed_out"]), (CONNECTIONS as u64, 0), "{moved:?}");
}
