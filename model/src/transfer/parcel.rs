//! What moves, cut into parts that fit into frames, and put together again.

use super::{About, Part};

/// The most bytes of a dumped socket.
pub const MAX_SOCKET_BYTES: usize = 8 << 20;
/// The most bytes of application state.
pub const MAX_APPLICATION_BYTES: usize = 16 << 20;
/// The most bytes in one part: a quarter of a frame, so that other messages get between.
pub const PART_BYTES: usize = 1 << 20;
/// The most parts of one parcel.
pub const MAX_PARTS: u16 = ((MAX_SOCKET_BYTES + MAX_APPLICATION_BYTES) / PART_BYTES) as u16;

/// What moves: the dumped socket, which only the two agents understand, and the application's state, which only the two
/// applications do.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Parcel {
    /// The socket.
    pub socket: Vec<u8>,
    /// The application's state.
    pub application: Vec<u8>,
}

/// A parcel larger than a transfer carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{socket} bytes of socket and {application} of application state: at most {MAX_SOCKET_BYTES} and {MAX_APPLICATION_BYTES} can move"
)]
pub struct TooLarge {
    /// Bytes of the socket.
    pub socket: usize,
    /// Bytes of application state.
    pub application: usize,
}

/// Why a part was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PartError {
    /// Its numbers are impossible.
    #[error(
        "part {index} of {of} with {bytes} bytes, {socket_bytes} of them all of the socket, is impossible"
    )]
    Impossible {
        /// Its place.
        index: u16,
        /// Of how many.
        of: u16,
        /// Its length.
        bytes: usize,
        /// The socket's length.
        socket_bytes: u32,
    },
    /// It contradicts a former part.
    #[error("part {0} contradicts a former part")]
    Contradicts(u16),
}

impl Parcel {
    /// Checks the sizes.
    ///
    /// # Errors
    /// [`TooLarge`] if the socket or the state is larger than a transfer carries.
    pub fn check(&self) -> Result<(), TooLarge> {
        let (socket, application) = (self.socket.len(), self.application.len());
        let fits = socket <= MAX_SOCKET_BYTES && application <= MAX_APPLICATION_BYTES;
        fits.then_some(()).ok_or(TooLarge { socket, application })
    }

    /// The parts, each at most [`PART_BYTES`], at least one.
    ///
    /// # Errors
    /// [`TooLarge`] as in [`Parcel::check`].
    pub fn parts(&self, about: About) -> Result<Vec<Part>, TooLarge> {
        self.check()?;
        let all = [self.socket.as_slice(), self.application.as_slice()].concat();
        let chunks: Vec<&[u8]> = if all.is_empty() { vec![&[]] } else { all.chunks(PART_BYTES).collect() };
        let of = chunks.len() as u16;
        let socket_bytes = self.socket.len() as u32;
        let part = |(index, bytes): (usize, &&[u8])| Part {
            about,
            index: index as u16,
            of,
            socket_bytes,
            bytes: bytes.to_vec(),
        };
        Ok(chunks.iter().enumerate().map(part).collect())
    }
}

/// Parts of one parcel, in any order, each perhaps several times.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Collector {
    socket_bytes: u32,
    parts: Vec<Option<Vec<u8>>>,
}

impl Collector {
    /// The bytes that are held now.
    pub fn bytes(&self) -> usize {
        self.parts.iter().flatten().map(Vec::len).sum()
    }

    /// Takes a part; gives the parcel when it was the last one that was missing.
    ///
    /// # Errors
    /// [`PartError`] if its numbers are impossible, or not those of the former parts. The collector stays as it was.
    pub fn take(&mut self, part: Part) -> Result<Option<Parcel>, PartError> {
        let Part { index, of, socket_bytes, bytes, .. } = part;
        let last = index.checked_add(1) == Some(of);
        let full = if last { bytes.len() <= PART_BYTES } else { bytes.len() == PART_BYTES };
        let socket = usize::try_from(socket_bytes).unwrap_or(usize::MAX);
        if index >= of || of > MAX_PARTS || !full || socket > MAX_SOCKET_BYTES {
            return Err(PartError::Impossible { index, of, bytes: bytes.len(), socket_bytes });
        }
        if self.parts.is_empty() {
            self.parts = vec![None; usize::from(of)];
            self.socket_bytes = socket_bytes;
        }
        if self.parts.len() != usize::from(of) || self.socket_bytes != socket_bytes {
            return Err(PartError::Contradicts(index));
        }
        if let Some(place) = self.parts.get_mut(usize::from(index)) {
            *place = Some(bytes);
        }
        if self.parts.iter().any(Option::is_none) {
            return Ok(None);
        }
        let mut socket_and_rest = self.parts.drain(..).flatten().collect::<Vec<_>>().concat();
        if socket > socket_and_rest.len() || socket_and_rest.len() - socket > MAX_APPLICATION_BYTES {
            return Err(PartError::Contradicts(index));
        }
        let application = socket_and_rest.split_off(socket);
        Ok(Some(Parcel { socket: socket_and_rest, application }))
    }
}

#[cfg(test)]
mod tests;
