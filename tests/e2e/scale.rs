//! What a change costs in a cluster that is large.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};

use lab::namespace::Namespace;
use lab::{Lab, Spec, spec};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrIn, SockaddrStorage, bind, connect, getpeername,
    listen, setsockopt, socket, sockopt::ReuseAddr,
};
use serde_json::Value;

use crate::fixture::{SOON, lab};

const TARGETS: [&str; 3] = ["t1", "t2", "t3"];
const PORTS: [u16; 2] = [80, 443];
const DVIPAS: u16 = 1000;
const CROWD: usize = 4000;

/// The DVIPA with this number.
fn dvipa(number: u16) -> IpAddr {
    let [network, host] = [number / 250, number % 250 + 1].map(|n| u8::try_from(n).expect("a thousand fit"));
    Ipv4Addr::new(198, 18, 16 + network, host).into()
}

/// A listener on the wildcard address whose connections nobody accepts, and that takes as many as the kernel lets it.
fn listener(ns: &Namespace, port: u16) -> OwnedFd {
    ns.enter(|| {
        let fd = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
        setsockopt(&fd, ReuseAddr, &true)?;
        bind(fd.as_raw_fd(), &SockaddrIn::new(0, 0, 0, 0, port))?;
        listen(&fd, Backlog::MAXALLOWABLE)?;
        nix::Result::Ok(fd)
    })
    .expect("it listens")
}

/// Connections that are begun as fast as the client's kernel sends SYNs.
fn crowd(ns: &Namespace, to: SocketAddr) -> Vec<OwnedFd> {
    let begin = || {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = socket(AddressFamily::Inet, SockType::Stream, flags, None)?;
        match connect(fd.as_raw_fd(), &SockaddrStorage::from(to)) {
            Ok(()) | Err(Errno::EINPROGRESS) => nix::Result::Ok(fd),
            Err(error) => Err(error),
        }
    };
    ns.enter(|| (0..CROWD).map(|_| begin()).collect::<nix::Result<_>>()).expect("the connections begin")
}

/// A number of `baton status`.
fn shown(lab: &Lab, number: &str) -> Result<u64, String> {
    let status: Value = lab.baton_json(&["status"]).map_err(|e| e.to_string())?;
    status.pointer(number).and_then(Value::as_u64).ok_or(format!("{number} is missing: {status}"))
}

/// R10: in a cluster of a thousand DVIPAs with two ports each, four thousand connections that begin together are all confirmed,
/// and the DPT is published for none of them, nor once for each listen that the targets had reported before.
#[test]
#[ignore = "needs root"]
fn a_crowd_at_one_of_a_thousand_dvipas_is_confirmed_without_a_new_dpt() {
    let distribute = format!("ports = {PORTS:?}\ndestip = \"all\"\nmethod = \"round-robin\"");
    let tables: String = (0..DVIPAS).map(|n| spec::dvipa(dvipa(n), 24, &[&distribute])).collect();
    let lab = lab(Spec::default().web([]).vipadynamic(format!("[[vipadynamic]]\n{tables}")));
    let targets = || TARGETS.into_iter().flat_map(|target| PORTS.map(|port| (target, port)));
    let _listeners: Vec<OwnedFd> = targets().map(|(target, port)| listener(lab.host(target), port)).collect();
    for port in PORTS {
        lab.wait_for_targets(port, &TARGETS).unwrap_or_else(|e| panic!("{e}"));
    }
    assert_eq!(shown(&lab, "/services"), Ok(u64::from(DVIPAS) * 2));
    let built = shown(&lab, "/generation").unwrap();

    let crowd = crowd(lab.client(), SocketAddr::new(dvipa(DVIPAS / 2), PORTS[1]));
    lab.wait_for("every connection to be confirmed", SOON, || {
        let [open, half] = ["/crt/entries_v4", "/crt/half_open"].map(|number| shown(&lab, number));
        let (open, half) = (open?, half?);
        let all = open == CROWD as u64 && half == 0;
        if all { Ok(()) } else { Err(format!("{open} are confirmed, {half} are half open")) }
    })
    .unwrap_or_else(|e| panic!("{e}"));
    let connected = crowd.iter().filter(|fd| getpeername::<SockaddrStorage>(fd.as_raw_fd()).is_ok()).count();
    assert_eq!(connected, CROWD);
    let published = shown(&lab, "/generation").unwrap() - built;
    assert!(built < u64::from(DVIPAS), "{built} DPTs for {DVIPAS} DVIPAs: one for each report");
    println!("{built} DPTs until all targets served, {published} while the crowd came");
    assert_eq!(published, 0, "a connection changes no DPT");
}
