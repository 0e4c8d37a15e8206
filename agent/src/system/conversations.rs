//! What client and server of a connection said last, as the programs of bpf/conversations.bpf.c note it in the kernel.

use std::os::fd::{AsRawFd, BorrowedFd};

use libbpf_rs::{MapCore, MapFlags, MapHandle};

/// `REQUEST_BYTES` and so on of bpf/conversations.h.
const REQUEST_BYTES: usize = 160;
const RESPONSE_BYTES: usize = 768;
/// `sizeof(struct conversation)`, and where its fields begin.
const BYTES: usize = 968;
const REQUEST_AT: usize = 40;
const RESPONSE_AT: usize = REQUEST_AT + REQUEST_BYTES;
/// `SEEN_LATE` and so on.
const SEEN_LATE: u8 = 1;
const RECEIVED_KNOWN: u8 = 4;
const INTERLEAVED: u8 = 16;

const _: () = assert!(RESPONSE_AT + RESPONSE_BYTES == BYTES);

/// What the server's answers look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answers {
    /// It has said nothing since the note began.
    None,
    /// HTTP/1.0 or HTTP/1.1 (RFC 9112).
    Http,
    /// TLS records (RFC 8446).
    Tls,
    /// None of these.
    Another,
}

/// What was said on a connection. Positions are sequence numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conversation {
    /// After the server's last byte.
    pub sent_end: u32,
    /// After the client's last byte; `None`: it has said nothing since the note began, and that was not at the beginning.
    pub received_end: Option<u32>,
    /// Where the client's first byte is; `None`: the note does not begin with the connection.
    pub received_begin: Option<u32>,
    /// After the client's last byte when the server's last answer began.
    pub answered_end: u32,
    /// Where the noted request begins.
    pub request_begin: u32,
    /// Where the noted answer begins.
    pub response_begin: u32,
    /// What the server's answers look like.
    pub answers: Answers,
    /// The client has not waited for an answer before it went on: which answer belongs to what is not known any more.
    pub is_interleaved: bool,
    /// The last eight bytes that the server said, zeros before the first one.
    pub tail: [u8; 8],
    /// The beginning of the last request, at most 160 bytes; empty if it was not seen.
    pub request: Vec<u8>,
    /// The beginning of the last answer, at most 768 bytes; empty if it was not seen.
    pub response: Vec<u8>,
}

/// The sockets' notes. They end with their sockets, and outlive the agent.
#[derive(Debug)]
pub struct Conversations(MapHandle);

impl Conversations {
    pub(super) fn new(map: MapHandle) -> Self {
        Self(map)
    }

    /// What was said on this socket's connection; `None` if it has no note.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn of(&self, socket: BorrowedFd<'_>) -> libbpf_rs::Result<Option<Conversation>> {
        let value = self.0.lookup(&key(socket), MapFlags::ANY)?;
        Ok(value.and_then(|bytes| read(&bytes)))
    }

    /// Begins a note for a connection that was not accepted from a listener, or before there were notes.
    ///
    /// # Errors
    /// What the kernel says; that it has one already is none.
    pub fn begin(&self, socket: BorrowedFd<'_>) -> libbpf_rs::Result<()> {
        match self.0.update(&key(socket), &late(), MapFlags::NO_EXIST) {
            Err(e) if e.kind() == libbpf_rs::ErrorKind::AlreadyExists => Ok(()),
            result => result,
        }
    }
}

fn key(socket: BorrowedFd<'_>) -> [u8; 4] {
    socket.as_raw_fd().to_ne_bytes()
}

/// Where the protocol's number is; the flags are behind it.
const PROTOCOL_AT: usize = 24;

fn late() -> [u8; BYTES] {
    std::array::from_fn(|at| if at == PROTOCOL_AT + 1 { SEEN_LATE } else { 0 })
}

fn read(bytes: &[u8]) -> Option<Conversation> {
    let word = |at: usize| Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let half = |at: usize| Some(usize::from(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?)));
    let tail = u64::from_ne_bytes(bytes.get(32..REQUEST_AT)?.try_into().ok()?);
    let noted = |at: usize, length: usize| Some(bytes.get(at..at.checked_add(length)?)?.to_vec());
    let flags = *bytes.get(PROTOCOL_AT + 1)?;
    Some(Conversation {
        sent_end: word(0)?,
        received_end: (flags & RECEIVED_KNOWN != 0).then_some(word(4)?),
        received_begin: (flags & SEEN_LATE == 0).then_some(word(28)?),
        answered_end: word(8)?,
        request_begin: word(12)?,
        response_begin: word(16)?,
        answers: match bytes.get(PROTOCOL_AT)? {
            0 => Answers::None,
            1 => Answers::Http,
            2 => Answers::Tls,
            _ => Answers::Another,
        },
        is_interleaved: flags & INTERLEAVED != 0,
        tail: tail.to_be_bytes(),
        request: noted(REQUEST_AT, half(20)?.min(REQUEST_BYTES))?,
        response: noted(RESPONSE_AT, half(22)?.min(RESPONSE_BYTES))?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_read_as_the_program_writes_it() {
        let mut bytes = [0; BYTES];
        for (at, word) in [1u32, 2, 3, 4, 5].into_iter().enumerate() {
            bytes[4 * at..4 * at + 4].copy_from_slice(&word.to_ne_bytes());
        }
        bytes[20..22].copy_from_slice(&3u16.to_ne_bytes());
        bytes[22..24].copy_from_slice(&4u16.to_ne_bytes());
        bytes[24..26].copy_from_slice(&[1, 4]);
        bytes[28..32].copy_from_slice(&6u32.to_ne_bytes());
        bytes[32..40].copy_from_slice(&u64::from(b'!').to_ne_bytes());
        bytes[40..43].copy_from_slice(b"GET");
        bytes[200..204].copy_from_slice(b"HTTP");
        let read = read(&bytes).unwrap();
        assert_eq!((read.sent_end, read.received_end, read.answered_end), (1, Some(2), 3));
        assert_eq!((read.request_begin, read.response_begin, read.received_begin), (4, 5, Some(6)));
        assert_eq!((read.answers, read.tail), (Answers::Http, *b"\0\0\0\0\0\0\0!"));
        assert_eq!((read.request.as_slice(), read.response.as_slice()), (&b"GET"[..], &b"HTTP"[..]));
    }

    #[test]
    fn a_late_note_knows_nothing_yet() {
        let read = read(&late()).unwrap();
        assert_eq!((read.received_begin, read.received_end, read.answers), (None, None, Answers::None));
    }

    #[test]
    fn what_is_too_short_is_no_note() {
        assert_eq!(read(&[0; BYTES - RESPONSE_BYTES - 1]), None);
    }
}
