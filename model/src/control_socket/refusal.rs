//! Why the agent does not do what an application asks.

use std::fmt;
use std::ops::RangeInclusive;

use minicbor::decode::Error as CborError;
use minicbor::encode::Write;
use minicbor::{Decode, Decoder, Encode, Encoder};

use crate::Blame;
use crate::transfer::Reason;

/// The numbers of [`Refusal::Transfer`]: the first one more than this is the reason with number 1.
const TRANSFERS: RangeInclusive<u16> = 1000..=1999;

/// Declares each refusal once (number 10 was `taken`): its number on the wire, its name, who is at fault, and its sentence, which ends with what
/// to do next.
macro_rules! refusals {
    ($($(#[$doc:meta])* $number:literal $variant:ident $name:literal $blame:ident $sentence:literal;)*) => {
        /// Why something was not done.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Refusal {
            $($(#[$doc])* $variant,)*
            /// The transfer was given up for this reason, and the connection goes on where it is.
            Transfer(Reason),
            /// A number that this software does not know: the agent is newer.
            Other(u16),
        }

        impl Refusal {
            /// All but the reasons of transfers ([`Reason::ALL`]).
            pub const ALL: &[Refusal] = &[$(Refusal::$variant),*];

            /// The number on the wire and in the C library.
            pub fn number(self) -> u16 {
                match self {
                    $(Refusal::$variant => $number,)*
                    Refusal::Transfer(reason) => TRANSFERS.start().saturating_add(reason.number()),
                    Refusal::Other(number) => number,
                }
            }

            /// The refusal with this number.
            pub fn from_number(number: u16) -> Self {
                match number {
                    $($number => Refusal::$variant,)*
                    _ if TRANSFERS.contains(&number) => {
                        Refusal::Transfer(Reason::of_number(number.saturating_sub(*TRANSFERS.start())))
                    }
                    _ => Refusal::Other(number),
                }
            }

            /// A word for logs, metrics and programs.
            pub fn name(self) -> &'static str {
                match self {
                    $(Refusal::$variant => $name,)*
                    Refusal::Transfer(reason) => reason.name(),
                    Refusal::Other(_) => "other",
                }
            }

            /// Who has to do something.
            pub fn blame(self) -> Blame {
                match self {
                    $(Refusal::$variant => Blame::$blame,)*
                    Refusal::Transfer(reason) => reason.blame(),
                    Refusal::Other(_) => Blame::Us,
                }
            }

            /// What happened and what to do next.
            pub fn sentence(self) -> &'static str {
                match self {
                    $(Refusal::$variant => $sentence,)*
                    Refusal::Transfer(reason) => reason.sentence(),
                    Refusal::Other(_) => "The agent gives a reason that this library is too old to know: update the library.",
                }
            }
        }
    };
}

refusals! {
    /// It has no registration for the service.
    1 NotRegistered "not_registered" Application "The connection's DVIPA and port are not among those that this application registered for: register for them.";
    /// No connection came with the request.
    2 NoConnection "no_connection" Application "What was passed is not a connected TCP socket with a DVIPA: pass the socket that accept() gave.";
    /// The state is longer than allowed.
    3 StateTooLong "state_too_long" Application "The application state is longer than 16 MiB: send less, or a reference to it.";
    /// The state can still be changed.
    4 StateNotSealed "state_not_sealed" Application "The application state is not in memory that is sealed against changes: use the library, or add F_SEAL_WRITE, F_SEAL_GROW and F_SEAL_SHRINK.";
    /// Bytes that the client has not acknowledged.
    5 Unacknowledged "unacknowledged" Application "The client has not acknowledged everything that was sent, as it has not just after an answer: ask again with a wait, or let the bytes be carried.";
    /// The request contradicts itself or an earlier one.
    6 Invalid "invalid" Application "The request is malformed, or its number was used before: use the library of this version.";
    /// Too many requests, registrations or offers at once.
    7 TooMany "too_many" Application "This application has as many transfers open as it may (512), or as many registrations or subscriptions (64): wait for answers before asking for more.";
    /// The application does not read what it is told.
    8 Stuck "stuck" Application "The application did not read its control socket, which was closed: wait for offers and answers in a thread of their own.";
    /// It opened a socket and did not say who it is.
    9 Silent "silent" Application "The application opened a control socket and did not register: register within ten seconds.";
    /// Something about the connection can't be moved.
    11 Immovable "immovable" Application "The connection has something that can never move, and goes on where it is: see the detail, and serve it here.";
    /// The connection is being moved.
    12 AlreadyMoving "already_moving" Application "This connection is being moved already: wait for the answer to the first request.";
    /// More bytes are given back than can be.
    13 GivenBack "given_back" Application "More bytes are given back than were read from this socket, or than 32 KiB: give back only the last bytes that were read, or put them into the state.";
    /// A transfer goes to another stack.
    14 SameStack "same_stack" Application "The connection is on the chosen stack already: choose a target on another one.";
    /// The job is another user's.
    15 JobTaken "job_taken" Application "An application of another user has this job name for this DVIPA and port: register under another name.";
    /// Something about the connection can't be moved now.
    16 NotNow "not_now" Application "The connection can't move as it is now, and goes on where it is: see the detail, and ask again when that has passed.";
    /// What came with a registration is no listener.
    17 NoListener "no_listener" Application "What was passed as the listener is not a TCP socket that listens on this DVIPA, or on any address, and on one of the registration's ports: call listen() before registering.";
    /// No such target.
    20 UnknownTarget "unknown_target" Peer "There is no such target now: choose one out of the list of targets.";
    /// The target said no.
    21 Rejected "rejected" Peer "The target application rejected the connection, which goes on where it is: try the next target, or answer the client.";
    /// The target did not answer.
    22 NoAnswer "no_answer" Peer "The target application did not answer within 5 s, and the connection goes on where it is: try the next target.";
    /// The connection has ended.
    23 Ended "ended" Peer "The connection ended before it was moved: close it.";
    /// The application has too many offers that it did not answer.
    24 TargetBusy "target_busy" Peer "The target has 512 connections offered or given that it has not taken yet: try the next target, or later.";
    /// The application does not look at offers.
    25 TakesNoOffers "takes_no_offers" Peer "The application takes no offers, and the connection goes on where it is: have it wait for offers, or choose another target.";
    /// A given connection was not taken.
    26 NotTaken "not_taken" Application "A connection that was given to this application was not taken within 60 s, and was closed: take connections as they come.";
    /// The application that was asked has ended.
    27 Gone "gone" Peer "The target application has ended, and the connection goes on where it is: try the next target.";
    /// Nothing to choose from.
    28 NoTarget "no_target" Peer "No target can be chosen now: none of these applications is there, or those that are drain, have the weight 0, are not for this client by a policy, or were to be left out: wait until the targets change, or answer the client.";
    /// The DVIPA is not content-routed.
    30 NotContentRouted "not_content_routed" Operator "This DVIPA and port is distributed, but not by content: set content_routed = true in its [[vipadynamic.vipadistribute]], or register for one that is.";
    /// The user may not use the control socket.
    31 NotAllowed "not_allowed" Operator "This user may not use the control socket: add it to `users` in [applications] of agent.toml.";
    /// A limit of the agent.
    32 AgentFull "agent_full" Operator "The limit of control sockets (256, 128 of a user) or of the agent's open files is reached: stop applications that are not needed, or raise its limit of open files.";
    /// No rule lets the user register for this.
    33 NotPermitted "not_permitted" Operator "No [[application]] of agent.toml lets this user register for this DVIPA, port, job and role: add the one of the detail.";
    /// The port is not distributed.
    34 NotDistributed "not_distributed" Operator "No routing stack distributes this port of the DVIPA: add it to a [[vipadynamic.vipadistribute]], or register for one that is.";
    /// The address is none of the cluster's.
    35 NotADvipa "not_a_dvipa" Operator "This address is no DVIPA of the cluster: register for one (`baton vipa` shows them), or define it.";
    /// No session with the routing stack.
    40 NoRoutingStack "no_routing_stack" Us "The routing stack can't be reached now, and the connection goes on where it is: try again later.";
    /// The agent is ending.
    41 Ending "ending" Us "The agent is ending: connect again when it is back.";
    /// What was offered, or asked about, is no more.
    42 Aborted "aborted" Us "The offer was withdrawn, or nothing is known of the transfer, and the connection goes on where it is: try again, or wait for the next offer.";
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.sentence())
    }
}

impl<C> Encode<C> for Refusal {
    fn encode<W: Write>(
        &self,
        e: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.u16(self.number())?;
        Ok(())
    }
}

impl<'b, C> Decode<'b, C> for Refusal {
    fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, CborError> {
        d.u16().map(Self::from_number)
    }
}
