//! One host's kernel, as far as connections that move can see it: sockets with repair mode, the map of connections whose
//! packets are kept away, and who holds which descriptor.
//!
//! Bytes are known by their place in the stream, so that a socket is a few numbers.

use std::time::Instant;

use model::handoff::Token;

use super::Fault;
use crate::host::Away;

/// A packet from the client, or from a routing node in its name, and what the client has received.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Packet {
    /// The byte's place; `None`: a bare ACK.
    pub(super) byte: Option<u8>,
    /// Where the packet begins in the client's stream.
    pub(super) begins: u8,
    /// How many of the server's bytes the client has.
    pub(super) ack: u8,
}

/// What the map of admissions holds of a connection. Each step is one of the kernel's: nothing comes between.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Admission {
    pub(super) token: Token,
    pub(super) state: Claim,
}

/// How far an admission is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Claim {
    /// A packet may claim it.
    Admitted,
    /// One has, and the kernel makes the connection or drops the packet; then the agent admits another.
    Claimed,
    /// No other may any more; one had.
    Closing,
    /// The connection was made.
    Made,
    /// No packet has claimed it, nor will.
    Void,
}

impl Admission {
    /// A packet with this token wants to make the connection.
    pub(super) fn claim(&mut self, token: Token, fault: Option<Fault>) -> bool {
        let is_its = token == self.token || fault == Some(Fault::OldOption);
        let is_shared = self.state == Claim::Claimed && fault == Some(Fault::SharedClaim);
        if !is_its || self.state != Claim::Admitted && !is_shared {
            return false;
        }
        if fault != Some(Fault::TornClaim) {
            self.state = Claim::Claimed;
        }
        true
    }

    /// The packet that has claimed it was dropped: another may.
    pub(super) fn reopen(&mut self) {
        if self.state == Claim::Claimed {
            self.state = Claim::Admitted;
        }
    }

    /// The agent wants that no packet makes it any more; what has become of it.
    pub(super) fn void(&mut self) -> Claim {
        self.state = match self.state {
            Claim::Admitted => Claim::Void,
            Claim::Claimed => Claim::Closing,
            state => state,
        };
        self.state
    }
}

/// A socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Socket {
    /// Repair mode: system calls fail, closing is silent. Packets that get here are still answered!
    pub(super) repair: bool,
    /// The agent has a descriptor.
    pub(super) by_agent: bool,
    /// An application has one.
    pub(super) by_application: bool,
    /// One is in an application's control socket, and no process has it.
    pub(super) in_flight: bool,
    /// How many of the client's bytes are in.
    pub(super) received: u8,
    /// How many of them the application has read.
    pub(super) read: u8,
    /// How many bytes the application has written.
    pub(super) written: u8,
    /// How many of those the client has acknowledged.
    pub(super) acknowledged: u8,
}

/// What the host does with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Kept away by the map.
    Dropped,
    /// There is no such socket: RST.
    Reset,
    /// The socket took it.
    Taken,
    /// The socket was told that bytes have arrived which it has not sent.
    Absurd,
}

/// One connection in one kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Slot {
    pub(super) socket: Option<Socket>,
    /// Whether, and why, no packet of the connection gets in, and until when: its entry of the freeze map.
    pub(super) shut: Option<(Away, Instant)>,
}

impl Socket {
    /// A socket in repair mode with these numbers, held by the agent.
    pub(super) fn restored(dump: &[u8]) -> Option<Self> {
        let [received, read, written, acknowledged] = *dump else { return None };
        let (repair, by_agent, by_application, in_flight) = (true, true, false, false);
        Some(Self { repair, by_agent, by_application, in_flight, received, read, written, acknowledged })
    }

    /// A socket that a packet has made, accepted.
    pub(super) fn made(packet: Packet) -> Self {
        let (received, written) = (packet.begins, packet.ack);
        let (repair, by_agent, by_application, in_flight) = (false, false, true, false);
        let (read, acknowledged) = (received, written);
        Self { repair, by_agent, by_application, in_flight, received, read, written, acknowledged }
    }

    /// An application has a descriptor, or finds it in its control socket.
    pub(super) fn is_an_applications(&self) -> bool {
        self.by_application || self.in_flight
    }

    pub(super) fn dump(&self) -> Vec<u8> {
        vec![self.received, self.read, self.written, self.acknowledged]
    }

    fn take(&mut self, packet: Packet) -> Fate {
        if packet.ack > self.written {
            return Fate::Absurd;
        }
        self.acknowledged = self.acknowledged.max(packet.ack);
        if packet.byte == Some(self.received) {
            self.received += 1;
        }
        Fate::Taken
    }
}

impl Slot {
    /// A packet arrives.
    pub(super) fn arrive(&mut self, packet: Packet) -> Fate {
        match &mut self.socket {
            _ if self.shut.is_some() => Fate::Dropped,
            None => Fate::Reset,
            Some(socket) => socket.take(packet),
        }
    }

    /// Talks to the client and lets an application work.
    pub(super) fn owns(&self) -> bool {
        self.socket.is_some_and(|socket| !socket.repair) && self.shut.is_none()
    }

    /// The agent's process is gone, and its descriptors with it. `true`: the kernel has told the client.
    pub(super) fn agent_died(&mut self) -> bool {
        let Some(socket) = &mut self.socket else { return false };
        socket.by_agent = false;
        if socket.is_an_applications() {
            return false;
        }
        let told = !socket.repair;
        self.socket = None;
        told
    }
}
