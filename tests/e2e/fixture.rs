//! What most tests say first.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use lab::client::HttpConnection;
use lab::spec::DVIPA;
use lab::view::CrtRow;
use lab::{Lab, Spec};

/// How long something may take that happens at once: the machine is shared by several labs.
pub(crate) const SOON: Duration = Duration::from_secs(10);

/// The default lab's IPv4 service.
pub(crate) fn web4() -> SocketAddr {
    dvipa4(80)
}

/// The default lab's IPv6 service.
pub(crate) fn web6() -> SocketAddr {
    SocketAddr::new(DVIPA.1.into(), 80)
}

/// A port of the IPv4 DVIPA.
pub(crate) fn dvipa4(port: u16) -> SocketAddr {
    SocketAddr::new(DVIPA.0.into(), port)
}

/// A port of all addresses of both families.
pub(crate) fn any(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::from([0u16; 8]), port)
}

/// A lab that is ready.
pub(crate) fn lab(spec: Spec) -> Lab {
    Lab::start(spec).unwrap_or_else(|e| panic!("{e}"))
}

/// A connection of the client to the DVIPA with the name of the target that it was given.
pub(crate) fn connect(lab: &Lab, to: SocketAddr) -> (HttpConnection, String) {
    let mut connection = HttpConnection::open(lab.client(), to).expect("the client connects");
    let target = connection.target().expect("a target answers");
    (connection, target)
}

/// Waits until the CRT has this connection as established, and returns its row.
pub(crate) fn established(lab: &Lab, connection: &HttpConnection) -> CrtRow {
    let client = connection.local().to_string();
    lab.wait_for(&format!("{client} to be established"), SOON, || {
        let rows = lab.crt(&[]).map_err(|e| e.to_string())?;
        rows.iter()
            .find(|r| r.client == client && r.state == "established")
            .cloned()
            .ok_or(format!("{rows:#?}"))
    })
    .unwrap_or_else(|e| panic!("{e}"))
}

/// What each worker of the last `batond` that has ended counted, by the counter's name.
pub(crate) fn counts_of_workers(lab: &Lab) -> Vec<BTreeMap<String, u64>> {
    let log = std::fs::read_to_string(lab.files().join("batond.log")).expect("its log");
    let counts = |line: &str| -> BTreeMap<String, u64> {
        let words =
            line.split_whitespace().filter_map(|word| word.trim_start_matches("counts=").split_once('='));
        words.filter_map(|(name, count)| Some((name.to_owned(), count.parse().ok()?))).collect()
    };
    let mut last: Vec<_> =
        log.lines().rev().filter(|line| line.contains("worker ended")).take(2).map(counts).collect();
    last.reverse();
    last
}

/// Sends requests over a connection until one is answered, as a person would who presses reload: the connection must
/// not be reset, and `target` must answer.
pub(crate) fn still_answered_by(connection: &mut HttpConnection, target: &str) {
    let begun = Instant::now();
    let answer = connection.target().unwrap_or_else(|e| panic!("after {:?}: {e}", begun.elapsed()));
    assert_eq!(answer, target);
}
