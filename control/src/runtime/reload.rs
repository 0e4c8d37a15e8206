//! A new configuration, whole or not at all.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::Instant;

use transport::{BindError, Identity, IdentityFiles, Renewal};

use super::api::{EventName, MistakeRow, OrderedBy, Problem};
use super::driver::Driver;
use super::durable::Written;
use super::events;
use super::forwarding::Forwarding;
use super::start;
use crate::config::{
    self, Change, Cluster, Config, ConfigError, Frozen, Mistake, PathError, RoutingStack, Source, Truth,
};
use crate::machine::{Event, Refusal};

/// Why the former configuration stays in force.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    #[error(transparent)]
    File(#[from] ConfigError),
    #[error("{}", .0.iter().map(Frozen::to_string).collect::<Vec<_>>().join("\n"))]
    Frozen(Vec<Frozen>),
    #[error(transparent)]
    Identity(#[from] transport::IdentityError),
    #[error(transparent)]
    Tls(#[from] transport::BindError),
    #[error(transparent)]
    Machine(#[from] Refusal),
    /// The API is the truth, and the file was changed by hand.
    #[error(
        "the file was changed by hand, and with admin.config = \"api\" that is not put in force: `baton config diff` shows what differs; \
         order it with `baton config set`, or write admin.config = \"file\" into the file to make it the truth"
    )]
    NotTheTruth,
    /// A path or a value that means nothing.
    #[error(transparent)]
    Path(#[from] PathError),
    /// What is to be rolled back to.
    #[error("configuration {0} is not kept: `baton config history` lists those that are")]
    NotKept(u64),
    /// The file can't be written.
    #[error("cannot write {}: {cause}; batond must be able to write to its directory, nothing changed", file.display())]
    Unwritten {
        /// Which.
        file: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// What came into force would not be there after a restart, or an edited file would be lost.
    #[error("cannot keep it in NAME.history of cluster.directory: {0}; nothing changed")]
    Unkept(io::Error),
    /// A former configuration can't be read.
    #[error("cannot read the configuration {number} that was kept: {cause}")]
    Unread {
        /// Which.
        number: u64,
        /// Why.
        cause: io::Error,
    },
}

impl Refused {
    /// The sentence with its causes.
    pub(super) fn text(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text.push_str(&format!(": {error}"));
            cause = error.source();
        }
        text
    }

    /// What an event says: no values, and no more than fits into its line.
    pub(super) fn in_short(&self) -> String {
        match self {
            Refused::File(ConfigError::Mistakes(mistakes)) => {
                let lines: Vec<usize> = mistakes.iter().map(|mistake| mistake.line).collect();
                let (count, first) = (lines.len(), lines.first().copied().unwrap_or_default());
                format!(
                    "{count} mistake{} in the file, the first in line {first}",
                    if count == 1 { "" } else { "s" }
                )
            }
            Refused::Path(_) => "the path or the value has no meaning there".to_owned(),
            refused => events::cut(&refused.text()),
        }
    }

    /// What the admin API answers.
    pub(super) fn problem(&self) -> Problem {
        let mistakes = match self {
            Refused::File(error) => mistakes(error),
            _ => Vec::new(),
        };
        Problem { error: self.text(), mistakes }
    }
}

/// The mistakes of a file, as rows.
pub(super) fn mistakes(error: &ConfigError) -> Vec<MistakeRow> {
    let ConfigError::Mistakes(mistakes) = error else { return Vec::new() };
    let row =
        |m: &Mistake| MistakeRow { line: m.line, column: m.column, what: m.what.clone(), fix: m.fix.clone() };
    mistakes.iter().map(row).collect()
}

/// The files of this stack's identity.
pub(super) fn identity_files(cluster: &Cluster) -> IdentityFiles {
    IdentityFiles {
        ca: cluster.ca.clone(),
        certificate: cluster.certificate.clone(),
        key: cluster.key.clone(),
    }
}

/// By whom and how a configuration comes into force.
#[derive(Clone, Copy, Debug)]
pub(super) struct Order<'a> {
    pub(super) by: OrderedBy,
    /// `reload`, `set`, `unset`, `rollback`.
    pub(super) what: &'a str,
}

/// Reads the file again and puts it in force. Certificates are read again too: new sessions use them.
///
/// # Errors
/// Why nothing changed.
pub(super) fn reload<F: Forwarding>(driver: &mut Driver<F>, by: OrderedBy) -> Result<(), Refused> {
    let outcome = read_again(driver)
        .and_then(|(text, new)| put_in_force(driver, text, new, None, Order { by, what: "reload" }));
    let file = driver.file.display().to_string();
    match &outcome {
        Ok(_) => {
            tracing::info!(event = EventName::Reloaded.word(), file, %by, "configuration reloaded");
            driver.events.add(EventName::Reloaded, file, format!("in force, by order of {by}"));
        }
        Err(refused) => {
            let event = EventName::ReloadRefused;
            tracing::info!(event = event.word(), file, %by, "the former configuration stays");
            driver.events.add(event, file, format!("by order of {by}: {}", refused.in_short()));
        }
    }
    outcome.map(drop)
}

/// What the file says, if it is the truth. It says itself whether it is, so that it can always be made it.
fn read_again<F: Forwarding>(driver: &Driver<F>) -> Result<(String, Config), Refused> {
    let (new, Source { text, .. }) = Config::load_source(&driver.file)?;
    let is_api = |config: &Config| config.admin.truth == Truth::Api;
    if is_api(driver.machine.config()) && is_api(&new) && text != driver.text {
        return Err(Refused::NotTheTruth);
    }
    Ok((text, new))
}

/// Puts a configuration in force, and its text in the place of the file's if that is to be written. Returns what has changed, and the number
/// under which it is kept: none if it can't be. It is kept first, because a restart goes by that where the API is the truth.
///
/// # Errors
/// Why nothing changed.
pub(super) fn put_in_force<F: Forwarding>(
    driver: &mut Driver<F>,
    text: String,
    new: Config,
    file: Option<Written>,
    order: Order<'_>,
) -> Result<(Vec<Change>, Option<u64>), Refused> {
    driver.machine.config().check_reload(&new).map_err(Refused::Frozen)?;
    let (files, name) = (identity_files(&new.cluster), new.node.name.clone());
    let renewal = Renewal::new(files.clone(), name.clone());
    let identity = Identity::load(&files, &name)?;
    let first = match &driver.peers {
        Some(_) => None,
        None => start::peers(&new, &identity, driver.settings.clone())?,
    };
    identify(driver, &identity)?;
    let changes = config::differences(&driver.text, &text).unwrap_or_default();
    let newest = driver.history.newest();
    let number = match driver.history.keep(&text, order.by, order.what, changes.clone()) {
        Ok(number) => Some(number),
        Err(cause) if new.admin.truth == Truth::Api && text != driver.text => {
            return Err(Refused::Unkept(cause));
        }
        Err(_) => None,
    };
    let former = driver.machine.config().routing_stacks.clone();
    if let Err(refused) = exchange(driver, new, file) {
        driver.history.forget_after(newest);
        return Err(refused);
    }
    match first {
        Some((endpoint, events)) => (driver.peers, driver.new_peers) = (Some(endpoint), Some(events)),
        None => follow_peers(driver, &former),
    }
    driver.renewal = renewal;
    driver.configured = Instant::now();
    driver.text = text;
    Ok((changes, number))
}

/// Puts the file in its place, and the configuration in force; or neither.
fn exchange<F: Forwarding>(
    driver: &mut Driver<F>,
    new: Config,
    file: Option<Written>,
) -> Result<(), Refused> {
    let old = file.is_some().then(|| fs::read(&driver.file));
    if let Some(file) = file {
        file.put().map_err(|cause| Refused::Unwritten { file: driver.file.clone(), cause })?;
    }
    driver.order(Event::Configure(Box::new(new))).map_err(|refusal| {
        let back = old.map(|old| Written::like(&driver.file, &old?)?.put());
        if let Some(Err(cause)) = back {
            let file = driver.file.display();
            tracing::error!(%file, %cause, "the file can't be put back: it has the refused configuration");
        }
        Refused::Machine(refusal)
    })
}

/// Uses the certificate, key and CA in the files from now on, if they were replaced; sessions go on.
pub(super) fn renew<F: Forwarding>(driver: &mut Driver<F>) {
    let renewed = match driver.renewal.look() {
        None => return,
        Some(Ok(identity)) => identify(driver, &identity).map_err(|e| e.to_string()),
        Some(Err(error)) => Err(error.to_string()),
    };
    match renewed {
        Ok(()) => {
            let (event, expires) = (EventName::CertificateRenewed, driver.expires.date.clone());
            tracing::info!(
                event = event.word(),
                expires,
                "the certificate was replaced: new sessions use it"
            );
            let name = driver.machine.config().node.name.clone();
            driver.events.add(event, name, format!("valid until {expires}"));
        }
        Err(cause) => tracing::warn!(
            cause,
            "the files of the certificate have changed and can't be used: the former one stays"
        ),
    }
}

fn identify<F: Forwarding>(driver: &mut Driver<F>, identity: &Identity) -> Result<(), BindError> {
    driver.endpoint.renew(identity)?;
    if let Some(peers) = &driver.peers {
        peers.renew(identity)?;
    }
    driver.expires = identity.expires();
    Ok(())
}

/// Ends the sessions with routing stacks that are not named any more, or elsewhere, and dials those that are.
fn follow_peers<F: Forwarding>(driver: &Driver<F>, former: &[RoutingStack]) {
    let (Some(peers), config) = (&driver.peers, driver.machine.config()) else { return };
    for gone in former.iter().filter(|other| !config.routing_stacks.contains(other)) {
        peers.hang_up(&gone.name);
    }
    let new = config.routing_stacks.iter().filter(|other| !former.contains(other));
    for other in new.filter(|other| start::dials(config, other)) {
        peers.dial(other.name.clone(), other.address);
    }
}
