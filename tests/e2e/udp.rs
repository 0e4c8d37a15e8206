//! UDP: servers that know nothing of DVIPAs, flows that last as long as their servers, datagrams of any size.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use lab::spec::{self, DVIPA};
use lab::{Lab, Server, Spec, client};
use model::dpt::Encapsulation;

use crate::fixture::{SOON, any, dvipa4, lab};

const PORT: u16 = 5300;
const TARGETS: [&str; 3] = ["t1", "t2", "t3"];

fn dvipa6(port: u16) -> SocketAddr {
    SocketAddr::new(DVIPA.1.into(), port)
}

/// A lab whose port 5300 of both DVIPAs is distributed to all targets.
fn udp_spec() -> Spec {
    let tables = spec::both_families("ports = [5300]\nprotocol = \"udp\"\ndestip = \"all\"");
    Spec::default().vipadynamic(tables).web([])
}

/// The target's server, bound to the wildcard address.
fn serve(lab: &Lab, target: &str) -> Server {
    Server::udp(lab.host(target), any(PORT), target).expect("it listens")
}

fn wait_for_targets(lab: &Lab, targets: &[&str]) {
    lab.wait_for(&format!("the targets to be {targets:?}"), Duration::from_secs(30), || {
        let rows = lab.dpt().map_err(|e| e.to_string())?;
        let good = rows.len() == 2 && rows.iter().all(|row| row.selectable() == targets);
        if good { Ok(()) } else { Err(format!("{rows:#?}")) }
    })
    .unwrap_or_else(|e| panic!("{e}"));
}

/// A lab with a server on each target.
fn served(spec: Spec) -> (Lab, Vec<Server>) {
    let lab = lab(spec);
    let servers = TARGETS.map(|target| serve(&lab, target)).into();
    wait_for_targets(&lab, &TARGETS);
    (lab, servers)
}

/// A connected socket: it hears nothing that comes from another address than it sends to.
fn flow(lab: &Lab, to: SocketAddr) -> UdpSocket {
    client::udp(lab.client(), to).expect("a socket")
}

/// Who answers a datagram of this socket.
fn ask(socket: &UdpSocket) -> Result<String, String> {
    let mut answer = [0; 64];
    socket.send(b"who").map_err(|e| e.to_string())?;
    let bytes = socket.recv(&mut answer).map_err(|e| e.to_string())?;
    Ok(String::from_utf8_lossy(&answer[..bytes]).trim_end_matches(" 3").to_owned())
}

/// R5: an unmodified server that is bound to the wildcard address answers from the DVIPA, whatever its packets come in; so it
/// does to clients that share a port, and from the host's own address to clients that ask that.
#[test]
#[ignore = "needs root"]
fn a_server_bound_to_the_wildcard_address_answers_from_the_dvipa() {
    let mut spec = udp_spec();
    for (target, encapsulation) in [("t2", Encapsulation::Ipip), ("t3", Encapsulation::L2)] {
        spec.encapsulation_of.insert(target.to_owned(), encapsulation);
    }
    let (lab, _servers) = served(spec);
    for to in [dvipa4(PORT), dvipa6(PORT)] {
        let flows: Vec<_> = TARGETS.iter().map(|_| flow(&lab, to)).collect();
        let answers: BTreeSet<_> =
            flows.iter().map(|flow| ask(flow).expect("an answer from the DVIPA")).collect();
        assert_eq!(answers, TARGETS.map(str::to_owned).into());
    }
    lab.client().sh("ip addr add 198.18.0.99/16 dev eth0").expect("a second client address");
    let of_both = [Ipv4Addr::new(198, 18, 0, 2), Ipv4Addr::new(198, 18, 0, 99)].map(|address| {
        let socket = lab.client().enter(|| UdpSocket::bind((address, 4000))).expect("it binds");
        lab.client().enter(|| socket.connect(dvipa4(PORT))).expect("it connects");
        socket.set_read_timeout(Some(SOON)).expect("a time-out");
        socket
    });
    for socket in of_both.iter().cycle().take(6) {
        ask(socket).expect("an answer from the DVIPA");
    }
    // One port asks the DVIPA, then the host, then the DVIPA.
    let (t1, v6) = spec::host(spec::target(1));
    for (own, dvipa) in
        [(SocketAddr::new(t1.into(), PORT), dvipa4(PORT)), (SocketAddr::new(v6.into(), PORT), dvipa6(PORT))]
    {
        let socket = flow(&lab, dvipa);
        for to in [dvipa, own, dvipa, own] {
            lab.client().enter(|| socket.connect(to)).expect("it connects");
            ask(&socket).unwrap_or_else(|e| panic!("{to}: {e}"));
        }
    }
    let status = lab.agent("t1").expect("it answers");
    assert!(!status["lacks"].to_string().contains("UDP"), "{status}");
}

