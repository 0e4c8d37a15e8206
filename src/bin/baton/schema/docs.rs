//! What `docs/configuration.md` says of each key.

use std::collections::BTreeMap;

const PAGE: &str = include_str!("../../../../docs/configuration.md");

/// The rows of one file's tables, by the key's path.
pub(super) struct Docs(BTreeMap<String, Row>);

/// What is said of a key.
#[derive(Debug)]
pub(super) struct Row {
    meaning: String,
    /// The column `default`, as it stands there.
    pub(super) default: String,
}

impl Docs {
    /// `batond.toml`: `| key | value | default | run |`, and a heading for each table.
    pub(super) fn batond() -> Self {
        let mut rows = BTreeMap::new();
        for line in section("## batond.toml").lines() {
            if let Some((key, meaning)) = line.strip_prefix("### `").and_then(|rest| rest.split_once("`: ")) {
                rows.insert(key.to_owned(), Row { meaning: meaning.to_owned(), default: String::new() });
            }
            let cells = cells(line);
            if let [key, meaning, default, rest @ ..] = &cells[..]
                && let Some(key) = quoted(key).next()
            {
                let restart = if rest == ["restart"] { " A change needs a restart." } else { "" };
                let meaning = format!("{}{restart}", plain(meaning));
                rows.insert(key.to_owned(), Row { meaning, default: (*default).to_owned() });
            }
        }
        Self(rows)
    }

    /// `agent.toml`: `| key | default | meaning |`. A row is about several keys with one meaning; the table is named where it begins.
    pub(super) fn agent() -> Self {
        let mut rows = BTreeMap::new();
        let mut table = String::new();
        for line in section("## agent.toml").lines() {
            let cells = cells(line);
            let [keys, defaults, meaning] = cells[..] else { continue };
            if keys.is_empty() || keys == "key" || keys.starts_with("--") {
                continue;
            }
            let mut keys: Vec<&str> = quoted(keys).collect();
            if keys.first().is_some_and(|first| first.starts_with('[')) {
                table = keys.remove(0).trim_matches(['[', ']']).to_owned();
                let row = Row { meaning: String::new(), default: String::new() };
                rows.entry(table.clone()).or_insert(row);
            }
            let each: Vec<&str> = defaults.split(", ").collect();
            for (i, key) in keys.iter().enumerate() {
                let default = if each.len() == keys.len() { each.get(i) } else { Some(&defaults) };
                let default = default.copied().unwrap_or_default().to_owned();
                rows.insert(format!("{table}.{key}"), Row { meaning: plain(meaning), default });
            }
        }
        Self(rows)
    }

    /// What a key means, and what is in force without it.
    pub(super) fn meaning(&self, key: &str) -> Option<String> {
        let Row { meaning, default } = self.0.get(key)?;
        let default = match default.as_str() {
            "" | "–" => String::new(),
            default if default.starts_with("needed") => String::new(),
            default => format!(" Without it: {default}."),
        };
        Some(meaning.clone() + &default).filter(|text| !text.is_empty())
    }

    #[cfg(test)]
    pub(super) fn rows(&self) -> &BTreeMap<String, Row> {
        &self.0
    }
}

/// From a heading to the next one like it.
fn section(heading: &str) -> &'static str {
    let section = PAGE.split_once(heading).map_or("", |(_, section)| section);
    section.split("\n## ").next().unwrap_or(section)
}

/// The cells of a table's line.
fn cells(line: &str) -> Vec<&str> {
    let inner = line.strip_prefix('|').and_then(|line| line.strip_suffix('|'));
    inner.map_or(Vec::new(), |inner| inner.split('|').map(str::trim).collect())
}

/// What stands in back quotes.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// Without the addresses of links.
fn plain(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, link)) = rest.split_once("](") {
        plain.push_str(&before.replacen('[', "", usize::from(before.contains('['))));
        rest = link.split_once(')').map_or("", |(_, behind)| behind);
    }
    plain + rest
}
