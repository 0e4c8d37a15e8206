//! The highest epoch, on disk where this node decides alone.
//!
//! Epochs begin with the clock's milliseconds. A clock may go back, and then they would be below those that agents and other routing nodes
//! know; so none is given that is not above the one in the file.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use model::Epoch;
use serde::{Deserialize, Serialize};

use super::durable::Written;
use crate::config::{Config, DecidedBy};

/// What is kept, and where.
#[derive(Debug)]
pub(super) struct Epochs {
    /// None: others keep it.
    path: Option<PathBuf>,
    kept: Epoch,
    /// It could not be written last.
    fails: bool,
}

/// The file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    epoch: Epoch,
}

impl Epochs {
    /// Goes on with what a former run has kept. Of a file that can't be read the log tells; the clock is what is left then.
    pub(super) fn open(config: &Config) -> Self {
        let alone = config.cluster.decided_by() == DecidedBy::Itself;
        let path = alone.then(|| config.cluster.directory.join(format!("{}.epoch", config.node.name)));
        let kept = path.as_deref().map_or(Ok(None), read).unwrap_or_else(|cause| {
            let path = path.as_deref().unwrap_or(Path::new("")).display();
            tracing::error!("the highest epoch in {path} can't be read, the clock gives one: {cause}");
            None
        });
        Self { path, kept: kept.unwrap_or_default(), fails: false }
    }

    /// The first epoch of this run, which the clock gives unless it went back.
    pub(super) fn first(&self, clock: Epoch) -> Epoch {
        clock.max(Epoch(self.kept.0.saturating_add(1)))
    }

    /// Writes the highest epoch down before it is given to anybody. A node that can't goes on: it decides alone.
    pub(super) fn keep(&mut self, highest: Epoch) {
        let Some(path) = self.path.as_deref().filter(|_| highest > self.kept) else { return };
        self.kept = highest;
        match write(path, highest) {
            Ok(()) => self.fails = false,
            Err(cause) => {
                if !std::mem::replace(&mut self.fails, true) {
                    let path = path.display();
                    tracing::error!(
                        "the highest epoch can't be written to {path}: after a restart the clock gives one ({cause})"
                    );
                }
            }
        }
    }
}

fn read(path: &Path) -> io::Result<Option<Epoch>> {
    match fs::read_to_string(path) {
        Ok(text) => toml::from_str(&text).map(|Kept { epoch }| Some(epoch)).map_err(io::Error::other),
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(cause) => Err(cause),
    }
}

fn write(path: &Path, epoch: Epoch) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let text = toml::to_string(&Kept { epoch }).map_err(io::Error::other)?;
    Written::new(path, text.as_bytes())?.put()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(directory: &Path) -> Epochs {
        let kept = read(&directory.join("rt1.epoch")).unwrap();
        Epochs { path: Some(directory.join("rt1.epoch")), kept: kept.unwrap_or_default(), fails: false }
    }

    #[test]
    fn a_clock_that_went_back_gives_no_epoch_that_was_there() {
        let directory = tempfile::tempdir().unwrap();
        let mut epochs = open(&directory.path().join("state"));
        assert_eq!(epochs.first(Epoch(1000)), Epoch(1000), "the first run");
        epochs.keep(Epoch(1000));
        epochs.keep(Epoch(1001));
        epochs.keep(Epoch(7));
        let next = open(&directory.path().join("state"));
        assert_eq!(next.first(Epoch(900)), Epoch(1002));
        assert_eq!(next.first(Epoch(5000)), Epoch(5000));
    }

    #[test]
    fn a_node_that_can_not_write_goes_on() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        fs::write(&path, "no directory").unwrap();
        let mut epochs = Epochs { path: Some(path.join("rt1.epoch")), kept: Epoch(0), fails: false };
        epochs.keep(Epoch(1));
        assert!(epochs.fails);
        fs::remove_file(&path).unwrap();
        epochs.keep(Epoch(2));
        assert!(!epochs.fails);
        assert_eq!(open(&path).first(Epoch(0)), Epoch(3));
    }
}
