//! Rows W3 and U1: every application's listens, told as they begin and end.

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::time::Duration;

use model::Protocol::{Tcp, Udp};
use socket2::{Domain, Socket, Type};

use crate::host::{DVIPA_V4, DVIPA_V6, Host};
use crate::routing_stack::to_all;

/// What "at once" means for news of a socket; the machine may be busy with other tests.
const AT_ONCE: Duration = Duration::from_millis(500);

fn v6only(port: u16) -> Socket {
    let socket = Socket::new(Domain::IPV6, Type::STREAM, None).unwrap();
    socket.set_only_v6(true).unwrap();
    socket
        .bind(
            &"[::]:0"
                .parse::<SocketAddr>()
                .map(|mut a| {
                    a.set_port(port);
                    a
                })
                .unwrap()
                .into(),
        )
        .unwrap();
    socket.listen(16).unwrap();
    socket
}

#[test]
#[ignore = "needs root"]
fn a_listen_and_its_end_are_told_at_once() {
    let host = Host::new();
    host.routing_stack.list(&[to_all(Tcp, &[80])]);
    let listener = host.host.enter(|| TcpListener::bind("0.0.0.0:80").unwrap());
    let took = host.routing_stack.wait("port 80", |h| h.serves(DVIPA_V4, Tcp, 80));
    assert!(took < AT_ONCE, "{took:?}");
    assert!(!host.routing_stack.heard().serves(DVIPA_V6, Tcp, 80), "an IPv4 socket serves no IPv6 address");
    drop(listener);
    let took = host.routing_stack.wait("the end of port 80", |h| !h.serves(DVIPA_V4, Tcp, 80));
    assert!(took < AT_ONCE, "{took:?}");
}

#[test]
#[ignore = "needs root"]
fn a_dual_stack_wildcard_serves_both_families_and_an_ipv6_only_one_does_not() {
    let host = Host::new();
    host.routing_stack.list(&[to_all(Tcp, &[80, 81])]);
    let _both = host.host.enter(|| TcpListener::bind("[::]:80").unwrap());
    let _v6 = host.host.enter(|| v6only(81));
    host.routing_stack.wait("[::]:80", |h| h.serves(DVIPA_V4, Tcp, 80) && h.serves(DVIPA_V6, Tcp, 80));
    host.routing_stack.wait("[::]:81", |h| h.serves(DVIPA_V6, Tcp, 81));
    assert!(!host.routing_stack.heard().serves(DVIPA_V4, Tcp, 81));
}

#[test]
#[ignore = "needs root"]
fn without_enumerated_ports_only_listeners_on_the_dvipa_count() {
    let host = Host::new();
    host.routing_stack.list(&[to_all(Tcp, &[])]);
    let _wildcard = host.host.enter(|| TcpListener::bind("0.0.0.0:80").unwrap());
    let own = host.host.enter(|| TcpListener::bind((DVIPA_V4, 0)).unwrap());
    let port = own.local_addr().unwrap().port();
    host.routing_stack.wait("the ephemeral port", |h| h.serves(DVIPA_V4, Tcp, port));
    assert!(!host.routing_stack.heard().serves(DVIPA_V4, Tcp, 80));
}

#[test]
#[ignore = "needs root"]
fn listeners_that_were_there_before_the_agent_are_told_and_so_is_their_end() {
    let mut host = Host::without_agent();
    let listener = host.host.enter(|| TcpListener::bind("[::]:80").unwrap());
    host.start_agent();
    host.routing_stack.list(&[to_all(Tcp, &[80])]);
    assert!(host.routing_stack.heard().serves(DVIPA_V4, Tcp, 80), "part of the answer to the list");
    drop(listener);
    let took = host.routing_stack.wait("the end of port 80", |h| !h.serves(DVIPA_V4, Tcp, 80));
    assert!(took < AT_ONCE, "{took:?}");
}

#[test]
#[ignore = "needs root"]
fn the_last_of_several_listeners_on_a_port_ends_it() {
    let host = Host::new();
    host.routing_stack.list(&[to_all(Tcp, &[80])]);
    let listen = || {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_reuse_port(true).unwrap();
        socket.bind(&"0.0.0.0:80".parse::<SocketAddr>().unwrap().into()).unwrap();
        socket.listen(16).unwrap();
        socket
    };
    let (first, second) = host.host.enter(|| (listen(), listen()));
    host.routing_stack.wait("port 80", |h| h.serves(DVIPA_V4, Tcp, 80));
    drop(first);
    std::thread::sleep(AT_ONCE);
    assert!(host.routing_stack.heard().serves(DVIPA_V4, Tcp, 80));
    drop(second);
    host.routing_stack.wait("the end of port 80", |h| !h.serves(DVIPA_V4, Tcp, 80));
}

#[test]
#[ignore = "needs root"]
fn a_bound_udp_socket_is_a_listener_until_it_is_closed() {
    let host = Host::new();
    host.routing_stack.list(&[to_all(Udp, &[53])]);
    let socket = host.host.enter(|| UdpSocket::bind("[::]:53").unwrap());
    let took =
        host.routing_stack.wait("port 53", |h| h.serves(DVIPA_V4, Udp, 53) && h.serves(DVIPA_V6, Udp, 53));
    assert!(took < AT_ONCE, "{took:?}");
    drop(socket);
    let took = host.routing_stack.wait("the end of port 53", |h| !h.serves(DVIPA_V4, Udp, 53));
    assert!(took < AT_ONCE, "{took:?}");
}

#[test]
#[ignore = "needs root"]
fn the_load_is_told_every_second() {
    let host = Host::new();
    host.routing_stack.list(&[to_all(Tcp, &[80])]);
    host.routing_stack.wait("a load", |h| h.load.is_some());
    let load = host.routing_stack.heard().load.unwrap();
    assert!(load.cpu_permille <= 1000 && load.accept_queue_permille == 0, "{load:?}");
}
