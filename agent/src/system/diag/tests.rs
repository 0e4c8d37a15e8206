use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::thread::sleep;
use std::time::Duration;

use model::Protocol;

use super::{look, messages, speeches};
use crate::machine::{Bound, Scope};

#[test]
fn the_sockets_of_this_process_are_seen() {
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let at = tcp.local_addr().unwrap();
    let client = TcpStream::connect(at).unwrap();
    let server = tcp.accept().unwrap();
    let picture = look(Scope::All, &HashSet::from([at.ip()])).unwrap();
    let has = |protocol, port| {
        let is = |l: &crate::machine::Listener| {
            (l.protocol, l.port, l.bound) == (protocol, port, Bound::Address(at.ip()))
        };
        picture.listeners.iter().any(|(_, l)| is(l))
    };
    assert!(has(Protocol::Tcp, at.port()));
    assert!(has(Protocol::Udp, udp.local_addr().unwrap().port()));
    let ours =
        picture.connections.iter().find(|(_, c)| c.dvipa == at && c.client == client.local_addr().unwrap());
    assert!(ours.is_some(), "{:?} in {picture:?}", server.1);
}

#[test]
fn connections_of_other_addresses_are_left_out() {
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let _client = TcpStream::connect(tcp.local_addr().unwrap()).unwrap();
    let picture = look(Scope::All, &HashSet::new()).unwrap();
    assert_eq!(picture.connections, []);
}

#[test]
fn a_datagram_that_is_no_message_ends_the_reading() {
    for bad in [&[0u8; 3][..], &[0; 64], &[255; 64]] {
        assert!(messages(bad).take(10).filter(|m| m.is_ok()).count() == 0);
        assert!(messages(bad).take(10).count() < 10, "{bad:?}");
    }
}

#[test]
fn a_connection_says_whether_its_client_waits_and_for_how_long_nobody_has_spoken() {
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = tcp.local_addr().unwrap();
    let mut client = TcpStream::connect(at).unwrap();
    let (mut server, _) = tcp.accept().unwrap();
    let seen = || {
        let all = speeches(&HashSet::from([at.ip()])).unwrap();
        all.into_iter().find(|speech| (speech.dvipa, speech.port) == (at.ip(), at.port())).unwrap()
    };
    let (moment, less) = (Duration::from_millis(300), Duration::from_millis(250));
    sleep(moment);
    assert!(seen().waits.is_none() && seen().quiet >= less, "nobody has said anything: {:?}", seen());
    client.write_all(b"?").unwrap();
    server.read_exact(&mut [0]).unwrap();
    sleep(moment);
    assert!(seen().waits.is_some_and(|waits| waits >= less), "{:?}", seen());
    server.write_all(b"!").unwrap();
    client.read_exact(&mut [0]).unwrap();
    assert!(seen().waits.is_none(), "{:?}", seen());
    sleep(moment);
    assert!(seen().waits.is_none() && seen().quiet >= less, "{:?}", seen());
}
