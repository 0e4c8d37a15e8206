//! The tokens that were ordered: a file each in `tokens/` beside the CA, in a directory of its owner alone.
//!
//! `ID` is open, `ID.used` was used. A token is used up by renaming its file, which succeeds once, whoever and how many try.
//! Used ones stay, as the account of who has joined.

use std::fs::{self, File};
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use model::StackName;
use serde::{Deserialize, Serialize};

use super::token::{Id, Pin, Token};
use super::{Refusal, clock};
use crate::pki::{self, Authority, PkiError};
use crate::{private, tls};

/// Tokens that may be open at once.
const OPEN: usize = 1024;
/// Seconds after its end for which an unused token is still known as expired.
const REMEMBERED_S: i64 = 7 * 24 * 3600;
/// What is added to the name of a used token's file.
const USED: &str = "used";

/// The tokens of a CA.
#[derive(Clone, Debug)]
pub struct Book {
    dir: PathBuf,
}

/// A token as the authority knows it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    /// Whose certificate it is for.
    pub stack: StackName,
    /// When it was ordered, in seconds since 1970.
    pub ordered_unix_s: i64,
    /// Until when it can be used, in seconds since 1970.
    pub until_unix_s: i64,
    /// When and by whom it was used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub used: Option<Used>,
    secret_sha256: String,
}

/// How a token was used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Used {
    /// When, in seconds since 1970.
    pub unix_s: i64,
    /// From which address.
    pub by: IpAddr,
}

/// What became of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It can be used.
    Open,
    /// Its time is over.
    Expired,
    /// A host has joined with it; none: the authority's host stopped before it could note who.
    Used(Option<Used>),
}

/// Why a token is not ordered, listed or revoked.
#[derive(Debug, thiserror::Error)]
pub enum BookError {
    /// There is no authority, or no certificate can have the name.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// The stack has a certificate.
    #[error(
        "`{0}` has a certificate already; if the host that joins is to have that name in its place, add --again"
    )]
    Known(StackName),
    /// Too many.
    #[error(
        "{OPEN} tokens are open already; revoke some of them (`baton pki token revoke`), or wait until they expire"
    )]
    Full,
    /// There is none to revoke.
    #[error("no token for `{0}` is open")]
    NotOpen(StackName),
    /// The system has no random numbers.
    #[error("the system gives no random numbers")]
    Random,
    /// A file can't be used.
    #[error("cannot use {}: {cause}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the system says.
        cause: io::Error,
    },
}

impl Book {
    /// Of the CA in this directory.
    pub fn of(dir: &Path) -> Self {
        Self { dir: dir.join("tokens") }
    }

    /// Orders a token for a stack, from `now` on for `seconds`. An open one of the same stack is revoked. `again` is needed if the
    /// stack has a certificate already.
    ///
    /// # Errors
    /// [`BookError`].
    pub fn order(
        &self,
        authority: &Authority,
        stack: &StackName,
        seconds: u32,
        again: bool,
        now: i64,
    ) -> Result<Token, BookError> {
        pki::can_be_certified(&authority.dir, stack)?;
        private::directory(&self.dir).map_err(|cause| failed(&self.dir, cause))?;
        let known = self.list()?;
        let has_joined = known.iter().any(|(_, r, is_used)| *is_used && r.stack == *stack);
        if !again && (has_joined || authority.dir.join(format!("{stack}.pem")).exists()) {
            return Err(BookError::Known(stack.clone()));
        }
        let (mut open, mut forgotten) = (0, Vec::new());
        for (path, record, _) in known.iter().filter(|(_, _, is_used)| !is_used) {
            if record.stack == *stack || record.until_unix_s + REMEMBERED_S < now {
                forgotten.push(path);
            } else {
                open += usize::from(now < record.until_unix_s);
            }
        }
        if open >= OPEN {
            return Err(BookError::Full);
        }
        for path in forgotten {
            remove(path)?;
        }
        let pin = Pin::of(&authority.certificate);
        let token =
            Token::new(stack.clone(), pin, tls::provider().secure_random).map_err(|_| BookError::Random)?;
        let record = Record {
            stack: stack.clone(),
            ordered_unix_s: now,
            until_unix_s: now + i64::from(seconds),
            used: None,
            secret_sha256: token.secret.hash(),
        };
        let path = self.dir.join(token.id.to_string());
        write(&path, &record).map_err(|cause| failed(&path, cause))?;
        Ok(token)
    }

    /// All tokens and what became of them, in the order in which they were ordered.
    ///
    /// # Errors
    /// [`BookError::File`].
    pub fn tokens(&self, now: i64) -> Result<Vec<(Record, State)>, BookError> {
        let mut all: Vec<_> =
            self.list()?.into_iter().map(|(_, record, is_used)| (record, is_used)).collect();
        all.sort_by(|(a, _), (b, _)| (a.ordered_unix_s, &a.stack).cmp(&(b.ordered_unix_s, &b.stack)));
        let with_state = |(record, is_used): (Record, bool)| {
            let state = match record.used.clone() {
                used if is_used => State::Used(used),
                _ if now < record.until_unix_s => State::Open,
                _ => State::Expired,
            };
            (record, state)
        };
        Ok(all.into_iter().map(with_state).collect())
    }

