//! What has to fit together: definitions against each other and against the node.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use ipnet::IpNet;
use model::dpt::Method;
use model::{ClusterAddress, Dvipa, DvipaIndex, Protocol, StackName};

use super::draft::{
    DraftBackup, DraftDefine, DraftDestip, DraftDistribute, DraftPolicy, DraftWeights, Drafts,
};
use super::mistake::Ledger;
use super::section::At;
use super::tree::{RoutingStack, StackOverride};
use super::vipadynamic::{
    Candidate, Destip, Forwards, ServicePolicy, VipaBackup, VipaDefine, VipaDistribute, VipaDynamic,
    VipaRange, Weights,
};
use super::{quic, routes};

/// This node, if `[node]` could be read.
#[derive(Clone, Copy)]
pub(super) struct Own<'a> {
    pub(super) name: &'a StackName,
    pub(super) address: ClusterAddress,
}

/// The most other routing stacks of a cluster.
pub(super) const MAX_ROUTING_STACKS: usize = 32;

/// `[[routing_stack]]`: each once, and not this node.
pub(super) fn routing_stacks(
    drafts: Vec<At<RoutingStack>>,
    own: Option<Own<'_>>,
    ledger: &mut Ledger,
) -> Vec<RoutingStack> {
    let mut all: Vec<RoutingStack> = Vec::new();
    for At { value, span } in drafts {
        if all.iter().any(|known| known.name == value.name) {
            let what = format!("there are two `routing_stack` tables for {}", value.name);
            ledger.add(&span, what, "keep one of them");
        }
        if own.is_some_and(|own| *own.name == value.name) {
            ledger.add(
                &span,
                format!("{} is this node", value.name),
                "remove this table: it names the others",
            );
        }
        if all.len() == MAX_ROUTING_STACKS {
            let what = format!("there are more than {MAX_ROUTING_STACKS} `routing_stack` tables");
            ledger.add(&span, what, "name the routing stacks that share DVIPAs with this one");
        }
        all.push(value);
    }
    all
}

/// `[[stack]]`: each stack once, and not this node, whose own kernel is behind the local port.
pub(super) fn stacks(
    drafts: Vec<At<StackOverride>>,
    own: Option<Own<'_>>,
    ledger: &mut Ledger,
) -> Vec<StackOverride> {
    let mut stacks: Vec<StackOverride> = Vec::new();
    for At { value, span } in drafts {
        if stacks.iter().any(|stack| stack.name == value.name) {
            ledger.add(&span, format!("there are two `stack` tables for {}", value.name), "keep one of them");
        }
        if own.is_some_and(|own| *own.name == value.name) {
            let what =
                format!("{} is this node: its packets go through the local port as they are", value.name);
            ledger.add(&span, what, "remove this table");
        }
        stacks.push(value);
    }
    stacks
}

/// The VIPADYNAMIC statements.
pub(super) fn vipadynamic(drafts: Drafts, own: Option<Own<'_>>, ledger: &mut Ledger) -> VipaDynamic {
    addresses(&drafts, own, ledger);
    ranges(&drafts, own, ledger);
    for distribute in &drafts.distributes {
        one_distribute(distribute, &drafts, ledger);
    }
    ports(&drafts.distributes, ledger);
    let mut distributes: Vec<VipaDistribute> =
        drafts.distributes.into_iter().map(finished_distribute).collect();
    distributes.sort_by_key(|d| d.dvipa);
    let define = |d: DraftDefine| VipaDefine {
        dvipa: d.dvipa.value,
        prefix_bits: d.prefix_bits,
        moveable: d.moveable,
        refuse: d.refuse,
        forwards: d.forwards,
    };
    let mut defines: Vec<VipaDefine> = drafts.defines.into_iter().map(define).collect();
    defines.sort_by_key(|d| d.dvipa);
    let backup = |b: DraftBackup| VipaBackup {
        dvipa: b.dvipa.value,
        rank: b.rank,
        prefix_bits: b.prefix_bits,
        moveable: b.moveable,
        forwards: b.forwards,
    };
    let mut backups: Vec<VipaBackup> = drafts.backups.into_iter().map(backup).collect();
    backups.sort_by_key(|b| b.dvipa);
    VipaDynamic {
        defines,
        backups,
        distributes,
        ranges: drafts
            .ranges
            .into_iter()
            .map(|r| VipaRange { range: r.range.value, moveable: r.moveable, rank: r.rank })
            .collect(),
        elsewhere: BTreeSet::new(),
        unheard: BTreeSet::new(),
    }
}

