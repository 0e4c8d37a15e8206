//! Row W6: connections are told as they begin and end, those that the host opens itself included.

use std::net::{SocketAddr, TcpListener, TcpStream};

use model::Connection;
use model::Protocol::Tcp;
use socket2::{Domain, Socket, Type};

use crate::host::{CLIENT_V4, DVIPA_V4, HOST_V4, Host, dvipas};
use crate::routing_stack::to_all;

/// Lets the peer reach the DVIPAs without a forwarder, as packets of layer 2 encapsulation do.
pub(crate) fn reach_directly(host: &Host) {
    host.peer
        .sh("ip route replace 198.18.9.1 via 198.18.0.21; ip route replace 2001:db8:9::1 via 2001:db8::21")
        .unwrap();
}

#[test]
#[ignore = "needs root"]
fn an_accepted_connection_is_told_from_its_handshake_to_its_end() {
    let host = Host::new();
    host.routing_stack.list(&[to_all(Tcp, &[80])]);
    reach_directly(&host);
    let listener = host.host.enter(|| TcpListener::bind("[::]:80").unwrap());
    for dvipa in dvipas(80) {
        let client = host.peer.enter(|| TcpStream::connect(dvipa).unwrap());
        let (server, _) = listener.accept().unwrap();
        let connection = Connection::new(Tcp, client.local_addr().unwrap(), dvipa).unwrap();
        host.routing_stack.wait("the connection", |h| h.connections.contains(&connection));
        drop(client);
        drop(server);
        host.routing_stack.wait("its end", |h| !h.connections.contains(&connection));
    }
}

#[test]
#[ignore = "needs root"]
fn connections_from_before_the_list_are_in_the_answer() {
    let mut host = Host::without_agent();
    host.host.sh("ip address add 198.18.9.1/32 dev lo").unwrap();
    reach_directly(&host);
    let listener = host.host.enter(|| TcpListener::bind("0.0.0.0:80").unwrap());
    let to = SocketAddr::new(DVIPA_V4, 80);
    let client = host.peer.enter(|| TcpStream::connect(to).unwrap());
    let (server, _) = listener.accept().unwrap();
    host.start_agent();
    host.routing_stack.list(&[to_all(Tcp, &[80])]);
    let connection = Connection::new(Tcp, client.local_addr().unwrap(), to).unwrap();
    assert!(host.routing_stack.heard().connections.contains(&connection));
    drop(server);
    drop(client);
    host.routing_stack.wait("its end", |h| !h.connections.contains(&connection));
}

#[test]
#[ignore = "needs root"]
fn a_connection_that_the_host_opens_with_a_dvipa_is_told() {
    let host = Host::new();
    // Without a forwarder's address no SYN is encapsulated, and the peer answers directly.
    let list = model::message::VipaList {
        dvipas: vec![model::message::VipaListDvipa {
            address: model::codec::Address(DVIPA_V4),
            epoch: model::Epoch(1),
            owner: false,
            rank: 100,
            distributions: vec![to_all(Tcp, &[80])],
            forwards: None,
        }],
        forwarders: Vec::new(),
        ..Default::default()
    };
    host.routing_stack.send_list(list);
    reach_directly(&host);
    let listener = host.peer.enter(|| TcpListener::bind((CLIENT_V4, 7000)).unwrap());
    let socket = host.host.enter(|| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::new(DVIPA_V4, 0).into()).unwrap();
        socket.connect(&SocketAddr::from((CLIENT_V4, 7000)).into()).unwrap();
        socket
    });
    let (_accepted, dvipa) = listener.accept().unwrap();
    let connection = Connection::new(Tcp, (CLIENT_V4, 7000).into(), dvipa).unwrap();
    host.routing_stack.wait("the connection", |h| h.connections.contains(&connection));
    assert_eq!(host.counter("syn_without_routing_stack"), 1);
    drop(socket);
}

#[test]
#[ignore = "needs root"]
fn connections_with_other_addresses_and_within_the_host_are_not_told() {
    let host = Host::new();
    host.routing_stack.list(&[to_all(Tcp, &[80])]);
    let listener = host.host.enter(|| TcpListener::bind("0.0.0.0:80").unwrap());
    let _other = host.peer.enter(|| TcpStream::connect((HOST_V4, 80)).unwrap());
    let _within = host.host.enter(|| TcpStream::connect((DVIPA_V4, 80)).unwrap());
    let _accepted = [listener.accept().unwrap(), listener.accept().unwrap()];
    // A further listen is told after them.
    let _after = host.host.enter(|| TcpListener::bind((DVIPA_V4, 0)).unwrap());
    host.routing_stack.list(&[to_all(Tcp, &[80])]);
    assert!(host.routing_stack.heard().connections.is_empty());
}
