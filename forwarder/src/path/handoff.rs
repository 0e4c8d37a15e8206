//! Connections that are being handed over to an unmodified listener: each of their packets carries the handoff option in
//! its GUE header, until the target's agent says that its kernel has made the connection.

use std::collections::HashMap;

use model::StackIndex;

use super::datagram::Datagram;
use super::encapsulate::{self, Inner};
use super::ends::AnyKey;
use crate::crt::{KeyV4, KeyV6};
use crate::packet::Ethernet;
use crate::tables::carrier::Form;
use crate::{PacketBuffer, Reason, Tables};

/// Bytes of a handoff option.
pub(crate) const OPTION_BYTES: usize = model::handoff::BYTES;

/// The options of all connections in [`CrtState::HandingOver`](crate::crt::CrtState::HandingOver). An immutable snapshot: a change makes
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

    /// Whether this is a connection's option.
    pub fn has(&self, key: AnyKey, option: [u8; OPTION_BYTES]) -> bool {
        self.0.get(&key) == Some(&option)
    }

    /// Whether a connection has an option.
    pub(super) fn knows(&self, key: AnyKey) -> bool {
        self.0.contains_key(&key)
    }

    /// Puts the outer header of a stack and its connection's option before a frame that was made for the hand-over. It is
    /// none that was received, and is not counted here.
    ///
    /// # Errors
    /// Why it can't be sent.
    pub fn put_on<B: PacketBuffer>(
        &self,
        packet: &mut B,
        owner: StackIndex,
        tables: &Tables,
    ) -> Result<(), Reason> {
        let ethernet = Ethernet::parse(packet.bytes())?;
        let datagram = Datagram::parse(packet.bytes(), ethernet, tables)?.ok_or(Reason::NotDistributed)?;
        let (ends, _) = datagram.ends(packet.bytes())?;
        self.carry(packet, ends.key(), owner, datagram.inner(ends.hash()), tables)
    }

    /// Puts the outer header of a stack and the connection's option before a packet.
    pub(super) fn carry<B: PacketBuffer>(
        &self,
        packet: &mut B,
        key: AnyKey,
        owner: StackIndex,
        inner: Inner,
        tables: &Tables,
    ) -> Result<(), Reason> {
        let carrier = tables.handoff_carrier(owner, inner.family);
        match (self.0.get(&key), carrier) {
            (Some(option), Some(carrier)) if inner.len <= carrier.max_inner => {
                encapsulate::hand_over(packet, carrier, inner, option)
            }
            _ => Err(Reason::HandoffUnknown),
        }
    }
}

/// Why a packet was not sent with an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unsent {
    /// It would fit with so many bytes.
    TooLong { mtu: u16 },
    /// This.
    Reason(Reason),
}

/// Puts the outer header of a stack and an option before a packet.
pub(super) fn put<B: PacketBuffer>(
    packet: &mut B,
    d: &Datagram,
    hash: u16,
    (owner, option): (StackIndex, &[u8; OPTION_BYTES]),
    tables: &Tables,
) -> Result<(), Unsent> {
    let carrier = tables.handoff_carrier(owner, d.family).ok_or(Unsent::Reason(Reason::HandoffUnknown))?;
    match carrier.form {
        Form::Missing => Err(Unsent::Reason(carrier.missing)),
        _ if d.hops <= 1 => Err(Unsent::Reason(Reason::HopLimit)),
        _ if d.len > carrier.max_inner => Err(Unsent::TooLong { mtu: carrier.max_inner }),
        _ => encapsulate::hand_over(packet, carrier, d.inner(hash), option).map_err(Unsent::Reason),
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
