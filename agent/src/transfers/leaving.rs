//! Connections that leave this host: what the source's machine wants done.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use model::connection_state::Phase;
use model::control_socket::{Refusal, RequestId};
use model::transfer::{Reason, TransferId, Way, Why};
use model::{Connection, ConnectionState};
use transfer::limits;
use transfer::source::{Action, Event, Note};

use super::refusal::refusal;
use super::{Kernel, Transfers};
use crate::control_socket::{ApplicationId, Command};
use crate::repair;
use crate::system::freezes::{DEPARTED, Standing};

/// A frozen connection's packets are kept away for longer than its fate can be in doubt.
pub(super) const FROZEN: Duration = limits::IN_DOUBT.saturating_add(Duration::from_secs(60));
/// What a packet needs beside the client's bytes that it brings along: outer IPv6, UDP, GUE with its option, inner IPv6, TCP
/// with timestamps.
const HEADER_BYTES: usize = 40 + 8 + 4 + 12 + 40 + 32;

/// For so long an application asks what became of a transfer whose agent has ended (`baton-app`).
const ASKED_WITHIN: Duration = Duration::from_secs(30);

/// Who wants to know what became of a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asker {
    /// An application, with this request.
    Application(ApplicationId, RequestId),
    /// An operator, who looks at the routing stack's display.
    Operator,
    /// Nobody any more.
    Nobody,
}

/// What the asker allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Terms {
    /// Bytes that the client has not acknowledged may move.
    pub(super) carry: bool,
    /// Only if nothing waits in either queue: its server is not asked.
    pub(super) idle: bool,
}

/// A connection that is to leave.
#[derive(Debug)]
pub(super) struct Leaving {
    pub(super) socket: OwnedFd,
    pub(super) asker: Asker,
    pub(super) terms: Terms,
    /// Since it is frozen.
    pub(super) transfer: Option<TransferId>,
    /// Its state without the bytes, once it is in repair mode.
    pub(super) state: Option<ConnectionState>,
    /// Why it does not move although the machine only hears that it can't be dumped.
    refusal: Option<Refusal>,
    /// It is this host's no longer.
    is_discarded: bool,
}

/// A connection that has moved and whose application does not know that. Its socket stays as it is, silent, so that it can
/// still be told which connection it was.
#[derive(Debug)]
pub(super) struct Orphan {
    socket: OwnedFd,
    /// Until when the application may ask.
    pub(super) until: Instant,
}

impl Leaving {
    pub(super) fn new(socket: OwnedFd, asker: Asker, terms: Terms) -> Self {
        Self { socket, asker, terms, transfer: None, state: None, refusal: None, is_discarded: false }
    }
}

/// Why a connection that could be dumped does not move after all.
fn objection(state: &ConnectionState, way: Way, terms: Terms, fabric_mtu: u16) -> Option<(Refusal, String)> {
    let (unread, unacknowledged) = (state.receive.bytes.len(), state.send.bytes.len());
    let empty = unread == 0 && unacknowledged == 0;
    let room = usize::from(fabric_mtu).saturating_sub(HEADER_BYTES);
    if terms.idle && !(empty && state.phase == Phase::Established) {
        let said = format!("not idle: {unread} bytes are unread and {unacknowledged} unacknowledged");
        return Some((Refusal::Unacknowledged, said));
    }
    if unacknowledged > 0 && (!terms.carry || way == Way::Inject) {
        let said = format!("{unacknowledged} bytes are not acknowledged");
        return Some((Refusal::Unacknowledged, said));
    }
    if way == Way::Inject && state.phase != Phase::Established {
        let said = "half-closed: a server without a control socket can't take it".to_owned();
        return Some((Refusal::Immovable, said));
    }
    if way == Way::Inject && unread > room {
        let said = format!("{unread} unread bytes do not fit into one packet of {room}");
        return Some((Refusal::Immovable, said));
    }
    None
}

