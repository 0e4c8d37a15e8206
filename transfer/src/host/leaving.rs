//! Connections that leave this host: what the source's machine wants done.

use std::time::{Duration, Instant};

use model::Connection;
use model::transfer::{Reason, Way, Why};

use super::kernel::{Asker, Away, Found, Handle, Kernel, Note, Order, Queues, Subject};
use super::settling::Settling;
use super::{DEPARTED, Host};
use crate::giving::{self, Action, Event};
use crate::{halt, limits};

/// A frozen connection's packets are kept away for longer than its fate can be in doubt.
pub(super) const FROZEN: Duration = limits::IN_DOUBT.saturating_add(Duration::from_secs(60));

/// For so long an application asks what became of a transfer whose agent has ended (`baton-app`).
const ASKED_WITHIN: Duration = Duration::from_secs(30);

/// The most bytes that are given to a server without a control socket: a client that waits for its answer has sent less, one that
/// does not fills the window that an application leaves which does not read.
pub const MAX_UNREAD_BYTES: usize = 1 << 20;

/// What the asker allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Terms {
    /// Bytes that the client has not acknowledged may move.
    Carry,
    /// They may not.
    Acknowledged,
    /// It moves only if its server, which is not asked, owes no answer.
    Idle,
}

/// A connection that is to leave.
#[derive(Clone, Debug, Hash)]
pub(super) struct Leaving {
    pub(super) asker: Asker,
    pub(super) terms: Terms,
    pub(super) phase: Phase,
}

/// How far it is.
#[derive(Clone, Debug, Hash)]
pub(super) enum Phase {
    /// An operator wants it moved. No descriptor of it is kept: with a second one open its server's close(2) would not reach the
    /// client, and the target's application may think for seconds.
    Ordered,
    /// A descriptor is kept, and nothing is done to it.
    Held,
    /// Whether its server owes an answer is looked at before it is frozen.
    Settling(Settling),
    /// It is noted and kept away.
    Frozen,
    /// It is this host's no longer.
    Left,
}

/// Why a connection that could be dumped does not move after all.
///
/// Bytes that the client has not acknowledged, but was sent, are no objection to an injection: only a packet that acknowledges
/// them all makes the connection ([`model::handoff::HandoffOption::sent`]), and until then this kernel sends them again
/// ([`Away::Deaf`]).
fn objection(queues: Queues, way: Way, terms: Terms) -> Option<Why> {
    let Queues { unread, unacknowledged, unsent, is_whole, is_closed, .. } = queues;
    let inject = way == Way::Inject;
    match terms {
        Terms::Idle if !is_whole => {
            return Some(Why::new(Reason::NotDumped, "half-closed: it ends where it is"));
        }
        Terms::Idle if unread > 0 || unsent > 0 => {
            let said = format!("{unread} bytes are unread and {unsent} unsent");
            return Some(Why::new(Reason::NotIdle, &said));
        }
        Terms::Acknowledged if unacknowledged > 0 => {
            return Some(Why::new(Reason::NotIdle, &format!("{unacknowledged} bytes are not acknowledged")));
        }
        Terms::Carry if inject && unsent > 0 => {
            return Some(Why::new(Reason::NotIdle, &format!("{unsent} bytes were never sent")));
        }
        Terms::Idle | Terms::Acknowledged | Terms::Carry => {}
    }
    if inject && is_closed {
        let said = "closed towards the client: a server without a control socket can't take it";
        return Some(Why::new(Reason::NotDumped, said));
    }
    if inject && unread > MAX_UNREAD_BYTES {
        let said = format!(
            "{unread} bytes are unread: a server without a control socket takes {MAX_UNREAD_BYTES} at most"
        );
        return Some(Why::new(Reason::NotDumpedNow, &said));
    }
    None
}

