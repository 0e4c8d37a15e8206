//! A UDP server that is bound to the wildcard address answers from the DVIPA that was asked, and its flows are accounted for.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use model::Connection;
use model::Protocol::Udp;

use crate::host::{CLIENT_V4, CLIENT_V6, DVIPA_V4, DVIPA_V6, HOST_V4, HOST_V6, Host, ROUTING_V4};
use crate::routing_stack::to_all;

const PORT: u16 = 5300;
const CLIENT_PORT: u16 = 40_000;

/// The client's datagram as a forwarder brings it.
fn bring(host: &Host, client: IpAddr, dvipa: IpAddr) {
    let inner = if client.is_ipv4() { "IP" } else { "IPv6" };
    let outer = format!("Ether(dst=host_mac)/IP(src='{ROUTING_V4}', dst='{HOST_V4}')");
    let datagram =
        format!("{inner}(src='{client}', dst='{dvipa}')/UDP(sport={CLIENT_PORT}, dport={PORT})/b'who'");
    host.scapy(&format!("sendp({outer}/{datagram}, iface='eth0')"));
}

/// The server answers one datagram; where the client sees the answer come from.
fn answered(server: &UdpSocket, client: &UdpSocket) -> IpAddr {
    let mut buffer = [0; 16];
    let (_, from) = server.recv_from(&mut buffer).expect("a datagram");
    server.send_to(b"answer", from).expect("it is sent");
    client.recv_from(&mut buffer).expect("an answer").1.ip()
}

#[test]
#[ignore = "needs root"]
fn a_wildcard_server_answers_from_where_it_was_asked() {
    let host = Host::new();
    host.routing_stack.list(&[to_all(Udp, &[PORT])]);
    let patient = |socket: UdpSocket| {
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        socket
    };
    let server = patient(host.host.enter(|| UdpSocket::bind(("::", PORT)).unwrap()));
    host.routing_stack.wait("the server", |h| h.serves(DVIPA_V4, Udp, PORT) && h.serves(DVIPA_V6, Udp, PORT));
    let families: [(IpAddr, IpAddr, IpAddr); 2] =
        [(CLIENT_V4.into(), DVIPA_V4, HOST_V4.into()), (CLIENT_V6.into(), DVIPA_V6, HOST_V6.into())];
    for (address, dvipa, own) in families {
        let client = patient(host.peer.enter(|| UdpSocket::bind((address, CLIENT_PORT)).unwrap()));
        bring(&host, address, dvipa);
        assert_eq!(answered(&server, &client), dvipa);
        client.send_to(b"who", (own, PORT)).unwrap();
        assert_eq!(answered(&server, &client), own, "the same client asks the host itself");
        bring(&host, address, dvipa);
        assert_eq!(answered(&server, &client), dvipa);
    }
    // A complete account has the flows; without a server they are nobody's.
    let flows = families.map(|(client, dvipa, _)| {
        let (client, dvipa) = (SocketAddr::new(client, CLIENT_PORT), SocketAddr::new(dvipa, PORT));
        Connection::new(Udp, client, dvipa).unwrap()
    });
    let others = ["198.18.9.77", "198.18.9.78"].map(|address| address.parse().unwrap());
    host.routing_stack.list_with(&others[..1], &[to_all(Udp, &[PORT])]);
    let heard = host.routing_stack.heard();
    assert!(flows.iter().all(|flow| heard.connections.contains(flow)), "{heard:#?}");
    drop(server);
    host.routing_stack.wait("the server's end", |h| !h.serves(DVIPA_V4, Udp, PORT));
    host.routing_stack.list_with(&others, &[to_all(Udp, &[PORT])]);
    assert!(host.routing_stack.heard().connections.is_empty());
}