impl Transfers {
    pub(super) fn source_deed(&mut self, action: Action, kernel: Kernel<'_>, now: Instant) {
        match action {
            Action::Send { to, message } => self.send(to, message),
            Action::Freeze(note) => self.freeze(&note, kernel),
            Action::Dump { connection, way } => self.dump(connection, way, kernel, now),
            Action::Thaw(connection) => self.thaw(connection, kernel),
            Action::Discard(connection) => self.discard_left(connection, kernel),
            Action::Moved(connection) => {
                let Some(leaving) = self.leaving.remove(&connection) else { return };
                tracing::debug!(%connection, "has moved");
                match leaving.asker {
                    Asker::Application(application, request) => {
                        disconnect(&connection, leaving.socket);
                        self.tell(application, Command::Transferred(request));
                    }
                    Asker::Operator => disconnect(&connection, leaving.socket),
                    Asker::Nobody => {
                        let until = now + ASKED_WITHIN;
                        self.orphans.insert(connection, Orphan { socket: leaving.socket, until });
                    }
                }
                self.erase(leaving.transfer);
            }
            Action::Failed { connection, why } => self.failed(connection, &why),
        }
    }

    fn freeze(&mut self, note: &Note, kernel: Kernel<'_>) {
        let connection = note.connection;
        self.touched.insert(connection, true);
        let Some(leaving) = self.leaving.get_mut(&connection) else { return };
        let noted = self.notes.leaves(note).map_err(|e| e.to_string());
        let kept = |()| {
            let kept = kernel.freezes.keep_away(&connection, Standing::Frozen, FROZEN);
            kept.map_err(|e| e.to_string())
        };
        match noted.and_then(kept) {
            Ok(()) => leaving.transfer = Some(note.transfer),
            // Without it nothing is dumped, and the connection stays.
            Err(cause) => {
                tracing::error!(%connection, cause, "can't be frozen");
                self.notes.stays_or_left(note.transfer);
            }
        }
    }

    fn dump(&mut self, connection: Connection, way: Way, kernel: Kernel<'_>, now: Instant) {
        let event = match self.dumped(connection, way, kernel) {
            Ok(socket) => Event::Dumped { connection, socket },
            Err(why) => Event::NotDumped { connection, why },
        };
        self.tell_source(event, now);
    }

    fn dumped(&mut self, connection: Connection, way: Way, kernel: Kernel<'_>) -> Result<Vec<u8>, Why> {
        let refused = |said: &str| Why::new(Reason::NotDumped, said);
        let leaving = self.leaving.get_mut(&connection).ok_or_else(|| refused("its socket is gone"))?;
        if leaving.transfer.is_none() {
            return Err(refused("it could not be frozen"));
        }
        let mut state = repair::dump(leaving.socket.as_fd()).map_err(|e| refused(&e.to_string()))?;
        let objection = objection(&state, way, leaving.terms, kernel.fabric_mtu);
        let encoded = state.encode();
        (state.send.bytes, state.receive.bytes) = (Vec::new(), Vec::new());
        leaving.state = Some(state);
        match objection {
            None => Ok(encoded),
            Some((refusal, said)) => {
                leaving.refusal = Some(refusal);
                Err(refused(&said))
            }
        }
    }

    /// The connection goes on here.
    fn thaw(&mut self, connection: Connection, kernel: Kernel<'_>) {
        self.touched.insert(connection, true);
        self.let_flow(&connection, kernel);
        let Some(leaving) = self.leaving.get(&connection) else { return };
        let woken = match &leaving.state {
            Some(state) => repair::thaw(leaving.socket.as_fd(), state),
            None => repair::wake(leaving.socket.as_fd()).map(drop),
        };
        if let Err(cause) = woken {
            tracing::error!(%connection, %cause, "a connection that stays can't leave repair mode");
        }
        self.erase(leaving.transfer);
    }

    /// After the socket, because a restarted agent finds by the note what is to be done to it; before the routing stack forgets.
    fn erase(&self, transfer: Option<TransferId>) {
        if let Some(transfer) = transfer {
            self.notes.stays_or_left(transfer);
        }
    }

    /// The connection is elsewhere, or nowhere. Its socket is disconnected when whoever asked is told.
    fn discard_left(&mut self, connection: Connection, kernel: Kernel<'_>) {
        self.touched.insert(connection, false);
        self.departs(&connection, kernel);
        let Some(leaving) = self.leaving.get_mut(&connection) else { return };
        leaving.is_discarded = true;
    }

