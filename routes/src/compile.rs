//! Definitions → tables. Everything that can be wrong is found here, with its place.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use hashbrown::HashMap;
use model::route::{ClientProtocol, Match, Named, Pattern, Route, RouteSet};

use crate::check;
use crate::conditions::Conditions;
use crate::host::{MAX_HOST, MAX_LABELS};
use crate::pattern::{Compiled, Regex};
use crate::request::{Alpn, MAX_ALPN, alpn_bit};
use crate::table::{Entry, FEW, Many, Names, Node, Run, Tables, Text};
use crate::{MatchPlace, Mistake, Place, RouteId, Routes, table};

/// The most routes of a port.
pub const MAX_ROUTES: usize = 65_535;
/// The most pairs of a host name and a match.
pub const MAX_ENTRIES: usize = 1_000_000;
/// The longest text of a match, in bytes.
pub const MAX_TEXT: usize = 4096;
/// The most regular expressions of a port that differ.
pub const MAX_REGEXES: usize = 256;

impl Routes {
    /// Makes routes ready to be asked.
    ///
    /// # Errors
    /// The first mistake.
    pub fn compile(set: &RouteSet) -> Result<Self, Mistake> {
        if set.routes.len() > MAX_ROUTES {
            let what = format!("there are more than {MAX_ROUTES} routes");
            return Err(Mistake::new(
                Place::Route(MAX_ROUTES),
                what,
                "put host names of one target into one route",
            ));
        }
        let mut compiler = Compiler::new(set.protocol);
        for (at, route) in set.routes.iter().enumerate() {
            compiler.route(at, route, &set.routes)?;
        }
        let mut prefixes = std::mem::take(&mut compiler.raw);
        prefixes.sort();
        prefixes.dedup();
        let alpn = std::mem::take(&mut compiler.alpn);
        Ok(Self {
            protocol: set.protocol,
            names: set.routes.iter().map(|route| route.name.as_str().into()).collect(),
            backends: set.routes.iter().map(|route| route.backends.clone().into()).collect(),
            tables: compiler.tables(),
            alpn: Alpn(alpn.into()),
            prefixes: prefixes.into(),
        })
    }
}

/// Which requests' hosts a match is for. The order is nothing but one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum HostKey {
    Any,
    Wildcard(Vec<u8>),
    Exact(Vec<u8>),
}

/// How a match's subject is looked up.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Subject {
    Exact(Vec<u8>),
    Prefix(Vec<u8>),
    Other,
}

/// A match for a host name, not yet in the tables.
struct Draft {
    subject: Subject,
    conditions: Option<Arc<Conditions>>,
    place: MatchPlace,
}

/// A match, and what is made of it.
struct Matching {
    at: Option<u32>,
    subject: Subject,
    conditions: Option<Arc<Conditions>>,
    /// The match in the one form that does not depend on how it is written.
    normal: Arc<Match>,
}

struct Compiler {
    protocol: ClientProtocol,
    hosts: BTreeMap<HostKey, Vec<Draft>>,
    /// Which matches there are of each host, and of which route.
    seen: HashMap<(HostKey, Subject, Arc<Match>), usize>,
    regexes: HashMap<String, Regex>,
    alpn: Vec<Box<[u8]>>,
    raw: Vec<Box<[u8]>>,
}

impl Compiler {
    fn new(protocol: ClientProtocol) -> Self {
        Self {
            protocol,
            hosts: BTreeMap::new(),
            seen: HashMap::new(),
            regexes: HashMap::new(),
            alpn: Vec::new(),
            raw: Vec::new(),
        }
    }

