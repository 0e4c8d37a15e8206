//! Mistakes in a file: what a person sees of them.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;

use miette::{Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource, SourceCode};

/// One mistake: where it is, what is wrong, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// The bytes that are wrong.
    pub span: Range<usize>,
    /// What is wrong, one sentence.
    pub what: String,
    /// What to do about it, one sentence.
    pub fix: String,
}

/// All mistakes of a file, in its order.
#[derive(Debug)]
pub struct Mistakes {
    source: NamedSource<String>,
    mistakes: Vec<Mistake>,
}

impl Mistakes {
    /// The mistakes, in the order of the file; never empty.
    pub fn iter(&self) -> impl Iterator<Item = &Mistake> {
        self.mistakes.iter()
    }

    /// For a terminal: each mistake with the lines that it is in.
    pub fn report(&self, colours: bool) -> String {
        let theme = if colours { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
        let handler = GraphicalReportHandler::new_themed(theme).with_width(110);
        let mut out = String::new();
        for mistake in &self.mistakes {
            let shown = Shown { mistake, source: &self.source };
            // Writing into a string fails only if the handler refuses, and then the plain form has to do.
            if handler.render_report(&mut out, &shown).is_err() {
                out.push_str(&format!("{}\n", Plain { mistake, name: self.source.name() }));
            }
        }
        let count = self.mistakes.len();
        out.push_str(&format!(
            "{count} mistake{} in {}\n",
            if count == 1 { "" } else { "s" },
            self.source.name()
        ));
        out
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, mistake) in self.mistakes.iter().enumerate() {
            write!(f, "{}{}", if i == 0 { "" } else { "\n" }, Plain { mistake, name: self.source.name() })?;
        }
        Ok(())
    }
}

impl std::error::Error for Mistakes {}

/// `file:line:column: what; fix`, as editors and logs want it.
struct Plain<'a> {
    mistake: &'a Mistake,
    name: &'a str,
}

impl fmt::Display for Plain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Mistake { line, column, what, fix, .. } = self.mistake;
        write!(f, "{}:{line}:{column}: {what}; {fix}", self.name)
    }
}

/// One mistake as miette wants it.
struct Shown<'a> {
    mistake: &'a Mistake,
    source: &'a NamedSource<String>,
}

impl fmt::Debug for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.mistake.fmt(f)
    }
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.mistake.what)
    }
}

impl std::error::Error for Shown<'_> {}

impl Diagnostic for Shown<'_> {
    fn help<'b>(&'b self) -> Option<Box<dyn fmt::Display + 'b>> {
        Some(Box::new(&self.mistake.fix))
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(self.source)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let label = LabeledSpan::new_primary_with_span(Some("here".to_owned()), self.mistake.span.clone());
        Some(Box::new(std::iter::once(label)))
    }
}

/// Where readers and checks write mistakes down.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    mistakes: Vec<(Range<usize>, String, String)>,
    /// Every key that was asked for, with its section: what the documentation has to describe.
    keys: BTreeSet<String>,
}

impl Ledger {
    /// Writes a mistake down.
    pub(super) fn add(&mut self, span: &Range<usize>, what: impl Into<String>, fix: impl Into<String>) {
        self.mistakes.push((span.clone(), what.into(), fix.into()));
    }

    /// A key was asked for.
    pub(super) fn asked(&mut self, section: &str, key: &str) {
        let dot = if section.is_empty() { "" } else { "." };
        self.keys.insert(format!("{section}{dot}{key}"));
    }

    /// Every key that was asked for.
    #[cfg(test)]
    pub(super) fn keys(&self) -> &BTreeSet<String> {
        &self.keys
    }

    /// How many mistakes there are so far.
    pub(super) fn count(&self) -> usize {
        self.mistakes.len()
    }

    /// Is there no mistake?
    pub(super) fn is_clean(&self) -> bool {
        self.mistakes.is_empty()
    }

    /// The mistakes with their places in the text.
    pub(super) fn close(mut self, name: &str, text: &str) -> Mistakes {
        self.mistakes.sort_by_key(|(span, _, _)| (span.start, span.end));
        self.mistakes.dedup();
        let mistakes = self.mistakes.into_iter().map(|(span, what, fix)| {
            let before = text.get(..span.start).unwrap_or(text);
            let line = before.matches('\n').count() + 1;
            let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
            Mistake { line, column, span, what, fix }
        });
        Mistakes { source: NamedSource::new(name, text.to_owned()), mistakes: mistakes.collect() }
    }
}
