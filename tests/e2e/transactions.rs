//! The routing node answers clients itself, reads their first request and hands the connection over with it: no application on the
//! routing node, unmodified servers and clients.

use std::net::IpAddr;

use lab::impair::Impairment;
use lab::spec::{DVIPA, both_families};
use lab::{Lab, Spec};
use nix::sys::signal::Signal;

use crate::fixture::SOON;
use crate::transfer::{Watch, assert_one_calm_connection, curl, url};

/// Paths of t1 and t2, and all else for t3.
pub(crate) const ROUTES: &str = "ports = [80]\ndestip = \"all\"\n\
    [[vipadynamic.vipadistribute.route]]\nname = \"one\"\nmatches = [{ path = \"/one\" }]\nbackends = [{ stack = \"t1\" }]\n\
    [[vipadynamic.vipadistribute.route]]\nname = \"two\"\nmatches = [{ path = \"/two\" }]\nbackends = [{ stack = \"t2\" }]\n\
    [[vipadynamic.vipadistribute.route]]\nname = \"rest\"\nbackends = [{ stack = \"t3\" }]\n";

/// A lab with three nginx servers behind these routes.
pub(crate) fn routed(routes: &str) -> Lab {
    let lab = crate::fixture::lab(Spec::default().vipadynamic(both_families(routes)));
    lab.wait_for_targets(80, &["t1", "t2", "t3"]).unwrap_or_else(|e| panic!("{e}"));
    lab
}

/// What the workers have counted.
pub(crate) fn counted(lab: &Lab, name: &str) -> u64 {
    lab.counter(name).unwrap_or_else(|e| panic!("{e}"))
}

/// Segments that the client's kernel has sent again.
pub(crate) fn repeated(lab: &Lab) -> u64 {
    let row = lab.client().sh("nstat -asz TcpRetransSegs | awk '/^TcpRetransSegs/ { print $2 }'");
    row.expect("it counts").trim().parse().expect("a number")
}

/// T1: each path goes to its target, byte for byte, and the client sees one connection that nobody resets; there is no application on
/// the routing node.
#[test]
#[ignore = "needs root"]
fn a_first_request_goes_to_the_target_of_its_route() {
    let lab = routed(ROUTES);
    for dvipa in [DVIPA.0.into(), DVIPA.1.into()] {
        for (path, target) in [("/one", "t1"), ("/two", "t2"), ("/", "t3")] {
            let at_client = Watch::begin(&lab);
            // The second request stays on the connection.
            let said = curl(&lab, &[&url(dvipa, path), &url(dvipa, path)]);
            assert_eq!(said, format!("{target}\n200\n").repeat(2));
            assert_one_calm_connection(&at_client.end());
        }
        let big = lab.client().sh(&format!("curl -sS --max-time 20 {} | wc -c", url(dvipa, "/big")));
        assert_eq!(big.expect("it comes").trim(), (8 << 20).to_string());
    }
    assert!(counted(&lab, "answered_syn") >= 8, "the routing node answered");
    assert_eq!(counted(&lab, "forwarded_new"), 0, "no SYN went on");
}

/// T1: clients without timestamps, window scaling, SACK, and with ECN.
#[test]
#[ignore = "needs root"]
fn what_a_client_does_not_speak_is_not_spoken() {
    let lab = routed(ROUTES);
    for (key, value, usual) in
        [("tcp_timestamps", 0, 1), ("tcp_window_scaling", 0, 1), ("tcp_sack", 0, 1), ("tcp_ecn", 1, 2)]
    {
        let set = |value| {
            let script = format!("echo {value} >/proc/sys/net/ipv4/{key}");
            lab.client().sh(&script).expect("it is set")
        };
        set(value);
        for dvipa in [DVIPA.0.into(), DVIPA.1.into()] {
            let at_client = Watch::begin(&lab);
            assert_eq!(curl(&lab, &[&url(dvipa, "/two")]), "t2\n200\n", "{key} = {value}");
            let lines = at_client.end().packets("tcp port 80").expect("it is read");
            let with = |flags: &str| lines.iter().filter(|line| line.contains(flags)).count();
            assert_eq!((with("Flags [S"), with("Flags [R")), (2, 0), "{key} = {value}: {lines:#?}");
            let big = lab.client().sh(&format!("curl -sS --max-time 20 {} | wc -c", url(dvipa, "/big")));
            assert_eq!(big.expect("it comes").trim(), (8 << 20).to_string(), "{key} = {value}");
        }
        set(usual);
    }
}

