//! The tables against a reference that goes through all matches one after the other and compares what the definitions say.

use model::route::{ClientProtocol, Match, Named, Pattern, Route, RouteSet};
use proptest::prelude::*;

use crate::{Read, Routes};

/// A request as the reference sees it.
#[derive(Debug)]
struct Ask {
    method: &'static str,
    host: String,
    path: String,
    headers: Vec<(&'static str, &'static str)>,
    query: Vec<(&'static str, &'static str)>,
}

impl Ask {
    fn bytes(&self) -> Vec<u8> {
        let query: Vec<String> = self.query.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mark = if query.is_empty() { "" } else { "?" };
        let head = format!(
            "{} {}{mark}{} HTTP/1.1\r\nHost: {}\r\n",
            self.method,
            self.path,
            query.join("&"),
            self.host
        );
        let headers: String =
            self.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        (head + &headers + "\r\n").into_bytes()
    }
}

/// What an expression means.
type Means = fn(&str) -> bool;

/// The expressions that rules are made of.
const EXPRESSIONS: [(&str, Means); 3] = [
    ("/a/.*", |text| text.starts_with("/a/")),
    ("[/ab]*", |text| text.bytes().all(|byte| b"/ab".contains(&byte))),
    ("1|2", |text| text == "1" || text == "2"),
];

fn holds(pattern: &Pattern, text: &str) -> bool {
    match pattern {
        Pattern::Exact(all) => all == text,
        Pattern::Prefix(start) => text.starts_with(start.as_str()),
        Pattern::RegularExpression(expression) => {
            EXPRESSIONS.iter().find(|(known, _)| known == expression).is_some_and(|(_, means)| means(text))
        }
    }
}

/// Smaller comes first: Gateway API's order of precedence.
type Rank = (i64, i64, i64, i64, i64, i64, usize, usize);

fn host_rank(hostname: Option<&String>, host: &str) -> Option<(i64, i64)> {
    let Some(name) = hostname else { return Some((2, 0)) };
    let name = name.to_lowercase();
    match name.strip_prefix('*') {
        Some(suffix) => {
            (host.ends_with(suffix) && host.len() > suffix.len()).then_some((1, -(name.len() as i64)))
        }
        None => (name == host).then_some((0, 0)),
    }
}

fn path_rank(path: &Option<Pattern>, asked: &str) -> Option<(i64, i64)> {
    match path {
        None => Some((3, 0)),
        Some(Pattern::Exact(all)) => (all == asked).then_some((0, 0)),
        Some(Pattern::Prefix(start)) => {
            let start = start.trim_end_matches('/');
            let rest = asked.strip_prefix(start)?;
            let rank = if start.is_empty() { (3, 0) } else { (1, -(start.len() as i64)) };
            (rest.is_empty() || rest.starts_with('/')).then_some(rank)
        }
        Some(expression) => holds(expression, asked).then_some((2, 0)),
    }
}

fn rank(one: &Match, hostname: Option<&String>, ask: &Ask, places: (usize, usize)) -> Option<Rank> {
    let (kind, host) = host_rank(hostname, &ask.host)?;
    let (path, length) = path_rank(&one.subject, &ask.path)?;
    let method = one.method.as_deref().is_none_or(|method| method == ask.method);
    let has_header = |named: &Named| {
        ask.headers
            .iter()
            .any(|(name, value)| name.eq_ignore_ascii_case(&named.name) && holds(&named.value, value))
    };
    let has_param = |named: &Named| {
        let first = ask.query.iter().find(|(name, _)| *name == named.name);
        first.is_some_and(|(_, value)| holds(&named.value, value))
    };
    let all = method && one.headers.iter().all(has_header) && one.query_params.iter().all(has_param);
    let (headers, params) = (one.headers.len() as i64, one.query_params.len() as i64);
    // The number of the host's kind and of the path's come before their lengths.
    let (host, path) = (kind * 1000 + host, path * 1000 + length);
    all.then_some((host, path, -i64::from(one.method.is_some()), -headers, -params, 0, places.0, places.1))
}

fn reference<'r>(routes: &'r [Route], ask: &Ask) -> Option<&'r str> {
    let mut best: Option<(Rank, &str)> = None;
    let all = Match::default();
    for (i, route) in routes.iter().enumerate() {
        let hosts: Vec<Option<&String>> =
            if route.hostnames.is_empty() { vec![None] } else { route.hostnames.iter().map(Some).collect() };
        let matches = if route.matches.is_empty() { std::slice::from_ref(&all) } else { &route.matches[..] };
        for hostname in hosts {
            for (j, one) in matches.iter().enumerate() {
                if let Some(rank) = rank(one, hostname, ask, (i, j))
                    && best.as_ref().is_none_or(|(other, _)| rank < *other)
                {
                    best = Some((rank, &route.name));
                }
            }
        }
    }
    best.map(|(_, name)| name)
}

