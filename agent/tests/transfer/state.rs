//! What a connection takes along: bytes in both queues, half-closed ends, socket options.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use lab::spec::DVIPA;
use model::connection_state::{Phase, SocketOption};
use socket2::{SockRef, TcpKeepalive};

use transfer::host::Away;

use crate::bench::{Bench, connection_of};
use crate::stream::{Way, bytes};

const PATIENCE: Duration = Duration::from_secs(10);

/// The families of connection and socket: the DVIPA, and what the server listens at.
fn families() -> [(IpAddr, &'static str); 3] {
    [(DVIPA.0.into(), "0.0.0.0:0"), (DVIPA.1.into(), "[::]:0"), (DVIPA.0.into(), "[::]:0")]
}

fn read_exactly(mut socket: &TcpStream, way: Way, from: u64, count: usize) {
    socket.set_nonblocking(false).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut buffer = vec![0; count];
    socket.read_exact(&mut buffer).unwrap();
    assert!(buffer == bytes(way, from, count), "wrong bytes in {count} from {from}");
}

fn expect_eof(mut socket: &TcpStream) {
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(socket.read(&mut [0; 1]).unwrap(), 0);
}

/// Writes until the socket takes no more; how much it took.
fn fill(mut socket: &TcpStream, way: Way) -> usize {
    socket.set_nonblocking(true).unwrap();
    let (mut at, mut since) = (0, Instant::now());
    while since.elapsed() < Duration::from_millis(300) {
        match socket.write(&bytes(way, at as u64, 8 << 10)) {
            Ok(wrote) => (at, since) = (at + wrote, Instant::now()),
            Err(e) if e.kind() == ErrorKind::WouldBlock => std::thread::sleep(Duration::from_millis(5)),
            Err(e) => panic!("{e}"),
        }
    }
    socket.set_nonblocking(false).unwrap();
    at
}

#[test]
#[ignore = "needs root"]
fn full_queues_both_ways_arrive_once_and_in_order() {
    let bench = Bench::new();
    for (dvipa, bind) in families() {
        let (client, server) = bench.connect(dvipa, bind);
        let server = TcpStream::from(server);
        // Nobody reads: both windows close, unread and unsent bytes stay behind them.
        let (up, down) = (fill(&client, Way::Up), fill(&server, Way::Down));
        let (restored, old) = bench.prepare(server.into(), 0, 1);
        let state = restored.state();
        assert!(state.receive.bytes.len() > 60_000, "unread: {}", state.receive.bytes.len());
        assert!(state.send.unsent_bytes > 60_000, "unsent: {}", state.send.unsent_bytes);
        let server = TcpStream::from(bench.commit(restored, old, 0, 1));
        std::thread::scope(|scope| {
            scope.spawn(|| read_exactly(&client, Way::Down, 0, down));
            read_exactly(&server, Way::Up, 0, up);
        });
        (&client).write_all(&bytes(Way::Up, up as u64, 1000)).unwrap();
        read_exactly(&server, Way::Up, up as u64, 1000);
    }
}

#[test]
#[ignore = "needs root"]
fn bytes_that_the_client_never_got_are_sent_again_at_once() {
    let bench = Bench::new();
    for (dvipa, bind) in families() {
        let (client, server) = bench.connect(dvipa, bind);
        let server = TcpStream::from(server);
        let drop_all = "nft 'add table inet deaf
            add chain inet deaf in { type filter hook input priority 0; }
            add rule inet deaf in meta l4proto tcp drop'";
        bench.client.sh(drop_all).unwrap();
        (&server).write_all(&bytes(Way::Down, 0, 9000)).unwrap();
        std::thread::sleep(Duration::from_millis(20));
        let (restored, old) = bench.prepare(server.into(), 0, 1);
        assert_eq!((restored.state().send.bytes.len(), restored.state().send.unsent_bytes), (9000, 0));
        bench.client.sh("nft delete table inet deaf").unwrap();
        let begun = Instant::now();
        let server = TcpStream::from(bench.commit(restored, old, 0, 1));
        read_exactly(&client, Way::Down, 0, 9000);
        assert!(begun.elapsed() < Duration::from_millis(200), "not by a timer: {:?}", begun.elapsed());
        (&server).write_all(&bytes(Way::Down, 9000, 1000)).unwrap();
        read_exactly(&client, Way::Down, 9000, 1000);
    }
}

/// What `ss` tells of the client's end: the number after `name:`.
fn of_client(bench: &Bench, client: &TcpStream, name: &str) -> u64 {
    let port = client.local_addr().unwrap().port();
    let told = bench.client.sh(&format!("ss -Htin sport = :{port}")).unwrap();
    let word = told.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix(':'));
    word.and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("no {name}: {told}"))
}