/// R5: a resolver's clients take answers only from the address that they asked. A server that connects its socket to its client
/// answers from the host's address, as docs/lifetimes.md says.
#[test]
#[ignore = "needs root"]
fn dig_is_answered_by_a_resolver_that_knows_nothing_of_dvipas() {
    let tables = spec::both_families("ports = [53, 5201]\nprotocol = \"udp\"\ndestip = \"all\"");
    let spec = Spec { targets: 1, ..Spec::default() };
    let lab = lab(spec.vipadynamic(tables).web([]));
    lab.start_on("t1", "dns", &["/usr/bin/python3", "-c", RESOLVER]).expect("it starts");
    lab.start_on("t1", "connects", &["/usr/bin/python3", "-c", CONNECTS]).expect("it starts");
    for dvipa in [DVIPA.0.to_string(), DVIPA.1.to_string()] {
        lab.wait_for("an answer to dig", SOON, || {
            let at = format!("@{dvipa}");
            let words = ["dig", at.as_str(), "+short", "+tries=1", "+timeout=1", "baton.example", "A"];
            let answer = lab.client().run(&words).map_err(|e| e.to_string())?;
            if answer.trim() == "192.0.2.53" { Ok(()) } else { Err(answer) }
        })
        .unwrap_or_else(|e| panic!("{e}"));
    }
    let socket = lab.client().enter(|| UdpSocket::bind("0.0.0.0:0")).expect("a socket");
    socket.set_read_timeout(Some(Duration::from_millis(500))).expect("a time-out");
    let from = lab.wait_for("an answer of the connected socket", SOON, || {
        socket.send_to(b"who", dvipa4(5201)).map_err(|e| e.to_string())?;
        socket.recv_from(&mut [0; 64]).map_err(|e| e.to_string())
    });
    assert_eq!(from.unwrap_or_else(|e| panic!("{e}")).1.ip(), spec::host(spec::target(1)).0);
}

/// Connects its socket to its first client.
const CONNECTS: &str = r#"
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("0.0.0.0", 5201))
q, client = s.recvfrom(4096)
s.connect(client)
while True:
    s.send(q)
    q = s.recv(4096)
"#;

/// Answers every question with one address (RFC 1035 4.1), bound to the wildcard addresses of both families.
const RESOLVER: &str = r#"
import socket
s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
s.bind(("::", 53))
while True:
    q, client = s.recvfrom(4096)
    end = q.index(b"\0", 12) + 5
    head = q[:2] + b"\x84\x00\x00\x01\x00\x01\x00\x00\x00\x00"
    answer = b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\xc0\x00\x02\x35"
    s.sendto(head + q[12:end] + answer, client)
"#;

