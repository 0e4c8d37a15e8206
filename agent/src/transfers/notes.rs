//! What this host remembers of transfers, so that a restarted agent says the same as its predecessor.
//!
//! A file a note, in a directory of a file system in memory: it outlives the process and not the host. How far a transfer
//! is stands in the file's name, so that the step that decides is one rename(2), which takes no memory and is done or not.
//!
//! | suffix | of | means |
//! | --- | --- | --- |
//! | `leaving` | the source | the connection is frozen here |
//! | `prepared` | the target | its socket is restored; void once the process is gone |
//! | `admitted` | the target | a packet may make the connection |
//! | `active` | the target | the connection is here |
//! | `barred` | the target | no packet may make it any more |

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use minicbor::{Decode, Encode};
use model::StackName;
use model::codec::WireConnection;
use model::transfer::{Ledger, TransferId, Way};
use transfer::target::Standing;
use transfer::{source, target};

/// The file with the ledger's number.
const LEDGER: &str = "ledger";
/// What is being written.
const UNFINISHED: &str = "unfinished";
/// A number that is another after each start of the host.
const BOOT: &str = "/proc/sys/kernel/random/boot_id";
/// A barred transfer is remembered for as long as a packet may live (RFC 9293 3.4.2).
const BARRED: Duration = Duration::from_secs(120);

/// How far a noted transfer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Leaving,
    Prepared,
    Admitted,
    Active,
    Barred,
}

impl Kind {
    const ALL: [(Kind, &str); 5] = [
        (Kind::Leaving, "leaving"),
        (Kind::Prepared, "prepared"),
        (Kind::Admitted, "admitted"),
        (Kind::Active, "active"),
        (Kind::Barred, "barred"),
    ];

    fn suffix(self) -> &'static str {
        Self::ALL.iter().find(|(kind, _)| *kind == self).map_or("", |(_, suffix)| suffix)
    }

    fn of(suffix: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, s)| *s == suffix).map(|(kind, _)| *kind)
    }
}

/// The notes of this host.
#[derive(Debug)]
pub struct Notes {
    directory: PathBuf,
    ledger: Ledger,
}

/// What a former run of the agent has left.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Left {
    /// Connections that are frozen here.
    pub leaving: Vec<source::Note>,
    /// Transfers to this host.
    pub coming: Vec<(target::Note, Standing)>,
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
}

