//! The target application: gives each user that is logged in a process of Dovecot's, which goes on with the connection.
//!
//! Dovecot's `imap` speaks IMAP over its standard input and output when nothing of Dovecot runs; that the login is still to be
//! answered, and what was read beyond it, it reads from its environment (Dovecot 2.3: src/imap/main.c, `main_stdio_run`).

use std::fs;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;

use app::{Offer, Registration, TargetApplication};

use crate::Failure;

/// From the package dovecot-imapd.
const DOVECOT_IMAP: &str = "/usr/lib/dovecot/imap";

/// Serves until something fails. In `mail` each user has a home, and in that a Maildir.
pub(crate) fn run(job: &str, port: u16, dvipa: IpAddr, mail: &str) -> Result<(), Failure> {
    let application = TargetApplication::register(&Registration::new(job, dvipa, &[port])?)?;
    let mail: Arc<PathBuf> = Arc::new(fs::canonicalize(mail)?);
    while let Some(offer) = application.next_offer(None)? {
        let mail = Arc::clone(&mail);
        thread::spawn(move || {
            if let Err(e) = take(offer, &mail) {
                eprintln!("{e}");
            }
        });
    }
    Ok(())
}

/// The application state is the login's tag and the user's name, and behind them what the router has read ahead.
fn take(offer: Offer, mail: &Path) -> Result<(), Failure> {
    let connection = offer.accept()?;
    let state = connection.state.unwrap_or_default();
    let end = state.iter().position(|b| *b == b'\n').ok_or("no user came with the connection")?;
    let (login, ahead) = state.split_at(end);
    let (tag, user) =
        std::str::from_utf8(login)?.split_once(' ').ok_or("no user came with the connection")?;
    let ahead = ahead.get(1..).unwrap_or_default();
    let home = mail.join(user);
    if home.parent() != Some(mail) {
        return Err(format!("`{user}` is no name of a home").into());
    }
    let owner = fs::metadata(&home).map_err(|e| format!("{user} has no home {}: {e}", home.display()))?;
    let client = connection.stream.peer_addr()?.ip().to_string();
    let socket = OwnedFd::from(connection.stream);
    let mut dovecot = Command::new(DOVECOT_IMAP)
        // Nothing of the host's own Dovecot, if it has one.
        .args(["-O", "-o", "mail_location=maildir:~/Maildir", "-o", "log_path=/dev/stderr"])
        .env_clear()
        .envs([("USER", user), ("IP", client.as_str())])
        .env("HOME", &home)
        .env("CLIENT_INPUT", login_input(tag, ahead))
        .env("DOVECOT_PRESERVE_ENVS", "CLIENT_INPUT IP")
        .uid(owner.uid())
        .gid(owner.gid())
        .stdin(Stdio::from(socket.try_clone()?))
        .stdout(Stdio::from(socket))
        .spawn()
        .map_err(|e| format!("{DOVECOT_IMAP}: {e}"))?;
    dovecot.wait()?;
    Ok(())
}

/// Whether the client wants the capabilities unasked (no), the tag, and what it said after the login, in Base64.
fn login_input(tag: &str, ahead: &[u8]) -> String {
    base64(&[b"0", tag.as_bytes(), b"\0", ahead].concat())
}

/// RFC 4648 section 4.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let bits =
            three.iter().fold(0u32, |all, byte| all << 8 | u32::from(*byte)) << (8 * (3 - three.len()));
        for digit in 0..4 {
            let value = (bits >> (18 - 6 * digit)) & 63;
            text.push(if digit <= three.len() { char::from(DIGITS[value as usize]) } else { '=' });
        }
    }
    text
}