/// Why a connection does not move whose order names the client's next byte: bytes before it are lost, and would be taken elsewhere for
/// those behind it.
fn lacks(queues: Queues, asker: Asker) -> Option<Why> {
    let Asker::Operator(Order { next: Some(next), .. }) = asker else { return None };
    let said = format!("the client's next byte is {}, not {next}", queues.next);
    (queues.next != next).then(|| Why::new(Reason::NotIdle, &said))
}

impl Host {
    pub(super) fn source_deed(&mut self, action: Action, kernel: &mut impl Kernel, now: Instant) {
        halt::before("source", action.step());
        match action {
            Action::Send { to, message } => kernel.send(to, message.into()),
            Action::Freeze(note) if self.settles_first(&note, kernel, now) => {}
            Action::Freeze(note) => self.freeze(&note, kernel, now),
            Action::Dump { connection, .. } if self.settles(&connection) => {}
            Action::Dump { connection, way } => self.dump(connection, way, kernel, now),
            Action::Thaw(connection) => self.thaw(&connection, kernel),
            Action::Discard(connection) => self.discard_left(&connection, kernel),
            Action::Moved(connection) => self.moved(connection, kernel, now),
            Action::Failed { connection, why } => self.failed(&connection, why, kernel),
        }
    }

    pub(super) fn freeze(&mut self, note: &giving::Note, kernel: &mut impl Kernel, now: Instant) {
        let connection = note.connection;
        self.touched.insert(connection, true);
        let Some(leaving) = self.leaving.get_mut(&connection) else { return };
        let noted = kernel.note(Note::Leaving(note, now + limits::IN_DOUBT));
        if noted.and_then(|()| kernel.keep_away(&connection, frozen(note.way), FROZEN)).is_ok() {
            leaving.phase = Phase::Frozen;
        } else {
            // Without it nothing is dumped, and the connection stays.
            leaving.phase = Phase::Held;
            kernel.erase(Subject::Leaving(connection));
        }
    }

    pub(super) fn dump(&mut self, connection: Connection, way: Way, kernel: &mut impl Kernel, now: Instant) {
        let event = match self.dumped(&connection, way, kernel) {
            Ok(socket) => Event::Dumped { connection, socket },
            Err(why) => Event::NotDumped { connection, why },
        };
        self.tell_source(event, now);
    }

    fn dumped(
        &mut self,
        connection: &Connection,
        way: Way,
        kernel: &mut impl Kernel,
    ) -> Result<Vec<u8>, Why> {
        let refused = |said: &str| Why::new(Reason::NotDumped, said);
        let leaving = self.leaving.get(connection).ok_or_else(|| refused("its socket is gone"))?;
        match leaving.phase {
            Phase::Ordered => Err(Reason::NoSocket.into()),
            Phase::Held | Phase::Settling(_) | Phase::Left => {
                Err(Why::new(Reason::NotDumpedNow, "it could not be frozen"))
            }
            Phase::Frozen => {
                let dump = kernel.dump(connection)?;
                let objection = objection(dump.queues, way, leaving.terms);
                objection.or_else(|| lacks(dump.queues, leaving.asker)).map_or(Ok(dump.socket), Err)
            }
        }
    }

    /// The connection goes on here.
    fn thaw(&mut self, connection: &Connection, kernel: &mut impl Kernel) {
        self.touched.insert(*connection, true);
        kernel.let_flow(connection);
        if let Some(leaving) = self.leaving.get_mut(connection) {
            leaving.phase = Phase::Held;
            kernel.thaw(connection);
        }
        kernel.erase(Subject::Leaving(*connection));
    }

    /// The connection is elsewhere, or nowhere. Its socket is disconnected when the asker is told.
    fn discard_left(&mut self, connection: &Connection, kernel: &mut impl Kernel) {
        self.touched.insert(*connection, false);
        depart(connection, kernel);
        if let Some(leaving) = self.leaving.get_mut(connection) {
            leaving.phase = Phase::Left;
        }
    }

