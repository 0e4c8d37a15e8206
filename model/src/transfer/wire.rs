//! The kinds of transfer messages in a frame.

use minicbor::{Decode, decode};

use super::TransferMessage;
use crate::codec::body_of;

macro_rules! kinds {
    ($($number:literal $variant:ident,)+) => {
        impl TransferMessage {
            /// Writes the body behind the frame's header, and says the kind.
            pub(crate) fn encode(&self, frame: &mut Vec<u8>) -> u16 {
                match self { $(Self::$variant(m) => body_of($number, m, frame),)+ }
            }

            /// The message with this kind; `None` if the kind is none of these.
            pub(crate) fn decode(kind: u16, body: &[u8]) -> Option<Result<Self, decode::Error>> {
                fn whole<'b, T: Decode<'b, ()>>(
                    body: &'b [u8],
                    wrap: fn(T) -> TransferMessage,
                ) -> Result<TransferMessage, decode::Error> {
                    minicbor::decode::<T>(body).map(wrap)
                }
                match kind { $($number => Some(whole(body, Self::$variant)),)+ _ => None }
            }

            /// Its name in logs and counters.
            pub fn word(&self) -> &'static str {
                match self { $(Self::$variant(_) => stringify!($variant),)+ }
            }
        }
    };
}

kinds! {
    16 Abilities,
    17 Prepare,
    18 Refuse,
    19 Freeze,
    20 Part,
    21 Abandon,
    22 Doubt,
    23 Offer,
    24 Prepared,
    25 Commit,
    26 Abort,
    27 Void,
    28 Active,
    29 Aborted,
    30 Released,
    31 Lost,
    32 Done,
    33 Settled,
    34 Agreed,
    35 Consult,
    36 State,
}

#[cfg(test)]
mod tests;
