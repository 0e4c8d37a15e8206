//! Mailboxes as mail servers keep them on disk.

use std::fs;
use std::io;
use std::os::unix::fs::chown;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// Whose files they are when root makes them (Debian's `nobody`): mail servers refuse to serve root.
const OWNER: u32 = 65534;

/// Puts a message into the Maildir of a home, as a delivery agent does.
///
/// # Errors
/// What the system says.
pub fn deliver(home: &Path, message: &str) -> io::Result<()> {
    static DELIVERED: AtomicU64 = AtomicU64::new(0);
    let number = DELIVERED.fetch_add(1, Ordering::Relaxed);
    let maildir = home.join("Maildir");
    let parts = ["tmp", "new", "cur"].map(|part| maildir.join(part));
    for part in &parts {
        fs::create_dir_all(part)?;
    }
    let file = maildir.join(format!("new/{number}.{}.lab", std::process::id()));
    fs::write(&file, message)?;
    if nix::unistd::geteuid().is_root() {
        for path in parts.iter().map(|p| p.as_path()).chain([home, &maildir, &file]) {
            chown(path, Some(OWNER), Some(OWNER))?;
        }
    }
    Ok(())
}
