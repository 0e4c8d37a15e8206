//! Memory that its receiver can trust.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, fstat, memfd_create};
use rustix::io::{Errno, pread, write};

/// Bytes in a memfd that nobody can change, lengthen or shorten any more: neither the sender after the check, nor the
/// kernel's page cache behind the reader's back.
#[derive(Debug)]
pub struct Sealed {
    memory: OwnedFd,
    bytes: usize,
}

/// Why a descriptor is no sealed memory.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    /// It is no memfd, or not sealed against writing, growing and shrinking.
    #[error("not memory that is sealed against changes")]
    NotSealed,
    /// It is longer than the receiver takes.
    #[error("{bytes} bytes are more than {max}")]
    TooLong {
        /// How long it is.
        bytes: u64,
        /// How long it may be.
        max: usize,
    },
    /// The system does not show it.
    #[error("cannot be looked at: {0}")]
    System(#[from] io::Error),
}

const SEALS: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::WRITE);

impl Sealed {
    /// Copies bytes into sealed memory.
    ///
    /// # Errors
    /// What the system says.
    pub fn new(bytes: &[u8]) -> io::Result<Self> {
        let memory = memfd_create("baton-state", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        let mut rest = bytes;
        while !rest.is_empty() {
            match write(&memory, rest) {
                Ok(written) => rest = rest.get(written..).unwrap_or_default(),
                Err(Errno::INTR) => {}
                Err(cause) => return Err(cause.into()),
            }
        }
        fcntl_add_seals(&memory, SEALS | SealFlags::SEAL)?;
        Ok(Self { memory, bytes: bytes.len() })
    }

    /// Takes what another process passed. The seals are looked at before the length, so the length stays what it is.
    ///
    /// # Errors
    /// [`Unfit`].
    pub fn check(memory: OwnedFd, max: usize) -> Result<Self, Unfit> {
        match fcntl_get_seals(&memory) {
            Ok(seals) if seals.contains(SEALS) => {}
            Ok(_) | Err(Errno::INVAL) => return Err(Unfit::NotSealed),
            Err(cause) => return Err(Unfit::System(cause.into())),
        }
        let length = fstat(&memory).map_err(io::Error::from)?.st_size;
        let length = u64::try_from(length).unwrap_or(u64::MAX);
        match usize::try_from(length) {
            Ok(bytes) if bytes <= max => Ok(Self { memory, bytes }),
            _ => Err(Unfit::TooLong { bytes: length, max }),
        }
    }

    /// How many bytes.
    pub fn len(&self) -> usize {
        self.bytes
    }

    /// There are none.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// The bytes.
    ///
    /// # Errors
    /// What the system says.
    pub fn read(&self) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; self.bytes];
        let mut at = 0;
        while let Some(rest) = bytes.get_mut(at..).filter(|rest| !rest.is_empty()) {
            match pread(&self.memory, rest, at as u64) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => at += read,
                Err(Errno::INTR) => {}
                Err(cause) => return Err(cause.into()),
            }
        }
        Ok(bytes)
    }
}

impl AsFd for Sealed {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.memory.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read, Write};

    use super::*;

    fn memfd(bytes: &[u8], seals: SealFlags) -> OwnedFd {
        let memory = memfd_create("test", MemfdFlags::ALLOW_SEALING).expect("memory");
        let mut file = File::from(memory);
        file.write_all(bytes).expect("written");
        fcntl_add_seals(&file, seals).expect("sealed");
        file.into()
    }

    #[test]
    fn sealed_bytes_come_back_and_cannot_be_changed() {
        let bytes: Vec<u8> = (0..100_000u32).map(|i| i as u8).collect();
        let sealed = Sealed::new(&bytes).expect("sealed");
        let passed = sealed.as_fd().try_clone_to_owned().expect("another descriptor");
        let mut writer = File::from(passed.try_clone().expect("a third"));
        let received = Sealed::check(passed, bytes.len()).expect("fit");
        assert_eq!(received.read().expect("read"), bytes);
        assert!(writer.write(b"x").is_err());
        assert!(writer.set_len(1).is_err());
    }

    #[test]
    fn memory_that_can_still_be_changed_is_refused() {
        for missing in [SealFlags::SHRINK, SealFlags::GROW, SealFlags::WRITE] {
            let memory = memfd(b"state", SEALS.difference(missing));
            assert!(matches!(Sealed::check(memory, 100), Err(Unfit::NotSealed)), "{missing:?}");
        }
        assert!(Sealed::check(memfd(b"state", SEALS), 100).is_ok());
    }

    #[test]
    fn what_is_no_memory_is_refused() {
        let file = tempfile::tempfile().expect("a file");
        let mut zero = File::open("/dev/zero").expect("opened");
        zero.read_exact(&mut [0; 1]).expect("readable");
        for descriptor in [OwnedFd::from(zero), OwnedFd::from(File::open("/").expect("opened")), file.into()]
        {
            assert!(Sealed::check(descriptor, 100).is_err());
        }
    }

    #[test]
    fn too_much_is_refused() {
        assert!(Sealed::check(memfd(&[0; 100], SEALS), 100).is_ok());
        let unfit = Sealed::check(memfd(&[0; 101], SEALS), 100);
        assert!(matches!(unfit, Err(Unfit::TooLong { bytes: 101, max: 100 })));
    }

    #[test]
    fn no_state_is_a_state_of_no_bytes() {
        let sealed = Sealed::new(b"").expect("sealed");
        assert!(sealed.is_empty());
        assert_eq!(sealed.read().expect("read"), b"");
    }
}
