//! `[[vipadynamic]]`: the statements of row W1, as they stand in the file.

use std::net::IpAddr;
use std::num::NonZeroU32;

use ipnet::IpNet;
use model::dpt::{Affinity, Method, Refuse};
use model::{Dvipa, Protocol, Rank, StackName};
use toml::Spanned;
use toml::de::DeValue;

use super::quic::KeyFiles;
use super::{limits, quic, route};
use crate::config::draft::{
    DraftBackup, DraftDefine, DraftDestip, DraftDistribute, DraftPolicy, DraftRange, DraftWeights, Drafts,
};
use crate::config::mistake::Ledger;
use crate::config::section::{At, Section, nearest};
use crate::config::value::{Value, article};
use crate::config::vipadynamic::{
    AFFINITY_CLIENTS, Candidate, Forwards, MOST_AFFINITY_CLIENTS, Moveable, TargetRules,
};

const METHODS: [(&str, Method); 7] = [
    ("round-robin", Method::RoundRobin),
    ("weighted-round-robin", Method::WeightedRoundRobin),
    ("least-connections", Method::LeastConnections),
    ("maglev", Method::Maglev),
    ("source", Method::Source),
    ("hot-standby", Method::HotStandby),
    ("power-of-two", Method::PowerOfTwo),
];
const MOVEABLE: [(&str, Moveable); 2] =
    [("immediate", Moveable::Immediate), ("whenidle", Moveable::WhenIdle)];
const FORWARDS: [(&str, Forwards); 2] = [("when-owner", Forwards::WhenOwner), ("always", Forwards::Always)];
const REFUSE: [(&str, Refuse); 2] = [("reset", Refuse::Reset), ("silent", Refuse::Silent)];
const PROTOCOLS: [(&str, Protocol); 2] = [("tcp", Protocol::Tcp), ("udp", Protocol::Udp)];

/// All blocks of the file, as one.
pub(super) fn drafts(root: &mut Section<'_>, keys: KeyFiles<'_>, ledger: &mut Ledger) -> Drafts {
    let mut drafts = Drafts::default();
    for mut block in root.tables("vipadynamic", ledger) {
        for section in block.tables("vipadynamic.vipadefine", ledger) {
            let (define, address) = define(section, ledger);
            drafts.defines.extend(define);
            drafts.mentioned.push(address);
        }
        for section in block.tables("vipadynamic.vipabackup", ledger) {
            let (backup, address) = backup(section, ledger);
            drafts.backups.extend(backup);
            drafts.mentioned.push(address);
        }
        for section in block.tables("vipadynamic.vipadistribute", ledger) {
            drafts.distributes.extend(distribute(section, keys, ledger));
        }
        for section in block.tables("vipadynamic.viparange", ledger) {
            drafts.ranges.extend(range(section, ledger));
        }
        block.finish(ledger);
    }
    drafts
}

/// The statement, and its address also if something else in it is wrong.
fn define(mut section: Section<'_>, ledger: &mut Ledger) -> (Option<DraftDefine>, Option<Dvipa>) {
    let dvipa = section.required("address", "add the DVIPA: address = \"198.18.9.1\"", ledger, Value::dvipa);
    let address = dvipa.as_ref().map(|at| at.value.address());
    let bits = section.required(
        "mask",
        "add the network mask: mask = \"255.255.255.0\" or mask = 24",
        ledger,
        |value, ledger| host_mask(value, address, ledger),
    );
    let moveable = section.optional("moveable", ledger, |v, l| v.choice(&MOVEABLE, l));
    let refuse = section.optional("refuse", ledger, |v, l| v.choice(&REFUSE, l));
    let forwards = section.optional("forwards", ledger, |v, l| v.choice(&FORWARDS, l));
    section.finish(ledger);
    let moveable = moveable.map_or(Moveable::default(), |at| at.value);
    let refuse = refuse.map_or(Refuse::default(), |at| at.value);
    let forwards = forwards.map_or(Forwards::default(), |at| at.value);
    let draft = dvipa.zip(bits).map(|(dvipa, bits)| DraftDefine {
        dvipa,
        prefix_bits: bits.value,
        moveable,
        refuse,
        forwards,
    });
    (draft, address.map(Dvipa::new))
}

