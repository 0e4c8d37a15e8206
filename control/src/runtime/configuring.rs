//! Orders about the configuration: what is in force, one key of it set, what the file has changed since, and back to a former one.
//!
//! The file is the truth, or what the API was told (`admin.config`). With either, an order writes the file, so that a restart goes on with what was in
//! force. What differs: with the file as the truth an order is about what the file says, and what was changed there by hand comes into force with it; with the API
//! as the truth it is about what is in force, and what was changed in the file by hand is overwritten.

use std::path::Path;

use axum::http::StatusCode;

use super::admin::Answer;
use super::answers::{json, refused};
use super::api::{
    ConfigAnswer, ConfigDone, ConfigQuery, DiffAnswer, DiffRow, EventName, FoundRow, HistoryAnswer,
    HistoryQuery, OrderedBy, RollbackOrder, SetOrder,
};
use super::driver::Driver;
use super::durable::Written;
use super::events;
use super::forwarding::Forwarding;
use super::history::History;
use super::reload::{self, Order, Refused};
use crate::config::{self, Change, Config, ConfigError, KeyPath, Source, Truth};

/// What is asked about the configuration.
#[derive(Clone, Debug)]
pub(super) enum ConfigRequest {
    Get(ConfigQuery),
    Set(SetOrder),
    Diff,
    History(HistoryQuery),
    Rollback(RollbackOrder),
}

/// What `batond` starts with: the file; or, if that says that the API is the truth and what was in force last says so too, that one. One that has mistakes
/// by now is left alone.
///
/// # Errors
/// [`ConfigError`] as [`Config::load`].
pub fn load(file: &Path) -> Result<(Config, Source), ConfigError> {
    let (config, source) = Config::load_source(file)?;
    if config.admin.truth == Truth::File {
        return Ok((config, source));
    }
    let history = History::open(&config);
    let last = history.newest_text().filter(|text| *text != source.text).and_then(|text| {
        let name = format!("{}, as it was in force last", file.display());
        Some((Config::parse_for(file, &name, &text).ok()?, text))
    });
    match last.filter(|(config, _)| config.admin.truth == Truth::Api) {
        None => Ok((config, source)),
        Some((config, text)) => Ok((config, Source { path: file.to_owned(), text })),
    }
}

impl<F: Forwarding> Driver<F> {
    pub(super) fn configuration(&mut self, request: &ConfigRequest, by: OrderedBy) -> Answer {
        let answer = match request {
            ConfigRequest::Get(query) => self.in_force(query).map(|answer| json(&answer)),
            ConfigRequest::Diff => self.diff().map(|answer| json(&answer)),
            ConfigRequest::History(HistoryQuery { number }) => {
                let history = self.history.rows().to_vec();
                let text = number.map(|number| self.former(number)).transpose();
                text.map(|text| json(&HistoryAnswer { history, text }))
            }
            ConfigRequest::Set(order) => {
                let what = if order.value.is_some() { "set" } else { "unset" };
                self.followed(&format!("{what} {}", order.path), Order { by, what }, |driver, order_of| {
                    let path: KeyPath = order.path.parse()?;
                    let text = config::set(&driver.truth()?, &path, order.value.as_deref())?;
                    driver.put(text, order_of)
                })
            }
            ConfigRequest::Rollback(RollbackOrder { number }) => {
                let order = Order { by, what: "rollback" };
                self.followed(&format!("rollback to {number}"), order, |driver, order| {
                    let (text, newest) = (driver.former(*number)?, driver.history.newest());
                    let (overwritten, file_kept) = (driver.by_hand(), driver.keep_file(order.by)?);
                    let done =
                        driver.put(text, order).inspect_err(|_| driver.history.forget_after(newest))?;
                    Ok(ConfigDone { overwritten, file_kept, ..done })
                })
            }
        };
        answer.unwrap_or_else(|refusal| match refusal {
            Refused::NotKept(_) => refused(StatusCode::NOT_FOUND, refusal.text()),
            refusal => Answer::Refused(StatusCode::UNPROCESSABLE_ENTITY, refusal.problem()),
        })
    }

