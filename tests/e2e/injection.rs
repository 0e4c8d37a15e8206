//! Unmodified servers as targets: a routing application decides, and the connection is put into the listener of an nginx
//! that knows nothing of baton, with the request that the router has looked at or read.

use std::collections::BTreeSet;

use lab::impair::Impairment;
use lab::spec::{DVIPA, Web};
use lab::{Lab, Namespace, Spec};

use crate::fixture::{SOON, connect, web4, web6};
use crate::transfer::{Watch, assert_one_calm_connection, curl, url, wait_for_state};

/// Who gets which requests: by host, path and cookie.
const RULES: [&str; 4] =
    ["listener@t1=host:one", "listener@t2=path:/two", "listener@t2=cookie:kind=two", "listener@t3"];

/// A lab with three nginx servers, and the router of `examples/http/` before them.
fn routed(options: &[&str]) -> Lab {
    let lab = crate::fixture::lab(Spec::content_routed());
    for web in ["t1", "t2", "t3"].map(Web::wildcard) {
        lab.start_web_as(&web).expect("nginx starts");
        wait_for_state(&lab, &web.stack, "transfer-only");
    }
    let (v4, v6) = (DVIPA.0.to_string(), DVIPA.1.to_string());
    let words = [&["http", "router"], options, &["80", &v4, &v6, "--"], &RULES[..]].concat();
    lab.start_application("rt1", "router", &words).expect("the router starts");
    lab.wait_for_targets(80, &["rt1"]).unwrap_or_else(|e| panic!("{e}"));
    lab
}

/// C3, C7, C8, F2: unmodified servers are targets too: the connection is put into their listener, with the request that
/// the router has only looked at.
#[test]
#[ignore = "needs root"]
fn unmodified_servers_are_targets_by_injection() {
    let lab = routed(&[]);
    for dvipa in [DVIPA.0.into(), DVIPA.1.into()] {
        let at_client = Watch::begin(&lab);
        assert_eq!(curl(&lab, &["-H", "Host: one", &url(dvipa, "/")]), "t1\n200\n");
        assert_one_calm_connection(&at_client.end());
        assert_eq!(curl(&lab, &[&url(dvipa, "/two")]), "t2\n200\n");
        assert_eq!(curl(&lab, &["-b", "kind=two", &url(dvipa, "/")]), "t2\n200\n");
        assert_eq!(curl(&lab, &[&url(dvipa, "/"), &url(dvipa, "/")]), "t3\n200\n".repeat(2));
        let big = lab.client().sh(&format!("curl -sS --max-time 20 {} | wc -c", url(dvipa, "/big")));
        assert_eq!(big.expect("it comes").trim(), (8 << 20).to_string());
    }
}

/// C3, C6, C7, C8: what the router has read is given back, whatever the ends have agreed on: the server reads it as if
/// nobody had before, also 20 kB of cookies (for which the lab's nginx has `large_client_header_buffers`).
#[test]
#[ignore = "needs root"]
fn a_request_that_the_router_has_read_reaches_the_server_whole() {
    let lab = routed(&["--read"]);
    // curl itself leaves out cookies beyond 8 kB.
    let cookie = format!("Cookie: kind=two; filler={}", "c".repeat(20_000));
    for off in ["tcp_ecn", "tcp_timestamps", "tcp_sack", "tcp_window_scaling"] {
        // All of them are on but for ECN, which the client does not ask for, once.
        let set =
            |value| lab.client().sh(&format!("echo {value} >/proc/sys/net/ipv4/{off}")).expect("it is set");
        set(0);
        for dvipa in [DVIPA.0.into(), DVIPA.1.into()] {
            let at_client = Watch::begin(&lab);
            assert_eq!(curl(&lab, &["-H", &cookie, &url(dvipa, "/")]), "t2\n200\n", "without {off}");
            assert_one_calm_connection(&at_client.end());
            assert_eq!(curl(&lab, &["-H", "Host: one", &url(dvipa, "/")]), "t1\n200\n", "without {off}");
            let big = lab.client().sh(&format!("curl -sS --max-time 20 {} | wc -c", url(dvipa, "/big")));
            assert_eq!(big.expect("it comes").trim(), (8 << 20).to_string(), "without {off}");
        }
        set(if off == "tcp_ecn" { 2 } else { 1 });
    }
}

