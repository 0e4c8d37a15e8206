//! What is counted by service and target.

use std::collections::BTreeMap;

use lab::client::{self, HttpConnection};
use lab::spec::{DVIPA, both_families};
use lab::{Lab, Server, Spec};
use serde_json::Value;

use crate::fixture::{SOON, dvipa4, lab, web4, web6};
use crate::transfer::url;

const TARGETS: [&str; 3] = ["t1", "t2", "t3"];
/// Bytes of the Ethernet, IPv4, UDP and GUE headers before a forwarded packet.
const CARRIED_IN: u64 = 14 + 20 + 8 + 4;
/// Bytes of the datagrams that a client sends to the UDP service.
const DATAGRAMS: std::ops::Range<usize> = 10..60;

/// Packets and bytes of the rows that pass.
fn sum(shares: &Value, passes: impl Fn(&Value) -> bool) -> (u64, u64) {
    let rows = shares.as_array().expect("a list").iter().filter(|row| passes(row));
    let numbers = rows.map(|row| [&row["packets"], &row["bytes"]].map(|n| n.as_u64().expect("a number")));
    numbers.fold((0, 0), |sum, [packets, bytes]| (sum.0 + packets, sum.1 + bytes))
}

/// Requests, downloads and datagrams of the client.
fn traffic(lab: &Lab) {
    for to in [web4(), web6()].repeat(3) {
        HttpConnection::open(lab.client(), to).and_then(|mut c| c.target()).expect("a target answers");
    }
    for dvipa in [DVIPA.0.into(), DVIPA.1.into()] {
        let big = lab.client().sh(&format!("curl -sS --max-time 20 {} | wc -c", url(dvipa, "/big")));
        assert_eq!(big.expect("it comes").trim(), (8 << 20).to_string());
    }
    let (socket, mut answer) = (client::udp(lab.client(), dvipa4(5300)).expect("a socket"), [0; 64]);
    for bytes in DATAGRAMS {
        socket.send(&vec![7; bytes]).expect("it is sent");
        socket.recv(&mut answer).expect("it is answered");
    }
}

/// F1: packets and bytes by service and target are those that arrive at the targets' interfaces; a refusal is its service's.
#[test]
#[ignore = "needs root"]
fn packets_and_bytes_of_each_target_are_those_that_arrive_there() {
    let udp = format!(
        "[[vipadynamic.vipadistribute]]\naddress = \"{}\"\nports = [5300]\nprotocol = \"udp\"\ndestip = [\"t1\"]\n",
        DVIPA.0
    );
    let tables = both_families("ports = [80, 81]\ndestip = \"all\"") + &udp;
    let lab = lab(Spec::default().vipadynamic(tables));
    let _server = Server::udp(lab.host("t1"), dvipa4(5300), "t1").expect("it listens");
    lab.wait_for_targets(80, &TARGETS).unwrap_or_else(|e| panic!("{e}"));
    lab.wait_for("the datagram service", SOON, || {
        let rows = lab.dpt().map_err(|e| e.to_string())?;
        let row = rows.iter().find(|row| row.port == 5300).ok_or("no row")?;
        if row.selectable() == ["t1"] { Ok(()) } else { Err(format!("{row:#?}")) }
    })
    .unwrap_or_else(|e| panic!("{e}"));
    let before = lab.baton_json(&["dpt"]).expect("baton dpt answers");
    assert_eq!(sum(&before["shares"], |_| true), (0, 0), "{before:#}");

    let captures = TARGETS.map(|t| lab.capture(t, "eth0", "udp dst port 6080").expect("it captures"));
    traffic(&lab);
    client::ask(lab.client(), dvipa4(81)).expect_err("nothing listens there");
    let arrived: BTreeMap<&str, (u64, u64)> = TARGETS
        .into_iter()
        .zip(captures)
        .map(|(target, capture)| {
            let packets = capture.stop().and_then(|all| all.packets("")).expect("it is read");
            let bytes = packets.iter().map(|line| {
                let len = line.split(", length ").nth(1).and_then(|rest| rest.split(':').next());
                len.and_then(|len| len.parse::<u64>().ok()).unwrap_or_else(|| panic!("{line}")) - CARRIED_IN
            });
            (target, (packets.len() as u64, bytes.sum()))
        })
        .collect();

    let dpt = lab.baton_json(&["dpt"]).expect("baton dpt answers");
    for (target, arrived) in &arrived {
        assert_eq!(sum(&dpt["shares"], |row| row["stack"] == *target), *arrived, "{target}: {dpt:#}");
        assert!(arrived.0 >= 10, "{target} has served: {arrived:?}");
    }
    let sizes = DATAGRAMS.map(|bytes| bytes as u64 + 28);
    let datagrams = (DATAGRAMS.len() as u64, sizes.sum::<u64>());
    assert_eq!(sum(&dpt["shares"], |row| row["port"] == 5300), datagrams, "{dpt:#}");
    let refused = dpt["turned_away"].as_array().expect("a list");
    let refused: Vec<_> = refused.iter().map(|row| (&row["port"], &row["refused"])).collect();
    assert_eq!(refused, [(&Value::from(81), &Value::from(1))]);

    let stats = lab.baton_json(&["stats"]).expect("baton stats answers");
    assert_eq!(sum(&stats["shares"], |row| row["port"] == 5300), datagrams);
    let metrics = lab.host("rt1").run(&["curl", "-sf", "http://127.0.0.1:9440/metrics"]).expect("metrics");
    let labels = "{dvipa=\"198.18.9.1\",port=\"5300\",protocol=\"udp\",stack=\"t1\"}";
    for (name, value) in [("packets", datagrams.0), ("bytes", datagrams.1)] {
        let line = format!("baton_service_{name}_total{labels} {value}");
        assert!(metrics.lines().any(|l| l == line), "{line} is not in\n{metrics}");
    }
    let shown = lab.baton(&["dpt"]).expect("baton dpt answers");
    assert!(
        shown.contains(" BYTES ") && shown.contains("198.18.9.1:81/tcp: 1 packets were refused"),
        "{shown}"
    );
    let top = lab.baton(&["top", "--once"]).expect("baton top answers");
    assert!(top.contains("BYTES/S"), "{top}");
}
