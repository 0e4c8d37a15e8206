//! The steered queue: a receive queue that gets nothing but the packets that rules (rte_flow) name, where a device can do that.
//!
//! In reading order: [`Pattern`] and [`Wanted`] (what is asked for), [`Steered`] (what became of it), and how it is asked: drivers
//! differ in what they take, so that each wish has alternatives, and one that is refused costs nothing but itself.

use std::fmt;
use std::net::IpAddr;
use std::ptr::null;

use crate::error::last;
use crate::raw;

/// Which packets a rule takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pattern {
    /// With this VLAN tag; without it, frames as the device sees them untagged.
    pub vlan: Option<u16>,
    /// What is behind the Ethernet header and its tag.
    pub kind: Kind,
}

/// What is behind the Ethernet header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Anything.
    Any,
    /// Frames of this EtherType.
    EtherType(u16),
    /// Packets to a network (of this many bits) of this IP protocol.
    Protocol(IpAddr, u8, u8),
    /// ICMPv6 of this type, to any address.
    Icmp6(u8),
    /// Packets to a network from a port, or to one (0: any), of UDP or TCP by their numbers.
    Ports {
        /// Its address and how many bits of that count.
        to: (IpAddr, u8),
        /// 6 or 17.
        protocol: u8,
        /// The source port.
        source: u16,
        /// The destination port.
        destination: u16,
    },
}

/// Packets that are to be steered there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// What people call them.
    pub name: String,
    /// Patterns that take them: the first of these lists that the device takes whole.
    pub alternatives: Vec<Vec<Pattern>>,
}

/// What became of a wish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Steered {
    /// What people call the packets.
    pub name: String,
    /// Why they come by the workers' queues: what the device said. `None`: they are steered.
    pub refused: Option<String>,
}

/// The rules of one device, or what stands for one in tests.
pub(crate) trait Rules {
    /// A rule that was made.
    type Rule;
    /// Has RSS use the first so many queues only.
    fn spread(&mut self, queues: u16) -> Result<(), String>;
    /// Makes a rule for one queue.
    fn create(&mut self, pattern: &Pattern, queue: u16) -> Result<Self::Rule, String>;
    /// Takes a rule back.
    fn destroy(&mut self, rule: Self::Rule);
}

/// Keeps the queue after those of the workers free of all but what is wanted there.
///
/// # Errors
/// Why the queue is of no use: RSS can't be kept from it, or the device takes none of the rules.
pub(crate) fn steer<R: Rules>(
    rules: &mut R,
    wanted: &[Wanted],
    workers: u16,
) -> Result<Vec<Steered>, String> {
    rules.spread(workers)?;
    let all: Vec<Steered> = wanted
        .iter()
        .map(|wanted| Steered { name: wanted.name.clone(), refused: one(rules, wanted, workers).err() })
        .collect();
    let none = || all.iter().find_map(|steered| steered.refused.clone()).unwrap_or_default();
    if all.iter().any(|steered| steered.refused.is_none()) { Ok(all) } else { Err(none()) }
}

fn one<R: Rules>(rules: &mut R, wanted: &Wanted, queue: u16) -> Result<(), String> {
    let mut why = None;
    for patterns in &wanted.alternatives {
        let mut made = Vec::new();
        let outcome = patterns.iter().try_for_each(|pattern| {
            made.push(rules.create(pattern, queue)?);
            Ok(())
        });
        match outcome {
            Ok(()) => return Ok(()),
            Err(refused) => {
                made.into_iter().for_each(|rule| rules.destroy(rule));
                why.get_or_insert(refused);
            }
        }
    }
    Err(why.unwrap_or_default())
}

/// The rules of a started port.
pub(crate) struct PortRules(pub(crate) u16);

/// Priority of a rule that gives way to all others.
const LAST: u32 = 1;

impl PortRules {
    /// Whether the driver of a configured port knows of rules at all.
    pub(crate) fn exist(&self) -> bool {
        // SAFETY: the port is configured; nothing is changed.
        unsafe { raw::shim_flow_support(self.0) != 0 }
    }

    /// Takes all rules back.
    pub(crate) fn flush(&self) {
        // SAFETY: the port is started.
        unsafe { raw::shim_rules_flush(self.0) }
    }

    fn make(&self, rule: &raw::shim_rule) -> Result<*mut raw::rte_flow, String> {
        let mut why = null();
        // SAFETY: the port is started; DPDK copies what the rule says.
        let made = unsafe { raw::shim_rule_create(self.0, rule, &mut why) };
        if !made.is_null() {
            return Ok(made);
        }
        let cause = last();
        // SAFETY: a constant string of the driver, if there is one.
        let said = (!why.is_null()).then(|| unsafe { std::ffi::CStr::from_ptr(why) }.to_string_lossy());
        Err(said.map_or_else(|| cause.to_string(), |said| format!("{said}: {cause}")))
    }
}

impl Rules for PortRules {
    type Rule = *mut raw::rte_flow;

    /// By the table of RSS; or by a rule behind the others, which net_tap has instead.
    fn spread(&mut self, queues: u16) -> Result<(), String> {
        // SAFETY: the port is started.
        if unsafe { raw::shim_spread(self.0, queues) } == 0 {
            return Ok(());
        }
        let rule = raw::shim_rule { priority: LAST, queues, ..Pattern { vlan: None, kind: Kind::Any }.raw() };
        self.make(&rule).map(drop)
    }

