//! Connections that leave this host: what the source's machine wants done.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use model::connection_state::Phase;
use model::control_socket::RequestId;
use model::message::OrderId;
use model::transfer::{Reason, Way, Why};
use model::{Connection, ConnectionState};
use transfer::source::{Action, Event, Note};
use transfer::{halt, limits};

use super::settling::Settling;
use super::{Kernel, Transfers};
use crate::control_socket::{ApplicationId, Command};
use crate::repair::{self, MAX_UNREAD_BYTES, Place};
use crate::system::freezes::{DEPARTED, Standing};

/// A frozen connection's packets are kept away for longer than its fate can be in doubt.
pub(super) const FROZEN: Duration = limits::IN_DOUBT.saturating_add(Duration::from_secs(60));

/// For so long an application asks what became of a transfer whose agent has ended (`baton-app`).
const ASKED_WITHIN: Duration = Duration::from_secs(30);

/// Who wants to know what became of a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asker {
    /// An application, with this request.
    Application(ApplicationId, RequestId),
    /// An operator, through the routing stack.
    Operator(Order),
    /// Nobody any more.
    Nobody,
}

/// What the asker allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Terms {
    /// Bytes that the client has not acknowledged may move.
    pub(super) carry: bool,
    /// Only if its server, which is not asked, owes no answer.
    pub(super) idle: bool,
}

/// An operator's order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Order {
    /// What its answer names; routing stacks without answers give none.
    pub(super) id: Option<OrderId>,
    /// For so long neither side must have said anything; `None`: the server must be seen to be between two answers.
    pub(super) quiet: Option<Duration>,
}

/// A connection that an operator wants moved, as long as nothing is done to it. No descriptor of it is kept here: with a second one
/// open its server's close(2) would not reach the client, and the target's application may think for seconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ordered {
    pub(super) order: Order,
    pub(super) place: Place,
}

/// A connection that is to leave.
#[derive(Debug)]
pub(super) struct Leaving {
    pub(super) socket: OwnedFd,
    pub(super) asker: Asker,
    pub(super) terms: Terms,
    /// It is noted and kept away.
    pub(super) is_frozen: bool,
    /// What the application has read and whoever gets the connection is to read first.
    pub(super) given_back: Vec<u8>,
    /// Its state without the bytes, once it is in repair mode.
    pub(super) state: Option<ConnectionState>,
    /// Not frozen yet: whether its server owes an answer is looked at first.
    pub(super) settling: Option<Settling>,
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
        Self {
            socket,
            asker,
            terms,
            is_frozen: false,
            given_back: Vec::new(),
            state: None,
            settling: None,
            is_discarded: false,
        }
    }

    /// Why the application can't give back what it does, before anybody is asked about the connection.
    pub(super) fn gives_too_much_back(&self) -> Option<Why> {
        let activity = repair::activity(self.socket.as_fd()).ok()?;
        gives_too_much_back(&self.given_back, activity.received.saturating_sub(activity.unread.into()))
    }

    /// Puts what the application gives back before what it has not read.
    fn give_back(&mut self, state: &mut ConnectionState) -> Result<(), Why> {
        let bytes = std::mem::take(&mut self.given_back);
        let received = repair::received(self.socket.as_fd()).unwrap_or(0);
        let not_read = (state.receive.bytes.len() as u64).saturating_add(state.phase.fin_received().into());
        if let Some(why) = gives_too_much_back(&bytes, received.saturating_sub(not_read)) {
            return Err(why);
        }
        state.receive.give_back(&bytes);
        state.check().map_err(|cause| Why::new(Reason::NotDumped, &cause.to_string()))
    }
}

fn gives_too_much_back(bytes: &[u8], read: u64) -> Option<Why> {
    let said = || format!("{} bytes, and {read} were read", bytes.len());
    (bytes.len() as u64 > read).then(|| Why::new(Reason::GivenBack, &said()))
}

/// Why a connection that could be dumped does not move after all.
///
/// Bytes that an idle server's client has not acknowledged, but was sent, are no objection to an injection: only a packet
/// that acknowledges them all makes the connection ([`model::handoff::HandoffOption::sent`]).
fn objection(state: &ConnectionState, way: Way, terms: Terms) -> Option<Why> {
    let (unread, unacknowledged) = (state.receive.bytes.len(), state.send.bytes.len());
    if terms.idle && state.phase != Phase::Established {
        return Some(Why::new(Reason::NotDumped, "half-closed: it ends where it is"));
    }
    if terms.idle && (unread > 0 || state.send.unsent_bytes > 0) {
        let said = format!("{unread} bytes are unread and {} unsent", state.send.unsent_bytes);
        return Some(Why::new(Reason::NotIdle, &said));
    }
    if unacknowledged > 0 && !terms.idle && (!terms.carry || way == Way::Inject) {
        let said = format!("{unacknowledged} bytes are not acknowledged");
        return Some(Why::new(Reason::NotIdle, &said));
    }
    if way == Way::Inject && state.phase.fin_queued() {
        let said = "closed towards the client: a server without a control socket can't take it";
        return Some(Why::new(Reason::NotDumped, said));
    }
    if way == Way::Inject && unread > MAX_UNREAD_BYTES {
        let said = format!(
            "{unread} bytes are unread: a server without a control socket takes {MAX_UNREAD_BYTES} at most"
        );
        return Some(Why::new(Reason::NotDumped, &said));
    }
    None
}