impl Notes {
    /// Opens the notes of this directory, and says what a former run has left there. A ledger of another start of the host
    /// is given up, with all that it holds: the sockets that it speaks of are gone.
    ///
    /// # Errors
    /// What the system says.
    pub fn open(directory: &Path) -> io::Result<(Self, Left)> {
        fs::create_dir_all(directory)?;
        let boot = fs::read_to_string(BOOT)?;
        let known = fs::read_to_string(directory.join(LEDGER)).ok();
        let known =
            known.as_deref().and_then(|text| text.split_once('\n')).filter(|(of, _)| *of == boot.trim());
        let mut notes = Self { directory: directory.to_path_buf(), ledger: Ledger(0) };
        if let Some(number) = known.and_then(|(_, number)| number.trim().parse().ok()) {
            notes.ledger = Ledger(number);
            let left = notes.read()?;
            return Ok((notes, left));
        }
        for entry in fs::read_dir(directory)? {
            fs::remove_file(entry?.path())?;
        }
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        notes.ledger = Ledger(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX));
        notes.put(LEDGER, format!("{}\n{}\n", boot.trim(), notes.ledger.0).as_bytes())?;
        Ok((notes, Left::default()))
    }

    /// Which ledger this is.
    pub fn ledger(&self) -> Ledger {
        self.ledger
    }

    /// The connection is about to be frozen here.
    ///
    /// # Errors
    /// What the system says.
    pub fn leaves(&self, note: &source::Note) -> io::Result<()> {
        let source::Note { connection, transfer, target, ledger, way } = note.clone();
        let (connection, ledger) = (WireConnection(connection), Some(ledger));
        self.write(Kind::Leaving, &Written { connection, transfer, peer: target, way, ledger })
    }

    /// It no longer is.
    pub fn stays_or_left(&self, transfer: TransferId) {
        self.remove(transfer, Kind::Leaving);
    }

    /// A socket is about to be restored. From here on [`Notes::activates`] needs nothing that could be lacking.
    ///
    /// # Errors
    /// What the system says.
    pub fn prepares(&self, note: &target::Note) -> io::Result<()> {
        self.write(Kind::Prepared, &of_target(note))
    }

    /// It is activated: the decision.
    ///
    /// # Errors
    /// What the system says.
    pub fn activates(&self, transfer: TransferId) -> io::Result<()> {
        self.turn(transfer, Kind::Prepared, Kind::Active)
    }

    /// A packet may make the connection.
    ///
    /// # Errors
    /// What the system says.
    pub fn admits(&self, note: &target::Note) -> io::Result<()> {
        self.write(Kind::Admitted, &of_target(note))
    }

    /// One has.
    ///
    /// # Errors
    /// What the system says.
    pub fn made(&self, transfer: TransferId) -> io::Result<()> {
        self.turn(transfer, Kind::Admitted, Kind::Active)
    }

    /// None may any more.
    ///
    /// # Errors
    /// What the system says.
    pub fn bars(&self, transfer: TransferId) -> io::Result<()> {
        self.turn(transfer, Kind::Admitted, Kind::Barred)
    }

    /// Nothing has to be known of a transfer to this host any more; what is barred stays so.
    pub fn forgets(&self, transfer: TransferId) {
        for kind in [Kind::Prepared, Kind::Admitted, Kind::Active] {
            self.remove(transfer, kind);
        }
    }

    /// Removes what was barred long ago.
    pub fn sweep(&self) {
        let Ok(left) = fs::read_dir(&self.directory) else { return };
        for path in left.flatten().map(|entry| entry.path()) {
            let age = fs::metadata(&path).and_then(|m| m.modified()).ok().and_then(|at| at.elapsed().ok());
            let barred = kind_of(&path) == Some(Kind::Barred);
            if barred && age.is_some_and(|age| age > BARRED) {
                let _ = fs::remove_file(path);
            }
        }
    }

    fn read(&self) -> io::Result<Left> {
        let mut left = Left::default();
        for entry in fs::read_dir(&self.directory)? {
            let path = entry?.path();
            let Some(kind) = kind_of(&path) else { continue };
            match (minicbor::decode::<Written>(&fs::read(&path)?), kind) {
                (Ok(written), Kind::Leaving) => left.leaving.extend(written.of_source()),
                (Ok(written), Kind::Admitted) => left.coming.push((written.of_target(), Standing::Admitted)),
                (Ok(written), Kind::Active) => left.coming.push((written.of_target(), Standing::Active)),
                (Ok(written), Kind::Barred) => left.coming.push((written.of_target(), Standing::Barred)),
                // The socket is gone with the process that had it.
                (Ok(_), Kind::Prepared) => fs::remove_file(&path)?,
                (Err(cause), _) => tracing::error!(path = %path.display(), %cause, "is no note"),
            }
        }
        Ok(left)
    }

    fn path(&self, transfer: TransferId, kind: Kind) -> PathBuf {
        let TransferId { incarnation, number } = transfer;
        self.directory.join(format!("{incarnation:016x}-{number:016x}.{}", kind.suffix()))
    }

    fn write(&self, kind: Kind, written: &Written) -> io::Result<()> {
        let bytes = minicbor::to_vec(written).map_err(io::Error::other)?;
        self.put(self.path(written.transfer, kind), &bytes)
    }

    /// The file is there whole or not at all.
    fn put(&self, path: impl AsRef<Path>, bytes: &[u8]) -> io::Result<()> {
        let unfinished = self.directory.join(UNFINISHED);
        fs::write(&unfinished, bytes)?;
        fs::rename(unfinished, self.directory.join(path))
    }

    fn turn(&self, transfer: TransferId, from: Kind, to: Kind) -> io::Result<()> {
        let to = self.path(transfer, to);
        match fs::rename(self.path(transfer, from), &to) {
            // It was done before.
            Err(e) if e.kind() == io::ErrorKind::NotFound && to.exists() => Ok(()),
            result => result,
        }
    }

    fn remove(&self, transfer: TransferId, kind: Kind) {
        let path = self.path(transfer, kind);
        match fs::remove_file(&path) {
            Err(cause) if cause.kind() != io::ErrorKind::NotFound => {
                tracing::error!(path = %path.display(), %cause, "a note can't be removed");
            }
            Ok(()) | Err(_) => {}
        }
    }
}

