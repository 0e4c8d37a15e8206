//! Messages by the direction in which they go: each kind is declared once, with its number and its word.

use minicbor::decode::Error;

/// Messages that go one way.
pub trait Direction: Sized {
    /// Writes the body behind the frame's header, and says the kind.
    fn encode(&self, frame: &mut Vec<u8>) -> u16;

    /// The message of this kind; `None`: no message of this direction has it.
    fn decode(kind: u16, body: &[u8]) -> Option<Result<Self, Error>>;

    /// What messages of this kind are called; `None`: no message of this direction has it.
    fn word_of(kind: u16) -> Option<&'static str>;
}

/// What one side of a session says, and what it hears.
pub trait Side: Direction {
    /// What the other side says.
    type Other: Side<Other = Self>;
}

/// Declares the messages of a direction: its kinds, then sets of others.
macro_rules! direction {
    (
        $(#[$meta:meta])*
        pub enum $name:ident {
            $($(#[$doc:meta])* $variant:ident($body:ty) = $kind:literal $word:literal,)*
            $(; $($(#[$set_doc:meta])* $set:ident($messages:ty),)+)?
        }
    ) => {
        $(#[$meta])*
        pub enum $name {
            $($(#[$doc])* $variant($body),)*
            $($($(#[$set_doc])* $set($messages),)+)?
        }

        $($(impl From<$messages> for $name {
            fn from(messages: $messages) -> Self {
                Self::$set(messages)
            }
        })+)?

        impl $name {
            /// What it is called in logs, counters and errors.
            pub fn word(&self) -> &'static str {
                match self {
                    $(Self::$variant(_) => $word,)*
                    $($(Self::$set(m) => m.word(),)+)?
                }
            }
        }

        impl $crate::codec::Direction for $name {
            fn encode(&self, frame: &mut Vec<u8>) -> u16 {
                match self {
                    $(Self::$variant(m) => $crate::codec::body_of($kind, m, frame),)*
                    $($(Self::$set(m) => m.encode(frame),)+)?
                }
            }

            fn decode(kind: u16, body: &[u8]) -> Option<Result<Self, minicbor::decode::Error>> {
                match kind {
                    $($kind => return Some(minicbor::decode(body).map(Self::$variant)),)*
                    _ => {}
                }
                $($(if let Some(read) = <$messages>::decode(kind, body) {
                    return Some(read.map(Self::$set));
                })+)?
                None
            }

            fn word_of(kind: u16) -> Option<&'static str> {
                match kind {
                    $($kind => return Some($word),)*
                    _ => {}
                }
                None$($(.or_else(|| <$messages>::word_of(kind)))+)?
            }
        }
    };
}

pub(crate) use direction;
