//! Whether a server that is not asked owes its client an answer: looked at while the client's packets are held at the routing
//! stack, and before anything is done to the socket.
//!
//! Nothing new arrives meanwhile, and what the server says still leaves. So its queues come to rest, and what the kernel
//! knows of their last changes says who spoke last. Not after the freeze: an answer would be lost and sent again much
//! later, and a server that finds its socket in repair mode takes the connection for broken.
//!
//! What can't be seen is a pause in the middle of an answer, as of a server that streams: an order says how long both must have
//! been quiet.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use model::Connection;
use model::transfer::{Reason, Way, Why};
use transfer::source::{Event, Note};

use super::leaving::Asker;
use super::{Kernel, Transfers};
use crate::repair::{self, Activity};

/// For so long both must have been quiet, unless the order says otherwise.
pub(super) const QUIET: Duration = Duration::from_millis(10);
/// The client's packets are held for so long at most.
const HELD: Duration = Duration::from_millis(100);
/// How often the kernel is asked.
const LOOK: Duration = Duration::from_millis(2);
/// The kernel's clock for what was said last ticks so often at least (`CONFIG_HZ=100`): if the client spoke in the same tick as
/// the server, who was the last is seen from a longer quiet only.
const TICK: Duration = Duration::from_millis(10);
/// So much longer.
const TICKS: u32 = 5;

/// A connection that is looked at.
#[derive(Debug)]
pub(super) struct Settling {
    note: Note,
    quiet: Duration,
    until: Instant,
    next: Instant,
}

/// Why the server may owe something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Busy {
    said: &'static str,
    /// It does so for this time at least.
    at_least: Duration,
}

fn judge(activity: Activity, quiet: Duration) -> Result<(), Busy> {
    let Activity { unread, unsent, since_sent, since_received } = activity;
    let busy = |said, at_least| Err(Busy { said, at_least });
    // Unless the server clearly spoke after the client.
    let quiet = if since_received > since_sent + TICK { quiet } else { quiet.max(TICK * TICKS) };
    let left = quiet.saturating_sub(since_sent.min(since_received));
    if unread > 0 {
        busy("the server has not read what its client said", LOOK)
    } else if unsent > 0 {
        busy("the client does not take what the server says", LOOK)
    } else if since_received + TICK < since_sent {
        busy("the server has not answered", LOOK)
    } else if !left.is_zero() {
        busy("they have just spoken", left)
    } else {
        Ok(())
    }
}

impl Transfers {
    /// Whether it is looked at first, instead of being frozen.
    pub(super) fn settles_first(&mut self, note: &Note, now: Instant) -> bool {
        let Some(leaving) = self.leaving.get_mut(&note.connection).filter(|l| l.terms.idle) else {
            return false;
        };
        let quiet = if let Asker::Operator(order) = leaving.asker { order.quiet } else { QUIET };
        leaving.settling = Some(Settling { note: note.clone(), quiet, until: now + HELD, next: now });
        // From now on the transfer alone speaks for it.
        self.touched.insert(note.connection, true);
        true
    }

    /// Whether it is being looked at.
    pub(super) fn settles(&self, connection: &Connection) -> bool {
        self.leaving.get(connection).is_some_and(|leaving| leaving.settling.is_some())
    }

    /// When a look is due.
    pub(super) fn next_look(&self) -> Option<Instant> {
        self.leaving.values().filter_map(|leaving| Some(leaving.settling.as_ref()?.next)).min()
    }

    /// Looks at those that are due; freezes and dumps the idle ones.
    pub(super) fn look_at_settling(&mut self, kernel: Kernel<'_>, now: Instant) {
        let due = |l: &super::Leaving| l.settling.as_ref().is_some_and(|settling| settling.next <= now);
        let due: Vec<_> = self.leaving.iter().filter(|(_, l)| due(l)).map(|(c, _)| *c).collect();
        for connection in due {
            self.look(connection, kernel, now);
        }
    }

    fn look(&mut self, connection: Connection, kernel: Kernel<'_>, now: Instant) {
        let Some(leaving) = self.leaving.get_mut(&connection) else { return };
        let Some(settling) = &mut leaving.settling else { return };
        let way = settling.note.way;
        let why = match repair::activity(leaving.socket.as_fd()).map(|a| judge(a, settling.quiet)) {
            Ok(Ok(())) => match prompted(leaving.socket.as_fd(), way) {
                Ok(()) => None,
                Err(cause) => Some(Why::new(Reason::NotDumped, &cause.to_string())),
            },
            Ok(Err(Busy { at_least, .. })) if now + at_least < settling.until => {
                return settling.next = now + at_least;
            }
            Ok(Err(Busy { said, .. })) => Some(Why::new(Reason::NotIdle, said)),
            Err(cause) => Some(Why::new(Reason::NotDumped, &cause.to_string())),
        };
        let Some(Settling { note, .. }) = leaving.settling.take() else { return };
        match why {
            None => {
                self.freeze(&note, kernel);
                self.dump(connection, way, now);
            }
            Some(why) => self.tell_source(Event::NotDumped { connection, why }, now),
        }
    }
}

/// Nothing but a packet of the client makes the connection at a server without a control socket. A silent client is made to
/// send one; the routing stack holds it with the others.
fn prompted(socket: std::os::fd::BorrowedFd<'_>, way: Way) -> std::io::Result<()> {
    match way {
        Way::Inject => repair::prompt(socket),
        Way::Restore => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How long it must be waited at least; nothing if it is idle.
    fn wait(unread: u32, unsent: u32, sent_ms: u64, received_ms: u64) -> Option<Duration> {
        let since = Duration::from_millis;
        let (since_sent, since_received) = (since(sent_ms), since(received_ms));
        judge(Activity { unread, unsent, since_sent, since_received }, QUIET).err().map(|busy| busy.at_least)
    }

    #[test]
    fn a_server_is_idle_that_has_read_everything_and_spoke_last() {
        assert_eq!(wait(0, 0, 12, 500), None);
        assert_eq!(wait(0, 0, 4000, 4000), None);
        for owes in [wait(9, 0, 12, 500), wait(0, 9, 12, 500), wait(0, 0, 500, 12)] {
            assert_eq!(owes, Some(LOOK));
        }
        assert_eq!(wait(0, 0, 4, 500), Some(Duration::from_millis(6)));
    }

    #[test]
    fn who_spoke_last_within_a_tick_is_seen_from_a_longer_quiet() {
        assert_eq!(wait(0, 0, 12, 12), Some(Duration::from_millis(38)));
        assert_eq!(wait(0, 0, 49, 45), Some(Duration::from_millis(5)));
        assert_eq!(wait(0, 0, 52, 56), None);
    }
}
