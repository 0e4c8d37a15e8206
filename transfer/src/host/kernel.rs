//! What the host's machine needs of the host: its kernel, its notes, its applications. Each call is done when it returns.
//!
//! A process can be killed between any two of these calls, and in none: an implementation that does two things in one says why
//! nothing can come between them.

use std::time::{Duration, Instant};

use model::control_socket::RequestId;
use model::handoff::Token;
use model::message::OrderId;
use model::transfer::{FromHost, Reason, TransferId, Why};
use model::{Connection, StackName};

use super::settling::{Activity, Stand};
use crate::{giving, taking};

/// One application's control socket. Not used twice while the agent runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ApplicationId(pub u64);

/// Who wants to know what became of a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Asker {
    /// An application, with this request.
    Application(ApplicationId, RequestId),
    /// An operator, through the routing stack.
    Operator(Order),
    /// Nobody any more.
    Nobody,
}

/// Where a connection's socket was found. Unlike a descriptor it does not keep the socket open when its process closes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// The process that has it.
    pub process: u32,
    /// Its number there.
    pub descriptor: i32,
}

/// An operator's order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Order {
    /// What its answer names; routing stacks without answers give none.
    pub id: Option<OrderId>,
    /// Where the socket is.
    pub place: Place,
    /// For so long neither side must have said anything; `None`: the server must be seen to be between two answers.
    pub quiet: Option<Duration>,
    /// The client's next byte must be the one of this sequence number.
    pub next: Option<u32>,
}

/// A descriptor that the agent has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Handle {
    /// It is kept for this connection.
    Kept(Connection),
    /// It came with an application's request.
    Passed(ApplicationId, RequestId),
}

/// How the packets of a connection are kept away from this host's kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Away {
    /// It is being moved.
    Frozen,
    /// It is being moved, and the kernel still sends again what the client has not acknowledged: only its acknowledgment of
    /// everything makes the connection elsewhere.
    Deaf,
    /// It is elsewhere. A SYN of the same addresses and ports begins another connection and is let through.
    Departed,
}

/// What outlives the agent's process, in one write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Note<'a> {
    /// A connection is about to be frozen here, and is given up at this time at the latest. Replaces what was noted of it in a
    /// former transfer from here.
    Leaving(&'a giving::Note, Instant),
    /// A socket is about to be restored; void once the agent is gone.
    Prepared(&'a taking::Note),
    /// What was prepared is activated: the decision.
    Active(&'a taking::Note),
    /// A packet may make the connection.
    Admitted(&'a taking::Note),
    /// One has.
    Made(TransferId),
    /// None may any more.
    Barred(TransferId),
}

/// What a note is of: there is one of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    /// A connection that leaves.
    Leaving(Connection),
    /// A transfer to this host. What is barred stays noted for as long as a packet may live.
    Coming(TransferId),
}

/// Bytes that nobody else has any more: they outlive the agent until they are in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kept {
    /// Those that the client has sent.
    Unread,
    /// Those that it is to be sent.
    Unsent,
}

/// Where the search among all processes has found a connection's socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Found {
    /// In a process: a descriptor of it is kept for the connection.
    Here,
    /// On its way to one.
    InFlight,
    /// There is none.
    Nowhere,
}

/// A dumped socket.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Dump {
    /// As the target's agent reads it.
    pub socket: Vec<u8>,
    /// How much is in it.
    pub queues: Queues,
}

/// What is in a dumped socket, as far as it decides about a move.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Queues {
    /// The sequence number of the client's next byte.
    pub next: u32,
    /// Bytes that the server has not read.
    pub unread: usize,
    /// Bytes that the client has not acknowledged, those that were never sent included.
    pub unacknowledged: usize,
    /// Bytes that were never sent.
    pub unsent: usize,
    /// Both directions are open.
    pub is_whole: bool,
    /// The server has closed its direction.
    pub is_closed: bool,
}