/// Each DVIPA is defined or backed up once, and is not an address of the node.
fn addresses(drafts: &Drafts, own: Option<Own<'_>>, ledger: &mut Ledger) {
    let defines = drafts.defines.iter().map(|d| (&d.dvipa, "vipadefine"));
    let backups = drafts.backups.iter().map(|b| (&b.dvipa, "vipabackup"));
    let mut seen: BTreeMap<Dvipa, &str> = BTreeMap::new();
    for (At { value: dvipa, span }, statement) in defines.chain(backups) {
        match seen.insert(*dvipa, statement) {
            Some(before) if before == statement => {
                ledger.add(span, format!("{dvipa} has two `{statement}` statements"), "keep one of them");
            }
            Some(_) => {
                let what =
                    format!("{dvipa} has a `vipadefine` and a `vipabackup`: a stack can't back itself up");
                ledger.add(
                    span,
                    what,
                    "keep the `vipadefine` on the primary and the `vipabackup` on other stacks",
                );
            }
            None => {}
        }
        if own.is_some_and(|own| own.address.iter().any(|a| a == dvipa.address())) {
            let what = format!("{dvipa} is this node's cluster address");
            ledger.add(span, what, "choose another address: a DVIPA moves, a cluster address does not");
        }
    }
    let most = usize::from(DvipaIndex::MAX) + 1;
    if let Some(one_too_many) = drafts.defines.get(most) {
        let what = format!("there are more than {most} `vipadefine` statements");
        ledger.add(&one_too_many.dvipa.span, what, "distribute them over several routing stacks");
    }
}

/// Ranges are apart from each other and from the node's addresses. A DVIPA with a statement of its own may be in one: the statement takes it.
fn ranges(drafts: &Drafts, own: Option<Own<'_>>, ledger: &mut Ledger) {
    for (i, range) in drafts.ranges.iter().enumerate() {
        let At { value, span } = &range.range;
        let overlaps = |other: &IpNet| value.contains(other) || other.contains(value);
        if let Some(other) = drafts.ranges.iter().take(i).find(|other| overlaps(&other.range.value)) {
            let what = format!("{value} overlaps the range {}", other.range.value);
            ledger.add(span, what, "make one range of them, or make them apart");
        }
        if let Some(own) = own.and_then(|own| own.address.iter().find(|a| value.contains(a))) {
            let what = format!("the range {value} has this node's cluster address {own} in it");
            ledger.add(span, what, "make the range smaller");
        }
    }
}

