//! As much of HTTP/1.1 as these examples need: the head of a request.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

/// A head that is longer is not answered. Some have many cookies.
const MAX_HEAD_BYTES: usize = 32 * 1024;
/// A client that has begun a request has so long to finish its head.
const HEAD_WITHIN: Duration = Duration::from_secs(10);
/// A client that was refused may go on sending for so long.
const LINGER: Duration = Duration::from_secs(5);
/// How often a head is looked at that is not complete. Hardly any comes in two parts.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// The head of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    text: String,
    bytes: usize,
}

impl Head {
    /// The head at the beginning of these bytes, if it is complete.
    pub(crate) fn in_bytes(bytes: &[u8]) -> Option<Self> {
        let end = bytes.windows(4).position(|w| w == b"\r\n\r\n")?;
        let head = bytes.get(..end + 4)?;
        Some(Self { text: String::from_utf8_lossy(head).into_owned(), bytes: head.len() })
    }

    /// Looks at the head of a client's next request and leaves it unread, so that it moves with the connection. `None` if
    /// there is none.
    pub(crate) fn peek(client: &TcpStream) -> io::Result<Option<Self>> {
        let mut bytes = vec![0; MAX_HEAD_BYTES];
        let mut have = client.peek(&mut bytes)?;
        let deadline = Instant::now() + HEAD_WITHIN;
        loop {
            let head = Self::in_bytes(bytes.get(..have).unwrap_or_default());
            if head.is_some() || have == 0 || have == bytes.len() || Instant::now() > deadline {
                return Ok(head);
            }
            std::thread::sleep(LOOK_AGAIN);
            have = client.peek(&mut bytes)?;
        }
    }

    /// Reads it, after it was looked at.
    pub(crate) fn read(&self, client: &mut TcpStream) -> io::Result<()> {
        client.read_exact(&mut vec![0; self.bytes])
    }

    /// What is requested, for example `/images/1.png?size=2`.
    pub(crate) fn path(&self) -> &str {
        self.text.split(' ').nth(1).unwrap_or("/")
    }

    /// The value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut fields = self.text.lines().skip(1).filter_map(|line| line.split_once(':'));
        fields.find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }

    /// The value of a cookie.
    pub(crate) fn cookie(&self, name: &str) -> Option<&str> {
        let mut cookies = self.header("cookie")?.split(';').filter_map(|c| c.trim().split_once('='));
        cookies.find(|(n, _)| *n == name).map(|(_, value)| value)
    }
}

/// Reads the head of a client's next request, and maybe more, into `read`. `None` if there is none.
pub(crate) fn look(client: &mut TcpStream, read: &mut Vec<u8>) -> io::Result<Option<Head>> {
    let mut piece = [0; 4096];
    while read.len() < MAX_HEAD_BYTES {
        let most = piece.len().min(MAX_HEAD_BYTES - read.len());
        let bytes = client.read(piece.get_mut(..most).unwrap_or_default())?;
        read.extend(piece.iter().take(bytes));
        let head = Head::in_bytes(read);
        if head.is_some() || bytes == 0 {
            return Ok(head);
        }
    }
    Ok(None)
}

/// Answers with a short text.
pub(crate) fn answer(client: &mut TcpStream, status: &str, from: &str, text: &str) -> io::Result<()> {
    let length = text.len();
    write!(
        client,
        "HTTP/1.1 {status}\r\nServer: {from}\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\r\n{text}"
    )
}

/// Closes the connection of a client that may still send. Closed with unread bytes it would be reset, and its client might lose the
/// answer (RFC 9112 9.6).
pub(crate) fn close(mut client: &TcpStream) -> io::Result<()> {
    client.shutdown(Shutdown::Write)?;
    client.set_read_timeout(Some(LINGER))?;
    let until = Instant::now() + LINGER;
    while client.read(&mut [0; 1 << 14])? > 0 && Instant::now() < until {}
    Ok(())
}
