//! `baton stats`

use std::time::Duration;

use control::runtime::api::{CounterRow, StatsAnswer};

use super::crt::fill;
use super::table::{Rows, number, time, word};

/// The counters that are not 0, or all; each with who is at fault and what it means.
pub(crate) fn stats(answer: &StatsAnswer, all: bool) -> String {
    let mut out = format!("counted for {}\n\n", time(Duration::from_secs(answer.uptime_s)));
    out.push_str(&counters("PACKETS", &answer.packets, all));
    out.push_str(&counters("CLUSTER", &answer.cluster, all));
    if answer.transfers.iter().any(|c| all || c.value > 0) {
        out.push_str(&counters("TRANSFERS", &answer.transfers, all));
    }
    if !answer.refused.is_empty() {
        let mut rows = Rows::new(&["NOT FOLLOWED", "COUNT", "STACK"], &[1]);
        for refused in &answer.refused {
            let stack = refused.stack.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string);
            rows.add([word(&refused.reason), number(refused.count), stack]);
        }
        out.push_str(&format!("{}\n", rows.text()));
    }
    if !answer.routes.is_empty() {
        let mut rows = Rows::new(&["ROUTE", "REQUESTS", "DVIPA", "PORT"], &[1, 3]);
        for route in &answer.routes {
            rows.add([
                route.route.clone(),
                number(route.requests),
                route.dvipa.to_string(),
                route.port.to_string(),
            ]);
        }
        out.push_str(&format!("{}\n", rows.text()));
    }
    let mut rows = Rows::new(&["STACK", "CONNECTIONS"], &[1]);
    for stack in &answer.connections {
        rows.add([stack.stack.clone(), number(stack.connections)]);
    }
    out.push_str(&format!("{}\nCRT: {}\n", rows.text(), fill(&answer.crt)));
    out
}

fn counters(head: &str, counters: &[CounterRow], all: bool) -> String {
    let shown: Vec<_> = counters.iter().filter(|c| all || c.value > 0).collect();
    let mut rows = Rows::new(&[head, "COUNT", "FAULT", "MEANING"], &[1]);
    for c in &shown {
        let fault = c.fault.map_or("-", model::Blame::word).to_owned();
        rows.add([c.name.clone(), number(c.value), fault, c.sentence.clone()]);
    }
    let hidden = counters.len() - shown.len();
    let note = if hidden > 0 { format!("({hidden} more are 0; --all shows them)\n") } else { String::new() };
    format!("{}{note}\n", rows.text())
}
