//! The contract between control sockets and the agent.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;

use channel::{Peer, Sealed};
use model::control_socket::request::{Consent, Role, Unacknowledged};
use model::control_socket::{JobName, OfferId, Refusal, RequestId, Target, TargetView};
use model::{Connection, Dvipa, Protocol, Service};

use crate::machine::Cookie;

pub use transfer::host::ApplicationId;

/// What an application wants. What belongs to a request is answered by a [`Command`] with its number.
#[derive(Debug)]
pub enum Event {
    /// It wants to be known, and has named this listening socket if its registration has one. To be answered by `Registered`,
    /// `Waiting` or `Failed`.
    Register(RequestId, Registration, Option<OwnedFd>),
    /// It wants to know the targets of a service that it registered for. To be answered by `Targets`, now and at each
    /// change, or `Failed`.
    Subscribe(RequestId, Service),
    /// It wants a connection moved. To be answered by `Transferred` or `Failed`. It goes on if the application ends.
    Transfer(RequestId, Moving),
    /// It asked a former run of this agent to move this connection and was not answered. To be answered by `Transferred`
    /// if the connection has moved, or by `Failed` once it goes on here.
    Resume(RequestId, Held),
    /// It says that a connection arrived from a former run of this agent, or of another control socket. To be answered by
    /// `Claimed` if it is the application's, otherwise by `Failed`.
    Claim(RequestId, Held),
    /// It answers an offer. To be answered by `Pass` or `Withdraw` if it accepts.
    Answer(OfferId, Answer),
    /// The kernel has a connection of `Pass` or `Give` in the application's socket, so that it outlives this agent. To be
    /// answered by `Connection` or `Withdraw`.
    Passed(OfferId),
    /// It did not take a connection that it was given in time, and has it no longer.
    NotTaken(Held),
    /// It says something to another application. To be answered by `Said` or `Failed`.
    Say(RequestId, Saying),
    /// It wants to know to which target a connection is to go. To be answered by `Chosen` or `Failed`.
    Choose(RequestId, Choice),
    /// It wants to know how the targets of a service are. To be answered by `Views` or `Failed`.
    View(RequestId, Service),
    /// The application looks at the offers of this registration from now on.
    TakesOffers(RequestId),
    /// It is gone, and with it its registrations, subscriptions and offers.
    Ended,
}

impl Event {
    /// Who is registered for what may be another afterwards.
    pub fn is_of_registrations(&self) -> bool {
        matches!(self, Self::Register(..) | Self::Subscribe(..) | Self::TakesOffers(_) | Self::Ended)
    }
}

/// What an application is registered as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    /// Who it is, as the kernel says.
    pub peer: Peer,
    /// Routing application or target.
    pub role: Role,
    /// Its name.
    pub job: JobName,
    /// Its address.
    pub dvipa: Dvipa,
    /// Its TCP ports, at least one.
    pub ports: Vec<u16>,
    /// Its listener gets no new connections, only transferred ones.
    pub hold_accepts: bool,
    /// The socket that is to take its clients; `None`: it has named none.
    pub listener: Option<Named>,
    /// The application looks at offers and given connections.
    pub takes_offers: bool,
}

/// A listening socket that an application has named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Named {
    /// The kernel's number of it.
    pub cookie: Cookie,
    /// What it is bound to: the application's DVIPA and port, or any address and its port.
    pub bound: SocketAddr,
    /// It is an IPv6 socket that takes no clients with IPv4 addresses.
    pub v6_only: bool,
}

impl Named {
    /// Clients of this DVIPA can reach it.
    pub fn is_reached_at(&self, dvipa: Dvipa) -> bool {
        let any = match (self.bound.ip(), dvipa.address()) {
            (IpAddr::V4(_), IpAddr::V4(_)) | (IpAddr::V6(_), IpAddr::V6(_)) => true,
            (IpAddr::V6(_), IpAddr::V4(_)) => !self.v6_only,
            (IpAddr::V4(_), IpAddr::V6(_)) => false,
        };
        self.bound.ip() == dvipa.address() || (self.bound.ip().is_unspecified() && any)
    }
}

