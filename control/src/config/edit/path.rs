//! What a path names: a key, a table, or one of several tables.
//!
//! | part | form | means |
//! | --- | --- | --- |
//! | path | `part.part.…` | from the file down |
//! | part | `key`, `"key"` | a key of the table before it |
//! | | `key[name=value,…]` | the table of a list in which these keys have these values; a list has a value if one of its elements has; nothing behind `=`: the table has no such key |
//! | | `key[0]` | the first one |
//! | | `key[+]` | one more, when something is set |

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use toml::Value;

use super::PathError;
use crate::config::section::nearest;

/// By what tables of a list are told apart, the first ones first.
const TELLING: [&str; 9] =
    ["name", "role", "address", "client", "ports", "protocol", "rotation", "stack", "type"];
/// What a key of [`TELLING`] is that is not written.
const UNWRITTEN: [(&str, &str); 1] = [("protocol", "tcp")];
/// No path has more parts. It would be that many tables in each other, which are read and written by recursion.
const MOST_PARTS: usize = 16;
/// The list whose tables count as one.
const ONE: &str = "vipadynamic";

/// A path to a key of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPath(pub(super) Vec<Part>);

/// One part of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) key: String,
    pub(super) which: Option<Which>,
}

/// Which element of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Which {
    New,
    Number(usize),
    With(Vec<(String, String)>),
}

/// One step from a value to one in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Key(String),
    Element(usize),
}

/// A value of the file, and where it is.
#[derive(Clone, Debug)]
pub(super) struct Place<'v> {
    pub(super) steps: Vec<Step>,
    /// As a path that means this one alone.
    pub(super) name: String,
    pub(super) value: &'v Value,
}

impl FromStr for KeyPath {
    type Err = PathError;

    fn from_str(text: &str) -> Result<Self, PathError> {
        let bad = |what: &str| {
            PathError {
            what: format!("`{text}` is not a path: {what}"),
            fix: "write one such as cluster.heartbeat_ms or vipadynamic.vipadistribute[address=198.18.9.1,ports=80].weights.t1"
                .to_owned(),
        }
        };
        let mut rest = text;
        let mut parts = Vec::new();
        loop {
            let key =
                word(&mut rest, |c| c == '.' || c == '[').ok_or_else(|| bad("a quote is not closed"))?;
            if key.is_empty() {
                return Err(bad("a key is missing"));
            }
            let which = match rest.strip_prefix('[') {
                None => None,
                Some(inside) => {
                    rest = inside;
                    let which = which(&mut rest).ok_or_else(|| {
                        bad("what is in the brackets is not [key=value,…], [NUMBER] or [+]")
                    })?;
                    Some(which)
                }
            };
            if parts.len() == MOST_PARTS {
                return Err(bad("it has more than 16 parts"));
            }
            parts.push(Part { key, which });
            match rest.strip_prefix('.') {
                Some(next) => rest = next,
                None if rest.is_empty() => return Ok(Self(parts)),
                None => return Err(bad("a dot is missing behind a bracket")),
            }
        }
    }
}

/// What comes before one of these characters, or what is in quotes. `None`: the quotes are not closed.
fn word(rest: &mut &str, ends: impl Fn(char) -> bool) -> Option<String> {
    if let Some(quoted) = rest.strip_prefix('"') {
        let (inside, behind) = quoted.split_once('"')?;
        *rest = behind;
        return Some(inside.to_owned());
    }
    let end = rest.find(ends).unwrap_or(rest.len());
    let (word, behind) = rest.split_at(end);
    *rest = behind;
    Some(word.to_owned())
}

/// What is between brackets, the closing one too.
fn which(rest: &mut &str) -> Option<Which> {
    if let Some(behind) = rest.strip_prefix("+]") {
        *rest = behind;
        return Some(Which::New);
    }
    let mut wanted = Vec::new();
    loop {
        let key = word(rest, |c| c == '=' || c == ']' || c == ',')?;
        if let (Some(behind), true, Ok(number)) = (rest.strip_prefix(']'), wanted.is_empty(), key.parse()) {
            *rest = behind;
            return Some(Which::Number(number));
        }
        *rest = rest.strip_prefix('=').filter(|_| !key.is_empty())?;
        let value = word(rest, |c| c == ',' || c == ']')?;
        wanted.push((key, value));
        match rest.strip_prefix(',') {
            Some(next) => *rest = next,
            None => {
                *rest = rest.strip_prefix(']')?;
                return Some(Which::With(wanted));
            }
        }
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, Part { key, which }) in self.0.iter().enumerate() {
            write!(f, "{}{}", if i == 0 { "" } else { "." }, quoted(key))?;
            match which {
                None => {}
                Some(Which::New) => write!(f, "[+]")?,
                Some(Which::Number(number)) => write!(f, "[{number}]")?,
                Some(Which::With(wanted)) => write!(f, "{}", brackets(wanted))?,
            }
        }
        Ok(())
    }
}

