//! `[[vipadynamic.vipadistribute.route]]`: routes, as Gateway API's HTTPRoute words them.

use model::route::{ClientProtocol, Match, Named, Pattern, Slots};
use toml::de::DeValue;

use crate::config::draft::DraftRoute;
use crate::config::mistake::Ledger;
use crate::config::section::{At, Section};
use crate::config::value::{Value, article};

pub(super) const CLIENT_PROTOCOLS: [(&str, ClientProtocol); 6] = [
    ("http", ClientProtocol::Http),
    ("tls", ClientProtocol::Tls),
    ("postgresql", ClientProtocol::Postgresql),
    ("mqtt", ClientProtocol::Mqtt),
    ("redis", ClientProtocol::Redis),
    ("raw", ClientProtocol::Raw),
];

/// How a pattern is compared.
#[derive(Clone, Copy)]
enum Kind {
    Exact,
    Prefix,
    RegularExpression,
}

const PATH_KINDS: [(&str, Kind); 3] =
    [("Exact", Kind::Exact), ("PathPrefix", Kind::Prefix), ("RegularExpression", Kind::RegularExpression)];
const KINDS: [(&str, Kind); 3] =
    [("Exact", Kind::Exact), ("Prefix", Kind::Prefix), ("RegularExpression", Kind::RegularExpression)];
/// Header and query parameters, whose prefixes Gateway API does not know.
const VALUE_KINDS: [(&str, Kind); 2] =
    [("Exact", Kind::Exact), ("RegularExpression", Kind::RegularExpression)];

pub(super) fn route(mut section: Section<'_>, ledger: &mut Ledger) -> Option<DraftRoute> {
    let span = section.span().clone();
    let fix = "add a name, which displays show: name = \"shop\"";
    let name = section.required("name", fix, ledger, Value::some_text);
    let hostnames = section.optional("hostnames", ledger, |value, ledger| {
        value.distinct("name a host, or remove the key for all hosts", ledger, Value::some_text)
    });
    let before = ledger.count();
    let matches = section.tables("vipadynamic.vipadistribute.route.matches", ledger);
    let matches: Vec<At<Match>> = matches.into_iter().map(|section| matching(section, ledger)).collect();
    let backends = section.tables("vipadynamic.vipadistribute.route.backends", ledger);
    let backends = backends.into_iter().filter_map(|section| backend(section, ledger)).collect();
    let good = ledger.count() == before;
    section.finish(ledger);
    let hostnames = hostnames.map_or(Vec::new(), |at| at.value);
    // What is wrong in a match must not make it a match for everything.
    name.filter(|_| good).map(|name| DraftRoute { span, name, hostnames, matches, backends })
}

fn matching(mut section: Section<'_>, ledger: &mut Ledger) -> At<Match> {
    let span = section.span().clone();
    let path = section.optional("path", ledger, |v, l| pattern(v, &PATH_KINDS, Kind::Prefix, l));
    let mut text = |key| section.optional(key, ledger, |v, l| pattern(v, &KINDS, Kind::Exact, l));
    let subjects = [path, text("database"), text("client_id"), text("key")];
    let user = text("user").map(|at| at.value);
    let mut named = |path| {
        let all = section.tables(path, ledger).into_iter().filter_map(|section| named(section, ledger));
        all.collect::<Vec<_>>()
    };
    let headers = named("vipadynamic.vipadistribute.route.matches.headers");
    let query_params = named("vipadynamic.vipadistribute.route.matches.query_params");
    let method = section.optional("method", ledger, Value::some_text).map(|at| at.value);
    let alpn = section.optional("alpn", ledger, Value::some_text).map(|at| at.value);
    let slots = section.optional("slots", ledger, slots).map(|at| at.value);
    let bytes = section.optional("bytes", ledger, bytes).map(|at| at.value);
    section.finish(ledger);
    let mut subjects = subjects.into_iter().flatten();
    let subject = subjects.next().map(|at| at.value);
    if let Some(second) = subjects.next() {
        let what = "`path`, `database`, `client_id` and `key` are of different protocols";
        ledger.add(&second.span, what, "keep the one that `client_protocol` has");
    }
    At { value: Match { subject, method, headers, query_params, alpn, user, slots, bytes }, span }
}

