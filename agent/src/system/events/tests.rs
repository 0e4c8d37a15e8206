use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use model::{Connection, Protocol};

use super::{ENDED, ENDED_ANSWERED, ESTABLISHED, EVENT_BYTES, LISTENING, NOT_TAKEN, Told, UDP_BOUND};
use crate::machine::{Bound, Cookie, Event, Ifindex, Listener};

fn parse(bytes: &[u8]) -> Option<Event> {
    match super::parse(bytes)? {
        Told::Socket(event) => Some(event),
        not_taken => panic!("{not_taken:?}"),
    }
}

fn bytes(kind: u8, local: (Ipv6Addr, u16), remote: (Ipv6Addr, u16), v6: bool, v6only: bool) -> Vec<u8> {
    let mut bytes = 77u64.to_ne_bytes().to_vec();
    bytes.extend(local.0.octets());
    bytes.extend(remote.0.octets());
    bytes.extend(3u32.to_ne_bytes());
    bytes.extend(local.1.to_ne_bytes());
    bytes.extend(remote.1.to_ne_bytes());
    bytes.extend([kind, v6.into(), v6only.into(), 0, 0, 0, 0, 0]);
    bytes
}

fn mapped(v4: [u8; 4]) -> Ipv6Addr {
    Ipv4Addr::from(v4).to_ipv6_mapped()
}

const NOBODY: (Ipv6Addr, u16) = (Ipv6Addr::UNSPECIFIED, 0);

#[test]
fn a_listen_has_its_address_and_interface() {
    let rows = [
        (mapped([0; 4]), false, false, Bound::AnyV4),
        (Ipv6Addr::UNSPECIFIED, true, false, Bound::AnyDual),
        (Ipv6Addr::UNSPECIFIED, true, true, Bound::AnyV6),
        (mapped([198, 18, 9, 1]), true, false, Bound::Address(IpAddr::V4([198, 18, 9, 1].into()))),
    ];
    for (address, v6, v6only, bound) in rows {
        let event = parse(&bytes(LISTENING, (address, 80), NOBODY, v6, v6only));
        let Some(Event::Listening(Cookie(77), listener)) = event else { panic!("{event:?}") };
        let interface = Some(Ifindex(3));
        assert_eq!(listener, Listener { protocol: Protocol::Tcp, bound, port: 80, interface });
    }
}

#[test]
fn a_connection_on_a_dual_stack_socket_is_an_ipv4_one() {
    let (dvipa, client) = ((mapped([198, 18, 9, 1]), 80), (mapped([198, 18, 0, 2]), 40_000));
    let Some(Event::Established(_, connection)) = parse(&bytes(ESTABLISHED, dvipa, client, true, false))
    else {
        panic!("an established connection")
    };
    let expected = ("198.18.0.2:40000".parse().unwrap(), "198.18.9.1:80".parse().unwrap());
    assert_eq!(connection, Connection::new(Protocol::Tcp, expected.0, expected.1).unwrap());
}

#[test]
fn ends_and_binds_are_read() {
    assert!(matches!(parse(&bytes(ENDED, NOBODY, NOBODY, false, false)), Some(Event::Ended(Cookie(77)))));
    let (dvipa, client) = ((mapped([198, 18, 9, 1]), 80), (mapped([198, 18, 0, 2]), 40_000));
    let answered = parse(&bytes(ENDED_ANSWERED, dvipa, client, false, false));
    assert!(matches!(answered, Some(Event::EndedAnswered(Cookie(77), c)) if c.dvipa.port() == 80));
    assert!(matches!(parse(&bytes(UDP_BOUND, NOBODY, NOBODY, false, false)), Some(Event::UdpBound)));
}

#[test]
fn what_the_programs_do_not_write_is_nothing() {
    assert!(parse(&[]).is_none());
    assert!(parse(&[0; EVENT_BYTES]).is_none());
    assert!(parse(&[1; EVENT_BYTES + 1]).is_none());
    assert!(parse(&bytes(99, NOBODY, NOBODY, false, false)).is_none());
}

#[test]
fn a_connection_that_the_kernel_does_not_take_comes_with_its_error() {
    let (dvipa, client) = ((mapped([198, 18, 9, 1]), 80), (mapped([198, 18, 0, 2]), 40000));
    for (error, said) in [(0u64, "nothing listens"), (22, "tcp_sack"), (12, "memory")] {
        let mut event = bytes(NOT_TAKEN, dvipa, client, true, false);
        event[..8].copy_from_slice(&error.to_ne_bytes());
        let Some(Told::NotTaken { connection, why }) = super::parse(&event) else { panic!("{error}") };
        assert_eq!(connection.client, "198.18.0.2:40000".parse().unwrap());
        assert!(why.to_string().contains(said), "{why}");
    }
}
