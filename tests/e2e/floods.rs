//! Floods beside honest clients.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use lab::client::{self, HttpConnection};
use lab::flood::{Flood, Kind};
use lab::spec::{self, DVIPA, FLOODER};
use lab::{Impairment, Lab, Spec, fabric};

use crate::fixture::{connect, dvipa4, established, lab, still_answered_by, web4, web6};

/// How long each flood lasts.
const FLOOD: Duration = Duration::from_secs(10);
/// How long an honest client has something sent again: the machine does the flood's work too.
const PATIENCE: Duration = Duration::from_secs(30);
/// Each way of the honest client's link, milliseconds.
const ONE_WAY_MS: u16 = 75;

/// A lab with a host that floods, and a client that is far away.
fn flooded(spec: Spec) -> Lab {
    let lab = lab(Spec { flooder: true, ..spec });
    lab.impair("client", Impairment::delay(ONE_WAY_MS), 1).expect("the client is far away");
    lab
}

/// A port of the routing node's own address.
fn node(port: u16) -> SocketAddr {
    SocketAddr::new(spec::RT1.0.into(), port)
}

fn flood(lab: &Lab, kind: Kind, to: SocketAddr) -> Flood {
    let mac = fabric::mac(spec::RoutingNode::First.number());
    let mut bytes = mac.split(':').map(|part| u8::from_str_radix(part, 16).expect("a byte"));
    let mac = std::array::from_fn(|_| bytes.next().expect("six bytes"));
    Flood::start(lab.host(FLOODER), "eth0", mac, kind, to).expect("the flood begins")
}

/// While the flood lasts: every new connection is served, in both families, and those that were there go on; no session is
/// lost, and ARP, neighbour discovery and echo are answered. Returns how many frames the flood had.
fn honest_traffic_goes_on(lab: &Lab, flood: Flood) -> u64 {
    let patiently = |to| {
        let mut connection = HttpConnection::open_patiently(lab.client(), to, PATIENCE)
            .unwrap_or_else(|e| panic!("a connection to {to} after {} frames: {e}", flood.sent()));
        let target = connection.target().unwrap_or_else(|e| panic!("{to} does not answer: {e}"));
        (connection, target)
    };
    let mut held: Vec<_> = [web4(), web6()].repeat(3).into_iter().map(patiently).collect();
    let until = Instant::now() + FLOOD;
    let (mut opened, mut number) = (0, 0_usize);
    while Instant::now() < until {
        let to = [web4(), web6()][number % 2];
        drop(patiently(to));
        let (connection, target) = &mut held[number % 6];
        still_answered_by(connection, target);
        opened += 1;
        number += 1;
        if number % 8 == 0 {
            lab.client().sh("ip neigh flush dev eth0").expect("neighbours are forgotten");
            for dvipa in [DVIPA.0.to_string(), DVIPA.1.to_string()] {
                // One of them may have been in a queue that was full.
                let ping = ["ping", "-n", "-c", "3", "-W", "5", &dvipa];
                lab.client().run(&ping).unwrap_or_else(|e| panic!("no echo after {number}: {e}"));
            }
            let stacks = lab.stacks().expect("baton status answers");
            assert!(stacks.iter().all(|s| s.session == "up"), "{stacks:#?}");
        }
    }
    let sent = flood.end();
    println!("{opened} connections beside {sent} frames");
    assert!(sent > 100_000, "the flood is one: {sent}");
    sent
}

/// All shares of one worker, a second.
const SHARES: u64 = 4096 * 10;

/// No more of this has happened than so many a second and worker, since the flood began.
fn bounded(lab: &Lab, name: &str, a_second: u64, began: Instant) {
    let counted = lab.counter(name).expect("baton stats answers");
    let most = (began.elapsed().as_secs_f64() + 1.0) * (a_second * lab.spec().workers() as u64) as f64;
    println!("{name}: {counted} of at most {most}");
    assert!(counted as f64 <= most, "{name}: {counted} counted, {most} is the limit");
}

/// R8: a SYN flood at the generator's full speed: every honest handshake of 150 ms completes and is served.
#[test]
#[ignore = "needs root"]
fn honest_handshakes_complete_in_a_syn_flood() {
    for to in [web4(), web6()] {
        let lab = flooded(Spec::default());
        let flood = flood(&lab, Kind::Syn, to);
        honest_traffic_goes_on(&lab, flood);
        let evicted = lab.counter("crt_half_open_evicted").expect("baton stats answers");
        assert!(evicted > 0, "the flood is more than the half-open entries hold");
    }
}

/// R8: acknowledgments of connections that never were harm nobody.
#[test]
#[ignore = "needs root"]
fn a_flood_of_acknowledgments_harms_nobody() {
    let lab = flooded(Spec::default());
    let flood = flood(&lab, Kind::Ack, web4());
    honest_traffic_goes_on(&lab, flood);
}

