//! This host as a witness of who owns a DVIPA: the machine is `ownership::Witness`, here is its file.
//!
//! The file says the highest epoch and the longest lease that were granted, and outlives the host's restart. An agent that can't write
//! it grants nothing.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use model::message::FromStack;
use model::ownership::ToWitness;
use model::{Epoch, StackName};
use ownership::{Deed, Kept, Void};
use serde::{Deserialize, Serialize};

use crate::rights::{self, Wrong};

/// The witness, and where it keeps what it must not forget.
pub(super) struct Witness {
    machine: ownership::Witness,
    path: PathBuf,
    /// What a former run has kept can't be read: it grants nothing.
    is_closed: bool,
    /// Why it grants nothing, or has not when it was asked last.
    fails: Option<String>,
}

/// The file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    epoch: Epoch,
    lease_ms: u64,
}

impl Witness {
    /// Goes on with what a former run has kept.
    pub(super) fn open(path: PathBuf, now: Instant) -> Self {
        let (kept, fails) = match read(&path) {
            Ok(kept) => (kept.unwrap_or_default(), None),
            Err(cause) => {
                let fails = format!("{} can't be read: {cause}; correct or remove it", path.display());
                tracing::error!("this host is no witness of who owns a DVIPA: {fails}");
                (Kept::default(), Some(fails))
            }
        };
        Self { machine: ownership::Witness::new(kept, now), path, is_closed: fails.is_some(), fails }
    }

    /// A routing stack says something. `networks`: the DVIPAs that agent.toml leaves to it, or all.
    ///
    /// # Errors
    /// Some of what it claims it may not claim, and is not granted.
    pub(super) fn heard(
        &mut self,
        from: &StackName,
        message: ToWitness,
        networks: Option<&[IpNet]>,
        now: Instant,
    ) -> Result<(), Wrong> {
        if self.is_closed {
            return Ok(());
        }
        let refused = self.machine.heard_within(from, message, |dvipa| rights::leaves(networks, dvipa), now);
        refused.map_err(|void| match void {
            Void::NotItsDvipa => Wrong::NotItsDvipa,
            Void::EpochTooHigh => Wrong::EpochTooHigh,
        })
    }

    /// The deadline may have come.
    pub(super) fn tick(&mut self, now: Instant) {
        if !self.is_closed {
            self.machine.tick(now);
        }
    }

    /// When [`Self::tick`] is due.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.machine.next_deadline().filter(|_| !self.is_closed)
    }

    /// What is to be sent, after what it depends on has been written.
    pub(super) fn poll(&mut self, now: Instant) -> Option<(StackName, FromStack)> {
        loop {
            match self.machine.poll()? {
                Deed::Send { to, message } => return Some((to, FromStack::Ownership(message))),
                Deed::Keep(kept) => match write(&self.path, kept) {
                    Ok(()) => self.fails = None,
                    Err(cause) => {
                        let fails = format!("{} can't be written: {cause}", self.path.display());
                        if self.fails.is_none() {
                            tracing::error!("this host grants no DVIPA: {fails}");
                        }
                        self.fails = Some(fails);
                        // What it was about to grant it does not; it begins anew, and tries to write when it is asked for the next epoch.
                        self.machine = ownership::Witness::new(kept, now);
                    }
                },
            }
        }
    }

    /// What operators are shown.
    pub(super) fn status(&self, now: Instant) -> WitnessStatus {
        let grants = self.machine.grants().filter(|grant| grant.until > now);
        let grants = grants.map(|grant| GrantStatus {
            dvipa: grant.dvipa,
            to: grant.to,
            epoch: grant.epoch,
            lease_left_ms: ms(grant.until.saturating_duration_since(now)),
        });
        WitnessStatus {
            highest_epoch: self.machine.kept().epoch,
            opens_in_ms: ms(self.machine.opens().saturating_duration_since(now)),
            grants: grants.collect(),
            fails: self.fails.clone(),
        }
    }
}

/// This host as a witness.
#[derive(Clone, Debug, Serialize)]
pub struct WitnessStatus {
    /// The highest epoch that it has granted.
    pub highest_epoch: Epoch,
    /// It has begun a short time ago and grants nothing yet, in milliseconds; 0: it grants.
    pub opens_in_ms: u64,
    /// What it has granted at present.
    pub grants: Vec<GrantStatus>,
    /// Why it grants nothing.
    pub fails: Option<String>,
}

/// One grant.
#[derive(Clone, Debug, Serialize)]
pub struct GrantStatus {
    /// Which DVIPA.
    pub dvipa: model::Dvipa,
    /// To which routing stack.
    pub to: StackName,
    /// In which epoch.
    pub epoch: Epoch,
    /// For how long, unless it is renewed, in milliseconds.
    pub lease_left_ms: u64,
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// `None`: there is no file yet.
fn read(path: &Path) -> io::Result<Option<Kept>> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(cause) => return Err(cause),
    };
    let written: Written = toml::from_str(&text).map_err(|e| io::Error::other(e.message().to_owned()))?;
    // One that was written by hand is not to close the witness for ever.
    let lease = Duration::from_millis(written.lease_ms).min(ownership::lease::MAX);
    Ok(Some(Kept { epoch: written.epoch, lease }))
}

