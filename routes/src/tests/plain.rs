//! The short way for plain heads says what the long way says, whatever the bytes are, and is taken by what clients write.

use model::route::{ClientProtocol, Match, Named, Pattern};
use proptest::prelude::*;

use super::{compiled, exact, of, prefix, route};
use crate::{Routes, http, plain};

fn routes() -> Routes {
    let named = |name: &str, value: &str| Named { name: name.into(), value: Pattern::Exact(value.into()) };
    let a = || of(prefix("/a"));
    compiled(
        ClientProtocol::Http,
        &[
            route("shop", &["shop.example", "a.shop.example"], &[a(), of(exact("/b"))]),
            route("wild", &["*.shop.example"], &[]),
            route("header", &[], &[Match { headers: vec![named("x-a", "1")], ..a() }]),
            route("query", &[], &[Match { query_params: vec![named("q", "1")], ..a() }]),
            route("post", &[], &[Match { method: Some("POST".into()), ..Match::default() }]),
        ],
    )
}

/// What curl, browsers and libraries write.
const USUAL: [&str; 4] = [
    "GET /a?q=1 HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: curl/7.88.1\r\nAccept: */*\r\n\r\n",
    "GET /a HTTP/1.1\r\nHost: x.shop.example:8080\r\nConnection: keep-alive\r\nUpgrade-Insecure-Requests: 1\r\n\
     User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko)\r\nAccept: text/html,*/*;q=0.8\r\n\
     Sec-Fetch-Site: none\r\nAccept-Encoding: gzip, deflate, br\r\nCookie: a=b; c=\"d\"\r\nX-A: 1\r\n\r\n",
    "POST /b HTTP/1.1\r\nhost:shop.example\r\ncontent-length:  5 \r\n\r\nhello",
    "PUT /a/b HTTP/1.1\r\nHost: 198.18.9.1\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n",
];

#[test]
fn what_clients_write_is_plain() {
    let routes = routes();
    for head in USUAL {
        let found = plain::read(&routes, head.as_bytes());
        assert_eq!(found, Some(http::read_any(&routes, head.as_bytes())), "{head}");
        for end in 0..head.find("\r\n\r\n").expect("it ends") + 4 {
            assert_eq!(plain::read(&routes, &head.as_bytes()[..end]), None, "{head:?} to {end}");
        }
    }
}

#[test]
fn the_number_of_lines_and_of_labels_has_the_same_limit() {
    let routes = routes();
    for lines in [98, 99, 100, 101] {
        let head = format!("GET /a HTTP/1.1\r\nHost: shop.example\r\n{}\r\n", "X: 1\r\n".repeat(lines));
        assert_eq!(routes.read(head.as_bytes()), http::read_any(&routes, head.as_bytes()).read, "{lines}");
    }
    for labels in [15, 16, 30, 31, 32, 33] {
        let head = format!("GET /a HTTP/1.1\r\nHost: {}shop.example\r\n\r\n", "a.".repeat(labels));
        assert_eq!(routes.read(head.as_bytes()), http::read_any(&routes, head.as_bytes()).read, "{labels}");
    }
}

/// Pieces of which heads are made, good ones and others.
fn piece() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "GET",
        "POST",
        "CONNECT",
        "OPTIONS",
        "get",
        " ",
        "  ",
        "/",
        "/a",
        "/a/b?q=1",
        "/a#b",
        "*",
        "http://shop.example/a",
        " HTTP/1.1\r\n",
        " HTTP/1.0\r\n",
        " HTTP/1.1\n",
        "Host: shop.example\r\n",
        "host:a.shop.example:80\r\n",
        "Host: Shop.example.\r\n",
        "Host: shop.example:8x\r\n",
        "Host: [::1]\r\n",
        "Host: \r\n",
        "Host: a b\r\n",
        "Content-Length: 3\r\n",
        "Content-Length: 3 3\r\n",
        "Content_Length: 3\r\n",
        "Content-Length : 3\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Transfer-Encoding:\tchunked\r\n",
        "Connection: close\r\n",
        "Connection: keep-alive, te\r\n",
        "Connection: x\r\n",
        "Upgrade: h2c\r\n",
        "Expect: 100-continue\r\n",
        "X-A: 1\r\n",
        "x-a:1 \r\n",
        "X-A: 1\r\n x\r\n",
        "X: \u{e4}\r\n",
        "X: \u{1}\r\n",
        "X\u{7f}: 1\r\n",
        ": 1\r\n",
        "X\r\n",
        "A-Header-Of-More-Than-Sixteen-Letters: and a value that is longer than all the others together are, nearly\r\n",
        "\r",
        "\n",
        "\r\n",
        "\r\n",
        "\r\n\r\n",
        "body",
    ])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn heads_of_any_pieces_are_read_alike(pieces in prop::collection::vec(piece(), 0..9), good in any::<bool>()) {
        let routes = routes_once();
        let begin = if good { "GET /a HTTP/1.1\r\nHost: shop.example\r\n" } else { "" };
        let head = format!("{begin}{}\r\n", pieces.concat());
        prop_assert_eq!(routes.read(head.as_bytes()), routes.read_the_long_way(head.as_bytes()), "{:?}", head);
    }

    #[test]
    fn a_changed_byte_is_read_alike(which in 0..USUAL.len(), at in any::<prop::sample::Index>(), byte: u8, insert: bool) {
        let mut head = USUAL[which].as_bytes().to_vec();
        let at = at.index(head.len());
        if insert { head.insert(at, byte) } else { head[at] = byte }
        let routes = routes_once();
        prop_assert_eq!(routes.read(&head), routes.read_the_long_way(&head), "{:?}", String::from_utf8_lossy(&head));
    }
}

fn routes_once() -> &'static Routes {
    static ROUTES: std::sync::OnceLock<Routes> = std::sync::OnceLock::new();
    ROUTES.get_or_init(routes)
}
