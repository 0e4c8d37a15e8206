//! Frozen and departed connections: what is kept away, and that it ends.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::process::Stdio;
use std::time::{Duration, Instant};

use baton_agent::machine::Takes;
use baton_agent::repair;
use lab::Capture;
use lab::fabric::mac;
use lab::spec::{self, CLIENT, DVIPA};
use model::Dvipa;
use socket2::{Domain, Socket, Type};
use transfer::host::Away;

use crate::bench::{Bench, connection_of};
use crate::injection::{Web, dvipas, open};

#[test]
#[ignore = "needs root"]
fn a_frozen_connection_hears_and_says_nothing_until_it_flows_again() {
    let bench = Bench::new();
    for (dvipa, bind) in [(DVIPA.0.into(), "0.0.0.0:0"), (DVIPA.1.into(), "[::]:0")] {
        let (client, server) = bench.connect(dvipa, bind);
        let (host, connection) = (&bench.hosts[0], connection_of(&server));
        let server = TcpStream::from(server);
        host.keep_away(&connection, Away::Frozen);
        assert_eq!(host.programs.maps.freezes.all().unwrap(), [(connection, Away::Frozen)]);
        let capture =
            Capture::start(&bench.client, "eth0", "tcp or ip6", bench.record.files(), "frozen").unwrap();
        (&client).write_all(b"up").unwrap();
        (&server).write_all(b"down").unwrap();
        std::thread::sleep(Duration::from_millis(300));
        let seen = capture.stop().unwrap();
        let port = connection.dvipa.port();
        assert_eq!(seen.count(&format!("tcp src port {port}")).unwrap(), 0, "the host said something");
        assert!(seen.count(&format!("tcp dst port {port}")).unwrap() > 0, "the client said something");
        host.programs.maps.freezes.let_flow(&connection).unwrap();
        let mut buffer = [0; 4];
        (&server).read_exact(&mut buffer[..2]).unwrap();
        (&client).read_exact(&mut buffer).unwrap();
        assert_eq!(&buffer, b"down");
    }
}

#[test]
#[ignore = "needs root"]
fn every_entry_ends_by_itself() {
    let bench = Bench::new();
    let (client, server) = bench.connect(DVIPA.0.into(), "0.0.0.0:0");
    let connection = connection_of(&server);
    let freezes = &bench.hosts[0].programs.maps.freezes;
    let begun = Instant::now();
    freezes.keep_away(&connection, Away::Frozen, Duration::from_millis(500)).unwrap();
    (&client).write_all(b"late").unwrap();
    let mut buffer = [0; 4];
    (&TcpStream::from(server)).read_exact(&mut buffer).unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(500));
    assert_eq!(freezes.all().unwrap(), []);
    assert_eq!(freezes.ended().unwrap(), [connection], "the programs remove nothing");
    freezes.keep_away(&connection, Away::Departed, Duration::from_secs(60)).unwrap();
    freezes.remove_ended(&connection).unwrap();
    assert_eq!(freezes.all().unwrap(), [(connection, Away::Departed)], "it has departed anew");
    freezes.keep_away(&connection, Away::Departed, Duration::ZERO).unwrap();
    freezes.remove_ended(&connection).unwrap();
    assert_eq!(freezes.ended().unwrap(), []);
}

#[test]
#[ignore = "needs root"]
fn a_deaf_connection_sends_again_what_its_client_has_lost_and_hears_nothing() {
    let bench = Bench::new();
    for (dvipa, bind) in [(DVIPA.0.into(), "0.0.0.0:0"), (DVIPA.1.into(), "[::]:0")] {
        let (client, server) = bench.connect(dvipa, bind);
        let (host, connection) = (&bench.hosts[0], connection_of(&server));
        let lost = "nft 'add table inet deaf
            add chain inet deaf in { type filter hook input priority 0; }
            add rule inet deaf in meta l4proto tcp drop'";
        bench.client.sh(lost).unwrap();
        (&TcpStream::from(server.try_clone().unwrap())).write_all(b"down").unwrap();
        host.keep_away(&connection, Away::Deaf);
        let state = host.namespace.enter(|| repair::dump(server.as_fd())).unwrap();
        assert_eq!(state.send.bytes, b"down");
        bench.client.sh("nft delete table inet deaf").unwrap();
        let mut buffer = [0; 4];
        client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        (&client).read_exact(&mut buffer).unwrap();
        assert_eq!(&buffer, b"down");
        (&client).write_all(b"up").unwrap();
        std::thread::sleep(Duration::from_millis(100));
        assert_eq!(repair::unacknowledged(server.as_fd()).unwrap(), 4, "it hears nothing");
        host.programs.maps.freezes.let_flow(&connection).unwrap();
        repair::thaw(server.as_fd(), &state).unwrap();
        (&TcpStream::from(server)).read_exact(&mut buffer[..2]).unwrap();
    }
}

#[test]
#[ignore = "needs root"]
fn segments_behind_extension_headers_are_kept_away_too() {
    let bench = Bench::new();
    let host = &bench.hosts[0];
    let listener = host.namespace.enter(|| TcpListener::bind("[::]:0").unwrap());
    // A destination option to be skipped (RFC 8200 4.2), in each of its segments.
    let client = format!(
        "import socket
c = socket.socket(socket.AF_INET6)
c.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_DSTOPTS, bytes([0, 0, 1, 4, 0, 0, 0, 0]))
c.connect(('{}', {}))
c.settimeout(1)
input()
c.send(b'up')
try: print('heard', c.recv(9))
except TimeoutError: print('silence')
except OSError as e: print(e)",
        DVIPA.1,
        listener.local_addr().unwrap().port()
    );
    let mut command = bench.client.command("python3");
    command.args(["-c", &client]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut client = command.spawn().unwrap();
    let server = listener.accept().unwrap().0;
    host.dump(&server.try_clone().unwrap().into()).unwrap();
    host.keep_away(&connection_of(&server), Away::Departed);
    repair::discard(server.into()).unwrap();
    client.stdin.take().unwrap().write_all(b"\n").unwrap();
    let said = client.wait_with_output().unwrap().stdout;
    assert_eq!(String::from_utf8_lossy(&said), "silence\n");
}

