//! `baton dpt`

use std::time::Duration;

use control::machine::{DptView, ServiceView, TargetView, WeightSource};

use model::control_socket::JobName;

use super::table::{Rows, number, or_dash, percent, time};

/// One row a candidate target; those of policies below their service.
pub(crate) fn dpt(view: &DptView) -> String {
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
        "CPU",
        "APPLICATIONS",
    ];
    if view.services.iter().flat_map(|service| &service.targets).any(|target| !target.server_ids.is_empty()) {
        head.push("SERVER ID");
    }
    let mut rows = Rows::new(&head, &[5, 7, 8]);
    for service in &view.services {
        let name = model::Service { dvipa: service.dvipa, port: service.port, protocol: service.protocol }
            .to_string();
        add(&mut rows, &name, service, "all", &service.targets);
        for policy in &service.policies {
            add(&mut rows, &name, service, &policy.client.to_string(), &policy.targets);
        }
    }
    let remarks: String =
        view.services.iter().flat_map(remarks).map(|remark| format!("{remark}\n")).collect();
    let generation = view.generation;
    format!("{}{remarks}DPT generation {generation}; CONNECTIONS are all of the stack's\n", rows.text())
}

/// What the columns do not say of a service and its targets.
fn remarks(service: &ServiceView) -> Vec<String> {
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
    remarks
}

fn add(rows: &mut Rows, name: &str, service: &ServiceView, clients: &str, targets: &[TargetView]) {
    let method = match service {
        ServiceView { direct: true, .. } => "direct".to_owned(),
        ServiceView { content_routed: true, method, .. } => format!("{method}, content-routed"),
        ServiceView { method, .. } => method.to_string(),
    };
    if targets.is_empty() {
        let dash = || "-".to_owned();
        let row = [name.to_owned(), method, clients.to_owned(), dash(), "no candidate".to_owned()];
        rows.add(row.into_iter().chain([dash(), dash(), dash(), dash(), dash()]));
        return;
    }
    for target in targets {
        let ids: Vec<String> =
            target.server_ids.iter().map(|of| format!("{}:{}", of.rotation, of.id)).collect();
        let cells = [
            name.to_owned(),
            method.clone(),
            clients.to_owned(),
            target.target.clone(),
            target.state.word().to_owned(),
            target.weight.to_string(),
            source(target.weight_source),
            number(target.connections),
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
