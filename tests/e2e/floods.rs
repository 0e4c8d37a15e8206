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
/// Each way of the honest client's link, milliseconds.
const ONE_WAY_MS: u16 = 75;

/// A lab with a host that floods, and a client that is far away.
fn flooded(spec: Spec) -> Lab {
    let lab = lab(Spec { flooder: true, ..spec });
    lab.impair("client", Impairment::delay(ONE_WAY_MS), 1).expect("the client is far away");
    lab
}

fn flood(lab: &Lab, kind: Kind, to: SocketAddr) -> Flood {
    let mac = fabric::mac(spec::RoutingNode::First.number());
    let mut bytes = mac.split(':').map(|part| u8::from_str_radix(part, 16).expect("a byte"));
    let mac = std::array::from_fn(|_| bytes.next().expect("six bytes"));
    Flood::start(lab.host(FLOODER), "eth0", mac, kind, to).expect("the flood begins")
}

/// While the flood lasts: every new connection is served, in both families, and those that were there go on; no session is
/// lost, and ARP, neighbour discovery and echo are answered.
fn honest_traffic_goes_on(lab: &Lab, flood: Flood) {
    let mut held: Vec<_> = [web4(), web6()].repeat(3).into_iter().map(|to| connect(lab, to)).collect();
    let until = Instant::now() + FLOOD;
    let (mut opened, mut number) = (0, 0_usize);
    while Instant::now() < until {
        let to = [web4(), web6()][number % 2];
        let mut connection = HttpConnection::open(lab.client(), to)
            .unwrap_or_else(|e| panic!("connection {number} to {to} after {} frames: {e}", flood.sent()));
        connection.target().unwrap_or_else(|e| panic!("connection {number} to {to} is not answered: {e}"));
        let (connection, target) = &mut held[number % 6];
        still_answered_by(connection, target);
        opened += 1;
        number += 1;
        if number % 8 == 0 {
            lab.client().sh("ip neigh flush dev eth0").expect("neighbours are forgotten");
            for dvipa in [DVIPA.0.to_string(), DVIPA.1.to_string()] {
                let ping = ["ping", "-n", "-c", "1", "-W", "5", &dvipa];
                lab.client().run(&ping).unwrap_or_else(|e| panic!("no echo after {number}: {e}"));
            }
            let stacks = lab.stacks().expect("baton status answers");
            assert!(stacks.iter().all(|s| s.session == "up"), "{stacks:#?}");
        }
    }
    let sent = flood.end();
    println!("{opened} connections beside {sent} frames");
    assert!(sent > 100_000, "the flood is one: {sent}");
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

/// R8: echo requests harm nobody.
#[test]
#[ignore = "needs root"]
fn a_flood_of_echo_requests_harms_nobody() {
    let lab = flooded(Spec::default());
    let (connection, _) = connect(&lab, web4());
    established(&lab, &connection);
    let flood = flood(&lab, Kind::Echo, web4());
    honest_traffic_goes_on(&lab, flood);
}
