//! What a peer may say: decided here and nowhere else.
//!
//! | who may say it | what |
//! | --- | --- |
//! | every stack, of itself | Load, Abilities, Told, Looked, After, Bound, TokensGiven |
//! | a candidate target of the DVIPA | SRVSTAT, Applications, Choose, View, PortsHeld, Declined, Say in the name of an application that is registered there; NEWCONN and TERMCONN, connection by connection |
//! | the stack that has the connection; while nobody has it, a candidate | Prepare |
//! | the transfer's source | State, Part, Abandon, Doubt, Done |
//! | the transfer's target | Agreed, Prepared, Void, Active |
//! | the stack that the order was given to | Stays |
//!
//! Of a transfer that this node does not know, because a former run gave it, source and target are not known either. Then a
//! candidate may speak; and what would change the connection's owner or hold its packets (Doubt, Active), only the stack
//! that has the connection, or a candidate while nobody has it.
//!
//! A candidate target is whom a definition names, or named since this node's start, until the DVIPA or the stack is forgotten: such a
//! stack may still have connections, and its answer to a former list may be under way. The owner's own stack is a candidate of each of its DVIPAs.
//!
//! The connections of a DVIPA that moves alone (VIPARANGE) may be at any stack: every stack counts as a candidate of it.
//!
//! That a NEWCONN takes no connection from another stack is seen to where the CRT is, entry by entry; the number of those
//! that it would have taken comes back as [`super::Event::HeldElsewhere`].

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use model::message::{FromStack, OrderId};
use model::transfer::{FromHost, FromSource, FromTarget, TransferId};
use model::{Connection, Dvipa, DvipaIndex, Epoch, StackIndex, StackName};

use super::roster::Roster;
use super::{Offence, Refusal, RoutingStack};
use crate::config::{Candidate, Destip, VipaDynamic};

/// Who must have sent a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Right {
    /// Any stack: it speaks of itself only.
    Anybody,
    /// A candidate target of this DVIPA.
    Candidate(Dvipa),
    /// As [`Right::Candidate`] for the DVIPA of each connection, which those who read the connections ask.
    EachConnection,
    /// The stack that has the connection.
    Home(Connection),
    /// The source of the transfer of this connection.
    Source(TransferId, Connection),
    /// Its target.
    Target(TransferId, Connection),
    /// The stack that this order was given to.
    Ordered(OrderId),
}

/// What a stack claimed that is not its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Wrong {
    /// It is no candidate target.
    #[error("it is no candidate target of {0}")]
    NoCandidate(Dvipa),
    /// Another stack has the connection.
    #[error("another stack has the connection {0}")]
    AnothersConnection(Connection),
    /// Other stacks have connections that it says it has.
    #[error("other stacks have {0} of these connections")]
    AnothersConnections(usize),
    /// It is neither source nor target, or not the one that says this.
    #[error("the transfer of {0} is between other stacks")]
    AnothersTransfer(Connection),
    /// Another stack has the order.
    #[error("the order was given to another stack")]
    AnothersOrder,
    /// It names an epoch that is too far above all that are known.
    #[error("it names epoch {} of {_0}, so far above all others that hardly any would be left", _1.0)]
    EpochTooHigh(Dvipa, Epoch),
    /// Only routing stacks say that.
    #[error("only a routing stack says that, to its targets")]
    RoutingStacksOnly,
}

/// The candidate targets of a DVIPA, of all its distributions together.
#[derive(Clone, Debug, Default)]
struct Candidates {
    all: bool,
    names: BTreeSet<StackName>,
    addresses: BTreeSet<IpAddr>,
}

impl Candidates {
    fn add(&mut self, destip: &Destip) {
        match destip {
            Destip::All => self.all = true,
            Destip::List(list) => list.iter().for_each(|candidate| match candidate {
                Candidate::Name(name) => drop(self.names.insert(name.clone())),
                Candidate::Address(address) => drop(self.addresses.insert(*address)),
            }),
        }
    }

    fn has(&self, stack: &StackName, roster: &Roster) -> bool {
        let is_at = |address: &IpAddr| roster.holder(*address) == Some(stack);
        self.all || self.names.contains(stack) || self.addresses.iter().any(is_at)
    }
}

/// Who is a candidate target of which DVIPA, or was.
#[derive(Debug, Default)]
pub(super) struct Rights(BTreeMap<Dvipa, Candidates>);

impl Rights {
    /// These definitions are in force.
    pub(super) fn define(&mut self, definitions: &VipaDynamic) {
        for distribution in &definitions.distributes {
            self.0.entry(distribution.dvipa).or_default().add(&distribution.destip);
        }
    }

    /// These DVIPAs and stacks are forgotten, except where these definitions name them.
    pub(super) fn forget(
        &mut self,
        dvipas: &BTreeMap<Dvipa, DvipaIndex>,
        stacks: &[StackName],
        definitions: &VipaDynamic,
    ) {
        self.0.retain(|dvipa, _| !dvipas.contains_key(dvipa));
        for candidates in self.0.values_mut().filter(|_| !stacks.is_empty()) {
            candidates.names.retain(|name| !stacks.contains(name));
        }
        self.define(definitions);
    }
}

