//! `baton dpt`

use std::time::Duration;

use control::machine::{ServiceView, TargetView, WeightSource};
use control::runtime::api::{DptAnswer, ShareRow};

use model::control_socket::JobName;

use super::table::{Rows, bytes, number, or_dash, percent, time};

/// One row a candidate target; those of policies below their service.
pub(crate) fn dpt(answer: &DptAnswer) -> String {
    let view = &answer.dpt;
    if view.services.is_empty() {
        return format!("no service is distributed (DPT generation {})\n", view.generation);
    }
    let mut head = vec![
        "SERVICE",
        "METHOD",
        "CLIENTS",
        "TARGET",
        "STATE",
        "WEIGHT",
        "FROM",
        "CONNECTIONS",
        "PACKETS",
        "BYTES",
        "CPU",
        "APPLICATIONS",
    ];
    if view.services.iter().flat_map(|service| &service.targets).any(|target| !target.server_ids.is_empty()) {
        head.push("SERVER ID");
    }
    let mut rows = Rows::new(&head, &[5, 7, 8, 9, 10]);
    for service in &view.services {
        let name = model::Service { dvipa: service.dvipa, port: service.port, protocol: service.protocol }
            .to_string();
        let of = |share: &&ShareRow| {
            (share.dvipa, share.port, share.protocol)
                == (service.dvipa.address(), service.port, service.protocol)
        };
        let shares: Vec<_> = answer.shares.iter().filter(of).collect();
        add(&mut rows, &name, service, "all", &service.targets, Some(&shares));
        for policy in &service.policies {
            add(&mut rows, &name, service, &policy.client.to_string(), &policy.targets, None);
        }
    }
    let remarks = view.services.iter().flat_map(|service| remarks(service, answer));
    let remarks: String = remarks.map(|remark| format!("{remark}\n")).collect();
    let generation = view.generation;
    format!(
        "{}{remarks}DPT generation {generation}; CONNECTIONS are all of the stack's; PACKETS and BYTES were sent to it since the start\n",
        rows.text()
    )
}

/// What the columns do not say of a service and its targets.
fn remarks(service: &ServiceView, answer: &DptAnswer) -> Vec<String> {
    let name = model::Service { dvipa: service.dvipa, port: service.port, protocol: service.protocol };
    let mut remarks = Vec::new();
    for target in &service.targets {
        if let Some(why) = &target.why {
            remarks.push(format!("{name}: {} fails: {why}", target.target));
        }
        if let Some(percent) = target.share_percent {
            remarks.push(format!("{name}: {} begins slowly, with {percent} % of its weight", target.target));
        }
    }
    if service.panics {
        remarks.push(format!(
            "{name}: too many of its targets fail or are stalled: all are selected as if none were"
        ));
    }
    if let Some(most) = service.max_connections {
        remarks.push(format!("{name}: a target with {most} connections gets no new one"));
    }
    if let Some(seconds) = service.affinity_s {
        remarks
            .push(format!("{name}: a client keeps its target until {seconds} s after its last connection"));
    }
    let of = [("", service.limits.service), (" of one client", service.limits.client)];
    for (whose, rate) in of {
        remarks.extend(rate.map(|rate| format!("{name}: new connections{whose}: {rate}")));
    }
    let is_its = |(dvipa, port, protocol)| {
        (dvipa, port, protocol) == (service.dvipa.address(), service.port, service.protocol)
    };
    let turned_away = answer.turned_away.iter().find(|of| is_its((of.dvipa, of.port, of.protocol)));
    if let Some(of) = turned_away.filter(|of| of.refused > 0) {
        remarks.push(format!("{name}: {} packets were refused since the start", number(of.refused)));
    }
    if let Some(of) = turned_away.filter(|of| of.service_limited + of.client_limited > 0) {
        remarks.push(format!(
            "{name}: {} packets were beyond the limit of new connections since the start, and {} beyond their client's",
            number(of.service_limited),
            number(of.client_limited)
        ));
    }
    remarks
}

/// `shares`: what each target was given, if it is known of these clients.
fn add(
    rows: &mut Rows,
    name: &str,
    service: &ServiceView,
    clients: &str,
    targets: &[TargetView],
    shares: Option<&[&ShareRow]>,
) {
    let method = match service {
        ServiceView { direct: true, .. } => "direct".to_owned(),
        ServiceView { content_routed: true, method, .. } => format!("{method}, content-routed"),
        ServiceView { method, .. } => method.to_string(),
    };
    if targets.is_empty() {
        let dash = || "-".to_owned();
        let row = [name.to_owned(), method, clients.to_owned(), dash(), "no candidate".to_owned()];
        rows.add(row.into_iter().chain((0..7).map(|_| dash())));
        return;
    }
    for target in targets {
        let ids: Vec<String> =
            target.server_ids.iter().map(|of| format!("{}:{}", of.rotation, of.id)).collect();
        let share = shares.map(|shares| shares.iter().find(|share| share.stack == target.target));
        let given = share.map(|share| share.map_or((0, 0), |share| (share.packets, share.bytes)));
        let cells = [
            name.to_owned(),
            method.clone(),
            clients.to_owned(),
            target.target.clone(),
            target.state.word().to_owned(),
            target.weight.to_string(),
            source(target.weight_source),
            number(target.connections),
            or_dash(given.map(|(packets, _)| number(packets))),
            or_dash(given.map(|(_, of)| bytes(of))),
            or_dash(target.load.map(|l| percent(l.cpu_permille))),
            applications(target),
        ];
        rows.add(cells.into_iter().chain((!ids.is_empty()).then(|| ids.join(", "))));
    }
}

/// The registered ones; of others only the listening is known.
fn applications(target: &TargetView) -> String {
    let jobs: Vec<&str> = target.applications.iter().map(JobName::as_str).collect();
    if jobs.is_empty() { "-".to_owned() } else { jobs.join(", ") }
}

fn source(source: WeightSource) -> String {
    match source {
        WeightSource::Equal => "equal".to_owned(),
        WeightSource::Configured => "configured".to_owned(),
        WeightSource::Load => "load".to_owned(),
        WeightSource::Controller { expires_in_ms } => {
            format!("controller, {} left", time(Duration::from_millis(expires_in_ms)))
        }
    }
}
