//! As what an application wants to be known.

use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{env, io};

use model::codec::Address;
use model::control_socket::request::{Register, Role};
use model::control_socket::{BadJobName, JobName, MAX_PORTS, RequestId};
use model::{Dvipa, Protocol, Service};

/// Where the agent's control socket is, unless `BATON_CONTROL_SOCKET` in the environment or [`Registration::socket`] says
/// otherwise.
pub const DEFAULT_SOCKET: &str = "/run/baton/applications.sock";

/// Why this is no registration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadRegistration {
    /// The name is none.
    #[error(transparent)]
    Job(#[from] BadJobName),
    /// Too few or too many ports.
    #[error(
        "an application registers for 1 to {MAX_PORTS} ports, not for {0}: register the others in another one"
    )]
    PortCount(usize),
    /// Nothing listens on it.
    #[error("0 is no TCP port: say which one clients connect to")]
    PortZero,
}

/// A name, a DVIPA and TCP ports of it.
#[derive(Clone, Debug)]
pub struct Registration {
    job: JobName,
    dvipa: Dvipa,
    ports: Vec<u16>,
    hold_accepts: bool,
    listener: Option<Arc<OwnedFd>>,
    socket: PathBuf,
}

impl Registration {
    /// For 1 to 1024 TCP ports of a DVIPA, under a job name: 1 to 63 letters, digits, `-`, `_` and `.`.
    ///
    /// # Errors
    /// [`BadRegistration`].
    pub fn new(job: &str, dvipa: IpAddr, ports: &[u16]) -> Result<Self, BadRegistration> {
        match ports {
            ports if ports.is_empty() || ports.len() > MAX_PORTS => {
                return Err(BadRegistration::PortCount(ports.len()));
            }
            ports if ports.contains(&0) => return Err(BadRegistration::PortZero),
            _ => {}
        }
        let socket = env::var_os("BATON_CONTROL_SOCKET").map_or_else(|| DEFAULT_SOCKET.into(), PathBuf::from);
        Ok(Self {
            job: JobName::new(job)?,
            dvipa: Dvipa::new(dvipa),
            ports: ports.to_vec(),
            hold_accepts: false,
            listener: None,
            socket,
        })
    }

    /// Names the listening socket that takes the application's clients: one of the registration's ports, on its DVIPA or on any
    /// address. Sockets that are named for a port take its clients in turn, whichever applications they are of, and no other
    /// listener of that port takes any. While a routing application waits, and with [`Registration::hold_accepts`], its socket takes
    /// none. The socket listens for as long as the application is registered, even if the caller closes its own descriptor.
    ///
    /// # Errors
    /// The descriptor can't be duplicated.
    pub fn listener(mut self, socket: &impl AsFd) -> io::Result<Self> {
        self.listener = Some(Arc::new(socket.as_fd().try_clone_to_owned()?));
        Ok(self)
    }

    /// A target's own listener gets no new connections: only those that are transferred to it. That is the listener that it names;
    /// if it names none, all listeners of its ports on this host.
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

    /// What goes beside the message.
    pub(crate) fn beside(&self) -> Vec<BorrowedFd<'_>> {
        self.listener.iter().map(AsFd::as_fd).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_agent_would_take_is_refused_before_it_is_asked() {
        let new = |job, ports: &[u16]| Registration::new(job, IpAddr::from([198, 18, 9, 1]), ports).map(drop);
        let many: Vec<u16> = (1..=1025).collect();
        assert_eq!(new("job", &[]), Err(BadRegistration::PortCount(0)));
        assert_eq!(new("job", &many), Err(BadRegistration::PortCount(1025)));
        assert_eq!(new("job", many.get(1..).unwrap()), Ok(()));
        assert_eq!(new("job", &[80, 0]), Err(BadRegistration::PortZero));
        assert!(matches!(new("a job", &[80]), Err(BadRegistration::Job(_))));
    }
}
