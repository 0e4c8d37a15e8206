//! What belongs to one connection or datagram, and different workers receive. The lab's packet sockets give a worker each the packets
//! of some flows, by a hash over addresses, protocol and ports, but have the kernel join IPv4 fragments; libpcap on two interfaces
//! gives them to one worker, and everything else to the other.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use lab::spec::{self, CLIENT, DVIPA, Nic};
use lab::{Impairment, Lab, Server, Spec, client};
use nix::sys::signal::Signal;

use crate::fixture::{SOON, counts_of_workers, dvipa4, lab};
use crate::transfer::{curl, start_router, start_target, url};

const ECHO: u16 = 5300;
const TARGETS: [&str; 3] = ["t1", "t2", "t3"];
/// Datagrams in fragments, and how many fragments each has.
const DATAGRAMS: usize = 6;
const FRAGMENTS: usize = 7;
/// Routers that complain.
const ROUTERS: usize = 12;
/// Bytes of an upload during which its connection moves.
const UPLOAD_BYTES: usize = 16 << 20;

/// Every later fragment of IPv6 names another next header, which only the first one's means anything (RFC 8200 4.5): so their hashes
/// differ, and the first fragments all have the same. Datagrams with an odd number come with their first fragment last.
const SEND_FRAGMENTS: &str = r#"
import sys
from scapy.all import Ether, IP, IPv6, IPv6ExtHdrFragment, Raw, UDP, sendp
mac, client, dvipa, port, number, fragments = sys.argv[1:]
v6 = ":" in dvipa
whole = (IPv6 if v6 else IP)(src=client, dst=dvipa) / UDP(sport=int(port), dport=5300) / Raw(bytes(64 * int(fragments) - 8))
whole = bytes(whole)[40 if v6 else 20:]
number, parts = int(number), []
for at in range(0, len(whole), 64):
    more = int(at + 64 < len(whole))
    if v6:
        following = 17 if at == 0 else 143 + int(fragments) * number + at // 64
        head = IPv6(src=client, dst=dvipa, nh=44) / IPv6ExtHdrFragment(nh=following, m=more, offset=at // 8, id=number + 1)
    else:
        head = IP(src=client, dst=dvipa, proto=17, flags=more, frag=at // 8, id=number + 1)
    parts.append(Ether(dst=mac) / head / Raw(whole[at:at + 64]))
sendp(parts if number % 2 == 0 else parts[::-1], iface="eth0", verbose=0)
"#;

/// Each router says that the client can't be reached, and quotes what a target has sent.
const COMPLAIN: &str = r#"
import sys
from scapy.all import Ether, ICMP, ICMPv6DestUnreach, IP, IPv6, Raw, UDP, sendp
mac, client, dvipa, port, routers = sys.argv[1:]
for number in range(1, int(routers) + 1):
    udp = UDP(sport=5300, dport=int(port)) / Raw(bytes(20))
    if ":" in dvipa:
        error = IPv6(src=f"2001:db8:5::{number}", dst=dvipa) / ICMPv6DestUnreach() / IPv6(src=dvipa, dst=client) / udp
    else:
        error = IP(src=f"198.19.0.{number}", dst=dvipa) / ICMP(type=3, code=1) / IP(src=dvipa, dst=client) / udp
    sendp(Ether(dst=mac) / error, iface="eth0", verbose=0)
"#;

/// The routing node's address on the segment, as the client has it from ARP or neighbour discovery.
fn station(lab: &Lab, dvipa: IpAddr) -> String {
    let known = lab.client().run(&["ip", "neigh", "show", "to", &dvipa.to_string()]).expect("ip runs");
    let mac = known.split_whitespace().skip_while(|word| *word != "lladdr").nth(1);
    mac.unwrap_or_else(|| panic!("{dvipa} is known: {known}")).to_owned()
}

/// Runs a program of the client that sends frames to the routing node about this flow.
fn send(lab: &Lab, program: &str, flow: &UdpSocket, more: &[usize]) {
    let (from, to) = (flow.local_addr().expect("it is bound"), flow.peer_addr().expect("it is connected"));
    let client = if to.is_ipv4() { CLIENT.0.to_string() } else { CLIENT.1.to_string() };
    let words = [station(lab, to.ip()), client, to.ip().to_string(), from.port().to_string()];
    let words: Vec<String> = words.into_iter().chain(more.iter().map(usize::to_string)).collect();
    let words: Vec<&str> =
        ["/usr/bin/python3", "-c", program].into_iter().chain(words.iter().map(String::as_str)).collect();
    lab.client().run(&words).unwrap_or_else(|e| panic!("{e}"));
}

fn answer(flow: &UdpSocket) -> String {
    let mut answer = [0; 64];
    let bytes = flow.recv(&mut answer).expect("an answer comes");
    String::from_utf8_lossy(&answer[..bytes]).into_owned()
}

/// How often each worker counted this, after `batond` has ended.
fn of_each(lab: &Lab, counter: &str) -> Vec<u64> {
    let of =
        |counts: &std::collections::BTreeMap<String, u64>| counts.get(counter).copied().unwrap_or_default();
    counts_of_workers(lab).iter().map(of).collect()
}

/// A server on each target for each of these addresses, which are all that is distributed.
fn echo(lab: &Lab, addresses: &[SocketAddr]) -> Vec<Server> {
    let servers =
        TARGETS.into_iter().flat_map(|t| addresses.iter().map(move |at| Server::udp(lab.host(t), *at, t)));
    let servers = servers.map(|server| server.expect("it listens")).collect();
    lab.wait_for("all three to be targets", Duration::from_secs(30), || {
        let rows = lab.dpt().map_err(|e| e.to_string())?;
        let good = rows.len() == addresses.len() && rows.iter().all(|row| row.selectable() == TARGETS);
        if good { Ok(()) } else { Err(format!("{rows:#?}")) }
    })
    .unwrap_or_else(|e| panic!("{e}"));
    servers
}

/// R1, F6: fragments that another worker receives than the first one of their datagram, before it or after it, and ICMP errors
/// that another worker receives than the flow that they quote, all reach the target that has the flow.
#[test]
#[ignore = "needs root"]
fn fragments_and_icmp_errors_that_another_worker_receives_reach_the_target() {
    let tables = spec::both_families(&format!("ports = [{ECHO}]\nprotocol = \"udp\"\ndestip = \"all\""));
    let lab = lab(Spec::default().vipadynamic(tables).web([]));
    let v6 = SocketAddr::new(DVIPA.1.into(), ECHO);
    let _servers = echo(&lab, &[dvipa4(ECHO), v6]);
    let captures = TARGETS.map(|target| lab.capture(target, "eth0", "udp port 6080").expect("a capture"));
    let mut told = [0; 3];
    for to in [dvipa4(ECHO), v6] {
        let flow = client::udp(lab.client(), to).expect("a socket");
        flow.send(b"who").expect("it is sent");
        let target = answer(&flow).strip_suffix(" 3").expect("three bytes are answered").to_owned();
        if to.is_ipv6() {
            for number in 0..DATAGRAMS {
                // One after the other: what a socket may hold is not much, counted in buffers of fragments.
                send(&lab, SEND_FRAGMENTS, &flow, &[number, FRAGMENTS]);
                assert_eq!(answer(&flow), format!("{target} {}", 64 * FRAGMENTS - 8));
            }
        }
        send(&lab, COMPLAIN, &flow, &[ROUTERS]);
        told[TARGETS.iter().position(|t| *t == target).expect("one of the three")] += ROUTERS;
    }
    lab.wait_for("all errors to have passed", SOON, || {
        let errors = lab.counter("forwarded_icmp_error").map_err(|e| e.to_string())?;
        if errors == 2 * ROUTERS as u64 { Ok(()) } else { Err(format!("{errors} errors")) }
    })
    .unwrap_or_else(|e| panic!("{e}"));
    // The protocol of the packet in GUE: ICMP in IPv4, ICMPv6 in IPv6.
    let errors = "(udp[12] & 0xf0 == 0x40 and udp[21] == 1) or (udp[12] & 0xf0 == 0x60 and udp[18] == 58)";
    let heard = captures.map(|c| c.stop().and_then(|c| c.count(errors)).expect("it is read"));
    assert_eq!(heard, told, "each target hears of its own flow");
    lab.stop("batond", Signal::SIGTERM).expect("it ends");
    for (counter, all) in
        [("forwarded_fragment", DATAGRAMS * (FRAGMENTS - 1)), ("forwarded_icmp_error", 2 * ROUTERS)]
    {
        let counts = of_each(&lab, counter);
        assert!(counts.len() == 2 && counts.iter().all(|count| *count > 0), "{counter}: {counts:?}");
        assert_eq!(counts.iter().sum::<u64>(), all as u64, "{counter}");
    }
}

/// R1, F6: the second worker receives every later fragment of IPv4, before the first one of its datagram or after it, and the first
/// worker that one and the rest of the flow: each datagram arrives whole at the target that has the flow.
#[test]
#[ignore = "needs root"]
fn ipv4_fragments_that_another_worker_receives_reach_the_target() {
    let tables = spec::ipv4_only(&[&format!("ports = [{ECHO}]\nprotocol = \"udp\"\ndestip = \"all\"")]);
    let lab = lab(Spec { nic: Nic::Pcap, ..Spec::default() }.vipadynamic(tables).web([]));
    let _servers = echo(&lab, &[dvipa4(ECHO)]);
    let flow = client::udp(lab.client(), dvipa4(ECHO)).expect("a socket");
    flow.send(b"who").expect("it is sent");
    let target = answer(&flow).strip_suffix(" 3").expect("three bytes are answered").to_owned();
    for number in 0..DATAGRAMS {
        send(&lab, SEND_FRAGMENTS, &flow, &[number, FRAGMENTS]);
        assert_eq!(answer(&flow), format!("{target} {}", 64 * FRAGMENTS - 8));
    }
    lab.stop("batond", Signal::SIGTERM).expect("it ends");
    let later = (DATAGRAMS * (FRAGMENTS - 1)) as u64;
    assert_eq!(of_each(&lab, "forwarded_fragment"), [0, later]);
}

/// R1, C5: a connection moves while its client uploads and both workers receive its segments, because every other one is an atomic
/// fragment. Both hold what comes while it is frozen, and every byte arrives, in order.
#[test]
#[ignore = "needs root"]
fn a_connection_that_both_workers_receive_moves_whole() {
    let lab = lab(Spec::content_routed());
    start_router(&lab);
    ["files@t1", "more@t2"].iter().for_each(|target| start_target(&lab, target));
    lab.impair("client", Impairment::atomic(), 1).expect("its link is cut and joined");
    let (example, file) = (lab.example("http").expect("it is built"), lab.files().join("upload"));
    let make = format!("{} content {UPLOAD_BYTES} >{}", example.display(), file.display());
    lab.client().sh(&make).expect("the file is made");
    let sum =
        std::fs::read(&file).expect("it is read").iter().fold(0xcbf2_9ce4_8422_2325, |sum: u64, byte| {
            (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        });
    let (file, url) = (file.to_string_lossy(), url(DVIPA.1.into(), "/upload?via=more@t2,files@t1,more@t2"));
    let mut seen = Vec::new();
    // Whether fragments have another queue than the connection is up to a hash over its ports. Each has a batond of its own, so
    // that what is counted is of that connection alone.
    for _ in 0..20 {
        let said = curl(&lab, &["-H", "Expect:", "-T", &file, &url]);
        assert_eq!(said, format!("{UPLOAD_BYTES} bytes, {sum:016x}\n200\n"));
        let moved = lab.transfers().expect("they are counted")["restored"];
        lab.stop("batond", Signal::SIGTERM).expect("it ends");
        let held = of_each(&lab, "frozen_held");
        if moved > 1 && held.len() == 2 && held.iter().all(|count| *count > 0) {
            return;
        }
        seen.push((moved, held));
        lab.start_batond().expect("it starts");
        lab.wait_for_targets(80, &["rt1"]).unwrap_or_else(|e| panic!("{e}"));
        for target in ["t1", "t2"] {
            crate::transfer::wait_for_state(&lab, target, "transfer-only");
        }
    }
    panic!("of no connection both workers held segments while it was frozen: {seen:?}");
}
