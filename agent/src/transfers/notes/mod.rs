//! What this host remembers of transfers, so that a restarted agent says the same as its predecessor.
//!
//! A [record](records) a note, in a file in memory: it outlives the process and not the host. How far a transfer is stands in
//! the record's first byte, so that the step that decides is one write of some bytes where bytes are already: it takes no
//! memory and is done or not.
//!
//! | first byte | of | means |
//! | --- | --- | --- |
//! | 0 | | the place is free |
//! | 1, leaving | the source | the connection is frozen here |
//! | 2, prepared | the target | its socket is restored; void once the agent is gone, though an application may have the socket |
//! | 3, admitted | the target | a packet may make the connection |
//! | 4, active | the target | the connection is here |
//! | 5, barred | the target | no packet may make it any more |
//!
//! Behind it: when that was (seconds since 1970, eight bytes), the length of the rest (two bytes), the rest in CBOR; numbers
//! are little-endian.
//!
//! # One note of leaving a connection
//! A connection leaves this host in one transfer at a time, and so there is one note of that, which the next transfer replaces
//! in the same write. If there could be two, the following would happen. The agent is killed after the socket of a
//! connection that has moved (transfer 1) was disconnected and before its note is erased. The next run inherits a note without
//! a socket. If it does not erase it, the note is there when the connection has come back here and leaves again (transfer 2)
//! and the agent is killed once more. The run after that inherits two notes of one connection, and asks about transfer 1, the
//! answer to which is that it is over and that the source may thaw: while transfer 2 is decided at its target. Two hosts then
//! have the connection. Therefore a note is erased whether or not its socket is found, and never stands beside a later one;
//! should a file have two of a connection nevertheless, because one could not be erased, the later one counts.

mod records;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use minicbor::{Decode, Encode};
use model::codec::WireConnection;
use model::transfer::{Ledger, TransferId, Way};
use model::{Connection, StackName};
use rustix::time::{ClockId, clock_gettime};
use transfer::taking::Standing;
use transfer::{giving, limits, taking};

#[cfg(test)]
pub(super) use records::MOST;
use records::{Place, Records};
use transport::private;

/// The file with the ledger's number.
const LEDGER: &str = "ledger";
/// The file with the notes.
const NOTES: &str = "notes";
/// What is being written.
const UNFINISHED: &str = "unfinished";
/// A number that is another after each start of the host.
const BOOT: &str = "/proc/sys/kernel/random/boot_id";
/// A barred transfer is remembered for as long as a packet may live (RFC 9293 3.4.2).
pub(super) const BARRED: Duration = Duration::from_secs(120);
/// What stands before the rest of a record.
const HEAD_BYTES: usize = 11;

/// How far a noted transfer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Leaving = 1,
    Prepared = 2,
    Admitted = 3,
    Active = 4,
    Barred = 5,
}

impl Kind {
    const ALL: [Self; 5] = [Self::Leaving, Self::Prepared, Self::Admitted, Self::Active, Self::Barred];

    fn of(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == byte)
    }
}

/// What a note is of: there is one of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Subject {
    /// A connection that leaves.
    Leaving(Connection),
    /// A transfer to this host.
    Coming(TransferId),
}

/// Where a note is, and what it says.
#[derive(Clone, Copy, Debug)]
struct Noted {
    place: Place,
    kind: Kind,
    since: u64,
}

/// The notes of this host.
#[derive(Debug)]
pub struct Notes {
    records: Records,
    noted: HashMap<Subject, Noted>,
    ledger: Ledger,
}

/// What a former run of the agent has left.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Left {
    /// Connections that are frozen here, and when they are given up.
    pub leaving: Vec<(giving::Note, Instant)>,
    /// Transfers to this host.
    pub coming: Vec<(taking::Note, Standing)>,
    /// Transfers to this host that are void: silent sockets of them may be left.
    pub void: Vec<taking::Note>,
}

/// A note in its file.
#[derive(Debug, Encode, Decode)]
struct Written {
    #[n(0)]
    connection: WireConnection,
    #[n(1)]
    transfer: TransferId,
    /// The other stack: of one that leaves its target, else its source.
    #[n(2)]
    peer: StackName,
    #[n(3)]
    way: Way,
    /// The target's ledger, of one that leaves.
    #[n(4)]
    ledger: Option<Ledger>,
    /// When one that leaves is given up, in seconds of `CLOCK_BOOTTIME`, which goes on while the host sleeps. A time, and not how
    /// long: an agent that is restarted again and again must not be in doubt for longer than the target remembers.
    #[n(5)]
    until: Option<u64>,
}

impl Notes {
    /// Opens the notes of this directory, and says what a former run has left there. A ledger of another start of the host
    /// is given up, with all that it holds: the sockets that it speaks of are gone.
    ///
    /// # Errors
    /// What the system says.
    pub fn open(directory: &Path) -> io::Result<(Self, Left)> {
        private::directory(directory)?;
        let ledger = match known_ledger(directory)? {
            Some(ledger) => ledger,
            None => begin_ledger(directory)?,
        };
        let mut found = Vec::new();
        let records = Records::open(&directory.join(NOTES), |place, record| {
            let read = read(record);
            let is_taken = read.is_some();
            found.extend(read.map(|(kind, since, written)| (Noted { place, kind, since }, written)));
            is_taken
        })?;
        let mut notes = Self { records, noted: HashMap::new(), ledger };
        let left = notes.take_over(found)?;
        Ok((notes, left))
    }

