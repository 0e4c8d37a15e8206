//! The cluster's hosts as clients of its DVIPAs.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::Duration;

use lab::client::{self, HttpConnection};
use lab::spec::{self, CLIENT, DVIPA};
use lab::{Lab, Server, Spec};
use nix::sys::socket::sockopt::{Ipv4RecvErr, Ipv6RecvErr};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, connect, setsockopt, socket};

use crate::fixture::{SOON, any, dvipa4, lab};

/// The DVIPAs of both families with this port.
fn dvipas(port: u16) -> [SocketAddr; 2] {
    [dvipa4(port), SocketAddr::new(DVIPA.1.into(), port)]
}

/// Both DVIPAs with TCP and UDP on these ports, distributed to all.
fn both_protocols(ports: &str) -> String {
    let each = |protocol: &str| format!("ports = {ports}\nprotocol = \"{protocol}\"\ndestip = \"all\"");
    let (tcp, udp) = (each("tcp"), each("udp"));
    let (v4, v6) = (DVIPA.0.into(), DVIPA.1.into());
    format!("[[vipadynamic]]\n{}{}", spec::dvipa(v4, 24, &[&tcp, &udp]), spec::dvipa(v6, 64, &[&tcp, &udp]))
}

fn wait_for_services(lab: &Lab, services: usize, targets: &[&str]) {
    lab.wait_for("the DPT", Duration::from_secs(30), || {
        let rows = lab.dpt().map_err(|e| e.to_string())?;
        let good = rows.iter().filter(|r| r.selectable() == targets).count() == services;
        if good { Ok(()) } else { Err(format!("{rows:#?}")) }
    })
    .unwrap_or_else(|e| panic!("{e}"));
}

