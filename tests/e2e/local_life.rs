//! The cluster's hosts as clients of its DVIPAs.

use std::net::SocketAddr;
use std::time::Duration;

use lab::client::{self, HttpConnection};
use lab::spec::{self, DVIPA};
use lab::{Lab, Server, Spec};

use crate::fixture::{any, dvipa4, lab};

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
    let socket = client::udp(lab.host(host), to).expect("a socket");
    let mut answer = [0; 64];
    socket.send(b"who").expect("it is sent");
    let bytes = socket.recv(&mut answer).unwrap_or_else(|e| panic!("{host} asks {to}: {e}"));
    String::from_utf8_lossy(&answer[..bytes]).into_owned()
}

/// R7: programs on a target reach a port of its own DVIPA that only another target serves, TCP and UDP, both families.
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
        }
    }
    // What another target begins to serve is served to its own programs there.
    let _own = Server::tcp(lab.host("t1"), any(7), "t1").expect("it listens");
    assert_eq!(client::ask(lab.host("t1"), dvipa4(7)).expect("t1 answers itself"), "t1");
}

/// R7: a program on a drained target reaches the targets that still serve, once its own server is gone.
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