/// One VIPADISTRIBUTE by itself.
fn one_distribute(distribute: &DraftDistribute, drafts: &Drafts, ledger: &mut Ledger) {
    let At { value: dvipa, span } = &distribute.dvipa;
    if !drafts.mentioned.iter().any(|mentioned| mentioned.is_none_or(|m| m == *dvipa)) {
        let what = format!("{dvipa} is distributed but not defined");
        ledger.add(span, what, format!("add a `vipadefine` or a `vipabackup` with address = \"{dvipa}\""));
    }
    if let Some(routed) = distribute.content_routed.as_ref().filter(|routed| routed.value)
        && distribute.protocol == Protocol::Udp
    {
        let what = "`content_routed` needs connections that can move, and UDP has none";
        ledger.add(&routed.span, what, "remove it, or set protocol = \"tcp\"");
    }
    let statements = drafts.defines.iter().map(|d| (d.dvipa.value, d.forwards));
    let mut statements = statements.chain(drafts.backups.iter().map(|b| (b.dvipa.value, b.forwards)));
    if let Some(routed) = distribute.content_routed.as_ref().filter(|routed| routed.value)
        && distribute.protocol == Protocol::Tcp
        && statements.any(|statement| statement == (*dvipa, Forwards::Always))
    {
        let what = format!(
            "{dvipa} is forwarded by this node whoever owns it, and a client has to reach the owner's router"
        );
        ledger.add(&routed.span, what, "remove it, or write forwards = \"when-owner\"");
    }
    if let Some(span) = &distribute.slow_start
        && distribute.method == Some(Method::HotStandby)
    {
        let what = "method \"hot-standby\" gives all to one target: there is no share that could grow";
        ledger.add(span, what, "remove `slow_start_s`, or choose another method");
    }
    if let Some(span) = &distribute.method_at
        && (distribute.method, distribute.protocol) == (Some(Method::PowerOfTwo), Protocol::Udp)
    {
        let what = "method \"power-of-two\" needs connections whose end is known, and UDP has none";
        ledger.add(span, what, "set method = \"least-connections\", which counts flows, or another one");
    }
    if let Some(span) = &distribute.affinity {
        affinity(distribute, span, ledger);
    }
    routes::check(distribute, drafts, ledger);
    quic::check(distribute, ledger);
    not_a_dvipa(&distribute.destip, drafts, ledger);
    weights(&distribute.weights, &distribute.destip, distribute.method, ledger);
    for (i, policy) in distribute.policies.iter().enumerate() {
        one_policy(policy, distribute, ledger);
        let At { value: client, span } = &policy.client;
        if let Some(before) = distribute.policies.iter().take(i).find(|p| p.client.value.contains(client)) {
            let what = format!(
                "no client gets to the policy for {client}: the one for {} comes first",
                before.client.value
            );
            ledger.add(span, what, "put the narrower prefix first, or remove this policy");
        }
    }
}

/// Whether its clients can keep their targets.
fn affinity(distribute: &DraftDistribute, span: &Range<usize>, ledger: &mut Ledger) {
    if distribute.protocol == Protocol::Udp {
        let what = "`affinity_s` needs connections whose end is known, and UDP has none";
        ledger.add(span, what, "remove it; method = \"source\" keeps a client at one target");
    }
    let routed = distribute.content_routed.as_ref().is_some_and(|routed| routed.value);
    if routed || !distribute.routes.is_empty() {
        let what = "`affinity_s` chooses by the client, but here its requests choose";
        ledger.add(span, what, "remove it, or the routes or `content_routed`");
    }
}

fn one_policy(policy: &DraftPolicy, distribute: &DraftDistribute, ledger: &mut Ledger) {
    let At { value: client, span } = &policy.client;
    let dvipa = distribute.dvipa.value;
    if client.addr().is_ipv4() != dvipa.address().is_ipv4() {
        let what = format!("{client} can't be a client of {dvipa}: they are of different families");
        let family = if dvipa.address().is_ipv4() { "IPv4" } else { "IPv6" };
        ledger.add(span, what, format!("write an {family} prefix"));
    }
    if let (DraftDestip::List(list), DraftDestip::List(all)) = (&policy.destip, &distribute.destip) {
        for candidate in list {
            if !all.iter().any(|a| a.value == candidate.value) {
                let what =
                    format!("the policy names {}, which the distribution's destip does not", candidate.value);
                ledger.add(
                    &candidate.span,
                    what,
                    "add it to the destip of the `vipadistribute`, in the same form",
                );
            }
        }
    }
    let destip = match &policy.destip {
        DraftDestip::All => &distribute.destip,
        list => list,
    };
    weights(&policy.weights, destip, distribute.method, ledger);
}

/// Packets of a DVIPA can't be carried to a DVIPA.
fn not_a_dvipa(destip: &DraftDestip, drafts: &Drafts, ledger: &mut Ledger) {
    let DraftDestip::List(list) = destip else { return };
    for At { value, span } in list {
        let Candidate::Address(address) = value else { continue };
        let dvipa = Dvipa::new(*address);
        let defines = drafts.defines.iter().map(|d| d.dvipa.value);
        if defines.chain(drafts.backups.iter().map(|b| b.dvipa.value)).any(|d| d == dvipa) {
            let what = format!("`destip`: {dvipa} is a DVIPA, not a stack's cluster address");
            ledger.add(span, what, "name the stack, or write its cluster address");
        }
    }
}

