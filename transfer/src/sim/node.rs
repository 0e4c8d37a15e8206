//! The routing node: its process with machine and CRT, which die together.

use std::collections::VecDeque;

use model::Epoch;
use model::handoff::{BYTES, HandoffOption, Token};

use super::kernel::{Packet, Socket};
use crate::routing::{Action, Routing};

/// Packets that are held for a frozen connection.
const HELD: usize = 2;

/// The handoff option as it goes over the wire: a target sees nothing else.
pub(super) type Handoff = [u8; BYTES];

/// The handoff option of a dumped socket.
pub(super) fn option_of(socket: &Socket, token: Token) -> Handoff {
    let option = HandoffOption {
        token,
        start: socket.read.into(),
        sent: socket.written.into(),
        mss: 1460,
        scales: None,
        sack: false,
        timestamps: None,
        ecn: false,
    };
    option.encode()
}

/// A CRT entry.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct CrtEntry {
    /// The host that has the connection.
    pub(super) owner: usize,
    pub(super) frozen: bool,
    pub(super) handoff: Option<Handoff>,
    pub(super) held: Vec<Packet>,
}

/// A packet on its way to a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Forwarded {
    pub(super) host: usize,
    pub(super) flow: usize,
    pub(super) packet: Packet,
    pub(super) handoff: Option<Handoff>,
}

/// The process.
#[derive(Clone, Debug, Hash)]
pub(super) struct Node {
    pub(super) epoch: Epoch,
    pub(super) machine: Routing,
    pub(super) crt: Vec<Option<CrtEntry>>,
    pub(super) pending: VecDeque<Action>,
}

impl CrtEntry {
    pub(super) fn of(owner: usize) -> Self {
        Self { owner, frozen: false, handoff: None, held: Vec::new() }
    }
}

impl Node {
    /// A packet of the client arrives; what is forwarded, if anything.
    pub(super) fn forward(&mut self, flow: usize, packet: Packet) -> Option<Forwarded> {
        let entry = self.crt[flow].as_mut()?;
        if entry.frozen {
            if entry.held.len() < HELD {
                entry.held.push(packet);
            }
            return None;
        }
        Some(Forwarded { host: entry.owner, flow, packet, handoff: entry.handoff })
    }

    /// What was held, on its way to whom the entry names.
    pub(super) fn let_go(&mut self, flow: usize) -> Vec<Forwarded> {
        let Some(entry) = self.crt[flow].as_mut() else { return Vec::new() };
        entry.frozen = false;
        let (host, handoff) = (entry.owner, entry.handoff);
        entry.held.drain(..).map(|packet| Forwarded { host, flow, packet, handoff }).collect()
    }
}