    /// Another has it. Its note is erased after its socket is disconnected, because a restarted agent finds by the note what is to
    /// be done to the socket, before the routing stack forgets, and also if there is no socket: a former run has disconnected
    /// it and was killed before it could erase the note, or its application has ended.
    fn moved(&mut self, connection: Connection, kernel: &mut impl Kernel, now: Instant) {
        match self.leaving.remove(&connection).map(|leaving| leaving.asker) {
            Some(Asker::Nobody) => self.orphan(connection, now),
            Some(asker) => {
                kernel.disconnect(Handle::Kept(connection));
                kernel.moved(asker, &connection);
            }
            None => {}
        }
        kernel.erase(Subject::Leaving(connection));
    }

    /// It has moved, and its application does not know that yet. Its socket stays as it is, silent, so that the application can
    /// still be told which connection it was; until then it is no news to routing stacks.
    fn orphan(&mut self, connection: Connection, now: Instant) {
        self.touched.insert(connection, false);
        self.orphans.insert(connection, now + ASKED_WITHIN);
    }

    /// What is left of a connection that has moved for a former run goes.
    pub(super) fn disconnect_orphan(&mut self, connection: &Connection, kernel: &mut impl Kernel) {
        if self.orphans.remove(connection).is_some() {
            self.touched.entry(*connection).or_insert(false);
            kernel.disconnect(Handle::Kept(*connection));
        }
    }

    fn failed(&mut self, connection: &Connection, why: Why, kernel: &mut impl Kernel) {
        let handle = Handle::Kept(*connection);
        let (asker, why) = match self.leaving.remove(connection) {
            Some(Leaving { asker, phase: Phase::Left, .. }) => {
                kernel.disconnect(handle);
                (asker, Why { reason: Reason::Ended, said: why.said })
            }
            Some(Leaving { asker, .. }) => {
                kernel.release(handle);
                (asker, why)
            }
            None => (Asker::Nobody, why),
        };
        kernel.erase(Subject::Leaving(*connection));
        kernel.stays(asker, connection, &why);
    }

    /// It has moved for a former run, and its application has not asked that one what became of it.
    pub(super) fn inherit_departed(
        &mut self,
        connection: Connection,
        kernel: &mut impl Kernel,
        now: Instant,
    ) {
        if kernel.find(&connection) == Found::Here {
            self.orphan(connection, now);
        }
    }

    /// The former run may have died between the note and repair mode: that is finished first.
    pub(super) fn inherit_leaving(
        &mut self,
        note: giving::Note,
        until: Instant,
        kernel: &mut impl Kernel,
        now: Instant,
    ) {
        let connection = note.connection;
        self.touched.insert(connection, true);
        let _ = kernel.keep_away(&connection, frozen(note.way), FROZEN);
        let alive = kernel.find(&connection) == Found::Here;
        if alive {
            self.keep_silent(connection, Asker::Nobody, kernel);
        }
        self.tell_source(Event::Inherited { note, alive, until }, now);
    }

    /// A former run has frozen it, and its fate is in doubt.
    pub(super) fn keep_silent(&mut self, connection: Connection, asker: Asker, kernel: &mut impl Kernel) {
        kernel.silence(&connection);
        self.leaving.insert(connection, Leaving { asker, terms: Terms::Carry, phase: Phase::Frozen });
    }
}

/// How packets of a connection are kept away that leaves in this way.
fn frozen(way: Way) -> Away {
    if way == Way::Inject { Away::Deaf } else { Away::Frozen }
}

/// It is kept away as it was before.
pub(super) fn stand_again(connection: &Connection, before: Option<Away>, kernel: &mut impl Kernel) {
    match before {
        None => kernel.let_flow(connection),
        Some(Away::Departed) => depart(connection, kernel),
        Some(frozen) => drop(kernel.keep_away(connection, frozen, FROZEN)),
    }
}