#[test]
#[ignore = "needs root"]
fn segments_are_as_large_after_a_move_as_before() {
    let bench = Bench::new();
    for (dvipa, bind) in families() {
        let (_client, server) = bench.connect(dvipa, bind);
        let mss = |socket: &OwnedFd| SockRef::from(socket).tcp_mss().unwrap();
        let before = mss(&server);
        assert!(before > 1200, "{before}");
        let server = bench.transfer(server, 0, 1);
        assert_eq!(mss(&server), before);
        assert_eq!(mss(&bench.transfer(server, 1, 0)), before, "after another move");
    }
}

#[test]
#[ignore = "needs root"]
fn a_window_is_as_large_after_a_move_as_before_without_scaling_too() {
    let bench = Bench::new();
    for scaling in [1, 0] {
        let set = format!("echo {scaling} >/proc/sys/net/ipv4/tcp_window_scaling");
        bench.client.sh(&set).unwrap();
        for (dvipa, bind) in families() {
            let (client, mut server) = bench.connect(dvipa, bind);
            let before = of_client(&bench, &client, "snd_wnd");
            for (from, to) in [(0, 1), (1, 0)] {
                server = bench.transfer(server, from, to);
                (&client).write_all(&bytes(Way::Up, from as u64, 1)).unwrap();
                read_exactly(&TcpStream::from(server.try_clone().unwrap()), Way::Up, from as u64, 1);
                let after = of_client(&bench, &client, "snd_wnd");
                assert!(after + 2 >= before, "{after} of {before} bytes, scaling {scaling}");
            }
        }
    }
}

#[test]
#[ignore = "needs root"]
fn a_window_that_has_opened_during_the_move_is_noticed_at_once() {
    let bench = Bench::new();
    for (dvipa, bind) in families() {
        for client_has_ended in [false, true] {
            let (client, server) = bench.connect(dvipa, bind);
            let server = TcpStream::from(server);
            if client_has_ended {
                client.shutdown(Shutdown::Write).unwrap();
                expect_eof(&server);
            }
            let sent = fill(&server, Way::Down);
            let (restored, old) = bench.prepare(server.into(), 0, 1);
            let unsent = restored.state().send.unsent_bytes as usize;
            assert!(unsent > 60_000, "unsent: {unsent}");
            // Nobody hears the client say that its window is open again.
            read_exactly(&client, Way::Down, 0, sent - restored.state().send.bytes.len());
            let begun = Instant::now();
            let _server = bench.commit(restored, old, 0, 1);
            let at = sent - unsent;
            read_exactly(&client, Way::Down, at as u64, unsent);
            assert!(begun.elapsed() < Duration::from_millis(150), "not by a timer: {:?}", begun.elapsed());
        }
    }
}

/// Two packets become one in the move, and the client has the first of them: it acknowledges half of the new one, which the
/// kernel keeps whole.
#[test]
#[ignore = "needs root"]
fn a_packet_that_is_acknowledged_in_part_moves_without_that_part() {
    let bench = Bench::new();
    let deaf = "nft 'add table inet deaf
        add chain inet deaf in { type filter hook input priority 0; }
        add rule inet deaf in meta l4proto tcp drop'";
    for (dvipa, bind) in families() {
        let (client, server) = bench.connect(dvipa, bind);
        let server = TcpStream::from(server);
        server.set_nodelay(true).unwrap();
        bench.hosts[0].namespace.sh(deaf).unwrap();
        (&server).write_all(&bytes(Way::Down, 0, 100)).unwrap();
        read_exactly(&client, Way::Down, 0, 100);
        bench.client.sh(deaf).unwrap();
        (&server).write_all(&bytes(Way::Down, 100, 100)).unwrap();
        let server = bench.transfer(server.into(), 0, 1);
        (&client).write_all(&bytes(Way::Up, 0, 1)).unwrap();
        read_exactly(&TcpStream::from(server.try_clone().unwrap()), Way::Up, 0, 1);
        let (restored, old) = bench.prepare(server, 1, 0);
        assert_eq!(restored.state().send.bytes, bytes(Way::Down, 100, 100));
        for host in [&bench.client, &bench.hosts[0].namespace] {
            host.sh("nft delete table inet deaf").unwrap();
        }
        let _server = bench.commit(restored, old, 1, 0);
        read_exactly(&client, Way::Down, 100, 100);
    }
}

