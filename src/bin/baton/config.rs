//! `baton config`: what is in force, one key of it set, what the file has besides, and former ones.

use std::path::Path;

use control::config::{Change, Truth};
use control::runtime::api::{
    ConfigAnswer, ConfigDone, ConfigQuery, DiffAnswer, FoundRow, HistoryAnswer, HistoryQuery, HistoryRow,
    OrderedBy, RollbackOrder, SetOrder,
};
use hyper::Method;
use nix::unistd::{Uid, User};
use serde::Serialize;

use crate::arguments::ConfigCommand;
use crate::failure::Failure;
use crate::show::Rows;
use crate::{client, events, orders};

/// As many changes of a configuration are named in its line of the history.
const NAMED: usize = 3;

/// Asks batond and returns what is to be printed.
pub(crate) fn run(socket: &Path, json: bool, command: &ConfigCommand) -> Result<String, Failure> {
    let (method, path, body) = request(command)?;
    let asks = client::ask(socket, method, &path, body);
    let answer = client::run(socket, asks).map_err(|failure| mistakes_of(command, json, failure))?;
    let is_same = match command {
        ConfigCommand::Diff => {
            let diff: DiffAnswer = orders::parse(socket, &answer)?;
            diff.changes.is_empty() && diff.mistakes.is_empty()
        }
        _ => true,
    };
    let text = match command {
        _ if json => orders::pretty(socket, &answer)?,
        ConfigCommand::Get { .. } => got(orders::parse(socket, &answer)?),
        ConfigCommand::Diff => differences(&orders::parse(socket, &answer)?),
        ConfigCommand::History { .. } => {
            let HistoryAnswer { history, text } = orders::parse(socket, &answer)?;
            text.unwrap_or_else(|| table(&history))
        }
        ConfigCommand::Set { .. } | ConfigCommand::Unset { .. } | ConfigCommand::Rollback { .. } => {
            done(&orders::parse(socket, &answer)?)
        }
    };
    if is_same { Ok(text) } else { Err(Failure::Shown(text)) }
}

fn request(command: &ConfigCommand) -> Result<(Method, String, Vec<u8>), Failure> {
    const PATH: &str = "/v1/config";
    match command {
        ConfigCommand::Get { path } => get(PATH, &ConfigQuery { path: path.clone() }),
        ConfigCommand::Set { path, value } => {
            post(PATH, &SetOrder { path: path.clone(), value: Some(value.clone()) })
        }
        ConfigCommand::Unset { path } => post(PATH, &SetOrder { path: path.clone(), value: None }),
        ConfigCommand::Diff => Ok((Method::GET, format!("{PATH}/diff"), Vec::new())),
        ConfigCommand::History { number } => {
            get(&format!("{PATH}/history"), &HistoryQuery { number: *number })
        }
        ConfigCommand::Rollback { number } => {
            post(&format!("{PATH}/rollback"), &RollbackOrder { number: *number })
        }
    }
}

fn get(path: &str, query: &impl Serialize) -> Result<(Method, String, Vec<u8>), Failure> {
    Ok((Method::GET, orders::with_query(path, query)?, Vec::new()))
}

fn post(path: &str, order: &impl Serialize) -> Result<(Method, String, Vec<u8>), Failure> {
    let body = serde_json::to_vec(order).map_err(|e| Failure::Text(e.to_string()))?;
    Ok((Method::POST, path.to_owned(), body))
}

/// Mistakes that the file would have: their lines are those that it would have then.
fn mistakes_of(command: &ConfigCommand, json: bool, failure: Failure) -> Failure {
    match failure {
        Failure::Refused(problem) if !json && !problem.mistakes.is_empty() => {
            let whose = match command {
                ConfigCommand::Rollback { number } => format!("configuration {number} has"),
                _ => "the file would have".to_owned(),
            };
            let row = |m: &control::runtime::api::MistakeRow| {
                format!("\n  {}:{}: {}; {}", m.line, m.column, m.what, m.fix)
            };
            let (s, rows) =
                (if problem.mistakes.len() == 1 { "" } else { "s" }, problem.mistakes.iter().map(row));
            let count = problem.mistakes.len();
            Failure::Text(
                rows.fold(format!("error: {whose} {count} mistake{s}, nothing changed"), |all, row| {
                    all + &row
                }),
            )
        }
        failure => failure,
    }
}

