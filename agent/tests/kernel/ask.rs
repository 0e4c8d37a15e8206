//! Row R4: asked for a connection («only if you have it»), a host takes the packet in and tells, or drops it without a word.
//! The packets are scapy's.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use model::Connection;
use model::Protocol::Tcp;

use crate::connections::reach_directly;
use crate::host::{DVIPA_V4, DVIPA_V6, HOST_V4, Host, ROUTING_V4, dvipas};
use crate::routing_stack::to_all;

const PORT: u16 = 80;

/// A host that the peer reaches without a forwarder, with a listener that was told.
fn host(setting: &str) -> (Host, TcpListener) {
    let host = Host::new();
    host.routing_stack.list(&[to_all(Tcp, &[PORT])]);
    reach_directly(&host);
    if !setting.is_empty() {
        host.host.sh(setting).unwrap();
    }
    let listener = host.host.enter(|| TcpListener::bind("[::]:80").unwrap());
    for dvipa in [DVIPA_V4, DVIPA_V6] {
        host.routing_stack.wait("the listener", |h| h.serves(dvipa, Tcp, PORT));
    }
    (host, listener)
}

/// Asks with an ACK of a client.
pub(crate) fn ask(host: &Host, dvipa: SocketAddr, client: SocketAddr, option: &str) {
    let (source, port) = (client.ip(), client.port());
    let (protocol, ip) = match dvipa {
        SocketAddr::V4(_) => (4, format!("IP(src='{source}', dst='{DVIPA_V4}')")),
        SocketAddr::V6(_) => (41, format!("IPv6(src='{source}', dst='{DVIPA_V6}')")),
    };
    let inner = format!("{ip}/TCP(sport={port}, dport={PORT}, flags='A', seq=1, ack=1)");
    let gue =
        format!("UDP(sport=50000, dport=6080, chksum=0)/(bytes([1, {protocol}, 0, 0]) + bytes({option}))");
    let outer = format!("Ether(dst=host_mac)/IP(src='{ROUTING_V4}', dst='{HOST_V4}')");
    host.scapy(&format!("sendp({outer}/{gue}/{inner}, iface='eth0')"));
}

pub(crate) const ONLY_IF: &str = "[0xb2, 1, 0, 0]";

#[test]
#[ignore = "needs root"]
fn who_has_the_connection_claims_it_and_nobody_else_says_a_word() {
    let (host, listener) = host("");
    for (number, dvipa) in (1..).zip(dvipas(PORT)) {
        let client = host.peer.enter(|| TcpStream::connect(dvipa).unwrap());
        let (_server, _) = listener.accept().unwrap();
        ask(&host, dvipa, client.local_addr().unwrap(), ONLY_IF);
        host.wait_for_counter("asked_claimed", number);
        // The host would answer this one with a reset.
        let resets = || host.host.sh("nstat -asz TcpOutRsts | awk '/OutRsts/ {print $2}'").unwrap();
        let before = resets();
        let stranger = SocketAddr::new(client.local_addr().unwrap().ip(), 9);
        ask(&host, dvipa, stranger, ONLY_IF);
        host.wait_for_counter("asked_not_here", number);
        assert_eq!(resets(), before);
    }
    assert_eq!(host.counter("asked_claimed"), 2);
}

#[test]
#[ignore = "needs root"]
fn a_request_that_waits_for_its_first_byte_is_claimed_and_told() {
    let host = Host::new();
    host.routing_stack.list(&[to_all(Tcp, &[PORT])]);
    reach_directly(&host);
    let script = "import socket, time; s = socket.socket(socket.AF_INET6); \
                  s.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 30); \
                  s.bind(('::', 80)); s.listen(); time.sleep(60)";
    let mut server = host.host.command("/usr/bin/python3").args(["-c", script]).spawn().unwrap();
    for dvipa in [DVIPA_V4, DVIPA_V6] {
        host.routing_stack.wait("the listener", |h| h.serves(dvipa, Tcp, PORT));
    }
    for dvipa in dvipas(PORT) {
        let client = host.peer.enter(|| TcpStream::connect(dvipa).unwrap());
        let connection = Connection::new(Tcp, client.local_addr().unwrap(), dvipa).unwrap();
        std::thread::sleep(Duration::from_millis(200));
        assert!(
            !host.routing_stack.heard().connections.contains(&connection),
            "no socket of it is established"
        );
        ask(&host, dvipa, client.local_addr().unwrap(), ONLY_IF);
        host.routing_stack.wait("the claim", |h| h.connections.contains(&connection));
    }
    server.kill().unwrap();
    server.wait().unwrap();
}

#[test]
#[ignore = "needs root"]
fn one_in_time_wait_takes_its_packet_and_is_over() {
    let (host, listener) = host("");
    for (number, dvipa) in (1..).zip(dvipas(PORT)) {
        let client = host.peer.enter(|| TcpStream::connect(dvipa).unwrap());
        let connection = Connection::new(Tcp, client.local_addr().unwrap(), dvipa).unwrap();
        let of_client = client.local_addr().unwrap();
        drop(listener.accept().unwrap());
        drop(client);
        host.routing_stack.wait("the end", |h| !h.connections.contains(&connection));
        ask(&host, dvipa, of_client, ONLY_IF);
        host.wait_for_counter("asked_claimed", number);
        std::thread::sleep(Duration::from_millis(200));
        assert!(!host.routing_stack.heard().connections.contains(&connection));
    }
}

#[test]
#[ignore = "needs root"]
fn a_container_behind_the_hosts_dnat_is_found() {
    // The listener's port 80 stands for a container's: another port of the DVIPA is translated to it.
    let rule = "nft add table ip nat; nft 'add chain ip nat pre { type nat hook prerouting priority -100; }'; \
                nft add rule ip nat pre ip daddr 198.18.9.1 tcp dport 8080 dnat to 198.18.0.21:80";
    let (host, listener) = host(rule);
    let client = host.peer.enter(|| TcpStream::connect(SocketAddr::new(DVIPA_V4, 8080)).unwrap());
    listener.accept().unwrap();
    let (source, port) = (client.local_addr().unwrap().ip(), client.local_addr().unwrap().port());
    let inner = format!(
        "IP(src='{source}', dst='{DVIPA_V4}')/TCP(sport={port}, dport=8080, flags='A', seq=1, ack=1)"
    );
    let gue = format!("UDP(sport=50000, dport=6080, chksum=0)/(bytes([1, 4, 0, 0]) + bytes({ONLY_IF}))");
    let outer = format!("Ether(dst=host_mac)/IP(src='{ROUTING_V4}', dst='{HOST_V4}')");
    host.scapy(&format!("sendp({outer}/{gue}/{inner}, iface='eth0')"));
    host.wait_for_counter("asked_claimed", 1);
}
