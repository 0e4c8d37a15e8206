//! The configurations that were in force, on disk: one file each, in `cluster.directory`/`NAME.history`, the last [`KEPT`].

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::api::{HistoryRow, OrderedBy};
use super::durable::Written;
use crate::config::{Change, Config};

/// How many are kept.
const KEPT: usize = 100;
/// How many changes of each are.
const CHANGES: usize = 100;

/// What is known of them, the oldest first; the texts are on disk.
#[derive(Debug)]
pub(super) struct History {
    directory: PathBuf,
    rows: Vec<HistoryRow>,
}

/// A file.
#[derive(Serialize, Deserialize)]
struct Entry {
    #[serde(flatten)]
    row: HistoryRow,
    text: String,
}

impl History {
    /// Those of former runs. The log tells of files that can't be read.
    pub(super) fn open(config: &Config) -> Self {
        Self::at(config.cluster.directory.join(format!("{}.history", config.node.name)))
    }

    fn at(directory: PathBuf) -> Self {
        let mut rows = Vec::new();
        for file in fs::read_dir(&directory).into_iter().flatten().flatten().map(|entry| entry.path()) {
            if file.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            match read(&file) {
                Ok(entry) => rows.push(entry.row),
                Err(cause) => {
                    tracing::warn!(file = %file.display(), %cause, "a former configuration can't be read");
                }
            }
        }
        rows.sort_by_key(|row: &HistoryRow| row.number);
        Self { directory, rows }
    }

    pub(super) fn rows(&self) -> &[HistoryRow] {
        &self.rows
    }

    /// The number of the last one.
    pub(super) fn newest(&self) -> Option<u64> {
        self.rows.last().map(|row| row.number)
    }

    /// The text of the last one, if it can be read.
    pub(super) fn newest_text(&self) -> Option<String> {
        self.newest().and_then(|newest| self.text(newest).ok().flatten())
    }

    /// The text of one of them. `None`: it is not kept.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn text(&self, number: u64) -> io::Result<Option<String>> {
        match self.rows.iter().any(|row| row.number == number) {
            true => read(&self.file(number)).map(|entry| Some(entry.text)),
            false => Ok(None),
        }
    }

    /// Keeps a text, if the last one is another. Returns its number.
    ///
    /// # Errors
    /// What the system says, as the log does too; nothing is kept then.
    pub(super) fn keep(
        &mut self,
        text: &str,
        by: OrderedBy,
        order: &str,
        mut changes: Vec<Change>,
    ) -> io::Result<u64> {
        let newest = self.newest();
        if let Some(newest) = newest.filter(|_| self.newest_text().as_deref() == Some(text)) {
            return Ok(newest);
        }
        let more = changes.len().saturating_sub(CHANGES);
        changes.truncate(CHANGES);
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let row = HistoryRow {
            number: newest.map_or(1, |newest| newest.saturating_add(1)),
            unix_ms: u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX),
            by,
            order: order.to_owned(),
            changes,
            more,
        };
        let number = row.number;
        self.write(&Entry { row: row.clone(), text: text.to_owned() }).inspect_err(|cause| {
            let directory = self.directory.display();
            tracing::error!(
                "a configuration can't be kept in {directory}: `baton config rollback` will not know it ({cause})"
            );
        })?;
        self.rows.push(row);
        for row in self.rows.drain(..self.rows.len().saturating_sub(KEPT)) {
            // One that is left there is read again at the next start, and removed then.
            let _ = fs::remove_file(file(&self.directory, row.number));
        }
        Ok(number)
    }

    /// Forgets what was kept after this one: it did not come into force.
    pub(super) fn forget_after(&mut self, number: Option<u64>) {
        while let Some(newest) = self.newest().filter(|newest| Some(*newest) > number) {
            let file = self.file(newest);
            if let Err(cause) = fs::remove_file(&file) {
                tracing::error!(file = %file.display(), %cause, "a refused configuration is still kept: remove it");
            }
            self.rows.pop();
        }
    }

    fn write(&self, entry: &Entry) -> io::Result<()> {
        transport::private::directory(&self.directory)?;
        Written::new(&self.file(entry.row.number), &serde_json::to_vec(entry)?)?.put()
    }

    fn file(&self, number: u64) -> PathBuf {
        file(&self.directory, number)
    }
}

fn file(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("{number:08}.json"))
}

fn read(file: &Path) -> io::Result<Entry> {
    serde_json::from_slice(&fs::read(file)?).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    fn numbers(history: &History) -> Vec<u64> {
        history.rows().iter().map(|row| row.number).collect()
    }

    #[test]
    fn what_was_in_force_is_there_after_a_restart_and_read_by_nobody_else() {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().join("state/rt1.history");
        let mut history = History::at(at.clone());
        let by = OrderedBy::User { uid: 0, login_uid: Some(1000) };
        let change = Change { key: "a".into(), before: None, after: Some("1".into()) };
        history.keep("", OrderedBy::Start, "start", Vec::new()).unwrap();
        history.keep("a = 1", by, "set", vec![change.clone()]).unwrap();
        history.keep("a = 1", OrderedBy::Start, "start", Vec::new()).unwrap();
        let again = History::at(at.clone());
        assert_eq!(numbers(&again), [1, 2], "a restart is no other configuration");
        let last = again.rows().last().unwrap();
        assert_eq!((last.by, last.order.as_str(), &last.changes), (by, "set", &vec![change]));
        assert_eq!(again.text(2).unwrap().as_deref(), Some("a = 1"));
        assert_eq!(again.text(3).unwrap(), None);
        assert_eq!(fs::metadata(at.join("00000002.json")).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(&at).unwrap().mode() & 0o777, 0o700);
    }

    #[test]
    fn the_oldest_give_way_and_damaged_files_are_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let mut history = History::at(dir.path().to_owned());
        for n in 1..=KEPT + 3 {
            history.keep(&format!("a = {n}"), OrderedBy::Signal, "reload", Vec::new()).unwrap();
        }
        assert_eq!((numbers(&history)[0], numbers(&history).len()), (4, KEPT));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), KEPT);
        fs::write(dir.path().join("00000050.json"), "{").unwrap();
        let again = History::at(dir.path().to_owned());
        assert_eq!((numbers(&again).len(), again.newest()), (KEPT - 1, Some(KEPT as u64 + 3)));
    }

    #[test]
    fn a_node_that_can_not_write_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().join("state");
        fs::write(&at, "no directory").unwrap();
        let mut history = History::at(at.clone());
        history.keep("a = 1", OrderedBy::Start, "start", Vec::new()).unwrap_err();
        assert_eq!(history.newest(), None);
        fs::remove_file(&at).unwrap();
        assert_eq!(history.keep("a = 2", OrderedBy::Start, "start", Vec::new()).unwrap(), 1);
        assert_eq!(history.newest(), Some(1));
    }

    #[test]
    fn what_did_not_come_into_force_is_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let mut history = History::at(dir.path().to_owned());
        for text in ["a = 1", "a = 2", "a = 3"] {
            history.keep(text, OrderedBy::Signal, "reload", Vec::new()).unwrap();
        }
        history.forget_after(Some(3));
        assert_eq!(numbers(&history), [1, 2, 3]);
        history.forget_after(Some(1));
        assert_eq!((numbers(&history), numbers(&History::at(dir.path().to_owned()))), (vec![1], vec![1]));
        assert_eq!(history.keep("a = 1", OrderedBy::Signal, "reload", Vec::new()).unwrap(), 1, "it is kept");
        history.forget_after(None);
        assert_eq!(history.newest(), None);
    }
}
