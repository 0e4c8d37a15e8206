//! Hosts, paths and the rest of HTTP's matches.

use model::route::{ClientProtocol, Match, Named, Pattern};

use super::{compiled, exact, of, prefix, regex, route, taken};
use crate::Routes;

fn get(routes: &Routes, host: &str, target: &str) -> String {
    taken(routes, format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes())
}

#[test]
fn the_most_specific_host_comes_first_and_others_serve_what_it_does_not() {
    let routes = compiled(
        ClientProtocol::Http,
        &[
            route("all", &[], &[of(prefix("/health"))]),
            route("wide", &["*.example"], &[]),
            route("narrow", &["*.Shop.example"], &[of(prefix("/pay"))]),
            route("one", &["www.shop.example"], &[of(exact("/x"))]),
        ],
    );
    for (host, target, wanted) in [
        ("www.shop.example", "/x", "one"),
        ("WWW.shop.EXAMPLE.:8080", "/x", "one"),
        ("www.shop.example", "/pay/1", "narrow"),
        ("www.shop.example", "/y", "wide"),
        ("a.b.shop.example", "/pay", "narrow"),
        ("shop.example", "/pay", "wide"),
        ("example", "/pay", "Refused(NotFound)"),
        ("example", "/health", "all"),
        ("[2001:db8::1]:80", "/health/live?x", "all"),
    ] {
        assert_eq!(get(&routes, host, target), wanted, "{host}{target}");
    }
}

#[test]
fn exact_paths_come_before_prefixes_of_elements_before_expressions_before_the_rest() {
    let routes = compiled(
        ClientProtocol::Http,
        &[
            route("rest", &[], &[of(prefix("/"))]),
            route("expression", &[], &[of(regex("/[a-z]+/[0-9]+"))]),
            route("short", &[], &[of(prefix("/api"))]),
            route("long", &[], &[of(prefix("/api/v1/"))]),
            route("exact", &[], &[of(exact("/api/v1"))]),
        ],
    );
    for (target, wanted) in [
        ("/api/v1", "exact"),
        ("/api/v1/", "long"),
        ("/api/v1?q", "exact"),
        ("/api/v12", "short"),
        ("/api", "short"),
        ("/apis", "rest"),
        ("/apis/77", "expression"),
        ("/apis/77/", "rest"),
        ("http://h/api/v1/x?y", "long"),
        ("http://h", "rest"),
    ] {
        assert_eq!(get(&routes, "h", target), wanted, "{target}");
    }
}

#[test]
fn method_headers_and_parameters_decide_between_equal_paths() {
    let named =
        |name: &str, value: Option<Pattern>| Named { name: name.to_owned(), value: value.expect("a value") };
    let version = |value| named("X-Version", exact(value));
    let routes = compiled(
        ClientProtocol::Http,
        &[
            route("plain", &[], &[of(prefix("/a"))]),
            route(
                "param",
                &[],
                &[Match { query_params: vec![named("q", regex("[a ]+"))], ..of(prefix("/a")) }],
            ),
            route("header", &[], &[Match { headers: vec![version("2")], ..of(prefix("/a")) }]),
            route("method", &[], &[Match { method: Some("POST".into()), ..of(prefix("/a")) }]),
        ],
    );
    let ask = |method: &str, target: &str, header: &str| {
        taken(&routes, format!("{method} {target} HTTP/1.1\r\nHost: h\r\n{header}\r\n").as_bytes())
    };
    assert_eq!(ask("GET", "/a", ""), "plain");
    assert_eq!(ask("GET", "/a?q=a%61+&q=b", ""), "param");
    assert_eq!(ask("GET", "/a?q=b&q=a", ""), "plain");
    assert_eq!(ask("GET", "/a?q=a", "x-version: 1\r\nx-VERSION: 2\r\n"), "header");
    assert_eq!(ask("POST", "/a?q=a", "x-version: 2\r\n"), "method");
    assert_eq!(ask("POST", "/b", ""), "Refused(NotFound)");
}

#[test]
fn many_hosts_and_many_paths_of_one_are_found_as_few_are() {
    let mut all: Vec<_> = (0..1000)
        .map(|n| route(&format!("h{n}"), &[&format!("h{n}.example"), &format!("*.w{n}.example")], &[]))
        .collect();
    let paths = |n: i32| [of(prefix(&format!("/p{n}"))), of(exact(&format!("/p{n}/exact")))];
    all.extend((0..100).map(|n| route(&format!("p{n}"), &["many.example"], &paths(n)[..1])));
    all.extend((0..100).map(|n| route(&format!("e{n}"), &["many.example"], &paths(n)[1..])));
    let routes = compiled(ClientProtocol::Http, &all);
    for n in [0, 1, 7, 63, 99] {
        assert_eq!(get(&routes, &format!("h{n}.example"), "/"), format!("h{n}"));
        assert_eq!(get(&routes, &format!("a.b.w{n}.example"), "/"), format!("h{n}"));
        assert_eq!(get(&routes, "many.example", &format!("/p{n}/x")), format!("p{n}"));
        assert_eq!(get(&routes, "many.example", &format!("/p{n}/exact")), format!("e{n}"));
    }
    assert_eq!(get(&routes, "many.example", "/p100"), "Refused(NotFound)");
    assert_eq!(get(&routes, "h1000.example", "/"), "Refused(Misdirected)");
}
