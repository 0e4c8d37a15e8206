//! The agent's part of all transfers of one host: what is done to sockets, notes and packets for the protocol's two machines, in
//! which order, and what a restarted agent makes of what it finds.
//!
//! Pure: it has no descriptor, no clock and no file. What it wants done it does through a [`Kernel`], call by call: an agent
//! gives it the host's, the simulation one that it makes up. So what is proven is what runs.
//!
//! What the [source](crate::giving)'s machine wants of a connection, by what was done to it here:
//!
//! | wanted | Ordered | Held | Settling | Frozen | Left |
//! | --- | --- | --- | --- | --- | --- |
//! | freeze | take its descriptor; *Settling* | note, keep away; *Frozen* | | | |
//! | dump | no socket | could not be frozen | – (the look does it) | dump; refuse what can't move | |
//! | thaw | let flow, erase | let flow, wake, erase | the same; *Held* | the same; *Held* | |
//! | discard | departs; *Left* | departs; *Left* | departs; *Left* | departs; *Left* | – |
//! | moved | | | | | disconnect, tell, erase; or keep it as an orphan, if nobody asks |
//! | failed | tell | release, erase, tell | the same | the same | disconnect, erase, tell: it has ended |
//! | a look: idle | | | prompt, freeze and dump | | |
//! | a look: not yet | | | again | | |
//! | a look: no | | | not dumped | | |
//!
//! What the [target](crate::taking)'s machine wants of a transfer, likewise:
//!
//! | wanted, or seen | Offered | Restored | Passing | Admitted | Claimed | Closing | Inherited |
//! | --- | --- | --- | --- | --- | --- | --- | --- |
//! | restore | note, keep away, restore; *Restored* | | | | | | |
//! | admit | keep bytes, note, admit; *Admitted* | | | | | | |
//! | pass | | pass; *Passing* | | | | | |
//! | rejected, or gone | rejected, or gone | gone | not passed | gone | gone | | |
//! | activate | | | note, let flow, wake, give; *Over* | | | | note, find, wake; or await its application; *Over* |
//! | a packet claims it | | | | *Claimed* | | | |
//! | it is through | | | | | reopen; *Admitted* | barred | |
//! | a packet has made it | | | | note, give bytes; *Over* | the same | | |
//! | bar | | | | void; barred, or *Closing* | void; barred, or *Closing* | | void; barred, or *Closing* |
//! | discard | withdraw | depart, close silently, withdraw | the same | forget the admission | the same | the same | the same |
//!
//! barred: note what the kernel says, made or not; let flow or depart; give bytes; *Over*. Forget takes a transfer out of any of them.
//!
//! In reading order: `kernel` (the contract), `requests` (who wants what), `leaving`, `settling` (does an unmodified server owe an
//! answer?), `coming`, `restart`.

mod coming;
mod kernel;
mod leaving;
mod requests;
mod restart;
mod settling;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use model::transfer::{Abilities, Reason, ToHost, TransferId};
use model::{Connection, Dvipa, StackName};

pub use kernel::{
    ApplicationId, Arrival, Asker, Away, Dump, Found, Handle, Kept, Kernel, NotRestored, Note, Order, Place,
    Queues, Subject, Voided,
};
pub use leaving::{MAX_UNREAD_BYTES, Terms};
pub use restart::{CLAIM_WITHIN, Left};
pub use settling::{Activity, Stand};

use crate::timers::Due;
use crate::{Owner, Source, Target, giving, taking};
use coming::{Coming, Giving};
use leaving::Leaving;
use requests::{Waiting, WaitingId};
use restart::Awaited;

/// How long a connection counts as departed: two minutes, the longest that a packet may live (RFC 9293 3.4.2).
pub const DEPARTED: Duration = Duration::from_secs(120);

/// How often what is over is swept away.
pub const SWEEP: Duration = Duration::from_secs(30);

/// How it stands with a connection that has moved or was to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Standing {
    /// It is moving: NEWCONN and TERMCONN do not tell of it.
    Moves,
    /// It is this host's, or has ended here.
    Ours,
    /// Another has it, or nobody.
    Elsewhere,
}

