//! The target application: goes on with users that are logged in.

use std::net::IpAddr;
use std::sync::Arc;
use std::thread;

use app::{Offer, Registration, TargetApplication};

use crate::Failure;
use crate::command::{Client, Command};
use crate::mailbox::Mailbox;

/// Serves until something fails.
pub(crate) fn run(job: &str, port: u16, dvipa: IpAddr) -> Result<(), Failure> {
    let application = TargetApplication::register(&Registration::new(job, dvipa, &[port])?)?;
    let host = Arc::new(format!("{job}@{}", application.stack()?));
    while let Some(offer) = application.next_offer(None)? {
        let host = Arc::clone(&host);
        thread::spawn(move || {
            if let Err(e) = take(offer, &host) {
                eprintln!("{e}");
            }
        });
    }
    Ok(())
}

/// The application state is the login's tag and the user's name, and behind them what the router has read ahead.
fn take(offer: Offer, host: &str) -> Result<(), Failure> {
    let connection = offer.accept()?;
    let state = connection.state.unwrap_or_default();
    let end = state.iter().position(|b| *b == b'\n').ok_or("no user came with the connection")?;
    let (login, ahead) = state.split_at(end);
    let login = std::str::from_utf8(login)?;
    let (tag, user) = login.split_once(' ').ok_or("no user came with the connection")?;
    let mut client = Client { stream: connection.stream, ahead: ahead.get(1..).unwrap_or_default().to_vec() };
    client.say(&format!("{tag} OK [CAPABILITY IMAP4rev1] welcome at {host}, {user}\r\n"))?;
    serve(&mut client, &Mailbox::of(user, host))
}

fn serve(client: &mut Client, mailbox: &Mailbox) -> Result<(), Failure> {
    while let Some(Command { tag, name, words }) = client.command()? {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let data = match (name.as_str(), words.as_slice()) {
            ("CAPABILITY", []) => Some("* CAPABILITY IMAP4rev1\r\n".to_owned()),
            ("NOOP" | "CHECK" | "CLOSE", []) => Some(String::new()),
            ("LOGOUT", []) => Some("* BYE\r\n".to_owned()),
            ("LIST" | "LSUB", [_, _]) => Some(format!("* {name} () \"/\" INBOX\r\n")),
            ("SELECT" | "EXAMINE", [folder]) if folder.eq_ignore_ascii_case("INBOX") => {
                Some(mailbox.select())
            }
            ("SEARCH", ["ALL"]) => Some(mailbox.search()),
            ("FETCH", [number, items]) => number.parse().ok().and_then(|n| mailbox.fetch(n, items)),
            _ => None,
        };
        match data {
            Some(data) => client.say(&format!("{data}{tag} OK done\r\n"))?,
            None => client.say(&format!("{tag} NO there is no such thing here\r\n"))?,
        }
        if name == "LOGOUT" {
            break;
        }
    }
    Ok(())
}
