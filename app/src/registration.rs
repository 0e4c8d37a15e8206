//! As what an application wants to be known.

use std::env;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use model::codec::Address;
use model::control_socket::JobName;
use model::control_socket::request::{Register, Role};
use model::control_socket::{BadJobName, RequestId};
use model::{Dvipa, Protocol, Service};

/// Where the agent's control socket is, unless `BATON_CONTROL_SOCKET` in the environment or [`Registration::socket`] says
/// otherwise.
pub const DEFAULT_SOCKET: &str = "/run/baton/applications.sock";

/// A name, a DVIPA and TCP ports of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    job: JobName,
    dvipa: Dvipa,
    ports: Vec<u16>,
    hold_accepts: bool,
    socket: PathBuf,
}

impl Registration {
    /// For TCP ports of a DVIPA, under a job name: 1 to 63 letters, digits, `-`, `_` and `.`.
    ///
    /// # Errors
    /// [`BadJobName`].
    pub fn new(job: &str, dvipa: IpAddr, ports: &[u16]) -> Result<Self, BadJobName> {
        let socket = env::var_os("BATON_CONTROL_SOCKET").map_or_else(|| DEFAULT_SOCKET.into(), PathBuf::from);
        Ok(Self {
            job: JobName::new(job)?,
            dvipa: Dvipa::new(dvipa),
            ports: ports.to_vec(),
            hold_accepts: false,
            socket,
        })
    }

    /// A target's own listener gets no new connections: it serves only those that are transferred to it.
    #[must_use]
    pub fn hold_accepts(mut self, hold: bool) -> Self {
        self.hold_accepts = hold;
        self
    }

    /// The agent's control socket is here.
    #[must_use]
    pub fn socket(mut self, path: impl Into<PathBuf>) -> Self {
        self.socket = path.into();
        self
    }

    pub(crate) fn path(&self) -> &Path {
        &self.socket
    }

    pub(crate) fn service(&self, port: u16) -> Service {
        Service { dvipa: self.dvipa, port, protocol: Protocol::Tcp }
    }

    pub(crate) fn message(&self, request: RequestId, role: Role, takes_offers: bool) -> Register {
        Register {
            request,
            role,
            job: self.job.clone(),
            dvipa: Address(self.dvipa.address()),
            ports: self.ports.clone(),
            hold_accepts: self.hold_accepts,
            takes_offers: Some(takes_offers),
        }
    }
}
