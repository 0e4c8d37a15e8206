//! Every request of a keep-alive connection is selected anew by the routing node: unmodified servers and clients, no application.

use std::io::{Read, Write};

use lab::client::HttpConnection;
use lab::impair::Impairment;
use lab::spec::DVIPA;

use crate::fixture::{SOON, dvipa4};
use crate::transactions::{ROUTES, counted, repeated, routed};
use crate::transfer::{Watch, assert_one_calm_connection, curl, url};

/// T2: the requests of one connection go each to the target of its route, in turn and back, byte for byte, large answers and an upload
/// among them; the client sees one connection that nobody resets.
#[test]
#[ignore = "needs root"]
fn each_request_of_a_connection_goes_to_the_target_of_its_route() {
    let lab = routed(ROUTES);
    let file = lab.files().join("upload");
    let make = format!("head -c 300000 /dev/urandom >{0}; sha256sum <{0}", file.display());
    let wanted = lab.client().sh(&make).expect("it is made");
    for (name, dvipa) in [("four", DVIPA.0.into()), ("six", DVIPA.1.into())] {
        let at_client = Watch::begin(&lab);
        let urls: Vec<String> =
            ["/one", "/two", "/", "/two", "/two", "/one"].iter().map(|path| url(dvipa, path)).collect();
        let said = curl(&lab, &urls.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(said, "t1\n200\nt2\n200\nt3\n200\nt2\n200\nt2\n200\nt1\n200\n");
        assert_one_calm_connection(&at_client.end());
        // Head and content of an upload wait together, and an answer of many segments is acknowledged before the next one begins.
        let at_client = Watch::begin(&lab);
        let big = lab.files().join(format!("big-{name}")).display().to_string();
        let (one, large, put) = (url(dvipa, "/one"), url(dvipa, "/big"), url(dvipa, &format!("/put/{name}")));
        let upload = file.display().to_string();
        let words = ["-o", "-", &one, "-o", &big, &large, "-o", "-", &one];
        let words = [&words[..], &["--next", "-sS", "--max-time", "20", "-w", "%{http_code}\\n"]].concat();
        let words = [&words[..], &["-H", "Expect:", "-T", &upload, &put]].concat();
        assert_eq!(curl(&lab, &words), "t1\n200\n200\nt1\n200\n201\n");
        assert_one_calm_connection(&at_client.end());
        let got = lab.files().join("nginx-t3/put").join(name);
        let got = lab.client().sh(&format!("sha256sum <{}; wc -c <{big}", got.display()));
        assert_eq!(got.expect("they are there"), format!("{wanted}{}\n", 8 << 20), "every byte, in order");
    }
    assert!(counted(&lab, "request_elsewhere") >= 14, "{}", counted(&lab, "request_elsewhere"));
    assert_eq!(counted(&lab, "request_stayed"), 0);
    assert_eq!(counted(&lab, "request_pinned"), 0);
    let stats = lab.baton(&["stats"]).expect("it answers");
    for dvipa in [DVIPA.0.to_string(), DVIPA.1.to_string()] {
        for wanted in [["one", "4", &dvipa, "80"], ["two", "3", &dvipa, "80"], ["rest", "3", &dvipa, "80"]] {
            assert!(stats.lines().any(|line| line.split_whitespace().eq(wanted)), "{wanted:?} in {stats}");
        }
    }
}

/// T2: a connection goes to and fro four hundred times, and its client has to send nothing twice: what is behind the packet that makes the
/// connection at its next target, in the same batch, is not lost.
#[test]
#[ignore = "needs root"]
fn a_client_whose_requests_go_to_and_fro_sends_each_once() {
    let lab = routed(ROUTES);
    let mut client = HttpConnection::open(lab.client(), dvipa4(80)).expect("it connects").into_stream();
    client.set_nodelay(true).expect("it is a socket");
    for (path, target) in [("/one", "t1\n"), ("/one", "t1\n"), ("/two", "t2\n"), ("/two", "t2\n")]
        .into_iter()
        .cycle()
        .take(1600)
    {
        client.write_all(format!("GET {path} HTTP/1.1\r\nHost: lab\r\n\r\n").as_bytes()).expect("it is sent");
        assert!(answer(&mut client).ends_with(target), "{}", lab.tallies());
    }
    assert_eq!(counted(&lab, "request_elsewhere"), 799);
    assert_eq!(repeated(&lab), 0, "{}", lab.tallies());
}

/// T2: packets get lost, come twice and late; requests go to their targets all the same.
#[test]
#[ignore = "needs root"]
fn requests_of_a_connection_are_selected_anew_under_loss() {
    let lab = routed(ROUTES);
    let bad = Impairment::loss(20).duplicate(100).reorder(100, 10);
    for (seed, host) in [(1, "t1"), (2, "t2"), (3, "client")] {
        lab.impair(host, bad, seed).expect("its link misbehaves");
    }
    for dvipa in [DVIPA.0.into(), DVIPA.1.into()] {
        for _ in 0..4 {
            let urls: Vec<String> =
                ["/one", "/two", "/one", "/two"].iter().map(|path| url(dvipa, path)).collect();
            let said = curl(&lab, &urls.iter().map(String::as_str).collect::<Vec<_>>());
            assert_eq!(said, "t1\n200\nt2\n200\n".repeat(2), "{}", lab.tallies());
        }
    }
    assert!(counted(&lab, "request_elsewhere") > 0);
}

/// T2: a request whose end is in doubt is its connection's last that is selected: what follows goes where it went, whatever its path.
#[test]
#[ignore = "needs root"]
fn a_connection_in_doubt_stays_with_its_target() {
    let lab = routed(ROUTES);
    for doubtful in [
        "POST /one HTTP/1.1\r\nHost: lab\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "GET /one HTTP/1.0\r\nHost: lab\r\nConnection: keep-alive\r\n\r\n",
        "GET /one HTTP/1.1\r\nHost: lab\r\nUpgrade: h2c\r\n\r\n",
    ] {
        let before = counted(&lab, "request_pinned");
        let mut client = HttpConnection::open(lab.client(), dvipa4(80)).expect("it connects").into_stream();
        client.write_all(b"GET /two HTTP/1.1\r\nHost: lab\r\n\r\n").expect("it is sent");
        assert!(answer(&mut client).ends_with("t2\n"), "selected");
        client.write_all(doubtful.as_bytes()).expect("it is sent");
        assert!(!answer(&mut client).contains("t2\n"), "{doubtful}: selected anew");
        client.write_all(b"GET /two HTTP/1.1\r\nHost: lab\r\n\r\n").expect("it is sent");
        assert!(!answer(&mut client).contains("t2\n"), "{doubtful}: the rest is not");
        lab.wait_for("it to be counted", SOON, || match counted(&lab, "request_pinned") - before {
            1 => Ok(()),
            n => Err(format!("{n} are")),
        })
        .unwrap_or_else(|e| panic!("{e}"));
    }
}

/// T2: a client that sends requests ahead of their answers, each in a packet of its own, has its later requests selected anew all the same.
#[test]
#[ignore = "needs root"]
fn requests_sent_ahead_do_not_keep_their_connection_where_it_is() {
    let lab = routed(ROUTES);
    let mut client = HttpConnection::open(lab.client(), dvipa4(80)).expect("it connects").into_stream();
    client.set_nodelay(true).expect("it is a socket");
    let mut say = |path: &str| {
        client.write_all(format!("GET {path} HTTP/1.1\r\nHost: lab\r\n\r\n").as_bytes()).expect("it is sent");
        client.try_clone().expect("it is a socket")
    };
    let mut hears = say("/one");
    assert!(answer(&mut hears).ends_with("t1\n"));
    for _ in 0..3 {
        (0..6).for_each(|_| drop(say("/one")));
        (0..6).for_each(|_| assert!(answer(&mut hears).ends_with("t1\n"), "in their order"));
        say("/two");
        assert!(answer(&mut hears).ends_with("t2\n"), "{}", lab.tallies());
        say("/one");
        assert!(answer(&mut hears).ends_with("t1\n"), "{}", lab.tallies());
    }
    assert_eq!(counted(&lab, "request_elsewhere"), 6);
    assert_eq!((counted(&lab, "request_stayed"), counted(&lab, "request_pinned")), (0, 0));
}

/// Reads an answer with a Content-Length.
fn answer(client: &mut impl Read) -> String {
    let (mut said, mut byte) = (String::new(), [0]);
    let content = |said: &str| {
        let (head, content) = said.split_once("\r\n\r\n")?;
        let bytes = head.lines().find_map(|line| line.strip_prefix("Content-Length: "))?;
        Some(content.len() >= bytes.parse().ok()?)
    };
    while content(&said) != Some(true) {
        client.read_exact(&mut byte).unwrap_or_else(|e| panic!("{e} after {said:?}"));
        said.push(byte[0].into());
    }
    said
}
