//! What differs between two texts of a file, key by key.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use toml::Value;

use super::path::{below, names, tables};

/// A key that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Its path.
    pub key: String,
    /// Its value before, as TOML; none if it was not written.
    pub before: Option<String>,
    /// Its value afterwards.
    pub after: Option<String>,
}

/// What differs, by key. Comments and layout are no difference. Tables of a list are told apart by what names them, and by their numbers if
/// nothing does.
pub(super) fn between(before: &Value, after: &Value) -> Vec<Change> {
    let mut changes = Vec::new();
    walk("", Some(before), Some(after), &mut changes);
    changes
}

fn walk(name: &str, before: Option<&Value>, after: Option<&Value>, changes: &mut Vec<Change>) {
    if before == after {
        return;
    }
    if let (Some(Value::Table(one)), Some(Value::Table(other))) = (before, after) {
        for key in one.keys().chain(other.keys()).collect::<BTreeSet<_>>() {
            walk(&below(name, key), one.get(key), other.get(key), changes);
        }
        return;
    }
    let list = |value: Option<&'_ Value>| -> Option<Vec<Value>> {
        value.map_or(Some(Vec::new()), |value| tables(value).map(<[Value]>::to_vec))
    };
    if let (Some(one), Some(other)) = (list(before), list(after)) {
        let named = names(&[&one, &other]);
        let [ones, others] = &named[..] else { return };
        for element in ones.iter().chain(others.iter().filter(|name| !ones.contains(name))) {
            let of = |names: &[String], list: &[Value]| {
                names.iter().position(|name| name == element).and_then(|i| list.get(i).cloned())
            };
            let (one, other) = (of(ones, &one), of(others, &other));
            walk(&format!("{name}{element}"), one.as_ref(), other.as_ref(), changes);
        }
        return;
    }
    let text = |value: Option<&Value>| value.map(Value::to_string);
    changes.push(Change { key: name.to_owned(), before: text(before), after: text(after) });
}
