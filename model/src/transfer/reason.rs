//! Why a transfer did not take place: each reason declared once, with its sentence.

use minicbor::decode::Error as CborError;
use minicbor::encode::Write;
use minicbor::{Decode, Decoder, Encode, Encoder};

use crate::Blame;

macro_rules! reasons {
    ($($blame:ident => { $($variant:ident $number:literal $name:literal $sentence:literal,)+ })+) => {
        /// Why a transfer did not take place, or what became of the connection. Counter, metric label and log word.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason { $($(#[doc = $sentence] $variant,)+)+ }

        impl Reason {
            /// Every reason, in the order of displays.
            pub const ALL: &'static [Reason] = &[$($(Reason::$variant,)+)+];

            /// The name in snake_case.
            pub fn name(self) -> &'static str {
                match self { $($(Reason::$variant => $name,)+)+ }
            }

            /// What it means, and what can be done.
            pub fn sentence(self) -> &'static str {
                match self { $($(Reason::$variant => $sentence,)+)+ }
            }

            /// Who can mend it.
            pub fn blame(self) -> Blame {
                match self { $($(Reason::$variant)|+ => Blame::$blame,)+ }
            }

            /// The number on the wire.
            pub(crate) fn number(self) -> u16 {
                match self { $($(Reason::$variant => $number,)+)+ }
            }

            /// The reason with this number; a future one is [`Reason::Other`].
            pub(crate) fn of_number(number: u16) -> Self {
                match number { $($($number => Reason::$variant,)+)+ _ => Reason::Other }
            }
        }
    };
}

reasons! {
    Client => {
        Ended 1 "ended" "The connection ended before it could move.",
        NotIdle 40 "not_idle" "A request or an answer was under way; try again when the connection is idle.",
    }
    Operator => {
        NotATarget 2 "not_a_target" "No application listens for this service on the chosen stack; choose one out of the targets.",
        TargetDrains 60 "target_drains" "An operator drains the chosen stack, and nothing is transferred to it; choose another target.",
        SameStack 3 "same_stack" "The connection is on the chosen stack already.",
        NeedsControlSocket 4 "needs_control_socket" "Application state or consent needs a target application with a control socket.",
        NoWay 5 "no_way" "The target's kernel lacks what this move takes: Linux 6.9 for a listener, CONFIG_CHECKPOINT_RESTORE for an application with a control socket; the status of its agent says why.",
        Busy 6 "busy" "This connection is moving already.",
        Encrypted 44 "encrypted" "The connection is encrypted (TLS), and no other server has its keys: it ends where it is.",
        AnotherProtocol 45 "another_protocol" "The server does not speak HTTP/1.x, so that it can't be seen whether it owes an answer: the connection stays, unless --quiet says after which silence it does not.",
        Unseen 46 "unseen" "The last answer was not seen from its beginning, so that it can't be seen whether it is whole: the connection moves after its next one, or with --quiet.",
        NoSocket 41 "no_socket" "No process on its stack has the connection's socket: it waits to be accepted, or has ended.",
        AlreadyHere 48 "already_here" "The target's host has a socket of the same addresses and ports: choose another target, or try again in a minute, when the trace of one that has ended there (TIME-WAIT) is gone.",
        TooLarge 7 "too_large" "The application state or the socket's queues are larger than a transfer carries.",
    }
    Peer => {
        Rejected 8 "rejected" "The target application rejected the connection.",
        TakesNoOffers 47 "takes_no_offers" "The application takes no offers; have it wait for offers, or choose another target.",
        OfferTimedOut 9 "offer_timed_out" "The target application did not answer the offer in time.",
        ApplicationGone 10 "application_gone" "The target application closed its control socket.",
        NotRestored 11 "not_restored" "The target's kernel could not restore the connection.",
        NotPassed 12 "not_passed" "The connection could not be passed to the target application.",
        TargetLost 13 "target_lost" "The session with the target's agent broke before it was ready.",
        SourceLost 14 "source_lost" "The session with the source's agent broke before it had sent the connection.",
        TimedOut 15 "timed_out" "The other stacks did not answer in time; the connection stays.",
        OtherLedger 16 "other_ledger" "The target's host was restarted in the middle.",
        OutcomeLost 17 "outcome_lost" "The target's host died while it took the connection over; no stack has it any more.",
        Unknown 18 "unknown" "The other stack knows nothing of this transfer.",
        GivenBack 43 "given_back" "The application gave more bytes back than it had read.",
        Unanswered 42 "unanswered" "The connection's agent did not say what became of the order: it is of an older version, and its log says it.",
    }
    Us => {
        NotDumped 19 "not_dumped" "This connection can't be dumped: something of it can't move.",
        NotDumpedNow 49 "not_dumped_now" "This connection can't be dumped as it is now; try again when that has passed.",
        Cancelled 20 "cancelled" "The application took the request back.",
        NoRoutingStack 21 "no_routing_stack" "No routing stack of this address can be reached now; try again.",
        TooMany 22 "too_many" "Too many transfers are under way; try again.",
        Malformed 23 "malformed" "The parts of the connection do not fit together.",
        NotOurs 24 "not_ours" "This stack does not own the address any more; the agent will ask the one that does.",
        Other 0 "other" "A reason that this version does not know.",
    }
}

/// The most characters that a peer's or an application's own words may have.
const MAX_SAID: usize = 200;

/// A reason, and what the application or the kernel said about it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Why {
    /// The reason.
    #[n(0)]
    pub reason: Reason,
    /// In whose own words, at most 200 characters.
    #[cbor(n(1), decode_with = "at_most_max")]
    pub said: Option<String>,
}

impl Why {
    /// A reason with the words of who gave it.
    pub fn new(reason: Reason, said: &str) -> Self {
        Self { reason, said: Some(said.chars().take(MAX_SAID).collect()) }
    }
}

impl From<Reason> for Why {
    fn from(reason: Reason) -> Self {
        Self { reason, said: None }
    }
}

impl std::fmt::Display for Why {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.reason.sentence())?;
        match &self.said {
            Some(said) => write!(f, " ({said})"),
            None => Ok(()),
        }
    }
}

fn at_most_max<C>(d: &mut Decoder<'_>, c: &mut C) -> Result<Option<String>, CborError> {
    let text: Option<&str> = Decode::decode(d, c)?;
    Ok(text.map(|text| text.chars().take(MAX_SAID).collect()))
}

impl<C> Encode<C> for Reason {
    fn encode<W: Write>(
        &self,
        e: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.u16(self.number())?.ok()
    }
}

impl<'b, C> Decode<'b, C> for Reason {
    fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, CborError> {
        Ok(Reason::of_number(d.u16()?))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_reason_has_its_own_number_name_and_sentence() {
        let numbers: BTreeSet<_> = Reason::ALL.iter().map(|r| r.number()).collect();
        let names: BTreeSet<_> = Reason::ALL.iter().map(|r| r.name()).collect();
        assert_eq!((numbers.len(), names.len()), (Reason::ALL.len(), Reason::ALL.len()));
        for reason in Reason::ALL {
            assert_eq!(Reason::of_number(reason.number()), *reason);
            assert!(reason.sentence().ends_with('.'), "{}", reason.name());
        }
    }

    #[test]
    fn a_reason_of_the_future_is_other_and_long_words_are_cut() {
        let bytes = minicbor::to_vec((9999u16, "x".repeat(5000))).unwrap();
        let why: Why = minicbor::decode(&bytes).unwrap();
        assert_eq!((why.reason, why.said.map(|s| s.len())), (Reason::Other, Some(MAX_SAID)));
    }
}
