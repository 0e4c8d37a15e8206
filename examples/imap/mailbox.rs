//! A user's mailbox: two messages that say whose they are and where.

use std::fmt::Write;

/// A mailbox with its messages in it.
#[derive(Debug)]
pub(crate) struct Mailbox {
    messages: Vec<String>,
}

impl Mailbox {
    /// The mailbox that a host has for a user.
    pub(crate) fn of(user: &str, host: &str) -> Self {
        let message = |subject: &str, text: &str| {
            format!(
                "From: postmaster@mail.example\r\nTo: {user}@mail.example\r\nSubject: {subject}\r\n\r\n{text}\r\n"
            )
        };
        let where_it_is = format!("Your mailbox is on {host}.");
        let how = "Your connection has moved there after you logged in.";
        Self { messages: vec![message("Welcome", &where_it_is), message("How", how)] }
    }

    /// What SELECT tells (RFC 3501 section 6.3.1).
    pub(crate) fn select(&self) -> String {
        format!(
            "* FLAGS (\\Seen)\r\n* {} EXISTS\r\n* 0 RECENT\r\n* OK [UIDVALIDITY 1]\r\n",
            self.messages.len()
        )
    }

    /// What SEARCH ALL finds.
    pub(crate) fn search(&self) -> String {
        let mut found = "* SEARCH".to_owned();
        for number in 1..=self.messages.len() {
            let _ = write!(found, " {number}");
        }
        found + "\r\n"
    }

    /// A message, counted from 1, whole: the only item that is asked for here.
    pub(crate) fn fetch(&self, number: usize, items: &str) -> Option<String> {
        let message = self.messages.get(number.checked_sub(1)?)?;
        let item = items.trim_matches(['(', ')']).to_ascii_uppercase();
        let label = match item.as_str() {
            "RFC822" => "RFC822",
            "BODY[]" | "BODY.PEEK[]" => "BODY[]",
            _ => return None,
        };
        Some(format!("* {number} FETCH ({label} {{{}}}\r\n{message})\r\n", message.len()))
    }
}