    /// Erases what a later note has replaced, and says what the others are. Those of void transfers stay until they are
    /// [forgotten](Notes::forgets): this run may be killed too before it has found their sockets.
    fn take_over(&mut self, mut found: Vec<(Noted, Written)>) -> io::Result<Left> {
        let mut left = Left::default();
        found.sort_by_key(|(noted, written)| (noted.since, written.transfer));
        // The latest first: it counts.
        for (noted, written) in found.into_iter().rev() {
            match self.noted.entry(noted.kind.subject(&written)) {
                Entry::Occupied(_) => {
                    self.records.write(noted.place, &[0])?;
                    self.records.give_back(noted.place);
                }
                Entry::Vacant(vacant) => {
                    vacant.insert(noted);
                    left.take_in(noted.kind, written);
                }
            }
        }
        Ok(left)
    }

    /// Which ledger this is.
    pub fn ledger(&self) -> Ledger {
        self.ledger
    }

    /// The connection is about to be frozen here, and given up at this time. What was noted of it in a former transfer from here is
    /// replaced.
    ///
    /// # Errors
    /// What the system says.
    pub fn leaves(&mut self, note: &giving::Note, until: Instant) -> io::Result<()> {
        let giving::Note { connection, transfer, target, ledger, way } = note.clone();
        let (connection, ledger) = (WireConnection(connection), Some(ledger));
        let until = Some(boot_seconds() + until.saturating_duration_since(Instant::now()).as_secs());
        self.write(Kind::Leaving, &Written { connection, transfer, peer: target, way, ledger, until })
    }

    /// It no longer is.
    pub fn stays_or_left(&mut self, connection: &Connection) {
        self.remove(Subject::Leaving(*connection));
    }

    /// A socket is about to be restored. From here on [`Notes::activates`] needs nothing that could be lacking.
    ///
    /// # Errors
    /// What the system says.
    pub fn prepares(&mut self, note: &taking::Note) -> io::Result<()> {
        self.write(Kind::Prepared, &of_target(note))
    }

    /// It is activated: the decision.
    ///
    /// # Errors
    /// What the system says.
    pub fn activates(&mut self, transfer: TransferId) -> io::Result<()> {
        self.turn(transfer, Kind::Prepared, Kind::Active)
    }

    /// A packet may make the connection.
    ///
    /// # Errors
    /// What the system says.
    pub fn admits(&mut self, note: &taking::Note) -> io::Result<()> {
        self.write(Kind::Admitted, &of_target(note))
    }

    /// One has.
    ///
    /// # Errors
    /// What the system says.
    pub fn made(&mut self, transfer: TransferId) -> io::Result<()> {
        self.turn(transfer, Kind::Admitted, Kind::Active)
    }

    /// None may any more.
    ///
    /// # Errors
    /// What the system says.
    pub fn bars(&mut self, transfer: TransferId) -> io::Result<()> {
        self.turn(transfer, Kind::Admitted, Kind::Barred)
    }

    /// Nothing has to be known of a transfer to this host any more; what is barred stays so.
    pub fn forgets(&mut self, transfer: TransferId) {
        let subject = Subject::Coming(transfer);
        if self.noted.get(&subject).is_some_and(|noted| noted.kind != Kind::Barred) {
            self.remove(subject);
        }
    }

    /// Removes what was barred long ago.
    pub fn sweep(&mut self) {
        let now = seconds();
        let old =
            |noted: &Noted| noted.kind == Kind::Barred && now.saturating_sub(noted.since) > BARRED.as_secs();
        let old: Vec<_> = self.noted.iter().filter(|(_, noted)| old(noted)).map(|(of, _)| *of).collect();
        old.into_iter().for_each(|subject| self.remove(subject));
    }

    /// Replaces what was noted of the same before, in one write.
    fn write(&mut self, kind: Kind, written: &Written) -> io::Result<()> {
        let of = kind.subject(written);
        let rest = minicbor::to_vec(written).map_err(io::Error::other)?;
        let length = u16::try_from(rest.len()).map_err(io::Error::other)?;
        let since = seconds();
        let record = [&[kind as u8][..], &since.to_le_bytes(), &length.to_le_bytes(), &rest].concat();
        let place = match self.noted.get(&of) {
            Some(noted) => noted.place,
            None => self.records.take()?,
        };
        if let Err(cause) = self.records.write(place, &record) {
            if !self.noted.contains_key(&of) {
                self.records.give_back(place);
            }
            return Err(cause);
        }
        self.noted.insert(of, Noted { place, kind, since });
        Ok(())
    }