/// C6, C8: a client that has closed its half gets its answer from an unmodified server too. That server's host checks where
/// packets come from (rp_filter), and takes what the client had sent all the same.
#[test]
#[ignore = "needs root"]
fn a_half_closed_connection_is_handed_over_with_its_fin() {
    let lab = routed(&[]);
    lab.host("t1")
        .sh("for k in all lo eth0; do echo 1 >/proc/sys/net/ipv4/conf/$k/rp_filter; done")
        .expect("it is set");
    for dvipa in [DVIPA.0.to_string(), DVIPA.1.to_string()] {
        // Request and FIN come in one segment, so that the router has both.
        let client = format!(
            "import socket; c = socket.create_connection(('{dvipa}', 80), timeout=20)\n\
             c.send(b'GET / HTTP/1.0\\r\\nHost: one\\r\\n\\r\\n', socket.MSG_MORE)\n\
             c.shutdown(socket.SHUT_WR)\n\
             print(b''.join(iter(lambda: c.recv(4096), b'')).decode())"
        );
        let said = lab.client().run(&["python3", "-c", &client]).unwrap_or_else(|e| panic!("{e}"));
        assert!(said.starts_with("HTTP/1.1 200 OK") && said.trim_end().ends_with("t1"), "{said}");
    }
    assert_eq!(lab.transfers().expect("they are counted")["injected"], 2);
}

/// C5, C8: an upload that has begun goes on at the server that it is for, whole.
#[test]
#[ignore = "needs root"]
fn an_upload_goes_on_after_its_connection_was_handed_over() {
    for options in [&[][..], &["--read"]] {
        let lab = routed(options);
        let file = lab.files().join("upload");
        let make = format!("head -c 20000000 /dev/urandom >{0}; sha256sum <{0}", file.display());
        let wanted = lab.client().sh(&make).expect("it is made");
        for (name, dvipa) in [("four", DVIPA.0.into()), ("six", DVIPA.1.into())] {
            let at_client = Watch::begin(&lab);
            let (file, url) = (file.display().to_string(), url(dvipa, &format!("/put/{name}")));
            assert_eq!(curl(&lab, &["-H", "Expect:", "-T", &file, &url]), "201\n");
            assert_one_calm_connection(&at_client.end());
            let got = lab.files().join("nginx-t3/put").join(name);
            let got = lab.client().sh(&format!("sha256sum <{}", got.display())).expect("it is there");
            assert_eq!(got, wanted, "every byte of the upload, in order");
        }
    }
}

/// C8, C11: a connection that was put into a listener moves on to another server, on the operator's order.
#[test]
#[ignore = "needs root"]
fn a_connection_that_was_injected_moves_on_between_unmodified_servers() {
    let lab = routed(&[]);
    for to in [web4(), web6()] {
        let at_client = Watch::begin(&lab);
        let (mut connection, first) = connect(&lab, to);
        assert_eq!(first, "t3");
        let client = connection.local().to_string();
        for target in ["t1", "t2", "t3"] {
            lab.wait_for(&format!("{client} to move to {target}"), SOON, || {
                let rows = lab.crt(&[]).map_err(|e| e.to_string())?;
                let row = rows.into_iter().find(|row| row.client == client).ok_or("no entry")?;
                if row.stack == target && row.state == "established" {
                    return Ok(());
                }
                let ordered = lab.baton(&["move", &client, &to.to_string(), target]);
                Err(format!("{row:?}, {ordered:?}"))
            })
            .unwrap_or_else(|e| panic!("{e}"));
            assert_eq!(connection.target().expect("it is answered"), target);
        }
        drop(connection);
        assert_one_calm_connection(&at_client.end());
    }
}