fn ask_udp(lab: &Lab, host: &str, to: SocketAddr) -> String {
    // Bound by its connect and not before, as a resolver's is.
    let unbound = lab.host(host).enter(|| {
        let family = if to.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        let socket = socket(family, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
        connect(socket.as_raw_fd(), &SockaddrStorage::from(to))?;
        nix::Result::Ok(UdpSocket::from(socket))
    });
    ask_connected(&unbound.expect("a socket"), host, to)
}

/// The wildcard address of a family.
fn wildcard(of: SocketAddr) -> IpAddr {
    if of.is_ipv4() { IpAddr::from([0; 4]) } else { IpAddr::from([0u16; 8]) }
}

/// The same with a socket that is bound to a port, and then connected.
fn ask_udp_from_a_port(lab: &Lab, host: &str, to: SocketAddr) -> String {
    let bound = lab.host(host).enter(|| {
        let socket = UdpSocket::bind((wildcard(to), 0))?;
        socket.connect(to).map(|()| socket)
    });
    ask_connected(&bound.expect("a socket"), host, to)
}

/// What a connected socket is answered.
fn ask_connected(socket: &UdpSocket, host: &str, to: SocketAddr) -> String {
    socket.set_read_timeout(Some(SOON)).expect("it is set");
    let mut answer = [0; 64];
    socket.send(b"who").expect("it is sent");
    let bytes = socket.recv(&mut answer).unwrap_or_else(|e| panic!("{host} asks {to}: {e}"));
    String::from_utf8_lossy(&answer[..bytes]).into_owned()
}

/// R7, B6: programs on a target reach a port of its own DVIPA that only another target serves, TCP and UDP, both families.
#[test]
#[ignore = "needs root"]
fn a_target_reaches_what_another_target_serves() {
    let lab = lab(Spec::default().vipadynamic(both_protocols("[7]")).web([]));
    let _tcp = Server::tcp(lab.host("t2"), any(7), "t2").expect("it listens");
    let _udp = dvipas(7).map(|to| Server::udp(lab.host("t2"), to, "t2").expect("it listens"));
    wait_for_services(&lab, 4, &["t2"]);
    for host in ["t1", "t3", "t2"] {
        for to in dvipas(7) {
            let mut connection = HttpConnection::open(lab.host(host), to)
                .unwrap_or_else(|e| panic!("{host} connects to {to}: {e}"));
            assert_eq!(connection.target().expect("it is answered"), "t2");
            // More than one packet's worth, and the other end's turn again.
            for _ in 0..20 {
                assert_eq!(connection.target().expect("it is answered"), "t2");
            }
            assert_eq!(ask_udp(&lab, host, to), "t2 3");
            assert_eq!(ask_udp_from_a_port(&lab, host, to), "t2 3");
            let wildcard = SocketAddr::new(wildcard(to), 0);
            let mut bound = HttpConnection::open_from(lab.host(host), wildcard, to)
                .unwrap_or_else(|e| panic!("{host} connects to {to} from a port: {e}"));
            assert_eq!(bound.target().expect("it is answered"), "t2");
        }
    }
    // What another target begins to serve is served to its own programs there.
    let _own = Server::tcp(lab.host("t1"), any(7), "t1").expect("it listens");
    assert_eq!(client::ask(lab.host("t1"), dvipa4(7)).expect("t1 answers itself"), "t1");
}

/// R7, B6: a UDP socket that is not connected sends to a DVIPA that another target serves, in turns with another address, and has the
/// answers of both. Where this host serves itself, its datagrams stay here.
#[test]
#[ignore = "needs root"]
fn datagrams_of_a_socket_that_is_not_connected_reach_what_others_serve() {
    let lab = lab(Spec::default().vipadynamic(both_protocols("[7]")).web([]));
    let _udp = dvipas(7).map(|to| Server::udp(lab.host("t2"), to, "t2").expect("it listens"));
    wait_for_services(&lab, 2, &["t2"]);
    for (to, outside) in dvipas(7).into_iter().zip([IpAddr::from(CLIENT.0), CLIENT.1.into()]) {
        let outside = SocketAddr::new(outside, 9000);
        let _outside = Server::udp(lab.client(), outside, "outside").expect("the outside listens");
        for host in ["t1", "t3", "t2"] {
            let socket = lab.host(host).enter(|| UdpSocket::bind((wildcard(to), 0))).expect("it is bound");
            socket.set_read_timeout(Some(SOON)).expect("it is set");
            for (to, answer) in [(to, "t2 3"), (outside, "outside 3")].repeat(3) {
                let mut buffer = [0; 64];
                socket.send_to(b"who", to).expect("it is sent");
                let (bytes, from) =
                    socket.recv_from(&mut buffer).unwrap_or_else(|e| panic!("{host} asks {to}: {e}"));
                assert_eq!((&buffer[..bytes], from), (answer.as_bytes(), to), "{host}");
            }
        }
        let _own = Server::udp(lab.host("t1"), to, "t1").expect("it listens");
        let socket = lab.host("t1").enter(|| UdpSocket::bind((to.ip(), 0))).expect("it is bound");
        socket.set_read_timeout(Some(SOON)).expect("it is set");
        socket.send_to(b"who", to).expect("it is sent");
        let mut buffer = [0; 64];
        let bytes = socket.recv(&mut buffer).expect("t1 answers itself");
        assert_eq!(&buffer[..bytes], b"t1 3");
    }
}

/// R7: a datagram that is too long for the way to what others serve is counted, not lost without a word; the next one arrives.
#[test]
#[ignore = "needs root"]
fn a_datagram_that_is_too_long_without_connect_is_counted() {
    let lab = lab(Spec::default().vipadynamic(both_protocols("[7]")).web([]));
    let _udp = dvipas(7).map(|to| Server::udp(lab.host("t2"), to, "t2").expect("it listens"));
    wait_for_services(&lab, 2, &["t2"]);
    for (to, dropped) in dvipas(7).into_iter().zip([1, 3]) {
        let socket = lab.host("t1").enter(|| UdpSocket::bind((wildcard(to), 0))).expect("it is bound");
        socket.set_read_timeout(Some(SOON)).expect("it is set");
        socket.send_to(&[b'x'; 3000], to).expect("it is sent");
        lab.wait_for("the counter", SOON, || {
            let status = lab.agent("t1").map_err(|e| e.to_string())?;
            let all = status["counters"].as_array().ok_or("a list")?;
            let counted = all.iter().find(|c| c["name"] == "datagram_too_long").map(|c| c["value"].clone());
            if counted == Some(dropped.into()) { Ok(()) } else { Err(format!("{to}: {counted:?}")) }
        })
        .unwrap_or_else(|e| panic!("{e}"));
        // Who asks for errors has one.
        match to {
            SocketAddr::V4(_) => setsockopt(&socket, Ipv4RecvErr, &true),
            SocketAddr::V6(_) => setsockopt(&socket, Ipv6RecvErr, &true),
        }
        .expect("it is set");
        let error = socket.send_to(&[b'x'; 3000], to).expect_err("it is too long");
        assert_eq!(error.raw_os_error(), Some(nix::libc::ENOBUFS));
        socket.send_to(b"who", to).expect("it is sent");
        let mut buffer = [0; 64];
        let bytes = socket.recv(&mut buffer).expect("it is answered");
        assert_eq!(&buffer[..bytes], b"t2 3");
    }
}

/// R7, B6: a program on a drained target reaches the targets that still serve, once its own server is gone.
#[test]
#[ignore = "needs root"]
fn a_drained_target_reaches_its_own_dvipa() {
    let lab = lab(Spec::default());
    lab.baton(&["drain", "t1"]).expect("t1 is drained");
    lab.kill_all("t1", "nginx").expect("nginx is killed");
    lab.wait_for_targets(80, &["t2", "t3"]).expect("t1 is out of the DPT");
    for to in dvipas(80) {
        let target = client::ask(lab.host("t1"), to).unwrap_or_else(|e| panic!("t1 connects to {to}: {e}"));
        assert!(["t2", "t3"].contains(&target.as_str()), "{target}");
    }
}

/// R7: a datagram and a ping that a target sends with the DVIPA as its source are answered to that target, both families.
#[test]
#[ignore = "needs root"]
fn udp_and_ping_with_the_dvipa_as_source_come_back() {
    let lab = lab(Spec::default());
    for (outside, dvipa) in [(CLIENT.0.into(), DVIPA.0.into()), (CLIENT.1.into(), DVIPA.1.into())] {
        let (outside, dvipa): (IpAddr, IpAddr) = (outside, dvipa);
        let to = SocketAddr::new(outside, 9000);
        let _server = Server::udp(lab.client(), to, "outside").expect("the outside listens");
        for host in ["t1", "t2", "t3"] {
            // One socket that says to whom with each datagram, and one that is connected.
            for is_connected in [false, true] {
                let socket = lab.host(host).enter(|| UdpSocket::bind((dvipa, 0))).expect("it is bound");
                socket.set_read_timeout(Some(SOON)).expect("it is set");
                if is_connected {
                    lab.host(host).enter(|| socket.connect(to)).expect("it is connected");
                }
                for _ in 0..5 {
                    let sent = if is_connected { socket.send(b"who") } else { socket.send_to(b"who", to) };
                    sent.expect("it is sent");
                    let mut answer = [0; 64];
                    let bytes =
                        socket.recv(&mut answer).unwrap_or_else(|e| panic!("{host} from {dvipa}: {e}"));
                    assert_eq!(&answer[..bytes], b"outside 3");
                }
            }
            let ping = format!("ping -c 3 -i 0.2 -W 2 -I {dvipa} {outside}");
            let said = lab.host(host).sh(&ping).unwrap_or_else(|e| panic!("{host}: {e}"));
            assert!(said.contains(" 0% packet loss"), "{said}");
        }
    }
}

/// R7: a port of a DVIPA that is not distributed, and a DVIPA that no VIPADISTRIBUTE names, are served by the owner's own
/// stack; where nothing listens there, its kernel refuses.
#[test]
#[ignore = "needs root"]
fn what_is_not_distributed_is_served_by_the_owners_own_stack() {
    let alone = IpAddr::from([198, 18, 9, 2]);
    let tables = spec::ipv4_only(&["ports = [80]\ndestip = [\"t1\", \"t2\", \"t3\"]"]);
    let tables = tables + &spec::dvipa(alone, 24, &[]);
    let lab = lab(Spec { routing_agent: true, ..Spec::default().vipadynamic(tables) });
    let _tcp = Server::tcp(lab.host("rt1"), any(2222), "rt1").expect("it listens");
    let own = [dvipa4(2222), SocketAddr::new(alone, 2222)];
    let bind = |to| {
        lab.wait_for(&format!("{to} to be an address of rt1"), SOON, || {
            Server::udp(lab.host("rt1"), to, "rt1").map_err(|e| e.to_string())
        })
    };
    let _udp = own.map(|to| bind(to).unwrap_or_else(|e| panic!("{e}")));
    for to in own {
        for host in ["client", "t1"] {
            let mut connection =
                HttpConnection::open(lab.host(host), to).unwrap_or_else(|e| panic!("{host} to {to}: {e}"));
            for _ in 0..5 {
                assert_eq!(connection.target().expect("it is answered"), "rt1");
            }
            assert_eq!(ask_udp(&lab, host, to), "rt1 3");
        }
    }
    for to in [dvipa4(2224), SocketAddr::new(alone, 80)] {
        let refused = HttpConnection::open(lab.client(), to).expect_err("nothing listens there");
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused, "{to}: {refused}");
    }
    assert!(
        ["t1", "t2", "t3"].contains(&client::ask(lab.client(), dvipa4(80)).expect("it is answered").as_str())
    );
}