    /// An order, which is an event whether it is followed or not.
    fn followed(
        &mut self,
        order: &str,
        of: Order<'_>,
        follow: impl FnOnce(&mut Self, Order<'_>) -> Result<ConfigDone, Refused>,
    ) -> Result<Answer, Refused> {
        let outcome = follow(self, of);
        let (file, by, order) = (self.file.display().to_string(), of.by, events::cut(order));
        match &outcome {
            Ok(_) => {
                let event = EventName::ConfigSet;
                tracing::info!(event = event.word(), file, order, %by, "by order");
                self.events.add(event, file, format!("{order}, by order of {by}"));
            }
            Err(refused) => {
                let (event, why) = (EventName::ConfigRefused, refused.text());
                tracing::info!(event = event.word(), file, order, %by, why, "nothing changed");
                let short = refused.in_short();
                self.events.add(event, file, format!("{order}, by order of {by}: {short}"));
            }
        }
        outcome.map(|done| json(&done))
    }

    /// Puts a text in force and into the file.
    fn put(&mut self, text: String, order: Order<'_>) -> Result<ConfigDone, Refused> {
        let before = self.generation();
        let new = Config::parse_for(&self.file, &self.file.display().to_string(), &text)?;
        let unwritten = |cause| Refused::Unwritten { file: self.file.clone(), cause };
        let overwritten = match self.machine.config().admin.truth {
            Truth::File => Vec::new(),
            Truth::Api => self.by_hand(),
        };
        let written = Written::like(&self.file, text.as_bytes()).map_err(unwritten)?;
        let (changes, number) = reload::put_in_force(self, text, new, Some(written), order)?;
        let generation = self.generation();
        let dpt_changed = generation != before;
        Ok(ConfigDone { generation, dpt_changed, number, changes, overwritten, file_kept: None })
    }

    /// Keeps what the file says, if it is the truth and not what is in force: a rollback writes over it.
    fn keep_file(&mut self, by: OrderedBy) -> Result<Option<u64>, Refused> {
        if self.machine.config().admin.truth == Truth::Api {
            return Ok(None);
        }
        let text = self.file_text()?;
        if text == self.text {
            return Ok(None);
        }
        let changes = config::differences(&self.text, &text).unwrap_or_default();
        self.history.keep(&text, by, "by hand", changes).map(Some).map_err(Refused::Unkept)
    }

    /// What an order is about.
    fn truth(&self) -> Result<String, Refused> {
        match self.machine.config().admin.truth {
            Truth::File => self.file_text(),
            Truth::Api => Ok(self.text.clone()),
        }
    }

    fn file_text(&self) -> Result<String, Refused> {
        let path = self.file.clone();
        let text = std::fs::read_to_string(&path);
        text.map_err(|cause| Refused::File(ConfigError::Unreadable { path, cause }))
    }

    /// What the file has that is not in force. Empty too if it can't be read, or is no TOML.
    fn by_hand(&self) -> Vec<Change> {
        let file = self.file_text().unwrap_or_default();
        config::differences(&self.text, &file).unwrap_or_default()
    }

    /// The text of a configuration that was in force.
    fn former(&self, number: u64) -> Result<String, Refused> {
        let text = self.history.text(number).map_err(|cause| Refused::Unread { number, cause })?;
        text.ok_or(Refused::NotKept(number))
    }

    fn in_force(&self, query: &ConfigQuery) -> Result<ConfigAnswer, Refused> {
        let path: Option<KeyPath> = query.path.as_deref().map(str::parse).transpose()?;
        let found = path.as_ref().map(|path| config::get(&self.text, path)).transpose()?;
        let row = |found: config::Found| FoundRow {
            key: found.key,
            toml: found.value.to_string(),
            value: serde_json::to_value(&found.value).unwrap_or_default(),
        };
        Ok(ConfigAnswer {
            file: self.file.clone(),
            truth: self.machine.config().admin.truth,
            file_differs: self.file_text().is_ok_and(|text| text != self.text),
            text: path.is_none().then(|| self.text.clone()),
            found: found.unwrap_or_default().into_iter().map(row).collect(),
        })
    }

    fn diff(&self) -> Result<DiffAnswer, Refused> {
        let text = self.file_text()?;
        let name = self.file.display().to_string();
        let parsed = Config::parse_for(&self.file, &name, &text);
        let frozen = parsed.as_ref().ok().and_then(|new| self.machine.config().check_reload(new).err());
        let frozen = frozen.unwrap_or_default();
        let row = |change: Change| DiffRow {
            needs_restart: frozen.iter().find(|frozen| frozen.is_of(&change.key)).map(|f| f.why.to_owned()),
            change,
        };
        Ok(DiffAnswer {
            file: self.file.clone(),
            truth: self.machine.config().admin.truth,
            // What is no TOML has no keys; its mistakes say so.
            changes: config::differences(&self.text, &text)
                .unwrap_or_default()
                .into_iter()
                .map(row)
                .collect(),
            mistakes: parsed.err().as_ref().map(reload::mistakes).unwrap_or_default(),
        })
    }
}
