//! One key of the text of `batond.toml`: read, or set with everything around it as it was, comments too.
//!
//! In reading order: [`KeyPath`] (which key), [`set`] and [`get`], and [`differences`] (which keys differ between two texts). Nothing here knows which
//! keys there are: what comes out is read and checked as any file.

mod differences;
mod path;

#[cfg(test)]
mod tests;

use toml::Value;
use toml_edit::{Array, DocumentMut, InlineTable, Item, Table, TableLike};

pub use differences::Change;
pub use path::KeyPath;
use path::{Place, Step, Which};

/// What is wrong with a path or a value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}; {fix}")]
pub struct PathError {
    /// What is wrong.
    pub what: String,
    /// What to write instead.
    pub fix: String,
}

/// A value that a path names.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// The path that means this one alone.
    pub key: String,
    /// What is written there.
    pub value: Value,
}

/// The values that a path names: several if it passes a list without saying which of its tables.
///
/// # Errors
/// [`PathError`] if nothing is written there, with what is like it.
pub fn get(text: &str, path: &KeyPath) -> Result<Vec<Found>, PathError> {
    let root = parse(text)?;
    let found = path::find(&root, path)?;
    Ok(found.into_iter().map(|Place { name, value, .. }| Found { key: name, value: value.clone() }).collect())
}

/// What differs between two texts, by key.
///
/// # Errors
/// [`PathError`] if one of them is not TOML.
pub fn differences(before: &str, after: &str) -> Result<Vec<Change>, PathError> {
    Ok(differences::between(&parse(before)?, &parse(after)?))
}

/// The text with another value at the path: TOML, or a word that is text. None: without the key.
///
/// # Errors
/// [`PathError`] if the path does not lead to one place, or the value is not TOML. Whether the text is a good file is not looked at.
pub fn set(text: &str, path: &KeyPath, value: Option<&str>) -> Result<String, PathError> {
    let value = value.map(value_of).transpose()?;
    let root = parse(text)?;
    let mut document: DocumentMut = text.parse().map_err(|e: toml_edit::TomlError| not_toml(e.message()))?;
    let Some((last, before)) = path.0.split_last() else { return Ok(text.to_owned()) };
    let mut place = Place::root(&root);
    // Tables on the way that are not written yet.
    let mut missing: Vec<&str> = Vec::new();
    for part in before {
        if !missing.is_empty() {
            missing.push(&part.key);
            continue;
        }
        match path::descend(place, part)? {
            (_, Some(child)) => place = child,
            (table, None) => {
                place = table;
                missing.push(&part.key);
            }
        }
    }
    if missing.is_empty() {
        let (table, child) = path::descend(place, last)?;
        match (child, &last.which, value) {
            (Some(list), Some(Which::New), Some(value)) => push(at(&mut document, &list.steps)?, value)?,
            (Some(old), _, Some(value)) => replace(at(&mut document, &old.steps)?, value, path)?,
            (Some(old), _, None) => remove(&mut document, &old.steps)?,
            (None, _, None) => return Err(path::no_key(&[table], &last.key)),
            (None, which, Some(value)) => {
                let new = match which {
                    Some(Which::New) => Array::from_iter([value]).into(),
                    _ => value,
                };
                insert(&mut document, &table.steps, &last.key, new)?;
            }
        }
    } else {
        let (Some(value), None) = (value, &last.which) else {
            return Err(path::no_key(&[place], missing[0]));
        };
        let below = missing.iter().skip(1).copied().chain([last.key.as_str()]);
        let nested = below.rev().fold(value, |value, key| InlineTable::from_iter([(key, value)]).into());
        insert(&mut document, &place.steps, missing[0], nested)?;
    }
    Ok(document.to_string())
}

fn parse(text: &str) -> Result<Value, PathError> {
    toml::from_str::<toml::Table>(text).map(Value::Table).map_err(|e| not_toml(e.message()))
}

fn not_toml(why: &str) -> PathError {
    PathError {
        what: format!("the file is not TOML: {why}"),
        fix: "correct it, `baton check` says where".to_owned(),
    }
}

/// A value as a person types it: TOML, or a word.
fn value_of(text: &str) -> Result<toml_edit::Value, PathError> {
    let text = text.trim();
    let is_word = !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || "\"'[]{}=#,".contains(c));
    match text.parse::<toml_edit::Value>() {
        Ok(mut value) => {
            value.decor_mut().clear();
            Ok(value)
        }
        Err(_) if is_word => Ok(text.into()),
        Err(e) => Err(PathError {
            what: format!("`{text}` is not a value: {}", e.message().lines().next().unwrap_or_default()),
            fix: "write a number, true, false, \"text\", [ a, b ] or { key = value }".to_owned(),
        }),
    }
}

