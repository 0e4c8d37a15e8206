//! What the BPF programs count: each a reason with its sentence and who can mend it.

use model::Blame;

/// A counter of the programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counter {
    /// Its name, also as a metric's label.
    pub name: &'static str,
    /// Who can mend it; `None`: it is as it should be.
    pub blame: Option<Blame>,
    /// What it means.
    pub sentence: &'static str,
}

const fn counter(name: &'static str, blame: Option<Blame>, sentence: &'static str) -> Counter {
    Counter { name, blame, sentence }
}

/// All counters, in the order of `enum counter` in `bpf/counters.h`.
pub const COUNTERS: [Counter; 30] = [
    counter("decapsulated_ipip", None, "A forwarder's IP-in-IP packet was delivered to its DVIPA."),
    counter("decapsulated_gue", None, "A forwarder's GUE packet was delivered to its DVIPA."),
    counter(
        "ecn_marked",
        None,
        "The fabric's congestion mark was written into the delivered packet (RFC 6040).",
    ),
    counter(
        "not_a_forwarder",
        Some(Blame::Peer),
        "An encapsulated packet's outer source is no known forwarder; dropped if it is for a DVIPA, otherwise left to the kernel.",
    ),
    counter(
        "not_the_owners",
        Some(Blame::Peer),
        "A forwarder sent a packet for a DVIPA that its stack does not own in the present epoch; dropped.",
    ),
    counter(
        "not_a_dvipa",
        Some(Blame::Operator),
        "A forwarder sent a packet for an address that is no DVIPA of this host; dropped.",
    ),
    counter("inner_malformed", Some(Blame::Peer), "A forwarder's packet has no IP header inside; dropped."),
    counter(
        "gue_unknown",
        Some(Blame::Peer),
        "A GUE packet of a variant, control type or payload that is not understood; left to the kernel as it is.",
    ),
    counter(
        "outer_fragment",
        Some(Blame::Operator),
        "An encapsulated packet arrived as a fragment; left to the kernel: fabric_mtu is larger than the fabric's MTU.",
    ),
    counter(
        "ecn_not_capable",
        Some(Blame::Peer),
        "A packet was congestion-marked outside although it is not ECN-capable inside; dropped (RFC 6040).",
    ),
    counter(
        "decapsulation_failed",
        Some(Blame::Us),
        "The kernel could not take the outer header off; dropped.",
    ),
    counter(
        "mss_clamped",
        None,
        "The MSS that this host offers was lowered, to leave room for encapsulation.",
    ),
    counter(
        "syn_encapsulated",
        None,
        "A SYN, echo request or datagram that begins an exchange here with a DVIPA was sent through the routing stack.",
    ),
    counter(
        "syn_without_routing_stack",
        Some(Blame::Operator),
        "A SYN, echo request or datagram that begins an exchange here with a DVIPA left as it is: no routing stack is known for it.",
    ),
    counter(
        "syn_encapsulation_failed",
        Some(Blame::Us),
        "The kernel could not encapsulate a SYN, echo request or datagram; dropped.",
    ),
    counter(
        "frozen_dropped",
        None,
        "A segment of a connection that was being moved was dropped; its sender retransmits it.",
    ),
    counter(
        "departed_dropped",
        None,
        "A late segment of a connection that has left this host was dropped, so that this host does not answer it with a reset.",
    ),
    counter("handed_over", None, "A listener was given a live connection by a packet with a handoff option."),
    counter(
        "handoff_elsewhere",
        None,
        "A packet with a handoff option is not one that the connection can begin with, and came without the one that is; dropped, the client sends it again.",
    ),
    counter(
        "handoff_no_listener",
        Some(Blame::Operator),
        "A packet with a handoff option found neither its connection nor a listener; dropped.",
    ),
    counter(
        "handoff_not_admitted",
        None,
        "A packet with a handoff option would have begun a connection, and has not the token of an admission in force: it is late, doubled or forged; dropped.",
    ),
    counter(
        "handoff_failed",
        Some(Blame::Operator),
        "The kernel did not take a handed-over connection: its window scaling, SACK or timestamps are off, or the MSS is too small; dropped.",
    ),
    counter(
        "asked_claimed",
        None,
        "A routing stack asked for a connection that it has no entry for; it is here, and the routing stack was told. Its packet was delivered, unless the connection is moving.",
    ),
    counter(
        "asked_not_here",
        None,
        "A routing stack asked for a connection that is not here; dropped silently.",
    ),
    counter(
        "datagram_too_long",
        Some(Blame::Client),
        "A program here sent a datagram without connect to a DVIPA that others serve, longer than the interface's MTU; dropped.",
    ),
    counter(
        "port_given",
        None,
        "An application bound to a DVIPA without naming a port, and was given one that no other host uses.",
    ),
    counter(
        "port_of_the_kernel",
        Some(Blame::Operator),
        "An application bound to a DVIPA without naming a port, and the kernel chose one: no routing stack has granted ports of it yet; other hosts may use the same port.",
    ),
    counter(
        "ports_used_up",
        Some(Blame::Operator),
        "An application bound to a DVIPA without naming a port, and this host has none left: bind failed with EADDRINUSE; more are asked for.",
    ),
    counter(
        "port_elsewhere",
        Some(Blame::Operator),
        "An application bound to a port of a DVIPA that another host may give to its applications: bind failed with EADDRINUSE.",
    ),
    counter(
        "events_lost",
        Some(Blame::Us),
        "The ring buffer was full; all sockets were looked at again instead.",
    ),
];

/// The position of `events_lost`.
pub(crate) const EVENTS_LOST: usize = COUNTERS.len() - 1;

#[cfg(test)]
mod tests {
    use model::Blame;

    use super::{COUNTERS, Counter};

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
        for Counter { name, blame, sentence } in COUNTERS {
            let line = format!("| `{name}` | {} | {sentence} |", blame.map_or("", Blame::word));
            assert!(page.contains(&line), "docs/counters.md: write the line\n{line}");
        }
    }
}
