//! Random routes, and the same as HAProxy's rules.

use std::cmp::Reverse;

use fastrand::Rng;
use model::route::{ClientProtocol, Match, Named, Pattern, Route, RouteSet};
use routes::Routes;

const LABELS: [&str; 3] = ["a", "b", "c"];
const ELEMENTS: [&str; 4] = ["a", "b", "ab", ""];
const VALUES: [&str; 3] = ["1", "2", "3 4"];
const METHODS: [&str; 3] = ["GET", "POST", "DELETE"];
/// Expressions that both write in the same way.
const PATHS: [&str; 4] = ["/a/.*", "[/ab]*", "/(a|b)/ab?", "/[^/]+"];
const TEXTS: [&str; 3] = ["1|2", "[0-9 ]+", ".*4"];

/// Routes, and their matches from the most to the least specific.
pub(crate) struct Rules {
    pub(crate) set: RouteSet,
    ordered: Vec<(usize, Option<String>, Match)>,
}

impl Rules {
    pub(crate) fn random(rng: &mut Rng) -> Self {
        let mut set = RouteSet { protocol: ClientProtocol::Http, routes: Vec::new() };
        for n in 0..rng.usize(1..12) {
            let mut one = route(rng);
            one.name = format!("r{n}");
            set.routes.push(one);
            // Two with the same match are none.
            if Routes::compile(&set).is_err() {
                set.routes.pop();
            }
        }
        let mut ordered = Vec::new();
        for (number, route) in set.routes.iter().enumerate() {
            let hosts = route.hostnames.iter().cloned().map(Some);
            let hosts: Vec<_> = if route.hostnames.is_empty() { vec![None] } else { hosts.collect() };
            let all = [Match::default()];
            let matches = if route.matches.is_empty() { &all[..] } else { &route.matches };
            ordered.extend(
                matches
                    .iter()
                    .flat_map(|one| hosts.iter().map(move |host| (number, host.clone(), one.clone()))),
            );
        }
        // Stable: of equals the first in the file comes first.
        ordered.sort_by_key(|(_, host, one)| (host_rank(host.as_deref()), rank(one)));
        Self { set, ordered }
    }

    /// The rules, one a line.
    pub(crate) fn texts(&self) -> Vec<String> {
        self.ordered
            .iter()
            .map(|(number, host, one)| format!("use_backend r{number}{}", conditions(host.as_deref(), one)))
            .collect()
    }

    /// HAProxy's section for a socket. Of a query parameter the first counts, as with Gateway API: asked for it in a rule, HAProxy tries
    /// each.
    pub(crate) fn frontend(&self, number: usize, socket: &str) -> String {
        let mut text = format!(
            "frontend f{number}\n    bind unix@{socket}\n    http-request set-var(txn.host) 'req.hdr(host),host_only,regsub(\"[.]$\",)'\n\
             \x20   http-request set-var(txn.qx) url_param(qx),url_dec(1)\n    http-request set-var(txn.qy) url_param(qy),url_dec(1)\n"
        );
        text.extend(self.texts().iter().map(|line| format!("    {line}\n")));
        text + "    default_backend none\n"
    }
}

/// Smaller comes first.
fn host_rank(host: Option<&str>) -> (u8, Reverse<usize>) {
    match host {
        Some(name) if name.starts_with("*.") => (1, Reverse(name.len())),
        Some(_) => (0, Reverse(0)),
        None => (2, Reverse(0)),
    }
}

fn rank(one: &Match) -> (u8, Reverse<usize>, Reverse<bool>, Reverse<usize>, Reverse<usize>) {
    let (kind, length) = match &one.subject {
        Some(Pattern::Exact(_)) => (0, 0),
        Some(Pattern::Prefix(start)) if !start.trim_end_matches('/').is_empty() => {
            (1, start.trim_end_matches('/').len())
        }
        Some(Pattern::RegularExpression(_)) => (2, 0),
        Some(Pattern::Prefix(_)) | None => (3, 0),
    };
    (
        kind,
        Reverse(length),
        Reverse(one.method.is_some()),
        Reverse(one.headers.len()),
        Reverse(one.query_params.len()),
    )
}