/// The statement, and its address also if something else in it is wrong.
fn backup(mut section: Section<'_>, ledger: &mut Ledger) -> (Option<DraftBackup>, Option<Dvipa>) {
    let dvipa = section.required("address", "add the DVIPA: address = \"198.18.9.1\"", ledger, Value::dvipa);
    let address = dvipa.as_ref().map(|at| at.value.address());
    let rank = section.required(
        "rank",
        "add the rank, 1 to 254, the highest takes over first: rank = 200",
        ledger,
        |value, ledger| value.number(1..=254_u8, "", ledger).and_then(Rank::new),
    );
    let bits = section.optional("mask", ledger, |value, ledger| host_mask(value, address, ledger));
    let moveable = section.optional("moveable", ledger, |v, l| v.choice(&MOVEABLE, l));
    let forwards = section.optional("forwards", ledger, |v, l| v.choice(&FORWARDS, l));
    section.finish(ledger);
    let (prefix_bits, moveable) = (bits.map(|at| at.value), moveable.map(|at| at.value));
    let forwards = forwards.map_or(Forwards::default(), |at| at.value);
    let draft = dvipa.zip(rank).map(|(dvipa, rank)| DraftBackup {
        dvipa,
        rank: rank.value,
        prefix_bits,
        moveable,
        forwards,
    });
    (draft, address.map(Dvipa::new))
}

fn distribute(mut section: Section<'_>, keys: KeyFiles<'_>, ledger: &mut Ledger) -> Option<DraftDistribute> {
    let dvipa = section.required("address", "add the DVIPA: address = \"198.18.9.1\"", ledger, Value::dvipa);
    let ports = section.optional("ports", ledger, |value, ledger| {
        let each = |v: Value<'_>, l: &mut Ledger| v.number(1..=65_535_u16, "", l);
        value.distinct(
            "name the ports, or remove the key to distribute every port that a target binds",
            ledger,
            each,
        )
    });
    let protocol = section.optional("protocol", ledger, |v, l| v.choice(&PROTOCOLS, l));
    let fix = "add the candidate targets: destip = [\"t1\", \"t2\"] or destip = \"all\"";
    let destip = section.required("destip", fix, ledger, destip);
    let (method, method_at) = match section.value("method", ledger) {
        Some(value) => (value.choice(&METHODS, ledger), Some(value.span())),
        None => (Some(Method::default()), None),
    };
    let weights = section.optional("weights", ledger, weights);
    let content_routed = section.optional("content_routed", ledger, Value::flag);
    let refuse = section.optional("refuse", ledger, |v, l| v.choice(&REFUSE, l));
    let panic = section.optional("panic_percent", ledger, |v, l| v.number(1..=100_u8, " (percent)", l));
    let slow_start = section.optional("slow_start_s", ledger, |v, l| v.number(0..=3600_u16, " (seconds)", l));
    let most = section.optional("max_connections", ledger, |v, l| v.number(1..=u32::MAX, "", l));
    let seconds = |v: Value<'_>, l: &mut Ledger| v.number(1..=43_200_u16, " (seconds)", l);
    let affinity = section.optional("affinity_s", ledger, seconds);
    let clients = |v: Value<'_>, l: &mut Ledger| v.number(1024..=MOST_AFFINITY_CLIENTS, "", l);
    let clients = section.optional("affinity_clients", ledger, clients);
    let is_said = section.value("affinity_s", ledger).is_some();
    if let Some(clients) = clients.as_ref().filter(|_| !is_said) {
        let what = "`affinity_clients` says how many clients keep their targets, but not for how long";
        ledger.add(&clients.span, what, "add `affinity_s`, or remove it");
    }
    let rules = TargetRules {
        panic_percent: panic.map_or(TargetRules::default().panic_percent, |at| at.value),
        slow_start_s: slow_start.as_ref().map_or(0, |at| at.value),
        max_connections: most.and_then(|at| NonZeroU32::new(at.value)),
        affinity: affinity.as_ref().map(|at| Affinity {
            seconds: at.value,
            clients: clients.map_or(AFFINITY_CLIENTS, |at| at.value),
        }),
    };
    let limits = limits::limits(&mut section, ledger);
    let policies = section.tables("vipadynamic.vipadistribute.policy", ledger);
    let policies = policies.into_iter().filter_map(|section| policy(section, ledger)).collect();
    let client_protocol =
        section.optional("client_protocol", ledger, |v, l| v.choice(&route::CLIENT_PROTOCOLS, l));
    let routes = section.tables("vipadynamic.vipadistribute.route", ledger);
    let said = routes.len();
    let routes: Vec<_> = routes.into_iter().filter_map(|section| route::route(section, ledger)).collect();
    // One with a mistake is a route too.
    let client_protocol = client_protocol.filter(|_| said == 0 || !routes.is_empty());
    let quic = section.tables("vipadynamic.vipadistribute.quic", ledger);
    let quic = quic.into_iter().filter_map(|section| quic::quic(section, keys, ledger)).collect();
    section.finish(ledger);
    Some(DraftDistribute {
        dvipa: dvipa?,
        protocol: protocol.map_or(Protocol::Tcp, |at| at.value),
        ports: ports.map_or(Vec::new(), |at| at.value),
        destip: destip?.value,
        method,
        method_at,
        weights: weights.map_or(DraftWeights::Equal, |at| at.value),
        content_routed,
        refuse: refuse.map_or(Refuse::default(), |at| at.value),
        rules,
        affinity: affinity.map(|at| at.span),
        limits,
        slow_start: slow_start.filter(|at| at.value > 0).map(|at| at.span),
        policies,
        client_protocol,
        routes,
        quic,
    })
}

