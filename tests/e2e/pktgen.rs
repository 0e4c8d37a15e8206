//! The scripts of `perf/pktgen/`, as far as they run without two NICs.

use lab::fabric::mac;
use lab::spec::{self, DVIPA};
use lab::{Lab, Server, Spec, Web};
use model::dpt::Encapsulation;

use crate::fixture::{SOON, dvipa4, lab};

const PORT: u16 = 5300;
/// Mbit/s that the scripts take the client's link for: 2976 frames of 64 bytes a second, so few that a worker whose core
/// others use too loses none.
const LINE_MBIT: &str = "2";

/// Percent of the line that the scripts find without loss, for 64- and 512-byte frames.
fn throughput(lab: &Lab) -> [f64; 2] {
    let counter = format!("ip netns exec {} nft list counter netdev seen datagrams", lab.host("t1").name());
    let count = format!("{counter} | sed -n 's/.*packets \\([0-9]*\\).*/\\1/p'");
    let mut lua = lab.client().command("lua5.4");
    lua.current_dir(env!("CARGO_MANIFEST_DIR")).args(["perf/pktgen/test/veth.lua", "eth0", &mac(10)]);
    lua.args([&DVIPA.0.to_string(), &PORT.to_string(), LINE_MBIT, &count]);
    let output = lua.output().expect("lua5.4 runs");
    let (said, problem) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}{problem}");
    let rates: Vec<f64> =
        said.lines().filter_map(|line| line.split_whitespace().nth(1)?.parse().ok()).collect();
    rates.try_into().unwrap_or_else(|_| panic!("two rates: {said}"))
}

/// F4: RFC 2544's search on batond between veths: the whole line, and a third of it behind a link that carries no more.
#[test]
#[ignore = "needs root"]
fn the_throughput_search_finds_what_batond_and_the_link_before_it_carry() {
    let tables = spec::ipv4_only(&[&format!("ports = [{PORT}]\nprotocol = \"udp\"\ndestip = \"all\"")]);
    let spec = Spec { targets: 1, ..Spec::default() }
        .encapsulation(Encapsulation::Ipip)
        .vipadynamic(tables)
        .web([] as [Web; 0]);
    let lab = lab(spec);
    let _server = Server::udp(lab.host("t1"), dvipa4(PORT), "t1").expect("a UDP server");
    lab.wait_for("t1 to be the target", SOON, || {
        let rows = lab.dpt().map_err(|e| e.to_string())?;
        let good = rows.iter().all(|row| row.selectable() == ["t1"]) && !rows.is_empty();
        if good { Ok(()) } else { Err(format!("{rows:#?}")) }
    })
    .expect("the listen is reported");
    // What the agent's program has decapsulated.
    let seen = format!(
        "nft 'add table netdev seen; add counter netdev seen datagrams; \
         add chain netdev seen in {{ type filter hook ingress device eth0 priority 0; }}; \
         add rule netdev seen in ip daddr {} udp dport {PORT} counter name datagrams'",
        DVIPA.0
    );
    lab.host("t1").sh(&seen).expect("a counter");
    let [small, large] = throughput(&lab);
    // Less than all of it only if the machine was so busy that a trial lost something after all.
    assert!(small > 85.0 && large > 85.0, "{small} % and {large} % of the line without loss");
    let slow = "nft 'add table netdev slow; \
         add chain netdev slow out { type filter hook egress device eth0 priority 0; }; \
         add rule netdev slow out ether type ip limit rate over 1000/second burst 20 packets drop'";
    lab.client().sh(slow).expect("a slow link");
    let [small, _] = throughput(&lab);
    assert!((15.0..=38.0).contains(&small), "{small} % of the line, of which 33.6 % are carried");
}