/// ` if` and what has to hold.
fn conditions(host: Option<&str>, one: &Match) -> String {
    let host = host.map(|host| match host.strip_prefix('*') {
        Some(suffix) => format!("var(txn.host) -m end {suffix}"),
        None => format!("var(txn.host) -m str {host}"),
    });
    let path = match &one.subject {
        Some(Pattern::Prefix(start)) => match start.trim_end_matches('/') {
            "" => None,
            start => Some(format!("path,concat(/) -m beg {start}/")),
        },
        Some(other) => Some(format!("path {}", of(other))),
        None => None,
    };
    let method = one.method.as_ref().map(|method| format!("method {method}"));
    let headers = one.headers.iter().map(|Named { name, value }| format!("req.fhdr({name}) {}", of(value)));
    let params =
        one.query_params.iter().map(|Named { name, value }| format!("var(txn.{name}) {}", of(value)));
    let all = host.into_iter().chain(path).chain(method).chain(headers).chain(params);
    let all: String = all.map(|condition| format!(" {{ {condition} }}")).collect();
    if all.is_empty() { all } else { format!(" if{all}") }
}

fn of(pattern: &Pattern) -> String {
    match pattern {
        Pattern::Exact(text) => format!("-m str '{text}'"),
        Pattern::Prefix(text) => format!("-m beg '{text}'"),
        Pattern::RegularExpression(text) => format!("-m reg '^(?:{text})$'"),
    }
}

/// A host name of one to three labels.
pub(crate) fn host(rng: &mut Rng) -> String {
    (0..rng.usize(1..4)).map(|_| choose(&LABELS, rng)).collect::<Vec<_>>().join(".")
}

/// A path of one to three elements, some of which are empty.
pub(crate) fn path(rng: &mut Rng) -> String {
    (0..rng.usize(1..4)).map(|_| format!("/{}", choose(&ELEMENTS, rng))).collect()
}

pub(crate) fn value(rng: &mut Rng) -> &'static str {
    choose(&VALUES, rng)
}

pub(crate) fn method(rng: &mut Rng) -> &'static str {
    choose(&METHODS, rng)
}

pub(crate) fn choose<T: Copy>(of: &[T], rng: &mut Rng) -> T {
    of[rng.usize(..of.len())]
}

fn route(rng: &mut Rng) -> Route {
    let hostname = |rng: &mut Rng| if rng.bool() { host(rng) } else { format!("*.{}", host(rng)) };
    let hostnames = (0..rng.usize(0..3)).map(|_| hostname(rng)).collect();
    let matches = (0..rng.usize(0..4)).map(|_| matching(rng)).collect();
    Route { hostnames, matches, ..Route::default() }
}

fn matching(rng: &mut Rng) -> Match {
    let subject = match rng.u8(..4) {
        0 => Some(Pattern::Exact(path(rng))),
        1 => Some(Pattern::Prefix(path(rng))),
        2 => Some(Pattern::RegularExpression(choose(&PATHS, rng).to_owned())),
        _ => None,
    };
    let method = (rng.u8(..4) == 0).then(|| method(rng).to_owned());
    Match { subject, method, headers: named("x-", rng), query_params: named("q", rng), ..Match::default() }
}

fn named(prefix: &str, rng: &mut Rng) -> Vec<Named> {
    let mut names = ["x", "y"].map(|letter| format!("{prefix}{letter}"));
    rng.shuffle(&mut names);
    let count = rng.usize(0..8).saturating_sub(5);
    let value = |rng: &mut Rng| match rng.u8(..4) {
        0 => Pattern::RegularExpression(choose(&TEXTS, rng).to_owned()),
        _ => Pattern::Exact(value(rng).to_owned()),
    };
    names.into_iter().take(count).map(|name| Named { name, value: value(rng) }).collect()
}