/// All transfers from and to one host.
#[derive(Clone, Debug, Hash)]
pub struct Host {
    source: Source,
    target: Target,
    /// Requests that can't be followed yet, and when to look at each again.
    waiting: BTreeMap<WaitingId, Waiting>,
    turns: Due<WaitingId>,
    leaving: BTreeMap<Connection, Leaving>,
    /// When to look at those that settle.
    looks: Due<Connection>,
    /// Moved for a former run of this agent, until when the asker of that run may ask what became of it.
    orphans: BTreeMap<Connection, Instant>,
    coming: BTreeMap<TransferId, Coming>,
    /// Those of them that a packet may make, or is about to.
    admitted: BTreeMap<Connection, TransferId>,
    /// Transfers whose admission a packet has claimed without making the connection, so far.
    claimed: Vec<TransferId>,
    /// Such packets are being waited for.
    awaits_claims: bool,
    /// When it was looked for such at all that are admitted, and behind which of them the look under way goes on.
    last_claims: Instant,
    looked_to: Option<Connection>,
    /// Connections that a packet has made here of late, and from when on their clients may be prompted again.
    made: Due<Connection>,
    /// Connections that were put into a listener and are still to be given bytes of their clients.
    giving: BTreeMap<Connection, Giving>,
    /// When to try that again.
    gifts: Due<Connection>,
    /// How many bytes are kept until kernels take them.
    kept_bytes: usize,
    /// Connections that a former run has activated and whose descriptors are on their way to applications.
    awaited: BTreeMap<Connection, Awaited>,
    /// When each of them is looked for.
    claims_by: Due<Connection>,
    /// Connections whose standing may have changed, and whether they are this host's if they no longer move.
    touched: BTreeMap<Connection, bool>,
    next_sweep: Instant,
}

impl Host {
    /// A host without transfers. The incarnation in its abilities differs each time the agent starts.
    pub fn new(abilities: Abilities, now: Instant) -> Self {
        Self {
            source: Source::new(abilities.incarnation),
            target: Target::new(abilities),
            waiting: BTreeMap::new(),
            turns: Due::default(),
            leaving: BTreeMap::new(),
            looks: Due::default(),
            orphans: BTreeMap::new(),
            coming: BTreeMap::new(),
            admitted: BTreeMap::new(),
            claimed: Vec::new(),
            awaits_claims: false,
            last_claims: now,
            looked_to: None,
            made: Due::default(),
            giving: BTreeMap::new(),
            gifts: Due::default(),
            kept_bytes: 0,
            awaited: BTreeMap::new(),
            claims_by: Due::default(),
            touched: BTreeMap::new(),
            next_sweep: now + SWEEP,
        }
    }

    /// Takes in what a routing stack says about a transfer.
    ///
    /// # Errors
    /// Why it is void: to be counted.
    pub fn received(&mut self, from: StackName, message: ToHost, now: Instant) -> Result<(), Reason> {
        match message {
            ToHost::Source(message) => self.source.handle(giving::Event::Received { from, message }, now),
            ToHost::Target(message) => self.target.handle(taking::Event::Received { from, message }, now),
        }
    }

    /// Takes in who owns a DVIPA now.
    pub fn owner(&mut self, dvipa: Dvipa, owner: Option<Owner>, now: Instant) {
        self.tell_source(giving::Event::Owner { dvipa, owner: owner.clone() }, now);
        self.tell_target(taking::Event::Owner { dvipa, owner }, now);
    }

    /// Does what is to be done, so many deeds at most; `false`: some are left, which come before whatever else happens.
    pub fn act(&mut self, kernel: &mut impl Kernel, now: Instant, most: usize) -> bool {
        (0..most).any(|_| !self.step(kernel, now))
    }

    /// Does the next thing that is to be done; `false`: there is none. A transfer that has ended is ended for its socket and its
    /// asker before the next one of the connection begins.
    pub(crate) fn step(&mut self, kernel: &mut impl Kernel, now: Instant) -> bool {
        for connection in self.target.take_ended() {
            self.may_begin(&connection, now);
        }
        if let Some(action) = self.source.poll() {
            self.source_deed(action, kernel, now);
        } else if let Some(action) = self.target.poll() {
            self.target_deed(action, kernel, now);
        } else if self.follow(kernel, now) {
        } else if let Some(connection) = self.looks.pop(now) {
            self.look(connection, kernel, now);
        } else if let Some(connection) = self.gifts.pop(now) {
            self.give(connection, kernel, now);
        } else if !self.awaits_claims && !self.claimed.is_empty() {
            self.awaits_claims = true;
            kernel.await_claims(std::mem::take(&mut self.claimed));
        } else {
            return false;
        }
        true
    }

    /// What the deed of [`Host::next_deadline`] is, beside [`Host::act`].
    pub fn time_passed(&mut self, kernel: &mut impl Kernel, now: Instant) {
        self.tell_source(giving::Event::TimePassed, now);
        self.tell_target(taking::Event::TimePassed, now);
        self.look_for_awaited(kernel, now);
        if self.next_claims().is_some_and(|due| due <= now) {
            self.look_for_claimed(kernel, now);
        }
        if now >= self.next_sweep {
            self.sweep(kernel, now);
        }
    }