/// Weights are of candidates, leave someone to select, and are not ignored by the method.
fn weights(weights: &DraftWeights, destip: &DraftDestip, method: Option<Method>, ledger: &mut Ledger) {
    let ignored = "`weights` are not used by method \"round-robin\"";
    let fix = "set method = \"weighted-round-robin\", or remove the weights (0 alone means: never selected)";
    match weights {
        DraftWeights::Equal => {}
        DraftWeights::Load(span) if method == Some(Method::RoundRobin) => ledger.add(span, ignored, fix),
        DraftWeights::Load(span) if method == Some(Method::HotStandby) => ledger.add(
            span,
            "method \"hot-standby\" gives all to the heaviest target, which load would change all the time",
            "give weights by which targets stand in for each other: weights = { t1 = 2, t2 = 1 }",
        ),
        DraftWeights::Load(_) => {}
        DraftWeights::Configured(span, weights) => {
            if method == Some(Method::RoundRobin) && weights.iter().any(|(_, weight)| *weight > 1) {
                ledger.add(span, ignored, fix);
            }
            let DraftDestip::List(list) = destip else { return };
            for (At { value, span }, _) in weights {
                if !list.iter().any(|candidate| candidate.value == *value) {
                    let what = format!("`weights` names {value}, which is not in destip");
                    ledger.add(span, what, "add it to destip in the same form, or remove its weight");
                }
            }
            let zero =
                |c: &At<Candidate>| weights.iter().any(|(at, weight)| at.value == c.value && *weight == 0);
            if !list.is_empty() && list.iter().all(zero) {
                ledger.add(
                    span,
                    "every candidate has weight 0, so none is ever selected",
                    "give one of them 1 or more",
                );
            }
        }
    }
}

/// No port of a DVIPA and protocol is in two statements, and only one enumerates none.
fn ports(distributes: &[DraftDistribute], ledger: &mut Ledger) {
    for (i, one) in distributes.iter().enumerate() {
        let same =
            |other: &&DraftDistribute| other.dvipa.value == one.dvipa.value && other.protocol == one.protocol;
        for other in distributes.iter().take(i).filter(same) {
            let (dvipa, protocol) = (one.dvipa.value, one.protocol);
            if one.ports.is_empty() && other.ports.is_empty() {
                let what =
                    format!("{dvipa} has two `vipadistribute` statements for {protocol} without ports");
                ledger.add(&one.dvipa.span, what, "keep one of them, or give this one its ports");
            }
            for port in &one.ports {
                if other.ports.iter().any(|p| p.value == port.value) {
                    let what = format!(
                        "{protocol} port {} of {dvipa} is in two `vipadistribute` statements",
                        port.value
                    );
                    ledger.add(&port.span, what, "remove it from one of them");
                }
            }
        }
    }
}

fn finished_distribute(draft: DraftDistribute) -> VipaDistribute {
    let (routing, quic) = (routes::finished(&draft), quic::finished(&draft));
    let mut ports: Vec<u16> = draft.ports.into_iter().map(|at| at.value).collect();
    ports.sort_unstable();
    VipaDistribute {
        dvipa: draft.dvipa.value,
        protocol: draft.protocol,
        ports,
        destip: finished_destip(draft.destip),
        method: draft.method.unwrap_or_default(),
        weights: finished_weights(draft.weights),
        content_routed: draft.content_routed.is_some_and(|at| at.value),
        refuse: draft.refuse,
        rules: draft.rules,
        limits: draft.limits,
        policies: draft
            .policies
            .into_iter()
            .map(|policy| ServicePolicy {
                client: policy.client.value,
                destip: finished_destip(policy.destip),
                weights: finished_weights(policy.weights),
            })
            .collect(),
        routing,
        quic: quic.into(),
    }
}

fn finished_destip(draft: DraftDestip) -> Destip {
    match draft {
        // The ledger keeps a file with an unclear list from being used.
        DraftDestip::All | DraftDestip::Unclear => Destip::All,
        DraftDestip::List(list) => Destip::List(list.into_iter().map(|at| at.value).collect()),
    }
}

fn finished_weights(draft: DraftWeights) -> Weights {
    match draft {
        DraftWeights::Equal => Weights::Equal,
        DraftWeights::Load(_) => Weights::Load,
        DraftWeights::Configured(_, list) => {
            Weights::Configured(list.into_iter().map(|(at, weight)| (at.value, weight)).collect())
        }
    }
}