/// Its late packets draw no answer here for as long as they may live.
pub(super) fn depart(connection: &Connection, kernel: &mut impl Kernel) {
    let _ = kernel.keep_away(connection, Away::Departed, DEPARTED);
}

#[cfg(test)]
mod tests {
    use super::super::kernel::Place;
    use super::*;

    fn refuses(unread: usize, unacknowledged: usize, way: Way, terms: Terms) -> Option<Reason> {
        let queues = Queues { unread, unacknowledged, is_whole: true, ..Queues::default() };
        objection(queues, way, terms).map(|why| why.reason)
    }

    #[test]
    fn an_order_that_names_the_clients_next_byte_moves_no_connection_that_lacks_one() {
        let (place, id, quiet) = (Place { process: 1, descriptor: 3 }, None, None);
        let refuses = |named, has| {
            let queues = Queues { next: has, is_whole: true, ..Queues::default() };
            let asker = Asker::Operator(Order { id, place, quiet, next: named });
            lacks(queues, asker).map(|why| why.reason)
        };
        assert_eq!(refuses(Some(7), 7), None);
        assert_eq!(refuses(Some(7), 6), Some(Reason::NotIdle));
        assert_eq!(refuses(Some(7), 8), Some(Reason::NotIdle));
        assert_eq!(refuses(None, 6), None);
        assert_eq!(lacks(Queues::default(), Asker::Nobody), None);
    }

    #[test]
    fn what_the_client_has_not_acknowledged_moves_only_if_the_asker_and_the_way_carry_it() {
        let unacknowledged = Some(Reason::NotIdle);
        assert_eq!(refuses(9, 0, Way::Restore, Terms::Acknowledged), None);
        assert_eq!(refuses(0, 1, Way::Restore, Terms::Acknowledged), unacknowledged);
        assert_eq!(refuses(0, 1, Way::Restore, Terms::Carry), None);
        assert_eq!(refuses(0, 1, Way::Inject, Terms::Carry), None, "it was sent, and is sent again");
        let unsent = Queues { unacknowledged: 2, unsent: 1, is_whole: true, ..Queues::default() };
        assert_eq!(objection(unsent, Way::Inject, Terms::Carry).map(|why| why.reason), unacknowledged);
        assert_eq!(objection(unsent, Way::Restore, Terms::Carry), None);
    }

    #[test]
    fn a_server_that_is_not_asked_takes_a_bounded_number_of_unread_bytes() {
        assert_eq!(refuses(MAX_UNREAD_BYTES, 0, Way::Inject, Terms::Carry), None);
        assert_eq!(refuses(MAX_UNREAD_BYTES + 1, 0, Way::Inject, Terms::Carry), Some(Reason::NotDumpedNow));
        assert_eq!(refuses(MAX_UNREAD_BYTES + 1, 0, Way::Restore, Terms::Carry), None);
        let half = |is_closed| {
            let queues = Queues { is_closed, ..Queues::default() };
            objection(queues, Way::Inject, Terms::Carry).map(|why| why.reason)
        };
        assert_eq!(half(false), None, "the client's FIN comes along");
        assert_eq!(half(true), Some(Reason::NotDumped));
    }

    #[test]
    fn a_server_that_is_not_asked_loses_only_an_idle_connection() {
        assert_eq!(refuses(0, 0, Way::Restore, Terms::Idle), None);
        assert_eq!(refuses(1, 0, Way::Restore, Terms::Idle), Some(Reason::NotIdle));
        assert_eq!(refuses(0, 1, Way::Inject, Terms::Idle), None, "it was sent");
        let unsent = Queues { unacknowledged: 2, unsent: 1, is_whole: true, ..Queues::default() };
        let why = objection(unsent, Way::Inject, Terms::Idle);
        assert_eq!(why.map(|why| why.reason), Some(Reason::NotIdle));
        let half_closed = objection(Queues::default(), Way::Inject, Terms::Idle);
        assert_eq!(half_closed.map(|why| why.reason), Some(Reason::NotDumped));
    }
}
