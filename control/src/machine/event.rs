//! What a routing stack hears.

use std::time::Duration;

use model::control_socket::JobName;
use model::message::{FromStack, Hello};
use model::peer::ToPeer;
use model::transfer::FromHost;
use model::{Connection, Dvipa, DvipaIndex, Service, StackIndex, StackName};

use super::{EvacuationTerms, ToChoose, Wanted};
use crate::config::Config;

/// Something that happened. The order of messages of one session is kept; nothing else is assumed.
#[derive(Clone, Debug)]
pub enum Event {
    /// A new, checked configuration is in force. What can't change while the node runs is as before
    /// ([`Config::check_reload`]).
    Configure(Box<Config>),
    /// A session with this stack, whose name its certificate proves, is up. A session that was up before is over.
    SessionUp {
        /// The peer.
        stack: StackName,
        /// What it said of itself.
        hello: Hello,
    },
    /// The session with this stack is over, or it was silent for too long.
    SessionDown {
        /// The peer.
        stack: StackName,
    },
    /// Nothing was heard of this stack for a moment; its session is up.
    Quiet {
        /// The peer.
        stack: StackName,
    },
    /// A stack that was quiet is heard again.
    Heard {
        /// The peer.
        stack: StackName,
    },
    /// The stacks that are not up and whose hosts do not answer for their cluster addresses: all of them.
    SilentHosts(Vec<StackIndex>),
    /// A message came in on the session that is up.
    Message {
        /// The peer.
        from: StackName,
        /// What it said.
        message: FromStack,
    },
    /// A stack says something else of itself than at first.
    Greets {
        /// Which.
        stack: StackName,
        /// What it is from now on.
        hello: Hello,
    },
    /// As [`Event::Message`], about a connection that has an entry in the CRT.
    Transfer {
        /// The peer.
        from: StackName,
        /// What it said.
        message: FromHost,
        /// The stack that has the connection, as the CRT says.
        home: StackIndex,
    },
    /// A stack said what only routing stacks say.
    Misdirected {
        /// The peer.
        from: StackName,
        /// What such messages are called.
        message: &'static str,
    },
    /// Of the connections that a stack has reported, other stacks have some: their entries stay as they are.
    HeldElsewhere {
        /// The stack that reported them.
        by: StackIndex,
        /// How many.
        connections: usize,
    },
    /// Workers have asked stacks about connections until this time, which counts up, and wait for what follows from their silence.
    Asked {
        /// The time.
        until: u64,
    },
    /// The NIC's link was lost and is back: switches and neighbours may have forgotten where the DVIPAs are.
    LinkReturned,
    /// This program ends in a moment, and forwards until then.
    Ends,
    /// An operator: the stack gets no new connections, the ones it has stay.
    Drain {
        /// Which stack; it need not be up.
        stack: StackName,
        /// Of what.
        scope: Scope,
    },
    /// An operator: the end of a [`Event::Drain`] or [`Event::Evacuate`] of the same scope. [`Scope::All`] ends all of the stack's.
    Resume {
        /// Which stack.
        stack: StackName,
        /// Of what.
        scope: Scope,
    },
    /// An outside controller: these weights come before configured ones and load until they expire. They replace
    /// the ones that it set for the service before; none takes them back.
    SetWeights {
        /// Of which service.
        service: Service,
        /// The weights of single stacks; the others keep theirs.
        weights: Vec<(StackName, u16)>,
        /// How long they hold, at most [`crate::machine::MAX_WEIGHT_LIFE`].
        ttl: Duration,
    },
    /// An operator: this connection shall be transferred.
    Move {
        /// Which.
        connection: Connection,
        /// Who has it, as the CRT says.
        source: StackIndex,
        /// To which stack.
        target: StackName,
        /// To which application there; `None`: to any.
        job: Option<JobName>,
        /// For how many milliseconds it and its server must have been quiet; `None`: as its agent does by itself.
        quiet_ms: Option<u32>,
    },
    /// An operator: as [`Event::Drain`], and the stack's connections are moved to the others as they become idle.
    Evacuate {
        /// Which stack.
        stack: StackName,
        /// Of what.
        scope: Scope,
        /// How.
        terms: EvacuationTerms,
    },
    /// An operator: no more connections are moved for [`Event::Evacuate`]; the drain goes on.
    StopEvacuation {
        /// Which stack.
        stack: StackName,
        /// Of what.
        scope: Scope,
    },
    /// What [`super::Action::List`] asked for.
    Listed {
        /// Of which stack.
        stack: StackName,
        /// Of what.
        scope: Scope,
        /// Established connections of it, at most as many as were asked for.
        connections: Vec<Connection>,
        /// How many more there are.
        more: u64,
    },
    /// [`super::Action::HandOver`] can't be done.
    NotHandedOver {
        /// Which connection.
        connection: Connection,
        /// Why not, in the forwarder's words.
        said: String,
    },
    /// [`super::Action::Choose`] is done.
    Chosen {
        /// What it was.
        wanted: Box<ToChoose>,
        /// Which stack; `None`: there is none to choose.
        stack: Option<StackIndex>,
    },
    /// The workers have hardly any tokens of these stacks left.
    TokensLow(Vec<StackIndex>),
    /// Workers want connections moved, because their next requests are for other stacks.
    Reselect(Vec<Wanted>),
    /// How many connections the CRT has of each stack: for the displays, and to find out who has left nothing behind. Said
    /// every second.
    ConnectionCounts(Vec<(StackIndex, u64)>),
    /// A session with another routing stack, whose name its certificate proves, is up.
    PeerUp {
        /// Which.
        stack: StackName,
    },
    /// It is over: the other routing stack has said goodbye, or was silent for too long.
    PeerDown {
        /// Which.
        stack: StackName,
    },
    /// Another routing stack says something.
    PeerMessage {
        /// Which.
        from: StackName,
        /// What.
        message: ToPeer,
    },
    /// Something comes from etcd.
    Etcd(ownership::etcd::News),
    /// An operator: another routing stack shall own this DVIPA, which this one owns; or none but this one, until its next owner is named.
    MoveDvipa {
        /// Which.
        dvipa: Dvipa,
        /// Who.
        to: StackName,
    },
    /// What [`super::Action::Count`] asked for.
    Counted {
        /// Which DVIPA.
        dvipa: Dvipa,
        /// How many connections the CRT has to it.
        connections: u64,
    },
    /// An operator: this address of a range shall be active at this stack.
    Activate {
        /// Which.
        dvipa: Dvipa,
        /// Where.
        stack: StackName,
    },
    /// An operator: no longer by order, but where an application is bound to it.
    Deactivate {
        /// Which.
        dvipa: Dvipa,
    },
    /// What [`super::Action::CountStacks`] asked for.
    CountedStacks {
        /// Which DVIPA.
        dvipa: Dvipa,
        /// How many connections the CRT has to it, of each stack that has some.
        connections: Vec<(StackIndex, u64)>,
    },
    /// An operator: others shall own what this stack owns, because it is to end; `false`: it stays.
    Leave(bool),
    /// [`super::Action::Retire`] is done: nothing names these numbers, and they can be given again.
    Vacant {
        /// Of stacks.
        stacks: Vec<StackIndex>,
        /// Of DVIPAs.
        dvipas: Vec<DvipaIndex>,
    },
}

/// What a drain covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// All that the stack does.
    All,
    /// One DVIPA.
    Dvipa(Dvipa),
    /// One service.
    Service(Service),
}