/// A key as it stands in a path.
fn quoted(key: &str) -> String {
    let is_bare = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if !key.is_empty() && key.chars().all(is_bare) { key.to_owned() } else { format!("\"{key}\"") }
}

fn brackets(wanted: &[(String, String)]) -> String {
    let value = |value: &str| {
        if value.contains([',', ']', '"']) { format!("\"{value}\"") } else { value.to_owned() }
    };
    let all: Vec<String> = wanted.iter().map(|(k, v)| format!("{}={}", quoted(k), value(v))).collect();
    format!("[{}]", all.join(","))
}

/// The name of what a key of a table is.
pub(super) fn below(table: &str, key: &str) -> String {
    if table.is_empty() { quoted(key) } else { format!("{table}.{}", quoted(key)) }
}

impl<'v> Place<'v> {
    /// The whole file.
    pub(super) fn root(value: &'v Value) -> Self {
        Self { steps: Vec::new(), name: String::new(), value }
    }

    /// What a key of this table is.
    fn child(&self, key: &str) -> Option<Self> {
        let value = self.value.as_table()?.get(key)?;
        let steps = self.steps.iter().cloned().chain([Step::Key(key.to_owned())]).collect();
        Some(Self { steps, name: below(&self.name, key), value })
    }

    /// The elements of this list.
    fn elements(&self) -> Vec<Self> {
        let list = self.value.as_array().map(Vec::as_slice).unwrap_or_default();
        let names = names(&[list]).remove(0);
        let element = |(i, (value, name)): (usize, (&'v Value, String))| {
            let steps = self.steps.iter().cloned().chain([Step::Element(i)]).collect();
            Self { steps, name: format!("{}{name}", self.name), value }
        };
        list.iter().zip(names).enumerate().map(element).collect()
    }

    /// This table; of a list of tables each.
    fn tables(self) -> Vec<Self> {
        if tables(self.value).is_some() { self.elements() } else { vec![self] }
    }
}

/// A list of tables.
pub(super) fn tables(value: &Value) -> Option<&[Value]> {
    value.as_array().filter(|list| !list.is_empty() && list.iter().all(Value::is_table)).map(Vec::as_slice)
}

/// What tells the elements of each of these lists apart, for all lists the same keys: `[address=198.18.9.1,ports=80]`. If nothing does,
/// their numbers; of a single one nothing needs to.
pub(super) fn names(lists: &[&[Value]]) -> Vec<Vec<String>> {
    if lists.iter().all(|list| list.len() == 1) {
        return vec![vec![String::new()]; lists.len()];
    }
    let mut keys: Vec<&str> = Vec::new();
    for key in TELLING {
        if !lists.iter().flat_map(|list| list.iter()).any(|table| table.get(key).is_some()) {
            continue;
        }
        keys.push(key);
        let of = |table: &Value| {
            let one = |key: &&str| ((*key).to_owned(), telling(table, key));
            brackets(&keys.iter().map(one).collect::<Vec<_>>())
        };
        let all: Vec<Vec<String>> = lists.iter().map(|list| list.iter().map(of).collect()).collect();
        if all.iter().all(|names| names.iter().collect::<BTreeSet<_>>().len() == names.len()) {
            return all;
        }
    }
    let numbers = |list: &&[Value]| (0..list.len()).map(|i| format!("[{i}]")).collect();
    lists.iter().map(numbers).collect()
}

/// What a key is in the name of a table; of a list the first element.
fn telling(table: &Value, key: &str) -> String {
    match table.get(key) {
        Some(Value::Array(list)) => list.first().map(scalar).unwrap_or_default(),
        Some(value) => scalar(value),
        None => unwritten(key).to_owned(),
    }
}

fn unwritten(key: &str) -> &'static str {
    UNWRITTEN.iter().find(|(known, _)| *known == key).map_or("", |(_, value)| value)
}

fn scalar(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Whether a table has this value for a key.
fn holds(table: &Value, key: &str, wanted: &str) -> bool {
    let is_same = |value: &Value| {
        let address = |text: &str| text.parse::<IpAddr>().ok();
        let word = scalar(value);
        word == wanted || address(&word).is_some_and(|one| address(wanted) == Some(one))
    };
    match table.get(key) {
        Some(Value::Array(list)) => list.iter().any(is_same),
        Some(value) => is_same(value),
        None => wanted == unwritten(key),
    }
}

/// All that the path names.
pub(super) fn find<'v>(root: &'v Value, path: &KeyPath) -> Result<Vec<Place<'v>>, PathError> {
    path.0.iter().try_fold(vec![Place::root(root)], |places, part| {
        let tables: Vec<Place<'v>> = places.into_iter().flat_map(Place::tables).collect();
        let children: Vec<Place<'v>> = tables.iter().filter_map(|table| table.child(&part.key)).collect();
        if children.is_empty() {
            return Err(no_key(&tables, &part.key));
        }
        match &part.which {
            None => Ok(children),
            Some(which) => chosen(&children, which),
        }
    })
}