impl RoutingStack {
    /// Whether this stack may say this. `home`: who has the connection that it is about, if it is about one.
    pub(super) fn permit(
        &self,
        from: &StackName,
        message: &FromStack,
        home: Option<StackIndex>,
    ) -> Result<(), Refusal> {
        let wrong = match right(message) {
            Right::Anybody | Right::EachConnection => None,
            Right::Candidate(dvipa) => self.not_candidate(from, dvipa),
            Right::Home(connection) => self.not_home(from, connection, home),
            Right::Source(transfer, connection) => match self.transfers.routing.parties(transfer) {
                Some((source, _)) => (source != from).then_some(Wrong::AnothersTransfer(connection)),
                None => self.not_of_unknown(from, message, (transfer, connection), home),
            },
            Right::Target(transfer, connection) => match self.transfers.routing.parties(transfer) {
                Some((_, target)) => (target != from).then_some(Wrong::AnothersTransfer(connection)),
                None => self.not_of_unknown(from, message, (transfer, connection), home),
            },
            Right::Ordered(order) => {
                let anothers = self.orders.get(order).is_some_and(|order| order.source != *from);
                anothers.then_some(Wrong::AnothersOrder)
            }
        };
        match wrong {
            None => Ok(()),
            Some(wrong) => Err(Offence::Wrong { message: message.word(), wrong }.by(from)),
        }
    }

    /// A transfer that is not under way here.
    fn not_of_unknown(
        &self,
        from: &StackName,
        message: &FromStack,
        (transfer, connection): (TransferId, Connection),
        home: Option<StackIndex>,
    ) -> Option<Wrong> {
        let takes = matches!(
            message,
            FromStack::Transfer(
                FromHost::Source(FromSource::Doubt(_)) | FromHost::Target(FromTarget::Active(_))
            )
        );
        if takes && !self.transfers.routing.knows(transfer) {
            return self.not_home(from, connection, home);
        }
        self.not_candidate(from, connection.service().dvipa)
    }

    /// Of a connection that nobody has, a candidate may say that it has it: its NEWCONN may come later.
    fn not_home(&self, from: &StackName, connection: Connection, home: Option<StackIndex>) -> Option<Wrong> {
        let own = self.stack_index(from);
        if home.is_some() && home == own {
            return None;
        }
        let gives = self.under_way(&connection).is_some_and(|transfer| transfer.source == from);
        if home.is_some() && !gives {
            return Some(Wrong::AnothersConnection(connection));
        }
        self.not_candidate(from, connection.service().dvipa)
    }

    /// Whether the stack may have connections to this DVIPA.
    pub(super) fn may_have(&self, stack: &StackName, dvipa: Dvipa) -> bool {
        self.not_candidate(stack, dvipa).is_none()
    }

    /// A DVIPA that this node neither owns nor would take over is refused where the message is read.
    fn not_candidate(&self, stack: &StackName, dvipa: Dvipa) -> Option<Wrong> {
        let everybody = self.dvipas.warm(dvipa).is_none() || self.config.vipadynamic.moves_alone(dvipa);
        if *stack == self.config.node.name || everybody {
            return None;
        }
        let roster = &self.stacks.roster;
        let has = self.rights.0.get(&dvipa).is_some_and(|candidates| candidates.has(stack, roster));
        (!has).then_some(Wrong::NoCandidate(dvipa))
    }
}

/// The table in the module's head. Any stack may send reports that claim nothing.
fn right(message: &FromStack) -> Right {
    match message {
        FromStack::Load(_)
        | FromStack::Stalled(_)
        | FromStack::Told(_)
        | FromStack::Looked(_)
        | FromStack::After(_)
        | FromStack::TokensGiven(_)
        | FromStack::Ownership(_)
        | FromStack::Bound(_)
        | FromStack::Transfer(FromHost::Abilities(_)) => Right::Anybody,
        FromStack::Srvstat(m) if m.listens.iter().any(|listen| listen.listening) => {
            Right::Candidate(Dvipa::new(m.dvipa.0))
        }
        FromStack::Applications(m) if !m.applications.is_empty() => Right::Candidate(Dvipa::new(m.dvipa.0)),
        FromStack::Srvstat(_) | FromStack::Applications(_) => Right::Anybody,
        FromStack::Newconn(_) | FromStack::Termconn(_) => Right::EachConnection,
        FromStack::Stays(m) => Right::Ordered(m.order),
        FromStack::Say(m) => Right::Candidate(Dvipa::new(m.dvipa.0)),
        FromStack::Choose(m) => Right::Candidate(m.connection.0.service().dvipa),
        FromStack::View(m) => Right::Candidate(Dvipa::new(m.dvipa.0)),
        FromStack::Declined(m) => Right::Candidate(m.connection.0.service().dvipa),
        FromStack::PortsHeld(m) => Right::Candidate(Dvipa::new(m.dvipa.0)),
        FromStack::Transfer(FromHost::Source(m)) => match m.about() {
            None => Right::Home(m.subject().0),
            Some(about) => Right::Source(about.transfer, about.connection.0),
        },
        FromStack::Transfer(FromHost::Target(m)) => {
            let about = m.about();
            Right::Target(about.transfer, about.connection.0)
        }
    }
}
