//! Packets that do not fit, their fragments, and ICMP errors.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use lab::spec::{self, DVIPA, Nic};
use lab::{Lab, Server, Spec, client};

use crate::fixture::{SOON, dvipa4, lab, web4, web6};

/// A lab with a UDP service on port 5300 of both DVIPAs, served by all three targets.
fn udp_lab() -> (Lab, Vec<Server>) {
    let lab = lab(Spec { nic: Nic::AfXdp, ..Spec::default() }
        .vipadynamic(spec::both_families("ports = [5300]\nprotocol = \"udp\"\ndestip = \"all\""))
        .web([]));
    let servers = TARGETS.into_iter().flat_map(|target| {
        [dvipa4(5300), dvipa6(5300)].map(|a| Server::udp(lab.host(target), a, target).expect("it listens"))
    });
    let servers = servers.collect();
    lab.wait_for("all three to be targets", Duration::from_secs(30), || {
        let rows = lab.dpt().map_err(|e| e.to_string())?;
        let good = rows.len() == 2 && rows.iter().all(|r| r.selectable() == TARGETS);
        if good { Ok(()) } else { Err(format!("{rows:#?}")) }
    })
    .unwrap_or_else(|e| panic!("{e}"));
    (lab, servers)
}

const TARGETS: [&str; 3] = ["t1", "t2", "t3"];

fn dvipa6(port: u16) -> SocketAddr {
    SocketAddr::new(DVIPA.1.into(), port)
}

/// A flow of the client with the target that has it.
fn flow(lab: &Lab, to: SocketAddr) -> (UdpSocket, String) {
    let socket = client::udp(lab.client(), to).expect("a socket");
    socket.set_read_timeout(Some(Duration::from_millis(500))).expect("a time-out");
    let answer = answered(lab, &socket, 3);
    (socket, answer.strip_suffix(" 3").expect("three bytes are answered").to_owned())
}

/// A flow of the client with each target.
fn flows(lab: &Lab, to: SocketAddr) -> [(UdpSocket, String); 3] {
    let flows = TARGETS.map(|_| flow(lab, to));
    let mut seen = flows.each_ref().map(|(_, target)| target.as_str());
    seen.sort_unstable();
    assert_eq!(seen, TARGETS, "round robin");
    flows
}

/// Sends datagrams of this many bytes until one is answered: the first ones may only teach the client the path MTU.
fn answered(lab: &Lab, socket: &UdpSocket, bytes: usize) -> String {
    lab.wait_for(&format!("{bytes} bytes to be answered"), SOON, || {
        socket.send(&vec![b'x'; bytes]).map_err(|e| e.to_string())?;
        let mut answer = [0; 64];
        let length = socket.recv(&mut answer).map_err(|e| e.to_string())?;
        Ok(String::from_utf8_lossy(&answer[..length]).into_owned())
    })
    .unwrap_or_else(|e| panic!("{e}"))
}

/// F6: a packet that would not fit once encapsulated gets the ICMP answer, and the client's kernel learns from it.
#[test]
#[ignore = "needs root"]
fn an_oversize_packet_gets_the_icmp_answer_and_the_sender_learns() {
    let (lab, _servers) = udp_lab();
    let capture = lab.capture("client", "eth0", "icmp or icmp6").expect("a capture");
    for (to, bytes) in [(dvipa4(5300), 1472), (dvipa6(5300), 1452)] {
        let (socket, target) = flow(&lab, to);
        assert_eq!(answered(&lab, &socket, bytes), format!("{target} {bytes}"));
    }
    let captured = capture.stop().expect("the capture ends");
    assert!(captured.count("icmp[0] == 3 and icmp[1] == 4").expect("it is read") > 0, "fragmentation needed");
    assert!(captured.count("icmp6[0] == 2").expect("it is read") > 0, "packet too big");
    for address in [DVIPA.0.to_string(), DVIPA.1.to_string()] {
        let route = lab.client().run(&["ip", "route", "get", &address]).expect("ip runs");
        let mtu =
            route.split_whitespace().skip_while(|w| *w != "mtu").nth(1).and_then(|m| m.parse::<u16>().ok());
        // GUE in IPv4 takes 20 + 8 + 4 bytes.
        assert_eq!(mtu, Some(1500 - 32), "the client knows the path MTU of {address}: {route}");
    }
    assert!(lab.counter("answered_too_big").expect("baton stats answers") >= 2);
}