/// R5: a flow goes on at another target when its server has ended, and at a drained one as long as that serves.
#[test]
#[ignore = "needs root"]
fn a_flow_ends_with_its_server_and_not_with_a_drain() {
    let (lab, servers) = served(udp_spec());
    let mut servers: Vec<_> = TARGETS.into_iter().zip(servers).collect();
    for to in [dvipa4(PORT), dvipa6(PORT)] {
        let flow = flow(&lab, to);
        flow.set_read_timeout(Some(Duration::from_millis(200))).expect("a time-out");
        let first = ask(&flow).expect("an answer");
        lab.baton(&["drain", &first]).expect("it drains");
        for _ in 0..5 {
            assert_eq!(ask(&flow).as_deref(), Ok(first.as_str()), "a drained target keeps its flows");
        }
        servers.retain(|(target, _)| *target != first);
        let ended = Instant::now();
        let next =
            lab.wait_for("another target's answer", SOON, || ask(&flow)).unwrap_or_else(|e| panic!("{e}"));
        assert!(
            next != first && ended.elapsed() < Duration::from_secs(2),
            "{next} after {:?}",
            ended.elapsed()
        );
        let serves = TARGETS.into_iter().find(|target| *target == first).expect("a target");
        servers.push((serves, serve(&lab, serves)));
        lab.baton(&["resume", &first]).expect("it resumes");
        wait_for_targets(&lab, &TARGETS);
        assert_eq!(ask(&flow).as_deref(), Ok(next.as_str()), "and it stays there");
    }
}

/// R5: a flow whose datagrams are rare keeps its target for `idle_udp_s`.
#[test]
#[ignore = "needs root"]
fn a_slow_flow_keeps_its_target() {
    let (lab, _servers) = served(udp_spec().forwarder("idle_udp_s = 4\nhalf_open_s = 1"));
    let flows = [dvipa4(PORT), dvipa4(PORT), dvipa6(PORT)].map(|to| flow(&lab, to));
    let first = flows.each_ref().map(|flow| ask(flow).expect("an answer"));
    for _ in 0..2 {
        thread::sleep(Duration::from_millis(2500));
        assert_eq!(flows.each_ref().map(|flow| ask(flow).expect("an answer")), first);
    }
    let states: BTreeSet<_> = lab.crt(&[]).expect("rows").into_iter().map(|row| row.state).collect();
    assert_eq!(states, ["established".to_owned()].into());
}

/// R5: after a restart of `batond` the agents tell it of the flows that they have, and each goes on at its target.
#[test]
#[ignore = "needs root"]
fn flows_survive_a_restart_of_batond() {
    let (lab, _servers) = served(udp_spec());
    let flows: Vec<_> = [dvipa4(PORT), dvipa6(PORT)].repeat(6).into_iter().map(|to| flow(&lab, to)).collect();
    let first: Vec<_> = flows.iter().map(|flow| ask(flow).expect("an answer")).collect();
    assert_eq!(first.iter().collect::<BTreeSet<_>>().len(), 3);
    lab.kill("batond").expect("it is killed");
    lab.start_batond().expect("it starts");
    wait_for_targets(&lab, &TARGETS);
    lab.wait_for("all flows to be told of", SOON, || {
        let rows = lab.crt(&[]).map_err(|e| e.to_string())?;
        if rows.len() == flows.len() { Ok(()) } else { Err(format!("{rows:#?}")) }
    })
    .unwrap_or_else(|e| panic!("{e}"));
    for (flow, target) in flows.iter().zip(&first) {
        let again = lab.wait_for("an answer", SOON, || ask(flow)).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(&again, target);
    }
}

/// R5: datagrams that their sender fragments, and that the kernel joins on the way to a packet socket, are answered whatever their
/// size.
#[test]
#[ignore = "needs root"]
fn large_datagrams_are_answered_over_a_packet_socket() {
    let (lab, _servers) = served(udp_spec());
    for to in [dvipa4(PORT), dvipa6(PORT)] {
        for bytes in [1400, 1700, 3000, 8000] {
            let flow = flow(&lab, to);
            flow.set_read_timeout(Some(Duration::from_millis(500))).expect("a time-out");
            let answer = lab.wait_for(&format!("{bytes} bytes to {to} to be answered"), SOON, || {
                let mut answer = [0; 64];
                flow.send(&vec![b'x'; bytes]).map_err(|e| e.to_string())?;
                let n = flow.recv(&mut answer).map_err(|e| e.to_string())?;
                Ok(String::from_utf8_lossy(&answer[..n]).into_owned())
            });
            let answer = answer.unwrap_or_else(|e| panic!("{e}"));
            assert!(answer.ends_with(&format!(" {bytes}")), "{answer}");
        }
    }
    assert_eq!(lab.counter("bad_length").expect("baton stats answers"), 0);
}
