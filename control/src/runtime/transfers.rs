//! The counters of transfers.

use model::Blame;
use model::transfer::{Reason, Way};

use super::api::CounterRow;
use crate::machine::TransferCounts;

/// Transfers that began.
const BEGUN: (&str, &str) = ("begun", "Transfers for which the client's packets were held.");

/// The counter of connections that moved this way, and what it means.
fn moved(way: Way) -> (&'static str, &'static str) {
    match way {
        Way::Restore => ("restored", "Connections that moved: the target's agent restored their socket."),
        Way::Inject => ("injected", "Connections that moved: the target's kernel made them from a packet."),
    }
}

/// Every counter: those of transfers that took place, then why others did not.
pub(super) fn rows(counts: &TransferCounts) -> Vec<CounterRow> {
    let row = |(name, sentence): (&str, &str), fault: Option<Blame>, value| CounterRow {
        name: name.to_owned(),
        value,
        fault,
        sentence: sentence.to_owned(),
    };
    let mut rows = vec![row(BEGUN, None, counts.begun)];
    for way in [Way::Restore, Way::Inject] {
        rows.push(row(moved(way), None, counts.moved.get(&way).copied().unwrap_or_default()));
    }
    for reason in Reason::ALL {
        let value = counts.stayed.get(reason).copied().unwrap_or_default();
        rows.push(row((reason.name(), reason.sentence()), Some(reason.blame()), value));
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_counter_of_transfers_is_in_the_docs() {
        let page = include_str!("../../../docs/counters.md");
        for CounterRow { name, fault, sentence, .. } in rows(&TransferCounts::default()) {
            let line = format!("| `{name}` | {} | {sentence} |", fault.map_or("", Blame::word));
            assert!(page.contains(&line), "docs/counters.md: write the line\n{line}");
        }
    }
}