    /// What is left of a connection that has moved for a former run goes.
    pub(super) fn disconnect_orphan(&mut self, connection: &Connection) {
        if let Some(orphan) = self.orphans.remove(connection) {
            disconnect(connection, orphan.socket);
        }
    }

    fn failed(&mut self, connection: Connection, why: &Why) {
        let Some(mut leaving) = self.leaving.remove(&connection) else { return };
        tracing::debug!(%connection, %why, "has not moved");
        if leaving.is_discarded {
            leaving.refusal = Some(Refusal::Ended);
            disconnect(&connection, leaving.socket);
            self.erase(leaving.transfer);
        }
        let (refusal, detail) = match leaving.refusal {
            Some(refusal) => (refusal, why.said.clone()),
            None => refusal(why),
        };
        self.refuse(leaving.asker, refusal, detail);
    }

    pub(super) fn let_flow(&self, connection: &Connection, kernel: Kernel<'_>) {
        if let Err(cause) = kernel.freezes.let_flow(connection) {
            tracing::error!(%connection, %cause, "its packets can't be let in again");
        }
    }

    /// Its late packets draw no answer here for as long as they may live.
    pub(super) fn departs(&self, connection: &Connection, kernel: Kernel<'_>) {
        if let Err(cause) = kernel.freezes.keep_away(connection, Standing::Departed, DEPARTED) {
            tracing::error!(%connection, %cause, "its late packets can't be kept away");
        }
    }
}

/// Takes a socket's connection away from whoever has the socket.
pub(super) fn disconnect(connection: &Connection, socket: OwnedFd) {
    if let Err(cause) = repair::discard(socket) {
        tracing::error!(%connection, %cause, "a connection that has left can't be disconnected");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(unread: usize, unacknowledged: usize, phase: Phase) -> ConnectionState {
        use model::connection_state::{ReceiveQueue, SendQueue, SocketFamily, Windows};
        let (client, dvipa) = ("198.18.0.2:40000".parse().unwrap(), "198.18.9.1:80".parse().unwrap());
        ConnectionState {
            connection: Connection::new(model::Protocol::Tcp, client, dvipa).unwrap(),
            family: SocketFamily::V4,
            phase,
            send: SendQueue { first: 1, bytes: vec![0; unacknowledged], unsent_bytes: 0 },
            receive: ReceiveQueue { first: 1, bytes: vec![0; unread] },
            windows: Windows::default(),
            mss: 1460,
            scales: None,
            sack: true,
            timestamp: None,
            ecn: false,
            options: Vec::new(),
            congestion_control: String::new(),
        }
    }

    fn refuses(unread: usize, unacknowledged: usize, way: Way, terms: (bool, bool)) -> Option<Refusal> {
        let terms = Terms { carry: terms.0, idle: terms.1 };
        objection(&state(unread, unacknowledged, Phase::Established), way, terms, 1500).map(|(why, _)| why)
    }

    #[test]
    fn what_the_client_has_not_acknowledged_moves_only_if_the_asker_and_the_way_carry_it() {
        let unacknowledged = Some(Refusal::Unacknowledged);
        assert_eq!(refuses(9, 0, Way::Restore, (false, false)), None);
        assert_eq!(refuses(0, 1, Way::Restore, (false, false)), unacknowledged);
        assert_eq!(refuses(0, 1, Way::Restore, (true, false)), None);
        assert_eq!(refuses(0, 1, Way::Inject, (true, false)), unacknowledged);
    }

    #[test]
    fn a_packet_that_makes_the_connection_brings_all_unread_bytes() {
        assert_eq!(refuses(1364, 0, Way::Inject, (true, false)), None);
        assert_eq!(refuses(1365, 0, Way::Inject, (true, false)), Some(Refusal::Immovable));
        assert_eq!(refuses(1365, 0, Way::Restore, (true, false)), None);
        let half =
            objection(&state(0, 0, Phase::CloseWait), Way::Inject, Terms { carry: true, idle: false }, 1500);
        assert_eq!(half.map(|(why, _)| why), Some(Refusal::Immovable));
    }

    #[test]
    fn a_server_that_is_not_asked_loses_only_an_idle_connection() {
        assert_eq!(refuses(0, 0, Way::Restore, (false, true)), None);
        assert_eq!(refuses(1, 0, Way::Restore, (false, true)), Some(Refusal::Unacknowledged));
    }
}