impl Transfers {
    pub(super) fn source_deed(&mut self, action: Action, kernel: Kernel<'_>, now: Instant) {
        halt::before("source", action.step());
        match action {
            Action::Send { to, message } => self.send(to, message),
            Action::Freeze(note) if self.settles_first(&note, now) => {}
            Action::Freeze(note) => self.freeze(&note, kernel),
            Action::Dump { connection, .. } if self.settles(&connection) => {}
            Action::Dump { connection, way } => self.dump(connection, way, now),
            Action::Thaw(connection) => self.thaw(connection, kernel),
            Action::Discard(connection) => self.discard_left(connection, kernel),
            Action::Moved(connection) => self.moved(connection, now),
            Action::Failed { connection, why } => self.failed(connection, &why),
        }
    }

    pub(super) fn freeze(&mut self, note: &Note, kernel: Kernel<'_>) {
        let connection = note.connection;
        self.touched.insert(connection, true);
        let Some(leaving) = self.leaving.get_mut(&connection) else { return };
        let noted = self.notes.leaves(note).map_err(|e| e.to_string());
        let kept = |()| {
            let kept = kernel.freezes.keep_away(&connection, Standing::Frozen, FROZEN);
            kept.map_err(|e| e.to_string())
        };
        match noted.and_then(kept) {
            Ok(()) => leaving.is_frozen = true,
            // Without it nothing is dumped, and the connection stays.
            Err(cause) => {
                tracing::error!(%connection, cause, "can't be frozen");
                self.notes.stays_or_left(&connection);
            }
        }
    }

    pub(super) fn dump(&mut self, connection: Connection, way: Way, now: Instant) {
        let event = match self.dumped(connection, way) {
            Ok(socket) => Event::Dumped { connection, socket },
            Err(why) => Event::NotDumped { connection, why },
        };
        self.tell_source(event, now);
    }

    fn dumped(&mut self, connection: Connection, way: Way) -> Result<Vec<u8>, Why> {
        let refused = |said: &str| Why::new(Reason::NotDumped, said);
        if self.ordered.contains_key(&connection) {
            return Err(Reason::NoSocket.into());
        }
        let leaving = self.leaving.get_mut(&connection).ok_or_else(|| refused("its socket is gone"))?;
        if !leaving.is_frozen {
            return Err(refused("it could not be frozen"));
        }
        let mut state = repair::dump(leaving.socket.as_fd()).map_err(|e| refused(&e.to_string()))?;
        let given_back = leaving.give_back(&mut state);
        let objection = given_back.err().or_else(|| objection(&state, way, leaving.terms));
        let encoded = state.encode();
        (state.send.bytes, state.receive.bytes) = (Vec::new(), Vec::new());
        leaving.state = Some(state);
        objection.map_or(Ok(encoded), Err)
    }

    /// The connection goes on here.
    fn thaw(&mut self, connection: Connection, kernel: Kernel<'_>) {
        self.touched.insert(connection, true);
        self.let_flow(&connection, kernel);
        let Some(leaving) = self.leaving.get_mut(&connection) else { return };
        leaving.settling = None;
        let woken = match &leaving.state {
            Some(state) => repair::thaw(leaving.socket.as_fd(), state),
            None => repair::wake(leaving.socket.as_fd()).map(drop),
        };
        if let Err(cause) = woken {
            tracing::error!(%connection, %cause, "a connection that stays can't leave repair mode");
        }
        self.notes.stays_or_left(&connection);
    }

    /// The connection is elsewhere, or nowhere. Its socket is disconnected when whoever asked is told.
    fn discard_left(&mut self, connection: Connection, kernel: Kernel<'_>) {
        self.touched.insert(connection, false);
        self.departs(&connection, kernel);
        let Some(leaving) = self.leaving.get_mut(&connection) else { return };
        leaving.is_discarded = true;
    }

    /// Another has it. Its note is erased after its socket is disconnected, because a restarted agent finds by the note what is to
    /// be done to the socket, before the routing stack forgets, and also if there is no socket: a former run has disconnected
    /// it and was killed before it could erase the note, or its application has ended ([`super::notes`]).
    fn moved(&mut self, connection: Connection, now: Instant) {
        if let Some(Leaving { socket, asker, .. }) = self.leaving.remove(&connection) {
            tracing::debug!(%connection, "has moved");
            match asker {
                Asker::Application(application, request) => {
                    disconnect(&connection, socket);
                    self.tell(application, Command::Transferred(request));
                }
                Asker::Operator(_) => disconnect(&connection, socket),
                Asker::Nobody => self.orphan(connection, socket, now),
            }
        }
        self.notes.stays_or_left(&connection);
    }