    /// Whether a host may still come.
    pub(crate) fn is_open(&self, now: i64) -> Result<bool, BookError> {
        for (path, _) in self.files()?.into_iter().filter(|(_, is_used)| !is_used) {
            let record = read(&path).map_err(|cause| failed(&path, cause))?;
            if record.is_some_and(|record| now < record.until_unix_s) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Revokes the open token of a stack.
    ///
    /// # Errors
    /// [`BookError::NotOpen`] if there is none.
    pub fn revoke(&self, stack: &StackName) -> Result<(), BookError> {
        let mut is_done = false;
        for (path, record, is_used) in self.list()? {
            is_done |= !is_used && record.stack == *stack && remove(&path)?;
        }
        if is_done { Ok(()) } else { Err(BookError::NotOpen(stack.clone())) }
    }

    /// Whether a token can be used now.
    pub(crate) fn look(&self, token: &Token, now: i64) -> Result<(), Refusal> {
        let open = read(&self.open(token.id)).map_err(unreadable)?;
        let (record, is_used) = match open {
            Some(record) => (record, false),
            None => (read(&self.used(token.id)).map_err(unreadable)?.ok_or(Refusal::Unknown)?, true),
        };
        if record.secret_sha256 != token.secret.hash() {
            return Err(Refusal::Unknown);
        }
        if is_used {
            let unknown = || ("an unknown time".to_owned(), "an unknown address".to_owned());
            let (at, by) = record.used.map_or_else(unknown, |used| (clock(used.unix_s), used.by.to_string()));
            return Err(Refusal::Used { at, by });
        }
        if now >= record.until_unix_s {
            return Err(Refusal::Expired(clock(record.until_unix_s)));
        }
        if record.stack != token.name { Err(Refusal::OtherName(record.stack)) } else { Ok(()) }
    }

    /// Uses a token up, which succeeds once.
    pub(crate) fn use_up(&self, token: &Token, by: IpAddr, now: i64) -> Result<(), Refusal> {
        self.look(token, now)?;
        let (open, used) = (self.open(token.id), self.used(token.id));
        match fs::rename(&open, &used) {
            Ok(()) => {}
            // Between the two calls another host came with it, or it was revoked.
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return Err(self.look(token, now).err().unwrap_or(Refusal::Unknown));
            }
            Err(cause) => return Err(unreadable(cause)),
        }
        let noted = File::open(&self.dir).and_then(|dir| dir.sync_all()).and_then(|()| {
            let record = read(&used)?.ok_or(io::ErrorKind::NotFound)?;
            write(&used, &Record { used: Some(Used { unix_s: now, by }), ..record })
        });
        noted.map_err(unreadable)
    }

    fn open(&self, id: Id) -> PathBuf {
        self.dir.join(id.to_string())
    }

    fn used(&self, id: Id) -> PathBuf {
        self.open(id).with_extension(USED)
    }

    /// The file of each token, and whether it was used.
    fn files(&self) -> Result<Vec<(PathBuf, bool)>, BookError> {
        let entries = match fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(cause) => return Err(failed(&self.dir, cause)),
        };
        let paths = entries.flatten().map(|entry| entry.path());
        let known = paths.filter_map(|path| match path.extension() {
            None => Some((path, false)),
            Some(extension) if extension == USED => Some((path, true)),
            // What `write` did not finish.
            Some(_) => None,
        });
        Ok(known.collect())
    }

    /// Each token with its file, and whether it was used. One that is used or revoked meanwhile is left out.
    fn list(&self) -> Result<Vec<(PathBuf, Record, bool)>, BookError> {
        let known = |(path, is_used): (PathBuf, bool)| match read(&path) {
            Ok(record) => record.map(|record| Ok((path, record, is_used))),
            Err(cause) => Some(Err(failed(&path, cause))),
        };
        self.files()?.into_iter().filter_map(known).collect()
    }
}

/// Removes an open token; false if it is open no longer.
fn remove(path: &Path) -> Result<bool, BookError> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(cause) => Err(failed(path, cause)),
    }
}

fn failed(path: &Path, cause: io::Error) -> BookError {
    BookError::File { path: path.to_owned(), cause }
}

fn unreadable(cause: io::Error) -> Refusal {
    Refusal::Authority(format!("its list of tokens can't be used: {cause}"))
}

/// A file's record; none if there is no such file.
fn read(path: &Path) -> io::Result<Option<Record>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// Puts a record in the place of a file, whole or not at all.
fn write(path: &Path, record: &Record) -> io::Result<()> {
    let new = path.with_extension("new");
    private::write(&new, &serde_json::to_vec_pretty(record)?)?;
    File::open(&new)?.sync_all()?;
    fs::rename(new, path)
}
