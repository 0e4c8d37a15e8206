//! How one table of the file is read: key by key, and what was not asked for is unknown.

use std::collections::BTreeSet;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::mistake::Ledger;
use super::value::{Value, article};

/// A value with its place in the file.
#[derive(Clone, Debug)]
pub(super) struct At<T> {
    pub(super) value: T,
    pub(super) span: Range<usize>,
}

/// A table of the file.
#[derive(Debug)]
pub(super) struct Section<'a> {
    /// Its path, such as `vipadynamic.vipadefine`; empty for the file.
    path: &'static str,
    table: &'a DeTable<'a>,
    span: Range<usize>,
    asked: BTreeSet<&'static str>,
}

impl<'a> Section<'a> {
    /// The table under this path.
    pub(super) fn new(path: &'static str, table: &'a DeTable<'a>, span: Range<usize>) -> Self {
        Self { path, table, span, asked: BTreeSet::new() }
    }

    /// Where it is: its header, for a table that has one.
    pub(super) fn span(&self) -> &Range<usize> {
        &self.span
    }

    /// The value of a key, if it is there.
    pub(super) fn value(&mut self, key: &'static str, ledger: &mut Ledger) -> Option<Value<'a>> {
        self.asked.insert(key);
        ledger.asked(self.path, key);
        let item = self.table.iter().find(|(name, _)| name.get_ref() == key)?.1;
        Some(Value { key, item })
    }

    /// A key that may be absent. `None` also if its value is a mistake, which `read` has written down.
    pub(super) fn optional<T>(
        &mut self,
        key: &'static str,
        ledger: &mut Ledger,
        read: impl FnOnce(Value<'a>, &mut Ledger) -> Option<T>,
    ) -> Option<At<T>> {
        let value = self.value(key, ledger)?;
        let span = value.span();
        read(value, ledger).map(|value| At { value, span })
    }

    /// A key that must be there; `fix` says what to write if it is not.
    pub(super) fn required<T>(
        &mut self,
        key: &'static str,
        fix: &str,
        ledger: &mut Ledger,
        read: impl FnOnce(Value<'a>, &mut Ledger) -> Option<T>,
    ) -> Option<At<T>> {
        if self.value(key, ledger).is_none() {
            ledger.add(&self.span, format!("{} has no `{key}`", self.title()), fix);
            return None;
        }
        self.optional(key, ledger, read)
    }

    /// A table that must be there.
    pub(super) fn table(&mut self, path: &'static str, ledger: &mut Ledger) -> Option<Section<'a>> {
        if self.value(last(path), ledger).is_none() {
            ledger.add(&(0..0), format!("there is no `[{path}]`"), format!("add a table `[{path}]`"));
        }
        self.optional_table(path, ledger)
    }

    /// A table that may be absent.
    pub(super) fn optional_table(&mut self, path: &'static str, ledger: &mut Ledger) -> Option<Section<'a>> {
        let Value { key, item } = self.value(last(path), ledger)?;
        match item.get_ref() {
            DeValue::Table(table) => Some(Section::new(path, table, item.span())),
            _ => {
                ledger.add(
                    &item.span(),
                    format!("`{key}` is {}, not a table", article(item)),
                    format!("write it as a table `[{path}]`"),
                );
                None
            }
        }
    }

    /// Tables of which there may be any number, also none: `[[path]]`.
    pub(super) fn tables(&mut self, path: &'static str, ledger: &mut Ledger) -> Vec<Section<'a>> {
        let Some(Value { item, .. }) = self.value(last(path), ledger) else { return Vec::new() };
        let items: Vec<&Spanned<DeValue<'_>>> = match item.get_ref() {
            DeValue::Array(items) => items.iter().collect(),
            _ => vec![item],
        };
        let mut sections = Vec::new();
        let array = matches!(item.get_ref(), DeValue::Array(_));
        for item in items {
            match item.get_ref() {
                DeValue::Table(table) if array => sections.push(Section::new(path, table, item.span())),
                _ => ledger.add(
                    &item.span(),
                    format!("`{}` is {}, not a list of tables", last(path), article(item)),
                    format!("write each as `[[{path}]]`, with two brackets"),
                ),
            }
        }
        sections
    }

    /// Every key that was not asked for is a mistake.
    pub(super) fn finish(self, ledger: &mut Ledger) {
        for (key, _) in self.table {
            let name = key.get_ref().as_ref();
            if self.asked.contains(name) {
                continue;
            }
            let all: Vec<&str> = self.asked.iter().copied().collect();
            let fix = match nearest(name, &all) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("remove it; known here are {}", all.join(", ")),
            };
            ledger.add(&key.span(), format!("{} has no key `{name}`", self.title()), fix);
        }
    }

    fn title(&self) -> String {
        if self.path.is_empty() { "the file".to_owned() } else { format!("`{}`", self.path) }
    }
}

/// The known word that was probably meant.
pub(super) fn nearest<'w>(word: &str, known: &[&'w str]) -> Option<&'w str> {
    let lower = word.to_lowercase().replace('-', "_");
    let distance = |known: &str| strsim::damerau_levenshtein(&lower, &known.to_lowercase().replace('-', "_"));
    let (near, far) = known.iter().map(|k| (*k, distance(k))).min_by_key(|(_, distance)| *distance)?;
    (far <= 1 + near.len() / 4).then_some(near)
}

/// The last part of a path: the key itself.
fn last(path: &'static str) -> &'static str {
    path.rsplit('.').next().unwrap_or(path)
}