fn policy(mut section: Section<'_>, ledger: &mut Ledger) -> Option<DraftPolicy> {
    let fix = "add the clients that it is for: client = \"198.18.1.0/24\"";
    let client = section.required("client", fix, ledger, Value::prefix);
    let destip = section.optional("destip", ledger, destip);
    let weights = section.optional("weights", ledger, weights);
    section.finish(ledger);
    Some(DraftPolicy {
        client: client?,
        destip: destip.map_or(DraftDestip::All, |at| at.value),
        weights: weights.map_or(DraftWeights::Equal, |at| at.value),
    })
}

fn range(mut section: Section<'_>, ledger: &mut Ledger) -> Option<DraftRange> {
    let words = [("nondisruptive", Moveable::NonDisruptive), ("disruptive", Moveable::Disruptive)];
    let moveable = section.optional("moveable", ledger, |v, l| v.choice(&words, l));
    let fix = "add the first address of the range: address = \"198.18.10.0\"";
    let address = section.required("address", fix, ledger, Value::host_address);
    let known = address.as_ref().map(|at| at.value);
    let bits = section.required(
        "mask",
        "add the mask of the range: mask = \"255.255.255.0\" or mask = 24",
        ledger,
        |value, ledger| mask(value, known, ledger),
    );
    let rank = section
        .optional("rank", ledger, |value, ledger| value.number(1..=254_u8, "", ledger).and_then(Rank::new));
    section.finish(ledger);
    let (address, bits) = (address?, bits?);
    let Ok(range) = IpNet::new(address.value, bits.value) else {
        return None; // A mask too long for the family, of which `mask` has said so.
    };
    if range != range.trunc() {
        let what = format!("{} is not the first address of a range with mask {}", address.value, bits.value);
        ledger.add(&address.span, what, format!("write address = \"{}\"", range.network()));
    }
    let moveable = moveable.map_or(Moveable::NonDisruptive, |at| at.value);
    let (range, rank) = (At { value: range.trunc(), span: address.span }, rank.map(|at| at.value));
    Some(DraftRange { range, moveable, rank })
}

/// A mask, as dotted decimal (IPv4) or as a length in bits.
fn mask(value: Value<'_>, address: Option<IpAddr>, ledger: &mut Ledger) -> Option<u8> {
    let v4 = address.is_none_or(|address| address.is_ipv4());
    let longest = if v4 && address.is_some() { 32 } else { 128 };
    match value.item.get_ref() {
        DeValue::Integer(_) => value.number(1..=longest, " (bits)", ledger),
        DeValue::String(text) => match text.parse::<IpAddr>() {
            Ok(IpAddr::V4(_)) if !v4 => value.wrong(
                ledger,
                format!("`mask`: \"{text}\" is an IPv4 mask, and the address is IPv6"),
                "write the prefix length, such as mask = 64",
            ),
            Ok(mask @ IpAddr::V4(_)) => match ipnet::ip_mask_to_prefix(mask) {
                Ok(bits) if bits > 0 => Some(bits),
                _ => value.wrong(
                    ledger,
                    format!("`mask`: \"{text}\" is not ones followed by zeros"),
                    "write a mask such as \"255.255.255.0\", or its length such as 24",
                ),
            },
            _ => value.wrong(
                ledger,
                format!("`mask`: \"{text}\" is not a mask"),
                "write an IPv4 mask such as \"255.255.255.0\", or a length such as 24 without quotes",
            ),
        },
        _ => value.wrong(
            ledger,
            format!("`mask` is {}, not a mask", article(value.item)),
            "write \"255.255.255.0\" or 24",
        ),
    }
}