/// C5, C7, C8: hundreds of keep-alive connections under load: none fails, each is opened once, and no server resets any.
#[test]
#[ignore = "needs root"]
fn hundreds_of_connections_are_handed_over_under_load() {
    const CONNECTIONS: usize = 300;
    let lab = routed(&[]);
    let only_ends = format!(
        "tcp port 80 and (tcp[tcpflags] & tcp-syn != 0 or (tcp[tcpflags] & tcp-rst != 0 and src host {}))",
        DVIPA.0
    );
    let at_client = lab.capture("client", "eth0", &only_ends).expect("a capture");
    let script = format!("wrk -t 2 -c {CONNECTIONS} -d 4s --timeout 10s {}", url(DVIPA.0.into(), "/"));
    let said = lab.client().sh(&script).expect("wrk runs");
    assert!(!said.contains("Socket errors") && !said.contains("Non-2xx"), "{said}");
    let lines = at_client.stop().and_then(|c| c.packets("tcp port 80")).expect("it is read");
    // Each from a port of its own; a SYN that finds the router's backlog full is sent again.
    let opens = lines.iter().filter(|l| l.contains("Flags [S]")).filter_map(|l| l.rsplit_once(" > "));
    let opened: BTreeSet<_> =
        opens.filter_map(|(from, _)| from.rsplit_once('.')).map(|(_, port)| port).collect();
    let reset: Vec<_> = lines.iter().filter(|l| l.contains("Flags [R")).collect();
    // The first one wrk opens only to see whether it can.
    assert_eq!((opened.len(), reset.len()), (CONNECTIONS + 1, 0), "{said}{reset:#?}");
    let counts = lab.transfers().expect("they are counted");
    assert_eq!((counts["begun"], counts["injected"]), (CONNECTIONS as u64, CONNECTIONS as u64), "{counts:?}");
}

/// C5, C8: the packet that makes a connection gets lost, comes twice or late; so do those of the client. None is lost.
#[test]
#[ignore = "needs root"]
fn a_hand_over_survives_loss_duplication_and_reordering() {
    let lab = routed(&["--read"]);
    let bad = Impairment::loss(100).duplicate(200).reorder(200, 20);
    for (seed, target) in [(1, "t1"), (2, "t2"), (3, "t3")] {
        lab.impair(target, bad, seed).expect("its link misbehaves");
    }
    let cookie = format!("Cookie: {}", "c".repeat(8_000));
    for (dvipa, round) in [DVIPA.0.into(), DVIPA.1.into()].into_iter().flat_map(|d| [(d, 1), (d, 2)]) {
        for (host, target) in [("one", "t1"), ("three", "t3")] {
            let host = format!("Host: {host}");
            let said = curl(&lab, &["-H", &host, "-H", &cookie, &url(dvipa, "/"), &url(dvipa, "/")]);
            assert_eq!(said, format!("{target}\n200\n").repeat(2), "round {round}: {}", lab.tallies());
        }
    }
}

/// C5, C8: the target's agent dies after it has prepared everything and before its kernel makes the connection. The kernel
/// makes it all the same, and the agent that comes back gives it what the client had sent.
#[test]
#[ignore = "needs root"]
fn what_a_client_has_sent_outlives_the_targets_agent() {
    let lab = routed(&["--read"]);
    let fabric = Namespace::named(format!("bt-{}-fabric", lab.id()));
    for dvipa in [DVIPA.0.into(), DVIPA.1.into()] {
        // No encapsulated packet reaches a target, while the cluster's messages do.
        let deaf = "nft 'add table netdev deaf
            add chain netdev deaf in { type filter hook ingress device rt1 priority 0; }
            add rule netdev deaf in udp dport 6080 drop'";
        fabric.sh(deaf).expect("nft takes the rules");
        let request = format!("curl -sS --max-time 20 -H 'Host: one' {}", url(dvipa, "/"));
        lab.start_on("client", "request", &["sh", "-c", &request]).expect("curl starts");
        lab.wait_for("the hand-over to begin", SOON, || {
            let crt = lab.baton(&["crt"]).map_err(|e| e.to_string())?;
            if crt.contains("inject") && crt.contains("committed") { Ok(()) } else { Err(crt) }
        })
        .unwrap_or_else(|e| panic!("{e}"));
        lab.kill("agent-t1").expect("it is killed");
        fabric.sh("nft delete table netdev deaf").expect("nft takes it");
        lab.wait_for("the kernel to have made the connection", SOON, || {
            let made =
                lab.host("t1").sh("ss -Htn state established sport = :80").map_err(|e| e.to_string())?;
            if made.is_empty() { Err(made) } else { Ok(()) }
        })
        .unwrap_or_else(|e| panic!("{e}"));
        lab.start_agent("t1").expect("it starts");
        assert!(lab.wait_end("request").expect("it ends").success());
        let said = std::fs::read_to_string(lab.files().join("request.log")).expect("it is there");
        assert!(said.ends_with("t1\n"), "{said}");
        wait_for_state(&lab, "t1", "transfer-only");
    }
}
