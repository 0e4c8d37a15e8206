//! Routes against their distribution, and whether they can be compiled: that is tried here, so that the forwarder has nothing to refuse.

use std::ops::Range;

use ::routes::{Place, Routes};
use model::route::{Backend, Route, RouteSet};
use model::{Protocol, StackName};

use super::draft::{DraftDestip, DraftDistribute, DraftRoute, Drafts};
use super::mistake::Ledger;
use super::section::At;
use super::vipadynamic::{Candidate, Forwards, Routing};

/// Everything about the routes of one VIPADISTRIBUTE.
pub(super) fn check(distribute: &DraftDistribute, drafts: &Drafts, ledger: &mut Ledger) {
    let Some(first) = distribute.routes.first() else {
        if let Some(protocol) = &distribute.client_protocol {
            let what = "`client_protocol` says how routes read requests, and there is no route";
            ledger.add(&protocol.span, what, "add a `route` to this `vipadistribute`, or remove the key");
        }
        return;
    };
    surroundings(distribute, first, drafts, ledger);
    for (i, route) in distribute.routes.iter().enumerate() {
        if distribute.routes.iter().take(i).any(|other| other.name.value == route.name.value) {
            let what = format!("there are two routes \"{}\"", route.name.value);
            ledger.add(&route.name.span, what, "give each a name of its own");
        }
        backends(route, distribute, ledger);
    }
    if let Err(mistake) = Routes::compile(&set(distribute)) {
        ledger.add(span(&distribute.routes, mistake.place).unwrap_or(&first.span), mistake.what, mistake.fix);
    }
}

/// What a VIPADISTRIBUTE with routes can't also have.
fn surroundings(distribute: &DraftDistribute, first: &DraftRoute, drafts: &Drafts, ledger: &mut Ledger) {
    let dvipa = distribute.dvipa.value;
    if distribute.protocol == Protocol::Udp {
        ledger.add(&first.span, "routes read TCP connections, and this is UDP", "set protocol = \"tcp\"");
    }
    if distribute.ports.is_empty() {
        let what = "routes are for the ports that are enumerated, and there are none";
        ledger.add(&first.span, what, "name the ports whose clients are read: ports = [80]");
    }
    if distribute.content_routed.as_ref().is_some_and(|routed| routed.value) {
        let what = "the routing application reads requests of this port (`content_routed`), or routes do";
        ledger.add(&first.span, what, "remove one of them");
    }
    if !distribute.policies.is_empty() {
        let what = "policies select by the client's address, routes by its request";
        ledger.add(&first.span, what, "remove the policies, or the routes");
    }
    let statements = drafts.defines.iter().map(|d| (d.dvipa.value, d.forwards));
    let mut statements = statements.chain(drafts.backups.iter().map(|b| (b.dvipa.value, b.forwards)));
    if statements.any(|statement| statement == (dvipa, Forwards::Always)) {
        let what = format!(
            "{dvipa} is forwarded by this node whoever owns it, and only the node that answered a client can read on"
        );
        ledger.add(&first.span, what, "remove the routes, or write forwards = \"when-owner\"");
    }
}

/// Backends are candidates of the distribution, each once, and one of them is selected.
fn backends(route: &DraftRoute, distribute: &DraftDistribute, ledger: &mut Ledger) {
    let list: &[At<Candidate>] = match &distribute.destip {
        DraftDestip::List(list) => list,
        DraftDestip::All | DraftDestip::Unclear => &[],
    };
    // An address may be that of any name.
    let name = |candidate: &At<Candidate>| match &candidate.value {
        Candidate::Name(name) => Some(name.clone()),
        Candidate::Address(_) => None,
    };
    let names: Option<Vec<StackName>> = list.iter().map(name).collect();
    let names = names.filter(|names| !names.is_empty());
    for (i, (At { value: stack, span }, _)) in route.backends.iter().enumerate() {
        if route.backends.iter().take(i).any(|(other, _)| other.value == *stack) {
            ledger.add(
                span,
                format!("`backends` has {stack} twice"),
                "keep one, with the sum of the weights",
            );
        }
        if names.as_ref().is_some_and(|names| !names.contains(stack)) {
            let what = format!(
                "route \"{}\" names {stack}, which is not in the distribution's destip",
                route.name.value
            );
            ledger.add(span, what, "add it to the destip of the `vipadistribute`, or name another stack");
        }
    }
    if !route.backends.is_empty() && route.backends.iter().all(|(_, weight)| *weight == 0) {
        let what =
            format!("every backend of route \"{}\" has weight 0, so none is ever selected", route.name.value);
        ledger.add(&route.span, what, "give one of them 1 or more, or remove the route");
    }
}

/// The place of a mistake in the file.
fn span(routes: &[DraftRoute], place: Place) -> Option<&Range<usize>> {
    match place {
        Place::Route(route) => Some(&routes.get(route)?.span),
        Place::Hostname(route, at) => Some(&routes.get(route)?.hostnames.get(at)?.span),
        Place::Match(route, at) => Some(&routes.get(route)?.matches.get(at)?.span),
    }
}

fn set(distribute: &DraftDistribute) -> RouteSet {
    let route = |route: &DraftRoute| Route {
        name: route.name.value.clone(),
        hostnames: route.hostnames.iter().map(|at| at.value.clone()).collect(),
        matches: route.matches.iter().map(|at| at.value.clone()).collect(),
        backends: route
            .backends
            .iter()
            .map(|(stack, weight)| Backend { stack: stack.value.clone(), weight: *weight })
            .collect(),
    };
    RouteSet {
        protocol: distribute.client_protocol.as_ref().map_or_else(Default::default, |at| at.value),
        routes: distribute.routes.iter().map(route).collect(),
    }
}

/// The routes without places.
pub(super) fn finished(distribute: &DraftDistribute) -> Option<Routing> {
    (!distribute.routes.is_empty()).then(|| Routing::new(set(distribute)))
}
