//! Tells the segment where a DVIPA is: gratuitous ARP, unsolicited neighbour advertisement. The routing stack's machine
//! says when, and how often.

use forwarder::packet::frame;
use forwarder::{Mac, Port};
use model::Dvipa;

use crate::worker::inbox::{Frame, To};

/// The frame that says that `dvipa` is at `mac`, for the NIC, tagged if the NIC's frames are.
pub fn frame(dvipa: Dvipa, mac: Mac, vlan: Option<u16>) -> Frame {
    Frame { to: To::Port(Port::Nic), bytes: frame::announcement(dvipa.address(), mac, vlan) }
}

#[cfg(test)]
mod tests;
