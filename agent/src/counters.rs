//! What the BPF programs count: each a reason with its sentence and who is at fault.

use serde::Serialize;

/// Who is at fault, if it is a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Fault {
    /// Nobody: it is as it should be.
    None,
    /// Who sent the packet.
    Client,
    /// Another stack of the cluster, or one that pretends to be.
    Peer,
    /// Who configured the cluster.
    Operator,
    /// baton or this host.
    Us,
}

/// A counter of the programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counter {
    /// Its name, also as a metric's label.
    pub name: &'static str,
    /// Who is at fault.
    pub fault: Fault,
    /// What it means.
    pub sentence: &'static str,
}

const fn counter(name: &'static str, fault: Fault, sentence: &'static str) -> Counter {
    Counter { name, fault, sentence }
}

/// All counters, in the order of `enum counter` in `bpf/counters.h`.
pub const COUNTERS: [Counter; 24] = [
    counter("decapsulated_ipip", Fault::None, "A forwarder's IP-in-IP packet was delivered to its DVIPA."),
    counter("decapsulated_gue", Fault::None, "A forwarder's GUE packet was delivered to its DVIPA."),
    counter(
        "ecn_marked",
        Fault::None,
        "The fabric's congestion mark was written into the delivered packet (RFC 6040).",
    ),
    counter(
        "not_a_forwarder",
        Fault::Peer,
        "An encapsulated packet's outer source is no known forwarder; it was left to the kernel as it is.",
    ),
    counter(
        "not_a_dvipa",
        Fault::Operator,
        "A forwarder sent a packet for an address that is no DVIPA of this host; dropped.",
    ),
    counter("inner_malformed", Fault::Peer, "A forwarder's packet has no IP header inside; dropped."),
    counter(
        "gue_unknown",
        Fault::Peer,
        "A GUE packet of a variant, control type or payload that is not understood; left to the kernel as it is.",
    ),
    counter(
        "outer_fragment",
        Fault::Operator,
        "An encapsulated packet arrived as a fragment; left to the kernel: fabric_mtu is larger than the fabric's MTU.",
    ),
    counter(
        "ecn_not_capable",
        Fault::Peer,
        "A packet was congestion-marked outside although it is not ECN-capable inside; dropped (RFC 6040).",
    ),
    counter("decapsulation_failed", Fault::Us, "The kernel could not take the outer header off; dropped."),
    counter(
        "mss_clamped",
        Fault::None,
        "The MSS that this host offers was lowered, to leave room for encapsulation.",
    ),
    counter(
        "syn_encapsulated",
        Fault::None,
        "A SYN, echo request or datagram that begins an exchange here with a DVIPA was sent through the routing stack.",
    ),
    counter(
        "syn_without_routing_stack",
        Fault::Operator,
        "A SYN, echo request or datagram that begins an exchange here with a DVIPA left as it is: no routing stack is known for it.",
    ),
    counter(
        "syn_encapsulation_failed",
        Fault::Us,
        "The kernel could not encapsulate a SYN, echo request or datagram; dropped.",
    ),
    counter(
        "frozen_dropped",
        Fault::None,
        "A segment of a connection that was being moved was kept from this host or its client; who sent it sends it again.",
    ),
    counter(
        "departed_dropped",
        Fault::None,
        "A late segment of a connection that has left this host was dropped, so that nobody answers it with a reset.",
    ),
    counter(
        "handed_over",
        Fault::None,
        "A listener was given a live connection by a packet with a handoff option.",
    ),
    counter(
        "handoff_elsewhere",
        Fault::None,
        "A packet with a handoff option is not one that the connection can begin with; dropped, the client sends it again.",
    ),
    counter(
        "handoff_no_listener",
        Fault::Operator,
        "A packet with a handoff option found neither its connection nor a listener; dropped.",
    ),
    counter(
        "handoff_not_admitted",
        Fault::None,
        "A packet with a handoff option would have begun a connection, and has not the token of an admission in force: it is late, doubled or forged; dropped.",
    ),
    counter(
        "handoff_failed",
        Fault::Operator,
        "The kernel did not take a handed-over connection: its window scaling, SACK or timestamps are off, or the MSS is too small; dropped.",
    ),
    counter(
        "asked_claimed",
        Fault::None,
        "A routing stack asked for a connection that it has no entry for; it is here, its packet was delivered, and the routing stack was told.",
    ),
    counter(
        "asked_not_here",
        Fault::None,
        "A routing stack asked for a connection that is not here; dropped without a word.",
    ),
    counter("events_lost", Fault::Us, "The ring buffer was full; all sockets were looked at again instead."),
];

/// The position of `events_lost`.
pub(crate) const EVENTS_LOST: usize = COUNTERS.len() - 1;

#[cfg(test)]
mod tests {
    use super::{COUNTERS, Counter, Fault};

    #[test]
    fn the_names_are_those_of_the_programs_in_their_order() {
        let header = include_str!("../bpf/counters.h");
        let body = header.split("enum counter {").nth(1).and_then(|rest| rest.split('}').next()).unwrap();
        let names = body.split(',').map(|name| name.trim().to_lowercase()).filter(|name| !name.is_empty());
        let mut expected: Vec<_> = COUNTERS.iter().map(|c| c.name.to_owned()).collect();
        expected.push("counters".to_owned());
        assert_eq!(names.collect::<Vec<_>>(), expected, "make counters.rs and bpf/counters.h agree");
    }

    #[test]
    fn every_counter_is_in_the_docs_with_its_sentence() {
        let page = include_str!("../../docs/counters.md");
        for Counter { name, fault, sentence } in COUNTERS {
            let fault =
                if fault == Fault::None { String::new() } else { format!("{fault:?}").to_lowercase() };
            let line = format!("| `{name}` | {fault} | {sentence} |");
            assert!(page.contains(&line), "docs/counters.md: write the line\n{line}");
        }
    }
}
