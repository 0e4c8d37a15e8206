//! How many connections may begin.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use lab::client::HttpConnection;
use lab::flood::{Flood, Kind};
use lab::spec::{CLIENT, DVIPA, FLOODER, RoutingNode, both_families};
use lab::{Lab, Namespace, Spec, fabric};

use crate::fixture::{SOON, connect, lab, still_answered_by, web4, web6};
use crate::transactions::{ROUTES, counted};

/// Much longer than a target takes to answer a SYN, and less than the second after which a client sends it again.
const AT_ONCE: Duration = Duration::from_millis(500);
const WEB: &str = "ports = [80]\ndestip = \"all\"";

/// The client's other addresses, of another /64.
const OTHER: (&str, &str) = ("198.18.0.4", "2001:db8:0:4::2");

/// A lab with these keys at port 80 of both families, whose client has other addresses too.
fn limited(keys: &str) -> Lab {
    let lab = lab(Spec::default().vipadynamic(both_families(&format!("{WEB}\n{keys}"))));
    let (v4, v6) = OTHER;
    let script = format!("ip addr add {v4}/15 dev eth0; ip addr add {v6}/32 dev eth0 nodad");
    lab.client().sh(&script).expect("it has other addresses");
    lab
}

/// Has the client begin connections from its other address; or from its own again.
fn other(lab: &Lab, is_other: bool) {
    let (v4, v6) = OTHER;
    let (own4, own6) = CLIENT;
    let (v4, v6) =
        if is_other { (v4.to_owned(), v6.to_owned()) } else { (own4.to_string(), own6.to_string()) };
    let routes = format!(
        "ip route replace {} dev eth0 src {v4}; ip -6 route replace {} dev eth0 src {v6}",
        DVIPA.0, DVIPA.1
    );
    lab.client().sh(&routes).expect("it has a route");
}

/// As many connections out of so many as are there at once, in parallel; over as many workers as there are.
fn at_once(ns: &Namespace, to: SocketAddr, attempts: usize) -> Vec<TcpStream> {
    ns.enter(|| {
        let attempts: Vec<_> =
            (0..attempts).map(|_| thread::spawn(move || TcpStream::connect_timeout(&to, AT_ONCE))).collect();
        attempts.into_iter().filter_map(|attempt| attempt.join().expect("it does not panic").ok()).collect()
    })
}

/// Runs this, and returns its result with the most tokens that a bucket with one a second has gained meanwhile.
fn timed<T>(what: impl FnOnce() -> T) -> (T, usize) {
    let begun = Instant::now();
    let done = what();
    (done, begun.elapsed().as_secs() as usize + 1)
}

/// R8: a client that has begun as many connections as it may begins no more for now, whichever worker has its packets; those that it has go
/// on, another client does not notice, and `baton why` and the counters say so. Later it may again.
#[test]
#[ignore = "needs root"]
fn a_client_over_its_limit_waits_and_another_one_does_not_notice() {
    let lab = limited("client_new_connections_per_s = 1\nclient_new_connections_burst = 4");
    for to in [web4(), web6()] {
        let ((held, open), gained) = timed(|| (connect(&lab, to), at_once(lab.client(), to, 20)));
        let (mut held, target) = held;
        assert!((3..=3 + gained).contains(&open.len()), "{to}: {} of 20, {gained} gained", open.len());
        other(&lab, true);
        assert_eq!(at_once(lab.client(), to, 4).len(), 4, "another client has its own");
        other(&lab, false);
        still_answered_by(&mut held, &target);
    }
    assert!(counted(&lab, "client_limited") >= 20);
    assert_eq!(counted(&lab, "service_limited"), 0);
    let dpt = lab.baton_json(&["dpt"]).expect("baton dpt answers");
    let turned_away = dpt["turned_away"].as_array().expect("a list");
    let of_services: u64 = turned_away.iter().filter_map(|row| row["client_limited"].as_u64()).sum();
    assert_eq!((turned_away.len(), of_services), (2, counted(&lab, "client_limited")), "{dpt:#}");
    lab.wait_for("baton why to see that no token is left", SOON, || {
        drop(at_once(lab.client(), web4(), 6));
        let why = ["why", "198.18.0.2:50000", "198.18.9.1:80"];
        let text = lab.baton(&why).unwrap_or_else(|e| e.to_string());
        let words = ["client_limited", "of one client 1 a second, 4 at once"];
        if words.iter().all(|word| text.contains(word)) { Ok(()) } else { Err(text) }
    })
    .unwrap_or_else(|e| panic!("{e}"));
    HttpConnection::open_patiently(lab.client(), web4(), Duration::from_secs(30)).expect("later it may");
}