    fn route(&mut self, at: usize, route: &Route, names: &[Route]) -> Result<(), Mistake> {
        let id = RouteId(u16::try_from(at).unwrap_or(u16::MAX));
        let hosts = self.host_keys(at, route)?;
        let mut matches = Vec::new();
        for (i, one) in route.matches.iter().enumerate() {
            matches.push(self.matching(Some(i), one, Place::Match(at, i))?);
        }
        if matches.is_empty() {
            matches.push(self.matching(None, &Match::default(), Place::Route(at))?);
        }
        for matching in &matches {
            let place = matching.at.map_or(Place::Route(at), |i| Place::Match(at, i as usize));
            for (hostname, host) in &hosts {
                let key = (host.clone(), matching.subject.clone(), Arc::clone(&matching.normal));
                if let Some(first) = self.seen.insert(key, at) {
                    let first = names.get(first).map_or("", |route| route.name.as_str());
                    let what =
                        format!("no request gets here: route \"{first}\" has the same match{}", host.words());
                    return Err(Mistake::new(place, what, "remove one of them"));
                }
                if self.seen.len() > MAX_ENTRIES {
                    let what = format!("there are more than {MAX_ENTRIES} pairs of host names and matches");
                    return Err(Mistake::new(place, what, "use wildcards, or several DVIPAs"));
                }
                self.hosts.entry(host.clone()).or_default().push(Draft {
                    subject: matching.subject.clone(),
                    conditions: matching.conditions.clone(),
                    place: MatchPlace { route: id, hostname: *hostname, matching: matching.at },
                });
            }
        }
        Ok(())
    }

    fn host_keys(&self, at: usize, route: &Route) -> Result<Vec<(Option<u32>, HostKey)>, Mistake> {
        let has_names = matches!(self.protocol, ClientProtocol::Http | ClientProtocol::Tls);
        if !has_names && !route.hostnames.is_empty() {
            let what = format!("clients that speak {} name no host", self.protocol);
            return Err(Mistake::new(Place::Hostname(at, 0), what, "remove `hostnames`"));
        }
        let mut keys = Vec::new();
        for (i, name) in route.hostnames.iter().enumerate() {
            keys.push((Some(i as u32), host_key(name, Place::Hostname(at, i))?));
        }
        if keys.is_empty() {
            keys.push((None, HostKey::Any));
        }
        Ok(keys)
    }

    fn matching(&mut self, at: Option<usize>, one: &Match, place: Place) -> Result<Matching, Mistake> {
        check::fields(self.protocol, one, place)?;
        let (subject, regex) = self.subject(one, place)?;
        let mut headers = Vec::new();
        for Named { name, value } in &one.headers {
            headers.push((name.to_ascii_lowercase().into(), self.pattern(value, place)?));
        }
        let mut query_params = Vec::new();
        for Named { name, value } in &one.query_params {
            query_params.push((name.as_bytes().into(), self.pattern(value, place)?));
        }
        let conditions = Conditions {
            subject: regex,
            slots: one.slots.map(|slots| (slots.first, slots.last)),
            method: one.method.as_ref().map(|method| method.as_bytes().into()),
            headers: headers.into(),
            query_params: query_params.into(),
            user: one.user.as_ref().map(|user| self.pattern(user, place)).transpose()?,
            alpn: one.alpn.as_ref().map_or(Ok(0), |name| self.alpn(name, place))?,
        };
        let conditions = (!conditions.is_none()).then(|| Arc::new(conditions));
        Ok(Matching { at: at.map(|at| at as u32), subject, conditions, normal: Arc::new(normal(one)) })
    }

    /// How the subject is looked up, or the regular expression that it is compared with.
    fn subject(&mut self, one: &Match, place: Place) -> Result<(Subject, Option<Compiled>), Mistake> {
        if let Some(bytes) = &one.bytes {
            self.raw.push(bytes.clone().into());
            return Ok((Subject::Prefix(bytes.clone()), None));
        }
        let Some(pattern) = &one.subject else { return Ok((Subject::Other, None)) };
        check::subject(self.protocol, pattern, place)?;
        Ok(match pattern {
            Pattern::Exact(text) => (Subject::Exact(text.as_bytes().to_vec()), None),
            Pattern::Prefix(text) => {
                let http = self.protocol == ClientProtocol::Http;
                let start = if http { text.trim_end_matches('/') } else { text };
                let any = start.is_empty();
                (if any { Subject::Other } else { Subject::Prefix(start.as_bytes().to_vec()) }, None)
            }
            Pattern::RegularExpression(_) => (Subject::Other, Some(self.pattern(pattern, place)?)),
        })
    }

