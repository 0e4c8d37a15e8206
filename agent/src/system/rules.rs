//! Routing rules by which containers' packets to a DVIPA leave that no socket of this host takes: the program of
//! bpf/containers.bpf.c marks them.
//!
//! The kernel looks at its own addresses first, by the rule `0: from all lookup local`, and a DVIPA is one of them. So a rule for
//! each DVIPA comes before that one: `0: from all to DVIPA fwmark MARK/MARK lookup main`. All have the preference 0, where the kernel
//! keeps the order in which they were made: another rule for the table `local` is made behind them, and then the first one is removed. The
//! host is never without one, `ip rule flush` leaves all of them, and without the agent's the rules are what they were.

use std::collections::BTreeSet;
use std::net::IpAddr;

use futures_util::TryStreamExt;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::route::{RouteHeader, RouteProtocol};
use rtnetlink::packet_route::rule::{RuleAction, RuleAttribute, RuleFlags, RuleMessage};
use rtnetlink::{Handle, IpVersion};

/// DVIPAs of a family that have a rule; each costs the host's other packets a comparison.
pub const MAX_RULES: usize = 256;

/// Of which DVIPAs rules were made and removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changed {
    /// They had none.
    pub made: Vec<IpAddr>,
    /// They are to have none.
    pub removed: Vec<IpAddr>,
}

/// Makes the rules of both families those of these DVIPAs, the first [`MAX_RULES`] of each family; without DVIPAs none is left.
///
/// # Errors
/// What the kernel says.
pub async fn set(
    netlink: &Handle,
    mark: u32,
    dvipas: &BTreeSet<IpAddr>,
) -> Result<Changed, rtnetlink::Error> {
    let mut changed = Changed::default();
    for (version, is_v4) in [(IpVersion::V4, true), (IpVersion::V6, false)] {
        let family = if is_v4 { AddressFamily::Inet } else { AddressFamily::Inet6 };
        let wanted: BTreeSet<_> =
            dvipas.iter().copied().filter(|d| d.is_ipv4() == is_v4).take(MAX_RULES).collect();
        let found: Vec<RuleMessage> = match netlink.rule().get(version).execute().try_collect().await {
            Ok(found) => found,
            // The kernel may have no IPv6.
            Err(_) if wanted.is_empty() => continue,
            Err(cause) => return Err(cause),
        };
        for step in steps(family, &found, mark, &wanted) {
            match step {
                Step::Make(rule, of) => {
                    // Not exclusively: there may be one of the same form before it.
                    let mut request = netlink.rule().add().replace();
                    *request.message_mut() = rule;
                    request.execute().await?;
                    changed.made.extend(of);
                }
                Step::Remove(rule, of) => {
                    netlink.rule().del(rule).execute().await?;
                    changed.removed.extend(of);
                }
            }
        }
    }
    Ok(changed)
}

/// What is to be done, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    /// Behind all of its preference; that of this DVIPA, or the kernel's own.
    Make(RuleMessage, Option<IpAddr>),
    /// The first of this form.
    Remove(RuleMessage, Option<IpAddr>),
}

/// `found` in the kernel's order.
fn steps(family: AddressFamily, found: &[RuleMessage], mark: u32, wanted: &BTreeSet<IpAddr>) -> Vec<Step> {
    let mut steps = Vec::new();
    // Of the preference 0: whether each is the kernel's own, not a DVIPA's.
    let mut order = Vec::new();
    let mut there = BTreeSet::new();
    for rule in found {
        match ours(rule) {
            Some((of, to)) if of == mark && wanted.contains(&to) && there.insert(to) => order.push(false),
            Some((_, to)) => steps.push(Step::Remove(rule.clone(), Some(to))),
            None if is_local(rule) && preference(rule) == 0 => order.push(true),
            None => {}
        }
    }
    for &to in wanted.difference(&there) {
        steps.push(Step::Make(of_dvipa(family, mark, to), Some(to)));
        order.push(false);
    }
    if order.is_empty() && steps.is_empty() {
        return steps;
    }
    let locals = order.iter().filter(|is_local| **is_local).count();
    let is_behind = order.last().is_none_or(|is_local| *is_local);
    // Where it has another preference, the rules of preference 0 come before it anyway.
    let is_elsewhere = locals == 0 && found.iter().any(is_local);
    if !is_elsewhere && (locals == 0 || !is_behind) {
        steps.push(Step::Make(local(family), None));
    }
    let too_many = if is_behind { locals.saturating_sub(1) } else { locals };
    steps.extend((0..too_many).map(|_| Step::Remove(local(family), None)));
    steps
}

