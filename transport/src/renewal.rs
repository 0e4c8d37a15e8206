//! A stack's certificate, key and CA that are replaced while it runs.
//!
//! The files are looked at again and again. Once they have changed, and are the same at two looks, so that nobody is writing them any
//! more, they are read and checked as at the start. If they can't be used, which is so between the replacement of a certificate and
//! that of its key, the former identity goes on, and they are read again when they change again.

use std::fs;
use std::os::unix::fs::MetadataExt;

use model::StackName;

use crate::identity::{Identity, IdentityError, IdentityFiles};

/// What changes with a file's content: device, inode, length and the time of the last change; none: it can't be looked at.
type Stamp = Option<(u64, u64, u64, i64, i64)>;

/// Looks whether a stack's files were replaced.
#[derive(Debug)]
pub struct Renewal {
    files: IdentityFiles,
    name: StackName,
    /// As they were when they were read last, whatever came of it.
    read: [Stamp; 3],
    /// As they were at the last look.
    seen: [Stamp; 3],
}

impl Renewal {
    /// Of these files, which were just read.
    pub fn new(files: IdentityFiles, name: StackName) -> Self {
        let now = stamps(&files);
        Self { files, name, read: now, seen: now }
    }

    /// The identity in the files, if they were replaced since they were read last; or why it can't be used, once.
    pub fn look(&mut self) -> Option<Result<Identity, IdentityError>> {
        let now = stamps(&self.files);
        let is_settled = now == self.seen;
        self.seen = now;
        if !is_settled || now == self.read {
            return None;
        }
        self.read = now;
        Some(Identity::load(&self.files, &self.name))
    }
}

fn stamps(files: &IdentityFiles) -> [Stamp; 3] {
    [&files.ca, &files.certificate, &files.key].map(|path| {
        let found = fs::metadata(path).ok()?;
        Some((found.dev(), found.ino(), found.len(), found.ctime(), found.ctime_nsec()))
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::pki;

    fn name() -> StackName {
        StackName::new("rt1").unwrap()
    }

    fn issued(dir: &Path, days: u16) -> IdentityFiles {
        let made = pki::issue(dir, &name(), days).unwrap();
        IdentityFiles { ca: dir.join("ca.pem"), certificate: made.certificate, key: made.key }
    }

    /// A stack's files, and a directory with the same CA and another certificate for it.
    fn two() -> (tempfile::TempDir, IdentityFiles, IdentityFiles) {
        let dir = tempfile::tempdir().unwrap();
        let (old, new) = (dir.path().join("old"), dir.path().join("new"));
        pki::init(&old).unwrap();
        fs::create_dir(&new).unwrap();
        for file in ["ca.pem", "ca.key"] {
            fs::copy(old.join(file), new.join(file)).unwrap();
        }
        let files = (issued(&old, 10), issued(&new, 20));
        (dir, files.0, files.1)
    }

    #[test]
    fn replaced_files_are_read_when_they_have_settled() {
        let (_dir, files, new) = two();
        let former = Identity::load(&files, &name()).unwrap();
        let mut renewal = Renewal::new(files.clone(), name());
        assert!(renewal.look().is_none());
        fs::rename(&new.certificate, &files.certificate).unwrap();
        fs::rename(&new.key, &files.key).unwrap();
        assert!(renewal.look().is_none(), "somebody may be writing");
        let renewed = renewal.look().expect("they were replaced").expect("they can be used");
        assert!(renewed.expires() > former.expires());
        assert!(renewal.look().is_none());
    }

    #[test]
    fn a_certificate_without_its_key_is_refused_once_and_taken_with_it() {
        let (_dir, files, new) = two();
        let mut renewal = Renewal::new(files.clone(), name());
        fs::rename(&new.certificate, &files.certificate).unwrap();
        assert!(renewal.look().is_none());
        assert!(matches!(renewal.look(), Some(Err(IdentityError::KeyMismatch { .. }))));
        assert!(renewal.look().is_none());
        fs::rename(&new.key, &files.key).unwrap();
        assert!(renewal.look().is_none());
        assert!(matches!(renewal.look(), Some(Ok(_))));
    }
}