    fn pattern(&mut self, pattern: &Pattern, place: Place) -> Result<Compiled, Mistake> {
        check::length(pattern, place)?;
        match pattern {
            Pattern::Exact(text) => Ok(Compiled::Exact(text.as_bytes().into())),
            Pattern::Prefix(text) => Ok(Compiled::Prefix(text.as_bytes().into())),
            Pattern::RegularExpression(text) => {
                if let Some(known) = self.regexes.get(text) {
                    return Ok(Compiled::Regex(known.clone()));
                }
                if self.regexes.len() == MAX_REGEXES {
                    let what = format!("there are more than {MAX_REGEXES} regular expressions");
                    return Err(Mistake::new(place, what, "write PathPrefix or Exact where it is enough"));
                }
                let regex = Regex::new(text).map_err(|why| {
                    let what = format!("the regular expression `{text}` can't be used: {why}");
                    Mistake::new(place, what, "write a simpler one; it has to match the whole text")
                })?;
                self.regexes.insert(text.clone(), regex.clone());
                Ok(Compiled::Regex(regex))
            }
        }
    }

    fn alpn(&mut self, name: &str, place: Place) -> Result<u64, Mistake> {
        if !self.alpn.iter().any(|known| **known == *name.as_bytes()) {
            if self.alpn.len() == MAX_ALPN {
                let what = format!("there are more than {MAX_ALPN} application protocols");
                return Err(Mistake::new(place, what, "leave some out"));
            }
            self.alpn.push(name.as_bytes().into());
        }
        Ok(alpn_bit(&self.alpn, name.as_bytes()))
    }

    fn tables(self) -> Tables {
        let mut made = Made::default();
        let (mut nodes, mut any) = (Vec::new(), None);
        let keys: Vec<HostKey> = self.hosts.keys().cloned().collect();
        for (at, (key, drafts)) in self.hosts.into_iter().enumerate() {
            let name = match &key {
                HostKey::Any => {
                    any = Some(at as u32);
                    made.text(b"")
                }
                HostKey::Wildcard(name) | HostKey::Exact(name) => made.text(name),
            };
            nodes.push(Node { name, ..made.node(drafts) });
        }
        let of = |is: fn(&HostKey) -> Option<&[u8]>| -> Names {
            let named: Vec<_> = keys.iter().zip(0..).filter_map(|(key, at)| Some((is(key)?, at))).collect();
            Names::new(named.into_iter())
        };
        let mut tables = Tables {
            entries: made.entries.into(),
            nodes: nodes.into(),
            subjects: made.subjects.into(),
            texts: made.texts.into(),
            hosts: of(|key| if let HostKey::Exact(name) = key { Some(name) } else { None }),
            wildcards: of(|key| if let HostKey::Wildcard(name) = key { Some(name) } else { None }),
            any,
            whole_elements: self.protocol == ClientProtocol::Http,
        };
        let parent = |key: &HostKey| match key {
            HostKey::Any => None,
            HostKey::Exact(name) | HostKey::Wildcard(name) => tables.wildcard_of(name).or(any),
        };
        let parents: Vec<_> = keys.iter().map(parent).collect();
        for (node, parent) in tables.nodes.iter_mut().zip(parents) {
            node.parent = parent;
        }
        tables
    }
}

/// The tables' parts as they grow.
#[derive(Default)]
struct Made {
    entries: Vec<Entry>,
    subjects: Vec<table::Subject>,
    texts: Vec<u8>,
}

impl Made {
    fn text(&mut self, text: &[u8]) -> Text {
        let at = self.texts.len() as u32;
        self.texts.extend(text);
        Text { at, len: text.len() as u32 }
    }

