//! The parts of a lab, without the programs of the cluster.

use std::net::{SocketAddr, SocketAddrV4, UdpSocket};
use std::time::Duration;

use baton_lab::client::{HttpConnection, ask, stray_ack, udp};
use baton_lab::fabric::{Fabric, mac};
use baton_lab::registry::Record;
use baton_lab::spec::{self, CLIENT, Spec};
use baton_lab::{Capture, Impairment, Server};

#[test]
#[ignore = "needs root"]
fn clients_servers_and_captures_work_inside_their_namespaces() {
    let record = Record::open().expect("a record");
    let fabric = Fabric::build(&Spec::default(), &record).expect("a fabric");
    let (client, t1) = (fabric.host("client"), fabric.host("t1"));
    let files = record.directory();
    let capture = Capture::start(client, "eth0", "tcp", files, "capture").expect("a capture");

    let (v4, v6) = spec::host(spec::target(1));
    for (address, from) in [(v4.into(), CLIENT.0.into()), (v6.into(), CLIENT.1.into())] {
        let at = SocketAddr::new(address, 8000);
        let server = Server::tcp(t1, at, "here").expect("it listens");
        let mut connection =
            HttpConnection::open_from(client, SocketAddr::new(from, 0), at).expect("it connects");
        assert_eq!(connection.target().expect("an answer"), "here");
        assert_eq!(ask(client, at).expect("an answer"), "here");
        drop(server);
        assert!(ask(client, at).is_err(), "the listen ended with the server");
        assert_eq!(connection.target().expect("connections live on"), "here");

        let _server = Server::udp(t1, at, "here").expect("it listens");
        let socket = udp(client, at).expect("a socket");
        socket.send(b"12345").expect("it is sent");
        let mut answer = [0; 16];
        let bytes = socket.recv(&mut answer).expect("an answer");
        assert_eq!(&answer[..bytes], b"here 5");
    }
    stray_ack(client, SocketAddrV4::new(CLIENT.0, 50_000), SocketAddrV4::new(v4, 81)).expect("it is sent");

    let captured = capture.stop().expect("the capture ends");
    let answers =
        captured.count(&format!("src port 8000 and ether src {}", mac(spec::target(1)))).expect("it is read");
    assert!(answers > 8);
    // The target's kernel took the stray packet for genuine: its checksum is right.
    assert_eq!(captured.count("src port 81 and tcp[13] & 4 != 0").expect("it is read"), 1);
}

/// Numbered datagrams that are sent at a time.
const COUNT: u16 = 2000;

/// Sends them from the client to t1, and returns the numbers that arrive, in order.
fn arrive(fabric: &Fabric) -> Vec<u16> {
    let to = SocketAddr::new(spec::host(spec::target(1)).0.into(), 9);
    let receiver = fabric.host("t1").enter(|| UdpSocket::bind(to)).expect("it is bound");
    receiver.set_read_timeout(Some(Duration::from_millis(300))).expect("a time-out");
    let sender = udp(fabric.host("client"), to).expect("a socket");
    let mut number = [0; 2];
    // The neighbour is found before anything is counted.
    while receiver.recv(&mut number).is_err() {
        sender.send(&COUNT.to_be_bytes()).expect("it is sent");
    }
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 0..COUNT {
                sender.send(&n.to_be_bytes()).expect("it is sent");
                if n % 16 == 0 {
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
        });
        let arrived =
            std::iter::from_fn(|| receiver.recv(&mut number).ok().map(|_| u16::from_be_bytes(number)));
        arrived.filter(|n| *n < COUNT).collect()
    })
}

#[test]
#[ignore = "needs root"]
fn a_link_misbehaves_as_it_is_told() {
    let record = Record::open().expect("a record");
    let fabric = Fabric::build(&Spec::default(), &record).expect("a fabric");
    let link = fabric.cut("client", 1500, Impairment::default(), 1).expect("it is cut and joined");
    let all: Vec<u16> = (0..COUNT).collect();
    assert!(arrive(&fabric) == all, "a link that is told nothing loses nothing");

    link.set(Impairment::loss(100));
    let some = arrive(&fabric);
    assert!(some.is_sorted() && (1600..1950).contains(&some.len()), "a tenth is lost: {}", some.len());

    link.set(Impairment::default().duplicate(100));
    let twice = arrive(&fabric);
    assert!(twice.is_sorted() && (2050..2400).contains(&twice.len()), "a tenth is doubled: {}", twice.len());

    link.set(Impairment::default().reorder(100, 5));
    let mut overtaken = arrive(&fabric);
    assert!(!overtaken.is_sorted(), "some overtake others");
    overtaken.sort_unstable();
    assert!(overtaken == all, "and none is lost");
}

/// Whether the first of these hosts gets an answer of the second within a second.
fn reaches(fabric: &Fabric, from: &str, to: (&str, u8)) -> bool {
    let address = spec::host(to.1).0.to_string();
    let ping = fabric.host(from).try_run(&["ping", "-c1", "-W1", &address]).expect("it runs");
    ping.status.success()
}

#[test]
#[ignore = "needs root"]
fn the_segment_loses_what_it_is_told_in_one_direction() {
    let record = Record::open().expect("a record");
    let fabric = Fabric::build(&Spec::default(), &record).expect("a fabric");
    assert!(reaches(&fabric, "t1", ("t2", spec::target(2))));
    fabric.lose(&["t1"], &["t2", "client"]).expect("it is told");
    assert!(!reaches(&fabric, "t1", ("t2", spec::target(2))), "nothing goes there");
    assert!(reaches(&fabric, "t1", ("t3", spec::target(3))), "others are as they were");
    // What t2 sends to t1 arrives: its datagrams need no answer but that of ARP, which it has.
    let to = SocketAddr::new(spec::host(spec::target(1)).0.into(), 9);
    let receiver = fabric.host("t1").enter(|| UdpSocket::bind(to)).expect("it is bound");
    receiver.set_read_timeout(Some(Duration::from_secs(5))).expect("a time-out");
    udp(fabric.host("t2"), to).expect("a socket").send(b"one way").expect("it is sent");
    let mut datagram = [0; 16];
    assert_eq!(receiver.recv(&mut datagram).expect("it arrives"), 7);
    fabric.mend().expect("it is told");
    assert!(reaches(&fabric, "t1", ("t2", spec::target(2))));
}

#[test]
#[ignore = "needs root"]
fn a_client_behind_the_router_reaches_every_host_and_is_reached() {
    let record = Record::open().expect("a record");
    let fabric = Fabric::build(&Spec::default().edge(), &record).expect("a fabric");
    let (v4, v6) = spec::host(spec::target(1));
    for address in [v4.into(), v6.into()] {
        let _server =
            Server::tcp(fabric.host("t1"), SocketAddr::new(address, 8000), "here").expect("it listens");
        assert_eq!(ask(fabric.host("client"), SocketAddr::new(address, 8000)).expect("an answer"), "here");
    }
}
