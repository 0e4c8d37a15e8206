//! Whether a server that is not asked owes its client an answer: looked at once before anything is held for it, then again while
//! the client's packets are held at the routing stack, and before anything is done to the socket.
//!
//! Nothing new arrives meanwhile, and what the server says still leaves. So its queues come to rest. Not after the freeze: an
//! answer would be lost and sent again much later, and a server that finds its socket in repair mode takes the connection for
//! broken.
//!
//! That the queues are at rest is no proof that a server is idle: it may wait for room in its send buffer, for a disk, for a
//! database, or for a rate limit. So it must also be seen to be between two answers ([`Stand`]). Where that can't be
//! seen, the connection stays, unless the order says for how long both must have been silent: then the operator
//! knows that these servers make no longer pauses.

use std::time::{Duration, Instant};

use model::Connection;
use model::transfer::{Reason, Way, Why};

use super::Host;
use super::kernel::{Asker, Handle, Kernel, Order};
use super::leaving::Phase;
use crate::giving::{Event, Note};

/// A server that is between two answers has been quiet for so long: it may still be at work on the socket.
const QUIET: Duration = Duration::from_millis(10);
/// The client's packets are held for so long at most.
const HELD: Duration = Duration::from_millis(100);
/// How often the kernel is asked.
const LOOK: Duration = Duration::from_millis(2);
/// The kernel's clock for what was said last ticks so often at least (`CONFIG_HZ=100`).
const TICK: Duration = Duration::from_millis(10);

/// What a server and its client have been doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Activity {
    /// Bytes that the server has not read.
    pub unread: u32,
    /// Bytes that the server has written and that were never sent.
    pub unsent: u32,
    /// Since the server's last byte was sent, or since the begin; as exact as the kernel's ticks.
    pub since_sent: Duration,
    /// Since the client's last byte was received, or since the begin.
    pub since_received: Duration,
    /// Since the client last acknowledged something, or since the begin.
    pub since_acknowledged: Duration,
    /// Bytes that the socket has taken of the client, those that were not read included.
    pub received: u64,
    /// A server that was short of room in the send buffer has been told that there is some again.
    pub is_writable: bool,
}

/// Where a server and its client stand, as far as what they said last tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stand {
    /// Neither has said anything.
    Fresh,
    /// The server has answered whatever it was asked.
    Between,
    /// The server has answered, and whether it was asked more than that was not seen: it is as well as between two answers once it is
    /// silent.
    Presumed,
    /// The server has a request that it has not begun to answer.
    Asked,
    /// The client is in the middle of a request.
    Asking,
    /// The server is in the middle of an answer.
    Answering,
    /// The server closes the connection after this answer.
    Closing,
    /// It speaks TLS.
    Encrypted,
    /// It does not speak HTTP/1.x.
    Another,
    /// What was said last was not seen, or not understood.
    Unseen,
}

/// For how long neither side must have said anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Silence {
    /// A moment, of a server that is seen to be between two answers.
    Short,
    /// So long, whatever the server is seen to be at.
    Proven(Duration),
    /// A server that is between two answers is at rest for its client, which has sent its next request.
    Needless,
}

impl Order {
    pub(super) fn silence(self) -> Silence {
        match self {
            Order { quiet: Some(quiet), .. } => Silence::Proven(quiet),
            Order { next: Some(_), .. } => Silence::Needless,
            Order { quiet: None, next: None, .. } => Silence::Short,
        }
    }
}

/// A connection that is looked at.
#[derive(Clone, Debug, Hash)]
pub(super) struct Settling {
    note: Note,
    order: Order,
    until: Instant,
}