/// What is there in the text.
fn at<'d>(document: &'d mut DocumentMut, steps: &[Step]) -> Result<&'d mut Item, PathError> {
    let lost = || not_toml("its keys are read in two ways");
    steps.iter().try_fold(document.as_item_mut(), |item, step| {
        match step {
            Step::Key(key) => item.get_mut(key.as_str()),
            Step::Element(number) => item.get_mut(*number),
        }
        .ok_or_else(lost)
    })
}

/// Another value, with the comments of the old one.
fn replace(old: &mut Item, new: toml_edit::Value, path: &KeyPath) -> Result<(), PathError> {
    let other = |form: &str| PathError {
        what: format!("`{path}` is {form}, and the value is {}", new.type_name()),
        fix: format!("set one of its keys, or write {form}"),
    };
    match old {
        Item::Table(table) => {
            let Some(mut next) = new.as_inline_table().cloned().map(InlineTable::into_table) else {
                return Err(other("a table { key = value }"));
            };
            *next.decor_mut() = table.decor().clone();
            next.set_position(table.position());
            *table = next;
        }
        Item::ArrayOfTables(list) => match Item::Value(new.clone()).into_array_of_tables() {
            Ok(next) if !next.is_empty() => *list = next,
            _ => return Err(other("a list of tables [{ key = value }]")),
        },
        Item::Value(value) => {
            let decor = value.decor().clone();
            *value = new;
            *value.decor_mut() = decor;
        }
        Item::None => *old = Item::Value(new),
    }
    Ok(())
}

/// One more element of a list.
fn push(list: &mut Item, new: toml_edit::Value) -> Result<(), PathError> {
    match list {
        Item::ArrayOfTables(list) => match new {
            toml_edit::Value::InlineTable(table) => list.push(into_table(table)),
            other => {
                let what = format!("the list has tables, and the value is {}", other.type_name());
                return Err(PathError { what, fix: "write { key = value, … }".to_owned() });
            }
        },
        Item::Value(toml_edit::Value::Array(list)) => {
            let is_line = !list.to_string().contains('\n');
            list.push(new);
            if is_line {
                list.fmt();
            }
        }
        _ => {
            let what = "what is there is not a list".to_owned();
            return Err(PathError { what, fix: "leave [+] out".to_owned() });
        }
    }
    Ok(())
}

/// A key that the table does not have. In the file itself a table has a header of its own, and in a table with one a list of tables has.
fn insert(
    document: &mut DocumentMut,
    steps: &[Step],
    key: &str,
    new: toml_edit::Value,
) -> Result<(), PathError> {
    let has_header = |item: &Item| item.is_table();
    let into = at(document, steps)?;
    let item = match new {
        toml_edit::Value::InlineTable(inner) if steps.is_empty() => Item::Table(into_table(inner)),
        toml_edit::Value::Array(list) if has_header(into) => {
            Item::Value(list.into()).into_array_of_tables().map_or_else(|list| list, Item::ArrayOfTables)
        }
        value => Item::Value(value),
    };
    match into {
        Item::Table(table) => drop(table.insert(key, item)),
        Item::Value(toml_edit::Value::InlineTable(table)) => {
            let is_line = !table.to_string().contains('\n');
            TableLike::insert(table, key, item);
            if is_line {
                table.fmt();
            }
        }
        _ => return Err(not_toml("its keys are read in two ways")),
    }
    Ok(())
}

fn into_table(inline: InlineTable) -> Table {
    let mut table = inline.into_table();
    table.fmt();
    table
}

/// Without what is there.
fn remove(document: &mut DocumentMut, steps: &[Step]) -> Result<(), PathError> {
    let Some((last, before)) = steps.split_last() else { return Ok(()) };
    let from = at(document, before)?;
    match (last, from) {
        (Step::Key(key), Item::Table(table)) => drop(table.remove(key)),
        (Step::Key(key), Item::Value(toml_edit::Value::InlineTable(table))) => {
            let is_line = !table.to_string().contains('\n');
            table.remove(key);
            if is_line {
                table.fmt();
            }
        }
        (Step::Element(number), Item::ArrayOfTables(list)) => drop(list.remove(*number)),
        (Step::Element(number), Item::Value(toml_edit::Value::Array(list))) => drop(list.remove(*number)),
        _ => return Err(not_toml("its keys are read in two ways")),
    }
    Ok(())
}