/// Moves half-closed connections there and back, and ends them well.
#[test]
#[ignore = "needs root"]
fn a_half_closed_connection_moves_and_its_other_half_goes_on() {
    let bench = Bench::new();
    for (dvipa, bind) in families() {
        // The client has said its last.
        let (client, server) = bench.connect(dvipa, bind);
        (&client).write_all(&bytes(Way::Up, 0, 5000)).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let server = there_and_back(&bench, server, Phase::CloseWait);
        read_exactly(&server, Way::Up, 0, 5000);
        expect_eof(&server);
        (&server).write_all(&bytes(Way::Down, 0, 5000)).unwrap();
        read_exactly(&client, Way::Down, 0, 5000);
        drop(server);
        expect_eof(&client);

        // The server has said its last, and the client knows.
        let (client, server) = bench.connect(dvipa, bind);
        let server = TcpStream::from(server);
        (&server).write_all(&bytes(Way::Down, 0, 5000)).unwrap();
        server.shutdown(Shutdown::Write).unwrap();
        let server = there_and_back(&bench, server.into(), Phase::FinWait2);
        read_exactly(&client, Way::Down, 0, 5000);
        expect_eof(&client);
        (&client).write_all(&bytes(Way::Up, 0, 5000)).unwrap();
        drop(client);
        read_exactly(&server, Way::Up, 0, 5000);
        expect_eof(&server);
    }
}

fn there_and_back(bench: &Bench, server: OwnedFd, phase: Phase) -> TcpStream {
    std::thread::sleep(Duration::from_millis(50));
    let (restored, old) = bench.prepare(server, 0, 1);
    assert_eq!(restored.state().phase, phase);
    let server = bench.commit(restored, old, 0, 1);
    std::thread::sleep(Duration::from_millis(50));
    let (restored, old) = bench.prepare(server, 1, 0);
    assert_eq!(restored.state().phase, phase, "after the first move");
    TcpStream::from(bench.commit(restored, old, 1, 0))
}