/// What a look has shown.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    /// The server owes nothing.
    Idle,
    /// It may soon be idle if nothing new arrives: after this time at least.
    Soon(&'static str, Duration),
    /// It is not idle, and will not be so by holding its client's packets.
    Flows(&'static str),
    /// It does not move.
    Stays(Reason),
}

/// Whether a server owes its client something.
fn judge(activity: Activity, stand: Stand, silence: Silence) -> Verdict {
    let Activity { unread, unsent, since_sent, since_received, since_acknowledged, is_writable, .. } =
        activity;
    let silent = since_sent.min(since_received);
    let (quiet, is_proof) = match silence {
        Silence::Short => (QUIET, false),
        Silence::Proven(quiet) => (quiet, true),
        Silence::Needless => (Duration::ZERO, false),
    };
    match stand {
        Stand::Encrypted => return Verdict::Stays(Reason::Encrypted),
        Stand::Another if !is_proof => return Verdict::Stays(Reason::AnotherProtocol),
        Stand::Unseen if !is_proof => return Verdict::Stays(Reason::Unseen),
        Stand::Asking => return Verdict::Flows("the client is in the middle of a request"),
        Stand::Answering => return Verdict::Flows("the server is in the middle of an answer"),
        Stand::Closing => return Verdict::Flows("the server closes the connection after its answer"),
        Stand::Fresh | Stand::Between | Stand::Presumed | Stand::Asked | Stand::Another | Stand::Unseen => {}
    }
    if unsent > 0 {
        return Verdict::Flows("the client does not take what the server says");
    }
    if !is_writable {
        return Verdict::Flows("the server waits for room in its send buffer");
    }
    if unread > 0 {
        return Verdict::Soon("the server has not read what its client said", LOOK);
    }
    let (is_asked, wanted, silent) = match stand {
        Stand::Asked => (true, QUIET, silent),
        // Who spoke last, and whether the server was told of room in its buffer of late, is only seen by the time.
        Stand::Another | Stand::Unseen => {
            (since_received + TICK < since_sent, quiet, silent.min(since_acknowledged))
        }
        Stand::Presumed => (false, quiet.max(QUIET), silent),
        _ => (false, quiet, silent),
    };
    if is_asked {
        Verdict::Soon("the server has not answered", LOOK)
    } else if silent < wanted {
        Verdict::Soon("they have just spoken", wanted.saturating_sub(silent))
    } else {
        Verdict::Idle
    }
}

/// Why it is pointless to hold the packets of the client of a server of which this was seen, if it is.
pub(super) fn flows(seen: Result<(Activity, Stand), Why>, silence: Silence) -> Option<Why> {
    match seen.map(|(activity, stand)| judge(activity, stand, silence)) {
        Ok(Verdict::Idle | Verdict::Soon(..)) => None,
        Ok(Verdict::Flows(said)) => Some(Why::new(Reason::NotIdle, said)),
        Ok(Verdict::Stays(reason)) => Some(reason.into()),
        Err(why) => Some(why),
    }
}

impl Host {
    /// Whether it is looked at first, instead of being frozen. Its socket is taken where it was found; a server that has closed it
    /// meanwhile has nothing to be looked at.
    pub(super) fn settles_first(&mut self, note: &Note, kernel: &mut impl Kernel, now: Instant) -> bool {
        let connection = note.connection;
        let Some(leaving) = self.leaving.get_mut(&connection) else { return false };
        let (Phase::Ordered, Asker::Operator(order)) = (&leaving.phase, leaving.asker) else {
            return false;
        };
        // From now on the transfer alone speaks for it.
        self.touched.insert(connection, true);
        if kernel.hold_found(&connection, order.place).is_ok() {
            leaving.phase = Phase::Settling(Settling { note: note.clone(), order, until: now + HELD });
            self.looks.set(connection, now);
        }
        true
    }

    /// Whether it is being looked at.
    pub(crate) fn settles(&self, connection: &Connection) -> bool {
        self.leaving.get(connection).is_some_and(|leaving| matches!(leaving.phase, Phase::Settling(_)))
    }

    /// Looks at a connection; an idle one is frozen and dumped.
    pub(crate) fn look(&mut self, connection: Connection, kernel: &mut impl Kernel, now: Instant) {
        let Some(leaving) = self.leaving.get_mut(&connection) else { return };
        let Phase::Settling(settling) = &mut leaving.phase else { return };
        let handle = Handle::Kept(connection);
        let verdict =
            kernel.look(handle).map(|(activity, stand)| judge(activity, stand, settling.order.silence()));
        let has_gone_on = settling.order.next.is_some();
        let verdict = match verdict {
            // What makes the connection elsewhere is the next request, and only if it acknowledges all.
            Ok(Verdict::Idle) if has_gone_on && kernel.unacknowledged(handle) > 0 => {
                Ok(Verdict::Soon("the client has not acknowledged the answer", LOOK))
            }
            verdict => verdict,
        };
        let why = match verdict {
            // Nothing but a packet of the client makes the connection at a server without a control socket. A silent client is
            // made to send one; the routing stack holds it with the others, as it does with a next request.
            Ok(Verdict::Idle) if settling.note.way == Way::Inject && !has_gone_on => {
                kernel.prompt(&connection).err().map(|said| Why::new(Reason::NotDumped, &said))
            }
            Ok(Verdict::Idle) => None,
            Ok(Verdict::Soon(_, at_least)) if now + at_least < settling.until => {
                return self.looks.set(connection, now + at_least);
            }
            Ok(Verdict::Soon(said, _) | Verdict::Flows(said)) => Some(Why::new(Reason::NotIdle, said)),
            Ok(Verdict::Stays(reason)) => Some(reason.into()),
            Err(why) => Some(why),
        };
        let Phase::Settling(Settling { note, .. }) = std::mem::replace(&mut leaving.phase, Phase::Held)
        else {
            return;
        };
        match why {
            None => {
                self.freeze(&note, kernel, now);
                self.dump(connection, note.way, kernel, now);
            }
            Some(why) => self.tell_source(Event::NotDumped { connection, why }, now),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    /// At rest for so long.
    fn at_rest(ms: u64) -> Activity {
        Activity {
            unread: 0,
            unsent: 0,
            since_sent: MS(ms),
            since_received: MS(ms),
            since_acknowledged: MS(ms),
            received: 0,
            is_writable: true,
        }
    }

    fn silence(quiet_ms: Option<u64>) -> Silence {
        quiet_ms.map_or(Silence::Short, |ms| Silence::Proven(MS(ms)))
    }

    fn is_idle(activity: Activity, stand: Stand, quiet_ms: Option<u64>) -> bool {
        judge(activity, stand, silence(quiet_ms)) == Verdict::Idle
    }

    #[test]
    fn a_client_that_has_sent_its_next_request_waits_for_no_silence_but_for_all_else() {
        let judge = |ms, stand| judge(at_rest(ms), stand, Silence::Needless);
        for stand in [Stand::Fresh, Stand::Between] {
            assert_eq!(judge(0, stand), Verdict::Idle);
        }
        assert_eq!(judge(0, Stand::Presumed), Verdict::Soon("they have just spoken", QUIET));
        assert_eq!(judge(10, Stand::Presumed), Verdict::Idle);
        assert!(matches!(judge(10, Stand::Asked), Verdict::Soon(..)));
        assert!(matches!(judge(10, Stand::Answering), Verdict::Flows(_)));
        assert_eq!(judge(10, Stand::Unseen), Verdict::Stays(Reason::Unseen));
    }

    #[test]
    fn a_server_is_idle_between_two_answers_once_it_is_at_rest() {
        for stand in [Stand::Fresh, Stand::Between] {
            assert!(is_idle(at_rest(10), stand, None));
            assert_eq!(
                judge(at_rest(4), stand, Silence::Short),
                Verdict::Soon("they have just spoken", MS(6))
            );
            assert!(!is_idle(at_rest(10), stand, Some(11)), "the order asks for more");
        }
    }

    #[test]
    fn silence_is_no_proof_that_a_server_owes_nothing() {
        for stand in [Stand::Asked, Stand::Asking, Stand::Answering, Stand::Closing] {
            assert!(!is_idle(at_rest(3_600_000), stand, None), "{stand:?}");
            assert!(!is_idle(at_rest(3_600_000), stand, Some(1)), "{stand:?}");
        }
    }

    #[test]
    fn a_server_that_waits_for_room_is_not_idle_however_silent() {
        let blocked = Activity { is_writable: false, ..at_rest(3_600_000) };
        let slow = Activity { unsent: 1, ..at_rest(3_600_000) };
        for stand in [Stand::Between, Stand::Another, Stand::Unseen] {
            assert!(matches!(judge(blocked, stand, Silence::Proven(MS(1))), Verdict::Flows(_)));
            assert!(matches!(judge(slow, stand, Silence::Proven(MS(1))), Verdict::Flows(_)));
        }
        let unread = Activity { unread: 1, ..at_rest(3_600_000) };
        assert!(matches!(judge(unread, Stand::Between, Silence::Short), Verdict::Soon(..)));
    }

    #[test]
    fn what_can_not_be_seen_stays_unless_the_order_says_how_long_a_silence_proves_it() {
        let stays = |stand, quiet_ms: Option<u64>| judge(at_rest(3_600_000), stand, silence(quiet_ms));
        assert_eq!(stays(Stand::Another, None), Verdict::Stays(Reason::AnotherProtocol));
        assert_eq!(stays(Stand::Unseen, None), Verdict::Stays(Reason::Unseen));
        assert_eq!(stays(Stand::Encrypted, Some(1)), Verdict::Stays(Reason::Encrypted));
        for stand in [Stand::Another, Stand::Unseen] {
            assert!(is_idle(at_rest(100), stand, Some(100)));
            let said = |activity| judge(activity, stand, Silence::Proven(MS(100)));
            let lately = Activity { since_acknowledged: MS(3), ..at_rest(100) };
            assert_eq!(said(lately), Verdict::Soon("they have just spoken", MS(97)));
            let asked = Activity { since_sent: MS(200), ..at_rest(100) };
            assert_eq!(said(asked), Verdict::Soon("the server has not answered", LOOK));
        }
    }
}
