//! Everything that is counted, with what it means.

use control::runtime::Counter;
use ffi::port::DeviceCounters;
use forwarder::Reason;
use forwarder::crt::Stats;

use crate::node::Node;
use crate::worker::gauges::{Gauge, Gauges};

const OPERATOR: Option<&str> = Some("operator");
const US: Option<&str> = Some("us");

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
        fault: reason.fault().map(|fault| fault.as_str()),
        sentence: reason.sentence(),
    }
}

fn of_workers(node: &Node) -> Vec<Counter> {
    type Read = fn(&Gauges) -> &Gauge;
    let rows: [(&str, Option<&str>, &str, Read); 10] = [
        ("sent_nic", None, "Packets that the NIC took.", |g| &g.nic.sent),
        ("sent_local", None, "Packets that the local port took.", |g| &g.local.sent),
        ("unsent_nic", US, "Packets that the NIC's full send queue did not take: lost.", |g| &g.nic.unsent),
        ("unsent_local", US, "Packets that the local port's full send queue did not take: lost.", |g| {
            &g.local.unsent
        }),
        ("oversized_nic", OPERATOR, "Packets from the NIC longer than a buffer: lost.", |g| &g.nic.oversized),
        ("oversized_local", OPERATOR, "Packets from the local port longer than a buffer: lost.", |g| {
            &g.local.oversized
        }),
        (
            "uninjected",
            US,
            "Announcements and hand-overs not sent: no buffer, or no way to the target.",
            |g| &g.uninjected,
        ),
        ("worker_turns", None, "Turns of the workers' poll loops.", |g| &g.turns),
        ("worker_busy_cycles", None, "Processor cycles of turns that had packets.", |g| &g.busy_cycles),
        ("worker_idle_cycles", None, "Processor cycles of turns that had none.", |g| &g.idle_cycles),
    ];
    let sum = |read: Read| node.workers.iter().map(|worker| read(&worker.gauges).get()).sum();
    rows.map(|(name, fault, sentence, read)| Counter { name, value: sum(read), fault, sentence }).into()
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
            "Packets that came faster than the workers took them: lost in the device.",
        ),
        row(receive_errors, device.receive_errors, OPERATOR, "Packets that the device received with errors."),
        row(send_errors, device.send_errors, OPERATOR, "Packets that the device could not send."),
        row(no_buffer, device.no_buffer, US, "Packets that were lost because no buffer was free."),
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
            "Connections idle for longer than idle_tcp_s that were forgotten because the CRT is full.",
        ),
        row("crt_flows_evicted", crt.flows_evicted, Some("client"), "UDP flows that gave way to newer ones."),
        row(
            "crt_half_open_evicted",
            crt.half_open_evicted,
            Some("client"),
            "Half-open connections that gave way to newer ones.",
        ),
        row(
            "crt_fragments_evicted",
            crt.fragments_evicted,
            Some("client"),
            "Fragmented packets forgotten for newer ones.",
        ),
        row(
            "crt_full",
            crt.refused_full,
            OPERATOR,
            "Entries not made because the CRT is full: it needs to be larger.",
        ),
        row(
            "crt_busy",
            crt.refused_busy,
            US,
            "Changes of the CRT given up because another one was going on.",
        ),
        row(
            "newconn_stray",
            strays,
            Some("peer"),
            "Connections reported of a DVIPA that was never this node's.",
        ),
        row(
            "newconn_contested",
            contested,
            None,
            "Connections reported by a stack that was cut off, which another stack has by now: they stay there.",
        ),
    ]
}