    fn turn(&mut self, transfer: TransferId, from: Kind, to: Kind) -> io::Result<()> {
        let noted = self.noted.get_mut(&Subject::Coming(transfer)).ok_or(io::ErrorKind::NotFound)?;
        // It was done before.
        if noted.kind == to {
            return Ok(());
        }
        if noted.kind != from {
            return Err(io::ErrorKind::NotFound.into());
        }
        let since = seconds();
        let [a, b, c, d, e, f, g, h] = since.to_le_bytes();
        self.records.write(noted.place, &[to as u8, a, b, c, d, e, f, g, h])?;
        (noted.kind, noted.since) = (to, since);
        Ok(())
    }

    /// What can't be erased is kept, so that the next note of the same replaces it.
    fn remove(&mut self, subject: Subject) {
        let Some(noted) = self.noted.get(&subject) else { return };
        match self.records.write(noted.place, &[0]) {
            Ok(()) => {
                self.records.give_back(noted.place);
                self.noted.remove(&subject);
            }
            Err(cause) => tracing::error!(?subject, %cause, "a note can't be removed"),
        }
    }
}

impl Kind {
    fn subject(self, written: &Written) -> Subject {
        match self {
            Self::Leaving => Subject::Leaving(written.connection.0),
            Self::Prepared | Self::Admitted | Self::Active | Self::Barred => {
                Subject::Coming(written.transfer)
            }
        }
    }
}

impl Left {
    fn take_in(&mut self, kind: Kind, written: Written) {
        match kind {
            Kind::Leaving => self.leaving.extend(written.of_source()),
            Kind::Prepared => self.void.push(written.of_target()),
            Kind::Admitted => self.coming.push((written.of_target(), Standing::Admitted)),
            Kind::Active => self.coming.push((written.of_target(), Standing::Active)),
            Kind::Barred => self.coming.push((written.of_target(), Standing::Barred)),
        }
    }
}

/// How many notes there are in a directory whose agent has ended, or is at rest.
///
/// # Errors
/// What the system says.
pub fn count(directory: &Path) -> io::Result<usize> {
    let mut count = 0;
    Records::open(&directory.join(NOTES), |_, record| {
        count += usize::from(read(record).is_some());
        true
    })?;
    Ok(count)
}

/// What a record says, if it says anything.
fn read(record: &[u8]) -> Option<(Kind, u64, Written)> {
    let (head, rest) = record.split_at_checked(HEAD_BYTES)?;
    let (kind, head) = head.split_first()?;
    let kind = Kind::of(*kind)?;
    let (since, length) = head.split_first_chunk::<8>()?;
    let length = u16::from_le_bytes(length.try_into().ok()?);
    let written = minicbor::decode(rest.get(..usize::from(length))?);
    let written = written.inspect_err(|cause| tracing::error!(%cause, "is no note")).ok()?;
    Some((kind, u64::from_le_bytes(*since), written))
}

/// The ledger of this start of the host, if it has one.
fn known_ledger(directory: &Path) -> io::Result<Option<Ledger>> {
    let boot = fs::read_to_string(BOOT)?;
    let known = fs::read_to_string(directory.join(LEDGER)).ok();
    let known = known.as_deref().and_then(|text| text.split_once('\n')).filter(|(of, _)| *of == boot.trim());
    Ok(known.and_then(|(_, number)| number.trim().parse().ok()).map(Ledger))
}

/// Begins another ledger, without notes.
fn begin_ledger(directory: &Path) -> io::Result<Ledger> {
    for entry in fs::read_dir(directory)? {
        fs::remove_file(entry?.path())?;
    }
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let number = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX);
    let boot = fs::read_to_string(BOOT)?;
    // The file is there whole or not at all.
    let unfinished: PathBuf = directory.join(UNFINISHED);
    private::write(&unfinished, format!("{}\n{number}\n", boot.trim()).as_bytes())?;
    fs::rename(unfinished, directory.join(LEDGER))?;
    Ok(Ledger(number))
}

/// Since the host was started.
fn boot_seconds() -> u64 {
    u64::try_from(clock_gettime(ClockId::Boottime).tv_sec).unwrap_or_default()
}

fn seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

impl Written {
    fn of_source(self) -> Option<(giving::Note, Instant)> {
        let Self { connection: WireConnection(connection), transfer, peer: target, way, ledger, until } =
            self;
        // Former versions did not note it.
        let left = until.map_or(limits::IN_DOUBT, |until| {
            Duration::from_secs(until.saturating_sub(boot_seconds())).min(limits::IN_DOUBT)
        });
        Some((giving::Note { connection, transfer, target, ledger: ledger?, way }, Instant::now() + left))
    }

    fn of_target(self) -> taking::Note {
        let Self { connection: WireConnection(connection), transfer, peer: source, way, .. } = self;
        taking::Note { connection, transfer, source, way }
    }
}

fn of_target(note: &taking::Note) -> Written {
    let taking::Note { connection, transfer, source, way } = note.clone();
    Written { connection: WireConnection(connection), transfer, peer: source, way, ledger: None, until: None }
}

#[cfg(test)]
mod tests;
