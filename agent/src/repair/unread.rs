//! Gives this kernel the bytes of a client that another kernel had acknowledged, when the connection was put into a listener
//! here: the client never sends them again, and a listener's socket takes bytes only as segments.
//!
//! They go over the loopback interface, as from the client, at their own sequence numbers. So nothing of them can get lost
//! on a network, and the socket's own window says how many it takes. They have no timestamps: Linux then asks for none
//! (kernel `tcp_validate_incoming`), where one that is older than the client's last would be refused (RFC 7323 5.3). What the
//! kernel answers tells the client of bytes that it knows to be acknowledged.

use std::io;

use model::{Connection, ConnectionState};

use super::segment::{Flags, Segment, Wire};
use crate::machine::Cookie;
use crate::system::diag;

/// What fits into any path's packets: the kernel accounts for them as for the client's own.
const SEGMENT_BYTES: usize = 1400;
/// What every kernel takes of a new connection whose application does not read (kernel `tcp_select_initial_window`).
const AT_ONCE: usize = 48 << 10;

/// What a connection is still to be given.
#[derive(Debug)]
pub struct Unread {
    state: ConnectionState,
    /// The socket that takes it, once it was seen.
    socket: Option<Cookie>,
}

impl Unread {
    /// What the client has sent of a dumped connection and nobody has read, its FIN included; `None` if that is nothing.
    pub fn of(state: ConnectionState) -> Option<Self> {
        let is_some = !state.receive.bytes.is_empty() || state.phase.fin_received();
        is_some.then_some(Self { state, socket: None })
    }

    /// How many bytes that were.
    pub fn bytes(&self) -> usize {
        self.state.receive.bytes.len()
    }

    /// Which connection.
    pub fn connection(&self) -> Connection {
        self.state.connection
    }

    /// Gives the kernel as much as it takes now. `true`: it has everything, or the connection has ended.
    ///
    /// # Errors
    /// What the system says; to be tried again.
    pub fn give(&mut self) -> io::Result<bool> {
        let wire = Wire::open(self.state.connection.dvipa.ip())?;
        let mut before = None;
        loop {
            let Some((at, acknowledged)) = self.standing()? else { return Ok(true) };
            // A FIN counts as a byte.
            let is_given = at >= self.bytes().saturating_add(self.state.phase.fin_received().into());
            if is_given || before == Some(at) {
                return Ok(is_given);
            }
            before = Some(at);
            let rest = self.state.receive.bytes.get(at..).unwrap_or_default();
            let mut segment = self.segment(at, acknowledged);
            if rest.is_empty() {
                segment.flags = Flags::FIN_ACK;
                wire.send(&segment, &[])?;
            }
            for payload in rest.get(..AT_ONCE).unwrap_or(rest).chunks(SEGMENT_BYTES) {
                wire.send(&segment, payload)?;
                segment.sequence = segment.sequence.wrapping_add(u32::try_from(payload.len()).unwrap_or(0));
            }
        }
    }

    /// How many bytes the kernel has, and how many of its own the client has acknowledged; `None` if the connection has
    /// ended.
    fn standing(&mut self) -> io::Result<Option<(usize, u64)>> {
        let Some(told) = diag::ask(&self.state.connection)? else { return Ok(None) };
        let is_other = self.socket.is_some_and(|socket| socket != told.cookie);
        self.socket = Some(told.cookie);
        let carried = told.carried.filter(|_| !is_other);
        let place = |c: diag::Carried| (usize::try_from(c.received).unwrap_or(usize::MAX), c.acknowledged);
        Ok(carried.map(place))
    }

    /// The header of the segment that begins at this byte. Its acknowledgment number may lag behind, but only by less than
    /// a window (kernel `tcp_ack`); a SYN may be among what is counted.
    fn segment(&self, at: usize, acknowledged: u64) -> Segment {
        let Connection { client, dvipa, .. } = self.state.connection;
        let at = u32::try_from(at).unwrap_or(u32::MAX);
        let window = self.state.windows.snd_wnd >> self.state.scales.map_or(0, |scales| scales.send);
        Segment {
            from: client,
            to: dvipa,
            sequence: self.state.receive.first.wrapping_add(at),
            // Modulo 2³², as sequence numbers are.
            acknowledgment: self
                .state
                .send_unacknowledged()
                .wrapping_add(acknowledged.saturating_sub(1) as u32),
            flags: Flags::ACK,
            window: u16::try_from(window).unwrap_or(u16::MAX),
            timestamps: None,
        }
    }
}
