//! `baton status`

use std::time::Duration;

use control::config::DecidedBy;
use control::machine::StackView;
use control::runtime::PortView;
use control::runtime::api::StatusAnswer;
use control::runtime::environment::Environment;
use model::environment::Subject as _;
use serde_json::Value;
use transport::Expiry;

use super::crt::fill;
use super::plain;
use super::table::{Rows, number, or_dash, pairs, percent, time, word};

/// This node and its stacks; of another program than batond, what it answers.
pub(crate) fn status(answer: Value) -> String {
    match serde_json::from_value::<StatusAnswer>(answer.clone()) {
        Ok(answer) => batond(&answer),
        Err(_) => plain::plain(&answer),
    }
}

fn batond(answer: &StatusAnswer) -> String {
    let m = &answer.machine;
    let up = time(Duration::from_secs(answer.uptime_s));
    let read = time(Duration::from_secs(answer.config_age_s));
    let mut out = pairs(&[
        ("stack", m.stack.to_string()),
        ("cluster address", m.cluster_address.to_string()),
        ("sessions at", format!("{} (UDP)", answer.listen)),
        ("version", format!("{}, up {up}", m.version)),
        ("configuration", format!("{}, read {read} ago", answer.config.display())),
        ("certificate", certificate(&answer.certificate)),
        ("DVIPAs", format!("{} owned, {} as backup", m.dvipas_owned, m.dvipas_backed_up)),
        ("DPT", format!("{} services, generation {}", m.services, m.generation)),
        ("CRT", fill(&answer.crt)),
        ("ports", ports(&answer.ports)),
        ("ownership", ownership(answer)),
    ]);
    out.push_str(&environment(&answer.environment));
    if m.stacks.is_empty() {
        out.push_str("\nno stack has had a session yet\n");
        return out;
    }
    let head = ["STACK", "SESSION", "ADDRESS", "BY", "LISTENS", "CONNECTIONS", "CPU", "DRAIN", "VERSION"];
    let mut rows = Rows::new(&head, &[4, 5, 6]);
    m.stacks.iter().for_each(|stack| rows.add(row(stack)));
    out.push_str(&format!("\n{}", rows.text()));
    for (stack, theirs) in m.stacks.iter().filter_map(|stack| Some((&stack.stack, stack.fabric_mtu?))) {
        if theirs != m.fabric_mtu {
            out.push_str(&format!(
                "\n{stack}: fabric_mtu is {theirs} there and {} here: packets may get lost; configure the same one\n",
                m.fabric_mtu
            ));
        }
    }
    out
}

/// `until 2029-03-05 (825 days)`
fn certificate(expiry: &Expiry) -> String {
    match expiry.days() {
        days if days < 0 => format!("EXPIRED on {}: no new session is possible", expiry.date),
        days => format!("until {} ({days} days)", expiry.date),
    }
}

/// `decided by etcd, which answers (http://198.18.0.31:2379 does not: …)`
fn ownership(answer: &StatusAnswer) -> String {
    let Some(etcd) = &answer.etcd else {
        return match answer.decided_by {
            DecidedBy::Witnesses => "decided by the witnesses".to_owned(),
            DecidedBy::Itself | DecidedBy::Etcd => "decided by this node alone".to_owned(),
        };
    };
    let failing =
        etcd.members.iter().filter_map(|m| Some(format!("{} does not: {}", m.endpoint, m.fails.as_ref()?)));
    let failing: Vec<String> = failing.collect();
    let which = if failing.is_empty() { String::new() } else { format!(" ({})", failing.join("; ")) };
    format!("decided by etcd, which {}{which}", if etcd.answers { "answers" } else { "does not answer" })
}

/// `nic 0000:01:00.0 (net_e1000_igb) up; local net_tap0 (net_tap) up`
fn ports(ports: &[PortView]) -> String {
    let each = |port: &PortView| {
        let (link, lost) = (if port.link { "up" } else { "LINK LOST" }, port.lost);
        let often = if lost == 0 { String::new() } else { format!(", lost {lost} times") };
        let steered = match port.steered.join(", ") {
            none if none.is_empty() => none,
            some => format!(" (to a queue of their own: {some})"),
        };
        format!("{} {} ({}) {link}{often}{steered}", port.role, port.device, port.driver)
    };
    ports.iter().map(each).collect::<Vec<_>>().join("; ")
}

/// What others have changed in the node's kernel: nothing, or a few lines.
fn environment(environment: &Environment) -> String {
    let times = environment.put_right.iter().map(|(subject, n)| format!("{} ({n})", subject.as_str()));
    let put_right: Vec<String> = times.collect();
    let mut out = String::new();
    if !put_right.is_empty() {
        out.push_str(&pairs(&[("put right", put_right.join(", "))]));
    }
    environment.standing.iter().for_each(|finding| out.push_str(&format!("\nTO DO: {}\n", finding.sentence)));
    out
}

fn row(stack: &StackView) -> [String; 9] {
    [
        stack.stack.to_string(),
        word(&stack.session),
        stack.cluster_address.to_string(),
        stack.encapsulation.map_or_else(|| "local".to_owned(), |e| e.to_string()),
        stack.listens.to_string(),
        number(stack.connections),
        or_dash(stack.load.map(|l| percent(l.cpu_permille))),
        if stack.draining { "draining" } else { "-" }.to_owned(),
        stack.version.clone(),
    ]
}