fn label() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["a", "b", "c"])
}

fn host() -> impl Strategy<Value = String> {
    prop::collection::vec(label(), 1..4).prop_map(|labels| labels.join("."))
}

fn path() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(vec!["a", "b", "ab", ""]), 1..4)
        .prop_map(|parts| format!("/{}", parts.join("/")))
}

fn value() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["1", "2", "3"])
}

fn named(name: &'static str) -> impl Strategy<Value = Vec<Named>> {
    let value = prop_oneof![
        3 => value().prop_map(|text| Pattern::Exact(text.into())),
        1 => Just(Pattern::RegularExpression("1|2".into())),
    ];
    prop::collection::vec((prop::sample::select(vec!["x", "y"]), value), 0..3).prop_map(move |all| {
        let mut named: Vec<Named> = Vec::new();
        for (letter, value) in all {
            let full = format!("{name}{letter}");
            if named.iter().all(|other| other.name != full) {
                named.push(Named { name: full, value });
            }
        }
        named
    })
}

fn matching() -> impl Strategy<Value = Match> {
    let subject = prop_oneof![
        path().prop_map(|path| Some(Pattern::Exact(path))),
        path().prop_map(|path| Some(Pattern::Prefix(path))),
        prop::sample::select(vec!["/a/.*", "[/ab]*"])
            .prop_map(|text| Some(Pattern::RegularExpression(text.into()))),
        Just(None),
    ];
    let method = prop_oneof![3 => Just(None), 1 => Just(Some("POST".to_owned()))];
    (subject, method, named("X-"), named("q")).prop_map(|(subject, method, headers, query_params)| Match {
        subject,
        method,
        headers,
        query_params,
        ..Match::default()
    })
}

fn route() -> impl Strategy<Value = Route> {
    let hostname =
        (any::<bool>(), host()).prop_map(|(wild, name)| if wild { format!("*.{name}") } else { name });
    (prop::collection::vec(hostname, 0..3), prop::collection::vec(matching(), 0..4))
        .prop_map(|(hostnames, matches)| Route { hostnames, matches, ..Route::default() })
}

fn ask() -> impl Strategy<Value = Ask> {
    let headers = prop::collection::vec((prop::sample::select(vec!["x-x", "X-Y"]), value()), 0..3);
    let query = prop::collection::vec((prop::sample::select(vec!["qx", "qy"]), value()), 0..3);
    (prop::sample::select(vec!["GET", "POST"]), host(), path(), headers, query)
        .prop_map(|(method, host, path, headers, query)| Ask { method, host, path, headers, query })
}

/// As many routes as compile: those that a double would keep from it are left out.
fn compilable(routes: Vec<Route>) -> (Vec<Route>, Routes) {
    let mut kept: Vec<Route> = Vec::new();
    for mut route in routes {
        route.name = format!("r{}", kept.len());
        kept.push(route);
        if Routes::compile(&RouteSet { protocol: ClientProtocol::Http, routes: kept.clone() }).is_err() {
            kept.pop();
        }
    }
    let compiled = Routes::compile(&RouteSet { protocol: ClientProtocol::Http, routes: kept.clone() });
    (kept, compiled.expect("each was tried"))
}

proptest! {
    // 1 000 sets of rules with 20 requests each.
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn the_tables_decide_as_the_reference_does(
        routes in prop::collection::vec(route(), 1..10),
        asks in prop::collection::vec(ask(), 20),
    ) {
        let (routes, compiled) = compilable(routes);
        for ask in asks {
            let read = compiled.read(&ask.bytes());
            let name = match &read {
                Read::Whole(decision) => Some(compiled.name(decision.route)),
                Read::Refused(_) => None,
                Read::NeedsMore => return Err(TestCaseError::fail(format!("not whole: {ask:?}"))),
            };
            prop_assert_eq!(name, reference(&routes, &ask), "{:?}\n{:#?}", ask, routes);
        }
    }

    #[test]
    fn no_bytes_panic_and_more_bytes_never_unread_a_request(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        protocol in 0..6_usize,
    ) {
        use ClientProtocol::{Http, Mqtt, Postgresql, Raw, Redis, Tls};
        let protocol = [Http, Tls, Postgresql, Mqtt, Redis, Raw][protocol];
        let set = RouteSet { protocol, routes: vec![Route { name: "all".into(), ..Route::default() }] };
        let routes = Routes::compile(&set).expect("a good route");
        let mut decided = None;
        for end in 0..=bytes.len() {
            let read = routes.read(&bytes[..end]);
            if let Some(before) = decided {
                prop_assert_eq!(before, read);
            }
            decided = (read != Read::NeedsMore).then_some(read).or(decided);
        }
    }
}
