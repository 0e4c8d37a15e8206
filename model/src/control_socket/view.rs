//! What a routing application sees of the targets that it can choose from.

use minicbor::decode::Error as CborError;
use minicbor::encode::Write;
use minicbor::{Decode, Decoder, Encode, Encoder};

use super::Target;
use crate::message::Load;

/// Declares words with their numbers on the wire; a number of the future is `Other`.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$word_doc:meta])* $number:literal $variant:ident $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $($(#[$word_doc])* $variant,)*
            /// One that this software does not know: the routing stack is newer.
            Other,
        }

        impl $name {
            /// All, in the order of their numbers.
            pub const ALL: &[$name] = &[$($name::$variant,)* $name::Other];

            /// The word in programs and displays.
            pub fn word(self) -> &'static str {
                match self { $($name::$variant => $word,)* $name::Other => "other" }
            }

            /// The number on the wire and in the C library.
            pub fn number(self) -> u8 {
                match self { $($name::$variant => $number,)* $name::Other => u8::MAX }
            }
        }

        impl<C> Encode<C> for $name {
            fn encode<W: Write>(
                &self,
                e: &mut Encoder<W>,
                _: &mut C,
            ) -> Result<(), minicbor::encode::Error<W::Error>> {
                e.u8(self.number())?.ok()
            }
        }

        impl<'b, C> Decode<'b, C> for $name {
            fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, CborError> {
                Ok(match d.u8()? { $($number => $name::$variant,)* _ => $name::Other })
            }
        }
    };
}

words! {
    /// Whether a target is chosen, and if not, why: the first that applies.
    TargetState {
        /// It is one of those that are chosen from.
        0 Ready "ready",
        /// An operator drains it: nothing is transferred to it.
        1 Draining "draining",
        /// Its weight is 0: it gets only what is transferred to it by name.
        2 WeightZero "weight_zero",
        /// Nothing was heard of its stack for a moment: it is chosen only if no other is left.
        3 Quiet "quiet",
        /// Its server accepts none of the clients that wait: it is not chosen while enough others serve.
        4 Stalled "stalled",
        /// Its server does not answer as it should: it is not chosen while enough others do.
        5 Failing "failing",
    }
}

words! {
    /// Where a weight comes from.
    WeightFrom {
        /// Nothing says one.
        0 Equal "equal",
        /// The definition.
        1 Configured "configured",
        /// The load that the target reports.
        2 Load "load",
        /// An outside controller, until it expires.
        3 Controller "controller",
    }
}

/// One target of a service, as the routing stack sees it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct TargetView {
    /// The application.
    #[n(0)]
    pub target: Target,
    /// Whether it is chosen.
    #[n(1)]
    pub state: TargetState,
    /// Its share of new connections relative to the others', for clients that no policy is about.
    #[n(2)]
    pub weight: u16,
    /// Where the weight comes from.
    #[n(3)]
    pub weight_from: WeightFrom,
    /// Connections that its stack has, all services together, counted every second.
    #[n(4)]
    pub connections: u64,
    /// How busy its stack is, if it said so: measured every second.
    #[n(5)]
    pub load: Option<Load>,
    /// The listener of the port on its stack takes no clients, only transferred connections.
    #[n(6)]
    pub holds_accepts: bool,
}
