//! `baton schema`: which keys the two files have, as a JSON schema for editors.
//!
//! [`batond`] and [`agent`] say of each key what may be written there; what it means is in `docs/configuration.md`, which [`docs`] reads. The schema says
//! what an editor can say of a single value. What has to fit together, `baton check` says.

mod agent;
mod batond;
mod docs;

#[cfg(test)]
mod tests;

use docs::Docs;
use serde_json::{Map, Value, json};

use crate::arguments::Program;
use crate::failure::Failure;

/// A key of a file.
pub(crate) struct Key {
    /// Its path, with dots.
    path: &'static str,
    /// What is in force if it is not written.
    absent: Absent,
    /// What may be written.
    kind: Kind,
}

/// What is in force if a key is not written.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Absent {
    /// It must be written where its table is.
    Needed,
    /// This, as TOML.
    Is(&'static str),
    /// Nothing, or what is no single value.
    Other,
}

/// What may be written.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    /// A table, of the keys below it.
    Table,
    /// A list of them.
    Tables,
    /// A table with free keys.
    Map(&'static Kind),
    Text,
    /// Of this form, a regular expression.
    Form(&'static str),
    Flag,
    /// From, to.
    Number(i64, i64),
    Choice(&'static [&'static str]),
    /// At least so many.
    List(&'static Kind, usize),
    Either(&'static [Kind]),
    /// A text, or a table with `value` and one of these as `type`.
    Pattern(&'static [&'static str]),
}

const NAME: Kind = Kind::Form("^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$");
const ADDRESS: Kind = Kind::Form("^([0-9]{1,3}([.][0-9]{1,3}){3}|[0-9a-fA-F.]*:[0-9a-fA-F:.]*)$");
const SOCKET: Kind = Kind::Form("^([0-9]{1,3}([.][0-9]{1,3}){3}|\\[[0-9a-fA-F:.]+\\]):[0-9]{1,5}$");
const PREFIX: Kind = Kind::Form("^[0-9a-fA-F:.]+/[0-9]{1,3}$");
const PATH: Kind = Kind::Form("[^ ]");
const PORT: Kind = Kind::Number(1, 65_535);
const MODE: Kind = Kind::Number(0, 0o777);
const U32: i64 = u32::MAX as i64;

/// What is printed.
pub(crate) fn print(program: Program) -> Result<String, Failure> {
    let schema = of(program);
    serde_json::to_string_pretty(&schema).map(|text| text + "\n").map_err(|e| Failure::Text(e.to_string()))
}

/// The schema of a program's file. Draft 7, which the editors' libraries know.
pub(crate) fn of(program: Program) -> Value {
    let (keys, docs, title) = match program {
        Program::Batond => (batond::KEYS, Docs::batond(), "batond.toml"),
        Program::Agent => (agent::KEYS, Docs::agent(), "agent.toml"),
    };
    let mut schema = table("", keys, &docs);
    schema.insert("$schema".to_owned(), json!("http://json-schema.org/draft-07/schema#"));
    schema.insert("title".to_owned(), json!(title));
    schema.into()
}

/// The table with this path.
fn table(path: &str, keys: &[Key], docs: &Docs) -> Map<String, Value> {
    let below = |key: &&Key| key.path.rsplit_once('.').map_or("", |(table, _)| table) == path;
    let last = |key: &Key| key.path.rsplit('.').next().unwrap_or_default().to_owned();
    let mut properties = Map::new();
    for key in keys.iter().filter(below) {
        let mut schema = value(key.path, &key.kind, keys, docs);
        if let Some(text) = docs.meaning(key.path) {
            schema.insert("description".to_owned(), text.into());
        }
        if let Absent::Is(default) = key.absent {
            schema.insert("default".to_owned(), literal(default));
        }
        properties.insert(last(key), schema.into());
    }
    let needed: Vec<String> =
        keys.iter().filter(below).filter(|key| key.absent == Absent::Needed).map(last).collect();
    object(
        json!({ "type": "object", "properties": properties, "required": needed, "additionalProperties": false }),
    )
}

/// What may be written at this path.
fn value(path: &str, kind: &Kind, keys: &[Key], docs: &Docs) -> Map<String, Value> {
    let of = |kind: &Kind| value(path, kind, keys, docs);
    object(match kind {
        Kind::Table => return table(path, keys, docs),
        Kind::Tables => json!({ "type": "array", "items": table(path, keys, docs) }),
        Kind::Map(each) => json!({ "type": "object", "additionalProperties": of(each) }),
        Kind::Text => json!({ "type": "string" }),
        Kind::Form(pattern) => json!({ "type": "string", "pattern": pattern }),
        Kind::Flag => json!({ "type": "boolean" }),
        Kind::Number(from, to) => json!({ "type": "integer", "minimum": from, "maximum": to }),
        Kind::Choice(words) => json!({ "enum": words }),
        Kind::List(each, least) => json!({ "type": "array", "items": of(each), "minItems": least }),
        Kind::Either(kinds) => json!({ "anyOf": kinds.iter().map(of).collect::<Vec<_>>() }),
        Kind::Pattern(types) => json!({ "anyOf": [
            { "type": "string" },
            {
                "type": "object",
                "properties": { "type": { "enum": types }, "value": { "type": "string" } },
                "required": ["value"],
                "additionalProperties": false,
            },
        ] }),
    })
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(object) => object,
        _ => Map::new(),
    }
}

/// A value that is written as TOML.
fn literal(text: &str) -> Value {
    let table = toml::from_str::<toml::Table>(&format!("value = {text}"));
    table.ok().and_then(|table| serde_json::to_value(table.get("value")).ok()).unwrap_or_default()
}