#[test]
#[ignore = "needs root"]
fn a_fin_that_the_client_never_got_is_sent_again_at_once() {
    let bench = Bench::new();
    for (dvipa, bind) in families() {
        for phase in [Phase::FinWait1, Phase::Closing, Phase::LastAck] {
            let (client, server) = bench.connect(dvipa, bind);
            let server = TcpStream::from(server);
            if phase == Phase::LastAck {
                client.shutdown(Shutdown::Write).unwrap();
                expect_eof(&server);
            }
            bench
                .client
                .sh("nft 'add table inet deaf
                add chain inet deaf in { type filter hook input priority 0; }
                add rule inet deaf in meta l4proto tcp drop'")
                .unwrap();
            (&server).write_all(&bytes(Way::Down, 0, 3000)).unwrap();
            server.shutdown(Shutdown::Write).unwrap();
            if phase == Phase::Closing {
                client.shutdown(Shutdown::Write).unwrap();
                expect_eof(&server);
            }
            let (restored, old) = bench.prepare(server.into(), 0, 1);
            assert_eq!((restored.state().phase, restored.state().send.bytes.len()), (phase, 3000));
            bench.client.sh("nft delete table inet deaf").unwrap();
            let begun = Instant::now();
            let server = bench.commit(restored, old, 0, 1);
            read_exactly(&client, Way::Down, 0, 3000);
            expect_eof(&client);
            assert!(begun.elapsed() < Duration::from_millis(200), "not by a timer: {:?}", begun.elapsed());
            drop(client);
            if phase == Phase::FinWait1 {
                expect_eof(&TcpStream::from(server));
            }
        }
    }
}

#[test]
#[ignore = "needs root"]
fn socket_options_survive() {
    let bench = Bench::new();
    for (dvipa, bind) in families() {
        let (_client, server) = bench.connect(dvipa, bind);
        let socket = SockRef::from(&server);
        socket.set_tcp_nodelay(true).unwrap();
        let keepalive = TcpKeepalive::new()
            .with_time(Duration::from_secs(77))
            .with_interval(Duration::from_secs(13))
            .with_retries(5);
        socket.set_tcp_keepalive(&keepalive).unwrap();
        socket.set_tcp_user_timeout(Some(Duration::from_millis(54_321))).unwrap();
        socket.set_tcp_congestion(b"reno").unwrap();
        socket.set_linger(Some(Duration::from_secs(9))).unwrap();
        socket.set_send_buffer_size(70_000).unwrap();
        socket.set_tcp_notsent_lowat(123_456).unwrap();
        socket.set_mark(0x42).unwrap();
        socket.set_reuse_address(true).unwrap();
        if dvipa.is_ipv4() {
            socket.set_tos_v4(0x28).unwrap();
        } else {
            socket.set_tclass_v6(0x28).unwrap();
        }
        let before = bench.hosts[0].dump(&server).unwrap();
        let restored = bench.hosts[1].restore(before.clone());
        assert_eq!(restored.not_taken(), []);
        let server = bench.commit(restored, server, 0, 1);
        let after = bench.hosts[1].dump(&server).unwrap();
        let told = |option| (before.option(option), after.option(option));
        for option in SocketOption::ALL {
            let (before, after) = told(*option);
            assert_eq!(before, after, "{option:?}");
        }
        assert_eq!(told(SocketOption::Mark).1, Some(0x42));
        assert_eq!(told(SocketOption::KeepIdle).1, Some(77));
        assert_eq!(told(SocketOption::Linger).1, Some(9));
        assert_eq!(told(SocketOption::NotSentLowWater).1, Some(123_456));
        assert_eq!(told(SocketOption::BufferLock).1, Some(1), "only the send buffer is the application's");
        assert_eq!(after.congestion_control, "reno");
        assert_eq!((after.scales, after.sack, after.mss), (before.scales, before.sack, before.mss));
        let (then, now) = (before.timestamp.unwrap(), after.timestamp.unwrap());
        assert!(now.wrapping_sub(then) < 60_000, "the timestamp went on: {then} then {now}");
        baton_agent::repair::thaw(server.as_fd(), &after).unwrap();
        // Nobody is to wait for the client, which hears no more.
        SockRef::from(&server).set_linger(None).unwrap();
    }
}

#[test]
#[ignore = "needs root"]
fn a_transfer_that_comes_to_nothing_leaves_the_connection_where_it_was() {
    let bench = Bench::new();
    for (dvipa, bind) in families() {
        let (client, server) = bench.connect(dvipa, bind);
        (&client).write_all(&bytes(Way::Up, 0, 3000)).unwrap();
        let (restored, old) = bench.prepare(server, 0, 1);
        let state = restored.state().clone();
        (&client).write_all(&bytes(Way::Up, 3000, 3000)).unwrap();
        restored.discard().unwrap();
        bench.hosts[0].programs.maps.freezes.let_flow(&state.connection).unwrap();
        baton_agent::repair::thaw(old.as_fd(), &state).unwrap();
        let server = TcpStream::from(old);
        read_exactly(&server, Way::Up, 0, 6000);
        (&server).write_all(&bytes(Way::Down, 0, 3000)).unwrap();
        read_exactly(&client, Way::Down, 0, 3000);
        assert!(SockRef::from(&server).reuse_address().unwrap(), "as the listener had it");
    }
}

#[test]
#[ignore = "needs root"]
fn the_time_outs_of_a_frozen_connection_stand_still() {
    let bench = Bench::new();
    for (dvipa, bind) in families() {
        let (client, server) = bench.connect(dvipa, bind);
        let short = Duration::from_millis(300);
        let socket = SockRef::from(&server);
        socket.set_tcp_user_timeout(Some(short)).unwrap();
        let every_second = TcpKeepalive::new().with_time(Duration::from_secs(1));
        let every_second = every_second.with_interval(Duration::from_secs(1)).with_retries(1);
        socket.set_tcp_keepalive(&every_second).unwrap();
        bench.hosts[0].keep_away(&connection_of(&server), Away::Frozen);
        // Nobody acknowledges them while the connection is frozen.
        (&TcpStream::from(server.try_clone().unwrap())).write_all(&bytes(Way::Down, 0, 3000)).unwrap();
        let state = bench.hosts[0].dump(&server).unwrap();
        std::thread::sleep(Duration::from_secs(4));
        bench.hosts[0].programs.maps.freezes.let_flow(&state.connection).unwrap();
        baton_agent::repair::thaw(server.as_fd(), &state).unwrap();
        read_exactly(&client, Way::Down, 0, 3000);
        assert_eq!((socket.tcp_user_timeout().unwrap(), socket.keepalive().unwrap()), (Some(short), true));
    }
}