    fn create(&mut self, pattern: &Pattern, queue: u16) -> Result<Self::Rule, String> {
        self.make(&raw::shim_rule { first_queue: queue, queues: 1, ..pattern.raw() })
    }

    fn destroy(&mut self, rule: Self::Rule) {
        // SAFETY: the port is started, and the rule was made there and is given away.
        unsafe { raw::shim_rule_destroy(self.0, rule) }
    }
}

const ICMP6: u8 = 58;
const IPV6: u8 = 6;

impl Pattern {
    fn raw(&self) -> raw::shim_rule {
        let mut rule = raw::shim_rule {
            priority: 0,
            first_queue: 0,
            queues: 0,
            vlan: self.vlan.unwrap_or_default(),
            ether_type: 0,
            source_port: 0,
            destination_port: 0,
            family: 0,
            prefix: 0,
            protocol: 0,
            icmp6_type: 0,
            destination: [0; 16],
        };
        let mut to = |address: IpAddr, prefix| {
            (rule.family, rule.prefix) = (if address.is_ipv4() { 4 } else { IPV6 }, prefix);
            match address {
                IpAddr::V4(v4) => rule.destination[..4].copy_from_slice(&v4.octets()),
                IpAddr::V6(v6) => rule.destination = v6.octets(),
            }
        };
        match self.kind {
            Kind::Any => {}
            Kind::EtherType(number) => rule.ether_type = number,
            Kind::Icmp6(number) => (rule.family, rule.protocol, rule.icmp6_type) = (IPV6, ICMP6, number),
            Kind::Protocol(address, prefix, protocol) => {
                to(address, prefix);
                rule.protocol = protocol;
            }
            Kind::Ports { to: (address, prefix), protocol, source, destination } => {
                to(address, prefix);
                (rule.protocol, rule.source_port, rule.destination_port) = (protocol, source, destination);
            }
        }
        rule
    }
}

impl fmt::Display for Steered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.refused {
            None => f.write_str(&self.name),
            Some(why) => write!(f, "{} ({why})", self.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A device that takes some kinds of patterns, and remembers its rules.
    struct Fake {
        spreads: bool,
        takes: fn(&Kind) -> bool,
        rules: Vec<(Pattern, u16)>,
    }

    impl Rules for Fake {
        type Rule = Pattern;

        fn spread(&mut self, _: u16) -> Result<(), String> {
            if self.spreads { Ok(()) } else { Err("no table".into()) }
        }

        fn create(&mut self, pattern: &Pattern, queue: u16) -> Result<Pattern, String> {
            if !(self.takes)(&pattern.kind) {
                return Err(format!("not {:?}", pattern.kind));
            }
            self.rules.push((*pattern, queue));
            Ok(*pattern)
        }

        fn destroy(&mut self, rule: Pattern) {
            self.rules.retain(|(made, _)| *made != rule);
        }
    }

    const ARP: Kind = Kind::EtherType(0x0806);

    fn pattern(kind: Kind) -> Pattern {
        Pattern { vlan: None, kind }
    }

    fn wanted(name: &str, alternatives: &[&[Kind]]) -> Wanted {
        let alternatives = alternatives.iter().map(|kinds| kinds.iter().copied().map(pattern).collect());
        Wanted { name: name.into(), alternatives: alternatives.collect() }
    }

    fn device(takes: fn(&Kind) -> bool) -> Fake {
        Fake { spreads: true, takes, rules: vec![] }
    }

    #[test]
    fn the_first_alternative_that_is_taken_whole_counts_and_nothing_is_left_of_the_others() {
        let group = Kind::Protocol("ff02::1:ff00:0".parse().unwrap(), 104, ICMP6);
        let list =
            [wanted("ARP", &[&[ARP]]), wanted("ND", &[&[Kind::Icmp6(135), Kind::Icmp6(136)], &[group]])];
        let mut fake = device(|kind| *kind != Kind::Icmp6(136));
        let steered = steer(&mut fake, &list, 2).unwrap();
        assert!(steered.iter().all(|s| s.refused.is_none()), "{steered:?}");
        assert_eq!(fake.rules, [(pattern(ARP), 2), (pattern(group), 2)]);
    }

    #[test]
    fn what_is_refused_costs_itself_only_and_is_said_with_the_first_reason() {
        let list = [wanted("ARP", &[&[ARP]]), wanted("ND", &[&[Kind::Icmp6(135)], &[Kind::Icmp6(136)]])];
        let steered = steer(&mut device(|kind| *kind == ARP), &list, 1).unwrap();
        let said: Vec<String> = steered.iter().map(ToString::to_string).collect();
        assert_eq!(said, ["ARP", "ND (not Icmp6(135))"]);
    }

    #[test]
    fn a_queue_that_rss_would_fill_or_that_no_rule_feeds_is_not_kept() {
        let list = [wanted("ARP", &[&[ARP]])];
        let mut fake = Fake { spreads: false, ..device(|_| true) };
        assert_eq!(steer(&mut fake, &list, 1), Err("no table".into()));
        assert!(fake.rules.is_empty());
        assert_eq!(steer(&mut device(|_| false), &list, 1), Err("not EtherType(2054)".into()));
    }
}
