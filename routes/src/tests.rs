mod http;
mod plain;
mod protocols;
mod reference;
mod smuggling;

use model::route::{ClientProtocol, Match, Pattern, Route, RouteSet};

use crate::{Read, Routes};

/// A route of these host names and matches.
fn route(name: &str, hostnames: &[&str], matches: &[Match]) -> Route {
    let hostnames = hostnames.iter().map(|name| (*name).to_owned()).collect();
    Route { name: name.to_owned(), hostnames, matches: matches.to_vec(), backends: Vec::new() }
}

fn compiled(protocol: ClientProtocol, routes: &[Route]) -> Routes {
    Routes::compile(&RouteSet { protocol, routes: routes.to_vec() }).expect("good routes")
}

fn exact(text: &str) -> Option<Pattern> {
    Some(Pattern::Exact(text.to_owned()))
}

fn prefix(text: &str) -> Option<Pattern> {
    Some(Pattern::Prefix(text.to_owned()))
}

fn regex(text: &str) -> Option<Pattern> {
    Some(Pattern::RegularExpression(text.to_owned()))
}

fn of(subject: Option<Pattern>) -> Match {
    Match { subject, ..Match::default() }
}

/// The name of the route that takes the bytes, or what becomes of them else.
fn taken(routes: &Routes, bytes: &[u8]) -> String {
    match routes.read(bytes) {
        Read::Whole(decision) => routes.name(decision.route).to_owned(),
        other => format!("{other:?}"),
    }
}
