//! `baton vipa`

use control::config::DecidedBy;
use control::machine::{DistributionView, VipaView};

use super::table::{Rows, or_dash, word};

/// The DVIPAs, what is distributed, and the ranges.
pub(crate) fn vipa(view: &VipaView) -> String {
    let columns = &["DVIPA", "ROLE", "OWNER", "RANK", "PREFIX", "MOVEABLE", "EPOCH", "INDEX", "WITNESSES"];
    let mut dvipas = Rows::new(columns, &[3, 6, 7]);
    let mut distributions = Rows::new(
        &["DVIPA", "PROTOCOL", "PORTS", "DESTIP", "METHOD", "WEIGHTS", "POLICIES", "CONTENT-ROUTED"],
        &[6],
    );
    for d in &view.dvipas {
        dvipas.add([
            d.dvipa.to_string(),
            word(&d.role),
            or_dash(d.owner.clone()),
            d.rank.map_or_else(|| "primary".to_owned(), |rank| rank.to_string()),
            d.prefix_bits.map_or_else(|| "-".to_owned(), |bits| format!("/{bits}")),
            or_dash(d.moveable),
            d.epoch.0.to_string(),
            or_dash(d.index.map(|i| i.0)),
            or_dash(d.lease.map(|lease| format!("{} of {}, {} ms", lease.by, lease.of, lease.left_ms))),
        ]);
        for distribution in &d.distributions {
            distributions.add(row(d.dvipa.to_string(), distribution));
        }
    }
    let mut out = format!("{}\n{}", dvipas.text(), distributions.text());
    for d in view.dvipas.iter().filter(|d| !d.contradiction.is_empty()) {
        let stacks: Vec<String> = d.contradiction.iter().map(ToString::to_string).collect();
        let what = "define it both, or back it up with one rank: let one do it, or give them different ranks";
        out.push_str(&format!("\n{}: {} {what}\n", d.dvipa, stacks.join(" and ")));
    }
    out.push_str(&format!("\n{}\n", promise(view)));
    for other in &view.other_witnesses {
        let names: Vec<String> = other.witnesses.iter().map(ToString::to_string).collect();
        let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        out.push_str(&format!(
            "\n{} has other witnesses than this node, or another lease ({names}; {} ms), so that both may own one DVIPA: have one cluster.witnesses and cluster.lease_ms in all batond.toml\n",
            other.stack, other.lease_ms
        ));
    }
    if view.leaving {
        out.push_str(
            "\nThis node leaves: others take over what it owns. `baton node stay` takes that back.\n",
        );
    }
    if !view.ranges.is_empty() {
        let mut ranges = Rows::new(&["RANGE", "MOVEABLE", "RANK"], &[2]);
        let mut active = Rows::new(&["ADDRESS", "STACK", "BY", "STATE", "CONNECTIONS ELSEWHERE"], &[]);
        for range in &view.ranges {
            let rank = range.rank.map_or_else(|| "primary".to_owned(), |rank| rank.to_string());
            ranges.add([range.range.to_string(), range.moveable.to_string(), rank]);
            for address in &range.active {
                let former: Vec<String> =
                    address.former.iter().map(|f| format!("{} at {}", f.connections, f.stack)).collect();
                active.add([
                    address.address.to_string(),
                    address.stack.to_string(),
                    if address.ordered { "order" } else { "bind" }.to_owned(),
                    word(&address.state),
                    or_dash(Some(former.join(", ")).filter(|former| !former.is_empty())),
                ]);
            }
        }
        out.push_str(&format!("\n{}", ranges.text()));
        if view.ranges.iter().any(|range| !range.active.is_empty()) {
            out.push_str(&format!("\n{}", active.text()));
        }
    }
    out
}

/// What is promised of owners.
fn promise(view: &VipaView) -> String {
    let lease = view.lease_ms.unwrap_or_default();
    match view.decided_by {
        DecidedBy::Etcd => format!(
            "etcd leases each DVIPA to one node at a time, for {lease} ms: never two owners, and none while most of etcd is down"
        ),
        DecidedBy::Witnesses => format!(
            "a majority of the witnesses leases each DVIPA to one node at a time, for {lease} ms: never two owners, and none while most of them are down"
        ),
        DecidedBy::Itself if view.shared => {
            "each node decides alone what it owns: nodes that can't hear each other may own a DVIPA both"
                .to_owned()
        }
        DecidedBy::Itself => "this node alone owns its DVIPAs".to_owned(),
    }
}

fn row(dvipa: String, d: &DistributionView) -> [String; 8] {
    let ports: Vec<String> = d.ports.iter().map(u16::to_string).collect();
    [
        dvipa,
        d.protocol.to_string(),
        if ports.is_empty() { "any (bound to the DVIPA)".to_owned() } else { ports.join(", ") },
        d.destip.join(", "),
        d.method.to_string(),
        d.weights.clone(),
        d.policies.to_string(),
        if d.content_routed { "yes" } else { "no" }.to_owned(),
    ]
}