/// R8, W1: a service's limit is one for all clients; a reload changes it and touches no connection; a mistake is named with its place and fix.
#[test]
#[ignore = "needs root"]
fn a_services_limit_is_for_all_clients_and_changes_with_a_reload() {
    let mut lab = limited("new_connections_per_s = 1\nnew_connections_burst = 3");
    let ((held, open, others), gained) = timed(|| {
        let held = connect(&lab, web4());
        let open = at_once(lab.client(), web4(), 20);
        other(&lab, true);
        (held, open, at_once(lab.client(), web4(), 20))
    });
    let (mut held, target) = held;
    let begun = open.len() + others.len();
    assert!((2..=2 + gained).contains(&begun), "{begun} of 40, {gained} gained");
    assert!(counted(&lab, "service_limited") >= 30);
    for keys in ["new_connections_per_s = 1000", "", "client_new_connections_per_s = 1000"] {
        lab.set_vipadynamic(both_families(&format!("{WEB}\n{keys}"))).expect("the file is written");
        lab.baton(&["reload"]).expect("the reload is accepted");
        let begun = || at_once(lab.client(), web4(), 20).len();
        lab.wait_for("the workers' tables", SOON, || if begun() == 20 { Ok(()) } else { Err(keys.into()) })
            .unwrap_or_else(|e| panic!("{e}"));
        still_answered_by(&mut held, &target);
    }
    lab.set_vipadynamic(both_families(&format!("{WEB}\nnew_connections_burst = 5"))).expect("it is written");
    let file = lab.files().join("batond.toml");
    let text = fs::read_to_string(&file).expect("the file is read");
    let line = text.lines().position(|l| l.contains("new_connections_burst")).expect("it is in there") + 1;
    for words in [&["reload"][..], &["check", &file.display().to_string()]] {
        let refusal = lab.baton(words).expect_err("a bad file is refused").to_string();
        let named =
            refusal.contains(&format!("{line}:")) && refusal.contains("add new_connections_per_s = 5");
        assert!(named, "{words:?} names line {line} and the fix:\n{refusal}");
    }
}

/// R8, T1: where the routing node answers SYNs, sources that are made up take no token: honest clients begin while they flood.
#[test]
#[ignore = "needs root"]
fn made_up_sources_take_no_token_where_the_routing_node_answers() {
    let keys = "new_connections_per_s = 10\nnew_connections_burst = 10\nclient_new_connections_per_s = 10\n";
    // Before the tables of the routes.
    let lab =
        lab(Spec { flooder: true, ..Spec::default().vipadynamic(both_families(&format!("{keys}{ROUTES}"))) });
    lab.wait_for_targets(80, &["t1", "t2", "t3"]).unwrap_or_else(|e| panic!("{e}"));
    let mac = fabric::mac(RoutingNode::First.number());
    let mut bytes = mac.split(':').map(|part| u8::from_str_radix(part, 16).expect("a byte"));
    let mac = std::array::from_fn(|_| bytes.next().expect("six bytes"));
    let flood = Flood::start(lab.host(FLOODER), "eth0", mac, Kind::Syn, web4()).expect("the flood begins");
    lab.wait_for(
        "a flood",
        SOON,
        || if flood.sent() > 30_000 { Ok(()) } else { Err(flood.sent().to_string()) },
    )
    .unwrap_or_else(|e| panic!("{e}"));
    for _ in 0..8 {
        let patience = Duration::from_secs(30);
        let mut connection =
            HttpConnection::open_patiently(lab.client(), web4(), patience).expect("the client connects");
        assert_eq!(connection.target().expect("it is answered"), "t3");
    }
    let sent = flood.end();
    let answered = counted(&lab, "answered_syn");
    println!("{answered} of {sent} SYNs answered");
    assert!(answered > 10_000, "the flood is one: {answered} of {sent}");
    assert_eq!((counted(&lab, "service_limited"), counted(&lab, "client_limited")), (0, 0));
    // The limits hold for those that are no sources made up.
    let url = format!("http://{}/", web4());
    let often = format!("for i in $(seq 40); do curl -s -o /dev/null --max-time 0.3 {url} & done; wait");
    lab.client().sh(&often).expect("they are asked");
    assert!(counted(&lab, "client_limited") > 0);
}