    /// What is over goes.
    pub(crate) fn sweep(&mut self, kernel: &mut impl Kernel, now: Instant) {
        self.next_sweep = now + SWEEP;
        while self.made.pop(now).is_some() {}
        let late: Vec<_> = self.orphans.iter().filter(|(_, until)| **until <= now).map(|(c, _)| *c).collect();
        late.iter().for_each(|connection| self.disconnect_orphan(connection, kernel));
        kernel.sweep();
    }

    /// When [`Host::time_passed`] and [`Host::act`] are due.
    pub fn next_deadline(&self) -> Instant {
        let deadlines = [
            self.source.next_deadline(),
            self.target.next_deadline(),
            self.turns.next(),
            self.gifts.next(),
            self.claims_by.next(),
            self.looks.next(),
            self.next_claims(),
        ];
        deadlines.into_iter().flatten().fold(self.next_sweep, Instant::min)
    }

    /// Connections whose standing has changed. One that has come here moves until the routing stack has settled that: until
    /// then it hears nothing else about it. So does one that has left, as long as a socket of it is here.
    pub fn take_touched(&mut self) -> Vec<(Connection, Standing)> {
        let standing = |(connection, ours): (Connection, bool)| {
            let moves = self.source.speaks_for(&connection)
                || self.target.unsettled(&connection)
                || self.orphans.contains_key(&connection);
            let rests = if ours { Standing::Ours } else { Standing::Elsewhere };
            (connection, if moves { Standing::Moves } else { rests })
        };
        std::mem::take(&mut self.touched).into_iter().map(standing).collect()
    }

    /// Whether a connection is leaving, or an operator wants it moved.
    pub fn is_leaving(&self, connection: &Connection) -> bool {
        self.leaving.contains_key(connection)
    }

    /// How many connections are to leave.
    pub fn leaving(&self) -> usize {
        self.leaving.len() + self.waiting.len()
    }

    /// How many are to come.
    pub fn coming(&self) -> usize {
        self.coming.len()
    }

    /// How many have left, and their applications do not know.
    pub fn orphans(&self) -> usize {
        self.orphans.len()
    }

    /// How many are on their way to applications.
    pub fn awaited(&self) -> usize {
        self.awaited.len()
    }

    /// Whether [`Host::step`] has something to do.
    #[cfg(test)]
    pub(crate) fn is_busy(&self, now: Instant) -> bool {
        let is_due = self.looks.is_due(now) || self.gifts.is_due(now) || self.turns.is_due(now);
        let waits = !self.claimed.is_empty() && !self.awaits_claims;
        self.source.is_busy() || self.target.is_busy() || is_due || waits
    }

    /// Nothing of a transfer is left here.
    #[cfg(test)]
    pub(crate) fn rests(&self) -> bool {
        let deadlines = [self.source.next_deadline(), self.target.next_deadline()];
        deadlines.iter().all(Option::is_none)
            && self.leaving() + self.coming() + self.orphans() + self.awaited() + self.giving.len() == 0
    }

    /// A packet may have claimed an admission without its being seen.
    #[cfg(test)]
    pub(crate) fn can_see_claims(&self) -> bool {
        self.coming.values().any(|coming| coming.phase == coming::Phase::Admitted)
    }

    /// Something is to be done a little later.
    #[cfg(test)]
    pub(crate) fn waits_for_time(&self, now: Instant) -> bool {
        self.looks.next().is_some() || self.turns.next().is_some_and(|at| at > now)
    }

    #[cfg(test)]
    pub(crate) fn source_timers(&self) -> Vec<(Connection, crate::timers::Timer)> {
        self.source.timers()
    }

    #[cfg(test)]
    pub(crate) fn target_timers(&self) -> Vec<(TransferId, crate::timers::Timer)> {
        self.target.timers()
    }

    /// For a checker that has them say what no agent does, or at another time.
    #[cfg(test)]
    pub(crate) fn machines(&mut self) -> (&mut Source, &mut Target) {
        (&mut self.source, &mut self.target)
    }

    /// Tells the target's machine what came of its wish. It may have given the transfer up meanwhile.
    fn tell_target(&mut self, event: taking::Event, now: Instant) {
        let _ = self.target.handle(event, now);
    }

    /// Tells the source's machine what came of its wish.
    fn tell_source(&mut self, event: giving::Event, now: Instant) {
        let _ = self.source.handle(event, now);
    }
}