/// The mask of an address that a host answers to: it is neither the network's own nor its broadcast address.
fn host_mask(value: Value<'_>, address: Option<IpAddr>, ledger: &mut Ledger) -> Option<u8> {
    let bits = mask(value, address, ledger)?;
    if let Some(address @ IpAddr::V4(_)) = address
        && let Ok(network) = IpNet::new(address, bits)
        && bits <= 30
        && (network.network() == address || network.broadcast() == address)
    {
        let what = format!("{address} is the network or broadcast address of {}", network.trunc());
        return value.wrong(ledger, what, "choose an address between them, or another mask");
    }
    Some(bits)
}

/// DESTIP: `"all"`, or names and cluster addresses.
fn destip(value: Value<'_>, ledger: &mut Ledger) -> Option<DraftDestip> {
    if let DeValue::String(word) = value.item.get_ref() {
        return match word.as_ref() {
            "all" => Some(DraftDestip::All),
            other => {
                let near = nearest(other, &["all"]).is_some();
                let fix = if near {
                    "did you mean \"all\"?".to_owned()
                } else {
                    format!("write destip = [\"{other}\"], or \"all\" for every stack")
                };
                ledger.add(&value.span(), format!("`destip` can't be \"{other}\""), fix);
                Some(DraftDestip::Unclear)
            }
        };
    }
    let empty = "name at least one stack, or write destip = \"all\"";
    let before = ledger.count();
    let list = value.distinct(empty, ledger, |value, ledger| candidate(value, value.text(ledger)?, ledger));
    let list = list.filter(|_| ledger.count() == before);
    Some(list.map_or(DraftDestip::Unclear, DraftDestip::List))
}

/// A stack's name or cluster address.
fn candidate(value: Value<'_>, text: &str, ledger: &mut Ledger) -> Option<Candidate> {
    match parse_candidate(text) {
        Ok(candidate) => Some(candidate),
        Err(fix) => value.wrong(
            ledger,
            format!("`{}`: \"{text}\" is neither a stack name nor a cluster address", value.key),
            fix,
        ),
    }
}

fn parse_candidate(text: &str) -> Result<Candidate, &'static str> {
    if text.eq_ignore_ascii_case("all") {
        return Err("to mean every stack write destip = \"all\", not in a list");
    }
    if let Ok(address) = text.parse::<IpAddr>() {
        let address = address.to_canonical();
        let odd = address.is_unspecified() || address.is_multicast() || address.is_loopback();
        return if odd { Err("write an address that one host has") } else { Ok(Candidate::Address(address)) };
    }
    // What looks like a number of dots and digits was meant as an address; a name may look so only by accident.
    let like_address = text.contains([':', '.', '/']);
    match StackName::new(text) {
        Ok(name) if !like_address => Ok(Candidate::Name(name)),
        _ if like_address => Err("write the address without a port or prefix length, or the stack's name"),
        _ => Err("a name has 1 to 63 of a-z, 0-9 and `-`, with no `-` at either end"),
    }
}

/// Weights: `"load"`, or a table of candidates.
fn weights(value: Value<'_>, ledger: &mut Ledger) -> Option<DraftWeights> {
    let wrong = "write weights = { t1 = 10, t2 = 5 } or weights = \"load\"";
    match value.item.get_ref() {
        DeValue::String(word) if word == "load" => Some(DraftWeights::Load(value.span())),
        DeValue::String(word) => value.wrong(ledger, format!("`weights` can't be \"{word}\""), wrong),
        DeValue::Table(table) => {
            let mut weights = Vec::new();
            for (name, item) in table {
                let span = name.span();
                let weight = Value { key: "weights", item }.number(0..=65_535_u16, "", ledger);
                let candidate = match parse_candidate(name.get_ref()) {
                    Ok(candidate) => candidate,
                    Err(fix) => {
                        let what = format!(
                            "`weights`: \"{}\" is neither a stack name nor a cluster address",
                            name.get_ref()
                        );
                        ledger.add(&span, what, fix);
                        continue;
                    }
                };
                weights.extend(weight.map(|weight| (At { value: candidate, span: span.clone() }, weight)));
            }
            Some(DraftWeights::Configured(value.span(), weights))
        }
        _ => mistyped(value.item, wrong, ledger),
    }
}

fn mistyped<T>(item: &Spanned<DeValue<'_>>, fix: &str, ledger: &mut Ledger) -> Option<T> {
    ledger.add(&item.span(), format!("`weights` is {}, not a table", article(item)), fix);
    None
}