#[test]
#[ignore = "needs root"]
fn a_departed_connection_draws_no_reset_and_its_ports_can_be_used_again() {
    let bench = Bench::new();
    let host = &bench.hosts[0];
    let listener = host.namespace.enter(|| TcpListener::bind("0.0.0.0:8080").unwrap());
    let dvipa = SocketAddr::new(DVIPA.0.into(), 8080);
    // A client that uses one port again and again, as behind an address translator.
    let open = || {
        bench.client.enter(|| {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            socket.set_reuse_address(true).unwrap();
            socket.set_linger(Some(Duration::ZERO)).unwrap();
            socket.bind(&SocketAddr::new(spec::CLIENT.0.into(), 45_000).into()).unwrap();
            socket.connect(&dvipa.into()).unwrap();
            TcpStream::from(socket)
        })
    };
    let capture = Capture::start(&bench.client, "eth0", "tcp", bench.record.files(), "departed").unwrap();
    let client = open();
    let (server, _) = listener.accept().unwrap();
    let connection = connection_of(&server);
    host.keep_away(&connection, Away::Frozen);
    host.namespace.enter(|| repair::dump(server.as_fd())).unwrap();
    host.keep_away(&connection, Away::Departed);
    repair::discard(server.into()).unwrap();
    (&client).write_all(b"stray").unwrap();
    std::thread::sleep(Duration::from_millis(100));
    // With a reset of the client's, which is stray too.
    drop(client);
    std::thread::sleep(Duration::from_millis(50));
    assert!(host.counter("departed_dropped") >= 2);

    let mut client = open();
    let (mut server, _) = listener.accept().unwrap();
    server.write_all(b"new").unwrap();
    let mut buffer = [0; 3];
    client.read_exact(&mut buffer).unwrap();
    assert_eq!(host.programs.maps.freezes.all().unwrap(), []);
    let seen = capture.stop().unwrap();
    let reset = format!("tcp[tcpflags] & tcp-rst != 0 and ether src {}", mac(spec::target(1)));
    assert_eq!(seen.packets(&reset).unwrap(), Vec::<String>::new());
}

#[test]
#[ignore = "needs root"]
fn nothing_is_left_of_many_transfers() {
    let bench = Bench::new();
    // All sockets of the host, also those that are in no state of TCP any more.
    let sockets = |host: usize| -> u32 {
        let line = bench.hosts[host].namespace.sh("head -n 1 /proc/net/sockstat").unwrap();
        line.trim().rsplit(' ').next().and_then(|number| number.parse().ok()).unwrap()
    };
    let before = [sockets(0), sockets(1)];
    let (mut client, mut server) = bench.connect(DVIPA.0.into(), "0.0.0.0:0");
    let connection = connection_of(&server);
    for _ in 0..50 {
        server = bench.transfer(server, 0, 1);
        server = bench.transfer(server, 1, 0);
    }
    (&TcpStream::from(server)).write_all(b"here").unwrap();
    client.read_exact(&mut [0; 4]).unwrap();
    assert_eq!(client.read(&mut [0; 1]).unwrap(), 0);
    drop(client);
    std::thread::sleep(Duration::from_millis(100));
    let after = [sockets(0), sockets(1)];
    // What built the hosts may have been closing its own.
    let none_more = before.iter().zip(&after).all(|(before, after)| after <= before);
    assert!(none_more, "{before:?} sockets became {after:?}");
    for (host, left) in [(0, vec![]), (1, vec![(connection, Away::Departed)])] {
        assert_eq!(bench.hosts[host].programs.maps.freezes.all().unwrap(), left);
    }
}

#[test]
#[ignore = "needs root"]
fn who_asks_for_a_frozen_connection_is_told_that_it_is_here_and_its_packets_stay_out() {
    let mut web = Web::new();
    for dvipa in dvipas() {
        let (mut http, connection) = open(&mut web, dvipa);
        let host = &web.bench.hosts[0];
        let asks = [((CLIENT.0.into(), Dvipa::new(dvipa.ip())), Takes::WhatIsHere)];
        host.programs.maps.set_forwarders(&asks.into()).unwrap();
        host.keep_away(&connection, Away::Frozen);
        std::thread::scope(|scope| {
            // Its kernel sends the request again and again.
            let answer = scope.spawn(|| http.target().unwrap());
            let wait_for_another = |dropped: &str| {
                let before = host.counter(dropped);
                while host.counter(dropped) == before {
                    std::thread::sleep(Duration::from_millis(5));
                }
            };
            let claimed = host.counter("asked_claimed");
            wait_for_another("frozen_dropped");
            wait_for_another("frozen_dropped");
            assert!(host.counter("asked_claimed") > claimed, "it is here");
            host.keep_away(&connection, Away::Departed);
            let claimed = host.counter("asked_claimed");
            wait_for_another("departed_dropped");
            wait_for_another("departed_dropped");
            assert_eq!(host.counter("asked_claimed"), claimed, "it is elsewhere");
            host.programs.maps.freezes.let_flow(&connection).unwrap();
            assert_eq!(answer.join().unwrap(), "t1");
        });
        let all = dvipas().map(|dvipa| ((CLIENT.0.into(), Dvipa::new(dvipa.ip())), Takes::All));
        host.programs.maps.set_forwarders(&all.into()).unwrap();
    }
}