    /// It has moved, and its application does not know that yet. Until then its socket is no news to routing stacks.
    pub(super) fn orphan(&mut self, connection: Connection, socket: OwnedFd, now: Instant) {
        self.touched.insert(connection, false);
        self.orphans.insert(connection, Orphan { socket, until: now + ASKED_WITHIN });
    }

    /// What is left of a connection that has moved for a former run goes.
    pub(super) fn disconnect_orphan(&mut self, connection: &Connection) {
        if let Some(orphan) = self.orphans.remove(connection) {
            self.touched.entry(*connection).or_insert(false);
            disconnect(connection, orphan.socket);
        }
    }

    fn failed(&mut self, connection: Connection, why: &Why) {
        if let Some(Ordered { order, .. }) = self.ordered.remove(&connection) {
            tracing::debug!(%connection, %why, "an order is not followed");
            return self.stays(Asker::Operator(order), connection, why);
        }
        let Some(leaving) = self.leaving.remove(&connection) else {
            return self.notes.stays_or_left(&connection);
        };
        tracing::debug!(%connection, %why, "has not moved");
        let Leaving { asker, socket, is_discarded, .. } = leaving;
        if is_discarded {
            disconnect(&connection, socket);
        }
        self.notes.stays_or_left(&connection);
        let ended = Why { reason: Reason::Ended, said: why.said.clone() };
        self.stays(asker, connection, if is_discarded { &ended } else { why });
    }

    pub(super) fn let_flow(&self, connection: &Connection, kernel: Kernel<'_>) {
        if let Err(cause) = kernel.freezes.let_flow(connection) {
            tracing::error!(%connection, %cause, "its packets can't be let in again");
        }
    }

    /// It is kept away as it was before.
    pub(super) fn stands_again(&self, connection: &Connection, before: Option<Standing>, kernel: Kernel<'_>) {
        match before {
            None => self.let_flow(connection, kernel),
            Some(Standing::Departed) => self.departs(connection, kernel),
            Some(Standing::Frozen) => {
                if let Err(cause) = kernel.freezes.keep_away(connection, Standing::Frozen, FROZEN) {
                    tracing::error!(%connection, %cause, "can't be kept frozen");
                }
            }
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

    fn refuses(unread: usize, unacknowledged: usize, way: Way, terms: (bool, bool)) -> Option<Reason> {
        let terms = Terms { carry: terms.0, idle: terms.1 };
        objection(&state(unread, unacknowledged, Phase::Established), way, terms).map(|why| why.reason)
    }

    #[test]
    fn what_the_client_has_not_acknowledged_moves_only_if_the_asker_and_the_way_carry_it() {
        let unacknowledged = Some(Reason::NotIdle);
        assert_eq!(refuses(9, 0, Way::Restore, (false, false)), None);
        assert_eq!(refuses(0, 1, Way::Restore, (false, false)), unacknowledged);
        assert_eq!(refuses(0, 1, Way::Restore, (true, false)), None);
        assert_eq!(refuses(0, 1, Way::Inject, (true, false)), unacknowledged);
    }

    #[test]
    fn a_server_that_is_not_asked_takes_a_bounded_number_of_unread_bytes() {
        assert_eq!(refuses(MAX_UNREAD_BYTES, 0, Way::Inject, (true, false)), None);
        assert_eq!(refuses(MAX_UNREAD_BYTES + 1, 0, Way::Inject, (true, false)), Some(Reason::NotDumped));
        assert_eq!(refuses(MAX_UNREAD_BYTES + 1, 0, Way::Restore, (true, false)), None);
        let half = |phase| {
            let terms = Terms { carry: true, idle: false };
            objection(&state(0, 0, phase), Way::Inject, terms).map(|why| why.reason)
        };
        assert_eq!(half(Phase::CloseWait), None, "the client's FIN comes along");
        assert_eq!(half(Phase::FinWait2), Some(Reason::NotDumped));
    }

    #[test]
    fn a_server_that_is_not_asked_loses_only_an_idle_connection() {
        assert_eq!(refuses(0, 0, Way::Restore, (false, true)), None);
        assert_eq!(refuses(1, 0, Way::Restore, (false, true)), Some(Reason::NotIdle));
        assert_eq!(refuses(0, 1, Way::Inject, (false, true)), None, "it was sent");
        let mut unsent = state(0, 2, Phase::Established);
        unsent.send.unsent_bytes = 1;
        let terms = Terms { carry: false, idle: true };
        assert_eq!(objection(&unsent, Way::Inject, terms).map(|why| why.reason), Some(Reason::NotIdle));
    }
}
