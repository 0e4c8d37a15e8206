//! The words of `/v1/config`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{MistakeRow, OrderedBy};
use crate::config::{Change, Truth};

/// Query of `GET /v1/config`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConfigQuery {
    /// A path to a key; none: the whole file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

/// Answer of `GET /v1/config`: what is in force.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConfigAnswer {
    /// The configuration file.
    pub file: PathBuf,
    /// Which of both is the truth, the file or what the API was told.
    pub truth: Truth,
    /// The file says something else now.
    pub file_differs: bool,
    /// The whole text, if no path was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// What is written at the path: several if it leaves open which table of a list is meant.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub found: Vec<FoundRow>,
}

/// A value of the file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FoundRow {
    /// The path that means this one alone.
    pub key: String,
    /// The value.
    pub value: serde_json::Value,
    /// The same as TOML.
    pub toml: String,
}

/// Body of `POST /v1/config`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetOrder {
    /// A path to a key.
    pub path: String,
    /// Its new value, as TOML, or a word; none: the key is removed.
    #[serde(default)]
    pub value: Option<String>,
}

/// Body of `POST /v1/config/rollback`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RollbackOrder {
    /// The number of a configuration that was in force.
    pub number: u64,
}

/// Answer of an order that was followed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigDone {
    /// The DPT's generation afterwards.
    pub generation: u64,
    /// The order changed the DPT.
    pub dpt_changed: bool,
    /// The number of the configuration that is in force now; none if the history can't be written.
    pub number: Option<u64>,
    /// What is another value than before.
    pub changes: Vec<Change>,
    /// What the file had been changed to by hand, and is not any more: the API is the truth, or it was a rollback.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub overwritten: Vec<Change>,
    /// The number under which the file is kept as it was before a rollback wrote over changes by hand; none where the API is the truth.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_kept: Option<u64>,
}

/// Answer of `GET /v1/config/diff`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiffAnswer {
    /// The configuration file.
    pub file: PathBuf,
    /// Which of both is the truth.
    pub truth: Truth,
    /// What the file has (`after`) and what is in force (`before`).
    pub changes: Vec<DiffRow>,
    /// What is wrong with the file, so that it can't be put in force.
    pub mistakes: Vec<MistakeRow>,
}

/// A key of the file that is not in force as it stands there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiffRow {
    /// The key and its values.
    #[serde(flatten)]
    pub change: Change,
    /// Why it needs a restart; none: a reload puts it in force.
    pub needs_restart: Option<String>,
}

/// Query of `GET /v1/config/history`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HistoryQuery {
    /// One of them, with its text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<u64>,
}

/// Answer of `GET /v1/config/history`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryAnswer {
    /// The configurations that were in force, the last one, which is now, at the end; and edited files that a rollback wrote over.
    pub history: Vec<HistoryRow>,
    /// The text, if one was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

/// A configuration that was in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryRow {
    /// Its number.
    pub number: u64,
    /// Since when, in milliseconds since 1970.
    pub unix_ms: u64,
    /// Who put it in force.
    pub by: OrderedBy,
    /// By which order: `start`, `reload`, `set`, `unset`, `rollback`; `by hand`: it was in the file, not in force, when a rollback wrote over it.
    pub order: String,
    /// What was another value before, so many at most as are kept.
    pub changes: Vec<Change>,
    /// How many more.
    #[serde(default)]
    pub more: usize,
}
