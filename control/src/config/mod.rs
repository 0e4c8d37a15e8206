//! `batond.toml`: typed, and every mistake with its place and its fix.
//!
//! In reading order: [`Config`] (the tree of values), [`VipaDynamic`] (row W1), `section` and `value` (how one table and
//! one value are read), `read` (which keys there are), `check`, `routes` and `quic` (what has to fit together), [`Mistakes`] (what a person
//! sees), `reload` (what may change while the node runs), and `edit` (one key of the text read or set). `docs/configuration.md` describes every key.

mod check;
mod draft;
mod edit;
mod mistake;
mod quic;
mod read;
mod reload;
mod routes;
mod section;
mod tree;
mod value;
mod vipadynamic;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

pub use edit::{Change, Found, KeyPath, PathError, differences, get, set};
pub use mistake::{Mistake, Mistakes};
use read::KeyFiles;
pub use reload::Frozen;
pub use tree::*;
pub use vipadynamic::*;

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("cannot read the configuration {}", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        cause: std::io::Error,
    },
    /// The file has mistakes: all of them, in the order of the file.
    #[error(transparent)]
    Mistakes(Box<Mistakes>),
}

/// What a configuration was read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The file.
    pub path: PathBuf,
    /// What was in it.
    pub text: String,
}

impl Config {
    /// Reads a file of this host, with the keys of connection IDs that it names. Relative paths in it are relative to it.
    ///
    /// # Errors
    /// [`ConfigError::Unreadable`], or every mistake that the file has.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        Self::load_source(path).map(|(config, _)| config)
    }

    /// As [`Self::load`], with the text.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn load_source(path: &Path) -> Result<(Self, Source), ConfigError> {
        let text = text_of(path)?;
        let config = Self::parse_for(path, &path.display().to_string(), &text)?;
        Ok((config, Source { path: path.to_owned(), text }))
    }

    /// Reads a text that is, or is to be, in this file of this host. `name` is what messages call it.
    ///
    /// # Errors
    /// Every mistake that the text has.
    pub fn parse_for(file: &Path, name: &str, text: &str) -> Result<Self, ConfigError> {
        let directory = directory_of(file);
        let config = Self::parse_with(name, text, directory, KeyFiles::Read(directory));
        config.map_err(|m| ConfigError::Mistakes(Box::new(m)))
    }

    /// Reads a file that may be another host's: no other file is looked at.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn load_alone(path: &Path) -> Result<Self, ConfigError> {
        let name = path.display().to_string();
        let config = Self::parse(&name, &text_of(path)?, directory_of(path));
        config.map_err(|m| ConfigError::Mistakes(Box::new(m)))
    }

    /// Reads a text. `name` is what messages call it, `directory` is where relative paths begin. Nothing else is read: keys of connection
    /// IDs are not the right ones.
    ///
    /// # Errors
    /// Every mistake that the text has.
    pub fn parse(name: &str, text: &str, directory: &Path) -> Result<Self, Mistakes> {
        Self::parse_with(name, text, directory, KeyFiles::Leave)
    }

    fn parse_with(name: &str, text: &str, directory: &Path, keys: KeyFiles<'_>) -> Result<Self, Mistakes> {
        let mut ledger = mistake::Ledger::default();
        let config = read::file(text, directory, keys, &mut ledger);
        match config {
            Some(config) if ledger.is_clean() => Ok(config),
            _ => Err(ledger.close(name, text)),
        }
    }
}

fn text_of(path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(|cause| ConfigError::Unreadable { path: path.to_owned(), cause })
}

/// Where relative paths of a file begin.
fn directory_of(file: &Path) -> &Path {
    file.parent().unwrap_or(Path::new(""))
}
