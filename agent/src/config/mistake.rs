//! How a mistake in `agent.toml` is told: where it is, what it is, and the fix.

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::Path;

use miette::{Diagnostic, NamedSource, SourceSpan};

/// Why a file is not a configuration. Shown with miette it has each place underlined.
#[derive(Debug, Diagnostic)]
pub struct ConfigError {
    #[source_code]
    source: NamedSource<String>,
    text: String,
    /// All mistakes that were found.
    #[related]
    pub mistakes: Vec<Mistake>,
}

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq, Diagnostic, thiserror::Error)]
#[error("{what}")]
pub struct Mistake {
    what: String,
    #[label("here")]
    at: Option<SourceSpan>,
    #[help]
    fix: String,
}

impl Mistake {
    pub(super) fn new(at: Range<usize>, what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { what: what.into(), at: Some(at.into()), fix: fix.into() }
    }

    pub(super) fn of_syntax(error: &toml::de::Error) -> Self {
        let fix = "docs/configuration.md, section agent.toml, has every key with an example".to_owned();
        Self { what: error.message().to_owned(), at: error.span().map(Into::into), fix }
    }
}

impl ConfigError {
    pub(super) fn new(path: &Path, text: &str, mistakes: Vec<Mistake>) -> Self {
        let source = NamedSource::new(path.display().to_string(), text.to_owned());
        Self { source, text: text.to_owned(), mistakes }
    }

    pub(super) fn unreadable(path: &Path, cause: &io::Error) -> Self {
        let fix = "name a readable file with --config".to_owned();
        Self::new(path, "", vec![Mistake { what: format!("it cannot be read: {cause}"), at: None, fix }])
    }

    /// Each mistake with its line and column, if it has a place: where, what, and the fix.
    pub fn places(&self) -> impl Iterator<Item = (Option<(usize, usize)>, &str, &str)> {
        self.mistakes.iter().map(|Mistake { what, at, fix }| {
            (at.map(|at| place(&self.text, at.offset())), what.as_str(), fix.as_str())
        })
    }

    /// A line for each mistake: `FILE:LINE:COLUMN: what; fix`.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        self.places().map(|(place, what, fix)| {
            let place = place.map_or(String::new(), |(line, column)| format!(":{line}:{column}"));
            format!("{}{place}: {what}; {fix}", self.source.name())
        })
    }
}

/// Line and column of a byte, both counted from 1.
fn place(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
    (before.matches('\n').count() + 1, column)
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} can't be used as it is", self.source.name())
    }
}

impl std::error::Error for ConfigError {}
