//! Targets whose kernel is older than the machine's, in virtual machines. `scripts/test kernels` makes what is booted and runs
//! these tests.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use lab::client::{self, HttpConnection, ask_often};
use lab::spec::{self, DVIPA, Nic};
use lab::{Lab, Spec};

use crate::containers::{behind_dnat, live_behind_dnat};
use crate::fixture::{SOON, connect, lab, web4, web6};

/// Bytes of a download during which the connection moves.
const DOWNLOAD_BYTES: usize = 8 << 20;

/// A connection of the client that this target has.
fn connection_at(lab: &Lab, to: SocketAddr, target: &str) -> HttpConnection {
    let mut tried = (0..3).map(|_| connect(lab, to));
    let found = tried.find_map(|(connection, at)| (at == target).then_some(connection));
    found.unwrap_or_else(|| panic!("round robin reaches {target}"))
}

fn move_to(lab: &Lab, connection: &HttpConnection, to: SocketAddr, target: &str) -> lab::Result<String> {
    crate::fixture::established(lab, connection);
    lab.baton(&["move", &connection.local().to_string(), &to.to_string(), target])
}

/// Starts an application on a stack that takes what is transferred to it, beside the nginx there, which gets no more clients.
fn start_target(lab: &Lab, stack: &str, job: &str) {
    let (v4, v6) = (DVIPA.0.to_string(), DVIPA.1.to_string());
    let words = ["http", "target", "--hold-accepts", job, "80", &v4, &v6];
    lab.start_application(stack, job, &words).expect("it starts");
}

/// R11: a target with Debian 12's own kernel (Linux 6.1) beside targets with the machine's. It serves clients of both families; its
/// connections move to the others, from an unmodified server and from an application; its applications take connections. What its
/// kernel lacks is in its status, and what would need that is refused with the reason while the connection goes on.
#[test]
#[ignore = "needs root and a guest"]
fn a_target_with_linux_6_1_takes_part_in_all_but_injection() {
    let lab = lab(Spec { kernels: BTreeMap::from([("t1".into(), "6.1".into())]), ..Spec::default() });
    let status = lab.agent_status("t1").expect("its agent answers");
    assert!(status["kernel"].as_str().is_some_and(|kernel| kernel.starts_with("6.1.")), "{status}");
    let lacks = status["lacks"].as_array().expect("a list");
    assert!(lacks.len() == 1 && lacks[0].to_string().contains("it takes Linux 6.9"), "{lacks:#?}");
    let newer = lab.agent_status("t2").expect("its agent answers");
    assert!(!newer["lacks"].to_string().contains("6.9"), "{newer}");

    for to in [web4(), web6()] {
        let answers: Vec<_> = ask_often(lab.client(), to, 9).into_iter().collect();
        assert_eq!(answers, ["t1", "t2", "t3"].map(|target| (target.to_owned(), 3)));
        let mut connection = connection_at(&lab, to, "t1");
        assert_eq!(connection.get("/big").expect("8 MiB come").len(), 8 << 20);
        assert_eq!(connection.target().expect("it is answered"), "t1");
        // An old kernel's connection into a newer one's listener, and not back.
        move_to(&lab, &connection, to, "t2").unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(connection.target().expect("it is answered"), "t2");
        let refused =
            move_to(&lab, &connection, to, "t1").expect_err("nothing puts it into a listener there");
        assert!(refused.to_string().contains("Linux 6.9"), "{refused}");
        assert_eq!(connection.target().expect("it goes on"), "t2");
    }
    let moved = lab.transfers().expect("they are counted");
    assert_eq!((moved["injected"], moved["no_way"]), (2, 2), "{moved:?}");

    start_target(&lab, "t1", "old");
    start_target(&lab, "t3", "new");
    lab.wait_for_targets(80, &["t2"]).unwrap_or_else(|e| panic!("{e}"));
    let (example, file) = (lab.example("http").expect("it is built"), lab.files().join("content"));
    let write = format!("{} content {DOWNLOAD_BYTES} >{}", example.display(), file.display());
    lab.client().sh(&write).expect("it is written");
    let content = std::fs::read(file).expect("it is read");
    for to in [web4(), web6()] {
        // TCP_REPAIR takes it out of the new kernel and puts it into the old one, and back, in the middle of an answer.
        let mut connection = connection_at(&lab, to, "t2");
        move_to(&lab, &connection, to, "old@t1").unwrap_or_else(|e| panic!("{e}"));
        let path = format!("/download/{DOWNLOAD_BYTES}?via=new@t3,old@t1");
        let body = connection.get(&path).expect("it comes whole");
        assert!(body == content, "every byte of {} in order", body.len());
        assert_eq!(crate::fixture::established(&lab, &connection).stack, "t1");
    }
    let moved = lab.transfers().expect("they are counted");
    assert_eq!(moved["restored"], 6, "{moved:?}");
}

/// A server that answers each datagram with its length, on the wildcard addresses.
const LENGTHS: &str = "import socket\n\
    s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)\n\
    s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)\n\
    s.bind(('::', 5300))\n\
    while True:\n\
    \x20   d, a = s.recvfrom(70000); s.sendto(str(len(d)).encode(), a)\n";

/// R5, R11: a target with Linux 6.1 takes datagrams that come in fragments and answers from the DVIPA.
#[test]
#[ignore = "needs root and a guest"]
fn a_target_with_linux_6_1_takes_datagrams_in_fragments() {
    let udp = "ports = [5300]\nprotocol = \"udp\"\ndestip = \"all\"";
    let tables = spec::both_families(udp);
    let kernels = BTreeMap::from([("t1".into(), "6.1".into())]);
    let spec = Spec { targets: 1, nic: Nic::AfXdp, kernels, ..Spec::default() };
    let lab = lab(spec.vipadynamic(tables).web([]));
    lab.start_on("t1", "lengths", &["/usr/bin/python3", "-c", LENGTHS]).expect("it starts");
    lab.wait_for("the server of datagrams", SOON * 3, || {
        let rows = lab.dpt().map_err(|e| e.to_string())?;
        let mut udp = rows.iter().filter(|row| row.protocol == "udp");
        if udp.all(|row| row.selectable() == ["t1"]) { Ok(()) } else { Err(format!("{rows:#?}")) }
    })
    .unwrap_or_else(|e| panic!("{e}"));
    for dvipa in [DVIPA.0.into(), DVIPA.1.into()] {
        let socket = client::udp(lab.client(), SocketAddr::new(dvipa, 5300)).expect("a socket");
        socket.set_read_timeout(Some(SOON)).expect("a time-out");
        for bytes in [100, 1700, 8000, 65_000] {
            let mut answer = [0; 16];
            let mut ask = || {
                socket.send(&vec![7; bytes])?;
                socket.recv(&mut answer)
            };
            // An IPv6 client learns the path's MTU from its first datagram that is too long.
            let length = match ask() {
                Err(e) if e.raw_os_error() == Some(nix::libc::EMSGSIZE) => ask(),
                answered => answered,
            };
            let length = length.unwrap_or_else(|e| panic!("{dvipa}, {bytes}: {e}"));
            assert_eq!(&answer[..length], bytes.to_string().as_bytes());
        }
    }
}

/// R2, R11: a container behind the DNAT of a target with Linux 6.1, whose kernel refuses the filter of a dump of tracked connections.
#[test]
#[ignore = "needs root and a guest"]
fn a_container_behind_the_dnat_of_linux_6_1_serves() {
    let kernels = BTreeMap::from([("t1".into(), "6.1".into())]);
    live_behind_dnat(&lab(Spec { targets: 1, kernels, ..behind_dnat() }));
}