/// T1: a client whose former connection was ended by its target a moment ago comes from the same port again, and is served at once: it has
/// to say nothing twice.
#[test]
#[ignore = "needs root"]
fn a_client_that_takes_its_port_again_is_served_again() {
    let lab = routed(ROUTES);
    for (dvipa, port) in [(IpAddr::from(DVIPA.0), 40_000), (DVIPA.1.into(), 40_001)] {
        // It waits for the server's FIN, so that the target has the connection's TIME-WAIT, and not the client.
        let script = format!(
            "python3 -c '
import socket
s = socket.create_connection((\"{dvipa}\", 80), 20, (\"\", {port}))
s.sendall(b\"GET /one HTTP/1.1\\r\\nHost: one\\r\\nConnection: close\\r\\n\\r\\n\")
print(b\"\".join(iter(lambda: s.recv(65536), b\"\")).decode())'"
        );
        for _ in 0..3 {
            let said = lab.client().sh(&script).unwrap_or_else(|e| panic!("{e}: {}", lab.tallies()));
            assert!(said.starts_with("HTTP/1.1 200") && said.contains("\nt1\n"), "{said}");
        }
    }
    assert_eq!(repeated(&lab), 0);
}

/// T1: a head of many segments, and an upload behind its head.
#[test]
#[ignore = "needs root"]
fn a_request_of_many_segments_reaches_its_target_whole() {
    let lab = routed(ROUTES);
    let cookie = format!("Cookie: filler={}", "c".repeat(7_900));
    let cookies: Vec<&str> = ["-H", &cookie, "-H", "X-More: yes"].to_vec();
    let file = lab.files().join("upload");
    let make = format!("head -c 5000000 /dev/urandom >{0}; sha256sum <{0}", file.display());
    let wanted = lab.client().sh(&make).expect("it is made");
    for (name, dvipa) in [("four", DVIPA.0.into()), ("six", DVIPA.1.into())] {
        let at_client = Watch::begin(&lab);
        assert_eq!(curl(&lab, &[&cookies[..], &[&url(dvipa, "/one")]].concat()), "t1\n200\n");
        assert_one_calm_connection(&at_client.end());
        let put = url(dvipa, &format!("/put/{name}"));
        assert_eq!(curl(&lab, &["-H", "Expect:", "-T", &file.display().to_string(), &put]), "201\n");
        let got = lab.files().join("nginx-t3/put").join(name);
        let got = lab.client().sh(&format!("sha256sum <{}", got.display())).expect("it is there");
        assert_eq!(got, wanted, "every byte of the upload, in order");
    }
    assert!(counted(&lab, "request_held") > 0, "segments waited");
}

/// T1: packets of clients and to targets get lost, come twice and late: the client sees its own retransmissions and nothing else.
#[test]
#[ignore = "needs root"]
fn requests_survive_loss_duplication_and_reordering() {
    let lab = routed(ROUTES);
    let bad = Impairment::loss(30).duplicate(200).reorder(200, 20);
    for (seed, host) in [(1, "t1"), (2, "t2"), (3, "client")] {
        lab.impair(host, bad, seed).expect("its link misbehaves");
    }
    let cookie = format!("Cookie: {}", "c".repeat(6_000));
    for dvipa in [DVIPA.0.into(), DVIPA.1.into()] {
        for (path, target) in [("/one", "t1"), ("/two", "t2"), ("/one", "t1"), ("/two", "t2")] {
            let said = curl(&lab, &["-H", &cookie, &url(dvipa, path), &url(dvipa, path)]);
            assert_eq!(said, format!("{target}\n200\n").repeat(2), "{}", lab.tallies());
        }
    }
}

/// T1: a request that no route takes gets its refusal from the routing node.
#[test]
#[ignore = "needs root"]
fn a_request_of_no_route_is_refused_in_its_own_words() {
    let two = ROUTES.rsplit_once("[[").map(|(two, _)| two).expect("three routes");
    let lab = routed(two);
    let status = |path: &str| {
        let script =
            format!("curl -sS -o /dev/null -w '%{{http_code}}' --max-time 20 {}", url(DVIPA.0.into(), path));
        lab.client().sh(&script).expect("it is answered")
    };
    assert_eq!(status("/one"), "200");
    assert_eq!(status("/nothing"), "404");
    assert!(counted(&lab, "refused_request") >= 1);
}

/// T1: the target refuses, because its server has just ended: another target of the route gets the request.
#[test]
#[ignore = "needs root"]
fn the_next_target_gets_what_one_declines() {
    let both_of_them = ROUTES.replace("[{ stack = \"t1\" }]", "[{ stack = \"t1\" }, { stack = \"t2\" }]");
    let lab = routed(&both_of_them);
    // Nothing tells the routing node that t1 does not take connections before two were handed over.
    lab.signal("agent-t1", Signal::SIGSTOP);
    lab.kill_all("t1", "nginx").expect("it ends");
    let before = counted(&lab, "forwarded_handoff");
    std::thread::scope(|scope| {
        let clients = [(); 2].map(|()| scope.spawn(|| curl(&lab, &[&url(DVIPA.0.into(), "/one")])));
        lab.wait_for("both to be handed over", SOON, || {
            let handed = counted(&lab, "forwarded_handoff") - before;
            if handed >= 2 { Ok(()) } else { Err(format!("{handed} are")) }
        })
        .unwrap_or_else(|e| panic!("{e}"));
        lab.signal("agent-t1", Signal::SIGCONT);
        for client in clients {
            assert_eq!(client.join().expect("curl runs"), "t2\n200\n");
        }
    });
}

/// T1: SYNs of a flood are answered and nothing is kept; nor is anything of ACKs that repeat no cookie.
#[test]
#[ignore = "needs root"]
fn a_flood_of_syns_takes_no_memory() {
    let lab = routed(ROUTES);
    let client = "import socket, struct, random\n\
        s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP)\n\
        def sum16(b):\n    t = sum(struct.unpack('!%dH' % (len(b) // 2), b))\n    while t >> 16: t = (t & 65535) + (t >> 16)\n    return ~t & 65535\n\
        src, dst = socket.inet_aton('198.18.0.2'), socket.inet_aton('198.18.9.1')\n\
        for n in range(20000):\n    h = struct.pack('!HHIIBBHHH', 1024 + n % 60000, 80, n, 0, 80, 2, 1000, 0, 0)\n    p = src + dst + struct.pack('!BBH', 0, 6, len(h))\n    h = h[:16] + struct.pack('!H', sum16(p + h)) + h[18:]\n    s.sendto(h, ('198.18.9.1', 0))\n";
    // Its own kernel would answer the answers with RST, which is no matter here.
    lab.client().run(&["python3", "-c", client]).unwrap_or_else(|e| panic!("{e}"));
    lab.wait_for("the SYNs to be answered", SOON, || {
        let answered = counted(&lab, "answered_syn");
        if answered > 5_000 { Ok(()) } else { Err(format!("{answered} are")) }
    })
    .unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(lab.crt(&[]).expect("it is shown").len(), 0, "no entry");
    assert_eq!(counted(&lab, "request_held"), 0);
    assert_eq!(curl(&lab, &[&url(DVIPA.0.into(), "/two")]), "t2\n200\n");
}
