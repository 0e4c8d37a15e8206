//! The families of request smuggling: each is refused, or pins the connection, so that no second opinion of where a request ends matters.

use model::route::ClientProtocol;

use super::{compiled, of, prefix, route};
use crate::{Framing, Pin, Read, Refusal, Routes};

fn routes() -> Routes {
    compiled(
        ClientProtocol::Http,
        &[route("a", &["a.example"], &[]), route("admin", &[], &[of(prefix("/admin"))])],
    )
}

fn framing(request: &str) -> Result<Framing, Refusal> {
    match routes().read(request.as_bytes()) {
        Read::Whole(decision) => Ok(decision.framing),
        Read::Refused(refusal) => Err(refusal),
        Read::NeedsMore => panic!("not whole: {request:?}"),
    }
}

/// A request of these header lines to `a.example`.
fn with(method: &str, lines: &str) -> Result<Framing, Refusal> {
    framing(&format!("{method} / HTTP/1.1\r\nHost: a.example\r\n{lines}\r\n"))
}

#[test]
fn a_clean_request_ends_where_its_length_says() {
    let head = "POST / HTTP/1.1\r\nHost: a.example\r\n\r\n".len() as u32;
    assert_eq!(with("POST", ""), Ok(Framing::Ends { request_bytes: head }));
    for lines in ["Content-Length: 7\r\n", "content-length:007\r\n", "CONTENT-LENGTH:\t7 \r\n"] {
        let request_bytes = head + lines.len() as u32 + 7;
        assert_eq!(with("POST", lines), Ok(Framing::Ends { request_bytes }), "{lines}");
    }
    let lines = "Connection: Keep-Alive, TE\r\nTE: trailers\r\nUpgrade-Insecure-Requests: 1\r\n";
    assert_eq!(with("GET", lines), Ok(Framing::Ends { request_bytes: head - 1 + lines.len() as u32 }));
}

#[test]
fn what_follows_in_the_same_bytes_is_the_next_request() {
    let first = "GET / HTTP/1.1\r\nHost: a.example\r\n\r\n";
    let both = format!("{first}GET /admin HTTP/1.1\r\nHost: b\r\n\r\n");
    assert_eq!(framing(&both), Ok(Framing::Ends { request_bytes: first.len() as u32 }));
}

#[test]
fn lengths_that_are_no_one_number_are_refused() {
    for lines in [
        "Content-Length: 3\r\nContent-Length: 30\r\n",
        "Content-Length: 3\r\nContent-Length: 3\r\n",
        "Content-Length: 3, 3\r\n",
        "Content-Length: +3\r\n",
        "Content-Length: -3\r\n",
        "Content-Length: 0x3\r\n",
        "Content-Length: 3 0\r\n",
        "Content-Length: 3;a\r\n",
        "Content-Length: \r\n",
        "Content-Length: 3\u{b}\r\n",
    ] {
        assert_eq!(with("POST", lines), Err(Refusal::BadRequest), "{lines:?}");
    }
}

#[test]
fn transfer_codings_pin_however_they_are_written() {
    for lines in [
        "Transfer-Encoding: chunked\r\n",
        "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Transfer-Encoding:\tchunked\r\n",
        "Transfer-Encoding: \"chunked\"\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n",
        "tRANSFER-eNCODING: CHUNKED;ext=\"1\"\r\n",
        "Transfer-Encoding:\r\n",
    ] {
        assert_eq!(with("POST", lines), Ok(Framing::Pinned(Pin::TransferCoding)), "{lines:?}");
    }
    let lines = "Transfer_Encoding: chunked\r\n";
    assert_eq!(with("POST", lines), Ok(Framing::Pinned(Pin::Doubtful)));
    assert_eq!(with("POST", "Content_Length: 9\r\n"), Ok(Framing::Pinned(Pin::Doubtful)));
}

#[test]
fn chunks_are_not_read_at_all() {
    let head = "POST / HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n";
    for chunks in ["0\r\n\r\n", "3;a=\"\r\n\"\r\nabc\r\n0\r\n\r\n", "0x3\r\nabc\r\n", "ffffffffffffffff1\r\n"]
    {
        let request = format!("{head}{chunks}GET /admin HTTP/1.1\r\nHost: a.example\r\n\r\n");
        assert_eq!(framing(&request), Ok(Framing::Pinned(Pin::TransferCoding)), "{chunks:?}");
    }
}

