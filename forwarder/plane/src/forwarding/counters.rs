//! Everything that is counted, with what it means.

use control::runtime::Counter;
use ffi::port::DeviceCounters;
use forwarder::Reason;
use forwarder::crt::Stats;
use model::Blame;

use crate::node::Node;
use crate::worker::gauges::{Gauge, Gauges};

const OPERATOR: Option<Blame> = Some(Blame::Operator);
const US: Option<Blame> = Some(Blame::Us);

/// Sums over the workers what became of packets, then what the workers, the devices and the CRT count besides.
pub(super) fn all(node: &Node, crt: &Stats, claims: [u64; 2]) -> Vec<Counter> {
    let mut counters: Vec<Counter> = Reason::ALL.iter().map(|reason| of_reason(node, *reason)).collect();
    counters.extend(of_workers(node));
    for (device, names) in [(node.nic.counters(), NIC), (node.local.counters(), LOCAL)] {
        counters.extend(of_device(&device, names));
    }
    counters.extend(of_crt(crt, claims));
    counters
}

fn of_reason(node: &Node, reason: Reason) -> Counter {
    Counter {
        name: reason.name(),
        value: node.workers.iter().map(|worker| worker.counters.get(reason)).sum(),
        fault: reason.blame(),
        sentence: reason.sentence(),
    }
}

type Read = fn(&Gauges) -> &Gauge;
/// Name, fault, sentence, and where a worker counts it.
const WORKERS: [(&str, Option<Blame>, &str, Read); 11] = [
    ("sent_nic", None, "Packets that the NIC took.", |g| &g.nic.sent),
    ("sent_local", None, "Packets that the local port took.", |g| &g.local.sent),
    (
        "received_steered",
        None,
        "Packets that the NIC steered to the queue for sessions, ARP and the like.",
        |g| &g.steered,
    ),
    ("unsent_nic", US, "Packets dropped because the NIC's send queue was full.", |g| &g.nic.unsent),
    ("unsent_local", US, "Packets dropped because the local port's send queue was full.", |g| {
        &g.local.unsent
    }),
    ("oversized_nic", OPERATOR, "Packets from the NIC longer than a buffer: dropped.", |g| &g.nic.oversized),
    ("oversized_local", OPERATOR, "Packets from the local port longer than a buffer: dropped.", |g| {
        &g.local.oversized
    }),
    ("uninjected", US, "Announcements and hand-overs not sent: no buffer, or no way to the target.", |g| {
        &g.uninjected
    }),
    ("worker_turns", None, "Turns of the workers' poll loops.", |g| &g.turns),
    ("worker_busy_cycles", None, "Processor cycles of turns that had packets.", |g| &g.busy_cycles),
    ("worker_idle_cycles", None, "Processor cycles of turns that had none.", |g| &g.idle_cycles),
];

/// What is not counted by service and stack.
fn left_out(value: u64) -> Counter {
    let sentence = "Packets that were sent or refused and are not counted by service and stack, because a worker has counted 16384 of them and has no place left.";
    Counter { name: "volume_left_out", value, fault: US, sentence }
}

fn of_workers(node: &Node) -> Vec<Counter> {
    let sum = |read: Read| node.workers.iter().map(|worker| read(&worker.gauges).get()).sum();
    let row = |(name, fault, sentence, read)| Counter { name, value: sum(read), fault, sentence };
    let mut rows: Vec<_> = WORKERS.map(row).into();
    rows.push(left_out(node.workers.iter().map(|worker| worker.counters.traffic().left_out()).sum()));
    rows
}

/// The names of a device's counters: missed, receive errors, send errors, no buffer.
type DeviceNames = [&'static str; 4];
const NIC: DeviceNames = ["missed_nic", "receive_errors_nic", "send_errors_nic", "no_buffer_nic"];
const LOCAL: DeviceNames = ["missed_local", "receive_errors_local", "send_errors_local", "no_buffer_local"];

fn of_device(device: &DeviceCounters, names: DeviceNames) -> [Counter; 4] {
    let [missed, receive_errors, send_errors, no_buffer] = names;
    let row = |name, value, fault, sentence| Counter { name, value, fault, sentence };
    [
        row(
            missed,
            device.missed,
            US,
            "Packets that came faster than the workers took them: dropped in the device's receive queue.",
        ),
        row(receive_errors, device.receive_errors, OPERATOR, "Packets that the device received with errors."),
        row(send_errors, device.send_errors, OPERATOR, "Packets that the device could not send."),
        row(
            no_buffer,
            device.no_buffer,
            US,
            "Packets dropped in the device because no packet buffer was free.",
        ),
    ]
}

fn of_crt(crt: &Stats, [strays, contested]: [u64; 2]) -> [Counter; 9] {
    let row = |name, value, fault, sentence| Counter { name, value, fault, sentence };
    [
        row(
            "crt_aged",
            crt.aged,
            None,
            "Entries that ended by time: UDP flows, half-open and ended connections.",
        ),
        row(
            "crt_gave_way",
            crt.gave_way,
            OPERATOR,
            "Connections idle for longer than idle_tcp_s that were removed because the CRT is full: raise connections_v4 or connections_v6.",
        ),
        row(
            "crt_flows_evicted",
            crt.flows_evicted,
            Some(Blame::Client),
            "UDP flows that were removed for newer ones because their part of the CRT is full.",
        ),
        row(
            "crt_half_open_evicted",
            crt.half_open_evicted,
            Some(Blame::Client),
            "Half-open connections that were removed for newer ones because their table is full.",
        ),
        row(
            "crt_fragments_evicted",
            crt.fragments_evicted,
            Some(Blame::Client),
            "Fragmented packets that were forgotten for newer ones because their table is full.",
        ),
        row(
            "crt_full",
            crt.refused_full,
            OPERATOR,
            "Entries not made because the CRT is full: raise connections_v4 or connections_v6.",
        ),
        row(
            "crt_busy",
            crt.refused_busy,
            US,
            "Changes of a CRT entry given up because another change of it was under way.",
        ),
        row(
            "newconn_stray",
            strays,
            Some(Blame::Peer),
            "Connections reported of a DVIPA that was never this node's.",
        ),
        row(
            "newconn_contested",
            contested,
            None,
            "Connections reported by a stack that was cut off and that another stack has by now: they stay there.",
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_counter_is_in_the_docs() {
        let page = include_str!("../../../../docs/counters.md");
        let mut counters: Vec<Counter> =
            WORKERS.map(|(name, fault, sentence, _)| Counter { name, value: 0, fault, sentence }).into();
        counters.push(left_out(0));
        counters
            .extend([NIC, LOCAL].into_iter().flat_map(|names| of_device(&DeviceCounters::default(), names)));
        counters.extend(of_crt(&Stats::default(), [0; 2]));
        for Counter { name, fault, sentence, .. } in counters {
            let line = format!("| `{name}` | {} | {sentence} |", fault.map_or("", Blame::word));
            assert!(page.contains(&line), "docs/counters.md: write the line\n{line}");
        }
    }
}