impl Written {
    fn of_source(self) -> Option<source::Note> {
        let Self { connection: WireConnection(connection), transfer, peer: target, way, ledger } = self;
        Some(source::Note { connection, transfer, target, ledger: ledger?, way })
    }

    fn of_target(self) -> target::Note {
        let Self { connection: WireConnection(connection), transfer, peer: source, way, .. } = self;
        target::Note { connection, transfer, source, way }
    }
}

fn of_target(note: &target::Note) -> Written {
    let target::Note { connection, transfer, source, way } = note.clone();
    Written { connection: WireConnection(connection), transfer, peer: source, way, ledger: None }
}

fn kind_of(path: &Path) -> Option<Kind> {
    path.extension().and_then(|suffix| Kind::of(suffix.to_str()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{Connection, Protocol};

    fn connection() -> Connection {
        let (client, dvipa) = ("198.18.0.2:40000".parse().unwrap(), "198.18.9.1:80".parse().unwrap());
        Connection::new(Protocol::Tcp, client, dvipa).unwrap()
    }

    fn coming(number: u64, way: Way) -> target::Note {
        let transfer = TransferId { incarnation: 7, number };
        target::Note { connection: connection(), transfer, source: "t1".parse().unwrap(), way }
    }

    #[test]
    fn the_next_run_finds_what_was_noted_in_the_same_ledger() {
        let directory = tempfile::tempdir().unwrap();
        let (notes, left) = Notes::open(directory.path()).unwrap();
        assert_eq!(left, Left::default());
        let leaving = source::Note {
            connection: connection(),
            transfer: TransferId { incarnation: 7, number: 1 },
            target: "t2".parse().unwrap(),
            ledger: Ledger(9),
            way: Way::Restore,
        };
        notes.leaves(&leaving).unwrap();
        let [restored, prepared, made, barred] = [2, 3, 4, 5].map(|number| coming(number, Way::Restore));
        notes.prepares(&restored).unwrap();
        notes.activates(restored.transfer).unwrap();
        notes.activates(restored.transfer).unwrap();
        notes.prepares(&prepared).unwrap();
        notes.admits(&made).unwrap();
        notes.made(made.transfer).unwrap();
        notes.admits(&barred).unwrap();
        notes.bars(barred.transfer).unwrap();
        notes.forgets(barred.transfer);
        notes.sweep();

        let (again, mut left) = Notes::open(directory.path()).unwrap();
        assert_eq!(again.ledger(), notes.ledger());
        left.coming.sort_by_key(|(note, _)| note.transfer);
        assert_eq!(left.leaving, std::slice::from_ref(&leaving));
        assert_eq!(
            left.coming,
            [(restored.clone(), Standing::Active), (made, Standing::Active), (barred, Standing::Barred)]
        );

        again.stays_or_left(leaving.transfer);
        again.forgets(restored.transfer);
        let (_, left) = Notes::open(directory.path()).unwrap();
        assert_eq!((left.leaving.len(), left.coming.len()), (0, 2));
    }

    #[test]
    fn a_decision_without_a_preparation_is_none() {
        let directory = tempfile::tempdir().unwrap();
        let (notes, _) = Notes::open(directory.path()).unwrap();
        assert!(notes.activates(coming(1, Way::Restore).transfer).is_err());
    }

    #[test]
    fn a_ledger_of_another_start_of_the_host_is_given_up_whole() {
        let directory = tempfile::tempdir().unwrap();
        let (notes, _) = Notes::open(directory.path()).unwrap();
        notes.prepares(&coming(1, Way::Restore)).unwrap();
        notes.activates(coming(1, Way::Restore).transfer).unwrap();
        fs::write(directory.path().join(LEDGER), "another\n1\n").unwrap();
        let (again, left) = Notes::open(directory.path()).unwrap();
        assert_ne!(again.ledger(), notes.ledger());
        assert_eq!(left, Left::default());
    }
}
