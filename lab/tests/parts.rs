//! The parts of a lab, without the programs of the cluster.

use std::net::{SocketAddr, SocketAddrV4};

use baton_lab::client::{HttpConnection, ask, stray_ack, udp};
use baton_lab::fabric::{Fabric, mac};
use baton_lab::registry::Record;
use baton_lab::spec::{self, CLIENT, Spec};
use baton_lab::{Capture, Server};

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
