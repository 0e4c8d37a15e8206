//! How servers make QUIC connection IDs, against their distribution.

use std::collections::BTreeMap;
use std::ops::Range;

use model::quic::{Assigned, Configuration, ServerId};
use model::{Protocol, StackName};
use quiclb::Reader;

use super::draft::{DraftDestip, DraftDistribute, DraftQuic};
use super::mistake::Ledger;
use super::vipadynamic::Candidate;

/// Server IDs that follow from names of which not all are known need so many bytes, so that no two of them are the same.
const DERIVED_BYTES: u8 = 4;

/// Everything about the connection IDs of one VIPADISTRIBUTE.
pub(super) fn check(distribute: &DraftDistribute, ledger: &mut Ledger) {
    let Some(first) = distribute.quic.first() else { return };
    if distribute.protocol == Protocol::Tcp {
        ledger.add(&first.span, "`quic` is about UDP, and this is TCP", "set protocol = \"udp\"");
    }
    if distribute.ports.is_empty() {
        let what = "`quic` is for the ports that are enumerated, and there are none";
        ledger.add(&first.span, what, "name the ports whose servers speak QUIC: ports = [443]");
    }
    for (at, quic) in distribute.quic.iter().enumerate() {
        let rotation = &quic.rotation;
        if distribute.quic.iter().take(at).any(|other| other.rotation.value == rotation.value) {
            let what = format!("there are two `quic` tables with rotation = {}", rotation.value);
            ledger.add(&rotation.span, what, "give each a number of its own, from 0 to 6");
        }
        one(quic, distribute, ledger);
    }
}

fn one(quic: &DraftQuic, distribute: &DraftDistribute, ledger: &mut Ledger) {
    let (server_id, nonce) = (quic.server_id_bytes.value, &quic.nonce_bytes);
    let most = Configuration::MAX_BLOCK;
    if server_id.saturating_add(nonce.value) > most {
        let what = format!(
            "a server ID of {server_id} and a nonce of {} bytes are more than {most} bytes",
            nonce.value
        );
        let fix = format!("shorten one of them: a connection ID has {} bytes at most", most + 1);
        return ledger.add(&nonce.span, what, fix);
    }
    let names = names(&distribute.destip);
    if quic.server_ids.is_empty() { derived(quic, &names, ledger) } else { given(quic, &names, ledger) }
}

/// The candidates by name, and whether these are all.
fn names(destip: &DraftDestip) -> (Vec<&StackName>, bool) {
    match destip {
        DraftDestip::All => (Vec::new(), false),
        // What is wrong with it says enough.
        DraftDestip::Unclear => (Vec::new(), true),
        DraftDestip::List(list) => {
            let names = list.iter().filter_map(|at| match &at.value {
                Candidate::Name(name) => Some(name),
                Candidate::Address(_) => None,
            });
            let names: Vec<_> = names.collect();
            let all = names.len() == list.len();
            (names, all)
        }
    }
}

/// Server IDs that follow from the names of the stacks differ.
fn derived(quic: &DraftQuic, (names, all): &(Vec<&StackName>, bool), ledger: &mut Ledger) {
    let bytes = &quic.server_id_bytes;
    if !all && bytes.value < DERIVED_BYTES {
        let what = format!("of two stacks the names may give the same {} bytes", bytes.value);
        let fix = format!(
            "set server_id_bytes to {DERIVED_BYTES} or more, or give the server IDs: server_ids = {{ t1 = \"01\" }}"
        );
        return ledger.add(&bytes.span, what, fix);
    }
    let mut known: BTreeMap<ServerId, &StackName> = BTreeMap::new();
    for name in names {
        let Some(id) = quiclb::derived(name, bytes.value) else { continue };
        if let Some(other) = known.insert(id, name) {
            let what = format!("the names of {other} and {name} both give the server ID {id}");
            ledger.add(
                &bytes.span,
                what,
                "set server_id_bytes to more, or give the server IDs: server_ids = { … }",
            );
        }
    }
}

/// Server IDs that are given are as long as it says, of candidates, no two the same, and every candidate has one.
fn given(quic: &DraftQuic, (names, all): &(Vec<&StackName>, bool), ledger: &mut Ledger) {
    let bytes = usize::from(quic.server_id_bytes.value);
    let mut known: BTreeMap<ServerId, &StackName> = BTreeMap::new();
    for (stack, id) in &quic.server_ids {
        let is = id.value.as_bytes().len();
        if is != bytes {
            let what = format!("the server ID {} of {} has {is} bytes, not {bytes}", id.value, stack.value);
            ledger.add(
                &id.span,
                what,
                format!("write {} hexadecimal digits, or change server_id_bytes", bytes * 2),
            );
        }
        if let Some(other) = known.insert(id.value, &stack.value) {
            let what = match *other == stack.value {
                true => format!("{other} has the server ID {} twice", id.value),
                false => format!("{other} and {} have the same server ID {}", stack.value, id.value),
            };
            ledger.add(&id.span, what, "give each its own");
        }
        if *all && !names.is_empty() && !names.contains(&&stack.value) {
            let what = format!("`server_ids` names {}, which is not in destip", stack.value);
            ledger.add(
                &stack.span,
                what,
                "add it to the destip of the `vipadistribute`, or remove its server ID",
            );
        }
    }
    for name in names {
        if !quic.server_ids.iter().any(|(stack, _)| stack.value == **name) {
            let what = format!("{name} has no server ID: no packet would follow a connection ID there");
            ledger.add(
                &span(quic),
                what,
                format!("add it to server_ids: {name} = \"{}\"", "00".repeat(bytes)),
            );
        }
    }
}

fn span(quic: &DraftQuic) -> Range<usize> {
    quic.server_ids.first().map_or(quic.span.clone(), |(stack, _)| stack.span.clone())
}

/// The configurations without places.
pub(super) fn finished(distribute: &DraftDistribute) -> Vec<Configuration> {
    let finished: Vec<Configuration> = distribute
        .quic
        .iter()
        .map(|quic| Configuration {
            rotation: quic.rotation.value,
            server_id_bytes: quic.server_id_bytes.value,
            nonce_bytes: quic.nonce_bytes.value,
            key: quic.key,
            length_in_first_octet: quic.length_in_first_octet,
            server_ids: quic
                .server_ids
                .iter()
                .map(|(stack, id)| Assigned { stack: stack.value.clone(), id: id.value })
                .collect(),
        })
        .collect();
    // What `check` has found keeps the file from being used.
    if Reader::new(&finished).is_ok() { finished } else { Vec::new() }
}
