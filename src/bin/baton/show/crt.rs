//! `baton crt`

use std::time::Duration;

use control::runtime::CrtStats;
use control::runtime::api::CrtAnswer;

use super::table::{Rows, number, time, word};

/// The connections, and how many were left out.
pub(crate) fn crt(answer: &CrtAnswer) -> String {
    let mut rows = Rows::new(&["DVIPA", "PROTOCOL", "CLIENT", "STACK", "STATE", "IDLE"], &[5]);
    for c in &answer.connections {
        let idle = time(Duration::from_millis(c.idle_ms));
        rows.add([
            c.dvipa.to_string(),
            c.protocol.to_string(),
            c.client.to_string(),
            c.stack.clone(),
            word(&c.state),
            idle,
        ]);
    }
    let mut out = rows.text();
    if answer.more > 0 {
        out.push_str(&format!("… and {} more; narrow the filter or raise --limit\n", number(answer.more)));
    }
    out.push_str(&transfers(answer));
    out.push_str(&format!("CRT: {}\n", fill(&answer.crt)));
    out
}

/// The transfers of the connections shown; nothing at all if none is moving.
fn transfers(answer: &CrtAnswer) -> String {
    let mut rows = Rows::new(&["MOVING", "CLIENT", "FROM", "TO", "WAY", "STEP", "TRANSFER"], &[]);
    let moving = answer.connections.iter().filter_map(|c| Some((c, c.transfer.as_ref()?)));
    let mut any = false;
    for (c, t) in moving {
        any = true;
        rows.add([
            c.dvipa.to_string(),
            c.client.to_string(),
            t.source.to_string(),
            t.target.to_string(),
            t.way.clone(),
            t.step.clone(),
            t.id.clone(),
        ]);
    }
    if any { format!("\n{}", rows.text()) } else { String::new() }
}

/// How full the CRT is, in one line.
pub(super) fn fill(crt: &CrtStats) -> String {
    let part = |n, of| format!("{} of {}", number(n), number(of));
    format!(
        "IPv4 {}, IPv6 {}, UDP {}, half-open {}",
        part(crt.entries_v4, crt.capacity_v4),
        part(crt.entries_v6, crt.capacity_v6),
        part(crt.flows_udp, crt.flows_udp_capacity),
        part(crt.half_open, crt.half_open_capacity)
    )
}