    /// The matches of one host name, in the order in which they are tried.
    fn node(&mut self, mut drafts: Vec<Draft>) -> Node {
        let nothing = Conditions::default();
        let rank = |draft: &Draft| draft.conditions.as_deref().unwrap_or(&nothing).rank();
        // Stable, so that of equals the first in the file comes first.
        drafts.sort_by(|a, b| (&a.subject, rank(a)).cmp(&(&b.subject, rank(b))));
        let (mut node, mut named) = (Node::default(), Vec::new());
        for group in drafts.chunk_by(|a, b| a.subject == b.subject) {
            let from = self.entries.len() as u32;
            self.entries
                .extend(group.iter().map(|d| Entry { place: d.place, conditions: d.conditions.clone() }));
            let run = Run { from, to: self.entries.len() as u32 };
            match group.first().map(|draft| &draft.subject) {
                Some(Subject::Exact(text)) => named.push((false, text.as_slice(), run)),
                Some(Subject::Prefix(text)) => named.push((true, text.as_slice(), run)),
                Some(Subject::Other) | None => node.others = run,
            }
        }
        named.sort_by_key(|(is_prefix, text, _)| (*is_prefix, Reverse(text.len())));
        if named.len() > FEW {
            node.many = Some(Box::new(many(&named)));
            return node;
        }
        let from = self.subjects.len() as u32;
        for (is_prefix, text, run) in named {
            let text = self.text(text);
            self.subjects.push(table::Subject { text, is_prefix, run });
        }
        node.subjects = Run { from, to: self.subjects.len() as u32 };
        node
    }
}

/// Subjects that are looked up: whether each may go on, and its matches.
fn many(named: &[(bool, &[u8], Run)]) -> Many {
    let of = |is: bool| named.iter().filter(move |(is_prefix, ..)| *is_prefix == is);
    let map = |is| of(is).map(|(_, text, run)| (Box::from(*text), *run)).collect();
    let mut lengths: Vec<u32> = of(true).map(|(_, text, _)| text.len() as u32).collect();
    lengths.dedup();
    Many { exact: map(false), prefixes: map(true), lengths: lengths.into() }
}

/// A host name of a definition: a name, or `*.` and a name.
fn host_key(text: &str, place: Place) -> Result<HostKey, Mistake> {
    let wrong = |what: &str, fix: &str| Mistake::new(place, format!("`hostnames`: \"{text}\" {what}"), fix);
    let lower = text.to_ascii_lowercase();
    let (wildcard, name) = match lower.strip_prefix("*.") {
        Some(rest) => (true, rest),
        None => (false, lower.as_str()),
    };
    if name.contains('*') {
        let fix = "write `*.` at the beginning, or one name for each";
        return Err(wrong("has `*` where it stands for nothing", fix));
    }
    let label = |label: &str| {
        let letters = label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        (1..=63).contains(&label.len()) && letters && !label.starts_with('-') && !label.ends_with('-')
    };
    if name.contains([':', '/']) {
        return Err(wrong("is more than a host name", "write the name alone, without scheme, port and path"));
    }
    // One label is left for what the `*` stands for.
    let labels = name.split('.').count() < MAX_LABELS;
    if name.len() > MAX_HOST || !labels || !name.split('.').all(label) {
        return Err(wrong("is not a host name", "write one such as \"shop.example\" or \"*.shop.example\""));
    }
    let name = name.as_bytes().to_vec();
    Ok(if wildcard { HostKey::Wildcard(name) } else { HostKey::Exact(name) })
}

impl HostKey {
    /// For the end of a sentence.
    fn words(&self) -> String {
        match self {
            HostKey::Any => String::new(),
            HostKey::Exact(name) => format!(" for {}", String::from_utf8_lossy(name)),
            HostKey::Wildcard(name) => format!(" for *.{}", String::from_utf8_lossy(name)),
        }
    }
}

/// The match without what differs only in how it is written; the subject alone where no look-up finds it.
fn normal(one: &Match) -> Match {
    let mut normal = one.clone();
    normal.subject = one.subject.clone().filter(|s| matches!(s, Pattern::RegularExpression(_)));
    normal.bytes = None;
    for header in &mut normal.headers {
        header.name.make_ascii_lowercase();
    }
    normal.headers.sort_by(|a, b| a.name.cmp(&b.name));
    normal.query_params.sort_by(|a, b| a.name.cmp(&b.name));
    normal
}