/// What a dump that has come brings along.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Arrival {
    /// How many bytes (a FIN is none) the kernel is to be given of the client's, if anything at all.
    pub unread: Option<usize>,
    /// Bytes are to be given to the kernel that it can't be given before the connection is active.
    pub has_unsent: bool,
}

/// Why a socket can't be restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotRestored {
    /// A connection of the same addresses and ports is here: it goes on.
    pub is_here: bool,
    /// In the kernel's words.
    pub said: String,
}

/// What has become of an admission that was to be void.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Voided {
    /// It is void: no packet has claimed it, nor will.
    Void,
    /// A packet has claimed it, and no other will: once [`Kernel::await_claims`] is over, the connection is made or never will be.
    Claimed,
    /// Its connection has begun here.
    Made,
}

/// The host that a machine works on. What fails and is not returned is reported where it fails: the machine can't do anything about
/// it.
pub trait Kernel {
    /// Tells a routing stack.
    fn send(&mut self, to: StackName, message: FromHost);
    /// Tells who asked that the connection has moved.
    fn moved(&mut self, asker: Asker, connection: &Connection);
    /// Tells who asked that the connection stays, and why. What came with the request is given up.
    fn stays(&mut self, asker: Asker, connection: &Connection, why: &Why);
    /// Answers an application that claims a connection: its descriptor is given back, or disconnected.
    fn claimed(&mut self, application: ApplicationId, request: RequestId, is_its: bool);

