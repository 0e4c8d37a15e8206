//! Connections move in the middle of their streams, and nobody notices.

use std::net::{IpAddr, TcpStream};

use lab::Capture;
use lab::fabric::mac;
use lab::spec::{self, DVIPA};

use crate::bench::{Bench, RESET};
use crate::stream::{self, End};

/// Moves a connection there and back while it streams so much each way.
fn stream_and_move(bench: &Bench, dvipa: IpAddr, bind: &str, moves: u64, total: u64) {
    let (client, mut server) = bench.connect(dvipa, bind);
    let client = stream::client(client, total);
    let mut end = End::server(total);
    let mut at = 0;
    for i in 1..=moves {
        let socket = TcpStream::from(server);
        let goal = total / (moves + 1) * i;
        end.run(&socket, |end| end.sent.min(end.received) >= goal);
        server = bench.transfer(socket.into(), at, 1 - at);
        at = 1 - at;
    }
    stream::finish(end, server);
    client.join().unwrap();
}

#[test]
#[ignore = "needs root"]
fn a_stream_moves_between_hosts_in_every_family_of_socket() {
    let bench = Bench::new();
    stream_and_move(&bench, DVIPA.0.into(), "0.0.0.0:0", 20, 6 << 20);
    stream_and_move(&bench, DVIPA.1.into(), "[::]:0", 20, 6 << 20);
    // A connection over IPv4 on a socket of IPv6.
    stream_and_move(&bench, DVIPA.0.into(), "[::]:0", 20, 6 << 20);
}

#[test]
#[ignore = "needs root"]
fn a_stream_moves_whatever_its_ends_have_agreed_on() {
    let bench = Bench::with_mtu(1280);
    for off in ["tcp_timestamps", "tcp_sack", "tcp_window_scaling"] {
        // The client does not offer it; the hosts' own settings stay as they are.
        let set = |value| bench.client.sh(&format!("echo {value} >/proc/sys/net/ipv4/{off}")).unwrap();
        set(0);
        stream_and_move(&bench, DVIPA.0.into(), "0.0.0.0:0", 10, 4 << 20);
        stream_and_move(&bench, DVIPA.1.into(), "[::]:0", 10, 4 << 20);
        set(1);
    }
}

#[test]
#[ignore = "needs root"]
fn a_stream_moves_while_a_twentieth_of_the_packets_is_lost() {
    let bench = Bench::new();
    let lossy = "nft 'add table inet loss
        add chain inet loss in { type filter hook input priority 0; }
        add rule inet loss in iif eth0 meta l4proto tcp numgen random mod 20 0 drop'";
    bench.client.sh(lossy).unwrap();
    for host in &bench.hosts {
        host.namespace.sh(lossy).unwrap();
    }
    stream_and_move(&bench, DVIPA.0.into(), "0.0.0.0:0", 10, 2 << 20);
}

#[test]
#[ignore = "needs root"]
fn the_client_sees_one_handshake_and_no_reset_although_packets_stray() {
    let bench = Bench::new();
    let capture = Capture::start(&bench.client, "eth0", "tcp", bench.record.files(), "client").unwrap();
    let (client, mut server) = bench.connect(DVIPA.0.into(), "0.0.0.0:0");
    let client = stream::client(client, 4 << 20);
    let mut end = End::server(4 << 20);
    let mut at = 0;
    for i in 1..=6 {
        let socket = TcpStream::from(server);
        end.run(&socket, |end| end.sent.min(end.received) >= (512 << 10) * i);
        server = bench.transfer(socket.into(), at, 1 - at);
        // For a while the client's packets still go to the old host: acknowledgments of what the new one sends.
        bench.route_to(at);
        let socket = TcpStream::from(server);
        end.step(&socket);
        server = socket.into();
        std::thread::sleep(std::time::Duration::from_millis(100));
        at = 1 - at;
        bench.route_to(at);
    }
    stream::finish(end, server);
    client.join().unwrap();
    let seen = capture.stop().unwrap();
    assert_eq!(seen.packets(RESET).unwrap(), Vec::<String>::new());
    assert_eq!(seen.count("tcp[tcpflags] & tcp-syn != 0").unwrap(), 2);
    for index in [1, 2] {
        let from = mac(spec::target(index));
        assert!(seen.count(&format!("ether src {from}")).unwrap() > 100, "both hosts answered directly");
    }
    let strays: u64 = bench.hosts.iter().map(|h| h.counter("departed_dropped")).sum();
    assert!(strays > 0, "the departed connection's packets were dropped");
}
