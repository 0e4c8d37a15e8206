//! A kernel that says what it is asked, in words, and answers as it is told.

use std::collections::{BTreeMap, BTreeSet};

use super::super::*;
use crate::fixture::{token, word};
use crate::host::kernel::*;
use model::control_socket::RequestId;
use model::handoff::Token;
use model::transfer::{FromHost, Why};

/// Its answers, and what it was asked.
pub(super) struct Told {
    pub(super) words: Vec<String>,
    /// Calls that fail, by their words.
    fails: BTreeSet<&'static str>,
    pub(super) away: BTreeMap<Connection, Away>,
    pub(super) found: Found,
    pub(super) is_silent: bool,
    pub(super) unacknowledged: u32,
    pub(super) seen: (Activity, Stand),
    pub(super) queues: Queues,
    pub(super) arrival: Arrival,
    /// Why a socket is not restored: one is here.
    pub(super) is_here: bool,
    pub(super) voided: Voided,
    pub(super) is_made: bool,
    pub(super) is_claimed: bool,
    /// How often it was asked whether a connection is claimed or made.
    pub(super) looks: usize,
    /// Whether it takes all bytes that it is given.
    pub(super) takes: bool,
}

/// Neither has said anything for an hour.
pub(super) fn at_rest() -> Activity {
    let hour = Duration::from_secs(3600);
    Activity {
        unread: 0,
        unsent: 0,
        since_sent: hour,
        since_received: hour,
        since_acknowledged: hour,
        received: 0,
        is_writable: true,
    }
}

impl Told {
    pub(super) fn new() -> Self {
        Self {
            words: Vec::new(),
            fails: BTreeSet::new(),
            away: BTreeMap::new(),
            found: Found::Here,
            is_silent: true,
            unacknowledged: 0,
            seen: (at_rest(), Stand::Between),
            queues: Queues { is_whole: true, ..Queues::default() },
            arrival: Arrival::default(),
            is_here: false,
            voided: Voided::Void,
            is_made: false,
            is_claimed: false,
            looks: 0,
            takes: true,
        }
    }

    /// This call fails from now on.
    pub(super) fn fail(&mut self, call: &'static str) {
        self.fails.insert(call);
    }

    fn say(&mut self, word: impl Into<String>) {
        self.words.push(word.into());
    }

    /// A call that can fail; one that only asks is not told of.
    fn try_to(&mut self, call: &str, said: Option<String>) -> Result<(), String> {
        let fails = self.fails.contains(call);
        if let Some(said) = said {
            self.say(if fails { format!("{said}!") } else { said });
        }
        if fails { Err(format!("{call} fails")) } else { Ok(()) }
    }
}

/// A descriptor's word.
fn of(handle: Handle) -> &'static str {
    match handle {
        Handle::Kept(_) => "kept",
        Handle::Passed(..) => "passed",
    }
}