    /// Notes. No error: a restarted agent will know.
    ///
    /// # Errors
    /// What the system says.
    fn note(&mut self, note: Note<'_>) -> Result<(), String>;
    /// Erases a note, if there is one.
    fn erase(&mut self, of: Subject);
    /// Keeps the bytes of a dump that was [read](Kernel::read).
    ///
    /// # Errors
    /// What the system says.
    fn keep(&mut self, transfer: TransferId, kept: Kept, socket: &[u8]) -> Result<(), String>;
    /// They are in the kernel, or never will be.
    fn unkeep(&mut self, transfer: TransferId, kept: Kept);
    /// Sweeps away notes and entries whose time is over.
    fn sweep(&mut self);

    /// Keeps the packets of a connection away, for at most so long; replaces what was said of it before.
    ///
    /// # Errors
    /// What the kernel says.
    fn keep_away(&mut self, connection: &Connection, how: Away, at_most: Duration) -> Result<(), String>;
    /// Lets them flow.
    fn let_flow(&mut self, connection: &Connection);
    /// How they are kept away now, if they are.
    ///
    /// # Errors
    /// What the kernel says.
    fn away(&mut self, connection: &Connection) -> Result<Option<Away>, String>;

    /// The descriptor that came with a request is kept for its connection from now on.
    fn hold(&mut self, application: ApplicationId, request: RequestId, connection: &Connection);
    /// Keeps a descriptor of a connection that is at this place.
    ///
    /// # Errors
    /// Its server has it no longer.
    fn hold_found(&mut self, connection: &Connection, place: Place) -> Result<(), String>;
    /// Looks for a connection's socket in all processes.
    fn find(&mut self, connection: &Connection) -> Found;
    /// Closes a descriptor.
    fn release(&mut self, handle: Handle);
    /// Takes the socket's connection away from everybody who has it, without a packet, and closes the descriptor.
    fn disconnect(&mut self, handle: Handle);
    /// Puts a socket into repair mode, if it is not in that.
    fn silence(&mut self, connection: &Connection);
    /// Whether it is in that.
    ///
    /// # Errors
    /// What the kernel says.
    fn is_silent(&mut self, handle: Handle) -> Result<bool, String>;
    /// How many bytes the client has not acknowledged.
    fn unacknowledged(&mut self, handle: Handle) -> u32;
    /// What server and client have been doing, and where they stand.
    ///
    /// # Errors
    /// Why that can't be seen.
    fn look(&mut self, handle: Handle) -> Result<(Activity, Stand), Why>;
    /// Has the client send a packet that acknowledges all that it has.
    ///
    /// # Errors
    /// What the kernel says.
    fn prompt(&mut self, connection: &Connection) -> Result<(), String>;
    /// Dumps the kept socket and leaves it in repair mode.
    ///
    /// # Errors
    /// Why that can't be done; the socket is as it was.
    fn dump(&mut self, connection: &Connection) -> Result<Dump, Why>;
    /// The kept socket leaves repair mode.
    fn thaw(&mut self, connection: &Connection);
    /// Wakes the silent socket of a connection that a former run has activated, as far as that had not, with its unsent bytes.
    /// Whether it is awake.
    fn finish(&mut self, handle: Handle, transfer: TransferId) -> bool;
    /// Closes a connection of which nobody has a descriptor; its client is told.
    fn destroy(&mut self, connection: &Connection);

    /// Offers a connection to the application that it is for.
    ///
    /// # Errors
    /// Why it is not offered.
    fn offer(
        &mut self,
        transfer: TransferId,
        connection: &Connection,
        job: Option<&str>,
        state: &[u8],
    ) -> Result<(), Reason>;
    /// Reads a dump that has come.
    ///
    /// # Errors
    /// What is wrong with it.
    fn read(&mut self, note: &taking::Note, socket: &[u8]) -> Result<Arrival, String>;
    /// Stateful filters of this host let the connection's packets through.
    ///
    /// # Errors
    /// What the kernel says.
    fn track(&mut self, connection: &Connection) -> Result<(), String>;
    /// Restores the socket that was [read](Kernel::read), in repair mode.
    ///
    /// # Errors
    /// [`NotRestored`]: nothing of it is here.
    fn restore(&mut self, transfer: TransferId) -> Result<(), NotRestored>;
    /// Puts the silent restored socket into its application's control socket; a second descriptor stays.
    ///
    /// # Errors
    /// Why it is not passed.
    fn pass(
        &mut self,
        transfer: TransferId,
        connection: &Connection,
        job: Option<&str>,
        state: &[u8],
    ) -> Result<(), Reason>;
    /// Wakes the restored socket and gives it to its application.
    fn activate(&mut self, transfer: TransferId, connection: &Connection);
    /// Closes the restored socket silently, if there is one, and tells the application, if it was asked, that the offer is void.
    fn discard(&mut self, transfer: TransferId);

    /// A socket of these addresses is here.
    ///
    /// # Errors
    /// What the kernel says.
    fn is_here(&mut self, connection: &Connection) -> Result<bool, String>;
    /// Draws a token: a packet that has it may make the connection from now on. A former admission is void.
    ///
    /// # Errors
    /// What the kernel says.
    fn admit(&mut self, transfer: TransferId, connection: &Connection) -> Result<Token, String>;
    /// No packet that comes from now on makes the connection: in one step with the packets' own claims.
    ///
    /// # Errors
    /// What the kernel says.
    fn void(&mut self, connection: &Connection) -> Result<Voided, String>;
    /// Whether a packet has made the connection.
    ///
    /// # Errors
    /// What the kernel says.
    fn is_made(&mut self, connection: &Connection) -> Result<bool, String>;
    /// Whether a packet has claimed the admission without making the connection so far.
    fn is_claimed(&mut self, connection: &Connection) -> bool;
    /// The packets that had claimed these transfers' admissions get through, while everything else goes on; then
    /// [`Host::claims_are_through`](super::Host::claims_are_through) is called.
    fn await_claims(&mut self, transfers: Vec<TransferId>);
    /// Another packet may claim what one has that was dropped.
    fn reopen(&mut self, connection: &Connection);
    /// Nobody has to know of the admission any more.
    fn forget_admission(&mut self, connection: &Connection);
    /// Gives the kernel what it takes now of the bytes that were kept; whether it has everything, or the connection has ended.
    fn give(&mut self, transfer: TransferId) -> bool;
    /// It has not taken all for a long time.
    fn takes_nothing(&mut self, connection: &Connection);
}