/// R5, R8: a flood of UDP flows of two packets takes no place of TCP, and honest flows go on.
#[test]
#[ignore = "needs root"]
fn a_flood_of_udp_flows_takes_no_place_of_tcp() {
    let tables = spec::both_families("ports = [80]\ndestip = \"all\"").replacen(
        "[[vipadynamic.vipadistribute]]",
        &format!(
            "[[vipadynamic.vipadistribute]]\naddress = \"{}\"\nports = [5300]\nprotocol = \"udp\"\ndestip = \"all\"\n\n\
             [[vipadynamic.vipadistribute]]",
            DVIPA.0
        ),
        1,
    );
    let lab = flooded(Spec::default().vipadynamic(tables));
    let _servers: Vec<_> = ["t1", "t2", "t3"]
        .map(|t| lab::Server::udp(lab.host(t), dvipa4(5300), t).expect("it listens"))
        .into();
    lab.wait_for("the datagram service", Duration::from_secs(30), || {
        let rows = lab.dpt().map_err(|e| e.to_string())?;
        let row = rows.iter().find(|row| row.port == 5300).ok_or("no row")?;
        if row.selectable().len() == 3 { Ok(()) } else { Err(format!("{row:#?}")) }
    })
    .unwrap_or_else(|e| panic!("{e}"));
    let flood = flood(&lab, Kind::Udp, dvipa4(5300));
    let socket = client::udp(lab.client(), dvipa4(5300)).expect("a socket");
    let mut answer = [0; 64];
    let answered =
        (0..20).filter(|_| socket.send(b"who").is_ok() && socket.recv(&mut answer).is_ok()).count();
    assert!(answered >= 18, "{answered} of 20 datagrams are answered");
    honest_traffic_goes_on(&lab, flood);
    let tcp = lab.crt(&["--port", "80"]).expect("baton crt answers");
    assert!(!tcp.is_empty(), "connections are in the table");
}

/// R8: fragments whose others never come harm nobody.
#[test]
#[ignore = "needs root"]
fn a_flood_of_fragments_harms_nobody() {
    let lab = flooded(Spec::default());
    let flood = flood(&lab, Kind::Fragments, web6());
    honest_traffic_goes_on(&lab, flood);
}

/// R8: echo requests harm nobody: answers are limited, and an honest host still has its own.
#[test]
#[ignore = "needs root"]
fn a_flood_of_echo_requests_harms_nobody() {
    let lab = flooded(Spec::default());
    let (connection, _) = connect(&lab, web4());
    established(&lab, &connection);
    let began = Instant::now();
    let flood = flood(&lab, Kind::Echo, web6());
    honest_traffic_goes_on(&lab, flood);
    bounded(&lab, "answered_echo", 10_000 + SHARES, began);
}

/// R8: a flood to the routing node's own address, of a session's kind too, costs no session, and what is for its kernel is
/// limited.
#[test]
#[ignore = "needs root"]
fn a_flood_to_the_nodes_own_address_harms_nobody() {
    for port in [9, 7440] {
        let lab = flooded(Spec::default());
        let began = Instant::now();
        let flood = flood(&lab, Kind::Udp, node(port));
        honest_traffic_goes_on(&lab, flood);
        bounded(&lab, "passed_to_local", 50_000 + 2 * 20_000 + SHARES, began);
    }
}

/// R8: ARP requests of many stations for a DVIPA, or for the routing node's own address, harm nobody.
#[test]
#[ignore = "needs root"]
fn a_flood_of_arp_requests_harms_nobody() {
    for (to, limited) in [(web4(), "answered_arp"), (node(0), "passed_to_local")] {
        let lab = flooded(Spec::default());
        let began = Instant::now();
        let flood = flood(&lab, Kind::Arp, to);
        honest_traffic_goes_on(&lab, flood);
        bounded(&lab, limited, 20_000 + SHARES, began);
    }
}

/// R8: more packets than the worker takes, for ten seconds: sessions last, ARP is answered, new connections are served, and a
/// download goes on whose every byte is right. How many times as many they are depends on the machine, and is printed.
#[test]
#[ignore = "needs root"]
fn more_than_the_worker_takes_harms_nobody() {
    let lab = flooded(Spec { tireless: true, ..Spec::default() });
    let counters = ["received_nic", "missed_nic", "forwarded_new", "overloaded"];
    let count = || counters.map(|name| lab.counter(name).expect("baton stats answers"));
    let quiet = HttpConnection::open(lab.client(), web4()).and_then(|mut c| c.get("/slow-enough"));
    let expected = quiet.expect("the file without a flood");
    let sessions = lab.counter("sessions_up").expect("baton stats answers");
    let mut download =
        HttpConnection::open_patiently(lab.client(), web4(), PATIENCE).expect("the client connects");
    let before = count();
    let flood = flood(&lab, Kind::Syn, web4());
    let sent = std::thread::scope(|scope| {
        let download = scope.spawn(|| download.get("/slow-enough").expect("the download goes on"));
        let sent = honest_traffic_goes_on(&lab, flood);
        assert!(download.join().expect("it ends") == expected, "every byte is right");
        sent
    });
    let after = count();
    let [received, missed, served, shed] = std::array::from_fn(|i| after[i] - before[i]);
    println!("{sent} sent: {received} received, {missed} missed, {shed} shed, {served} served");
    assert!(
        shed > 0 && served < sent,
        "the worker could not keep up with {sent}: {shed} shed, {served} served"
    );
    assert_eq!(lab.counter("sessions_up").expect("baton stats answers"), sessions, "no session was lost");
}