/// F6: datagrams in fragments arrive whole at the target that has the flow.
#[test]
#[ignore = "needs root"]
fn fragments_follow_their_first_one() {
    let (lab, _servers) = udp_lab();
    for to in [dvipa4(5300), dvipa6(5300)] {
        for (socket, target) in flows(&lab, to) {
            for bytes in [3000, 9000, 20_000] {
                assert_eq!(answered(&lab, &socket, bytes), format!("{target} {bytes}"));
            }
        }
    }
    assert!(lab.counter("forwarded_fragment").expect("baton stats answers") > 0);
}

/// F6: TCP fits by itself, because the agent clamps the MSS of its SYN-ACKs: no ICMP is needed.
#[test]
#[ignore = "needs root"]
fn tcp_needs_no_icmp_because_the_mss_is_clamped() {
    let lab = lab(Spec::default());
    let syn_acks = lab.capture("client", "eth0", "src port 80").expect("a capture");
    let body = lab.files().join("body");
    std::fs::write(&body, vec![b'x'; 1 << 20]).expect("a file is written");
    for to in [web4(), web6()] {
        let (data, url) = (format!("@{}", body.display()), format!("http://{to}/"));
        let words = ["curl", "-sf", "--max-time", "30", "--data-binary", &data, &url];
        lab.client().run(&words).expect("a MiB is taken");
    }
    let captured = syn_acks.stop().expect("the capture ends");
    let mut sizes = Vec::new();
    for filter in ["ip and tcp[13] == 18", "ip6 and ip6[53] == 18"] {
        for line in captured.packets(filter).expect("it is read") {
            let mss = line
                .split("mss ")
                .nth(1)
                .and_then(|r| r.split([',', ']']).next())
                .and_then(|m| m.parse().ok());
            sizes.push(mss.unwrap_or(0_u16));
        }
    }
    assert_eq!(sizes.len(), 2);
    // The room that is left of 1500 bytes by GUE in IPv4 and the inner IP and TCP headers.
    assert!(sizes[0] <= 1500 - 32 - 40 && sizes[1] <= 1500 - 32 - 60, "{sizes:?}");
    assert_eq!(lab.counter("answered_too_big").expect("baton stats answers"), 0);
}

/// F6: an ICMP error about a connection goes to the stack that has it.
#[test]
#[ignore = "needs root"]
fn an_icmp_error_goes_to_the_stack_that_has_the_connection() {
    let (lab, _servers) = udp_lab();
    // The client's kernel says each time that a port is closed.
    let unlimited = "echo 0 >/proc/sys/net/ipv4/icmp_ratelimit; echo 0 >/proc/sys/net/ipv6/icmp/ratelimit";
    lab.client().sh(unlimited).expect("its limit is off");
    let captures = TARGETS.map(|t| lab.capture(t, "eth0", "udp port 6080").expect("a capture"));
    let mut told = [0; 3];
    for to in [dvipa4(5300), dvipa6(5300)] {
        for (number, target) in TARGETS.iter().enumerate() {
            lab.wait_for(&format!("an error about a flow of {target}"), SOON, || {
                let (socket, has) = flow(&lab, to);
                if has != *target {
                    return Err(format!("a flow of {has}"));
                }
                let before = lab.counter("forwarded_icmp_error").map_err(|e| e.to_string())?;
                // The client asks and is gone before the answer.
                socket.send(b"gone").map_err(|e| e.to_string())?;
                drop(socket);
                std::thread::sleep(Duration::from_millis(100));
                let errors = lab.counter("forwarded_icmp_error").map_err(|e| e.to_string())? - before;
                told[number] += errors;
                if errors == 1 { Ok(()) } else { Err(format!("{errors} errors")) }
            })
            .unwrap_or_else(|e| panic!("{e}"));
        }
    }
    // The protocol of the packet in GUE: ICMP in IPv4, ICMPv6 in IPv6.
    let errors = "(udp[12] & 0xf0 == 0x40 and udp[21] == 1) or (udp[12] & 0xf0 == 0x60 and udp[18] == 58)";
    let received = captures.map(|c| c.stop().and_then(|c| c.count(errors)).expect("it is read") as u64);
    assert_eq!(received, told, "each target hears of its own flows");
}
