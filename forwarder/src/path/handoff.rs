//! Connections that are being handed over to an unmodified listener: each of their packets carries the handoff option in
//! its GUE header, until the target's agent says that its kernel has made the connection.

use std::collections::HashMap;

use super::ends::AnyKey;
use crate::crt::{KeyV4, KeyV6};

/// Bytes of a handoff option.
pub(crate) const OPTION_BYTES: usize = model::handoff::BYTES;

/// The options of all connections in [`State::HandingOver`](crate::crt::State::HandingOver). An immutable snapshot: a change makes
/// another one. A worker that has not seen the newest drops a packet that it finds no option for; its client sends it again.
#[derive(Clone, Debug, Default)]
pub struct Handoffs(HashMap<AnyKey, [u8; OPTION_BYTES]>);

impl Handoffs {
    /// These and one more, or one changed.
    #[must_use]
    pub fn with(&self, key: impl Into<AnyKey>, option: [u8; OPTION_BYTES]) -> Self {
        let mut options = self.0.clone();
        options.insert(key.into(), option);
        Self(options)
    }

    /// These without one; `None` if it is not there.
    #[must_use]
    pub fn without(&self, key: impl Into<AnyKey>) -> Option<Self> {
        let key = key.into();
        self.0.get(&key)?;
        let mut options = self.0.clone();
        options.remove(&key);
        Some(Self(options))
    }

    /// A connection's option.
    pub(crate) fn option(&self, key: AnyKey) -> Option<&[u8; OPTION_BYTES]> {
        self.0.get(&key)
    }
}

impl From<KeyV4> for AnyKey {
    fn from(key: KeyV4) -> Self {
        AnyKey::V4(key)
    }
}

impl From<KeyV6> for AnyKey {
    fn from(key: KeyV6) -> Self {
        AnyKey::V6(key)
    }
}