impl Registration {
    /// It has named the socket that takes the clients of this port.
    pub fn named(&self, port: u16) -> Option<Cookie> {
        self.listener.filter(|named| named.bound.port() == port).map(|named| named.cookie)
    }

    /// It is for this service.
    pub fn covers(&self, service: Service) -> bool {
        service.protocol == Protocol::Tcp && service.dvipa == self.dvipa && self.ports.contains(&service.port)
    }
}

/// A connection that an application holds.
#[derive(Debug)]
pub struct Held {
    /// The agent's own descriptor of its socket.
    pub socket: OwnedFd,
    /// The connection, as the socket says.
    pub connection: Connection,
}

/// A connection that is to be moved.
#[derive(Debug)]
pub struct Moving {
    /// Which. The application has registered for its service.
    pub held: Held,
    /// Where to; `None`: to the routing application of its service.
    pub to: Option<Target>,
    /// Whether the target is asked.
    pub consent: Consent,
    /// What to do about unacknowledged bytes.
    pub unacknowledged: Unacknowledged,
    /// What is to reach the target application with it.
    pub state: Option<Sealed>,
    /// The last bytes that the application has read from it: the next application reads them first.
    pub given_back: Vec<u8>,
}

/// A connection for which a target is to be chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The connection.
    pub connection: Connection,
    /// Among applications of these names; none: among all targets.
    pub jobs: Vec<JobName>,
    /// But not these.
    pub besides: Vec<Target>,
}

/// What an application says to another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Saying {
    /// The service that both have registered for.
    pub service: Service,
    /// To whom.
    pub to: Target,
    /// The connection that it is about, if it is about one.
    pub about: Option<Connection>,
    /// What.
    pub bytes: Vec<u8>,
}

/// What an application says to an offer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It takes the connection.
    Accepted,
    /// It does not.
    Rejected {
        /// Why.
        why: Refusal,
        /// In its own words.
        detail: Option<String>,
    },
}

/// What the agent tells an application. One that does not fit what the application has asked is ignored: it has been
/// overtaken.
#[derive(Debug)]
pub enum Command {
    /// A registration is in force.
    Registered(RequestId),
    /// A registration waits until this stack owns the DVIPA.
    Waiting(RequestId),
    /// A subscription's targets are these now, sorted.
    Targets(RequestId, Vec<Target>),
    /// A connection is about to be moved to it.
    Offer {
        /// The offer.
        offer: OfferId,
        /// Which connection.
        connection: Connection,
        /// The job that it is for.
        job: JobName,
        /// Who gives it.
        giver: Option<Target>,
        /// What comes with it.
        state: Option<Sealed>,
    },
    /// The silent connection of an accepted offer: it is to be in the application's hands before it is decided that it moves.
    Pass(OfferId, OwnedFd),
    /// The same of a connection that the application was not asked about.
    Give {
        /// Its number.
        offer: OfferId,
        /// The silent connection.
        held: Held,
        /// Who gives it.
        giver: Option<Target>,
        /// What comes with it.
        state: Option<Sealed>,
    },
    /// An offer is void.
    Withdraw(OfferId, Refusal),
    /// The connection of `Pass` or `Give` is the application's.
    Connection(OfferId, OwnedFd),
    /// A connection that was claimed is the application's.
    Claimed(RequestId, OwnedFd),
    /// What was to be said is on its way.
    Said(RequestId),
    /// What another application says.
    Heard {
        /// Who.
        from: Target,
        /// The port that both have registered for.
        port: u16,
        /// The connection that it is about, if it is about one.
        about: Option<Connection>,
        /// What.
        bytes: Vec<u8>,
    },
    /// The target that was chosen.
    Chosen(RequestId, Target),
    /// The targets of a service are like this, sorted.
    Views(RequestId, Vec<TargetView>),
    /// A connection has moved.
    Transferred(RequestId),
    /// A request is not done.
    Failed {
        /// Which.
        request: RequestId,
        /// Why.
        why: Refusal,
        /// What there is to say beyond that.
        detail: Option<String>,
    },
}