fn rule(family: AddressFamily, table: u8, attributes: Vec<RuleAttribute>) -> RuleMessage {
    let mut rule = RuleMessage::default();
    rule.header.family = family;
    rule.header.table = table;
    rule.header.action = RuleAction::ToTable;
    // What is the kernel's is left alone by programs that manage rules, such as systemd-networkd.
    rule.attributes = vec![RuleAttribute::Priority(0), RuleAttribute::Protocol(RouteProtocol::Kernel)];
    rule.attributes.extend(attributes);
    rule
}

fn of_dvipa(family: AddressFamily, mark: u32, to: IpAddr) -> RuleMessage {
    let attributes =
        vec![RuleAttribute::Destination(to), RuleAttribute::FwMark(mark), RuleAttribute::FwMask(mark)];
    let mut rule = rule(family, RouteHeader::RT_TABLE_MAIN, attributes);
    rule.header.dst_len = host_prefix(to);
    rule
}

fn local(family: AddressFamily) -> RuleMessage {
    rule(family, libc::RT_TABLE_LOCAL, Vec::new())
}

fn host_prefix(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn preference(rule: &RuleMessage) -> u32 {
    let preference = |a: &RuleAttribute| if let RuleAttribute::Priority(p) = a { Some(*p) } else { None };
    rule.attributes.iter().find_map(preference).unwrap_or(0)
}

/// The mark and the DVIPA of a rule that has the form of [`of_dvipa`]'s, whatever the mark of this run is.
fn ours(rule: &RuleMessage) -> Option<(u32, IpAddr)> {
    let (mut to, mut mark, mut mask, mut is_kernels) = (None, None, None, false);
    for attribute in &rule.attributes {
        match attribute {
            RuleAttribute::Destination(address) => to = Some(*address),
            RuleAttribute::FwMark(bits) => mark = Some(*bits),
            RuleAttribute::FwMask(bits) => mask = Some(*bits),
            RuleAttribute::Protocol(protocol) => is_kernels = *protocol == RouteProtocol::Kernel,
            other if selects(other) => return None,
            _ => {}
        }
    }
    let (to, mark) = (to?, mark?);
    let has_form = is_kernels && mask == Some(mark) && preference(rule) == 0;
    (has_form && rule.header.dst_len == host_prefix(to) && leads_to(rule, RouteHeader::RT_TABLE_MAIN))
        .then_some((mark, to))
}

/// Whether all packets are looked up among the host's own addresses.
fn is_local(rule: &RuleMessage) -> bool {
    leads_to(rule, libc::RT_TABLE_LOCAL) && rule.header.dst_len == 0 && !rule.attributes.iter().any(selects)
}

fn leads_to(rule: &RuleMessage, table: u8) -> bool {
    let RuleMessage { header, .. } = rule;
    let is_plain = header.src_len == 0 && header.tos == 0 && !header.flags.contains(RuleFlags::Invert);
    is_plain && header.action == RuleAction::ToTable && header.table == table
}

/// Whether the attribute leaves packets out.
fn selects(attribute: &RuleAttribute) -> bool {
    match attribute {
        RuleAttribute::Priority(_)
        | RuleAttribute::Protocol(_)
        | RuleAttribute::Table(_)
        | RuleAttribute::SuppressPrefixLen(u32::MAX)
        | RuleAttribute::SuppressIfGroup(u32::MAX) => false,
        RuleAttribute::L3MDev(on) => *on,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const V4: AddressFamily = AddressFamily::Inet;
    const MARK: u32 = 0x2000;

    /// A kernel's list of rules, as far as it is touched.
    fn carry_out(found: &mut Vec<RuleMessage>, steps: Vec<Step>) {
        for step in steps {
            match step {
                Step::Make(rule, _) => {
                    let at = found.iter().position(|other| preference(other) > preference(&rule));
                    found.insert(at.unwrap_or(found.len()), rule);
                }
                Step::Remove(rule, _) => {
                    let at = found.iter().position(|other| *other == rule).expect("it is there");
                    found.remove(at);
                }
            }
            assert!(found.iter().any(is_local), "the host is never without its own addresses");
        }
    }

    fn fresh() -> Vec<RuleMessage> {
        let mut main = rule(V4, RouteHeader::RT_TABLE_MAIN, Vec::new());
        main.attributes[0] = RuleAttribute::Priority(32_766);
        vec![local(V4), main]
    }

    fn dvipas(last: &[u8]) -> BTreeSet<IpAddr> {
        last.iter().map(|last| IpAddr::from([198, 18, 9, *last])).collect()
    }

    fn set(found: &mut Vec<RuleMessage>, mark: u32, last: &[u8]) {
        let wanted = dvipas(last);
        carry_out(found, steps(V4, found, mark, &wanted));
        let mut expected: Vec<_> = found.iter().filter_map(ours).collect();
        expected.sort();
        assert_eq!(expected, wanted.iter().map(|to| (mark, *to)).collect::<Vec<_>>());
        let at = found.iter().position(is_local).expect("there is one");
        assert!(found[at..].iter().all(|rule| ours(rule).is_none()), "{found:#?}");
        assert_eq!(found.iter().filter(|rule| is_local(rule)).count(), 1);
        assert_eq!(steps(V4, found, mark, &wanted), [], "there is nothing left to do");
    }

    #[test]
    fn rules_of_dvipas_come_before_the_hosts_own_addresses_and_go_without_a_trace() {
        let mut found = fresh();
        for last in [&[1][..], &[1, 2, 3], &[2], &[4, 2], &[]] {
            set(&mut found, MARK, last);
        }
        assert_eq!(found, fresh());
    }

    #[test]
    fn what_a_killed_agent_left_half_done_is_finished() {
        let all = {
            let found = fresh();
            steps(V4, &found, MARK, &dvipas(&[1, 2]))
        };
        for done in 0..=all.len() {
            let mut found = fresh();
            carry_out(&mut found, all[..done].to_vec());
            set(&mut found, MARK, &[2, 3]);
            set(&mut found, MARK, &[]);
            assert_eq!(found, fresh());
        }
    }

    #[test]
    fn another_mark_replaces_the_rules() {
        let mut found = fresh();
        set(&mut found, MARK, &[1, 2]);
        set(&mut found, MARK << 1, &[1, 2]);
    }

    #[test]
    fn what_others_have_moved_stays_where_it_is() {
        let mut found = fresh();
        found[0].attributes[0] = RuleAttribute::Priority(100);
        let before = found.clone();
        set(&mut found, MARK, &[1]);
        set(&mut found, MARK, &[]);
        assert_eq!(found, before);
    }

    #[test]
    fn rules_of_an_operator_are_no_ones_of_ours() {
        let dvipa = IpAddr::from([198, 18, 9, 1]);
        let mut operators = of_dvipa(V4, MARK, dvipa);
        operators.attributes.retain(|a| !matches!(a, RuleAttribute::Protocol(_)));
        let mut more = of_dvipa(V4, MARK, dvipa);
        more.attributes.push(RuleAttribute::Iifname("docker0".to_owned()));
        for rule in [operators, more] {
            let mut found = [vec![rule.clone()], fresh()].concat();
            set(&mut found, MARK, &[2]);
            assert_eq!(found[0], rule);
        }
    }
}