#[test]
fn names_and_lines_that_are_read_in_two_ways_are_refused() {
    for request in [
        // Space before the colon, before the name (obs-fold), and no name.
        "POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length : 3\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding : chunked\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a.example\r\n Content-Length: 3\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a.example\r\nX: 1\r\n\tTransfer-Encoding: chunked\r\n\r\n",
        "POST / HTTP/1.1\r\n Host: a.example\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a.example\r\n: x\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a.example\r\nTransfer\u{0}-Encoding: chunked\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a.example\r\nX: a\u{0}b\r\n\r\n",
        // LF and CR alone.
        "POST / HTTP/1.1\nHost: a.example\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a.example\nContent-Length: 3\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a.example\r\n\n",
        "POST / HTTP/1.1\r\nHost: a.example\rContent-Length: 3\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a.example\r\nX: a\r\rContent-Length: 3\r\n\r\n",
        // The request line.
        "POST  / HTTP/1.1\r\nHost: a.example\r\n\r\n",
        "POST\t/ HTTP/1.1\r\nHost: a.example\r\n\r\n",
        "POST /#a HTTP/1.1\r\nHost: a.example\r\n\r\n",
        "POST a HTTP/1.1\r\nHost: a.example\r\n\r\n",
        "POST * HTTP/1.1\r\nHost: a.example\r\n\r\n",
        "POST /\u{e9} HTTP/1.1\r\nHost: a.example\r\n\r\n",
    ] {
        assert_eq!(framing(request), Err(Refusal::BadRequest), "{request:?}");
    }
}

#[test]
fn a_request_has_one_host_and_it_is_that_of_its_target() {
    for request in [
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a.example\r\nHost: a.example\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a.example\r\nhost: b.example\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a.example, b.example\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a.example/x\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: u@a.example\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a.example:8a\r\n\r\n",
        "GET http://b.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n",
        "GET http://a.example:81/ HTTP/1.1\r\nHost: a.example\r\n\r\n",
        "GET http://u@a.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n",
        "GET http:///x HTTP/1.1\r\nHost: a.example\r\n\r\n",
        "GET ftp://a.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n",
        "GET / HTTP/1.0\r\nHost: a.example\r\nHost: a.example\r\n\r\n",
    ] {
        assert_eq!(framing(request), Err(Refusal::BadRequest), "{request:?}");
    }
    let same = "GET HTTP://A.example/x HTTP/1.1\r\nHost: a.EXAMPLE\r\n\r\n";
    assert_eq!(framing(same), Ok(Framing::Ends { request_bytes: same.len() as u32 }));
}

#[test]
fn what_ends_or_changes_the_protocol_pins() {
    for (method, lines, pin) in [
        ("CONNECT", "", Pin::Connect),
        ("GET", "Connection: Upgrade\r\nUpgrade: websocket\r\n", Pin::Upgrade),
        ("GET", "Upgrade: h2c\r\n", Pin::Upgrade),
        ("GET", "Connection: close\r\n", Pin::Closes),
        ("GET", "Connection: keep-alive,CLOSE\r\n", Pin::Closes),
        ("GET", "Connection: Content-Length\r\n", Pin::Doubtful),
        ("POST", "Expect: 100-continue\r\nContent-Length: 5\r\n", Pin::Expectation),
        ("GET", "Content-Length: 5\r\n", Pin::UnexpectedContent),
        ("HEAD", "Content-Length: 5\r\n", Pin::UnexpectedContent),
        ("POST", "Content-Length: 4294967295\r\n", Pin::LongContent),
        ("POST", "Content-Length: 99999999999999999999999999\r\n", Pin::LongContent),
    ] {
        let target = if method == "CONNECT" { "a.example" } else { "/" };
        let request = format!("{method} {target} HTTP/1.1\r\nHost: a.example\r\n{lines}\r\n");
        assert_eq!(framing(&request), Ok(Framing::Pinned(pin)), "{request:?}");
    }
    let old = "GET / HTTP/1.0\r\nHost: a.example\r\nConnection: keep-alive\r\n\r\n";
    assert_eq!(framing(old), Ok(Framing::Pinned(Pin::Version10)));
    let after_empty_line = "\r\nGET / HTTP/1.1\r\nHost: a.example\r\n\r\n";
    assert_eq!(framing(after_empty_line), Ok(Framing::Pinned(Pin::Doubtful)));
}

#[test]
fn other_versions_and_protocols_are_refused() {
    assert_eq!(framing("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), Err(Refusal::Version));
    assert_eq!(framing("GET / a HTTP/1.1\r\nHost: a.example\r\n\r\n"), Err(Refusal::Version));
    assert_eq!(framing("GET /\r\n\r\n"), Err(Refusal::BadRequest));
    assert_eq!(framing("\u{16}\u{3}\u{1}\u{2}\u{0}\u{1}\u{0}"), Err(Refusal::BadRequest));
    let lines = "X: 1\r\n".repeat(crate::http::MAX_HEADERS + 1);
    assert_eq!(with("GET", &lines), Err(Refusal::TooLarge));
}

#[test]
fn each_beginning_of_a_request_needs_more_or_is_refused_as_the_whole_is() {
    for request in [
        "POST /x?y=1 HTTP/1.1\r\nHost: a.example\r\nContent-Length: 3\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length : 3\r\n\r\n",
    ] {
        let routes = routes();
        for end in 0..request.len() {
            let read = routes.read(&request.as_bytes()[..end]);
            assert!(matches!(read, Read::NeedsMore | Read::Refused(Refusal::BadRequest)), "{end}: {read:?}");
        }
    }
}