/// The whole text; the value at a path; or each of several with its own path.
fn got(answer: ConfigAnswer) -> String {
    if let Some(text) = answer.text {
        return text;
    }
    match &answer.found[..] {
        [FoundRow { toml, .. }] => format!("{toml}\n"),
        several => several.iter().map(|row| format!("{} = {}\n", row.key, row.toml)).collect(),
    }
}

/// `key: 10 → 5`
fn line(change: &Change) -> String {
    let value = |value: &Option<String>| value.clone().unwrap_or_else(|| "(not set)".to_owned());
    format!("  {}: {} -> {}\n", change.key, value(&change.before), value(&change.after))
}

fn done(done: &ConfigDone) -> String {
    let mut text = match (done.number, done.changes.is_empty()) {
        (_, true) => "in force, nothing is another value than before\n".to_owned(),
        (Some(number), false) => {
            format!("in force, configuration {number}; DPT generation {}\n", done.generation)
        }
        (None, false) => format!(
            "in force; DPT generation {}. It could not be kept for a rollback: the log says why\n",
            done.generation
        ),
    };
    text.extend(done.changes.iter().map(line));
    if !done.overwritten.is_empty() {
        text.push_str("note: changes of the file by hand were overwritten:\n");
        text.extend(done.overwritten.iter().map(line));
    }
    if let Some(number) = done.file_kept {
        text.push_str(&format!("note: `baton config history {number}` shows the file as it was\n"));
    }
    text
}

fn differences(diff: &DiffAnswer) -> String {
    let file = diff.file.display();
    if diff.changes.is_empty() && diff.mistakes.is_empty() {
        return format!("{file} is in force as it is\n");
    }
    let mut text = format!("{file} differs from what is in force (in force -> file):\n");
    for row in &diff.changes {
        text.push_str(&line(&row.change));
        if let Some(why) = &row.needs_restart {
            text.push_str(&format!("    needs a restart: {why}\n"));
        }
    }
    for m in &diff.mistakes {
        text.push_str(&format!("  {}:{}: {}; {}\n", m.line, m.column, m.what, m.fix));
    }
    text.push_str(match diff.truth {
        _ if !diff.mistakes.is_empty() => "`baton reload` will refuse it until the mistakes are corrected\n",
        Truth::Api => "the API is the truth (admin.config): the file's changes are not put in force\n",
        Truth::File if diff.changes.iter().any(|row| row.needs_restart.is_some()) => {
            "`baton reload` will refuse it: restart batond, or put back what needs a restart\n"
        }
        Truth::File => "`baton reload` puts it in force\n",
    });
    text
}

fn table(history: &[HistoryRow]) -> String {
    let mut rows = Rows::new(&["NUMBER", "SINCE (UTC)", "BY", "ORDER", "CHANGED"], &[0]);
    for row in history {
        let mut changed: Vec<&str> =
            row.changes.iter().take(NAMED).map(|change| change.key.as_str()).collect();
        let more = (row.changes.len() + row.more).saturating_sub(NAMED);
        let more = format!("and {more} more");
        if row.changes.len() + row.more > NAMED {
            changed.push(&more);
        }
        let changed = if changed.is_empty() { "-".to_owned() } else { changed.join(", ") };
        let cells =
            [row.number.to_string(), events::time_of(row.unix_ms), who(row.by), row.order.clone(), changed];
        rows.add(cells);
    }
    rows.text()
}

/// Names of this host's users for their numbers.
fn who(by: OrderedBy) -> String {
    let name = |uid: u32| {
        let user = User::from_uid(Uid::from_raw(uid)).ok().flatten();
        user.map_or_else(|| format!("uid {uid}"), |user| user.name)
    };
    match by {
        OrderedBy::User { uid, login_uid: Some(login) } if login != uid => {
            format!("{} as {}", name(login), name(uid))
        }
        OrderedBy::User { uid, .. } => name(uid),
        OrderedBy::Web | OrderedBy::Signal | OrderedBy::Start => by.to_string(),
    }
}