/// Replaces the file as a whole, so that a crash leaves the former one or the new one.
fn write(path: &Path, kept: Kept) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let written = Written { epoch: kept.epoch, lease_ms: ms(kept.lease) };
    let text = toml::to_string(&written).map_err(io::Error::other)?;
    let unfinished = path.with_extension("unfinished");
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&unfinished, path)?;
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use model::codec::Address;
    use model::ownership::{Ask, Claim, Claims, FromWitness, Granted};

    use super::*;

    fn claims(ask: u64, epoch: u64) -> ToWitness {
        let dvipa = Address("198.18.9.1".parse().unwrap());
        let claim = Claim { dvipa, epoch: Epoch(epoch), owned: false };
        ToWitness::Claims(Claims { run: 1, ask: Ask(ask), lease_ms: 500, claims: vec![claim] })
    }

    fn granted(witness: &mut Witness) -> Option<Granted> {
        match witness.poll(Instant::now())? {
            (_, FromStack::Ownership(FromWitness::Granted(granted))) => Some(granted),
            _ => None,
        }
    }

    #[test]
    fn what_was_granted_is_on_disk_before_the_answer_and_known_to_the_next_run() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state").join("t1.witness");
        let (node, start) = (StackName::new("rt1").unwrap(), Instant::now());
        let mut witness = Witness::open(path.clone(), start);
        let open = start + ownership::lease::DEFAULT;
        witness.heard(&node, claims(1, 7), None, open).unwrap();
        assert!(granted(&mut witness).is_some_and(|answer| answer.without.is_empty()));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);

        let mut next = Witness::open(path, open);
        next.heard(&node, claims(2, 8), None, open + Duration::from_millis(499)).unwrap();
        assert!(granted(&mut next).is_none(), "it waits until what it has forgotten has lapsed");
        next.heard(&node, claims(3, 7), None, open + Duration::from_millis(500)).unwrap();
        let answer = granted(&mut next).unwrap();
        assert_eq!(answer.without[0].highest, Epoch(7), "7 was granted by the former run");
        next.heard(&node, claims(4, 8), None, open + Duration::from_millis(500)).unwrap();
        assert!(granted(&mut next).is_some_and(|answer| answer.without.is_empty()));
    }

    #[test]
    fn a_witness_that_can_not_write_grants_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let (node, start) = (StackName::new("rt1").unwrap(), Instant::now());
        let taken = directory.path().join("file");
        fs::write(&taken, "").unwrap();
        let mut witness = Witness::open(taken.join("t1.witness"), start);
        assert!(witness.status(start).fails.is_some_and(|why| why.contains("can't be read")));

        let path = directory.path().join("t1.witness");
        fs::write(&path, "epoch = \"seven\"").unwrap();
        witness = Witness::open(path, start);
        witness.heard(&node, claims(1, 7), None, start + Duration::from_secs(60)).unwrap();
        assert!(witness.poll(start).is_none());
    }

    #[test]
    fn a_witness_that_could_not_write_grants_when_it_can_again() {
        let directory = tempfile::tempdir().unwrap();
        let (node, start) = (StackName::new("rt1").unwrap(), Instant::now());
        let state = directory.path().join("state");
        let mut witness = Witness::open(state.join("t1.witness"), start);
        fs::write(&state, "no directory").unwrap();
        let open = start + ownership::lease::DEFAULT;
        witness.heard(&node, claims(1, 7), None, open).unwrap();
        assert_eq!(witness.poll(open), None, "it grants nothing that is not on disk");
        assert!(witness.status(open).fails.is_some_and(|why| why.contains("can't be written")));
        fs::remove_file(&state).unwrap();
        let anew = open + Duration::from_millis(500);
        witness.heard(&node, claims(2, 8), None, anew - Duration::from_millis(1)).unwrap();
        assert!(granted(&mut witness).is_none(), "it waits a lease, as one that has begun anew");
        witness.heard(&node, claims(3, 8), None, anew).unwrap();
        assert!(granted(&mut witness).is_some_and(|answer| answer.without.is_empty()));
        assert_eq!(witness.status(anew).fails, None);
        assert!(state.join("t1.witness").exists());
    }

    #[test]
    fn what_agent_toml_does_not_leave_to_a_routing_stack_it_is_not_granted() {
        let directory = tempfile::tempdir().unwrap();
        let (node, start) = (StackName::new("rt1").unwrap(), Instant::now());
        let mut witness = Witness::open(directory.path().join("t1.witness"), start);
        let open = start + ownership::lease::DEFAULT;
        let heard = |witness: &mut Witness, ask, epoch, networks: &[IpNet]| {
            witness.heard(&node, claims(ask, epoch), Some(networks), open)
        };
        let others: [IpNet; 1] = ["198.18.8.0/24".parse().unwrap()];
        assert_eq!(heard(&mut witness, 1, 7, &others), Err(Wrong::NotItsDvipa));
        assert_eq!(granted(&mut witness).map(|answer| answer.without.len()), Some(1), "it is told so");
        assert_eq!(witness.status(open).grants.len(), 0);
        let its: [IpNet; 1] = ["198.18.9.0/24".parse().unwrap()];
        assert_eq!(heard(&mut witness, 2, u64::MAX, &its), Err(Wrong::EpochTooHigh));
        assert_eq!(granted(&mut witness).map(|answer| answer.without.len()), Some(1));
        assert_eq!(heard(&mut witness, 3, 8, &its), Ok(()));
        assert!(granted(&mut witness).is_some_and(|answer| answer.without.is_empty()));
    }
}
