//! IMAP (RFC 3501), where each user's connection moves to the host that has the mailbox.
//!
//! ```text
//! imap router PORT DVIPA -- USER:PASSWORD=JOB…   greets, checks the login, hands the connection over
//! imap target JOB PORT DVIPA MAIL                serves the mailboxes in the homes in MAIL, with Dovecot
//! ```
//!
//! Passwords on a command line are for an example.

mod command;
mod router;
mod target;

use std::{env, process};

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn run(words: &[&str]) -> Result<(), Failure> {
    match words {
        ["router", port, dvipa, "--", users @ ..] => router::run(port.parse()?, dvipa.parse()?, users),
        ["target", job, port, dvipa, mail] => target::run(job, port.parse()?, dvipa.parse()?, mail),
        _ => {
            Err("usage: imap router PORT DVIPA -- USER:PASSWORD=JOB… | imap target JOB PORT DVIPA MAIL"
                .into())
        }
    }
}

fn main() {
    let words: Vec<String> = env::args().skip(1).collect();
    if let Err(e) = run(&words.iter().map(String::as_str).collect::<Vec<_>>()) {
        eprintln!("imap: {e}");
        process::exit(1);
    }
}
