//! Records of one length in one file.
//!
//! Each is written with one call of pwrite(2) and lies within a page, so that a kill of this process finds it written or
//! not: the kernel looks for signals between pages only. Once the file has a place, writing to it needs no memory.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

/// Bytes of a record.
pub(super) const RECORD_BYTES: usize = 256;
/// The file grows by so many at a time: a page.
const STEP: u32 = 16;
/// Records at most: those of all connections that come and that leave, and of as many that were barred a moment ago.
pub(in crate::transfers) const MOST: u32 = 1 << 18;

const _: () = assert!(RECORD_BYTES * STEP as usize == 4096, "no record lies in two pages");

/// Where a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place(u32);

impl Place {
    fn offset(self) -> u64 {
        u64::from(self.0) * RECORD_BYTES as u64
    }
}

/// The file, and which of its places are free.
#[derive(Debug)]
pub(super) struct Records {
    file: File,
    places: u32,
    free: Vec<Place>,
}

impl Records {
    /// Opens the file, or makes one, and shows each of its places; free are those for which `each` is false.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn open(path: &Path, mut each: impl FnMut(Place, &[u8]) -> bool) -> io::Result<Self> {
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        let whole = u32::try_from(file.metadata()?.len() / RECORD_BYTES as u64).unwrap_or(MOST);
        let mut records = Self { file, places: whole.min(MOST) / STEP * STEP, free: Vec::new() };
        for place in (0..records.places).rev().map(Place) {
            let mut record = [0; RECORD_BYTES];
            records.file.read_exact_at(&mut record, place.offset())?;
            if !each(place, &record) {
                records.free.push(place);
            }
        }
        Ok(records)
    }

    /// A place that is written to for the first time.
    ///
    /// # Errors
    /// What the system says if there is no memory for more.
    pub(super) fn take(&mut self) -> io::Result<Place> {
        if self.free.is_empty() {
            if self.places >= MOST {
                return Err(io::Error::other("too many connections are being moved"));
            }
            self.file.write_all_at(&[0; RECORD_BYTES * STEP as usize], Place(self.places).offset())?;
            self.free.extend((self.places..self.places + STEP).rev().map(Place));
            self.places += STEP;
        }
        self.free.pop().ok_or_else(|| io::Error::other("no place"))
    }

    /// Writes the beginning of a record.
    ///
    /// # Errors
    /// What the system says, and if it is too long.
    pub(super) fn write(&self, place: Place, bytes: &[u8]) -> io::Result<()> {
        if bytes.len() > RECORD_BYTES {
            return Err(io::Error::other("the note is too long"));
        }
        self.file.write_all_at(bytes, place.offset())
    }

    /// The place may be taken again.
    pub(super) fn give_back(&mut self, place: Place) {
        self.free.push(place);
    }
}
