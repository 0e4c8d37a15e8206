//! The packet that makes a connection at the stack that it is handed over to: a bare ACK as from the client, which begins
//! where the handoff option says.
//!
//! The client may send no such packet for long: it waits for the answer to bytes that were acknowledged, or it is idle.
//! TSval is 0, the value of which every later one of the client counts as newer (kernel `tcp_paws_check`): only the old
//! owner's kernel knows the client's last one, and tells nobody. TSecr is that kernel's own clock, from which the target's
//! goes on.

use forwarder::Mac;
use forwarder::packet::frame::{self, Ip, Link, Segment};
use forwarder::packet::transport::flags;
use forwarder::packet::{Ports, protocol};
use model::handoff::Handoff;
use model::{Connection, StackIndex};

use crate::worker::inbox::{Frame, To};

/// The packet for the stack `to`. The link-layer addresses are those of its encapsulation.
pub fn frame(connection: &Connection, to: StackIndex, handoff: &Handoff) -> Frame {
    let (client, dvipa) = (connection.client, connection.dvipa);
    let segment = Segment {
        ports: Ports { source: client.port(), destination: dvipa.port() },
        sequence: handoff.option.start,
        acknowledgment: handoff.acknowledgment,
        flags: flags::ACK,
        window: handoff.window,
        timestamps: handoff.echo.map(|echo| (0, echo)),
    };
    let link = Link::new(Mac::default(), Mac::default(), None);
    let bytes = frame::segment(&link, Ip::new(client.ip(), dvipa.ip(), protocol::TCP), segment);
    Frame { to: To::Handoff(to), bytes }
}

#[cfg(test)]
mod tests;
