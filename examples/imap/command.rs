//! A client's commands: lines of a tag, a name and words (RFC 3501 section 2.2.1), without literals.

use std::io::{self, Read, Write};
use std::net::TcpStream;

/// A line that is longer ends the connection.
const MAX_LINE_BYTES: usize = 8 * 1024;

/// A client's connection.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    /// What was read and belongs to no command yet. Moves with the connection, as application state.
    pub(crate) ahead: Vec<u8>,
}

/// What a client asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Command {
    /// Its answer begins with it.
    pub(crate) tag: String,
    /// In capitals.
    pub(crate) name: String,
    /// What follows, quotes taken off.
    pub(crate) words: Vec<String>,
}

impl Client {
    /// The next command; `None` at the client's end.
    pub(crate) fn command(&mut self) -> io::Result<Option<Command>> {
        let mut piece = [0; 1024];
        loop {
            if let Some(end) = self.ahead.windows(2).position(|w| w == b"\r\n") {
                let line: Vec<u8> = self.ahead.drain(..end + 2).collect();
                return Ok(Some(Command::parse(&String::from_utf8_lossy(&line))));
            }
            let bytes = self.stream.read(&mut piece)?;
            if bytes == 0 || self.ahead.len() > MAX_LINE_BYTES {
                return Ok(None);
            }
            self.ahead.extend(piece.iter().take(bytes));
        }
    }

    /// Writes lines; each ends with CRLF.
    pub(crate) fn say(&mut self, lines: &str) -> io::Result<()> {
        self.stream.write_all(lines.as_bytes())
    }
}

impl Command {
    fn parse(line: &str) -> Self {
        let mut words = words(line.trim_end()).into_iter();
        let mut next = || words.next().unwrap_or_default();
        let (tag, name) = (next(), next().to_ascii_uppercase());
        Self { tag, name, words: words.collect() }
    }
}

/// Splits at spaces; what is quoted or in parentheses stays together.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted, mut depth, mut escaped) = (vec![], String::new(), false, 0, false);
    let mut is_word = false;
    for c in line.chars() {
        match c {
            _ if escaped => (escaped, word) = (false, word + &c.to_string()),
            '\\' if quoted => escaped = true,
            '"' => (quoted, is_word) = (!quoted, true),
            ' ' if !quoted && depth == 0 => {
                if is_word {
                    words.push(std::mem::take(&mut word));
                }
                is_word = false;
            }
            _ => {
                depth += i32::from(c == '(' && !quoted) - i32::from(c == ')' && !quoted);
                word.push(c);
                is_word = true;
            }
        }
    }
    if is_word {
        words.push(word);
    }
    words
}