/// The one table in which a key is, or is to be.
pub(super) fn only<'v>(place: Place<'v>, key: &str) -> Result<Place<'v>, PathError> {
    let is_one = place.name == ONE;
    let mut all = place.tables();
    if is_one && all.len() > 1 {
        let has_it = |table: &Place<'_>| table.value.get(key).is_some();
        if all.iter().any(has_it) {
            all.retain(has_it);
        } else {
            all = all.pop().into_iter().collect();
        }
    }
    match <[Place<'v>; 1]>::try_from(all) {
        Ok([table]) => Ok(table),
        Err(several) => Err(choose(&several)),
    }
}

/// The children of these places for a key, as an edit goes on: one, or none if the key is not written.
pub(super) fn descend<'v>(
    place: Place<'v>,
    part: &Part,
) -> Result<(Place<'v>, Option<Place<'v>>), PathError> {
    let table = only(place, &part.key)?;
    if !table.value.is_table() {
        return Err(no_key(std::slice::from_ref(&table), &part.key));
    }
    let child = table.child(&part.key);
    match (&part.which, child) {
        (None | Some(Which::New), child) => Ok((table, child)),
        (Some(which), Some(child)) => {
            let found = chosen(&[child], which)?;
            match <[Place<'v>; 1]>::try_from(found) {
                Ok([one]) => Ok((table, Some(one))),
                Err(several) => Err(choose(&several)),
            }
        }
        (Some(_), None) => Err(no_key(std::slice::from_ref(&table), &part.key)),
    }
}

/// The elements that are meant.
fn chosen<'v>(lists: &[Place<'v>], which: &Which) -> Result<Vec<Place<'v>>, PathError> {
    let list = lists.first().map(|list| list.name.clone()).unwrap_or_default();
    if !lists.iter().any(|list| list.value.is_array()) {
        let what = format!("`{list}` is not a list");
        return Err(PathError { what, fix: "leave the brackets out".to_owned() });
    }
    let all: Vec<Place<'v>> = lists.iter().flat_map(Place::elements).collect();
    let names: Vec<String> = all.iter().map(|element| element.name.clone()).collect();
    let (meant, wanted): (Vec<Place<'v>>, String) = match which {
        Which::New => {
            return Err(PathError {
                what: format!("`{list}[+]` is not there yet"),
                fix: "set it as a whole: VALUE is { key = value, … }".to_owned(),
            });
        }
        Which::Number(number) => (all.into_iter().skip(*number).take(1).collect(), format!("[{number}]")),
        Which::With(wanted) => {
            let is_meant =
                |place: &Place<'_>| wanted.iter().all(|(key, value)| holds(place.value, key, value));
            (all.into_iter().filter(is_meant).collect(), brackets(wanted))
        }
    };
    if !meant.is_empty() {
        return Ok(meant);
    }
    let what = format!("no table of `{list}` is {wanted}");
    let asked = format!("{list}{wanted}");
    let known: Vec<&str> = names.iter().map(String::as_str).collect();
    let fix = match nearest(&asked, &known) {
        Some(near) => format!("did you mean {near}?"),
        None if known.is_empty() => format!("there is none: `{list}[+]` adds one"),
        None => format!("there are {}", known.join(", ")),
    };
    Err(PathError { what, fix })
}

fn choose(several: &[Place<'_>]) -> PathError {
    let names: Vec<&str> = several.iter().map(|place| place.name.as_str()).collect();
    PathError {
        what: format!("{} tables are meant", names.len()),
        fix: format!("name one of {}", names.join(", ")),
    }
}

/// A key is not there.
pub(super) fn no_key(tables: &[Place<'_>], key: &str) -> PathError {
    let known: BTreeSet<&str> = tables
        .iter()
        .filter_map(|table| table.value.as_table())
        .flatten()
        .map(|(key, _)| key.as_str())
        .collect();
    let known: Vec<&str> = known.into_iter().collect();
    let name = match tables {
        [one] if one.name.is_empty() => "the file".to_owned(),
        [one] => format!("`{}`", one.name),
        several => format!("each of {} tables", several.len()),
    };
    if known.is_empty() {
        let what = format!("{name} is not a table, and has no `{key}`");
        return PathError { what, fix: "end the path before it".to_owned() };
    }
    let fix = match nearest(key, &known) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("written there: {}", known.join(", ")),
    };
    PathError { what: format!("`{key}` is not written in {name}"), fix }
}
