//! A new configuration, whole or not at all.

use std::time::Instant;

use transport::{BindError, Identity, IdentityFiles, Renewal};

use super::api::{EventName, MistakeRow, OrderedBy, Problem};
use super::driver::Driver;
use super::forwarding::Forwarding;
use super::start;
use crate::config::{Cluster, Config, ConfigError, Frozen, RoutingStack};
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

    /// What the admin API answers.
    pub(super) fn problem(&self) -> Problem {
        let mistakes = match self {
            Refused::File(ConfigError::Mistakes(mistakes)) => mistakes
                .iter()
                .map(|m| MistakeRow {
                    line: m.line,
                    column: m.column,
                    what: m.what.clone(),
                    fix: m.fix.clone(),
                })
                .collect(),
            _ => Vec::new(),
        };
        Problem { error: self.text(), mistakes }
    }
}

/// The files of this stack's identity.
pub(super) fn identity_files(cluster: &Cluster) -> IdentityFiles {
    IdentityFiles {
        ca: cluster.ca.clone(),
        certificate: cluster.certificate.clone(),
        key: cluster.key.clone(),
    }
}

/// Reads the file again and puts it in force. Certificates are read again too: new sessions use them.
///
/// # Errors
/// Why nothing changed.
pub(super) fn reload<F: Forwarding>(driver: &mut Driver<F>, by: OrderedBy) -> Result<(), Refused> {
    let outcome = read_again(driver);
    let file = driver.file.display().to_string();
    match &outcome {
        Ok(()) => driver.events.add(EventName::Reloaded, file, format!("in force, by order of {by}")),
        Err(refused) => {
            let event = EventName::ReloadRefused;
            tracing::info!(event = event.word(), file, %by, "the former configuration stays");
            driver.events.add(event, file, format!("by order of {by}: {}", refused.text()));
        }
    }
    outcome
}

fn read_again<F: Forwarding>(driver: &mut Driver<F>) -> Result<(), Refused> {
    let new = Config::load(&driver.file)?;
    driver.machine.config().check_reload(&new).map_err(Refused::Frozen)?;
    let (files, name) = (identity_files(&new.cluster), new.node.name.clone());
    let renewal = Renewal::new(files.clone(), name.clone());
    let identity = Identity::load(&files, &name)?;
    let first = match &driver.peers {
        Some(_) => None,
        None => start::peers(&new, &identity, driver.settings.clone())?,
    };
    let former = driver.machine.config().routing_stacks.clone();
    driver.order(Event::Configure(Box::new(new)))?;
    match first {
        Some((endpoint, events)) => (driver.peers, driver.new_peers) = (Some(endpoint), Some(events)),
        None => follow_peers(driver, &former),
    }
    driver.renewal = renewal;
    identify(driver, &identity)?;
    driver.configured = Instant::now();
    tracing::info!(event = EventName::Reloaded.word(), file = %driver.file.display(), "configuration reloaded");
    Ok(())
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
