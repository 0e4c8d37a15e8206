//! What the agent's machine hears and what it wants done.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use model::message::{FromStack, Load, VipaList};
use model::ranges::{Activate, Ranges};
use model::{Connection, Dvipa, StackName};

use super::listens::{Served, TakersOf};
use super::silences::Speech;
use super::sockets::{Cookie, Ifindex, Listener, Picture, Scope};
use super::stalls::Waiting;

/// Services whose applications here do not answer as they should, and what was seen of each.
pub type FailingServices = BTreeMap<(Dvipa, Served), String>;

/// What has happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// A session with a routing stack begins.
    SessionUp(StackName),
    /// The session with a routing stack is over.
    SessionDown(StackName),
    /// A routing stack says what it distributes.
    Listed(StackName, VipaList),
    /// A routing stack says which addresses applications make DVIPAs, and where they are active.
    Ranges(StackName, Ranges),
    /// A routing stack has an order for an address of its ranges.
    Activate(StackName, Activate),
    /// A routing stack says up to which number it has heard what became of connections.
    Heard(StackName, u64),
    /// A routing stack wants to know which of the connections that it has asked about until now are here; the number names the question.
    /// What the kernel has told until now comes before this.
    Asked(StackName, u64),
    /// A socket listens.
    Listening(Cookie, Listener),
    /// A connection is established.
    Established(Cookie, Connection),
    /// A socket no longer listens, or its connection has ended, or it is gone.
    Ended(Cookie),
    /// As [`Event::Ended`], of this connection, whose client was answered.
    EndedAnswered(Cookie, Connection),
    /// How it is with all connections that are open.
    Speeches(Vec<Speech>),
    /// Nobody answered for so long is a failure from now on; `None`: it is none.
    Unanswered(Option<Duration>),
    /// A routing stack has no entry for a connection and asked for it; it is here, and its packet was let in.
    Claimed {
        /// Which. It may have no socket here that is told of: a request, or a container's.
        connection: Connection,
        /// It is in TIME_WAIT: no end of it will be told.
        closing: bool,
    },
    /// A UDP socket was bound.
    UdpBound,
    /// A socket of another network namespace of this host, as a container's, listens or does not any more.
    ListensElsewhere,
    /// Events of sockets were lost.
    EventsLost,
    /// The look that was asked for has brought this.
    Seen(Scope, Picture),
    /// The look that was asked for failed.
    NotSeen,
    /// The interfaces that forwarded packets arrive at have these numbers now.
    Interfaces(Vec<Ifindex>),
    /// These UDP flows had a datagram lately ([`super::FLOW_RECENT`]).
    FlowsSeen(Vec<Connection>),
    /// How busy this host is, and in which accept queues clients wait; none: that is not known now.
    LoadSampled(Load, Option<Waiting>),
    /// A check has connected to this port, and was answered.
    Reached(u16),
    /// These services fail here, and why; no others do.
    Failing(FailingServices),
    /// A DVIPA could not be made an address of this host.
    NotAdded(Dvipa),
    /// The agent is about to end: this host is no target any longer, but its connections live on.
    Stop,
    /// The connection is moving: until it rests, not this machine tells the routing stacks about it.
    Moving(Connection),
    /// It no longer moves. `ours`: it is this host's; if it has no socket here any more, it has ended. If it is another host's, the owner of
    /// its DVIPA knows, and the others are told that it has left.
    Rests {
        /// Which.
        connection: Connection,
        /// Whether it is this host's.
        ours: bool,
    },
    /// Of the listeners of these services only some take new connections, or none.
    Takers(TakersOf),
    /// These are the routing stacks from now on.
    RoutingStacks(BTreeSet<StackName>),
    /// Lost events and undone addresses are repaired this often from now on.
    Repair(Duration),
    /// The deadline has come.
    TimePassed,
}

/// What is to be done, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Take encapsulated packets of these forwarders only.
    SetForwarders(Forwarders),
    /// Make this an address of this host, or see that it is one, and send first SYNs from it there.
    AddDvipa(Dvipa, Option<Origin>),
    /// Take this address away.
    RemoveDvipa(Dvipa),
    /// Let applications bind to addresses that the host does not have (`ip_nonlocal_bind`), of this family.
    AllowBinds {
        /// IPv4; otherwise IPv6.
        v4: bool,
    },
    /// End these connections, at most [`super::ENDED_AT_ONCE`]: their clients are told.
    End(Vec<Connection>),
    /// Look at all sockets of the scope, and answer with [`Event::Seen`] or [`Event::NotSeen`].
    Look(Scope),
    /// Measure how busy this host is, and answer with [`Event::LoadSampled`].
    SampleLoad,
    /// See how it is with open connections, and answer with [`Event::Speeches`].
    LookAtSpeeches,
    /// Tell a routing stack.
    Send(StackName, FromStack),
}

/// Which packets for a DVIPA are taken from which outer source.
pub type Forwarders = BTreeMap<(IpAddr, Dvipa), Takes>;

/// Which packets of a forwarder are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// All: its stack owns the DVIPA.
    All,
    /// Those of connections that are here: its stack owned the DVIPA in an earlier epoch, and does not know yet that another does.
    WhatIsHere,
}

/// How the first SYN of a connection that is opened here with a DVIPA as its source reaches the routing stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The routing stack's cluster address.
    pub to: IpAddr,
    /// This stack's own, of the same family.
    pub from: IpAddr,
}

/// What the agent's machine does by the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timer {
    /// All sockets are looked at again, and every DVIPA's address is checked: what was lost or undone is repaired.
    Repair,
    /// The load is measured and reported, and some connections are told of again.
    Load,
}
