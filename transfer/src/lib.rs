//! How a connection moves from one stack to another: three pure machines, that of the host that two of them work on, and the
//! argument that they are right.
//!
//! # Who decides
//! The target's agent, by activating. COMMIT is the permission to do so, and only for the run of the agent that was made the
//! offer: a later run takes neither. What the target has decided it notes in its [ledger](model::transfer::Ledger) before it
//! acts, so that a restarted agent says the same.
//!
//! ```text
//! source            routing stack                target
//!   │ Prepare ─────────►│ checks the target         │
//!   │◄──────── Consult  │ Offer ───────────────────►│
//!   │ State… ──────────►│ State… ──────────────────►│ asks its application
//!   │                   │◄────────────────── Agreed │
//!   │◄───────── Freeze  │ holds the client's packets│
//!   │ freezes, dumps    │                           │
//!   │ Part… ───────────►│ Part…, Commit ───────────►│ restores silently, passes, notes, activates   ← the decision
//!   │                   │◄────────────────── Active │
//!   │◄─────── Released  │ switches the CRT entry    │
//!   │ Done ────────────►│ Settled ─────────────────►│ forgets its note
//! ```
//!
//! While the target's application thinks, nothing is held, frozen or noted: the connection goes on at the source, and NEWCONN and
//! TERMCONN tell of it. What the application is to read of its counterpart, the state, is sent ahead. If the connection ends
//! meanwhile, or anybody of the three is lost, the offer is withdrawn and that is all. An agreement holds for a bounded time
//! ([`limits::PART`]). An application that is not asked has nothing to think about: Freeze follows Prepare at once, the Offer
//! goes out while the source dumps, and the state moves with the socket.
//!
//! With [injection](model::transfer::Way::Inject) the target answers the parts with Prepared, and packets are the
//! permission: the routing stack points the CRT entry at the target with the handoff option on, and the target decides when its
//! kernel makes the connection from such a packet. What lets a packet do that is the token in its option, 64 random bits that the
//! target's admission gave out with Prepared, and nothing else: a late option of a former hand-over of the same connection, of a
//! former run or of a former routing stack has another one. A packet claims an admission or the target voids it, in one step and
//! never both; what a packet has claimed is void only when the kernel has dropped that packet, and no second packet claims it
//! before. What the client had sent before, the target's agent gives to its kernel afterwards: that is noted before the connection
//! can be made, and no part of the decision.
//!
//! # When the source may thaw
//! A frozen source never thaws because time has passed. It thaws
//!
//! 1. alone, if nothing of the connection has left its host: then nobody else can have it;
//! 2. on Aborted, which a routing stack says only if it gave this transfer itself and has not sent Commit (nor the handoff
//!    option) and never will, or if the target said Void out of the very ledger that was named in Freeze. A target says
//!    Void only of a transfer that its ledger does not hold, and afterwards takes no Offer of it: the run that says so
//!    remembers, and later ones were not meant. Of an injection the routing stack permits only the first token that it was
//!    told.
//!
//! A routing stack that did not give the transfer itself (restarted, or a backup that took over) always asks the target:
//! *ACTIVE wins over FROZEN*. What of a target that does not answer any more? If its host lives, its agent comes back and
//! answers. If it comes back with another ledger, its host died with what it had decided: it may have answered the client
//! with bytes that the source does not know of, so that thawing could forge the stream, and the connection is given up
//! ([`OutcomeLost`](model::transfer::Reason::OutcomeLost)). If it never comes back, the source gives up after
//! [`limits::IN_DOUBT`], when the client has done so too; and by the time that its note says, whichever run of its agent reads it,
//! because the target forgets after [`limits::MEMORY`].
//!
//! # What a kill costs
//! | killed | when | cost |
//! | --- | --- | --- |
//! | anybody but the source's application | while the target's application is asked | the transfer: the connection goes on at the source |
//! | routing stack | any time | a pause until it is back and both agents have reported |
//! | target's agent | before it activates | the transfer: the connection stays at the source |
//! | target's agent | later | nothing: its application, or the kernel for it, has the descriptor before |
//! | target's agent | after its kernel made the connection from a packet | a pause until it is back: it has yet to give the kernel what the client had sent |
//! | target's application | while it is given the descriptor, or later | the connection, as with any server |
//! | source's application | any time | nothing, if the target takes the connection: its agent has a descriptor too; else the connection, as with any server |
//! | source's agent, application keeps its descriptor | any time | nothing |
//! | source's agent, application gave its last descriptor away | unless the target activates | the connection: its only copy |
//! | target's host | between Commit (or the first packet with the option) and Active | the connection |
//! | target's host and routing stack | in one transfer | the connection: nobody knows any more whether Commit was said |
//!
//! A last descriptor that dies with the agent before it is frozen is closed as any other, with FIN. Apart from that no
//! client sees FIN or RST from a socket that moves, and in no case has a connection two owners, or stands still because an
//! application thinks. `sim` checks it: random
//! walks with losses, late copies, early timers and several deaths; and every order of one transfer, with losses and one
//! death of each role. In a cluster each of them is killed before each step of a real one (`tests/e2e/kills.rs`).
//!
//! # Contract with the code that drives the machines
//! Actions are done in the order in which they are given; those about one connection are finished one after the other. An
//! agent keeps the connections that its machines speak for ([`Source::speaks_for`], [`Target::speaks_for`]) out of NEWCONN
//! and TERMCONN, and asks for no transfer of a connection that [`Target::unsettled`] names.
//!
//! An agent does not drive [`Source`] and [`Target`] itself: [`Host`] does, and says in which order what is done to sockets, notes and
//! packets. `sim` runs that very machine.
//!
//! In reading order: [`limits`], [`giving`] (the source's machine), [`routing`], [`taking`] (the target's), [`host`]; beneath them
//! `shell`, `timers`, `owners`, `shares`, `closed`; beside them [`halt`], for tests.

mod closed;
pub mod giving;
pub mod halt;
pub mod host;
pub mod limits;
mod owners;
pub mod routing;
mod shares;
mod shell;
pub mod taking;
mod timers;

#[cfg(test)]
mod fixture;

pub use giving::Source;
pub use host::Host;
pub use owners::Owner;
pub use routing::Routing;
pub use taking::Target;
#[cfg(test)]
mod sim;