/// A text of the usual kind, or `{ type = "…", value = "…" }`.
fn pattern(value: Value<'_>, kinds: &[(&str, Kind)], usual: Kind, ledger: &mut Ledger) -> Option<Pattern> {
    let of = |kind, text: String| match kind {
        Kind::Exact => Pattern::Exact(text),
        Kind::Prefix => Pattern::Prefix(text),
        Kind::RegularExpression => Pattern::RegularExpression(text),
    };
    match value.item.get_ref() {
        DeValue::String(_) => value.some_text(ledger).map(|text| of(usual, text)),
        DeValue::Table(table) => {
            let path = "vipadynamic.vipadistribute.route.matches.path";
            let mut section = Section::new(path, table, value.span());
            let kind = section.optional("type", ledger, |v, l| v.choice(kinds, l));
            let text = section.required("value", "add the text: value = \"…\"", ledger, Value::some_text);
            section.finish(ledger);
            text.map(|text| of(kind.map_or(usual, |at| at.value), text.value))
        }
        _ => {
            let what = format!("`{}` is {}, not a text or a table", value.key, article(value.item));
            value.wrong(ledger, what, "write a text, or { type = \"…\", value = \"…\" }")
        }
    }
}

fn named(mut section: Section<'_>, ledger: &mut Ledger) -> Option<Named> {
    let name = section.required("name", "add its name: name = \"x-version\"", ledger, Value::some_text);
    let kind = section.optional("type", ledger, |v, l| v.choice(&VALUE_KINDS, l));
    let value = section.required("value", "add its value: value = \"2\"", ledger, Value::text);
    section.finish(ledger);
    let text = value?.value.to_owned();
    let value = match kind.map(|at| at.value) {
        Some(Kind::RegularExpression) => Pattern::RegularExpression(text),
        Some(Kind::Prefix) => Pattern::Prefix(text),
        Some(Kind::Exact) | None => Pattern::Exact(text),
    };
    Some(Named { name: name?.value, value })
}

/// `[first, last]`.
fn slots(value: Value<'_>, ledger: &mut Ledger) -> Option<Slots> {
    let before = ledger.count();
    let ends = value.list(ledger, |v, l| v.number(0..=Slots::MAX, " (a hash slot)", l))?;
    match &ends[..] {
        [first, last] => Some(Slots { first: first.value, last: last.value }),
        _ if ledger.count() > before => None,
        _ => value.wrong(
            ledger,
            "`slots` is not a first and a last slot".to_owned(),
            "write two numbers: slots = [0, 5460]",
        ),
    }
}

/// A text, or a list of numbers of bytes.
fn bytes(value: Value<'_>, ledger: &mut Ledger) -> Option<Vec<u8>> {
    match value.item.get_ref() {
        DeValue::Array(_) => {
            let list = value.list(ledger, |v, l| v.number(0..=255_u8, " (a byte)", l))?;
            Some(list.into_iter().map(|at| at.value).collect())
        }
        _ => value.text(ledger).map(|text| text.as_bytes().to_vec()),
    }
}

fn backend(mut section: Section<'_>, ledger: &mut Ledger) -> Option<(At<model::StackName>, u16)> {
    let fix = "add the stack that takes the requests: stack = \"t1\"";
    let stack = section.required("stack", fix, ledger, Value::stack_name);
    let weight = section.optional("weight", ledger, |v, l| v.number(0..=65_535_u16, "", l));
    section.finish(ledger);
    Some((stack?, weight.map_or(1, |at| at.value)))
}