impl Kernel for Told {
    fn send(&mut self, _: StackName, message: FromHost) {
        self.say(message.word());
    }
    fn moved(&mut self, asker: Asker, _: &Connection) {
        self.say(format!("moved:{}", word(asker)));
    }
    fn stays(&mut self, asker: Asker, _: &Connection, why: &Why) {
        self.say(format!("stays:{}:{}", word(asker), why.reason.name()));
    }
    fn claimed(&mut self, _: ApplicationId, _: RequestId, is_its: bool) {
        self.say(format!("claimed:{is_its}"));
    }
    fn note(&mut self, note: Note<'_>) -> Result<(), String> {
        self.try_to("note", Some(format!("note:{}", word(note))))
    }
    fn erase(&mut self, of: Subject) {
        self.say(format!("erase:{}", word(of)));
    }
    fn keep(&mut self, _: TransferId, kept: Kept, _: &[u8]) -> Result<(), String> {
        self.try_to("keep", Some(format!("keep:{kept:?}")))
    }
    fn unkeep(&mut self, _: TransferId, kept: Kept) {
        self.say(format!("unkeep:{kept:?}"));
    }
    fn sweep(&mut self) {
        self.say("sweep");
    }
    fn keep_away(&mut self, connection: &Connection, how: Away, at_most: Duration) -> Result<(), String> {
        self.away.insert(*connection, how);
        self.try_to("away", Some(format!("away:{how:?}:{}", at_most.as_secs())))
    }
    fn let_flow(&mut self, connection: &Connection) {
        self.away.remove(connection);
        self.say("flow");
    }
    fn away(&mut self, connection: &Connection) -> Result<Option<Away>, String> {
        self.try_to("is away", None).map(|()| self.away.get(connection).copied())
    }
    fn hold(&mut self, _: ApplicationId, _: RequestId, _: &Connection) {
        self.say("hold");
    }
    fn hold_found(&mut self, _: &Connection, _: Place) -> Result<(), String> {
        self.try_to("hold", Some("hold-found".into()))
    }
    fn find(&mut self, _: &Connection) -> Found {
        self.say("find");
        self.found
    }
    fn release(&mut self, handle: Handle) {
        self.say(format!("release:{}", of(handle)));
    }
    fn disconnect(&mut self, handle: Handle) {
        self.say(format!("disconnect:{}", of(handle)));
    }
    fn silence(&mut self, _: &Connection) {
        self.say("silence");
    }
    fn is_silent(&mut self, _: Handle) -> Result<bool, String> {
        self.try_to("is silent", None).map(|()| self.is_silent)
    }
    fn unacknowledged(&mut self, _: Handle) -> u32 {
        self.unacknowledged
    }
    fn look(&mut self, _: Handle) -> Result<(Activity, Stand), Why> {
        self.try_to("look", Some("look".into())).map(|()| self.seen).map_err(|_| Reason::NoSocket.into())
    }
    fn prompt(&mut self, _: &Connection) -> Result<(), String> {
        self.try_to("prompt", Some("prompt".into()))
    }
    fn dump(&mut self, _: &Connection) -> Result<Dump, Why> {
        let dumped = self.try_to("dump", Some("dump".into()));
        let dump = Dump { socket: b"socket".to_vec(), queues: self.queues };
        dumped.map(|()| dump).map_err(|_| Reason::NotDumped.into())
    }
    fn thaw(&mut self, _: &Connection) {
        self.say("thaw");
    }
    fn finish(&mut self, handle: Handle, _: TransferId) -> bool {
        self.try_to("finish", Some(format!("finish:{}", of(handle)))).is_ok()
    }
    fn destroy(&mut self, _: &Connection) {
        self.say("destroy");
    }
    fn offer(&mut self, _: TransferId, _: &Connection, _: Option<&str>, _: &[u8]) -> Result<(), Reason> {
        self.try_to("offer", Some("offer".into())).map_err(|_| Reason::TakesNoOffers)
    }
    fn read(&mut self, _: &taking::Note, _: &[u8]) -> Result<Arrival, String> {
        self.try_to("read", Some("read".into())).map(|()| self.arrival)
    }
    fn track(&mut self, _: &Connection) -> Result<(), String> {
        self.try_to("track", Some("track".into()))
    }
    fn restore(&mut self, _: TransferId) -> Result<(), NotRestored> {
        let is_here = self.is_here;
        self.try_to("restore", Some("restore".into())).map_err(|said| NotRestored { is_here, said })
    }
    fn pass(&mut self, _: TransferId, _: &Connection, _: Option<&str>, _: &[u8]) -> Result<(), Reason> {
        self.try_to("pass", Some("pass".into())).map_err(|_| Reason::NotPassed)
    }
    fn activate(&mut self, _: TransferId, _: &Connection) {
        self.say("activate");
    }
    fn discard(&mut self, _: TransferId) {
        self.say("discard");
    }
    fn is_here(&mut self, _: &Connection) -> Result<bool, String> {
        self.try_to("is here", None).map(|()| self.is_here)
    }
    fn admit(&mut self, _: TransferId, _: &Connection) -> Result<Token, String> {
        self.try_to("admit", Some("admit".into())).map(|()| token(7))
    }
    fn void(&mut self, _: &Connection) -> Result<Voided, String> {
        self.try_to("void", Some("void".into())).map(|()| self.voided)
    }
    fn is_made(&mut self, _: &Connection) -> Result<bool, String> {
        self.looks += 1;
        self.try_to("is made", None).map(|()| self.is_made)
    }
    fn is_claimed(&mut self, _: &Connection) -> bool {
        self.looks += 1;
        self.is_claimed
    }
    fn await_claims(&mut self, transfers: Vec<TransferId>) {
        self.say(format!("await:{}", transfers.len()));
    }
    fn reopen(&mut self, _: &Connection) {
        self.say("reopen");
    }
    fn forget_admission(&mut self, _: &Connection) {
        self.say("forget");
    }
    fn give(&mut self, _: TransferId) -> bool {
        self.say("give");
        self.takes
    }
    fn takes_nothing(&mut self, _: &Connection) {
        self.say("takes-nothing");
    }
}
